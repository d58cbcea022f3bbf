"""Heights of single codes by enumeration: each (S, a) asks bases inside S until one bounds it by the best height yet.

With all minors at hand a ratio T(B + a) / |p(B)| is two reads (see `enumeration`, which has the theorem). h_m is the
largest over (S, a) of the smallest over bases in S; nearly every (S, a) is done with after a basis or two, and only
those that raise the height ask all of theirs. A batch that wants every m is faster by `enumeration`, LANES codes at a
time; the heights are the same to the last bit.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from math import comb, gcd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codes.minors import (
    BEFORE_THE_RULE,
    BEYOND_THE_RULE,
    LARGEST_RATIO,
    SURE,
    UNDERFLOW,
    exact_integer_limit,
)
from ..numerics.bitsets import count_bits, highest_bit, lowest_bit
from ..numerics.jit import compiled, fma, over_batch
from ..numerics.rationals import MAGNITUDES

SMALLEST_ENTRY, LARGEST_ENTRY = MAGNITUDES

LONGEST = 20
"""Longest code: 184,756 minors at (20, 10), some 30 ms and 20 MB."""


UNITS = 8.0 * np.arange(3.0, LONGEST + 4.0) ** 3 * 2.0**-106 * 1.001
"""What a minor of each order may be off by, in permanents, see `rounding_units`; and a little for their rounding."""


class BasisTables(NamedTuple):
    """What the codes of one length and dimension share, in one array (each array costs a call 0.2 us), and their limit.

    packed: int32, the ends of its five parts after this one, then
        bases: (C(n, k),), masks B by increasing number of parity columns; wider: (C(n, k+1),), masks D.
        rank: (2^n,), the number of each B among the bases and of each D among the wider ones.
        patterns: (C(n, k+1), k), all k-subsets of range(n - m), for every m.
        begin: (r + 1,), those of m are begin[m]..begin[m-1].
    exact_below: as from `exact_integer_limit`.
    """

    packed: NDArray[np.int32]
    exact_below: float


@cache
def basis_tables(n: int, k: int) -> BasisTables:
    """The tables of codes of length n and dimension k."""
    masks = np.arange(1 << n, dtype=np.int32)
    size = _bit_counts(n)
    bases, wider = masks[size == k], masks[size == k + 1]
    bases = bases[np.argsort(size[bases >> k], kind="stable")]
    rank = np.zeros(1 << n, np.int32)
    rank[bases], rank[wider] = np.arange(len(bases)), np.arange(len(wider))
    patterns, begin = [], np.zeros(n - k + 1, np.int32)
    for m in range(n - k, 0, -1):
        patterns.append(_spread(np.array(list(combinations(range(n - m), k)), np.int32)))
        begin[m - 1] = begin[m] + len(patterns[-1])
    parts = [bases, wider, rank, np.concatenate(patterns).ravel(), begin]
    ends = len(parts) + np.cumsum([len(part) for part in parts])
    return BasisTables(np.concatenate([ends, *parts]).astype(np.int32), exact_integer_limit(k, n - k))


def _bit_counts(n: int) -> NDArray[np.uint8]:
    counts = np.zeros(1, np.uint8)
    for _ in range(n):
        counts = np.concatenate([counts, counts + np.uint8(1)])
    return counts


def _spread(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """The rows in an order in which neighbours have little in common: one basis failing says little of the next."""
    count = len(rows)
    step = max(round(0.618 * count), 1)
    while gcd(step, count) > 1:
        step += 1
    return rows[np.arange(count) * step % count]


@compiled
def _minors(entries, r, bases, rank, space):  # type: ignore[no-untyped-def]
    """p(B) of one code in double-double arithmetic, rounded, in space[0]; whether all are right to rounding.

    By expansion along the last column, as in `codes.minors`; beside it the permanents, which bound the rounding.
    space: (3, C(n, k)).
    """
    k, one, right = entries.shape[0] // r, np.int64(1), True
    space[0, 0], space[1, 0], space[2, 0] = 1.0, 0.0, 1.0
    for b in range(1, bases.shape[0]):
        mask = np.int64(bases[b])
        column = highest_bit(mask)
        rows, smaller = ~mask & ((one << k) - one), mask ^ one << column
        column -= k
        order = count_bits(rows)
        sign = 1.0 if order & 1 else -1.0
        high, rest, permanent = 0.0, 0.0, 0.0
        while rows:
            i = lowest_bit(rows)
            rows &= rows - one
            source, value = rank[smaller | one << i], sign * entries[i * r + column]
            sign = -sign
            minor = space[0, source]
            product = minor * value
            error = fma(minor, value, -product) + space[1, source] * value  # type: ignore[call-arg,operator]
            summed = high + product
            shift = summed - high
            rest += error + ((high - (summed - shift)) + (product - shift))
            high = summed
            permanent += abs(value) * space[2, source]
        summed = high + rest
        space[0, b], space[1, b], space[2, b] = summed, rest - (summed - high), permanent
        if order > 1:
            right &= not abs(summed) * SURE < UNITS[order] * permanent + UNDERFLOW
    return right


@compiled
def _height(n, k, m, best, stop, rank, patterns, size, total, which):  # type: ignore[no-untyped-def]
    """1 + h_m, from `best` on, a lower bound of it; ends where it is above `stop`.

    rank, patterns (P k,): see `BasisTables`; size, total: |p(B)| and T(D). which: (2,), gets the mask left out of S and
    a where the height grows.
    """
    one = np.int64(1)
    bits, smallest = np.empty(n, np.int64), np.empty(n)
    outside, after = (one << m) - one, one << n
    while outside < after and not best > stop:
        inside, count = after - one ^ outside, 0
        while inside:
            bits[count] = inside & -inside
            inside ^= bits[count]
            count += 1
        open_targets = outside
        for q in range(0, patterns.shape[0], k):
            basis = np.int64(0)
            for i in range(q, q + k):
                basis |= bits[patterns[i]]
            volume = size[rank[basis]]
            inverse, targets = 1.0 / volume, open_targets
            while targets:
                a = lowest_bit(targets)
                ratio = total[rank[basis | one << a]] * inverse
                ratio = ratio if volume > 0.0 else np.inf  # not a basis
                smallest[a] = ratio if q == 0 or ratio < smallest[a] else smallest[a]
                open_targets ^= one << a if ratio <= best else 0
                targets &= targets - 1
            if open_targets == 0:
                break
        while open_targets:
            a = lowest_bit(open_targets)
            if smallest[a] > best:
                best, which[0], which[1] = smallest[a], outside, a
            open_targets &= open_targets - 1
        lowest = outside & -outside
        ripple = outside + lowest
        outside = (((ripple ^ outside) >> 2) // lowest) | ripple
    return best


class Questions(NamedTuple):
    """What is asked of each code, columns of one float64 array (B, 4).

    lowest, highest: the first and the last m.
    start, stop: heights up to `start` need not be told apart, and above `stop` any lower bound will do.
    """

    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    start: NDArray[np.float64]
    stop: NDArray[np.float64]


class Answers(NamedTuple):
    """What is known of each code, columns of one float64 array (B, r + 4).

    heights: (B, r + 1), filled for the m asked for, 1 for h_0; sure: 1 where every minor is right to rounding, and the
    heights on the right side of LARGEST_RATIO, else 0; left, at: the mask left out of S and the a that decide the last
    m, 0 where h_m is not above `start`.
    """

    heights: NDArray[np.float64]
    sure: NDArray[np.float64]
    left: NDArray[np.float64]
    at: NDArray[np.float64]


@compiled
def heights_by_bases(P, questions, exact_below, packed, answers):  # type: ignore[no-untyped-def]
    """Answer the `Questions` (B, 4) about codes P (B, k r) by `Answers` (B, r + 4), with `BasisTables`."""
    r = answers.shape[1] - 4
    k = P.shape[1] // r
    n = k + r
    bases, wider, rank = packed[5 : packed[0]], packed[packed[0] : packed[1]], packed[packed[1] : packed[2]]
    patterns, begin = packed[2], packed[3]
    space, total, which = np.empty((3, bases.shape[0])), np.empty(wider.shape[0]), np.empty(2, np.int64)
    size = space[0]
    for code in range(P.shape[0]):
        entries, out = P[code], answers[code]
        largest, integer, in_range = 0.0, True, True
        for e in range(k * r):
            entry = abs(entries[e])
            largest = max(largest, entry)
            integer &= entry == np.floor(entry)
            in_range &= entry == 0.0 or SMALLEST_ENTRY <= entry <= LARGEST_ENTRY
        zero = 0.5 if integer and largest <= exact_below else 0.0
        right = (_minors(entries, r, bases, rank, space) or zero > 0.0) and in_range
        for b in range(size.shape[0]):
            size[b] = 0.0 if abs(size[b]) < zero else abs(size[b])
        for d in range(wider.shape[0]):
            summed, left = 0.0, np.int64(wider[d])
            while left:
                summed += size[rank[wider[d] ^ (left & -left)]]
                left &= left - 1
            total[d] = summed
        best, which[0], which[1] = 1.0 + questions[code, 2], 0, 0
        before = 1.0
        out[0] = 1.0
        for m in range(questions[code, 0], questions[code, 1] + 1):
            of_m = packed[patterns + k * packed[begin + m] : patterns + k * packed[begin + m - 1]]
            best = _height(n, k, m, best, 1.0 + questions[code, 3], rank, of_m, size, total, which)
            h = max(best - 1.0, before)
            before = h
            if h > BEFORE_THE_RULE and not integer:
                if h < BEYOND_THE_RULE:
                    right = False
                elif h > LARGEST_RATIO:
                    h = np.inf
            out[m] = h
        out[r + 1], out[r + 2], out[r + 3] = 1.0 if right else 0.0, which[0], which[1]


def ask(count: int, lowest: Any, highest: Any, start: Any = 0.0, stop: Any = np.inf) -> NDArray[np.float64]:
    """`Questions` about so many codes, each a number or (B,)."""
    out = np.empty((count, len(Questions._fields)))
    for place, value in enumerate(Questions(lowest, highest, start, stop)):
        out[:, place] = value
    return out


def answers(batch: NDArray[np.float64], questions: NDArray[np.float64], threads: int | None = None) -> Answers:
    """Answer `Questions` (B, 4) about checked codes (B, k, r), k + r <= LONGEST."""
    count, k, r = batch.shape
    tables, limit = basis_tables(k + r, k)
    P, out = batch.reshape(count, k * r), np.empty((count, r + 4))
    pieces = max(1, 2_000 // comb(k + r, k))
    over_batch(
        lambda i, j: heights_by_bases(P[i:j], questions[i:j], limit, tables, out[i:j]), count, threads, min_rows=pieces
    )
    return Answers(out[:, : r + 1], out[:, r + 1], out[:, r + 2], out[:, r + 3])
