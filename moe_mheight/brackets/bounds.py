"""Certified brackets [L, U] around the m-height, from a scan of all sets (S, a), and the tokens that experts read.

Every (S, a) is bounded once by least squares (`_scan`); the CANDIDATES with the largest upper bounds are reweighted
(see `reweighting`; `certified` says why the bounds hold).
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes.distance import DOUBTFUL as IN_DOUBT
from ..codes.distance import rank_distance
from ..codes.forms import as_P
from ..codes.linear import check_m, check_P, like_input
from ..codes.minors import LARGEST_RATIO, MAX_N, are_whole, load_lanes
from ..errors import CodeError
from ..numerics.bitsets import LONGEST
from ..numerics.jit import LANES, compiled, over_batch
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
        sets[i, :s] = split[:s]
        sets[i, s] = split[s + position]
        for b in range(m - 1):
            sets[i, s + 1 + b] = split[s + b + (b >= position)]


@compiled
def _scan(G, Q, N, splits, m, best, best_pair, G_S, g_a, Q_S, q_a, R, t, weight, y, u):  # type: ignore[no-untyped-def]
    """Upper bounds of all (S, a), pair = m * split + position of a; keep each lane's largest, see `_insert`."""
    k, n = Q.shape[0], Q.shape[1]
    s = n - m
    X = np.empty((m, m, LANES))
    total, rho = np.empty(LANES), np.empty(LANES)
    total_again, rho_again = np.empty(LANES), np.empty(LANES)
    pairs, sets = np.empty(LANES, np.int64), np.empty((LANES, n), np.uint8)
    for lane in range(LANES):
        for q in range(best.shape[1]):
            best[lane, q] = -1.0
    for j in range(s):
        fill(weight[j], 1.0)
    for q in range(splits.shape[0]):
        split = splits[q]
        invert_outside(N, split[s:], X)
        for j in range(s):
            for i in range(k):
                copy(G_S[i, j], G[i, split[j]])
        for position in range(m):
            a = split[s + position]
            for i in range(k):
                copy(g_a[i], G[i, a])
            for j in range(s):
                fill(y[j], 0.0)
                for b in range(m):
                    add_product(y[j], N[split[j], split[s + b]], X[b, position])
            residuals(G_S, g_a, y, total, rho)
            pair = q * m + position
            doubtful = False
            for lane in range(LANES):
                doubtful |= not rho[lane] < DOUBTFUL
            if doubtful:  # some S is nearly rank-deficient: solve without squaring its condition
                for lane in range(LANES):
                    pairs[lane] = pair
                _sets_of(pairs, splits, m, sets)
                gather(Q, sets, Q_S, q_a)
                solve_weighted(Q_S, R, weight, q_a, t, y, u)
                residuals(G_S, g_a, y, total_again, rho_again)
                for lane in range(LANES):
                    if not rho[lane] < DOUBTFUL:  # the others keep theirs: no code's answer depends on its neighbours
                        total[lane], rho[lane] = total_again[lane], rho_again[lane]
            for lane in range(LANES):
                value = upper_bound(total[lane], rho[lane], s)
                if value > best[lane, best.shape[1] - 1]:
                    insert(best[lane], best_pair[lane], value, pair)


