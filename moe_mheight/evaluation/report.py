"""An evaluation as a page: one HTML file that needs no network, its pictures as PNG and SVG, its figures as JSON.

The page is templates/report.html, filled by Jinja; matplotlib draws (see `charts`). Both come with the extra `plot`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from datetime import datetime, timezone
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from .._io import PART, as_json, locked, make_folder, restore, swap, write_file
from ..codes.minors import smallest_minors
from ..data.code_files import refuse_existing
from ..errors import DataError, ModelError
from ..exact.heights import m_height
from ..experts.provenance import provenance
from ..figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, VERMILLION, content, drawing, matplotlib_itself
from ..groups import in_words, tier_of
from . import figures as gallery
from .long_codes import LongReport
from .scoring import HARDEST, Report

FORMAT = "moe_mheight report 2"

KEEP = 1000
"""Codes of each group that a report looks at one by one; give it to `scoring.evaluate`."""

COMPARED = (
    "run 1, the network this project grew from",
    "peer (MLPs on invariants)",
    "best credible peer (another system)",
)
"""What the page calls the macro figures of others, in the order of the evaluation's."""

DEEPEST = 1e-12
"""The least entry of a codeword, over its largest, that its picture reaches down to."""

INKS = {
    "#000000": "ink", str(STYLE["grid.color"]): "grid", GREY: "grey", BLUE: "blue", VERMILLION: "vermillion",
    GREEN: "green", PURPLE: "purple", ORANGE: "orange", "#ffffff": "paper",
}  # fmt: skip
"""Colours of pictures and the page's variables that stand in for them."""


def check_extras() -> None:
    """Tell what is missing before anything is computed.

    Raises:
        ModelError: matplotlib or Jinja is not there.
    """
    matplotlib_itself()
    _template()


def write_report(
    folder: str | Path,
    predictor: Any,
    report: Report,
    *,
    long: LongReport | None = None,
    about: dict[str, str] | None = None,
    verdicts: Iterable[Any] = (),
    force: bool = False,
    threads: int | None = None,
) -> list[Path]:
    """Write report.html, report.json and the pictures into a folder, which is made where it is missing.

    All is drawn and written aside before anything is replaced, and the page comes last: where it is, it is whole.

    Args:
        folder: where to.
        predictor: the one that was evaluated, of the bracket view or of the raw one.
        report: from `scoring.evaluate(..., keep=KEEP)`.
        long: from `long_codes.evaluate`, where long codes are to be shown too.
        about: lines for the page's head, such as {"data": "rows.pkl", "models": "mine"}.
        verdicts: from `criteria.judge`.
        force: replace a report that is there.
        threads: default all cores.

    Returns:
        The files, the page first.

    Raises:
        DataError: the evaluation kept no codes, or a file of a report is there (and not force).
        FolderError: the folder or a file cannot be written, or another process writes there. ModelError: the extra is
            missing.
    """
    template = _template()
    if not report.kept:
        raise DataError(f"a report needs single codes: evaluate(..., keep={KEEP})")
    folder = Path(folder)
    refuse_existing(taken(folder), force)
    bracketed = hasattr(predictor, "predict_interval")
    worst = _worst(report, threads)
    covered = gallery.coverage(predictor, report) if bracketed else None
    routed = gallery.routes(predictor, report) if bracketed else {}
    evaluation = report.as_dict() | ({} if long is None else {"long": long.as_dict()})
    facts = {
        "format": FORMAT, "made": datetime.now(timezone.utc).isoformat(timespec="seconds"), "provenance": provenance(),
        "about": dict(about or {}), "evaluation": evaluation,
        "criteria": [verdict.as_dict() for verdict in verdicts],
        "calibration": covered,
        "router": _cells(routed, list),
        "router_left_out": _cells(routed, str),
        "worst": worst,
    }  # fmt: skip
    shown: list[tuple[gallery.Picture, str]] = []
    files: dict[str, bytes] = {}
    for picture in gallery.pictures(predictor, report, covered, routed, threads, long):
        with drawing(gallery.WIDTH, picture.height, picture.name) as figure:
            picture.draw(figure)
            made = {form: content(figure, form) for form in ("svg", "png")}
        files |= {f"{picture.name}.{form}": inside for form, inside in made.items()}
        shown.append((picture, inline(made["svg"].decode(), picture.title)))
    figures = as_json(facts, indent=1)
    files["report.json"] = (figures + "\n").encode()
    page = template.render(
        facts=facts, report=report, long=long, pictures=shown, worst=worst, bracketed=bracketed, drawn=gallery.DRAWN,
        references=gallery.references(report), json=figures.replace("<", "\\u003c"),
        rows=sum(score.codes for score in report.scores), bars=_bars,
        others=gallery.OTHERS, tiers=in_words(),
        compared=dict(zip(COMPARED, evaluation["reference"].values(), strict=True)),
    )  # fmt: skip
    files["report.html"] = page.encode(errors="backslashreplace")  # a file's name need not be text
    _put(folder, files, force)
    return [folder / name for name in reversed(files)]


