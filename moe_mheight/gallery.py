"""The pictures of a report, one after the other: what is measured for each, on a sample of the codes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import charts
from .brackets import brackets
from .evaluation import REFERENCE, Report
from .experts import answers, read
from .minors import smallest_minors
from .samples import Sample
from .sources import some
from .tiers import HEADLINE, TIERS, tier_of

DRAWN = 150
"""Of these, the ones that become points of a picture."""

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Coverages that are asked for, to see what is found."""

MOST_SIZES = 6
"""Lengths n whose routing is drawn."""

MINOR_CODES = 60
"""Codes a group of n = 16 whose smallest minor is looked for; twice as many for each coordinate less."""

WIDTH = 4.4
"""Inches of every picture; its text has about 9 pixels where a phone shows it at 340."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """A picture of the page: its file name, its title, what one sees in it, and how it is drawn."""

    name: str
    title: str
    caption: str
    height: float  # inches
    draw: Callable[[Any], None]


def coverage(predictor: Any, report: Report, threads: int | None) -> dict[str, Any]:
    """How often intervals hold the exact height, by tier, for each of LEVELS."""
    held: dict[str, Floats] = defaultdict(lambda: np.zeros(len(LEVELS)))
    codes: dict[str, int] = defaultdict(int)
    for group, (sample, _) in report.kept.items():
        P, true = sample.P[np.isfinite(sample.true)], sample.true[np.isfinite(sample.true)]
        if not len(P):
            continue
        codes[tier_of(*group)] += len(P)
        for i, level in enumerate(LEVELS):
            low, high = predictor.measure(P, group[2], coverage=level, threads=threads)[:, -2:].T
            held[tier_of(*group)][i] += int(((low <= true) & (true <= high)).sum())
    observed = {tier: (held[tier] / codes[tier]).tolist() for tier in TIERS if tier in codes}
    return {"nominal": list(LEVELS), "observed": observed, "codes": dict(codes)}


def routes(predictor: Any, report: Report) -> dict[int, dict[tuple[int, int], list[float]]]:
    """The router's weights for all (k, m) of the lengths that there are."""
    lengths = sorted({score.group[0] for score in report.scores})[:MOST_SIZES]
    return {
        n: {(k, m): list(map(float, predictor.router(n, k, m))) for k in range(1, n) for m in range(1, n - k + 1)}
        for n in lengths
    }


def references(report: Report) -> dict[str, list[float]]:
    """log2-MSE of others for each group, nan where they print none."""
    place = {group: i for i, group in enumerate(HEADLINE)}
    return {
        name: [values[place[s.group]] if s.group in place else nan for s in report.scores]
        for name, values in REFERENCE.items()
    }


def _name(group: tuple[int, int, int]) -> str:
    return ",".join(map(str, group))


def _alone(predictor: Any, sample: Sample, m: int, threads: int | None) -> tuple[Floats, Floats]:
    """(spread, |error|), bits, of the loudest tier's members, asked about every bracket that is open."""
    _, k, r = sample.P.shape
    tier = predictor.tiers[TIERS[int(np.argmax(predictor.router(k + r, k, m)))]]
    reading = read(brackets(sample.P, m, steps=predictor.steps, threads=threads), np.ones(len(sample.P), bool))
    if not reading.asked.any():
        return np.empty(0), np.empty(0)
    positions = np.stack([answers(expert, reading, threads)[0] for expert in tier.experts])
    gap = reading.gap[reading.asked]
    off = reading.lower[reading.asked] + positions.mean(0) * gap - np.log2(sample.true[reading.asked])
    return positions.std(0) * gap, np.abs(off)


