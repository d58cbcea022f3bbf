"""Sets that a search is done with because it has searched an image of them under an automorphism of the code.

A search is done with a set X of coordinates left out when it knows that all that leave out X, and more, reach no
height above tau. Then it is done with every image of X, so a node that leaves out R may keep each coordinate c for
which R + {c} contains one. X becomes such a set when the node that leaves out X ends: what was kept there had been done
with before. Only X of up to three coordinates are remembered, all their images in tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..numerics.bitsets import BITS, count_bits, lowest_bit
from ..numerics.jit import compiled

REMEMBERED = 3
"""Coordinates of the largest sets that are remembered."""


@compiled
def mark(done, perms, X, target):  # type: ignore[no-untyped-def]
    """The search is done with X, one to three coordinates, and so with its images.

    done: (n + 1, n + 1), filled with masks: of what completes, to a set that is done with, nothing in [n, n], x in
        [x, n], and x and y in [x, y]; with x and y themselves among them.
    perms: (g, n) automorphisms; target: only those that fix it count, -1 for all.
    """
    n, size = perms.shape[1], count_bits(X)
    for g in range(perms.shape[0]):
        if target >= 0 and perms[g, target] != target:
            continue
        image, left = np.int64(0), X
        while left:
            image |= np.int64(1) << perms[g, lowest_bit(left)]
            left &= left - 1
        left = image
        while left:
            x = lowest_bit(left)
            left &= left - 1
            others = image if size == 3 else np.int64(0)
            while others:
                done[x, lowest_bit(others)] |= image
                others &= others - 1
            if size < 3:
                done[x if size == 2 else n, n] |= image


@compiled
def completing(done, R):  # type: ignore[no-untyped-def]
    """The coordinates that complete a set that is done with, beside those in R."""
    n = done.shape[0] - 1
    out, left = done[n, n], R
    while left:
        x = lowest_bit(left)
        left &= left - 1
        out |= done[x, n]
        others = left
        while others:
            out |= done[x, lowest_bit(others)]
            others &= others - 1
    return out & ~R


@compiled
def leave(done, perms, X, R, target):  # type: ignore[no-untyped-def]
    """The search is done with X, a child of R: the coordinates that R keeps because of that."""
    if count_bits(X) > REMEMBERED:
        return np.int64(0)
    mark(done, perms, X, target)
    return completing(done, R)


@compiled
def tables_of(perms, sets, target):  # type: ignore[no-untyped-def]
    """What completes images of these sets, given as masks; a row only where the identity is the only automorphism."""
    size = perms.shape[1] + 1 if perms.shape[0] > 1 else 1
    done = np.zeros((size, size), np.int64)
    if size > 1:
        for i in range(sets.shape[0]):
            if count_bits(sets[i]) <= REMEMBERED:
                mark(done, perms, sets[i], target)
    return done


def completed_by(perms: NDArray[np.int64], done: Sequence[int], out: int) -> int:
    """The mask of the coordinates that complete an image of a set in `done`, beside those in `out`; sets as masks."""
    kept = 0
    if len(perms) == 1:  # by the identity alone, nothing that is not kept already
        return kept
    for X in done:
        columns = perms[:, [j for j in range(BITS) if X >> j & 1]].astype(np.uint64)
        images = np.bitwise_or.reduce(np.uint64(1) << columns, axis=1)
        missing = images & np.uint64(~out & (2**BITS - 1))
        single = missing[missing & (missing - np.uint64(1)) == 0]
        kept |= int(np.bitwise_or.reduce(single)) if len(single) else 0
    return kept
