"""The examples in docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import moe_mheight

MODULES = sorted(
    info.name.removeprefix("moe_mheight.")
    for info in pkgutil.walk_packages([moe_mheight.__path__[0]], "moe_mheight.")
    if not info.name.startswith(("moe_mheight.cli", "moe_mheight.models", "moe_mheight.__main__"))
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(f"moe_mheight.{name}"))
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(f"moe_mheight.{name}") for name in MODULES]
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) >= 10
