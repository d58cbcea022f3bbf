"""Exact m-heights of short codes by enumeration of bases: the whole profile h_0..h_r at once, no linear programs.

Theorem 8 of Roth, Zhu, Yuan, Siegel, Jiang (arXiv:2602.20366) reads

    h_m(C) = max over |S| = n - m and a outside S of min over bases B inside S of || G_B^{-1} g_a ||_1.

By Cramer's rule 1 + || G_B^{-1} g_a ||_1 = T(B + a) / |p(B)|, where p(B) is the minor on B and T(D) is the sum of
|p(D - i)| over i in D. So one table of minors gives every ratio, and the minima over bases inside S spread upwards
through the lattice of sets S: a minimum over k + 1 of the sets S - i covers every basis in S.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .kernels import LANES, compiled, over_batch
from .minors import exact_integer_limit, load_lanes, minor_lanes, minor_tables, subsets


@cache
def lattice_tables(n: int, k: int) -> tuple[NDArray[np.int64], ...]:
    """Where each ratio and each set S of the theorem is found.

    The sets S avoid a, so they are numbered as subsets of n - 1 elements, the k-subsets (bases) first.

    Returns:
        basis, wider: (n, C(n-1, k)), for each a the minor of each base and the D = B + a that goes with it.
        cover: (sets, k+1), for each larger S the sets S - i whose minima it takes.
        level: (sets,), the m = n - |S| it belongs to.
    """
    rank = {mask: b for b, mask in enumerate(minor_tables(n, k)[0].tolist())}
    wide_rank = {mask: d for d, mask in enumerate(subsets(n, k + 1))}

    sets = [mask for size in range(k, n) for mask in subsets(n - 1, size)]
    number = {mask: q for q, mask in enumerate(sets)}
    bases = [mask for mask in sets if mask.bit_count() == k]
    larger = sets[len(bases) :]
    cover = [[number[mask ^ (1 << i)] for i in range(n - 1) if mask >> i & 1][: k + 1] for mask in larger]

    basis = np.empty((n, len(bases)), np.int64)
    wider = np.empty_like(basis)
    for a in range(n):
        below = (1 << a) - 1
        spread = [(mask & below) | (mask & ~below) << 1 for mask in bases]
        basis[a] = [rank[mask] for mask in spread]
        wider[a] = [wide_rank[mask | 1 << a] for mask in spread]
    return (
        basis,
        wider,
        np.array(cover, np.int64).reshape(-1, k + 1),
        np.array([n - mask.bit_count() for mask in larger], np.int64),
    )


@compiled
def spread_minima(inverse, total, basis, wider, cover, least):  # type: ignore[no-untyped-def]
    """least[S, lane] = min over bases B in S of T(B + a) / |p(B)|, for one a."""
    bases = basis.shape[0]
    for q in range(bases):
        t, inv, out = total[wider[q]], inverse[basis[q]], least[q]
        for lane in range(out.shape[0]):
            value = t[lane] * inv[lane]
            out[lane] = value if value == value else np.inf  # 0 * inf: not a basis
    for q in range(cover.shape[0]):
        out, one, two = least[bases + q], least[cover[q, 0]], least[cover[q, 1]]
        for lane in range(out.shape[0]):
            out[lane] = one[lane] if one[lane] < two[lane] else two[lane]
        for t in range(2, cover.shape[1]):
            one = least[cover[q, t]]
            for lane in range(out.shape[0]):
                out[lane] = one[lane] if one[lane] < out[lane] else out[lane]


@compiled
def _profiles(P, exact_below, masks, first, source, entry, sign, parts, basis, wider, cover, level, out):  # type: ignore[no-untyped-def]
    count, k, r = P.shape
    n, bases = basis.shape
    x = np.empty((k * r, LANES))
    minor = np.empty((masks.shape[0], LANES))
    low = np.empty_like(minor)
    inverse = np.empty_like(minor)
    total = np.empty((parts.shape[0], LANES))
    least = np.empty((bases + cover.shape[0], LANES))
    greatest = np.empty((r + 1, LANES))
    for start in range(0, count, LANES):
        stop = min(start + LANES, count)
        load_lanes(P, start, stop, x)
        minor_lanes(x, exact_below, first, source, entry, sign, parts, minor, low, total)
        for b in range(minor.shape[0]):
            for lane in range(minor.shape[1]):
                inverse[b, lane] = 1.0 / minor[b, lane]
        greatest[:] = 2.0  # every h_m is at least h_0 = 1
        for a in range(n):
            spread_minima(inverse, total, basis[a], wider[a], cover, least)
            for q in range(least.shape[0]):
                value = least[q]
                best = greatest[r if q < bases else level[q - bases]]
                for lane in range(best.shape[0]):
                    best[lane] = value[lane] if value[lane] > best[lane] else best[lane]
        for lane in range(stop - start):
            out[start + lane, 0] = 1.0
            for m in range(1, r + 1):
                out[start + lane, m] = max(greatest[m, lane] - 1.0, out[start + lane, m - 1])


def enumerated_profiles(batch: NDArray[np.float64], threads: int | None = None) -> NDArray[np.float64]:
    """Height profiles of checked codes. Shape: batch (B, k, r), k + r <= 16; the profiles (B, r + 1)."""
    count, k, r = batch.shape
    out = np.empty((count, r + 1))
    tables = minor_tables(k + r, k) + lattice_tables(k + r, k)
    limit = exact_integer_limit(k, r)
    over_batch(lambda i, j: _profiles(batch[i:j], limit, *tables, out[i:j]), count, threads)
    return out
