"""The pruned search: no set of coordinates may hit every good basis.

Fix the coordinate a that is to be the largest of the codeword. Its height is |y|_1 at the best basis in S, so a basis
B with |y|_1 <= tau bounds every S that contains it: to reach more than tau, the m - 1 coordinates T left out beside a
must hit B. They must hit every such basis at once. That is a small hitting-set problem over bit masks, and linear
programs are only asked for new bases: where a T hits all that are known, the program without T either ends below tau,
which gives a basis that T does not hit, or its codeword is the new best.

A node is (R, K): the coordinates left out so far, and those that stay. It branches on the basis with the fewest
coordinates outside K, one of which must be left out; after each child that coordinate joins K. A basis inside K ends
the node; so do more than t bases that are disjoint outside K, where t more coordinates may be left out. With one left
it is in the intersection of all bases. For random codes that makes a small multiple of C(k + m - 2, m - 1) nodes,
whatever n is.
"""

from __future__ import annotations

import numpy as np

from ..codes.minors import LARGEST_RATIO
from ..numerics.bitsets import count_bits, lowest_bit
from ..numerics.jit import compiled
from .simplex_tableau import (
    certified_height,
    certified_norm,
    descend,
    first_table,
    height_of,
    least_in_row,
    push_out,
    renew,
)

MARGIN = 1e-11
"""What exceeds the best codeword by no more than this, relatively, is not looked into."""

REMEMBERED = 4096
"""Bases a node remembers; older ones that no T has hit lately are found again when needed."""

FRESH = 64
"""Linear programs after which a table is made again from G, before it drifts."""

LARGEST_OF_INTEGERS = 1e19
"""Heights up to here leave MARGIN to the 32 digits that bounds and codewords are computed with."""

DONE, STOPPED, DOUBTFUL = 0, 1, 2
"""How a search ended: through; by the stop flag; at an (S, a) that needs exact arithmetic: S looks short of rank, or
rounding keeps its bound above tau."""


@compiled
def spread(block, mask):  # type: ignore[no-untyped-def]
    """The blocks that a mask touches."""
    out, left = np.int64(0), mask
    while left:
        out |= block[lowest_bit(left)]
        left &= ~out
    return out


@compiled
def remember(live, count, tail, level, mask, bad, spread):  # type: ignore[no-untyped-def]
    """Give every level down to this one the basis, its bad targets and its blocks, the oldest one making room."""
    room = live.shape[1]
    for p in range(level + 1):
        live[p, tail[p], 0], live[p, tail[p], 1], live[p, tail[p], 2] = mask, bad, spread
        tail[p] = (tail[p] + 1) % room
        count[p] = min(room, count[p] + 1)


@compiled
def inherit(live, count, tail, level, gone):  # type: ignore[no-untyped-def]
    """A new level remembers what the one above does, but for bases that hold a coordinate that is gone."""
    room, found = live.shape[1], 0
    for q in range(count[level - 1]):
        if live[level - 1, q, 0] & gone == 0:
            live[level, found] = live[level - 1, q]
            found += 1
    count[level], tail[level] = found, found % room


@compiled
def largest_height(G):  # type: ignore[no-untyped-def]
    """Above this a real code's height counts as infinite, and that of integers is beyond what float64 pairs tell."""
    for i in range(G.shape[0]):
        for j in range(G.shape[1]):
            if G[i, j] != np.floor(G[i, j]):
                return LARGEST_RATIO
    return LARGEST_OF_INTEGERS


@compiled
def best_without(G, D, basis, row_of, out, a, m, best, tau, certain, largest_told, space, x, rest, word):  # type: ignore[no-untyped-def]
    """A basis that avoids the coordinates `out`, with |y|_1 <= tau where there is one: (mask, its bound, best).

    Where there is none, its codeword's height may be a new best, with x, rest, word. `certain`: out is what a T may
    leave out, so codewords met on the way count; else they do not, and the bound is inf where tau is not reached.
    A bound of -1 says that a set looks short of rank, or its height is above `largest_told`.
    """
    k, n = G.shape
    banned = out | np.int64(1) << a
    y, low, trial = space[2, :k], space[3, :k], space[4, :n]
    for attempt in range(2):
        for i in range(k):
            if not banned >> basis[i] & 1:
                continue
            largest = least_in_row(D, row_of, i, banned)
            if largest * best < 1.0:
                # row i is a codeword that is 1 at one coordinate, and on the rest of S at most `largest`
                if not certain:
                    return np.int64(0), np.inf, best
                for p in range(k):
                    y[p], low[p] = D[i, p], 0.0
                height = height_of(G, y, low, m, trial)
                if largest * largest_told <= 1.0 or height > largest_told:
                    return np.int64(0), -1.0, best
                if height > best:
                    best = height
                    for p in range(k):
                        x[p], rest[p] = y[p], 0.0
                    word[:] = trial
                    tau = max(tau, best * (1.0 + MARGIN))
            if not push_out(D, basis, row_of, i, banned, space):
                return np.int64(0), -1.0 if certain else np.inf, best
        # the moved target first: no coefficient vanishes, so its best basis comes with a codeword that attains it
        for column in (n, a):
            descend(D, basis, row_of, banned, a, column, tau, space)
            bound, mask = certified_norm(G, D, basis, a, tau, y, low)
            if bound <= tau:
                return mask, bound, best
            if not certain:
                continue
            height = certified_height(G, D, basis, column, m, space[5, :k], space[6, :k], trial)
            if height > largest_told:
                return np.int64(0), -1.0, best
            if height > best:
                best = height
                x[:] = space[5, :k]
                rest[:] = space[6, :k]
                word[:] = trial
                tau = max(tau, best * (1.0 + MARGIN))
            if bound <= tau:
                return mask, bound, best
        # the table may have drifted: once more from a fresh one
        if not certain or attempt == 1 or not renew(G, a, D, basis, row_of):
            break
    return mask, bound, best


