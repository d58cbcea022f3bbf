"""The brackets once more in torch, for given sets (S, a), so that autograd can follow how they change with P.

What is discrete is looked up by the compiled code and held: which sets are candidates, and which of them are kept, in
which order. All numbers are then computed again as `brackets.irls` says, in float64, but for outward rounding. Nothing
depends on the basis of the code, so that of Q = T G is chosen once and T held: all gradients flow through G.

Every solve is differentiated implicitly: u satisfies M u = q_a with M = Q_S W Q_S^T, so du = M^-1 (dq_a - dM u), and a
step of refinement, M^-1 held, has that derivative. So first derivatives are right and second ones are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..brackets.bounds import candidates
from ..brackets.irls import (
    ACCELERATIONS,
    BASIC,
    CANDIDATES,
    EXTRA_STEPS,
    FIRST,
    LARGEST_C,
    LEAST_ACCELERATION,
    LEAST_WEIGHT,
    STEPS,
    TIED,
    reweight,
)
from ..experts.features import Kept


@dataclass(frozen=True, eq=False)
class DifferentiableBrackets:
    """Bounds and kept candidates of B codes of one group n, k, m as float64 tensors; shapes and meaning of `Brackets`.

    Heights must be finite: unlike there, infinite ones are not recognised.
    """

    group: tuple[int, int, int]
    steps: int
    budget: int
    lower: Tensor
    upper: Tensor
    elsewhere: Tensor
    kept: Kept

    @property
    def tightest(self) -> tuple[Tensor, Tensor]:
        """(lower, upper), (B,) each, with all that the kept candidates found."""
        lower = torch.maximum(self.lower, self.kept.lower[..., -1].amax(1))
        upper = torch.maximum(self.elsewhere, self.kept.upper[..., -1].amax(1))
        return lower, torch.full_like(lower, torch.inf) if self.budget else torch.minimum(self.upper, upper)


def differentiable_brackets(
    P: Tensor, m: int, *, steps: int = STEPS, budget: int = 0, threads: int | None = None
) -> DifferentiableBrackets:
    """What `brackets` says of a batch of codes, differentiable once with respect to P.

    Args:
        P: (B, k, r) float64 on the CPU, checked, of codes whose m-height is finite.
        m, steps, budget, threads: as in `brackets`.

    Example:
        >>> import torch
        >>> from moe_mheight.ensemble.differentiable import differentiable_brackets
        >>> P = torch.tensor([[[2.0, 1.0], [1.0, 4.0]]], dtype=torch.float64, requires_grad=True)
        >>> differentiable_brackets(P, 2).tightest[0].backward()
        >>> P.grad.round().tolist()
        [[[4.0, -1.0], [-12.0, 3.0]]]
    """
    count, k, r = P.shape
    n = k + r
    s = n - m
    plain = P.detach().numpy()
    # one set more than there are candidates: the one whose bound stands for all others
    found, rest = candidates(plain, m, keep=CANDIDATES + (not budget), budget=budget, threads=threads)
    used = found[:, :CANDIDATES]
    known = reweight(plain, m, used, rest, steps, tightest=False, budget=budget, threads=threads)
    sets = torch.from_numpy(found).long()
    order = torch.from_numpy((known.outside[:, :, None] == used[:, None, :, s:]).all(3).argmax(2))  # (B, T)

    G = torch.cat([torch.eye(k, dtype=P.dtype).expand(count, k, k), P], dim=2)
    with torch.no_grad():
        R = torch.linalg.qr(G.mT).R
    Q = torch.linalg.solve_triangular(R.mT, G, upper=False)
    first, end = min(FIRST, steps) + 1, steps + EXTRA_STEPS
    start = _solves(G, Q, m, sets, torch.ones(*sets.shape[:2], s, dtype=P.dtype), range(first), end)
    going_on = sets.gather(1, order[..., None].expand(-1, -1, n))
    weight = start.weight.gather(1, order[..., None].expand(-1, -1, s))
    last = _solves(G, Q, m, going_on, weight, range(first, end + 1 + BASIC), end)

    early = order[..., None].expand(-1, -1, first)
    lower = torch.cat([start.lower.gather(1, early), last.lower], dim=2).cummax(2).values
    upper = torch.cat([start.upper.gather(1, early), last.upper], dim=2).cummin(2).values
    profiles = last.y, last.c / last.c.amax(2, keepdim=True), last.basic_y, last.basic_c.clamp(max=LARGEST_C)
    rank = torch.round(profiles[1].detach() / TIED) + 0.9 * profiles[0].detach()
    down = torch.argsort(rank, dim=2, descending=True, stable=True)
    kept = Kept(lower, upper, *(part.gather(2, down) for part in profiles))

    best = torch.maximum(start.lower[:, :CANDIDATES].amax((1, 2)), lower[..., steps].amax(1))
    if budget:
        nothing = torch.full_like(best, torch.inf)
        return DifferentiableBrackets((n, k, m), steps, budget, best, nothing, nothing, kept)
    others = start.upper.amin(2).scatter(1, order, 1.0)  # kept ones count for themselves, and no height is below 1
    if found.shape[1] > CANDIDATES:
        others = torch.cat([others[:, :CANDIDATES], start.upper[:, CANDIDATES, :1]], dim=1)
    elsewhere = others.amax(1).clamp(min=1.0)
    return DifferentiableBrackets(
        (n, k, m), steps, 0, best, torch.maximum(elsewhere, upper[..., steps].amax(1)), elsewhere, kept
    )


@dataclass(frozen=True, eq=False)
class _Solved:
    """lower, upper (B, C, solves), of each solve alone; weight (B, C, s), the next; profiles (B, C, s), not sorted."""

    lower: Tensor
    upper: Tensor
    weight: Tensor
    y: Tensor
    c: Tensor
    basic_y: Tensor
    basic_c: Tensor


def _solves(G: Tensor, Q: Tensor, m: int, sets: Tensor, weight: Tensor, numbers: range, end: int) -> _Solved:
    """The solves of these numbers, one after another, of sets (B, C, n) that start from these weights."""
    s = sets.shape[2] - m
    Q_S, q_a = _columns(Q, sets[..., :s]), _columns(Q, sets[..., s : s + 1])
    with torch.no_grad():
        G_S, g_a = _columns(G, sets[..., :s]), _columns(G, sets[..., s : s + 1])
    lower: list[Tensor] = []
    upper: list[Tensor] = []
    profiles: dict[int, tuple[Tensor, Tensor]] = {}
    for number in numbers:
        if number == end + 1:
            weight = _rounded_to_basis(weight, profiles[end][1], Q.shape[1])
        u, c = _solved(Q_S, q_a, weight)
        signed = weight * c
        y, c = signed.abs(), c.abs()
        total = y.sum(2, keepdim=True)
        with torch.no_grad():
            rho = (g_a - G_S @ signed[..., None]).abs().sum((2, 3))
        upper.append(torch.where(rho < 0.5, total[..., 0] / (1.0 - rho), torch.inf))
        word = (u @ Q).abs().topk(m + 1, dim=2).values
        lower.append((word[..., 0] / word[..., m]).clamp(min=1.0))
        profiles[number] = y / total, c
        last_two = len(ACCELERATIONS) - 2 + number % 2
        power = ACCELERATIONS[number if number < len(ACCELERATIONS) else last_two]
        weight = _sharpened(y, c, total, int(power) if number < end else 0)
    last = numbers[-1]
    return _Solved(torch.stack(lower, 2), torch.stack(upper, 2), weight, *profiles[min(end, last)], *profiles[last])


def _columns(M: Tensor, places: Tensor) -> Tensor:
    """M (B, k, n), places (B, C, j) -> (B, C, k, j)."""
    shape = (*places.shape[:2], M.shape[1], -1)
    return M[:, None].expand(-1, places.shape[1], -1, -1).gather(3, places[:, :, None].expand(shape))


def _solved(Q_S: Tensor, q_a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """u (B, C, k) and c = Q_S^T u (B, C, s) with Q_S (weight c) = q_a."""
    with torch.no_grad():
        root = weight.sqrt()
        V, R = torch.linalg.qr((Q_S * root[:, :, None]).mT)  # M = R^T R
        t = torch.linalg.solve_triangular(R.mT, q_a, upper=False)
        held = torch.linalg.solve_triangular(R, t, upper=True)
        c_held = (V @ t)[..., 0] / root  # more exact than from u
    missing = q_a - Q_S @ (weight[..., None] * (Q_S.mT @ held))
    step = torch.linalg.solve_triangular(R, torch.linalg.solve_triangular(R.mT, missing, upper=False), upper=True)
    u = held + (step - step.detach())
    c = (Q_S.mT @ u)[..., 0]
    return u[..., 0], c_held + (c - c.detach())


def _sharpened(y: Tensor, c: Tensor, total: Tensor, acceleration: int) -> Tensor:
    """The next weights, see ACCELERATIONS."""
    factor = c / c.amax(2, keepdim=True)
    power = factor ** (2**acceleration - 1)
    return torch.maximum(y * power.clamp(min=LEAST_ACCELERATION), 1e-12 * total).clamp(min=LEAST_WEIGHT)


def _rounded_to_basis(weight: Tensor, c: Tensor, k: int) -> Tensor:
    """Weights on the k coordinates with the largest c only, and a trace elsewhere."""
    basis = torch.argsort(c, dim=2, descending=True, stable=True)[..., :k]
    return weight * torch.full_like(weight, 1e-9).scatter(2, basis, 1.0)
