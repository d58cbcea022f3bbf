"""`mheight predict`: predicted heights of a file."""

from __future__ import annotations

import functools
from typing import Any

import click

from .options import (
    data_argument,
    emit,
    jobs_options,
    load_predictor,
    models_option,
    output_options,
    partial_option,
    progress,
    router_option,
    table,
    threads_option,
    working,
)


@click.command("predict")
@data_argument(required=True)
@models_option("A model set made by train-expert.  [default: the shipped one]")
@router_option
@click.option(
    "--budget",
    type=click.IntRange(1),
    metavar="SETS",
    help="Look at no more than this many sets of coordinates, for n up to 32.  [default: all of them, n up to 16]",
)
@click.option("--spread", is_flag=True, help="Also print the standard deviation over the experts, in bits.")
@click.option("--bounds", is_flag=True, help="Also print the certified lower and upper bound.")
@click.option("--interval", type=float, metavar="COVERAGE", help="Also print an interval of that coverage, like 0.9.")
@partial_option
@jobs_options
@threads_option
@output_options
def command(
    data: tuple[str, ...],
    models: str | None,
    router: str,
    budget: int | None,
    spread: bool,
    bounds: bool,
    interval: float | None,
    partial: bool,
    jobs: int | None,
    backend: str | None,
    scheduler: str | None,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Predicted m-heights of the codes in DATA, one a line, in the order of the rows.

    DATA as for `mheight exact`; labels are ignored. An infinite height prints as inf. Below n of about 14 `mheight
    exact` is as fast and gives the truth.

    \b
    Examples:
      mheight predict codes.npz
      mheight predict --bounds n_k_m_P.pkl
      mheight predict --budget 1000 --interval 0.9 long_codes.npz
      echo '[[4, 2, 2, [[1, 1], [1, 2]]]]' | mheight predict -
    """
    from moe_mheight.sources import by_row, open_codes

    codes = open_codes(data, partial=partial)
    predictor = load_predictor(models, router)

    if not hasattr(predictor, "predict_interval") and (budget or spread or interval is not None):
        raise click.UsageError("--budget, --interval and --spread are for the bracket view; these models read P itself")
    with working(jobs, backend, scheduler) as asked, progress(codes.rows, "predicting", quiet, as_json) as bar:
        more: dict[str, Any] = {"threads": 1 if asked else threads}
        more |= {"budget": budget} if budget else {}
        more |= {} if interval is None else {"coverage": interval}
        values = by_row(codes, functools.partial(_measured, predictor, more), bar.update)
    tightest = (6, 7) if hasattr(predictor, "predict_interval") else (0, 1)  # see ensemble.COLUMNS
    wanted = {"height": 2} | ({"spread": 3} if spread else {})
    wanted |= dict(zip(("lower", "upper"), tightest, strict=True)) if bounds else {}
    wanted |= {"low": -2, "high": -1} if interval is not None else {}
    if as_json:
        emit(
            {"format": "moe_mheight predict 1"}
            | {"heights" if name == "height" else name: values[:, at].tolist() for name, at in wanted.items()}
        )
    elif len(wanted) == 1:
        click.echo("\n".join(repr(float(value)) for value in values[:, 2]))
    else:
        lines = [[repr(float(v)) for v in line] for line in values[:, list(wanted.values())]]
        click.echo(table(wanted, lines))
    return 0


def _measured(predictor: Any, more: dict[str, Any], codes: Any, group: Any) -> Any:
    return predictor.measure(codes.P, group[2], **more)
