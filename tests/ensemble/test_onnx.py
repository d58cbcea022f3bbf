"""Exported experts answer like their networks, without torch, and an export is written whole or not at all."""

import inspect
import json
import logging
import os
import re
import sys
import textwrap
import warnings
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from moe_mheight.cli.main import mheight
from tiny_models import tiny_models

from moe_mheight import ModelError, Predictor, random_codes
from moe_mheight.ensemble import onnx as exports
from moe_mheight.ensemble.onnx import INPUTS, OUTPUTS, TOLERANCE, export_onnx
from moe_mheight.errors import FolderError
from moe_mheight.experts.model_store import Tier, load_set, shipped_folder

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def predictor():
    """The first two members of every shipped ensemble."""
    tiers = load_set(shipped_folder())
    return Predictor({name: Tier(config, one[:2], two[:2]) for name, (config, one, two) in tiers.items()})


@pytest.fixture(scope="module")
def exported(predictor, tmp_path_factory):
    """(folder, what export_onnx returned)."""
    folder = tmp_path_factory.mktemp("exports") / "deep" / "onnx"
    told = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = export_onnx(folder, predictor, advance=lambda *numbers: told.append(numbers))
        warnings.warn("mine", stacklevel=1)
    assert told == [(i + 1, 12) for i in range(12)]
    assert [str(one.message) for one in seen] == ["mine"]
    return folder, found


def test_what_is_written(exported):
    folder, found = exported
    views = ("0", "1", "search-0", "search-1")
    names = [f"{tier}-{rest}.onnx" for tier in ("low", "medium", "high") for rest in views]
    assert [entry["file"] for entry in found["files"]] == names
    assert {path.name for path in folder.iterdir()} == {*names, "experts.json"}
    assert not [path for path in folder.parent.iterdir() if path != folder]
    assert json.loads((folder / "experts.json").read_text()) == found
    assert found["format"] == "moe_mheight onnx 1"
    for entry in found["files"]:
        assert sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        kind = "search" if entry["view"] == "search" else "seed"
        weights = shipped_folder() / entry["tier"] / f"{kind}{entry['member']}.safetensors"
        assert sha256(weights.read_bytes()).hexdigest() == entry["weights_sha256"]
        assert 0 < max(entry["largest_difference"].values()) <= found["largest_difference"] <= TOLERANCE


def test_files_describe_themselves(exported):
    folder, found = exported
    for entry in found["files"]:
        content = (folder / entry["file"]).read_bytes()
        assert b"/moe_mheight/" not in content  # no paths of where it was made
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model, full_check=True)
        assert [(one.domain, one.version) for one in model.opset_import] == [("", found["opset"])]
        about = {one.key: one.value for one in model.metadata_props}
        assert (about["tier"], about["view"], about["member"]) == (entry["tier"], entry["view"], str(entry["member"]))
        assert about["weights_sha256"] == entry["weights_sha256"]
        assert json.loads(about["architecture"]) == entry["architecture"]
        session = onnxruntime.InferenceSession(content)
        ends = {one.name: one.shape for one in (*session.get_inputs(), *session.get_outputs())}
        assert ends == entry["shapes"]
        assert list(ends) == [*INPUTS, *OUTPUTS]


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 64])
def test_other_batches_and_inputs(exported, predictor, count, rng):
    """Inputs that no code has, too."""
    folder, found = exported
    for entry in found["files"]:
        members = predictor.tiers[entry["tier"]][1 if entry["view"] == "seed" else 2]
        tokens = rng.normal(size=(count, *entry["shapes"]["tokens"][1:])).astype(np.float32)
        low = rng.uniform(-1, 1, (count, 12)).astype(np.float32)
        inputs = {"tokens": tokens, "low": low, "high": low + 0.5}
        session = onnxruntime.InferenceSession(folder / entry["file"])
        with torch.no_grad():
            wanted = members[entry["member"]](*map(torch.from_numpy, inputs.values()))
        for one, two in zip(session.run(list(OUTPUTS), inputs), wanted, strict=True):
            np.testing.assert_allclose(one, two, atol=TOLERANCE)


def recipe():
    """The function in the module's docstring."""
    block = re.search(r"\n\n((?:    .*\n|\n)+)\n", inspect.getdoc(exports)).group(1)
    space = {}
    exec(textwrap.dedent(block), space)
    return space["predict"]


