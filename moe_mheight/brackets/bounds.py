"""Certified brackets [L, U] around the m-height, from a scan of all sets (S, a), and the kept candidates for experts.

Every (S, a) is bounded once by least squares (`_scan`); the CANDIDATES with the largest upper bounds are reweighted
(see `irls`; `numerics.rounding` says why the bounds hold).
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes.distance import DOUBTFUL as IN_DOUBT
from ..codes.distance import rank_distance
from ..codes.forms import as_P
from ..codes.linear import check_m, check_P, like_input
from ..codes.minors import LARGEST_RATIO, MAX_N, are_whole, load_lanes
from ..errors import CodeError
from ..numerics.bitsets import LONGEST
from ..numerics.jit import LANES, compiled, inlined_exactly, over_batch
from ..numerics.least_squares import (
    add_product,
    copy,
    fill,
    invert_outside,
    load_generator,
    orthonormalise,
    projection,
    solve_weighted,
)
from ..numerics.rationals import rational_matrix, short_of_rank
from ..numerics.rounding import residuals, upper_bound
from .budget_search import search
from .irls import CANDIDATES, STEPS, Brackets, gather, insert, reweight

BOUNDED = 1e6
"""A code with a certified upper bound below this is not infinite; those of reals that count as such exceed 1e11."""

DOUBTFUL = 1e-3
"""Residuals above this make the scan solve again."""


@cache
def _splits(n: int, m: int) -> NDArray[np.int64]:
    """Every split of range(n): (C(n, m), n) rows, the n - m elements of S first, then the m others."""
    everything = set(range(n))
    return np.array([[*sorted(everything - set(out)), *out] for out in combinations(range(n), m)])


@compiled
def _sets_of(pairs, splits, m, sets):  # type: ignore[no-untyped-def]
    """sets[i] = S, a and the rest, in this order, of pair = m * split + position of a."""
    n = splits.shape[1]
    s = n - m
    for i in range(pairs.shape[0]):
        split, position = splits[pairs[i] // m], pairs[i] % m
        for j in range(s):
            sets[i, j] = split[j]
        sets[i, s] = split[s + position]
        for b in range(m - 1):
            sets[i, s + 1 + b] = split[s + b + (b >= position)]


class _Lanes(NamedTuple):
    """A code in each lane, and space to solve for one (S, a) of each; the last axis is the lane."""

    G: Any  # (k, n), and with orthonormal rows Q
    Q: Any
    N: Any  # (n, n), the projection on the dual code
    G_S: Any  # (k, s), g_a (k,): their columns S and a
    g_a: Any
    Q_S: Any
    q_a: Any
    R: Any
    X: Any  # (m, m), the inverse of N outside S
    t: Any
    u: Any
    weight: Any  # (s,), ones
    y: Any
    total: Any  # |y|_1
    rho: Any


class _Largest(NamedTuple):
    """(LANES, C + 1) largest upper bounds of each lane, descending, and their pairs."""

    values: Any
    pairs: Any


@compiled
def _new_lanes(k, n, m):  # type: ignore[no-untyped-def]
    s = n - m
    G, Q, N = np.empty((k, n, LANES)), np.empty((k, n, LANES)), np.empty((n, n, LANES))
    G_S, Q_S = np.empty((k, s, LANES)), np.empty((k, s, LANES))
    R, X = np.empty((k, k, LANES)), np.empty((m, m, LANES))
    g_a, q_a, t, u = np.empty((k, LANES)), np.empty((k, LANES)), np.empty((k, LANES)), np.empty((k, LANES))
    weight, y = np.empty((s, LANES)), np.empty((s, LANES))
    for j in range(s):
        fill(weight[j], 1.0)
    return _Lanes(G, Q, N, G_S, g_a, Q_S, q_a, R, X, t, u, weight, y, np.empty(LANES), np.empty(LANES))


@inlined_exactly
def _solve_pair(split, position, m, lanes):  # type: ignore[no-untyped-def]
    """y of one (S, a), by the inverse of N outside S; the columns S of G are loaded."""
    s = lanes.y.shape[0]
    a = split[s + position]
    for i in range(lanes.g_a.shape[0]):
        copy(lanes.g_a[i], lanes.G[i, a])
    for j in range(s):
        fill(lanes.y[j], 0.0)
        for b in range(m):
            add_product(lanes.y[j], lanes.N[split[j], split[s + b]], lanes.X[b, position])
    residuals(lanes.G_S, lanes.g_a, lanes.y, lanes.total, lanes.rho)


@compiled
def _solve_pair_again(pair, splits, m, lanes):  # type: ignore[no-untyped-def]
    """The same without squaring the condition, for the lanes whose S is nearly rank-deficient; the others keep theirs,
    so that no code's answer depends on its neighbours."""
    n = splits.shape[1]
    pairs, sets = np.empty(LANES, np.int64), np.empty((LANES, n), np.uint8)
    total, rho = np.empty(LANES), np.empty(LANES)
    for lane in range(LANES):
        pairs[lane] = pair
    _sets_of(pairs, splits, m, sets)
    gather(lanes.Q, sets, lanes.Q_S, lanes.q_a)
    solve_weighted(lanes.Q_S, lanes.R, lanes.weight, lanes.q_a, lanes.t, lanes.y, lanes.u)
    residuals(lanes.G_S, lanes.g_a, lanes.y, total, rho)
    for lane in range(LANES):
        if not lanes.rho[lane] < DOUBTFUL:
            lanes.total[lane], lanes.rho[lane] = total[lane], rho[lane]


