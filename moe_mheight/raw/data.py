"""What raw-view networks learn from: 108,000 codes as run 1 had, split by orbit before anything is made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..codes.linear import equivalent
from ..data.code_files import Data, Group, count, silently, take
from ..data.generate import generate, shuffled, split
from ..errors import DataError
from ..exact.heights import m_height
from ..groups import HEADLINE, group_name, tier_of
from .augmentation import augmented, noisy
from .recipe import RawRecipe

ROWS = 12_000
"""Codes per group of run 1's data set; 108,000 over the nine groups."""

FRACTION = 0.15
"""Share of the orbits that validate, as run 1 had it."""

KIND = "scaled-integer"
"""Integers with a scale of their own per matrix: the distribution of the peers' files."""


@dataclass(frozen=True, eq=False)
class Part:
    """One group's codes, in the order of the file: P (B, k, r), log2_h (B,)."""

    group: Group
    P: NDArray[np.float64]
    log2_h: NDArray[np.float64]


Parts = tuple[Part, ...]
"""By group, ascending."""


@dataclass(frozen=True)
class Split:
    """Original codes of both sides; no orbit lies on both."""

    training: Parts
    validation: Parts

    @property
    def groups(self) -> tuple[Group, ...]:
        return tuple(part.group for part in self.training)


def run1_data(rows: int = ROWS, seed: int = 0, advance: Callable[[int], None] = silently) -> Data:
    """Run 1's data set made anew: `rows` codes of each of the nine groups, exact finite heights, in random order."""
    return shuffled(generate(HEADLINE, rows, KIND, seed, advance=advance), seed)


def divide(data: Data, *, fraction: float = FRACTION, seed: int = 0, rows: int | None = None) -> Split:
    """Split a labelled file by orbit, then take the first `rows` codes of each group's training side.

    Rows whose height is infinite are left out: there is no log2 h to learn.

    Args:
        data: a file; without labels the exact heights are taken.
        fraction: share of orbits that validate.
        seed: of the split.
        rows: training codes per group; default all. The validation side does not depend on it.

    Raises:
        DataError: a group ends up without codes on a side.
    """
    first, second = split(data, fraction, seed)
    sides = []
    for places in (first, second):
        parts = []
        for group, codes in sorted(take(data, places).items()):
            order = np.argsort(codes.row)
            h = m_height(codes.P, group[2]) if codes.h is None else codes.h
            P, h = codes.P[order], h[order]
            finite = np.isfinite(h)
            if finite.any():
                parts.append(Part(group, P[finite], np.log2(h[finite])))
        sides.append(tuple(parts))
    training, validation = sides
    lone = {part.group for part in training} ^ {part.group for part in validation}
    if lone or not training:
        raise DataError(f"{count(data)} rows are too few to split: {_named(lone)} has no finite height on one side")
    if rows is not None:
        training = tuple(Part(p.group, p.P[:rows], p.log2_h[:rows]) for p in training)
    return Split(training, validation)


def _named(groups: set[Group]) -> str:
    return " and ".join(f"({group_name(group)})" for group in sorted(groups)) or "the file"


def of_scope(parts: Parts, scope: str) -> Parts:
    """The groups of a tier, or all of them.

    Raises:
        DataError: there are none.
    """
    chosen = tuple(part for part in parts if scope in ("all", tier_of(*part.group)))
    if not chosen:
        raise DataError(f"the data hold no group of the {scope} tier")
    return chosen


def prepared(parts: Parts, recipe: RawRecipe) -> Parts:
    """The training side as a recipe wants it: with what its augmentation makes, the same for every member."""
    if not recipe.augment:
        return parts
    out = []
    for part in parts:
        P, h = augmented(
            part.P,
            np.exp2(part.log2_h),
            part.group[2],
            recipe.augment,
            recipe.augment_to,
            np.random.default_rng([1, *part.group]),
            level=recipe.noise,
            labels=recipe.labels,
            check=recipe.check,
        )
        out.append(Part(part.group, P, np.log2(h)))
    return tuple(out)


def shown(parts: Parts, recipe: RawRecipe, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """The matrices of one epoch, group by group: another member of the orbit, and noise, where the recipe asks."""
    for part in parts:
        P = equivalent(part.P, rng) if recipe.orbit else part.P
        yield noisy(P, recipe.jitter, rng) if recipe.jitter else P
