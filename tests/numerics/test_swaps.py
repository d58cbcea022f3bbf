"""Local search: the norms it reports are a library's, and no swap that it may make is better."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from moe_mheight import random_codes
from moe_mheight.numerics.swaps import fill_queue, local_search


def projection_on(P):
    """On the row space of [I | P], by a library's QR."""
    G = np.hstack([np.eye(len(P)), P])
    Q = np.linalg.qr(G.T)[0]
    return G, Q @ Q.T


def norms(G, outside):
    """|y|_2 of least squares Q_S y = q_a for each a outside, by a library's least norm solution."""
    Q = np.linalg.qr(G.T)[0].T
    S = [j for j in range(G.shape[1]) if j not in outside]
    return {a: np.linalg.norm(np.linalg.lstsq(Q[:, S], Q[:, a], rcond=None)[0]) for a in outside}


def searched(N, m, start, second):
    """Mask, a, and the norm that was reached."""
    W = np.zeros(N.shape)
    mask, a = local_search(N, m, start, second, W, np.empty((2, len(N))))
    return mask, a, np.sqrt(W[a, a])


def coordinates(mask, n):
    return [j for j in range(n) if mask >> j & 1]


@pytest.mark.parametrize(("k", "r", "m"), [(5, 5, 2), (6, 6, 3), (4, 7, 5), (8, 6, 1), (10, 10, 6), (1, 6, 4)])
@pytest.mark.parametrize("kind", ["normal", "integer"])
def test_a_local_search_ends_where_no_swap_is_better(kind, k, r, m, rng):
    n = k + r
    for P in random_codes(kind, 3, k, r, rng):
        G, N = projection_on(P)
        for start, second in ((0, 1), (n - 1, 0), (n // 2, n // 2)):
            mask, a, reached = searched(N, m, start, second)
            outside = coordinates(mask, n)
            assert len(outside) == m
            found = norms(G, outside)
            assert reached == pytest.approx(max(found.values()), rel=1e-6)
            assert reached == pytest.approx(found[a], rel=1e-6)
            for b in set(outside) - {a}:
                for j in set(range(n)) - set(outside):
                    others = [*(set(outside) - {b}), j]
                    S = [i for i in range(n) if i not in others]
                    if np.linalg.matrix_rank(G[:, S]) == k:
                        assert norms(G, others)[a] <= reached * (1 + 1e-5)


@pytest.mark.parametrize(("k", "r", "m"), [(5, 5, 3), (6, 6, 4), (7, 7, 5)])
def test_local_searches_from_all_pairs_find_the_largest_norm(k, r, m, rng):
    n, found = k + r, 0
    codes = random_codes("normal", 10, k, r, rng)
    for P in codes:
        _, N = projection_on(P)
        best = max(searched(N, m, a, b)[2] for a in range(n) for b in range(n))
        # |y|_2^2 = X_aa - 1 with X = (I - N_AA)^-1: the same for all sets at once
        sets = np.array(list(combinations(range(n), m)))
        X = np.linalg.inv(np.eye(m) - N[sets[:, :, None], sets[:, None, :]])
        largest = np.sqrt(np.einsum("caa->ca", X).max() - 1)
        assert best <= largest * (1 + 1e-6)
        found += best >= largest * (1 - 1e-6)
    assert found >= 0.8 * len(codes)


def test_coordinates_that_the_code_cannot_do_without():
    """[I | 0] plus one parity: each of the first coordinates carries a message of its own."""
    P = np.zeros((4, 4))
    P[:, 0] = [1.0, 0.0, 0.0, 0.0]
    _, N = projection_on(P)
    for a in range(8):
        mask, _, reached = searched(N, 4, a, (a + 1) % 8)
        outside = set(coordinates(mask, 8))
        assert mask == 0 or (len(outside) == 4 and not outside & {1, 2, 3} and not {0, 4} <= outside)
        assert mask == 0 or np.isfinite(reached)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "integer"])
def test_the_queue_begins_with_sets_of_the_norms_they_say(kind, rng):
    n, m = 14, 4
    for P in random_codes(kind, 3, 7, 7, rng):
        G, N = projection_on(P)
        queue, worth = np.zeros(20, np.int64), np.zeros(20)
        fill_queue(N, m, n * n, 2.0, np.empty((n, n)), queue, worth)
        assert len(set(queue.tolist())) == 20
        every = [max(norms(G, outside).values()) for outside in combinations(range(n), m)]
        for mask, value in zip(queue.tolist(), worth, strict=True):
            outside = coordinates(mask, n)
            assert len(outside) == m
            assert min(abs(value / (2.0 * norm) - 1.0) for norm in norms(G, outside).values()) < 1e-5
        assert worth.max() == pytest.approx(2.0 * max(every), rel=1e-5)
        assert np.median(worth) > 2.0 * np.quantile(every, 0.95)
