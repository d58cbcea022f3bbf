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

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..numerics.bitsets import count_bits, lowest_bit
from ..numerics.certified import certified_height, height_of
from ..numerics.jit import compiled, embedded, inlined_exactly
from ..numerics.pair_swaps import best_pair
from ..numerics.simplex_tableau import (
    MOVED,
    Tableau,
    descend,
    first_table,
    largest_in_row,
    norm,
    pivot,
    push_out_anywhere,
    widen,
)
from ..numerics.swaps import extend, improve, take_out
from .swap_scores import score_swaps

ELITE = 8
"""Sets kept, those of the largest heights."""

COUNTS = 8
(ROUNDS, HITS, RETURNS, LAST, SOLVED, PROGRAMS, SURPRISES, NEAR) = range(COUNTS)
"""Counted in a search: rounds; those that ended at the best height, begun anew (HITS) or from a good set (RETURNS); the
round that found it; sets solved; linear programs; swaps that turned out better, and swaps tried."""

SEEN = 4096
"""Places for sets that need not be solved again."""

RENEWED = 32
"""Sets solved from one table, which drifts."""

FAR = 0.7
"""Sets of less than this times the best height are not told apart."""

FEW_LEFT, SCANNED = 3, 4096
"""Slack up to which pairs of exchanges are scanned for light codewords of integers, and how many."""

LIGHT = 1e9
"""What a codeword's height must exceed to be light: to vanish on all but m coordinates."""

INFINITE = 1e11
"""A height from here on may be infinite, and ends the search."""

VANISHED = 1e-12
"""An entry of a table so small is rounding, of integers at least; exact arithmetic decides."""


_in_any_order = partial(compiled, fastmath={"reassoc", "nsz", "contract"})


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


class Record(NamedTuple):
    """What a search of one code has found, to go on from and to judge it by.

    masks, targets, heights: (ELITE,), the best sets, as masks of the coordinates outside S; 0 where there are fewer.
    counts: (COUNTS,). state: (1,) uint64, of the random numbers.
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
    space: Any  # (n + 3, n)
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
        np.empty((n + 3, n)),
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
def minimise(D, basis, row_of, mask, a, enough, space):  # type: ignore[no-untyped-def]
    """Lower |y|_1 of column a until it is `enough` (True), or the linear program of (S, a) is solved (False).

    The table's last column, which is a moved a little, says where to go: none of its coefficients vanishes, so that no
    pivots go round in circles, and its signs are those of the codeword. It is moved anew at the end, by what is a
    little there.
    """
    k, last = D.shape[0], D.shape[1] - 1
    for _ in range(2):
        shift = MOVED * norm(D, a)
        for i in range(k):
            D[i, last] = D[i, a] + shift * np.sin(1.0 + 1.7 * i + 0.37 * a)
        if descend(D, basis, row_of, mask, a, last, enough, space):
            return True
    return False


@_in_any_order
def _row_above(D, n, m, known):  # type: ignore[no-untyped-def]
    """A row whose codeword has a height above `known`, at least 1, or -1."""
    for i in range(D.shape[0]):
        row, most, count = D[i], 0.0, 0
        for j in range(n):
            most = max(most, abs(row[j]))
        for j in range(n):
            count += 1 if abs(row[j]) * known >= most else 0
        if count <= m:
            return i
    return -1


@compiled
def best_row(D, m, known, word):  # type: ignore[no-untyped-def]
    """The codeword of a row, in word[0], where one's height is above `known`: (height, its mask, its largest)."""
    height, mask, top = 0.0, np.int64(0), 0
    n = word.shape[1]
    for _ in range(4):
        i = _row_above(D, n, m, max(known, height, 1.0) * (1.0 + 1e-9))
        if i < 0:
            break
        for j in range(n):
            word[0, j] = D[i, j] if abs(D[i, j]) > VANISHED else 0.0
        height, mask, top = _height_of_word(word[0], m, word[2])
        if height > INFINITE:
            break
    return height, mask, top


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
    height, its_mask, top = best_row(D, m, max(known, best), word)
    if height > best:
        best, best_mask, best_top = height, its_mask, top
    tau = max(known, best) * (1.0 + 1e-9)
    left = mask
    while left and best < INFINITE:
        a = lowest_bit(left)
        left &= left - 1
        if norm(D, a) <= tau:
            continue
        programs += 1
        if minimise(D, basis, row_of, mask, a, tau, space):
            continue
        _word_of(D, D.shape[1] - 1, word[1])
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
            _spread_out(room.table)
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
    return height, mask, target, True


@compiled
def _start(record, plan, n, m):  # type: ignore[no-untyped-def]
    """Coordinates to begin a round with, one of them a: (mask, a, whether they come from none of the best sets)."""
    round_, state = np.int64(record.counts[ROUNDS]), record.state
    if round_ < n:
        return np.int64(1) << round_, round_, True
    filled = 0
    for e in range(ELITE):
        filled += record.heights[e] > 0.0
    if filled == 0 or _random(state) % 256 < plan.fresh:
        a = _random(state) % n
        return np.int64(1) << a | np.int64(1) << (_random(state) % n), a, True
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
    return mask, a, False


