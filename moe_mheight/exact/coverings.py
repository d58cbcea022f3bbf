"""Families of blocks that contain every small set: covering designs, by greedy choice, and products of two of them.

Every set of m of n coordinates lies in one of the blocks of r. A block's complement is a basis that such a set leaves
whole. The n coordinates are cut into halves: a set that has t in one half and m - t in the other lies in a block of a
covering of each. So a few hundred blocks of each half stand for 10^5 to 10^6 of the whole.
"""

from __future__ import annotations

from functools import cache
from math import comb, log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.jit import compiled

EXCESS = (0.8, 0.43)
"""Blocks that the greedy choice takes over C(v, t) / C(r, t), the least there may be: a constant, and what the log of
C(r, t) adds. Measured: 1.4 at C(r, t) = 6, 2.3 at 28, 3.5 at 462, 4.6 at 3003."""

LARGEST = 10**6
"""Sets of a half that are covered one by one."""

SAMPLE = 500
"""Sets that say which coordinate a block leaves out next."""


@compiled
def _fill(out, t):  # type: ignore[no-untyped-def]
    """All sets of t coordinates, as many as there is room for, in numerical order (Gosper)."""
    mask = (np.int64(1) << t) - 1
    for q in range(out.shape[0]):
        out[q] = mask
        low = mask & -mask
        up = mask + low
        mask = (((up ^ mask) >> 2) // max(low, 1)) | up


def sets_of(v: int, t: int) -> NDArray[np.uint32]:
    """All sets of t of v <= 32 coordinates as masks, (C(v, t),)."""
    out = np.empty(comb(v, t), np.uint32)
    _fill(out, t)
    return out


@compiled
def random_below(state, count):  # type: ignore[no-untyped-def]
    """A number below count, from the high bits of a linear congruence."""
    state[0] = state[0] * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    return np.int64(((state[0] >> np.uint64(33)) * np.uint64(count)) >> np.uint64(31))


@compiled
def _next_block(left, count, v, r, state, inside):  # type: ignore[no-untyped-def]
    """The next block, and how many of the first `count` sets it leaves, which are moved to the front of `left`."""
    stays = left[random_below(state, count)]
    block, size = (np.int64(1) << v) - 1, count
    for q in range(count):
        inside[q] = left[q]
    counts = np.empty(v, np.int64)
    for _ in range(v - r):
        counts[:] = 0
        step = max(1, size // SAMPLE)
        for q in range(0, size, step):
            for x in range(v):
                counts[x] += inside[q] >> x & 1
        gone, first = -1, random_below(state, v)
        for i in range(v):
            x = (first + i) % v
            if block >> x & 1 and not stays >> x & 1 and (gone < 0 or counts[x] < counts[gone]):
                gone = x
        block &= ~(np.int64(1) << gone)
        some = 0
        for q in range(size):
            mask = inside[q]
            inside[some] = mask
            some += 1 - (mask >> gone & 1)
        size = some
    some = 0
    for q in range(count):
        mask = left[q]
        left[some] = mask
        some += 1 if mask & ~block else 0
    return block, some


@cache
def covering(v: int, r: int, t: int) -> NDArray[np.int64]:
    """Blocks of r of v coordinates, v <= 32, such that every set of t <= r lies in one, as masks; always the same ones.

    A block begins with all coordinates and leaves out, one by one, the one in the fewest sets that are not covered yet
    and lie in it, but for those of one such set.
    """
    left = sets_of(v, t)
    inside, state, count = np.empty_like(left), np.array([v * 10000 + r * 100 + t], np.uint64), len(left)
    blocks = []
    while count:
        block, count = _next_block(left, count, v, r, state, inside)
        blocks.append(block)
    return np.array(blocks, np.int64)


class Split(NamedTuple):
    """Sets with t1 and t2 coordinates in the halves, in blocks with r1 and r2 there; how many blocks are expected."""

    t1: int
    t2: int
    r1: int
    r2: int
    blocks: float


def _expected_blocks(v: int, r: int, t: int) -> float:
    """A guess of how many blocks a covering has."""
    least = comb(v, t) / comb(r, t)
    return least * max(1.0, EXCESS[0] + EXCESS[1] * log(comb(r, t))) if least > 1.0 else 1.0


def splits(n: int, r: int, m: int) -> list[Split]:
    """How to cover the sets of m coordinates by blocks of r; none where a half has too many sets for that."""
    v1, v2 = n // 2, n - n // 2
    if max(comb(v, min(m, v // 2)) for v in (v1, v2)) > LARGEST:
        return []
    found = []
    for t1 in range(max(0, m - v2), min(m, v1) + 1):
        t2, ways = m - t1, []
        for r1 in range(max(t1, r - v2), min(v1, r - t2) + 1):
            expected = 1.0
            for v, size, t in ((v1, r1, t1), (v2, r - r1, t2)):
                expected *= _expected_blocks(v, size, t)
            ways.append(Split(t1, t2, r1, r - r1, expected))
        found.append(min(ways, key=lambda way: (way.blocks, way.r1)))
    return found


def in_order(blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The blocks, each followed by one of those with the most coordinates in common."""
    left, out = blocks.copy(), [blocks[0]]
    left = left[1:]
    while len(left):
        nearest = int(np.bitwise_count(left ^ out[-1]).argmin())
        out.append(left[nearest])
        left = np.delete(left, nearest)
    return np.array(out, np.int64)
