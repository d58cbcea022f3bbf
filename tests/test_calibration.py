"""Intervals: on errors made up with a known law they cover as often as they say, for easy and hard codes alike."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from moe_mheight import ModelError, calibration
from moe_mheight.calibration import check, fit, interval

COVERAGES = (0.5, 0.8, 0.9, 0.95, 0.99)
MANY = 400_000  # so that 1.5 points are more than four standard errors in each of eight cells, calibration included


def made_up(rng, count=MANY):
    """Errors whose size follows the doubt, and whose law does too: heavy tails where it is small, none where large."""
    doubt = 10.0 ** rng.uniform(-4.0, -1.5, count)
    position = rng.uniform(0.2, 0.8, count)
    heavy = rng.standard_t(2.5, count)
    light = rng.uniform(-1.0, 3.0, count)
    truth = np.clip(position + doubt * np.where(doubt < 10.0**-2.75, heavy, light), 0.0, 1.0)
    return truth, position, doubt, np.zeros(count, bool)


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
        _, position, doubt, closed = made_up(rng)
        return np.clip(position + doubt * rng.exponential(size=MANY), 0.0, 1.0), position, doubt, closed

    table, (truth, position, doubt, closed) = fit(*one_sided()), one_sided()
    for coverage in COVERAGES:
        low, high = interval(table, position, doubt, closed, coverage)
        tail = (1.0 - coverage) / 2.0
        assert (truth < low).mean() == pytest.approx(tail, abs=0.003)
        assert (truth > high).mean() == pytest.approx(tail, abs=0.003)
        assert (low > position).all()


@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
def test_doubts_need_not_have_the_right_scale(factor, rng):
    truth, position, doubt, closed = made_up(rng, 50_000)
    table = fit(truth, position, factor * doubt, closed)
    one = interval(table, position, factor * doubt, closed, 0.9)
    two = interval(fit(truth, position, doubt, closed), position, doubt, closed, 0.9)
    np.testing.assert_allclose(one, two, atol=1e-12)


def test_closed_brackets_have_a_cell_of_their_own(rng):
    truth, position, doubt, closed = made_up(rng, 50_000)
    alone = fit(truth, position, doubt, closed)
    # rounding puts the truth of a closed bracket anywhere; position and doubt say nothing
    there = rng.random(50_000) ** 3
    nowhere, one = np.zeros(50_000), np.ones(50_000)
    whole = [np.concatenate(p) for p in ((truth, there), (position, nowhere), (doubt, one), (closed, one > 0))]
    table = fit(*whole)
    for coverage in COVERAGES:
        of_open = interval(table, position, doubt, closed, coverage)
        assert np.array_equal(of_open, interval(alone, position, doubt, closed, coverage))
        fresh = rng.random(50_000) ** 3
        inside = covered(table, (fresh, nowhere, one, one > 0), coverage)
        assert inside.mean() == pytest.approx(coverage, abs=0.015)


def test_all_of_the_bracket_at_coverage_one(rng):
    sample = made_up(rng, 1000)
    low, high = interval(fit(*sample), *sample[1:], 1.0)
    assert (low == 0).all()
    assert (high == 1).all()


def anything(rng, count=2000):
    position = np.concatenate([rng.random(count - 4), [0, 0, 1, 1]])
    return position, 10.0 ** rng.uniform(-7, 0, count), rng.random(count) < 0.2


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


@pytest.mark.parametrize("missing", ["open", "closed"])
def test_where_nothing_was_seen_the_interval_is_the_bracket(missing, rng):
    """No calibration code was of that sort, so nothing may be claimed of the first one that comes."""
    truth, position, doubt, _ = made_up(rng, 10_000)
    seen = np.full(10_000, missing == "open")
    table = check(fit(truth, position, doubt, seen))
    assert covered(table, (truth, position, doubt, seen), 0.9).mean() == pytest.approx(0.9, abs=0.02)
    for coverage in COVERAGES:
        low, high = interval(table, position, doubt, ~seen, coverage)
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
    levels = calibration.LEVELS
    assert (np.diff(levels) > 0).all()
    assert levels[0] == pytest.approx(1 - levels[-1])
    assert levels[0] <= (1 - max(COVERAGES)) / 2
