"""Scalar arguments of the public functions: what is none of the right kind ends in an error of ours that names it."""

import math
from fractions import Fraction

import numpy as np
import pytest

from moe_mheight import (
    ExactHeight,
    MHeightError,
    MHeightRegressor,
    Predictor,
    bounds,
    explain,
    height_profile,
    m_height,
    minimum_distance,
    random_codes,
    witness,
)
from moe_mheight._arguments import real, whole
from moe_mheight._parallel import workers
from moe_mheight.ensemble.gradients import height_gradient, prediction_gradient
from moe_mheight.ensemble.router_training import train_router
from moe_mheight.experts.training import train_tier
from moe_mheight.numerics.jit import thread_count

P = np.array([[1.0, 1.0, 2.0], [1.0, 2.0, -1.0]])


@pytest.fixture(scope="module")
def predictor(models):
    return Predictor.load(models)


def asked_for(jobs):
    with workers(jobs, "threading"):
        pass


def drawn(predictor, **changed):
    settings = {"kind": "normal", "count": 3, "k": 2, "r": 3, "rng": np.random.default_rng(0)} | changed
    return random_codes(**settings)


THREADS = {
    "thread_count": lambda p, x: thread_count(x),
    "m_height": lambda p, x: m_height(P, 2, threads=x),
    "m_height, details": lambda p, x: m_height(P, 2, details=True, threads=x),
    "m_height, search": lambda p, x: m_height(P, 2, method="search", threads=x),
    "height_profile": lambda p, x: height_profile(P, threads=x),
    "height_profile of a batch": lambda p, x: height_profile(np.stack([P, P]), threads=x),
    "minimum_distance": lambda p, x: minimum_distance(P, threads=x),
    "witness": lambda p, x: witness(P, 2, threads=x),
    "bounds": lambda p, x: bounds(P, 2, threads=x),
    "explain": lambda p, x: explain(P, 2, p, threads=x),
    "predict": lambda p, x: p.predict(P, 2, threads=x),
    "predict, rows": lambda p, x: p.predict([[5, 2, 2, P]], threads=x),
    "predict, nothing": lambda p, x: p.predict([], threads=x),
    "Predictor.bounds": lambda p, x: p.bounds(P, 2, threads=x),
    "predict_interval": lambda p, x: p.predict_interval(P, 2, threads=x),
    "measure": lambda p, x: p.measure(P, 2, threads=x),
    "height_gradient": lambda p, x: height_gradient(P, 2, threads=x),
    "prediction_gradient": lambda p, x: prediction_gradient(P, 2, p, threads=x),
    "ExactHeight": lambda p, x: ExactHeight(m=2, threads=x).transform(P[None]),
    "MHeightRegressor": lambda p, x: MHeightRegressor(m=2, width=4, blocks=1, epochs=1, threads=x).fit(P[None]),
}

NO_COUNT = [0, -2, 2.5, 2.0, True, "a", "2", np.float64(2), math.nan, [2], Fraction(2)]


@pytest.mark.parametrize("name", THREADS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_threads_are_none_or_minus_one_or_a_number(predictor, name):
    call = THREADS[name]
    for bad in NO_COUNT:
        with pytest.raises(
            MHeightError, match=r"^threads must be an int of at least 1, or -1 or None for all cores, got"
        ):
            call(predictor, bad)
    for good in (None, -1, 1, np.int64(2)):
        call(predictor, good)


def test_minus_one_is_every_core():
    assert thread_count(-1) == thread_count(None) == thread_count(np.int64(-1))
    assert thread_count(np.int64(2)) == 2


ROUTER = [5, 2.5, None, True, b"fixed", ["fixed"]]
WRONG = {
    "budget": (lambda p, x: p.predict(P, 2, budget=x), [-1, 2.5, True, "50", None, math.inf]),
    "coverage": (lambda p, x: p.predict_interval(P, 2, coverage=x), ["a", math.nan, True, None, 0, 1.5, -1, [0.5]]),
    "coverage ": (lambda p, x: p.measure(P[None], 2, coverage=x), ["a", math.nan, True, 0]),
    "P": (lambda p, x: p.predict(x), [None, 5, 2.5, "rows", True, {}]),
    "m": (lambda p, x: m_height(P, x), [0, 4, 2.5, True, "2", None, [1, 2]]),
    "m ": (lambda p, x: p.predict(P, x), [0, 4, 2.5, True, "2", [1, 2]]),
    "kind": (lambda p, x: drawn(p, kind=x), ["norm", 5, None, ["normal"]]),
    "count": (lambda p, x: drawn(p, count=x), [-1, 2.5, 2.0, True, "3", None]),
    "k": (lambda p, x: drawn(p, k=x), [0, -1, 2.0, True, "3", None]),
    "r": (lambda p, x: drawn(p, r=x), [0, -1, 2.0, True, "3", None]),
    "scale": (lambda p, x: drawn(p, kind="integer", scale=x), [0, -1, 2.0, True, "3", None, 10**400]),
    "rng": (lambda p, x: drawn(p, rng=x), [None, 0, np.random.RandomState(0)]),
    "seeds": (lambda p, x: train_tier("low", p, seeds=x), [0, 65, 2.5, True, "3", None]),
    "minutes": (lambda p, x: train_tier("low", p, minutes=x), [0, -1, math.nan, math.inf, True, "3", 10**400]),
    "chunks": (lambda p, x: train_tier("low", p, chunks=x), [1, 2.5, True, "3", math.inf]),
    "tier": (lambda p, x: train_tier(x, p), ["lo", None, 5, ["low"]]),
    "device": (lambda p, x: train_tier("low", p, device=x), ["gpu", None, 5, ["cpu"]]),
    "codes": (lambda p, x: train_router(p, codes=x), [0, -1, 2.5, True, "3", None]),
    "jobs": (lambda p, x: asked_for(x), [0, -2, 2.5, True, "3"]),
    "router": (lambda p, x: Predictor.load(router=x), ROUTER),
    "path": (lambda p, x: Predictor.load(x), [5, 2.5, True, ["a"]]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(predictor, models, name):
    call, values = WRONG[name]
    for value in values:
        with pytest.raises(MHeightError) as refused:
            call(models if name in ("seeds", "minutes", "chunks", "tier", "device", "codes") else predictor, value)
        text = str(refused.value)
        assert text.split(maxsplit=1)[0].rstrip(",:") == name.strip(), text
        assert " must " in text
        assert "got" in text
        assert text.isprintable()
        assert len(text) < 400


def test_whole_and_real():
    assert whole("x", np.int8(3), 0) == 3
    assert type(whole("x", np.int8(3), 0)) is int
    assert real("x", np.float32(0.5), 0.0, 1.0) == 0.5
    assert real("x", Fraction(1, 2), 0.0, 1.0) == 0.5
    with pytest.raises(MHeightError, match=r"^x must be an int from 1 to 3, got 4$"):
        whole("x", 4, 1, 3)
    with pytest.raises(MHeightError, match=r"^x must be a number with 0 < x <= 1, got 2$"):
        real("x", 2, 0.0, 1.0)
    with pytest.raises(MHeightError, match=r"^x must be a number > 0, got inf$"):
        real("x", math.inf, 0.0, math.inf)
