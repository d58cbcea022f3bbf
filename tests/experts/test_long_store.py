"""Experts of long codes come into a finished tier as a whole, or the tier stays as it was."""

import json

import pytest
from tiny_models import few_labels, made_up_long, tiny_models, with_long

from moe_mheight import ModelError, Predictor
from moe_mheight._io import locked
from moe_mheight.errors import FolderError
from moe_mheight.experts import long_store
from moe_mheight.experts.long_store import add_long, save_long
from moe_mheight.experts.model_store import checked_files, load_long_set, load_set

FIGURES = {"ranking": {}, "stages": []}


@pytest.fixture
def mine(tmp_path):
    return tiny_models(tmp_path / "mine", seeds=1)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_trained_into_a_tier(mine, tmp_path, quick_long):
    labels = few_labels(tmp_path / "labels.npz", [(12, 6, 4)])
    before, told = contents(mine / "low"), []
    about = add_long(mine, "low", seeds=2, labels=labels, advance=told.append, threads=1)
    after = contents(mine / "low")
    assert sum(told) == 12
    assert about["seeds"] == 2
    assert json.loads((mine / "low" / "long.json").read_text()) == json.loads(json.dumps(about))
    assert {p.name for p in after.keys() - before.keys()} == {"long.json", "long0.safetensors", "long1.safetensors"}
    assert {p.name for p in before if before[p] != after[p]} == {"SHA256SUMS"}
    assert list(load_long_set(mine)) == ["low"]
    assert len(load_set(mine)) == 3
    assert [p.name for p in mine.iterdir() if p.name.startswith(".")] == []
    with pytest.raises(ModelError, match="--force to replace"):
        add_long(mine, "low", labels=labels)
    assert contents(mine / "low") == after
    add_long(mine, "low", seeds=1, labels=labels, force=True)
    assert "long1.safetensors" not in checked_files(mine / "low")
    assert len(Predictor.load(mine).long["low"].members) == 1


@pytest.mark.parametrize("tier", ["lowest", "all", "../mine/low", "", "low/"])
def test_no_such_tier(mine, tier):
    with pytest.raises(ModelError, match="no tier at"):
        add_long(mine / "missing", tier)
    if tier != "low/":
        with pytest.raises(ModelError, match="no tier at"):
            add_long(mine, tier)
    assert not (mine / "missing").exists()


def test_a_damaged_tier(mine):
    (mine / "low" / "README.md").write_text("changed")
    with pytest.raises(ModelError, match="does not match its checksum"):
        add_long(mine, "low")
    with pytest.raises(ModelError, match="does not match its checksum"):
        save_long(mine / "low", made_up_long(0), FIGURES)


@pytest.mark.parametrize("place", ["train_long", "pack_long", "write_checksums", "swap"])
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), FolderError("cannot write: no space")], ids=["interrupted", "full"]
)
def test_interrupted(mine, monkeypatch, place, error):
    """Wherever that is, the tier is as it was, and another attempt succeeds."""
    with_long(mine)
    before = contents(mine)

    def ended(*_, **__):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(long_store, "train_long", lambda *_, **__: (made_up_long(8), FIGURES))
        patched.setattr(long_store, place, ended)
        with pytest.raises(type(error)):
            add_long(mine, "low", force=True)
        assert contents(mine) == before
        assert load_long_set(mine).keys() == {"low", "medium", "high"}
    save_long(mine / "low", made_up_long(8, members=1), FIGURES)
    assert len(load_long_set(mine)["low"].members) == 1
    assert sorted(p.name for p in mine.iterdir()) == ["high", "low", "medium"]


def test_killed_in_between(mine):
    """What it left is in nobody's way."""
    made = mine / ".low.long.unfinished" / "finished"
    made.mkdir(parents=True)
    (made / "long7.safetensors").write_bytes(b"half")
    save_long(mine / "low", made_up_long(1), FIGURES)
    assert "long7.safetensors" not in checked_files(mine / "low")
    assert sorted(p.name for p in mine.iterdir()) == ["high", "low", "medium"]


def test_two_at_once(mine, monkeypatch):
    """The second is told before it trains, and the first is not disturbed."""

    def train(*_, **__):
        with pytest.raises(FolderError, match="in use by"):
            add_long(mine, "low")
        with pytest.raises(FolderError, match="in use by"):
            save_long(mine / "low", made_up_long(1), FIGURES)
        return made_up_long(2), FIGURES

    monkeypatch.setattr(long_store, "train_long", train)
    add_long(mine, "low", seeds=1)
    assert list(load_long_set(mine)) == ["low"]
    with locked(mine / "low"):  # what others hold is not copied
        save_long(mine / "low", made_up_long(1), FIGURES)
    assert not (mine / "low" / "lock").exists()
