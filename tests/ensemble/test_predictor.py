"""The Predictor: its contract, its bounds, its symmetries, and the field's evaluator as its client."""

import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from tiny_models import tiny_models

from moe_mheight import CodeError, MHeightError, Predictor, m_height
from moe_mheight.brackets.bounds import brackets
from moe_mheight.codes.generators import ALL_KINDS, KINDS, random_codes
from moe_mheight.codes.linear import equivalent
from moe_mheight.experts import features, network
from moe_mheight.experts.features import features_of
from moe_mheight.experts.model_store import load_set
from moe_mheight.groups import EVALUATOR, HEADLINE


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load()


@pytest.fixture(scope="module")
def untrained(models):
    """Good enough for everything but figures."""
    return Predictor.load(models)


def mixed_rows(rng, groups=HEADLINE, each=8, kinds=KINDS):
    return [
        [n, k, m, P] for n, k, m in groups for kind in kinds for P in random_codes(kind, each, k, n - k, rng)
    ]  # fmt: skip


def test_shapes(untrained, rng):
    predictor = untrained
    P = random_codes("integer", 6, 4, 5, rng)
    assert isinstance(predictor.predict(P[0], 2), float)
    assert predictor.predict(P, 2).shape == (6,)
    assert predictor.predict(P.tolist(), 2).shape == (6,)
    by_m = predictor.predict(P, np.array([1, 2, 3, 4, 5, 2]))
    assert by_m[1] == pytest.approx(predictor.predict(P[1], 2), rel=1e-6)
    rows = predictor.predict([[9, 4, 2, P[0]], [9, 4, 3, P[1]], [9, 4, 2, P[2]]])
    assert rows == pytest.approx([predictor.predict(P[i], m) for i, m in ((0, 2), (1, 3), (2, 2))], rel=1e-6)
    assert predictor.predict(P[:0], 2).shape == (0,)
    assert predictor.predict([]).shape == (0,)
    answer = predictor(9, 4, 2, list(P))
    assert isinstance(answer, list)
    assert all(type(h) is float for h in answer)
    low, high = predictor.predict_interval(P[0], 2)
    assert isinstance(low, float)
    assert isinstance(high, float)


def test_predictions_are_close_and_inside_certified_bounds(predictor, rng):
    rows = mixed_rows(rng, EVALUATOR)
    h = np.array([m_height(P, m) for _, _, m, P in rows])
    best = predictor.predict(rows)
    lower, upper = predictor.bounds(rows)
    low, high = predictor.predict_interval(rows, coverage=0.9)
    assert (np.isinf(best) == np.isinf(h)).all()
    assert ((lower <= best) & (best <= upper)).all()
    assert ((lower <= h) & (h <= upper)).all()
    assert ((lower <= low) & (low <= high) & (high <= upper)).all()
    slightly = 1 + 1e-9  # a closed bracket is predicted by its lower end, while its interval is calibrated too
    assert ((low <= best * slightly) & (best <= high * slightly)).all()
    finite = np.isfinite(h)
    error = np.log2(best[finite]) - np.log2(h[finite])
    # the best fixed point of the same bracket, without any learning, is at 2e-4
    assert np.mean(error**2) < 1e-4


@pytest.mark.slow
def test_intervals_cover_about_what_they_say(predictor, rng):
    for coverage in (0.5, 0.9):
        inside = []
        for n, k, m in ((9, 4, 2), (9, 5, 2), (9, 5, 3), (10, 4, 4)):
            P = np.concatenate([random_codes(kind, 250, k, n - k, rng) for kind in KINDS])
            h = m_height(P, m)
            low, high = predictor.predict_interval(P, m, coverage=coverage)
            inside.append(((low <= h) & (h <= high))[np.isfinite(h)])
        # 4,000 codes: three standard errors are 0.025; groups of a tier share one quantile
        assert abs(np.concatenate(inside).mean() - coverage) < 0.06


def test_equivalent_codes_get_the_same_prediction(predictor, rng):
    P = random_codes("normal", 200, 4, 5, rng)
    one, two = predictor.predict(P, 3), predictor.predict(equivalent(P, rng), 3)
    # the network sees float32 numbers and the bracket is rounded differently: a small part of a typical error of 0.01
    assert np.abs(np.log2(one) - np.log2(two)).max() < 2e-3


