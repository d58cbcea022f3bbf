"""What is rounded outwards, against the same sums in fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from moe_mheight.numerics.jit import LANES
from moe_mheight.numerics.rounding import lower_bound, residuals, upper_bound


@pytest.mark.parametrize("s", [1, 2, 7, 30])
def test_an_upper_bound_is_not_below_the_sum_it_rounds(s, rng):
    """|y|_1 / (1 - rho): rounded to nearest, half of these would be too small."""
    for _ in range(200):
        y = rng.normal(size=s) * 10.0 ** rng.integers(-3, 4, s)
        rho = float(rng.choice([0.0, 10.0 ** -rng.uniform(1, 16)]))
        total = 0.0
        for value in y.tolist():
            total += abs(value)
        truth = sum((abs(Fraction(value)) for value in y.tolist()), Fraction(0)) / (1 - Fraction(rho))
        bound = Fraction(float(upper_bound(total, rho, s)))
        assert truth <= bound <= truth * (1 + Fraction(2 * s + 8, 2**52)), (y, rho)


def test_a_residual_that_says_nothing_bounds_nothing():
    assert upper_bound(1.0, 0.5, 3) == np.inf
    assert upper_bound(1.0, np.nan, 3) == np.inf


@pytest.mark.parametrize(("k", "s"), [(1, 1), (2, 3), (5, 4), (6, 12)])
def test_residuals_are_not_below_the_exact_ones(k, s, rng):
    G_S, y = rng.normal(size=(k, s, LANES)), rng.normal(size=(s, LANES))
    # the first lanes are right but for rounding, where the bound on it is all that is left
    g_a = np.einsum("ksl,sl->kl", G_S, y) + np.where(np.arange(LANES) < LANES // 2, 0.0, rng.normal(size=(k, LANES)))
    total, rho = np.empty(LANES), np.empty(LANES)
    residuals(G_S, g_a, y, total, rho)
    for lane in range(LANES):
        exact = [Fraction(value) for value in y[:, lane].tolist()]
        assert float(total[lane]) == pytest.approx(float(sum(map(abs, exact))), rel=1e-14)
        truth = sum(
            abs(target - sum(Fraction(entry) * value for entry, value in zip(row, exact, strict=True)))
            for row, target in zip(G_S[:, :, lane].tolist(), map(Fraction, g_a[:, lane].tolist()), strict=True)
        )
        assert truth <= Fraction(float(rho[lane]))


def test_a_lower_bound_is_not_above_the_height(rng):
    """Of every codeword within the errors: the worst one has its coordinates moved against the height."""
    n = 7
    word = rng.normal(size=(n, LANES)) * 10.0 ** rng.integers(-3, 4, (n, LANES))
    error = np.abs(word) * 10.0 ** rng.uniform(-16, -1, (n, LANES)) * (rng.random((n, LANES)) < 0.8)
    for m in range(1, n):
        lower = np.empty(LANES)
        lower_bound(word, error, m, np.empty((n, LANES)), lower)
        for lane in range(LANES):
            size = [abs(Fraction(value)) for value in word[:, lane].tolist()]
            off = [Fraction(value) for value in error[:, lane].tolist()]
            largest = max(value - e for value, e in zip(size, off, strict=True))
            below = sorted((value + e for value, e in zip(size, off, strict=True)), reverse=True)[m]
            assert 0 < Fraction(float(lower[lane])) <= largest / below
