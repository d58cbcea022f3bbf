"""The picture of the wings is that of the imports, and what benchmarks/house.py counts is what is there."""

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

house = pytest.importorskip("house", reason="benchmarks are in the repository only")

RULES = "python benchmarks/house.py draws it anew"


@pytest.mark.slow
def test_the_picture_is_of_these_imports():
    assert house.PICTURE.read_text(encoding="utf-8") == house.draw(ROOT), RULES


@pytest.mark.slow
def test_the_wings_are_those_that_are_kept():
    kept = json.loads(house.RESULT.read_text(encoding="utf-8"))
    assert kept["wings"] == house.measured(ROOT)["wings"], RULES


@pytest.mark.slow
def test_no_wing_imports_upwards():
    wings = house.wings_of(house.imports(house.sources(ROOT)))
    levels = house.depths(wings)
    assert all(levels[below] < levels[wing] for wing, under in wings.items() for below in under)


SOURCE = '''"""Looks at tokens."""
from ..numerics import jit
from .heights import m_height as asked
token_lower = lookUp = 1
def long(self, some, *, most=1):
    """One.

    Two.
    """
    return 1
'''


def test_what_is_counted(tmp_path):
    modules = {name: ast.parse("") for name in ("numerics", "numerics.jit", "exact", "exact.heights", "errors")}
    modules["exact.search"] = ast.parse(SOURCE)
    graph = house.imports(modules)
    assert graph["exact.search"] == {"numerics", "numerics.jit", "exact.heights"}
    assert house.wings_of(graph) == {"numerics": set(), "exact": {"numerics"}, "ground": set()}
    (found,) = house.functions({"exact.search": modules["exact.search"]})
    assert found == {"name": "exact.search.long", "lines": 2, "arguments": 2}
    parts = [part for name in house.identifiers(modules["exact.search"]) for part in house.lowered(name)]
    assert sorted(parts) == ["long", "look", "lower", "most", "self", "some", "token", "up"]
    words = house.counted(parts)
    assert (words["token"], words["look"], words["seed"]) == (1, 1, 0)
    assert words["some, most, least, own, apart, whole, others"] == 2
    assert house.docstrings(modules["exact.search"]).split() == ["Looks", "at", "tokens.", "One.", "Two."]
