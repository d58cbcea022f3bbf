"""`mheight predict`: predicted heights of a file."""

from __future__ import annotations

import click

from .options import data_argument, emit, models_option, output_options, table, threads_option


@click.command("predict")
@data_argument(required=True)
@models_option("A model set made by train-expert.  [default: the shipped one]")
@click.option("--bounds", is_flag=True, help="Also print the certified lower and upper bound.")
@click.option("--interval", type=float, metavar="COVERAGE", help="Also print an interval of that coverage, like 0.9.")
@threads_option
@output_options
def command(
    data: tuple[str, ...],
    models: str | None,
    bounds: bool,
    interval: float | None,
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
      echo '[[4, 2, 2, [[1, 1], [1, 2]]]]' | mheight predict -
    """
    from moe_mheight import files
    from moe_mheight.ensemble import Predictor

    codes = files.read(data)
    predictor = Predictor.load(models)
    columns = {}
    values = {group: predictor.measure(c.P, group[2], threads=threads) for group, c in codes.items()}
    columns["height"] = files.in_file_order(codes, {group: v[:, 2] for group, v in values.items()})
    if bounds:
        columns["lower"] = files.in_file_order(codes, {group: v[:, 0] for group, v in values.items()})
        columns["upper"] = files.in_file_order(codes, {group: v[:, 1] for group, v in values.items()})
    if interval is not None:
        ends = {
            group: predictor.predict_interval(c.P, group[2], coverage=interval, threads=threads)
            for group, c in codes.items()
        }
        columns["low"] = files.in_file_order(codes, {group: low for group, (low, _) in ends.items()})
        columns["high"] = files.in_file_order(codes, {group: high for group, (_, high) in ends.items()})
    if as_json:
        emit({"format": "moe_mheight predict 1"} | {f"{name}s": v.tolist() for name, v in columns.items()})
    elif len(columns) == 1:
        click.echo("\n".join(repr(float(value)) for value in columns["height"]))
    else:
        lines = [[repr(float(v)) for v in line] for line in zip(*columns.values(), strict=True)]
        click.echo(table(columns, lines))
    return 0
