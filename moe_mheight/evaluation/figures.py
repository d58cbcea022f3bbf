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

from ..brackets.bounds import brackets
from ..codes.minors import smallest_minors
from ..data.sources import chunk_rows
from ..errors import brief
from ..experts.features import features_of
from ..experts.measurement import Measurement
from ..experts.network import answers
from ..groups import HEADLINE, TIERS, group_name, tier_of
from . import charts
from .bottom_k import Sample
from .long_codes import LongReport
from .scoring import REFERENCE, Report

DRAWN = 150
"""Codes of each group that become points of a picture."""

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Nominal coverages, to see what is found."""

NAMES = ("error", r"predicted-\w+", "calibration", "certainty", r"router-\d+", "spread", "width", "minor", "timings")
"""Of all pictures, as regular expressions."""

FEW = 20
"""Codes that a line of coverage needs."""

MAX_SIZES = 6
"""Lengths n whose routing is drawn, those of most codes."""

MINOR_CODES = 60
"""Codes a group whose smallest minor is looked for where n is 16, where each has 12,870 of them."""

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


def coverage(predictor: Any, report: Report) -> dict[str, Any]:
    """How often intervals hold the exact height, by tier, for each of LEVELS: of a fair sample, and of those codes
    alone that the router sent to experts, where a tier has FEW of them."""
    held: dict[str, Any] = {}
    for place, which in ((0, ""), (2, "_asked")):
        hits: dict[str, Floats] = defaultdict(lambda: np.zeros(len(LEVELS)))
        codes: dict[str, int] = defaultdict(int)
        for group, samples in report.kept.items():
            sample = samples[place].where(np.isfinite(samples[place].true))
            codes[tier_of(*group)] += len(sample.P)
            for i, level in enumerate(LEVELS):
                low, high = predictor.intervals_of(sample.P, group[2], sample.measured, level)
                hits[tier_of(*group)][i] += int(((low <= sample.true) & (sample.true <= high)).sum())
        enough = [tier for tier in TIERS if codes[tier] >= (FEW if which else 1)]
        held[f"observed{which}"] = {tier: (hits[tier] / codes[tier]).tolist() for tier in enough}
        held[f"codes{which}"] = {tier: codes[tier] for tier in TIERS if tier in codes}
    return {"nominal": list(LEVELS), **held}


def routes(predictor: Any, report: Report) -> dict[int, dict[tuple[int, int], list[float] | str]]:
    """The router's weights for all (k, m) of the lengths that there are.

    A user's router may know few sizes: where it has no entry (LookupError) or refuses one (ValueError), what it said
    stands in place of the weights. Any other error is a fault of the router, and is raised.
    """
    found: dict[int, dict[tuple[int, int], list[float] | str]] = {}
    for n in sorted({score.group[0] for score in report.scores}):
        found[n] = {}
        for k in range(1, n):
            for m in range(1, n - k + 1):
                try:
                    found[n][k, m] = list(map(float, predictor.router(n, k, m)))
                except (LookupError, ValueError) as error:
                    found[n][k, m] = f"{type(error).__name__}: {brief(error)}"
    return found


def _left_out(cells: dict[tuple[int, int], list[float] | str]) -> str:
    """A sentence on the sizes that a router gives no weights for."""
    said = {cell: why for cell, why in cells.items() if isinstance(why, str)}
    if not said:
        return ""
    (k, m), why = next(iter(said.items()))
    return f" Left out: {len(said)} of {len(cells)} (k, m) that the router has no weights for, as ({k}, {m}): {why}."


OTHERS = ("run 1", "peer")
"""What pictures and tables call the columns of REFERENCE: the network this project grew from, and a peer."""


def references(report: Report) -> dict[str, list[float]]:
    """log2-MSE of OTHERS for each group, nan where they print none."""
    place = {group: i for i, group in enumerate(HEADLINE)}
    return {
        name: [values[place[s.group]] if s.group in place else nan for s in report.scores]
        for name, values in zip(OTHERS, REFERENCE.values(), strict=True)
    }


def _members(predictor: Any, sample: Sample, m: int, threads: int | None) -> tuple[Floats, Floats]:
    """(standard deviation, |error|), bits, of the top-1 tier's members, for every bracket that is open."""
    _, k, r = sample.P.shape
    tier = predictor.tiers[TIERS[int(np.argmax(predictor.router(k + r, k, m)))]]
    features = features_of(brackets(sample.P, m, steps=predictor.steps, threads=threads), np.ones(len(sample.P), bool))
    if not features.routed.any():
        return np.empty(0), np.empty(0)
    positions = np.stack([answers(expert, features, threads)[0] for expert in tier.experts])
    gap = features.gap[features.routed]
    off = features.lower[features.routed] + positions.mean(0) * gap - np.log2(sample.true[features.routed])
    return positions.std(0) * gap, np.abs(off)


