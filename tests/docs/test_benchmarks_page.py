"""What README.md says is true: its Python prints what it shows, its commands exist, it is short. The tables of
README.md, docs/benchmarks.md and docs/scale.md are measured."""

import contextlib
import importlib.util
import io
import re
import shlex
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[2]


def text(name):
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


README, SCALE, BENCHMARKS = map(text, ("README.md", "docs/scale.md", "docs/benchmarks.md"))

pytestmark = pytest.mark.skipif(
    not README, reason="README.md is not here, as in an installation without the repository"
)


def blocks(language, page=README):
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.S)


def test_python_prints_what_is_shown():
    (code,), (shown,) = blocks("python"), blocks("text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})

    def numbers(text):
        return [float(x) for x in re.findall(r"\d+\.\d+", text)]

    assert re.sub(r"[\d.]+", "#", printed.getvalue()) == re.sub(r"[\d.]+", "#", shown)
    # predictions differ in the last digits between machines
    assert numbers(printed.getvalue()) == pytest.approx(numbers(shown), rel=2e-3)


@pytest.mark.slow
def test_the_python_of_docs_scale_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python", SCALE)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/scale.md", "exec"), {})
    assert len(printed.getvalue().splitlines()) == 10


@pytest.mark.parametrize("page", [README, SCALE], ids=["README.md", "docs/scale.md"])
def test_commands_exist(page):
    from moe_mheight.cli.main import mheight

    shown = blocks("sh", page)
    lines = [line.split("#")[0] for block in shown for line in block.splitlines() if line.startswith("mheight")]
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(line)[1:]
        command = mheight.get_command(click.Context(mheight), words[0])
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_one_command_runs_and_one_tests():
    first, second = (block.strip() for block in blocks("sh")[:2])
    assert first.endswith("mheight ensemble-eval")
    assert second.endswith("pytest")
    assert "\n" not in first + second
    assert "-q" not in (first + second).split()  # it would hide why pip refuses


def test_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_readme_says_how_to_activate_before_a_bare_command():
    assert README.index(". .venv/bin/activate") < README.index("\nmheight ")


def test_subscripts_survive_markdown():
    """|c|_(0) outside of code is eaten."""
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        plain = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.S)
        assert "|_(" not in plain, path


@pytest.fixture(scope="module")
def tables():
    """benchmarks/tables.py."""
    path = ROOT / "benchmarks" / "tables.py"
    spec = importlib.util.spec_from_file_location("tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_result_files(tables):
    for name in tables.TABLES:
        page = (ROOT / name).read_text()
        assert tables.filled(page, name) == page


def test_the_picture_is_of_the_run_of_its_table(tables):
    (shown,) = re.findall(r"<!-- /results -->.*?!\[[^]]*\]\((\S+)\).*?<!-- exact -->", BENCHMARKS, flags=re.S)
    (in_readme,) = re.findall(r"!\[[^]]*\]\((\S+)\)", README)
    assert ROOT / "docs" / shown == ROOT / in_readme == tables.PICTURE
    same = tables.digest().encode() in tables.PICTURE.read_bytes()  # as text in the PNG
    assert same, "evaluation.json is newer than the picture: python benchmarks/tables.py makes both"


def test_the_picture_shows_what_the_table_says(tables):
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib (extra plot)")
    from moe_mheight.evaluation import figures

    drawn = figures.errors(tables.evaluation()).draw.keywords
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.results().splitlines()[2:11]]
    assert [row[0] for row in table] == [f"({name.replace(',', ', ')})" for name in drawn["names"]]
    assert [int(row[2]) for row in table] == drawn["routed"]
    for (name, values), column in zip(drawn["columns"].items(), (3, 4, 6, 7), strict=True):
        assert [float(row[column]) for row in table] == pytest.approx(values, rel=0.06), name


@pytest.mark.parametrize("name", ["results", "raw"])
def test_a_column_is_of_one_system(name):
    """Below each column of errors stands the mean of that column, and no other system's figure."""
    lines = re.search(f"<!-- {name} -->\n(.*?)\n\n", BENCHMARKS, re.S)[1].splitlines()
    head, _, *groups, macro = ([cell.strip(" *") for cell in line.split("|")[1:-1]] for line in lines)
    assert macro[0] == "macro"
    columns = [i for i, title in enumerate(head) if title not in ("(n, k, m)", "tier", "gain", "routed")]
    assert len(columns) == 4
    for i in columns:
        assert float(macro[i]) == pytest.approx(sum(float(row[i]) for row in groups) / 9, rel=0.03, abs=2e-3), head[i]
    if name == "results":
        assert int(macro[2]) == sum(int(row[2]) for row in groups)
        assert float(macro[5]) == pytest.approx(float(macro[4]) / float(macro[3]), rel=0.06)
