"""The first table of long walks by pivots, and the bound on what rounding does along them.

A table T of the basis B is the exact one of columns moved a little, those of B and its own: a pivot that is off by F
moves column c by A_B F_c more, A being the columns in the coordinates of the first basis. With off at least
|a_c - moved a_c|_1 for all c, y has a residual of at most off (1 + |y|_1), and bounds the height by
|y|_1 / (1 - off (1 + |y|_1)), however large the entries have become on the way.

A pivot computes every entry as T - T_c q: F_c is at most 3 units of rounding times |T_c|_1 before and after.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.rounding import ROUNDING
from ..numerics.simplex_tableau import first_table, renew, widen


class Start(NamedTuple):
    """The first table, in the coordinates of a basis without large entries.

    T: (k, r), the columns outside the basis.
    basis, others: (k,) and (r,) int64, the coordinates of rows and columns.
    off: how far the columns of T are from exact ones, |.|_1.
    largest: the largest |y|_1 of a column.
    unit: what a pivot moves a column by at most, over the sum of its largest |y|_1 before and after.
    """

    T: Any
    basis: Any
    others: Any
    off: Any
    largest: Any
    unit: Any


def first_tableau(G: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The table of the first k coordinates, its basis and the row of each coordinate, as `simplex_tableau` has them."""
    k, n = G.shape
    made = np.empty((k, n + 1)), np.empty(k, np.int64), np.empty(n, np.int64)
    first_table(G, 0, *made)
    return made


def start_of(G: NDArray[np.float64]) -> Start:
    """The first table of a code, with what rounding may have done to it."""
    k = len(G)
    D, basis, row_of = first_tableau(G)
    widen(D, basis, row_of, 0)
    renew(G, 0, D, basis, row_of)
    others = np.flatnonzero(row_of < 0)
    T, C, B = np.ascontiguousarray(D[:, others]), D[:, :k], G[:, basis]
    slack = (k + 4) * ROUNDING
    left = np.abs(G[:, others] - B @ T) + slack * (np.abs(G[:, others]) + np.abs(B) @ np.abs(T))
    apart = np.abs(np.eye(k) - C @ B) + slack * (np.eye(k) + np.abs(C) @ np.abs(B))
    contraction = float(apart.sum(0).max())
    off = float((np.abs(C) @ left).sum(0).max()) * 1.001 / (1.0 - contraction) if contraction < 0.5 else np.inf
    # a column moved by less than 1 is no longer than twice this; more than that bounds nothing
    largest = float(np.abs(T).sum(0).max())
    return Start(T, basis, others, off, largest, 6.0 * ROUNDING * max(1.0, largest) * 1.001)
