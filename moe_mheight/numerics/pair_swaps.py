"""The best swap of two coordinates for two others, by what it makes of the norm; see `swaps`, whose letters these are.

Where no swap of one coordinate is better any more, one of two often is, and a set has thousands of those.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from .jit import compiled
from .swaps import DEPENDENT, move

_in_any_order = partial(compiled, fastmath={"reassoc", "nsz", "contract"})
"""Sums and maxima by as many lanes as there are."""


@_in_any_order
def _pairs_with(H_u, cross, left, u, rest_u, at_a_u, best, value):  # type: ignore[no-untyped-def]
    """How much more than `best` the norm of a becomes without u and each later v, times what is left of them; the most.

    Shape: H_u, value (n,); cross, left: row of a, and what is left of each v.
    """
    most = 0.0
    for v in range(u + 1, H_u.shape[0]):
        shared, at_a_v, rest_v = H_u[v], cross[v], left[v]
        both = rest_u * rest_v - shared * shared
        gain = at_a_u * at_a_u * rest_v + at_a_v * at_a_v * rest_u + 2.0 * at_a_u * at_a_v * shared - best * both
        value[v] = gain if both > DEPENDENT * rest_u else 0.0
        most = max(most, value[v])
    return most


@compiled
def best_pair(mask, a, W, space):  # type: ignore[no-untyped-def]
    """The mask after the swap of two coordinates at once that makes the norm of (S, a) largest, or the same mask.

    With b and d back in S, H = W of that set: leaving out u and v adds to H_aa the quadratic form of (H_au, H_av) with
    the inverse of I - H on them. Shapes: W (n, n), of the mask; space (2 n + 8, n).
    """
    n = W.shape[0]
    H, H_both, cross, left, value = space[:n], space[n : 2 * n], space[2 * n], space[2 * n + 1], space[2 * n + 2]
    before = space[2 * n + 3]
    best, found = W[a, a] * (1.0 + 1e-9), mask
    for b in range(n):
        if b == a or not mask >> b & 1:
            continue
        for i in range(n):
            for j in range(n):
                H[i, j] = W[i, j]
        move(H, b, -1.0, before)
        for d in range(b + 1, n):
            if d == a or not mask >> d & 1:
                continue
            rest = mask ^ np.int64(1) << b ^ np.int64(1) << d
            scale = 1.0 / (1.0 + H[d, d])
            for j in range(n):
                cross[j] = H[a, j] - H[a, d] * H[d, j] * scale
                left[j] = 0.0 if rest >> j & 1 else 1.0 - (H[j, j] - H[d, j] * H[d, j] * scale)
            here = cross[a]
            for u in range(n - 1):
                if left[u] <= DEPENDENT:
                    continue
                factor = H[d, u] * scale
                for v in range(u + 1, n):
                    H_both[u, v] = H[u, v] - factor * H[d, v]
                if _pairs_with(H_both[u], cross, left, u, left[u], cross[u], best - here, value) > 0.0:
                    for v in range(u + 1, n):
                        if value[v] > 0.0:
                            both = left[u] * left[v] - H_both[u, v] * H_both[u, v]
                            reached = best + value[v] / both
                            if reached > best:
                                best = reached
                                found = rest | np.int64(1) << u | np.int64(1) << v
                                break
    return found, best
