"""What a swap of coordinates makes of the least-squares norm of a set, known without solving for the set again.

In the letters of `brackets.budget_search`: with h_j the columns of an orthonormal parity-check matrix, 1 / X_aa is the
squared distance of h_a from the span of the others outside S, and |y|_2^2 = X_aa - 1 = W_aa. The set that decides the
height nearly always has one of the largest norms of all. To look for those is to look for the few columns that come
nearest to another one: best-subset regression, with its classic means, forward selection and swaps (`local_search`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .bitsets import count_bits, lowest_bit
from .jit import compiled, fused, inlined, inlined_exactly
from .least_squares import fill

NONE = 1e-11
"""Minors relatively this small are rounding."""

DEPENDENT = 1e-12
"""A coordinate of which less than this is left depends on the others."""

MAX_SWAPS = 30
"""Swaps of one local search."""


class Sets(NamedTuple):
    """What the swaps of LANES sets are computed from, A the m coordinates outside S.

    inside: (n, LANES), 1.0 in S and 0.0 elsewhere.
    noise: (LANES,), what rounding makes of zero.
    X: (m, m, LANES) = (I - N_AA)^-1; Y: (n, m, LANES) = N_:A X; W: (n, n, LANES) = N + Y N_A:.
    rest, left, inverse: (n, LANES), (max(2 n, 3), LANES), (3, LANES), space.
    """

    inside: Any
    noise: Any
    X: Any
    Y: Any
    W: Any
    rest: Any
    left: Any
    inverse: Any


@fused
def move(W, b, sign, before):  # type: ignore[no-untyped-def]
    """Take coordinate b out of S (sign 1.0), or put it back (-1.0): W changes by a matrix of rank one.

    Shape: before (n,), space.
    """
    n = W.shape[0]
    scale = 1.0 / (1.0 - sign * W[b, b])
    for i in range(n):
        before[i] = W[b, i]
    for i in range(n):
        factor = sign * before[i] * scale
        for j in range(n):
            W[i, j] += factor * before[j]
    for i in range(n):
        W[i, b] = before[i] * scale
        W[b, i] = before[i] * scale


@inlined_exactly
def _inside(W, mask, diagonal):  # type: ignore[no-untyped-def]
    """The diagonal of W on S, and elsewhere a number that makes `_swaps` see nothing there."""
    for j in range(W.shape[0]):
        diagonal[j] = 1e300 if mask >> j & 1 else W[j, j]


@fused
def _swaps(W, a, b, diagonal, reach):  # type: ignore[no-untyped-def]
    """W_aa after the swap of b outside S for each j inside; 0 where they depend on each other."""
    scale = 1.0 / (1.0 + W[b, b])
    cross = W[a, b] * scale
    rest = W[a, a] - W[a, b] * cross
    for j in range(reach.shape[0]):
        shared = W[a, j] - cross * W[b, j]
        left = 1.0 - diagonal[j] + W[b, j] * W[b, j] * scale
        reach[j] = rest + shared * shared / left if left > DEPENDENT else 0.0


@compiled
def take_out(N, mask, W, before):  # type: ignore[no-untyped-def]
    """W of the set that leaves out `mask`; whether its coordinates are independent.

    Shape: N, W (n, n); before (n,), space.
    """
    n = N.shape[0]
    for i in range(n):
        for j in range(n):
            W[i, j] = N[i, j]
    left = mask
    while left:
        b = lowest_bit(left)
        left &= left - 1
        if 1.0 - W[b, b] <= DEPENDENT:
            return False
        move(W, b, 1.0, before)
    return True


@compiled
def _fill_up(mask, n, m):  # type: ignore[no-untyped-def]
    """The mask with the first coordinates besides, so that there are m."""
    for j in range(n):
        if count_bits(mask) == m:
            break
        mask |= np.int64(1) << j
    return mask


@compiled
def extend(N, m, mask, a, W, before):  # type: ignore[no-untyped-def]
    """m coordinates, those of `mask` first, then each the one that makes the norm of (S, a) grow most.

    Returns (mask, a, True), or False where a coordinate depends on those that stay, and is in the mask: a set whose
    height is infinite, or so large that W does not tell. Shapes: see `take_out`.
    """
    n = N.shape[0]
    if not take_out(N, mask, W, before):
        return _fill_up(mask, n, m), a, False
    for _ in range(m - count_bits(mask)):
        pick, largest = -1, -1.0
        for j in range(n):
            if mask >> j & 1:
                continue
            left = 1.0 - W[j, j]
            if left <= DEPENDENT:
                return _fill_up(mask | np.int64(1) << j, n, m), j, False
            gain = W[a, j] * W[a, j] / left
            if gain > largest:
                pick, largest = j, gain
        mask |= np.int64(1) << pick
        move(W, pick, 1.0, before)
    return mask, a, True


@compiled
def _grow(N, m, a, second, W, before):  # type: ignore[no-untyped-def]
    """The mask of m coordinates, a and `second` first, each the one that makes the norm of (S, a) grow most; or 0."""
    n = N.shape[0]
    for i in range(n):
        for j in range(n):
            W[i, j] = N[i, j]
    mask = 0
    for step in range(m):
        pick, largest = -1, 0.0
        for j in range(n):
            left = 1.0 - W[j, j]
            if mask >> j & 1 or left <= DEPENDENT:
                continue
            first = (step == 0 and j == a) or (step == 1 and j == second)
            gain = np.inf if first else W[a, j] * W[a, j] / left
            if pick < 0 or gain > largest:
                pick, largest = j, gain
        if pick < 0 or (step == 0 and pick != a):
            return 0
        mask |= 1 << pick
        move(W, pick, 1.0, before)
    return mask


@compiled
def improve(mask, a, W, space):  # type: ignore[no-untyped-def]
    """Swap, always the best, and turn to another a where that has a larger norm, until nothing is better: (mask, a).

    Shapes: see `local_search`; W is that of the mask, before and after.
    """
    n, diagonal, reach = W.shape[0], space[0], space[1]
    for _ in range(MAX_SWAPS):
        _inside(W, mask, diagonal)
        largest, out, into = W[a, a] * (1.0 + 1e-9), -1, -1
        for b in range(n):
            if b != a and mask >> b & 1:
                _swaps(W, a, b, diagonal, reach)
                for j in range(n):
                    if reach[j] > largest:
                        largest, out, into = reach[j], b, j
        if out >= 0:
            move(W, out, -1.0, reach)
            move(W, into, 1.0, reach)
            mask ^= 1 << out ^ 1 << into
            continue
        turned = a
        for b in range(n):
            if mask >> b & 1 and W[b, b] > W[turned, turned] * (1.0 + 1e-9):
                turned = b
        if turned == a:
            break
        a = turned
    return mask, a


@compiled
def local_search(N, m, a, second, W, space):  # type: ignore[no-untyped-def]
    """A set whose norm no swap of two coordinates improves, as (mask of the m coordinates outside, a).

    Starts from a, then `second` where it is not a, and chooses the others one by one so that the norm of (S, a) grows
    most; then swaps, always the best one, and turns to another a where that has a larger norm by now. (0, a) where m
    independent coordinates cannot be had. Shape: N (n, n), the projection on the code; W (n, n), that of the set; space
    (2, n).
    """
    mask = _grow(N, m, a, second, W, space[1])
    return (mask, a) if mask == 0 else improve(mask, a, W, space)


@compiled
def push(queue, worth, mask, value):  # type: ignore[no-untyped-def]
    """Put a set into the candidate queue, if it is better than the worst one there; whether it is new."""
    lowest = 0
    for q in range(queue.shape[0]):
        if queue[q] == mask:
            worth[q] = max(worth[q], value)
            return False
        if worth[q] < worth[lowest]:
            lowest = q
    if value > worth[lowest]:
        queue[lowest] = mask
        worth[lowest] = value
    return True


@compiled
def fill_queue(N, m, searches, factor, W, queue, worth):  # type: ignore[no-untyped-def]
    """Queue the sets of the largest norms, times `factor`: where local searches end, and one swap away.

    Shape: N, W (n, n), as in `local_search`; queue, worth (Q,), masks of sets and what they reach.
    """
    n, space = N.shape[0], np.empty((2, N.shape[0]))
    diagonal, reach = space[0], space[1]
    for q in range(searches):
        mask, a = local_search(N, m, q % n, (q % n + q // n) % n, W, space)
        if mask == 0 or not push(queue, worth, mask, factor * np.sqrt(max(W[a, a], 0.0))):
            continue
        least = worth[0]
        for place in range(worth.shape[0]):
            least = min(least, worth[place])
        lowest = (least / factor) ** 2
        _inside(W, mask, diagonal)
        for b in range(n):
            if b != a and mask >> b & 1:
                _swaps(W, a, b, diagonal, reach)
                for j in range(n):
                    if reach[j] > lowest:
                        push(queue, worth, mask ^ 1 << b ^ 1 << j, factor * np.sqrt(reach[j]))


@compiled
def swap_one(sets, b, slack, value, which):  # type: ignore[no-untyped-def]
    """The best swap of coordinate b outside for one inside; see `swap_two`."""
    inside, noise, X, Y, W = sets.inside, sets.noise, sets.X, sets.Y, sets.W
    total = sets.rest[0]
    n = W.shape[0]
    fill(value, 0.0)
    fill(which, 0.0)
    if slack == 0:
        fill(total, 1.0)
        for u in range(n):
            p, here = Y[u, b], inside[u]
            for lane in range(value.shape[0]):
                total[lane] += abs(p[lane]) * here[lane]
        for u in range(n):
            p, here = Y[u, b], inside[u]
            for lane in range(value.shape[0]):
                size = abs(p[lane]) * here[lane]
                reach = (total[lane] - size) / size if size > NONE * total[lane] else 0.0
                better = reach > value[lane]
                value[lane] = reach if better else value[lane]
                which[lane] = u if better else which[lane]
        return
    for u in range(n):
        p, here, pivot = Y[u, b], inside[u], X[b, b]
        diagonal = W[u, u]
        for lane in range(value.shape[0]):
            rest = 1.0 - diagonal[lane] + p[lane] * p[lane] / pivot[lane]
            reach = here[lane] / rest - 1.0 if rest > noise[lane] else 0.0
            better = reach > value[lane]
            value[lane] = reach if better else value[lane]
            which[lane] = u if better else which[lane]
    for lane in range(value.shape[0]):
        value[lane] = np.sqrt(value[lane])


@inlined
def _take_minor(total, low, arg, p, r, p_v, r_v, here, u):  # type: ignore[no-untyped-def]
    """Add |p r_v - r p_v| to the total; remember the least that is not rounding."""
    for lane in range(total.shape[0]):
        one, two = p[lane] * r_v[lane], r[lane] * p_v[lane]
        minor = abs(one - two) * here[lane]
        total[lane] += minor
        small = minor if minor > NONE * (abs(one) + abs(two)) else 1e300
        better = small < low[lane]
        low[lane] = small if better else low[lane]
        arg[lane] = u if better else arg[lane]


@compiled
def _swap_two_by_minors(sets, b, d, value, which):  # type: ignore[no-untyped-def]
    inside, Y = sets.inside, sets.Y
    total, low, arg = sets.left[0], sets.left[1], sets.left[2]
    n = Y.shape[0]
    for v in range(n):
        p_v, r_v = Y[v, b], Y[v, d]
        for lane in range(total.shape[0]):
            total[lane] = abs(p_v[lane]) + abs(r_v[lane])
            low[lane] = 1e300
            arg[lane] = 0.0
        for u in range(n):
            if u != v:
                _take_minor(total, low, arg, Y[u, b], Y[u, d], p_v, r_v, inside[u], np.float64(u))
        here = inside[v]
        for lane in range(total.shape[0]):
            reach = here[lane] * (total[lane] - low[lane]) / low[lane]
            better = reach > value[lane]
            value[lane] = reach if better else value[lane]
            which[lane] = v * 64 + arg[lane] if better else which[lane]


@compiled
def _swap_two_by_norms(sets, b, d, value, which):  # type: ignore[no-untyped-def]
    inside, noise, X, Y, W, e = sets.inside, sets.noise, sets.X, sets.Y, sets.W, sets.rest
    n = W.shape[0]
    one, cross, two = X[b, b], X[b, d], X[d, d]
    k0, k1, k2 = sets.inverse[0], sets.inverse[1], sets.inverse[2]
    for lane in range(value.shape[0]):
        det = one[lane] * two[lane] - cross[lane] * cross[lane]
        k0[lane], k1[lane], k2[lane] = two[lane] / det, -cross[lane] / det, one[lane] / det
    left, right = sets.left[:n], sets.left[n:]
    for u in range(n):
        p, r, rest, here, diagonal = Y[u, b], Y[u, d], e[u], inside[u], W[u, u]
        to_b, to_d = left[u], right[u]
        for lane in range(value.shape[0]):
            to_b[lane] = k0[lane] * p[lane] + k1[lane] * r[lane]
            to_d[lane] = k1[lane] * p[lane] + k2[lane] * r[lane]
            rest[lane] = 1.0 - diagonal[lane] + p[lane] * to_b[lane] + r[lane] * to_d[lane]
            rest[lane] = rest[lane] if here[lane] > 0.0 else -1.0
    for u in range(n):
        to_b, to_d, rest = left[u], right[u], e[u]
        for v in range(u):
            p, r, other, joint = Y[v, b], Y[v, d], e[v], W[u, v]
            for lane in range(value.shape[0]):
                shared = joint[lane] - p[lane] * to_b[lane] - r[lane] * to_d[lane]
                both = rest[lane] * other[lane] - shared * shared
                reach = max(rest[lane], other[lane]) / max(both, noise[lane])
                better = (both > noise[lane]) & (reach > value[lane])
                value[lane] = reach if better else value[lane]
                which[lane] = u * 64 + v if better else which[lane]
    for lane in range(value.shape[0]):
        value[lane] = np.sqrt(max(value[lane] - 1.0, 0.0))


@compiled
def swap_two(sets, b, d, slack, value, which):  # type: ignore[no-untyped-def]
    """The best swap of the coordinates b and d outside for two inside, by what it makes of |y|.

    Shape: value (LANES,), the norm reached, 0 for none; which (LANES,), the two coordinates u and v as 64 u + v.

    With V = S + b + d and H = W of V: leaving out u and v leaves 1 - H_uu - H_uv^2 / (1 - H_vv) of u, and |y|_2^2 of
    (V - u - v, u) is one less than its inverse. At slack 0 that difference of squares is a square: V - v has a single
    dependency, whose coefficients are minors of Y.
    """
    fill(value, 0.0)
    fill(which, 0.0)
    if slack == 0:
        _swap_two_by_minors(sets, b, d, value, which)
    else:
        _swap_two_by_norms(sets, b, d, value, which)
