"""The scikit-learn estimators: against closed forms, profiles straight from the definition, arithmetic done by hand,
and scikit-learn's own checks of what an estimator must do."""

import copy
import io
import pickle
import warnings

import brute
import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from moe_mheight import CodeError, DataError, ExactHeight, MHeightRegressor, ModelError, bounds

TINY = {"width": 4, "blocks": 1, "epochs": 2}
GROUPS = ((4, 2, 1), (5, 2, 2), (5, 3, 2))


@pytest.fixture(scope="module")
def mixed():
    """Rows of three groups, one after the other in turn, and their heights from the definition."""
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(16):
        for n, k, m in GROUPS:
            rows.append([n, k, m, rng.integers(-9, 10, (k, n - k))])
    return rows, np.array([float(brute.profile(P.tolist())[m]) for _, _, m, P in rows])


@pytest.fixture(scope="module")
def group():
    """Codes of (5, 2, 2), all heights finite: P (60, 2, 3), h (60,)."""
    P = np.random.default_rng(6).normal(size=(60, 2, 3)).round(3)
    return P, np.array([float(brute.profile(matrix.tolist())[2]) for matrix in P])


@pytest.fixture(scope="module")
def fitted(mixed):
    return MHeightRegressor(**TINY).fit(*mixed)


# exact heights as features


def test_one_code_in_closed_form_and_every_form_of_x():
    P = [[1, 1], [1, 2]]  # h_1 = 2, h_2 = 3
    forms = ([P], np.array([P]), [[1, 1, 1, 2]], np.array([[1, 1, 1, 2]], dtype=object))
    for X in forms:
        for m in (1, 2):
            assert np.allclose(ExactHeight(k=2, m=m).fit_transform(X), [[np.log2(m + 1)]])
        assert np.allclose(ExactHeight(k=2, what="profile").fit_transform(X), [[1, np.log2(3)]])
    rows = [[4, 2, 2, P], [4, 2, 1, P]]
    array = np.empty(2, object)
    array[:] = rows
    for X in (rows, tuple(rows), array, np.array([[*row[:3], None] for row in rows], object)):
        if isinstance(X, np.ndarray) and X.ndim == 2:
            X[0, 3] = X[1, 3] = np.array(P)
        assert np.allclose(ExactHeight().transform(X), [[np.log2(3)], [1]])


def test_features_against_the_definition(mixed, group):
    rows, h = mixed
    log2_h = np.minimum(np.log2(h), 64.0)
    assert np.isinf(h).any()
    assert np.allclose(ExactHeight().fit_transform(rows)[:, 0], log2_h)
    low, high = ExactHeight(what="bounds").transform(rows).T
    assert (low <= log2_h + 1e-12).all()
    assert (log2_h <= high + 1e-12).all()
    P, _ = group
    profiles = [[np.log2(float(h)) for h in brute.profile(matrix.tolist())[1:]] for matrix in P]
    assert np.allclose(ExactHeight(what="profile").fit_transform(P), profiles)


def test_infinite_heights_are_cut():
    twins = np.array([[[1.0, 1.0], [1.0, 1.0]]])  # the difference of the rows has two zeros: h_2 is infinite
    assert ExactHeight(m=2).transform(twins) == [[64.0]]
    assert ExactHeight(m=2, infinite=10).transform(twins) == [[10.0]]
    assert ExactHeight(m=2, infinite=np.inf).transform(twins) == [[np.inf]]
    assert (ExactHeight(m=2, what="bounds").transform(twins) == 64.0).all()


def test_names_of_features(group):
    assert ExactHeight().get_feature_names_out().tolist() == ["log2_h"]
    assert ExactHeight(what="bounds").get_feature_names_out().tolist() == ["log2_lower", "log2_upper"]
    profile = ExactHeight(what="profile")
    with pytest.raises(NotFittedError):
        profile.get_feature_names_out()
    assert profile.fit(group[0]).get_feature_names_out().tolist() == ["log2_h_1", "log2_h_2", "log2_h_3"]
    with pytest.raises(CodeError, match="a profile is for"):
        profile.transform(group[0][:, :, :2])


