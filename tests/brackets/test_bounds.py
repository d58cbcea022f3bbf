"""Brackets hold: lower <= h <= upper on every input, hard ones included, and what kept candidates contain."""

from __future__ import annotations

from fractions import Fraction
from math import comb, inf

import brute
import numpy as np
import pytest

from moe_mheight import CodeError, bounds, equivalent, height_profile, random_codes
from moe_mheight.brackets.bounds import brackets
from moe_mheight.brackets.irls import CANDIDATES, EXTRA, FIRST, KEPT, STEPS, TIED
from moe_mheight.codes.generators import KINDS
from moe_mheight.codes.minors import LARGEST_RATIO, whole_minors

NAMES = ("outside", "kept_lower", "kept_upper", "y", "c", "basic_y", "basic_c")
EXACT = 2e-15  # the exact solver's own rounding, as in test_exact


def assert_certified(found, h):
    """found against exact heights in floating point."""
    infinite = np.isinf(h)
    assert np.array_equal(np.isinf(found.lower), infinite)
    assert np.isinf(found.upper[infinite]).all()
    assert (found.lower <= found.upper).all()
    assert (found.lower >= 1).all()
    assert (found.lower <= h * (1 + EXACT)).all()
    assert (found.upper >= h * (1 - EXACT)).all()


@pytest.mark.parametrize("kind", [*KINDS, "ternary"])
def test_certified_for_every_shape(kind, rng):
    for n in range(2, 10):
        for k in range(1, n):
            shape = (32, k, n - k)
            P = rng.integers(-1, 2, shape).astype(float) if kind == "ternary" else random_codes(kind, *shape, rng)
            profile = height_profile(P)
            for m in range(1, n - k + 1):
                assert_certified(brackets(P, m), profile[:, m])


@pytest.mark.parametrize(("k", "r", "m"), [(5, 5, 3), (3, 7, 5), (6, 5, 4), (2, 9, 6), (8, 4, 2), (6, 6, 4), (6, 6, 6)])
def test_certified_for_longer_codes(k, r, m, rng):
    for kind in KINDS:
        P = random_codes(kind, 32, k, r, rng)
        assert_certified(brackets(P, m), height_profile(P)[:, m])


def nearly_dependent(k, r, rng, others):
    P = rng.normal(size=(k, r))
    P[:, 0] = P[:, 1 : 1 + others] @ rng.normal(size=min(others, r - 1)) + 10.0 ** -rng.integers(3, 13) * P[:, 0]
    return P


def nearly_singular_integers(k, r, rng):
    P = rng.integers(-(10**6), 10**6 + 1, (k, r)).astype(float)
    P[:, 0] = P[:, -1]
    P[rng.integers(k), 0] += 1
    return P


HARD = {
    "two nearly parallel columns": lambda k, r, rng: nearly_dependent(k, r, rng, 1),
    "three nearly dependent columns": lambda k, r, rng: nearly_dependent(k, r, rng, 2),
    "column scales": lambda k, r, rng: rng.normal(size=(k, r)) * 10.0 ** rng.integers(-6, 7, r),
    "row scales": lambda k, r, rng: rng.normal(size=(k, r)) * 10.0 ** rng.integers(-6, 7, (k, 1)),
    "repeated columns": lambda k, r, rng: rng.integers(-9, 10, (k, 1)) * rng.choice([1.0, -1.0, 2.0, 0.0, 1 / 3], r),
    "large integers": lambda k, r, rng: rng.integers(-(10**6), 10**6 + 1, (k, r)).astype(float),
    "nearly singular integers": nearly_singular_integers,
    "signs": lambda k, r, rng: rng.integers(-1, 2, (k, r)).astype(float),
}


@pytest.mark.parametrize("make", HARD)
def test_certified_in_exact_rationals(make, rng):
    """Bounds, and the witness of the lower one, against fractions: no tolerance at all."""
    for k, r in [(1, 4), (2, 2), (2, 4), (3, 2), (3, 3), (4, 2), (4, 3), (5, 2), (3, 5), (4, 4)]:
        P = HARD[make](k, r, rng)
        truth = brute.profile(P.tolist())
        whole = np.array_equal(P, np.rint(P))
        for m in range(1, r + 1):
            for steps in (0, STEPS):
                found = brackets(P, m, steps=steps)
                lower, upper = float(found.lower[0]), float(found.upper[0])
                if truth[m] == inf or (truth[m] > LARGEST_RATIO and not whole):
                    assert lower == upper == inf
                    continue
                assert Fraction(lower) <= truth[m] <= (upper if upper == inf else Fraction(upper))
                own = brute.height_of(brute.codeword(P.tolist(), found.witness[0, :k].tolist()), m)
                assert Fraction(lower) <= own <= truth[m]


