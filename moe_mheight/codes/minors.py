"""The k x k minors of G = [I | P], which every exact quantity of the code is made of.

The minor on a column set B is, up to sign, a minor of P: rows outside B, parity columns inside B. All C(n, k) of them
come from Laplace expansion along the last column, in double-double arithmetic (about 32 digits), so that what is left
of a cancellation is still right, and integer minors are exact. How far off a minor may be is bounded by the same
expansion without signs, a permanent. Where that is not enough, `whole_minors` has them all as Python integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations
from math import factorial, lcm
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.jit import LANES, compiled, fma, inlined_exactly

MAX_N = 16
"""Longest code whose minors are enumerated (12,870 of them at (16, 8))."""

EXACT_INTEGERS = 2.0**96
"""For integer P with j! max|P|^j below this (j = min(k, r)) zero minors are recognised exactly."""

LARGEST_RATIO = 1e11
"""Real P: a height above this counts as infinite. It lies far below what rounding makes of an infinite one (measured:
5e14 and more) and far above what random codes reach (1e9). The height of an integer P may be any number."""

BEFORE_THE_RULE, BEYOND_THE_RULE = LARGEST_RATIO * (1.0 - 1e-9), LARGEST_RATIO * (1.0 + 1e-9)
"""Between these rounding may decide on which side of LARGEST_RATIO a height of a real code is."""

SURE = 2.0**-50
"""Relative error up to which a minor counts as right to rounding."""

UNDERFLOW = 1e-290
"""What underflow may add to the error of a minor, and more."""


def subsets(n: int, size: int) -> list[int]:
    """All subsets of range(n) with that many elements, as bit masks, in lexicographic order."""
    return [sum(1 << i for i in c) for c in combinations(range(n), size)]


class MinorTables(NamedTuple):
    """The order in which minors are expanded.

    masks: the k-subsets B of range(n), by increasing number of parity columns.
    first: terms first[b]..first[b+1] belong to subset b.
    source, entry, sign: each term is sign * P.flat[entry] * minor[source].
    parts: (C(n, k+1), k+1), for each larger set D the minors of D - i, i in D.
    """

    masks: NDArray[np.int64]
    first: NDArray[np.int64]
    source: NDArray[np.int64]
    entry: NDArray[np.int64]
    sign: NDArray[np.int64]
    parts: NDArray[np.int64]


class Minors(NamedTuple):
    """The minors of LANES codes.

    size: (C(n, k), LANES), |p(B)|.
    low: work space like size, for the digits beyond float64.
    total: (C(n, k+1), LANES), T(D), the sum of its parts.
    sure: (LANES,), 1 where every minor is right to rounding, and 0 exactly where it vanishes; 0 where one may not be.
    integer: (LANES,), 1 where all entries are integers, else 0.
    """

    size: Any
    low: Any
    total: Any
    sure: Any
    integer: Any


@cache
def minor_tables(n: int, k: int) -> MinorTables:
    """The tables of codes of length n and dimension k."""
    masks = sorted(subsets(n, k), key=lambda mask: ((mask >> k).bit_count(), mask))
    rank = {mask: b for b, mask in enumerate(masks)}
    first, terms = [0], []
    for mask in masks:
        rows = [i for i in range(k) if not mask >> i & 1]
        columns = [j for j in range(n - k) if mask >> (k + j) & 1]
        for t, i in enumerate(rows):
            j = columns[-1]
            sign = -1 if (t + len(columns) - 1) % 2 else 1
            terms.append((rank[mask ^ (1 << (k + j)) ^ (1 << i)], i * (n - k) + j, sign))
        first.append(len(terms))
    source, entry, signs = np.array(terms, np.int64).reshape(-1, 3).T.copy()
    parts = [[rank[mask ^ (1 << i)] for i in range(n) if mask >> i & 1] for mask in subsets(n, k + 1)]
    return MinorTables(np.array(masks), np.array(first), source, entry, signs, np.array(parts))


@compiled
def new_minors(tables):  # type: ignore[no-untyped-def]
    """Room for the minors of LANES codes."""
    size = np.empty((tables.masks.shape[0], LANES))
    return Minors(size, np.empty_like(size), np.empty((tables.parts.shape[0], LANES)), np.empty(LANES), np.empty(LANES))


@compiled
def load_lanes(P, start, stop, x):  # type: ignore[no-untyped-def]
    """x[entry, lane] = P[start + lane].flat[entry]; spare lanes repeat the last code."""
    r = P.shape[2]
    for e in range(x.shape[0]):
        for lane in range(LANES):
            x[e, lane] = P[min(start + lane, stop - 1), e // r, e % r]


@inlined_exactly
def rounding_units(order):  # type: ignore[no-untyped-def]
    """A minor of this order is off by no more than this many times 2^-106 times the permanent of its sizes.

    With v = 2^-53 the low parts are below (t + 3) v A after t terms of an expansion whose permanent is A, and each term
    rounds them by v thrice: less than 3 (t + 3)^2 v^2 A, t <= order, on top of what the smaller minors brought along.
    """
    return 8.0 * (order + 3.0) ** 3


@compiled
def permanent_lanes(x, tables, permanent):  # type: ignore[no-untyped-def]
    """permanent[b, lane] = the expansion of minor b with all signs positive."""
    permanent[0] = 1.0
    for b in range(1, permanent.shape[0]):
        out = permanent[b]
        out[:] = 0.0
        for t in range(tables.first[b], tables.first[b + 1]):
            smaller, value = permanent[tables.source[t]], x[tables.entry[t]]
            for lane in range(LANES):
                out[lane] += abs(value[lane]) * smaller[lane]


@compiled
def _expand(x, tables, minor, low):  # type: ignore[no-untyped-def]
    """minor + low = every p(B), with its sign."""
    first, source, entry, sign = tables.first, tables.source, tables.entry, tables.sign
    minor[0] = 1.0
    low[0] = 0.0
    for b in range(1, minor.shape[0]):
        hi, lo = minor[b], low[b]
        for lane in range(LANES):
            hi[lane] = 0.0
            lo[lane] = 0.0
        for t in range(first[b], first[b + 1]):
            source_hi, source_lo = minor[source[t]], low[source[t]]
            value, plus_or_minus = x[entry[t]], np.float64(sign[t])
            for lane in range(LANES):
                v = plus_or_minus * value[lane]
                product = source_hi[lane] * v
                error = fma(source_hi[lane], v, -product) + source_lo[lane] * v  # type: ignore[call-arg]
                old = hi[lane]
                summed = old + product
                shift = summed - old
                lo[lane] += error + ((old - (summed - shift)) + (product - shift))
                hi[lane] = summed
        for lane in range(LANES):
            summed = hi[lane] + lo[lane]
            lo[lane] -= summed - hi[lane]
            hi[lane] = summed


@compiled
def _sizes(tables, exact_below, largest, found):  # type: ignore[no-untyped-def]
    """Minors without their signs, 0 for those of integers that vanish; and where one may be wrong."""
    first, minor, sure, integer = tables.first, found.size, found.sure, found.integer
    sure[:] = 1.0
    limit, before, bound, zero = np.zeros(LANES), 0, np.ones(LANES), np.empty(LANES)
    for lane in range(LANES):
        zero[lane] = 0.5 if integer[lane] > 0.0 and largest[lane] <= exact_below else 0.0
    for b in range(minor.shape[0]):
        order = first[b + 1] - first[b]
        if order > before:  # no permanent of this order is larger than order! largest^order
            before = order
            for lane in range(LANES):
                bound[lane] *= order * largest[lane]
                certain = zero[lane] > 0.0 or order == 1
                units = rounding_units(order) * 2.0**-106
                limit[lane] = 0.0 if certain else (units * bound[lane] + UNDERFLOW) / SURE
        out = minor[b]
        for lane in range(LANES):
            size = abs(out[lane])
            sure[lane] = 0.0 if size < limit[lane] else sure[lane]
            out[lane] = 0.0 if size < zero[lane] else size


@compiled
def sum_parts(tables, minor, total):  # type: ignore[no-untyped-def]
    """total[D] = T(D)."""
    parts = tables.parts
    for d in range(parts.shape[0]):
        row = total[d]
        row[:] = 0.0
        for t in range(parts.shape[1]):
            part = minor[parts[d, t]]
            for lane in range(LANES):
                row[lane] += part[lane]


@compiled
def minor_lanes(x, exact_below, tables, found):  # type: ignore[no-untyped-def]
    """Fill `found`, Minors, for LANES codes x (k r, LANES); exact_below as from `exact_integer_limit`."""
    largest, integer = np.zeros(LANES), found.integer
    integer[:] = 1.0
    for e in range(x.shape[0]):
        value = x[e]
        for lane in range(LANES):
            largest[lane] = max(largest[lane], abs(value[lane]))
            integer[lane] = integer[lane] if value[lane] == np.floor(value[lane]) else 0.0
    _expand(x, tables, found.size, found.low)
    _sizes(tables, exact_below, largest, found)
    sum_parts(tables, found.size, found.total)


def exact_integer_limit(k: int, r: int) -> float:
    """Largest max|P| for which an integer P has its zero minors recognised exactly."""
    j = min(k, r)
    return float((EXACT_INTEGERS / factorial(j)) ** (1.0 / j))


def whole_minors(P: Sequence[Sequence[Any]]) -> tuple[list[int], list[int]]:
    """|p(B)| of every B, times one common factor, and T(D) of every D times the same, as Python integers.

    Args:
        P: (k, r) ints, Fractions or floats, each standing for itself.
    """
    F = [[Fraction(value) for value in row] for row in P]
    k, r = len(F), len(F[0])
    scale = lcm(*(value.denominator for row in F for value in row))
    flat = [int(value * scale) for row in F for value in row]
    masks, first, source, entry, sign, parts = (table.tolist() for table in minor_tables(k + r, k))
    minors = [1]
    for b in range(1, len(masks)):
        terms = range(first[b], first[b + 1])
        minors.append(sum(sign[t] * flat[entry[t]] * minors[source[t]] for t in terms))
    # a minor of order j has the factor scale^j so far
    largest_order = min(k, r)
    powers = [scale ** (largest_order - j) for j in range(largest_order + 1)]
    sizes = [abs(p) * powers[first[b + 1] - first[b]] for b, p in enumerate(minors)]
    return sizes, [sum(sizes[b] for b in those) for those in parts]


def smallest_minors(P: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How near the codes come to having k dependent columns: the smallest |p(B)| of independent columns over the
    largest minor, (B,), and its B, (B, k). In float64: what is below 1e-11 of the largest counts as dependent.

    Args:
        P: (B, k, r), k + r <= 16.
    """
    count, k, r = P.shape
    sets = np.array(list(combinations(range(k + r), k)))
    ratio, at = np.empty(count), np.empty(count, np.int64)
    step = max(1, 2_000_000 // (len(sets) * k * k))  # some 16 MB of submatrices at a time
    for start in range(0, count, step):
        piece = P[start : start + step]
        G = np.concatenate([np.broadcast_to(np.eye(k), (len(piece), k, k)), piece], axis=2)
        minors = np.abs(np.linalg.det(G[:, :, sets].transpose(0, 2, 1, 3)))
        largest = minors.max(1)
        minors[minors < 1e-11 * largest[:, None]] = np.inf
        at[start : start + step] = minors.argmin(1)
        ratio[start : start + step] = minors.min(1) / largest
    return ratio, sets[at]


def are_whole(batch: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which codes have integer entries only, (B,)."""
    integers: NDArray[np.bool_] = (np.floor(batch) == batch).all((1, 2))
    return integers
