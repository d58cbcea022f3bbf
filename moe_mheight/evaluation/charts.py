"""The pictures of a report: each a function that draws one figure from plain arrays, readable at 340 pixels.

Colours come from `figures.style` only, so that a page can exchange them for a dark background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from ..figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, Floats, logarithmic, matplotlib_itself, plain
from ..groups import TIERS

Group = tuple[int, int, int]

TIER_LOOK = dict(zip(TIERS, cycle([(BLUE, "o"), (VERMILLION, "^"), (GREEN, "s"), (PURPLE, "D")]), strict=False))
"""Colour and marker of a tier: either alone tells them apart."""

SMALLEST = 1e-17
"""Errors below this, in bits, are drawn here: float64 hardly tells them from 0."""


def group_errors(
    figure: Any, names: Sequence[str], columns: Mapping[str, Sequence[float]], routed: Sequence[int]
) -> None:
    """log2-MSE of each group, a row each, on a log axis: one marker for each of the columns, which may hold nan; at the
    right, how many of the group's codes the router sent to experts."""
    axis = figure.add_subplot()
    looks = [(BLUE, "o", BLUE), (PURPLE, "v", "none"), (VERMILLION, "s", "none"), (ORANGE, "D", "none"),
             (GREEN, "P", "none")]  # fmt: skip
    places = np.arange(len(names))
    drawn = []
    for (label, values), (colour, marker, face) in zip(columns.items(), looks, strict=False):
        at = np.maximum(np.array(values, float), SMALLEST**2)
        axis.plot(at, places, ls="", marker=marker, ms=6.5, mec=colour, mfc=face, mew=1.4, label=label, clip_on=False)
        drawn.append(at[np.isfinite(at)])
    everything = np.concatenate(drawn)
    if len(everything):
        logarithmic(axis.xaxis, (everything.min(), everything.max()))
        axis.xaxis.set_major_locator(_decades(axis.get_xlim()))
    axis.set_yticks(places, names)
    axis.set(ylim=(len(names) - 0.4, -0.6), xlabel="log2-MSE, bits²")
    axis.tick_params(axis="y", length=0)
    beside = {"textcoords": "offset points", "fontsize": 8.5, "color": GREY, "annotation_clip": False}
    axis.annotate("routed", (1.0, 1.0), (4, 5), "axes fraction", **beside)
    for place, count in zip(places, routed, strict=True):
        axis.annotate(f"{count:,}", (1.0, place), (4, 0), axis.get_yaxis_transform(), va="center", **beside)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, handletextpad=0.3, columnspacing=1.0)


def predicted(figure: Any, log2_h: Floats, low: Floats, high: Floats, said: Floats) -> None:
    """How far predictions and the ends of their brackets are off the true heights, in bits, on an axis that is
    logarithmic either way from 0.

    All (B,), in bits; infinite heights left out by the caller. A bracket without an upper end reaches to the edge.
    """
    order = np.argsort(log2_h)
    truth, low, high, said = (values[order] for values in (log2_h, low, high, said))
    ends = np.concatenate([low - truth, high - truth, said - truth])
    smallest = 1e-12
    reach = max(float(np.abs(ends[np.isfinite(ends)]).max(initial=0.0)), 10 * smallest)
    top = int(np.ceil(np.log10(reach)))
    high = np.minimum(high, truth + 2 * 10.0**top)
    axis = figure.add_subplot()
    axis.vlines(truth, low - truth, high - truth, color=BLUE, alpha=0.35, lw=1.6, label="certified bracket")
    axis.axhline(0.0, color=GREY, lw=0.8, label="exact")
    axis.plot(truth, said - truth, ls="", marker="o", ms=3.2, mfc="none", mec=VERMILLION, mew=0.8, label="predicted")
    axis.set_yscale("symlog", linthresh=smallest, linscale=0.4)
    marks = [10.0**e for e in range(top, -10, -4)]
    ticks = [-mark for mark in marks] + [0.0] + marks[::-1]
    axis.set_yticks(ticks, [("−" if tick < 0 else "") + plain(abs(tick)) for tick in ticks])
    axis.minorticks_off()
    axis.set(ylim=(-(10.0**top) * 2, 10.0**top * 2), xlabel="log2 h, exact", ylabel="off, bits")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, handletextpad=0.4, columnspacing=1.0)


