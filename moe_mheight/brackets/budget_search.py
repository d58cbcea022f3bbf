"""Budgeted search for the sets (S, a) that decide the height of a longer code, where C(n, m) sets are too many to scan.

Let N = Q^T Q be the projection on the code, A the m coordinates outside S and X = (I - N_AA)^-1. The n columns of

    W = N + N_:A X N_A: = Q^T (Q_S Q_S^T)^-1 Q

are codewords. For a in A, column a is the least-squares codeword of (S, a), and |W_Sa|_1 its upper bound; for j in S,
column j is the codeword that on S comes nearest to the j-th unit vector. So solving for one set gives n codewords, and
each names another set: A' the m largest coordinates of c, whose (S', a') reaches at least h_m(c).

W also knows the least-squares norm |y|_2 of every set one or two swaps away, without solving for it (see
`numerics.swaps`). That finds nearly dependent sets, which decide the height at small slack, from far away; only sets
that are solved for count as visited, and only they are handed on.

The candidate queue begins with sets of large norms, from local searches. From there the search moves along the largest
heights and norms. Each lane is a chain that goes on while the next set is expected to reach more than the one it is on;
then it starts again, in turn from the best set left in the queue or from a random one. No set is visited twice.

Nothing here is certified: whoever uses the sets solves for them again with bounded rounding.
"""

from __future__ import annotations

from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes.linear import check_m, check_P
from ..codes.minors import load_lanes
from ..errors import CodeError
from ..numerics.bitsets import LONGEST, as_permutations, largest_set, next_set, random_set, slot_of
from ..numerics.jit import LANES, compiled, embedded, side_by_side, thread_count
from ..numerics.least_squares import fill, load_generator, orthonormalise, projection
from ..numerics.swaps import Sets, fill_queue, push, swap_one, swap_two
from .irls import CANDIDATES
from .solve import new_solved, new_space, selection, solve_sets

FOLLOWED = 6
"""Codewords of one set that are followed or queued, those of the largest heights; and as many swaps."""

QUEUE = 64
"""Sets queued for later starts."""

LOCAL_SEARCHES, MAX_LOCAL_SEARCHES = 6, 640
"""Local searches for each set of the budget, up to n^2, one for each first and second coordinate; and in all."""

ROUNDS = 16
"""Steps that a chain can make at least, as long as NARROWEST chains run beside each other."""

NARROWEST = 8

HEIGHT_OF_NORM = 1.5
"""What |y|_2 of a swap is multiplied by to be compared with heights."""

PAIRS = 28
"""Pairs of coordinates whose swap is tried from each set, in turn where there are more."""

BETTER = 1.0 + 1e-6
"""A chain goes on to a set that is expected to reach this times more."""


class Settings(NamedTuple):
    """m, sets to visit, whether these are all there are, lanes to use, a seed, and `selection(n, m)`."""

    m: int
    budget: int
    everything_fits: bool
    width: int
    seed: np.uint64
    network: NDArray[np.int64]


class Kept(NamedTuple):
    """The best (S, a): masks left out of S, a, what they are ranked by, (B, keep) each; and sets visited, (B,)."""

    masks: NDArray[np.int64]
    at: NDArray[np.int64]
    values: NDArray[np.float64]
    visited: NDArray[np.int64]


class Chains(NamedTuple):
    """Where the chains are, and what they share: all sets as masks of the m coordinates left out.

    now, after: (LANES,), the set of each chain, and the one it goes on to, 0 for none.
    reached: (LANES,), what the next set of each is expected to reach.
    queue, worth: (QUEUE,), sets for later starts, and what they are expected to reach.
    table: hash table of the sets visited.
    state: (1,), of the random numbers; starts: (1,), how many there were.
    """

    now: Any
    after: Any
    reached: Any
    queue: Any
    worth: Any
    table: Any
    state: Any
    starts: Any


class Swaps(NamedTuple):
    """The swaps tried from LANES sets: one or two coordinates out, by place in A, what they reach, what comes in."""

    out: Any
    second_out: Any
    reach: Any
    into: Any


