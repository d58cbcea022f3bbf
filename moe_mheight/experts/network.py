"""The expert network: where in its certified bracket does log2 h lie?

An expert reads the kept candidates of a code (see `features`) and answers with a position in [0, 1]; the prediction is
log2 h = L + position (U - L), so it cannot leave the bracket.

Each candidate's true value lies between its own bounds, those of its basic solution included; the value head places it
there, never below the best lower bound of all, and mixes the placed values with weights that say which candidate
decides the code (the height is the largest of them), one free value included. Under a budget of sets there is no upper
bound: positions are bits above L, and a second output that is never negative is the expected gap of the unvisited sets.
A third is the predicted error of all that; the error head is trained on the side, learns from the same features and
teaches them nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..brackets.bounds import brackets
from ..brackets.irls import KEPT, STEPS
from ..errors import ModelError, brief
from ..numerics.jit import over_batch
from .features import FARTHEST, Features, feature_count, features_of
from .torch_threads import on_threads

LEAST_ERROR = 1e-7
"""No position is trusted further: it is computed in float32."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Shape of an expert network; all of it is stored beside the weights."""

    width: int = 48  # numbers per candidate inside the network
    blocks: int = 2  # rounds of exchange between the candidates of a code
    steps: int = STEPS  # reweighting steps of the brackets it reads
    kept: int = KEPT  # candidates per code
    open_ended: bool = False  # reads codes searched under a budget, which have no upper bound

    def __post_init__(self) -> None:
        if not isinstance(self.open_ended, bool):
            raise ModelError(f"open_ended must be true or false, got {brief(self.open_ended)}")
        for name, largest in (("width", 1024), ("blocks", 32), ("steps", 64), ("kept", 64)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
                raise ModelError(f"{name} must be an int from 0 to {largest}, got {brief(value)}")
        if self.kept != KEPT or self.width < 1:
            raise ModelError(f"an expert has width >= 1 and reads {KEPT} candidates, got {self.width}, {self.kept}")

    @property
    def features(self) -> int:
        """Numbers that it reads of each candidate."""
        return feature_count(self.steps, self.open_ended)


class ContextBlock(nn.Module):
    """One round: the mean, the maximum and the leading candidate go to every candidate, then a network of its own.

    Shape: (B, T, width) -> (B, T, width).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.context_projection = nn.Linear(3 * width, width)
        self.hidden_layer = nn.Linear(width, 2 * width)
        self.output_projection = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        y = y + self.context_projection(summary(y))[:, None]
        return x + self.output_projection(nn.functional.silu(self.hidden_layer(y)))


def summary(x: Tensor) -> Tensor:
    """(B, T, width) -> (B, 3 width): mean, maximum, leading candidate."""
    return torch.cat([x.mean(1), x.amax(1), x[:, 0]], dim=1)


class Expert(nn.Module):
    """Position of log2 h in its bracket, the expected gap of the sets not visited, and the predicted error of the sum.

    Shape:
        kept (B, T, F), low (B, T), high (B, T) as in `Features` -> position (B,) in [0, 1], or >= 0 if open-ended;
        unvisited_gap (B,), >= 0, what the sets not visited are expected to add to the position, zeros if not
        open-ended; log_error (B,), the log of the expected |error| of the sum.

    Example:
        >>> import torch
        >>> from moe_mheight.experts.network import Architecture, Expert
        >>> size = Architecture(width=16, blocks=1)
        >>> expert = Expert(size)
        >>> kept = torch.zeros(5, size.kept, size.features)
        >>> position, unvisited_gap, log_error = expert(kept, kept[..., 0], kept[..., 0] + 1)
        >>> position.shape, float(unvisited_gap.max()), log_error.shape
        (torch.Size([5]), 0.0, torch.Size([5]))
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.width
        self.register_buffer("feature_mean", torch.zeros(architecture.features))
        self.register_buffer("feature_std", torch.ones(architecture.features))
        self.input_layer = nn.Linear(architecture.features, width)
        self.blocks = nn.ModuleList([ContextBlock(width) for _ in range(architecture.blocks)])
        self.norm = nn.LayerNorm(width)
        self.value_head = nn.Linear(width, 2)
        self.free_head = nn.Linear(3 * width, 2)
        self.gap_head = nn.Linear(3 * width, 1) if architecture.open_ended else None
        self.error_head = nn.Sequential(nn.Linear(3 * width + 1, width), nn.SiLU(), nn.Linear(width, 1))

    def standardise(self, kept: Tensor) -> None:
        """Take the inputs' mean and standard deviation from a sample (B, T, F)."""
        self.feature_mean.copy_(kept.mean((0, 1)))
        self.feature_std.copy_(kept.std((0, 1)) + 1e-3)

    def forward(self, kept: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.input_layer((kept - self.feature_mean) / self.feature_std)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        placed = self.value_head(x)  # (B, T, 2): where between its own bounds, how decisive
        context = summary(x)
        free = self.free_head(context)  # (B, 2): the same for the free value
        highest = FARTHEST if self.gap_head is not None else 1.0
        floor = low.amax(1, keepdim=True).clamp(0.0, highest)
        ceiling = torch.maximum(high.amax(1, keepdim=True).clamp(max=highest), floor)
        value = torch.maximum(low + torch.sigmoid(placed[..., 0]) * (high - low), floor).clamp(max=highest)
        value = torch.cat([value, floor + torch.sigmoid(free[:, :1]) * (ceiling - floor)], dim=1)
        # a candidate placed high is the likelier maximum; the network learns the rest, and not through this
        likelier = value[:, :-1].detach() if self.training else value[:, :-1]
        decisive = torch.cat([placed[..., 1] + 4.0 * likelier.clamp(max=1.0), free[:, 1:]], dim=1)
        position = (value * torch.softmax(decisive, dim=1)).sum(1).clamp(0.0, highest)
        if self.gap_head is None:
            unvisited_gap = torch.zeros_like(position)
        else:
            unvisited_gap = nn.functional.softplus(self.gap_head(context) - 3.0)[:, 0]
        # what the candidates' own bounds leave open, and that
        left = (ceiling - floor).detach() + unvisited_gap.detach()[:, None]
        left = torch.log(left + LEAST_ERROR)
        log_error = left + self.error_head(torch.cat([context.detach(), left], dim=1))
        return position, unvisited_gap, log_error[:, 0].clamp(min=math.log(LEAST_ERROR), max=math.log(highest))


AT_ONCE = 512
"""Codes per forward pass: intermediate results stay in cache (five times faster than all at once)."""


def answers(expert: Expert, features: Features, threads: int | None = None) -> NDArray[np.float64]:
    """The expert's positions, expected gaps of unvisited sets, and predicted errors, (3, A) float64, for the A codes
    that are routed.

    threads: default all cores.
    """
    device = expert.feature_mean.device
    out = np.empty((3, len(features.kept)))

    def run(start: int, stop: int) -> None:
        with torch.inference_mode():
            for at in range(start, stop, AT_ONCE):
                piece = slice(at, min(at + AT_ONCE, stop))
                parts = (features.kept[piece], features.low[piece], features.high[piece])
                position, unvisited_gap, log_error = expert(*(torch.from_numpy(part).to(device) for part in parts))
                for row, values in zip(out, (position, unvisited_gap, torch.exp(log_error)), strict=True):
                    row[piece] = values.cpu().numpy()

    on_threads(1, lambda: over_batch(run, out.shape[1], threads, min_rows=AT_ONCE // 2))
    return out


def combined(
    experts: list[Expert], features: Features, threads: int | None = None, *, threshold: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(members, A) positions of an ensemble's members, and the ensemble's predicted error (A,).

    The ensemble's position is their mean: log2 heights are averaged. Its predicted error is the mean of theirs plus
    their standard deviation. A member's unvisited gap counts as far as it exceeds the threshold: a search that has
    visited the right set has left nothing out, so only a gap that is clearly expected is worth adding.
    """
    of_members = on_threads(1, lambda: [answers(expert, features, threads) for expert in experts])
    positions, unvisited_gap, errors = np.stack(of_members, axis=1)
    positions = positions + np.maximum(unvisited_gap - threshold, 0.0)
    return positions, errors.mean(0) + positions.std(0)


def code_features(
    P: NDArray[np.float64],
    m: int,
    architecture: Architecture,
    threads: int | None = None,
    *,
    budget: int = 0,
    also: NDArray[np.bool_] | None = None,
) -> Features:
    """What an expert reads of a batch of one group, (B, k, r); budget: sets to visit, 0 for all; see `features_of`."""
    return features_of(brackets(P, m, steps=architecture.steps, budget=budget, threads=threads), also)
