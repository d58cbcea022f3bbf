"""MatrixMarket files, with every entry as it is written.

scipy.io.mmread does not keep that: it reads "1/2" as 1 and integers beyond 2^53 rounded, adds up a place that is given
twice, takes NaN, and allocates whatever a file of two lines promises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from typing import NamedTuple

from ..errors import DataError, brief
from .entries import number, where

LAYOUTS, FIELDS, SYMMETRIES = (
    ("coordinate", "array"),
    ("real", "double", "integer"),
    ("general", "symmetric", "skew-symmetric"),
)


class _Kind(NamedTuple):
    """What line 1 says."""

    layout: str
    field: str
    symmetry: str


def matrix_market(lines: Iterator[str], name: str, longest: int) -> list[list[Fraction | float]]:
    """The matrix of a file, of at most `longest` rows and columns; name is for messages.

    Raises:
        DataError: the file breaks a rule of the format, or an entry is no number; the message says where.
    """
    kind = _kind(next(lines, "")[:200], name)
    max_words = 3 if kind.layout == "coordinate" else longest * longest
    body = (line.split(None, max_words) for line in lines if line.strip() and line.lstrip()[0] != "%")
    size = _size(next(body, []), kind, name, longest)
    rows, columns = size[:2]
    out: dict[tuple[int, int], Fraction | float] = {}
    for i, j, text in _entries(body, kind, size, name):
        if not (0 <= i < rows and 0 <= j < columns):
            raise DataError(f"{where(i, j, name)}: lies outside {rows} x {columns}")
        if (i, j) in out:
            raise DataError(f"{where(i, j, name)}: is given twice; a {kind.symmetry} matrix names each place once")
        value = _value(text, i, j, kind, name)
        if kind.symmetry != "general":
            out[j, i] = value if kind.symmetry == "symmetric" else -value
        out[i, j] = value
    return [[out.get((i, j), Fraction(0)) for j in range(columns)] for i in range(rows)]


def _kind(header: str, name: str) -> _Kind:
    words = header.lower().split()
    if len(words) != 5 or words[:2] != ["%%matrixmarket", "matrix"]:
        raise DataError(f"{name}: line 1 must be like '%%MatrixMarket matrix array real general', got {brief(header)}")
    for word, allowed in zip(words[2:], (LAYOUTS, FIELDS, SYMMETRIES), strict=True):
        if word not in allowed:
            why = ", which holds no numbers" if word == "pattern" else ""
            raise DataError(f"{name}: line 1 must have one of {', '.join(allowed)}, got {brief(word)}{why}")
    return _Kind(*words[2:])


def _size(words: list[str], kind: _Kind, name: str, longest: int) -> list[int]:
    """Rows, columns and, of a coordinate layout, how many entries follow."""
    coordinate = kind.layout == "coordinate"
    if len(words) != 2 + coordinate or not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
        wanted = "rows columns entries" if coordinate else "rows columns"
        raise DataError(f"{name}: the size line must be '{wanted}', got {brief(' '.join(words))}")
    rows, columns, *promised = size = [int(word) for word in words]
    if not (1 <= rows <= longest and 1 <= columns <= longest):
        raise DataError(f"{name}: must have 1 to {longest} rows and columns, got {rows} x {columns}")
    if kind.symmetry != "general" and rows != columns:
        raise DataError(f"{name}: a {kind.symmetry} matrix must be square, got {rows} x {columns}")
    if promised and promised[0] > rows * columns:
        raise DataError(
            f"{name}: the size line promises {promised[0]} entries, more than {rows} x {columns} has places"
        )
    return size


def _entries(body: Iterator[list[str]], kind: _Kind, size: list[int], name: str) -> Iterator[tuple[int, int, str]]:
    """(row, column, text), counted from 0, of as many entries as the size line promises."""
    rows, columns, *counted = size
    cells: list[tuple[int, int]] = []
    if not counted:
        first_below = {"general": -rows - columns, "symmetric": 0, "skew-symmetric": 1}[kind.symmetry]
        cells = [(i, j) for j in range(columns) for i in range(rows) if i - j >= first_below]
    promised = counted[0] if counted else len(cells)
    found = list(islice(body if counted else chain.from_iterable(body), promised + 1))
    if len(found) != promised:
        got = f"only {len(found)}" if len(found) < promised else "more"
        raise DataError(f"{name}: must hold {promised} entries, as its size line says, got {got}")
    if not counted:
        yield from ((i, j, str(text)) for (i, j), text in zip(cells, found, strict=True))
        return
    for entry in found:
        if len(entry) != 3 or not all(re.fullmatch("[0-9]{1,9}", word) for word in entry[:2]):
            raise DataError(f"{name}: an entry must be 'row column value', got {brief(' '.join(entry))}")
        yield int(entry[0]) - 1, int(entry[1]) - 1, entry[2]


def _value(text: str, i: int, j: int, kind: _Kind, name: str) -> Fraction | float:
    value = number(text, i, j, name)
    if kind.field == "integer" and not (isinstance(value, Fraction) and value.denominator == 1):
        raise DataError(f"{where(i, j, name)}: must be an integer, as line 1 says, got {brief(text)}")
    if kind.symmetry == "skew-symmetric" and i == j:
        raise DataError(f"{where(i, j, name)}: a skew-symmetric file names no diagonal entry, got {brief(text)}")
    return value
