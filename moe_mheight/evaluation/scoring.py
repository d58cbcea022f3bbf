"""Scoring a predictor the way the field does: mean squared error of log2 h per (n, k, m), and their plain mean."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codes.generators import KINDS
from ..data.code_files import Codes, Data, Group, silently
from ..data.sources import Source, chunk_rows, of, over
from ..errors import DataError
from ..exact.heights import m_height
from ..experts.conformal import mixed
from ..experts.measurement import HeightPredictor
from ..experts.rng_streams import draw, stream
from ..groups import HEADLINE, group_name, tier_of
from .bottom_k import Sample, joined

REFERENCE = {
    "the seed's run 1": (0.103, 0.106, 0.215, 1.386, 0.107, 0.224, 0.976, 0.361, 0.981),
    "peer (MLPs on invariants)": (0.096, 0.190, 0.551, 2.43, 0.176, 0.587, 2.57, 0.437, 2.02),
}
"""log2-MSE of others on the nine groups of n = 9, in the order of HEADLINE, as their own notebooks print them, each on
its own data: the network this project grew from and the peer with the cleanest published table."""

REFERENCE_MACRO = {"the seed's run 1": 0.495, "peer (MLPs on invariants)": 1.005}
"""The macro figures of the same two, as they print them."""

BEST_MACRO = 0.583
"""The best credible macro figure of a peer: of another system (a transformer with seven soft experts), which prints no
groups, so it has no place in a column of them."""

ROUNDING = 1e-12
"""Mean squared errors up to this, in bits squared, are rounding: nothing is to be gained there."""

Kept = tuple[Sample, Sample, Sample]

HARDEST = 10
"""Codes with the largest errors that are kept of each group, when asked to keep some."""


@dataclass(frozen=True)
class Score:
    """How predictions of one group fared. Errors are in bits (log2 of a height); mse in bits squared.

    Errors are against the labels, where label and exact height are both finite; all else is against exact heights.
    """

    group: Group
    tier: str
    codes: int  # rows, infinite ones included
    log2_mse: float  # over rows whose height is finite; inf if one of them is predicted infinite
    bounds_log2_mse: float  # of bounds alone, the middle (in log2) of the tightest certified ones; nothing is fitted
    fixed_log2_mse: float  # of a fixed point of the bracket that experts answer in, fitted on the group's other half
    worst: float  # largest |log2 error|
    width: float  # mean width of the bracket; inf if one has no upper end
    infinite: int  # rows of infinite height
    infinite_found: int  # of these, predicted infinite
    infinite_false: int  # finite rows predicted infinite
    violations: int  # certified bounds that do not hold
    asked: int = 0  # codes that experts were asked about; bounds decided the others
    predict_microseconds: float = field(default=float("nan"), compare=False)  # a code
    exact_microseconds: float = field(default=float("nan"), compare=False)

    @property
    def gain(self) -> float:
        """What learning is worth: the error of bounds alone over ours; nan where both are rounding."""
        return _gain(self.bounds_log2_mse, self.log2_mse)


@dataclass(frozen=True, eq=False)
class Report:
    """Scores of all groups, and microseconds per code (brackets and experts; exact solver).

    wrong_labels counts labels of the file that differ from the exact height; scores go by the labels all the same.
    kept: of each group a fair sample, its HARDEST codes, hardest first, and a fair sample of those that experts were
    asked about, where `evaluate` was asked to keep some.
    """

    scores: tuple[Score, ...]
    predict_microseconds: float
    exact_microseconds: float
    wrong_labels: int
    kept: dict[Group, Kept] = field(default_factory=dict)

    @property
    def macro(self) -> float:
        return _mean(np.array([score.log2_mse for score in self.scores if score.codes > score.infinite]))

    @property
    def bounds_macro(self) -> float:
        return _mean(np.array([score.bounds_log2_mse for score in self.scores if score.codes > score.infinite]))

    @property
    def fixed_macro(self) -> float:
        return _mean(np.array([score.fixed_log2_mse for score in self.scores if score.codes > score.infinite]))

    @property
    def gain(self) -> float:
        """As of a Score, of the macro figures."""
        return _gain(self.bounds_macro, self.macro)

    @property
    def asked(self) -> int:
        """Codes that experts were asked about."""
        return sum(score.asked for score in self.scores)

    def figures(self, gap: float | None = None) -> dict[str, float]:
        """What success criteria are about, by the names that `criteria` lists.

        Args:
            gap: macro on validation over macro on training, where the models' training kept both.

        Returns:
            Of the groups that hold a finite code; where there is none, no more than the gap.
        """
        values: dict[str, list[float]] = {}
        for s in self.scores:
            if s.codes > s.infinite:
                _, k, m = s.group
                for name in ("worst group", f"group {group_name(s.group)}", f"group {k},{m}"):
                    values.setdefault(name, []).append(s.log2_mse)
                # where no row could be scored, `worst` is 0
                values.setdefault("worst code", []).append(s.log2_mse if np.isnan(s.log2_mse) else s.worst)
        found = {"macro": self.macro} if values else {}
        found |= {name: float(np.max(some)) for name, some in values.items()}  # max would lose a nan
        return found if gap is None else found | {"gap": gap}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        groups = [
            {"n": s.group[0], "k": s.group[1], "m": s.group[2]}
            | {key: value for key, value in asdict(s).items() if key != "group"}
            for s in self.scores
        ]
        return {
            "format": "moe_mheight evaluation 2",
            "macro_log2_mse": self.macro,
            "macro_bounds_log2_mse": self.bounds_macro,
            "macro_fixed_log2_mse": self.fixed_macro,
            "predict_microseconds_per_code": self.predict_microseconds,
            "exact_microseconds_per_code": self.exact_microseconds,
            "wrong_labels": self.wrong_labels,
            "groups": groups,
            "reference": REFERENCE_MACRO | {"best credible peer (another system)": BEST_MACRO},
        }


def default_data(
    rows: int = 1000, seed: int = 0, groups: tuple[Group, ...] = HEADLINE, kinds: tuple[str, ...] = KINDS
) -> Data:
    """The embedded test set: codes of some groups, kinds in equal parts, drawn by seed and labelled exactly, infinite
    heights included.

    Its random stream is used for nothing else.
    """
    data: Data = {}
    place = 0
    for group in groups:
        P, h = draw(stream("default", seed, *group), group, rows, kinds, infinite=True)
        data[group] = Codes(P, np.arange(place, place + len(P)), h)
        place += len(P)
    return data


def evaluate(
    predictor: HeightPredictor,
    data: Source | Data,
    *,
    threads: int | None = None,
    advance: Callable[[int], None] = silently,
    keep: int = 0,
) -> Report:
    """Score a predictor on a file or a set of codes, against its labels or, without them, against exact heights.

    Args:
        predictor: from `Predictor.load` or `RawPredictor.load`, or of your own.
        data: from `sources.open_codes`, `files.read` or `default_data`; of a set one shard is in memory at a time.
        threads: for brackets and the exact solver; default all cores.
        advance: told how many rows were predicted.
        keep: codes of each group to keep one by one, fewer for n > 12; the hardest ones come on top.

    Raises:
        DataError: there are no rows.
    """
    source = data if isinstance(data, Source) else of(data)
    if not source.rows:
        raise DataError("there are no rows to evaluate")
    found: dict[Group, dict[int, Tally]] = {group: {} for group in source.groups}
    kept: dict[Group, Kept] = {}
    for number, _, (group, tally, seen) in over(source, partial(_tallied, predictor, threads, keep), advance):
        found[group][number] = tally
        if seen is not None:
            limits = _most(keep, group), HARDEST, _most(keep, group)
            pairs = zip(kept.get(group, seen), seen, limits, strict=True)
            kept[group] = tuple(  # type: ignore[assignment]
                now if group not in kept else joined([before, now], most) for before, now, most in pairs
            )
    # in the order of the rows: who was done first must not change the last digit of a sum
    whole = {group: _together([parts[i] for i in sorted(parts)]) for group, parts in found.items()}
    spent, exact, wrong = (sum(getattr(t, name) for t in whole.values()) for name in ("spent", "exact", "wrong"))
    micro = 1e6 / source.rows
    scores = tuple(_score(group, t) for group, t in whole.items())
    return Report(scores, spent * micro, exact * micro, wrong, {group: kept[group] for group in whole if group in kept})


def _most(keep: int, group: Group) -> int:
    return chunk_rows(keep, group[0], 12, min_rows=1)


@dataclass(frozen=True, eq=False)
class Tally:
    """What some codes of a group add to its score: counts, sums of squares in bits squared, seconds, extremes."""

    codes: int
    scored: int
    error: float  # squares of log2 errors
    bounds: float  # squares of log2 errors of the middle of the tightest bounds
    fixed: NDArray[np.float64]  # (2, 3), see `_moments`, of the bracket that experts answer in, by halves of the codes
    width: float
    infinite: int
    infinite_found: int
    infinite_false: int
    violations: int
    asked: int
    wrong: int
    spent: float  # on predictions
    exact: float  # on exact heights
    worst: float


def _together(parts: list[Tally]) -> Tally:
    sums = {f.name: sum(getattr(part, f.name) for part in parts) for f in fields(Tally)}
    return Tally(**sums | {"worst": max(part.worst for part in parts)})


def _tallied(
    predictor: HeightPredictor, threads: int | None, keep: int, codes: Codes, group: Group
) -> tuple[Group, Tally, Kept | None]:
    P, m = codes.P, group[2]
    predictor.predict(P[:1], m)  # compile before the clock starts
    m_height(P[:1], m)
    start = time.perf_counter()
    measured = predictor.measure(P, m, threads=threads)
    lower, upper, best, asked = measured.lower, measured.upper, measured.height, measured.routed
    middle = time.perf_counter()
    true = m_height(P, m, threads=threads)
    end = time.perf_counter()
    tight, above = measured.tightest_lower, measured.tightest_upper
    h = true if codes.h is None else codes.h
    infinite = np.isinf(true)
    scored = ~infinite & np.isfinite(h)
    log2_h = np.log2(h[scored])
    error = np.log2(best[scored]) - log2_h
    low, width = _bits(lower[scored], upper[scored])
    floor, room = _bits(tight[scored], above[scored])
    second = (mixed(codes.row[scored].astype(np.uint64)) & np.uint64(1)).astype(bool)
    tally = Tally(
        codes=len(h),
        scored=int(scored.sum()),
        error=float(np.sum(error**2)),
        bounds=float(np.sum((floor + room / 2.0 - log2_h) ** 2)),
        fixed=np.stack([_moments(low[half], width[half], log2_h[half]) for half in (~second, second)]),
        width=float(width.sum()) if np.isfinite(upper[scored]).all() else float("inf"),
        infinite=int(infinite.sum()),
        infinite_found=int((infinite & np.isinf(best)).sum()),
        infinite_false=int((~infinite & np.isinf(best)).sum()),
        violations=int((_fails(true, lower, upper) | _fails(true, tight, above)).sum()),
        asked=int(asked.sum()),
        wrong=int((~np.isclose(h, true, rtol=1e-6, atol=0)).sum()),
        spent=middle - start,
        exact=end - middle,
        worst=float(np.abs(error).max(initial=0.0)),
    )
    if not keep:
        return group, tally, None
    every = Sample(mixed(codes.row.astype(np.uint64)).astype(np.float64), codes.row, P, true, h, measured)
    hard = every.with_keys(-np.abs(every.error)).first(HARDEST)  # nan comes last
    most = _most(keep, group)
    return group, tally, (every.first(most), hard, every.where(asked).first(most))


def _fails(true: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64]) -> NDArray[np.bool_]:
    tiny = 1e-14  # the exact height is rounded too
    fails: NDArray[np.bool_] = (lower > true * (1 + tiny)) | (upper < true * (1 - tiny))
    return fails


def _bits(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """log2 of the lower ends, and the widths, 0 where there is no upper end."""
    low = np.log2(lower)
    width = np.log2(upper) - low
    return low, np.where(np.isfinite(width), width, 0.0)


def _moments(low: NDArray[np.float64], width: NDArray[np.float64], log2_h: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums (3,) of (log2 h - low)^2, (log2 h - low) width and width^2: the error of every fixed point is in them."""
    off = log2_h - low
    return np.array([np.sum(off * off), np.sum(off * width), np.sum(width * width)])