def test_infinite_heights(untrained):
    predictor = untrained
    P = np.array([[1, 2, 0], [2, 4, 0], [3, 6, 1]])
    assert predictor.predict(P, 2) == np.inf
    assert predictor.bounds(P, 2) == (np.inf, np.inf)
    assert predictor.predict_interval(P, 2) == (np.inf, np.inf)
    assert np.isfinite(predictor.predict([[1, 1], [1, 2]], 2))


def test_what_is_measured(untrained, rng):
    """One table, and what the other methods make of it; one expert's part by hand."""
    for n, k, m in ((9, 4, 2), (12, 6, 3), (6, 2, 4)):
        P = np.concatenate([random_codes(kind, 40, k, n - k, rng) for kind in ALL_KINDS])
        measured = untrained.measure(P, m)
        assert len(measured) == len(P)
        column = {f.name: getattr(measured, f.name) for f in fields(measured)}
        found = brackets(P, m)
        assert np.array_equal(column["lower"], found.lower)
        assert np.array_equal(column["upper"], found.upper)
        assert np.array_equal(column["height"], untrained.predict(P, m))
        assert column.pop("low") is column.pop("high") is None
        with_ends = untrained.measure(P, m, coverage=0.8)
        for name, values in column.items():
            assert np.array_equal(getattr(with_ends, name), values, equal_nan=True), name
        assert np.array_equal([with_ends.low, with_ends.high], untrained.predict_interval(P, m, coverage=0.8))
        tightest = measured.tightest_lower, measured.tightest_upper
        assert all(np.array_equal(one, two) for one, two in zip(untrained.bounds(P, m), tightest, strict=True))
        ends = untrained.intervals_of(P, m, measured, 0.8)
        assert np.array_equal(ends, untrained.predict_interval(P, m, coverage=0.8))
        routed = features_of(found).routed
        assert np.array_equal(routed, column["routed"])
        assert np.array_equal(routed, ~np.isnan(column["position"]))
        assert np.array_equal(routed, ~np.isnan(column["predicted_error"]))
        assert all(np.array_equal(*pair) for pair in zip(found.tightest, tightest, strict=True))
        position = column["position"][routed]
        assert ((position >= 0) & (position <= 1) & (column["predicted_error"][routed] > 0)).all()
        assert (column["std_bits"] >= 0).all()
        assert (column["std_bits"][~routed] == 0).all()
        names = ("lower", "upper", "tightest_lower", "tightest_upper")
        low, high, floor, ceiling = (np.log2(column[name]) for name in names)
        place = np.clip(low[routed] + position * (high[routed] - low[routed]), floor[routed], ceiling[routed])
        np.testing.assert_allclose(np.log2(column["height"][routed]), place, atol=1e-9)
        decided = ~routed & np.isfinite(ceiling)
        assert decided.any()
        np.testing.assert_allclose(np.log2(column["height"][decided]), ((floor + ceiling) / 2)[decided], atol=1e-9)


@pytest.fixture
def route_all(monkeypatch):
    """Route every open bracket to experts, decided or not."""
    monkeypatch.setattr(features, "DECIDED", -1.0)


def by_hand(predictor, tier, P, m):
    """Positions, predicted errors (members, A), and the features, from a tier's networks."""
    features = features_of(brackets(P, m))
    parts = [torch.from_numpy(part) for part in (features.kept, features.low, features.high)]
    with torch.no_grad():
        answers = [expert(*parts) for expert in predictor.tiers[tier].experts]
    positions, _, errors = np.array([[part.double().numpy() for part in answer] for answer in answers]).swapaxes(0, 1)
    return positions, np.exp(errors), features


@pytest.mark.slow
def test_the_spread_is_that_of_the_seeds(models, tmp_path, rng, route_all):
    """None for one seed; for two half their distance, where they are routed."""
    one, two = Predictor.load(tiny_models(tmp_path / "one", seeds=1)), Predictor.load(models)
    for (n, k, m), tier in (((9, 4, 2), "low"), ((12, 6, 3), "low"), ((9, 5, 3), "medium")):
        P = np.concatenate([random_codes(kind, 50, k, n - k, rng) for kind in ("normal", "fourier", "small-integer")])
        alone, both = one.measure(P, m), two.measure(P, m)
        assert (alone.std_bits == 0).all()
        positions, errors, features = by_hand(two, tier, P, m)
        spread, width, routed = np.abs(positions[0] - positions[1]) / 2, features.gap, features.routed
        assert routed.sum() > 20
        np.testing.assert_allclose(both.std_bits[routed], spread * width[routed], rtol=1e-4, atol=1e-7 * width.max())
        # where all seeds agree to the last bit of float32, the candidates have closed what the bracket left open
        assert (both.std_bits[~routed] == 0).all()
        np.testing.assert_allclose(both.position[routed], positions.mean(0), atol=1e-5)
        np.testing.assert_allclose(alone.position[routed], positions[0], atol=1e-5)
        # members that disagree are trusted less
        np.testing.assert_allclose(both.predicted_error[routed], errors.mean(0) + spread, rtol=1e-3, atol=1e-6)


