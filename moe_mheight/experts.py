"""The expert network: where in its certified bracket does log2 h lie?

An expert reads the tokens of a code, the sets (S, a) with the largest upper bounds (see `brackets`), and answers with
a position in [0, 1]; the prediction is log2 h = L + position (U - L), so it cannot leave the bracket. All inputs are
invariant under coordinate permutations, sign changes and changes of basis.

Each token's true value lies between its own bounds; the network places it there, and mixes the placed values with
weights that say which token decides the code (the height is the largest of them), one free value included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .brackets import STEPS, TOKENS, Brackets, brackets
from .errors import ModelError, brief
from .kernels import over_batch

PROFILE = 15
"""Entries of a token's |y| and |c_S| profiles, zero-padded: n - m <= 15 for n <= 16."""

CLOSED = 1e-9
"""A bracket narrower than this many bits is closed: there is no position to predict."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Shape of an expert network; all of it is stored beside the weights."""

    width: int = 48  # features per token
    blocks: int = 2  # rounds of exchange between the tokens of a code
    steps: int = STEPS  # reweighting steps of the brackets it reads
    tokens: int = TOKENS  # tokens per code

    def __post_init__(self) -> None:
        for name, most in (("width", 1024), ("blocks", 32), ("steps", 64), ("tokens", 64)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise ModelError(f"{name} must be an int from 0 to {most}, got {brief(value)}")
        if self.tokens != TOKENS or self.width < 1:
            raise ModelError(f"an expert has width >= 1 and reads {TOKENS} tokens, got {self.width}, {self.tokens}")

    @property
    def features(self) -> int:
        """Numbers per token, see `read`."""
        return 2 * (self.steps + 1) + 2 + 2 * PROFILE + 6


@dataclass(frozen=True)
class Reading:
    """What an expert reads of B codes.

    Shapes: tokens (B, T, F) float32; low, high (B, T) float32, each token's own bounds as positions in the code's
    bracket; lower, width (B,) float64, log2 L and log2 U - log2 L, width 0 where the bracket is closed or unbounded.
    """

    tokens: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    lower: NDArray[np.float64]
    width: NDArray[np.float64]


def read(b: Brackets) -> Reading:
    """Turn brackets into network inputs; see `Reading`."""
    count, tokens, s = b.y.shape
    with np.errstate(divide="ignore", invalid="ignore"):
        lower, upper = np.log2(b.lower), np.log2(b.upper)
        width = upper - lower
        open_ = np.isfinite(width) & (width > CLOSED)
        scale = np.where(open_, width, 1.0)[:, None, None]
        token_low, token_high = np.log2(b.token_lower), np.log2(b.token_upper)
        gap = (token_high - token_low)[..., -1:]
        own = np.concatenate(
            [
                np.clip((token_high - upper[:, None, None]) / scale, -6.0, 6.0),
                np.clip((token_low - lower[:, None, None]) / scale, -6.0, 6.0),
                np.log2(np.maximum(gap, CLOSED)) / 4.0,
                np.clip(gap / scale, 0.0, 6.0),
            ],
            axis=2,
        )
        low = np.clip((token_low[..., -1] - lower[:, None]) / scale[..., 0], -6.0, 1.0)
        high = np.clip((token_high[..., -1] - lower[:, None]) / scale[..., 0], -6.0, 1.0)
    whole = np.stack(
        [
            np.log2(np.maximum(scale[:, 0, 0], CLOSED)) / 2.0,
            np.where(np.isfinite(lower), lower, 0.0) / 8.0,
            np.full(count, b.n / 12.0),
            np.full(count, b.k / 12.0),
            np.full(count, b.m / 12.0),
            np.full(count, (b.n - b.k - b.m) / 6.0),
        ],
        axis=1,
    )
    out = np.zeros((count, tokens, own.shape[2] + 2 * PROFILE + whole.shape[1]), np.float32)
    at = own.shape[2]
    out[..., :at] = own
    out[..., at : at + s] = 3.0 * b.y
    out[..., at + PROFILE : at + PROFILE + s] = b.c
    out[..., at + 2 * PROFILE :] = whole[:, None, :]
    np.nan_to_num(out, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return Reading(
        out,
        np.nan_to_num(low).astype(np.float32),
        np.nan_to_num(high).astype(np.float32),
        lower,
        np.where(open_, width, 0.0),
    )


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
    """Position of log2 h in its bracket, from the tokens of a code.

    Shape:
        tokens (B, T, F), low (B, T), high (B, T) as in `Reading` -> (B,) in [0, 1].

    Example:
        >>> import torch
        >>> from moe_mheight.experts import Architecture, Expert
        >>> size = Architecture(width=16, blocks=1)
        >>> expert = Expert(size)
        >>> t = torch.zeros(5, size.tokens, size.features)
        >>> expert(t, t[..., 0], t[..., 0] + 1).shape
        torch.Size([5])
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

    def standardise(self, tokens: Tensor) -> None:
        """Take the inputs' mean and spread from a sample of tokens (B, T, F)."""
        self.mean.copy_(tokens.mean((0, 1)))
        self.spread.copy_(tokens.std((0, 1)) + 1e-3)

    def forward(self, tokens: Tensor, low: Tensor, high: Tensor) -> Tensor:
        x = self.enter((tokens - self.mean) / self.spread)
        for exchange in self.rounds:
            x = exchange(x)
        x = self.norm(x)
        placed = self.place(x)  # (B, T, 2): where between its own bounds, how decisive
        free = self.free(summary(x))  # (B, 2): the same for the free value
        value = (low + torch.sigmoid(placed[..., 0]) * (high - low)).clamp(0.0, 1.0)
        value = torch.cat([value, torch.sigmoid(free[:, :1])], dim=1)
        # a token placed high is the likelier maximum; the network learns the rest
        decisive = torch.cat([placed[..., 1] + 4.0 * value[:, :-1].detach(), free[:, 1:]], dim=1)
        return (value * torch.softmax(decisive, dim=1)).sum(1).clamp(0.0, 1.0)


AT_ONCE = 512
"""Codes per forward pass: intermediate results stay in cache (five times faster than all at once)."""


@contextmanager
def _one_thread_a_pass() -> Iterator[None]:
    """Passes this small are spread over our own threads; torch's would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def positions(expert: Expert, reading: Reading, threads: int | None = None) -> NDArray[np.float64]:
    """The expert's positions, (B,) float64, for a reading of B codes; threads: default all cores."""
    device = expert.mean.device
    out = np.empty(len(reading.lower))

    def some(start: int, stop: int) -> None:
        with torch.inference_mode():
            for at in range(start, stop, AT_ONCE):
                piece = slice(at, min(at + AT_ONCE, stop))
                parts = (reading.tokens[piece], reading.low[piece], reading.high[piece])
                out[piece] = expert(*(torch.from_numpy(part).to(device) for part in parts)).cpu().numpy()

    with _one_thread_a_pass():
        over_batch(some, len(out), threads)
    return out


def read_codes(P: NDArray[np.float64], m: int, architecture: Architecture, threads: int | None = None) -> Reading:
    """Bracket a batch of one group, (B, k, r), and read it."""
    return read(brackets(P, m, steps=architecture.steps, threads=threads))
