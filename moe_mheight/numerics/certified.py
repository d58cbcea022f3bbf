"""What a table of `simplex_tableau` proposes, taken back to G in twice the precision.

A bound counts by its residual, a codeword by its coordinates: what these kernels return holds whatever the table has
become.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .jit import compiled, fma, fused, inlined_exactly
from .rounding import ROUNDING

TINY = 1e-13
"""Coefficients relatively this small are left out of y; the residual answers for them."""

REFINEMENTS = 4


class Codeword(NamedTuple):
    """The best codeword so far, (x + rest) G, to be overwritten: x (k,), what x leaves of it (k,), coordinates (n,)."""

    x: Any
    rest: Any
    word: Any


@inlined_exactly
def _subtract(high, low, one, two):  # type: ignore[no-untyped-def]
    """(high, low) - one * two, to about 32 digits."""
    product = -one * two
    error = fma(-one, two, -product)  # type: ignore[call-arg,var-annotated]
    summed = high + product
    shift = summed - high
    return summed, low + (error + ((high - (summed - shift)) + (product - shift)))


@compiled
def certified_norm(G, D, basis, a, bound, y, low):  # type: ignore[no-untyped-def]
    """A bound on the height of every (S, a) with the support of y in S, and that support as a mask.

    y, low: (k,), filled with the coefficients, high and low part. `bound`: how tight it should be, if it can.

    With rho = g_a - G y, in G = [I | P]: the best codeword has |coordinates| <= h and information part u, so
    h = g_a . u <= |y|_1 + h |rho|_1. Rounding of the residual itself, at 32 digits, is added to it.
    """
    k = G.shape[0]
    rho = np.empty(k)
    for i in range(k):
        y[i] = D[i, a]
        low[i] = 0.0
    result, mask = np.inf, np.int64(0)
    for turn in range(REFINEMENTS):
        size = 0.0
        for i in range(k):
            size += abs(y[i])
        support = np.int64(0)
        for i in range(k):
            if abs(y[i]) <= TINY * size:
                y[i], low[i] = 0.0, 0.0
            else:
                support |= np.int64(1) << basis[i]
        total, off, moved = 0.0, 0.0, 0.0
        for p in range(k):
            total += abs(y[p] + low[p])
        for i in range(k):
            high, rest, terms = G[i, a], 0.0, abs(G[i, a])
            for p in range(k):
                if y[p] != 0.0:
                    entry = G[i, basis[p]]
                    high, rest = _subtract(high, rest, y[p], entry)
                    rest -= low[p] * entry
                    terms += abs(y[p] * entry)
            rho[i] = high + rest
            off += abs(rho[i]) * (1.0 + 8.0 * ROUNDING) + 4.0 * (k + 2) * (k + 2) * ROUNDING * ROUNDING * terms
        if off < 0.5:
            value = total / (1.0 - off) * (1.0 + (k + 6) * ROUNDING)
            if value < result:
                result, mask = value, support
        if result <= bound and off < 1e-13:
            break
        if turn + 1 < REFINEMENTS:
            for i in range(k):
                step = 0.0
                for p in range(k):
                    step += D[i, p] * rho[p]
                high = y[i] + (low[i] + step)
                moved = max(moved, abs(step))
                low[i] = (y[i] - high) + (low[i] + step)
                y[i] = high
            if not moved < 1e3 * size:
                break
    return result, mask


@fused
def _residuals(G, D, basis, total, off):  # type: ignore[no-untyped-def]
    """|y|_1 and a bound on |g_a - G y|_1 for every column a at once: (n,) each."""
    k, n = G.shape
    value, terms = np.empty(n), np.empty(n)
    for j in range(n):
        total[j], off[j] = 0.0, 0.0
    for p in range(k):
        row = D[p]
        for j in range(n):
            total[j] += abs(row[j])
    for i in range(k):
        row_G = G[i]
        for j in range(n):
            value[j] = row_G[j]
            terms[j] = abs(row_G[j])
        for p in range(k):
            entry, row = G[i, basis[p]], D[p]
            if entry != 0.0:
                for j in range(n):
                    value[j] -= entry * row[j]
                    terms[j] += abs(entry * row[j])
        for j in range(n):
            off[j] += abs(value[j]) + (k + 4) * ROUNDING * terms[j]


@compiled
def certified_norms(G, D, basis, row_of, tau, space):  # type: ignore[no-untyped-def]
    """Which coordinates outside the basis it does not bound by tau, as a mask, and the largest bound of the others."""
    k, n = G.shape
    total, off, y, low = space[0, :n], space[1, :n], space[2, :k], space[3, :k]
    _residuals(G, D, basis, total, off)
    bad, proven = np.int64(0), 0.0
    for j in range(n):
        if row_of[j] >= 0:
            continue
        bound = total[j] / (1.0 - off[j]) * (1.0 + (k + 6) * ROUNDING) if off[j] < 0.5 else np.inf
        if not bound <= tau and total[j] <= tau * 1.001:
            bound, _ = certified_norm(G, D, basis, j, tau, y, low)
        if bound <= tau:
            proven = max(proven, bound)
        else:
            bad |= np.int64(1) << j
    return bad, proven


@compiled
def _multiply(x, rest, G, j):  # type: ignore[no-untyped-def]
    """(x + rest) . g_j to about 32 digits, and a bound on its error."""
    high, low, terms = 0.0, 0.0, 0.0
    for i in range(G.shape[0]):
        high, low = _subtract(high, low, -x[i], G[i, j])
        low += rest[i] * G[i, j]
        terms += abs(x[i] * G[i, j])
    k = G.shape[0]
    return high, low, 4.0 * (k + 2) * (k + 2) * ROUNDING * ROUNDING * terms


@compiled
def height_of(G, x, rest, m, word):  # type: ignore[no-untyped-def]
    """The m-height of the codeword (x + rest) G, rounded down; word (n,) gets it in float64."""
    n = G.shape[1]
    largest = 0.0
    below = np.empty(n)
    for j in range(n):
        below[j] = 0.0
    for j in range(n):
        high, low, error = _multiply(x, rest, G, j)
        word[j] = high + low
        largest = max(largest, abs(word[j]) - 2.0 * ROUNDING * abs(word[j]) - error)
        size, at = abs(word[j]) * (1.0 + 2.0 * ROUNDING) + error, j
        while at > 0 and below[at - 1] < size:
            below[at] = below[at - 1]
            at -= 1
        below[at] = size
    return largest / below[m] * (1.0 - 4.0 * ROUNDING) if largest > 0.0 else 1.0


@compiled
def certified_height(G, D, basis, column, m, x, rest, word):  # type: ignore[no-untyped-def]
    """The height of the codeword that is as large on the basis as the signs of a column say, rounded down.

    x, rest: (k,), filled with its information part, high and low.
    """
    k = G.shape[0]
    off = np.empty(k)
    for j in range(k):
        x[j], rest[j] = 0.0, 0.0
        for i in range(k):
            x[j] += D[i, j] if D[i, column] > 0.0 else -D[i, j]
    for _ in range(2):
        for i in range(k):
            high, low, _error = _multiply(x, rest, G, basis[i])
            off[i] = ((1.0 if D[i, column] > 0.0 else -1.0) - high) - low
        for j in range(k):
            step = 0.0
            for i in range(k):
                step += off[i] * D[i, j]
            high = x[j] + (rest[j] + step)
            rest[j] = (x[j] - high) + (rest[j] + step)
            x[j] = high
    return height_of(G, x, rest, m, word)
