"""Prediction under a budget of sets: certified from below, never below its bound, calibrated, and for long codes."""

import json
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from moe_mheight.cli.predict import command
from tiny_models import tiny_models

from moe_mheight import CodeError, Predictor, m_height
from moe_mheight.brackets import bounds
from moe_mheight.experts.rng_streams import draw


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor.load(tiny_models(tmp_path_factory.mktemp("models")))


@pytest.mark.slow
@pytest.mark.parametrize("group", [(12, 6, 3), (12, 6, 6), (10, 2, 8), (11, 9, 1)])
@pytest.mark.parametrize("budget", [1, 7, 60, 5000])
def test_the_lower_bound_holds_and_no_upper_one_is_claimed(predictor, rng, group, budget):
    P, h = draw(rng, group, 40, ("normal", "integer", "near-singular"), infinite=True)
    lower, upper = predictor.bounds(P, group[2], budget=budget)
    assert (lower <= h * (1 + 1e-13)).all()
    assert np.array_equal(np.isinf(lower), np.isinf(h))
    assert np.isinf(upper).all()
    assert (predictor.predict(P, group[2], budget=budget) >= lower).all()


def test_a_budget_for_everything_finds_the_height(rng):
    P, h = draw(rng, (12, 6, 3), 100, ("normal",))
    found = bounds.brackets(P, 3, budget=220, tightest=True)
    assert np.mean(np.abs(np.log2(found.lower / h)) < 1e-9) > 0.9


@pytest.mark.slow
def test_more_budget_finds_more(rng):
    P, h = draw(rng, (16, 8, 8), 60, ("normal",))
    gaps = [np.log2(h / bounds.brackets(P, 8, budget=b, tightest=True).lower).mean() for b in (1, 20, 300)]
    assert gaps[0] > 1.5 * gaps[1] > 1.5 * gaps[2] >= -1e-12


def test_the_witness_attains_the_bound(rng):
    P, _ = draw(rng, (14, 7, 4), 30, ("normal",))
    found = bounds.brackets(P, 4, budget=50)
    sizes = np.sort(np.abs(found.witness), axis=1)[:, ::-1]
    np.testing.assert_allclose(sizes[:, 0] / sizes[:, 4], found.lower, rtol=1e-9)
    parity = np.einsum("bk,bkr->br", found.witness[:, :7], P) - found.witness[:, 7:]
    assert np.abs(parity).max() < 1e-9


@pytest.mark.slow
def test_intervals_are_nested_and_start_at_the_bound(predictor, rng):
    P, _ = draw(rng, (12, 6, 5), 50, ("normal",))
    lower, _ = predictor.bounds(P, 5, budget=50)
    ends = [predictor.predict_interval(P, 5, coverage=c, budget=50) for c in (0.5, 0.9, 0.99)]
    tight = bounds.brackets(P, 5, budget=50).tightest[0]
    assert (tight >= lower).all()
    assert all(np.array_equal(low, tight) and (low <= high).all() for low, high in ends)
    for (low, high), (wider_low, wider_high) in pairwise(ends):
        assert (wider_low <= low).all()
        assert (wider_high >= high).all()


def test_long_codes(predictor, rng):
    P = rng.normal(size=(3, 16, 16))
    with pytest.warns(UserWarning, match="n = 32 is outside the trained range 10 <= n <= 16"):
        h = predictor.predict(P, 8, budget=60)
    assert (np.isfinite(h) & (h > 1)).all()
    with pytest.raises(CodeError, match="32"):
        predictor.predict(rng.normal(size=(16, 17)), 8, budget=60)
    P[:, 0] = 0.0
    P[:, 0, 0] = 1.0  # a codeword with two entries
    with pytest.warns(UserWarning, match="extrapolation"):
        assert np.isinf(predictor.predict(P, 8, budget=60)).all()


@pytest.mark.parametrize("budget", [-1, 2.5, True])
def test_bad_budgets(predictor, budget):
    with pytest.raises(CodeError, match="budget"):
        predictor.predict(np.ones((2, 3)), 2, budget=budget)


def test_one_code_is_what_it_is_in_a_batch(predictor, rng):
    P = rng.normal(size=(9, 6, 6))
    many = predictor.measure(P, 4, budget=50)
    for i in (0, 4, 8):
        alone = predictor.measure(P[i : i + 1], 4, budget=50)
        for f in fields(many):
            if (column := getattr(many, f.name)) is not None:
                np.testing.assert_allclose(getattr(alone, f.name)[0], column[i], rtol=1e-5)


def test_the_command(tmp_path, rng):
    models = tiny_models(tmp_path / "models")
    rows = [[12, 6, 3, rng.integers(-9, 10, (6, 6)).tolist()] for _ in range(3)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    settings = ["--models", str(models), "--budget", "30", "--bounds", "--interval", "0.9", "--spread", "--json", "-q"]
    result = CliRunner().invoke(command, [str(tmp_path / "rows.json"), *settings])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    true = [m_height(row[3], 3) for row in rows]
    assert all(low <= h * (1 + 1e-12) for low, h in zip(found["lower"], true, strict=True))
    assert found["upper"] == ["inf"] * 3
    assert all(a <= h <= b for a, h, b in zip(found["low"], found["heights"], found["high"], strict=True))
