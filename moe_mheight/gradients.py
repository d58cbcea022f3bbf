"""How heights change with P: a subgradient from the codeword that decides, in NumPy and for torch's autograd.

With a the codeword's largest coordinate and B a basis inside S on which its entries are all of one size,
h = |y|_1 = u g_a, where G_B y = g_a and u G_B = sign(y) (arXiv:2602.20366, Theorem 8, and linear-programming duality).
So dh = u dg_a - u dG_B y.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from torch import Tensor

from .codes import check_m, check_P, generator, like_input
from .exact import m_height
from .masks import BITS

TIED = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5)
"""Relative differences up to which entries of the codeword count as equally large; the first one that will do."""

CLOSE = 1e-6
"""Relative error up to which u, y and h fit together."""


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
        >>> from moe_mheight.gradients import height_gradient
        >>> h, gradient = height_gradient([[1.0, 1.0], [1.0, 3.0]], 2)
        >>> h, gradient.round(9).tolist()
        (5.0, [[3.0, -1.0], [-6.0, 2.0]])
    """
    batch, single = check_P(P, max_n=BITS)
    count, k, r = batch.shape
    levels = check_m(m, count, r)
    heights, gradients = np.empty(count), np.full(batch.shape, np.nan)
    for i, (matrix, level) in enumerate(zip(batch, levels.tolist(), strict=True)):
        found = m_height(matrix, level, details=True, threads=threads)
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
    for slip in TIED:
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

    Example:
        >>> import torch
        >>> from moe_mheight.gradients import torch_height
        >>> P = torch.tensor([[1.0, 1.0], [1.0, 3.0]], requires_grad=True)
        >>> torch_height(P, 2).backward()
        >>> P.grad.round().tolist()
        [[3.0, -1.0], [-6.0, 2.0]]
    """
    return _Height.apply(P, m)
