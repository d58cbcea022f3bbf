"""The ablation: rows are what they say, runs are kept and repeatable, the page's figures are those measured."""

import json

import numpy as np
import pytest
from ablation import page
from ablation.rows import BASE, FULL_SIZE, HOPES, REFERENCE, TABLE, WHOLE, Row, read_table
from ablation.runs import predictions, run_table
from brute import profile
from commands import assert_refused

from moe_mheight import ModelError, random_codes
from moe_mheight._io import locked
from moe_mheight.data.code_files import write_npz
from moe_mheight.errors import FolderError
from moe_mheight.raw.data import divide, run1_data
from moe_mheight.raw.recipe import make

TINY = {"width": 16, "blocks": 1, "epochs": 2, "per_epoch": 90, "batch": 32}
ROWS = (
    Row(name=BASE, part="reference", settings=TINY, originals=20),
    Row(name="weights", part="priorities", settings=TINY | {"weights": "seed"}, originals=20, against=BASE),
    Row(
        name="noise",
        part="augmentation",
        against=BASE,
        settings=TINY | {"augment": ["noise"], "augment_to": 30},
        originals=10,
    ),
    Row(name=WHOLE, part="size", settings=TINY, originals=None),
    Row(name="three tiers", part="structure", settings=TINY, originals=20, scope="tiers"),
)


@pytest.fixture(scope="module")
def data():
    return divide(run1_data(40, seed=2))


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    work = tmp_path_factory.mktemp("ablation")
    return run_table(ROWS, data, work, seeds=2, jobs=1), work


@pytest.mark.slow
def test_the_table_has_what_was_asked_for():
    by_name = {row.name: row for row in TABLE}
    assert len(by_name) == len(TABLE)
    parts = {row.part for row in TABLE}
    assert parts == {"reference", "priorities", "augmentation", "size", "structure"}
    for number in range(1, 6):
        assert any(row.part == "priorities" and row.name.startswith(str(number)) for row in TABLE)
    for method in ("noise", "smote", "geometric", "row-sums"):
        labels = {row.recipe.labels for row in TABLE if row.view == "raw" and row.recipe.augment == (method,)}
        assert labels == {"copied", "exact"}, method
    assert sorted(row.originals for row in TABLE if row.part == "size" and row.originals) == [222, 3556]
    assert {row.recipe.network for row in TABLE if row.view == "raw"} == {"run1", "gated", "symmetric"}
    assert {row.against for row in TABLE} <= {*by_name, ""}
    assert {row.expected for row in TABLE} == {*HOPES.values(), ""}
    # the same codes seen by all
    for row in TABLE:
        if row.view == "raw":
            networks = 3 if row.scope == "tiers" else 1
            assert networks * row.recipe.per_epoch * row.recipe.epochs == 300_000
    assert FULL_SIZE.recipe.width == 1024


def test_priorities_change_what_they_name():
    base = make(REFERENCE)
    changed = {row.name: row.recipe for row in TABLE if row.part == "priorities"}
    assert changed["1: group weights"].weights != base.weights
    assert [changed[f"2: gate, {how}"].gate_from for how in ("fixed", "fixed then learned", "learned")] == [
        1.0,
        0.3,
        0.0,
    ]
    assert changed["4: regularisation"].dropout == 0.4
    assert changed["4: regularisation"].decay == 10 * base.decay
    assert changed["5: curriculum"].curriculum[0][1] == ("low",)
    everything = changed["all five, labels copied"]
    assert everything.weights
    assert everything.curriculum
    assert everything.l2 > 0
    assert (everything.network, everything.augment, everything.labels) == ("gated", ("geometric",), "copied")


@pytest.mark.slow
def test_a_run_again_gives_the_same_figures(results, data, tmp_path):
    first, _ = results
    again = run_table(ROWS[1:3], data, tmp_path, seeds=2, jobs=1)
    for one, two in zip(first["rows"][1:3], again["rows"], strict=True):
        assert one["macros"] == two["macros"]
        assert one["ensemble"] == two["ensemble"]
        assert one["macros"][0] != one["macros"][1]


@pytest.mark.slow
def test_finished_runs_are_not_run_again(results, data, monkeypatch):
    first, work = results
    before = {path.name: path.stat().st_mtime_ns for path in work.iterdir()}
    told = []
    second = run_table(ROWS, data, work, seeds=2, jobs=1, tell=told.append)
    assert second == first
    assert {path.name: path.stat().st_mtime_ns for path in work.iterdir()} == before
    assert len(told) == 10
    assert {path.suffix for path in work.iterdir()} == {".json", ".npy"}


