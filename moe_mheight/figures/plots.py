"""Pictures of trainings, predictions, ablations and curves: PNG files, drawn with matplotlib, which is an extra."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..groups import TIERS, group_name, parse_group, tier_of
from .style import (
    BLUE,
    GREEN,
    GREY,
    OKABE_ITO,
    ORANGE,
    PURPLE,
    VERMILLION,
    Floats,
    Label,
    label_ends,
    logarithmic,
    matplotlib_itself,
    picture,
    spaced,
)

DASHES: list[Any] = ["-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5))]
LOOK = dict(zip(TIERS, cycle(zip((BLUE, VERMILLION, GREEN), DASHES, strict=True)), strict=False)) | {"": (GREY, ":")}
"""Colour and dashes of a tier: either alone tells them apart."""

MARKERS = "os^Dv<>"


def training_history(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw how a training went: macro error, ratio and rate on the left, validation of each group on the right.

    Thin lines are members, bold ones the median of the members that got so far, as long as half of them did.

    Args:
        records: one for each member and epoch, with "seed" (the member's), "epoch", "phase", "rate" and "ratio", and
            "train" and "validation", each with "macro" and "groups" (log2-MSE in bits squared). What is missing, null
            or not above 0 is left out.
        path: the PNG to write.

    Raises:
        DataError: there are no records, or `path` cannot be written.
        ModelError: matplotlib is missing.
    """
    if not records:
        raise DataError("records must hold at least one epoch; it is empty, so there is no training to draw")
    groups = sorted({name for record in records for name in _get(record, "validation", "groups") or {}}, key=_in_order)
    members = {record["seed"] for record in records}
    epochs = [int(record["epoch"]) for record in records]
    with picture(path, 10.5, max(6.0, 1.5 + 0.16 * len(groups))) as figure:
        grid = figure.add_gridspec(3, 2, height_ratios=(3, 1.3, 1.3))
        macro, ratio, rate = (figure.add_subplot(grid[row, 0]) for row in range(3))
        each = figure.add_subplot(grid[:, 1])

        titles: list[Label] = []
        for name, colour in (("train", VERMILLION), ("validation", BLUE)):
            _draw_members(macro, records, (name, "macro"), colour)
            titles += _draw_median(macro, records, (name, "macro"), name, color=colour, lw=2.2)
        for axis, name, colour in ((ratio, "ratio", PURPLE), (rate, "rate", GREY)):
            _draw_members(axis, records, (name,), colour)
            _draw_median(axis, records, (name,), name, color=colour, lw=1.8)
        names: list[Label] = []
        for group in groups:
            colour, dashes = LOOK[_tier(group)]
            names += _draw_median(
                each, records, ("validation", "groups", group), group, color=colour, ls=dashes, lw=1.5
            )
        best = _mark_best(macro, records)

        for axis in (macro, ratio, rate, each):
            axis.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            logarithmic(axis.yaxis)
            axis.set_xlabel("epoch" if axis in (rate, each) else None)
        _mark_phases(records, (macro, ratio, rate, each))
        macro.set_title("Macro log2-MSE (bits²)", pad=16)
        macro.set_title(best, loc="right", pad=16, color=BLUE, fontsize=8.5)
        ratio.set_title("Validation / train")
        rate.set_title("Learning rate")
        each.set_title("Validation log2-MSE of each group (bits²)", pad=16)
        tiers = [tier for tier in TIERS if tier in map(_tier, groups)]
        keys = [each.plot([], [], color=LOOK[tier][0], ls=LOOK[tier][1], label=f"{tier} tier")[0] for tier in tiers]
        if len(keys) > 1:
            each.legend(handles=keys, ncols=3, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.98))
        about = f"{_counted(len(members), 'member')}, {_counted(max(epochs), 'epoch')}"
        figure.suptitle(about, x=0.01, ha="left", fontsize=11)
        label_ends(figure, [(macro, titles), (each, names)])


