"""Results that hold arrays are equal to themselves alone: comparing arrays has no one answer, and they have no hash."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import numpy as np
import pytest

import moe_mheight
from moe_mheight import explain, m_height
from moe_mheight.brackets.bounds import brackets
from moe_mheight.data.code_files import Codes


def all_dataclasses():
    found = {}
    for info in pkgutil.walk_packages([moe_mheight.__path__[0]], "moe_mheight."):
        if info.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(info.name)).values():
            if dataclasses.is_dataclass(value) and isinstance(value, type) and value.__module__.startswith("moe_"):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


@pytest.mark.parametrize("name", all_dataclasses())
def test_those_with_arrays_compare_by_identity(name):
    kind = all_dataclasses()[name]
    arrays = [f.name for f in dataclasses.fields(kind) if any(word in str(f.type) for word in ("NDArray", "Tensor"))]
    if arrays:
        assert kind.__eq__ is object.__eq__
        assert kind.__hash__ is object.__hash__


@pytest.mark.parametrize(
    "make",
    [
        lambda: m_height([[1, 1], [1, 2]], 1, details=True),
        lambda: explain([[1, 1], [1, 2]], 1),
        lambda: brackets([[1, 1], [1, 2]], 1),
        lambda: Codes(np.ones((2, 1, 2)), np.arange(2), None),
    ],
)
def test_they_go_into_sets_and_lists(make):
    one, other = make(), make()
    assert one == one
    assert one != other
    assert other not in {one}
    assert [one, other].index(other) == 1
