"""Branch and bound for all targets at once: one basis bounds most of the coordinates outside it.

So all m coordinates A that are left out are searched together, a among them, where `hitting_set` has one target at a
time; it takes over where a basis does not bound a coordinate that is left out already.
"""

from __future__ import annotations

import numpy as np

from ..codes.minors import LARGEST_RATIO
from ..numerics.bitsets import count_bits, lowest_bit
from ..numerics.certified import certified_norm, certified_norms
from ..numerics.jit import compiled, embedded, inlined_exactly
from ..numerics.simplex_tableau import (
    descend,
    first_table,
    largest_in_row,
    new_tableau,
    norm,
    push_out_anywhere,
    renew,
    widen,
)
from .hitting_set import (
    COUNT,
    DONE,
    DROPPED,
    FRESH,
    KEPT,
    MARGIN,
    OUT,
    STOPPED,
    TRIES,
    added,
    descend_to,
    has_room,
    remember,
    root,
    search_target,
    touched,
)
from .orbits import completing, leave, tables_of

SHORT_OF_RANK = 64
"""Instead of a target: the coordinates left look short of rank."""


@inlined_exactly
def _leaves(free, more):  # type: ignore[no-untyped-def]
    """C(free + more - 1, more), the leaves below a node at worst."""
    out = 1.0
    for i in range(more):
        out *= (free + i) / (i + 1.0)
    return out


@compiled
def common_basis(table, out, targets, tau, best, leafy):  # type: ignore[no-untyped-def]
    """A basis that avoids the coordinates `out` and bounds all `targets` by tau.

    Returns (mask, bad, bound, hard): what it does not bound, the largest bound of the others, and -1, or a target that
    it fails for, or SHORT_OF_RANK.
    """
    G, D, basis, row_of, space = table
    k = G.shape[0]
    for i in range(k):
        if out >> basis[i] & 1 and (
            largest_in_row(D, row_of, i, out) * best < 1.0 or not push_out_anywhere(D, basis, row_of, i, out)
        ):
            return np.int64(0), np.int64(0), 0.0, SHORT_OF_RANK
    if not leafy:
        widen(D, basis, row_of, out)
    hard = -1
    turns = 2 * count_bits(targets)
    for turn in range(turns + 1):
        worst, largest, left = -1, tau, targets
        while left:
            a = lowest_bit(left)
            left &= left - 1
            size = norm(D, a)
            if size > largest:
                worst, largest = a, size
        hard = worst
        if worst < 0 or turn == turns or not descend(D, basis, row_of, out, worst, worst, tau, space):
            break
    bad, bound = certified_norms(G, D, basis, row_of, tau, space)
    if hard < 0 and bad & targets != 0:
        hard = lowest_bit(bad & targets)
    mask = np.int64(0)
    for i in range(k):
        mask |= np.int64(1) << basis[i]
    return mask, bad, bound, hard


@inlined_exactly
def _to_hit(nodes, block, level, t, everything):  # type: ignore[no-untyped-def]
    """What the bases of a node that bound every target left out say: (count, branch, packed, union).

    Of `branch` one coordinate must be left out, 0 when the node is done with; `packed` bases are disjoint, in `union`.
    """
    live, state = nodes
    R, K, X = state[level, OUT], state[level, KEPT], state[level, DROPPED]
    fewest, branch, count = 65, everything & ~(K | R), 0
    packed, union = 0, np.int64(0)
    for q in range(state[level, COUNT]):
        bad = live[level, q, 1] & ~X
        if bad & R != 0:
            continue
        count += 1
        free = (live[level, q, 2] | (touched(block, bad) if bad != 0 else bad)) & ~K
        if t == 1:
            branch &= free
            if branch == 0:
                break
            continue
        size = count_bits(free)
        if size < fewest:
            fewest, branch = size, free
            if size == 0:
                break
        if free & union == 0:
            union |= free
            packed += 1
            if packed > t:
                return count, np.int64(0), packed, union
    return count, branch, packed, union


