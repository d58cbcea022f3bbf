"""The pruned search for all targets at once: one basis bounds most of the coordinates outside it.

So all m coordinates A that are left out are searched together, a among them, where `hitting` has one target at a time;
it takes over where a basis does not bound a coordinate that is left out already.
"""

from __future__ import annotations

import numpy as np

from ..codes.minors import LARGEST_RATIO
from ..numerics.bitsets import count_bits, lowest_bit
from ..numerics.jit import compiled
from .hitting_set import DONE, FRESH, MARGIN, REMEMBERED, STOPPED, inherit, remember, search_target, spread
from .simplex_tableau import (
    certified_norm,
    certified_norms,
    descend,
    first_table,
    least_in_row,
    norm,
    push_out_anywhere,
    renew,
    widen,
)


@compiled
def _leaves(free, more):  # type: ignore[no-untyped-def]
    """C(free + more - 1, more), the leaves below a node at worst."""
    out = 1.0
    for i in range(more):
        out *= (free + i) / (i + 1.0)
    return out


@compiled
def common_basis(G, D, basis, row_of, out, targets, tau, best, space, leafy):  # type: ignore[no-untyped-def]
    """A basis that avoids the coordinates `out` and bounds all `targets` by tau.

    Returns (mask, bad, bound, hard): what it does not bound, the largest bound of the others, and -1, or a target that
    it fails for, 64 where the coordinates left look short of rank.
    """
    k = G.shape[0]
    for i in range(k):
        if out >> basis[i] & 1 and (
            least_in_row(D, row_of, i, out) * best < 1.0 or not push_out_anywhere(D, basis, row_of, i, out)
        ):
            return np.int64(0), np.int64(0), 0.0, 64
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


