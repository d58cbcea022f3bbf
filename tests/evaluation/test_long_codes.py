"""The table of long codes: the set that ships is what it says, and each figure is what it is defined as."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from moe_mheight import m_height
from moe_mheight.errors import DataError
from moe_mheight.evaluation import long_codes
from moe_mheight.evaluation.long_codes import LabelledCodes
from moe_mheight.experts.measurement import Measurement

KINDS = {"integer", "small-integer", "normal", "tight-frame"}


class Told:
    """A predictor that knows what to say of each code: (height, lower bound, certainty)."""

    def __init__(self, sets, answers):
        self.asked = []
        self.answers = {
            P.tobytes(): answer
            for codes, own in zip(sets, answers, strict=True)
            for P, answer in zip(codes.P, own, strict=True)
        }

    def measure(self, P, m, *, threads=None):
        self.asked.append((len(P), m, threads))
        height, lower, certainty = (
            np.array(column) for column in zip(*(self.answers[p.tobytes()] for p in P), strict=True)
        )
        known = Measurement.unknown(len(P))
        return replace(known, height=height, tightest_lower=lower, certainty=certainty)


H = [4.0, 8.0, math.inf, 16.0, 2.0, math.inf]
"""Heights of two kinds, three codes each."""

SAID = [(4.0, 4.0, 0.999), (16.0, 4.0, 0.2), (math.inf, math.inf, 1.0), (16.0, 16.0, 0.995), (2.0, 1.0, 0.6),
        (32.0, 32.0, math.nan)]  # fmt: skip


@pytest.fixture
def sets(rng):
    P = rng.normal(size=(6, 2, 3))
    seconds = np.array([1.0, 2.0, 3.0, 0.5, 0.5, 0.5])
    return [
        LabelledCodes((5, 2, 2), kind, P[at], np.array(H)[at], seconds[at])
        for kind, at in (("integer", slice(3)), ("normal", slice(3, 6)))
    ]


@pytest.fixture
def told(sets):
    return Told(sets, [SAID[:3], SAID[3:]])


def test_the_set_that_ships():
    sets = long_codes.read()
    assert len({(codes.group, codes.kind) for codes in sets}) == len(sets)
    assert {codes.kind for codes in sets} == KINDS
    assert max(codes.group[0] for codes in sets) == 64
    assert long_codes.SHIPPED.stat().st_size <= 2_000_000
    for codes in sets:
        (n, k, _), count = codes.group, len(codes)
        assert codes.P.shape == (count, k, n - k)
        assert codes.h.shape == codes.seconds.shape == (count,)
        assert np.isfinite(codes.P).all()
        assert (codes.h >= 1.0).all()
        assert (codes.seconds > 0.0).all()


def test_labels_are_heights():
    """The first code of each kind of the shortest, by the other way: all its sets of coordinates."""
    for codes in long_codes.read():
        if codes.group == (20, 10, 6):
            assert m_height(codes.P[0], 6, method="bases") == pytest.approx(codes.h[0], rel=1e-9)


def test_few_codes_take_as_long_as_they_may(sets):
    assert [len(codes) for codes in long_codes.few(sets, 3.0)] == [2, 3]
    assert [len(codes) for codes in long_codes.few(sets, 0.1)] == [1, 1]
    assert [len(codes) for codes in long_codes.few(sets, 100.0)] == [3, 3]
    shipped, few = long_codes.read(), long_codes.few(long_codes.read())
    assert 0 < sum(map(len, few)) <= sum(map(len, shipped))
    assert {codes.group for codes in few} == {codes.group for codes in shipped}


def test_scores(sets, told):
    seen = []
    report = long_codes.evaluate(told, sets, patience=math.inf, threads=2, advance=seen.append)
    (score,) = report.scores
    assert (score.group, score.tier, score.codes, report.codes) == ((5, 2, 2), "medium", 6, 6)
    finite = [(h, *said) for h, said in zip(H, SAID, strict=True) if h < math.inf]
    error = [math.log2(said / h) for h, said, _, _ in finite]
    below = [math.log2(lower / h) for h, _, lower, _ in finite]
    assert score.log2_mse == pytest.approx(sum(e * e for e in error) / 4)
    assert score.lower_log2_mse == pytest.approx(sum(e * e for e in below) / 4)
    assert score.worst == 1.0
    assert score.found == pytest.approx(3 / 6)
    assert score.certainty == pytest.approx(np.mean([0.999, 0.2, 1.0, 0.995, 0.6]))
    assert (score.infinite, score.infinite_found, score.infinite_false, score.violations) == (2, 1, 0, 0)
    assert score.exact_milliseconds == pytest.approx(1e3 * 7.5 / 6)
    assert score.faster == score.exact_milliseconds / score.predict_milliseconds
    assert (report.macro, report.lower_macro, report.worst) == (score.log2_mse, score.lower_log2_mse, 1.0)
    assert report.kinds == ("integer", "normal")
    # one code of each kind first, for the compiler
    assert told.asked == [(1, 2, 2), (1, 2, 2), (3, 2, 2), (3, 2, 2)]
    assert seen == [3, 3]
    json.dumps(report.as_dict())


def test_a_false_infinity_and_a_bound_that_fails(sets):
    told = Told(sets, [[(math.inf, 4.0, 1.0), *SAID[1:3]], [(16.0, 16.1, 1.0), *SAID[4:]]])
    (score,) = long_codes.evaluate(told, sets, patience=math.inf).scores
    assert score.infinite_false == score.violations == 1
    assert score.log2_mse == math.inf


def test_only_infinite_heights(sets):
    infinite = [replace(codes, h=np.full(3, math.inf)) for codes in sets]
    told = Told(infinite, [[(math.inf, math.inf, 1.0)] * 3] * 2)
    report = long_codes.evaluate(told, infinite, patience=math.inf)
    assert report.scores[0].found == 1.0
    assert math.isnan(report.macro)


def test_nothing_to_evaluate(told):
    with pytest.raises(DataError, match="no long codes"):
        long_codes.evaluate(told, [])


def test_a_file_that_is_no_such_set(tmp_path):
    path = tmp_path / "codes.npz"
    for content in (b"", b"PK\x03\x04 nothing", None):
        if content is not None:
            path.write_bytes(content)
        else:
            np.savez(path, **{"20_10_6/integer/h": np.ones(2)})
        with pytest.raises(DataError, match="cannot read"):
            long_codes.read(path)


def test_a_pickle_inside_is_not_run(tmp_path):
    class Fires:
        def __reduce__(self):
            return pytest.fail, ("a pickle was run",)

    path = tmp_path / "codes.npz"
    np.savez(path, **{"20_10_6/integer/h": np.array([Fires()], dtype=object)})
    with pytest.raises(DataError, match="cannot read"):
        long_codes.read(path)


def test_reliability_of_a_right_certainty(rng):
    """Said 0.2, 0.9 and 0.999 of codes of which as many are found."""
    said = np.repeat([0.2, 0.9, 0.999], 4000)
    found = rng.random(12000) < said
    known = long_codes.reliability(said, found)
    assert [b.codes for b in known.bins] == [4000, 4000, 4000]
    for b, p in zip(known.bins, (0.2, 0.9, 0.999), strict=True):
        assert b.low <= p <= b.high
        assert b.certainty == pytest.approx(p)
        assert b.found == pytest.approx(p, abs=0.03)
    assert known.brier == pytest.approx(np.mean([p * (1 - p) for p in (0.2, 0.9, 0.999)]), rel=0.1)
    share = found.mean()
    assert known.base_brier == pytest.approx(np.mean((found - share) ** 2))
    assert (known.sure, known.codes) == (4000, 12000)
    assert known.sure_found == pytest.approx(0.999, abs=0.003)


def test_reliability_of_nothing_and_of_the_ends():
    none = long_codes.reliability(np.array([math.nan]), np.array([True]))
    assert (none.codes, none.sure, none.bins) == (0, 0, ())
    ends = long_codes.reliability(np.array([0.0, 1.0]), np.array([False, True]))
    assert [(b.low, b.high, b.codes) for b in ends.bins] == [(0.0, 0.1, 1), (0.99, 1.0, 1)]
    assert ends.brier == 0.0


# mheight ensemble-eval


@pytest.fixture
def short(sets, told, monkeypatch):
    """The command's long codes are those of `sets`, and so are the answers to them."""
    from moe_mheight import Predictor

    measure, load = Predictor.measure, Predictor.load

    def loaded(*arguments, **more):
        predictor = load(*arguments, **more)
        predictor.long = {"medium": None}  # nobody asks it
        return predictor

    def measured(self, P, m, **more):
        known = P[0].tobytes() in told.answers
        return told.measure(P, m, threads=more["threads"]) if known else measure(self, P, m, **more)

    monkeypatch.setattr(Predictor, "measure", measured)
    monkeypatch.setattr(Predictor, "load", loaded)
    monkeypatch.setattr(long_codes, "PATIENCE", math.inf)
    monkeypatch.setattr(long_codes, "read", lambda: tuple(sets))
    return long_codes


