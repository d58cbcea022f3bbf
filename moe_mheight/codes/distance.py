"""The minimum distance by the rank of all sets of columns, where the minors leave no doubt about it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..numerics.jit import LANES, compiled, over_batch
from .minors import BEFORE_THE_RULE, exact_integer_limit, load_lanes, minor_lanes, minor_tables, new_minors

DOUBTFUL = -1
"""Instead of a distance: a minor is in doubt, or a height may be on either side of LARGEST_RATIO."""


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
def _distance(P, exact_below, tables, out):  # type: ignore[no-untyped-def]
    """d by the rank of all sets, where minors are right to rounding and no real height can be infinite; else -1."""
    count, k, r = P.shape
    n = k + r
    x = np.empty((k * r, LANES))
    found = new_minors(tables)
    minor, parts = found.size, tables.parts
    zero, steep = np.empty(LANES), np.empty(LANES)
    spans = np.zeros(1 << n, np.bool_)
    for start in range(0, count, LANES):
        stop = min(start + LANES, count)
        load_lanes(P, start, stop, x)
        minor_lanes(x, exact_below, tables, found)
        zero[:] = 0.0
        for b in range(minor.shape[0]):
            for lane in range(LANES):
                zero[lane] = 1.0 if minor[b, lane] == 0.0 else zero[lane]
        steep[:] = 0.0
        for d in range(parts.shape[0]):
            for t in range(parts.shape[1]):
                part = minor[parts[d, t]]
                for lane in range(LANES):
                    steep[lane] = 1.0 if found.total[d, lane] > BEFORE_THE_RULE * part[lane] else steep[lane]
        for lane in range(stop - start):
            if found.sure[lane] == 0.0 or (found.integer[lane] == 0.0 and steep[lane] > 0.0):
                out[start + lane] = DOUBTFUL
            elif zero[lane] == 0.0:
                out[start + lane] = r + 1
            else:
                out[start + lane] = _distance_by_rank(tables.masks, minor[:, lane], spans, n)


def rank_distance(batch: NDArray[np.float64], threads: int | None = None) -> NDArray[np.int64]:
    """Minimum distances of checked codes (B, k, r), k + r <= 16: (B,), DOUBTFUL where the minors leave a doubt."""
    count, k, r = batch.shape
    out = np.empty(count, np.int64)
    tables = minor_tables(k + r, k)
    limit = exact_integer_limit(k, r)
    over_batch(lambda i, j: _distance(batch[i:j], limit, tables, out[i:j]), count, threads)
    return out