@compiled
def search_all(  # type: ignore[no-untyped-def]
    G,
    m,
    block,
    alike,
    left,
    first_out,
    first_kept,
    tau,
    best,
    known,
    stop,
    progress,
    bases,
    doubt,
    counts,
    x,
    rest,
    word,
):  # fmt: skip
    """Look for codewords with an m-height above tau, whatever their largest coordinate.

    One basis B bounds every target a outside it by its own |y|_1. With `bad` those that it does not bound by tau, all m
    coordinates A left out are done with unless they hit B + bad: the same hitting-set problem, for all targets at once.
    Where B is bad for a coordinate that is left out already, that target is searched alone, and dropped here.

    Arguments and results as in `search_target`, without a; first_out may hold the target. Besides:
        block: (n,) masks, the coordinates that are left out together with each. Where these are more than the
            coordinate itself, more is left out than may be: every tau that a target exceeds is raised to that, no
            codeword counts, and what comes back bounds the height from above, at the cost of a shorter code.
        left: how many blocks may be left out after first_out.
        progress: (1,) float64, told the share of the search done, from 0 to 1.
    """
    k, n = G.shape
    one = np.int64(1)
    D, basis, row_of = np.empty((k, n + 1)), np.empty(k, np.int64), np.empty(n, np.int64)
    space = np.empty((7, n + 1))
    first_table(G, 0, D, basis, row_of)
    depth = left
    relaxed = False
    for j in range(n):
        relaxed |= block[j] != one << j
    live = np.empty((depth, REMEMBERED, 3), np.int64)
    count, tail = np.zeros(depth, np.int64), np.zeros(depth, np.int64)
    out, kept, dropped = np.zeros(depth, np.int64), np.zeros(depth, np.int64), np.zeros(depth, np.int64)
    tries = np.full(depth, m)
    tall = LARGEST_RATIO if relaxed else best
    everything = (one << n) - one if n < 64 else np.int64(-1)
    leaf, leaf_done = np.int64(0), np.int64(0)
    proven, whole, done, share, inner = 0.0, 0.0, 0.0, 0.0, 0.0
    out[0], kept[0] = first_out, first_kept
    level = 0
    while level >= 0:
        if stop[0] != 0:
            return STOPPED, best, proven
        counts[0] += 1
        t = left - level
        R, K, X = out[level], kept[level], dropped[level]
        fewest, branch, pruners = 65, everything & ~(K | R), 0
        packed, union = 0, np.int64(0)
        for q in range(count[level]):
            bad = live[level, q, 1] & ~X
            if bad & R != 0:
                continue
            pruners += 1
            free = (live[level, q, 2] | (spread(block, bad) if bad != 0 else bad)) & ~K
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
                    fewest = 0
                    break
        without, targets, certain, seek = R, R & ~X, True, pruners == 0
        if not seek:
            if branch == 0 or fewest == 0:
                level -= 1
                continue
            if t == 1:
                b = lowest_bit(branch)
                without = R | block[b]
                if without != leaf:
                    leaf, leaf_done = without, np.int64(0)
                missing = without & ~(X | leaf_done)
                for q in range(count[level]):
                    if live[level, q, 0] & without == 0:
                        missing &= live[level, q, 1]
                        if missing == 0:
                            break
                if missing == 0:
                    kept[level] = K | (block[b] | alike[b]) & ~R
                    continue
                seek, targets = True, missing & -missing
            elif tries[level] > 0:
                others = n - count_bits(R | union)
                if others >= k and (t + 1 - packed) * max(k - count_bits(K), 1) <= n - count_bits(R | union | K):
                    seek, certain, without = True, False, R | union
                    tries[level] -= 1
        if seek:
            counts[1] += 1
            if counts[1] % FRESH == 0 and not renew(G, 0, D, basis, row_of):
                first_table(G, 0, D, basis, row_of)
            mask, bad, bound, hard = common_basis(
                G, D, basis, row_of, without, targets, tau, tall, space, t == 1 and pruners > 0
            )
            if hard < 0:
                proven = max(proven, bound)
                remember(live, count, tail, level, mask, bad, spread(block, mask))
                bases[counts[2] % bases.shape[0]] = mask
                counts[2] += 1
            elif not certain:
                tries[level] = 0
            elif relaxed:
                while targets:
                    bound, _ = certified_norm(G, D, basis, lowest_bit(targets), tau, space[2, :k], space[3, :k])
                    tau = max(tau, bound)
                    targets &= targets - 1
                tau *= 1.0 + 1e-9  # beyond what the table's own rounding says
                if hard == 64 or not tau < LARGEST_RATIO:
                    return DONE, best, np.inf
            else:
                # one target by itself: of the one set A, or of all that may follow R
                if hard == 64:
                    if targets == 0:
                        targets = branch & ~X
                        if targets == 0:
                            level -= 1
                            continue
                    hard = lowest_bit(targets)
                    first_table(G, 0, D, basis, row_of)
                ended, height, most = search_target(
                    G,
                    hard,
                    m,
                    alike,
                    without & ~(one << hard),
                    K,
                    tau,
                    best,
                    known,
                    stop,
                    bases,
                    doubt,
                    counts,
                    x,
                    rest,
                    word,
                )
                if ended != DONE:
                    return ended, height, most
                if height > best:
                    best, tall = height, height
                    tau = max(tau, best * (1.0 + MARGIN))
                proven = max(proven, most)
                if without == R:
                    dropped[level] = X | one << hard
                else:
                    leaf_done |= one << hard
            continue
        if level <= 1:
            leaves, after = _leaves(fewest, t), _leaves(fewest - 1, t)
            if level == 0:
                whole = max(whole, leaves)
                done, share, inner = 1.0 - leaves / whole, (leaves - after) / whole, 0.0
            else:
                inner = max(inner, leaves)
                progress[0] = max(progress[0], done + share * (1.0 - leaves / inner))
        b = lowest_bit(branch)
        kept[level] = K | (block[b] | alike[b]) & ~R
        level += 1
        out[level], kept[level], dropped[level] = R | block[b], K, X
        tries[level] = m
        inherit(live, count, tail, level, block[b])
    progress[0] = 1.0
    return DONE, best, proven
