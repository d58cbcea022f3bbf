"""The key under which a kernel's machine code is kept: its own bytecode, that of what it calls, and its constants."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import moe_mheight
from moe_mheight.numerics.jit import code_key, compiled

SOURCE = """
STEP = {step}

@compiled
def inner(x):{remark}
    return {inner}

@compiled
def outer(x):
    return inner(x) + STEP

@compiled
def alone(x):
    return x
"""


def kernels():
    found = {}
    for info in pkgutil.walk_packages([moe_mheight.__path__[0]], "moe_mheight."):
        if not info.name.startswith(("moe_mheight.cli", "moe_mheight.models", "moe_mheight.__main__")):
            for value in vars(importlib.import_module(info.name)).values():
                if hasattr(value, "py_func"):
                    found[value.py_func.__qualname__] = value.py_func
    return found


def test_nothing_that_a_kernel_calls_is_defined_after_it():
    """What is not there yet when the key is made is not in it: machine code would go stale without a sound."""
    assert len(kernels()) > 60
    for name, function in kernels().items():
        assert name.rsplit("_", 1)[1] == code_key(function), name


@pytest.fixture
def keys():
    def made(step=1, inner="x * 2", remark=""):
        names = {"compiled": compiled}
        exec(SOURCE.format(step=step, inner=inner, remark=remark), names)
        return {name: names[name].py_func.__qualname__ for name in ("inner", "outer", "alone")}

    return made


def test_a_key_changes_with_what_the_machine_code_comes_from(keys):
    before = keys()
    assert keys() == before
    assert keys(remark="  # a remark\n    # and another one") == before
    other = keys(inner="x * 3")
    assert other["inner"] != before["inner"]
    assert other["outer"] != before["outer"]
    assert other["alone"] == before["alone"]
    other = keys(step=2)
    assert other["inner"] == before["inner"]
    assert other["outer"] != before["outer"]
