"""The Predictor: brackets, experts and router combined.

`predict` never calls the exact solver: it brackets the height, asks the experts where in the bracket log2 h lies, and
averages their answers in log2. An infinite height is recognised by the rank of the code's columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import brackets as _brackets
from .codes import check_m, check_P, like_input
from .errors import CodeError, ModelError
from .experts import Expert, positions, read
from .files import from_rows
from .minors import MAX_N
from .router import slack_weights
from .storage import load_set, shipped_folder
from .tiers import TIERS, TRAINED_N

AT_ONCE = 8192
"""Codes bracketed and predicted at a time, which bounds memory (about 0.2 GiB)."""

Router = Callable[[int, int, int], NDArray[np.float64]]


class Predictor:
    """Predicts m-heights of codes [I | P]; made by `Predictor.load`.

    Args:
        tiers: for each of the three tiers its config and its experts, as `storage.load_set` gives them.
        router: weights over the tiers, (3,), from n, k, m.

    Example:
        >>> from moe_mheight import Predictor
        >>> predictor = Predictor.load()
        >>> round(predictor.predict([[1, 1], [1, 2]], 2), 3)
        3.0
    """

    def __init__(self, tiers: dict[str, tuple[dict[str, Any], list[Expert]]], router: Router = slack_weights) -> None:
        self.configs = {tier: config for tier, (config, _) in tiers.items()}
        self.experts = {tier: experts for tier, (_, experts) in tiers.items()}
        self.router = router
        steps = {experts[0].architecture.steps for experts in self.experts.values()}
        if len(steps) != 1:
            raise ModelError(f"all tiers must read brackets of the same number of steps, got {sorted(steps)}")
        self.steps = steps.pop()

    @classmethod
    def load(cls, path: str | Path | None = None, *, router: Router = slack_weights) -> Predictor:
        """The shipped models, or a model set that `mheight train-expert --models PATH` made.

        Raises:
            ModelError: the folder is missing, incomplete, damaged or of the wrong shape.
        """
        return cls(load_set(shipped_folder() if path is None else Path(path)), router)

    def predict(self, P: Any, m: Any = None, *, threads: int | None = None) -> Any:
        """Predicted heights.

        Args:
            P: one code (k, r), a batch (B, k, r), or, without m, rows [n, k, m, P] of mixed groups.
            m: int, or (B,) ints for a batch; None for rows.
            threads: for the brackets; default all cores.

        Returns:
            float for one code, else (B,) float64, dimensionless; inf for infinite heights. Always inside the
            certified bracket.

        Raises:
            CodeError: P or m breaks a rule.
            DataError: a row does; the message says which.
        """
        values, _, single = self._measure(P, m, threads)
        return like_input(values[:, 2], single)

    def bounds(self, P: Any, m: Any = None, *, threads: int | None = None) -> tuple[Any, Any]:
        """Certified (lower, upper) bounds of the heights, the brackets that `predict` answers within.

        Arguments, shapes and errors as in `predict`.
        """
        values, _, single = self._measure(P, m, threads)
        return like_input(values[:, 0], single), like_input(values[:, 1], single)

    def predict_interval(
        self, P: Any, m: Any = None, *, coverage: float = 0.9, threads: int | None = None
    ) -> tuple[Any, Any]:
        """Intervals (low, high) that hold the height for about `coverage` of codes like the training kinds.

        Split-conformal: the predicted position plus or minus a quantile of what the error was on held-out codes of
        the tier, cut to the certified bracket.

        Args:
            coverage: between 0 and 1; at 1 the certified bracket itself.
            Others, shapes and errors as in `predict`.
        """
        if not 0.0 < coverage <= 1.0:
            raise CodeError(f"coverage must satisfy 0 < coverage <= 1, got {coverage}")
        reach = {tier: _quantile(config["calibration"], coverage) for tier, config in self.configs.items()}
        values, groups, single = self._measure(P, m, threads)
        ends = values[:, :2].copy()
        for group, places in groups:
            lower, upper, best = values[places].T
            far = sum(weight * reach[tier] for weight, tier in zip(self.router(*group), TIERS, strict=True))
            known = np.isfinite(upper)  # elsewhere the interval is the bracket
            factor = (upper[known] / lower[known]) ** far
            ends[places[known], 0] = np.maximum(best[known] / factor, lower[known])
            ends[places[known], 1] = np.minimum(best[known] * factor, upper[known])
        return like_input(ends[:, 0], single), like_input(ends[:, 1], single)

    def __call__(self, n: int, k: int, m: int, matrices: Sequence[ArrayLike]) -> list[float]:
        """The signature that the field's evaluator calls: heights of a list of P of one group."""
        return [float(h) for h in self.predict([[n, k, m, P] for P in matrices])]

    def _measure(
        self, P: Any, m: Any, threads: int | None
    ) -> tuple[NDArray[np.float64], list[tuple[tuple[int, int, int], NDArray[np.int64]]], bool]:
        """(B, 3) lower bounds, upper bounds and predictions; the groups with their places; whether it was one code."""
        if m is None:
            rows = from_rows(P, None) if len(P) else {}
            matrices, single = {group: (codes.row, codes.P) for group, codes in rows.items()}, False
        else:
            batch, single = check_P(P, max_n=MAX_N)
            k, r = batch.shape[1:]
            levels = check_m(m, len(batch), r)
            matrices = {
                (k + r, k, int(level)): (np.flatnonzero(levels == level), batch[levels == level])
                for level in np.unique(levels)
            }
        values = np.empty((sum(len(places) for places, _ in matrices.values()), 3))
        for group, (places, P_of_group) in matrices.items():
            values[places] = self._group(P_of_group, group, threads)
        return values, [(group, places) for group, (places, _) in matrices.items()], single

    def _group(self, P: NDArray[np.float64], group: tuple[int, int, int], threads: int | None) -> NDArray[np.float64]:
        """(B, 3) lower bounds, upper bounds and predictions of one group's codes."""
        n = group[0]
        if not TRAINED_N[0] <= n <= TRAINED_N[1]:
            warnings.warn(
                f"n = {n} is outside the trained range {TRAINED_N[0]} <= n <= {TRAINED_N[1]}: the prediction is an "
                "extrapolation, its bracket is not",
                stacklevel=4,
            )
        values = np.empty((len(P), 3))
        for start in range(0, len(P), AT_ONCE):
            piece = slice(start, start + AT_ONCE)
            found = _brackets.brackets(P[piece], group[2], steps=self.steps, threads=threads)
            reading = read(found)
            position = np.zeros(len(found.lower))
            if reading.width.any():
                for weight, tier in zip(self.router(*group), TIERS, strict=True):
                    if weight:
                        position += weight * np.mean(
                            [positions(e, reading, threads) for e in self.experts[tier]], axis=0
                        )
            best = np.exp2(reading.lower + position * reading.width)
            values[piece, 0], values[piece, 1] = found.lower, found.upper
            values[piece, 2] = np.clip(best, found.lower, found.upper)
        return values

    def measure(self, P: ArrayLike, m: Any, *, threads: int | None = None) -> NDArray[np.float64]:
        """Lower bounds, upper bounds and predictions of a batch at one go, (B, 3)."""
        return self._measure(P, m, threads)[0]


def _quantile(calibration: dict[str, float], coverage: float) -> float:
    """The calibrated reach at a coverage, interpolated between the stored quantiles and cut at the whole bracket."""
    at = np.array([0.0, *map(float, calibration), 1.0])
    return float(np.interp(coverage, at, [0.0, *calibration.values(), 1.0]))
