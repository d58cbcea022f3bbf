"""Certified lower bounds of the heights of long codes, without a proof: `swap_search` for many codes, in stages.

A search can go on where it stopped, so that more time goes to the codes that need it. See `swap_search` for the method,
and `experts.certainty` for who says which codes do.
"""

from __future__ import annotations

from fractions import Fraction
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codes.minors import LARGEST_RATIO, are_whole
from ..numerics.jit import side_by_side, thread_count
from ..numerics.rationals import rational_matrix, short_of_rank
from .search_room import COUNTS, ELITE, INFINITE, Record
from .set_solver import certify_codes
from .swap_scores import FIXED, Ranking
from .swap_search import Plan, search_codes, visit_all

FEW_SETS = 256
"""So many sets are solved, all of them."""

PLAN = Plan(spread=0.5, shared=4, removed=5, fresh=128, reach=0.5, margin=0.15, tried=8)
"""The default; see docs/experiments.md."""

CROWDED = PLAN._replace(spread=0.8, fresh=230)
"""Where the good sets have little in common: small slack, m near r."""

SQUARE = CROWDED._replace(reach=64.0, margin=0.0)
"""At slack 0, where the score of a swap is its height."""


class Found(NamedTuple):
    """What is certain after a search: lower (B,), inf where a height is; word (B, n), a codeword that reaches it."""

    lower: NDArray[np.float64]
    word: NDArray[np.float64]


def plan_for(n: int, k: int, m: int) -> Plan:
    """The plan of a size: CROWDED where the slack is at most a third of n - k, SQUARE where it is 0."""
    slack = n - k - m
    return SQUARE if slack == 0 else CROWDED if 3 * slack <= n - k else PLAN


def first_rounds(n: int, k: int, m: int) -> int:
    """Rounds of the first stage: they grow slowly with the leaves of a proof, C(k + m - 1, m)."""
    return round(6.0 * float(comb(k + m - 1, m)) ** 0.19)


def round_seconds(n: int, m: int) -> float:
    """What a round takes on one thread of a usual machine, to a factor of two: swaps of two, and their scores."""
    return 1e-9 * (0.8 * m**2 * (n - m) ** 2 + 2.7 * m * (n - m) * n)


def begin(count: int, seed: int = 0) -> Record:
    """Searches of so many codes that have not begun; their arrays are (B, ELITE), (B, COUNTS) and (B, 1)."""
    return Record(
        np.zeros((count, ELITE), np.int64),
        np.zeros((count, ELITE), np.int64),
        np.zeros((count, ELITE)),
        np.zeros((count, COUNTS)),
        np.full((count, 1), seed + 1, np.uint64),
    )


def rows_of(records: Record, rows: NDArray[np.int64] | slice) -> Record:
    """Those of some codes."""
    return Record(*(part[rows] for part in records))


def go_on(
    P: NDArray[np.float64],
    m: int,
    records: Record,
    rounds: int,
    *,
    ranking: Ranking = FIXED,
    plan: Plan | None = None,
    threads: int | None = None,
) -> None:
    """Go on with the searches of codes (B, k, r), B records, for so many rounds each; all sets where they are few.

    The answer does not depend on threads, nor on which codes are searched together.
    """
    count, k, r = P.shape
    n = k + r
    P = np.ascontiguousarray(P)
    chosen = plan or plan_for(n, k, m)

    def work(i: int, j: int) -> None:
        part = rows_of(records, slice(i, j))
        if comb(n, m) <= FEW_SETS:
            visit_all(P[i:j], m, part)
        else:
            search_codes(P[i:j], m, rounds, ranking, chosen, part)

    _over(work, count, threads)


def certify(P: NDArray[np.float64], m: int, records: Record, *, threads: int | None = None) -> Found:
    """Lower bounds in twice the precision; an infinite height by exact rank, of reals by LARGEST_RATIO."""
    count, k, r = P.shape
    found = Found(np.empty(count), np.empty((count, k + r)))
    P = np.ascontiguousarray(P)
    _over(
        lambda i, j: certify_codes(P[i:j], m, rows_of(records, slice(i, j)), found.lower[i:j], found.word[i:j]),
        count,
        threads,
    )
    best = records.heights.max(1)
    large = np.flatnonzero((best > INFINITE) | (found.lower > LARGEST_RATIO))
    whole = are_whole(P[large]) if len(large) else np.empty(0, bool)
    for i, integers in zip(large, whole, strict=True):
        if not integers:
            found.lower[i] = np.inf if found.lower[i] > LARGEST_RATIO or best[i] == np.inf else found.lower[i]
        elif _vanishes(P[i], m, records.masks[i, records.heights[i].argmax()], found.word[i]):
            found.lower[i] = np.inf
    return found


def _vanishes(P: NDArray[np.float64], m: int, mask: int, word: NDArray[np.float64]) -> bool:
    """Whether a nonzero codeword vanishes on all coordinates but m: those of the mask, or the largest of the word."""
    n = sum(P.shape)
    F: list[list[Fraction]] = rational_matrix(P)
    named = {j for j in range(n) if int(mask) >> j & 1}
    largest = set(np.argsort(-np.abs(word), kind="stable")[:m].tolist())
    return any(short_of_rank(F, set(range(n)) - outside) for outside in (named, largest))


def _over(work, count: int, threads: int | None) -> None:  # type: ignore[no-untyped-def]
    workers = min(thread_count(threads), count)
    if workers <= 1:
        if count:
            work(0, count)
        return
    length = max(1, -(-count // (8 * workers)))
    side_by_side(work, [(i, min(i + length, count)) for i in range(0, count, length)], workers)
