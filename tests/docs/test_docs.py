"""The pages of docs/: they build without a warning and need no network, their links lead somewhere, their Python and
their commands run and print what is shown, and their reference names everything there is."""

import contextlib
import html
import inspect
import io
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import click
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
ELSEWHERE = {"json.md", "scale.md"}
"""Pages whose blocks test_schemas.py and test_benchmarks_page.py run."""

SLOW = {"tutorial.md", "howto/gradients.md", "howto/report.md"}
"""Pages that train a tier, most of two minutes, export thirty networks, draw a report."""

EXTRAS = {
    "howto/explain.md": ("matplotlib",),
    "howto/report.md": ("matplotlib", "jinja2"),
    "howto/gradients.md": ("onnx", "onnxscript", "onnxruntime"),
}
"""What pages need beyond the package itself."""

pytestmark = pytest.mark.skipif(not PAGES, reason="docs/ is not here, as in an installation without the repository")

BLOCK = re.compile(
    r"^(?:<!-- (?P<how>not run|differs): (?P<why>.+?) -->\n)?```(?P<language>\w*)[^\n]*\n(?P<content>.*?)^```$",
    re.M | re.S,
)
NUMBER = re.compile(r"(?:> )?(?<![A-Za-z_])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.])|\binf\b", re.I)
SECONDS = re.compile(r"\b[\d.]+ (?:s|us|ms)\b")
TINY = re.compile(r"\d(?:\.\d+)?e-(?:0[4-9]|[1-9]\d)")
NOISE = 1e-12
"""Errors below this, in bits squared, are rounding."""


def numbers(line):
    """A line with # for its numbers, and these. Times are left out, spaces are one; so are ratios of tiny errors."""
    line = SECONDS.sub("TIME", line)
    found = [float(number.strip("> ").replace(",", "")) for number in NUMBER.findall(line)]
    if TINY.search(line):
        found = [math.nan if x > 1.0 and (x % 1.0 or x >= 1e5) else x for x in found]
    return " ".join(NUMBER.sub("#", line).split()), found


def close(a, b):
    """Whether two numbers tell the same on another machine: digits, and errors by their order."""
    if math.isnan(a) or math.isnan(b) or a == b or max(abs(a), abs(b)) < NOISE:
        return True
    return math.isclose(a, b, rel_tol=2e-3) or (
        max(abs(a), abs(b)) < 1e-3 and 1 / 30 < (a or NOISE) / (b or NOISE) < 30
    )


def differs(printed, shown, values=True):
    """What of the shown lines was not printed, or None. A line ... stands for any lines; without values words count."""
    given = [numbers(line) for line in printed.strip().splitlines()]
    wanted = [line if line.strip() == "..." else numbers(line) for line in shown.strip().splitlines()]
    at, skip = 0, False
    for line in wanted:
        if isinstance(line, str):
            skip = True
            continue
        while at < len(given):
            (text, own), at = given[at], at + 1
            same = text == line[0] and len(own) == len(line[1])
            if same and all(not values or close(a, b) for a, b in zip(own, line[1], strict=True)):
                break
            if not skip:
                return f"shown {line}, printed {(text, own)}"
        else:
            return f"shown {line}, never printed"
        skip = False
    return None if skip or at == len(given) else f"not shown: {given[at]}"


@dataclass(frozen=True)
class Block:
    """A fenced block: why it is not run, and what it is shown to print, with those values or only in those words."""

    language: str
    content: str
    not_run: str | None
    shown: str | None
    values: bool


def blocks(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    found = list(BLOCK.finditer(text))
    out = []
    for block, after in zip(found, [*found[1:], None], strict=False):
        follows = after and after["language"] == "text" and not text[block.end() : after.start()].strip()
        not_run = block["why"] if block["how"] == "not run" else None
        shown, values = (after["content"], after["how"] != "differs") if follows else (None, True)
        out.append(Block(block["language"], block["content"], not_run, shown, values))
    return out


def run_python(code, page, names):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, page, "exec"), names)
    return printed.getvalue()


