"""Automorphisms that a certificate lists: checked exactly, and what they make of its sets of columns.

An automorphism maps codewords to codewords: for every codeword c there is one with sign[j] c[j] at coordinate perm[j].
When a set B of columns that avoids a has |y|_1 <= U for the target a, its image avoids perm[a], and the coefficients of
g_perm[a] on it are the same but for signs. So a certificate may list one set where its images are meant as well, and
what holds for every T and one target a holds for all targets in the orbit of a.
"""

from __future__ import annotations

from fractions import Fraction
from math import lcm

import numpy as np
from numpy.typing import NDArray

from .hitting_set_check import Masks, members

LARGEST_GROUP = 4096
"""Permutations that the generators of a certificate may generate."""

MAX_BITS = 4096
"""Of entries of P over their common denominator: k^2 r products of them are formed."""

Perm = tuple[int, ...]


def keeps_code(P: list[list[Fraction]], perm: list[int], sign: list[int]) -> bool:
    """Whether a signed permutation maps the code of [I | P] to itself: M [I | P] = [I | P] Pi, M its first k columns.

    In whole numbers: both sides times the square of the common denominator of P. False, too, where these are too long.
    """
    k = len(P)
    den = 1
    for x in (x for row in P for x in row):
        den = lcm(den, x.denominator)
        if den.bit_length() + x.numerator.bit_length() > MAX_BITS:
            return False
    rows = [[den * (i == j) for j in range(k)] + [int(x * den) for x in row] for i, row in enumerate(P)]
    columns = list(zip(*rows, strict=True))
    for row in rows:
        moved = [0] * len(row)
        for j, entry in enumerate(row):
            moved[perm[j]] = sign[j] * entry
        if any(
            sum(x * y for x, y in zip(moved[:k], column, strict=True)) != den * value
            for column, value in zip(columns[k:], moved[k:], strict=True)
        ):
            return False
    return True


def closure(generators: list[list[int]], n: int) -> list[Perm] | None:
    """All products of permutations, the identity first; None where there are more than LARGEST_GROUP."""
    found = [tuple(range(n))]
    seen = set(found)
    for element in found:  # grows meanwhile
        for perm in generators:
            product = tuple(perm[j] for j in element)
            if product not in seen:
                seen.add(product)
                found.append(product)
        if len(found) > LARGEST_GROUP:
            return None
    return found


class Images:
    """The images of listed sets B under a group, by the targets that they bound."""

    def __init__(self, masks: Masks, within: NDArray[np.bool_], group: list[Perm]) -> None:
        """masks: (N,) sets B. within: (N, n), whether B bounds a. group: all its elements."""
        n = within.shape[1]
        self.masks, self.within = masks, within
        self.held = members(masks, n)
        self.group = np.array(group)
        self.targets = sorted({min(images) for images in zip(*group, strict=True)})
        """One target of each orbit, the first."""

    def of_target(self, a: int) -> Masks:
        """All images that bound a, in no order that means anything."""
        if len(self.group) == 1:
            return self.masks[self.within[:, a]]
        found, waiting = np.zeros(0, np.uint64), [np.zeros(0, np.uint64)]
        for perm in self.group:
            held = self.held[self.within[:, int(np.flatnonzero(perm == a)[0])]]
            moved = np.zeros_like(held)
            moved[:, perm] = held
            waiting.append(_as_masks(moved))
            if sum(map(len, waiting)) > 1 << 20:
                found, waiting = np.unique(np.concatenate([found, *waiting])), [found[:0]]
        found = np.unique(np.concatenate([found, *waiting]))
        # neighbours in an ascending list are alike; shuffled, a few masks speak for all of them
        return np.random.default_rng(0).permutation(found)


def _as_masks(held: NDArray[np.bool_]) -> Masks:
    """Truth values (N, n) as masks."""
    octets = np.zeros((len(held), 8), np.uint8)
    packed = np.packbits(held, axis=1, bitorder="little")
    octets[:, : packed.shape[1]] = packed
    return octets.view("<u8")[:, 0].astype(np.uint64)
