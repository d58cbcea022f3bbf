"""Random streams of fresh, exactly labelled codes, one for each purpose, so that none ever sees another's codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..codes.generators import KINDS, random_codes
from ..exact.heights import m_height

STREAMS = {"train": 1, "validate": 2, "calibrate": 3, "test": 4, "default": 5, "router": 6}
"""Random streams that never share a seed; "default" is the set that ensemble-eval draws when given no data."""


def stream(name: str, *numbers: int) -> np.random.Generator:
    """The random stream of that name and those numbers."""
    return np.random.default_rng([STREAMS[name], *numbers])


def draw(
    rng: np.random.Generator,
    group: tuple[int, int, int],
    count: int,
    kinds: tuple[str, ...] = KINDS,
    *,
    infinite: bool = False,
    threads: int | None = 1,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Random codes of one group, kinds in equal parts, and their exact heights: (B, k, r), (B,).

    Codes of infinite height are left out unless asked for, so fewer than `count` may come back.
    """
    n, k, m = group
    P = np.concatenate([random_codes(kind, -(-count // len(kinds)), k, n - k, rng) for kind in kinds])
    P = P[rng.permutation(len(P))[:count]]
    h = m_height(P, m, threads=threads)
    kept = np.isfinite(h) | infinite
    return P[kept], h[kept]
