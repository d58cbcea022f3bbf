"""Intervals: on errors made up with a known law they cover as often as they say, for easy and hard codes alike."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from moe_mheight import ModelError
from moe_mheight.experts import conformal
from moe_mheight.experts.conformal import check, fit, hashes, interval, truncate

COVERAGES = (0.5, 0.8, 0.9, 0.95, 0.99)
MANY = 400_000  # so that 1.5 points are more than four standard errors in each of eight cells, calibration included


def made_up(rng, count=MANY):
    """Errors of the predicted size, whose law follows it too: heavy tails where it is small, none where large."""
    predicted_error = 10.0 ** rng.uniform(-4.0, -1.5, count)
    position = rng.uniform(0.2, 0.8, count)
    heavy = rng.standard_t(2.5, count)
    light = rng.uniform(-1.0, 3.0, count)
    truth = np.clip(position + predicted_error * np.where(predicted_error < 10.0**-2.75, heavy, light), 0.0, 1.0)
    return truth, position, predicted_error


def covered(table, sample, coverage):
    truth, *seen = sample
    low, high = interval(table, *seen, coverage)
    return (low <= truth) & (truth <= high)


def test_coverage_of_fresh_draws(rng):
    calibrated, fresh = made_up(rng), made_up(rng)
    table = fit(*calibrated)
    cell = np.digitize(fresh[2], np.quantile(calibrated[2], np.arange(1, 8) / 8))
    for coverage in COVERAGES:
        inside = covered(table, fresh, coverage)
        assert inside.mean() == pytest.approx(coverage, abs=0.005)
        for number in range(8):
            assert inside[cell == number].mean() == pytest.approx(coverage, abs=0.015), (coverage, number)


def test_each_tail_has_its_half(rng):
    """Errors that are never negative need intervals that begin at the position, not symmetric ones."""

    def one_sided():
        _, position, predicted_error = made_up(rng)
        return np.clip(position + predicted_error * rng.exponential(size=MANY), 0.0, 1.0), position, predicted_error

    table, (truth, position, predicted_error) = fit(*one_sided()), one_sided()
    for coverage in COVERAGES:
        low, high = interval(table, position, predicted_error, coverage)
        tail = (1.0 - coverage) / 2.0
        assert (truth < low).mean() == pytest.approx(tail, abs=0.003)
        assert (truth > high).mean() == pytest.approx(tail, abs=0.003)
        assert (low > position).all()


@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
def test_predicted_errors_need_not_have_the_right_scale(factor, rng):
    truth, position, predicted_error = made_up(rng, 50_000)
    table = fit(truth, position, factor * predicted_error)
    one = interval(table, position, factor * predicted_error, 0.9)
    two = interval(fit(truth, position, predicted_error), position, predicted_error, 0.9)
    np.testing.assert_allclose(one, two, atol=1e-12)


@pytest.mark.parametrize("where", [0.0, 0.003, 0.4, 0.5, 1.0])
def test_cuts_hold_any_point_as_often_as_they_should(where, rng):
    keys = rng.integers(0, 2**63, 100_000).astype(np.uint64)
    for coverage in (0.01, 0.2, 0.25, 0.3, *COVERAGES):
        low, high = truncate(coverage, keys)
        assert ((low >= 0) & (low <= high) & (high <= 1)).all()
        assert ((low <= where) & (where <= high)).mean() == pytest.approx(coverage, abs=0.006)


def test_cuts_are_nested_and_depend_on_the_key_alone(rng):
    keys = rng.integers(0, 2**63, 1000).astype(np.uint64)
    before = np.full(1000, 0.5), np.full(1000, 0.5)
    for coverage in (1e-6, 0.1, 0.24, 0.25, 0.3, *COVERAGES, 0.9999, 1.0):
        low, high = truncate(coverage, keys)
        if coverage > 1e-6:
            assert ((low <= before[0]) & (high >= before[1])).all()
        before = low, high
        again = truncate(coverage, keys[::-1])
        assert np.array_equal(again[0][::-1], low)
    assert (low == 0).all()
    assert (high == 1).all()


def test_keys_differ_and_belong_to_the_code(rng):
    P = rng.integers(-2, 3, (3000, 3, 4)).astype(float)
    keys = hashes(P, 2)
    assert len(np.unique(keys)) == len(np.unique(P.reshape(3000, -1), axis=0))
    assert np.array_equal(hashes(P[7:8], 2), keys[7:8])
    assert np.array_equal(hashes(np.where(P == 0, -0.0, P), 2), keys)
    assert not (hashes(P, 3) == keys).any()


def test_open_ended_intervals_start_at_the_bound(rng):
    """And end where that share of codes lies below, so they cover at least as often as they say."""
    table, (truth, position, predicted_error) = fit(*made_up(rng)), made_up(rng)
    for coverage in COVERAGES:
        low, high = interval(table, position, predicted_error, coverage, np.inf)
        assert (low == 0).all()
        assert (truth <= high).mean() == pytest.approx(coverage, abs=0.005)
    assert np.isinf(interval(table, position, predicted_error, 1.0, np.inf)[1]).all()


def test_all_of_the_bracket_at_coverage_one(rng):
    sample = made_up(rng, 1000)
    low, high = interval(fit(*sample), *sample[1:], 1.0)
    assert (low == 0).all()
    assert (high == 1).all()


def anything(rng, count=2000):
    position = np.concatenate([rng.random(count - 4), [0, 0, 1, 1]])
    return position, 10.0 ** rng.uniform(-7, 0, count)


def test_never_outside_the_bracket(rng):
    table = fit(*made_up(rng, 10_000))
    for coverage in (1e-9, *COVERAGES, 0.9999, 1 - 1e-12, 1.0):
        low, high = interval(table, *anything(rng), coverage)
        assert low.shape == high.shape == (2000,)
        assert ((low >= 0) & (low <= high) & (high <= 1)).all()


def test_nested(rng):
    table, seen = fit(*made_up(rng, 10_000)), anything(rng)
    before = None
    for coverage in (*np.linspace(0.01, 0.99, 50), 0.995, 0.999, 0.9999, 1.0):
        low, high = interval(table, *seen, coverage)
        if before is not None:
            assert (low <= before[0]).all()
            assert (high >= before[1]).all()
        before = low, high


@pytest.mark.parametrize("seen", [0, 7, 100])
def test_where_too_little_was_seen_the_interval_is_the_bracket(seen, rng):
    """No more than a few calibration codes fell into each cell, so nothing may be claimed of the next one."""
    truth, position, predicted_error = made_up(rng, 10_000)
    table = check(fit(truth[:seen], position[:seen], predicted_error[:seen]))
    for coverage in COVERAGES:
        low, high = interval(table, position, predicted_error, coverage)
        assert (low == 0).all()
        assert (high == 1).all()


def test_check_takes_what_fit_makes(rng):
    table, seen = fit(*made_up(rng, 5000)), anything(rng)
    again = check(json.loads(json.dumps(table)))
    assert again == table
    assert np.array_equal(interval(again, *seen, 0.9), interval(table, *seen, 0.9))


def change(*place, to):
    """A table with something else at that place; None takes it away."""

    def damage(table):
        *way, last = place
        for step in way:
            table = table[step]
        if to is None:
            del table[last]
        else:
            table[last] = to

    return damage


DAMAGE = {
    "no edges": change("edges", to=None),
    "no quantiles": change("quantiles", to=None),
    "edges too few": change("edges", 0, to=None),
    "edges one number": change("edges", to=0.5),
    "edges text": change("edges", 0, to="small"),
    "edges nested": change("edges", 0, to=[0.1]),
    "edges an object": change("edges", to={"a": 1}),
    "edges not a number": change("edges", 0, to=float("nan")),
    "edges endless": change("edges", 0, to=float("inf")),
    "edges not ascending": change("edges", 0, to=1.0),
    "edges huge": change("edges", 0, to=10**400),
    "quantiles of too few cells": change("quantiles", 0, to=None),
    "quantiles too few": change("quantiles", 3, 7, to=None),
    "quantiles one number": change("quantiles", to=1.0),
    "quantiles text": change("quantiles", 3, 7, to="far"),
    "quantiles not a number": change("quantiles", 3, 7, to=float("nan")),
    "quantiles endless": change("quantiles", 3, -1, to=float("inf")),
    "quantiles not ascending": change("quantiles", 3, 7, to=1e6),
    "quantiles huge": change("quantiles", 3, -1, to=10**400),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_check_refuses(name, rng):
    table = fit(*made_up(rng, 5000))
    damaged = copy.deepcopy(table)
    DAMAGE[name](damaged)
    with pytest.raises(ModelError, match="calibration"):
        check(damaged)
    assert check(table)


@pytest.mark.parametrize("table", [None, [], {}, "text", 3, {"0.5": 0.1, "0.9": 0.3}])
def test_check_refuses_other_things(table):
    with pytest.raises(ModelError, match="calibration"):
        check(table)


def test_levels_reach_past_every_coverage_that_is_checked():
    levels = conformal.LEVELS
    assert (np.diff(levels) > 0).all()
    assert levels[0] == pytest.approx(1 - levels[-1])
    assert levels[0] <= (1 - max(COVERAGES)) / 2
