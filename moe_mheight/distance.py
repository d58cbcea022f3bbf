"""The minimum distance of short codes: by the rank of all sets of columns, or by the profile where that is in doubt."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .codes import check_P, like_input
from .enumeration import BEFORE_THE_RULE, enumerated_profiles, whole_profile
from .forms import as_P
from .kernels import LANES, compiled, over_batch
from .minors import MAX_N, exact_integer_limit, load_lanes, minor_lanes, minor_tables


@compiled
def _distance_by_rank(masks, minor, spans, n):  # type: ignore[no-untyped-def]
    """n less the size of the largest column set that does not span."""
    spans[:] = False
    for b in range(masks.shape[0]):
        spans[masks[b]] = minor[b] > 0.0
    for i in range(n):
        for mask in range(1 << n):
            if mask >> i & 1 and spans[mask ^ (1 << i)]:
                spans[mask] = True
    distance = n
    for mask in range(1 << n):
        if not spans[mask]:
            size = 0
            for i in range(n):
                size += mask >> i & 1
            distance = min(distance, n - size)
    return distance


@compiled
def _distance(P, exact_below, masks, first, source, entry, sign, parts, out):  # type: ignore[no-untyped-def]
    """d by the rank of all sets, where minors are right to rounding and no real height can be infinite; else -1."""
    count, k, r = P.shape
    n = k + r
    x = np.empty((k * r, LANES))
    minor = np.empty((masks.shape[0], LANES))
    low = np.empty_like(minor)
    total = np.empty((parts.shape[0], LANES))
    sure, whole = np.empty(LANES), np.empty(LANES)
    zero, steep = np.empty(LANES), np.empty(LANES)
    spans = np.zeros(1 << n, np.bool_)
    for start in range(0, count, LANES):
        stop = min(start + LANES, count)
        load_lanes(P, start, stop, x)
        minor_lanes(x, exact_below, first, source, entry, sign, parts, minor, low, total, sure, whole)
        zero[:] = 0.0
        for b in range(minor.shape[0]):
            for lane in range(LANES):
                zero[lane] = 1.0 if minor[b, lane] == 0.0 else zero[lane]
        steep[:] = 0.0
        for d in range(parts.shape[0]):
            for t in range(parts.shape[1]):
                part = minor[parts[d, t]]
                for lane in range(LANES):
                    steep[lane] = 1.0 if total[d, lane] > BEFORE_THE_RULE * part[lane] else steep[lane]
        for lane in range(stop - start):
            if sure[lane] == 0.0 or (whole[lane] == 0.0 and steep[lane] > 0.0):
                out[start + lane] = -1
            elif zero[lane] == 0.0:
                out[start + lane] = r + 1
            else:
                out[start + lane] = _distance_by_rank(masks, minor[:, lane], spans, n)


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
    count, k, r = batch.shape
    out = np.empty(count, np.int64)
    tables = minor_tables(k + r, k)
    limit = exact_integer_limit(k, r)
    over_batch(lambda i, j: _distance(batch[i:j], limit, *tables, out[i:j]), count, threads)
    doubtful = np.flatnonzero(out < 0)
    if len(doubtful):
        infinite = np.isinf(enumerated_profiles(batch[doubtful], threads))
        out[doubtful] = r + 1 - infinite.sum(1)
    return like_input(out, single)
