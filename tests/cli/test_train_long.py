"""`mheight train-expert --view long`."""

import json

import pytest
from commands import assert_refused
from tiny_models import few_labels, tiny_models

from moe_mheight.experts import long_store
from moe_mheight.experts.model_store import load_long_set


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return few_labels(tmp_path_factory.mktemp("labels") / "labels.npz", [(12, 6, 4)])


@pytest.fixture
def mine(folder):
    return tiny_models(folder / "mine", seeds=1)


def arguments(labels, *more):
    return [
        "train-expert",
        "--tier",
        "low",
        "--view",
        "long",
        "--models",
        "mine",
        "--labels",
        labels,
        "--seeds",
        1,
        *more,
    ]


def test_train_long(mheight, mine, labels, quick_long):
    code, out, err = mheight(*arguments(labels))
    assert code == 0, err
    assert "training 1 x low for long codes" in err
    assert "saved to mine/low" in err
    head, *rows = out.splitlines()
    assert "Brier" in head
    assert len(rows) == 2
    assert list(load_long_set(mine)) == ["low"]
    assert_refused(mheight(*arguments(labels)), "--force to replace them")
    code, out, err = mheight(*arguments(labels, "--force", "--quiet"))
    assert (code, err) == (0, "")


def test_progress_for_programs(mheight, mine, labels, quick_long, monkeypatch):
    code, out, err = mheight(*arguments(labels, "--json"))
    assert code == 0, err
    found = json.loads(out)
    assert found["seeds"] == 1
    assert found["folder"] == "mine/low"
    said = json.loads((mine / "low" / "long.json").read_text())
    assert {key: value for key, value in found.items() if key != "folder"} == said
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert all(line["total"] == 12 for line in lines)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--labels missing.npz", "missing.npz"),
        ("--labels no.npz", "no.npz is not a set of drawn codes with labels"),
        ("--tier high --labels LABELS", "label_long_codes.py"),
        ("--models nowhere", "train it first with `mheight train-expert --tier low`"),
        ("--chunks 3", "--chunks is for --view bracket"),
        ("--minutes 3", "--minutes is for --view bracket"),
        ("--epochs 3", "--epochs is for --view raw"),
        ("--tier all", "--tier all is for --view raw"),
        ("--view bracket --labels LABELS", "--labels is for --view long"),
        ("--view raw --labels LABELS", "--labels is for --view long"),
    ],
)
def test_refused(line, says, mheight, mine, labels, folder):
    (folder / "no.npz").write_text("nothing")
    before = sorted(p for p in folder.rglob("*"))
    given = [str(labels) if word == "LABELS" else word for word in line.split()]
    assert_refused(mheight("train-expert", "--tier", "low", "--view", "long", "--models", "mine", *given), says)
    assert sorted(p for p in folder.rglob("*")) == before


def test_interrupted(mheight, mine, labels, monkeypatch):
    def ended(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(long_store, "train_long", ended)
    before = {p: p.read_bytes() for p in mine.rglob("*") if p.is_file()}
    code, out, _ = mheight(*arguments(labels))
    assert code == 130
    assert out == ""
    assert {p: p.read_bytes() for p in mine.rglob("*") if p.is_file()} == before


def test_help_teaches_it(mheight, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, text, _ = mheight("train-expert", "--help")
    assert code == 0
    assert "--view long" in text
    assert "label_long_codes.py batches FILE" in " ".join(text.split())


@pytest.mark.parametrize("more", [["--minutes", 0.01], ["--chunks", 2]])
def test_right_after_the_bracket_view(more, mheight, mine, labels, quick_long, monkeypatch):
    """Unless chunks are counted, so that the same weights come again."""
    from moe_mheight.experts import long_training, training

    monkeypatch.setattr(training, "train_tier", lambda *_, **__: {"metrics": {"groups": {}}})
    monkeypatch.setattr(long_training, "shipped_labels", lambda: labels)
    code, _, err = mheight("train-expert", "--tier", "low", "--models", "mine", "--seeds", 1, *more)
    assert code == 0, err
    has = (mine / "low" / "long.json").exists()
    assert has == ("--minutes" in more)
    assert ("for long codes" in err) == has
