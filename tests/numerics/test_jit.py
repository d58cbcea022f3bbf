"""The key under which a kernel's machine code is kept: its own bytecode, that of what it calls, and its constants.

With it the code is found again; nothing else that changes in the file makes anybody compile again.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys

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
                    found[value.py_func.__qualname__] = value
    return found


def options_of(kernel):
    numbas = ("nopython", "boundscheck", "no_cfunc_wrapper", "no_cpython_wrapper")
    return {name: value for name, value in kernel.targetoptions.items() if name not in numbas}


def test_nothing_that_a_kernel_calls_is_defined_after_it():
    """What is not there yet when the key is made is not in it: machine code would go stale without a sound."""
    assert len(kernels()) > 60
    for name, kernel in kernels().items():
        assert name.rsplit("_", 1)[1] == code_key(kernel.py_func, options_of(kernel)), name


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
    assert code_key(keys, {"nogil": True}) != code_key(keys, {"nogil": False})


MODULE = '''
from typing import NamedTuple

from moe_mheight.numerics.jit import compiled

{remark}
class Pair(NamedTuple):
    {fields}

@compiled
def inner(x):
    """ Says: {remark}. """
    return {inner}

@compiled
def outer(pair):
    return inner(pair.one) + 3 * pair.two

def answer():
    return int(outer(Pair(one=1, two=10)))
'''

RUN = "import json, kept; print(json.dumps([kept.answer(), sum(kept.outer.stats.cache_hits.values())]))"


@pytest.fixture
def run(tmp_path):
    """Runs MODULE in a process of its own: (answer, times its machine code was found), and the files it then has."""
    (tmp_path / "code").mkdir()

    def made(inner="x + 1", fields="one: int; two: int", remark="# short"):
        module = MODULE.format(inner=inner, fields=fields, remark=remark)
        (tmp_path / "code" / "kept.py").write_text(module, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", RUN],
            cwd=tmp_path / "code",
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/kept.*")}
        return tuple(json.loads(done.stdout)), files

    return made


@pytest.mark.slow
def test_a_remark_compiles_nothing(run):
    answer, first = run()
    assert answer == (32, 0)
    assert len(first) == 4  # an index and machine code, of two kernels
    for remark in ("# short", "# a longer remark", "# lines and lines\n" * 3):
        answer, after = run(remark=remark)
        assert answer == (32, 1)
        assert after == first  # nothing was written


@pytest.mark.slow
def test_what_a_kernel_does_compiles_it_again_and_removes_the_old_code(run):
    _, first = run()
    answer, second = run(inner="x + 2")
    assert answer == (33, 0)
    assert len(second) == 4
    assert not set(second) & set(first)


@pytest.mark.slow
def test_fields_that_change_places_compile_again(run):
    """Machine code knows the places only, and would add 3 * 1 to 12."""
    run(inner="x + 2")
    answer, _ = run(inner="x + 2", fields="two: int; one: int")
    assert answer == (33, 0)


def test_files_of_another_version_are_compiled_again(run, tmp_path):
    """They name classes that are gone, or are no files of numba's at all; an upgrade leaves them behind."""
    run()
    for spoil in (lambda data: b"nothing", lambda data: data.replace(b"Pair", b"Gone")):
        for path in (tmp_path / "cache").glob("*/kept.*.nbi"):
            path.write_bytes(spoil(path.read_bytes()))
        answer, _ = run()
        assert answer == (32, 0)
        assert run()[0] == (32, 1)


def twice(x):
    return x + x


def test_neither_a_full_disk_nor_missing_files_matter(tmp_path, monkeypatch):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))

    def made():
        monkeypatch.setattr(twice, "__qualname__", "twice")
        return compiled(twice)

    def full(*_):
        raise OSError(28, "No space left on device")

    kernel = made()
    with monkeypatch.context() as patch:
        patch.setattr(kernel._cache._cache_file, "_save_data", full)
        assert kernel(2) == 4
    assert kernel(2.0) == 4.0
    code = list(tmp_path.glob("*/*.nbc"))
    assert len(code) == 1
    code[0].unlink()
    assert made()(2.0) == 4.0
    assert len(list(tmp_path.glob("*/*.nbc"))) == 1


def test_kernels_work_where_no_folder_can_be_written(monkeypatch):
    monkeypatch.setattr(twice, "__qualname__", "twice")

    def refuse(_):
        raise PermissionError

    monkeypatch.setattr("numba.core.caching._CacheLocator.ensure_cache_path", refuse)
    assert compiled(twice)(3) == 6
