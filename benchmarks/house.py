"""The wings of the package, measured from its source: what imports what, what is long, which words are left.

    python benchmarks/house.py [--root FOLDER]

Prints the counts as JSON. Without --root it also writes them to benchmarks/results/house.json and draws
docs/pictures/house.svg, the picture of docs/contributing.md. FOLDER is another checkout, to compare with;
benchmarks/results/house_before.json is that of the tree before there were wings.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs/pictures/house.svg"
RESULT = ROOT / "benchmarks/results/house.json"

LONG = 60
"""Lines from which on a function is long, its docstring not counted."""

GROUND = "ground"
"""The wing of modules that lie beside the wings."""

WORDS = {
    "token": "tokens?",
    "look": "looks?|looked|looking",
    "promise, climb, exchange": "promis(e|es|ed|ing)|climb(s|ed|ing)?|exchang(e|es|ed|ing)",
    "pruned, joint, transversal, claim": "pruned|joint|transversals?|claim(s|ed)?",
    "closing, leaps, beyond": "closing|leaps?|beyond",
    "asked, heard, voice, loudest": "asked|heard|voices?|loudest",
    "doubt, wonder": "doubt(s|ful)?|wonders?",
    "reading": "readings?",
    "hear, tell, enter, leave, place": "hear|tell|enter|leave|place",
    "workshop, settled, cut, unrolled, views": "workshop|settled|cut|unrolled|views",
    "spread": "spreads?",
    "seed": "seeds?",
    "field": "fields?",
    "some, most, least, own, apart, whole, others": "some|most|least|own|apart|whole|others|short",
}
"""The words that are to go, a row each. Some have good uses: seeds of random numbers, fields of algebra, dataclasses,
"the most" in prose. So no count has to become 0."""

PATTERNS = {row: re.compile(pattern) for row, pattern in WORDS.items()}


def sources(root: Path) -> dict[str, ast.Module]:
    """{"wing.room": its tree} of the package and the commands; a package goes by its own name."""
    found = {}
    for folder in (root / "moe_mheight", root / "cli"):
        for path in sorted(folder.rglob("*.py")):
            names = path.relative_to(root).with_suffix("").parts
            names = names[1:] if names[0] == "moe_mheight" else names
            name = ".".join(part for part in names if part != "__init__")
            if name not in ("", "__main__"):  # they import everything, and nothing imports them
                found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """{module: modules that it imports, inside functions too}."""
    packages = {name.rpartition(".")[0] for name in modules if "." in name}
    found: dict[str, set[str]] = {}
    for name, tree in modules.items():
        inside = name.split(".") if name in packages else name.rpartition(".")[0].split(".")
        found[name] = set()
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            home = node.module.split(".") if node.module else []
            if node.level == 0:
                if home[:1] != ["moe_mheight"]:
                    continue
                home = home[1:]
            elif name.startswith("cli"):
                home = ["cli", *home] if node.level == 1 else home  # it is moe_mheight.cli when it runs
            else:
                home = [*inside[: len(inside) - node.level + 1], *home]
            targets = {".".join([*home, alias.name]) for alias in node.names} | {".".join(home)}
            found[name] |= targets & set(modules) - {name}
    return found


def depths(graph: dict[str, set[str]]) -> dict[str, int]:
    """The level of each: 1 more than the highest that it imports. Raises CycleError."""
    found: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        found[name] = 1 + max((found[below] for below in graph[name]), default=0)
    return found


def wing_of(module: str) -> str:
    """ "exact" of "exact.heights"."""
    return module.partition(".")[0] if "." in module else GROUND


def wings_of(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """{wing: wings that it imports}."""
    rooms = {name: below for name, below in graph.items() if not any(n.startswith(f"{name}.") for n in graph)}
    found: dict[str, set[str]] = {wing_of(name): set() for name in rooms}
    for name, below in rooms.items():
        found[wing_of(name)] |= {wing_of(other) for other in below & set(rooms)} - {wing_of(name)}
    return found


def floors(wings: dict[str, set[str]]) -> int | None:
    """Levels of the wings, None where two import each other."""
    try:
        return max(depths(wings).values())
    except CycleError:
        return None


def functions(modules: dict[str, ast.Module]) -> list[dict[str, Any]]:
    """Each function's lines without the docstring, and its arguments without self."""
    found = []
    for name, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                first, given = node.body[0], node.args
                documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
                arguments = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
                found.append({
                    "name": f"{name}.{node.name}",
                    "lines": (node.end_lineno or 0) - node.lineno + 1 - docstring,
                    "arguments": len([one for one in arguments if one not in ("self", "cls")]),
                })  # fmt: skip
    return found


def identifiers(tree: ast.Module) -> Iterator[str]:
    """Every name that a module gives to a function, class, argument, variable or attribute, as often as it does."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def counted(words: Iterable[str]) -> dict[str, int]:
    """How many of the words are on the list, by its rows."""
    found = Counter(words)
    return {row: sum(n for word, n in found.items() if p.fullmatch(word)) for row, p in PATTERNS.items()}


def lowered(text: str) -> list[str]:
    """Words of prose, or the parts of an identifier in snake_case or CamelCase."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)]


def docstrings(tree: ast.Module) -> str:
    """Of a module and of all in it, attributes included."""
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    return "\n".join(text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str))


