"""Data flows one way: each module imports only from its left, and torch only from `experts` rightwards."""

import ast
import random
import subprocess
import sys
from pathlib import Path

import pytest

import moe_mheight

ORDER = [
    "errors", "tiers", "kernels", "masks", "codes", "kinds", "minors", "enumeration", "witnesses", "least_squares",
    "certified", "exchanges", "tableaus", "hitting", "joint", "rationals", "heights", "pruned", "exact", "reweighting",
    "looks", "search", "brackets", "pickles", "files", "entries", "matrix_market", "matrices",
    "claims", "transversals", "verification", "certificates", "datasets",
    "streams", "calibration", "experts", "recipes", "storage", "cards", "checkpoints", "training", "router", "gating",
    "ensemble", "evaluation",
]  # fmt: skip
PACKAGE = Path(moe_mheight.__file__).parent
MODULES = sorted(p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("__"))


def imports(path, top_level_only=False):
    """Names of the modules that a file imports: own ones without the package's name."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            name = node.module or ""
            own = node.level == 1 or name.startswith("moe_mheight")
            parts = [name] if name and name != "moe_mheight" else [alias.name for alias in node.names]
            found |= {part.removeprefix("moe_mheight.").split(".")[0] if own else part.split(".")[0] for part in parts}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found


def test_every_module_has_its_place():
    assert sorted(ORDER) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_the_left(module):
    here = ORDER.index(module)
    assert imports(PACKAGE / f"{module}.py") & set(ORDER) <= set(ORDER[:here])


@pytest.mark.parametrize("module", ORDER[: ORDER.index("experts")])
def test_no_torch_before_the_experts(module):
    assert "torch" not in imports(PACKAGE / f"{module}.py")


def test_commands_import_what_they_need_when_they_run():
    from moe_mheight import cli

    for path in Path(cli.__path__[0]).glob("*.py"):
        assert imports(path, top_level_only=True) <= {
            "__future__", "click", "collections", "errors", "importlib", "json", "math", "__version__", "moe_mheight",
            "options", "os", "pathlib", "sys", "tiers", "typing", "warnings",
        }, path  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_modules_import_in_any_order(seed):
    names = [f"moe_mheight.{name}" for name in MODULES]
    random.Random(seed).shuffle(names)
    code = "import importlib\nfor name in " + repr(names) + ":\n    importlib.import_module(name)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_everything_public_is_there_and_documented():
    for name in moe_mheight.__all__:
        assert getattr(moe_mheight, name).__doc__, name