def _bars(word: list[float], largest: list[int]) -> dict[str, Any]:
    """A codeword, largest entry 1, as bars on a logarithmic axis.

    The box has 12 units a coordinate, and 1 lies 36 units above its floor. `decades` are the lines at powers of ten.
    `bars` are of kind "top", "large" for the others of the largest, or "small"; an entry below the floor has no bar.
    """
    sizes = np.abs(word)
    tiny = sizes[sizes > DEEPEST].min()
    depth = max(1, int(np.ceil(-np.log10(tiny) - 1e-9)))
    heights = np.where(sizes > 0.0, 36.0 * (1.0 + np.log10(np.maximum(sizes, 1e-300)) / depth), 0.0)
    step = -(-depth // 4)
    return {
        "decades": [{"y": 2 + 36.0 * e / depth, "exponent": -e} for e in range(0, depth + 1, step)],
        "bars": [
            {"x": 12 * j + 1, "y": 38.0 - height, "height": height, "negative": value < 0.0,
             "kind": "top" if j == largest[0] else "large" if j in largest else "small"}
            for j, (value, height) in enumerate(zip(word, np.maximum(heights, 0.0).tolist(), strict=True))
        ],
    }  # fmt: skip


def _cells(routed: dict[int, dict[tuple[int, int], Any]], kind: type) -> dict[str, dict[str, Any]]:
    """What `gallery.routes` found, or what is said where it found nothing, by n and "k,m"."""
    return {
        str(n): {f"{k},{m}": value for (k, m), value in cells.items() if isinstance(value, kind)}
        for n, cells in routed.items()
    }


def taken(folder: Path) -> list[Path]:
    """Files in a folder that have names of a report's."""
    names = re.compile(rf"report\.(html|json)|({'|'.join(gallery.NAMES)})\.(png|svg)")
    return sorted(path for path in folder.iterdir() if names.fullmatch(path.name)) if folder.is_dir() else []


def _put(folder: Path, files: dict[str, bytes], force: bool) -> None:
    """Write all files aside, then have them take the place of those of an older report, the last one last."""
    make_folder(folder)
    with locked(folder):
        restore(folder)
        before = taken(folder)
        refuse_existing(before, force)
        aside = folder / f"report{PART}"
        try:
            shutil.rmtree(aside, ignore_errors=True)  # of a killed process
            make_folder(aside)
            for name, inside in files.items():
                write_file(aside / name, inside)
            stale = [(None, path) for path in before if path.name not in files]
            swap([*stale, *((aside / name, folder / name) for name in files)])
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _template() -> Any:
    try:
        import jinja2  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ModelError("reports need Jinja: pip install 'moe-mheight[plot]'") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"tiny": _tiny, "height": _height, "gain": _gain, "share": _share}
    return environment.get_template("report.html")


def _tiny(value: float | None) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.1e}" if value and not 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def _gain(value: float) -> str:
    return "–" if value != value else "> 100,000" if value > 1e5 else f"{value:,.1f}"


def _share(value: float) -> str:
    return "–" if value != value else f"{100.0 * value:.1f} %"


def _height(value: float) -> str:
    return f"{value:.8g}"


def inline(svg: str, title: str) -> str:
    """An SVG file for the inside of a page: no prolog, no size of its own, no names that nothing refers to, and the
    page's colours."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = svg.replace("*{stroke", ".chart *{stroke")
    used = set(re.findall(r"#([\w.-]+)[\")]", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    svg = re.sub(r"<svg[^>]*>", "", svg, count=1)
    for colour, name in INKS.items():
        svg = re.sub(colour, f"var(--{name})", svg, flags=re.I)
    head = f'<svg class="chart" role="img" {box[0] if box else ""} xmlns="http://www.w3.org/2000/svg" '
    return head + f'xmlns:xlink="http://www.w3.org/1999/xlink"><title>{title}</title>{svg}'


def _worst(report: Report, threads: int | None) -> list[dict[str, Any]]:
    """The codes of the largest errors of all groups, each with the codeword that decides its height."""
    hard = [(abs(error), group, sample, i) for group, (_, sample, _) in report.kept.items()
            for i, error in enumerate(sample.error) if error == error]  # fmt: skip
    out = []
    for _, group, sample, i in sorted(hard, key=lambda one: -one[0])[:HARDEST]:
        (n, k, m), P = group, sample.P[i]
        found = m_height(P, m, matrix="P", details=True, threads=threads)
        ratios, columns = smallest_minors(P[None])
        word = found.witness / np.abs(found.witness).max()
        measured = sample.measured[i]
        lower, upper, predicted = map(float, (measured.tightest_lower, measured.tightest_upper, measured.height))
        width = inf if upper == inf else float(np.log2(upper) - np.log2(lower))
        out.append({
            "n": n, "k": k, "m": m, "tier": tier_of(n, k, m), "row": int(sample.rows[i]),
            "true": float(sample.true[i]), "label": float(sample.h[i]), "predicted": predicted,
            "error_bits": float(sample.error[i]), "lower": lower, "upper": upper,
            "width_bits": width,
            "spread_bits": None if np.isnan(measured.std_bits) else float(measured.std_bits),
            "wrong_label": not np.isclose(sample.h[i], sample.true[i], rtol=1e-6, atol=0),
            "smallest_minor": float(ratios[0]), "its_columns": columns[0].tolist(),
            "witness": word.tolist(), "a": int(found.outside[0]), "outside": [int(j) for j in found.outside],
            "largest": [int(j) for j in np.argsort(-np.abs(word), kind="stable")[: m + 1]],
            "P": [[int(x) if x == int(x) else float(x) for x in row] for row in P],
        })  # fmt: skip
    return out
