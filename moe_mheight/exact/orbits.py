"""Sets that a search is done with because it has searched an image of them under an automorphism of the code.

A search is done with a set X of coordinates left out when it knows that all that leave out X, and more, reach no
height above tau. Then it is done with every image of X, so a node that leaves out R may keep each coordinate c for
which R + {c} contains one. X becomes such a set when the node that leaves out X ends: what was kept there had been done
with before. Only X of up to three coordinates are remembered, all their images in tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.bitsets import BITS, count_bits, lowest_bit
from ..numerics.jit import compiled

REMEMBERED = 3
"""Coordinates of the largest sets that are remembered."""


class Done(NamedTuple):
    """Masks of coordinates that complete a set that is done with.

    none: (1,), to nothing; one: (n,), to each coordinate; two: (n, n), to each two.
    """

    none: Any
    one: Any
    two: Any


@compiled
def mark(done, perms, X, target):  # type: ignore[no-untyped-def]
    """The search is done with X, one to three coordinates, and so with its images.

    perms: (g, n) automorphisms; target: only those that fix it count, -1 for all.
    """
    one, size = np.int64(1), count_bits(X)
    x = lowest_bit(X)
    rest = X & (X - 1)
    y = lowest_bit(rest) if size > 1 else x
    z = lowest_bit(rest & (rest - 1)) if size > 2 else y
    for g in range(perms.shape[0]):
        if target >= 0 and perms[g, target] != target:
            continue
        p, q, r = perms[g, x], perms[g, y], perms[g, z]
        if size == 1:
            done.none[0] |= one << p
        elif size == 2:
            done.one[p] |= one << q
            done.one[q] |= one << p
        else:
            done.two[p, q] |= one << r
            done.two[q, p] |= one << r
            done.two[p, r] |= one << q
            done.two[r, p] |= one << q
            done.two[q, r] |= one << p
            done.two[r, q] |= one << p


@compiled
def completing(done, R):  # type: ignore[no-untyped-def]
    """The coordinates that complete a set that is done with, beside those in R."""
    out, left = done.none[0], R
    while left:
        x = lowest_bit(left)
        left &= left - 1
        out |= done.one[x]
        others = left
        while others:
            out |= done.two[x, lowest_bit(others)]
            others &= others - 1
    return out & ~R


@compiled
def completing_with(done, R, b):  # type: ignore[no-untyped-def]
    """Those that complete one that b belongs to, beside some in R."""
    out, left = done.one[b], R
    while left:
        out |= done.two[b, lowest_bit(left)]
        left &= left - 1
    return out & ~(R | np.int64(1) << b)


@compiled
def leave(done, perms, X, R, target):  # type: ignore[no-untyped-def]
    """The search is done with X, a child of R: the coordinates that R keeps because of that."""
    if count_bits(X) > REMEMBERED:
        return np.int64(0)
    mark(done, perms, X, target)
    return completing(done, R)


@compiled
def tables_of(perms, sets, target):  # type: ignore[no-untyped-def]
    """What completes images of these sets, given as masks; without rows where the identity is the only automorphism."""
    size = perms.shape[1] if perms.shape[0] > 1 else 0
    done = Done(np.zeros(1, np.int64), np.zeros(size, np.int64), np.zeros((size, size), np.int64))
    if size > 0:
        for X in sets:
            if count_bits(X) <= REMEMBERED:
                mark(done, perms, X, target)
    return done


def completed_by(perms: NDArray[np.int64], done: Sequence[int], out: int) -> int:
    """The mask of the coordinates that complete an image of a set in `done`, beside those in `out`; sets as masks."""
    kept = 0
    for X in done:
        columns = perms[:, [j for j in range(BITS) if X >> j & 1]].astype(np.uint64)
        images = np.bitwise_or.reduce(np.uint64(1) << columns, axis=1)
        missing = images & np.uint64(~out & (2**BITS - 1))
        single = missing[missing & (missing - np.uint64(1)) == 0]
        kept |= int(np.bitwise_or.reduce(single)) if len(single) else 0
    return kept
