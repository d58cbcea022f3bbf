"""The Predictor: brackets, experts and router combined.

`predict` never calls the exact solver: it brackets the height, asks the experts where in the bracket log2 h lies, and
averages their answers in log2. An infinite height is recognised by the rank of the code's columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import brackets as _brackets
from . import calibration
from .codes import check_m, check_P, like_input
from .errors import CodeError, ModelError, brief
from .experts import Reading, combined, read
from .files import from_rows
from .masks import LONGEST
from .minors import MAX_N
from .router import ROUTERS, Router, load_gate, slack_weights, table_router
from .storage import Tier, load_set, shipped_folder
from .tiers import EVALUATOR, SEARCHED_N, TIERS, TRAINED_N

AT_ONCE = 8192
"""Codes bracketed and predicted at a time, which bounds memory (about 0.2 GiB)."""

COLUMNS = ("lower", "upper", "height", "spread", "position", "doubt", "floor", "ceiling")
"""What is measured of each code. Heights; the standard deviation over all experts asked, in bits; where in the bracket
log2 h is put, and how far off that is expected to be, both in widths of the bracket (nan where nobody was asked); the
tightest certified bounds, heights."""


class Predictor:
    """Predicts m-heights of codes [I | P]; made by `Predictor.load`.

    Args:
        tiers: the three tiers, as `storage.load_set` gives them.
        router: weights over the tiers, (3,), from n, k, m. Weights of 0 leave an expert out.

    Example:
        >>> from moe_mheight import Predictor
        >>> predictor = Predictor.load()
        >>> round(predictor.predict([[1, 1], [1, 2]], 2), 3)
        3.0
    """

    def __init__(self, tiers: dict[str, Tier], router: Router = slack_weights) -> None:
        self.tiers = tiers
        self.router = router
        steps = {experts[0].architecture.steps for _, *both in tiers.values() for experts in both}
        if len(steps) != 1:
            raise ModelError(f"all tiers must read brackets of the same number of steps, got {sorted(steps)}")
        self.steps = steps.pop()

    @classmethod
    def load(cls, path: str | Path | None = None, *, router: str | Path | Router = "fixed") -> Predictor:
        """The shipped models, or a model set that `mheight train-expert --models PATH` made.

        Args:
            path: folder of a model set; default the shipped one.
            router: "fixed", the slack table; "learned", the set's own gate, made by `mheight train-router`; a JSON file
                of rules (see `router.table_router`); or a function of n, k, m giving the (3,) weights of the tiers.

        Raises:
            ModelError: the folder or the router is missing, incomplete, damaged or of the wrong shape.
        """
        folder = shipped_folder() if path is None else Path(path)
        tiers = load_set(folder)
        if callable(router):
            return cls(tiers, router)
        if router not in ROUTERS:
            return cls(tiers, table_router(router))
        return cls(tiers, slack_weights if router == "fixed" else load_gate(folder))

    def predict(self, P: Any, m: Any = None, *, budget: int = 0, threads: int | None = None) -> Any:
        """Predicted heights.

        Args:
            P: one code (k, r), a batch (B, k, r), or, without m, rows [n, k, m, P] of mixed groups.
            m: int, or (B,) ints for a batch; None for rows.
            budget: look at no more than this many sets of n - m coordinates, for n up to 32; 0, for n up to 16: at
                all. Under a budget the lower bound is certified, and no upper bound is known.
            threads: for the brackets; default all cores.

        Returns:
            float for one code, else (B,) float64, dimensionless; inf for infinite heights. Always inside the
            certified bracket.

        Raises:
            CodeError: P or m breaks a rule.
            DataError: a row does; the message says which.
        """
        values, _, single = self._measure(P, m, budget, threads)
        return like_input(values[:, 2], single)

    def bounds(self, P: Any, m: Any = None, *, budget: int = 0, threads: int | None = None) -> tuple[Any, Any]:
        """Certified (lower, upper) bounds of the heights, the brackets that `predict` answers within.

        Arguments, shapes and errors as in `predict`.
        """
        values, _, single = self._measure(P, m, budget, threads)
        return like_input(values[:, 0], single), like_input(values[:, 1], single)

    def predict_interval(
        self, P: Any, m: Any = None, *, coverage: float = 0.9, budget: int = 0, threads: int | None = None
    ) -> tuple[Any, Any]:
        """Intervals (low, high) that hold the height for about `coverage` of codes like the training kinds.

        Split-conformal on held-out codes of the tier, within the tightest certified bounds. Where those decide the
        height there is no doubt left to calibrate; the interval is a piece of them, cut by chance (but always the same
        for the same code) so that the coverage is the one asked for (see `calibration`); coverage=1 is all of them.
        Where several tiers speak, the loudest one's calibration is used. Under a budget the interval starts at the
        certified lower bound, which is the height itself whenever the search has seen the right set; so it covers at
        least as often as it says.

        Args:
            coverage: between 0 and 1; at 1 the certified bracket itself.
            Others, shapes and errors as in `predict`.
        """
        if not 0.0 < coverage <= 1.0:
            raise CodeError(f"coverage must satisfy 0 < coverage <= 1, got {coverage}")
        values, groups, single = self._measure(P, m, budget, threads)
        ends = values[:, 6:].copy()
        for group, places, P_of_group in groups:
            lower, upper, _, _, position, doubt, floor, ceiling = values[places].T
            asked = ~np.isnan(position)
            lower, upper = lower[asked], upper[asked]
            gap = np.ones(len(lower)) if budget else np.log2(upper) - np.log2(lower)
            most = np.inf if budget else 1.0
            seen = position[asked], doubt[asked], coverage, most
            for at, place in zip(calibration.interval(self._calibration(group, budget), *seen), (0, 1), strict=True):
                end = np.where(at < most, lower * np.exp2(at * gap), upper)  # the bound itself, not its rounding
                ends[places[asked], place] = np.clip(end, floor[asked], ceiling[asked])
            rest = ~asked & np.isfinite(ceiling)
            width = ceiling[rest] - floor[rest]
            low, high = calibration.cut(coverage, calibration.keys_of(P_of_group[rest], group[2]))
            ends[places[rest]] = np.stack([floor[rest] + low * width, ceiling[rest] - (1.0 - high) * width], axis=1)
        return like_input(ends[:, 0], single), like_input(ends[:, 1], single)

    def __call__(self, n: int, k: int, m: int, matrices: Sequence[ArrayLike]) -> list[float]:
        """The signature that the field's evaluator calls: heights of a list of P of one group."""
        return [float(h) for h in self.predict([[n, k, m, P] for P in matrices])]

    def _measure(
        self, P: Any, m: Any, budget: int, threads: int | None
    ) -> tuple[NDArray[np.float64], list[tuple[tuple[int, int, int], NDArray[np.int64], NDArray[np.float64]]], bool]:
        """(B, 8) COLUMNS; the groups with their places and matrices; whether it was one code."""
        if m is None:
            rows = from_rows(P, None) if len(P) else {}
            matrices, single = {group: (codes.row, codes.P) for group, codes in rows.items()}, False
        else:
            batch, single = check_P(P, max_n=LONGEST)
            k, r = batch.shape[1:]
            levels = check_m(m, len(batch), r)
            matrices = {
                (k + r, k, int(level)): (np.flatnonzero(levels == level), batch[levels == level])
                for level in np.unique(levels)
            }
        values = np.empty((sum(len(places) for places, _ in matrices.values()), len(COLUMNS)))
        for group, (places, P_of_group) in matrices.items():
            values[places] = self._group(P_of_group, group, budget, threads)
        return values, [(group, *placed) for group, placed in matrices.items()], single

    def _group(
        self, P: NDArray[np.float64], group: tuple[int, int, int], budget: int, threads: int | None
    ) -> NDArray[np.float64]:
        """(B, 8) COLUMNS of one group's codes."""
        n, k, m = group
        if not budget and n > MAX_N:
            raise CodeError(
                f"({n},{k},{m}) has {comb(n, m):,} sets to look at; up to n = {MAX_N} all are looked at, beyond give a "
                f"budget of sets, for n up to {LONGEST}. The exact solver is height_profile, or `mheight exact`"
            )
        first, last = (SEARCHED_N[0] if budget else TRAINED_N[0]), (SEARCHED_N[1] if budget else TRAINED_N[1])
        if not first <= n <= last:
            warnings.warn(
                f"n = {n} is outside the trained range {first} <= n <= {last}: the prediction is an extrapolation, "
                f"its {'lower bound' if budget else 'bracket'} is not",
                stacklevel=4,
            )
        weights = [
            (weight, self.tiers[tier]) for weight, tier in zip(self._weights(group), TIERS, strict=True) if weight
        ]
        values = np.empty((len(P), len(COLUMNS)))
        for start in range(0, len(P), AT_ONCE):
            piece = slice(start, start + AT_ONCE)
            found = _brackets.brackets(P[piece], m, steps=self.steps, budget=budget, threads=threads)
            reading = read(found)
            asked = reading.asked
            position, doubt, spread = np.full((3, len(asked)), np.nan)
            if asked.any():
                heard = [(weight, *_asked(tier, reading, budget, threads)) for weight, tier in weights]
                mean = sum(weight * positions.mean(0) for weight, positions, _ in heard)
                position[asked], doubt[asked] = mean, sum(weight * doubts for weight, _, doubts in heard)
                squared = sum(weight * ((positions - mean) ** 2).mean(0) for weight, positions, _ in heard)
                spread[asked] = np.sqrt(squared) * reading.gap[asked]
            floor, ceiling = found.tightest
            height = np.clip(np.exp2(reading.placed(position[asked])), floor, ceiling)
            spread[~asked] = 0.0
            values[piece] = np.stack(
                [found.lower, found.upper, height, spread, position, doubt, floor, ceiling], axis=1
            )
        return values

    def _weights(self, group: tuple[int, int, int]) -> NDArray[np.float64]:
        weights = np.asarray(self.router(*group), dtype=np.float64)
        if weights.shape != (len(TIERS),) or not ((weights >= 0).all() and abs(weights.sum() - 1.0) < 1e-6):
            raise ModelError(f"the router must give three weights >= 0 of sum 1, got {brief(weights)} for {group}")
        return weights

    def _calibration(self, group: tuple[int, int, int], budget: int) -> dict[str, Any]:
        config = self.tiers[TIERS[int(np.argmax(self._weights(group)))]].config
        known = "field" if group in EVALUATOR else "other"
        table: dict[str, Any] = config["search"]["calibration"] if budget else config["calibration"][known]
        return table

    def measure(self, P: ArrayLike, m: Any, *, budget: int = 0, threads: int | None = None) -> NDArray[np.float64]:
        """All that is known of a batch at one go, (B, 8): see COLUMNS."""
        return self._measure(P, m, budget, threads)[0]


def _asked(
    tier: Tier, reading: Reading, budget: int, threads: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of a tier's members, (seeds, A), and its doubt (A,)."""
    if not budget:
        return combined(tier.experts, reading, threads)
    return combined(tier.searchers, reading, threads, threshold=tier.config["search"]["threshold"])
