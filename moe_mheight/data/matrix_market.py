"""MatrixMarket files, with every entry as it is written, which libraries that read into float64 do not keep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice

from ..errors import DataError, brief
from .entries import number, where


def matrix_market(lines: Iterator[str], name: str, longest: int) -> list[list[Fraction | float]]:
    header = next(lines, "")[:200]
    words = header.lower().split()
    layouts, fields = ("coordinate", "array"), ("real", "double", "integer")
    symmetries = ("general", "symmetric", "skew-symmetric")
    if len(words) != 5 or words[:2] != ["%%matrixmarket", "matrix"]:
        raise DataError(f"{name}: line 1 must be like '%%MatrixMarket matrix array real general', got {brief(header)}")
    for word, allowed in zip(words[2:], (layouts, fields, symmetries), strict=True):
        if word not in allowed:
            why = ", which holds no numbers" if word == "pattern" else ""
            raise DataError(f"{name}: line 1 must have one of {', '.join(allowed)}, got {brief(word)}{why}")
    layout, field, symmetry = words[2:]
    most = 3 if layout == "coordinate" else longest * longest
    body = (line.split(None, most) for line in lines if line.strip() and line.lstrip()[0] != "%")
    size = next(body, [])
    if len(size) != 2 + (layout == "coordinate") or not all(re.fullmatch("[0-9]{1,9}", word) for word in size):
        wanted = "rows columns entries" if layout == "coordinate" else "rows columns"
        raise DataError(f"{name}: the size line must be '{wanted}', got {brief(' '.join(size))}")
    rows, columns = int(size[0]), int(size[1])
    if not (1 <= rows <= longest and 1 <= columns <= longest):
        raise DataError(f"{name}: must have 1 to {longest} rows and columns, got {rows} x {columns}")
    if symmetry != "general" and rows != columns:
        raise DataError(f"{name}: a {symmetry} matrix must be square, got {rows} x {columns}")
    below = {"general": -rows - columns, "symmetric": 0, "skew-symmetric": 1}[symmetry]
    cells = [(i, j) for j in range(1, columns + 1) for i in range(1, rows + 1) if i - j >= below]
    promised = int(size[2]) if layout == "coordinate" else len(cells)
    if promised > rows * columns:
        raise DataError(f"{name}: the size line promises {promised} entries, more than {rows} x {columns} has places")
    if layout == "coordinate":
        entries = list(islice(body, promised + 1))
    else:
        texts = list(islice(chain.from_iterable(body), promised + 1))
        entries = [[str(i), str(j), text] for (i, j), text in zip([*cells, (0, 0)], texts, strict=False)]
    if len(entries) != promised:
        got = f"only {len(entries)}" if len(entries) < promised else "more"
        raise DataError(f"{name}: must hold {promised} entries, as its size line says, got {got}")
    out: dict[tuple[int, int], Fraction | float] = {}
    for entry in entries:
        if len(entry) != 3 or not all(re.fullmatch("[0-9]{1,9}", word) for word in entry[:2]):
            raise DataError(f"{name}: an entry must be 'row column value', got {brief(' '.join(entry))}")
        i, j = int(entry[0]) - 1, int(entry[1]) - 1
        if not (0 <= i < rows and 0 <= j < columns):
            raise DataError(f"{where(i, j, name)}: lies outside {rows} x {columns}")
        if (i, j) in out:
            raise DataError(f"{where(i, j, name)}: is given twice; a {symmetry} matrix names each place once")
        value = number(entry[2], i, j, name)
        if field == "integer" and not (isinstance(value, Fraction) and value.denominator == 1):
            raise DataError(f"{where(i, j, name)}: must be an integer, as line 1 says, got {brief(entry[2])}")
        if symmetry == "skew-symmetric" and i == j:
            raise DataError(
                f"{where(i, j, name)}: a skew-symmetric file names no diagonal entry, got {brief(entry[2])}"
            )
        if symmetry != "general":
            out[j, i] = value if symmetry == "symmetric" else -value
        out[i, j] = value
    return [[out.get((i, j), Fraction(0)) for j in range(columns)] for i in range(rows)]
