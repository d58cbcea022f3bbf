"""Wings stand on each other in one order: no import upwards, no cycle between rooms, torch only from the experts."""

import ast
import random
import subprocess
import sys
from pathlib import Path

import pytest

import moe_mheight

PACKAGE = Path(moe_mheight.__file__).parent
GROUND = ("errors", "groups", "_arguments", "_io", "_parallel")
"""Modules below all wings."""

WINGS = (
    "numerics", "figures", "codes", "exact", "brackets", "data", "proofs", "experts", "raw", "ensemble", "design",
    "evaluation",
)  # fmt: skip
"""Each may import from those before it."""

TO_COME = {"design"}
APART = {"brackets": {"exact": {"distance"}}, "figures": {"numerics": set()}}
"""Where less is allowed than the order allows: predictions go without the exact solver."""

ROOMS = {
    p.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): p
    for p in PACKAGE.rglob("*.py")
    if p.parent != PACKAGE or not p.stem.startswith("__")
}


def imports(room):
    """(own rooms, first names of the others) that a room imports, at its top or inside a function."""
    path = ROOMS[room]
    base = ["moe_mheight", *path.relative_to(PACKAGE).parts[:-1]]
    own, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if not name.startswith("moe_mheight."):
                others.add(name.split(".")[0])
                continue
            room = name.removeprefix("moe_mheight.")
            while room and (room not in ROOMS or room in WINGS):
                room = room.rpartition(".")[0]
            own |= {room} if room else set()
    return own, others


def wing(room):
    return room.split(".")[0]


def level(room):
    return (*GROUND, *WINGS).index(wing(room))


def test_every_file_is_in_a_wing_or_on_the_ground():
    assert {wing(room) for room in ROOMS} == {*GROUND, *WINGS} - TO_COME
    for name in set(WINGS) - TO_COME:
        assert len(ast.get_docstring(ast.parse(ROOMS[name].read_text())).splitlines()) >= 3, name


@pytest.mark.parametrize("name", [*GROUND, *WINGS])
def test_no_import_upwards(name):
    for room in ROOMS:
        if wing(room) == name:
            for other in imports(room)[0]:
                assert level(other) < level(room) or wing(other) == name, f"{room} imports {other}"
                rooms = APART.get(name, {}).get(wing(other))
                assert rooms is None or other.split(".")[1] in rooms, f"{room} imports {other}"


@pytest.mark.slow
def test_no_cycle_between_rooms():
    below = {room: imports(room)[0] for room in ROOMS}
    while ready := {room for room, needs in below.items() if not needs & set(below)}:
        below = {room: needs for room, needs in below.items() if room not in ready}
    assert not below


def test_the_verifier_shares_nothing_with_the_solver():
    seen, left = set(), ["proofs.verify"]
    while left:
        room = left.pop()
        if room not in seen:
            seen.add(room)
            left += imports(room)[0]
    assert {wing(room) for room in seen} == {"proofs", "errors"}
    assert not {"proofs.certify", "proofs.repair"} & seen


def test_no_torch_before_the_experts():
    for room in ROOMS:
        if level(room) < level("experts"):
            assert "torch" not in imports(room)[1], room


def test_matplotlib_in_three_wings_only():
    for room in ROOMS:
        if wing(room) not in ("figures", "evaluation", "raw"):
            assert "matplotlib" not in imports(room)[1], room


def test_the_repository_is_not_part_of_the_package():
    code = "import moe_mheight.cli, moe_mheight.models\nimport moe_mheight.moe_mheight"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "No module named 'moe_mheight.moe_mheight'" in done.stderr
    assert len(moe_mheight.__path__) == 1


def test_what_commands_import_at_once_is_light():
    code = (
        "import sys, moe_mheight.raw.recipe, moe_mheight.evaluation.criteria\n"
        "print({'numpy', 'torch'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def test_commands_import_what_they_need_when_they_run():
    from moe_mheight import cli

    light = {"__version__", "moe_mheight", "moe_mheight.errors", "moe_mheight._io", "moe_mheight.groups"}
    light |= {
        "moe_mheight.raw.recipe",
        "click",
        "one_code",
        "options",
        "printing",
        "progress",
        *sys.stdlib_module_names,
    }
    for path in Path(cli.__path__[0]).glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                assert {node.module, (node.module or "").split(".")[0]} & light, (path, node.module)
            elif isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= light, path


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_rooms_import_in_any_order(seed):
    names = sorted(f"moe_mheight.{name}" for name in ROOMS)
    random.Random(seed).shuffle(names)
    code = "import importlib\nfor name in " + repr(names) + ":\n    importlib.import_module(name)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


PUBLIC = {
    "CodeError", "DataError", "ExactHeight", "MHeightError", "MHeightRegressor", "ModelError", "Predictor", "bounds",
    "certify", "equivalent", "explain", "from_parity_check", "generator", "height_gradient", "height_profile",
    "m_height", "minimum_distance", "parity_check", "prediction_gradient", "random_codes", "systematic",
    "torch_height", "torch_prediction", "verify", "witness",
}  # fmt: skip
"""What users call; a name that was here once stays."""


def test_everything_public_is_there_and_documented():
    assert set(moe_mheight.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(moe_mheight, name).__doc__, name


def test_public_names_stay_what_they_are():
    """Whatever else is imported: no room or wing takes the name of a function."""
    names = sorted(f"moe_mheight.{name}" for name in ROOMS)
    code = f"import importlib, moe_mheight\nfor name in {names!r}: importlib.import_module(name)\n"
    code += f"assert all(callable(getattr(moe_mheight, name)) for name in {sorted(PUBLIC)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")