def test_a_pipeline_of_exact_features_finds_what_they_decide(group):
    P, h = group
    flat, y = P.reshape(len(P), -1), 3.0 * np.log2(h) + 1.0
    model = make_pipeline(ExactHeight(k=2, m=2), LinearRegression()).fit(flat, y)
    assert np.isclose(model[-1].coef_[0], 3.0)
    assert np.isclose(model[-1].intercept_, 1.0)
    assert (cross_val_score(model, flat, y, cv=3) > 1 - 1e-9).all()


# the regressor


@pytest.mark.slow
def test_learns_heights_of_codes_it_has_not_seen():
    """Without the bracket, from exact labels: more than half of the variance, where the mean explains none."""
    P = np.random.default_rng(1).normal(size=(500, 2, 3))
    model = MHeightRegressor(m=2, width=16, epochs=12, certified=False).fit(P[:400])
    assert model.score(P[400:]) > 0.5
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]


def test_without_y_the_labels_are_the_exact_heights(mixed, fitted):
    rows, h = mixed
    assert np.isinf(h).any()  # and infinite ones are left out either way
    assert np.isfinite(fitted.loss_curve_).all()
    again = MHeightRegressor(**TINY).fit(rows)
    assert np.allclose(again.loss_curve_, fitted.loss_curve_, rtol=1e-5)
    assert np.allclose(again.predict(rows), fitted.predict(rows))
    assert fitted.network_.groups == GROUPS


def test_every_form_of_x_teaches_the_same(group):
    P, h = group
    rows, flat = [[5, 2, 2, matrix] for matrix in P], P.reshape(len(P), -1)
    for certified in (True, False):
        settings = TINY | {"certified": certified}
        wanted = MHeightRegressor(m=2, **settings).fit(P, h).predict(P)
        assert np.array_equal(MHeightRegressor(**settings).fit(rows, h).predict(rows), wanted)
        assert np.array_equal(MHeightRegressor(k=2, m=2, **settings).fit(flat, h).predict(flat), wanted)
        assert np.array_equal(MHeightRegressor(k=2, m=2, **settings).fit(flat.tolist(), h.tolist()).predict(P), wanted)


def test_answers_keep_the_order_of_the_rows(mixed, fitted, rng):
    rows, _ = mixed
    order = rng.permutation(len(rows))
    raw = clone(fitted).set_params(certified=False).fit(rows)
    for model in (fitted, raw):
        assert np.allclose(model.predict([rows[i] for i in order]), model.predict(rows)[order], rtol=1e-5)


def test_certified_answers_are_inside_the_bracket(mixed, fitted):
    rows, h = mixed
    predicted = fitted.predict(rows)
    assert predicted.dtype == np.float64
    assert np.array_equal(np.isinf(predicted), np.isinf(h))
    ends = np.array([bounds(P, m) for _, _, m, P in rows])
    assert ((ends[:, 0] <= predicted) & (predicted <= ends[:, 1])).all()
    raw = copy.deepcopy(fitted).set_params(certified=False).predict(rows)
    assert np.isfinite(raw).all()
    assert (raw >= 1.0).all()
    assert not ((ends[:, 0] <= raw) & (raw <= ends[:, 1])).all()
    assert np.allclose(predicted, np.clip(raw, *ends.T))


def test_scores_by_hand(mixed, fitted):
    rows, h = mixed
    model = copy.deepcopy(fitted).set_params(certified=False)
    finite = np.isfinite(h)
    log2_h, error = np.log2(h[finite]), np.log2(model.predict(rows)[finite]) - np.log2(h[finite])
    assert np.isclose(model.score(rows, h), 1 - (error**2).sum() / ((log2_h - log2_h.mean()) ** 2).sum())
    assert np.isclose(model.score(rows), model.score(rows, h))
    own = [tuple(row[:3]) for row, there in zip(rows, finite, strict=True) if there]
    by_group = [np.mean([e**2 for e, g in zip(error, own, strict=True) if g == group]) for group in GROUPS]
    assert np.isclose(model.log2_mse(rows, h), np.mean(by_group))
    assert np.isclose(model.log2_mse(rows), np.mean(by_group))


def test_a_finite_label_of_an_infinite_height_costs_everything(mixed, fitted):
    rows, h = mixed
    wrong = np.where(np.isinf(h), 5.0, h)
    assert fitted.score(rows, wrong) == -np.inf
    assert fitted.log2_mse(rows, wrong) == np.inf


