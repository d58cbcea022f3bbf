"""The Predictor: its contract, its bounds, its symmetries, and the field's evaluator as its client."""

import subprocess
import sys

import numpy as np
import pytest

from moe_mheight import CodeError, MHeightError, Predictor, m_height
from moe_mheight.codes import KINDS, equivalent, random_codes
from moe_mheight.tiers import EVALUATOR, HEADLINE


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load()


def mixed_rows(rng, groups=HEADLINE, each=8):
    return [
        [n, k, m, P] for n, k, m in groups for kind in KINDS for P in random_codes(kind, each, k, n - k, rng)
    ]  # fmt: skip


def test_shapes(predictor, rng):
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
    assert ((lower <= low) & (low <= best) & (best <= high) & (high <= upper)).all()
    finite = np.isfinite(h)
    error = np.log2(best[finite]) - np.log2(h[finite])
    # the best fixed point of the same bracket, without any learning, is at 2e-4
    assert np.mean(error**2) < 1e-4


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


def test_infinite_heights(predictor):
    P = np.array([[1, 2, 0], [2, 4, 0], [3, 6, 1]])
    assert predictor.predict(P, 2) == np.inf
    assert predictor.bounds(P, 2) == (np.inf, np.inf)
    assert predictor.predict_interval(P, 2) == (np.inf, np.inf)
    assert np.isfinite(predictor.predict([[1, 1], [1, 2]], 2))


def test_works_without_the_exact_solver():
    code = (
        "import sys\n"
        "sys.modules['moe_mheight.exact'] = None\n"
        "from moe_mheight import Predictor\n"
        "h = Predictor.load().predict([[1, 1], [1, 2]], 2)\n"
        "assert abs(h - 3) < 0.01, h\n"
        "try:\n"
        "    from moe_mheight import m_height\n"
        "except ImportError:\n"
        "    print('predicted without')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "predicted without" in done.stdout


def test_sizes_outside_the_trained_range(predictor, rng):
    with pytest.warns(UserWarning, match="outside the trained range"):
        h = predictor.predict(random_codes("normal", 2, 10, 3, rng), 2)
    assert np.isfinite(h).all()
    with pytest.raises(CodeError, match="n must be at most 16"):
        predictor.predict(random_codes("normal", 1, 10, 7, rng), 2)


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
def test_errors_name_argument_and_rule(predictor, P, m, says):
    with pytest.raises(MHeightError, match=says):
        predictor.predict(P, m)


@pytest.mark.parametrize("coverage", [0.0, -1.0, 1.5, float("nan")])
def test_coverage_out_of_range(predictor, coverage):
    with pytest.raises(CodeError, match="coverage"):
        predictor.predict_interval([[1, 1], [1, 2]], 1, coverage=coverage)


def test_threads_do_not_change_brackets(predictor, rng):
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
    from moe_mheight.evaluation import evaluate
    from moe_mheight.files import read

    report = evaluate(predictor, read([shared / "data" / name for name in pair]))
    assert report.macro < 0.002
    assert max(score.log2_mse for score in report.scores) < 0.005
    assert sum(score.violations for score in report.scores) == 0
    assert all(score.infinite_found == score.infinite for score in report.scores)
