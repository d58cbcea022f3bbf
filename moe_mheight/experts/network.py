"""The expert network: where in its certified bracket does log2 h lie?

An expert reads the tokens of a code, the sets (S, a) with the largest upper bounds (see `reweighting`), and answers
with a position in [0, 1]; the prediction is log2 h = L + position (U - L), so it cannot leave the bracket. All inputs
are invariant under coordinate permutations, sign changes and changes of basis.

Most codes need no expert: what the tokens found decides their height to DECIDED bits. For the others, each token's true
value lies between its own bounds, those of its basic solution included; the network places it there, never below the
best lower bound of all tokens, and mixes the placed values with weights that say which token decides the code (the
height is the largest of them), one free value included. Under a budget of sets there is no upper bound: positions are
bits above L, and a second output that is never negative stands for the sets not looked at. A third says how far off all
that may be; it is trained on the side, learns from the same features and teaches them nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..brackets.bounds import brackets
from ..brackets.irls import BEYOND, STEPS, TOKENS, Brackets
from ..errors import ModelError, brief
from ..groups import slack_of
from ..numerics.jit import over_batch
from .torch_threads import on_threads

PROFILE = 15
"""Entries of a token's |y| and |c_S| profiles, zero-padded: n - m <= 15 for n <= 16."""

LONG_PROFILE = 31
"""The same under a budget, for n <= 32."""

FARTHEST = 64.0
"""Bits above L beyond which nothing is told apart under a budget."""

LEAST_DOUBT = 1e-7
"""No position is trusted further: it is computed in float32."""

CLOSED = 1e-9
"""A bracket narrower than this many bits is closed: there is no position to predict."""