def test_the_seed_decides(group):
    P, h = group
    settings = TINY | {"m": 2, "certified": False, "dropout": 0.2, "orbit": True}
    one, again, other = (MHeightRegressor(**settings, random_state=seed).fit(P, h).predict(P) for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.allclose(one, other)
    states = [np.random.RandomState(3) for _ in range(2)]
    one, again = (MHeightRegressor(**settings, random_state=state).fit(P, h).predict(P) for state in states)
    assert np.array_equal(one, again)


def test_threads_change_no_bit_and_are_left_alone(group):
    P, h = group
    model = MHeightRegressor(m=2, certified=False, **TINY).fit(P, h)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(clone(model).fit(P, h).predict(P))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], model.predict(P))


def through_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize(
    "through",
    [lambda model: pickle.loads(pickle.dumps(model)), through_joblib, copy.deepcopy],
    ids=["pickle", "joblib", "copy"],
)
@pytest.mark.parametrize("network", ["symmetric", "run1"])
def test_copies_answer_with_the_same_bits(through, network, mixed):
    rows, h = mixed
    model = MHeightRegressor(network=network, certified=False, **TINY).fit(rows, h)
    other = through(model)
    assert np.array_equal(other.predict(rows), model.predict(rows))
    assert other.get_params() == model.get_params()
    assert other.loss_curve_ == model.loss_curve_


def test_pickles_hold_no_network_objects(fitted):
    content = pickle.dumps(fitted)
    assert b"torch" not in content
    assert b"raw.networks" not in content
    unfitted = pickle.loads(pickle.dumps(MHeightRegressor(width=7)))
    assert unfitted.width == 7
    assert not hasattr(unfitted, "network_")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "moe_mheight estimator 9"}, "its format is"),
        ({"weights": b"no weights"}, "not a safetensors file"),
        ({"groups": [[4, 2, 1]]}, "has shape"),
        ({"groups": 3}, "not iterable"),
        ({"recipe": {"width": 5}}, "missing"),
        ({"recipe": {"widht": 4}}, "did you mean width"),
    ],
)
def test_damaged_pickles_are_refused(change, message, fitted):
    state = fitted.__getstate__()
    state["network_"] = state["network_"] | change
    with pytest.raises(ModelError, match=message):
        MHeightRegressor().__setstate__(state)


def test_clones_forget_and_parameters_stay(fitted):
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict([[4, 2, 1, [[1, 1], [1, 2]]]])
    with pytest.raises(NotFittedError):
        fresh.score([[4, 2, 1, [[1, 1], [1, 2]]]])


def test_columns_are_known_after_a_fit_on_columns_only(group):
    P, h = group
    model = MHeightRegressor(k=2, m=2, **TINY).fit(P.reshape(len(P), -1), h)
    assert model.n_features_in_ == 6
    with pytest.raises(ValueError, match="X has 4 features, but MHeightRegressor is expecting 6"):
        model.predict(np.ones((3, 4)))
    assert not hasattr(model.fit(P, h), "n_features_in_")


# inside scikit-learn


def test_a_grid_search_over_the_width(group):
    P, h = group
    flat = P.reshape(len(P), -1)
    model = MHeightRegressor(k=2, m=2, certified=False, **TINY)
    search = GridSearchCV(model, {"width": np.array([2, 6])}, cv=2, error_score="raise").fit(flat, h)
    assert search.best_params_["width"] in (2, 6)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.network_.recipe.width == search.best_params_["width"]
    best = clone(model).set_params(**search.best_params_).fit(flat, h)
    assert np.array_equal(search.predict(flat), best.predict(flat))


