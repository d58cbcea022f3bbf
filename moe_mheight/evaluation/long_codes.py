"""How good predictions are for long codes: on a set of exactly labelled codes that ships with the package.

The set is `long_codes.npz`, made by `python benchmarks/label_long_codes.py table FILE --seed 20261128`: for each group
and kind the arrays P, h (exact heights) and seconds (of one thread, what each height took when it was labelled).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..data.code_files import silently
from ..errors import DataError
from ..experts.measurement import HeightPredictor
from ..groups import Group, parse_group, tier_of

SHIPPED = Path(__file__).with_name("long_codes.npz")

PATIENCE = 2.0
"""Seconds of exact search, as recorded: `few` keeps the first codes of a group and kind that took no more together."""

SAME = 1e-7
"""A lower bound that is the height up to this, relatively, found it."""

ROUNDED = 1e-12
"""A lower bound above the height by more than this, relatively, does not hold: heights are rounded too."""

EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Where the bins of certainty end."""

SURE = 0.99
"""From this certainty on a code counts as sure."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelledCodes:
    """Codes of one group and kind, and what their exact heights took.

    Shapes: P (B, k, r) float64; h (B,), exact, inf where infinite; seconds (B,), of one thread.
    """

    group: Group
    kind: str
    P: Floats
    h: Floats
    seconds: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.h)

    def first(self, count: int) -> LabelledCodes:
        return LabelledCodes(self.group, self.kind, self.P[:count], self.h[:count], self.seconds[:count])


@dataclass(frozen=True)
class LongScore:
    """How predictions of one group's codes fared, all kinds together. Errors are in bits, mse in bits squared."""

    group: Group
    tier: str
    codes: int  # infinite heights included
    log2_mse: float  # of the predictions, where the height is finite; inf if one of them is predicted infinite
    lower_log2_mse: float  # of the certified lower bound alone
    worst: float  # largest |log2 error| of a prediction
    found: float  # share of codes whose certified lower bound is the height
    certainty: float  # mean of what the predictor says of that share; nan where it says nothing
    infinite: int  # codes of infinite height
    infinite_found: int  # of these, predicted infinite
    infinite_false: int  # finite ones predicted infinite
    violations: int  # lower bounds above the height
    predict_milliseconds: float  # a code, now
    exact_milliseconds: float  # a code, when it was labelled

    @property
    def faster(self) -> float:
        """How many times as long the exact height took."""
        return self.exact_milliseconds / self.predict_milliseconds


@dataclass(frozen=True)
class Bin:
    """Codes whose certainty lies in [low, high), the last bin with its end."""

    low: float
    high: float
    codes: int
    certainty: float  # their mean
    found: float  # share of them whose lower bound is the height


@dataclass(frozen=True)
class Reliability:
    """Whether the certainty is what it says: mean squared errors against what happened, and bins that are not empty."""

    codes: int
    brier: float
    base_brier: float  # of the share of all codes, said of each
    sure: int  # codes of certainty SURE or more
    sure_found: float  # share of these whose lower bound is the height; nan without any
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class LongReport:
    """Scores of all groups, and how reliable the certainty is."""

    scores: tuple[LongScore, ...]
    reliability: Reliability
    kinds: tuple[str, ...]
    threads: int
    shipped: int  # codes that there are, of which some may have been left out

    @property
    def codes(self) -> int:
        return sum(score.codes for score in self.scores)

    @property
    def macro(self) -> float:
        """Plain mean of the groups' log2-MSE."""
        return _mean([score.log2_mse for score in self.scores])

    @property
    def lower_macro(self) -> float:
        """The same of the certified lower bound alone."""
        return _mean([score.lower_log2_mse for score in self.scores])

    @property
    def worst(self) -> float:
        return max(score.worst for score in self.scores)

    @property
    def found(self) -> float:
        """Share of all codes whose certified lower bound is the height."""
        return sum(score.found * score.codes for score in self.scores) / self.codes

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        groups = [
            {"n": s.group[0], "k": s.group[1], "m": s.group[2]}
            | {name: value for name, value in asdict(s).items() if name != "group"}
            | {"faster": s.faster}
            for s in self.scores
        ]
        return {
            "codes": self.codes,
            "shipped": self.shipped,
            "kinds": list(self.kinds),
            "threads": self.threads,
            "macro_log2_mse": self.macro,
            "macro_lower_log2_mse": self.lower_macro,
            "found": self.found,
            "groups": groups,
            "reliability": asdict(self.reliability),
        }


