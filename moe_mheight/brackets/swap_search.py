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

from typing import Any, NamedTuple

import numpy as np

from ..numerics.bitsets import count_bits, lowest_bit
from ..numerics.jit import compiled, embedded, inlined_exactly
from ..numerics.pair_swaps import best_pair
from ..numerics.simplex_tableau import (
    MOVED,
    Tableau,
    descend,
    first_table,
    largest_in_row,
    norm,
    push_out_anywhere,
    widen,
)
from ..numerics.swaps import extend, improve, take_out
from .swap_scores import score_swaps

ELITE = 8
"""Sets kept, those of the largest heights."""

COUNTS = 8
(ROUNDS, HITS, LAST, SOLVED, PROGRAMS, DISTINCT, SURPRISES, NEAR) = range(COUNTS)
"""Counted in a search: rounds; rounds that ended at the best height; the round that found it; sets solved; linear
programs; different sets; heights found above what was expected of a swap, and swaps expected near the best."""

SEEN = 4096
"""Places for sets that need not be solved again."""

RENEWED = 32
"""Sets solved from one table, which drifts."""

FAR = 0.7
"""Sets of less than this times the best height are not told apart."""

INFINITE = 1e11
"""A height from here on may be infinite, and ends the search."""

DEGENERATE = 1e-9
"""A coefficient relatively this small has no sign."""


class Plan(NamedTuple):
    """How a round is made.

    spread: standard deviation of the logarithms of the random weights. shared: rounds that share them. removed: most
    coordinates that a start loses of a good set. fresh: share of later rounds that begin with a coordinate, in 1 / 256.
    around: log2 below the best height from which a set's swaps are ranked. tried: swaps solved of one set, the best.
    """

    spread: float
    shared: int
    removed: int
    fresh: int
    around: float
    tried: int


class Record(NamedTuple):
    """What a search of one code has found, to go on from and to judge it by.

    masks, targets, heights: (ELITE,), the best sets, as masks of the coordinates outside S; 0 where there are fewer.
    counts: (COUNTS,) float64. state: (1,) uint64, of the random numbers.
    """

    masks: Any
    targets: Any
    heights: Any
    counts: Any
    state: Any


class Room(NamedTuple):
    """What one search works in."""

    table: Any
    Q: Any  # (k, n), orthonormal rows of the code
    weighted: Any  # (k, n)
    N: Any  # (n, n), the projection on it; with_weights: that of the columns with weights
    with_weights: Any
    W: Any
    space: Any  # (2 n + 8, n)
    scores: Any  # (n, n)
    word: Any  # (3, n)
    seen: Any


@embedded
def _new_room(k, n):  # type: ignore[no-untyped-def]
    table = Tableau(
        np.empty((k, n)), np.empty((k, n + 1)), np.empty(k, np.int64), np.empty(n, np.int64), np.empty((7, n + 1))
    )
    return Room(
        table,
        np.empty((k, n)),
        np.empty((k, n)),
        np.empty((n, n)),
        np.empty((n, n)),
        np.empty((n, n)),
        np.empty((2 * n + 8, n)),
        np.empty((n, n)),
        np.empty((3, n)),
        np.empty(SEEN, np.int64),
    )


@inlined_exactly
def _random(state):  # type: ignore[no-untyped-def]
    """31 bits of splitmix64."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((z ^ (z >> np.uint64(31))) >> np.uint64(33))


@compiled
def _orthonormalise(Q):  # type: ignore[no-untyped-def]
    """Make the rows orthonormal, each freed of those before it twice."""
    k, n = Q.shape
    for i in range(k):
        row = Q[i]
        for _ in range(2):
            for p in range(i):
                other, inner = Q[p], 0.0
                for j in range(n):
                    inner += row[j] * other[j]
                for j in range(n):
                    row[j] -= inner * other[j]
            size = 0.0
            for j in range(n):
                size += row[j] * row[j]
            size = 1.0 / np.sqrt(size)
            for j in range(n):
                row[j] *= size


@compiled
def _project(Q, N):  # type: ignore[no-untyped-def]
    """N = Q^T Q."""
    k, n = Q.shape
    for i in range(n):
        out = N[i]
        for j in range(n):
            out[j] = 0.0
        for p in range(k):
            factor, row = Q[p, i], Q[p]
            for j in range(n):
                out[j] += factor * row[j]


@compiled
def _weigh(room, spread, state):  # type: ignore[no-untyped-def]
    """Random weights for the columns: exp(spread z), z about normal."""
    Q, weighted = room.Q, room.weighted
    k, n = Q.shape
    for j in range(n):
        z = -6.0
        for _ in range(12):
            z += _random(state) / 2147483648.0
        weight = np.exp(spread * z)
        for i in range(k):
            weighted[i, j] = Q[i, j] * weight
    _orthonormalise(weighted)
    _project(weighted, room.with_weights)


@compiled
def _spread_out(table):  # type: ignore[no-untyped-def]
    """A table of a basis without large entries, by pivots from that of the first k coordinates."""
    first_table(table.G, 0, table.D, table.basis, table.row_of)
    widen(table.D, table.basis, table.row_of, np.int64(0))


@compiled
def _height_of_word(word, m, sizes):  # type: ignore[no-untyped-def]
    """(height, mask of the m largest, the largest) of a codeword. Shapes: word, sizes (n,)."""
    n, mask, top = word.shape[0], np.int64(0), 0
    for j in range(n):
        sizes[j] = abs(word[j])
    for b in range(m):
        place = 0
        for j in range(1, n):
            if sizes[j] > sizes[place]:
                place = j
        if b == 0:
            top = place
        mask |= np.int64(1) << place
        sizes[place] = -1.0
    below = 0.0
    for j in range(n):
        below = max(below, sizes[j])
    return (abs(word[top]) / below if below > 0.0 else np.inf), mask, top


@compiled
def _word_of(D, column, word):  # type: ignore[no-untyped-def]
    """The codeword that is as large on the basis as the signs of a column say."""
    for j in range(word.shape[0]):
        word[j] = 0.0
    for i in range(D.shape[0]):
        row, sign = D[i], 1.0 if D[i, column] > 0.0 else -1.0
        for j in range(word.shape[0]):
            word[j] += sign * row[j]


@compiled
def _move_target(D, a):  # type: ignore[no-untyped-def]
    """Column a, moved a little, as the table's last column; whether that was needed for signs."""
    k, last = D.shape[0], D.shape[1] - 1
    smallest, total = np.inf, 0.0
    for i in range(k):
        smallest = min(smallest, abs(D[i, a]))
        total += abs(D[i, a])
    if smallest > DEGENERATE * total:
        return False
    for i in range(k):
        D[i, last] = D[i, a] + MOVED * total * np.sin(1.0 + 1.7 * i + 0.37 * a)
    return True