def test_a_second_table(short, mheight, folder, models):
    flags = ["--models", models, "--rows", 4, "--quiet", "--show", 0]
    code, out, err = mheight("ensemble-eval", *flags)
    assert (code, err) == (0, "")
    first, second = out.split("\n\n(n,k,m)")
    assert first.startswith("(n,k,m)")
    assert " ".join(second.split("\n")[0].split()) == (
        "codes log2-MSE lower alone worst bit found certainty inf viol ms predicted ms exact faster"
    )
    row = second.split("\n")[1].split()
    assert row[:5] == ["5,2,2", "6", "2.5e-01", "5.0e-01", "1.000"]
    assert "50.0 %" in second
    assert " 1/2 " in second
    assert "6 of 6 labelled long codes, kinds integer, normal\n" in second
    for more in (["--long", "none"], ["--groups", "9,4,2"], ["--kind", "normal"]):
        assert "long codes" not in mheight("ensemble-eval", *flags, *more)[1]


def test_models_without_experts_of_long_codes(mheight, folder, models):
    from moe_mheight import Predictor

    if Predictor.load(models).long:
        pytest.skip("these have some")
    code, out, err = mheight("ensemble-eval", "--models", models, "--rows", 4, "--show", 0)
    assert code == 0
    assert "no table of long codes: these models have no experts of them\n" in err
    assert "labelled long codes" not in out


