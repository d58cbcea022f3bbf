"""Success criteria: their files, their verdicts, and what `mheight ensemble-eval --criteria` makes of them."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from math import inf, isnan, nan, nextafter

import pytest
from commands import assert_refused, write_json
from hypothesis import given
from hypothesis import strategies as st

from moe_mheight import DataError
from moe_mheight.evaluation.criteria import FORMAT, SHIPPED, Criterion, judge, load
from moe_mheight.evaluation.scoring import Report, Score

ONE = {"figure": "macro", "below": 0.4, "label": "overall"}
SIX = ("gap", "group 4,5", "macro", "group 9,4,5", "worst code", "worst group")


def write(path, *criteria, **changes):
    path.write_text(json.dumps({"format": FORMAT, "name": "mine", "source": "here", "criteria": criteria} | changes))
    return path


def limits(*figures, below=0.5):
    return [{"figure": figure, "below": below, "label": figure} for figure in figures]


def score(group, log2_mse, worst, codes=10, infinite=0):
    return Score(group, "low", codes, log2_mse, 9.0, 9.0, worst, 1.0, infinite, infinite, 0, 0, asked=3)


def report(*scores):
    return Report(scores, 1.0, 1.0, 0)


# verdicts


def test_judged_by_hand():
    known = report(
        score((9, 4, 5), 0.875, 3.0), score((9, 4, 2), 0.125, 0.5), score((10, 4, 5), 0.25, 1.0), score((9, 6, 3), 0, 0)
    )
    figures = known.figures(gap=1.5)
    assert figures == {
        "macro": 0.3125,
        "worst group": 0.875,
        "worst code": 3.0,
        "gap": 1.5,
        "group 9,4,5": 0.875,
        "group 10,4,5": 0.25,
        "group 4,5": 0.875,
        "group 9,4,2": 0.125,
        "group 4,2": 0.125,
        "group 9,6,3": 0.0,
        "group 6,3": 0.0,
    }
    wanted = {
        "worst code": (3.5, True),
        "macro": (0.3125, False),
        "group 10,4,5": (0.3, True),
        "group 4,5": (0.3, False),
        "group 5,2": (9.0, False),
        "gap": (2.0, True),
        "worst group": (0.5, False),
    }
    verdicts = judge(tuple(Criterion(figure, below, "") for figure, (below, _) in wanted.items()), figures)
    assert [verdict.criterion.figure for verdict in verdicts] == list(wanted)
    assert [verdict.passed for verdict in verdicts] == [passed for _, passed in wanted.values()]
    assert [verdict.value for verdict in verdicts] == [3.0, 0.3125, 0.25, 0.875, None, 1.5, 0.875]


def test_the_seeds_run_1_by_its_own_criteria():
    """Its table, its gap of 2.5 and its verdict: the mean is not met, nor anything else."""
    from moe_mheight.evaluation.scoring import REFERENCE
    from moe_mheight.groups import HEADLINE

    table = zip(HEADLINE, REFERENCE["the seed's run 1"], strict=True)
    figures = report(*(score(group, mse, 9.0) for group, mse in table)).figures(gap=2.5)
    verdicts = judge(load("run2"), figures)
    assert [verdict.value for verdict in verdicts] == pytest.approx([0.495, 1.386, 2.5, 1.386], abs=6e-4)
    assert not any(verdict.passed for verdict in verdicts)


def test_gain_is_the_error_of_bounds_alone_over_ours():
    one, other, none = score((9, 4, 2), 3.0, 1.0), score((9, 4, 5), 6.0, 1.0), score((9, 6, 3), nan, 0.0, infinite=10)
    assert (one.gain, other.gain) == (3.0, 1.5)
    whole = report(one, other, none)
    assert (whole.macro, whole.bounds_macro, whole.gain, whole.asked) == (4.5, 9.0, 2.0, 9)
    for ours, bounds in ((1e-18, 1e-13), (0.0, 1.0), (nan, nan)):  # rounding, no error, no code
        assert isnan(replace(one, log2_mse=ours, bounds_log2_mse=bounds).gain)


def test_each_reference_is_one_system():
    """A macro figure is the mean of that system's own groups; who prints no groups is in no column."""
    from moe_mheight.evaluation.scoring import BEST_MACRO, REFERENCE, REFERENCE_MACRO

    assert REFERENCE.keys() == REFERENCE_MACRO.keys()
    for name, macro in REFERENCE_MACRO.items():
        assert macro == pytest.approx(sum(REFERENCE[name]) / 9, abs=2e-3), name
    published = report(score((9, 4, 2), 3.0, 1.0)).as_dict()["reference"]
    assert sorted(published.values()) == sorted([*REFERENCE_MACRO.values(), BEST_MACRO])