@pytest.mark.slow
def test_cross_validation_on_rows(mixed):
    rows, h = mixed
    model = make_pipeline(FunctionTransformer(), MHeightRegressor(**TINY))
    given = cross_val_score(model, rows, h, cv=3, error_score="raise")
    assert (given > 0.99).all()  # the brackets of such small codes are all but closed
    assert np.allclose(cross_val_score(model, rows, cv=3, error_score="raise"), given)


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        MHeightRegressor(k=1, m=1, **TINY),
        MHeightRegressor(k=1, m=1, certified=False, **TINY),
        ExactHeight(k=1, m=1),
        ExactHeight(k=1, what="profile"),
        ExactHeight(k=1, m=1, what="bounds"),
    ],
    ids=str,
)
def test_scikit_learns_own_checks(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failed


# refusals

NAN = np.full((3, 2, 3), np.nan)
ONES = np.ones((3, 2, 3))


@pytest.mark.parametrize(
    ("settings", "X", "y", "error", "message"),
    [
        ({}, ONES, None, CodeError, "m must be an int"),
        ({"m": 4}, ONES, None, CodeError, "1 <= m <= n - k = 3, got m = 4"),
        ({"m": 1}, ONES.reshape(3, -1), None, CodeError, "k must be an int that divides the 6"),
        ({"m": 1, "k": 4}, ONES.reshape(3, -1), None, CodeError, "k must be an int that divides the 6"),
        ({"m": 1, "k": True}, ONES.reshape(3, -1), None, CodeError, "got True"),
        ({"m": 1}, ONES[None], None, CodeError, "must have shape"),
        ({"m": 1}, NAN, None, ValueError, "NaN"),
        ({"m": 1, "k": 2}, NAN.reshape(3, -1), None, ValueError, "NaN"),
        ({"m": 1}, ONES[:0], None, ValueError, "0 sample"),
        ({"m": 1}, ONES * 1e35, None, CodeError, "scale the whole code"),
        ({"m": 1}, ONES, [2.0, 3.0], DataError, "one height for each of the 3 codes of X, got 2"),
        ({"m": 1}, ONES, [2.0, 0.5, 3.0], DataError, "not their logarithms, got 0.5 at 1"),
        ({"m": 1}, ONES, [2.0, 3.0, np.nan], DataError, "got nan at 2"),
        ({"m": 1}, ONES, [np.inf] * 3, DataError, "a code of finite height"),
        ({"m": 1}, np.ones((3, 9, 9)), [2.0] * 3, CodeError, "use certified=False"),
        ({}, [[4, 2, 1, [[1, 1]]]], None, DataError, "row 0: P must have shape"),
        ({}, [[4, 2, 1, [[1, 1], [1, 2]]], [4, 2, 1]], None, DataError, r"row 1: must be \[n, k, m, P\]"),
        ({}, [[4, 2, 1, [[1, np.nan], [1, 2]]]], None, DataError, "row 0: P must be finite"),
        ({"m": 1, "network": "mlp"}, ONES, None, ModelError, "run1, gated, symmetric"),
        ({"m": 1, "epochs": 0}, ONES, None, ModelError, "epochs must be an int from 1"),
        ({"m": 1, "width": 2.5}, ONES, None, ModelError, "width must be an int"),
    ],
)
def test_wrong_input_is_told(settings, X, y, error, message):
    with pytest.raises(error, match=message):
        MHeightRegressor(**settings).fit(X, y)


@pytest.mark.parametrize(
    ("settings", "X", "message"),
    [
        ({"what": "minors", "m": 1}, ONES, "what must be height, profile or bounds"),
        ({"infinite": 0.0, "m": 1}, ONES, "infinite must be a number of bits"),
        ({"infinite": "no", "m": 1}, ONES, "infinite must be a number of bits"),
        ({"m": 0}, ONES, "1 <= m"),
        (
            {"what": "profile"},
            [[4, 2, 1, [[1, 1], [1, 2]]], [3, 2, 1, [[1], [1]]]],
            r"one r = n - k, that of fit, got \[1, 2\]",
        ),
        ({"what": "bounds", "m": 1}, np.ones((1, 9, 9)), "n must be at most 16"),
    ],
)
def test_wrong_features_are_told(settings, X, message):
    with pytest.raises(CodeError, match=message):
        ExactHeight(**settings).fit_transform(X)


def test_groups_that_were_not_trained_on_are_refused(fitted):
    with pytest.raises(CodeError, match=r"trained on the groups .*\(5, 3, 2\), not \(6, 3, 2\)"):
        fitted.predict([[6, 3, 2, np.eye(3)]])


def test_longer_codes_without_a_bracket():
    rng = np.random.default_rng(2)
    P, h = rng.normal(size=(6, 2, 18)), np.exp2(rng.uniform(1, 4, 6))
    model = MHeightRegressor(m=3, certified=False, **TINY).fit(P, h)
    assert np.isfinite(model.predict(P)).all()