@inlined_exactly
def _unbounded(nodes, level, without, targets):  # type: ignore[no-untyped-def]
    """Which of the targets no basis bounds that avoids `without`."""
    live, state = nodes
    for q in range(state[level, COUNT]):
        if live[level, q, 0] & without == 0:
            targets &= live[level, q, 1]
            if targets == 0:
                break
    return targets


@inlined_exactly
def _next(nodes, problem, level, t, everything, leaf):  # type: ignore[no-untyped-def]
    """What a node needs: (seek, certain, without, targets, branch).

    Where it seeks, a basis that avoids `without` and bounds `targets`; where not certain, there may be none. Else one
    coordinate of `branch` must be left out, 0 when the node is done with.
    leaf: (2,), the last set A that was asked about, and which of its targets were searched alone.
    """
    k, n = problem.G.shape
    state = nodes.state
    R, X = state[level, OUT], state[level, DROPPED]
    count, branch, packed, union = _to_hit(nodes, problem.block, level, t, everything)
    if count == 0:
        return True, True, R, R & ~X, branch
    if branch != 0 and t == 1:
        without = R | problem.block[lowest_bit(branch)]
        if without != leaf[0]:
            leaf[0], leaf[1] = without, 0
        targets = _unbounded(nodes, level, without, without & ~(X | leaf[1]))
        return targets != 0, True, without, targets & -targets, branch
    if branch != 0 and state[level, TRIES] > 0 and has_room(R, state[level, KEPT], union, t + 1 - packed, k, n):
        state[level, TRIES] -= 1
        return True, False, R | union, R & ~X, branch
    return False, True, R, R & ~X, branch


@compiled
def _raised(table, hard, targets, tau):  # type: ignore[no-untyped-def]
    """The tau that all targets are bounded by; inf where there is none."""
    G, D, basis, _, space = table
    k = G.shape[0]
    while targets:
        bound, _ = certified_norm(G, D, basis, lowest_bit(targets), tau, space[2, :k], space[3, :k])
        tau = max(tau, bound)
        targets &= targets - 1
    tau *= 1.0 + 1e-9  # beyond what the table's own rounding says
    return tau if hard != SHORT_OF_RANK and tau < LARGEST_RATIO else np.inf


@compiled
def _tell(progress, done, level, fewest, t):  # type: ignore[no-untyped-def]
    """The share done, from the leaves that the nodes of the first two levels have left.

    done: (4,), kept between calls: leaves of the root and of its child, share done before this child, share of it.
    """
    leaves, after = _leaves(fewest, t), _leaves(fewest - 1, t)
    if level == 0:
        done[0] = max(done[0], leaves)
        done[1], done[2], done[3] = 0.0, 1.0 - leaves / done[0], (leaves - after) / done[0]
    else:
        done[1] = max(done[1], leaves)
        progress[0] = max(progress[0], done[2] + done[3] * (1.0 - leaves / done[1]))


@compiled
def _is_relaxed(block):  # type: ignore[no-untyped-def]
    """Whether some block is more than its coordinate."""
    joined = False
    for j in range(block.shape[0]):
        joined |= block[j] != np.int64(1) << j
    return joined


@embedded
def _basis_for(table, without, targets, tau, best, leafy, counts):  # type: ignore[no-untyped-def]
    """`common_basis`, counted, from a table that is made again now and then."""
    counts[1] += 1
    if counts[1] % FRESH == 0 and not renew(table.G, 0, table.D, table.basis, table.row_of):
        first_table(table.G, 0, table.D, table.basis, table.row_of)
    return common_basis(table, without, targets, tau, best, leafy)


