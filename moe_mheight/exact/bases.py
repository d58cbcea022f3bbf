"""Heights by enumeration of bases, from whichever kernel is quicker, with fractions where float64 leaves a doubt."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from math import comb, inf, nextafter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codes.minors import MAX_N
from ..numerics.jit import LANES
from .branch_and_bound import search_height
from .cost_model import seconds
from .enumeration import TIGHT, decided, deciding_set, enumerated_profiles, profile_ends
from .result import DECIDED, EXACTLY, Height, Thresholds
from .single_height import answers, ask
from .witness import deciding_sets, exact_word


def profiles(batch: NDArray[np.float64], threads: int | None = None) -> NDArray[np.float64]:
    """Height profiles (B, r + 1) of checked codes (B, k, r), k + r <= 16; see `enumerated_profiles`.

    LANES codes at a time, and what is left one by one where that is quicker than a pass of mostly empty lanes.
    """
    count, k, r = batch.shape
    rest = count % LANES
    single = sum(seconds("single", k + r, k, m) for m in range(1, r + 1))
    if rest * single > LANES * seconds("lanes", k + r, k, 1):
        return enumerated_profiles(batch, threads)
    full = count - rest
    few = answers(batch[full:], ask(rest, 1, r), threads)
    out = np.concatenate([enumerated_profiles(batch[:full], threads), few.heights]) if full else few.heights
    doubtful = full + np.flatnonzero(few.sure == 0.0)
    if len(doubtful):
        out[doubtful] = decided(batch[doubtful], threads)
    return out


def heights(
    batch: NDArray[np.float64],
    levels: NDArray[np.int64],
    above: NDArray[np.float64],
    below: NDArray[np.float64],
    threads: int | None = None,
) -> NDArray[np.float64]:
    """Heights (B,) of checked codes (B, k, r), k + r <= LONGEST, for m = levels (B,), thresholds (B,) each."""
    count, k, r = batch.shape
    if np.isinf(above).all() and (below <= 1.0).all() and k + r <= MAX_N:
        one = seconds("single", k + r, k, int(levels[0])) if count else 0.0
        if count >= LANES and one > seconds("lanes", k + r, k, 1):
            return profiles(batch, threads)[np.arange(count), levels]
    found = answers(batch, _with_thresholds(levels, above, below, count), threads)
    out = found.heights[np.arange(count), levels]
    out = np.where(found.left == 0.0, below, out)  # no (S, a) is above it
    for i in np.flatnonzero(found.sure == 0.0):
        limits = Thresholds(float(above[i]), float(below[i]))
        out[i] = in_doubt(batch[i], int(levels[i]), limits, threads)
    return out


def _with_thresholds(levels: Any, above: Any, below: Any, count: int) -> NDArray[np.float64]:
    """Questions whose answers hold for the thresholds whatever the rounding."""
    return ask(count, levels, levels, below * (1.0 - DECIDED), above * (1.0 + DECIDED))


def in_doubt(P: NDArray[np.float64], m: int, limits: Thresholds, threads: int | None) -> float:
    """The height of a code whose minors may be wrong."""
    if sum(P.shape) <= MAX_N:
        return float(decided(P[None], threads)[0, m])
    return search_height(P, m, threads=threads, limits=limits)[0].value


def by_bases(P: NDArray[np.float64], m: int, limits: Thresholds = EXACTLY, threads: int | None = None) -> Height:
    """By enumeration, both bounds certified: one by the codeword in fractions, one by the minors' rounding."""
    began = time.monotonic()
    k, r = P.shape
    found = answers(P[None], _with_thresholds(m, limits.above, limits.below, 1), 1)
    if not found.sure[0]:
        if k + r > MAX_N:
            return search_height(P, m, threads=threads, limits=limits)[0]
        return _by_intervals(P, m, began)
    if found.left[0] == 0.0 and limits.below > 1.0:
        lower, c = _best_row(P, m)
        return _enumerated(k, r, m, (lower, limits.below), c, "below", began)
    h = float(found.heights[0, m])
    z, c = exact_word(P.tolist(), m, int(found.left[0]), int(found.at[0]))
    if h == inf or z is None:
        return _enumerated(k, r, m, (inf, inf), c, "finished", began)
    lower, upper = _around(z)
    if h > limits.above * (1.0 + DECIDED):
        return _enumerated(k, r, m, (lower, inf), c, "above", began)
    # 1 + h is a sum of k + 1 minors over one more, each right to SURE
    upper = max(upper, h + (1.0 + h) * (k + 12) * 2.0**-50)
    return _enumerated(k, r, m, (lower, upper), c, "finished", began, float(z))


def _around(z: Fraction) -> tuple[float, float]:
    """The nearest float64 numbers below and above, equal where it is one."""
    value = float(z)
    lower = value if Fraction(value) <= z else nextafter(value, 0.0)
    return lower, value if Fraction(value) >= z else nextafter(value, inf)


def _by_intervals(P: NDArray[np.float64], m: int, began: float) -> Height:
    """With an interval for every minor."""
    k, r = P.shape
    value, upper = float(decided(P[None], 1)[0, m]), float(profile_ends(P[None], 1)[0, 1, m])
    found = deciding_sets(P[None], np.array([m]), 1)
    z, c = exact_word(P.tolist(), m, int(found.left[0]), int(found.at[0]))
    if value == inf or z is None:
        return _enumerated(k, r, m, (inf, inf), c, "finished", began)
    lower, above = _around(z)
    if not upper <= above * (1.0 + TIGHT):  # intervals were not enough: Python's integers have decided
        upper = above
    return _enumerated(k, r, m, (lower, max(upper, above)), c, "finished", began, float(z))


def _best_row(P: NDArray[np.float64], m: int) -> tuple[float, NDArray[np.float64]]:
    """The best row of [I | P] as a codeword, and its height, rounded down."""
    G = np.hstack([np.eye(len(P)), P])
    down = -np.sort(-np.abs(G), axis=1)
    with np.errstate(divide="ignore", over="ignore"):
        reached = down[:, 0] / down[:, m]
    i = int(reached.argmax())
    return max(nextafter(float(reached[i]), 0.0), 1.0), G[i] / down[i, 0]


def _enumerated(
    k: int,
    r: int,
    m: int,
    ends: tuple[float, float],
    c: NDArray[np.float64],
    ended: str,
    began: float,
    value: float | None = None,
) -> Height:
    """value: where it is neither of the ends."""
    order = tuple(int(j) for j in np.argsort(-np.abs(c), kind="stable")[:m])
    lower, upper = ends
    if value is None:
        value = upper if ended == "below" else lower
    seconds = time.monotonic() - began
    return Height(k + r, k, m, value, lower, upper, c, order, "bases", ended, seconds, comb(k + r, k), 0)


def by_integers(F: Sequence[Sequence[Fraction]], m: int, value: float) -> Height:
    """As `by_bases`, of a code given in fractions, whose height is known to float64."""
    began = time.monotonic()
    z, c = exact_word([list(row) for row in F], m, *deciding_set(F, m))
    lower = upper = value
    if z is not None:
        lower, upper = _around(z)
    return _enumerated(len(F), len(F[0]), m, (lower, upper), c, "finished", began, value)