def test_groups_of_infinite_codes_do_not_count():
    some = report(score((9, 4, 2), 0.25, 0.5), score((9, 4, 5), nan, 0.0, infinite=10))
    assert some.figures() == report(score((9, 4, 2), 0.25, 0.5)).figures()
    assert "group 9,4,5" not in some.figures()
    assert report(score((9, 4, 5), nan, 0.0, infinite=10)).figures() == {}
    assert report(score((9, 4, 5), nan, 0.0, infinite=10)).figures(gap=2.0) == {"gap": 2.0}


@pytest.mark.parametrize("order", [1, -1])
def test_what_could_not_be_scored_is_a_miss(order):
    """Finite heights whose labels are infinite: nan wins over figures, wherever it stands."""
    known = report(*[score((9, 4, 2), nan, 0.0), score((9, 4, 3), 0.25, 0.5)][::order])
    criteria = tuple(Criterion(figure, 1e9, "") for figure in ("macro", "worst group", "worst code", "group 4,2"))
    assert not any(verdict.passed for verdict in judge(criteria, known.figures()))
    infinite = report(score((9, 4, 2), inf, inf))
    assert [verdict.value for verdict in judge(criteria, infinite.figures())] == [inf] * 4
    assert not any(verdict.passed for verdict in judge(criteria, infinite.figures()))


@given(st.floats(min_value=0, max_value=1e300))
def test_below_is_strict(value):
    def passed(below):
        (verdict,) = judge((Criterion("macro", below, ""),), {"macro": value})
        return verdict.passed

    assert not passed(value)
    assert passed(nextafter(value, inf))
    assert not passed(nextafter(value, -inf))


@given(st.dictionaries(st.sampled_from(SIX), st.floats()), st.permutations(SIX))
def test_every_criterion_has_its_verdict(figures, order):
    criteria = tuple(Criterion(figure, 0.5, figure) for figure in order)
    verdicts = judge(criteria, figures)
    assert tuple(verdict.criterion for verdict in verdicts) == criteria
    for verdict in verdicts:
        known = verdict.criterion.figure in figures
        assert (verdict.value is not None) == known
        assert verdict.passed == (known and figures[verdict.criterion.figure] < 0.5)


# files


def test_shipped_files():
    assert SHIPPED == ("release", "run2")
    assert [(c.figure, c.below) for c in load("run2")] == [
        ("macro", 0.40),
        ("group 4,5", 0.90),
        ("gap", 2.0),
        ("worst group", 1.0),
    ]
    assert [(c.figure, c.below) for c in load("release")] == [
        ("macro", 3e-5),
        ("worst group", 1e-4),
        ("worst code", 0.08),
    ]
    for name in SHIPPED:
        assert all(type(c.below) is float and c.label for c in load(name))


def test_run2_is_what_the_seed_wrote(shared):
    text = (shared / "seed" / "run1_analysis.md").read_text()
    lines = text.partition("**Success criteria for Run 2**")[2].splitlines()[1:5]
    found = [float(re.search(r"(?:<|than) ([\d.]+)", line)[1]) for line in lines]
    assert found == [criterion.below for criterion in load("run2")]


def test_shipped_files_need_neither_torch_nor_numpy():
    code = (
        "import sys, moe_mheight.evaluation.criteria as c; c.load('run2'); "
        "print({'torch', 'numpy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("turn", [1, -1])
def test_a_file_keeps_its_order(turn, tmp_path):
    found = load(write(tmp_path / "mine.json", *limits(*SIX[::turn], below=3)))
    assert found == tuple(Criterion(figure, 3.0, figure) for figure in SIX[::turn])
    assert all(type(criterion.below) is float for criterion in found)


def test_what_may_be_left_out(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"format": FORMAT, "criteria": [{"figure": "gap", "below": 2}]}))
    assert load(path) == load(str(path)) == (Criterion("gap", 2.0, "gap"),)