def errors(report: Report) -> Picture:
    """The picture of each group's error: ours, that of bounds alone, and those of others that print theirs."""
    scores, names = report.scores, [group_name(score.group) for score in report.scores]
    return Picture(
        "error", "Error of each group",
        "Left is better. Triangles are bounds alone: the middle of the tightest certified bounds, nothing learnt, "
        "nothing fitted. At the right, how many codes the router sent to networks; where that is 0, bounds decide, and "
        "both stand together. Squares are run 1, the network this project grew from, diamonds a peer's network; each "
        "was measured on its own data.",
        1.9 + 0.25 * len(scores),
        partial(charts.group_errors, names=names, routed=[s.asked for s in scores], columns={
            "predicted": [s.log2_mse for s in scores],
            "bounds alone": [s.bounds_log2_mse for s in scores],
            **references(report),
        }),
    )  # fmt: skip


def pictures(
    predictor: Any,
    report: Report,
    covered: dict[str, Any] | None,
    routed: dict[int, Any],
    threads: int | None,
    long: LongReport | None = None,
) -> Iterable[Picture]:
    """All pictures of the page, from the most asked for to the least."""
    parts: dict[str, list[Sample]] = defaultdict(list)
    for group, (sample, *_) in report.kept.items():
        parts[tier_of(*group)].append(sample.first(DRAWN))
    yield errors(report)
    yield from (_predicted(tier, parts[tier]) for tier in TIERS if tier in parts)
    if covered is not None:
        yield _calibration(report, covered)
    if long is not None:
        yield certainty(long)
    yield from _routers(report, routed)
    if covered is not None:
        yield _std(predictor, report, threads)
    yield _widths(parts)
    yield _minors(parts)
    yield _timings(report)


def _predicted(tier: str, samples: list[Sample]) -> Picture:
    finite = [(np.isfinite(s.true) & np.isfinite(s.measured.height), s) for s in samples]
    truth = np.concatenate([np.log2(s.true[at]) for at, s in finite])
    known = Measurement.join([s.measured[at] for at, s in finite])
    low, high, said = np.log2(known.lower), np.log2(known.upper), np.log2(known.height)
    return Picture(
        f"predicted-{tier}", f"Predicted against true, {tier} tier",
        "Each code has a bar: how far the certified bracket that experts answer in reaches, seen from the exact "
        "height. The circle is how far the prediction is off. The scale is logarithmic either way from 0.", 3.6,
        partial(charts.predicted, log2_h=truth, low=low, high=high, said=said),
    )  # fmt: skip


def _calibration(report: Report, covered: dict[str, Any]) -> Picture:
    return Picture(
        "calibration", "Calibration of the intervals",
        "The share of intervals that hold the exact height, less their nominal coverage. Within the grey band, "
        "chance explains the difference. Where bounds decide a height, as for all but "
        f"{report.asked:,} of {sum(s.codes for s in report.scores):,} codes, the interval is a piece of the bounds, "
        "truncated at random to that coverage. Dashed: only codes that the router sent to experts, where a tier "
        f"has {FEW} or more.", 3.8,
        partial(charts.calibration, **covered),
    )  # fmt: skip


def certainty(long: LongReport) -> Picture:
    """The picture of how reliable the certainty of long codes is."""
    bins = long.reliability.bins
    return Picture(
        "certainty", "Certainty of long codes",
        "Whether the certified lower bound is the height: how often it was, for codes of like certainty, beside what "
        "the certainty said. Within the grey bars chance explains the difference. Above, how many codes there are.",
        3.8,
        partial(charts.reliability, names=[f"{100 * b.low:g}–{100 * b.high:g}" for b in bins],
                certainty=[b.certainty for b in bins], found=[b.found for b in bins], codes=[b.codes for b in bins]),
    )  # fmt: skip


