"""Measurements are cut and joined row by row, and every predictor gives them."""

import pickle
from dataclasses import fields, replace
from inspect import Parameter, signature

import numpy as np
import pytest

from moe_mheight import Predictor
from moe_mheight.experts.measurement import HeightPredictor, Measurement
from moe_mheight.raw.models import RawPredictor

NAMES = [f.name for f in fields(Measurement)]


def numbered(first, last, intervals=True):
    """Field i of code c is 100 i + c."""
    columns = [100.0 * i + np.arange(first, last) for i in range(len(NAMES))]
    measured = replace(Measurement(*columns), routed=np.arange(first, last) % 2 == 0)
    return measured if intervals else replace(measured, low=None, high=None)


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in NAMES)


@pytest.mark.parametrize("intervals", [True, False])
def test_cut_and_joined_again(intervals):
    whole = numbered(0, 10, intervals)
    assert same(Measurement.join([whole[:3], whole[3:4], whole[4:]]), whole)
    order = np.array([7, 2, 2])
    for name in NAMES:
        column = getattr(whole, name)
        for rows in (order, slice(2, 9, 3), whole.routed, 4):
            assert np.array_equal(getattr(whole[rows], name), None if column is None else column[rows])
    assert len(whole[order]) == 3
    assert same(pickle.loads(pickle.dumps(whole)), whole)
    filled = Measurement.unknown(10, intervals=intervals)
    assert not filled.routed.any()
    assert np.isnan(filled.height).all()
    for rows in (np.array([5, 6, 7, 8, 9]), np.array([3, 1, 0, 2, 4])):
        filled.put(rows, whole[rows])
    assert same(filled, whole)
    with pytest.raises(IndexError):
        whole[10]


def test_both_predictors_are_height_predictors():
    for predictor in (Predictor, RawPredictor):
        assert issubclass(predictor, HeightPredictor)
        for name in ("predict", "bounds", "measure", "__call__"):
            wanted, has = (signature(getattr(owner, name)).parameters for owner in (HeightPredictor, predictor))
            assert [*wanted] == [key for key in has if key in wanted], name
            assert all(has[key].default is not Parameter.empty for key in has if key not in wanted), name
    assert not issubclass(Measurement, HeightPredictor)