def test_a_changed_row_or_damaged_run_is_run_again(data, tmp_path):
    row = ROWS[0]
    run_table((row,), data, tmp_path, seeds=1, jobs=1)
    (run,) = tmp_path.glob("*.json")
    whole = json.loads(run.read_text())
    run.write_text(run.read_text()[:50])
    run_table((row,), data, tmp_path, seeds=1, jobs=1)
    assert json.loads(run.read_text())["validation"] == whole["validation"]
    wider = Row(name=row.name, against="", settings=TINY | {"width": 32}, originals=20)
    run_table((wider,), data, tmp_path, seeds=1, jobs=1)
    assert json.loads(run.read_text())["validation"] != whole["validation"]


def test_two_at_once_are_refused(data, tmp_path):
    with locked(tmp_path), pytest.raises(FolderError, match="in use by process"):
        run_table(ROWS[:1], data, tmp_path, seeds=1)


def test_summaries_by_hand(results, data):
    found, work = results
    for row, summary in zip(ROWS, found["rows"], strict=True):
        runs = [json.loads(path.read_text()) for path in sorted(work.glob("*.json"))]
        mine = sorted((run for run in runs if run["row"] == row.name), key=lambda run: run["seed"])
        macros = [np.mean(list(run["validation"]["groups"].values())) for run in mine]
        assert np.allclose(summary["macros"], macros)
        assert np.isclose(summary["macro"], np.mean(macros))
        assert np.isclose(summary["spread"], abs(macros[0] - macros[1]) / 2**0.5)
        together = predictions(work, row, 2, data.validation)
        mse = [np.mean((together[part.group] - part.log2_h) ** 2) for part in data.validation]
        assert np.isclose(summary["ensemble"], np.mean(mse))
        assert summary["ensemble"] <= summary["macro"] + 1e-9  # the mean of predictions errs no more, by convexity
        assert summary["worst"][1] == max(summary["groups"].values())


def test_the_smallest_minor_holds_the_height_at_slack_0(rng):
    for k, r in ((2, 3), (3, 3), (4, 2)):
        P = rng.normal(size=(15, k, r))
        rho = page.smallest_minors(P)
        h = np.array([float(profile(matrix)[r]) for matrix in P])
        assert (1 / rho <= h * (1 + 1e-9)).all()
        assert (h <= k / rho * (1 + 1e-9)).all()
    assert np.isclose(page.smallest_minors(np.array([[[1.0], [4.0]]]))[0], 0.25)  # minors 1, 4 and 1


def test_comparisons_by_hand():
    base = {"macro": 2.0, "macros": [1.9, 2.1], "spread": 0.1, "groups": {"9,4,2": 1.0, "9,4,5": 3.0}, "gap": 2.0}
    row = {"macro": 1.5, "macros": [1.4, 1.6], "spread": 0.1, "groups": {"9,4,2": 1.5, "9,4,5": 1.5}, "gap": 1.0}
    found = page.compared(row, base)
    assert np.isclose(found["macro"], -25)
    assert np.isclose(found["tiers"]["low"], 50)
    assert np.isclose(found["tiers"]["high"], -50)
    assert found["clear"]
    text = page.in_words(row, base)
    assert text.startswith("lowered the macro error, 2.000 to 1.500 (-25.0 %)")
    assert "most for (9, 4, 5), -50 %" in text
    assert "gap 2.00 to 1.00" in text
    unclear = row | {"macro": 1.95, "macros": [1.9, 2.0]}
    assert page.in_words(unclear, base).startswith("made no clear difference")


