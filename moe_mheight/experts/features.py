"""What an expert reads of a code: its kept candidates, the sets (S, a) with the largest upper bounds, in numbers.

To add a feature, add a line to FEATURES, with a function of its own below if it needs one; networks take their number
of inputs from that list. Models trained before do not fit then, and are refused by name and shape.

All features are invariant under coordinate permutations, sign changes and changes of basis. Most codes need no expert:
what the kept candidates found decides their height to DECIDED bits. The others are routed to experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..brackets.irls import EXTRA, KEPT, Brackets
from ..groups import slack_of
from .torch_threads import on_threads

PROFILE = 15
"""Entries of a candidate's |y| and |c_S| profiles, zero-padded: n - m <= 15 for n <= 16."""

LONG_PROFILE = 31
"""The same under a budget, for n <= 32."""

FARTHEST = 64.0
"""Bits above L beyond which nothing is told apart under a budget."""

CLOSED = 1e-9
"""A bracket narrower than this many bits is closed: there is no position to predict."""

DECIDED = 1e-6
"""Where all that the kept candidates found leaves fewer bits than this, certified, no expert is needed."""


class Kept(NamedTuple):
    """What is known of the kept candidates of A codes, as tensors; shapes as in `Brackets`."""

    lower: Tensor
    upper: Tensor
    y: Tensor
    c: Tensor
    basic_y: Tensor
    basic_c: Tensor


@dataclass(frozen=True, eq=False)
class Known:
    """What features are computed from, for A codes of one group, in float64.

    Shapes: log2_lower, log2_upper (A, T, solves), of the kept candidates after each solve; lower, gap (A,) as in
    `Features`; profiles as in `Brackets`.
    """

    kept: Kept
    group: tuple[int, int, int]
    steps: int
    budget: int
    lower: Tensor
    gap: Tensor
    log2_lower: Tensor
    log2_upper: Tensor

    @property
    def top(self) -> Tensor:
        """(A,) log2 of the code's upper bound; under a budget of the largest that its kept candidates have."""
        return self.log2_upper[..., self.steps].amax(1) if self.budget else self.lower + self.gap

    @property
    def width(self) -> Tensor:
        """(A, T, 1) bits that each candidate's own bounds leave open in the end."""
        return (self.log2_upper - self.log2_lower)[..., -1:]


class Feature(NamedTuple):
    """Some of the numbers that an expert reads of each kept candidate."""

    name: str
    size: str  # how many: "one", "solves" (one for each solve) or "profile" (one for each coordinate of S)
    values: Callable[[Known], Tensor]  # (A, T, size), or (A,) where all candidates of a code share it


FEATURES = (
    Feature("upper bounds, from the code's", "solves", lambda x: _scaled(x, x.log2_upper - x.top[:, None, None])),
    Feature("lower bounds, from the code's", "solves", lambda x: _scaled(x, x.log2_lower - x.lower[:, None, None])),
    Feature("own width, log", "one", lambda x: torch.log2(x.width.clamp(min=CLOSED)) / 4.0),
    Feature("own width, in the code's", "one", lambda x: _scaled(x, x.width)),
    Feature("|y|", "profile", lambda x: _padded(x, 3.0 * x.kept.y)),
    Feature("|c|", "profile", lambda x: _padded(x, x.kept.c)),
    Feature("|y|, basic solution", "profile", lambda x: _padded(x, 3.0 * x.kept.basic_y)),
    Feature("|c|, basic solution", "profile", lambda x: _padded(x, x.kept.basic_c)),
    Feature("width of the bracket, log", "one", lambda x: torch.log2(x.gap) / 2.0),
    Feature("log2 L", "one", lambda x: x.lower / 8.0),
    Feature("n", "one", lambda x: _constant(x, x.group[0] / 12.0)),
    Feature("k", "one", lambda x: _constant(x, x.group[1] / 12.0)),
    Feature("m", "one", lambda x: _constant(x, x.group[2] / 12.0)),
    Feature("slack", "one", lambda x: _constant(x, slack_of(*x.group) / 6.0)),
)
"""What every expert reads, in this order."""

SEARCH_FEATURES = (
    Feature("number of sets, log", "one", lambda x: _constant(x, _log2_sets(x) / 16.0)),
    Feature("share visited, log", "one", lambda x: _constant(x, min(math.log2(x.budget) - _log2_sets(x), 0.0) / 8.0)),
)
"""What experts read under a budget of sets besides."""


def _scaled(x: Known, bits: Tensor) -> Tensor:
    """Bits (A, T, f) in widths of the bracket, large ones damped."""
    return torch.asinh(_finite(bits / x.gap[:, None, None]))


def _padded(x: Known, profile: Tensor) -> Tensor:
    return nn.functional.pad(profile, (0, (LONG_PROFILE if x.budget else PROFILE) - profile.shape[-1]))


def _constant(x: Known, value: float) -> Tensor:
    return torch.full_like(x.lower, value)


def _log2_sets(x: Known) -> float:
    n, _, m = x.group
    return math.log2(math.comb(n, m))


