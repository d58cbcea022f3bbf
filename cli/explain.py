"""`mheight explain`: everything there is to say about one code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (
    MATRICES,
    Choice,
    as_floats,
    data_argument,
    emit,
    fold,
    force_option,
    load_predictor,
    models_option,
    output_options,
    remark,
    router_option,
    seconds_option,
    threads_option,
    unread_is_fine,
)


@click.command("explain")
@data_argument(required=True)
@click.option("--m", "m", type=click.IntRange(1), help="Of a matrix: its m-height, for this m.")
@click.option("--matrix", type=Choice(["P", "G", "H"]), help="What the matrix in DATA is.")
@click.option("--row", type=click.IntRange(0), help="Of a file or set of codes: which one, counted from 0.")
@models_option("A model set made by train-expert.  [default: the shipped one]")
@router_option
@click.option("--interval", default=0.9, show_default=True, metavar="COVERAGE", help="Coverage of the interval.")
@seconds_option("End a long search, with the bracket so far.")
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE.png", help="Draw the codeword (extra plot).")
@threads_option
@force_option
@output_options
def command(
    data: tuple[str, ...],
    m: int | None,
    matrix: str | None,
    row: int | None,
    models: str | None,
    router: str,
    interval: float,
    time_limit: float | None,
    plot: str | None,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """One code: its height, who says what about it, the codeword that decides, and what makes it good or bad.

    DATA is a matrix P, G or H with --m, as for `mheight exact`, or a file or set of codes with --row. Coordinates are
    numbered from 0, as in DATA.

    \b
    Examples:
      mheight explain code.csv --matrix G --m 6
      mheight explain codes.npz --row 17 --plot codeword.png
      echo '[[1, 1], [1, 2]]' | mheight explain - --matrix P --m 2
    """
    from moe_mheight.data import code_files
    from moe_mheight.data.matrix_files import read_matrix
    from moe_mheight.data.sources import open_codes
    from moe_mheight.ensemble.explain import explain

    if plot is not None:
        if Path(plot).suffix != ".png":
            raise click.UsageError(f"--plot must end in .png, got {plot}")
        code_files.refuse_existing([Path(plot)], force)
    order = None
    if len(data) == 1 and (m is not None or matrix is not None or Path(data[0]).suffix.lower() in MATRICES):
        if row is not None:
            raise click.UsageError("--row is for a file or set of codes; with a matrix goes --m")
        if m is None:
            raise click.UsageError("a matrix needs --m")
        read = read_matrix(data[0], matrix)
        P, order = as_floats(read), read.order
    else:
        if m is not None or matrix is not None:
            raise click.UsageError("--m and --matrix are for one matrix; with a pair of files goes --row")
        codes = open_codes(data)
        if row is None and codes.rows > 1:
            raise click.UsageError(f"--row says which of the {codes.rows} codes")
        P, m = _picked(codes, row or 0)
    found = explain(
        P, m, load_predictor(models, router), coverage=interval, order=order, time_limit=time_limit, threads=threads
    )
    if plot is not None:
        found.draw(plot)
        remark(f"wrote {plot}", quiet)
    with unread_is_fine():
        if as_json:
            emit(found.as_dict())
        else:
            *facts, _, sentence = repr(found).split("\n")
            hang = 2 + max(len(name) for name, _ in found.lines())
            click.echo("\n".join([*(fold(line, hang) for line in facts), "", fold(sentence)]))
    return 130 if found.height.ended == "interrupt" else 0


def _picked(codes: Any, row: int) -> tuple[Any, int]:
    """P and m of one row."""
    for piece in codes.pieces():
        for group, some in piece.items():
            for P in some.P[some.row == row]:
                return P, group[2]
    raise click.UsageError(f"--row must be below {codes.rows}, got {row}")
