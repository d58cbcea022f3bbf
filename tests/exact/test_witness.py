"""A witness is a codeword, attains the height, and vanishes where the height is infinite."""

from __future__ import annotations

from math import inf

import brute
import numpy as np
import pytest

from moe_mheight import CodeError, equivalent, height_profile, random_codes, systematic, witness
from moe_mheight.codes.generators import KINDS

SHAPES = [(k, n - k) for n in range(2, 10) for k in range(1, n)]


def assert_attained(words, h, m):
    """Rounding moves the small |c|_(m) by units of 2^-52 |c|_(0), the height by h times that: 60 h 2^-52 was seen."""
    down = -np.sort(-np.abs(words), axis=1)
    assert (np.abs(down[:, 0] / down[:, m] / h - 1) <= np.maximum(1e-9, 200 * 2**-52 * h)).all()


def check_witnesses(P):
    """Every level of a batch."""
    k, r = P.shape[1:]
    profile = height_profile(P)
    for m in range(1, r + 1):
        words = witness(P, m)
        assert words.shape == (len(P), k + r)
        assert (np.abs(words).max(axis=1) == 1).all()
        # each parity coordinate is a sum of k products, right to rounding of those
        made = np.einsum("bk,bkr->br", words[:, :k], P)
        size = np.einsum("bk,bkr->br", np.abs(words[:, :k]), np.abs(P))
        assert (np.abs(words[:, k:] - made) <= 1e-9 * size).all()
        infinite = np.isinf(profile[:, m])
        assert ((words[infinite] == 0).sum(axis=1) >= k + r - m).all()
        assert_attained(words[~infinite], profile[~infinite, m], m)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "ternary", "dependent"])
def test_witnesses_attain_the_height(kind, rng):
    for k, r in SHAPES:
        if kind == "ternary":
            P = rng.integers(-1, 2, (20, k, r)).astype(float)
        elif kind == "dependent":
            P = rng.integers(-9, 10, (20, k, r)).astype(float)
            P[:, :, 0] = P[:, :, -1] * rng.choice([-1, 0, 1, 2])
            P[:, 0] = P[:, -1]
        else:
            P = random_codes(kind, 20, k, r, rng)
        check_witnesses(P)


def test_witnesses_of_closed_forms(oracles):
    for _, G, profile in oracles:
        P, _ = systematic(G)
        for m in range(1, len(profile)):
            down = sorted(np.abs(witness(P, m)), reverse=True)
            if profile[m] == inf:
                assert down[m] == 0
            else:
                assert down[0] / down[m] == pytest.approx(profile[m], rel=1e-9)


@pytest.mark.parametrize("distance", [1e-4, 1e-7, 1e-9])
def test_witnesses_of_large_heights(distance, rng):
    for k, r in [(3, 3), (3, 4), (4, 3), (4, 4), (5, 3)]:
        P = rng.uniform(-1, 1, (10, k, r))
        P[:, :, 0] = 0.3 * P[:, :, 1] + 0.7 * P[:, :, -1] + distance * rng.uniform(0.5, 1, (10, k))
        for m in range(1, r + 1):
            h = height_profile(P)[:, m]
            finite = np.isfinite(h)
            assert_attained(witness(P, m)[finite], h[finite], m)


@pytest.mark.parametrize("kind", ["integer", "normal", "ternary"])
def test_the_information_part_taken_exactly(kind, rng):
    for k, r in [(1, 3), (2, 3), (3, 3), (3, 2), (4, 3), (2, 5)]:
        P = rng.integers(-1, 2, (k, r)).astype(float) if kind == "ternary" else random_codes(kind, 1, k, r, rng)[0]
        truth = brute.profile(P.tolist())
        for m in range(1, r + 1):
            height = brute.height_of(brute.codeword(P.tolist(), witness(P, m)[:k].tolist()), m)
            assert height <= truth[m]  # no codeword exceeds the height of its code
            if truth[m] < inf:
                assert brute.error(height, truth[m]) < 1e-9


def test_witnesses_of_equivalent_codes_have_one_profile(rng):
    # |c| sorted is the same up to ties between different best codewords, which generic codes do not have
    P = random_codes("normal", 30, 4, 3, rng)
    for m in (1, 2, 3):
        one, two = (np.sort(np.abs(witness(p, m)), axis=1) for p in (P, equivalent(P, rng)))
        np.testing.assert_allclose(one, two, atol=1e-8)


def test_shapes_threads_and_rules(rng):
    P = random_codes("integer", 100, 3, 4, rng)
    m = rng.integers(1, 5, 100)
    words = witness(P, m, threads=1)
    assert np.array_equal(witness(P, m, threads=3), words)
    assert np.array_equal(witness(P[7], int(m[7])), words[7])
    assert witness(P[:0], 2).shape == (0, 7)
    with pytest.raises(CodeError, match="m must satisfy 1 <= m <= n - k = 4, got m = 5"):
        witness(P, 5)
    with pytest.raises(CodeError, match="here n must be at most 16"):
        witness(np.ones((8, 9)), 1)