def pictures(
    predictor: Any, report: Report, covered: dict[str, Any] | None, routed: dict[int, Any], threads: int | None
) -> Iterable[Picture]:
    scores, names = report.scores, [_name(score.group) for score in report.scores]
    tall = 1.7 + 0.25 * len(names)
    yield Picture(
        "error", "Error of each group",
        "Left is better. Hollow triangles are what certified brackets give without learning: their best fixed point. "
        "Squares and diamonds are others, each on its own data.", tall,
        partial(charts.group_errors, names=names, columns={
            "ensemble": [s.log2_mse for s in scores],
            "tightest bracket, fixed point": [s.closing_log2_mse for s in scores],
            "experts' bracket, fixed point": [s.fixed_log2_mse for s in scores], **references(report),
        }),
    )  # fmt: skip
    parts: dict[str, list[Sample]] = defaultdict(list)
    for group, (sample, _) in report.kept.items():
        parts[tier_of(*group)].append(sample.first(DRAWN))
    for tier in (tier for tier in TIERS if tier in parts):
        kept = [(np.isfinite(s.true) & np.isfinite(s.values[:, 2]), s) for s in parts[tier]]
        truth = np.concatenate([np.log2(s.true[at]) for at, s in kept])
        low, high, said = (np.concatenate([np.log2(s.values[at, i]) for at, s in kept]) for i in (0, 1, 2))
        yield Picture(
            f"predicted-{tier}", f"Predicted against true, {tier} tier",
            "Above, each code's certified bracket is a bar, often thinner than the line. Below, the same codes seen "
            "from the exact height: how far the bracket reaches, and how far the prediction is off.", 4.8,
            partial(charts.predicted, log2_h=truth, low=low, high=high, said=said),
        )  # fmt: skip
    if covered is not None:
        yield Picture(
            "calibration", "Calibration of the intervals",
            "Of the intervals asked for with some coverage, the share that hold the exact height. On the diagonal they "
            "keep their promise; below, by how much they miss it, grey what chance makes of right ones.", 4.8,
            partial(charts.calibration, nominal=LEVELS, observed=covered["observed"], codes=covered["codes"]),
        )  # fmt: skip
    for n, cells in routed.items():
        yield Picture(
            f"router-{n}", f"Who is asked at n = {n}",
            "Weights of the three experts for every (k, m); split cells are shared. Framed: groups of this data.", 4.4,
            partial(charts.routing, n=n, weights=cells, marked={score.group for score in scores}),
        )  # fmt: skip
    if covered is not None:
        points = {tier: [_alone(predictor, s, g[2], threads) for g, s in _samples(report, tier)] for tier in TIERS}
        yield Picture(
            "spread", "Spread across seeds against error",
            "What the seeds of the tier say when they are asked about every open bracket, also where bounds decide the "
            "height and nobody needs them. Where seeds differ, they err.", 4.2,
            partial(charts.against, points=_joined(points), x="standard deviation over the seeds, bits"),
        )  # fmt: skip
    points = {tier: [_width(s) for s in parts.get(tier, [])] for tier in TIERS}
    yield Picture(
        "width", "Error against the width of the bracket",
        "Each point a code, lines through medians of eight bins.", 4.2,
        partial(charts.against, points=_joined(points), x="width of the bracket, bits"),
    )  # fmt: skip
    points = {tier: [_minor(s) for s in parts.get(tier, [])] for tier in TIERS}
    yield Picture(
        "minor", "Error against the smallest minor",
        "How near k columns come to dependence: the nearer, the larger heights can be.", 4.2,
        partial(charts.against, points=_joined(points), x="smallest minor over the largest"),
    )  # fmt: skip
    yield Picture(
        "timings", "Time a code",
        "Predictions with their brackets, and the exact solver; it is faster for short codes.",
        tall, partial(charts.timings, names=names, columns={
            "predict": [s.predict_microseconds for s in scores], "exact": [s.exact_microseconds for s in scores],
        }),
    )  # fmt: skip


def _samples(report: Report, tier: str) -> list[tuple[tuple[int, int, int], Sample]]:
    return [(group, fair.first(DRAWN)) for group, (fair, _) in report.kept.items() if tier_of(*group) == tier]


def _width(sample: Sample) -> tuple[Floats, Floats]:
    with np.errstate(invalid="ignore"):  # inf - inf
        return np.log2(sample.values[:, 1]) - np.log2(sample.values[:, 0]), np.abs(sample.error)


def _minor(sample: Sample) -> tuple[Floats, Floats]:
    few = sample.first(some(DRAWN, sum(sample.P.shape[1:]), 14, least=MINOR_CODES))
    return smallest_minors(few.P)[0], np.abs(few.error)


def _joined(points: dict[str, list[tuple[Floats, Floats]]]) -> dict[str, tuple[Floats, Floats]]:
    return {
        tier: (np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs]))
        for tier, pairs in points.items() if pairs
    }  # fmt: skip
