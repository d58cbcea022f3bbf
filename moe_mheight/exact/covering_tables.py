"""LANES tables of bases that share half of their coordinates, walked side by side from one other half to the next.

The first half of the blocks of LANES bases differ, the second is the same, and changes by the same pivots. What
rounding does is bounded as `start_table` says.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..numerics.bitsets import count_bits, lowest_bit
from ..numerics.jit import LANES, compiled, fused


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
def seat(start, job, shared, tables):  # type: ignore[no-untyped-def]
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
def largest_columns(total, largest):  # type: ignore[no-untyped-def]
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
def go_to(tables, shared, wanted, unit):  # type: ignore[no-untyped-def]
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
        largest_columns(tables.total, tables.largest)
        for lane in range(LANES):
            tables.off[lane] += unit * (tables.before[lane] + tables.largest[lane])
        leave &= ~(np.int64(1) << one)
        enter &= ~(np.int64(1) << two)
    return True
