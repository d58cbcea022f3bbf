"""Exact fractions where float64 was not enough: the sets that a search's bases leave without a bound, each solved.

The loop is a complete search by itself: begun without any basis it ends with those that prove the height. It is only
slow, so it is for what rounding has left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..numerics import rationals
from .hitting_set_check import HittingSets, coordinates

MAX_SETS = 20_000
"""Sets solved before we give up: some minutes."""


class HolesError(Exception):
    """Too many sets are without a basis, or the time is over; the message says which."""


@dataclass(frozen=True)
class Exact:
    """A code [I | P] in fractions; den: as in `rationals.first_table`."""

    P: list[list[Fraction]]
    den: int | None
    m: int

    @property
    def n(self) -> int:
        return len(self.P) + len(self.P[0])


@dataclass(frozen=True)
class Proven:
    """A bound U with the bases that prove it: u, (k,), is a codeword that attains U, None when the one before does."""

    masks: set[int]
    U: Fraction | None
    """None when the height is infinite; then u shows it."""
    u: list[Fraction] | None


def mend(code: Exact, masks: set[int], U: Fraction, deadline: float | None = None) -> Proven:
    """Bases that prove a bound: those given and what they lack, and U, raised to the height where that is larger.

    Args:
        code: the code.
        masks: bases, or any sets of columns, that may help.
        U: at most the height, or a bound of it that may be a little too low.
        deadline: on the clock of time.monotonic.

    Raises:
        HolesError: it would take too long.
    """
    n = code.n
    norms = _Norms(code)
    all_masks = sorted(masks)
    table = [norms.of(mask) for mask in all_masks]
    word = None
    search = HittingSets(n)
    solved = 0
    for a in range(n):
        family = _family(all_masks, table, a, U)
        while (T := search.find(family, code.m - 1)) is not None:
            solved += 1
            if solved > MAX_SETS:
                raise HolesError(f"more than {MAX_SETS:,} sets are to be solved")
            if deadline is not None and time.monotonic() > deadline:
                raise HolesError("the time is over")
            S = [j for j in range(n) if j != a and not T >> j & 1]
            z, basis, y, u = rationals.best_of_set(code.P, S, a, den=code.den)
            if z is None:
                return Proven(set(), None, u)
            all_masks.append(sum(1 << j for j, value in zip(basis, y, strict=True) if value))
            table.append(norms.of(all_masks[-1]))
            if z > U:
                U, word = z, u
                family = _family(all_masks, table, a, U)
            else:
                family = np.append(family, np.uint64(all_masks[-1]))
    return Proven(set(all_masks), U, word)


def _family(masks: list[int], table: list[list[Fraction | None]], a: int, U: Fraction) -> NDArray[np.uint64]:
    """The masks that avoid a and bound it by U."""
    kept = [
        mask
        for mask, row in zip(masks, table, strict=True)
        if not mask >> a & 1 and (norm := row[a]) is not None and norm <= U
    ]
    return np.array(kept, np.uint64)


class _Norms:
    """|y|_1 of G_B y = g_a for every a, one set B after the other."""

    def __init__(self, code: Exact) -> None:
        self.table, self.den, self.basis = rationals.first_table(code.P, code.den)

    def of(self, mask: int) -> list[Fraction | None]:
        """None where the columns do not span g_a."""
        wanted = set(coordinates(mask))
        spare = [i for i, j in enumerate(self.basis) if j not in wanted]
        for j in wanted.difference(self.basis):
            i = next((i for i in spare if self.table[i][j]), None)
            if i is not None:
                self.den = rationals.pivot(self.table, self.den, self.basis, i, j)
                spare.remove(i)
        return [
            None if any(self.table[i][a] for i in spare) else Fraction(sum(abs(row[a]) for row in self.table), self.den)
            for a in range(len(self.table[0]))
        ]
