"""The report: what it says is what was measured, it needs no network, and a browser has nothing to complain about."""

import json
import re
import sys
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from moe_mheight import Predictor, m_height
from moe_mheight.codes.minors import smallest_minors
from moe_mheight.data.sources import of
from moe_mheight.errors import DataError, FolderError
from moe_mheight.evaluation import scoring
from moe_mheight.evaluation.figures import OTHERS
from moe_mheight.evaluation.scoring import REFERENCE
from moe_mheight.groups import HEADLINE

pytest.importorskip("matplotlib", reason="the report needs the extra plot")
pytest.importorskip("jinja2", reason="the report needs the extra plot")

GROUPS = ((9, 4, 2), (9, 5, 3), (7, 3, 4))
ABOUT = {"data": '<script>alert(1)</script> & "rows"', "models": "shipped"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from moe_mheight.evaluation.criteria import judge, load
    from moe_mheight.evaluation.report import KEEP, write_report

    predictor = Predictor.load()
    data = scoring.default_data(60, 3, GROUPS)
    data[GROUPS[0]].h[[1, 2]] = [17.0, np.inf]  # one wrong label that counts, one that does not
    report = scoring.evaluate(predictor, data, keep=KEEP)
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    files = write_report(folder, predictor, report, about=ABOUT, verdicts=judge(load("run2"), report.figures()))
    return folder, files, report, predictor, data


class Page(HTMLParser):
    """Tags that are open, ids, links and texts by tag."""

    EMPTY = frozenset(("meta", "link", "br", "input"))

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.texts, self.wrong = [], [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("src", "href", "xlink:href") if name in given]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


@pytest.mark.slow
def test_one_page_that_needs_no_network(made):
    folder, files, *_ = made
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert (page.open, page.wrong) == ([], [])
    assert len(page.ids) == len(set(page.ids))
    local = {link for link in page.links if not link.startswith(("#", "data:"))}
    assert {folder / link for link in local} <= set(files)  # pictures and figures beside it, to download
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
    assert not re.search(r"@import|url\((?!#)|src=", text)
    assert set(re.findall(r"https?://[^\"< ]*", text)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
    }  # fmt: skip


def test_what_users_call_their_data_is_text(made):
    text = (made[0] / "report.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;rows&#34;" in text


def test_the_figures_are_those_of_the_evaluation(made):
    folder, _, report, _, _ = made
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    inside = re.search(r'id="figures">(.*?)</script>', (folder / "report.html").read_text(encoding="utf-8"), re.S)
    assert json.loads(inside[1]) == facts
    assert facts["format"] == "moe_mheight report 2"
    assert facts["evaluation"]["macro_log2_mse"] == report.macro
    assert [g["log2_mse"] for g in facts["evaluation"]["groups"]] == [s.log2_mse for s in report.scores]
    assert facts["evaluation"]["wrong_labels"] == 2
    assert len(facts["criteria"]) == 4


@pytest.mark.slow
def test_the_figures_have_a_schema(made):
    jsonschema = pytest.importorskip("jsonschema", reason="schemas are checked with jsonschema (extra test)")
    schemas = Path(__file__).parents[2] / "docs" / "schemas"
    facts = json.loads((made[0] / "report.json").read_text(encoding="utf-8"))
    for name, document in (("report", facts), ("evaluation", facts["evaluation"])):
        schema = json.loads((schemas / f"{name}.json").read_text(encoding="utf-8"))
        jsonschema.validate(document, schema)
        for key in document:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({k: v for k, v in document.items() if k != key}, schema)


COLUMNS = [
    "tier", "codes", "asked", "log2_mse", "bounds_log2_mse", "gain", "fixed_log2_mse", "run 1", "peer", "worst",
    "width", "infinite", "infinite_found", "infinite_false", "violations", "predict_microseconds", "exact_microseconds",
]  # fmt: skip


def test_shown_scores_are_the_evaluation_s(made):
    """Each cell of the table of groups, and the headings over them."""
    folder, _, report, _, _ = made
    text = (folder / "report.html").read_text(encoding="utf-8")
    table = re.search(r'aria-label="Scores of the groups"><table>(.*?)</table>', text, re.S)[1]
    heads = re.findall(r"<button[^>]*>(.*?)</button>", table)
    assert heads == [
        "n, k, m", "tier", "codes", "routed", "log2-MSE", "bounds alone", "gain", "fixed", "run 1", "peer",
        "worst, bits", "width, bits", "infinite", "found", "false", "violations", "predict, µs", "exact, µs",
    ]  # fmt: skip
    body = re.search(r"<tbody>(.*?)</tbody>", table, re.S)[1]
    others = [values[HEADLINE.index((9, 4, 2))] for values in REFERENCE.values()]
    for line, score in zip(re.findall(r"<tr>(.*?)</tr>", body, re.S), report.scores, strict=True):
        values = dict(zip(COLUMNS, re.findall(r'<td(?: data-value="(.*?)")?>', line)[1:], strict=True))
        for name, shown in values.items():
            if name in OTHERS:
                continue
            known = getattr(score, name)
            assert shown == ("" if name == "tier" else str(known)), name
        if score.group == (9, 4, 2):
            assert [float(values[name]) for name in OTHERS] == others
    cards = {what: value for value, what in re.findall(r"<li><b[^>]*>(.*?)</b><span>(.*?)</span>", text)}
    for what, value in (
        ("log2-MSE, macro", report.macro),
        ("bounds alone: their middle, nothing fitted", report.bounds_macro),
        ("gain: error of bounds alone over ours", report.gain),
        ("codes routed to experts; bounds decided the others", sum(s.asked for s in report.scores)),
        ("bits, worst code", max(score.worst for score in report.scores)),
        ("wrong labels in the data", report.wrong_labels),
    ):
        assert float(cards[what]) == pytest.approx(value, rel=0.06), what


def test_the_worst_codes_are_the_worst(made):
    folder, _, _, predictor, data = made
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    errors = {}
    for group, codes in data.items():
        predicted = predictor.predict(codes.P, group[2])
        for row, h, said in zip(codes.row, codes.h, predicted, strict=True):
            if np.isfinite(h) and np.isfinite(said):
                errors[int(row)] = abs(np.log2(said) - np.log2(h))
    worst = sorted(errors, key=lambda row: -errors[row])[: scoring.HARDEST]
    assert [w["row"] for w in facts["worst"]] == worst
    first = facts["worst"][0]
    assert first["row"] == 1
    assert first["wrong_label"]
    assert first["label"] == 17.0
    for w in facts["worst"]:
        G = np.hstack([np.eye(w["k"]), w["P"]])
        c = np.array(w["witness"])
        assert np.linalg.lstsq(G.T, c, rcond=None)[1].sum() < 1e-18 * (c @ c) + 1e-20  # a codeword
        size = np.sort(np.abs(c))[::-1]
        assert size[0] / size[w["m"]] == pytest.approx(w["true"], rel=1e-6)
        lower, upper = predictor.bounds(w["P"], w["m"])
        assert (w["lower"], w["upper"]) == (lower, upper)
        assert w["width_bits"] == pytest.approx(np.log2(upper) - np.log2(lower))
        assert w["lower"] <= w["true"] * (1 + 1e-12)
        minors = [abs(np.linalg.det(G[:, B])) for B in combinations(range(w["n"]), w["k"])]
        assert w["smallest_minor"] == pytest.approx(min(x for x in minors if x > 1e-9 * max(minors)) / max(minors))
        assert w["spread_bits"] == predictor.measure([w["P"]], w["m"]).std_bits[0]
        assert abs(np.array(w["witness"])[w["largest"]]).min() >= size[w["m"]]


def test_pictures_as_png_and_svg(made):
    folder, files, *_ = made
    names = {path.stem for path in files if path.suffix == ".png"}
    assert names == {path.stem for path in files if path.suffix == ".svg"}
    assert names == {
        "error", "predicted-low", "predicted-medium", "predicted-high", "calibration", "router-7", "router-9",
        "spread", "width", "minor", "timings",
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {path.name for path in files}
    for path in files:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        if path.suffix == ".svg":
            ElementTree.fromstring(path.read_bytes())


def test_calibration_counts_what_intervals_hold(made):
    folder, _, _, predictor, data = made
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))["calibration"]
    codes = data[(7, 3, 4)]
    h = np.where(np.isfinite(codes.h), codes.h, np.nan)
    low, high = predictor.predict_interval(codes.P, 4, coverage=0.8)
    held = np.mean(((low <= h) & (h <= high))[np.isfinite(h)])
    assert found["observed"]["high"][found["nominal"].index(0.8)] == pytest.approx(held)


@pytest.fixture(scope="module")
def drawn(made):
    """What each picture is given to draw."""
    from moe_mheight.evaluation import figures

    _, _, report, predictor, _ = made
    covered, routed = figures.coverage(predictor, report), figures.routes(predictor, report)
    return {p.name: p.draw.keywords for p in figures.pictures(predictor, report, covered, routed, None)}


def test_pictures_are_given_what_was_measured(made, drawn):
    _, _, report, predictor, _ = made
    scores = report.scores
    given = drawn["error"]["columns"]
    assert list(given) == ["predicted", "bounds alone", *OTHERS]
    assert given["predicted"] == [s.log2_mse for s in scores]
    assert given["bounds alone"] == [s.bounds_log2_mse for s in scores]
    assert drawn["error"]["routed"] == [s.asked for s in scores]
    for name, values in zip(OTHERS, REFERENCE.values(), strict=True):
        for score, value in zip(scores, given[name], strict=True):
            known = values[HEADLINE.index(score.group)] if score.group in HEADLINE else np.nan
            assert value == known or np.isnan([value, known]).all()
    assert drawn["timings"]["columns"] == {
        "predict": [s.predict_microseconds for s in scores], "exact": [s.exact_microseconds for s in scores],
    }  # fmt: skip
    assert drawn["router-9"]["marked"] == set(GROUPS)
    assert drawn["router-9"]["weights"][4, 2] == predictor.router(9, 4, 2).tolist()
    fair = report.kept[(9, 4, 2)][0].first(150)
    finite = np.isfinite(fair.true)
    measured = predictor.measure(fair.P[finite], 2)
    low = drawn["predicted-low"]
    np.testing.assert_allclose(low["log2_h"], np.log2(m_height(fair.P[finite], 2)), rtol=1e-12)
    for name, column in (("low", measured.lower), ("high", measured.upper), ("said", measured.height)):
        np.testing.assert_allclose(low[name], np.log2(column), rtol=1e-6, atol=1e-12)
    off = np.abs(np.log2(measured.height) - np.log2(m_height(fair.P[finite], 2)))
    width, error = (part[finite] for part in drawn["width"]["points"]["low"])
    np.testing.assert_allclose(width, np.log2(measured.upper) - np.log2(measured.lower), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(error, off, rtol=1e-3, atol=1e-12)
    minor, error = (part[finite] for part in drawn["minor"]["points"]["low"])
    np.testing.assert_allclose(minor, smallest_minors(fair.P[finite])[0])
    np.testing.assert_allclose(error, off, rtol=1e-3, atol=1e-12)
    spread, error = drawn["spread"]["points"]["low"]
    assert 0 < len(spread) <= finite.sum()
    assert np.corrcoef(np.log(spread + 1e-15), np.log(error + 1e-15))[0, 1] > 0.3  # members differ where they err


def artists(draw, **given):
    """The axes that a chart makes."""
    from moe_mheight.figures.style import drawing

    with drawing(4.4, 4.0) as figure:
        draw(figure, **given)
        figure.draw_without_rendering()
        return figure.axes


@pytest.mark.slow
def test_charts_draw_what_they_are_given():
    from moe_mheight.evaluation import charts

    (axis,) = artists(
        charts.group_errors, names=["a", "b"], columns={"ours": [1e-9, 1e-5], "theirs": [0.1, np.nan]}, routed=[0, 1234]
    )
    assert [text.get_text() for text in axis.texts] == ["routed", "0", "1,234"]
    points = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert points["ours"] == [[1e-9, 0], [1e-5, 1]]
    assert points["theirs"][0] == [0.1, 0]
    (axis,) = artists(
        charts.calibration, nominal=[0.5, 0.9], observed={"low": [0.4, 0.9]}, codes={"low": 100},
        observed_asked={"low": [0.7, 1.0]}, codes_asked={"low": 25},
    )  # fmt: skip
    labels = {line.get_label(): line for line in axis.lines}
    assert labels["low, all 100"].get_ydata().round(9).tolist() == [-10.0, 0.0]
    assert labels["low, routed 25"].get_ydata().round(9).tolist() == [20.0, 10.0]
    assert labels["low, routed 25"].get_linestyle() == "--"
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(196 * 0.5 / 5)  # 95 % of 25 fair coins
    (axis,) = artists(charts.routing, n=4, weights={(1, 1): [0.25, 0.75, 0.0], (2, 2): [0, 0, 1]}, marked={(4, 2, 2)})
    boxes = [patch.get_bbox().bounds for patch in axis.patches]
    assert [round(width, 2) for _, _, width, _ in boxes] == [0.23, 0.69, 0.92, 0.96]
    assert boxes[3][:2] == pytest.approx((1.52, 1.52))  # the frame is around (2, 2)
    (axis,) = artists(charts.against, points={"low": (np.array([1e-3, 1.0]), np.array([1e-9, 0.0]))}, x="x")
    assert axis.lines[0].get_xydata().tolist() == [[1e-3, 1e-9], [1.0, charts.SMALLEST]]


def test_bars_of_a_codeword_are_logarithmic():
    from moe_mheight.evaluation.report import _bars

    drawn = _bars([1.0, -0.01, 0.0, 1e-4], [0, 1])
    assert [bar["height"] for bar in drawn["bars"]] == pytest.approx([36.0, 18.0, 0.0, 0.0])
    assert [bar["kind"] for bar in drawn["bars"]] == ["top", "large", "small", "small"]
    assert [bar["negative"] for bar in drawn["bars"]] == [False, True, False, False]
    assert [(line["exponent"], line["y"]) for line in drawn["decades"]] == [
        (0, 2.0), (-1, 11.0), (-2, 20.0), (-3, 29.0), (-4, 38.0),
    ]  # fmt: skip


def test_a_bracket_without_an_end_is_drawn_to_the_edge(tmp_path):
    from moe_mheight.evaluation import charts

    truth = np.array([1.0, 2.0])
    (off,) = artists(charts.predicted, log2_h=truth, low=truth - 0.1, high=np.array([1.1, np.inf]), said=truth)
    assert np.isfinite(off.get_ylim()).all()


@pytest.mark.slow
def test_badly_scaled_codes_are_reported_too(tmp_path):
    rng = np.random.default_rng(0)
    rows = [[12, 6, 3, (rng.normal(size=(6, 6)) * np.exp(rng.normal(size=(6, 6)) * 7)).tolist()] for _ in range(60)]
    (tmp_path / "codes.json").write_text(json.dumps(rows), encoding="utf-8")
    done = run("ensemble-eval", tmp_path / "codes.json", "--report", tmp_path / "out", "--quiet", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["groups"][0]["width"] == "inf"


def test_smallest_minors_against_determinants_one_by_one():
    rng = np.random.default_rng(0)
    P = rng.integers(-4, 5, (20, 3, 3)).astype(float)
    P[0] = [[1, 1, 2], [1, 1, 3], [1, 1, 4]]  # dependent columns do not count
    ratios, sets = smallest_minors(P)
    for one, ratio, columns in zip(P, ratios, sets, strict=True):
        G = np.hstack([np.eye(3), one])
        sizes = {B: abs(round(np.linalg.det(G[:, B]))) for B in combinations(range(6), 3)}
        assert ratio == pytest.approx(min(size for size in sizes.values() if size) / max(sizes.values()))
        assert sizes[tuple(columns.tolist())] / max(sizes.values()) == pytest.approx(ratio)


def test_what_is_kept_does_not_depend_on_the_pieces():
    data = scoring.default_data(50, 1, ((9, 4, 2), (9, 6, 3)))
    predictor = Predictor.load()
    whole, cut = (scoring.evaluate(predictor, of(data, most), keep=20).kept for most in (None, 17))
    for group, parts in whole.items():
        for one, other in zip(parts, cut[group], strict=True):
            assert one.rows.tolist() == other.rows.tolist()
            assert (one.P == other.P).all()
            np.testing.assert_allclose(one.measured.height, other.measured.height, rtol=1e-6)
            np.testing.assert_array_equal(one.measured.lower, other.measured.lower)
            codes = data[group]
            place = {int(row): i for i, row in enumerate(codes.row)}
            assert all((codes.P[place[int(row)]] == P).all() for row, P in zip(one.rows, one.P, strict=True))
    assert {len(fair.rows) for fair, *_ in whole.values()} == {20}


@pytest.mark.slow
def test_a_sample_prefers_no_kind_of_code():
    data = scoring.default_data(400, 5, ((9, 4, 2),))
    kept = scoring.evaluate(Predictor.load(), data, keep=200).kept[(9, 4, 2)][0]
    assert 0.35 < np.mean(kept.rows < 200) < 0.65  # the four kinds follow each other
    data[(9, 4, 2)].P[::2] = data[(9, 4, 2)].P[0]  # nor copies
    kept = scoring.evaluate(Predictor.load(), data, keep=200).kept[(9, 4, 2)][0]
    assert 0.35 < np.mean(kept.rows % 2) < 0.65


@pytest.mark.slow
def test_nothing_kept_nothing_reported(tmp_path):
    from moe_mheight.evaluation.report import write_report

    predictor = Predictor.load()
    report = scoring.evaluate(predictor, scoring.default_data(2, 0, ((5, 2, 1),)))
    with pytest.raises(DataError, match=r"^a report needs single codes: evaluate\(\.\.\., keep=1000\)$"):
        write_report(tmp_path, predictor, report)
    report = scoring.evaluate(predictor, scoring.default_data(2, 0, ((5, 2, 1),)), keep=2)
    (tmp_path / "taken").write_text("")
    with pytest.raises((DataError, FolderError), match="cannot make"):
        write_report(tmp_path / "taken", predictor, report)


def run(*args):
    from moe_mheight.cli.main import mheight

    return CliRunner().invoke(mheight, [str(a) for a in args])


@pytest.mark.slow
def test_codes_of_infinite_height_only(tmp_path):
    rows = [[4, 2, 2, [[1, 1], [0, 0]]]] * 3
    (tmp_path / "codes.json").write_text(json.dumps(rows))
    done = run("ensemble-eval", tmp_path / "codes.json", "--report", tmp_path / "out", "--quiet")
    assert done.exit_code == 0, done.output
    assert "log2-MSE" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_command(tmp_path):
    args = ("ensemble-eval", "--groups", "5,2,2", "--rows", 8, "--show", 0, "--report", tmp_path / "a" / "b")
    done = run(*args)
    assert done.exit_code == 0, done.output
    assert "report.html and" in done.output
    (tmp_path / "a" / "b" / "router-4.svg").write_text("of older data", encoding="utf-8")
    (tmp_path / "a" / "b" / "mine.txt").write_text("mine", encoding="utf-8")
    again = run(*args)
    assert isinstance(again.exception, DataError)
    assert "--force" in str(again.exception)
    assert run(*args, "--force").exit_code == 0
    left = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert {"mine.txt", "report.html", "router-5.png"} <= left
    assert "router-4.svg" not in left
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "error.png").write_text("somebody's", encoding="utf-8")
    assert "error.png exists" in str(run(*args[:-1], tmp_path / "other").exception)


@pytest.mark.slow
def test_a_report_that_cannot_be_finished_leaves_nothing(made, tmp_path, monkeypatch):
    from moe_mheight.evaluation import report as module

    def full(path, content, before=module.write_file):
        if path.name == "report.html":
            raise FolderError("no space left")
        before(path, content)

    monkeypatch.setattr(module, "write_file", full)
    with pytest.raises(FolderError, match="no space left"):
        module.write_report(tmp_path / "new", made[3], made[2])
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "old").mkdir()
    older = {name: f"older {name}" for name in ("report.html", "error.png", "router-4.svg")}
    for name, text in older.items():
        (tmp_path / "old" / name).write_text(text, encoding="utf-8")
    with pytest.raises(FolderError, match="no space left"):
        module.write_report(tmp_path / "old", made[3], made[2], force=True)
    assert {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "old").iterdir()} == older