def test_no_expert_is_needed_for_decided_codes(models, rng, monkeypatch):
    """At n = 9 nearly all are decided, and then the answer is right whatever the experts would say."""
    seen, real = [], network.answers

    def counted(expert, features, threads=None):
        seen.append(len(features.kept))
        return real(expert, features, threads)

    monkeypatch.setattr(network, "answers", counted)
    predictor, P = Predictor.load(models), random_codes("normal", 2000, 4, 5, rng)
    measured = predictor.measure(P, 2)
    decided = ~measured.routed
    assert set(seen) == {2000 - decided.sum()}
    assert 0 < seen[0] < 100
    assert np.abs(np.log2(measured.height / m_height(P, 2)))[decided].max() < 1e-6


@pytest.mark.slow
def test_intervals_of_decided_codes_cover_as_often_as_they_say(models, rng):
    """No experts, no slack: the certified bounds are cut so that coverage is right all the same."""
    predictor, P = Predictor.load(models), random_codes("normal", 4000, 4, 5, rng)
    measured, h, before = predictor.measure(P, 2), m_height(P, 2), None
    decided = ~measured.routed
    for coverage in (0.5, 0.8, 0.9, 0.95, 1.0):
        low, high = predictor.predict_interval(P, 2, coverage=coverage)
        assert ((low >= measured.tightest_lower) & (low <= high) & (high <= measured.tightest_upper)).all()
        assert np.mean(((low <= h) & (h <= high))[decided]) == pytest.approx(coverage, abs=0.03)
        assert predictor.predict_interval(P[5], 2, coverage=coverage) == (low[5], high[5])
        if before is not None:
            assert ((low <= before[0]) & (high >= before[1]))[decided].all()
        before = low, high


@pytest.mark.slow
def test_intervals_are_nested_and_inside_the_bounds(untrained, rng):
    rows = mixed_rows(rng, [*HEADLINE, (12, 6, 3), (4, 1, 2)], 5, ALL_KINDS)
    lower, upper = untrained.bounds(rows)
    assert np.isinf(upper).any()
    before = None
    for coverage in (1e-6, 0.1, 0.5, 0.8, 0.9, 0.95, 0.99, 0.9999, 1.0):
        low, high = untrained.predict_interval(rows, coverage=coverage)
        assert ((lower <= low) & (low <= high) & (high <= upper)).all()
        if before is not None:
            assert (low <= before[0]).all()
            assert (high >= before[1]).all()
        before = low, high
    # at coverage 1 they are the tightest certified bounds, which kept candidates have narrowed
    tight = bounds_of(rows)
    np.testing.assert_array_equal(low, tight[:, 0])
    np.testing.assert_array_equal(high, tight[:, 1])
    # and they are no mere copies of them
    low, high = untrained.predict_interval(rows, coverage=0.5)
    low, high, tight = (part[np.isfinite(tight[:, 1])] for part in (low, high, tight))
    open_ = tight[:, 1] > tight[:, 0] * (1 + 1e-12)
    assert np.mean(high[open_] / low[open_] < (tight[:, 1] / tight[:, 0])[open_]) > 0.5


def bounds_of(rows):
    return np.array([[bound[0] for bound in brackets(P, m).tightest] for _, _, m, P in rows])


def test_intervals_are_where_the_calibration_puts_them(models, rng, route_all):
    """By hand, for a made-up table: the same in every cell, -1 and 2 predicted errors from the position at 0.9."""
    tiers = load_set(models)
    table = tiers["low"].config["calibration"]["other"]  # (12,6,3) is of that tier; the others keep another table
    line = np.concatenate([np.linspace(-1.1, -0.9, 50), np.linspace(0, 0.1, 105), np.linspace(1.9, 2.1, 50)])
    table["quantiles"] = [line.tolist()] * len(table["quantiles"])
    predictor, P = Predictor(tiers), random_codes("normal", 200, 6, 6, rng)
    from moe_mheight.experts.conformal import LEVELS

    below, above = np.interp(0.05, LEVELS, line), np.interp(0.95, LEVELS, line)
    assert -1.1 < below < -0.9
    assert 1.9 < above < 2.1
    measured = predictor.measure(P, 3)
    assert measured.routed.mean() > 0.5
    low, high = predictor.predict_interval(P, 3, coverage=0.9)
    for found, at in ((low, below), (high, above)):
        place = np.clip(measured.position + at * measured.predicted_error, 0, 1)
        wanted = measured.lower ** (1 - place) * measured.upper**place
        wanted = np.clip(wanted, measured.tightest_lower, measured.tightest_upper)
        np.testing.assert_allclose(found[measured.routed], wanted[measured.routed], rtol=1e-9)


