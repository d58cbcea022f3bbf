"""What is told of a height: its bracket, how far a search has come, and the thresholds that may end it early."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Height:
    """What is known of h_m of one code.

    value: the height, when finished; where a threshold has ended it the bound that did, else the best so far.
    lower, upper: certified bounds, within 1e-9 of each other when finished; inf where the height is infinite.
    witness: (n,) a codeword that attains `lower` (`value`, but for the rounding of its coordinates), largest
        |coordinate| 1.
    outside: the m coordinates left out of S, first the largest one, a.
    method: "search" (branch and bound) or "bases" (enumeration).
    ended: "finished"; "above" or "below", by a threshold: `lower` is above it, or `upper` not; "time limit" or
        "interrupt".
    seconds, nodes, programs: what it took; nodes of the search, and linear programs, most of them a pivot or two.
    """

    n: int
    k: int
    m: int
    value: float
    lower: float
    upper: float
    witness: NDArray[np.float64] = field(repr=False)
    outside: tuple[int, ...]
    method: str
    ended: str
    seconds: float
    nodes: int
    programs: int

    @property
    def finished(self) -> bool:
        return self.ended == "finished"

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class Progress:
    """Told some times a second: the share of the work done, the bracket so far, seconds spent and (a guess) to go."""

    share: float
    lower: float
    upper: float
    seconds: float
    remaining: float


def silent(progress: Progress) -> None:
    """The `watch` of those who do not."""


class Thresholds(NamedTuple):
    """What is enough to know: that the height is above the one, or not above the other."""

    above: float = inf
    below: float = 0.0


EXACTLY = Thresholds()
"""No threshold: the height itself."""

DECIDED = 4e-13
"""How far from a threshold a height must be, relatively, for rounding not to matter to which side it is on."""