@pytest.mark.slow
def test_names_that_are_not_text(made, tmp_path):
    from moe_mheight.evaluation.report import write_report

    write_report(tmp_path, made[3], made[2], about={"data": "bad\udcff.json"})
    assert "bad\\udcff.json" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_router_that_knows_few_sizes(made, tmp_path):
    from moe_mheight.ensemble.router import slack_weights
    from moe_mheight.evaluation.report import write_report

    known = {group: slack_weights(*group) for group in GROUPS}
    predictor = Predictor.load(router=lambda n, k, m: known[n, k, m])
    write_report(tmp_path, predictor, made[2])
    facts = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert set(facts["router"]["9"]) == {"4,2", "5,3"}
    said = facts["router_left_out"]["9"]
    assert len(said) == 36 - 2
    assert said["1,1"] == "KeyError: (9, 1, 1)"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Left out: 34 of 36 (k, m) that the router has no weights for, as (1, 1): KeyError: (9, 1, 1)." in page


@pytest.mark.parametrize("error", [ZeroDivisionError, AttributeError, RecursionError, OSError])
def test_a_router_that_is_broken_is_told(error, made):
    """What is not expected is not swallowed."""
    from moe_mheight.evaluation import figures

    def broken(n, k, m):
        raise error("in the router")

    with pytest.raises(error, match="in the router"):
        figures.routes(Predictor.load(router=broken), made[2])


