"""Codes with automorphisms that are known by construction: each kind with a lower bound on the order of its group."""

from __future__ import annotations

from math import factorial

import numpy as np


def circulant(row, sign=1):
    """Rows are the cyclic shifts of the first, what wraps around times a sign."""
    k = len(row)
    return np.array([np.where(np.arange(k) < i, sign, 1) * np.roll(row, i) for i in range(k)])


def entries(rng, shape):
    return rng.integers(-9, 10, shape).astype(float) if rng.random() < 0.5 else rng.normal(size=shape)


def double_circulant(rng):
    k = int(rng.integers(3, 10))
    return np.hstack([np.eye(k), circulant(entries(rng, k))]), k


def negacyclic(rng):
    k = int(rng.integers(3, 9))
    blocks = [circulant(entries(rng, k), -1) for _ in range(rng.integers(1, 3))]
    return np.hstack([np.eye(k), *blocks]), k


def quasi_cyclic(rng):
    c, down, across = int(rng.integers(2, 6)), int(rng.integers(1, 3)), int(rng.integers(1, 4))
    blocks = [[circulant(entries(rng, c)) for _ in range(across)] for _ in range(down)]
    return np.hstack([np.eye(c * down), np.block(blocks)]), c


def harmonics(n, frequencies):
    """Cosines and sines at n equally spaced points: a cyclic code."""
    x = 2 * np.pi * np.arange(n) / n
    rows = [wave(f * x) for f in frequencies for wave in (np.cos, np.sin) if wave is np.cos or 0 < f < n / 2]
    return np.array(rows)


def cyclic(rng):
    n = int(rng.integers(8, 21))
    return harmonics(n, sorted(rng.choice(np.arange(n // 2 + 1), int(rng.integers(1, 4)), replace=False))), 2 * n


def polygon(n):
    """Axes of a regular 2n-gon."""
    angles = np.pi * np.arange(n) / n
    return np.vstack([np.cos(angles), np.sin(angles)])


def polygons(rng):
    n = int(rng.integers(5, 31))
    return polygon(n), 2 * n


def direct_sum(rng):
    copies = int(rng.integers(2, 5))
    return np.kron(np.eye(copies), np.hstack([np.eye(2), entries(rng, (2, 2 + (copies < 4)))])), factorial(copies)


def of_an_orbit(rng):
    """What the images of a vector under a power of a permutation span."""
    order = int(rng.choice([2, 3, 4, 6, 8, 9, 12]))
    lengths = [q for q in range(1, order + 1) if order % q == 0]
    perm, vectors = [], []
    while len(perm) < 2 * order:
        length = order if not perm else int(rng.choice(lengths))
        perm += [len(perm) + (i + 1) % length for i in range(length)]
    v = entries(rng, len(perm))
    for _ in range(order):
        vectors.append(v)
        v = v[perm]
    G = np.array(vectors)
    return G[: np.linalg.matrix_rank(G)], 2


def equal_columns(rng):
    k = int(rng.integers(3, 6))
    C = circulant(entries(rng, k))
    return np.hstack([np.eye(k), C, -C, np.eye(k)][: rng.integers(3, 5)]), k


def paley(q=13):
    """[I | C] with a symmetric conference matrix, q = 1 modulo 4 a prime: q (q^2 - 1) / 2 permutations or more."""
    squares = {x * x % q for x in range(1, q)}
    Q = np.array([[0 if i == j else 1 if (i - j) % q in squares else -1 for i in range(q)] for j in range(q)])
    C = np.block([[np.zeros((1, 1)), np.ones((1, q))], [np.ones((q, 1)), Q]])
    return np.hstack([np.eye(q + 1), C])


def small_paley(rng):
    return paley(5), 60


KINDS = (
    double_circulant, negacyclic, quasi_cyclic, cyclic, polygons, direct_sum, of_an_orbit, equal_columns, small_paley,
)  # fmt: skip
