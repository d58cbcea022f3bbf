"""constraints.txt against what the installed distributions say of themselves."""

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

FILE = Path(__file__).parent.parent / "constraints.txt"
PYTHONS = [f"3.{minor}.{patch}" for minor in range(10, 14) for patch in range(20)]
"""Debian 12 has 3.11.2: what asks for 3.11.5 cannot be installed there."""

if not FILE.exists():
    pytest.skip("the constraints are in the repository only", allow_module_level=True)


def pins():
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in FILE.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def admitted(pin):
    """The Pythons that a pin is for."""
    if pin.marker is None:
        return set(PYTHONS)
    said = [(full, {"python_full_version": full, "python_version": full.rpartition(".")[0]}) for full in PYTHONS]
    return {full for full, environment in said if pin.marker.evaluate(environment)}


def test_one_version_of_each_package_for_every_python():
    seen = {}
    for pin in pins():
        name = pin.name.lower().replace("_", "-")
        assert not seen.setdefault(name, set()) & admitted(pin), f"{pin} is given twice for one Python"
        seen[name] |= admitted(pin)
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), pin
    assert {name: sorted(set(PYTHONS) - pythons) for name, pythons in seen.items() if pythons != set(PYTHONS)} == {}


def test_a_pin_is_only_for_pythons_that_its_package_takes():
    checked = set()
    for pin in pins():
        try:
            found = distribution(pin.name)
        except PackageNotFoundError:
            continue
        if not pin.specifier.contains(found.version, prereleases=True):
            continue  # the pin of another Python: its metadata is not here
        needs = SpecifierSet(found.metadata.get("Requires-Python") or "")
        refused = [python for python in sorted(admitted(pin)) if python not in needs]
        assert not refused, f"{pin} needs Python {needs}, which refuses {refused[0]}"
        checked.add(pin.name)
    if not checked & {"numpy", "torch", "click"}:
        pytest.skip("nothing of constraints.txt is installed")
