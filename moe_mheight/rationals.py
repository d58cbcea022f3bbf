"""Exact rational arithmetic: matrices of fractions as integers over one denominator, and the linear program of (S, a).

A table holds den * G_B^-1 G in integers. Pivots divide exactly (Edmonds' integer-preserving elimination), so numbers
stay as small as the minors they are, and no greatest common divisor is ever taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import lcm, prod
from typing import Any

import numpy as np

from .errors import CodeError, brief

Table = list[list[int]]


def rational_matrix(P: Any) -> list[list[Fraction]]:
    """P with every entry as the fraction it is: ints, Fractions, floats, and text such as "-3/4" or "0.1".

    Raises:
        CodeError: not a matrix of finite numbers.
    """
    rows = P.tolist() if isinstance(P, np.ndarray) else P
    if not isinstance(rows, (list, tuple)) or not rows or not all(isinstance(row, (list, tuple)) for row in rows):
        raise CodeError(f"P must be a matrix, rows of numbers, got {brief(P)}")
    out = []
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]) or not row:
            raise CodeError(
                f"P must have rows of one length >= 1; row {i} has {len(row)} entries, row 0 {len(rows[0])}"
            )
        out.append([_fraction(value, i, j) for j, value in enumerate(row)])
    return out


def _fraction(value: Any, i: int, j: int) -> Fraction:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float, Fraction, str)):
        raise CodeError(f"P[{i}][{j}] must be a number, got {brief(value)}")
    if isinstance(value, str) and len(value) > 2000:
        raise CodeError(f"P[{i}][{j}] has {len(value)} characters, more than 2000")
    try:
        out = Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise CodeError(f"P[{i}][{j}] must be a finite number, got {brief(value)}") from error
    if max(out.numerator.bit_length(), out.denominator.bit_length()) > 8192:
        raise CodeError(f"P[{i}][{j}] is too large or too small to compute with: {brief(value)}")
    return out


def first_table(P: Sequence[Sequence[Fraction]]) -> tuple[Table, int, list[int]]:
    """The integer table of [I | P] for the basis of the first k coordinates: (table, den, basis)."""
    k = len(P)
    # times den every minor of P is whole, and minors are what pivots make of the entries
    lines = P if k <= len(P[0]) else zip(*P, strict=True)
    den = prod(lcm(*(value.denominator for value in line)) for line in lines)
    table = [[den * (i == j) for j in range(k)] + [int(value * den) for value in row] for i, row in enumerate(P)]
    return table, den, list(range(k))


def pivot(table: Table, den: int, basis: list[int], i: int, j: int) -> int:
    """Coordinate j enters the basis in row i; returns the new denominator, which is positive."""
    row, new = table[i], table[i][j]
    for p, other in enumerate(table):
        if p != i:
            factor = other[j]
            table[p] = [(new * value - factor * own) // den for value, own in zip(other, row, strict=True)]
    basis[i] = j
    if new < 0:
        for p, other in enumerate(table):
            table[p] = [-value for value in other]
        new = -new
    return new


def move_to(table: Table, den: int, basis: list[int], inside: Iterable[int]) -> tuple[int, int | None]:
    """Make the basis lie in a set of coordinates: (den, None), or (den, row) when that row, a codeword, is 0 there."""
    allowed = list(inside)
    for i in range(len(basis)):
        if basis[i] not in allowed:
            enter = next((j for j in allowed if table[i][j] != 0), None)
            if enter is None:
                return den, i
            den = pivot(table, den, basis, i, enter)
    return den, None


def short_of_rank(P: Sequence[Sequence[Fraction]], S: Iterable[int]) -> bool:
    """Whether the columns S of [I | P] have a rank below k."""
    return move_to(*first_table(P), S)[1] is not None


def best_of_set(
    P: Sequence[Sequence[Fraction]], S: Sequence[int], a: int, start: Iterable[int] = ()
) -> tuple[Fraction | None, list[int], list[Fraction], list[Fraction]]:
    """The linear program of (S, a), exactly: max g_a.u subject to |g_i.u| <= 1 on S; min |y|_1 with G_S y = g_a.

    Args:
        P: (k, r).
        S: coordinates, a not among them.
        start: coordinates to begin with; a good guess saves pivots.

    Returns:
        the height, None when it is infinite; the basis in S; y on it; u, (k,), the information part of the codeword,
        which vanishes on S when the height is infinite.
    """
    table, den, basis = first_table(P)
    k = len(table)
    for j in start:
        if j in S and j not in basis:
            row = next((i for i in range(k) if basis[i] not in start and table[i][j] != 0), None)
            if row is not None:
                den = pivot(table, den, basis, row, j)
    den, short = move_to(table, den, basis, S)
    if short is not None:
        return None, [], [], [Fraction(value, den) for value in table[short][:k]]
    sign = [1 if table[i][a] >= 0 else -1 for i in range(k)]
    others = sorted(S)
    while True:
        enter, way = -1, 0
        for j in others:  # the first that helps, and ties to the first: Bland's rule never cycles
            if j not in basis:
                price = sum(s * row[j] for s, row in zip(sign, table, strict=True))
                if abs(price) > den:
                    enter, way = j, 1 if price > 0 else -1
                    break
        if enter < 0:
            break
        leave = -1
        for i in range(k):
            rate = way * sign[i] * table[i][enter]
            if rate > 0:
                if leave >= 0:
                    other = way * sign[leave] * table[leave][enter]
                    mine, theirs = abs(table[i][a]) * other, abs(table[leave][a]) * rate
                if leave < 0 or mine < theirs or (mine == theirs and basis[i] < basis[leave]):
                    leave = i
        den = pivot(table, den, basis, leave, enter)
        sign[leave] = way
        sign = [1 if row[a] > 0 else -1 if row[a] < 0 else s for s, row in zip(sign, table, strict=True)]
    y = [Fraction(row[a], den) for row in table]
    u = [Fraction(sum(s * row[j] for s, row in zip(sign, table, strict=True)), den) for j in range(k)]
    return sum((abs(value) for value in y), Fraction(0)), basis, y, u


def codeword(P: Sequence[Sequence[Fraction]], u: Sequence[Fraction]) -> list[Fraction]:
    """u [I | P]."""
    return [*u, *(sum((x * row[j] for x, row in zip(u, P, strict=True)), Fraction(0)) for j in range(len(P[0])))]


def height(c: Sequence[Fraction], m: int) -> Fraction | None:
    """|c|_(0) / |c|_(m) of a nonzero codeword; None when infinite."""
    down = sorted((abs(value) for value in c), reverse=True)
    return down[0] / down[m] if down[m] else None