@compiled
def _scan(lanes, splits, m, largest):  # type: ignore[no-untyped-def]
    """Upper bounds of all (S, a), pair = m * split + position of a; keep each lane's largest, see `insert`."""
    k, s = lanes.G_S.shape[:2]
    values, total, rho = largest.values, lanes.total, lanes.rho
    for lane in range(LANES):
        for q in range(values.shape[1]):
            values[lane, q] = -1.0
    for q in range(splits.shape[0]):
        split = splits[q]
        invert_outside(lanes.N, split[s:], lanes.X)
        for j in range(s):
            for i in range(k):
                copy(lanes.G_S[i, j], lanes.G[i, split[j]])
        for position in range(m):
            pair = q * m + position
            _solve_pair(split, position, m, lanes)
            doubtful = False
            for lane in range(LANES):
                doubtful |= not rho[lane] < DOUBTFUL
            if doubtful:
                _solve_pair_again(pair, splits, m, lanes)
            for lane in range(LANES):
                value = upper_bound(total[lane], rho[lane], s)
                if value > values[lane, values.shape[1] - 1]:
                    insert(values[lane], largest.pairs[lane], value, pair)


@compiled
def _scan_all(P, splits, m, sets_out, rest):  # type: ignore[no-untyped-def]
    """The candidates of each code, largest upper bound first, and the largest upper bound of all others."""
    count, k, r = P.shape
    candidates = sets_out.shape[1]
    x, lanes = np.empty((k * r, LANES)), _new_lanes(k, k + r, m)
    largest = _Largest(np.empty((LANES, candidates + 1)), np.empty((LANES, candidates + 1), np.int64))
    for start in range(0, count, LANES):
        stop = min(start + LANES, count)
        load_lanes(P, start, stop, x)
        load_generator(x, lanes.G)
        load_generator(x, lanes.Q)
        orthonormalise(lanes.Q, lanes.R)
        projection(lanes.Q, lanes.N)
        _scan(lanes, splits, m, largest)
        for lane in range(stop - start):
            rest[start + lane] = largest.values[lane, candidates]
            _sets_of(largest.pairs[lane, :candidates], splits, m, sets_out[start + lane])


