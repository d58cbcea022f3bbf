"""What the pages need beyond Markdown: formulas as MathML, files beside docs/, help of every command, the notebook.

mkdocs calls the functions that begin with on_. Pages stay readable on a forge: a formula is $`x`$ or a fence of math,
and a place to be filled is a comment.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent.parent

WIDTH = 78
"""Of help texts, in characters."""

MATHML = "{http://www.w3.org/1998/Math/MathML}"
ElementTree.register_namespace("", MATHML[1:-1])


def mathml(latex: str, display: str) -> str:
    """A formula that browsers draw without a script."""
    formula = ElementTree.fromstring(convert(latex.strip(), display=display))
    for part in formula.iter(f"{MATHML}msub") if display == "block" else ():
        if part[0].tag == f"{MATHML}mo" and part[0].text in ("max", "min"):  # what is below goes below
            part.tag = f"{MATHML}munder"
            part[0].set("movablelimits", "false")
    return ElementTree.tostring(formula, encoding="unicode")


def block(source: str, *_: Any, **__: Any) -> str:
    """A fence of math."""
    return f'<div class="math">{mathml(source, "block")}</div>'


class _Inline(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Any, int, int]:  # type: ignore[override]
        return self.md.htmlStash.store(mathml(m.group(1), "inline")), m.start(0), m.end(0)


class Formulas(Extension):
    """$`x`$ inside a line, as forges have it."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.inlinePatterns.register(_Inline(r"\$`([^`]+)`\$", md), "formula", 195)  # before code


def on_config(config: Any) -> Any:
    """Formulas, inline and as blocks."""
    config.markdown_extensions.append(Formulas())
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "math", "format": block})
    return config


OUTSIDE = re.compile(r"\]\((?:\.\./)+(benchmarks/[^)#]+|CITATION\.cff|README\.md|CHANGELOG\.md|LICENSE)\)")


def on_files(files: Any, config: Any) -> Any:
    """Files that pages link to and that lie beside docs/ in the repository."""
    for name in {m for path in Path(config.docs_dir).rglob("*.md") for m in OUTSIDE.findall(path.read_text(encoding="utf-8"))}:
        files.append(File.generated(config, f"outside/{name.removesuffix('.md')}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/, and what is filled in."""
    up = "../" * page.file.src_uri.count("/")
    markdown = OUTSIDE.sub(lambda m: f"]({up}outside/{m.group(1).removesuffix('.md')})", markdown)
    markdown = re.sub(r"^<!-- not run: .* -->\n", "", markdown, flags=re.M)
    if "<!-- help of every command -->" in markdown:
        markdown = markdown.replace("<!-- help of every command -->", helps())
    if "<!-- the notebook -->" in markdown:
        notebook = json.loads((ROOT / "docs" / "notebook" / "first_steps.ipynb").read_text(encoding="utf-8"))
        markdown = markdown.replace("<!-- the notebook -->", cells(notebook))
    return markdown


def helps() -> str:
    """The --help of the group and of each command, as printed."""
    from moe_mheight.cli.main import COMMANDS, mheight  # noqa: PLC0415  only this page needs it

    top = click.Context(mheight, info_name="mheight", terminal_width=WIDTH)
    parts = [f"## mheight\n\n```text\n{mheight.get_help(top)}\n```\n"]
    for name in COMMANDS:
        command = mheight.get_command(top, name)
        below = click.Context(command, info_name=name, parent=top, terminal_width=WIDTH)
        parts.append(f"## mheight {name}\n\n```text\n{command.get_help(below)}\n```\n")
    return "\n".join(parts)


def cells(notebook: dict[str, Any]) -> str:
    """A notebook's cells and what they showed, as Markdown."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"^# .*\n", "", text))
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell["outputs"]:
            shown = output.get("data", {})
            if "image/png" in shown:
                image = "".join(shown["image/png"]).replace("\n", "")
                parts.append(f'<img alt="what the cell draws" src="data:image/png;base64,{image}">')
            elif "text/html" in shown:
                parts.append(f'<div class="output">{"".join(shown["text/html"])}</div>')
            else:
                text = "".join(output.get("text", shown.get("text/plain", "")))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts)
