"""Codes in memory: by group, checked, and as the rows [n, k, m, P] and heights that files hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codes.linear import check_row
from ..errors import CodeError, DataError, brief
from ..groups import Group
from ..numerics.bitsets import BITS
from . import safe_pickle


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes of one group: P (B, k, r), their places in the file (B,), and heights (B,) when the file has labels."""

    P: NDArray[np.float64]
    row: NDArray[np.int64]
    h: NDArray[np.float64] | None


Data = dict[Group, Codes]
"""A file of codes, by group (n, k, m)."""


def count(data: Data) -> int:
    """Number of rows."""
    return sum(len(codes.P) for codes in data.values())


def labelled(data: Data) -> bool:
    """Whether every group has heights."""
    return bool(data) and all(codes.h is not None for codes in data.values())


def take(data: Data, rows: NDArray[np.int64]) -> Data:
    """Only those rows, renumbered in order."""
    place = np.full(max((int(codes.row.max()) for codes in data.values() if len(codes.row)), default=-1) + 1, -1)
    place[rows] = np.arange(len(rows))
    out = {}
    for group, codes in data.items():
        keep = place[codes.row] >= 0
        if keep.any():
            h = None if codes.h is None else codes.h[keep]
            out[group] = Codes(codes.P[keep], place[codes.row[keep]], h)
    return out


def silently(rows: int) -> None:
    """The `advance` of those who do not watch progress."""


def from_rows(rows: Any, heights: Any, name: str = "rows") -> Data:
    """Rows [n, k, m, P], checked, by group.

    Raises:
        DataError: a row or a height breaks a rule; the message says which row.
    """
    if not isinstance(rows, (list, tuple)):
        raise DataError(
            f"{name} must be a list of rows [n, k, m, P] (matrices alone need m), got {type(rows).__name__}"
        )
    if not rows:
        raise DataError(f"{name} holds no rows")
    h = None if heights is None else check_heights(heights, name)
    if h is not None and len(h) != len(rows):
        raise DataError(f"{name} has {len(rows)} rows but {len(h)} heights")
    gathered: dict[Group, tuple[list[int], list[NDArray[np.float64]]]] = {}
    for i, row in enumerate(rows):
        if isinstance(row, np.ndarray) and row.dtype == object and row.ndim == 1:
            row = row.tolist()  # noqa: PLW2901  a row of an array of rows
        if not isinstance(row, (list, tuple)) or len(row) != 4:
            raise DataError(f"{name}, row {i}: must be [n, k, m, P], got {_no_row(row)}")
        n, k, m, P = row
        try:
            matrix = check_row(n, k, m, safe_pickle.plain(P), max_n=BITS)
        except CodeError as error:
            raise DataError(f"{name}, row {i}: {error}{shape_hint(n, k, safe_pickle.plain(P))}") from error
        places, matrices = gathered.setdefault((int(n), int(k), int(m)), ([], []))
        places.append(i)
        matrices.append(matrix)
    return {
        group: Codes(np.stack(matrices), np.array(places), None if h is None else h[places])
        for group, (places, matrices) in sorted(gathered.items())
    }


def _no_row(row: Any) -> str:
    """What stands where a row should, and what it may have been meant for."""
    if isinstance(row, (int, float, np.number)):
        return f"{brief(row)}; are these the heights? The file of rows comes first"
    if isinstance(row, (list, tuple)) and row and all(isinstance(x, (int, float)) for x in row):
        return f"{len(row)} numbers; a matrix alone is for `mheight exact` and `mheight explain`, with --matrix and --m"
    if isinstance(row, (list, tuple)):
        return f"{type(row).__name__} of {len(row)}"
    return brief(row) if isinstance(row, (dict, safe_pickle.Dict, str)) or row is None else type(row).__name__


def shape_hint(n: Any, k: Any, P: Any) -> str:
    """A hint where the matrix of a row has the shape of another one that is often meant."""
    if isinstance(P, (list, tuple)):
        shape: tuple[int, ...] = (len(P), len(P[0])) if P and isinstance(P[0], (list, tuple)) else ()
    else:
        shape = np.shape(P)[-2:]
    if not (isinstance(n, (int, np.integer)) and isinstance(k, (int, np.integer)) and 0 < k < n):
        return ""
    if shape == (k, n):
        return "; that is a generator's shape: give P of [I | P], as moe_mheight.systematic(G) returns it"
    if shape == (n - k, n):
        return "; that is a parity check's shape: give P of [I | P], as moe_mheight.from_parity_check(H) returns it"
    return "; is it transposed?" if shape == (n - k, k) and n != 2 * k else ""


def check_heights(heights: Any, name: str) -> NDArray[np.float64]:
    if isinstance(heights, np.ndarray):
        if heights.ndim != 1 or heights.dtype.kind not in "iuf":
            raise DataError(f"{name}: heights must be one number a row, got {heights.dtype} {heights.shape}")
        if (heights >= 1.0 - 1e-9).all():
            return heights.astype(np.float64)
        heights = heights[: np.argmin(heights >= 1.0 - 1e-9) + 1].tolist()
    h = np.empty(len(heights))
    for i, value in enumerate(heights):
        number = np.inf if value is None else value
        right = isinstance(number, (int, float, np.integer, np.floating)) and not isinstance(number, bool)
        if not right or (isinstance(number, int) and number.bit_length() > 1000) or not float(number) >= 1.0 - 1e-9:
            raise DataError(f"{name}, row {i}: a height is a number >= 1 or infinite, got {brief(value)}")
        h[i] = number
    return h


def to_rows(data: Data) -> tuple[list[Any], list[float] | None]:
    """The peers' lists: rows [n, k, m, P] and heights, in file order; whole matrices as int64."""
    rows: list[Any] = [None] * count(data)
    heights: list[float] = [0.0] * len(rows)
    for (n, k, m), codes in data.items():
        for i, P in zip(codes.row, codes.P, strict=True):
            rows[i] = [n, k, m, P.astype(np.int64) if (np.abs(P) < 2**53).all() and (np.rint(P) == P).all() else P]
        if codes.h is not None:
            for i, h in zip(codes.row, codes.h, strict=True):
                heights[i] = float(h)
    return rows, heights if labelled(data) else None
