"""The codeword that attains an exact m-height.

`enumeration` knows the S and a that decide. There the linear program of the search (`hitting_set.best_without`) ends at
a basis whose codeword attains |y|_1, with digits to spare. Where float64 is in doubt, and where a height is infinite
and the codeword vanishes on S, fractions decide.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes.forms import as_P, in_given_order
from ..codes.linear import check_m, check_P
from ..codes.minors import LARGEST_RATIO, MAX_N
from ..numerics import rationals
from ..numerics.certified import Codeword, height_of
from ..numerics.jit import compiled, over_batch
from ..numerics.simplex_tableau import first_table, new_tableau
from .enumeration import deciding_set
from .hitting_set import best_without, largest_height
from .single_height import answers, ask

ATTAINED = 2e-11
"""Relative distance from the height up to which a codeword counts as attaining it; twice what the search leaves out."""


class Deciding(NamedTuple):
    """The (S, a) that decide: masks left out of S, coordinates a, and heights; (B,) each."""

    left: NDArray[np.int64]
    at: NDArray[np.int64]
    value: NDArray[np.float64]


@compiled
def _attain(P, m, left, at, words, heights):  # type: ignore[no-untyped-def]
    """The codewords of the best bases in S, and what they attain, rounded down."""
    count, k, r = P.shape
    n = k + r
    G = np.zeros((k, n))
    table, found = new_tableau(G, 0), Codeword(np.empty(k), np.empty(k), np.empty(n))
    for code in range(count):
        a = at[code]
        for i in range(k):
            for j in range(n):
                G[i, j] = P[code, i, j - k] if j >= k else 1.0 if i == j else 0.0
            found.x[i], found.rest[i] = 1.0 if i == 0 else 0.0, 0.0
        best = height_of(G, found.x, found.rest, m[code], found.word)
        first_table(G, a, table.D, table.basis, table.row_of)
        out, tau, told = left[code] & ~(np.int64(1) << a), best * (1.0 + 1e-14), largest_height(G)
        _, _, best = best_without(table, a, m[code], out, best, tau, True, told, found)
        heights[code] = best
        largest = 0.0
        for j in range(n):
            largest = max(largest, abs(found.word[j]))
        for j in range(n):
            words[code, j] = found.word[j] / largest


def exact_word(P: list[list[Any]], m: int, left: int, a: int) -> tuple[Fraction | None, NDArray[np.float64]]:
    """The height of (S, a), None when infinite, and the codeword that attains it, rounded, largest |coordinate| 1.

    Args:
        P: (k, r) ints, Fractions or floats, each standing for itself.
        left: the mask of the m coordinates outside S; a: one of them.
    """
    F = rationals.rational_matrix(P)
    S = [j for j in range(len(F) + len(F[0])) if not left >> j & 1]
    z, _, _, u = rationals.best_of_set(F, S, a)
    c = rationals.codeword(F, u)
    largest = max(map(abs, c))
    return z, np.array([float(value / largest) for value in c])


def deciding_sets(P: NDArray[np.float64], levels: NDArray[np.int64], threads: int | None = None) -> Deciding:
    """The (S, a) that decides each height, levels (B,).

    The value is inf where it is infinite, and where it was for `deciding_set` to decide.
    """
    found = answers(P, ask(len(P), levels, levels), threads)
    value = found.heights[np.arange(len(P)), levels]
    out = Deciding(found.left.astype(np.int64), found.at.astype(np.int64), value)
    for i in np.flatnonzero(found.sure == 0.0):
        out.left[i], out.at[i] = deciding_set(P[i].tolist(), int(levels[i]))
        out.value[i] = np.inf
    return out


def witness(P: ArrayLike, m: Any, *, matrix: str | None = None, threads: int | None = None) -> NDArray[np.float64]:
    """Codewords of [I | P] that attain the exact m-height, largest |coordinate| 1.

    Args:
        P: (k, r) or (B, k, r), n = k + r <= 16; for longer codes see the details of `m_height`.
        m: int or (B,) ints, 1 <= m <= r.
        matrix: what P is, as in `m_height`; the codeword has its coordinates where that matrix has them.
        threads: as in `height_profile`.

    Returns:
        (n,) or (B, n) float64, the coordinates rounded from twice the precision. |c|_(0) / |c|_(m) is the height, to a
        relative 2e-11; for an infinite height n - m coordinates are 0.

    Raises:
        CodeError: P or m is out of range.

    Source: the dual pair of arXiv:2602.20366, Theorem 8.

    Example:
        >>> import numpy as np
        >>> from moe_mheight import witness
        >>> c = np.sort(np.abs(witness([[1, 1], [1, 2]], 2)))
        >>> round(float(c[-1] / c[-3]), 6)
        3.0
    """
    given, order = as_P(P, matrix, rounded=True)
    batch, single = check_P(given, max_n=MAX_N)
    count, k, r = batch.shape
    levels = check_m(m, count, r)
    left, at, value = deciding_sets(batch, levels, threads)
    words, heights = np.empty((count, k + r)), np.zeros(count)
    finite = np.flatnonzero(np.isfinite(value))

    def attain(i: int, j: int) -> None:
        piece = finite[i:j]
        made, reached = np.empty((j - i, k + r)), np.empty(j - i)
        _attain(batch[piece], levels[piece], left[piece], at[piece], made, reached)
        words[piece], heights[piece] = made, reached

    over_batch(attain, len(finite), threads)
    for i in np.flatnonzero(~(heights >= value * (1.0 - ATTAINED))):
        z, words[i] = exact_word(batch[i].tolist(), int(levels[i]), int(left[i]), int(at[i]))
        if z is None or (z > LARGEST_RATIO and (np.floor(batch[i]) != batch[i]).any()):
            words[i, [j for j in range(k + r) if not left[i] >> j & 1]] = 0.0
    words = in_given_order(words, order)
    return words[0] if single else words