@compiled
def solve_set(table, mask, m, known, word):  # type: ignore[no-untyped-def]
    """The best codeword of a set's linear programs above `known`: (height, its mask, its largest, programs).

    0 where none is above. Shape: word (3, n); the codeword comes in the first row.
    """
    D, basis, row_of, space = table.D, table.basis, table.row_of, table.space
    best, best_mask, best_top, programs = 0.0, mask, 0, 0
    for i in range(D.shape[0]):
        if not mask >> basis[i] & 1:
            continue
        largest = largest_in_row(D, row_of, i, mask)
        if largest * max(known, 1.0) < 0.5 or largest == 0.0:  # a codeword that nearly vanishes on S
            for j in range(word.shape[1]):
                word[1, j] = D[i, j]
            height, its_mask, top = _height_of_word(word[1], m, word[2])
            if height > best:
                best, best_mask, best_top = height, its_mask, top
                word[0, :] = word[1, :]
        if largest < 1e-10 or not push_out_anywhere(D, basis, row_of, i, mask):
            return best, best_mask, best_top, programs
    tau = max(known, best) * (1.0 + 1e-9)
    left = mask
    while left:
        a = lowest_bit(left)
        left &= left - 1
        if norm(D, a) <= tau:
            continue
        programs += 1
        if descend(D, basis, row_of, mask, a, a, tau, space):
            continue
        column = a
        if _move_target(D, a):
            column = D.shape[1] - 1
            descend(D, basis, row_of, mask, a, column, 0.0, space)
        _word_of(D, column, word[1])
        height, its_mask, top = _height_of_word(word[1], m, word[2])
        if height > best:
            best, best_mask, best_top = height, its_mask, top
            word[0, :] = word[1, :]
            tau = max(tau, height * (1.0 + 1e-9))
    return best, best_mask, best_top, programs


@inlined_exactly
def _is_new(seen, mask):  # type: ignore[no-untyped-def]
    """Whether a set was not solved lately; it is from now on."""
    slot = ((mask ^ mask >> 29) * 0x9E3779B1 >> 8) & (SEEN - 1)
    if seen[slot] == mask:
        return False
    seen[slot] = mask
    return True


@compiled
def _keep(record, mask, target, height):  # type: ignore[no-untyped-def]
    """Put a set among the best, if it is one of them and new."""
    masks, heights = record.masks, record.heights
    lowest = 0
    for e in range(ELITE):
        if masks[e] == mask and heights[e] > 0.0:
            return
        if heights[e] < heights[lowest]:
            lowest = e
    if height > heights[lowest]:
        masks[lowest], record.targets[lowest], heights[lowest] = mask, target, height


@compiled
def _best(record):  # type: ignore[no-untyped-def]
    best = 0
    for e in range(ELITE):
        if record.heights[e] > record.heights[best]:
            best = e
    return best


@compiled
def _solve(room, record, mask, m, known):  # type: ignore[no-untyped-def]
    """Solve a set, then those that its codewords name: (height, mask, target) of the best; 0 where none is above known."""
    counts, height, target = record.counts, 0.0, 0
    for _ in range(10):
        if not _is_new(room.seen, mask):
            break
        counts[DISTINCT] += 1
        if counts[DISTINCT] % RENEWED == 0:
            _spread_out(room.table)
        counts[SOLVED] += 1
        reached, named, top, programs = solve_set(room.table, mask, m, max(known, height), room.word)
        counts[PROGRAMS] += programs
        if reached <= height:
            break
        height, target = reached, top
        same, mask = named == mask, named
        if same or height > INFINITE:
            break
    if height > 0.0:
        _keep(record, mask, target, height)
    return height, mask, target


