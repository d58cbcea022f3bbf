"""Branch and bound for one target: no set of coordinates may hit every good basis.

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

from typing import Any, NamedTuple

import numpy as np

from ..codes.minors import LARGEST_RATIO
from ..numerics.bitsets import count_bits, lowest_bit
from ..numerics.certified import certified_height, certified_norm, height_of
from ..numerics.jit import compiled, inlined_exactly
from ..numerics.simplex_tableau import descend, largest_in_row, new_tableau, push_out, renew
from .orbits import completing, leave, tables_of

MARGIN = 1e-11
"""What exceeds the best codeword by no more than this, relatively, is not searched for."""

REMEMBERED = 4096
"""Bases a node remembers; older ones that no T has hit lately are found again when needed."""

FRESH = 64
"""Linear programs after which a table is made again from G, before it drifts."""

LARGEST_OF_INTEGERS = 1e19
"""Heights up to here leave MARGIN to the 32 digits that bounds and codewords are computed with."""

DONE, STOPPED, DOUBTFUL = 0, 1, 2
"""How a search ended: through; by the stop flag; at an (S, a) that needs exact arithmetic: S looks short of rank, or
rounding keeps its bound above tau."""


class Problem(NamedTuple):
    """What is searched.

    G: (k, n) = [I | P].
    m: the coordinates left out of each S.
    alike: (n,) masks of the coordinates that may be exchanged for each, itself among them. Sets that leave out one and
        keep another that comes before it in the search are skipped: they are others exchanged.
    block: (n,) masks of the coordinates that are left out together with each; see `all_targets`.
    known: (count, 2), what exact arithmetic has found before: masks of bases that bound a by tau, and that a.
    enough: the search ends as STOPPED at a codeword whose height is above it.
    perms: (g, n) automorphisms, j going to perms[:, j]; see `orbits`. The identity alone where none is used.
    done: (count,), masks of sets that are done with from the beginning.
    """

    G: Any
    m: Any
    alike: Any
    block: Any
    known: Any
    enough: Any
    perms: Any
    done: Any


class Report(NamedTuple):
    """What a search and those who wait for it tell each other while it runs.

    stop: (1,) int64, read once a node: end when it is not 0.
    progress: (1,) float64, told the share of the search that is done, from 0 to 1.
    bases: (room,), filled with the bases found, the oldest making room.
    doubt: (2,) int64, gets T and a when the search ends DOUBTFUL.
    counts: (3,) int64, added to: nodes, linear programs, bases found.
    """

    stop: Any
    progress: Any
    bases: Any
    doubt: Any
    counts: Any


class Nodes(NamedTuple):
    """The nodes (R, K) from the root down to the present one, and the bases that each remembers.

    live: (depth, REMEMBERED, 3), a basis, the targets that it does not bound, and the blocks that it touches, as masks.
    state: (depth, 6) of each node: how many bases it remembers (COUNT), and where the next one goes (TAIL); R (OUT) and
        K (KEPT); targets that were searched alone (DROPPED); how many more bases may be asked for that need not exist
        (TRIES).
    """

    live: Any
    state: Any


COUNT, TAIL, OUT, KEPT, DROPPED, TRIES = range(6)


@compiled
def root(depth, m, out, kept):  # type: ignore[no-untyped-def]
    """Room for a search of that depth, at its first node."""
    live, state = np.empty((depth, REMEMBERED, 3), np.int64), np.empty((depth, 6), np.int64)
    for column in range(6):
        state[0, column] = 0
    state[0, OUT], state[0, KEPT], state[0, TRIES] = out, kept, m
    return Nodes(live, state)


@inlined_exactly
def touched(block, mask):  # type: ignore[no-untyped-def]
    """The blocks that a mask touches."""
    out, left = np.int64(0), mask
    while left:
        out |= block[lowest_bit(left)]
        left &= ~out
    return out


@compiled
def remember(nodes, level, mask, bad, blocks):  # type: ignore[no-untyped-def]
    """Give every level down to this one the basis, its bad targets and its blocks, the oldest one making room."""
    live, state = nodes
    room = live.shape[1]
    for p in range(level + 1):
        tail = state[p, TAIL]
        live[p, tail, 0], live[p, tail, 1], live[p, tail, 2] = mask, bad, blocks
        state[p, TAIL] = (tail + 1) % room
        state[p, COUNT] = min(room, state[p, COUNT] + 1)


@compiled
def descend_to(nodes, level, gone, stays, m):  # type: ignore[no-untyped-def]
    """The child that leaves out `gone` too; its parent keeps `stays` from then on.

    It remembers what the parent does, but for bases that hold a coordinate that is gone.
    """
    live, state = nodes
    parent, room, found = level - 1, live.shape[1], 0
    state[level, OUT], state[level, KEPT] = state[parent, OUT] | gone, state[parent, KEPT]
    state[level, DROPPED], state[level, TRIES] = state[parent, DROPPED], m
    state[parent, KEPT] |= stays
    for q in range(state[parent, COUNT]):
        if live[parent, q, 0] & gone == 0:
            for part in range(3):
                live[level, found, part] = live[parent, q, part]
            found += 1
    state[level, COUNT], state[level, TAIL] = found, found % room


@inlined_exactly
def has_room(out, kept, union, missing, k, n):  # type: ignore[no-untyped-def]
    """Whether so many more disjoint bases, beside those in `union`, may fit that no T hits them all.

    n: how many coordinates there are but for a single target; out, kept: R and K.
    """
    others, free = n - count_bits(out | union), n - count_bits(out | union | kept)
    return others >= k and missing * max(k - count_bits(kept), 1) <= free


@inlined_exactly
def added(report, mask):  # type: ignore[no-untyped-def]
    """Report a basis."""
    report.bases[report.counts[2] % report.bases.shape[0]] = mask
    report.counts[2] += 1


@compiled
def largest_height(G):  # type: ignore[no-untyped-def]
    """Above this a real code's height counts as infinite, and that of integers is beyond what float64 pairs tell."""
    for i in range(G.shape[0]):
        for j in range(G.shape[1]):
            if G[i, j] != np.floor(G[i, j]):
                return LARGEST_RATIO
    return LARGEST_OF_INTEGERS