def candidates(
    P: NDArray[np.float64], m: int, *, keep: int = CANDIDATES, budget: int = 0, threads: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The sets (S, a) that are worth more work: those of the largest upper bounds, or what a search finds.

    Args:
        P: (B, k, r) float64, checked.
        m: 1 <= m <= r.
        keep: how many, where there are so many.
        budget: of sets S to visit; 0: all.
        threads: default all cores.

    Returns:
        sets: (B, keep, n), each row S in ascending order, a, then the others, the most promising first. rest: (B,), an
            upper bound for all others: negative where there are none, inf under a budget.
    """
    count, k, r = P.shape
    if budget:
        return search(P, m, budget, threads=threads, keep=keep)[0].astype(np.uint8), np.full(count, np.inf)
    splits = _splits(k + r, m)
    sets, rest = np.empty((count, min(keep, len(splits) * m), k + r), np.uint8), np.empty(count)
    over_batch(lambda i, j: _scan_all(P[i:j], splits, m, sets[i:j], rest[i:j]), count, threads)
    return sets, rest


def brackets(
    P: ArrayLike,
    m: int,
    *,
    steps: int = STEPS,
    tightest: bool = False,
    budget: int = 0,
    threads: int | None = None,
) -> Brackets:
    """Certified brackets and kept candidates of a batch of codes with one m.

    Args:
        P: (k, r) or (B, k, r) with n = k + r <= 16; under a budget n <= 32.
        m: 1 <= m <= r.
        steps: reweighting steps; 0 is plain least squares.
        tightest: let all that the kept candidates found narrow the bracket, which closes most of them; experts need it
            open.
        budget: visit no more than this many sets S, chosen by `search`, and claim no upper bound; 0: visit all.
        threads: default all cores; the answer does not depend on it.

    Returns:
        Brackets. Infinite heights are recognised exactly up to n = 16 (`minimum_distance`); beyond, of integers by a
        kept candidate's S that is short of rank, of reals by a lower bound above minors.LARGEST_RATIO.

    Raises:
        CodeError: P, m, steps or budget is out of range.

    Source: L1 duality of arXiv:2602.20366, Theorem 8; the reweighting is classical (IRLS).

    Example:
        >>> from moe_mheight.brackets.bounds import brackets
        >>> b = brackets([[1, 1], [1, 2]], 2)
        >>> bool(b.lower[0] <= 3 <= b.upper[0])
        True
    """
    batch, _ = check_P(P, max_n=LONGEST if budget else MAX_N)
    k, r = batch.shape[1:]
    n = k + r
    m = int(check_m(m, 1, r)[0])
    for name, value in (("steps", steps), ("budget", budget)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise CodeError(f"{name} must be an int >= 0, got {value!r:.40}")
    sets, rest = candidates(batch, m, budget=budget, threads=threads)
    found = reweight(batch, m, sets, rest, steps, tightest=tightest, budget=budget, threads=threads)
    infinite = _infinite(batch, found) if n > MAX_N else _short(batch, m, found.upper, threads)
    found.lower[infinite] = found.upper[infinite] = np.inf
    return found


def _short(batch: NDArray[np.float64], m: int, upper: NDArray[np.float64], threads: int | None) -> NDArray[np.bool_]:
    """Which codes have a minimum distance of m or less, (B,): none of those whose height is bounded."""
    out = np.zeros(len(batch), np.bool_)
    rows = np.flatnonzero(~(upper < BOUNDED))
    if len(rows):
        out[rows] = _distances(batch[rows], threads) <= m
    return out


def _distances(batch: NDArray[np.float64], threads: int | None) -> NDArray[np.int64]:
    """Minimum distances, (B,); enumeration decides the few that the rank of columns leaves in doubt."""
    out = rank_distance(batch, threads)
    doubtful = np.flatnonzero(out == IN_DOUBT)
    if len(doubtful):
        from ..exact.distance import minimum_distance  # noqa: PLC0415  predictions go without the exact solver

        out[doubtful] = minimum_distance(batch[doubtful], threads, matrix="P")
    return out


def _infinite(P: NDArray[np.float64], found: Brackets) -> NDArray[np.bool_]:
    """Which codes are seen to have an infinite height: reals by LARGEST_RATIO, integers by a set S short of rank.

    Where rounding has made a large height of an infinite one, S is a kept one or what the witness nearly vanishes
    on.
    """
    large = found.kept_lower[..., -1] > LARGEST_RATIO
    out = np.array(large.any(1))
    for i in np.flatnonzero(out & are_whole(P)):
        F = rational_matrix(P[i])
        words = np.argsort(-np.abs(found.witness[i]), kind="stable")[: found.m]
        outside = [words.tolist(), *found.outside[i][large[i]].tolist()]
        out[i] = any(short_of_rank(F, set(range(found.n)) - set(places)) for places in outside)
    return out


def bounds(
    P: ArrayLike,
    m: Any,
    *,
    matrix: str | None = None,
    steps: int = STEPS,
    tightest: bool = True,
    threads: int | None = None,
) -> tuple[Any, Any]:
    """Certified (lower, upper) bounds of m-heights; floats for one code, (B,) arrays for a batch; m int or (B,).

    They are the tightest that `brackets` knows; tightest=False gives the bracket that a Predictor answers within.
    matrix: what P is, as in `m_height`; the bounds are of its systematic form in float64.
    """
    batch, single = check_P(as_P(P, matrix, rounded=True)[0], max_n=MAX_N)
    levels = check_m(m, len(batch), batch.shape[2])
    lower, upper = np.empty(len(batch)), np.empty(len(batch))
    for level in np.unique(levels):
        rows = levels == level
        found = brackets(batch[rows], int(level), steps=steps, tightest=tightest, threads=threads)
        lower[rows], upper[rows] = found.lower, found.upper
    return like_input(lower, single), like_input(upper, single)
