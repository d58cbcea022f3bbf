"""What the package reads is in the wheel."""

from pathlib import Path

import pytest

import moe_mheight

PACKAGE = Path(moe_mheight.__file__).parent


def test_every_file_that_is_no_module_is_named_in_pyproject():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    pyproject = PACKAGE.parent / "pyproject.toml"
    if not pyproject.exists():
        pytest.skip("installed without its sources")
    data = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    named = {path for pattern in data["moe_mheight"] for path in PACKAGE.glob(pattern)}
    files = {p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    kept = {p for p in files if "__pycache__" not in p.parts}
    assert {p.name for p in kept} >= {"long_labels.npz", "long_codes.npz"}
    assert kept <= named
