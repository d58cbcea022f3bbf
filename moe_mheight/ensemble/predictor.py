"""The Predictor: brackets, experts and router combined.

`predict` never calls the exact solver: it brackets the height, has the experts place log2 h in the bracket, and
averages their answers in log2. An infinite height is recognised by the rank of the code's columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arguments import check_rows, real, whole
from ..brackets import bounds as _brackets
from ..codes.forms import as_P
from ..codes.linear import check_m, check_P, like_input
from ..codes.minors import MAX_N
from ..data.code_files import from_rows
from ..errors import CodeError, ModelError, brief
from ..experts import conformal
from ..experts.features import Features, features_of
from ..experts.long_experts import LongTier
from ..experts.measurement import Measurement
from ..experts.model_store import Tier, load_long_set, load_set, shipped_folder
from ..experts.network import combined
from ..groups import EVALUATOR, SEARCHED_N, TIERS, TRAINED_N, Group, group_name, slack_of
from ..numerics.bitsets import BITS, LONGEST
from ..numerics.jit import thread_count
from .long_codes import effort_of, measure_long
from .router import ROUTERS, Router, load_gate, slack_weights, table_router

ALL_SETS = "all"
"""The effort that looks at all sets."""

AT_ONCE = 8192
"""Codes bracketed and predicted at a time, which bounds memory (about 0.2 GiB)."""


class _Piece(NamedTuple):
    group: tuple[int, int, int]
    places: NDArray[np.int64]  # in the answer
    P: NDArray[np.float64]
    measured: Measurement


class _How(NamedTuple):
    """How predictions are asked for; as in `Predictor.predict`."""

    matrix: str | None
    budget: int
    effort: str | float
    threads: int | None
    coverage: float | None = None


class Predictor:
    """Predicts m-heights of codes [I | P]; made by `Predictor.load`.

    Args:
        tiers: by name, as `model_store.load_set` gives them.
        router: weights over the tiers, (3,) for TIERS, from n, k, m. Weights of 0 leave an expert out.
        long: the experts of long codes, by tier; without them n > 16 needs a budget.
        source: the folder that the tiers come from; only told by `repr`.

    Example:
        >>> from moe_mheight import Predictor
        >>> predictor = Predictor.load()
        >>> round(predictor.predict([[1, 1], [1, 2]], 2), 3)
        3.0
    """

    def __init__(
        self,
        tiers: dict[str, Tier],
        router: Router = slack_weights,
        *,
        long: dict[str, LongTier] | None = None,
        source: str | Path | None = None,
    ) -> None:
        self.tiers = tiers
        self.long = long or {}
        self.router = router
        self.source = source
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
        if path is not None and not isinstance(path, (str, PathLike)):
            raise ModelError(f"path must be the name of a model set's folder, or None, got {brief(path)}")
        if not isinstance(router, (str, PathLike)) and not callable(router):
            raise ModelError(f"router must be fixed, learned, a file of rules or a function, got {brief(router)}")
        folder = shipped_folder() if path is None else Path(path)
        tiers, long = load_set(folder), load_long_set(folder)
        if callable(router):
            return cls(tiers, router, long=long, source=folder)
        if router not in ROUTERS:
            return cls(tiers, table_router(router), long=long, source=folder)
        return cls(tiers, slack_weights if router == "fixed" else load_gate(folder), long=long, source=folder)

    def __repr__(self) -> str:
        tiers = ", ".join(f"{name} {len(tier.experts)}+{len(tier.searchers)}" for name, tier in self.tiers.items())
        router = getattr(self.router, "__name__", type(self.router).__name__)
        return f"Predictor({tiers} members, router {router}, from {self.source or 'memory'})"

    def predict(
        self,
        P: Any,
        m: Any = None,
        *,
        matrix: str | None = None,
        budget: int = 0,
        effort: str | float = "default",
        threads: int | None = None,
    ) -> Any:
        """Predicted heights.

        Args:
            P: one code (k, r), a batch (B, k, r), or, without m, rows [n, k, m, P] of mixed groups.
            m: int, or (B,) ints for a batch; None for rows.
            matrix: what P is, as in `m_height`; the prediction is for its systematic form in float64. Not for rows.
            budget: visit no more than this many sets of n - m coordinates, for n up to 32. 0: all of them below n = 16,
                from there on a search that the experts end (`ensemble.long_codes`). Under a budget and in a search the
                lower bound is certified, and no upper bound is known.
            effort: of that search, "fast", "default" or "thorough", or seconds a code; "all" looks at all sets instead,
                also at n = 16, and not beyond.
            threads: for the brackets and searches; default all cores.

        Returns:
            float for one code, else (B,) float64, dimensionless; inf for infinite heights. Always inside the
            certified bracket.

        Raises:
            CodeError: P or m breaks a rule.
            DataError: a row does; the message says which.
        """
        count, single, pieces = self._pieces(P, m, _How(matrix, budget, effort, threads))
        heights = np.empty(count)
        for piece in pieces:
            heights[piece.places] = piece.measured.height
        return like_input(heights, single)

    def bounds(
        self,
        P: Any,
        m: Any = None,
        *,
        matrix: str | None = None,
        budget: int = 0,
        effort: str | float = "default",
        threads: int | None = None,
    ) -> tuple[Any, Any]:
        """Certified (lower, upper) bounds of the heights, the tightest that are known; `predict` answers within them.

        Arguments, shapes and errors as in `predict`.
        """
        count, single, pieces = self._pieces(P, m, _How(matrix, budget, effort, threads))
        ends = np.empty((2, count))
        for piece in pieces:
            lower, upper = piece.measured.tightest_lower, piece.measured.tightest_upper
            if piece.P.shape[1] + piece.P.shape[2] == MAX_N and not budget:  # all sets, which takes longer
                above = _brackets.bounds(piece.P, piece.group[2], threads=threads)
                lower, upper = np.maximum(lower, above[0]), np.minimum(upper, above[1])
            ends[:, piece.places] = lower, upper
        return like_input(ends[0], single), like_input(ends[1], single)

    def predict_interval(
        self,
        P: Any,
        m: Any = None,
        *,
        matrix: str | None = None,
        coverage: float = 0.9,
        budget: int = 0,
        effort: str | float = "default",
        threads: int | None = None,
    ) -> tuple[Any, Any]:
        """Intervals (low, high) that hold the height for about `coverage` of codes like the training kinds.

        Split-conformal on held-out codes of the tier, within the tightest certified bounds. Where those decide the
        height there is no error left to calibrate; the interval is a piece of them, truncated at random (but always
        the same for the same code) so that the coverage is the one asked for (see `experts.conformal`); coverage=1 is
        all of them. Where a code is routed to several tiers, the calibration of the one with the largest gate weight is
        used. Under a budget, and from n = 16 on, the interval starts at the certified lower bound, which is the height
        itself whenever the search has met the right set; so it covers at least as often as it says.

        Args:
            coverage: between 0 and 1; at 1 the certified bracket itself.
            Others, shapes and errors as in `predict`.
        """
        _check_coverage(coverage)
        count, single, pieces = self._pieces(P, m, _How(matrix, budget, effort, threads, coverage))
        ends = np.empty((2, count))
        for piece in pieces:
            ends[:, piece.places] = self._intervals(piece, coverage, budget)
        return like_input(ends[0], single), like_input(ends[1], single)

    def intervals_of(
        self, P: NDArray[np.float64], m: int, measured: Measurement, coverage: float
    ) -> NDArray[np.float64]:
        """(2, B) ends of the intervals of one group's codes, from what `measure` gave for them."""
        _check_coverage(coverage)
        group = (P.shape[1] + P.shape[2], P.shape[1], m)
        return self._intervals(_Piece(group, np.arange(len(P)), P, measured), coverage, 0)

    def _intervals(self, piece: _Piece, coverage: float, budget: int) -> NDArray[np.float64]:
        """(2, b) ends of the intervals of one piece."""
        if piece.measured.low is not None and piece.measured.high is not None:  # a search knows its own
            return np.stack([piece.measured.low, piece.measured.high])
        measured, routed = piece.measured, piece.measured.routed
        floor, ceiling = measured.tightest_lower, measured.tightest_upper
        lower, upper = measured.lower[routed], measured.upper[routed]
        gap = np.ones(len(lower)) if budget else np.log2(upper) - np.log2(lower)
        ends, highest = np.stack([floor, ceiling]), np.inf if budget else 1.0
        table = self._calibration(piece.group, budget)
        error = measured.predicted_error[routed]
        positions = np.stack(conformal.interval(table, measured.position[routed], error, coverage, highest))
        # at an end of the bracket the bound itself, not its rounding
        reached = np.where(positions < highest, lower * np.exp2(positions * gap), upper)
        ends[:, routed] = np.clip(reached, floor[routed], ceiling[routed])
        rest = ~routed & np.isfinite(ceiling)
        width = ceiling[rest] - floor[rest]
        low, high = conformal.truncate(coverage, conformal.hashes(piece.P[rest], piece.group[2]))
        ends[:, rest] = floor[rest] + low * width, ceiling[rest] - (1.0 - high) * width
        return ends

    def __call__(self, n: int, k: int, m: int, matrices: Sequence[ArrayLike]) -> list[float]:
        """The signature that the course's evaluator calls: heights of a list of P of one group."""
        return [float(h) for h in self.predict([[n, k, m, P] for P in matrices])]

    def _pieces(self, P: Any, m: Any, how: _How) -> tuple[int, bool, Iterator[_Piece]]:
        """How many codes, whether it was one, and what is measured of them, AT_ONCE codes of one group at a time."""
        matrix, budget = how.matrix, how.budget
        whole("budget", budget, 0)
        thread_count(how.threads)
        if how.effort != ALL_SETS:
            effort_of(how.effort)
        if m is None:
            if matrix not in (None, "P"):
                raise CodeError(f"rows [n, k, m, P] hold P, and matrix is {brief(matrix)}: give the matrices and m")
            check_rows(P)
            rows, single = from_rows(P, None) if len(P) else {}, False
            batches = [(group, codes.P, np.arange(len(codes.P)), codes.row) for group, codes in rows.items()]
        else:
            batch, single = check_P(as_P(P, matrix, rounded=True)[0], max_n=LONGEST if budget else BITS)
            k, r = batch.shape[1:]
            levels = check_m(m, len(batch), r)
            batches = []
            for level in np.unique(levels):
                places = np.flatnonzero(levels == level)
                batches.append(((k + r, k, int(level)), batch, places, places))

        routed_to = []
        for group, *_ in batches:  # no comprehension: the warnings' stack level counts frames
            routed_to.append(self._experts(group, how))

        def pieces() -> Iterator[_Piece]:
            for (group, matrices, rows_of, places), experts in zip(batches, routed_to, strict=True):
                for start in range(0, len(places), AT_ONCE):
                    at = slice(start, start + AT_ONCE)
                    piece = matrices[rows_of[at]]
                    yield _Piece(group, places[at], piece, self._measured(piece, group[2], experts, how))

        return sum(len(places) for *_, places in batches), single, pieces()

    def _experts(self, group: Group, how: _How) -> list[tuple[float, Tier]]:
        """The tiers that a group is routed to, with their weights; raises or warns where it is out of reach."""
        n, budget = group[0], how.budget
        if not budget and how.effort == ALL_SETS and n > MAX_N:
            raise CodeError(
                f"({group_name(group)}): all sets are looked at for n up to {MAX_N}; beyond give a budget of sets, or "
                "another effort"
            )
        if budget and n > LONGEST:
            raise CodeError(
                f"({group_name(group)}): a budget of sets is for n up to {LONGEST}; without one every n up to {BITS} "
                "is answered"
            )
        first, last = SEARCHED_N if budget else TRAINED_N
        if not first <= n <= last and not _is_searched(group, how):
            warnings.warn(
                f"n = {n} is outside the trained range {first} <= n <= {last}: the prediction is an extrapolation, "
                f"its {'lower bound' if budget else 'bracket'} is not",
                stacklevel=4,
            )
        return [(weight, self.tiers[tier]) for weight, tier in zip(self._weights(group), TIERS, strict=True) if weight]

    def _measured(self, P: NDArray[np.float64], m: int, experts: list[tuple[float, Tier]], how: _How) -> Measurement:
        """What is known of one group's codes."""
        budget, threads = how.budget, how.threads
        if _is_searched((P.shape[1] + P.shape[2], P.shape[1], m), how):
            tiers = [(weight, self._long(tier.config["tier"])) for weight, tier in experts]
            return measure_long(P, m, tiers, effort_of(how.effort), coverage=how.coverage, threads=threads)
        found = _brackets.brackets(P, m, steps=self.steps, budget=budget, threads=threads)
        features = features_of(found)
        routed = features.routed
        position, predicted_error, std_bits = np.full((3, len(routed)), np.nan)
        if routed.any():
            answers = [(weight, *_answers(tier, features, budget, threads)) for weight, tier in experts]
            mean = sum(weight * positions.mean(0) for weight, positions, _ in answers)
            position[routed], predicted_error[routed] = mean, sum(weight * errors for weight, _, errors in answers)
            squared = sum(weight * ((positions - mean) ** 2).mean(0) for weight, positions, _ in answers)
            std_bits[routed] = np.sqrt(squared) * features.gap[routed]
        floor, ceiling = found.tightest
        height = np.clip(np.exp2(features.log2_heights(position[routed])), floor, ceiling)
        std_bits[~routed] = 0.0
        bracket = (found.lower, found.upper)
        certainty = np.where(routed, np.nan, 1.0)
        return Measurement(*bracket, height, std_bits, position, predicted_error, floor, ceiling, routed, certainty)

    def _long(self, tier: str) -> LongTier:
        if tier not in self.long:
            where = "" if self.source is None else f" --models {self.source}"
            raise ModelError(
                f"these models have no experts of long codes; `mheight train-expert --tier {tier} --view long{where}` "
                "adds them"
            )
        return self.long[tier]

    def _weights(self, group: tuple[int, int, int]) -> NDArray[np.float64]:
        weights = np.asarray(self.router(*group), dtype=np.float64)
        if weights.shape != (len(TIERS),) or not ((weights >= 0).all() and abs(weights.sum() - 1.0) < 1e-6):
            raise ModelError(
                f"the router must give {len(TIERS)} weights >= 0 of sum 1, got {brief(weights)} for {group}"
            )
        return weights

    def _calibration(self, group: tuple[int, int, int], budget: int) -> dict[str, Any]:
        config = self.tiers[TIERS[int(np.argmax(self._weights(group)))]].config
        known = "field" if group in EVALUATOR else "other"
        table: dict[str, Any] = config["search"]["calibration"] if budget else config["calibration"][known]
        return table

    def measure(
        self,
        P: ArrayLike,
        m: Any,
        *,
        matrix: str | None = None,
        budget: int = 0,
        coverage: float | None = None,
        effort: str | float = "default",
        threads: int | None = None,
    ) -> Measurement:
        """All that is known of a batch (B, k, r) at one go; with a coverage also the ends of `predict_interval`.

        Other arguments, and errors, as in `predict`.
        """
        if coverage is not None:
            _check_coverage(coverage)
        count, _, pieces = self._pieces(P, m, _How(matrix, budget, effort, threads, coverage))
        measured = Measurement.unknown(count, intervals=coverage is not None)
        for piece in pieces:
            part = piece.measured
            if coverage is not None:
                low, high = self._intervals(piece, coverage, budget)
                part = replace(part, low=low, high=high)
            measured.put(piece.places, part)
        return measured


def _is_searched(group: Group, how: _How) -> bool:
    """Whether codes are searched: from n = MAX_N on. All sets take longer there; at slack 0 a search finds less."""
    if how.budget or how.effort == ALL_SETS:
        return False
    return group[0] > MAX_N or (group[0] == MAX_N and slack_of(*group) > 0)


def _check_coverage(coverage: float) -> None:
    real("coverage", coverage, 0.0, 1.0)


def _answers(
    tier: Tier, features: Features, budget: int, threads: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of a tier's members, (members, A), and its predicted error (A,)."""
    if not budget:
        return combined(tier.experts, features, threads)
    return combined(tier.searchers, features, threads, threshold=tier.config["search"]["threshold"])
