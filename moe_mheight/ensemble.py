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
from .experts import CLOSED, Reading, above_the_least, combined, read
from .files import from_rows
from .masks import LONGEST
from .minors import MAX_N
from .router import ROUTERS, Router, load_gate, slack_weights, table_router
from .storage import Tier, load_set, shipped_folder
from .tiers import EVALUATOR, SEARCHED_N, TIERS, TRAINED_N

AT_ONCE = 8192
"""Codes bracketed and predicted at a time, which bounds memory (about 0.2 GiB)."""

COLUMNS = ("lower", "upper", "height", "spread", "position", "doubt")
"""What is measured of each code. Heights; the standard deviation over all experts asked, in bits; where in the bracket
log2 h is put, and how far off that is expected to be, both in widths of the bracket."""


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

        Split-conformal on held-out codes of the tier (see `calibration`), cut to the certified bracket. Where several
        tiers speak, the loudest one's calibration is used.

        Args:
            coverage: between 0 and 1; at 1 the certified bracket itself.
            Others, shapes and errors as in `predict`.
        """
        if not 0.0 < coverage <= 1.0:
            raise CodeError(f"coverage must satisfy 0 < coverage <= 1, got {coverage}")
        values, groups, single = self._measure(P, m, budget, threads)
        ends = values[:, :2].copy()
        for group, places in groups:
            lower, upper, _, _, position, doubt = values[places].T
            table = self._calibration(group, budget)
            with np.errstate(invalid="ignore"):
                gap = np.ones(len(lower)) if budget else np.log2(upper) - np.log2(lower)
            known = np.isfinite(gap) & np.isfinite(lower)  # elsewhere the interval is the bracket
            low, high = calibration.interval(
                table, position, doubt, ~known | (gap <= CLOSED), coverage, np.inf if budget else 1.0
            )
            for end, at in ((0, low), (1, high)):
                far = lower[known] * np.exp2(at[known] * gap[known])
                far = np.where(at[known] >= 1.0, upper[known], far) if not budget else far
                ends[places[known], end] = np.clip(far, lower[known], upper[known])
        return like_input(ends[:, 0], single), like_input(ends[:, 1], single)

    def __call__(self, n: int, k: int, m: int, matrices: Sequence[ArrayLike]) -> list[float]:
        """The signature that the field's evaluator calls: heights of a list of P of one group."""
        return [float(h) for h in self.predict([[n, k, m, P] for P in matrices])]

    def _measure(
        self, P: Any, m: Any, budget: int, threads: int | None
    ) -> tuple[NDArray[np.float64], list[tuple[tuple[int, int, int], NDArray[np.int64]]], bool]:
        """(B, 6) COLUMNS; the groups with their places; whether it was one code."""
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
        return values, [(group, places) for group, (places, _) in matrices.items()], single

    def _group(
        self, P: NDArray[np.float64], group: tuple[int, int, int], budget: int, threads: int | None
    ) -> NDArray[np.float64]:
        """(B, 6) COLUMNS of one group's codes."""
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
        middle = np.interp(0.5, calibration.LEVELS, self._calibration(group, budget)["quantiles"][0])
        usual = np.clip(middle, 0.0, 1.0)
        values = np.empty((len(P), len(COLUMNS)))
        for start in range(0, len(P), AT_ONCE):
            piece = slice(start, start + AT_ONCE)
            found = _brackets.brackets(P[piece], m, steps=self.steps, budget=budget, threads=threads)
            reading = read(found)
            position, doubt, spread = np.zeros((3, len(found.lower)))
            doubt[:] = 1.0
            if reading.width.any():
                heard = [(weight, *_asked(tier, reading, budget, threads)) for weight, tier in weights]
                position = sum(weight * positions.mean(0) for weight, positions, _ in heard)
                doubt = sum(weight * doubts for weight, _, doubts in heard)
                spread = np.sqrt(sum(weight * ((positions - position) ** 2).mean(0) for weight, positions, _ in heard))
            best = np.exp2(reading.lower + position * reading.width)
            if not budget:  # where rounding is all that is left, its usual place
                best = np.where(reading.width > 0, best, found.lower * np.exp2(usual * reading.gap))
            height = np.clip(best, found.lower, found.upper)
            values[piece] = np.stack(
                [found.lower, found.upper, height, spread * reading.width, position, doubt], axis=1
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
        """All that is known of a batch at one go, (B, 6): see COLUMNS."""
        return self._measure(P, m, budget, threads)[0]


def _asked(
    tier: Tier, reading: Reading, budget: int, threads: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of a tier's members, (seeds, B), and its doubt (B,)."""
    if not budget:
        return combined(tier.experts, reading, threads)
    positions, doubt = combined(tier.searchers, reading, threads)
    return above_the_least(positions, reading, tier.config["search"]["threshold"]), doubt
