"""Swaps of one coordinate and of two, and what a set begins with, against least squares by a library."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from moe_mheight import random_codes
from moe_mheight.numerics.pair_swaps import best_pair
from moe_mheight.numerics.swaps import extend, improve, take_out


def bits(coordinates):
    return int(np.bitwise_or.reduce([np.int64(1) << np.int64(j) for j in coordinates]))


def coordinates(mask, n):
    return {j for j in range(n) if mask >> j & 1}


def projection_on(P):
    """Orthonormal rows of the code [I | P], by a library, and the projection on it."""
    Q = np.linalg.qr(np.hstack([np.eye(len(P)), P]).T)[0].T
    return Q, Q.T @ Q


def norm(Q, outside, a):
    """|y|_2^2 of least squares Q_S y = q_a."""
    S = [j for j in range(Q.shape[1]) if j not in outside]
    return np.sum(np.linalg.lstsq(Q[:, S], Q[:, a], rcond=None)[0] ** 2)


def table_of(N, mask):
    W = np.empty(N.shape)
    assert take_out(N, mask, W, np.empty(len(N)))
    return W


@pytest.mark.parametrize(("k", "r", "m"), [(4, 5, 2), (3, 7, 4), (5, 5, 3), (2, 9, 6)])
def test_the_best_swap_of_two_is_the_best(k, r, m, rng):
    n = k + r
    for P in random_codes("normal", 4, k, r, rng):
        Q, N = projection_on(P)
        outside = set(rng.choice(n, m, replace=False).tolist())
        a, mask = min(outside), bits(outside)
        W = table_of(N, mask)
        assert W[a, a] == pytest.approx(norm(Q, outside, a), rel=1e-8)
        found = coordinates(best_pair(mask, a, W, np.empty((n + 3, n))), n)
        swapped = [
            (outside - set(out)) | set(into)
            for out in combinations(outside - {a}, 2)
            for into in combinations(set(range(n)) - outside | set(out), 2)  # one of them may come back
        ]
        best = max([norm(Q, S, a) for S in swapped], default=0.0)
        if best > norm(Q, outside, a) * (1 + 1e-6):
            assert len(found) == m
            assert norm(Q, found, a) == pytest.approx(best, rel=1e-6)
        else:
            assert found == outside


@pytest.mark.parametrize("kind", ["normal", "integer", "tight-frame"])
@pytest.mark.parametrize(("k", "r", "m"), [(4, 6, 3), (6, 5, 5), (3, 8, 1), (1, 6, 4)])
def test_a_set_is_begun_greedily_and_improved_to_the_end(kind, k, r, m, rng):
    n = k + r
    for P in random_codes(kind, 4, k, r, rng):
        Q, N = projection_on(P)
        a, W, space = int(rng.integers(n)), np.empty((n, n)), np.empty((n + 3, n))
        mask, target, independent = extend(N, m, bits([a]), a, W, space[0])
        assert len(coordinates(mask, n)) == m
        if not independent:
            continue
        assert target == a
        outside = {a}
        while len(outside) < m:
            outside.add(max(set(range(n)) - outside, key=lambda j: norm(Q, outside | {j}, a)))
        assert W[a, a] == pytest.approx(norm(Q, outside, a), rel=1e-4)
        before = W[a, a]
        mask, a = improve(mask, a, W, space)
        outside = coordinates(mask, n)
        reached = norm(Q, outside, a)
        assert len(outside) == m
        assert a in outside
        assert W[a, a] == pytest.approx(reached, rel=1e-4)
        assert reached >= before * (1 - 1e-9)
        assert reached >= max(norm(Q, outside, b) for b in outside) * (1 - 1e-4)
        for b in outside - {a}:
            for j in set(range(n)) - outside:
                others = outside - {b} | {j}
                if np.linalg.matrix_rank(Q[:, [i for i in range(n) if i not in others]], 1e-6) == k:
                    assert norm(Q, others, a) <= reached * (1 + 1e-4)


def test_coordinates_that_the_others_do_not_determine():
    """[I | 0]: without any of the first coordinates the rest is short of rank."""
    N = np.diag([1.0, 1, 1, 0, 0, 0])
    W = np.empty((6, 6))
    assert not take_out(N, 0b1, W, np.empty(6))
    assert take_out(N, 0b111000, W, np.empty(6))
    mask, a, independent = extend(N, 3, 0b1000, 3, W, np.empty(6))
    assert not independent
    assert coordinates(mask, 6) & {0, 1, 2}
    assert a in coordinates(mask, 6)
    assert bin(mask).count("1") == 3


def test_the_last_bit_of_a_mask(rng):
    P = rng.normal(size=(4, 60))
    Q, N = projection_on(P)
    outside = {3, 40, 62, 63}
    mask = bits(outside)
    assert mask < 0
    W = table_of(N, mask)
    assert W[63, 63] == pytest.approx(norm(Q, outside, 63), rel=1e-8)
    mask, a = improve(mask, 63, W, np.empty((67, 64)))
    assert len(coordinates(mask, 64)) == 4
    assert W[a, a] == pytest.approx(norm(Q, coordinates(mask, 64), a), rel=1e-6)
