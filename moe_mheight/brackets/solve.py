"""What one set of coordinates tells a search: n codewords, their heights and norms, and the sets that they name.

In the letters of `budget_search`, for LANES sets of one code at a time.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.jit import LANES, compiled, embedded, inlined
from ..numerics.least_squares import add_product, fill, invert_outside

GROUP = 4
"""Columns of W that are sorted together."""

INFINITE = 1e20
"""What an infinite height is ranked by."""

NOTHING = 1e-12
"""Columns of W this small are rounding."""

SINGULAR = 1e-14
"""I - N_AA is taken as I - (1 - SINGULAR) N_AA: the inverse stays finite, and heights up to 1e6 do not notice."""


class Solved(NamedTuple):
    """What LANES sets of one code tell, A the m coordinates outside each S.

    A: (m, LANES), given; the rest is filled.
    X: (m, m, LANES) = (I - N_AA)^-1; Y: (n, m, LANES) = N_:A X; W: (n, n, LANES) = N + Y N_A:.
    height, norm, above, level: (n, LANES), of each column of W its height, 0 or nan for none, its 1-norm, and the masks
        of its coordinates above and at the (m+1)-th largest.
    """

    A: Any
    X: Any
    Y: Any
    W: Any
    height: Any
    norm: Any
    above: Any
    level: Any


class Space(NamedTuple):
    """What `solve_sets` needs besides: `selection(n, m)`, range(m), N_AA, N_:A, and columns to sort."""

    network: Any
    everything: Any
    block: Any
    N_A: Any
    size: Any
    edges: Any


@embedded
def new_solved(n, m):  # type: ignore[no-untyped-def]
    """Room for what LANES sets tell."""
    return Solved(
        np.empty((m, LANES), np.int64),
        np.empty((m, m, LANES)),
        np.empty((n, m, LANES)),
        np.empty((n, n, LANES)),
        np.empty((n, LANES), np.float32),
        np.empty((n, LANES)),
        np.empty((n, LANES), np.uint32),
        np.empty((n, LANES), np.uint32),
    )


@embedded
def new_space(n, m, network):  # type: ignore[no-untyped-def]
    # ranking needs no more than float32, and sorting it is twice as fast
    return Space(
        network,
        np.arange(m),
        np.empty((m, m, LANES)),
        np.empty((n, m, LANES)),
        np.empty((n, GROUP, LANES), np.float32),
        np.zeros((n, GROUP * LANES), np.float32),
    )


@cache
def selection(n: int, place: int) -> NDArray[np.int64]:
    """Pairs (i, j) to compare and swap, larger to i, after which the element at `place` is the one of that rank.

    Batcher's odd-even merge sort, less the pairs that `place` does not depend on.
    """
    pairs = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(min(k, n - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        pairs.append((i + j, i + j + k))
            k //= 2
        p *= 2
    needed, used = {place}, []
    for pair in reversed(pairs):
        if needed & set(pair):
            needed |= set(pair)
            used.append(pair)
    return np.array(used[::-1], np.int64).reshape(-1, 2)


@inlined
def _larger_first(one, two):  # type: ignore[no-untyped-def]
    for lane in range(one.shape[0]):
        v, w = one[lane], two[lane]
        one[lane] = max(v, w)
        two[lane] = min(v, w)


@inlined
def _add_four(out, a, p, b, q, c, r, d, s):  # type: ignore[no-untyped-def]
    for lane in range(out.shape[0]):
        out[lane] += a[lane] * p[lane] + b[lane] * q[lane] + c[lane] * r[lane] + d[lane] * s[lane]


@inlined
def _add_dot(out, x, y):  # type: ignore[no-untyped-def]
    """out += sum over the first axis of x y; four at a time, since out is loaded and stored each time."""
    m = x.shape[0]
    for b in range(0, m - 3, 4):
        _add_four(out, x[b], y[b], x[b + 1], y[b + 1], x[b + 2], y[b + 2], x[b + 3], y[b + 3])
    for b in range(m - m % 4, m):
        add_product(out, x[b], y[b])


@embedded
def _codewords(N, solved, space):  # type: ignore[no-untyped-def]
    """X and Y of the sets."""
    A, Y, block, N_A = solved.A, solved.Y, space.block, space.N_A
    n, m = N.shape[0], A.shape[0]
    for b in range(m):
        rows = A[b]
        for j in range(n):
            out, column = N_A[j, b], N[j]
            for lane in range(out.shape[0]):
                out[lane] = column[rows[lane]]
        for d in range(m):
            out, columns = block[b, d], A[d]
            for lane in range(out.shape[0]):
                out[lane] = N[rows[lane], columns[lane]] * (1.0 - SINGULAR)
    invert_outside(block, space.everything, solved.X)
    for j in range(n):
        for b in range(m):
            fill(Y[j, b], 0.0)
            _add_dot(Y[j, b], solved.X[b], N_A[j])


@embedded
def _fill_columns(N, solved, space, first):  # type: ignore[no-untyped-def]
    """The columns of W from the first one of a group on, their norms, and copies of them to sort."""
    W, Y, N_A, norm, size, edges = solved.W, solved.Y, space.N_A, solved.norm, space.size, space.edges
    n = N.shape[0]
    for i in range(first, min(first + GROUP, n)):
        total = norm[i]
        fill(total, 0.0)
        for j in range(n):
            c = W[i, j]
            fill(c, N[j, i])
            _add_dot(c, Y[j], N_A[i])
            out, copy = size[j, i - first], edges[j, (i - first) * LANES : (i - first + 1) * LANES]
            for lane in range(c.shape[0]):
                value = np.float32(abs(c[lane]))
                total[lane] += abs(c[lane])
                out[lane] = value
                copy[lane] = value


@embedded
def _rank_columns(solved, space, first):  # type: ignore[no-untyped-def]
    """Heights of the columns of a group, and the sets that they name."""
    n, m = solved.height.shape[0], solved.A.shape[0]
    for i in range(first, min(first + GROUP, n)):
        edge, high = space.edges[m, (i - first) * LANES : (i - first + 1) * LANES], solved.height[i]
        over, same = solved.above[i], solved.level[i]
        for lane in range(edge.shape[0]):
            high[lane] = 0.0
            over[lane] = 0
            same[lane] = 0
        for j in range(n):
            out = space.size[j, i - first]
            bit = np.uint32(1 << j)
            for lane in range(edge.shape[0]):
                high[lane] = max(high[lane], out[lane])
                over[lane] |= bit if out[lane] > edge[lane] else np.uint32(0)
                same[lane] |= bit if out[lane] == edge[lane] else np.uint32(0)
        for lane in range(edge.shape[0]):
            ratio = high[lane] / max(edge[lane], high[lane] * np.float32(1.0 / INFINITE))
            high[lane] = ratio if high[lane] > NOTHING else np.float32(0.0)


@compiled
def solve_sets(N, solved, space):  # type: ignore[no-untyped-def]
    """Fill `solved` for the sets A that it holds; N (n, n) is the projection on the code."""
    _codewords(N, solved, space)
    # floats >= 0 are in the order of their bits, and integers are compared twice as fast
    bits, network = space.edges.view(np.int32), space.network
    for first in range(0, N.shape[0], GROUP):
        _fill_columns(N, solved, space, first)
        for q in range(network.shape[0]):
            _larger_first(bits[network[q, 0]], bits[network[q, 1]])
        _rank_columns(solved, space, first)