@embedded
def _new_chains(slots):  # type: ignore[no-untyped-def]
    return Chains(
        np.zeros(LANES, np.int64),
        np.zeros(LANES, np.int64),
        np.zeros(LANES),
        np.zeros(QUEUE, np.int64),
        np.zeros(QUEUE),
        np.zeros(slots, np.uint32),
        np.zeros(1, np.uint64),
        np.zeros(1, np.int64),
    )


@embedded
def _new_sets(solved, n):  # type: ignore[no-untyped-def]
    return Sets(
        np.empty((n, LANES)),
        np.empty(LANES),
        solved.X,
        solved.Y,
        solved.W,
        np.empty((n, LANES)),
        np.empty((max(2 * n, 3), LANES)),
        np.empty((3, LANES)),
    )


@compiled
def _reset(chains, seed):  # type: ignore[no-untyped-def]
    chains.queue[:] = 0
    chains.worth[:] = 0.0
    chains.table[:] = 0
    chains.after[:] = 0
    chains.state[0] = seed
    chains.starts[0] = 0


@compiled
def _start(chains, n, m):  # type: ignore[no-untyped-def]
    """A set that was not visited: in turn the best one queued, and a random one."""
    queue, worth, table = chains.queue, chains.worth, chains.table
    chains.starts[0] += 1
    while chains.starts[0] % 2 == 1:
        best = 0
        for q in range(queue.shape[0]):
            if worth[q] > worth[best]:
                best = q
        if worth[best] == 0.0:
            break
        worth[best] = 0.0
        if table[slot_of(table, queue[best])] == 0:
            return queue[best]
    mask = random_set(chains.state, n, m)
    while table[slot_of(table, mask)] != 0:
        mask = next_set(mask, n)
    return mask


@compiled
def _step(chains, active, n, m):  # type: ignore[no-untyped-def]
    """Each chain's next set, marked as visited."""
    table = chains.table
    for lane in range(active):
        mask = chains.after[lane]
        if mask == 0 or table[slot_of(table, mask)] != 0:
            chains.reached[lane] = 0.0
            mask = _start(chains, n, m)
        table[slot_of(table, mask)] = mask
        chains.now[lane] = mask


@compiled
def _place(now, active, A):  # type: ignore[no-untyped-def]
    """A[:, lane] = the coordinates of the lane's set; spare lanes repeat the first."""
    for lane in range(LANES):
        mask = now[lane if lane < active else 0]
        for b in range(A.shape[0]):
            bit = mask & -mask
            mask ^= bit
            place = 0
            while bit > 1:
                bit >>= 1
                place += 1
            A[b, lane] = place