def _routers(report: Report, routed: dict[int, Any]) -> Iterable[Picture]:
    drawn = sorted(routed, key=lambda n: -sum(s.codes for s in report.scores if s.group[0] == n))[:MAX_SIZES]
    rest = [str(n) for n in routed if n not in drawn]
    for n in sorted(drawn):
        yield Picture(
            f"router-{n}", f"Where the router sends codes of n = {n}",
            "Gate weights of the tiers for every (k, m). A cell of two colours mixes the answers of two tiers. "
            "Framed: groups of this data." + (f" Not drawn: n = {', '.join(rest)}, see report.json." if rest else "")
            + _left_out(routed[n]),
            4.4, partial(charts.routing, n=n, marked={score.group for score in report.scores},
                         weights={cell: w for cell, w in routed[n].items() if not isinstance(w, str)}),
        )  # fmt: skip


def _std(predictor: Any, report: Report, threads: int | None) -> Picture:
    points = {tier: [_members(predictor, s, g[2], threads) for g, s in _samples(report, tier)] for tier in TIERS}
    return Picture(
        "spread", "Std of the members against error",
        "The members of the top-1 tier answer for every open bracket here, also where tighter bounds decide the "
        "height and nobody needs them. Where members differ, they err.", 4.2,
        partial(charts.against, points=_joined(points), x="standard deviation over the members, bits"),
    )  # fmt: skip


def _widths(parts: dict[str, list[Sample]]) -> Picture:
    points = {tier: [_width(s) for s in parts.get(tier, [])] for tier in TIERS}
    return Picture(
        "width", "Error against the width of the bracket",
        "The bracket is the one that experts answer in. Each point is a code, and lines join the medians of up to "
        "eight bins. Errors far below the width are those of codes that tighter bounds decide.", 4.2,
        partial(charts.against, points=_joined(points), x="width of the bracket, bits"),
    )  # fmt: skip


def _minors(parts: dict[str, list[Sample]]) -> Picture:
    points = {tier: [_minor(s) for s in parts.get(tier, [])] for tier in TIERS}
    return Picture(
        "minor", "Error against the smallest minor",
        "The smallest minor that is not 0, relative to the largest (that of the identity, 1, counts too), says how "
        "near k columns come to dependence. The nearer, the larger heights can be, and the more digits they cost.", 4.2,
        partial(charts.against, points=_joined(points), x="smallest minor over the largest"),
    )  # fmt: skip


def _timings(report: Report) -> Picture:
    scores, names = report.scores, [group_name(score.group) for score in report.scores]
    return Picture(
        "timings", "Time a code",
        "Predictions with their brackets, and the exact solver, which is faster for short codes.",
        1.7 + 0.25 * len(names), partial(charts.timings, names=names, columns={
            "predict": [s.predict_microseconds for s in scores], "exact": [s.exact_microseconds for s in scores],
        }),
    )  # fmt: skip


def _samples(report: Report, tier: str) -> list[tuple[tuple[int, int, int], Sample]]:
    return [(group, fair.first(DRAWN)) for group, (fair, *_) in report.kept.items() if tier_of(*group) == tier]


def _width(sample: Sample) -> tuple[Floats, Floats]:
    with np.errstate(invalid="ignore"):  # inf - inf
        return np.log2(sample.measured.upper) - np.log2(sample.measured.lower), np.abs(sample.missed)


def _minor(sample: Sample) -> tuple[Floats, Floats]:
    few = sample.first(chunk_rows(DRAWN, sum(sample.P.shape[1:]), 14, min_rows=MINOR_CODES))
    return smallest_minors(few.P)[0], np.abs(few.missed)


def _joined(points: dict[str, list[tuple[Floats, Floats]]]) -> dict[str, tuple[Floats, Floats]]:
    return {
        tier: (np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs]))
        for tier, pairs in points.items() if pairs
    }  # fmt: skip
