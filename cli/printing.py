"""Printing: tables and text as wide as the terminal, one JSON document, remarks on standard error."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from moe_mheight._io import as_json


def emit(value: Any) -> None:
    """One JSON document on standard output; JSON has no infinity, so it is the string "inf"."""
    click.echo(as_json(value, indent=2))


@contextmanager
def unread_is_fine() -> Iterator[None]:
    """Around printing: when whoever read has gone, as in `| head -3`, the rest stays unsaid; the exit code stands."""
    try:
        yield
    except BrokenPipeError:
        silence()


def silence() -> None:
    """Nothing more to standard output, not even while Python closes its streams."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def columns() -> int | None:
    """Of the terminal on standard output; None where it is none, and lines may have any length."""
    return width_of(sys.stdout) if sys.stdout.isatty() else None


def width_of(stream: Any) -> int:
    """Columns of a stream's own terminal: the other stream may be a pipe."""
    try:
        return int(os.environ.get("COLUMNS", "")) or 80
    except ValueError:
        with suppress(OSError, ValueError):
            return os.get_terminal_size(stream.fileno()).columns or 80
        return 80


def fold(text: str, hang: int = 0) -> str:
    """A line of text in lines that the terminal has room for, all but the first indented by `hang`."""
    room = columns()
    if room is None or len(text) <= room:
        return text
    indent = " " * min(hang, room // 2)
    return textwrap.fill(text, room, subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True)


TOGETHER = 20
"""Rows of a table that is folded, before the next columns of the same rows."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Right-aligned columns, the first one left-aligned.

    On a terminal that is narrower, columns that have no room go below, each time beside the first one.
    """
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    bands = _bands(widths, columns())
    if len(bands) == 1:
        return _aligned(lines, widths, bands[0])
    some = [[lines[0], *lines[at : at + TOGETHER]] for at in range(1, len(lines), TOGETHER)]
    return "\n\n".join(_aligned(part, widths, band) for part in some for band in bands)


def _bands(widths: list[int], room: int | None) -> list[list[int]]:
    """Which columns stand beside each other: the first one and as many more as there is room for."""
    bands, used = [[0]], widths[0]
    for i, width in enumerate(widths[1:], 1):
        used += 2 + width
        if room is not None and used > room and len(bands[-1]) > 1:
            bands.append([0])
            used = widths[0] + 2 + width
        bands[-1].append(i)
    return bands


def _aligned(lines: list[list[str]], widths: list[int], band: list[int]) -> str:
    return "\n".join(
        "  ".join(line[i].rjust(widths[i]) if i else line[i].ljust(widths[i]) for i in band).rstrip() for line in lines
    )


def remark(text: str, quiet: bool) -> None:
    """A line on standard error, unless --quiet."""
    if not quiet:
        with suppress(BrokenPipeError):  # nobody listens any more, and the work goes on
            click.echo(text, err=True)