def predictions_scatter(
    log2_h: NDArray[Any], log2_predicted: NDArray[Any], groups: Sequence[tuple[int, int, int]], path: Path
) -> None:
    """Draw predictions against the truth, a panel for each group, all on one frame and one scale of density.

    Args:
        log2_h, log2_predicted: (B,), in bits. Rows where one is infinite or nan are dropped, and their number stated.
        groups: B triples (n, k, m).
        path: the PNG to write.

    Raises:
        DataError: there are no codes, the three are not equally long, or `path` cannot be written.
        ModelError: matplotlib is missing.
    """
    truth, predicted = np.asarray(log2_h, float).ravel(), np.asarray(log2_predicted, float).ravel()
    if not len(truth) == len(predicted) == len(groups):
        raise DataError(
            f"log2_h, log2_predicted and groups must be equally long; "
            f"they have {len(truth)}, {len(predicted)} and {len(groups)} entries"
        )
    if not len(truth):
        raise DataError("log2_h must hold at least one code; it is empty, so there is nothing to draw")
    triples = np.array(groups, int).reshape(-1, 3)
    present = np.unique(triples, axis=0)
    finite = np.isfinite(truth) & np.isfinite(predicted)
    low, high = _frame(truth[finite], predicted[finite])
    cell = (high - low) / 42
    beyond = int(np.sum((predicted[finite] < low) | (predicted[finite] > high)))
    columns = int(np.ceil(np.sqrt(len(present))))
    rows = -(-len(present) // columns)
    side = 2.7 if columns < 4 else 2.3
    with picture(path, max(side * columns + 1.0, 5.0), (side + 0.2) * rows + 0.8) as figure:
        colors = matplotlib_itself().colors
        blues = colors.LinearSegmentedColormap.from_list("density", ["#A6CEE8", BLUE, "#06243D"])
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        density = []
        for axis, group in zip(panels.flat, present, strict=False):
            mine = finite & (triples == group).all(axis=1)
            x, y = truth[mine], predicted[mine]
            if len(x):
                inside = np.clip(y, low + cell / 2, high - cell / 2)
                drawn = axis.hexbin(x, inside, gridsize=42, extent=(low, high, low, high), mincnt=1, cmap=blues, lw=0.1)
                density.append(drawn)
            for off, width, dashes in ((0.0, 1.3, "-"), (-1.0, 1.0, (0, (4, 3))), (1.0, 1.0, (0, (4, 3)))):
                axis.plot([low, high], [low + off, high + off], color=ORANGE, lw=width, ls=dashes)
            name = group_name(group)
            said = f"log2-MSE {np.mean((x - y) ** 2):.3g}, {_counted(len(x), 'code')}" if len(x) else "no finite code"
            axis.set_title(f"{name}  {_tier(name)} tier\n{said}", color=LOOK[_tier(name)][0])
            axis.set(xlim=(low, high), ylim=(low, high), aspect="equal")
            axis.locator_params(nbins=6, steps=[1, 2, 5, 10])
        for place in range(len(present), rows * columns):
            panels.flat[place].set_axis_off()
            panels.flat[place - columns].tick_params(labelbottom=True)
        if density:
            highest = max(2.0, *(float(drawn.get_array().max()) for drawn in density))
            for drawn in density:
                drawn.set_norm(colors.LogNorm(1, highest))
            bar = figure.colorbar(density[0], ax=panels, shrink=0.6, aspect=30, label="codes in a cell")
            ticks = [factor * 10**exponent for exponent in range(7) for factor in (1, 2, 5)]
            bar.set_ticks(
                [tick for tick in ticks if tick <= highest], labels=[f"{tick:,}" for tick in ticks if tick <= highest]
            )
            bar.minorticks_off()
        figure.supxlabel("log2 h, true", fontsize=10)
        figure.supylabel("log2 h, predicted", fontsize=10)
        notes = ["dashed: 1 bit off"]
        if not finite.all():
            notes.append(f"{np.sum(~finite):,} not finite, left out")
        if beyond:
            notes.append(f"{beyond:,} beyond the frame, drawn at its edge")
        figure.suptitle("\n".join(textwrap.wrap("; ".join(notes), 28 * columns + 24)), fontsize=9, x=0.02, ha="left")


def ablation_bars(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw one line per row, first on top: a dot at the mean, ticks at the seeds, a whisker from least to most.

    Args:
        rows: each {"name": what was changed, "mean": macro log2-MSE (bits squared), "values": that of each seed,
            "reference": whether the others are to be compared with this one}. What is null or infinite is left out.
        path: the PNG to write.

    Raises:
        DataError: there are no rows, or `path` cannot be written.
        ModelError: matplotlib is missing.
    """
    if not rows:
        raise DataError("rows must hold at least one row; it is empty, so there is no ablation to draw")
    names = [textwrap.fill(str(row["name"]), 44) for row in rows]
    values = [_finite(row.get("values") or []) for row in rows]
    means = [float("nan") if row.get("mean") is None else float(row["mean"]) for row in rows]
    bases = [mean for row, mean in zip(rows, means, strict=True) if row.get("reference") and 0.0 < mean < np.inf]
    bottoms = np.cumsum([0.55 + 0.45 * (1 + name.count("\n")) for name in names])
    places = bottoms - np.diff(bottoms, prepend=0.0) / 2.0
    with picture(path, 8.5, 1.2 + 0.27 * bottoms[-1]) as figure:
        axis = figure.add_subplot()

        def beside(place: float, texts: list[str], colour: str) -> None:
            for text, points in zip(texts, (46, 86), strict=False):
                axis.annotate(
                    text, (1.0, 1.0 - place / bottoms[-1]), (points, 0), "axes fraction", "offset points", ha="right",
                    va="center" if place else "bottom", color=colour, annotation_clip=False,
                )  # fmt: skip

        beside(0.0, ["mean", "ratio"] if bases else ["mean"], GREY)
        for base in bases[:1]:
            axis.axvline(base, color=VERMILLION, lw=1.2)
        for place, row, seeds, mean in zip(places, rows, values, means, strict=True):
            colour = VERMILLION if row.get("reference") else BLUE
            if len(seeds):
                axis.plot([seeds.min(), seeds.max()], [place, place], color=colour, lw=1.5, alpha=0.6)
                axis.plot(seeds, np.full(len(seeds), place), ls="", marker="|", ms=8, color=colour)
            axis.plot([mean], [place], marker="o", ms=6, color=colour, mec="white", mew=0.7)
            said = ["none" if np.isnan(mean) else f"{mean:.3g}"]
            beside(place, [*said, *(f"{mean / base:.2f}" for base in bases[:1] if np.isfinite(mean))], colour)
        shown = np.concatenate([*values, _finite(means)])
        if len(shown) and 0.0 < 8.0 * shown.min() < shown.max():
            logarithmic(axis.xaxis)
        axis.set(ylim=(bottoms[-1], 0.0), xlabel="macro log2-MSE (bits²)")
        axis.set_yticks(places, names, fontsize=9)
        for tick, row in zip(axis.get_yticklabels(), rows, strict=True):
            tick.set(fontweight="bold" if row.get("reference") else "normal", parse_math=False)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="y", visible=False)
        axis.set_title(
            "● mean   | seed   — least to most" + "   ratio: to the line" * bool(bases), fontsize=8, color=GREY
        )


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float] | None]],
    path: Path,
    *,
    x: str,
    y: str,
    log_x: bool = True,
    log_y: bool = True,
) -> None:
    """Draw lines with markers and error bars, each with its name at its right end.

    Args:
        series: name -> (x, y, half), equally long; the error bar reaches from y - half to y + half. Points that
            are null, infinite or not above 0 on a logarithmic axis are dropped, and their number stated.
        path: the PNG to write.
        x, y: labels of the axes.
        log_x, log_y: whether an axis is logarithmic.

    Raises:
        DataError: there are no points, a series' lists are not equally long, or `path` cannot be written.
        ModelError: matplotlib is missing.
    """
    drawn: list[tuple[str, Floats, Floats, Floats]] = []
    dropped = 0
    for name, (across, up, half) in series.items():
        if not len(across) == len(up) == len(up if half is None else half):
            raise DataError(
                f"series[{name!r}] must have as many x as y, and as many half error bars or None; its lists differ"
            )
        at, height = np.array(across, float), np.array(up, float)
        bars = np.nan_to_num(np.array([0.0] * len(at) if half is None else half, float), posinf=0.0)
        shown = np.isfinite(at) & np.isfinite(height) & ~(log_x & (at <= 0)) & ~(log_y & (height <= 0))
        dropped += int(np.sum(~shown))
        order = np.flatnonzero(shown)[np.argsort(at[shown], kind="stable")]
        drawn.append((name, at[order], height[order], bars[order]))
    heights, halves = (np.concatenate([np.empty(0), *(line[part] for line in drawn)]) for part in (2, 3))
    if not len(heights):
        raise DataError("series must hold at least one point that its axes can show; it has none, so nothing is drawn")
    with picture(path, 7.5, max(4.5, 1.2 + 0.2 * len(drawn))) as figure:
        axis = figure.add_subplot()
        labels: list[Label] = []
        for place, (name, at, height, bars) in enumerate(drawn):
            if not len(at):
                continue
            colour, marker = OKABE_ITO[place % len(OKABE_ITO)], MARKERS[place % len(MARKERS)]
            below = np.minimum(bars, 0.999 * height) if log_y else bars
            axis.errorbar(
                at, height, (below, bars) if bars.any() else None, color=colour, marker=marker, ms=5, lw=1.5,
                elinewidth=1.0, capsize=2.5,
            )  # fmt: skip
            labels.append((at[-1], height[-1], textwrap.fill(name, 30), colour))
        if log_x:
            logarithmic(axis.xaxis)
        if log_y:  # a bar that reaches 0 leaves the axes
            ends = np.where(halves < 0.9 * heights, heights - halves, heights)
            logarithmic(axis.yaxis, (ends.min(), (heights + halves).max()))
        axis.set(xlabel=x, ylabel=y)
        if dropped:
            axis.set_title(f"{_counted(dropped, 'point')} left out", loc="right", fontsize=8, color=GREY)
        label_ends(figure, [(axis, labels)])


def _get(record: Mapping[str, Any], *names: str) -> Any:
    value: Any = record
    for name in names:
        value = (value or {}).get(name)
    return value


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _finite(values: Iterable[Any]) -> Floats:
    numbers = np.array(list(values), float)  # None becomes nan
    return numbers[np.isfinite(numbers)]


def _course(records: Iterable[Mapping[str, Any]], names: tuple[str, ...]) -> list[tuple[int, float]]:
    """(epoch, value) wherever a logarithmic axis can show the value."""
    points = [(int(record["epoch"]), float(_get(record, *names) or 0.0)) for record in records]
    return sorted(point for point in points if 0.0 < point[1] < np.inf)


def _draw_members(axis: Any, records: Sequence[Mapping[str, Any]], names: tuple[str, ...], colour: str) -> None:
    for member in {record["seed"] for record in records}:
        points = _course([record for record in records if record["seed"] == member], names)
        axis.plot([at for at, _ in points], [value for _, value in points], color=colour, lw=0.7, alpha=0.5)


def _draw_median(
    axis: Any, records: Sequence[Mapping[str, Any]], names: tuple[str, ...], text: str, **look: Any
) -> list[Label]:
    """The label for its end, if there is one."""
    values = defaultdict(list)
    for at, value in _course(records, names):
        values[at].append(value)
    members = max(map(len, values.values()), default=0)
    median = {at: float(np.median(found)) for at, found in values.items() if 2 * len(found) >= members}
    if not median:
        return []
    axis.plot(list(median), list(median.values()), marker="o" if len(median) == 1 else "", ms=4, **look)
    at, value = list(median.items())[-1]
    return [(at, value, f"{text}  {value:.3g}", look["color"])]


def _mark_best(axis: Any, records: Sequence[Mapping[str, Any]]) -> str:
    """Ring each member's epoch of smallest validation error, and say which is the best of all."""
    best = []
    for member in sorted({record["seed"] for record in records}):
        points = _course([record for record in records if record["seed"] == member], ("validation", "macro"))
        if points:
            at, value = min(points, key=lambda point: point[1])
            best.append((value, at, member))
            axis.plot([at], [value], marker="o", ms=6, mfc="white", mec=BLUE, mew=1.3, zorder=4)
    return "○ best: {:.3g}, epoch {}, member {}".format(*min(best)) if best else ""


def _mark_phases(records: Sequence[Mapping[str, Any]], axes: Sequence[Any]) -> None:
    """A band from the first member's to the last member's start of each phase but the first, numbered above axes[0]."""
    entries: dict[Any, dict[Any, int]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: int(record["epoch"])):
        if record.get("phase") is not None:
            entries[record["phase"]].setdefault(record["seed"], int(record["epoch"]))
    changes = sorted((min(entry.values()), max(entry.values()), phase) for phase, entry in entries.items())[1:]
    for axis in axes:
        for first, last, _ in changes:
            axis.axvspan(first - 0.5, last - 0.5, facecolor="#F0F0F0", edgecolor=GREY, lw=0.8, ls=":", zorder=0.5)
    low, high = axes[0].get_xlim()
    texts = [f"phase {phase}" for _, _, phase in changes]
    if len(texts) > 6:
        texts = [str(phase) for _, _, phase in changes[:-1]] + [texts[-1]]
    wanted = np.array([(first - 0.5 - low) / (high - low) for first, _, _ in changes])
    for place, text in zip(spaced(wanted, 0.05 if len(texts) > 6 else 0.12, 0.88), texts, strict=True):
        axes[0].text(place, 1.01, text, transform=axes[0].transAxes, fontsize=8, color=GREY, va="bottom")


def _tier(group: str) -> str:
    try:
        return tier_of(*parse_group(group))
    except (ValueError, IndexError):  # not the name of a group
        return ""


def _in_order(group: str) -> list[tuple[int, str]]:
    return [(len(part), part) for part in group.split(",")]  # 9 before 10


def _frame(truth: Floats, predicted: Floats) -> tuple[float, float]:
    """The truth's range, widened to hold 99.8 % of the predictions, at either end by half of it or 4 bits at most."""
    if not len(truth):
        return 0.0, 1.0
    reach = max(0.5 * float(np.ptp(truth)), 4.0)
    bottom, top = np.quantile(predicted, (0.001, 0.999))
    low = min(truth.min(), max(bottom, truth.min() - reach))
    high = max(truth.max(), min(top, truth.max() + reach))
    margin = max(0.04 * (high - low), 0.3, 1.5 - (high - low))
    return low - margin, high + margin
