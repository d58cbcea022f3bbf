"""Sets of columns up to automorphisms: what a certificate lists of those that a search has found."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 1 << 20
"""Images that are worked out at once."""


def _images(masks: list[int], perms: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """For some masks at a time: which is the first, and all their images (count, g)."""
    n = perms.shape[1]
    bits = np.uint64(1) << perms.T.astype(np.uint64)
    step = max(1, AT_ONCE // len(perms))
    for start in range(0, len(masks), step):
        chunk = np.array(masks[start : start + step], np.uint64)
        yield start, (chunk[:, None] >> np.arange(n, dtype=np.uint64) & np.uint64(1)) @ bits


def all_images(masks: set[int], perms: NDArray[np.int64]) -> set[int]:
    """These sets, as masks, and their images under a group with these elements (g, n)."""
    out: set[int] = set()
    for _, images in _images(sorted(masks), perms):
        out.update(np.unique(images).tolist())
    return out


def one_of_each_orbit(masks: set[int], perms: NDArray[np.int64]) -> tuple[set[int], int]:
    """One of these sets for each orbit, and how many sets those orbits have in all."""
    listed = sorted(masks)
    first: dict[int, int] = {}
    total = 0
    for start, images in _images(listed, perms):
        least = images.min(axis=1)
        stabilisers = (images == images[:, :1]).sum(axis=1)  # the identity comes first
        for i, (key, fixed) in enumerate(zip(least.tolist(), stabilisers.tolist(), strict=True)):
            if key not in first:
                first[key] = listed[start + i]
                total += len(perms) // fixed
    return set(first.values()), total