@pytest.mark.slow
@pytest.mark.parametrize("make", HARD)
def test_certified_on_many_hard_codes(make, rng):
    for k, r in [(k, n - k) for n in range(3, 10) for k in range(1, n - 1)]:
        P = np.array([HARD[make](k, r, rng) for _ in range(96)])
        profile = height_profile(P)
        for m in range(1, r + 1):
            for steps in (0, 1, 4):
                assert_certified(brackets(P, m, steps=steps), profile[:, m])


@pytest.mark.parametrize("kind", KINDS)
def test_the_bracket_closes_at_slack_zero(kind, rng):
    # S is a basis there: y is unique, and one step turns the codeword into its signs
    for k, r in [(4, 5), (5, 4), (6, 3), (1, 6), (3, 3), (2, 6), (6, 6)]:
        P = random_codes(kind, 64, k, r, rng)
        found = brackets(P, r)
        h = height_profile(P)[:, r]
        finite = np.isfinite(h)
        np.testing.assert_allclose(found.lower[finite], h[finite], rtol=1e-6)
        np.testing.assert_allclose(found.upper[finite], h[finite], rtol=1e-6)


@pytest.mark.parametrize("kind", [*KINDS, "ternary"])
def test_more_steps_never_widen(kind, rng):
    for k, r, m in [(4, 5, 2), (4, 5, 3), (5, 4, 2), (6, 3, 2), (3, 3, 1), (2, 6, 4)]:
        shape = (64, k, r)
        P = rng.integers(-1, 2, shape).astype(float) if kind == "ternary" else random_codes(kind, *shape, rng)
        before = None
        for steps in range(6):
            found = brackets(P, m, steps=steps)
            if before is not None:
                assert (found.lower >= before.lower).all()
                assert (found.upper <= before.upper).all()
            before = found
        finite = np.isfinite(before.lower)
        assert (np.diff(before.kept_lower[finite], axis=2) >= 0).all()
        assert (np.diff(before.kept_upper[finite], axis=2) <= 0).all()


def test_neither_threads_nor_neighbours_change_a_bit(rng):
    P = np.concatenate([random_codes(kind, 400, 4, 4, rng) for kind in KINDS])
    once = brackets(P, 2, threads=1)
    order = rng.permutation(len(P))
    again = brackets(P[order], 2, threads=3)
    for name in (*NAMES, "lower", "upper", "witness"):
        assert np.array_equal(getattr(again, name), getattr(once, name)[order], equal_nan=True), name


@pytest.mark.parametrize("steps", [0, 1, 3, STEPS])
@pytest.mark.parametrize(("k", "r", "m"), [(4, 5, 2), (6, 3, 1), (2, 2, 1), (2, 1, 1), (1, 5, 4), (5, 4, 4)])
def test_what_kept_candidates_hold(k, r, m, steps, rng):
    n = k + r
    P = random_codes("normal", 50, k, r, rng)
    found = brackets(P, m, steps=steps)
    assert (found.n, found.k, found.m) == (n, k, m)
    assert found.lower.shape == found.upper.shape == (50,)
    assert found.witness.shape == (50, n)
    assert found.outside.shape == (50, KEPT, m)
    assert found.kept_lower.shape == found.kept_upper.shape == (50, KEPT, steps + 1 + EXTRA)
    assert found.y.shape == found.c.shape == (50, KEPT, n - m)
    assert found.y.dtype == found.c.dtype == np.float32

    # distinct coordinates, a first and the others ascending
    assert ((found.outside >= 0) & (found.outside < n)).all()
    assert (np.diff(found.outside[:, :, 1:], axis=2) > 0).all()
    assert (found.outside[:, :, :1] != found.outside[:, :, 1:]).all()
    # as many different (S, a) as there are, the last one standing in for those that are missing
    pairs = min(KEPT, CANDIDATES, comb(n, m) * m)
    for row in found.outside.tolist():
        candidates_of = [(outside[0], *sorted(outside[1:])) for outside in row]
        assert len(set(candidates_of[:pairs])) == pairs
        assert set(candidates_of[pairs:]) <= {candidates_of[pairs - 1]}

    # kept ones are chosen after the first steps; the bracket is that of the common ones
    assert (np.diff(found.kept_upper[:, :, min(FIRST, steps)], axis=1) <= 0).all()
    assert (found.kept_upper[:, :, steps] <= found.upper[:, None]).all()
    assert (found.kept_lower[:, :, : steps + 1] <= found.lower[:, None, None]).all()
    assert (found.kept_lower <= height_profile(P)[:, m][:, None, None] * (1 + EXACT)).all()
    assert (found.kept_lower >= 1).all()

    np.testing.assert_allclose(found.y.sum(axis=2), 1, rtol=1e-5)  # float32
    assert (found.y >= 0).all()
    assert (found.c.max(axis=2) == 1).all()
    # in descending order of |c|, but where that ties, as it does on a basis, of |y|
    sizes = found.c.astype(np.float64) / TIED
    sure = np.abs(sizes % 1.0 - 0.5) > 0.01  # c is float32 here, and sorted in float64
    falls = np.diff(np.rint(sizes) + 0.9 * found.y, axis=2) <= 1e-6
    assert falls[sure[:, :, 1:] & sure[:, :, :-1]].all()
    assert (found.c >= 0).all()


