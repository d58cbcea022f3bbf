"""Exact m-heights of short codes by enumeration of bases: the whole profile h_0..h_r at once, no linear programs.

Theorem 8 of Roth, Zhu, Yuan, Siegel, Jiang (arXiv:2602.20366) reads

    h_m(C) = max over |S| = n - m and a outside S of min over bases B inside S of || G_B^{-1} g_a ||_1.

By Cramer's rule 1 + || G_B^{-1} g_a ||_1 = T(B + a) / |p(B)|, where p(B) is the minor on B and T(D) is the sum of
|p(D - i)| over i in D. So one table of minors gives every ratio, and the minima over bases inside S spread upwards
through the lattice of sets S: a minimum over k + 1 of the sets S - i covers every basis in S.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codes.minors import (
    BEFORE_THE_RULE,
    BEYOND_THE_RULE,
    LARGEST_RATIO,
    UNDERFLOW,
    are_whole,
    exact_integer_limit,
    load_lanes,
    minor_lanes,
    minor_tables,
    new_minors,
    permanent_lanes,
    rounding_units,
    subsets,
    sum_parts,
    whole_minors,
)
from ..numerics.jit import LANES, compiled, over_batch
from .single_height import answers, ask


def lattice_sets(n: int, k: int) -> list[int]:
    """The sets S of the theorem as masks of n - 1 coordinates, a being left out of the numbering; bases first."""
    return [mask for size in range(k, n) for mask in subsets(n - 1, size)]


class LatticeTables(NamedTuple):
    """Where each ratio and each set S of the theorem is found.

    The sets S avoid a, so they are numbered as subsets of n - 1 elements, the k-subsets (bases) first.

    basis, wider: (n, C(n-1, k)), for each a the minor of each base and the D = B + a that goes with it.
    cover: (sets, k+1), for each larger S the sets S - i whose minima it takes.
    level: (sets,), the m = n - |S| it belongs to.
    """

    basis: NDArray[np.int64]
    wider: NDArray[np.int64]
    cover: NDArray[np.int64]
    level: NDArray[np.int64]


@cache
def lattice_tables(n: int, k: int) -> LatticeTables:
    """The tables of codes of length n and dimension k."""
    rank = {mask: b for b, mask in enumerate(minor_tables(n, k)[0].tolist())}
    wide_rank = {mask: d for d, mask in enumerate(subsets(n, k + 1))}

    sets = lattice_sets(n, k)
    number = {mask: q for q, mask in enumerate(sets)}
    bases = [mask for mask in sets if mask.bit_count() == k]
    larger = sets[len(bases) :]
    cover = [[number[mask ^ (1 << i)] for i in range(n - 1) if mask >> i & 1][: k + 1] for mask in larger]

    basis = np.empty((n, len(bases)), np.int64)
    wider = np.empty_like(basis)
    for a in range(n):
        below = (1 << a) - 1
        shifted = [(mask & below) | (mask & ~below) << 1 for mask in bases]
        basis[a] = [rank[mask] for mask in shifted]
        wider[a] = [wide_rank[mask | 1 << a] for mask in shifted]
    return LatticeTables(
        basis,
        wider,
        np.array(cover, np.int64).reshape(-1, k + 1),
        np.array([n - mask.bit_count() for mask in larger], np.int64),
    )


@compiled
def _minima_of_larger_sets(cover, smallest):  # type: ignore[no-untyped-def]
    """From minima over the bases to minima over all larger sets."""
    bases = smallest.shape[0] - cover.shape[0]
    for q in range(cover.shape[0]):
        out, one, two = smallest[bases + q], smallest[cover[q, 0]], smallest[cover[q, 1]]
        for lane in range(out.shape[0]):
            out[lane] = one[lane] if one[lane] < two[lane] else two[lane]
        for t in range(2, cover.shape[1]):
            one = smallest[cover[q, t]]
            for lane in range(out.shape[0]):
                out[lane] = one[lane] if one[lane] < out[lane] else out[lane]


@compiled
def minima(inverse, total, lattice, a, smallest):  # type: ignore[no-untyped-def]
    """smallest[S, lane] = min over bases B in S of T(B + a) / |p(B)|, for one a."""
    basis, wider = lattice.basis[a], lattice.wider[a]
    for q in range(basis.shape[0]):
        t, inv, out = total[wider[q]], inverse[basis[q]], smallest[q]
        for lane in range(out.shape[0]):
            value = t[lane] * inv[lane]
            out[lane] = value if value == value else np.inf  # 0 * inf: not a basis
    _minima_of_larger_sets(lattice.cover, smallest)


@compiled
def _greatest_minima(inverse, total, lattice, smallest, greatest):  # type: ignore[no-untyped-def]
    """greatest[m, lane] = max over S of m coordinates less than n, and a outside, of the minimum; at least 2."""
    level = lattice.level
    bases, r = lattice.basis.shape[1], greatest.shape[0] - 1
    greatest[:] = 2.0  # every h_m is at least h_0 = 1
    for a in range(lattice.basis.shape[0]):
        minima(inverse, total, lattice, a, smallest)
        for q in range(smallest.shape[0]):
            value = smallest[q]
            best = greatest[r if q < bases else level[q - bases]]
            for lane in range(best.shape[0]):
                best[lane] = value[lane] if value[lane] > best[lane] else best[lane]


@compiled
def new_minima(lattice):  # type: ignore[no-untyped-def]
    """Room for the minima of one a."""
    return np.empty((lattice.basis.shape[1] + lattice.cover.shape[0], LANES))


@compiled
def _profiles(P, exact_below, tables, lattice, out, sure):  # type: ignore[no-untyped-def]
    """Profiles, and 1 where they are right to rounding, on the right side of LARGEST_RATIO too, else 0."""
    count, k, r = P.shape
    x, found, smallest = np.empty((k * r, LANES)), new_minors(tables), new_minima(lattice)
    inverse, greatest = np.empty_like(found.size), np.empty((r + 1, LANES))
    for start in range(0, count, LANES):
        stop = min(start + LANES, count)
        load_lanes(P, start, stop, x)
        minor_lanes(x, exact_below, tables, found)
        for b in range(inverse.shape[0]):
            for lane in range(inverse.shape[1]):
                inverse[b, lane] = 1.0 / found.size[b, lane]
        _greatest_minima(inverse, found.total, lattice, smallest, greatest)
        for lane in range(stop - start):
            sure[start + lane] = found.sure[lane]
            out[start + lane, 0] = 1.0
            for m in range(1, r + 1):
                h = max(greatest[m, lane] - 1.0, out[start + lane, m - 1])
                if h > BEFORE_THE_RULE and found.integer[lane] == 0.0:
                    if h < BEYOND_THE_RULE:
                        sure[start + lane] = 0.0
                    elif h > LARGEST_RATIO:
                        h = np.inf
                out[start + lane, m] = h


@compiled
def _minor_ends(tables, found, permanent, lower, upper):  # type: ignore[no-untyped-def]
    """lower[b, lane] <= |p(B)| <= upper[b, lane]."""
    for b in range(lower.shape[0]):
        order = tables.first[b + 1] - tables.first[b]
        units = rounding_units(order) * 2.0**-106 if order > 1 else 0.0
        for lane in range(LANES):
            size, bound = found.size[b, lane], permanent[b, lane]
            off = units * bound + (UNDERFLOW if units > 0.0 and bound > 0.0 else 0.0)
            lower[b, lane] = max(size * (1.0 - 2.0**-51) - off, 0.0)
            upper[b, lane] = size * (1.0 + 2.0**-51) + off
            if found.integer[lane] > 0.0 and upper[b, lane] < 1.0:
                lower[b, lane], upper[b, lane] = 0.0, 0.0


@compiled
def _profile_ends(P, tables, lattice, out):  # type: ignore[no-untyped-def]
    """out[code, 0] <= profile <= out[code, 1], by intervals for every minor."""
    count, k, r = P.shape
    x, found, smallest = np.empty((k * r, LANES)), new_minors(tables), new_minima(lattice)
    permanent, upper, inverse = np.empty_like(found.size), np.empty_like(found.size), np.empty_like(found.size)
    lower, greatest = found.low, np.empty((r + 1, LANES))
    slack = (k + 6) * 2.0**-52
    for start in range(0, count, LANES):
        stop = min(start + LANES, count)
        load_lanes(P, start, stop, x)
        minor_lanes(x, -1.0, tables, found)
        permanent_lanes(x, tables, permanent)
        _minor_ends(tables, found, permanent, lower, upper)
        for end in range(2):
            for b in range(inverse.shape[0]):
                for lane in range(LANES):
                    inverse[b, lane] = 1.0 / (upper[b, lane] if end == 0 else lower[b, lane])
            sum_parts(tables, lower if end == 0 else upper, found.total)
            _greatest_minima(inverse, found.total, lattice, smallest, greatest)
            factor = 1.0 - slack if end == 0 else 1.0 + slack
            for lane in range(stop - start):
                out[start + lane, end, 0] = 1.0
                for m in range(1, r + 1):
                    value = (greatest[m, lane] * factor - 1.0) * factor
                    out[start + lane, end, m] = max(value, out[start + lane, end, m - 1])


TIGHT = 1e-13
"""Relative width up to which the two ends of a height are one."""


def profile_ends(batch: NDArray[np.float64], threads: int | None = None) -> NDArray[np.float64]:
    """Certified lower and upper ends of the profiles, (B, 2, r + 1), before any rule of what counts as infinite."""
    count, k, r = batch.shape
    out = np.empty((count, 2, r + 1))
    tables, lattice = minor_tables(k + r, k), lattice_tables(k + r, k)
    over_batch(lambda i, j: _profile_ends(batch[i:j], tables, lattice, out[i:j]), count, threads)
    return out


def whole_profile(P: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
    """The exact profile of one code, correctly rounded, (r + 1,), inf where infinite, whatever the size of the others.

    Args:
        P: (k, r) ints, Fractions or floats, each standing for itself.
    """
    k, r = len(P), len(P[0])
    smallest = _whole_minima(tuple(map(tuple, P)))
    level = lattice_tables(k + r, k).level
    of = np.concatenate([np.full(len(smallest) - len(level), r), level])
    out = np.ones(r + 1)
    for m in range(1, r + 1):
        out[m] = max(out[m - 1], smallest[of == m].max())
    return out


@lru_cache(maxsize=4)
def _whole_minima(P: tuple[tuple[Any, ...], ...]) -> NDArray[np.float64]:
    """smallest[S, a] = min over bases B in S of |y|_1, (sets, n), each correctly rounded."""
    k, r = len(P), len(P[0])
    n = k + r
    basis, wider, cover, level = lattice_tables(n, k)
    minors, totals = whole_minors(P)
    smallest = np.full((basis.shape[1] + len(cover), n), np.inf)
    for a, (bases, wide) in enumerate(zip(basis.tolist(), wider.tolist(), strict=True)):
        for q, (b, d) in enumerate(zip(bases, wide, strict=True)):
            if minors[b]:
                try:
                    smallest[q, a] = (totals[d] - minors[b]) / minors[b]
                except OverflowError:
                    smallest[q, a] = np.finfo(np.float64).max  # finite, though no float64 is that large
    for m in range(r - 1, 0, -1):  # larger sets after those that they cover
        larger = np.flatnonzero(level == m)
        smallest[basis.shape[1] + larger] = smallest[cover[larger]].min(1)
    return smallest


def deciding_set(P: Sequence[Sequence[Any]], m: int) -> tuple[int, int]:
    """(outside, a) of the S that decides h_m, exactly: the mask of the m coordinates left out, a among them."""
    k, r = len(P), len(P[0])
    n = k + r
    smallest = _whole_minima(tuple(map(tuple, P)))
    sets = lattice_sets(n, k)
    mine = np.array([n - mask.bit_count() == m for mask in sets])
    q, a = divmod(int(np.where(mine[:, None], smallest, -1.0).argmax()), n)
    inside = sets[q] & ((1 << a) - 1) | sets[q] >> a << (a + 1)
    return (1 << n) - 1 ^ inside, a


def enumerated_profiles(batch: NDArray[np.float64], threads: int | None = None) -> NDArray[np.float64]:
    """Height profiles of checked codes; inf for integers where infinite, for reals above LARGEST_RATIO.

    Shape: batch (B, k, r), k + r <= 16; the profiles (B, r + 1).

    Nearly all are decided by minors that are right to rounding. Where a minor may not be, its permanent tells more;
    then every minor gets an interval, and where the two ends of a height differ, Python's integers decide.
    """
    count, k, r = batch.shape
    out, sure = np.empty((count, r + 1)), np.empty(count)
    tables, lattice = minor_tables(k + r, k), lattice_tables(k + r, k)
    limit = exact_integer_limit(k, r)
    over_batch(lambda i, j: _profiles(batch[i:j], limit, tables, lattice, out[i:j], sure[i:j]), count, threads)
    doubtful = np.flatnonzero(sure == 0.0)
    if len(doubtful):
        out[doubtful] = decided(batch[doubtful], threads)
    return out


def decided(batch: NDArray[np.float64], threads: int | None) -> NDArray[np.float64]:
    """Profiles of codes whose minors may be wrong: by permanents, by intervals, and where these are not enough by
    Python's integers."""
    found = answers(batch, ask(len(batch), 1, batch.shape[2]), threads)
    doubtful = np.flatnonzero(found.sure == 0.0)
    if len(doubtful):
        found.heights[doubtful] = _by_intervals(batch[doubtful], threads)
    return found.heights


def _by_intervals(batch: NDArray[np.float64], threads: int | None) -> NDArray[np.float64]:
    real = ~are_whole(batch)[:, None]
    lower, upper = profile_ends(batch, threads).transpose(1, 0, 2)
    with np.errstate(invalid="ignore"):
        out = np.where(lower == upper, lower, (lower + upper) / 2.0)
        same = (lower == upper) | (upper - lower <= TIGHT * lower)
    beyond = real & (lower > LARGEST_RATIO)
    either = real & ~beyond & (upper > LARGEST_RATIO)
    for i in np.flatnonzero((~(same | beyond) | either).any(1)):
        out[i] = whole_profile(batch[i].tolist())
    out[real & (out > LARGEST_RATIO)] = np.inf
    return out