def test_a_router_may_refuse_sizes(made):
    from moe_mheight.evaluation import figures

    def refuses(n, k, m):
        raise ValueError("not for me")

    assert set(figures.routes(Predictor.load(router=refuses), made[2])[9].values()) == {"ValueError: not for me"}


def test_without_the_extra_nothing_is_computed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = run("ensemble-eval", "--report", tmp_path / "out")
    assert str(done.exception) == "reports need Jinja: pip install 'moe-mheight[plot]'"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_raw_view_too(tmp_path):
    models = Path(__file__).parents[2] / "models" / "raw"
    if not models.exists():
        pytest.skip("models/raw is in the repository only")
    done = run("ensemble-eval", "--models", models, "--groups", "9,4,5", "--rows", 20, "--report", tmp_path, "--force")
    assert done.exit_code == 0, done.output
    assert "no router" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not list(tmp_path.glob("router*"))


@pytest.mark.slow
def test_in_a_browser(made, screenshots):
    assert screenshots.problems([made[0] / "report.html"]) == []


@pytest.mark.slow
def test_tables_sort(made, screenshots):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=screenshots.browser(), args=screenshots.FLAGS)
        page = chromium.new_page()
        page.goto((made[0] / "report.html").as_uri())
        for column, kind in (("codes", float), ("error, bits", float), ("n, k, m", float)):
            button = page.locator("th button", has_text=column).last
            for down in (False, True):
                button.click()
                cells = button.evaluate(
                    """b => [...b.closest('table').tBodies[0].rows].map(r => {
                      const c = r.children[[...b.closest('tr').children].indexOf(b.parentElement)];
                      return c.dataset.value ?? c.textContent })"""
                )
                values = list(map(kind, cells))
                assert values == sorted(values, reverse=down)
        chromium.close()
