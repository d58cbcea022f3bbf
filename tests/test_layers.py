"""Data flows one way: each module imports only from its left, and torch only from `passes` rightwards."""

import ast
import random
import subprocess
import sys
from pathlib import Path

import pytest

import moe_mheight

ORDER = [
    "errors", "arguments", "tiers", "folders", "jobs", "criteria", "raw", "raw.recipe", "raw.table", "kernels",
    "masks", "codes", "rationals", "forms", "kinds", "minors", "enumeration", "distance", "least_squares", "certified",
    "exchanges", "tableaus", "hitting", "witnesses", "joint", "heights", "pruned", "exact", "reweighting", "looks",
    "search", "brackets", "pickles", "arrays", "files", "manifests", "shards", "sources", "labels", "entries",
    "matrix_market", "matrices", "claims", "reductions", "transversals", "verification", "mending", "certificates",
    "datasets", "raw.augmentation", "raw.data", "raw.monitor", "pictures", "plots", "streams", "calibration",
    "passes", "experts", "unrolled", "recipes", "storage", "cards", "checkpoints", "raw.networks", "raw.models",
    "raw.training", "training", "raw.ablation", "raw.page", "router", "gating", "ensemble", "explanations",
    "samples", "evaluation", "charts", "gallery", "report", "gradients", "exports", "estimators",
]  # fmt: skip
PACKAGE = Path(moe_mheight.__file__).parent
FILES = {
    ".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): p
    for p in [*PACKAGE.glob("*.py"), *PACKAGE.glob("raw/*.py")]
    if p.parent != PACKAGE or not p.stem.startswith("__")
}
MODULES = sorted(FILES)


def imports(path, top_level_only=False):
    """Names of the modules that a file imports: own ones in full, without the package's name; of others the first."""
    tree = ast.parse(path.read_text())
    inside = path.parent == PACKAGE / "raw"
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            name = node.module or ""
            own = node.level > 0 or name.startswith("moe_mheight")
            name = name.removeprefix("moe_mheight").removeprefix(".")
            name = f"{path.parent.name}.{name}".rstrip(".") if inside and node.level == 1 else name
            if own:
                found |= {name} if name and name != "raw" else {alias.name for alias in node.names}
            else:
                found.add(name.split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found


def test_every_module_has_its_place():
    assert sorted(ORDER) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_the_left(module):
    here = ORDER.index(module)
    assert imports(FILES[module]) & set(ORDER) <= set(ORDER[:here])


@pytest.mark.parametrize("module", ORDER[: ORDER.index("passes")])
def test_no_torch_before_the_experts(module):
    assert "torch" not in imports(FILES[module])


def test_what_commands_import_at_once_is_light():
    code = "import sys, moe_mheight.raw.recipe, moe_mheight.criteria; print({'numpy', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def test_commands_import_what_they_need_when_they_run():
    from moe_mheight import cli

    light = {
        "__version__",
        "click",
        "errors",
        "folders",
        "moe_mheight",
        "options",
        "raw.recipe",
        "tiers",
        *sys.stdlib_module_names,
    }
    for path in Path(cli.__path__[0]).glob("*.py"):
        assert imports(path, top_level_only=True) <= light, path


@pytest.mark.parametrize("seed", range(2))
def test_modules_import_in_any_order(seed):
    names = [f"moe_mheight.{name}" for name in MODULES]
    random.Random(seed).shuffle(names)
    code = "import importlib\nfor name in " + repr(names) + ":\n    importlib.import_module(name)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_everything_public_is_there_and_documented():
    for name in moe_mheight.__all__:
        assert getattr(moe_mheight, name).__doc__, name
