"""Families of blocks that contain every small set: covering designs, by greedy choice, and products of two of them.

Every set of m of n coordinates lies in one of the blocks of r. A block's complement is a basis that such a set leaves
whole. The n coordinates are cut into halves: a set that has t in one half and m - t in the other lies in a block of a
covering of each. So a few hundred blocks of each half stand for 10^5 to 10^6 of the whole.
"""

from __future__ import annotations

from functools import cache
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EXCESS = 2.9
"""Blocks that the greedy choice takes over C(v, t) / C(r, t), the least there may be (measured: 1.7 to 4.6)."""

LARGEST = 10**6
"""Sets of a half that are covered one by one."""

SAMPLE = 500
"""Sets that say which coordinate a block leaves out next."""


def sets_of(v: int, t: int) -> NDArray[np.int64]:
    """All sets of t of v coordinates as masks, (C(v, t),)."""
    of_size = [np.zeros(1, np.int64), *(np.empty(0, np.int64) for _ in range(t))]
    for x in range(v):
        for size in range(t, 0, -1):
            of_size[size] = np.concatenate([of_size[size], of_size[size - 1] | np.int64(1) << x])
    return of_size[t]


@cache
def covering(v: int, r: int, t: int) -> NDArray[np.int64]:
    """Blocks of r of v coordinates such that every set of t <= r lies in one, as masks; always the same ones.

    A block begins with all coordinates and leaves out, one by one, the one in the fewest sets that are not covered yet
    and lie in it, but for those of one such set.
    """
    rng = np.random.default_rng([v, r, t])
    left = sets_of(v, t)
    blocks = []
    while len(left):
        block, inside = np.int64((1 << v) - 1), left
        stays = left[rng.integers(len(left))]
        for _ in range(v - r):
            some = inside if len(inside) <= SAMPLE else inside[rng.integers(len(inside), size=SAMPLE)]
            free = np.array([x for x in range(v) if (block & ~stays) >> x & 1])
            counts = np.count_nonzero(some[:, None] >> free & 1, axis=0) + 1e-3 * rng.random(len(free))
            gone = np.int64(1) << free[counts.argmin()]
            block, inside = block & ~gone, inside[inside & gone == 0]
        blocks.append(block)
        left = left[left & ~block != 0]
    return np.array(blocks, np.int64)


class Split(NamedTuple):
    """Sets with t1 and t2 coordinates in the halves, in blocks with r1 and r2 there; how many blocks are expected."""

    t1: int
    t2: int
    r1: int
    r2: int
    blocks: float


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
                least = comb(v, t) / comb(size, t)
                expected *= EXCESS * least if least > 1.0 else 1.0
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