def _finite(x: Tensor) -> Tensor:
    """Zeros, which have no gradient, for what is not finite."""
    return torch.nan_to_num(x, 0.0, 0.0, 0.0)


def listed(open_ended: bool) -> tuple[Feature, ...]:
    """The features of an expert, in order; open_ended: for codes searched under a budget."""
    return FEATURES + SEARCH_FEATURES if open_ended else FEATURES


def feature_count(steps: int, open_ended: bool) -> int:
    """F, the numbers that an expert reads of each kept candidate."""
    sizes = {"one": 1, "solves": steps + 1 + EXTRA, "profile": LONG_PROFILE if open_ended else PROFILE}
    return sum(sizes[feature.size] for feature in listed(open_ended))


@dataclass(frozen=True, eq=False)
class Features:
    """What an expert reads of B codes, A of which are routed to experts.

    Shapes: routed (B,) bool; kept (A, T, F) float32; low, high (A, T) float32, each candidate's own bounds as positions
    in the code's bracket; lower, gap (B,) float64, log2 L and log2 U - log2 L, 0 where that is infinite; floor, ceiling
    (B,) float64, the tightest certified bounds in bits above log2 L. Not routed are heights that those decide, and
    infinite or unbounded ones. Under a budget positions are bits above L: gap is 1, and all finite heights are routed.
    """

    routed: NDArray[np.bool_]
    kept: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    lower: NDArray[np.float64]
    gap: NDArray[np.float64]
    floor: NDArray[np.float64]
    ceiling: NDArray[np.float64]

    def log2_heights(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """log2 heights, (..., B), from the positions (..., A) of those routed; the middle of what is decided."""
        middle = self.lower + (self.floor + self.ceiling) / 2.0
        out = np.broadcast_to(middle, (*positions.shape[:-1], len(middle))).copy()
        out[..., self.routed] = self.lower[self.routed] + positions * self.gap[self.routed]
        return out


def features_of(b: Brackets, also: NDArray[np.bool_] | None = None) -> Features:
    """Turn brackets into what experts read.

    also: (B,), codes to route to experts too where their bracket is open, even if tighter bounds decide the height.
    """
    floor, ceiling = b.tightest
    with np.errstate(divide="ignore", invalid="ignore"):
        lower = np.log2(b.lower)
        gap = np.where(np.isfinite(lower), 1.0, np.inf) if b.budget else np.log2(b.upper) - lower
        floor, ceiling = np.log2(floor) - lower, np.log2(ceiling) - lower
    bounded = np.isfinite(gap)
    gap, floor, ceiling = (np.where(bounded, offset, 0.0) for offset in (gap, floor, ceiling))
    undecided = ceiling - floor > DECIDED
    routed = bounded & (gap > CLOSED) & (undecided if also is None else undecided | also)
    kept, low, high = _as_float32(b, routed, lower[routed], gap[routed])
    return Features(routed, kept, low, high, lower, gap, floor, ceiling)


def _as_float32(
    b: Brackets, routed: NDArray[np.bool_], lower: NDArray[np.float64], gap: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """kept, low and high of the codes routed."""
    if not routed.any():  # as of most codes that come alone
        empty = np.zeros((0, KEPT), np.float32)
        return np.zeros((0, KEPT, feature_count(b.steps, b.budget > 0)), np.float32), empty, empty
    parts = (b.kept_lower, b.kept_upper, b.y, b.c, b.basic_y, b.basic_c)
    kept = Kept(*(torch.from_numpy(part[routed]) for part in parts))
    ends = torch.from_numpy(lower), torch.from_numpy(gap)

    def compute() -> tuple[NDArray[np.float32], ...]:
        return tuple(part.float().numpy() for part in kept_features(kept, (b.n, b.k, b.m), b.steps, b.budget, *ends))

    kept_out, low, high = on_threads(1, compute)
    return kept_out, low, high


def kept_features(
    kept: Kept, group: tuple[int, int, int], steps: int, budget: int, lower: Tensor, gap: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What an expert reads of A codes of one group, in float64; autograd can follow it.

    Args:
        kept: of brackets with so many steps and this budget of sets.
        group: n, k, m.
        lower, gap: (A,), as in `Features`.

    Returns:
        kept (A, T, F), low and high (A, T), as in `Features`. What is not finite reads 0.
    """
    known = Known(kept, group, steps, budget, lower, gap, torch.log2(kept.lower), torch.log2(kept.upper))
    shape = (*kept.lower.shape[:2], -1)
    parts = [feature.values(known) for feature in listed(budget > 0)]
    parts = [part if part.dim() == 3 else part[:, None, None].expand(shape) for part in parts]
    highest = FARTHEST if budget else 1.0
    low, high = (
        _finite(((ends[..., -1] - lower[:, None]) / gap[:, None]).clamp(-6.0, highest))
        for ends in (known.log2_lower, known.log2_upper)
    )
    return _finite(torch.cat(parts, dim=2)), low, high
