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
def _best_two(H, d, scale, cross, left, more):  # type: ignore[no-untyped-def]
    """The two (u, v) to leave out of S without d that add most to the norm of a, if more than `more`: (u, v, added).

    H is that of S and b; with d's part that of S, b and d. Shapes: cross, left (n,), of S, b and d: the row of a, and
    what is left of each coordinate, 0 for those that stay outside.
    """
    n = H.shape[0]
    best_u, best_v = -1, -1
    for u in range(n - 1):
        rest_u, at_u, factor = left[u], cross[u], H[d, u] * scale
        if rest_u <= DEPENDENT:
            continue
        at_u_squared, most = at_u * at_u, 0.0
        for v in range(u + 1, n):
            shared = H[u, v] - factor * H[d, v]
            both = rest_u * left[v] - shared * shared
            added = at_u_squared * left[v] + cross[v] * (cross[v] * rest_u + 2.0 * at_u * shared)
            gain = added - more * both if both > DEPENDENT * rest_u else 0.0
            most = max(most, gain)
        if most > 0.0:
            for v in range(u + 1, n):
                shared = H[u, v] - factor * H[d, v]
                both = rest_u * left[v] - shared * shared
                added = at_u_squared * left[v] + cross[v] * (cross[v] * rest_u + 2.0 * at_u * shared)
                if both > DEPENDENT * rest_u and added > more * both:
                    more, best_u, best_v = added / both, u, v
    return best_u, best_v, more


@compiled
def best_pair(mask, a, W, space):  # type: ignore[no-untyped-def]
    """The mask after the swap of two coordinates at once that makes the norm of (S, a) largest, or the same mask.

    With b and d back in S, H = W of that set: leaving out u and v adds to H_aa the quadratic form of (H_au, H_av) with
    the inverse of I - H on them. Shapes: W (n, n), of the mask; space (n + 3, n).
    """
    n = W.shape[0]
    H, cross, left, before = space[:n], space[n], space[n + 1], space[n + 2]
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
            here = H[a, a] - H[a, d] * H[a, d] * scale
            for j in range(n):
                cross[j] = H[a, j] - H[a, d] * H[d, j] * scale
                left[j] = 0.0 if rest >> j & 1 else 1.0 - (H[j, j] - H[d, j] * H[d, j] * scale)
            u, v, more = _best_two(H, d, scale, cross, left, best - here)
            if u >= 0:
                best, found = here + more, rest | np.int64(1) << u | np.int64(1) << v
    return found
