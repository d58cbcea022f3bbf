"""Kernels that share machine code: called from Python and from kernels, in any order, from memory and from the disk."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from moe_mheight.numerics import jit, linking
from moe_mheight.numerics.jit import compiled

MODULE = """
from moe_mheight.numerics.jit import compiled

@compiled
def inner(x):
    if x > 1e6:
        raise OverflowError("too large")
    return x + 1.0

@compiled
def outer(x):
    return 10.0 * inner(x)

@compiled
def twice(x):
    return outer(x) + inner(x)
"""

RUN = """
import json, kept
found = [getattr(kept, name)(1.0) for name in {names}]
print(json.dumps([found, [sum(kernel.stats.cache_hits.values()) for kernel in (kept.inner, kept.outer, kept.twice)]]))
"""


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    names = {"__name__": "kept"}
    exec(MODULE, names)
    return names


@pytest.mark.parametrize(
    "order", [("outer", "inner", "twice"), ("inner", "twice", "outer"), ("twice", "outer", "inner")]
)
def test_a_kernel_is_called_by_python_and_by_kernels_in_any_order(kernels, order):
    right = {"inner": 2.0, "outer": 20.0, "twice": 22.0}
    assert [kernels[name](1.0) for name in order * 2] == [right[name] for name in order * 2]
    assert [kernels[name](1) for name in order] == [right[name] for name in order]  # an int is another signature


def test_errors_pass_through_shared_kernels(kernels):
    with pytest.raises(OverflowError, match="too large"):
        kernels["twice"](1e7)


def test_machine_code_is_shared_not_copied(kernels):
    kernels["twice"](1.0)
    (result,) = kernels["twice"].overloads.values()
    names = [name for name, _ in linking.called(result.library)]
    assert [linking.KERNELS[name].py_func.__name__ for name in sorted(names)] == ["inner", "outer"]


def test_true_and_zero_do_not_compile_again():
    @compiled
    def inner(flag, number):
        return number + 1 if flag else number

    @compiled
    def outer(flag, number):
        return inner(flag, number) + inner(True, 0) + inner(False, 3)

    assert outer(True, 5) == 6 + 1 + 3
    assert len(inner.overloads) == 1


def test_the_garbage_collector_is_as_before_once_all_is_compiled():
    before = gc.get_threshold()
    with jit.uninterrupted():
        assert gc.get_threshold() == jit.PATIENCE
        with jit.uninterrupted():
            pass
        assert gc.get_threshold() == jit.PATIENCE
    assert gc.get_threshold() == before


def test_operators_that_are_remembered_keep_their_types():
    """Division of ints, comparison, shifts and indices, each met before with other types."""

    @compiled
    def kernel(a, b, x):
        return a / b, a // b, a < b, a << b, a + x[b], x[a - a], a * 2.5

    for kind in (np.int64, np.float64, np.int32):
        x = np.arange(5).astype(kind)
        found = kernel(7, 2, x)
        assert found == (3.5, 3, False, 28, 9, 0, 17.5)
        assert [type(value) for value in found[:4]] == [float, int, bool, int]


@pytest.fixture
def run(tmp_path):
    """Runs MODULE in a process of its own: what the named kernels return, and how often each was found on the disk."""
    (tmp_path / "kept.py").write_text(MODULE, encoding="utf-8")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}

    def made(*names):
        command = [sys.executable, "-c", RUN.format(names=names)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=300
        )
        return json.loads(done.stdout)

    return made


@pytest.mark.slow
def test_machine_code_from_the_disk_finds_what_it_calls(run, tmp_path):
    assert run("twice") == [[22.0], [0, 0, 0]]
    assert run("twice") == [[22.0], [1, 1, 1]]
    assert run("inner", "twice") == [[2.0, 22.0], [0, 1, 1]]  # inner once more, for Python
    assert run("inner", "twice", "outer") == [[2.0, 22.0, 20.0], [1, 1, 1]]


@pytest.mark.slow
def test_what_machine_code_calls_is_compiled_again_where_it_is_missing(run, tmp_path):
    run("twice")
    gone = list(tmp_path.glob("cache/*/kept.inner*"))
    assert gone
    for path in gone:
        path.unlink()
    assert run("twice") == [[22.0], [0, 1, 1]]