def run_shell(script):
    """Commands that are `mheight ...` alone in this process, which is quicker; all else by bash."""
    lines = [line for line in script.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    plain = all(re.fullmatch(r"mheight [^|<>&$`*]*", line) for line in lines) and "--version" not in script
    if not plain:
        if shutil.which("bash") is None:
            pytest.skip("no bash here")
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-eu", "-c", script], capture_output=True, text=True, check=False, env=os.environ | {"PATH": path}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
    from moe_mheight.cli.main import mheight

    printed = io.StringIO()
    for line in lines:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            code = mheight.main(shlex.split(line, comments=True)[1:], "mheight", standalone_mode=False)
        assert not code, line
    return printed.getvalue()


def outcomes(page):
    """Run a page's blocks from top to bottom in the current folder: [(block, what it printed)]."""
    names = {"__name__": "__main__"}
    for block in blocks(page):
        if block.not_run is None and block.language in ("python", "sh"):
            run = partial(run_python, page=page, names=names) if block.language == "python" else run_shell
            yield block, run(block.content)


MINE = [page for page in PAGES if page not in ELSEWHERE]
RUN = [
    pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])
    for page in MINE
    if any(block.language in ("python", "sh") for block in blocks(page))
]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_blocks_run_and_print_what_is_shown(page, tmp_path, monkeypatch):
    for name in EXTRAS.get(page, ()):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    for block, printed in outcomes(page):
        if block.shown is not None:
            wrong = differs(printed, block.shown, block.values)
            assert wrong is None, f"{page}:\n{block.content}{wrong}\n{printed}"


def test_what_is_not_run_says_why():
    skipped = [f"{page}: {block.not_run}" for page in MINE for block in blocks(page) if block.not_run]
    print(f"{len(skipped)} blocks are not run: {skipped}")
    assert len(skipped) <= 6
    languages = {(page, block.language) for page in MINE for block in blocks(page)}
    assert {language for _, language in languages} <= {"python", "sh", "text", "math"}, languages


