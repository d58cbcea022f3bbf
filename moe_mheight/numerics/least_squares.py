"""Small least-squares problems, LANES of them at a time: the arithmetic under the brackets.

Arrays end in an axis of LANES codes. Gram-Schmidt done twice keeps vectors orthonormal to rounding; nothing here forms
a normal matrix except `projection`, whose use the brackets check by residuals.
"""

from __future__ import annotations

import numpy as np

from .jit import LANES, compiled, inlined


@inlined
def fill(out, value):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        out[lane] = value


@inlined
def copy(out, values):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        out[lane] = values[lane]


@inlined
def add_product(out, one, two):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        out[lane] += one[lane] * two[lane]


@inlined
def subtract_product(out, one, two):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        out[lane] -= one[lane] * two[lane]


@inlined
def multiply(out, factor):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        out[lane] *= factor[lane]


@inlined
def divide(out, divisor):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        out[lane] /= divisor[lane]


@compiled
def load_generator(x, G):  # type: ignore[no-untyped-def]
    """G = [I | P]. Shape: x (k r, LANES) holds P, G (k, n, LANES)."""
    k, n = G.shape[0], G.shape[1]
    for i in range(k):
        for j in range(n):
            fill(G[i, j], 1.0 if i == j else 0.0)
        for j in range(k, n):
            copy(G[i, j], x[i * (n - k) + j - k])


@compiled
def orthonormalise(V, R):  # type: ignore[no-untyped-def]
    """Rows of V made orthonormal; before = R^T after, R upper triangular. Shape: V (k, n, LANES), R (k, k, LANES)."""
    k, n = V.shape[0], V.shape[1]
    dot = np.empty(LANES)
    for i in range(k):
        for before in range(k):
            fill(R[before, i], 0.0)
        for _ in range(2):
            for before in range(i):
                fill(dot, 0.0)
                for j in range(n):
                    add_product(dot, V[i, j], V[before, j])
                for j in range(n):
                    subtract_product(V[i, j], dot, V[before, j])
                out = R[before, i]
                for lane in range(LANES):
                    out[lane] += dot[lane]
        fill(dot, 0.0)
        for j in range(n):
            add_product(dot, V[i, j], V[i, j])
        out = R[i, i]
        for lane in range(LANES):
            out[lane] = max(np.sqrt(dot[lane]), 1e-150)
            dot[lane] = 1.0 / out[lane]
        for j in range(n):
            multiply(V[i, j], dot)


@compiled
def projection(Q, N):  # type: ignore[no-untyped-def]
    """N = Q^T Q. Shape: Q (k, n, LANES), N (n, n, LANES)."""
    for i in range(Q.shape[1]):
        for j in range(i + 1):
            fill(N[i, j], 0.0)
            for d in range(Q.shape[0]):
                add_product(N[i, j], Q[d, i], Q[d, j])
            copy(N[j, i], N[i, j])


@compiled
def invert_outside(N, outside, X):  # type: ignore[no-untyped-def]
    """X = (I - N_AA)^-1 by Gauss-Jordan, A the coordinates outside S. Shape: X (m, m, LANES)."""
    m = outside.shape[0]
    for i in range(m):
        for j in range(m):
            out, value = X[i, j], N[outside[i], outside[j]]
            identity = 1.0 if i == j else 0.0
            for lane in range(LANES):
                out[lane] = identity - value[lane]
    for p in range(m):
        pivot = X[p, p]
        for lane in range(LANES):
            pivot[lane] = 1.0 / pivot[lane]
        for j in range(m):
            if j != p:
                multiply(X[p, j], pivot)
        for i in range(m):
            if i != p:
                for j in range(m):
                    if j != p:
                        subtract_product(X[i, j], X[i, p], X[p, j])
                factor = X[i, p]
                for lane in range(LANES):
                    factor[lane] *= -pivot[lane]


@compiled
def solve_weighted(V, R, weight, qa, t, y, u):  # type: ignore[no-untyped-def]
    """Minimise sum y^2 / weight subject to Q_S y = q_a, and the u with y = weight Q_S^T u.

    Shape: V (k, s, LANES) holds Q_S and is overwritten; R (k, k), qa, t, u (k), weight, y (s), each with LANES.
    """
    k, s = V.shape[0], V.shape[1]
    root = np.empty((s, LANES))
    for j in range(s):
        for lane in range(LANES):
            root[j, lane] = np.sqrt(weight[j, lane])
        for i in range(k):
            multiply(V[i, j], root[j])
    orthonormalise(V, R)
    for i in range(k):
        copy(t[i], qa[i])
        for j in range(i):
            subtract_product(t[i], R[j, i], t[j])
        divide(t[i], R[i, i])
    for j in range(s):
        fill(y[j], 0.0)
        for i in range(k):
            add_product(y[j], V[i, j], t[i])
        multiply(y[j], root[j])
    for i in range(k - 1, -1, -1):
        copy(u[i], t[i])
        for j in range(i + 1, k):
            subtract_product(u[i], R[i, j], u[j])
        divide(u[i], R[i, i])


@inlined
def _swap(one, two, v, w):  # type: ignore[no-untyped-def]
    """Swap one and two in the lanes where v < w."""
    for lane in range(LANES):
        p, q = one[lane], two[lane]
        one[lane] = p if v[lane] >= w[lane] else q
        two[lane] = q if v[lane] >= w[lane] else p


@compiled
def sort_down(values):  # type: ignore[no-untyped-def]
    """Sort each lane of values[0] downwards, by compare and swap; values[1], ... move along. Shape: (parts, rows,
    LANES)."""
    parts, rows = values.shape[0], values.shape[1]
    v, w = np.empty(LANES), np.empty(LANES)
    for phase in range(rows):
        for i in range(phase % 2, rows - 1, 2):
            copy(v, values[0, i])
            copy(w, values[0, i + 1])
            for part in range(parts):
                _swap(values[part, i], values[part, i + 1], v, w)


@compiled
def lift_largest(values, top):  # type: ignore[no-untyped-def]
    """Bring each lane's `top` largest values (rows, LANES) to the front, in descending order."""
    rows = values.shape[0]
    for place in range(top):
        for i in range(rows - 1, place, -1):
            one, two = values[i - 1], values[i]
            for lane in range(LANES):
                v, w = one[lane], two[lane]
                one[lane] = v if v >= w else w
                two[lane] = w if v >= w else v
