"""Budgeted search for the sets (S, a) that decide the height of a longer code, where C(n, m) sets are too many to scan.

Let N = Q^T Q be the projection on the code, A the m coordinates outside S and X = (I - N_AA)^-1. The n columns of

    W = N + N_:A X N_A: = Q^T (Q_S Q_S^T)^-1 Q

are codewords. For a in A, column a is the least-squares codeword of (S, a), and |W_Sa|_1 its upper bound; for j in S,
column j is the codeword that on S comes nearest to the j-th unit vector. So looking at one set gives n codewords, and
each names another set: A' the m largest coordinates of c, whose (S', a') reaches at least h_m(c).

W also knows the least-squares norm |y|_2 of every set one or two exchanges away, without solving for it (see
`exchanges`). That finds nearly dependent sets, which decide the height at small slack, from far away; only sets that
are solved for count as looked at, and only they are handed on.

The first promises are sets with large norms, from greedy choices and exchanges of single coordinates. From there the
search moves along the largest heights and norms. Each lane is a chain that climbs while the next set promises more than
the one it is on; then it starts again, in turn from the best promise left behind or from a random set. No set is looked
at twice.

Nothing here is certified: whoever uses the sets solves for them again with bounded rounding.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes.linear import check_m, check_P
from ..codes.minors import load_lanes
from ..errors import CodeError
from ..numerics.bitsets import LONGEST, as_permutations, named, next_set, random_set, slot_of
from ..numerics.jit import LANES, compiled, side_by_side, thread_count
from ..numerics.least_squares import fill, load_generator, orthonormalise, projection
from ..numerics.swaps import exchange_one, exchange_two, first_promises, remember
from .irls import CANDIDATES
from .solve import GROUP, look, selection

PROMISES = 6
"""Codewords of one set that are followed or remembered, those of the largest heights."""

POOL = 64
"""Promises remembered for later starts."""

CLIMBS = 6
"""Greedy climbs for each set of the budget, up to n^2: one for each first and second coordinate."""

MOST_CLIMBS = 640

ROUNDS = 16
"""Steps that a chain can make at least, as long as NARROWEST chains run beside each other."""

NARROWEST = 8

SPREAD = 1.5
"""What |y|_2 of an exchange is multiplied by to be compared with heights."""

PAIRS = 28
"""Pairs of coordinates whose exchange is tried from each set, in turn where there are more."""


@compiled
def _keep(masks, places, values, mask, a, value):  # type: ignore[no-untyped-def]
    """Insert into the list kept, in descending order."""
    at = values.shape[0] - 1
    while at > 0 and values[at - 1] < value:
        values[at], masks[at], places[at] = values[at - 1], masks[at - 1], places[at - 1]
        at -= 1
    values[at], masks[at], places[at] = value, mask, a


@compiled
def _search_codes(P, m, budget, everything_fits, width, seed, network, everything, masks, places, values, looked):  # type: ignore[no-untyped-def]
    count, k, r = P.shape
    n = k + r
    x = np.empty((k * r, LANES))
    V, R, N_lanes = np.empty((k, n, LANES)), np.empty((k, k, LANES)), np.empty((n, n, LANES))
    N = np.empty((n, n))
    A = np.empty((m, LANES), np.int64)
    block, X = np.empty((m, m, LANES)), np.empty((m, m, LANES))
    N_A, Y, W = np.empty((n, m, LANES)), np.empty((n, m, LANES)), np.empty((n, n, LANES))
    inside, noise, e = np.empty((n, LANES)), np.empty(LANES), np.empty((n, LANES))
    f, g = np.empty((max(2 * n, 3), LANES)), np.empty((3, LANES))
    pairs = 0 if everything_fits else min(PAIRS, m * (m - 1) // 2)
    singles = 0 if everything_fits else m
    reach, which = np.empty((singles + pairs, LANES)), np.empty((singles + pairs, LANES))
    first_out, second_out = np.empty(singles + pairs, np.int64), np.empty(singles + pairs, np.int64)
    # ranking needs no more than float32, and sorting it is twice as fast
    size, least = np.empty((n, GROUP, LANES), np.float32), np.zeros((n, GROUP * LANES), np.float32)
    height, norm = np.empty((n, LANES), np.float32), np.empty((n, LANES))
    above, level = np.empty((n, LANES), np.uint32), np.empty((n, LANES), np.uint32)
    now, after = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    climbed = np.empty(LANES)
    heights = np.empty(n)
    pool, worth = np.empty(POOL, np.int64), np.empty(POOL)
    slots = 2
    while slots < 2 * budget and not everything_fits:
        slots *= 2
    seen = np.empty(slots, np.uint32)
    state = np.empty(1, np.uint64)
    climbs, one_W = 0 if everything_fits else min(n * n, CLIMBS * budget, MOST_CLIMBS), np.empty((n, n))
    for start in range(0, count, LANES):
        stop = min(start + LANES, count)
        load_lanes(P, start, stop, x)
        load_generator(x, V)
        orthonormalise(V, R)
        projection(V, N_lanes)
        for code in range(start, stop):
            for i in range(n):
                for j in range(n):
                    N[i, j] = N_lanes[i, j, code - start]
            kept, kept_a, kept_value = masks[code], places[code], values[code]
            kept_value[:] = 0.0
            pool[:] = 0
            worth[:] = 0.0
            seen[:] = 0
            after[:] = 0
            state[0] = seed
            first_promises(N, m, climbs, SPREAD, one_W, pool, worth)
            starts, done, following, turn = 0, 0, (1 << m) - 1, 0
            while done < budget:
                active = min(width, budget - done)
                for lane in range(active):
                    if everything_fits:
                        now[lane] = following
                        following = next_set(following, n)
                        continue
                    mask = after[lane]
                    slot = slot_of(seen, mask)
                    if mask == 0 or seen[slot] != 0:
                        climbed[lane] = 0.0
                        starts += 1
                        mask = 0
                        while starts % 2 == 1 and mask == 0:
                            best = 0
                            for q in range(pool.shape[0]):
                                if worth[q] > worth[best]:
                                    best = q
                            if worth[best] == 0.0:
                                break
                            slot = slot_of(seen, pool[best])
                            if seen[slot] == 0:
                                mask = pool[best]
                            worth[best] = 0.0
                        if mask == 0:
                            mask = random_set(state, n, m)
                            slot = slot_of(seen, mask)
                            while seen[slot] != 0:
                                mask = next_set(mask, n)
                                slot = slot_of(seen, mask)
                    seen[slot] = mask
                    now[lane] = mask
                for lane in range(LANES):
                    mask = now[lane if lane < active else 0]
                    for b in range(m):
                        bit = mask & -mask
                        mask ^= bit
                        place = 0
                        while bit > 1:
                            bit >>= 1
                            place += 1
                        A[b, lane] = place
                look(N, A, network, everything, block, X, N_A, Y, W, size, least, height, norm, above, level)
                for i in range(n):
                    fill(inside[i], 1.0)
                fill(noise, 0.0)
                for b in range(m):
                    for lane in range(LANES):
                        inside[A[b, lane], lane] = 0.0
                        noise[lane] = max(noise[lane], X[b, b, lane])
                for lane in range(LANES):
                    noise[lane] *= 1e-15 * n
                for q in range(singles):
                    first_out[q], second_out[q] = q, q
                    exchange_one(inside, X, Y, W, q, n - m - k, noise, e[0], reach[q], which[q])
                for q in range(singles, singles + pairs):
                    b = turn % m
                    d = (b + 1 + turn // m % (m - 1)) % m
                    turn += 1
                    first_out[q], second_out[q] = b, d
                    exchange_two(inside, X, Y, W, b, d, n - m - k, noise, e, f, g, reach[q], which[q])
                done += active
                for lane in range(active):
                    for b in range(m):
                        upper = norm[A[b, lane], lane]
                        for d in range(m):  # on A the column is X - I
                            upper -= abs(X[d, b, lane] - (1.0 if d == b else 0.0))
                        value = np.sqrt(max(upper, 0.0) * height[A[b, lane], lane])
                        if value > kept_value[kept_value.shape[0] - 1] and value < np.inf:
                            _keep(kept, kept_a, kept_value, now[lane], A[b, lane], value)
                    if everything_fits:
                        continue
                    after[lane] = 0
                    for i in range(n):
                        value = np.float64(height[i, lane])
                        heights[i] = value if value < np.inf else 0.0
                    for _ in range(min(PROMISES, n)):
                        best = 0
                        for i in range(1, n):
                            if heights[i] > heights[best]:
                                best = i
                        value = heights[best]
                        if value == 0.0:
                            break
                        heights[best] = 0.0
                        mask = named(above[best, lane], level[best, lane], m)
                        if seen[slot_of(seen, mask)] != 0:
                            continue
                        if after[lane] == 0 and value > climbed[lane] * (1.0 + 1e-6):
                            after[lane] = mask
                            climbed[lane] = value
                        else:
                            remember(pool, worth, mask, value)
                    for _ in range(min(PROMISES, singles + pairs)):
                        best = 0
                        for q in range(1, singles + pairs):
                            if reach[q, lane] > reach[best, lane]:
                                best = q
                        value = reach[best, lane] * (1.0 if n - m == k else SPREAD)
                        reach[best, lane] = 0.0
                        if not 0.0 < value < np.inf:
                            break
                        mask = now[lane] ^ (1 << A[first_out[best], lane])
                        code_of = np.int64(which[best, lane])
                        if best < singles:
                            mask ^= 1 << code_of
                        else:
                            mask ^= 1 << A[second_out[best], lane] ^ 1 << (code_of // 64) ^ 1 << (code_of % 64)
                        if seen[slot_of(seen, mask)] != 0:
                            continue
                        if value > climbed[lane] * (1.0 + 1e-6):
                            if after[lane] != 0:
                                remember(pool, worth, after[lane], climbed[lane])
                            after[lane] = mask
                            climbed[lane] = value
                        else:
                            remember(pool, worth, mask, value)
            looked[code] = done


def search(
    P: ArrayLike, m: int, budget: int, *, seed: int = 0, threads: int | None = None, keep: int = CANDIDATES
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """The most promising sets (S, a) of each code, looking at no more than `budget` sets S.

    Args:
        P: (k, r) or (B, k, r) with n = k + r <= 32.
        m: 1 <= m <= r.
        budget: sets looked at per code, at least 1; from C(n, m) on, every set is looked at.
        seed: of the random starts. The answer depends on it, on the code, on m and on budget, and on nothing else.
        threads: default all cores.
        keep: how many (S, a) to return.

    Returns:
        sets: (B, keep, n) int64, permutations of range(n): the n - m coordinates of S in ascending order, then a, then
            the m - 1 others in ascending order. Different (S, a), best first; the best repeated where there are fewer.
        found: (B, keep), what they are ranked by: the geometric mean of the height of the least-squares codeword of
            (S, a) and its upper bound |y|_1, to about 1e-6; estimates, which lose digits above 1e5.
        looked: (B,) int64, how many different sets S were looked at.

    Raises:
        CodeError: P, m, budget, seed or keep is out of range.

    Source: the codewords are those of the least-squares brackets (see `brackets`).

    Example:
        >>> from moe_mheight.brackets.budget_search import search
        >>> sets, found, looked = search([[1, 1], [1, 2]], 2, budget=100)
        >>> looked.tolist(), round(float(found[0, 0]), 6)
        ([6], 2.738613)
    """
    batch, _ = check_P(P, max_n=LONGEST)
    count, k, r = batch.shape
    m = int(check_m(m, 1, r)[0])
    for name, number, lowest in (("budget", budget, 1), ("keep", keep, 1), ("seed", seed, 0)):
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < lowest:
            raise CodeError(f"{name} must be an int >= {lowest}, got {number!r:.40}")
    n = k + r
    everything_fits = comb(n, m) <= budget
    budget = min(int(budget), comb(n, m))
    width = LANES if everything_fits else min(LANES, max(NARROWEST, budget // ROUNDS))
    masks = np.full((count, keep), (1 << m) - 1, np.int64)
    places, values, looked = np.zeros((count, keep), np.int64), np.empty((count, keep)), np.empty(count, np.int64)
    whole = (masks, places, values, looked)
    settings = (m, budget, everything_fits, width, np.uint64(seed % 2**64), selection(n, m), np.arange(m))

    def work(i: int, j: int) -> None:
        _search_codes(batch[i:j], *settings, *(part[i:j] for part in whole))

    workers = min(thread_count(threads), count)
    length = max(1, min(LANES, -(-count // (4 * max(workers, 1)))))
    pieces = [(i, min(i + length, count)) for i in range(0, count, length)]
    if workers <= 1:
        work(0, count)
    else:
        side_by_side(work, pieces, workers)
    missing = values == 0
    masks, places = np.where(missing, masks[:, :1], masks), np.where(missing, places[:, :1], places)
    return as_permutations(masks, places, n, m), np.where(missing, values[:, :1], values), looked