@compiled
def _start(record, plan, n, m):  # type: ignore[no-untyped-def]
    """Coordinates to begin a round with, one of them a: (mask, a)."""
    round_, state = np.int64(record.counts[ROUNDS]), record.state
    if round_ < n:
        return np.int64(1) << round_, round_
    filled = 0
    for e in range(ELITE):
        filled += record.heights[e] > 0.0
    if filled == 0 or _random(state) % 256 < plan.fresh:
        a = _random(state) % n
        return np.int64(1) << a | np.int64(1) << (_random(state) % n), a
    one, two = _random(state) % ELITE, _random(state) % ELITE
    e = one if record.heights[one] > record.heights[two] else two
    if record.heights[e] == 0.0:
        e = _best(record)
    mask, a = record.masks[e], record.targets[e]
    for _ in range(1 + _random(state) % plan.removed):
        left = mask
        for _ in range(_random(state) % m):
            left &= left - 1
        if left:
            b = lowest_bit(left)
            if b != a:
                mask &= ~(np.int64(1) << b)
    if _random(state) & 1 and count_bits(mask) < m:
        mask |= np.int64(1) << (_random(state) % n)
    return mask, a


@compiled
def _climb(room, N, mask, a, m):  # type: ignore[no-untyped-def]
    """A set of large norm from these coordinates on, by swaps of one and of two: (mask, a)."""
    W, space = room.W, room.space
    mask, a, independent = extend(N, m, mask, a, W, space[0])
    for _ in range(20):
        if not independent:
            break
        mask, a = improve(mask, a, W, space)
        swapped, _norm = best_pair(mask, a, W, space)
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
        score_swaps(room.W, mask, a, k, ranking, nothing, scores, room.space)
        better = False
        for _ in range(plan.tried):
            out, into, most = -1, -1, -np.inf
            for b in range(n):
                if mask >> b & 1:
                    for j in range(n):
                        if scores[b, j] > most:
                            out, into, most = b, j, scores[b, j]
            if out < 0 or most < np.log2(height) - plan.around:
                break
            scores[out, into] = -np.inf
            counts[NEAR] += 1
            swapped = mask ^ np.int64(1) << out ^ np.int64(1) << into
            reached, named, target = _solve(room, record, swapped, m, FAR * height)
            if reached > height * (1.0 + 1e-9):
                height, mask, a, better = reached, named, target, True
                counts[SURPRISES] += 1
                break
        if not better or height > INFINITE:
            break
    return height


@compiled
def _round(room, record, ranking, plan, k, m):  # type: ignore[no-untyped-def]
    counts, n = record.counts, room.N.shape[0]
    round_ = np.int64(counts[ROUNDS])
    N = room.N
    if round_ >= n and plan.spread > 0.0:
        if round_ % plan.shared == 0 or round_ == n:
            _weigh(room, plan.spread, record.state)
        N = room.with_weights
    before = record.heights[_best(record)]
    mask, a = _start(record, plan, n, m)
    mask, a = _climb(room, N, mask, a, m)
    height, mask, a = _solve(room, record, mask, m, FAR * before)
    if height > 0.0 and height < INFINITE and np.log2(height) > np.log2(max(before, 1.0)) - plan.around:
        height = _search_around(room, record, ranking, plan, k, m, height, mask, a)
    counts[ROUNDS] += 1
    if height > before * (1.0 + 1e-7):
        counts[HITS], counts[LAST] = 1, counts[ROUNDS]
    elif height > before * (1.0 - 1e-7):
        counts[HITS] += 1


@compiled
def _begin(room, P):  # type: ignore[no-untyped-def]
    k, r = P.shape
    G, Q = room.table.G, room.Q
    for i in range(k):
        for j in range(k):
            G[i, j] = 1.0 if i == j else 0.0
        for j in range(r):
            G[i, k + j] = P[i, j]
        for j in range(k + r):
            Q[i, j] = G[i, j]
    _orthonormalise(Q)
    _project(Q, room.N)
    _spread_out(room.table)
    for s in range(SEEN):
        room.seen[s] = 0


@compiled
def search_code(P, m, rounds, ranking, plan, record):  # type: ignore[no-untyped-def]
    """Go on with the search of one code for so many rounds, or to a height that may be infinite."""
    k, r = P.shape
    room = _new_room(k, k + r)
    _begin(room, P)
    for _ in range(rounds):
        _round(room, record, ranking, plan, k, m)
        if record.heights[_best(record)] > INFINITE:
            break


def new_record(seed: int) -> Record:
    """Of a search that has not begun."""
    return Record(
        np.zeros(ELITE, np.int64),
        np.zeros(ELITE, np.int64),
        np.zeros(ELITE),
        np.zeros(COUNTS),
        np.full(1, seed, np.uint64),
    )
