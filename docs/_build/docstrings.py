"""The house's docstrings as Markdown, word for word: for mkdocstrings, which would read only some of the sections."""

from __future__ import annotations

import re
from typing import Any

from griffe import Docstring, Extension, Object

SECTION = re.compile(r"(Args|Attributes|Example|Raises|Returns|Shapes?|Source|Sources|Yields):(?: (.*))?")
LISTS = {"Args", "Attributes", "Raises", "Yields"}
ITEM = re.compile(r"([\w*]+(?:, [\w*]+| or [\w*]+)*): (.*)")


def plain(text: str) -> str:
    """Markdown that shows the text as it is, but for code in backticks."""
    parts = re.split(r"(`[^`\n]*`)", text)
    parts[::2] = [re.sub(r"([\\*_\[\]])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "".join(parts)


def paragraphs(lines: list[str]) -> str:
    """Paragraphs, and indented lines as code."""
    out: list[str] = []
    code = False
    for line in lines:
        indented = line.startswith("    ")
        if indented != code and line.strip():
            out.append("```text" if indented else "```")
            if not code:
                out.insert(-1, "")
            code = indented
        out.append(line[4:] if indented else line if code else plain(line))
    return "\n".join([*out, *(["```"] if code else [])])


def items(lines: list[str]) -> str:
    """A list: an item begins at the margin, its other lines are indented."""
    out: list[str] = []
    for line in lines:
        if line[:1].strip():
            found = ITEM.fullmatch(line)
            out.append(f"* `{found[1]}`: {plain(found[2])}" if found else f"* {plain(line)}")
        else:
            out.append("  " + plain(line.strip()) if line.strip() else "")
    return "\n".join(out)


def dedent(lines: list[str]) -> list[str]:
    return [line[4:] if line.startswith("    ") else line for line in lines]


def examples(lines: list[str]) -> str:
    """A console's lines, each with what it prints."""
    return "```pycon\n" + "\n".join(lines).strip("\n") + "\n```"


def as_markdown(text: str) -> str:
    """A docstring of the house."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    for line in text.splitlines():
        found = SECTION.fullmatch(line)
        if found:
            sections.append((found[1], ["    " + found[2]] if found[2] else []))
        elif sections[-1][0] and line.strip() and not line.startswith("    "):
            if sections[-1][0].startswith("S"):  # a source goes on over several lines at the margin
                sections[-1][1].append("    " + line)
            else:
                sections.append(("", [line]))
        else:
            sections[-1][1].append(line)
    parts = []
    for name, lines in sections:
        if not name:
            parts.append(paragraphs(lines))
            continue
        body = dedent(lines)
        shown = examples(body) if name == "Example" else items(body) if name in LISTS else paragraphs(body)
        parts.append(f"**{name}**\n\n{shown}")
    return "\n\n".join(parts) + "\n"


class House(Extension):
    """Every docstring, once it is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None and not obj.is_alias:
            obj.docstring = Docstring(as_markdown(obj.docstring.value), parent=obj, lineno=obj.docstring.lineno)
