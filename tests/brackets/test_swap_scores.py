"""Scores of swaps against a library's least squares, and the learned part against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from moe_mheight import m_height, random_codes
from moe_mheight.brackets.swap_samples import SWAPS, sample_swaps
from moe_mheight.brackets.swap_scores import FIXED, SHAPES, Ranking, fixed_scores, score_swaps
from moe_mheight.numerics.swaps import take_out


def scored(P, outside, a, ranking=FIXED):
    """(scores, what was read, by (b, j))"""
    k, r = P.shape
    n = k + r
    Q = np.linalg.qr(np.hstack([np.eye(k), P]).T)[0].T
    W, space = np.empty((n, n)), np.empty((4, n))
    mask = int(np.bitwise_or.reduce([np.int64(1) << np.int64(j) for j in outside]))
    assert take_out(Q.T @ Q, mask, W, space[0])
    scores, read = np.empty((n, n)), np.full((n * n, SHAPES), np.nan)
    score_swaps(W, mask, a, k, -np.inf, ranking, read, scores, space)
    return Q, scores, read.reshape(n, n, SHAPES)


@pytest.mark.parametrize(("k", "r", "m"), [(4, 6, 3), (3, 3, 3), (6, 8, 5), (2, 60, 3)])
def test_the_fixed_ranking_is_a_mean_of_two_bounds(k, r, m, rng):
    n = k + r
    for P in random_codes("normal", 3, k, r, rng):
        outside = sorted(rng.choice(n, m, replace=False).tolist())
        a = outside[-1]
        Q, scores, read = scored(P, outside, a)
        inside = [j for j in range(n) if j not in outside]
        for b in range(n):
            for j in range(n):
                if b not in outside or b == a or j not in inside:
                    assert scores[b, j] == -np.inf
                    continue
                S = [i for i in [*inside, b] if i != j]
                y = np.abs(np.linalg.lstsq(Q[:, S], Q[:, a], rcond=None)[0])
                above, below = y.sum(), (y**2).sum() / y.max()
                assert scores[b, j] == pytest.approx(0.5 * np.log2(above * below), rel=1e-6, abs=1e-6)
                assert fixed_scores(read[b, j]) == pytest.approx(scores[b, j], rel=1e-9, abs=1e-9)
                l2 = np.linalg.norm(y)
                assert read[b, j, 0] == pytest.approx(np.log2(y.sum() / l2) - 0.5 * np.log2(len(S)), abs=1e-6)
                assert read[b, j, 1] == pytest.approx(np.log2(y.max() / l2) + 0.5 * np.log2(len(S)), abs=1e-6)


def test_what_a_network_adds(rng):
    network = Ranking(rng.normal(size=(SHAPES, 3)), rng.normal(size=3), rng.normal(size=3))
    P = rng.normal(size=(4, 7))
    _, fixed, read = scored(P, [0, 2, 5, 9], 2)
    _, learned, _ = scored(P, [0, 2, 5, 9], 2, network)
    z = read @ network.inner + network.shift
    added = (z / (1 + np.abs(z))) @ network.outer
    known = np.isfinite(fixed)
    assert known.sum() == 3 * 7
    np.testing.assert_allclose(learned[known], (fixed + added)[known], rtol=1e-9)


def test_a_swap_that_leaves_no_rank_comes_first():
    """Columns 0 and 3 are copies: once both are outside nothing is left of the first coordinate."""
    P = np.array([[1.0, 0, 0], [0, 1, 1], [0, 1, 2]])
    _, scores, _ = scored(P, [0, 5], 5)
    assert scores[0].max() < 100  # 0 back in: any may leave
    _, scores, _ = scored(P, [1, 0], 0)
    assert scores[1, 3] == 1e3


@pytest.mark.parametrize("kind", ["normal", "small-integer"])
def test_sampled_swaps_are_no_higher_than_the_code(kind, rng):
    for P in random_codes(kind, 3, 8, 9, rng):
        read, log2_h = sample_swaps(P, 5, 4, seed=1)
        assert read.shape == (*log2_h.shape, SHAPES)
        assert log2_h.shape[1] == SWAPS
        assert len(log2_h) <= 4
        assert np.isfinite(read).all()
        if len(log2_h):
            assert log2_h.max() <= np.log2(m_height(P, 5)) + 1e-9
        again = sample_swaps(P, 5, 4, seed=1)
        assert (again[0] == read).all()
        assert (again[1] == log2_h).all()