def calibration(
    figure: Any,
    nominal: Sequence[float],
    observed: Mapping[str, Sequence[float]],
    codes: Mapping[str, int],
    observed_asked: Mapping[str, Sequence[float]],
    codes_asked: Mapping[str, int],
) -> None:
    """By how many percent points the share of heights inside their interval differs from the nominal coverage, a line
    for each tier, dashed for codes that the router sent to experts; grey where 95 % of right lines are."""
    axis = figure.add_subplot()
    at = np.linspace(0.0, 1.0, 101)
    lines = [("all", "-", observed, codes), ("routed", "--", observed_asked, codes_asked)]
    fewest = min([count[tier] for _, _, shares, count in lines for tier in shares], default=1)
    chance = 196.0 * np.sqrt(at * (1.0 - at) / fewest)
    axis.fill_between(at, -chance, chance, color=GREY, alpha=0.25, lw=0)
    axis.axhline(0.0, color=GREY, lw=0.8)
    for name, dashes, shares, count in lines:
        for tier, found in shares.items():
            colour, marker = TIER_LOOK[tier]
            look = {"color": colour, "marker": marker, "ls": dashes, "ms": 4.5, "lw": 1.2}
            axis.plot(nominal, 100.0 * (np.array(found) - nominal), label=f"{tier}, {name} {count[tier]:,}", **look)
    axis.set(xlim=(0, 1.01), xlabel="nominal coverage", ylabel="coverage found − nominal, percent points")
    if observed:
        figure.legend(loc="outside upper left", ncols=2, frameon=False, handletextpad=0.4, columnspacing=1.0)


def reliability(
    figure: Any, names: Sequence[str], certainty: Sequence[float], found: Sequence[float], codes: Sequence[int]
) -> None:
    """How often codes of like certainty were found: for each bin of certainty, by name, the share of its codes whose
    lower bound is the height, beside the share that the certainty said, with the 95 % that chance leaves it; above, how
    many codes the bin holds."""
    axis = figure.add_subplot()
    said, places = np.array(certainty), np.arange(len(names))
    chance = 1.96 * np.sqrt(said * (1.0 - said) / np.maximum(codes, 1))
    axis.bar(places, 2.0 * chance, 0.62, said - chance, color=GREY, alpha=0.25, label="chance")
    axis.hlines(said, places - 0.31, places + 0.31, color=GREY, lw=1.6, label="said")
    axis.plot(places, found, ls="", marker="o", ms=6, color=BLUE, label="found", clip_on=False)
    above = {"textcoords": "offset points", "fontsize": 8.5, "color": GREY, "annotation_clip": False, "ha": "center"}
    for place, count in zip(places, codes, strict=True):
        axis.annotate(f"{count:,}", (place, 1.0), (0, 5), axis.get_xaxis_transform(), **above)
    axis.set_xticks(places, names)
    axis.set(ylim=(-0.03, 1.03), xlabel="certainty, %", ylabel="share found")
    axis.tick_params(axis="x", length=0)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, handletextpad=0.4, columnspacing=1.0)


