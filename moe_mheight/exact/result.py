"""What a search tells: a height with its bracket, how far it has come, and beforehand how long it may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import comb

import numpy as np
from numpy.typing import NDArray

from ..numerics.jit import thread_count


@dataclass(frozen=True, eq=False)
class Height:
    """What is known of h_m of one code.

    value: the height, when finished; else the best so far.
    lower, upper: certified bounds, within 1e-9 of each other when finished; inf where the height is infinite.
    witness: (n,) a codeword that attains `lower` (`value`, but for the rounding of its coordinates), largest
        |coordinate| 1.
    outside: the m coordinates left out of S, first the largest one, a.
    method: "search" (branch and bound) or "bases" (enumeration).
    ended: "finished", "time limit" or "interrupt".
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


def expected_seconds(n: int, k: int, m: int, threads: int | None = None) -> float:
    """A guess of how long the search takes for a random code, from its size alone.

    Right to a factor of 3 at rate 1/2 and above, of 10 at low rates with large m; codes of low height take less.

    Args:
        n, k, m: 1 <= k < n <= 64, 1 <= m <= n - k.
        threads: default all cores.

    Returns:
        Seconds.

    Source: benchmarks/large_codes.py, which fits and checks it.

    Example:
        >>> from moe_mheight.exact.result import expected_seconds
        >>> expected_seconds(24, 12, 6, threads=1) < 1.0 < expected_seconds(64, 32, 16, threads=1)
        True
    """
    sets = min(comb(k + m - 1, m - 1), comb(n - 1, m - 1))
    return 0.01 + 3e-10 * sets * float(k * n) ** 1.6 / thread_count(threads)
