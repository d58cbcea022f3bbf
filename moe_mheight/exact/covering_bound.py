"""A certified upper bound on h_m within seconds, where a search takes hours: by a covering instead of a tree.

A basis B whose complement contains the m coordinates A left out of S lies in S, and bounds the targets a in A by its
own |y|_1. Complements that contain every A are a covering (`coverings`), 10^6 of them at (44, 22, 12), and the largest
|y|_1 bounds the height. Where a basis is near to singular, B - i + c bounds the same A unless c is in A: with bounds
for m of the c, one of them is not. What these leave is searched, with B kept.

LANES bases are done at a time, see `covering_tables`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.jit import LANES, compiled
from .covering_tables import Job, go_to, largest_columns, new_tables, seat
from .coverings import Split, covering, in_order, splits
from .start_table import start_of

RESEAT = 0.02
"""A table is made again from the first one once rounding may have moved a bound by this much, relatively."""

ROOM = 1 << 15
"""Bases and targets of one job that may be left to a search."""

PER_ENTRY = 2e-9
"""Seconds for a block, over the k r entries of its table (measured: 1e-9 to 8e-9)."""


class Pair(NamedTuple):
    """A basis, as a mask, a target outside it, and what bounds the sets that keep the one and leave the other out."""

    bound: float
    kept: int
    a: int


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
        if step == 0 or not worst <= RESEAT or not go_to(tables, shared, wanted, start.unit):
            seat(start, job, wanted, tables)
            largest_columns(tables.total, tables.largest)
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