@embedded
def _try_swaps(solved, sets, swaps, slack, turn):  # type: ignore[no-untyped-def]
    """The best swaps of every coordinate and of some pairs of them; returns the turn of the next pair."""
    A, X, noise, reach, into = solved.A, solved.X, sets.noise, swaps.reach, swaps.into
    n, m = sets.inside.shape[0], A.shape[0]
    for i in range(n):
        fill(sets.inside[i], 1.0)
    fill(noise, 0.0)
    for b in range(m):
        for lane in range(LANES):
            sets.inside[A[b, lane], lane] = 0.0
            noise[lane] = max(noise[lane], X[b, b, lane])
    for lane in range(LANES):
        noise[lane] *= 1e-15 * n
    for q in range(reach.shape[0]):
        if q < m:
            swaps.out[q], swaps.second_out[q] = q, q
            swap_one(sets, q, slack, reach[q], into[q])
        else:
            b = turn % m
            d = (b + 1 + turn // m % (m - 1)) % m
            turn += 1
            swaps.out[q], swaps.second_out[q] = b, d
            swap_two(sets, b, d, slack, reach[q], into[q])
    return turn


@compiled
def _keep(kept, code, mask, a, value):  # type: ignore[no-untyped-def]
    """Insert into the list kept, in descending order."""
    masks, places, values = kept.masks[code], kept.at[code], kept.values[code]
    at = values.shape[0] - 1
    while at > 0 and values[at - 1] < value:
        values[at], masks[at], places[at] = values[at - 1], masks[at - 1], places[at - 1]
        at -= 1
    values[at], masks[at], places[at] = value, mask, a


@embedded
def _keep_best(kept, code, solved, lane, mask):  # type: ignore[no-untyped-def]
    """Keep the (S, a) of one set that are among the best."""
    A, X, norm, height = solved.A, solved.X, solved.norm, solved.height
    m = A.shape[0]
    for b in range(m):
        upper = norm[A[b, lane], lane]
        for d in range(m):  # on A the column is X - I
            upper -= abs(X[d, b, lane] - (1.0 if d == b else 0.0))
        value = np.sqrt(max(upper, 0.0) * height[A[b, lane], lane])
        if value > kept.values[code, -1] and value < np.inf:
            _keep(kept, code, mask, A[b, lane], value)


@embedded
def _follow_heights(chains, solved, lane, m):  # type: ignore[no-untyped-def]
    """Go on to the set that the best codeword of this one names, where it is better; queue those of others."""
    n = solved.height.shape[0]
    heights = np.empty(n)
    for i in range(n):
        value = np.float64(solved.height[i, lane])
        heights[i] = value if value < np.inf else 0.0
    for _ in range(min(FOLLOWED, n)):
        best = 0
        for i in range(1, n):
            if heights[i] > heights[best]:
                best = i
        value = heights[best]
        if value == 0.0:
            break
        heights[best] = 0.0
        mask = largest_set(solved.above[best, lane], solved.level[best, lane], m)
        if chains.table[slot_of(chains.table, mask)] != 0:
            continue
        if chains.after[lane] == 0 and value > chains.reached[lane] * BETTER:
            chains.after[lane] = mask
            chains.reached[lane] = value
        else:
            push(chains.queue, chains.worth, mask, value)


@embedded
def _follow_swaps(chains, A, swaps, lane, factor):  # type: ignore[no-untyped-def]
    """Go on to the set of the best swap instead, where that is better still; queue the others."""
    reach, m = swaps.reach, A.shape[0]
    for _ in range(min(FOLLOWED, reach.shape[0])):
        best = 0
        for q in range(1, reach.shape[0]):
            if reach[q, lane] > reach[best, lane]:
                best = q
        value = reach[best, lane] * factor
        reach[best, lane] = 0.0
        if not 0.0 < value < np.inf:
            break
        mask = chains.now[lane] ^ (1 << A[swaps.out[best], lane])
        into = np.int64(swaps.into[best, lane])
        if best < m:
            mask ^= 1 << into
        else:
            mask ^= 1 << A[swaps.second_out[best], lane] ^ 1 << (into // 64) ^ 1 << (into % 64)
        if chains.table[slot_of(chains.table, mask)] != 0:
            continue
        if value > chains.reached[lane] * BETTER:
            if chains.after[lane] != 0:
                push(chains.queue, chains.worth, chains.after[lane], chains.reached[lane])
            chains.after[lane] = mask
            chains.reached[lane] = value
        else:
            push(chains.queue, chains.worth, mask, value)


class Room(NamedTuple):
    """What the search of one code works in; N: (n, n), the projection on it."""

    N: Any
    chains: Any
    solved: Any
    space: Any
    sets: Any
    swaps: Any


@embedded
def _new_room(n, settings):  # type: ignore[no-untyped-def]
    m, slots = settings.m, 2
    while slots < 2 * settings.budget and not settings.everything_fits:
        slots *= 2
    tried = 0 if settings.everything_fits else m + min(PAIRS, m * (m - 1) // 2)
    swaps = Swaps(
        np.empty(tried, np.int64), np.empty(tried, np.int64), np.empty((tried, LANES)), np.empty((tried, LANES))
    )
    solved = new_solved(n, m)
    return Room(
        np.empty((n, n)), _new_chains(slots), solved, new_space(n, m, settings.network), _new_sets(solved, n), swaps
    )


@compiled
def _visit_all(room, settings, kept, code):  # type: ignore[no-untyped-def]
    """Visit every set of one code."""
    chains, solved, m = room.chains, room.solved, settings.m
    n = room.N.shape[0]
    following, done = (1 << m) - 1, 0
    while done < settings.budget:
        active = min(settings.width, settings.budget - done)
        for lane in range(active):
            chains.now[lane] = following
            following = next_set(following, n)
        _place(chains.now, active, solved.A)
        solve_sets(room.N, solved, room.space)
        for lane in range(active):
            _keep_best(kept, code, solved, lane, chains.now[lane])
        done += active


@embedded
def _visit_best(room, settings, k, kept, code):  # type: ignore[no-untyped-def]
    """Visit the most promising sets of one code, those of its queue first."""
    chains, solved, m = room.chains, room.solved, settings.m
    n = room.N.shape[0]
    factor = 1.0 if n - m == k else HEIGHT_OF_NORM
    done, turn = 0, 0
    while done < settings.budget:
        active = min(settings.width, settings.budget - done)
        _step(chains, active, n, m)
        _place(chains.now, active, solved.A)
        solve_sets(room.N, solved, room.space)
        turn = _try_swaps(solved, room.sets, room.swaps, n - m - k, turn)
        for lane in range(active):
            _keep_best(kept, code, solved, lane, chains.now[lane])
            chains.after[lane] = 0
            _follow_heights(chains, solved, lane, m)
            _follow_swaps(chains, solved.A, room.swaps, lane, factor)
        done += active


@compiled
def _search_codes(P, settings, kept):  # type: ignore[no-untyped-def]
    count, k, r = P.shape
    n, m, budget = k + r, settings.m, settings.budget
    x, V = np.empty((k * r, LANES)), np.empty((k, n, LANES))
    R, N_lanes = np.empty((k, k, LANES)), np.empty((n, n, LANES))
    room, W = _new_room(n, settings), np.empty((n, n))
    N, chains = room.N, room.chains
    searches = min(n * n, LOCAL_SEARCHES * budget, MAX_LOCAL_SEARCHES)
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
            kept.values[code] = 0.0
            if settings.everything_fits:
                _visit_all(room, settings, kept, code)
            else:
                _reset(chains, settings.seed)
                fill_queue(N, m, searches, HEIGHT_OF_NORM, W, chains.queue, chains.worth)
                _visit_best(room, settings, k, kept, code)
            kept.visited[code] = budget


def search(
    P: ArrayLike, m: int, budget: int, *, seed: int = 0, threads: int | None = None, keep: int = CANDIDATES
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """The most promising sets (S, a) of each code, solving for no more than `budget` sets S.

    Args:
        P: (k, r) or (B, k, r) with n = k + r <= 32.
        m: 1 <= m <= r.
        budget: sets visited per code, at least 1; from C(n, m) on, every set is visited.
        seed: of the random starts. The answer depends on it, on the code, on m and on budget, and on nothing else.
        threads: default all cores.
        keep: how many (S, a) to return.

    Returns:
        sets: (B, keep, n) int64, permutations of range(n): the n - m coordinates of S in ascending order, then a, then
            the m - 1 others in ascending order. Different (S, a), best first; the best repeated where there are fewer.
        found: (B, keep), what they are ranked by: the geometric mean of the height of the least-squares codeword of
            (S, a) and its upper bound |y|_1, to about 1e-6; estimates, which lose digits above 1e5.
        visited: (B,) int64, how many different sets S were solved for.

    Raises:
        CodeError: P, m, budget, seed or keep is out of range.

    Source: the codewords are those of the least-squares brackets (see `brackets`).

    Example:
        >>> from moe_mheight.brackets.budget_search import search
        >>> sets, found, visited = search([[1, 1], [1, 2]], 2, budget=100)
        >>> visited.tolist(), round(float(found[0, 0]), 6)
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
    kept = Kept(
        np.full((count, keep), (1 << m) - 1, np.int64),
        np.zeros((count, keep), np.int64),
        np.empty((count, keep)),
        np.empty(count, np.int64),
    )
    settings = Settings(m, budget, everything_fits, width, np.uint64(seed % 2**64), selection(n, m))

    def work(i: int, j: int) -> None:
        piece = Kept(kept.masks[i:j], kept.at[i:j], kept.values[i:j], kept.visited[i:j])
        _search_codes(batch[i:j], settings, piece)

    workers = min(thread_count(threads), count)
    length = max(1, min(LANES, -(-count // (4 * max(workers, 1)))))
    pieces = [(i, min(i + length, count)) for i in range(0, count, length)]
    if workers <= 1:
        work(0, count)
    else:
        side_by_side(work, pieces, workers)
    missing = kept.values == 0
    masks, at, values = (np.where(missing, part[:, :1], part) for part in kept[:3])
    return as_permutations(masks, at, n, m), values, kept.visited
