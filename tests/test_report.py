"""The report: what it says is what was measured, it needs no network, and a browser has nothing to complain about."""

import importlib.util
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

from moe_mheight import Predictor, evaluation
from moe_mheight.errors import DataError, FolderError
from moe_mheight.minors import smallest_minors
from moe_mheight.sources import of

pytest.importorskip("matplotlib", reason="the report needs the extra plot")
pytest.importorskip("jinja2", reason="the report needs the extra plot")

GROUPS = ((9, 4, 2), (9, 5, 3), (7, 3, 4))
ABOUT = {"data": '<script>alert(1)</script> & "rows"', "models": "shipped"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from moe_mheight.criteria import judge, load
    from moe_mheight.report import KEEP, write_report

    predictor = Predictor.load()
    data = evaluation.default_data(60, 3, GROUPS)
    data[GROUPS[0]].h[[1, 2]] = [17.0, np.inf]  # one wrong label that counts, one that does not
    report = evaluation.evaluate(predictor, data, keep=KEEP)
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
    assert facts["format"] == "moe_mheight report 1"
    assert facts["evaluation"]["macro_log2_mse"] == report.macro
    assert [g["log2_mse"] for g in facts["evaluation"]["groups"]] == [s.log2_mse for s in report.scores]
    assert facts["evaluation"]["wrong_labels"] == 2
    assert len(facts["criteria"]) == 4


def test_the_figures_have_a_schema(made):
    jsonschema = pytest.importorskip("jsonschema", reason="schemas are checked with jsonschema (extra test)")
    schemas = Path(__file__).parent.parent / "docs" / "schemas"
    facts = json.loads((made[0] / "report.json").read_text(encoding="utf-8"))
    for name, document in (("report", facts), ("evaluation", facts["evaluation"])):
        schema = json.loads((schemas / f"{name}.json").read_text(encoding="utf-8"))
        jsonschema.validate(document, schema)
        for key in document:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({k: v for k, v in document.items() if k != key}, schema)


def test_shown_scores_are_the_evaluation_s(made):
    folder, _, report, _, _ = made
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    cells = page.texts["td"]
    at = cells.index("9, 4, 2")
    assert cells[at + 1 : at + 3] == ["low", "60"]
    assert float(cells[at + 3]) == pytest.approx(report.scores[0].log2_mse, rel=0.05)


def test_the_worst_codes_are_the_worst(made):
    folder, _, _, predictor, data = made
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    errors = {}
    for group, codes in data.items():
        predicted = predictor.predict(codes.P, group[2])
        for row, h, said in zip(codes.row, codes.h, predicted, strict=True):
            if np.isfinite(h) and np.isfinite(said):
                errors[int(row)] = abs(np.log2(said) - np.log2(h))
    worst = sorted(errors, key=lambda row: -errors[row])[: evaluation.HARDEST]
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
        assert w["lower"] <= w["true"] * (1 + 1e-12)
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
    data = evaluation.default_data(50, 1, ((9, 4, 2), (9, 6, 3)))
    predictor = Predictor.load()
    whole, cut = (evaluation.evaluate(predictor, of(data, most), keep=20).kept for most in (None, 17))
    for group, parts in whole.items():
        for one, other in zip(parts, cut[group], strict=True):
            assert one.rows.tolist() == other.rows.tolist()
            assert (one.P == other.P).all()
            np.testing.assert_allclose(one.values, other.values, rtol=1e-6)
            codes = data[group]
            place = {int(row): i for i, row in enumerate(codes.row)}
            assert all((codes.P[place[int(row)]] == P).all() for row, P in zip(one.rows, one.P, strict=True))
    assert {len(fair.rows) for fair, _ in whole.values()} == {20}


def test_a_sample_prefers_no_kind_of_code():
    data = evaluation.default_data(400, 5, ((9, 4, 2),))
    kept = evaluation.evaluate(Predictor.load(), data, keep=200).kept[(9, 4, 2)][0]
    assert 0.35 < np.mean(kept.rows < 200) < 0.65  # the four kinds follow each other


def test_nothing_kept_nothing_reported(tmp_path):
    from moe_mheight.report import write_report

    predictor = Predictor.load()
    report = evaluation.evaluate(predictor, evaluation.default_data(2, 0, ((5, 2, 1),)))
    with pytest.raises(DataError, match=r"^a report needs single codes: evaluate\(\.\.\., keep=1000\)$"):
        write_report(tmp_path, predictor, report)
    report = evaluation.evaluate(predictor, evaluation.default_data(2, 0, ((5, 2, 1),)), keep=2)
    (tmp_path / "taken").write_text("")
    with pytest.raises((DataError, FolderError), match="cannot make"):
        write_report(tmp_path / "taken", predictor, report)


def run(*args):
    from moe_mheight.cli.main import mheight

    return CliRunner().invoke(mheight, [str(a) for a in args])


def test_codes_of_infinite_height_only(tmp_path):
    rows = [[4, 2, 2, [[1, 1], [0, 0]]]] * 3
    (tmp_path / "codes.json").write_text(json.dumps(rows))
    done = run("ensemble-eval", tmp_path / "codes.json", "--report", tmp_path / "out", "--quiet")
    assert done.exit_code == 0, done.output
    assert "log2-MSE" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_the_command(tmp_path):
    args = ("ensemble-eval", "--groups", "5,2,2", "--rows", 8, "--show", 0, "--report", tmp_path / "a" / "b")
    done = run(*args)
    assert done.exit_code == 0, done.output
    assert "report.html and" in done.output
    again = run(*args)
    assert isinstance(again.exception, DataError)
    assert "--force" in str(again.exception)
    assert run(*args, "--force").exit_code == 0


def test_without_the_extra_nothing_is_computed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = run("ensemble-eval", "--report", tmp_path / "out")
    assert str(done.exception) == "reports need Jinja: pip install 'moe-mheight[plot]'"
    assert not (tmp_path / "out").exists()


def test_the_raw_view_too(tmp_path):
    models = Path(__file__).parent.parent / "models" / "raw"
    if not models.exists():
        pytest.skip("models/raw is in the repository only")
    done = run("ensemble-eval", "--models", models, "--groups", "9,4,5", "--rows", 20, "--report", tmp_path, "--force")
    assert done.exit_code == 0, done.output
    assert "no router" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not list(tmp_path.glob("router*"))


@pytest.fixture(scope="module")
def screenshots():
    """benchmarks/screenshots.py, where there is a browser to look with."""
    path = Path(__file__).parent.parent / "benchmarks" / "screenshots.py"
    pytest.importorskip("playwright", reason="looking at pages needs playwright (extra dev)")
    if not path.exists():
        pytest.skip("benchmarks are in the repository only")
    spec = importlib.util.spec_from_file_location("screenshots", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.browser() is None:
        pytest.skip("no Chromium on the PATH to look at pages with")
    return module


def test_in_a_browser(made, screenshots):
    assert screenshots.look([made[0] / "report.html"]) == []


def test_tables_sort(made, screenshots):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=screenshots.browser(), args=screenshots.FLAGS)
        page = chromium.new_page()
        page.goto((made[0] / "report.html").as_uri())
        for column, kind in (("codes", float), ("error, bits", float), ("n, k, m", str)):
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