def pages(root: Path) -> str:
    """README and docs without code and tables."""
    paths = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    text = re.sub(r"^```.*?^```$|`[^`]*`|<!--.*?-->|\]\([^)]*\)", "", text, flags=re.S | re.M)
    return "\n".join(line for line in text.splitlines() if not line.startswith("|"))


def lines_of(paths: Iterable[Path]) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def measured(root: Path) -> dict[str, Any]:
    """All counts of a checkout, for JSON."""
    modules = sources(root)
    graph, found = imports(modules), functions(modules)
    wings = wings_of(graph)
    by_wing: dict[str, list[str]] = {}
    for name, tree in modules.items():
        by_wing.setdefault(wing_of(name) if name not in wings else name, []).extend(
            part for one in identifiers(tree) for part in lowered(one)
        )
    prose = {"docstrings": "\n".join(map(docstrings, modules.values())), "pages": pages(root)}
    largest = {wing: sum(wing_of(name) == wing for name in modules) for wing in wings}
    return {
        "modules": len(modules),
        "modules_in_the_largest_folder": max(largest.values()),
        "levels_of_modules": max(depths(graph).values()),
        "levels_of_wings": floors(wings),
        "wings": {wing: sorted(below) for wing, below in wings.items()},
        "functions_over_60_lines": sum(one["lines"] > LONG for one in found),
        "longest_functions": sorted(found, key=lambda one: (-one["lines"], one["name"]))[:10],
        "most_arguments": sorted(found, key=lambda one: (-one["arguments"], one["name"]))[:10],
        "lines": {
            "README": lines_of([root / "README.md"]),
            "package and commands": lines_of([*(root / "moe_mheight").rglob("*.py"), *(root / "cli").rglob("*.py")]),
            "tests": lines_of((root / "tests").rglob("*.py")),
            "docs": lines_of((root / "docs").rglob("*.md")),
        },
        "words_in_identifiers": {wing: counted(words) for wing, words in sorted(by_wing.items())},
        "words_in_identifiers_of_all": counted(word for words in by_wing.values() for word in words),
        "words_in_prose": {where: counted(lowered(text)) for where, text in prose.items()},
    }  # fmt: skip


def nearest(wings: dict[str, set[str]]) -> dict[str, set[str]]:
    """Imports without those that other imports imply."""

    def below(wing: str) -> set[str]:
        return wings[wing].union(*(below(other) for other in wings[wing]))

    return {wing: {one for one in under if not any(one in below(other) for other in under)}
            for wing, under in wings.items()}  # fmt: skip


def draw(root: Path) -> str:
    """An SVG of the wings as floors of a house, each with its rooms and the wings that it directly stands on."""
    modules = sources(root)
    wings = wings_of(imports(modules))
    levels, below = depths(wings), nearest(wings)
    parts, y, width = [], 8.0, 520
    for level in range(max(levels.values()), 0, -1):
        row = sorted(wing for wing in wings if levels[wing] == level)
        sizes = [450 + len(" ".join(text_of(wing, modules, width))) for wing in row]  # more text, more room
        widths = [size * (width - 8 - 8 * len(row)) / sum(sizes) for size in sizes]
        texts = [text_of(wing, modules, int((wide - 16) / 6.3)) for wing, wide in zip(row, widths, strict=True)]
        height = 28 + 16 * max(map(len, texts))
        for place, (wing, lines, wide) in enumerate(zip(row, texts, widths, strict=True)):
            x = 8 + sum(widths[:place]) + 8 * place
            under = f"on {', '.join(sorted(below[wing]))}" if below[wing] else ""
            parts += [
                f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{height}" rx="5"/>',
                f'<text class="wing" x="{x + 9:.0f}" y="{y + 19:.0f}">{wing}</text>',
                f'<text class="below" x="{x + wide - 9:.0f}" y="{y + 19:.0f}">{under}</text>',
                *(f'<text x="{x + 9:.0f}" y="{y + 36 + 16 * i:.0f}">{escape(s)}</text>' for i, s in enumerate(lines)),
            ]
        y += height + 6
    style = (
        "svg{background:#fff}rect{fill:#eef3f7;stroke:#0072b2}text{font:12px system-ui,sans-serif;fill:#16191d}"
        "text.wing{font-weight:bold;font-size:14px}text.below{fill:#a04000;text-anchor:end}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 2:.0f}" role="img">'
    title = "<title>The wings of the package, floor by floor</title>"
    return "\n".join([head, title, f"<style>{style}</style>", *parts, "</svg>", ""])


def text_of(wing: str, modules: dict[str, ast.Module], width: int) -> list[str]:
    """What a wing is for, the first line of its docstring, and its rooms, in lines of no more characters than width."""
    docstring = ast.get_docstring(modules[wing]) if wing in modules else "Modules that all wings need."
    about = (docstring or "").split("\n", 1)[0].replace("`", "")
    packages = {name.partition(".")[0] for name in modules if "." in name}
    rooms = [name.rpartition(".")[2] for name in modules if wing_of(name) == wing and name not in packages]
    return [line for text in (about, ", ".join(sorted(rooms))) for line in textwrap.wrap(text, width)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="another checkout, to compare with")
    given = parser.parse_args()
    found = json.dumps(measured(given.root or ROOT), indent=1) + "\n"
    print(found, end="")
    if given.root is None:
        RESULT.write_text(found, encoding="utf-8")
        PICTURE.write_text(draw(ROOT), encoding="utf-8")


if __name__ == "__main__":
    main()
