"""The minimum distance of short codes: by the rank of all sets of columns, or by the profile where that is in doubt."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes.distance import DOUBTFUL, rank_distance
from ..codes.forms import as_P
from ..codes.linear import check_P, like_input
from ..codes.minors import MAX_N
from .enumeration import enumerated_profiles, whole_profile


def _distance_of_fractions(P: list[list[Fraction]]) -> int:
    return len(P[0]) + 1 - int(np.isinf(whole_profile(P)).sum())


def minimum_distance(P: ArrayLike, threads: int | None = None, *, matrix: str | None = None) -> int | NDArray[np.int64]:
    """Minimum Hamming distance d of the code [I | P]; h_m is infinite exactly when m >= d.

    Args:
        P: (k, r) or (B, k, r), k + r <= 16. For integer P the answer is exact; for real P a height above
            minors.LARGEST_RATIO counts as infinite, as in `height_profile`.
        threads: default all cores.
        matrix: what P is, as in `m_height`.

    Returns:
        An int, or (B,) int64.

    Raises:
        CodeError: P is not a real finite matrix, or the code is too long.

    Example:
        >>> from moe_mheight import minimum_distance
        >>> minimum_distance([[1, 1], [1, 2]])
        3
    """
    given, _ = as_P(P, matrix)
    if isinstance(given, np.ndarray) and given.dtype == object:  # the exact form of a G or H
        distances = np.array([_distance_of_fractions(F) for F in given.reshape(-1, *given.shape[-2:]).tolist()])
        return like_input(distances, given.ndim == 2)
    batch, single = check_P(given, max_n=MAX_N)
    out = rank_distance(batch, threads)
    doubtful = np.flatnonzero(out == DOUBTFUL)
    if len(doubtful):
        infinite = np.isinf(enumerated_profiles(batch[doubtful], threads))
        out[doubtful] = infinite.shape[1] - infinite.sum(1)
    return like_input(out, single)