def read(path: Path = SHIPPED) -> tuple[LabelledCodes, ...]:
    """All labelled codes of a file, by group, of each group the kinds in the file's order.

    Raises:
        DataError: the file cannot be read or is not of this kind.

    Example:
        >>> from moe_mheight.evaluation.long_codes import read
        >>> first = read()[0]
        >>> first.group, first.kind, first.P.shape[1:]
        ((20, 10, 6), 'integer', (10, 10))
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            sets = [_set(arrays, name.removesuffix("/h")) for name in arrays if name.endswith("/h")]
    except (OSError, KeyError, ValueError, BadZipFile, EOFError) as error:
        raise DataError(f"cannot read the labelled long codes in {path}: {error}") from error
    return tuple(sorted(sets, key=lambda codes: codes.group))


def _set(arrays: Any, name: str) -> LabelledCodes:
    group, kind = name.split("/")
    P, h, seconds = (np.asarray(arrays[f"{name}/{part}"], np.float64) for part in ("P", "h", "seconds"))
    return LabelledCodes(parse_group(group, "_"), kind, P, h, seconds)


def few(sets: Sequence[LabelledCodes], patience: float = PATIENCE) -> tuple[LabelledCodes, ...]:
    """Of each set the first codes whose exact heights took no more than `patience` seconds together, at least one."""
    return tuple(s.first(max(1, int(np.searchsorted(np.cumsum(s.seconds), patience, "right")))) for s in sets)


def evaluate(
    predictor: HeightPredictor,
    sets: Sequence[LabelledCodes] | None = None,
    *,
    patience: float = PATIENCE,
    threads: int = 1,
    advance: Callable[[int], None] = silently,
) -> LongReport:
    """Score a predictor on labelled long codes.

    Args:
        predictor: from `Predictor.load`, or of your own.
        sets: from `read`; default those that ship.
        patience: of each set no more than a `few` of its codes are predicted; inf is all of them.
        threads: of the predictions; times are compared with those of one thread.
        advance: told how many codes were predicted.

    Returns:
        Scores of each group, in the order of the sets.

    Raises:
        DataError: there are no codes.
    """
    shipped = [codes for codes in (read() if sets is None else sets) if len(codes)]
    sets = few(shipped, patience)
    if not sets:
        raise DataError("there are no long codes to evaluate")
    groups = dict.fromkeys(s.group for s in sets)
    for kind in sets:
        if kind.group == sets[0].group:  # compile before the clock starts
            predictor.measure(kind.P[:1], kind.group[2], threads=threads)
    seen = [_seen(predictor, [s for s in sets if s.group == group], threads, advance) for group in groups]
    certainty, found = (np.concatenate([getattr(group, name) for group in seen]) for name in ("certainty", "found"))
    kinds = tuple(dict.fromkeys(s.kind for s in sets))
    scores = tuple(map(_score, groups, seen))
    return LongReport(scores, reliability(certainty, found), kinds, threads, sum(map(len, shipped)))


@dataclass(frozen=True, eq=False)
class _Seen:
    """One group's codes, all (B,), and the seconds that predicting them took."""

    h: Floats
    exact: Floats  # seconds
    height: Floats
    lower: Floats
    certainty: Floats
    found: NDArray[np.bool_]
    spent: float


def _seen(
    predictor: HeightPredictor, sets: Sequence[LabelledCodes], threads: int, advance: Callable[[int], None]
) -> _Seen:
    m = sets[0].group[2]
    # of one thread the seconds that it had, as when the codes were labelled
    clock = time.process_time if threads == 1 else time.perf_counter
    spent, parts = 0.0, []
    for codes in sets:
        start = clock()
        measured = predictor.measure(codes.P, m, threads=threads)
        spent += clock() - start
        parts.append((codes.h, codes.seconds, measured.height, measured.tightest_lower, measured.certainty))
        advance(len(codes))
    h, exact, height, lower, certainty = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Seen(h, exact, height, lower, certainty, _same(lower, h), spent)


def _same(lower: Floats, h: Floats) -> NDArray[np.bool_]:
    return np.isclose(lower, h, rtol=SAME, atol=0.0)


def _score(group: Group, seen: _Seen) -> LongScore:
    infinite, said = np.isinf(seen.h), np.isinf(seen.height)
    log2_h = np.log2(seen.h[~infinite])
    error = np.log2(seen.height[~infinite]) - log2_h
    below = np.log2(seen.lower[~infinite]) - log2_h
    return LongScore(
        group=group,
        tier=tier_of(*group),
        codes=len(seen.h),
        log2_mse=_mean(error**2),
        lower_log2_mse=_mean(below**2),
        worst=float(np.abs(error).max(initial=0.0)),
        found=float(seen.found.mean()),
        certainty=_mean(seen.certainty[~np.isnan(seen.certainty)]),
        infinite=int(infinite.sum()),
        infinite_found=int((infinite & said).sum()),
        infinite_false=int((~infinite & said).sum()),
        violations=int((seen.lower > seen.h * (1.0 + ROUNDED)).sum()),
        predict_milliseconds=1e3 * seen.spent / len(seen.h),
        exact_milliseconds=1e3 * float(seen.exact.mean()),
    )


def reliability(certainty: Floats, found: NDArray[np.bool_]) -> Reliability:
    """How good certainties (B,) are against what happened (B,); where one is nan the code is left out."""
    known = ~np.isnan(certainty)
    said, right = certainty[known], found[known].astype(float)
    sure = said >= SURE
    places = np.clip(np.searchsorted(EDGES, said, "right") - 1, 0, len(EDGES) - 2)
    bins = tuple(
        Bin(low, high, int(own.sum()), float(said[own].mean()), float(right[own].mean()))
        for place, (low, high) in enumerate(pairwise(EDGES))
        if (own := places == place).any()
    )
    base = _mean(right)
    return Reliability(
        codes=len(said),
        brier=_mean((said - right) ** 2),
        base_brier=base * (1.0 - base),
        sure=int(sure.sum()),
        sure_found=_mean(right[sure]),
        bins=bins,
    )


def _mean(values: Sequence[float] | Floats) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
