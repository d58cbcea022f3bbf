"""A search that begins with a covering: first what its bases bound, then only the sets that keep one that does not.

For m > r / 2 most of a tree's work is to meet every set; a covering does that with some times fewer bases, each at a
hundredth of the cost. Long ones begin with a faster way through, to an upper bound of LOOSE times the best height.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..codes.automorphism_groups import none_of
from ..codes.minors import LARGEST_RATIO
from ..numerics.certified import Codeword
from .cost_model import tree_seconds
from .covering_bound import Covering, Pair, covering_seconds
from .hitting_set import DONE, MARGIN, Problem, Report, search_target

PAYS = 0.3
"""Core-seconds of a tree from which on a covering comes first, where it takes fewer."""

LONG, LOOSE = 10.0, 3.9
"""Core-seconds of a tree from which on there is first a fast way through the covering, and what that proves over the
best height known."""

PER_PAIR = 6e-7
"""Seconds that the sets of a basis and a target take, over k r (measured: 5e-7)."""

TOGETHER = 32
"""Bases and targets whose sets are searched one after the other."""

All = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""Does some work on each of many, in threads, while those who watch are told."""


class KeptPart(NamedTuple):
    """The sets of some pairs, those with the largest bounds before others."""

    size: int
    pairs: list[Pair]


class Search(Protocol):
    """What a search under way offers here: see `branch_and_bound`."""

    G: NDArray[np.float64]
    m: int
    stop: NDArray[np.int64]
    single: NDArray[np.int64]
    ended: str
    best: float

    def bounded(self, upper: float) -> None: ...


@cache
def _compile(small: tuple[float, ...] = (1.0, 0.5, 0.3)) -> None:
    """Compile what a covering takes, or read it from disk, before it is known how long it takes."""
    covering = Covering(np.array([[1.0, 0.0, *small], [0.0, 1.0, *small[::-1]]]), 2)
    covering.follow(covering.jobs(covering.splits[0])[0], 1.0, np.zeros(1, np.int64))


def covered_parts(search: Search, each: All) -> list[KeptPart] | None:
    """The parts that a covering leaves to search; none where the search has ended; None where no covering pays."""
    G, m = search.G, search.m
    k, n = G.shape
    seconds = tree_seconds(n, k, m)
    if seconds < PAYS or covering_seconds(n, k, m) > seconds / 2 or search.best > LARGEST_RATIO:
        return None
    covering = Covering(G, m)
    _compile()
    most = seconds / (PER_PAIR * k * (n - k))
    jobs = [job for some in each(covering.jobs, covering.splits) for job in some]
    if seconds > LONG:
        _bound_early(search, each, _following(covering, LOOSE * search.best, search.stop, most), jobs)
    left = each(_following(covering, search.best * (1.0 + MARGIN), search.stop, most), jobs)
    if search.ended != "finished":
        return []
    pairs = sorted((pair for some in left for pair in some or ()), reverse=True)
    if None in left or len(pairs) > most:
        return None
    some = max(1, min(TOGETHER, len(pairs) // 128))
    return [KeptPart(len(pairs[i : i + some]), pairs[i : i + some]) for i in range(0, len(pairs), some)]


def _following(covering: Covering, tau: float, stop: NDArray[np.int64], most: float) -> Callable[[Any], Any]:
    """`Covering.follow`; None once all jobs together have left more than `most`, so that the others end soon."""
    total = [0]

    def follow(job: Any) -> list[Pair] | None:
        left = covering.follow(job, tau, stop) if total[0] <= most else None
        total[0] += len(left or ())
        return left if total[0] <= most else None

    return follow


def _bound_early(search: Search, each: All, follow: Callable[[Any], Any], jobs: list[Any]) -> None:
    """Tell an upper bound of LOOSE times the best height, or of what else the covering proves by little work."""
    (k, n), tau = search.G.shape, LOOSE * search.best
    known, identity = np.empty((0, 2), np.int64), none_of(search.G.shape[1]).perms
    problem = Problem(search.G, search.m, search.single, search.single, known, np.inf, identity, known[:, 0].copy())

    def bound(pair: Pair) -> float:
        report = Report(search.stop, np.zeros(1), np.empty(1, np.int64), np.zeros(2, np.int64), np.zeros(3, np.int64))
        found = Codeword(np.zeros(k), np.zeros(k), np.empty(n))
        ended, height, proven = search_kept(problem, KeptPart(1, [pair]), tau, report, found)
        return min(pair.bound, max(height * (1.0 + MARGIN), proven)) if ended == DONE else pair.bound

    left = each(follow, jobs)
    if None not in left:
        search.bounded(max([tau, *each(bound, [pair for pairs in left for pair in pairs])]))


def search_kept(
    problem: Problem, part: KeptPart, best: float, report: Report, found: Codeword
) -> tuple[int, float, float]:
    """Search the sets of a part; the results are those of `search_target`."""
    ended, proven, none = DONE, 0.0, np.int64(0)
    for pair in part.pairs:
        tau, kept = best * (1.0 + MARGIN), np.int64(pair.kept)
        ended, best, bound = search_target(problem, pair.a, none, kept, tau, best, report, found)
        proven = max(proven, bound)
        if ended != DONE:
            break
    return ended, float(best), float(proven)