@pytest.mark.parametrize(
    ("n", "k", "m", "budget"), [(9, 4, 2, 0), (12, 4, 3, 0), (9, 5, 3, 0), (9, 6, 3, 0), (12, 6, 3, 50), (16, 8, 7, 50)]
)
def test_the_recipe(exported, predictor, n, k, m, budget, rng):
    P = random_codes("normal", 300, k, n - k, rng)
    wanted = predictor.predict(P, m, budget=budget)
    # positions differ by some 1e-7, in brackets of at most a few bits
    np.testing.assert_allclose(recipe()(exported[0], P, m, budget=budget), wanted, rtol=1e-6)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_models(tmp_path_factory.mktemp("tiny"), seeds=1)


@pytest.fixture(scope="module")
def graphs():
    """What torch made of the tiny networks, which takes it seconds."""
    return {}


def _refuses(rename):
    """A rename that fails for finished folders."""

    def renamed(path, target):
        if Path(path).suffix == ".part":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    return renamed


@pytest.mark.slow
def test_an_export_is_replaced_and_nothing_else(models, graphs, tmp_path, monkeypatch):
    real = exports._graph

    def kept(onnx, expert):
        if expert.architecture not in graphs:
            graphs[expert.architecture] = real(onnx, expert)
        return graphs[expert.architecture]

    once, made = exports._networks, []

    def networks(*arguments):
        """Made and compared once, but where they are to be refused."""
        if exports.TOLERANCE < 0.0:
            return once(*arguments)
        made.extend([] if made else once(*arguments))
        return iter(made)

    monkeypatch.setattr(exports, "_graph", kept)
    monkeypatch.setattr(exports, "_networks", networks)
    folder = tmp_path / "onnx"
    folder.mkdir()  # an empty one is free
    first = export_onnx(folder, models)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FolderError, match="--force to replace"):
        export_onnx(folder, models)
    with monkeypatch.context() as patch:
        patch.setattr(exports, "TOLERANCE", -1.0)
        with pytest.raises(ModelError, match=r"low-0\.onnx answers otherwise"):
            export_onnx(folder, models, force=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", _refuses(os.rename))
        with pytest.raises(FolderError, match="cannot write"):
            export_onnx(folder, models, force=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert export_onnx(folder, models, force=True) == first
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert export_onnx(tmp_path / "link", models, force=True) == first
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "onnx"]
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        with pytest.raises(FolderError, match="is where you are"):
            export_onnx(".", models, force=True)
    (folder / "mine.txt").write_text("kept")
    with pytest.raises(FolderError, match="not replaced"):
        export_onnx(folder, models, force=True)
    assert (folder / "mine.txt").exists()
    with pytest.raises(FolderError, match="not replaced"):
        export_onnx(models, models, force=True)


@pytest.mark.slow
def test_the_command(models, graphs, tmp_path, capfd):
    before = logging.root.manager.disable
    run = CliRunner().invoke(mheight, ["export-onnx", str(tmp_path / "one"), "--models", str(models), "--json"])
    assert run.exit_code == 0
    found = json.loads(run.stdout)
    assert found == json.loads((tmp_path / "one" / "experts.json").read_text())
    assert all(set(json.loads(line)) >= {"progress", "done", "total"} for line in run.stderr.splitlines())
    out, err = capfd.readouterr()
    assert out + err == ""  # whatever writes around Python
    assert logging.root.manager.disable == before
    # the same bytes, though torch exports anew
    entry = found["files"][0]
    expert = load_set(models)["low"].experts[0]
    own = {key: value for key, value in entry.items() if key not in ("sha256", "largest_difference")}
    graph = graphs.get(expert.architecture) or exports._graph(onnx, expert)  # which another process may have
    content = exports._filled(onnx, graph, expert, own)
    assert sha256(content).hexdigest() == entry["sha256"]
    run = CliRunner().invoke(mheight, ["export-onnx", str(tmp_path / "one"), "--models", str(models)])
    assert isinstance(run.exception, FolderError)
    assert run.stdout == ""


def test_missing_packages(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ModelError, match=r"pip install 'moe-mheight\[onnx\]'"):
        export_onnx(tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_other_models(tmp_path):
    (tmp_path / "raw" / "all").mkdir(parents=True)
    (tmp_path / "raw" / "all" / "config.json").write_text('{"format": "moe_mheight raw 1"}')
    with pytest.raises(ModelError, match="raw"):
        export_onnx(tmp_path / "onnx", tmp_path / "raw")
    with pytest.raises(ModelError, match="no models at"):
        export_onnx(tmp_path / "onnx", tmp_path / "nowhere")
    assert not (tmp_path / "onnx").exists()
