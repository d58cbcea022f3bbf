"""The height of a long code without a proof: local searches for the set (S, a) that decides it, each solved exactly.

A set of n - m coordinates S and an a outside it have the height min |y|_1 with G_S y = g_a; the code's is the largest.
One round is a start and what follows from it:

* A set of large least-squares norm, by swaps of one coordinate and of two (`numerics.swaps`, `pair_swaps`). The first n
  rounds begin with one coordinate each. Later ones begin with a part of one of the best sets so far, or with a random
  coordinate; and the norm is that of columns with random weights, so that they end elsewhere.
* The linear programs of the set, for each a that its basis does not bound by less than is known (`simplex_tableau`).
  Their codewords name other sets, the m largest coordinates of each, which are solved next.
* Around a good set, the swaps that the ranking (`swap_scores`) puts first, as long as one is better.

What is left at the end is a codeword, whose height in twice the precision is a certified lower bound; and a record of
the search, from which experts tell how likely it is that nothing larger exists.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..numerics.bitsets import count_bits, lowest_bit
from ..numerics.jit import compiled, inlined_exactly
from ..numerics.pair_swaps import best_pair
from ..numerics.swaps import extend, improve, take_out
from .light_words import all_whole, scan_bases
from .search_room import (
    ELITE,
    HITS,
    INFINITE,
    LAST,
    NEAR,
    PROGRAMS,
    RETURNS,
    ROUNDS,
    SEEN,
    SOLVED,
    SURPRISES,
    Record,
    begin_code,
    best_of,
    keep,
    new_room,
    random_bits,
    spread_out,
    weigh,
)
from .set_solver import solve_set
from .swap_scores import score_swaps

RENEWED = 32
"""Sets solved from one table, which drifts."""

FAR = 0.7
"""Sets of less than this times the best height are not told apart."""


class Plan(NamedTuple):
    """How a round is made.

    spread: standard deviation of the logarithms of the random weights. shared: rounds that share them. removed: most
    coordinates that a start loses of a good set. fresh: share of later rounds that begin with a coordinate, in 1 / 256.
    reach: bits below the best height up to which a set's swaps are ranked. margin: bits below the set's own height up
    to which a swap is solved; tried: most of them.
    """

    spread: float
    shared: int
    removed: int
    fresh: int
    reach: float
    margin: float
    tried: int


@inlined_exactly
def _is_new(seen, mask):  # type: ignore[no-untyped-def]
    """Whether a set was not solved lately; it is from now on."""
    slot = ((mask ^ mask >> 29) * 0x9E3779B1 >> 8) & (SEEN - 1)
    if seen[slot] == mask:
        return False
    seen[slot] = mask
    return True


@compiled
def solve(room, record, mask, m, known):  # type: ignore[no-untyped-def]
    """Solve a set, then those that its codewords name: (height, mask, target, new) of the best.

    The height is 0 where none is above `known`, and that of the set where it was solved before and is one of the best.
    """
    counts, height, target = record.counts, 0.0, 0
    for e in range(ELITE):
        if record.masks[e] == mask and record.heights[e] > 0.0:
            return record.heights[e], mask, record.targets[e], False
    for _ in range(10):
        if not _is_new(room.seen, mask):
            break
        counts[SOLVED] += 1
        if counts[SOLVED] % RENEWED == 0:
            spread_out(room.table)
        reached, named, top, programs = solve_set(room.table, mask, m, max(known, height), room.word)
        counts[PROGRAMS] += programs
        if reached <= height:
            break
        height, target = reached, top
        same, mask = named == mask, named
        if same or height > INFINITE:
            break
    if height > 0.0:
        keep(record, mask, target, height)
    return height, mask, target, True


@compiled
def start(record, plan, n, m):  # type: ignore[no-untyped-def]
    """Coordinates to begin a round with, one of them a: (mask, a, whether they come from none of the best sets)."""
    round_, state = np.int64(record.counts[ROUNDS]), record.state
    if round_ < n:
        return np.int64(1) << round_, round_, True
    filled = 0
    for e in range(ELITE):
        filled += record.heights[e] > 0.0
    if filled == 0 or random_bits(state) % 256 < plan.fresh:
        a = random_bits(state) % n
        return np.int64(1) << a | np.int64(1) << (random_bits(state) % n), a, True
    one, two = random_bits(state) % ELITE, random_bits(state) % ELITE
    e = one if record.heights[one] > record.heights[two] else two
    if record.heights[e] == 0.0:
        e = best_of(record)
    mask, a = record.masks[e], record.targets[e]
    for _ in range(1 + random_bits(state) % plan.removed):
        left = mask
        for _ in range(random_bits(state) % m):
            left &= left - 1
        if left:
            b = lowest_bit(left)
            if b != a:
                mask &= ~(np.int64(1) << b)
    if random_bits(state) & 1 and count_bits(mask) < m:
        mask |= np.int64(1) << (random_bits(state) % n)
    return mask, a, False


@compiled
def climb(room, N, mask, a, m):  # type: ignore[no-untyped-def]
    """A set of large norm from these coordinates on, by swaps of one and of two: (mask, a)."""
    W, space = room.W, room.space
    mask, a, independent = extend(N, m, mask, a, W, space[0])
    for _ in range(20):
        if not independent:
            break
        mask, a = improve(mask, a, W, space)
        swapped = best_pair(mask, a, W, space)
        if swapped == mask:
            break
        mask = swapped
        independent = take_out(N, mask, W, space[0])
    return mask, a


@compiled
def _search_around(room, record, ranking, plan, k, m, height, mask, a):  # type: ignore[no-untyped-def]
    """Solve the most promising swaps of a set, and go on from the first that is better: the height it ends at."""
    scores, counts = room.scores, record.counts
    n, nothing = scores.shape[0], room.space[:0, :]
    for _ in range(20):
        if not take_out(room.N, mask, room.W, room.space[0]):
            break
        score_swaps(room.W, mask, a, k, np.log2(height), ranking, nothing, scores, room.space)
        better = False
        for _ in range(plan.tried):
            out, into, most = -1, -1, -np.inf
            for b in range(n):
                if mask >> b & 1:
                    for j in range(n):
                        if scores[b, j] > most:
                            out, into, most = b, j, scores[b, j]
            if out < 0 or most < np.log2(height) - plan.margin:
                break
            scores[out, into] = -np.inf
            counts[NEAR] += 1
            swapped = mask ^ np.int64(1) << out ^ np.int64(1) << into
            reached, named, target, _new = solve(room, record, swapped, m, FAR * height)
            if reached > height * (1.0 + 1e-9):
                height, mask, a, better = reached, named, target, True
                counts[SURPRISES] += 1
                break
        if not better or height > INFINITE:
            break
    return height


@compiled
def _round(room, record, ranking, plan, k, m, first):  # type: ignore[no-untyped-def]
    """One round; first: of this call, whose room holds no weights for this code yet."""
    counts, n = record.counts, room.N.shape[0]
    round_ = np.int64(counts[ROUNDS])
    N = room.N
    if round_ >= n and plan.spread > 0.0:
        if first or round_ % plan.shared == 0 or round_ == n:
            weigh(room, plan.spread, record.state)
        N = room.with_weights
    before = record.heights[best_of(record)]
    mask, a, fresh = start(record, plan, n, m)
    mask, a = climb(room, N, mask, a, m)
    height, mask, a, new = solve(room, record, mask, m, FAR * before)
    if new and 0.0 < height < INFINITE and np.log2(height) > np.log2(max(before, 1.0)) - plan.reach:
        height = _search_around(room, record, ranking, plan, k, m, height, mask, a)
    counts[ROUNDS] += 1
    if height > before * (1.0 + 1e-7):
        counts[HITS], counts[RETURNS], counts[LAST] = 0, 0, counts[ROUNDS]
    if height > before * (1.0 - 1e-7):
        counts[HITS if fresh else RETURNS] += 1


@compiled
def search_codes(P, m, rounds, ranking, plan, records):  # type: ignore[no-untyped-def]
    """Go on with the searches of codes (B, k, r) for so many rounds each, or to a height that may be infinite.

    records: a Record whose arrays have one more dimension, (B,), first.
    """
    count, k, r = P.shape
    room = new_room(k, k + r)
    for code in range(count):
        record = Record(
            records.masks[code], records.targets[code], records.heights[code], records.counts[code], records.state[code]
        )
        begin_code(room, P[code])
        if record.counts[ROUNDS] == 0 and all_whole(P[code]):
            scan_bases(room, record, m, r - m)
            spread_out(room.table)
        for done in range(rounds):
            if record.heights[best_of(record)] > INFINITE:
                break
            _round(room, record, ranking, plan, k, m, done == 0)


@compiled
def visit_all(P, m, records):  # type: ignore[no-untyped-def]
    """Solve every set of each code."""
    count, k, r = P.shape
    n = k + r
    room = new_room(k, n)
    for code in range(count):
        record = Record(
            records.masks[code], records.targets[code], records.heights[code], records.counts[code], records.state[code]
        )
        begin_code(room, P[code])
        place = np.arange(m)
        while True:
            mask = np.int64(0)
            for t in range(m):
                mask |= np.int64(1) << place[t]
            height, _named, _target, _new = solve(room, record, mask, m, record.heights[best_of(record)])
            t = m - 1
            while t >= 0 and place[t] == n - m + t:
                t -= 1
            if t < 0 or height > INFINITE:
                break
            place[t] += 1
            for q in range(t + 1, m):
                place[q] = place[q - 1] + 1
