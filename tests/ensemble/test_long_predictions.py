"""Predictions of long codes, n >= 16: a search that the experts end, one call like that for short ones."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time

import numpy as np
import pytest
from tiny_models import tiny_models, with_long

from moe_mheight import CodeError, ModelError, Predictor, m_height, random_codes
from moe_mheight.experts.model_store import load_set

NEAR = 1e-9


@pytest.fixture(scope="module")
def models_with_long(tmp_path_factory):
    return with_long(tiny_models(tmp_path_factory.mktemp("long") / "models", seeds=1))


@pytest.fixture(scope="module")
def untrained(models_with_long):
    return Predictor.load(models_with_long)


@pytest.mark.parametrize(("k", "r", "m"), [(9, 9, 4), (8, 8, 8), (10, 8, 7), (20, 20, 5), (4, 60, 2)])
def test_shapes_and_bounds(untrained, k, r, m, rng):
    P = random_codes("integer", 3, k, r, rng)
    h = untrained.predict(P, m, effort="fast")
    assert h.shape == (3,)
    assert (h >= 1).all()
    one = untrained.predict(P[0], m, effort="fast")
    assert isinstance(one, float)
    assert one == pytest.approx(h[0], rel=1e-12)
    measured = untrained.measure(P, m, effort="fast", coverage=0.9)
    assert measured.height == pytest.approx(h, rel=1e-12)
    assert ((measured.certainty >= 0) & (measured.certainty <= 1)).all()
    assert (measured.height >= measured.lower).all()
    np.testing.assert_array_equal(measured.low, measured.lower)
    assert (measured.high >= measured.lower).all()
    if k + r > 16:
        low, high = untrained.bounds(P, m, effort="fast")
        np.testing.assert_array_equal(low, measured.lower)
        assert np.isinf(high).all()
    assert untrained.predict(P[:0], m).shape == (0,)


def test_rows_of_all_lengths(untrained, rng):
    rows, alone = [], []
    for n, k, m in [(18, 9, 3), (9, 4, 2), (20, 10, 4), (18, 9, 3), (9, 5, 2)]:
        P = random_codes("integer", 1, k, n - k, rng)[0]
        rows.append([n, k, m, P.tolist()])
        alone.append(untrained.predict(P, m))
    np.testing.assert_allclose(untrained.predict(rows), alone, rtol=1e-6)
    measured = untrained.measure(rows, None)
    assert np.isinf(measured.upper).tolist() == [True, False, True, True, False]


def test_many_m_at_once(untrained, rng):
    P = random_codes("normal", 4, 9, 9, rng)
    m = np.array([2, 4, 2, 3])
    np.testing.assert_allclose(
        untrained.predict(P, m), [untrained.predict(one, level) for one, level in zip(P, m.tolist(), strict=True)]
    )


@pytest.mark.parametrize("matrix", ["G", "H"])
def test_other_matrices(untrained, matrix, rng):
    P = rng.integers(-9, 10, (9, 9)).astype(float)
    given = np.hstack([np.eye(9), P]) if matrix == "G" else np.hstack([-P.T, np.eye(9)])
    assert untrained.predict(given, 3, matrix=matrix) == pytest.approx(untrained.predict(P, 3), rel=1e-9)


def test_lower_bounds_hold_and_mostly_are_the_height(untrained, rng):
    found = 0
    for kind in ("integer", "small-integer", "normal", "tight-frame"):
        P = random_codes(kind, 8, 10, 10, rng)
        h = m_height(P, 6)
        low, high = untrained.bounds(P, 6)
        assert (low <= h * (1 + NEAR)).all()
        assert (high >= h).all()
        found += (low >= h * (1 - 1e-6)).sum()
    assert found >= 31


def test_few_sets_are_all_solved_and_certain(untrained, rng):
    P = random_codes("small-integer", 20, 9, 9, rng)
    measured = untrained.measure(P, 2, coverage=0.5)
    np.testing.assert_allclose(measured.height, m_height(P, 2), rtol=NEAR)
    assert (measured.certainty == 1).all()
    assert not measured.routed.any()
    np.testing.assert_allclose(measured.high, measured.low, rtol=1e-8)


def test_infinite_heights_are_certain(untrained, rng):
    P = rng.integers(-9, 10, (6, 10, 10)).astype(float)
    P[:3, 4, 3:] = 0.0  # a codeword of four coordinates
    measured = untrained.measure(P, 5, coverage=0.9)
    np.testing.assert_array_equal(np.isinf(measured.height), np.isinf(m_height(P, 5)))
    assert np.isinf(measured.height[:3]).all()
    assert (measured.certainty[:3] == 1).all()
    assert (measured.std_bits[:3] == 0).all()
    assert np.isinf(measured.low[:3]).all()
    assert np.isinf(measured.high[:3]).all()


def test_heights_that_rounding_makes_are_not_certain(untrained, rng):
    P = rng.integers(-(2**50), 2**50, (3, 9, 9)).astype(float)
    measured = untrained.measure(P, 5, coverage=0.9)
    assert (measured.lower <= m_height(P, 5) * (1 + NEAR)).all()
    assert np.isfinite(measured.height).all()
    missed = measured.lower < m_height(P, 5) * (1 - 1e-6)
    assert (measured.certainty[missed] < 0.9).all()
    assert (measured.high[missed] > measured.lower[missed]).all()


@pytest.mark.parametrize("effort", ["fast", "default", "thorough", 0.002, 1, np.float32(0.01)])
def test_efforts(untrained, effort, rng):
    P = random_codes("normal", 4, 9, 9, rng)
    measured = untrained.measure(P, 4, effort=effort)
    assert (measured.lower <= m_height(P, 4) * (1 + NEAR)).all()
    assert np.isfinite(measured.height).all()


def test_more_effort_finds_no_less(untrained, rng):
    P = random_codes("integer", 6, 12, 12, rng)
    fast, default, thorough = (untrained.measure(P, 7, effort=e).lower for e in ("fast", "default", "thorough"))
    assert (fast <= default * (1 + NEAR)).all()
    assert (default <= thorough * (1 + NEAR)).all()


@pytest.mark.parametrize("effort", ["slow", "", 0, -1.0, float("nan"), float("inf"), True, None, [1], b"fast", 1j])
def test_wrong_efforts(untrained, effort, rng):
    for n in (9, 18):
        with pytest.raises(CodeError, match="effort must be fast, default, thorough or seconds a code"):
            untrained.predict(rng.normal(size=(2, 3, n - 3)), 2, effort=effort)


def test_seconds_are_kept(untrained, rng):
    P = random_codes("normal", 2, 20, 20, rng)
    untrained.predict(P, 8, effort=0.01)
    began = time.monotonic()
    untrained.predict(P, 8, effort=0.2, threads=1)
    assert time.monotonic() - began < 10.0  # far less, on a machine that has nothing else to do


def test_intervals_widen(untrained, rng):
    P = random_codes("normal", 5, 11, 11, rng)
    before = np.zeros(5)
    for coverage in (0.3, 0.5, 0.8, 0.9, 0.99, 1.0):
        low, high = untrained.predict_interval(P, 6, coverage=coverage, effort="fast")
        np.testing.assert_array_equal(low, untrained.bounds(P, 6, effort="fast")[0])
        assert (high >= before).all()
        before = high
    assert np.isinf(before).all()
    low, high = untrained.predict_interval(P[0], 6, effort="fast")
    assert isinstance(low, float)
    assert isinstance(high, float)


def test_threads_and_neighbours_change_nothing(untrained, rng):
    P = random_codes("integer", 9, 10, 9, rng)
    one, two = untrained.measure(P, 5, threads=1), untrained.measure(P, 5, threads=2)
    np.testing.assert_array_equal(one.lower, two.lower)
    np.testing.assert_array_equal(one.height, two.height)
    for i in (0, 8):
        alone = untrained.measure(P[i : i + 1], 5)
        np.testing.assert_array_equal(alone.lower, one.lower[i : i + 1])
        np.testing.assert_allclose(alone.height, one.height[i : i + 1], rtol=1e-9)
        np.testing.assert_allclose(alone.certainty, one.certainty[i : i + 1], rtol=1e-6)


def test_a_budget_is_as_before(untrained, rng):
    P = rng.normal(size=(2, 12, 12))
    with pytest.warns(UserWarning, match="trained range 10 <= n <= 16"):
        h = untrained.predict(P, 6, budget=50)
    assert (h >= 1).all()
    with pytest.raises(CodeError, match="32"):
        untrained.predict(rng.normal(size=(17, 16)), 4, budget=50)
    with pytest.raises(CodeError, match="64"):
        untrained.predict(rng.normal(size=(33, 32)), 4)


def test_models_without_experts_of_long_codes(models, models_with_long, tmp_path, rng):
    P = rng.normal(size=(9, 9))
    for n in (9, 18):
        predictor = Predictor.load(models)
        if n == 9:
            assert predictor.predict(P[:4, :5], 2) >= 1
            continue
        with pytest.raises(ModelError, match=f"train-expert --tier low --view long --models {models}"):
            predictor.predict(P, 3)
        with pytest.raises(ModelError, match=r"train-expert --tier low --view long`"):
            Predictor(load_set(models)).predict(P, 3)
    some = shutil.copytree(models_with_long, tmp_path / "some")
    from moe_mheight.experts.model_store import write_checksums

    for path in (some / "high").glob("long*"):
        path.unlink()
    write_checksums(some / "high")
    predictor = Predictor.load(some)
    assert predictor.predict(P, 3) >= 1
    with pytest.raises(ModelError, match="--tier high --view long"):
        predictor.predict(P, 9)


def test_a_soft_router_asks_all(models_with_long, rng):
    predictor = Predictor.load(models_with_long, router=lambda n, k, m: np.array([0.5, 0.3, 0.2]))
    P = random_codes("normal", 3, 10, 9, rng)
    mixed = predictor.measure(P, 5, coverage=0.9)
    assert (mixed.height >= mixed.lower).all()
    assert ((mixed.certainty >= 0) & (mixed.certainty <= 1)).all()


def test_interrupted_while_it_searches(untrained, rng):
    """Ctrl-C ends a search in threads soon, and the next one is right."""
    P = random_codes("normal", 600, 16, 16, rng)
    untrained.predict(P[:2], 8, effort="fast", threads=2)
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    began = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        untrained.predict(P, 8, effort=1.0, threads=2)
    timer.join()
    assert time.monotonic() - began < 60.0
    again = untrained.bounds(P[:2], 8, effort="fast")[0]
    np.testing.assert_array_equal(again, untrained.bounds(P[:2], 8, effort="fast", threads=1)[0])