def routing(figure: Any, n: int, weights: Mapping[tuple[int, int], Sequence[float]], marked: set[Group]) -> None:
    """Weights over the tiers for every (k, m) of one n, as a split cell each; the groups of the data are framed."""
    patches = matplotlib_itself().patches
    axis = figure.add_subplot()
    for (k, m), shares in weights.items():
        left = k - 0.46
        for tier, share in zip(TIERS, shares, strict=True):
            if share > 0.0:
                colour, _ = TIER_LOOK[tier]
                axis.add_patch(
                    patches.Rectangle((left, m - 0.46), 0.92 * share, 0.92, fc=colour, ec="none", alpha=0.75)
                )
                left += 0.92 * share
        top = TIERS[int(np.argmax(shares))]
        sure = max(shares) > 0.995
        text = top[0].upper() if sure else f"{top[0].upper()}\n{max(shares):.2f}"
        axis.text(k, m, text, ha="center", va="center", fontsize=8 if sure else 6.5, linespacing=0.9)
        if (n, k, m) in marked:
            axis.add_patch(patches.Rectangle((k - 0.48, m - 0.48), 0.96, 0.96, fc="none", ec="black", lw=1.6))
    axis.set(xlim=(0.4, n - 0.4), ylim=(0.4, n - 0.4), xlabel="k", ylabel="m", aspect="equal")
    step = 1 if n <= 12 else 2
    axis.set_xticks(range(1, n, step))
    axis.set_yticks(range(1, n, step))
    axis.grid(visible=False)
    keys = [patches.Patch(fc=TIER_LOOK[t][0], alpha=0.75, label=f"{t[0].upper()}: {t}") for t in TIERS]
    axis.legend(handles=keys, frameon=False, loc="upper right", title=f"n = {n}")


def against(figure: Any, points: Mapping[str, tuple[Floats, Floats]], x: str) -> None:
    """|error| against something, both logarithmic: a point for each code by tier, a line through the bins' medians.

    points: tier -> (something, |error| in bits), (B,) each; what is not finite is left out.
    """
    axis = figure.add_subplot()
    seen = []
    for tier, (across, error) in points.items():
        finite = np.isfinite(across) & np.isfinite(error)
        at, up = np.maximum(across[finite], SMALLEST), np.maximum(error[finite], SMALLEST)
        if not len(at):
            continue
        colour, marker = TIER_LOOK[tier]
        label = f"{tier}, {len(at):,} codes"
        axis.plot(at, up, ls="", marker=marker, ms=3.0, mfc="none", mec=colour, mew=0.6, alpha=0.55, label=label)
        seen.append((colour, at, up))
    for colour, at, up in seen:
        order = np.argsort(at)
        bins = np.array_split(order, max(1, min(8, len(order) // 12)))
        middle = [(np.median(at[b]), np.median(up[b])) for b in bins]
        axis.plot(*zip(*middle, strict=True), color=colour, lw=2.0)
    if seen:
        for side, part in ((axis.xaxis, 1), (axis.yaxis, 2)):
            values = np.concatenate([line[part] for line in seen])
            logarithmic(side, (values.min(), values.max()))
        axis.yaxis.set_major_locator(_decades(axis.get_ylim()))
        axis.xaxis.set_major_locator(_decades(axis.get_xlim()))
        figure.legend(
            loc="outside upper left", ncols=2, frameon=False, handletextpad=0.3, columnspacing=1.0, markerscale=1.8
        )
    axis.set(xlabel=x, ylabel="|error|, bits")


def timings(figure: Any, names: Sequence[str], columns: Mapping[str, Sequence[float]]) -> None:
    """Microseconds a code, a row for each group, on a log axis."""
    axis = figure.add_subplot()
    places = np.arange(len(names))
    for (label, values), (colour, marker) in zip(columns.items(), ((BLUE, "o"), (VERMILLION, "s")), strict=False):
        axis.plot(values, places, ls="", marker=marker, ms=6, color=colour, label=label)
    logarithmic(axis.xaxis)
    axis.set_yticks(places, names)
    axis.set(ylim=(len(names) - 0.4, -0.6), xlabel="microseconds a code")
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, handletextpad=0.3)


def _decades(limits: tuple[float, float]) -> Any:
    """Ticks at no more than seven powers of ten."""
    ticker = matplotlib_itself().ticker
    low, high = np.log10(limits)
    step = max(1, int(np.ceil((high - low) / 6.5)))
    return ticker.FixedLocator([10.0**e for e in range(int(np.ceil(low / step)) * step, int(high) + 1, step)])
