"""Which sets B of a certificate bound the height by U: |y|_1 <= U for the y with G_B y = g_a, or U_B with rounding.

`verify` has the proof that such sets are enough. In fractions where the certificate is rational; otherwise by bounds on
rounding first, and in fractions where these leave it open.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .certificate_format import Parsed
from .hitting_set_check import coordinates, members
from .row_reduction import Tableau


def residual(G: list[list[Fraction]], basis: list[int], a: int, y: list[Fraction]) -> list[Fraction]:
    """rho = g_a - G_B y."""
    return [row[a] - sum((row[j] * x for j, x in zip(basis, y, strict=True)), Fraction(0)) for row in G]


def rounded_bound(G: list[list[Fraction]], basis: list[int], a: int, y: list[Fraction]) -> Fraction | None:
    """U_B = |y|_1 / (1 - |rho|_1), exactly; None when |rho|_1 >= 1."""
    off = sum(map(abs, residual(G, basis, a, y)), Fraction(0))
    return sum(map(abs, y), Fraction(0)) / (1 - off) if off < 1 else None


def within_exactly(parsed: Parsed, advance: Callable[[float], None]) -> NDArray[np.bool_]:
    """For every listed B and every a: a is not in B, and |y|_1 <= U in whole numbers."""
    assert parsed.upper is not None
    U = parsed.upper
    within = np.zeros((len(parsed.masks), parsed.n), dtype=bool)
    tableau = Tableau(parsed.G, parsed.scale)
    for i, mask in enumerate(parsed.masks):
        tableau.move_to(coordinates(mask))
        largest = U.numerator * abs(tableau.D) // U.denominator
        within[i] = [
            total is not None and total <= largest and not mask >> a & 1 for a, total in enumerate(tableau.sums())
        ]
        if i % 256 == 0:
            advance(i / len(parsed.masks) / 2)
    return within


def within_in_floats(parsed: Parsed, advance: Callable[[float], None]) -> NDArray[np.bool_]:
    """For every listed B and every a: a is not in B, and U_B <= U, by rounding bounds or else in fractions."""
    assert parsed.upper is not None
    masks = np.array(parsed.masks, dtype=np.uint64)
    held = members(masks, parsed.n)
    within = np.zeros_like(held)
    unsure = np.zeros_like(held)
    G = np.array([[float(x) for x in row] for row in parsed.G])
    size = held.sum(axis=1)
    pieces = [
        rows[i : i + 512]
        for s in np.unique(size)
        for rows in [np.flatnonzero(size == s)]
        for i in range(0, len(rows), 512)
    ]
    done = 0
    for rows in pieces:
        B = np.nonzero(held[rows])[1].reshape(len(rows), -1)
        within[rows], unsure[rows] = _within_rounded(G, B, float(parsed.upper))
        done += len(rows)
        advance(done / len(masks) / 4)
    within &= ~held
    unsure &= ~held
    tableau = Tableau(parsed.G, parsed.scale)
    left = np.flatnonzero(unsure.any(axis=1))
    for tried, i in enumerate(left):
        basis = coordinates(parsed.masks[i])
        tableau.move_to(basis)
        for a in np.flatnonzero(unsure[i]):
            bound = tableau.norm(int(a))
            if bound is None:
                bound = _refined(parsed.G, basis, int(a))
            within[i, a] = bound is not None and bound <= parsed.upper
        advance((1 + tried / len(left)) / 4)
    return within


def _within_rounded(
    G: NDArray[np.float64], B: NDArray[np.int64], U: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where U_B <= U whatever the rounding was, and where fractions may yet show it, for sets B of one size, (b, s).

    A sum of k products is off by at most gamma_k = k v / (1 - k v) times the sum of their sizes, v = 2^-53, in whatever
    order they are added (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). slack is above
    gamma_(k + 8), room for the few operations more that there are and for a G that is rounded from fractions (v more),
    and tiny is above all that underflow can lose.
    """
    k = len(G)
    slack, tiny = (k + 8) * 2.0**-52, 1e-300
    G_B = np.moveaxis(G[:, B], 1, 0)
    with np.errstate(all="ignore"):
        y = _solutions(G_B, G)
        size = np.abs(y).sum(axis=1)
        rho = np.abs(G - G_B @ y) + slack * (np.abs(G_B) @ np.abs(y) + np.abs(G))
        off = rho.sum(axis=1) * (1 + slack) + tiny
        bound = (size * (1 + slack) + tiny) / (1 - off) * (1 + slack)
        # comparisons with NaN are false, so what overflowed is not proven
        within = (off < 0.5) & (bound <= U)
        # y is off by G_B^-1 rho, and the first k columns of y are G_B^-1: far above U no more digits can help
        reach = 4 * size[:, :k].max(axis=1, keepdims=True) * off
        near = (off < 1) & (size <= U * (1 + 1e-3)) & (size - reach <= U)
        # where floats say nothing at all, k columns that are badly scaled may still be a basis
        unsure = ~within & (near | (~(off < 1) if B.shape[1] == k else False))
    return within, unsure


def _solutions(G_B: NDArray[np.float64], G: NDArray[np.float64]) -> NDArray[np.float64]:
    """y with G_B y = G, nearly, for a batch; nothing is concluded from how good they are. NaN where there is none."""
    count, k, s = G_B.shape
    try:
        return np.asarray(np.linalg.solve(G_B, G[None]) if s == k else np.linalg.pinv(G_B) @ G, dtype=np.float64)
    except np.linalg.LinAlgError:
        if count == 1:
            return np.full((1, s, G.shape[1]), np.nan)
        # one singular matrix stops a whole batch: halve until it is alone
        return np.concatenate([_solutions(half, G) for half in (G_B[: count // 2], G_B[count // 2 :])])


def _refined(G: list[list[Fraction]], basis: list[int], a: int) -> Fraction | None:
    """U_B for a set B that spans g_a only nearly: y in floats, twice improved by its exact residual."""
    y = [Fraction(0)] * len(basis)
    try:
        inverse = np.linalg.pinv(np.array([[float(row[j]) for j in basis] for row in G]).reshape(len(G), len(basis)))
        for _ in range(3):
            step = inverse @ np.array([float(x) for x in residual(G, basis, a, y)])
            y = [x + Fraction(float(d)) for x, d in zip(y, step, strict=True)]
    except (np.linalg.LinAlgError, OverflowError, ValueError):
        # too large or too badly conditioned for floats; Fraction refuses infinity and NaN with these errors
        return None
    return rounded_bound(G, basis, a, y)
