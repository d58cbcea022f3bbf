"""New matrices from old ones, as run 1's project made them: noise and interpolation, with labels copied or exact.

Only `codes.equivalent`, the orbit, keeps the height. Everything here changes the code: a copied label is then wrong,
mostly by a little and, near singular codes, by a lot; an exact one costs microseconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..exact.heights import m_height

ALPHA = (0.3, 0.7)
"""Share of the first parent in an interpolation, uniformly, as run 1 had it."""

TOLERANCE = 0.2
"""Accepted beyond the originals' own range of means and of deviations, as a share of its ends' size."""

MIN_SUM = 0.05
"""Of a row against the sum of its entries' sizes, to be divided by."""

Matrices = NDArray[np.float64]


def noisy(P: Matrices, level: float, rng: np.random.Generator) -> Matrices:
    """P plus normal noise of `level` times the standard deviation of each matrix's own entries: (B, k, r)."""
    return P + level * P.std(axis=(1, 2), keepdims=True) * rng.normal(size=P.shape)


def smote(P: Matrices, other: Matrices, alpha: Matrices) -> Matrices:
    """alpha P + (1 - alpha) other, entry by entry, alpha (B, 1, 1)."""
    return alpha * P + (1.0 - alpha) * other


def geometric(P: Matrices, other: Matrices, alpha: Matrices) -> Matrices:
    """|P|^alpha |other|^(1 - alpha), signs from the nearer parent; run 1's mean is nan where a sign is minus."""
    size = np.abs(P) ** alpha * np.abs(other) ** (1.0 - alpha)
    return np.copysign(size, np.where(alpha >= 0.5, P, other))


def row_sums(P: Matrices, other: Matrices, alpha: Matrices) -> Matrices:
    """Rows divided by their sums, interpolated, and multiplied by the interpolated sums, as run 1 has it.

    Where a row's sum is next to nothing against its entries, for which run 1's formula gives numbers without limit,
    the row is interpolated entry by entry.
    """
    one, two = P.sum(axis=2, keepdims=True), other.sum(axis=2, keepdims=True)
    small = (np.abs(one) <= MIN_SUM * np.abs(P).sum(2, keepdims=True)) | (
        np.abs(two) <= MIN_SUM * np.abs(other).sum(2, keepdims=True)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        mixed = (alpha * P / one + (1.0 - alpha) * other / two) * (alpha * one + (1.0 - alpha) * two)
    return np.where(small, smote(P, other, alpha), mixed)


INTERPOLATIONS = {"smote": smote, "geometric": geometric, "row-sums": row_sums}


def accepted(P: Matrices, originals: Matrices) -> NDArray[np.bool_]:
    """Which matrices have a mean and a standard deviation within the originals' range, widened by TOLERANCE: (B,).

    Run 1 multiplies both ends by 0.8 and 1.2, which narrows the range where an end is negative; here it widens.
    """
    fine = [np.isfinite(P).all(axis=(1, 2))]
    for statistic in (np.mean, np.std):
        known, mine = statistic(originals, axis=(1, 2)), statistic(P, axis=(1, 2))
        low, high = known.min(), known.max()
        fine += [low - TOLERANCE * abs(low) <= mine, mine <= high + TOLERANCE * abs(high)]
    return np.logical_and.reduce(fine)


def augmented(
    P: Matrices,
    h: NDArray[np.float64],
    m: int,
    methods: tuple[str, ...],
    total: int,
    rng: np.random.Generator,
    *,
    level: float,
    labels: str,
    check: bool = True,
) -> tuple[Matrices, NDArray[np.float64]]:
    """The originals and, up to `total` codes, matrices made from them by each of the methods in turn.

    Args:
        P, h: (B, k, r), (B,): the originals of one group and their heights.
        m: of the group.
        methods: of "noise", "smote", "geometric", "row-sums".
        total: codes wanted; where there are as many originals, nothing is made and all are kept.
        rng: where the draws come from.
        level: of the noise, in standard deviations of the matrix.
        labels: "copied", from the original or the nearer parent, as in run 1; "exact", computed anew.
        check: accept only matrices that `accepted` takes.

    Returns:
        (total, k, r), (total,), the originals first. Matrices of infinite height are made again.

    Raises:
        DataError: too few originals to interpolate, or hardly anything made is accepted.
    """
    if total <= len(P) or not methods:
        return P, h
    if len(P) < 2:
        raise DataError("augmentation needs at least two original codes in each group")
    matrices, heights, count, drawn = [P], [h], len(P), 0
    while count < total:
        wanted = -(-(total - count) // len(methods)) + 8  # of each
        for method in methods:
            first = rng.integers(len(P), size=wanted)
            second = (first + rng.integers(1, len(P), size=wanted)) % len(P)
            alpha = rng.uniform(*ALPHA, (wanted, 1, 1))
            one, two = P[first], P[second]
            made = noisy(one, level, rng) if method == "noise" else INTERPOLATIONS[method](one, two, alpha)
            fine = accepted(made, P) if check else np.isfinite(made).all(axis=(1, 2))
            made, near = made[fine], np.where((alpha[:, 0, 0] >= 0.5) | (method == "noise"), first, second)[fine]
            true = m_height(made, m, threads=1) if len(made) else np.empty(0)
            finite = np.isfinite(true)
            matrices.append(made[finite])
            heights.append(true[finite] if labels == "exact" else h[near][finite])
            count, drawn = count + int(finite.sum()), drawn + wanted
        if drawn > 100 * total + 10_000:
            raise DataError(f"fewer than one in a hundred matrices made by {', '.join(methods)} is accepted")
    made, theirs = np.concatenate(matrices[1:]), np.concatenate(heights[1:])
    chosen = slice(0, total - len(P)) if len(methods) == 1 else rng.permutation(len(made))[: total - len(P)]
    return np.concatenate([P, made[chosen]]), np.concatenate([h, theirs[chosen]])