@compiled
def search_all(problem, left, first_out, first_kept, tau, best, report, found):  # type: ignore[no-untyped-def]
    """Look for codewords with an m-height above tau, whatever their largest coordinate.

    One basis B bounds every target a outside it by its own |y|_1. With `bad` those that it does not bound by tau, all m
    coordinates A left out are done with unless they hit B + bad: the same hitting-set problem, for all targets at once.
    Where B is bad for a coordinate that is left out already, that target is searched alone, and dropped here.

    Arguments and results as in `search_target`, without a; first_out may hold the target. Besides:
        problem.block: where these are more than the coordinate itself, more is left out than may be: every tau that a
            target exceeds is raised to that, no codeword counts, and what comes back bounds the height from above, at
            the cost of a shorter code.
        left: how many blocks may be left out after first_out.
    """
    # read once: every attribute read of a NamedTuple counts a reference
    G, m, alike, block, stop, counts = problem.G, problem.m, problem.alike, problem.block, report.stop, report.counts
    one, n = np.int64(1), G.shape[1]
    table = new_tableau(G, 0)
    relaxed = _is_relaxed(block)
    nodes = root(left, m, first_out, first_kept)
    state, perms = nodes.state, problem.perms
    orbiting = perms.shape[0] > 1
    finished = tables_of(perms, problem.done, -1)
    if orbiting:
        state[0, KEPT] |= completing(finished, first_out)
    tall = LARGEST_RATIO if relaxed else best
    everything = (one << n) - one if n < 64 else np.int64(-1)
    leaf, done, proven, level = np.empty(2, np.int64), np.empty(4), 0.0, 0
    leaf[0], leaf[1], done[0], done[1] = 0, 0, 0.0, 0.0
    done[2], done[3] = 0.0, 0.0
    while level >= 0:
        if stop[0] != 0:
            return STOPPED, best, proven
        counts[0] += 1
        t, R = left - level, state[level, OUT]
        seek, certain, without, targets, branch = _next(nodes, problem, level, t, everything, leaf)
        if not seek:
            if branch == 0:
                level -= 1
                if orbiting and level >= 0:
                    state[level, KEPT] |= leave(finished, perms, state[level + 1, OUT], state[level, OUT], -1)
                continue
            b = lowest_bit(branch)
            stays = (block[b] | alike[b]) & ~R
            if t == 1:
                state[level, KEPT] |= stays
                continue
            if level <= 1:
                _tell(report.progress, done, level, count_bits(branch), t)
            level += 1
            descend_to(nodes, level, block[b], stays, m)
            if orbiting:
                state[level, KEPT] |= completing(finished, state[level, OUT])
            continue
        mask, bad, bound, hard = _basis_for(table, without, targets, tau, tall, t == 1 and without != R, counts)
        if hard < 0:
            proven = max(proven, bound)
            remember(nodes, level, mask, bad, touched(block, mask))
            added(report, mask)
        elif not certain:
            state[level, TRIES] = 0
        elif relaxed:
            tau = _raised(table, hard, targets, tau)
            if tau == np.inf:
                return DONE, best, np.inf
        else:
            # one target by itself: of the one set A, or of all that may follow R
            if hard == SHORT_OF_RANK:
                targets = targets if targets != 0 else branch & ~state[level, DROPPED]
                if targets == 0:
                    level -= 1
                    if orbiting and level >= 0:
                        state[level, KEPT] |= leave(finished, perms, state[level + 1, OUT], state[level, OUT], -1)
                    continue
                hard = lowest_bit(targets)
                first_table(G, 0, table.D, table.basis, table.row_of)
            alone = without & ~(one << hard)
            ended, height, bound = search_target(problem, hard, alone, state[level, KEPT], tau, best, report, found)
            if ended != DONE:
                return ended, height, bound
            if height > best:
                best, tall = height, height
                tau = max(tau, best * (1.0 + MARGIN))
            proven = max(proven, bound)
            if without == R:
                state[level, DROPPED] |= one << hard
            else:
                leaf[1] |= one << hard
    report.progress[0] = 1.0
    return DONE, best, proven
