"""Reweighting: what the tightest bracket adds, that kept candidates bound heights too, no effect of neighbours."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from moe_mheight import bounds, height_profile, random_codes
from moe_mheight.brackets.bounds import brackets
from moe_mheight.brackets.irls import EXTRA, KEPT, STEPS, Brackets
from moe_mheight.codes.generators import ALL_KINDS

SIZES = [(9, 4, 2), (9, 5, 3), (12, 6, 3), (4, 1, 2), (5, 4, 1)]
EXACT = 2e-15  # the exact solver's own rounding, as in test_exact
ARRAYS = [field.name for field in fields(Brackets) if "NDArray" in str(field.type)]


def assert_between(lower, h, upper):
    assert (lower <= h * (1 + EXACT)).all()
    assert (h * (1 - EXACT) <= upper).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize(("n", "k", "m"), SIZES)
def test_closing_narrows_and_still_holds(n, k, m, kind, rng):
    P = random_codes(kind, 300, k, n - k, rng)
    h = height_profile(P)[:, m]
    open_, closed = brackets(P, m), brackets(P, m, tightest=True)
    assert_between(open_.lower, h, open_.upper)
    assert_between(closed.lower, h, closed.upper)
    assert (closed.lower >= open_.lower).all()
    assert (closed.upper <= open_.upper).all()
    assert np.array_equal(np.isinf(closed.lower), np.isinf(h))
    # the same candidates; only the bracket differs
    for name in set(ARRAYS) - {"lower", "upper", "witness"}:
        assert np.array_equal(getattr(open_, name), getattr(closed, name), equal_nan=True), name
    # every candidate's lower bound is some codeword's height
    assert (open_.kept_lower.max(axis=(1, 2)) <= h * (1 + EXACT)).all()
    # and the bracket is made of those of the common steps, closed of all
    finite = np.isfinite(h)
    assert (open_.kept_lower[finite, :, : STEPS + 1].max(axis=(1, 2)) <= open_.lower[finite]).all()
    assert (closed.kept_lower[finite].max(axis=(1, 2)) <= closed.lower[finite]).all()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_witness_of_a_closed_bracket_has_its_lower_height(kind, rng):
    P, m = random_codes(kind, 200, 4, 5, rng), 2
    found = brackets(P, m, tightest=True)
    finite = np.isfinite(found.lower)
    word = found.witness[finite]
    np.testing.assert_allclose(word[:, 4:], np.einsum("bi,bij->bj", word[:, :4], P[finite]), rtol=1e-9, atol=1e-9)
    down = -np.sort(-np.abs(word), axis=1)
    np.testing.assert_allclose(down[:, 0] / down[:, m], found.lower[finite], rtol=1e-9)


def test_most_brackets_close(rng):
    P = random_codes("normal", 2000, 4, 5, rng)
    lower, upper = bounds(P, 2)
    assert np.mean(np.log2(upper) - np.log2(lower) < 1e-9) > 0.9
    lower, upper = bounds(P, 2, tightest=False)
    assert np.mean(np.log2(upper) - np.log2(lower) < 1e-9) < 0.5, "else there would be nothing for an expert to do"


@pytest.mark.parametrize(("n", "k", "m"), SIZES)
def test_bounds_close_unless_told_not_to(n, k, m, rng):
    P = random_codes("normal", 100, k, n - k, rng)
    for tightest, found in ((True, bounds(P, m)), (False, bounds(P, m, tightest=False))):
        wanted = brackets(P, m, tightest=tightest)
        assert np.array_equal(found[0], wanted.lower)
        assert np.array_equal(found[1], wanted.upper)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("tightest", [False, True])
def test_steps_that_accelerate_are_never_worse_than_none(tightest, kind, rng):
    """Accelerated steps overshoot now and then; what plain least squares knew is kept all the same."""
    for n, k, m in SIZES:
        P = random_codes(kind, 200, k, n - k, rng)
        plain = brackets(P, m, steps=0)
        for steps in (1, 3, STEPS, 12):
            found = brackets(P, m, steps=steps, tightest=tightest)
            assert (found.upper <= plain.upper).all()
            assert (found.lower >= plain.lower).all()


def test_steps_that_accelerate_pay(rng):
    P = random_codes("normal", 1000, 4, 5, rng)
    widths = []
    for steps in (0, 2, STEPS):
        found = brackets(P, 2, steps=steps)
        widths.append(np.mean(np.log2(found.upper / found.lower)))
    assert widths[1] < 0.5 * widths[0]
    assert widths[2] < 0.5 * widths[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "near-singular", "small-integer", "repeated"])
@pytest.mark.parametrize("tightest", [False, True])
def test_no_answer_depends_on_the_neighbours(tightest, kind, rng):
    """A code alone, and the same code between others, of another kind too: the same to the bit."""
    for n, k, m in [(9, 4, 2), (9, 5, 3), (9, 1, 4), (4, 1, 2), (5, 4, 1), (3, 2, 1), (2, 1, 1), (4, 2, 2)]:
        P = np.concatenate([random_codes(kind, 100, k, n - k, rng), random_codes("scaled-integer", 30, k, n - k, rng)])
        P = P[rng.permutation(130)]
        whole = brackets(P, m, tightest=tightest)
        # alone, in pairs, and in other small numbers: the fewer codes, the more lanes work on each
        for count, step in ((1, 2), (2, 13), (5, 17), (21, 40), (64, 66)):
            for at in range(0, 130, step):
                some = brackets(P[at : at + count], m, tightest=tightest)
                for name in ARRAYS:
                    one, two = getattr(some, name), getattr(whole, name)[at : at + count]
                    assert np.array_equal(one, two, equal_nan=True), (name, n, k, m, at, count)


@pytest.mark.parametrize(("k", "r", "m"), [(1, 1, 1), (2, 1, 1), (1, 2, 2), (3, 1, 1), (1, 3, 3), (2, 2, 2), (1, 5, 5)])
def test_fewer_candidates_than_are_kept(k, r, m, rng):
    """C(n, m) m of them; the last one stands in for the missing ones, and nothing is left as it was allocated."""
    for kind in ("normal", "integer", "vandermonde"):
        P = random_codes(kind, 70, k, r, rng)
        h = height_profile(P)[:, m]
        P, h = P[np.isfinite(h)], h[np.isfinite(h)]
        for steps in (0, STEPS):
            found = brackets(P, m, steps=steps)
            assert found.kept_upper.shape == (len(P), KEPT, steps + 1 + EXTRA)
            for name in ARRAYS:
                assert np.isfinite(getattr(found, name)).all(), name
            assert_between(found.lower, h, found.upper)
            assert (found.kept_lower >= 1).all()
            assert (found.kept_lower <= h[:, None, None] * (1 + EXACT)).all()
            assert (found.kept_upper <= found.upper[:, None, None] * (1 + EXACT))[:, :, steps].all()
            assert (found.outside < k + r).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize(("n", "k", "m"), [*SIZES, (4, 1, 1), (5, 1, 3), (6, 2, 4), (9, 4, 5)])
def test_every_field_holds_numbers(n, k, m, kind, rng):
    """Zero columns, copies and rank defects are no excuse; only what bounds an infinite height may be infinite."""
    P = random_codes(kind, 300, k, n - k, rng)
    finite = np.isfinite(height_profile(P)[:, m])
    for tightest in (False, True):
        found = brackets(P, m, tightest=tightest)
        for name in ARRAYS:
            assert not np.isnan(getattr(found, name)).any(), name
            assert np.isfinite(getattr(found, name)[finite]).all(), name


@pytest.mark.parametrize(("n", "k", "m"), SIZES)
def test_basic_solutions(n, k, m, rng):
    """Nearly always: weight on k coordinates of S at most, and nowhere in S is the codeword larger if it is best."""
    P = random_codes("normal", 500, k, n - k, rng)
    found = brackets(P, m)
    assert found.basic_y.shape == found.basic_c.shape == found.y.shape == (500, KEPT, n - m)
    assert ((found.basic_y >= 0) & (found.basic_c >= 0)).all()
    np.testing.assert_allclose(found.basic_y.sum(axis=2), 1, rtol=1e-5)
    assert np.mean((found.basic_y > 1e-6).sum(axis=2) <= k) > 0.98
    # a trace left elsewhere would be as large as this without rounding to a basis
    assert np.mean((found.y > 1e-6).sum(axis=2) <= k) < 0.98 or n == k + m or k == 1
    best = found.kept_upper[..., -1] <= found.kept_lower[..., -1] * (1 + 1e-12)
    assert best.mean() > 0.2
    assert np.mean(found.basic_c[best].max(axis=1) < 1 + 1e-4) > 0.97
