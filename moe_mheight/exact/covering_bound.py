"""A certified upper bound on h_m within seconds, where a search takes hours: by a covering instead of a tree.

A basis B whose complement contains the m coordinates A left out of S lies in S, and bounds the targets a in A by its
own |y|_1. Complements that contain every A are a covering (`coverings`), 10^6 of them at (44, 22, 12), and the largest
|y|_1 bounds the height. Where a basis is near to singular, B - i + c bounds the same A unless c is in A: with bounds
for m of the c, one of them is not. What these leave is searched, with B kept.

The first half of the blocks of LANES bases differ, the second is the same: so LANES tables are walked side by side from
one second half to the next, by the same pivots. What rounding does is bounded as `start_table` says.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.bitsets import count_bits, lowest_bit
from ..numerics.jit import LANES, compiled
from .coverings import Split, covering, in_order, splits
from .start_table import fused, start_of

RESEAT = 0.02
"""A table is made again from the first one once rounding may have moved a bound by this much, relatively."""

ROOM = 1 << 15
"""Bases and targets of one job that may be left to a search."""

PER_ENTRY = 2e-9
"""Seconds for a block, over the k r entries of its table (measured: 1e-9 to 8e-9)."""


class Tables(NamedTuple):
    """LANES tables and what belongs to them.

    entries: (r, k, LANES).
    rows, columns: (k, LANES) and (r, LANES) int64, their coordinates.
    at: (n,) int64, the row or column of the coordinates that are shared.
    off, largest, before: (LANES,), see `Start`; `before`: `largest` before the last pivot.
    total: (r, LANES), |y|_1 of each column.
    inverse, ratio: (LANES,), of one pivot.
    table, inside, outside, bounds: (k, r), (k,), (r,), (r,), room for the table of one lane, its coordinates, and what
        is next to it.
    """

    entries: Any
    rows: Any
    columns: Any
    at: Any
    off: Any
    largest: Any
    before: Any
    total: Any
    inverse: Any
    ratio: Any
    table: Any
    inside: Any
    outside: Any
    bounds: Any


class Job(NamedTuple):
    """Blocks of one half, side by side, each with all blocks of the other.

    mine: (LANES,) int64, the complements of the first: coordinates of the bases. lanes: how many of them count.
    shared: (count,) int64, the complements of the second.
    half: mask of the half of `mine`.
    t: how many coordinates are left out in that half; m: in all.
    """

    mine: Any
    lanes: Any
    shared: Any
    half: Any
    t: Any
    m: Any


class Pair(NamedTuple):
    """A basis, as a mask, a target outside it, and what bounds the sets that keep the one and leave the other out."""

    bound: float
    kept: int
    a: int


def new_tables(k: int, r: int) -> Tables:
    """Room for the tables of an [k + r, k] code."""
    whole = np.int64
    return Tables(
        np.empty((r, k, LANES)), np.empty((k, LANES), whole), np.empty((r, LANES), whole), np.empty(k + r, whole),
        np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty((r, LANES)), np.empty(LANES), np.empty(LANES),
        np.empty((k, r)), np.empty(k, whole), np.empty(r, whole), np.empty(r),
    )  # fmt: skip


@compiled
def _exchange(T, i, c):  # type: ignore[no-untyped-def]
    """Row i and column c of one table change places."""
    k, r = T.shape
    inverse = 1.0 / T[i, c]
    for q in range(r):
        if q != c:
            ratio = T[i, q] * inverse
            for p in range(k):
                if p != i:
                    T[p, q] -= T[p, c] * ratio
            T[i, q] = ratio
    for p in range(k):
        T[p, c] = -T[p, c] * inverse
    T[i, c] = inverse


@compiled
def _largest_column(T):  # type: ignore[no-untyped-def]
    """The largest |y|_1 of a column."""
    largest = 0.0
    for q in range(T.shape[1]):
        total = 0.0
        for p in range(T.shape[0]):
            total += abs(T[p, q])
        largest = max(largest, total)
    return largest


@compiled
def _move_to(start, wanted, T, inside, outside):  # type: ignore[no-untyped-def]
    """The table of another basis, from the first one: how far its columns may be off."""
    k, r = T.shape
    for p in range(k):
        inside[p] = start.basis[p]
        for q in range(r):
            T[p, q] = start.T[p, q]
    for q in range(r):
        outside[q] = start.others[q]
    off, largest = start.off, start.largest
    while True:
        at, enter, size = -1, -1, 0.0
        for p in range(k):
            if not wanted >> inside[p] & 1:
                for q in range(r):
                    if wanted >> outside[q] & 1 and (at < 0 or abs(T[p, q]) > size):
                        at, enter, size = p, q, abs(T[p, q])
        if at < 0:
            return off
        _exchange(T, at, enter)
        inside[at], outside[enter] = outside[enter], inside[at]
        after = _largest_column(T)
        off += start.unit * (largest + after)
        largest = after


@compiled
def _place_of(mask, j):  # type: ignore[no-untyped-def]
    """How many coordinates of the mask come before j."""
    return count_bits(mask & ((np.int64(1) << j) - 1))


@compiled
def _seat(start, job, shared, tables):  # type: ignore[no-untyped-def]
    """Make all tables again, for one basis of the other half: rows and columns in order, first those of `mine`."""
    entries, T, inside, outside = tables.entries, tables.table, tables.inside, tables.outside
    k, r = T.shape
    for lane in range(LANES):
        mine = job.mine[lane]
        tables.off[lane] = _move_to(start, mine | shared, T, inside, outside)
        rows = count_bits(mine)
        columns = count_bits(job.half) - rows
        for p in range(k):
            j = inside[p]
            if job.half >> j & 1:
                i = _place_of(mine, j)
            else:
                i = rows + _place_of(shared, j)
                tables.at[j] = i
            tables.rows[i, lane] = j
            inside[p] = i
        for q in range(r):
            j = outside[q]
            if job.half >> j & 1:
                c = _place_of(job.half & ~mine, j)
            else:
                c = columns + _place_of(~job.half & ~shared, j)
                tables.at[j] = c
            tables.columns[c, lane] = j
            for p in range(k):
                entries[c, inside[p], lane] = T[p, q]
    for c in range(r):
        for lane in range(LANES):
            tables.total[c, lane] = 0.0
        for i in range(k):
            for lane in range(LANES):
                tables.total[c, lane] += abs(entries[c, i, lane])


@fused
def _turn(entries, i, c, inverse, ratio, total):  # type: ignore[no-untyped-def]
    """Row i and column c of all tables change places; |y|_1 of the new columns."""
    r, k = entries.shape[0], entries.shape[1]
    for lane in range(LANES):
        inverse[lane] = 1.0 / entries[c, i, lane]
    for q in range(r):
        if q == c:
            continue
        for lane in range(LANES):
            value = entries[q, i, lane] * inverse[lane]
            ratio[lane] = value
            entries[q, i, lane] = value
            total[q, lane] = abs(value)
        for p in range(k):
            if p != i:
                for lane in range(LANES):
                    value = entries[q, p, lane] - entries[c, p, lane] * ratio[lane]
                    entries[q, p, lane] = value
                    total[q, lane] += abs(value)
    for lane in range(LANES):
        entries[c, i, lane] = inverse[lane]
        total[c, lane] = abs(inverse[lane])
    for p in range(k):
        if p != i:
            for lane in range(LANES):
                value = -entries[c, p, lane] * inverse[lane]
                entries[c, p, lane] = value
                total[c, lane] += abs(value)


@fused
def _largest(total, largest):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        largest[lane] = total[0, lane]
    for c in range(1, total.shape[0]):
        for lane in range(LANES):
            largest[lane] = total[c, lane] if total[c, lane] > largest[lane] else largest[lane]


@compiled
def _best_pair(entries, at, leave, enter):  # type: ignore[no-untyped-def]
    """The pair of shared coordinates to exchange whose smallest pivot is the largest, as two coordinates."""
    best, one, two = -1.0, np.int64(-1), np.int64(-1)
    left = leave
    while left:
        i = lowest_bit(left)
        left &= left - 1
        right = enter
        while right:
            c = lowest_bit(right)
            right &= right - 1
            smallest = np.inf
            for lane in range(LANES):
                size = abs(entries[at[c], at[i], lane])
                smallest = size if size < smallest else smallest
            if smallest > best:
                best, one, two = smallest, i, c
    return one, two


@compiled
def _go_to(tables, shared, wanted, unit):  # type: ignore[no-untyped-def]
    """From one basis of the other half to the next."""
    at = tables.at
    leave, enter = shared & ~wanted, wanted & ~shared
    while leave:
        one, two = _best_pair(tables.entries, at, leave, enter)
        if one < 0:  # no numbers left
            return False
        i, c = at[one], at[two]
        for lane in range(LANES):
            tables.before[lane] = tables.largest[lane]
            tables.rows[i, lane], tables.columns[c, lane] = two, one
        at[one], at[two] = c, i
        _turn(tables.entries, i, c, tables.inverse, tables.ratio, tables.total)
        _largest(tables.total, tables.largest)
        for lane in range(LANES):
            tables.off[lane] += unit * (tables.before[lane] + tables.largest[lane])
        leave &= ~(np.int64(1) << one)
        enter &= ~(np.int64(1) << two)
    return True


@compiled
def _bound(total, moved):  # type: ignore[no-untyped-def]
    """What a solution of that |y|_1, whose columns may be moved by so much, bounds a target by."""
    left = moved * (1.0 + total)
    return total / (1.0 - left) * (1.0 + 1e-9) if left < 0.5 else np.inf


@compiled
def _exchanged(tables, lane, a, unit, bounds):  # type: ignore[no-untyped-def]
    """bounds[c], what B - i + c bounds column a by, i having the largest pivot."""
    T, total, off = tables.table, tables.total, tables.off[lane]
    k, r = T.shape
    for c in range(r):
        bounds[c] = np.inf
        if c == a:
            continue
        at = 0
        for p in range(k):
            if abs(T[p, c]) > abs(T[at, c]):
                at = p
        ratio = T[at, a] / T[at, c]
        size = abs(ratio)
        for p in range(k):
            if p != at:
                size += abs(T[p, a] - T[p, c] * ratio)
        bound = _bound(size, off + unit * (total[a, lane] + abs(ratio) * total[c, lane] + size))
        if bound == bound:
            bounds[c] = bound


@compiled
def _enough(tables, lane, job, a, bounds, most):  # type: ignore[no-untyped-def]
    """Whether so many c have bounds of at most that size that no set to be left out holds them all.

    Beside a, t or t - 1 coordinates are left out in the half of a and the rest in the other.
    """
    columns, mine, others = tables.columns, 0, 0
    own = job.half >> columns[a, lane] & 1
    for c in range(bounds.shape[0]):
        if bounds[c] <= most:
            if job.half >> columns[c, lane] & 1:
                mine += 1
            else:
                others += 1
    return mine + others >= job.m or mine > job.t - own or others > job.m - job.t - (1 - own)


@compiled
def _mended(tables, lane, job, a, bounds, tau):  # type: ignore[no-untyped-def]
    """A bound on the sets to be left out with a, at most tau if there is one; bounds as from `_exchanged`."""
    if _enough(tables, lane, job, a, bounds, tau):
        return tau
    best = np.inf
    for c in range(bounds.shape[0]):
        if bounds[c] < best and _enough(tables, lane, job, a, bounds, bounds[c]):
            best = bounds[c]
    return best


@compiled
def _check(tables, job, unit, tau, failed, bounds, count):  # type: ignore[no-untyped-def]
    """Add the bases and the targets that they do not bound by tau to `failed`; how many there are now."""
    entries, T, total = tables.entries, tables.table, tables.total
    k, r = T.shape
    for lane in range(job.lanes):
        mask = np.int64(0)
        for a in range(r):
            if (1.0 + total[a, lane]) * (1.0 + tau * tables.off[lane]) <= (1.0 + tau) * (1.0 - 1e-9):
                continue
            if mask == 0:
                for p in range(k):
                    mask |= np.int64(1) << tables.rows[p, lane]
                    for c in range(r):
                        T[p, c] = entries[c, p, lane]
            _exchanged(tables, lane, a, unit, tables.bounds)
            bound = _mended(tables, lane, job, a, tables.bounds, tau)
            if bound <= tau:
                continue
            if count < failed.shape[0]:
                mine = _bound(total[a, lane], tables.off[lane])
                failed[count, 0], failed[count, 1] = mask, tables.columns[a, lane]
                bounds[count] = mine if mine < bound else bound
            count += 1
    return count


@compiled
def follow(start, job, tau, tables, stop, failed, bounds):  # type: ignore[no-untyped-def]
    """Take LANES tables through all bases of the other half.

    Args:
        start: `start_table.Start`.
        job, tables: see there.
        tau: the bound wanted.
        stop: (1,) int64, read once a basis: end when it is not 0.
        failed: (room, 2) int64, gets bases, as masks, each with a target that tau is not proven to bound.
        bounds: (room,), gets what does bound the heights of those that keep the basis and leave the target out.

    Returns:
        How many those are, more than there is room for perhaps; -1 where told to stop.
    """
    count, shared = np.int64(0), np.int64(0)
    for step in range(job.shared.shape[0]):
        if stop[0] != 0:
            return -1
        wanted = job.shared[step]
        worst = 0.0
        for lane in range(LANES):
            moved = tau * tables.off[lane]
            worst = moved if not moved <= worst else worst
        if step == 0 or not worst <= RESEAT or not _go_to(tables, shared, wanted, start.unit):
            _seat(start, job, wanted, tables)
            _largest(tables.total, tables.largest)
        shared = wanted
        count = _check(tables, job, start.unit, tau, failed, bounds, count)
        if count > failed.shape[0]:
            return count
    return count


def covering_seconds(n: int, k: int, m: int) -> float:
    """A guess of the core-seconds that one way through a covering takes; inf where the halves are too long."""
    ways = splits(n, n - k, m)
    return PER_ENTRY * k * (n - k) * sum(way.blocks for way in ways) if ways else np.inf


class Covering:
    """All jobs of a code, and the kernels' way through them."""

    def __init__(self, G: NDArray[np.float64], m: int) -> None:
        k, n = G.shape
        self.start, self.splits = start_of(G), splits(n, n - k, m)

    def jobs(self, split: Split) -> list[Job]:
        """What bounds the sets of one split."""
        n, m = sum(self.start.T.shape), split.t1 + split.t2
        v1, sides = n // 2, []
        for v, r, t, shift in ((v1, split.r1, split.t1, 0), (n - v1, split.r2, split.t2, v1)):
            full = np.int64((1 << v) - 1)
            sides.append((in_order(full & ~covering(v, r, t)) << shift, full << shift, t))
        # the longer side is the one that goes side by side: fewer spare lanes
        (mine, half, t), (shared, _, _) = sorted(sides, key=lambda side: -len(side[0]))
        jobs = []
        for i in range(0, len(mine), LANES):
            some = mine[i : i + LANES]
            # spare lanes repeat the last block
            jobs.append(Job(np.pad(some, (0, LANES - len(some)), mode="edge"), len(some), shared, half, t, m))
        return jobs

    def follow(self, job: Job, tau: float, stop: NDArray[np.int64]) -> list[Pair] | None:
        """What tau is not proven to bound; None where that is too much, or told to stop."""
        failed, bounds = np.empty((ROOM, 2), np.int64), np.empty(ROOM)
        count = follow(self.start, job, tau, new_tables(*self.start.T.shape), stop, failed, bounds)
        if not 0 <= count <= ROOM:
            return None
        rows = zip(bounds[:count].tolist(), failed[:count].tolist(), strict=True)
        return [Pair(bound, mask, a) for bound, (mask, a) in rows]
