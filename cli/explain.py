"""`mheight explain`: everything there is to say about one code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .options import (
    MATRICES,
    Choice,
    Ensemble,
    Output,
    as_floats,
    data_argument,
    ensemble_options,
    force_option,
    gathered,
    output_options,
    seconds_option,
    threads_option,
)
from .printing import emit, fold, remark, unread_is_fine


@dataclass(frozen=True)
class Which:
    """Which code of DATA."""

    m: int | None
    matrix: str | None
    row: int | None


@click.command("explain")
@data_argument(required=True)
@click.option("--m", "m", type=click.IntRange(1), help="Of a matrix: its m-height, for this m.")
@click.option("--matrix", type=Choice(["P", "G", "H"]), help="What the matrix in DATA is.")
@click.option("--row", type=click.IntRange(0), help="Of a file or set of codes: which one, counted from 0.")
@ensemble_options
@click.option("--interval", default=0.9, show_default=True, metavar="COVERAGE", help="Coverage of the interval.")
@seconds_option("End a long search, with the bracket so far.")
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE.png", help="Draw the codeword (extra plot).")
@threads_option
@force_option
@output_options
@gathered("which", Which)
def command(
    data: tuple[str, ...],
    which: Which,
    ensemble: Ensemble,
    interval: float,
    time_limit: float | None,
    plot: str | None,
    threads: int | None,
    force: bool,
    output: Output,
) -> int:
    """One code: its height, who says what about it, the codeword that decides, and how it compares with random codes.

    DATA is a matrix P, G or H with --m, as for `mheight exact`, or a file or set of codes with --row. Coordinates are
    numbered from 0, as in DATA.

    \b
    Examples:
      mheight explain code.csv --matrix G --m 6
      mheight explain codes.npz --row 17 --plot codeword.png
      echo '[[1, 1], [1, 2]]' | mheight explain - --matrix P --m 2
    """
    from moe_mheight.data.code_files import refuse_existing
    from moe_mheight.ensemble.explain import explain

    if plot is not None:
        if Path(plot).suffix != ".png":
            raise click.UsageError(f"--plot must end in .png, got {plot}")
        refuse_existing([Path(plot)], force)
    P, m, order = _code(data, which)
    found = explain(P, m, ensemble.load(), coverage=interval, order=order, time_limit=time_limit, threads=threads)
    if plot is not None:
        found.draw(plot)
        remark(f"wrote {plot}", output.quiet)
    with unread_is_fine():
        if output.as_json:
            emit(found.as_dict())
        else:
            *facts, _, sentence = repr(found).split("\n")
            hang = 2 + max(len(name) for name, _ in found.lines())
            click.echo("\n".join([*(fold(line, hang) for line in facts), "", fold(sentence)]))
    return 130 if found.height.ended == "interrupt" else 0


def _code(data: tuple[str, ...], which: Which) -> tuple[Any, int, Any]:
    """P, m and, of a matrix, what its columns are called in DATA."""
    from moe_mheight.data.matrix_files import read_matrix
    from moe_mheight.data.sources import open_codes

    named = which.m is not None or which.matrix is not None
    if len(data) == 1 and (named or Path(data[0]).suffix.lower() in MATRICES):
        if which.row is not None:
            raise click.UsageError("--row is for a file or set of codes; with a matrix goes --m")
        if which.m is None:
            raise click.UsageError("a matrix needs --m")
        read = read_matrix(data[0], which.matrix)
        return as_floats(read), which.m, read.order
    if named:
        raise click.UsageError("--m and --matrix are for one matrix; with a pair of files goes --row")
    codes = open_codes(data)
    if which.row is None and codes.rows > 1:
        raise click.UsageError(f"--row says which of the {codes.rows} codes")
    return *_picked(codes, which.row or 0), None


def _picked(codes: Any, row: int) -> tuple[Any, int]:
    """P and m of one row."""
    for piece in codes.pieces():
        for group, found in piece.items():
            for P in found.P[found.row == row]:
                return P, group[2]
    raise click.UsageError(f"--row must be below {codes.rows}, got {row}")