def _at_other_half(halves: NDArray[np.float64], codes: int) -> float:
    """Mean squared error, in bits squared, of the fixed point in [0, 1] that is best for the other half of the codes,
    whose labels thus say nothing about their own error; the middle where that half has none. nan without codes."""
    total = 0.0
    for (off, cross, width), (_, there, weight) in zip(halves, halves[::-1], strict=True):
        share = min(1.0, max(0.0, there / weight)) if weight > 0 else 0.5
        # a difference of near numbers where one point is right for all; rounding must not make it negative
        total += max(0.0, float(off - share * (2.0 * cross - share * width)))
    return total / codes if codes else float("nan")


def _score(group: Group, t: Tally) -> Score:
    def mean(total: float) -> float:
        return total / t.scored if t.scored else float("nan")

    return Score(
        group=group,
        tier=tier_of(*group),
        codes=t.codes,
        log2_mse=mean(t.error),
        bounds_log2_mse=mean(t.bounds),
        fixed_log2_mse=_at_other_half(t.fixed, t.scored),
        worst=t.worst,
        width=mean(t.width),
        infinite=t.infinite,
        infinite_found=t.infinite_found,
        infinite_false=t.infinite_false,
        violations=t.violations,
        asked=t.asked,
        predict_microseconds=1e6 * t.spent / t.codes,
        exact_microseconds=1e6 * t.exact / t.codes,
    )


def _gain(bounds: float, ours: float) -> float:
    return bounds / ours if ours > 0 and max(bounds, ours) > ROUNDING else float("nan")


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