DECIDED = 1e-6
"""Where all that the tokens found leaves fewer bits than this, certified, there is nothing to ask."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Shape of an expert network; all of it is stored beside the weights."""

    width: int = 48  # features per token
    blocks: int = 2  # rounds of exchange between the tokens of a code
    steps: int = STEPS  # reweighting steps of the brackets it reads
    tokens: int = TOKENS  # tokens per code
    open_ended: bool = False  # reads codes searched under a budget, which have no upper bound

    def __post_init__(self) -> None:
        if not isinstance(self.open_ended, bool):
            raise ModelError(f"open_ended must be true or false, got {brief(self.open_ended)}")
        for name, most in (("width", 1024), ("blocks", 32), ("steps", 64), ("tokens", 64)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise ModelError(f"{name} must be an int from 0 to {most}, got {brief(value)}")
        if self.tokens != TOKENS or self.width < 1:
            raise ModelError(f"an expert has width >= 1 and reads {TOKENS} tokens, got {self.width}, {self.tokens}")

    @property
    def features(self) -> int:
        """Numbers per token, see `read`."""
        return _feature_count(self.steps, self.open_ended)


def _feature_count(steps: int, open_ended: bool) -> int:
    profile, about = (LONG_PROFILE, 8) if open_ended else (PROFILE, 6)
    return 2 * (steps + 1 + BEYOND) + 2 + 4 * profile + about


@dataclass(frozen=True, eq=False)
class Reading:
    """What an expert reads of B codes, A of which are worth asking about.

    Shapes: asked (B,) bool; tokens (A, T, F) float32; low, high (A, T) float32, each token's own bounds as positions in
    the code's bracket; lower, gap (B,) float64, log2 L and log2 U - log2 L, 0 where that is infinite; floor, ceiling
    (B,) float64, the tightest certified bounds in bits above log2 L. Not asked are heights that those decide, and
    infinite or unbounded ones. Under a budget positions are bits above L: gap is 1, and all finite heights are asked.
    """

    asked: NDArray[np.bool_]
    tokens: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    lower: NDArray[np.float64]
    gap: NDArray[np.float64]
    floor: NDArray[np.float64]
    ceiling: NDArray[np.float64]

    def placed(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """log2 heights, (..., B), from the positions (..., A) of those asked; the middle of what is decided."""
        middle = self.lower + (self.floor + self.ceiling) / 2.0
        out = np.broadcast_to(middle, (*positions.shape[:-1], len(middle))).copy()
        out[..., self.asked] = self.lower[self.asked] + positions * self.gap[self.asked]
        return out


def read(b: Brackets, also: NDArray[np.bool_] | None = None) -> Reading:
    """Turn brackets into network inputs; see `Reading`. also: (B,), read these too where their bracket is open."""
    floor, ceiling = b.tightest
    with np.errstate(divide="ignore", invalid="ignore"):
        lower = np.log2(b.lower)
        gap = np.where(np.isfinite(lower), 1.0, np.inf) if b.budget else np.log2(b.upper) - lower
        floor, ceiling = np.log2(floor) - lower, np.log2(ceiling) - lower
    bounded = np.isfinite(gap)
    gap, floor, ceiling = (np.where(bounded, offset, 0.0) for offset in (gap, floor, ceiling))
    worth = ceiling - floor > DECIDED
    asked = bounded & (gap > CLOSED) & (worth if also is None else worth | also)
    tokens, low, high = _features(b, asked, lower[asked], gap[asked])
    return Reading(asked, tokens, low, high, lower, gap, floor, ceiling)


def _features(
    b: Brackets, asked: NDArray[np.bool_], lower: NDArray[np.float64], gap: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """tokens, low and high of the codes asked."""
    if not asked.any():  # as of most codes that come alone
        empty = np.zeros((0, TOKENS), np.float32)
        return np.zeros((0, TOKENS, _feature_count(b.steps, b.budget > 0)), np.float32), empty, empty
    parts = (b.token_lower, b.token_upper, b.y, b.c, b.basic_y, b.basic_c)
    tokens = Tokens(*(torch.from_numpy(part[asked]) for part in parts))
    ends = torch.from_numpy(lower), torch.from_numpy(gap)

    def as_float32() -> tuple[NDArray[np.float32], ...]:
        return tuple(part.float().numpy() for part in features(tokens, (b.n, b.k, b.m), b.steps, b.budget, *ends))

    tokens_out, low, high = on_threads(1, as_float32)
    return tokens_out, low, high


class Tokens(NamedTuple):
    """What is known of the tokens of A codes, as tensors; shapes as in `Brackets`."""

    lower: Tensor
    upper: Tensor
    y: Tensor
    c: Tensor
    basic_y: Tensor
    basic_c: Tensor


def features(
    tokens: Tokens, group: tuple[int, int, int], steps: int, budget: int, lower: Tensor, gap: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What an expert reads of A codes of one group, in float64; autograd can follow it.

    Args:
        tokens: of brackets with so many steps and this budget of sets.
        group: n, k, m.
        lower, gap: (A,), as in `Reading`.

    Returns:
        tokens (A, T, F), low and high (A, T), as in `Reading`. What is not finite reads 0.
    """
    n, k, m = group
    token_low, token_high = torch.log2(tokens.lower), torch.log2(tokens.upper)
    scale = gap[:, None, None]
    top = token_high[..., steps].amax(1) if budget else lower + gap
    between = (token_high - token_low)[..., -1:]
    parts = [
        torch.asinh(_finite((token_high - top[:, None, None]) / scale)),
        torch.asinh(_finite((token_low - lower[:, None, None]) / scale)),
        torch.log2(between.clamp(min=CLOSED)) / 4.0,
        torch.asinh(_finite(between / scale)),
    ]
    profile = LONG_PROFILE if budget else PROFILE
    for values, factor in ((tokens.y, 3.0), (tokens.c, 1.0), (tokens.basic_y, 3.0), (tokens.basic_c, 1.0)):
        parts.append(nn.functional.pad(factor * values, (0, profile - values.shape[-1])))
    size = [n / 12.0, k / 12.0, m / 12.0, slack_of(n, k, m) / 6.0]
    if budget:
        every = math.log2(math.comb(n, m))
        size += [every / 16.0, min(math.log2(budget) - every, 0.0) / 8.0]
    whole = torch.stack([torch.log2(gap) / 2.0, lower / 8.0, *(torch.full_like(lower, one) for one in size)], dim=1)
    parts.append(whole[:, None].expand(-1, token_low.shape[1], -1))
    most = FARTHEST if budget else 1.0
    low, high = (
        _finite(((ends[..., -1] - lower[:, None]) / gap[:, None]).clamp(-6.0, most)) for ends in (token_low, token_high)
    )
    return _finite(torch.cat(parts, dim=2)), low, high


def _finite(x: Tensor) -> Tensor:
    """Zeros, which have no gradient, for what is not finite."""
    return torch.nan_to_num(x, 0.0, 0.0, 0.0)


class Exchange(nn.Module):
    """One round: every token hears the mean, the maximum and the leading token, then thinks for itself.

    Shape: (B, T, width) -> (B, T, width).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hear = nn.Linear(3 * width, width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        y = y + self.hear(summary(y))[:, None]
        return x + self.narrow(nn.functional.silu(self.widen(y)))


def summary(x: Tensor) -> Tensor:
    """(B, T, width) -> (B, 3 width): mean, maximum, leading token."""
    return torch.cat([x.mean(1), x.amax(1), x[:, 0]], dim=1)


class Expert(nn.Module):
    """Position of log2 h in its bracket, from the tokens of a code, what may lie beyond, and how far off that may be.

    Shape:
        tokens (B, T, F), low (B, T), high (B, T) as in `Reading` -> position (B,) in [0, 1], or >= 0 if open-ended;
        beyond (B,), >= 0, what the sets not looked at are expected to add to the position, zeros if not open-ended;
        doubt (B,), the log of the expected |error| of the sum.

    Example:
        >>> import torch
        >>> from moe_mheight.experts.network import Architecture, Expert
        >>> size = Architecture(width=16, blocks=1)
        >>> expert = Expert(size)
        >>> t = torch.zeros(5, size.tokens, size.features)
        >>> position, beyond, doubt = expert(t, t[..., 0], t[..., 0] + 1)
        >>> position.shape, float(beyond.max()), doubt.shape
        (torch.Size([5]), 0.0, torch.Size([5]))
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.width
        self.register_buffer("mean", torch.zeros(architecture.features))
        self.register_buffer("spread", torch.ones(architecture.features))
        self.enter = nn.Linear(architecture.features, width)
        self.rounds = nn.ModuleList([Exchange(width) for _ in range(architecture.blocks)])
        self.norm = nn.LayerNorm(width)
        self.place = nn.Linear(width, 2)
        self.free = nn.Linear(3 * width, 2)
        self.unseen = nn.Linear(3 * width, 1) if architecture.open_ended else None
        self.wonder = nn.Sequential(nn.Linear(3 * width + 1, width), nn.SiLU(), nn.Linear(width, 1))

    def standardise(self, tokens: Tensor) -> None:
        """Take the inputs' mean and spread from a sample of tokens (B, T, F)."""
        self.mean.copy_(tokens.mean((0, 1)))
        self.spread.copy_(tokens.std((0, 1)) + 1e-3)

    def forward(self, tokens: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.enter((tokens - self.mean) / self.spread)
        for exchange in self.rounds:
            x = exchange(x)
        x = self.norm(x)
        placed = self.place(x)  # (B, T, 2): where between its own bounds, how decisive
        whole = summary(x)
        free = self.free(whole)  # (B, 2): the same for the free value
        most = FARTHEST if self.unseen is not None else 1.0
        floor = low.amax(1, keepdim=True).clamp(0.0, most)
        ceiling = torch.maximum(high.amax(1, keepdim=True).clamp(max=most), floor)
        value = torch.maximum(low + torch.sigmoid(placed[..., 0]) * (high - low), floor).clamp(max=most)
        value = torch.cat([value, floor + torch.sigmoid(free[:, :1]) * (ceiling - floor)], dim=1)
        # a token placed high is the likelier maximum; the network learns the rest, and not through this
        likelier = value[:, :-1].detach() if self.training else value[:, :-1]
        decisive = torch.cat([placed[..., 1] + 4.0 * likelier.clamp(max=1.0), free[:, 1:]], dim=1)
        position = (value * torch.softmax(decisive, dim=1)).sum(1).clamp(0.0, most)
        if self.unseen is None:
            beyond = torch.zeros_like(position)
        else:
            beyond = nn.functional.softplus(self.unseen(whole) - 3.0)[:, 0]
        left = (ceiling - floor).detach() + beyond.detach()[:, None]  # what the tokens' own bounds leave open, and that
        left = torch.log(left + LEAST_DOUBT)
        doubt = left + self.wonder(torch.cat([whole.detach(), left], dim=1))
        return position, beyond, doubt[:, 0].clamp(min=math.log(LEAST_DOUBT), max=math.log(most))


AT_ONCE = 512
"""Codes per forward pass: intermediate results stay in cache (five times faster than all at once)."""


def answers(expert: Expert, reading: Reading, threads: int | None = None) -> NDArray[np.float64]:
    """The expert's positions, what it expects beyond them, and the expected |errors| of both, (3, A) float64, for the A
    codes asked in a reading.

    threads: default all cores.
    """
    device = expert.mean.device
    out = np.empty((3, len(reading.tokens)))

    def some(start: int, stop: int) -> None:
        with torch.inference_mode():
            for at in range(start, stop, AT_ONCE):
                piece = slice(at, min(at + AT_ONCE, stop))
                parts = (reading.tokens[piece], reading.low[piece], reading.high[piece])
                position, beyond, doubt = expert(*(torch.from_numpy(part).to(device) for part in parts))
                for row, values in zip(out, (position, beyond, torch.exp(doubt)), strict=True):
                    row[piece] = values.cpu().numpy()

    on_threads(1, lambda: over_batch(some, out.shape[1], threads, min_rows=AT_ONCE // 2))
    return out


def combined(
    experts: list[Expert], reading: Reading, threads: int | None = None, *, threshold: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(seeds, A) positions of an ensemble's members, and the ensemble's doubt (A,).

    The ensemble's position is their mean: log2 heights are averaged. Its doubt adds the spread of its members. What a
    member expects beyond its position counts as far as it exceeds the threshold: a search that has seen the right set
    has left nothing out, so only a gap that is clearly expected is worth adding.
    """
    each = on_threads(1, lambda: [answers(expert, reading, threads) for expert in experts])
    positions, beyond, doubts = np.stack(each, axis=1)
    positions = positions + np.maximum(beyond - threshold, 0.0)
    return positions, doubts.mean(0) + positions.std(0)


def read_codes(
    P: NDArray[np.float64],
    m: int,
    architecture: Architecture,
    threads: int | None = None,
    *,
    budget: int = 0,
    also: NDArray[np.bool_] | None = None,
) -> Reading:
    """Bracket a batch of one group, (B, k, r), and read it; budget: sets to look at, 0 for all."""
    return read(brackets(P, m, steps=architecture.steps, budget=budget, threads=threads), also)
