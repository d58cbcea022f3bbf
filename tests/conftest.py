"""What the tests share: seeded generators, codes with known profiles, and data kept outside the repository."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]

PACKAGE = importlib.util.find_spec("moe_mheight")
if PACKAGE is not None and PACKAGE.origin == str(HERE.parent / "moe_mheight" / "__init__.py"):
    # programs that tests start have the package under test, not an installed one, which would compile all kernels again
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])

if "PYTEST_XDIST_WORKER" in os.environ:
    # processes side by side have a core each: torch's threads, waiting for one another's core, take five times the work
    os.environ.setdefault("OMP_NUM_THREADS", "1")


SLOW_FIXTURES = {"site", "exported", "graphs", "ensemble", "drawn", "made", "results"}
"""Each takes many seconds, and so does a test that needs it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker("slow")


def _enumerate():
    from moe_mheight import height_profile, minimum_distance, witness

    for P in (np.eye(4, 5) + 0.5, np.arange(20.0).reshape(4, 5), np.full((4, 5), 0.1)):
        height_profile(P), minimum_distance(P)
    witness(np.eye(4, 5) + 0.5, 2)


def _bracket():
    from moe_mheight import bounds
    from moe_mheight.brackets.bounds import brackets

    bounds(np.random.default_rng(0).normal(size=(4, 5)), 2)
    brackets(np.random.default_rng(0).normal(size=(1, 9, 9)), 3, budget=50)


def _search():
    from moe_mheight import m_height

    m_height(np.random.default_rng(0).normal(size=(9, 9)), 3, threads=1)


KERNELS = (_bracket, _enumerate, _search)
"""Each compiles a part of the kernels, by using them."""


@pytest.fixture(scope="session", autouse=True)
def compiled(request, tmp_path_factory):
    """Kernels are compiled once, before many tests: each process a part, the next process finds it on disk."""
    if len(request.session.items) < 100:
        return
    name = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    shared_by_workers = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else None
    folder = shared_by_workers or tmp_path_factory.mktemp("compiled")
    for use in KERNELS if int(name[2:]) % 2 else KERNELS[::-1]:
        try:
            with FileLock(folder / f"{use.__name__}.lock", timeout=0):
                if not (folder / use.__name__).exists():
                    use()
                    (folder / use.__name__).touch()
        except Timeout:  # another process compiles these
            continue
    for use in KERNELS:
        with FileLock(folder / f"{use.__name__}.lock", timeout=600):
            pass


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


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A model set of untrained experts, only to be read: `tiny_models` makes others."""
    from tiny_models import tiny_models

    return tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def mheight(monkeypatch, capfd):
    """Runs the command in this process: exit code, standard output, standard error."""
    from moe_mheight.cli.main import main

    # else click would call it `python -m pytest`
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["mheight", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        alone = {}
        if arguments[:1] == ("ablation",):  # python benchmarks/ablation
            from ablation.__main__ import command

            del sys.argv[0]
            alone = {"command": command, "name": "ablation"}
        handler = signal.getsignal(signal.SIGINT)
        with pytest.raises(SystemExit) as ended:
            main(**alone)
        signal.signal(signal.SIGINT, handler)
        return ended.value.code, *capfd.readouterr()

    return run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, and the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


SMALL_RECIPE = {"groups": 3, "codes": 64, "batch": 64, "easy": 1.0, "searched": 64, "missable": 1.0}


@pytest.fixture
def measured_on(monkeypatch):
    """Trainings in this process, with so many codes a group held out, and one budget: most of their time goes there."""
    from moe_mheight._parallel import workers
    from moe_mheight.experts import model_card, training

    real = model_card.held_out

    @contextmanager
    def within(codes):
        def few(name, tier, size, count, **more):
            return real(name, tier, size, codes, **{**more, "elsewhere": 2 if "elsewhere" in more else 0})

        monkeypatch.setattr(model_card, "TESTED_BUDGETS", (60,))
        for module in (model_card, training):
            monkeypatch.setattr(module, "held_out", few)
        with workers(1):
            yield

    return within


@pytest.fixture
def quick(monkeypatch, measured_on):
    """Small chunks and held-out sets, in this process; every open bracket is routed to experts."""
    from moe_mheight.experts import batches, features

    monkeypatch.setattr(features, "DECIDED", -1.0)
    plain = batches.Recipe

    def small(**settings):
        return plain(**{**SMALL_RECIPE, **settings})

    monkeypatch.setattr(batches, "Recipe", small)
    with measured_on(20):
        yield


@pytest.fixture
def quick_long(monkeypatch):
    """Trainings of experts of long codes that take a second."""
    from functools import partial

    from moe_mheight.experts import long_training

    monkeypatch.setattr(long_training, "STAGES", 2)
    monkeypatch.setattr(long_training, "SCANS", 3)
    for name in ("train_ranking", "train_record"):
        monkeypatch.setattr(long_training, name, partial(getattr(long_training, name), steps=30))