def test_few_and_all(short, mheight, folder, models, monkeypatch):
    monkeypatch.setattr(long_codes, "PATIENCE", 3.5)
    flags = ["--models", models, "--rows", 4, "--quiet", "--show", 0]
    some = mheight("ensemble-eval", *flags)[1]
    assert "5 of 6 labelled long codes, kinds integer, normal (--long all takes all)\n" in some
    assert "6 of 6 labelled long codes, kinds integer, normal\n" in mheight("ensemble-eval", *flags, "--long", "all")[1]


def test_the_json_of_it(short, told, mheight, folder, models):
    jsonschema = pytest.importorskip("jsonschema", reason="schemas are checked with jsonschema (extra test)")
    flags = ["--models", models, "--rows", 4, "--quiet", "--json"]
    code, out, err = mheight("ensemble-eval", *flags, "--threads", 2)
    assert (code, err) == (0, "")
    found = json.loads(out, parse_constant=pytest.fail)
    wanted = long_codes.evaluate(told, short.read(), patience=math.inf, threads=2).as_dict()
    times = {"predict_milliseconds", "faster"}
    for group in (*found["long"]["groups"], *wanted["groups"]):
        for name in times:
            group.pop(name)
    assert found["long"] == json.loads(json.dumps(wanted))
    schema = schemas("evaluation")
    found = json.loads(mheight("ensemble-eval", *flags)[1])
    jsonschema.validate(found, schema)
    for part in (found["long"], found["long"]["groups"][0], found["long"]["reliability"]):
        for name in list(part):
            value = part.pop(name)
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(found, schema)
            part[name] = value


def schemas(name):
    from pathlib import Path

    path = Path(__file__).parents[2] / "docs" / "schemas" / f"{name}.json"
    if not path.exists():
        pytest.skip("docs/schemas is in the repository only")
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_report_of_it(short, told, sets, mheight, folder, models):
    pytest.importorskip("matplotlib", reason="the report needs the extra plot")
    pytest.importorskip("jinja2", reason="the report needs the extra plot")
    code, _, err = mheight("ensemble-eval", "--models", models, "--rows", 8, "--quiet", "--show", 0, "--report", "out")
    assert (code, err) == (0, "")
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    section = page[page.index("<h2>Long codes</h2>") : page.index("<h2>Pictures</h2>")]
    assert "<td>50.0 %</td>" in section
    assert 'data-value="0.25"' in section
    assert 'id="certainty"' in page
    assert (folder / "out" / "certainty.png").exists()
    facts = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    assert facts["evaluation"]["long"]["codes"] == 6
    jsonschema = pytest.importorskip("jsonschema", reason="schemas are checked with jsonschema (extra test)")
    jsonschema.validate(facts, schemas("report"))