def test_a_path_is_no_name(folder):
    (folder / "run2").write_text("")
    assert load("run2")[0].below == 0.4
    with pytest.raises(DataError, match="must be a JSON file"):
        load("./run2")


def changed(**changes):
    return json.dumps({"format": FORMAT, "name": "mine", "source": "here", "criteria": [ONE]} | changes)


def criterion(**changes):
    return changed(criteria=[{"figure": "gap", "below": 2.0, "label": "gap"}, ONE | changes])


def literal(below):
    """A number that json.dumps does not write."""
    return criterion(below=12345).replace("12345", below)


REFUSED = {
    "empty": (b"", "JSON"),
    "text": (b"macro < 0.4", "JSON"),
    "binary": (bytes(range(256)), "JSON"),
    "cut short": (changed()[:-1], "JSON"),
    "deep": (b"[" * 500_000, "JSON"),
    "deep inside": (changed(name=None).replace("null", "[" * 100_000 + "]" * 100_000), "JSON"),
    "huge": (b" " * (1 << 20) + changed().encode(), "at most 1 MiB"),
    "a key twice": (changed().replace('"name"', '"source"'), "twice"),
    "a list": (json.dumps([ONE]), FORMAT),
    "a number": ("3", FORMAT),
    "null": ("null", FORMAT),
    "no format": (json.dumps({"criteria": [ONE]}), FORMAT, "None"),
    "another format": (changed(format="moe_mheight criteria 2"), FORMAT, "'moe_mheight criteria 2'"),
    "an odd format": (changed(format=[FORMAT]), FORMAT),
    "an unknown key": (changed(limits=[]), "format, criteria, name, source", "'limits'"),
    "no criteria": (json.dumps({"format": FORMAT}), "lacks criteria"),
    "a name that is none": (changed(name=3), "name must be a string", "3"),
    "a source that is none": (changed(source=None), "source must be a string", "None"),
    "nothing": (changed(criteria=[]), "not an empty one"),
    "criteria that are none": (changed(criteria={"macro": 0.4}), "must be a list"),
    "a criterion that is none": (changed(criteria=[ONE, "macro < 0.4"]), "criterion 2", "an object", "'macro < 0.4'"),
    "no figure": (changed(criteria=[{"below": 0.4}]), "criterion 1", "lacks figure"),
    "no limit": (changed(criteria=[{"figure": "macro"}]), "criterion 1", "lacks below"),
    "a criterion's unknown key": (criterion(above=1), "criterion 2", "figure, below, label", "'above'"),
    "the same twice": (changed(criteria=[ONE, ONE]), "criterion 2", "'macro' has two"),
    "a figure twice": (changed(criteria=[ONE, ONE | {"below": 0.3, "label": "x"}]), "criterion 2", "'macro' has two"),
    "no label": (criterion(label=""), "criterion 2", "label"),
    "a label of another type": (criterion(label=3), "criterion 2", "label"),
    "a label of two lines": (criterion(label="a\nb"), "criterion 2", "printable"),
    "a label that moves the cursor": (criterion(label="\x1b[2J"), "criterion 2", "printable"),
    "a long label": (criterion(label="a" * 61), "criterion 2", "60"),
    "an unknown figure": (criterion(figure="speed"), "criterion 2", "'worst group'", "'group n,k,m'", "got 'speed'"),
    "a near figure": (criterion(figure="marco"), "criterion 2", "got 'marco'", "did you mean 'macro'?"),
    "a near figure of two words": (criterion(figure="worst_code"), "did you mean 'worst code'?"),
    "capitals": (criterion(figure="Macro"), "did you mean 'macro'?"),
    "a group with blanks": (criterion(figure="group 4, 5"), "did you mean 'group k,m'?"),
    "a group of four": (criterion(figure="group 1,2,3,4"), "'group n,k,m'"),
    "a group of zeros": (criterion(figure="group 0,5"), "figure must be"),
    "a group in other digits": (criterion(figure="group ٤,٥"), "figure must be"),
    "a group that no code is in": (criterion(figure="group 9,4,6"), "k + m <= n", "'group 9,4,6'"),
    "a figure of another type": (criterion(figure=["macro"]), "figure must be", "['macro']"),
    "a long figure": (criterion(figure="a" * 900_000), "figure must be"),
    "true": (criterion(below=True), "criterion 2", "below must be a number", "True"),
    "a limit in quotes": (criterion(below="0.4"), "criterion 2", "below must be a number", "'0.4'"),
    "a limit of null": (criterion(below=None), "criterion 2", "below must be a number"),
    "nan": (literal("NaN"), "criterion 2", "below must be a number", "nan"),
    "infinity": (literal("Infinity"), "criterion 2", "below must be a number", "inf"),
    "overflow": (literal("1e999"), "criterion 2", "below must be a number", "inf"),
    "a large int": (literal("9" * 400), "criterion 2", "below must be a number", "an int of 1329 bits"),
    "an int beyond Python's": (literal("9" * 5000),),
    "zero": (criterion(below=0), "criterion 2", "above 0"),
    "a negative limit": (criterion(below=-0.4), "criterion 2", "above 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    content, *says = REFUSED[name]
    path = tmp_path / "mine.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as refusal:
        load(path)
    message = str(refusal.value)
    assert message.isprintable()
    assert len(message) < 600
    assert "mine.json" in message
    for part in says:
        assert part in message


@pytest.mark.parametrize("path", ["missing.json", "run3", ".", "", "nul\0byte"])
def test_no_file(path, folder):
    with pytest.raises(DataError, match="give a file, or one of release, run2") as refusal:
        load(path)
    assert str(refusal.value).isprintable()


# mheight ensemble-eval


FEW = ("--rows", 40, "--quiet", "--long", "none")


@pytest.mark.slow
def test_exit_codes_and_json(mheight, folder, models):
    """Limits at the very values that are found, and just above."""
    arguments = ["ensemble-eval", "--models", models, "--groups", "9,4,2;8,4,2;7,4,2", *FEW, "--json"]
    code, out, err = mheight(*arguments)
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert "criteria" not in found
    mse = {(g["n"], g["k"], g["m"]): g["log2_mse"] for g in found["groups"]}
    values = {
        "worst code": max(g["worst"] for g in found["groups"]),
        "macro": found["macro_log2_mse"],
        "group 4,2": max(mse.values()),
        "worst group": max(mse.values()),
        "group 7,4,2": mse[7, 4, 2],
    }
    assert min(values.values()) > 0
    above = [{"figure": f, "below": nextafter(x, inf), "label": f"the {f}"} for f, x in values.items()]
    code, out, err = mheight(*arguments, "--criteria", write(folder / "mine.json", *above))
    judged = json.loads(out)
    assert (code, err) == (0, "")
    assert judged.pop("criteria") == [
        c | {"value": x, "passed": True} for c, x in zip(above, values.values(), strict=True)
    ]
    assert judged.keys() == found.keys()
    for place, (figure, value) in enumerate(values.items()):
        criteria = list(above)
        criteria[place] = {"figure": figure, "below": value, "label": "at"}
        code, out, err = mheight(*arguments, "--criteria", write(folder / "mine.json", *criteria))
        assert (code, err) == (1, "")
        assert [c["passed"] for c in json.loads(out)["criteria"]] == [i != place for i in range(len(values))]


def test_lines_for_people(mheight, folder, models):
    path = write(
        folder / "mine.json",
        {"figure": "worst code", "below": 1e-300, "label": "every code"},
        {"figure": "macro", "below": 100},
        {"figure": "group 4,5", "below": 0.9, "label": "hardest"},
    )
    code, out, err = mheight("ensemble-eval", "--models", models, "--groups", "9,4,2", *FEW, "--criteria", path)
    assert (code, err) == (1, "")
    after = out[out.index("time per code") :]
    head, *lines = after.split("\n\n")[1].splitlines()
    assert head.split() == ["criterion", "below", "value"]
    assert re.fullmatch(r"every code \(worst code\) +1e-300 +\S+  miss", lines[0])
    assert re.fullmatch(r"macro +100 +\S+  pass", lines[1])
    assert re.fullmatch(r"hardest \(group 4,5\) +0\.9  not measured  miss", lines[2])
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1


@pytest.mark.slow
def test_the_gap_of_models_that_know_it(mheight, models, monkeypatch):
    arguments = ["ensemble-eval", "--models", models, "--criteria", "run2", *FEW]
    code, out, _ = mheight(*arguments, "--json")
    assert code == 1
    assert [c["value"] is None for c in json.loads(out)["criteria"]] == [False, False, True, False]
    assert [c["passed"] for c in json.loads(out)["criteria"]] == [True, True, False, True]
    code, out, _ = mheight(*arguments)
    assert code == 1
    assert re.search(r"^train-validation gap \(gap\) +2  not measured  miss$", out, re.MULTILINE)
    for gap, expected in ((1.5, 0), (2.0, 1), (nan, 1)):
        monkeypatch.setattr("moe_mheight.ensemble.predictor.Predictor.gap", gap, raising=False)
        code, out, _ = mheight(*arguments, "--json")
        assert code == expected
        assert float(json.loads(out, parse_constant=pytest.fail)["criteria"][2]["value"]) == pytest.approx(
            gap, nan_ok=True
        )


@pytest.mark.slow
def test_the_release_is_judged_by_default(mheight, folder, models, monkeypatch):
    """Without DATA and --models only; the shipped models meet their goals."""
    code, out, err = mheight("ensemble-eval", *FEW, "--json")
    assert (code, err) == (0, "")
    judged = json.loads(out)["criteria"]
    assert [(c["figure"], c["below"]) for c in judged] == [(c.figure, c.below) for c in load("release")]
    assert all(c["passed"] for c in judged)
    code, out, err = mheight("ensemble-eval", *FEW)
    assert (code, err) == (0, "")
    assert len(re.findall(r"  pass$", out, re.MULTILINE)) == 3
    assert mheight("ensemble-eval", *FEW, "--criteria", "run2")[0] == 1
    path = write_json(folder / "rows", [[5, 2, 1, [[3, -1, 2], [0.5, 2, 7]]]])
    for elsewhere in ([path], ["--models", models], [path, "--models", models]):
        code, out, err = mheight("ensemble-eval", *elsewhere, *FEW, "--json")
        assert (code, err) == (0, "")
        assert "criteria" not in json.loads(out)
    code, out, err = mheight("ensemble-eval", path, "--criteria", "release", *FEW, "--json")
    assert code == 0
    assert len(json.loads(out)["criteria"]) == 3


def test_only_infinite_codes(mheight):
    """Nothing is measured, so the default criteria are missed."""
    arguments = ["ensemble-eval", "--groups", "9,4,5", "--kind", "repeated", *FEW]
    code, out, err = mheight(*arguments, "--json")
    assert (code, err) == (1, "")
    assert [(c["value"], c["passed"]) for c in json.loads(out)["criteria"]] == [(None, False)] * 3
    assert mheight(*arguments)[1].count("not measured  miss") == 3


def test_criteria_are_read_before_anything_else(mheight, folder, models, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("too early")

    monkeypatch.setattr("moe_mheight.ensemble.predictor.Predictor.load", fail)
    monkeypatch.setattr("moe_mheight.data.code_files.read", fail)
    monkeypatch.setattr("moe_mheight.evaluation.scoring.default_data", fail)
    bad = write(folder / "bad.json", {"figure": "marco", "below": 0.4})
    for data in ([], ["missing.npz"], ["--models", "missing"]):
        assert_refused(mheight("ensemble-eval", *data, "--criteria", bad), "bad.json", "criterion 1", "'macro'")
        says = "'run3' is none of 'release', 'run2', and no file. Did you mean run2?"
        assert_refused(mheight("ensemble-eval", *data, "--criteria", "run3"), says)


def test_the_help_texts_file_is_one(mheight, folder):
    code, out, _ = mheight("ensemble-eval", "--help")
    assert code == 0
    assert "--criteria release|run2|FILE" in out
    (folder / "mine.json").write_text(re.search(r"\{\"format.*?\]\}", out, re.DOTALL)[0])
    assert load("mine.json") == (Criterion("macro", 0.4, "overall"),)