@compiled
def _keep_word(found, x, rest, word):  # type: ignore[no-untyped-def]
    for p in range(x.shape[0]):
        found.x[p], found.rest[p] = x[p], rest[p]
    for j in range(word.shape[0]):
        found.word[j] = word[j]


@compiled
def _row_word(table, i, banned, m, best, certain, largest_told, found):  # type: ignore[no-untyped-def]
    """Row i as a codeword, where it is above `best`: 1 at one coordinate, and less on what may enter the basis.

    Returns what it makes of the best height; -1 where the set looks short of rank; inf where the word does not count.
    """
    G, D, space = table.G, table.D, table.space
    k, n = G.shape
    largest = largest_in_row(D, table.row_of, i, banned)
    if not largest * best < 1.0:
        return best
    if not certain:
        return np.inf
    y, low, trial = space[2, :k], space[3, :k], space[4, :n]
    for p in range(k):
        y[p], low[p] = D[i, p], 0.0
    height = height_of(G, y, low, m, trial)
    if largest * largest_told <= 1.0 or height > largest_told:
        return -1.0
    if height > best:
        best = height
        _keep_word(found, y, low, trial)
    return best


@compiled
def best_without(table, a, m, out, best, tau, certain, largest_told, found):  # type: ignore[no-untyped-def]
    """A basis that avoids the coordinates `out`, with |y|_1 <= tau where there is one: (mask, its bound, best).

    Where there is none, its codeword's height may be a new best, with `found`, a Codeword. `certain`: out is what a T
    may leave out, so codewords met on the way count; else they do not, and the bound is inf where tau is not reached.
    A bound of -1 says that a set looks short of rank, or its height is above `largest_told`.
    """
    G, D, basis, row_of, space = table
    k, n = G.shape
    banned = out | np.int64(1) << a
    y, low, trial = space[2, :k], space[3, :k], space[4, :n]
    mask, bound = np.int64(0), np.inf
    for attempt in range(2):
        for i in range(k):
            if not banned >> basis[i] & 1:
                continue
            height = _row_word(table, i, banned, m, best, certain, largest_told, found)
            if height < 0.0 or height == np.inf:
                return np.int64(0), height, best
            if height > best:
                best = height
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
                _keep_word(found, space[5, :k], space[6, :k], trial)
                tau = max(tau, best * (1.0 + MARGIN))
            if bound <= tau:
                return mask, bound, best
        # the table may have drifted: once more from a fresh one
        if not certain or attempt == 1 or not renew(G, a, D, basis, row_of):
            break
    return mask, bound, best