@compiled
def _climb(room, N, mask, a, m):  # type: ignore[no-untyped-def]
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
            reached, named, target, _new = _solve(room, record, swapped, m, FAR * height)
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
            _weigh(room, plan.spread, record.state)
        N = room.with_weights
    before = record.heights[_best(record)]
    mask, a, fresh = _start(record, plan, n, m)
    mask, a = _climb(room, N, mask, a, m)
    height, mask, a, new = _solve(room, record, mask, m, FAR * before)
    if new and 0.0 < height < INFINITE and np.log2(height) > np.log2(max(before, 1.0)) - plan.reach:
        height = _search_around(room, record, ranking, plan, k, m, height, mask, a)
    counts[ROUNDS] += 1
    if height > before * (1.0 + 1e-7):
        counts[HITS], counts[RETURNS], counts[LAST] = 0, 0, counts[ROUNDS]
    if height > before * (1.0 - 1e-7):
        counts[HITS if fresh else RETURNS] += 1


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


@inlined_exactly
def all_whole(P):  # type: ignore[no-untyped-def]
    """Whether all entries are integers."""
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            if P[i, j] != np.floor(P[i, j]):
                return False
    return True


@compiled
def _scan_bases(room, record, m, slack):  # type: ignore[no-untyped-def]
    """Look for light codewords in the tables of bases one exchange away from the first k coordinates, or two at small
    slack: small minors of integers vanish the most often."""
    table, word = room.table, room.word
    G, D, basis, row_of = table.G, table.D, table.basis, table.row_of
    k, n = G.shape
    tried = 0
    for i in range(k):
        for j in range(k, n):
            if abs(G[i, j]) < VANISHED:
                continue
            first_table(G, 0, D, basis, row_of)
            pivot(D, basis, row_of, i, j)
            for p in range(i if slack <= FEW_LEFT else k, k + 1):
                for q in range(j + 1 if p < k else n - 1, n):
                    if p < k:
                        tried += 1
                        if p == i or tried > SCANNED or abs(D[p, q]) < VANISHED or row_of[q] >= 0:
                            continue
                        pivot(D, basis, row_of, p, q)
                    height, mask, top = best_row(D, m, LIGHT, word)
                    if height > INFINITE:
                        _keep(record, mask, top, height)
                        return
                    if p < k:  # and back
                        pivot(D, basis, row_of, p, p)


@compiled
def search_codes(P, m, rounds, ranking, plan, records):  # type: ignore[no-untyped-def]
    """Go on with the searches of codes (B, k, r) for so many rounds each, or to a height that may be infinite.

    records: a Record whose arrays have one more dimension, (B,), first.
    """
    count, k, r = P.shape
    room = _new_room(k, k + r)
    for code in range(count):
        record = Record(
            records.masks[code], records.targets[code], records.heights[code], records.counts[code], records.state[code]
        )
        _begin(room, P[code])
        if record.counts[ROUNDS] == 0 and all_whole(P[code]):
            _scan_bases(room, record, m, r - m)
            _spread_out(room.table)
        for done in range(rounds):
            if record.heights[_best(record)] > INFINITE:
                break
            _round(room, record, ranking, plan, k, m, done == 0)


@compiled
def visit_all(P, m, records):  # type: ignore[no-untyped-def]
    """Solve every set of each code."""
    count, k, r = P.shape
    n = k + r
    room = _new_room(k, n)
    for code in range(count):
        record = Record(
            records.masks[code], records.targets[code], records.heights[code], records.counts[code], records.state[code]
        )
        _begin(room, P[code])
        place = np.arange(m)
        while True:
            mask = np.int64(0)
            for t in range(m):
                mask |= np.int64(1) << place[t]
            height, _named, _target, _new = _solve(room, record, mask, m, record.heights[_best(record)])
            t = m - 1
            while t >= 0 and place[t] == n - m + t:
                t -= 1
            if t < 0 or height > INFINITE:
                break
            place[t] += 1
            for q in range(t + 1, m):
                place[q] = place[q - 1] + 1


@compiled
def certify_codes(P, m, records, lower, words):  # type: ignore[no-untyped-def]
    """Certified heights of the best sets' codewords, rounded down, and these: lower (B,), words (B, n)."""
    count, k, r = P.shape
    n = k + r
    room = _new_room(k, n)
    table, x, rest, word = room.table, np.empty(k), np.empty(k), np.empty(n)
    for code in range(count):
        _begin(room, P[code])
        lower[code], words[code, :] = 1.0, table.G[0]
        best = 0
        for e in range(ELITE):
            if records.heights[code, e] > records.heights[code, best]:
                best = e
        if records.heights[code, best] == 0.0:
            continue
        _certify(table, records.masks[code, best], records.targets[code, best], m, x, rest, word)
        height = height_of(table.G, x, rest, m, word)
        if height > lower[code]:
            lower[code] = height
            words[code, :] = word


@compiled
def _certify(table, mask, a, m, x, rest, word):  # type: ignore[no-untyped-def]
    """The information part, high and low, of the best codeword of (S, a), or of one that vanishes on S."""
    D, basis, row_of, space = table.D, table.basis, table.row_of, table.space
    k = D.shape[0]
    for i in range(k):
        if not mask >> basis[i] & 1:
            continue
        largest = largest_in_row(D, row_of, i, mask)
        if largest < 1e-10 or not push_out_anywhere(D, basis, row_of, i, mask):
            for p in range(k):
                x[p], rest[p] = D[i, p], 0.0
            return
    minimise(D, basis, row_of, mask, a, 0.0, space)
    certified_height(table.G, D, basis, D.shape[1] - 1, m, x, rest, word)
