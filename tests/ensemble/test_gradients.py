"""Gradients of exact heights against finite differences and against what no change of basis may change."""

import numpy as np
import pytest
import torch

from moe_mheight import CodeError, generator, m_height, random_codes
from moe_mheight.ensemble.gradients import _of_generator, height_gradient, torch_height
from moe_mheight.exact.heights import m_height as exact

SIZES = [(4, 2), (6, 3), (9, 4), (9, 6), (12, 6), (18, 9)]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k"), SIZES)
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_against_finite_differences(n, k, kind):
    rng = np.random.default_rng([n, k])
    for P in random_codes(kind, 3, k, n - k, rng):
        for m in range(1, min(n - k, 5) + 1):
            h, gradient = height_gradient(P, m)
            assert h == pytest.approx(m_height(P, m), rel=1e-12)
            direction = rng.normal(size=P.shape)
            step = 1e-7
            there, back = (m_height(P + side * step * direction, m, method="auto") for side in (1.0, -1.0))
            change = (there - back) / (2 * step)
            scale = np.abs(gradient * direction).sum()
            assert np.sum(gradient * direction) == pytest.approx(change, abs=2e-5 * scale + 1e-6 * h)


@pytest.mark.parametrize(("n", "k"), SIZES)
def test_a_change_of_basis_changes_nothing(n, k, rng):
    """h(A G) = h(G) for every A, so dh/dG G^T = 0; scaling all of G changes nothing either."""
    for P in random_codes("normal", 5, k, n - k, rng):
        for m in range(1, min(n - k, 4) + 1):
            G = generator(P)
            gradient = _of_generator(G, exact(P, m, details=True).witness, m)
            assert np.allclose(gradient @ G.T, 0.0, atol=1e-7 * np.abs(gradient).max())


@pytest.mark.slow
def test_where_entries_tie_it_is_a_limit(rng):
    """Integer codes tie all over; the gradient lies among those of codes nearby."""
    for _ in range(20):
        P = rng.integers(-2, 3, (3, 3)).astype(float)
        h, gradient = height_gradient(P, 2)
        if np.isinf(h):
            assert np.isnan(gradient).all()
            continue
        near = [height_gradient(P + 1e-6 * rng.normal(size=P.shape), 2)[1] for _ in range(60)]
        low, high = np.min(near, 0), np.max(near, 0)
        assert (gradient >= low - 1e-3 * np.abs(near).max()).all()
        assert (gradient <= high + 1e-3 * np.abs(near).max()).all()


def test_badly_scaled_codes(rng):
    """Right or told, never wrong."""
    found = 0
    for _ in range(150):
        k, r = rng.integers(2, 5, 2)
        P = rng.normal(size=(k, r)) * 10.0 ** rng.uniform(-4, 4, r)
        m = int(rng.integers(1, r + 1))
        h, gradient = height_gradient(P, m)
        if not np.isfinite(gradient).all():
            continue
        found += 1
        direction = P * rng.normal(size=P.shape)
        step = 1e-6
        there, back = (m_height(P + side * step * direction, m) for side in (1.0, -1.0))
        change = (there - back) / (2 * step)
        one_sided = abs((there - h) - (h - back)) / step  # large at a kink
        scale = np.abs(gradient * direction).sum()
        assert abs(np.sum(gradient * direction) - change) <= 1e-3 * scale + one_sided + 1e-6 * h
    assert found > 130


def test_batches(rng):
    P = random_codes("normal", 4, 4, 5, rng)
    h, gradient = height_gradient(P, [1, 2, 3, 5])
    assert h.shape == (4,)
    for i, m in enumerate((1, 2, 3, 5)):
        one, single = height_gradient(P[i], m)
        assert one == h[i]
        assert np.array_equal(single, gradient[i])
    with pytest.raises(CodeError):
        height_gradient(P, 6)


def test_torch(rng):
    P = torch.from_numpy(random_codes("normal", 3, 3, 4, rng)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: torch_height(x, 2).log2(), (P,), eps=1e-7, atol=1e-4)
    single = P.detach()[0].float().requires_grad_()
    h = torch_height(single, 2)
    assert h.shape == ()
    assert h.dtype == torch.float32
    h.backward()
    assert single.grad.shape == (3, 4)


@pytest.mark.slow
def test_descent_finds_better_codes(rng):
    P = torch.from_numpy(random_codes("normal", 8, 4, 5, rng)).requires_grad_()
    before = torch_height(P, 3).detach().clone()
    optimizer = torch.optim.Adam([P], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        torch_height(P, 3).log2().sum().backward()
        optimizer.step()
    after = torch_height(P, 3).detach()
    assert (after < before).all()
    assert after.median() < 0.7 * before.median()


def test_torch_height_takes_floating_tensors_only():
    whole = torch.tensor([[1, 1], [1, 3]])
    for wrong in (whole, whole.numpy(), [[1.0, 1.0], [1.0, 3.0]]):
        with pytest.raises(CodeError, match="P must"):
            torch_height(wrong, 2)