@compiled
def search_target(G, a, m, alike, first_out, first_kept, tau, best, known, stop, bases, doubt, counts, x, rest, word):  # type: ignore[no-untyped-def]
    """Look for codewords with the largest coordinate at a and an m-height above tau.

    Args:
        G: (k, n) = [I | P].
        alike: (n,) masks of the coordinates that may be exchanged for each, itself among them. Sets that leave out one
            and keep another that comes before it in the search are not looked at: they are others exchanged.
        tau: >= best; what is not looked into.
        first_out, first_kept: masks of coordinates that are left out beside a, and that are not.
        best: height of a known codeword.
        stop: (1,) int64, looked at once a node: end when it is not 0.
        known: (count, 2), what exact arithmetic has found before: masks of bases that bound a by tau, and that a.
        bases: (room,), filled with the bases found, the oldest making room.
        doubt: (2,) int64, gets T and a when the search ends DOUBTFUL.
        counts: (3,) int64, added to: nodes, linear programs, bases found.
        x, rest, word: (k,), (k,), (n,), the best codeword found here: information part, its low part, coordinates.

    Returns:
        how it ended; the best height; the largest bound any basis proves, which bounds every codeword here when DONE.
    """
    k, n = G.shape
    one = np.int64(1)
    D, basis, row_of = np.empty((k, n + 1)), np.empty(k, np.int64), np.empty(n, np.int64)
    space = np.empty((7, n + 1))
    first_table(G, a, D, basis, row_of)
    largest_told = largest_height(G)
    depth = max(m - 1 - count_bits(first_out), 1)
    live = np.empty((depth, REMEMBERED, 3), np.int64)
    count, tail = np.zeros(depth, np.int64), np.zeros(depth, np.int64)
    out, kept = np.zeros(depth, np.int64), np.zeros(depth, np.int64)
    tries = np.full(depth, m)
    proven = 0.0
    out[0], kept[0] = first_out, first_kept
    already = count_bits(first_out)
    level = 0
    while level >= 0:
        if stop[0] != 0:
            return STOPPED, best, proven
        counts[0] += 1
        t = m - 1 - already - level
        R, K = out[level], kept[level]
        asked, certain = count[level] == 0, True
        without, fewest, branch = R, 65, np.int64(0)
        if t <= 1 and not asked:
            branch = ~K if t == 1 else np.int64(0)
            for q in range(count[level]):
                branch &= live[level, q, 0]
                if branch == 0:
                    break
            asked = branch != 0
            without = R | (branch & -branch)
            fewest = 0
        elif not asked:
            packed, union = 0, np.int64(0)
            for q in range(count[level]):
                free = live[level, q, 0] & ~K
                size = count_bits(free)
                if size < fewest:
                    fewest, branch = size, free
                    if size == 0:
                        break
                if free & union == 0:
                    union |= free
                    packed += 1
                    if packed > t:
                        fewest = 0
                        break
            if fewest > 0 and tries[level] > 0:
                # is there room for so many disjoint bases that no T hits them all?
                others = n - 1 - count_bits(R | union)
                if others >= k and (t + 1 - packed) * max(k - count_bits(K), 1) <= n - 1 - count_bits(R | union | K):
                    asked, certain, without = True, False, R | union
                    tries[level] -= 1
        if asked:
            counts[1] += 1
            mask, bound, height = np.int64(0), np.inf, best
            for q in range(known.shape[0]):
                if known[q, 1] == a and known[q, 0] & without == 0:
                    mask, bound = known[q, 0], best
            if not bound <= tau:
                mask, bound, height = best_without(
                    G, D, basis, row_of, without, a, m, best, tau, certain, largest_told, space, x, rest, word
                )
            if height > best:
                best = height
                tau = max(tau, best * (1.0 + MARGIN))
            if not bound <= tau or bound < 0.0:
                if certain:
                    doubt[0], doubt[1] = without, a
                    return DOUBTFUL, best, np.inf
                tries[level] = 0
                continue
            proven = max(proven, bound)
            remember(live, count, tail, level, mask, np.int64(0), mask)
            bases[counts[2] % bases.shape[0]] = mask
            counts[2] += 1
            continue
        if t <= 1 or fewest == 0:
            level -= 1
            continue
        b = lowest_bit(branch)
        kept[level] = K | alike[b] & ~R
        level += 1
        out[level], kept[level] = R | one << b, K
        tries[level] = m
        inherit(live, count, tail, level, one << b)
    return DONE, best, proven