def test_works_without_the_exact_solver():
    code = (
        "import sys\n"
        "sys.modules['moe_mheight.exact'] = None\n"
        "from moe_mheight import Predictor\n"
        "predictor = Predictor.load()\n"
        "h = predictor.predict([[1, 1], [1, 2]], 2)\n"
        "assert abs(h - 3) < 0.01, h\n"
        "P = [[(5 * i * i + 3 * j * j + i * j) % 19 - 9 for j in range(12)] for i in range(12)]\n"
        "h = predictor.predict(P, 4, effort='fast')\n"
        "assert h >= predictor.bounds(P, 4, effort='fast')[0] > 1, h\n"
        "try:\n"
        "    from moe_mheight import m_height\n"
        "except ImportError:\n"
        "    print('predicted without')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "predicted without" in done.stdout


def test_sizes_outside_the_trained_range(untrained, rng):
    predictor = untrained
    with pytest.warns(UserWarning, match="outside the trained range"):
        h = predictor.predict(random_codes("normal", 2, 10, 3, rng), 2)
    assert np.isfinite(h).all()


@pytest.mark.parametrize(
    ("P", "m", "says"),
    [
        ([[1, 2], [3]], 1, "rectangular"),
        ([[1, np.nan]], 1, "finite"),
        ([[1, 2]], 3, "1 <= m <= n - k = 2"),
        ([[1, 2]], 1.5, "m must be"),
        ([["a", "b"]], 1, "real"),
        ([[1j, 2]], 1, "real"),
        ([[4, 2, 2, [[1, 1], [1, 2]]], [4, 2, 3, [[1, 1], [1, 2]]]], None, "row 1: m must satisfy"),
        ([[1, 1], [1, 2]], None, "row 0: must be"),
    ],
)
def test_errors_name_argument_and_rule(untrained, P, m, says):
    with pytest.raises(MHeightError, match=says):
        untrained.predict(P, m)


@pytest.mark.parametrize("coverage", [0.0, -1.0, 1.5, float("nan")])
def test_coverage_out_of_range(untrained, coverage):
    with pytest.raises(CodeError, match="coverage"):
        untrained.predict_interval([[1, 1], [1, 2]], 1, coverage=coverage)


def test_threads_do_not_change_brackets(untrained, rng):
    predictor = untrained
    P = random_codes("normal", 300, 4, 5, rng)
    assert (predictor.predict(P, 3, threads=1) == predictor.predict(P, 3, threads=2)).all()


def test_the_fields_evaluator_accepts_us(predictor, rng):
    project = pytest.importorskip("tamu_csce_636_project1")
    inputs, outputs = {}, {}
    for n, k, m in EVALUATOR:
        P = random_codes("scaled-integer", 30, k, n - k, rng)
        h = m_height(P, m)
        inputs[f"[{n},{k},{m}]"] = list(P[np.isfinite(h)])
        outputs[f"[{n},{k},{m}]"] = h[np.isfinite(h)].tolist()
    client = project.Evaluator(first_name="a", last_name="b", email="c", print=False)
    scores = client.eval(inputs=inputs, outputs=outputs, func=predictor)
    assert set(scores) == set(EVALUATOR)
    assert max(scores.values()) < 0.002


@pytest.mark.parametrize(
    "pair",
    [("sample9-n_k_m_P", "sample9-mHeights"), ("sample21-n_k_m_P.pkl", "sample21-mHeights.pkl")],
)
def test_the_fields_samples(predictor, shared, pair):
    from moe_mheight.data.code_files import read
    from moe_mheight.evaluation.scoring import evaluate

    report = evaluate(predictor, read([shared / "data" / name for name in pair]))
    assert report.macro < 0.002
    assert max(score.log2_mse for score in report.scores) < 0.005
    assert sum(score.violations for score in report.scores) == 0
    assert all(score.infinite_found == score.infinite for score in report.scores)
