"""What the tests share: seeded generators, codes with known profiles, and data kept outside the repository."""

from __future__ import annotations

import importlib.util
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "cli"), str(HERE / "experts"), str(HERE.parent / "benchmarks")]


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes many seconds on one core; leave out with -m 'not slow'")


@pytest.fixture
def rng(request):
    """Seeded by the test's own name, so every test has draws of its own and repeats them."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(scope="session")
def shared():
    """The folder of data beside the repository."""
    folder = HERE.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared, which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def oracles():
    """[(name, G, profile)] in closed form."""
    return _read_oracles(HERE / "oracles.json")


@pytest.fixture(scope="session")
def all_oracles(shared):
    """The longer list that `oracles` was chosen from; one profile is partly unknown (nan)."""
    return _read_oracles(shared / "oracles.json")


def _read_oracles(path):
    special = {None: np.inf, "skip": np.nan}
    return [
        (code["name"], np.array(code["G"], float), np.array([special.get(h, h) for h in code["profile"]], float))
        for code in json.loads(path.read_text())
    ]


@pytest.fixture(scope="session")
def screenshots():
    """benchmarks/screenshots.py, where there is a browser to look with."""
    path = HERE.parent / "benchmarks" / "screenshots.py"
    pytest.importorskip("playwright", reason="looking at pages needs playwright (extra dev)")
    if not path.exists():
        pytest.skip("benchmarks are in the repository only")
    spec = importlib.util.spec_from_file_location("screenshots", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.browser() is None:
        pytest.skip("no Chromium on the PATH to look at pages with")
    return module
