"""What the pictures of `plots` share: a PNG written whole or not at all, axes in plain numbers, labels without overlap.

matplotlib is an extra: it is imported when a picture is drawn, and its global state is left as it was.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._io import write_file
from ..errors import ModelError

DPI = 120

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Colours that the colour-blind tell apart; without its yellow, which paper swallows."""

BLUE, VERMILLION, GREEN, PURPLE, _, ORANGE, _ = OKABE_ITO
GREY = "#6B6B6B"

STYLE = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left", "xtick.labelsize": 8, "ytick.labelsize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.fontsize": 8,
}  # fmt: skip

Floats = NDArray[np.float64]

Label = tuple[float, float, str, str]
"""Where a line ends (x, y), what stands there, and its colour."""


def matplotlib_itself() -> Any:
    """The package, with the parts that pictures use.

    Raises:
        ModelError: it is missing.
    """
    try:
        import matplotlib  # noqa: PLC0415  an extra
        from matplotlib import colors, figure, patches, style, ticker  # noqa: F401, PLC0415
    except ImportError as error:
        raise ModelError("plots need matplotlib: pip install 'moe-mheight[plot]'") from error
    return matplotlib


@contextmanager
def drawing(width: float, height: float, salt: str = "") -> Iterator[Any]:
    """An empty Figure, width by height in inches, to draw on and to take `content` of inside the block.

    salt: what names inside an SVG are made of, for several of them on one page.
    """
    mpl = matplotlib_itself()
    with mpl.style.context(["default", STYLE, {"svg.fonttype": "none", "svg.hashsalt": salt}]):
        yield mpl.figure.Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def content(figure: Any, form: str) -> bytes:
    """The figure as a file, "png" or "svg"; the same bytes from the same figure."""
    written = io.BytesIO()
    figure.savefig(written, format=form, dpi=DPI, metadata={"Date": None} if form == "svg" else None)
    return written.getvalue()


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """An empty Figure, width by height in inches, that becomes the PNG when the block ends without an error."""
    with drawing(width, height) as figure:
        yield figure
        made = content(figure, "png")
    write_file(path, made)


def logarithmic(axis: Any, limits: tuple[float, float] | None = None) -> None:
    """Make an XAxis or YAxis logarithmic, with plain numbers at a handful of ticks.

    It reaches a little further than `limits`, by default what is drawn so far; without anything drawn it stays linear.
    """
    ticker = matplotlib_itself().ticker
    drawn = axis.axes.dataLim
    low, high = limits or (drawn.intervalx if axis.axis_name == "x" else drawn.intervaly)
    if not 0.0 < low <= high < np.inf:
        return
    margin = np.exp(max(0.05 * np.log(high / low), 0.1))
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (low / margin, high * margin)})
    decades = np.log10(high / low)
    if decades < 0.3:
        axis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_minor_locator(ticker.NullLocator())
    else:
        dense = {1.0: (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), 1.6: (1.0, 2.0, 5.0), 2.6: (1.0, 3.0), np.inf: (1.0,)}
        axis.set_major_locator(ticker.LogLocator(subs=next(dense[limit] for limit in dense if decades < limit)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_formatter(ticker.NullFormatter())


def plain(value: float) -> str:
    """A tick's number: 0.02, 5, 200,000, and a power of ten where that has too many zeros."""
    if value > 0 and not 9.9e-4 < value < 5e6:
        exponent = int(np.floor(np.log10(value) + 1e-9))
        factor = value / 10.0**exponent
        power = "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return power if abs(factor - 1.0) < 1e-6 else f"{factor:.3g}·{power}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def spaced(wanted: Floats, gap: float, high: float) -> Floats:
    """Places in [0, high] nearest to the wanted ascending ones (N,) that are at least `gap` from each other.

    Least squares under an order: pool adjacent violators. Where there is no room for all, they leave [0, high].
    """
    pools: list[list[float]] = []
    steps = gap * np.arange(len(wanted))
    for value in wanted - steps:
        pools.append([value, 1.0])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            value_2, count_2 = pools.pop()
            value_1, count_1 = pools.pop()
            count = count_1 + count_2
            pools.append([(value_1 * count_1 + value_2 * count_2) / count, count])
    levels = np.repeat([value for value, _ in pools], [int(count) for _, count in pools])
    placed: Floats = np.clip(levels, 0.0, max(high - gap * (len(wanted) - 1), 0.0)) + steps
    return placed


def label_ends(figure: Any, axes: list[tuple[Any, list[Label]]]) -> None:
    """Write each line's name right of its axes, at its end's height or as near as the other names allow.

    The last thing done to a figure: it needs the final layout.
    """
    written = []
    for axis, labels in axes:
        ordered = sorted(labels, key=lambda label: label[1])
        for x, y, text, colour in ordered:
            line = {
                "arrowstyle": "-", "lw": 0.8, "ls": ":", "color": colour, "relpos": (0, 0.5), "shrinkA": 1,
                "shrinkB": 3,
            }  # fmt: skip
            written.append(
                axis.annotate(
                    text, (x, y), (1.04, 0.5), "data", axis.transAxes, arrowprops=line, annotation_clip=False,
                    color=colour, fontsize=8.5, va="center", linespacing=1.0, parse_math=False,
                )
            )  # fmt: skip
    figure.draw_without_rendering()
    at = iter(written)
    for axis, labels in filter(lambda pair: pair[1], axes):
        points = axis.get_window_extent().height * 72.0 / figure.dpi
        ends = axis.transAxes.inverted().transform(axis.transData.transform([label[:2] for label in labels]))
        gap = 10.5 * max(1 + label[2].count("\n") for label in labels) / points
        for height in spaced(np.sort(ends[:, 1]), gap, 1.0):
            next(at).set_position((1.04, height))