@inlined_exactly
def _next(nodes, level, t, k, n):  # type: ignore[no-untyped-def]
    """What a node needs: (True, certain, without) or (False, _, branch).

    The first asks for a basis that avoids `without`; where not certain there may be none. In the second one coordinate
    of `branch` must be left out; 0 ends the node.
    """
    live, state = nodes
    count, R, K = state[level, COUNT], state[level, OUT], state[level, KEPT]
    if count == 0:
        return True, True, R
    fewest, branch, packed, union = 65, np.int64(-1), 0, np.int64(0)
    if t <= 1:
        branch = ~K if t == 1 else np.int64(0)
        for q in range(count):
            branch &= live[level, q, 0]
            if branch == 0:
                break
        return branch != 0, True, R | (branch & -branch) if branch != 0 else branch
    for q in range(count):
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
                return False, True, np.int64(0)
    if fewest > 0 and state[level, TRIES] > 0 and has_room(R, K, union, t + 1 - packed, k, n - 1):
        state[level, TRIES] -= 1
        return True, False, R | union
    return False, True, branch


@inlined_exactly
def _known(known, a, without):  # type: ignore[no-untyped-def]
    """Which of the known bases is of a and avoids the coordinates, -1 for none."""
    which = -1
    for q in range(known.shape[0]):
        if known[q, 1] == a and known[q, 0] & without == 0:
            which = q
    return which


@compiled
def search_target(problem, a, first_out, first_kept, tau, best, report, found):  # type: ignore[no-untyped-def]
    """Look for codewords with the largest coordinate at a and an m-height above tau.

    Args:
        problem, report: see there.
        first_out, first_kept: masks of coordinates that are left out beside a, and that are not.
        tau: >= best; what is not searched for.
        best: height of a known codeword.
        found: a Codeword, the best one found here.

    Returns:
        how it ended; the best height; the largest bound any basis proves, which bounds every codeword here when DONE.
    """
    # read once: every attribute read of a NamedTuple counts a reference
    G, m, alike, known, stop, counts = problem.G, problem.m, problem.alike, problem.known, report.stop, report.counts
    perms = problem.perms
    k, n = G.shape
    orbiting = perms.shape[0] > 1
    done = tables_of(perms, problem.done[:0], a)
    table = new_tableau(G, a)
    largest_told = largest_height(G)
    depth = m - 1 - count_bits(first_out)
    nodes = root(max(depth, 1), m, first_out, first_kept)
    proven, level = 0.0, 0
    while level >= 0:
        if stop[0] != 0:
            return STOPPED, best, proven
        counts[0] += 1
        seek, certain, coordinates = _next(nodes, level, depth - level, k, n)
        if seek:
            counts[1] += 1
            which = _known(known, a, coordinates)
            if which >= 0:
                mask, bound, height = known[which, 0], best, best
            else:
                mask, bound, height = best_without(table, a, m, coordinates, best, tau, certain, largest_told, found)
            if height > best:
                best = height
                tau = max(tau, best * (1.0 + MARGIN))
                if best > problem.enough:
                    return STOPPED, best, proven
            if 0.0 <= bound <= tau:
                proven = max(proven, bound)
                remember(nodes, level, mask, np.int64(0), mask)
                added(report, mask)
            elif certain:
                report.doubt[0], report.doubt[1] = coordinates, a
                return DOUBTFUL, best, np.inf
            else:
                nodes.state[level, TRIES] = 0
        elif coordinates == 0:
            level -= 1
            if orbiting and level >= 0:
                X, R = nodes.state[level + 1, OUT], nodes.state[level, OUT]
                nodes.state[level, KEPT] |= leave(done, perms, X, R, a)
        else:
            b = lowest_bit(coordinates)
            level += 1
            descend_to(nodes, level, np.int64(1) << b, alike[b] & ~nodes.state[level - 1, OUT], m)
            if orbiting:
                nodes.state[level, KEPT] |= completing(done, nodes.state[level, OUT])
    return DONE, best, proven
