"""How heights and their predictions change with P, in NumPy and for torch's autograd.

An exact height has a subgradient from the codeword that decides. With a its largest coordinate and B a basis inside S
on which its entries are all of one size, h = |y|_1 = u g_a, where G_B y = g_a and u G_B = sign(y) (arXiv:2602.20366,
Theorem 8, and linear-programming duality). So dh = u dg_a - u dG_B y.

A prediction is differentiated through all that it was computed from: the brackets (see `differentiable`) and, of routed
codes, the experts.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from torch import Tensor

from ..codes.linear import check_m, check_P, generator, like_input
from ..errors import CodeError
from ..exact.heights import m_height
from ..experts.features import kept_features
from ..experts.measurement import Measurement
from ..experts.network import Expert
from ..experts.torch_threads import on_threads
from ..groups import TIERS
from ..numerics.bitsets import BITS, LONGEST
from .differentiable import DifferentiableBrackets, differentiable_brackets
from .predictor import ALL_SETS, Predictor

TIES = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5)
"""Relative differences up to which entries of the codeword count as equally large; the first one that will do."""

CLOSE = 1e-6
"""Relative error up to which u, y and h fit together."""

AT_ONCE = 64
"""Codes whose prediction is differentiated at a time, which bounds memory."""

RoutedTier = tuple[float, list[Expert], float]
"""A tier that codes are routed to: its weight, its members in float64, and the threshold of `network.combined`."""


def height_gradient(P: ArrayLike, m: Any, *, threads: int | None = None) -> tuple[Any, NDArray[np.float64]]:
    """Exact m-heights of codes [I | P], and how they change with P.

    The height is a maximum of minima, each smooth in P: its gradient exists but where two codewords or two bases tie,
    a set of measure zero. There, as for integer P often, this is one of the limits of gradients from nearby.

    Args:
        P: (k, r) or (B, k, r), n = k + r <= 64.
        m: int, or (B,) ints, 1 <= m <= r.
        threads: default all cores.

    Returns:
        h: float or (B,), inf where infinite. gradient: dh/dP, of P's shape, nan where h is infinite, or where the code
            is so badly scaled that float64 does not tell which basis decides.

    Raises:
        CodeError: P or m is out of range.

    Example:
        >>> from moe_mheight.ensemble.gradients import height_gradient
        >>> h, gradient = height_gradient([[1.0, 1.0], [1.0, 3.0]], 2)
        >>> h, gradient.round(9).tolist()
        (5.0, [[3.0, -1.0], [-6.0, 2.0]])
    """
    batch, single = check_P(P, max_n=BITS)
    count, k, r = batch.shape
    levels = check_m(m, count, r)
    heights, gradients = np.empty(count), np.full(batch.shape, np.nan)
    for i, (matrix, level) in enumerate(zip(batch, levels.tolist(), strict=True)):
        found = m_height(matrix, level, matrix="P", details=True, threads=threads)
        heights[i] = found.value
        if np.isfinite(found.value):
            gradients[i] = _of_generator(generator(matrix), found.witness, level)[:, k:]
    return like_input(heights, single), gradients[0] if single else gradients


def _of_generator(G: NDArray[np.float64], c: NDArray[np.float64], m: int) -> NDArray[np.float64]:
    """dh/dG (k, n), from the codeword (n,) that attains h_m."""
    order = np.argsort(-np.abs(c), kind="stable")
    a, level = int(order[0]), abs(c[order[m]])
    word = c * (np.sign(c[a]) / level)
    inside, h = order[m:], abs(word[a])
    u = word[: len(G)]  # G is [I | P]
    gradient = np.full_like(G, np.nan)
    for slip in TIES:
        tied = inside[np.abs(word[inside]) >= 1.0 - slip]
        signs = np.sign(word[tied])
        y, missed = nnls(G[:, tied] * signs, G[:, a])  # basic: its columns are independent
        if missed <= CLOSE * np.linalg.norm(G[:, a]) and abs(y.sum() - h) <= CLOSE * h:
            gradient[:] = 0.0
            gradient[:, a] = u
            gradient[:, tied] -= np.outer(u, signs * y)
            break
    return gradient


class _Height(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, P: Tensor, m: Any) -> Tensor:
        h, gradient = height_gradient(P.detach().cpu().double().numpy(), m)
        ctx.save_for_backward(torch.from_numpy(gradient).to(P))
        return torch.as_tensor(h).to(P)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return outer[0][..., None, None] * gradient, None


def torch_height(P: Tensor, m: Any) -> Tensor:
    """Exact m-heights as a tensor that autograd can differentiate, once, with respect to P (see `height_gradient`).

    Args:
        P: (k, r) or (B, k, r), any floating type and device; the work is done in float64 on the CPU.
        m: int, or (B,) ints.

    Returns:
        () or (B,), of P's type and device.

    Raises:
        CodeError: P or m is out of range, or P is no tensor of floating-point numbers.

    Example:
        >>> import torch
        >>> from moe_mheight.ensemble.gradients import torch_height
        >>> P = torch.tensor([[1.0, 1.0], [1.0, 3.0]], requires_grad=True)
        >>> torch_height(P, 2).backward()
        >>> P.grad.round().tolist()
        [[3.0, -1.0], [-6.0, 2.0]]
    """
    _check_tensor(P)
    return _Height.apply(P, m)


def _check_tensor(P: Any) -> None:
    if not isinstance(P, Tensor):
        raise CodeError(f"P must be a torch tensor, got {type(P).__name__}; arrays are for the gradients without torch")
    if not P.is_floating_point():
        raise CodeError(f"P must hold floating-point numbers, got {P.dtype}; give P.double()")


def prediction_gradient(
    P: ArrayLike, m: Any, predictor: Predictor | None = None, *, budget: int = 0, threads: int | None = None
) -> tuple[Any, NDArray[np.float64]]:
    """Predicted m-heights, and how they change with P.

    A prediction is smooth in P between changes of what is discrete in it: which sets (S, a) are candidates and which of
    these are kept, in which order; which of them, and which of their steps, gives a bound; the order of |c|; which
    codes are routed to experts; clips. There, as for integer P often, this is the gradient of one side, or a mean of
    several. Where the bounds decide the height, to features.DECIDED bits, it is that of the middle of the tightest
    ones, close to that of the exact height.

    The gradient is computed in float64, also that of the experts, which answer in float32.

    Args:
        P: (k, r) or (B, k, r), n = k + r <= 16; under a budget n <= 32.
        m: int, or (B,) ints, 1 <= m <= r.
        predictor: default the shipped models, loaded for this call.
        budget, threads: as in `Predictor.predict`.

    Returns:
        h: float or (B,), what `Predictor.predict` gives. gradient: dh/dP, of P's shape, nan where h is infinite.

    Raises:
        CodeError: P, m or budget is out of range.

    Example:
        >>> from moe_mheight.ensemble.gradients import prediction_gradient
        >>> h, gradient = prediction_gradient([[2.0, 1.0], [1.0, 4.0]], 2)
        >>> round(h, 6), gradient.round(6).tolist()
        (11.0, [[4.0, -1.0], [-12.0, 3.0]])
    """
    predictor = Predictor.load() if predictor is None else predictor
    batch, single = check_P(P, max_n=LONGEST)
    measured = predictor.measure(batch, m, budget=budget, effort=ALL_SETS, threads=threads)
    gradients = _of_predictions(batch, m, measured, predictor, budget, threads)
    return like_input(measured.height, single), gradients[0] if single else gradients


def _of_predictions(
    batch: NDArray[np.float64],
    m: Any,
    measured: Measurement,
    predictor: Predictor,
    budget: int,
    threads: int | None = None,
) -> NDArray[np.float64]:
    """dh/dP (B, k, r) of measured codes."""
    count, k, r = batch.shape
    levels = check_m(m, count, r)
    finite, routed = np.isfinite(measured.height), measured.routed
    gradients = np.full(batch.shape, np.nan)
    for level in np.unique(levels[finite]).tolist():
        places = np.flatnonzero(finite & (levels == level))
        routed_tiers = _routed_tiers(predictor, (k + r, k, level), budget) if routed[places].any() else []
        for start in range(0, len(places), AT_ONCE):
            rows = places[start : start + AT_ONCE]
            # more are slower, alone on a machine or not
            slopes = on_threads(1, _slopes, predictor, batch[rows], level, routed[rows], routed_tiers, budget, threads)
            # d log2 h = dh / (h ln 2): the prediction's own h, should the two differ in rounding
            gradients[rows] = slopes * (np.log(2.0) * measured.height[rows])[:, None, None]
    return gradients


def _slopes(
    predictor: Predictor,
    batch: NDArray[np.float64],
    level: int,
    routed: NDArray[np.bool_],
    routed_tiers: list[RoutedTier],
    budget: int,
    threads: int | None,
) -> NDArray[np.float64]:
    """d log2 h / dP, (B, k, r)."""
    with torch.enable_grad():
        P = torch.from_numpy(batch).requires_grad_()
        found = differentiable_brackets(P, level, steps=predictor.steps, budget=budget, threads=threads)
        log2_h = _log2_heights(found, torch.from_numpy(routed), routed_tiers)
        (slopes,) = torch.autograd.grad(log2_h.sum(), P)
    return slopes.numpy()  # type: ignore[no-any-return]


def _routed_tiers(predictor: Predictor, group: tuple[int, int, int], budget: int) -> list[RoutedTier]:
    """The tiers that a group is routed to."""
    chosen = []
    for weight, tier in zip(predictor.router(*group), TIERS, strict=True):
        if weight:
            config, experts, searchers = predictor.tiers[tier]
            members = [deepcopy(expert).double().cpu() for expert in (searchers if budget else experts)]
            chosen.append((float(weight), members, float(config["search"]["threshold"]) if budget else 0.0))
    return chosen


def _log2_heights(found: DifferentiableBrackets, routed: Tensor, routed_tiers: list[RoutedTier]) -> Tensor:
    """log2 of the predictions (B,), as `Predictor` makes them from brackets."""
    floor, ceiling = (torch.log2(bound) for bound in found.tightest)
    lower = torch.log2(found.lower)
    gap = torch.ones_like(lower) if found.budget else torch.log2(found.upper) - lower
    out = floor if found.budget else (floor + ceiling) / 2.0
    if routed.any():
        kept = type(found.kept)(*(part[routed] for part in found.kept))
        inputs = kept_features(kept, found.group, found.steps, found.budget, lower[routed], gap[routed])
        position: Any = 0.0
        for weight, members, threshold in routed_tiers:
            for member in members:
                placed, unvisited_gap, _ = member(*inputs)
                position = position + weight / len(members) * (placed + (unvisited_gap - threshold).clamp(min=0.0))
        out = out.index_put((routed.nonzero()[:, 0],), lower[routed] + position * gap[routed])
    return torch.minimum(torch.maximum(out, floor), ceiling)


class _Prediction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, P: Tensor, m: Any, predictor: Predictor, budget: int) -> Tensor:
        batch, single = check_P(P.detach().cpu().double().numpy(), max_n=LONGEST)
        measured = predictor.measure(batch, m, budget=budget, effort=ALL_SETS)
        ctx.known = batch, m, measured, predictor, budget
        ctx.save_for_backward(P)  # so that P changed in place before the backward pass is told
        return torch.as_tensor(measured.height[0] if single else measured.height).to(P)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
        (P,) = ctx.saved_tensors
        gradients = torch.from_numpy(_of_predictions(*ctx.known)).to(P).reshape(P.shape)
        return outer[0][..., None, None] * gradients, None, None, None


def torch_prediction(P: Tensor, m: Any, predictor: Predictor | None = None, *, budget: int = 0) -> Tensor:
    """Predicted m-heights as a tensor that autograd can differentiate, once, with respect to P.

    The forward pass is `Predictor.predict`; the gradient, see `prediction_gradient`, is computed when it is asked for,
    and costs a few milliseconds a code in a batch, tens for one alone.

    Args:
        P: (k, r) or (B, k, r), any floating type and device; the work is done in float64 on the CPU.
        m: int, or (B,) ints.
        predictor: default the shipped models, loaded for this call; who calls often passes one.
        budget: as in `Predictor.predict`.

    Returns:
        () or (B,), of P's type and device; infinite heights are inf, their gradient nan.

    Raises:
        CodeError: P, m or budget is out of range, or P holds no floating-point numbers.

    Example:
        >>> import torch
        >>> from moe_mheight.ensemble.gradients import torch_prediction
        >>> P = torch.tensor([[2.0, 1.0], [1.0, 4.0]], requires_grad=True)
        >>> torch_prediction(P, 2).backward()
        >>> P.grad.round().tolist()
        [[4.0, -1.0], [-12.0, 3.0]]
    """
    _check_tensor(P)
    return _Prediction.apply(P, m, Predictor.load() if predictor is None else predictor, budget)
