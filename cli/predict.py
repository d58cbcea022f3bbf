"""`mheight predict`: predicted heights of a file, or of one matrix."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

from .options import (
    MATRICES,
    Choice,
    as_floats,
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
@click.option("--m", "m", type=click.IntRange(1), help="One code: its m-height, for this m.  [default: every m]")
@click.option("--matrix", type=Choice(["P", "G", "H"]), help="One code: what the matrix in DATA is.")
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
    m: int | None,
    matrix: str | None,
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

    One code: DATA is its matrix P (of the generator [I | P]), a generator G or a parity-check matrix H, as for `mheight
    exact`; --m or --matrix says so where the name does not.

    \b
    Examples:
      mheight predict codes.npz
      mheight predict code.csv --matrix G --m 3 --bounds
      mheight predict --bounds n_k_m_P.pkl
      mheight predict --budget 1000 --interval 0.9 long_codes.npz
      echo '[[4, 2, 2, [[1, 1], [1, 2]]]]' | mheight predict -
    """
    from moe_mheight.data.sources import by_row, open_codes

    about: dict[str, Any] = {}
    if m is not None or matrix is not None or Path(data[0]).suffix.lower() in MATRICES:
        if len(data) > 1 or partial or (jobs, backend, scheduler) != (None, None, None):
            raise click.UsageError("one matrix goes without other files, --partial, --jobs, --backend and --scheduler")
        codes, about = _one_code(data[0], matrix, m)
    else:
        codes = open_codes(data, partial=partial)
    predictor = load_predictor(models, router)
    bracket_view = hasattr(predictor, "predict_interval")
    if not bracket_view and (budget or spread or interval is not None):
        raise click.UsageError("--budget, --interval and --spread are for the bracket view; these models read P itself")
    if bracket_view:
        _within_reach(max(n for n, *_ in codes.groups), budget)
    wanted = {"height": "height"} | ({"spread": "std_bits"} if spread else {})
    wanted |= {"lower": "tightest_lower", "upper": "tightest_upper"} if bounds else {}
    wanted |= {"low": "low", "high": "high"} if interval is not None else {}
    with working(jobs, backend, scheduler) as asked, progress(codes.rows, "predicting", quiet, as_json) as bar:
        more: dict[str, Any] = {"threads": 1 if asked else threads}
        more |= {"budget": budget} if budget else {}
        more |= {} if interval is None else {"coverage": interval}
        values = by_row(codes, functools.partial(_columns, predictor, more, tuple(wanted.values())), bar.update)
    if as_json:
        columns = {"heights" if name == "height" else name: values[:, at].tolist() for at, name in enumerate(wanted)}
        emit({"format": "moe_mheight predict 1", **about, **columns})
        return 0
    lines = [[repr(float(v)) for v in line] for line in values]
    head = list(wanted)
    if about and m is None:
        head, lines = ["m", *head], [[str(level), *line] for level, line in zip(about["m"], lines, strict=True)]
    click.echo("\n".join(cell for (cell,) in lines) if len(head) == 1 else table(head, lines))
    return 0


def _one_code(path: str, kind: str | None, m: int | None) -> tuple[Any, dict[str, Any]]:
    """One matrix as codes, a row for m or for each m; and what JSON says about it."""
    import numpy as np

    from moe_mheight.data.code_files import Codes
    from moe_mheight.data.matrix_files import read_matrix
    from moe_mheight.data.sources import of

    read = read_matrix(path, kind)
    P = as_floats(read)
    k, r = P.shape
    if m is not None and m > r:
        raise click.UsageError(f"--m must be at most n - k = {r}, got {m}")
    levels = list(range(1, r + 1)) if m is None else [m]
    data = {(k + r, k, level): Codes(P[None], np.array([row]), None) for row, level in enumerate(levels)}
    return of(data), {"n": k + r, "k": k, "matrix": read.kind, "m": levels}


def _within_reach(n: int, budget: int | None) -> None:
    from moe_mheight.codes.minors import MAX_N
    from moe_mheight.numerics.bitsets import LONGEST

    if n > LONGEST:
        raise click.UsageError(f"predictions go up to n = {LONGEST}, got a code of n = {n}: ask mheight exact")
    if n > MAX_N and not budget:
        raise click.UsageError(
            f"a code of n = {n} has too many sets of coordinates to look at all of them, as is done up to n = {MAX_N}: "
            f"give --budget SETS, like --budget 1000, or ask mheight exact for the truth"
        )


def _columns(predictor: Any, more: dict[str, Any], names: tuple[str, ...], codes: Any, group: Any) -> Any:
    """(B, len(names)): these fields of the measurement."""
    import numpy as np

    measured = predictor.measure(codes.P, group[2], **more)
    return np.stack([getattr(measured, name) for name in names], axis=1)
