"""How a search is cut into parts (R, K): the sets that leave out R and keep K, for threads to share.

Neither the parts nor their order depend on the number of threads. With automorphisms a part also knows the sets that
come before it, so that it can skip the images of these.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codes.automorphism_groups import orbits
from ..numerics.bitsets import BITS
from ..numerics.jit import compiled
from ..numerics.simplex_tableau import new_tableau
from .all_targets import common_basis
from .orbits import completed_by

PARTS = 64
"""How many parts a search is cut into."""

SMALL = 20_000
"""With no more sets than this at worst the search is a single part, a matter of milliseconds."""

ALONE = 0.25
"""Share of the targets that the first basis may fail to bound before each target is searched by itself."""


@compiled
def branching(G, out, tau, best):  # type: ignore[no-untyped-def]
    """A basis that bounds all targets in `out`, those it does not bound, its largest bound; inf where there is none."""
    mask, bad, bound, hard = common_basis(new_tableau(G, 0), out, out, tau, best, False)
    return mask, bad, bound if hard < 0 else np.inf


class Part(NamedTuple):
    """The sets that leave out `out` and keep `kept`, for the target a, or for all where a is -1; `size` at worst.

    done: masks of the sets that the search is done with where the part begins, in the order of depth.
    """

    size: int
    out: int
    kept: int
    a: int
    done: tuple[int, ...] = ()


def parts(
    G: NDArray[np.float64], m: int, tau: float, best: float, perms: NDArray[np.int64]
) -> tuple[list[Part], list[int], float]:
    """Parts, largest first; the bases that cut them; the largest bound those prove.

    Or one for each target, where a basis hardly ever bounds many of them: codes of low height. With automorphisms
    `perms` only the targets that come first in their orbits.
    """
    k, n = G.shape
    _, bad, bound = branching(G, np.int64(0), tau, best)
    if not bound < np.inf or int(bad & (2**BITS - 1)).bit_count() > ALONE * (n - k):
        return [Part(1, 0, 0, a) for a in np.unique(orbits(perms)).tolist()], [], 0.0
    small: list[Part] = []
    waiting, bases, proven = [Part(-comb(k + m - 1, m - 1) * m, 0, 0, -1)], [], 0.0
    while waiting and len(waiting) + len(small) < PARTS and -waiting[0].size > SMALL // 8:
        part = heappop(waiting)
        left = m - part.out.bit_count()
        mask, bad, bound = branching(G, np.int64(signed(part.out)), tau, best) if left > 2 else (0, 0, np.inf)
        if not bound <= tau:
            small.append(part)
            continue
        bases.append(int(mask))
        proven = max(proven, bound)
        for child in _children(part, (int(mask) | int(bad)) & (2**BITS - 1), left, perms):
            heappush(waiting, child)
    return [part._replace(size=-part.size) for part in sorted(small + waiting)], bases, proven


def _children(part: Part, branch: int, left: int, perms: NDArray[np.int64]) -> list[Part]:
    """The parts that leave out one more coordinate of `branch` each, up to `left`."""
    kept, done, out = part.kept, part.done, []
    kept |= completed_by(perms, done, part.out)
    while free := branch & ~kept:
        b = free & -free
        X = part.out | b
        leaves = comb(free.bit_count() + left - 2, left - 1)
        out.append(Part(-leaves, X, kept | completed_by(perms, done, X), -1, done))
        done = (*done, X)
        kept |= b | completed_by(perms, [X], part.out)
    return out


def signed(mask: int) -> int:
    """A mask of 64 bits as the int64 it is."""
    return mask - 2**BITS if mask >> 63 else mask
