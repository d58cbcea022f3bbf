"""The k x k minors of G = [I | P], which every exact quantity of the code is made of.

The minor on a column set B is, up to sign, a minor of P: rows outside B, parity columns inside B. All C(n, k) of them
come from Laplace expansion along the last column, in double-double arithmetic (about 32 digits), so that what is left
of a cancellation is still right, and integer minors are exact.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .codes import check_P, like_input
from .kernels import LANES, compiled, fma, over_batch

MAX_N = 16
"""Longest code whose minors are enumerated (12,870 of them at (16, 8))."""

EXACT_INTEGERS = 2.0**96
"""For integer P with j! max|P|^j below this (j = min(k, r)) zero minors are recognised exactly."""

LARGEST_RATIO = 1e11
"""Real P: columns B are a basis when every other column is a combination of them with coefficients summing, in absolute
value, to at most this. So finite heights of real codes end here, far below what rounding makes of an infinite one
(measured: 5e14 and more) and far above what random codes reach (1e9)."""


def subsets(n: int, size: int) -> list[int]:
    """All subsets of range(n) with that many elements, as bit masks, in lexicographic order."""
    return [sum(1 << i for i in c) for c in combinations(range(n), size)]


@cache
def minor_tables(n: int, k: int) -> tuple[NDArray[Any], ...]:
    """The order in which minors are expanded.

    Returns:
        masks: the k-subsets B of range(n), by increasing number of parity columns.
        first: terms first[b]..first[b+1] belong to subset b.
        source, entry, sign: each term is sign * P.flat[entry] * minor[source].
        parts: (C(n, k+1), k+1), for each larger set D the minors of D - i, i in D.
    """
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
    return np.array(masks), np.array(first), source, entry, signs, np.array(parts)


@compiled
def load_lanes(P, start, stop, x):  # type: ignore[no-untyped-def]
    """x[entry, lane] = P[start + lane].flat[entry]; spare lanes repeat the last code."""
    r = P.shape[2]
    for e in range(x.shape[0]):
        for lane in range(LANES):
            x[e, lane] = P[min(start + lane, stop - 1), e // r, e % r]


@compiled
def _drop_stray_bases(parts, minor, reached):  # type: ignore[no-untyped-def]
    """Zero what no exchange of columns connects with the largest minor: bases of a matroid are always connected.

    Where columns are dependent several times over, minors are products of rounding errors, and beside zeros such a one
    can look like a basis.
    """
    zeros, best = 0, 0
    for b in range(minor.shape[0]):
        zeros += minor[b] == 0.0
        best = b if minor[b] > minor[best] else best
    if zeros == 0:
        return
    reached[:] = 0.0
    reached[best] = 1.0
    grown = True
    while grown:
        grown = False
        for d in range(parts.shape[0]):
            touched, open_ends = False, False
            for t in range(parts.shape[1]):
                b = parts[d, t]
                touched |= reached[b] > 0.0
                open_ends |= reached[b] == 0.0 and minor[b] > 0.0
            if touched and open_ends:
                grown = True
                for t in range(parts.shape[1]):
                    if minor[parts[d, t]] > 0.0:
                        reached[parts[d, t]] = 1.0
    for b in range(minor.shape[0]):
        if reached[b] == 0.0:
            minor[b] = 0.0


@compiled
def minor_lanes(x, exact_below, first, source, entry, sign, parts, minor, low, total):  # type: ignore[no-untyped-def]
    """Fill minor[b, lane] with |p(B)|, 0 where B is no basis, and total[d, lane] with T(D), the sum of its parts.

    low: work space like minor, for the digits beyond float64.
    """
    integer = np.empty(LANES)
    for lane in range(LANES):
        integer[lane] = 1.0
        largest = 0.0
        for e in range(x.shape[0]):
            largest = max(largest, abs(x[e, lane]))
            if x[e, lane] != np.floor(x[e, lane]):
                integer[lane] = 0.0
        if largest > exact_below:
            integer[lane] = 0.0
        minor[0, lane] = 1.0
        low[0, lane] = 0.0
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
    for b in range(minor.shape[0]):
        for lane in range(LANES):
            minor[b, lane] = abs(minor[b, lane])
    # by Cramer's rule T(B + a) / |p(B)| - 1 is the absolute sum of column a's coefficients on B: low keeps the largest
    low[:] = 0.0
    for d in range(parts.shape[0]):
        row = total[d]
        row[:] = 0.0
        for t in range(parts.shape[1]):
            part = minor[parts[d, t]]
            for lane in range(LANES):
                row[lane] += part[lane]
        for t in range(parts.shape[1]):
            largest = low[parts[d, t]]
            for lane in range(LANES):
                largest[lane] = max(largest[lane], row[lane])
    for b in range(minor.shape[0]):
        for lane in range(LANES):
            limit = 0.5 if integer[lane] > 0.0 else low[b, lane] / LARGEST_RATIO
            minor[b, lane] = 0.0 if minor[b, lane] < limit else minor[b, lane]
    for lane in range(LANES):
        if integer[lane] == 0.0:
            _drop_stray_bases(parts, minor[:, lane], low[:, lane])


def exact_integer_limit(k: int, r: int) -> float:
    """Largest max|P| for which an integer P has its zero minors recognised exactly."""
    j = min(k, r)
    return float((EXACT_INTEGERS / factorial(j)) ** (1.0 / j))


@compiled
def _distance(P, exact_below, masks, first, source, entry, sign, parts, out):  # type: ignore[no-untyped-def]
    count, k, r = P.shape
    n = k + r
    x = np.empty((k * r, LANES))
    minor = np.empty((masks.shape[0], LANES))
    low = np.empty_like(minor)
    total = np.empty((parts.shape[0], LANES))
    spans = np.zeros(1 << n, np.bool_)
    for start in range(0, count, LANES):
        stop = min(start + LANES, count)
        load_lanes(P, start, stop, x)
        minor_lanes(x, exact_below, first, source, entry, sign, parts, minor, low, total)
        for lane in range(stop - start):
            distance = r + 1
            for b in range(masks.shape[0]):
                if minor[b, lane] == 0.0:
                    distance = 0
                    break
            if distance == 0:
                spans[:] = False
                for b in range(masks.shape[0]):
                    spans[masks[b]] = minor[b, lane] > 0.0
                for i in range(n):
                    for mask in range(1 << n):
                        if mask >> i & 1 and spans[mask ^ (1 << i)]:
                            spans[mask] = True
                # d is n less the size of the largest column set that does not span
                distance = n
                for mask in range(1 << n):
                    if not spans[mask]:
                        size = 0
                        for i in range(n):
                            size += mask >> i & 1
                        distance = min(distance, n - size)
            out[start + lane] = distance


def minimum_distance(P: ArrayLike, threads: int | None = None) -> int | NDArray[np.int64]:
    """Minimum Hamming distance d of the code [I | P]; h_m is infinite exactly when m >= d.

    Args:
        P: (k, r) or (B, k, r), k + r <= 16. For integer P the answer is exact (see `exact_integer_limit`), for
            real P it goes by LARGEST_RATIO.
        threads: default all cores.

    Returns:
        An int, or (B,) int64.

    Raises:
        CodeError: P is not a real finite matrix, or the code is too long.

    Example:
        >>> from moe_mheight import minimum_distance
        >>> minimum_distance([[1, 1], [1, 2]])
        3
    """
    batch, single = check_P(P, max_n=MAX_N)
    count, k, r = batch.shape
    out = np.empty(count, np.int64)
    tables = minor_tables(k + r, k)
    limit = exact_integer_limit(k, r)
    over_batch(lambda i, j: _distance(batch[i:j], limit, *tables, out[i:j]), count, threads)
    return like_input(out, single)


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
