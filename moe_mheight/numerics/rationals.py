"""Exact rational arithmetic: matrices of fractions as integers over one denominator, and the linear program of (S, a).

A table holds den * G_B^-1 G in integers. Pivots divide exactly (Edmonds' integer-preserving elimination), so numbers
stay as small as the minors they are, and no greatest common divisor is ever taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import gcd, lcm, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CodeError, brief

MAGNITUDES = (1e-36, 1e30)
"""Range allowed for |P_ij| (other than 0), so that products of eight entries stay within float64."""

Table = list[list[int]]

MAX_BITS = 2**15
"""Bits of all rows together, each by its longest entry over a common denominator: they bound every minor, and so the
time that exact elimination takes (a minute at worst)."""


def rational_matrix(P: Any, what: str = "P") -> list[list[Fraction]]:
    """P with every entry as the fraction it is: ints, Fractions, floats, and text such as "-3/4" or "0.1".

    Raises:
        CodeError: not a matrix of finite numbers.
    """
    rows = P.tolist() if isinstance(P, np.ndarray) else P
    if not isinstance(rows, (list, tuple)) or not rows or not all(isinstance(row, (list, tuple)) for row in rows):
        raise CodeError(f"{what} must be a matrix, rows of numbers, got {brief(P)}")
    out = []
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]) or not row:
            raise CodeError(
                f"{what} must have rows of one length >= 1; row {i} has {len(row)} entries, row 0 {len(rows[0])}"
            )
        out.append([_fraction(value, f"{what}[{i}][{j}]") for j, value in enumerate(row)])
    return out


def _fraction(value: Any, where: str) -> Fraction:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float, Fraction, str)):
        raise CodeError(f"{where} must be a number, got {brief(value)}")
    if isinstance(value, str):
        if len(value) > 2000:
            raise CodeError(f"{where} has {len(value)} characters, more than 2000")
        # Fraction("1e999999999") would write all its digits
        if (power := re.search(r"[eE][+-]?[0_]*(\d[\d_]*)\s*$", value)) and len(power[1]) > 4:
            raise CodeError(f"{where} is too large or too small to compute with: {brief(value)}")
    try:
        out = Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise CodeError(f"{where} must be a finite number, got {brief(value)}") from error
    if max(out.numerator.bit_length(), out.denominator.bit_length()) > 8192:
        raise CodeError(f"{where} is too large or too small to compute with: {about(out)}")
    return out


def about(x: Fraction) -> str:
    """A fraction for a message, also one beyond float64: "0.75", "about 1e400"."""
    size = abs(x)
    try:
        nearest = float(size)
    except OverflowError:
        nearest = 0.0
    if size == 0 or nearest > 1e-300:
        return f"{float(x):g}"
    tens = (size.numerator.bit_length() - size.denominator.bit_length()) * 0.30103
    return f"about {'-' if x < 0 else ''}1e{tens:.0f}"


def as_floats(P: Sequence[Sequence[Fraction | float]] | NDArray[np.float64], what: str = "P") -> NDArray[np.float64]:
    """P rounded to float64, for the searches that compute in it.

    Raises:
        CodeError: an entry is outside MAGNITUDES; which one, and the limits.
    """
    out = np.zeros((len(P), len(P[0])))
    for (i, j), _ in np.ndenumerate(out):
        entry: Any = P[i][j]
        value = Fraction(entry)
        if value and not MAGNITUDES[0] <= abs(value) <= MAGNITUDES[1]:
            raise CodeError(
                f"{what}[{i}][{j}] must have a size in [{MAGNITUDES[0]:g}, {MAGNITUDES[1]:g}] or be 0, "
                f"got {about(value)}: the search runs in float64"
            )
        out[i, j] = float(value)
    return out


def whole_rows(rows: Sequence[Sequence[Fraction]], what: str) -> Table:
    """Each row times what makes its entries whole numbers without a common factor: the code stays the same.

    Raises:
        CodeError: the rows are too long for exact elimination.
    """
    table = []
    too_long = CodeError(
        f"{what}: the rows over common denominators have more than {MAX_BITS} bits in all, too long for exact "
        "elimination; give P itself, or round the entries"
    )
    for row in rows:
        den = 1
        for value in row:
            den = lcm(den, value.denominator)
            if den.bit_length() > MAX_BITS:
                raise too_long
        integers = [int(value * den) for value in row]
        content = gcd(*integers) or 1
        table.append([value // content for value in integers])
    if sum(max(value.bit_length() for value in row) for row in table) > MAX_BITS:
        raise too_long
    return table


def eliminate(table: Table, columns: Iterable[int]) -> tuple[int, list[int]]:
    """Columns become basic one after the other, unless they depend on those before: (den, basis), -1 for spare rows."""
    den, basis = 1, [-1] * len(table)
    for j in columns:
        i = next((i for i, row in enumerate(table) if basis[i] < 0 and row[j]), None)
        if i is not None:
            den = pivot(table, den, basis, i, j)
    return den, basis


def systematic_part(
    rows: Sequence[Sequence[Fraction]], columns: Sequence[int], what: str
) -> tuple[list[list[Fraction]], int, list[int]]:
    """X with [I | X] on the columns (inside, the others, ascending) spanning the rows; a number; inside, ascending.

    Args:
        rows: (k, n).
        columns: all n, in the order of preference for inside.
        what: the matrix, for messages.

    Returns:
        X; what makes every minor of X whole; inside.

    Raises:
        CodeError: the rows are too long to eliminate.
    """
    table = whole_rows(rows, what)
    den, basis = eliminate(table, columns)
    inside = sorted(j for j in basis if j >= 0)
    outside = [j for j in range(len(rows[0])) if j not in inside]
    X = [[Fraction(table[basis.index(b)][j], den) for j in outside] for b in inside]
    return X, den, inside


def first_table(P: Sequence[Sequence[Fraction]], den: int | None = None) -> tuple[Table, int, list[int]]:
    """The integer table of [I | P] for the basis of the first k coordinates: (table, den, basis).

    den: what makes every minor of P whole, where something smaller than the product of denominators is known.
    """
    k = len(P)
    # minors are what pivots make of the entries
    lines = P if k <= len(P[0]) else zip(*P, strict=True)
    den = den or prod(lcm(*(value.denominator for value in line)) for line in lines)
    table = [[den * (i == j) for j in range(k)] + [int(value * den) for value in row] for i, row in enumerate(P)]
    return table, den, list(range(k))


def pivot(table: Table, den: int, basis: list[int], i: int, j: int) -> int:
    """Coordinate j enters the basis in row i; returns the new denominator, which is positive."""
    row, new = table[i], table[i][j]
    for p, other in enumerate(table):
        if p != i:
            factor = other[j]
            table[p] = [(new * value - factor * entry) // den for value, entry in zip(other, row, strict=True)]
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
    P: Sequence[Sequence[Fraction]], S: Sequence[int], a: int, start: Iterable[int] = (), den: int | None = None
) -> tuple[Fraction | None, list[int], list[Fraction], list[Fraction]]:
    """The linear program of (S, a), exactly: max g_a.u subject to |g_i.u| <= 1 on S; min |y|_1 with G_S y = g_a.

    Args:
        P: (k, r).
        S: coordinates, a not among them.
        start: coordinates to begin with; a good guess saves pivots.
        den: as in `first_table`.

    Returns:
        the height, None when it is infinite; the basis in S; y on it; u, (k,), the information part of the codeword,
        which vanishes on S when the height is infinite.
    """
    table, den, basis = first_table(P, den)
    k = len(table)
    for j in start:
        if j in S and j not in basis:
            row = next((i for i in range(k) if basis[i] not in start and table[i][j] != 0), None)
            if row is not None:
                den = pivot(table, den, basis, row, j)
    den, vanishing = move_to(table, den, basis, S)
    if vanishing is not None:
        return None, [], [], [Fraction(value, den) for value in table[vanishing][:k]]
    sign = [1 if table[i][a] >= 0 else -1 for i in range(k)]
    inside = sorted(S)
    while True:
        enter, way = -1, 0
        for j in inside:  # the first that helps, and ties to the first: Bland's rule never cycles
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
