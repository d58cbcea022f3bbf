"""Exact row reduction for the check of certificates: which code [I | P] a matrix P, G or H stands for.

Pivots in integers divide without remainder (Edmonds). The searches that make certificates have their own,
`numerics.rationals`. This one is for the check alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import gcd, lcm, prod
from numbers import Integral, Real
from typing import Any

from ..errors import DataError, MHeightError, brief

Rational = list[list[Fraction]]

_MAX_BITS = 2**15
"""Bits of all rows together, each by its longest entry: they bound every minor, and so the time that pivots take."""


class ReductionError(MHeightError):
    """A matrix has no systematic form on the columns asked for; the message says why."""


def exact_rows(matrix: Any, kind: str) -> Rational:
    """A matrix as the fractions it is: ints, Fractions, floats, and text such as "-3/4" or "0.1".

    Raises:
        DataError: it is not one, or has more than 64 rows or columns.
    """
    rows = matrix.tolist() if hasattr(matrix, "tolist") else matrix
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, (list, tuple)) and row for row in rows):
        raise DataError(f"{kind} must be a matrix, rows of numbers, got {brief(matrix)}")
    if not rows or any(len(row) != len(rows[0]) for row in rows) or max(len(rows), len(rows[0])) > 64:
        raise DataError(
            f"{kind} must have 1 to 64 rows of one length, 1 to 64, got {brief([len(row) for row in rows])}"
        )
    return [[_exact(x, f"{kind}[{i}][{j}]") for j, x in enumerate(row)] for i, row in enumerate(rows)]


def _exact(x: Any, where: str) -> Fraction:
    text = isinstance(x, str) and re.fullmatch(
        r"[+-]?\d{1,700}(/\d{1,700}|(\.\d{0,700})?(e[+-]?\d{1,3})?)", x, re.ASCII
    )
    try:
        if text or isinstance(x, Fraction):
            return Fraction(x)
        if isinstance(x, Real) and not isinstance(x, bool):
            return Fraction(int(x)) if isinstance(x, Integral) else Fraction(float(x))
    except (ValueError, OverflowError, ZeroDivisionError):
        pass
    raise DataError(f"{where} must be a finite number, got {brief(x)}")


def systematic(rows: Rational, kind: str, order: Sequence[int], k: int) -> tuple[Rational, int]:
    """P such that [I | P] generates the code of a matrix, its columns in this order; and what makes its minors whole.

    G[:, order] = T [I | P] with T = G[:, order[:k]], and H[:, order] = T [-P^T | I] with T = H[:, order[k:]]: so P is
    found by making the columns of T unit ones, which shows as well that they are independent.

    Args:
        rows: a generator G (k or more rows of rank k, n) or a parity check H (n - k or more rows of rank n - k, n).
        kind: "G" or "H".
        order: a permutation of range(n).
        k: the code's dimension.

    Raises:
        ReductionError: the code of this matrix is not of dimension k, or those columns do not determine it.
    """
    inside, outside = (order[:k], order[k:]) if kind == "G" else (order[k:], order[:k])
    table = [_integers(row) for row in rows]
    if sum(max(abs(x).bit_length() for x in row) for row in table) > _MAX_BITS:
        raise ReductionError(f"{kind} has more than {_MAX_BITS} bits, too many for exact elimination")
    D, at = 1, [-1] * len(table)
    for j in inside:
        p = next((p for p, row in enumerate(table) if at[p] < 0 and row[j]), None)
        if p is None:
            raise ReductionError(f"columns {sorted(inside)} of {kind} are dependent, so they do not determine the code")
        D = pivot(table, D, p, j)
        at[p] = j
    if any(any(row) for p, row in enumerate(table) if at[p] < 0):
        raise ReductionError(f"{kind} has a rank above {len(inside)}")
    row_of = {j: p for p, j in enumerate(at)}
    X = [[Fraction(table[row_of[i]][j], D) for j in outside] for i in inside]
    return X if kind == "G" else [[-x for x in column] for column in zip(*X, strict=True)], abs(D)


def _integers(row: Sequence[Fraction]) -> list[int]:
    """The row scaled to the smallest integers."""
    den = lcm(*(x.denominator for x in row))
    integers = [int(x * den) for x in row]
    common = gcd(*integers) or 1
    return [x // common for x in integers]


def pivot(table: list[list[int]], before: int, p: int, j: int) -> int:
    """Column j becomes the unit one of row p, times the number returned, which takes the place of `before`."""
    pivot_row = table[p]
    now = pivot_row[j]
    for q, row in enumerate(table):
        if q == p:
            continue
        factor = row[j]
        if factor:
            table[q] = [(now * x - factor * z) // before for x, z in zip(row, pivot_row, strict=True)]
        elif now != before:
            table[q] = [now * x // before for x in row]
    return now


class Tableau:
    """D G_B^-1 G in whole numbers for G = [I | P], carried from one basis B to the next by pivots.

    With D = s det(G_B), s making every k x k minor of G whole, the entries are s times minors of G by Cramer's rule.
    So the division in a pivot leaves no remainder, and column a is D y for the y of G_B y = g_a.
    """

    def __init__(self, G: Rational, scale: int | None = None) -> None:
        """scale: an s, where a smaller one than products of denominators is known."""
        k = len(G)
        by_row = prod(lcm(*(x.denominator for x in row)) for row in G) if scale is None else scale
        by_column = prod(lcm(*(x.denominator for x in c)) for c in zip(*G, strict=True)) if scale is None else scale
        self.D = min(by_row, by_column)
        self.rows = [[int(self.D * x) for x in row] for row in G]
        self.basis = list(range(k))
        self.spare: list[int] = []

    def move_to(self, columns: Iterable[int]) -> None:
        """Make these columns basic, but for those that depend on others of them; spare are the rows of the rest."""
        wanted = set(columns)
        self.spare = [p for p, j in enumerate(self.basis) if j not in wanted]
        for j in wanted.difference(self.basis):
            p = next((p for p in self.spare if self.rows[p][j]), None)
            if p is not None:
                self.D = pivot(self.rows, self.D, p, j)
                self.basis[p] = j
                self.spare.remove(p)

    def sums(self) -> list[int | None]:
        """|D| |y|_1 for every target a; None where the columns moved to do not span g_a."""
        sums: list[int | None] = [sum(map(abs, column)) for column in zip(*self.rows, strict=True)]
        for p in self.spare:
            sums = [None if x else total for x, total in zip(self.rows[p], sums, strict=True)]
        return sums

    def norm(self, a: int) -> Fraction | None:
        """|y|_1 for the target a; None where the columns moved to do not span g_a."""
        if any(self.rows[p][a] for p in self.spare):
            return None
        return Fraction(sum(abs(row[a]) for row in self.rows), abs(self.D))