def test_a_kept_candidate_bounds_its_own_set(rng):
    for k, r, m in [(3, 3, 2), (4, 3, 1), (2, 4, 3)]:
        P = random_codes("normal", 1, k, r, rng)[0]
        found = brackets(P, m)
        for t in range(0, KEPT, 3):
            a, *others = found.outside[0, t].tolist()
            S = [i for i in range(k + r) if i != a and i not in others]
            best = brute.best_for(P.tolist(), S, a)
            for upper in found.kept_upper[0, t].tolist():
                assert best <= Fraction(upper)


def test_the_witness_has_the_lower_height(rng):
    P = random_codes("normal", 200, 4, 4, rng)
    for m in (1, 2, 3):
        found = brackets(P, m)
        down = -np.sort(-np.abs(found.witness), axis=1)
        # lower is rounded against itself, by a few units of 2^-52 for each unit of height
        own = down[:, 0] / down[:, m]
        assert (own >= found.lower).all()
        assert (own <= found.lower * (1 + 50 * 2**-52 * own)).all()


def test_brackets_of_equivalent_codes(rng):
    for k, r, m in [(4, 4, 2), (3, 5, 3), (5, 3, 1)]:
        P = random_codes("normal", 100, k, r, rng)
        one, two = brackets(P, m), brackets(equivalent(P, rng), m)
        for name in ("lower", "upper", "kept_upper", "kept_lower"):
            # re-systematising costs rounding, which grows with the height
            np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-6, err_msg=name)


def test_infinite_heights(rng):
    P = rng.integers(-9, 10, (40, 3, 4)).astype(float)
    P[:, :, 0] = P[:, :, 1] = P[:, :, 2]
    for m in (3, 4):
        found = brackets(P, m)
        assert (found.lower == inf).all()
        assert (found.upper == inf).all()
    assert bounds(np.zeros((2, 3)), 1) == (inf, inf)
    assert bounds(np.zeros((1, 3)), 1) == (inf, inf)
    assert bounds([[0, 0, 5]], 1) == pytest.approx((5, 5), rel=1e-12)


def test_bounds_shapes_and_levels(rng):
    P = random_codes("uniform", 30, 3, 4, rng)
    m = rng.integers(1, 5, 30)
    lower, upper = bounds(P, m, steps=1)
    for level in range(1, 5):
        mine = m == level
        found = brackets(P[mine], level, steps=1, tightest=True)
        assert np.array_equal(lower[mine], found.lower)
        assert np.array_equal(upper[mine], found.upper)
    one = bounds(P[4], int(m[4]), steps=1)
    assert one == (lower[4], upper[4])
    assert all(isinstance(value, float) for value in one)
    assert [side.shape for side in bounds(P[:0], 2)] == [(0,), (0,)]
    assert brackets(P[:0], 2).y.shape == (0, KEPT, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda P: brackets(P, 0), "m must satisfy 1 <= m <= n - k = 3, got m = 0"),
        (lambda P: bounds(P, 4), "m must satisfy 1 <= m <= n - k = 3, got m = 4"),
        (lambda P: bounds(np.ones((9, 8)), 1), "here n must be at most 16"),
        (lambda P: brackets(P, 1, steps=-1), "steps must be .* got -1"),
        (lambda P: brackets(P, 1, steps=1.5), "steps must be .* got 1.5"),
    ],
)
def test_rules(call, message):
    with pytest.raises(CodeError, match=message):
        call(np.ones((2, 3)))


@pytest.mark.slow
def test_large_heights_of_integers_beyond_16_are_not_taken_for_infinite(rng):
    P = np.rint(rng.uniform(-1, 1, (8, 9)) * 1e12)
    P[0] = P[1] + rng.integers(1, 4, 9)
    assert min(whole_minors(P.tolist())[0]) > 0  # so every height is finite
    found = brackets(P, 9, budget=300)
    assert 1e11 < found.lower[0] < np.inf
    P = rng.integers(-100, 101, (8, 9)).astype(float)
    P[0] = P[1]  # the codeword (1, -1, 0, ...) vanishes elsewhere
    for m in (2, 5, 9):
        assert brackets(P, m, budget=300).lower[0] == np.inf
        assert brackets(P / 3, m, budget=300).lower[0] == np.inf