@compiled
def _scan_all(P, splits, m, sets_out, rest):  # type: ignore[no-untyped-def]
    """The candidates of each code, largest upper bound first, and the largest upper bound of all others."""
    count, k, r = P.shape
    n = k + r
    s = n - m
    candidates = sets_out.shape[1]
    x = np.empty((k * r, LANES))
    G, Q, N = np.empty((k, n, LANES)), np.empty((k, n, LANES)), np.empty((n, n, LANES))
    G_S, Q_S, R = np.empty((k, s, LANES)), np.empty((k, s, LANES)), np.empty((k, k, LANES))
    g_a, q_a, t, u = np.empty((k, LANES)), np.empty((k, LANES)), np.empty((k, LANES)), np.empty((k, LANES))
    weight, y = np.empty((s, LANES)), np.empty((s, LANES))
    best, best_pair = np.empty((LANES, candidates + 1)), np.empty((LANES, candidates + 1), np.int64)
    for start in range(0, count, LANES):
        stop = min(start + LANES, count)
        load_lanes(P, start, stop, x)
        load_generator(x, G)
        load_generator(x, Q)
        orthonormalise(Q, R)
        projection(Q, N)
        _scan(G, Q, N, splits, m, best, best_pair, G_S, g_a, Q_S, q_a, R, t, weight, y, u)
        for lane in range(stop - start):
            rest[start + lane] = best[lane, candidates]
            _sets_of(best_pair[lane, :candidates], splits, m, sets_out[start + lane])


def candidates(
    P: NDArray[np.float64], m: int, *, keep: int = CANDIDATES, budget: int = 0, threads: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The sets (S, a) that are worth a closer look: those of the largest upper bounds, or what a search finds.

    Args:
        P: (B, k, r) float64, checked.
        m: 1 <= m <= r.
        keep: how many, where there are so many.
        budget: of sets S to look at; 0: all.
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
    closing: bool = False,
    budget: int = 0,
    threads: int | None = None,
) -> Brackets:
    """Certified brackets and tokens of a batch of codes with one m.

    Args:
        P: (k, r) or (B, k, r) with n = k + r <= 16; under a budget n <= 32.
        m: 1 <= m <= r.
        steps: reweighting steps; 0 is plain least squares.
        closing: let all that the tokens found narrow the bracket, which closes most of them; experts need it open.
        budget: look at no more than this many sets S, chosen by `search`, and claim no upper bound; 0: look at all.
        threads: default all cores; the answer does not depend on it.

    Returns:
        Brackets. Infinite heights are recognised exactly up to n = 16 (`minimum_distance`); beyond, of integers by a
        token's S that is short of rank, of reals by a lower bound above minors.LARGEST_RATIO.

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
    found = reweight(batch, m, sets, rest, steps, closing=closing, budget=budget, threads=threads)
    infinite = _infinite(batch, found) if n > MAX_N else _distances(batch, threads) <= m
    found.lower[infinite] = found.upper[infinite] = np.inf
    return found


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

    Where rounding has made a large height of an infinite one, S is a token's or what the witness nearly vanishes on.
    """
    large = found.token_lower[..., -1] > LARGEST_RATIO
    out = np.array(large.any(1))
    for i in np.flatnonzero(out & are_whole(P)):
        F = rational_matrix(P[i])
        words = np.argsort(-np.abs(found.witness[i]), kind="stable")[: found.m]
        left = [words.tolist(), *found.outside[i][large[i]].tolist()]
        out[i] = any(short_of_rank(F, set(range(found.n)) - set(some)) for some in left)
    return out


def bounds(
    P: ArrayLike,
    m: Any,
    *,
    matrix: str | None = None,
    steps: int = STEPS,
    closing: bool = True,
    threads: int | None = None,
) -> tuple[Any, Any]:
    """Certified (lower, upper) bounds of m-heights; floats for one code, (B,) arrays for a batch; m int or (B,).

    They are the tightest that `brackets` knows; closing=False gives the bracket that a Predictor answers within.
    matrix: what P is, as in `m_height`; the bounds are of its systematic form in float64.
    """
    batch, single = check_P(as_P(P, matrix, rounded=True)[0], max_n=MAX_N)
    levels = check_m(m, len(batch), batch.shape[2])
    lower, upper = np.empty(len(batch)), np.empty(len(batch))
    for level in np.unique(levels):
        mine = levels == level
        found = brackets(batch[mine], int(level), steps=steps, closing=closing, threads=threads)
        lower[mine], upper[mine] = found.lower, found.upper
    return like_input(lower, single), like_input(upper, single)
