"""Whether few coordinates can hit every set of a family, for the check of certificates: bit masks in NumPy.

The searches that make certificates have their own, `exact.hitting_set`. This one is the check's; `repair` uses it too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.uint64]


class HittingSets:
    """Looks for a small set of coordinates that meets every mask of a family; counts its nodes."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.nodes = 0

    def find(self, family: Masks, t: int, R: int = 0, K: int = 0) -> int | None:
        """R with up to t coordinates more that hit all the family (masks avoiding R), or None when there are none.

        K are coordinates with which none exists, as was found before: they are left out.
        """
        self.nodes += 1
        if not len(family):
            return R
        if t == 0:
            return None
        if t == 1:
            common = int(np.bitwise_and.reduce(family))
            return R | (common & -common) if common else None
        free = family & np.uint64(~K & (1 << self.n) - 1)
        sizes = _sizes(free)
        branch = free[sizes.argmin()]
        if not branch or self._too_many_disjoint(free, sizes, t):
            return None
        if t == 2:
            pair = self._pair(family)
            return None if pair is None else R | pair
        for b in coordinates(int(branch)):
            found = self.find(family[family & np.uint64(1 << b) == 0], t - 1, R | 1 << b, K)
            if found is not None:
                return found
            K |= 1 << b
        return None

    def _too_many_disjoint(self, free: Masks, sizes: NDArray[np.integer[Any]], t: int) -> bool:
        """Whether t + 1 masks are pairwise disjoint, small ones first: t coordinates then miss one."""
        for _ in range(t + 1):
            if not len(free):
                return False
            disjoint = free & free[sizes.argmin()] == 0
            free, sizes = free[disjoint], sizes[disjoint]
        return True

    def _pair(self, family: Masks) -> int | None:
        """Two coordinates (or one) that hit all masks: those which no mask avoids together.

        Counts may round in float32, but a sum of zeros and ones is 0 only when all of them are.
        """
        both = np.zeros((self.n, self.n), dtype=np.float32)
        # mostly one piece settles it; BLAS calls threads for larger ones, and they wait for each other on busy cores
        piece = (1 << 18) // self.n**2
        for start in range(0, len(family), piece):
            avoids = (~members(family[start : start + piece], self.n)).astype(np.float32)
            both += avoids.T @ avoids
            if both.all():
                return None
        b, c = np.argwhere(both == 0)[0]
        return 1 << int(b) | 1 << int(c)


_BITS = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)


def _sizes(masks: Masks) -> NDArray[np.integer[Any]]:
    """How many coordinates each mask holds."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(masks)
    sizes: NDArray[np.uint8] = _BITS[masks.view(np.uint8).reshape(-1, 8)].sum(axis=1, dtype=np.uint8)
    return sizes


def members(masks: Masks, n: int) -> NDArray[np.bool_]:
    """Masks as truth values, (N, n)."""
    octets = masks.astype("<u8").view(np.uint8).reshape(-1, 8)
    return np.unpackbits(octets, axis=1, bitorder="little")[:, :n].astype(bool)


def coordinates(mask: int) -> list[int]:
    return [j for j in range(mask.bit_length()) if mask >> j & 1]