@pytest.mark.slow
def test_the_command_writes_the_page(mheight, folder):
    pytest.importorskip("matplotlib")
    rows = [
        {"name": BASE, "part": "reference", "against": "", "settings": TINY, "originals": 20},
        {
            "name": "1: weights",
            "part": "priorities",
            "against": BASE,
            "settings": TINY | {"weights": "seed"},
            "expected": "wonders",
        },
        {"name": WHOLE, "part": "size", "settings": TINY, "originals": None},
        {"name": "bracket view, equal time", "part": "structure", "view": "bracket", "settings": {"chunks": 1}},
    ]
    (folder / "table.json").write_text(json.dumps(rows[:3]))
    write_npz(folder / "codes.npz", run1_data(30, seed=4).items())
    arguments = [
        "ablation",
        "--table",
        "table.json",
        "--data",
        "codes.npz",
        "--out",
        "page.md",
        "--seeds",
        "2",
        "--jobs",
        1,
    ]
    code, out, err = mheight(*arguments)
    assert code == 0, err
    told = [line for line in err.splitlines() if "column of zeros" not in line]
    assert told == [
        "3 rows x 2 seeds in mheight-ablation; interrupt and repeat the command to go on later",
        "wrote page.md",
    ]
    text = (folder / "page.md").read_text()
    found = json.loads((folder / "page" / "ablation.json").read_text())
    for row in found["rows"]:
        assert f"| {row['name']} | {row['macro']:.3g} ± {row['spread']:.1g} |" in text
        assert f"{row['macro']:.4g}" in out
    assert "wonders" in text
    assert "smallest minor" in text or "rho" in text
    for picture in ("rows.png", "sizes.png", "minors.png"):
        assert f"(page/{picture})" in text
        assert (folder / "page" / picture).read_bytes()[:4] == b"\x89PNG"
    assert mheight(*arguments, "--json")[0] == 0
    code, out, _ = mheight("ablation", "--table", "table.json", "--list", "--json")
    assert [row["name"] for row in json.loads(out)["rows"]] == [row["name"] for row in rows[:3]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "list of rows"),
        ("{", "not valid JSON"),
        ('[{"settings": {}}]', "with a name"),
        ('[{"name": "a", "colour": 1}]', "with a name"),
        ('[{"name": "a", "part": 3}]', "part must be a string"),
        ('[{"name": "a", "originals": 0}]', "originals must be"),
        ('[{"name": "a", "settings": {"widht": 16}}]', "did you mean width"),
        ('[{"name": "a", "settings": 1}]', "settings must be"),
        ('[{"name": "a", "scope": "some"}]', "scope must be"),
        ('[{"name": "a", "view": "bracket"}]', "chunks"),
        ('[{"name": "a"}, {"name": "a"}]', "the same name"),
        ('[{"name": "A-b"}, {"name": "a b"}]', "the same name"),
        ('[{"name": ""}]', "1 to 60"),
        ('[{"name": "a", "against": "b"}]', "no row"),
    ],
)
def test_wrong_tables(content, message, mheight, folder):
    (folder / "table.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        read_table(folder / "table.json")
    assert_refused(mheight("ablation", "--table", "table.json"), "table.json")


def test_usage(mheight, folder):
    assert_refused(mheight("ablation", "--only", "no such row"), "--list")
    assert_refused(mheight("ablation", "--jobs", 0), "--jobs")
    assert_refused(mheight("ablation", "--out", "nowhere/page.md"), "nowhere")


def test_data_that_cannot_be_split(mheight, folder, rng):
    P = random_codes("integer", 1, 4, 5, rng)
    (folder / "one.json").write_text(json.dumps([[9, 4, 2, P[0].tolist()]]))
    assert_refused(mheight("train-expert", "--tier", "all", "--view", "raw", "--data", "one.json"), "two codes")


# the other commands on the raw view


@pytest.mark.slow
def test_training_scoring_and_predicting_by_command(mheight, folder):
    write_npz(folder / "codes.npz", run1_data(30, seed=6).items())
    arguments = [
        "--view",
        "raw",
        "--data",
        "codes.npz",
        "--seeds",
        1,
        "--epochs",
        1,
        "--set",
        "width=16",
        "--set",
        "blocks=1",
    ]
    code, out, err = mheight("train-expert", "--tier", "all", "--models", "mine", "--set", "weights=seed", *arguments)
    assert code == 0, err
    assert "macro" in out
    assert "training 1 x all into mine/all; interrupt and repeat" in err
    config = json.loads((folder / "mine" / "all" / "config.json").read_text())
    assert config["recipe"]["weights"]["4,5"] == 5.0
    code, out, _ = mheight("ensemble-eval", "--models", "mine", "codes.npz", "--json", "--criteria", "run2")
    report = json.loads(out)
    assert code == 1
    assert {c["figure"]: c["value"] for c in report["criteria"]}["gap"] == config["metrics"]["gap"]
    assert len(report["groups"]) == 9
    code, out, _ = mheight("predict", "--models", "mine", "--bounds", "codes.npz", "--json", "-q")
    assert len(json.loads(out)["heights"]) == 270
    assert_refused(mheight("predict", "--models", "mine", "--interval", "0.9", "codes.npz"), "bracket view")
    assert_refused(mheight("ensemble-eval", "--models", "mine", "--router", "learned"), "raw view")
    assert_refused(mheight("train-expert", "--tier", "all", "--models", "mine", "-q", *arguments), "exists")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--tier", "all"], "--view raw"),
        (["--tier", "low", "--set", "weights=proposed"], "--set is for --view raw"),
        (["--tier", "low", "--epochs", "3"], "--epochs"),
        (["--tier", "low", "--view", "raw", "--minutes", "3"], "--minutes"),
        (["--tier", "low", "--view", "raw", "--set", "width=5000"], "from 0 to 4096"),
        (["--tier", "low", "--view", "raw", "--epochs", "0"], "from 1 to"),
        (["--tier", "low", "--view", "raw", "--recipe", "nothing.json"], "nothing.json"),
        (["--tier", "low", "--view", "raw", "--data", "nothing.npz"], "nothing.npz"),
    ],
)
def test_options_of_the_other_view(arguments, part, mheight, folder):
    assert_refused(mheight("train-expert", *arguments), part)
