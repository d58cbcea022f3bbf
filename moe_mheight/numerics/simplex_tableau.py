"""A basis of a code and what it makes of every column: the table D = G_B^-1 G, walked by pivots.

Column a of D is y, the coefficients of g_a on the basis, and |y|_1 bounds the height of (S, a) for every S that
contains B (arXiv:2602.20366, Theorem 8); the row of a basic coordinate is the codeword that is 1 there and 0 on the
others. The table drifts with its pivots. So it only proposes; `certified` says what holds.

Shapes: see `Tableau`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .jit import compiled, fused, inlined_exactly

MOVED = 1e-9
"""How far the last column is from g_a, relatively."""

PIVOT = 1e-7
"""A pivot is no smaller than this times the largest of its row."""


class Tableau(NamedTuple):
    """A code, a basis of it, and space to work in.

    G: (k, n) = [I | P].
    D: (k, n + 1) = G_B^-1 G, and a last column for a target moved a little, whose coefficients hardly ever vanish.
    basis: (k,), the coordinate of each row.
    row_of: (n,), the row of each coordinate, -1 outside the basis.
    space: (7, n + 1).
    """

    G: Any
    D: Any
    basis: Any
    row_of: Any
    space: Any


@fused
def pivot(D, basis, row_of, i, j):  # type: ignore[no-untyped-def]
    """Coordinate j enters the basis in row i."""
    k, width = D.shape
    row, inverse = D[i], 1.0 / D[i, j]
    for q in range(width):
        row[q] *= inverse
    row[j] = 1.0
    for p in range(k):
        factor, out = D[p, j], D[p]
        if p != i and factor != 0.0:
            for q in range(width):
                out[q] -= factor * row[q]
            out[j] = 0.0
    row_of[basis[i]] = -1
    basis[i] = j
    row_of[j] = i


@compiled
def first_table(G, a, D, basis, row_of):  # type: ignore[no-untyped-def]
    """The table of the first k coordinates."""
    k, n = G.shape
    largest = 0.0
    for i in range(k):
        largest = max(largest, abs(G[i, a]))
    for j in range(n):
        row_of[j] = -1
    for i in range(k):
        for j in range(n):
            D[i, j] = G[i, j]
        # any fixed directions without a pattern do
        D[i, n] = G[i, a] + MOVED * largest * np.sin(1.0 + 1.7 * i + 0.37 * a)
        basis[i] = i
        row_of[i] = i


@compiled
def new_tableau(G, a):  # type: ignore[no-untyped-def]
    """The tableau of the first k coordinates, for the target a."""
    k, n = G.shape
    D, basis, row_of = np.empty((k, n + 1)), np.empty(k, np.int64), np.empty(n, np.int64)
    first_table(G, a, D, basis, row_of)
    return Tableau(G, D, basis, row_of, np.empty((7, n + 1)))


@compiled
def renew(G, a, D, basis, row_of):  # type: ignore[no-untyped-def]
    """Make the table of the same basis again from G, by elimination with pivoting; False where that ends in zeros."""
    k = G.shape[0]
    wanted = np.empty(k, np.int64)
    for i in range(k):
        wanted[i] = basis[i]
    first_table(G, a, D, basis, row_of)
    missing, stays = 0, np.int64(0)
    for t in range(k):
        if wanted[t] < k:
            stays |= np.int64(1) << wanted[t]
        else:
            wanted[missing] = wanted[t]
            missing += 1
    for _ in range(missing):
        at, which, largest = -1, -1, 0.0
        for t in range(missing):
            j = wanted[t]
            if row_of[j] < 0:
                for i in range(k):
                    if not stays >> i & 1 and abs(D[i, j]) > largest:
                        at, which, largest = i, j, abs(D[i, j])
        if at < 0:
            return False
        pivot(D, basis, row_of, at, which)
        stays |= np.int64(1) << at
    return True


@inlined_exactly
def norm(D, column):  # type: ignore[no-untyped-def]
    """|y|_1 of a column."""
    total = 0.0
    for i in range(D.shape[0]):
        total += abs(D[i, column])
    return total


@inlined_exactly
def largest_in_row(D, row_of, i, banned):  # type: ignore[no-untyped-def]
    """The largest entry of row i at coordinates that may enter."""
    largest = 0.0
    for j in range(row_of.shape[0]):
        if row_of[j] < 0 and not banned >> j & 1:
            largest = max(largest, abs(D[i, j]))
    return largest


@fused
def push_out(D, basis, row_of, i, banned, space):  # type: ignore[no-untyped-def]
    """Exchange the coordinate of row i for the one that leaves the smallest |y|_1 of the moved target."""
    k, n = D.shape[0], row_of.shape[0]
    row, ratio, total = D[i], space[0], space[1]
    smallest = PIVOT * largest_in_row(D, row_of, i, banned)
    for j in range(n):
        free = row_of[j] < 0 and not banned >> j & 1 and abs(row[j]) > smallest
        ratio[j] = row[n] / row[j] if free else 0.0
        total[j] = abs(ratio[j]) if free else np.inf
    for p in range(k):
        if p != i:
            out = D[p]
            moved = out[n]
            for j in range(n):
                total[j] += abs(moved - out[j] * ratio[j])
    best = -1
    for j in range(n):
        if total[j] < np.inf and (best < 0 or total[j] < total[best]):
            best = j
    if best >= 0:
        pivot(D, basis, row_of, i, best)
    return best >= 0


@fused
def push_out_anywhere(D, basis, row_of, i, banned):  # type: ignore[no-untyped-def]
    """Exchange the coordinate of row i for the one with the largest entry: the volume of the basis shrinks least."""
    row, best = D[i], -1
    for j in range(row_of.shape[0]):
        if row_of[j] < 0 and not banned >> j & 1 and (best < 0 or abs(row[j]) > abs(row[best])):
            best = j
    if best >= 0 and row[best] != 0.0:
        pivot(D, basis, row_of, i, best)
        return True
    return False


@fused
def widen(D, basis, row_of, banned):  # type: ignore[no-untyped-def]
    """Exchange coordinates while that at least doubles the volume of the basis, so that no column has large entries."""
    k, n = D.shape[0], row_of.shape[0]
    for _ in range(4 * k):
        at, enter, largest = -1, -1, 2.0
        for i in range(k):
            row = D[i]
            for j in range(n):
                if abs(row[j]) > largest and row_of[j] < 0 and not banned >> j & 1:
                    at, enter, largest = i, j, abs(row[j])
        if at < 0:
            break
        pivot(D, basis, row_of, at, enter)


@fused
def descend(D, basis, row_of, banned, a, column, enough, space):  # type: ignore[no-untyped-def]
    """Lower |y|_1 of a column by pivots, until |y|_1 of column a is `enough` (True) or nothing lowers it (False).

    The simplex method for min |y|_1 with long steps: a step goes on through zeros of other coefficients while it pays.
    """
    k, n = D.shape[0], row_of.shape[0]
    price = space[0]
    for _ in range(64 * (n + 1)):
        if norm(D, a) <= enough:
            return True
        for j in range(n):
            price[j] = 0.0
        for i in range(k):
            row = D[i]
            if row[column] > 0.0:
                for j in range(n):
                    price[j] += row[j]
            else:
                for j in range(n):
                    price[j] -= row[j]
        enter, highest = -1, 1.0 + 1e-9
        for j in range(n):
            if row_of[j] < 0 and not banned >> j & 1 and abs(price[j]) > highest:
                enter, highest = j, abs(price[j])
        if enter < 0:
            return False
        sign = 1.0 if price[enter] > 0.0 else -1.0
        slope, reached, leaving = 1.0 - highest, 0.0, -1
        while slope < 0.0:
            nearest, at = np.inf, -1
            for i in range(k):
                rate = sign * D[i, enter]
                if rate * D[i, column] > 0.0:
                    step = D[i, column] / rate
                    if (step > reached or (step == reached and i > leaving)) and step < nearest:
                        nearest, at = step, i
            if at < 0:
                break
            reached, leaving = nearest, at
            slope += 2.0 * abs(D[at, enter])
        if leaving < 0:
            return False
        pivot(D, basis, row_of, leaving, enter)
    return False