def test_commands_that_are_not_run_exist():
    from moe_mheight.cli.main import mheight

    lines = [line for page in PAGES for b in blocks(page) if b.not_run for line in b.content.splitlines()]
    for line in lines:
        if line.startswith("mheight"):
            words = shlex.split(line, comments=True)[1:]
            command = mheight.get_command(click.Context(mheight), words[0])
            options = {name for parameter in command.params for name in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= options, line


def test_figures_in_words_are_those_of_the_tables():
    tables = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    (macro,) = re.findall(r"^\| \*\*macro\*\* \| \| (\d+) \| \*\*(\S+)\*\* \| (\S+) \| (\S+) \|", tables, re.M)
    (exact,) = re.findall(r"^\| \(9, 4\) \| (\S+ us) \| \S+ us \| (\d+ us) \| \d+ \|", tables, re.M)
    routed, ours, alone, _ = macro
    for page, figures in (("peers.md", (routed, ours, alone)), ("index.md", (ours, alone, *exact))):
        text = (DOCS / page).read_text(encoding="utf-8")
        assert all(figure in text for figure in figures), page


class Page(HTMLParser):
    """What a built page loads, links to, and can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.loads, self.links, self.names = [], [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag in ("img", "script", "iframe", "source", "video", "audio", "embed") and given.get("src"):
            self.loads.append(given["src"])
        if tag == "link" and given.get("href") and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given["href"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages."""
    for name in ("mkdocs", "material", "mkdocstrings_handlers", "latex2mathml"):
        pytest.importorskip(name, reason=f"the pages need {name}: pip install 'moe-mheight[docs]'")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", ROOT / "mkdocs.yml", "-d", out],
        capture_output=True, text=True, check=False, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def built(site):
    """{path: Page} of every HTML file."""
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_is_built(site):
    for page in PAGES:
        assert (site / page).with_suffix(".html").is_file(), page


def test_nothing_is_loaded_from_elsewhere(site, built):
    for path, page in built.items():
        assert not [url for url in page.loads if urlsplit(url).scheme not in ("", "data") or url.startswith("//")], path
    for path in site.rglob("*.css"):
        urls = re.findall(r"url\(\s*['\"]?([^)'\"]+)|@import\s+['\"]([^'\"]+)", path.read_text(encoding="utf-8"))
        assert not [url for pair in urls for url in pair if re.match(r"(https?:)?//", url)], path


def test_links_and_images_resolve(built):
    for path, page in built.items():
        if path.name == "404.html":  # its links begin at the root of a server
            continue
        for url in page.links + page.loads:
            if urlsplit(url).scheme:
                continue
            plain, anchor = urldefrag(unquote(url).split("?")[0])
            target = (path.parent / plain).resolve() if plain else path
            assert target.is_file(), f"{path.name}: {url}"
            if target.suffix == ".html" and anchor and anchor != "__skip":
                assert anchor in built[target].names, f"{path.name}: {url}"


def test_search_works_without_a_server(site):
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index = {")
    assert len(json.loads(index.removeprefix("var __index = "))["docs"]) > 100
    assert "iframe-worker.js" in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_narrow_windows(site, screenshots):
    """At 360 pixels no page is wider than the window, and none complains or asks for anything beyond its folder."""
    pages = [(site / page).with_suffix(".html") for page in PAGES]
    wrong = screenshots.problems(pages, (360,), ("light",), root=site)
    assert not [line for line in wrong if not re.search(r": <m\w+> ", line)]  # formulas scroll by themselves


@pytest.mark.slow
def test_search_in_a_browser(site, screenshots):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=screenshots.browser(), args=screenshots.FLAGS)
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.goto((site / "howto" / "predict.html").as_uri())
        page.click(".md-search__input")
        page.keyboard.type("certificate")
        page.wait_for_selector(".md-search-result__item", timeout=120_000)
        found = [link.get_attribute("href") for link in page.query_selector_all(".md-search-result__link")]
        chromium.close()
    assert any("moe_mheight.proofs.certify" in url for url in found)
    assert all(url.startswith("file:") for url in found)


def test_formulas_need_no_script(site):
    text = (site / "mathematics.html").read_text(encoding="utf-8")
    assert text.count("<math") >= 20
    assert "$`" not in text


def test_reference_has_every_name(built):
    import moe_mheight

    (page,) = (page for path, page in built.items() if path.match("reference/python.html"))
    assert {f"moe_mheight.{name}" for name in moe_mheight.__all__} <= page.names | {
        re.sub(r"^moe_mheight\.\w+\.", "moe_mheight.", name) for name in page.names
    }


def words(text):
    return " ".join(re.findall(r"\w+", text))


def test_reference_loses_no_word_of_the_docstrings(site):
    import moe_mheight

    text = re.sub(r"<[^>]+>", "", (site / "reference" / "python.html").read_text(encoding="utf-8"))
    rendered = words(html.unescape(text))
    for name in moe_mheight.__all__:
        for line in inspect.getdoc(getattr(moe_mheight, name)).splitlines():
            assert words(line) in rendered, f"{name}: {line}"


def test_reference_has_every_module_and_member_asked_for(built):
    text = (DOCS / "reference" / "modules.md").read_text(encoding="utf-8")
    asked = re.findall(r"^::: (moe_mheight[\w.]*)\n(?:    options: \{members: \[(.*)\]\})?", text, re.M)
    (page,) = (page for path, page in built.items() if path.match("reference/modules.html"))
    assert len(asked) > 30
    for module, members in asked:
        assert {module, *(f"{module}.{name}" for name in members.split(", ") if name)} <= page.names, module


def test_reference_has_every_command(site, built):
    from moe_mheight.cli.main import COMMANDS

    (path,) = (path for path in built if path.match("reference/commands.html"))
    text = path.read_text(encoding="utf-8")
    for name, line in COMMANDS.items():
        assert f'id="mheight-{name}"' in text
        assert f"Usage: mheight {name}" in text
        assert line.split()[0] in text


@pytest.mark.slow
def test_notebook(tmp_path):
    """Executed from top to bottom, it prints what is kept in it, up to digits."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    import nbformat

    kept = nbformat.read(DOCS / "notebook" / "first_steps.ipynb", as_version=4)
    fresh = nbformat.from_dict(json.loads(json.dumps(kept)))
    nbclient.NotebookClient(fresh, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    def shown(cell):
        outputs = cell.get("outputs", [])
        assert not [output for output in outputs if output.get("name") == "stderr"]
        return "".join(output.get("text", "") or output["data"].get("text/plain", "") for output in outputs)

    for old, new in zip(kept.cells, fresh.cells, strict=True):
        assert differs(shown(new) + "\n", shown(old) + "\n") is None, new.source
    assert any("image/png" in output.get("data", {}) for cell in fresh.cells for output in cell.get("outputs", []))
    assert (DOCS / "notebook" / "first_steps.ipynb").stat().st_size < 100_000
