"""How promising the swaps of a set are: the height of every set one swap away, estimated without solving for it.

With W of the set (see `budget_search`), its least-squares solution y after the swap of b for j takes a few operations
a coordinate. |y|_1 and |y|_2^2 / |y|_inf bound the height of (S, a) from above and below; their geometric mean is the
fixed ranking. Between them the height lies where the shape of y and the leverages of the columns say: that is learned
(`experts.ranking`), as a small network that adds to the geometric mean.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.jit import compiled

SHAPES = 10
"""What is read of a swap, see `read_swaps`."""

WHOLE = 1e-12
"""A coordinate of which less than this is left depends on the others."""

FAR_BELOW = 1.5
"""Bits, far more than what the network corrects."""

_in_any_order = partial(compiled, fastmath={"reassoc", "nsz", "contract"})


class Ranking(NamedTuple):
    """A network that corrects the fixed ranking: inner (SHAPES, H), shift (H,), outer (H,); H = 0 for none.

    log2 of the estimate is that of the geometric mean, and outer . f(x inner + shift), f(z) = z / (1 + |z|).
    """

    inner: Any
    shift: Any
    outer: Any


FIXED = Ranking(np.zeros((SHAPES, 0)), np.zeros(0), np.zeros(0))


@_in_any_order
def _sums(at_a, by_j, leverage, factor, inverse, inside, sums):  # type: ignore[no-untyped-def]
    """Sums over S of what y and the leverages are after the swap: |y|, y^2, y^4, |y| l, y^2 l, l^2, |y| l (1 - l), max.

    Shapes: at_a, by_j, leverage, inside (n,), before j is left out; sums (8,).
    """
    s0, s1, s2, s3, s4, s5, s6, most = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(at_a.shape[0]):
        here = inside[i]
        size = abs(at_a[i] + by_j[i] * factor) * here
        lever = (leverage[i] + by_j[i] * by_j[i] * inverse) * here
        square = size * size
        s0 += size
        s1 += square
        s2 += square * square
        s3 += size * lever
        s4 += square * lever
        s5 += lever * lever
        s6 += size * lever * (1.0 - lever)
        most = max(most, size)
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7] = s0, s1, s2, s3, s4, s5, s6, most


@compiled
def _read(sums, k, size, x):  # type: ignore[no-untyped-def]
    """What the ranking reads, (SHAPES,), of sums over `size` coordinates; returns log2 of the geometric mean."""
    norm_1, square, largest = sums[0], sums[1], sums[7]
    root = np.sqrt(square)
    log_1, log_most = np.log2(norm_1 / root), np.log2(largest / root)
    log_size, dense = np.log2(np.float64(size)), size / k
    x[0] = log_1 - 0.5 * log_size
    x[1] = log_most + 0.5 * log_size
    x[2] = 0.25 * np.log2(sums[2] / (square * square) * size)
    x[3] = 1.0 / dense
    x[4] = 0.25 * log_size
    x[5] = sums[3] / norm_1 * dense - 1.0
    x[6] = sums[4] / square * dense - 1.0
    x[7] = sums[5] * dense / k - 1.0
    x[8] = sums[6] / norm_1
    x[9] = 0.125 * np.log2(root)
    return np.log2(root) + 0.5 * (log_1 - log_most)


@_in_any_order
def _learned(ranking, x, hidden):  # type: ignore[no-untyped-def]
    """What the network adds; hidden (H,), space."""
    inner, shift, outer = ranking.inner, ranking.shift, ranking.outer
    for h in range(hidden.shape[0]):
        hidden[h] = shift[h]
    for f in range(inner.shape[0]):
        value = x[f]
        for h in range(hidden.shape[0]):
            hidden[h] += inner[f, h] * value
    out = 0.0
    for h in range(hidden.shape[0]):
        out += outer[h] * (hidden[h] / (1.0 + abs(hidden[h])))
    return out


@compiled
def score_swaps(W, mask, a, k, least, ranking, read, scores, space):  # type: ignore[no-untyped-def]
    """log2 heights of (S', a), estimated, for every S' one swap away; -inf where there is none.

    Args:
        W: (n, n), of the set.
        least: the network is not asked about swaps whose fixed score is more than FAR_BELOW below it.
        read: (T, SHAPES), filled with what is read of the swaps where T > 0: that of b for j in row b n + j.
        scores: (n, n), of the swap of b outside for j in S.
        space: (4, n).
    """
    n = W.shape[0]
    at_a, leverage, by_j, inside = space[0], space[1], space[2], space[3]
    sums, x, hidden = np.empty(8), np.empty(SHAPES), np.empty(ranking.outer.shape[0])
    size = 0
    for i in range(n):
        inside[i] = 0.0 if mask >> i & 1 else 1.0
        size += 1 - (mask >> i & 1)
        for j in range(n):
            scores[i, j] = -np.inf
    for b in range(n):
        if b == a or not mask >> b & 1:
            continue
        scale = 1.0 / (1.0 + W[b, b])
        for i in range(n):
            at_a[i] = W[a, i] - W[a, b] * W[b, i] * scale
            leverage[i] = W[i, i] - W[b, i] * W[b, i] * scale
        inside[b] = 1.0
        for j in range(n):
            if mask >> j & 1:
                continue
            left = 1.0 - leverage[j]
            if left <= WHOLE:
                scores[b, j] = 1e3
                continue
            for i in range(n):
                by_j[i] = W[j, i] - W[j, b] * W[b, i] * scale
            inside[j] = 0.0
            _sums(at_a, by_j, leverage, at_a[j] / left, 1.0 / left, inside, sums)
            inside[j] = 1.0
            if not sums[1] > 0.0:
                continue
            scores[b, j] = _read(sums, k, size, x)
            if hidden.shape[0] and scores[b, j] > least - FAR_BELOW:
                scores[b, j] += _learned(ranking, x, hidden)
            if read.shape[0]:
                read[b * n + j] = x
        inside[b] = 0.0


def fixed_scores(read: NDArray[np.float64]) -> NDArray[np.float64]:
    """The fixed ranking's scores (...), from what is read of swaps, (..., SHAPES)."""
    half = 2.0 * read[..., 4]
    scores: NDArray[np.float64] = 8.0 * read[..., 9] + 0.5 * (read[..., 0] - read[..., 1]) + half
    return scores
