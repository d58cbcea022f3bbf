"""Upper bounds from shorter codes: searches that leave out pairs of coordinates at a time, more than may be."""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

from ..codes.automorphism_groups import none_of
from ..numerics.certified import Codeword
from .all_targets import search_all
from .hitting_set import DONE, MARGIN, Problem, Report

RELAXED = 2.0
"""Seconds of a search from which on quick upper bounds are worth having."""


def relaxations(n: int, k: int, m: int, seconds: float, gain: float) -> list[NDArray[np.int64]]:
    """Blocks for relaxed searches, the fastest first: in pairs, while m blocks leave k coordinates; then fewer pairs.

    With p of n / 2 pairs a search is about that of a code of p fewer coordinates. Those that would take more than a
    fifth of the whole in all, which takes so many seconds, are left out; automorphisms make it shorter by `gain`.
    """
    pairs = n // 2 if 2 * m <= n - k else n - k - m
    out, spent = [], 0.0
    while pairs > 0:
        fewer = max(1, round(k * (1 - pairs / n)))
        spent += comb(fewer + m - 1, m) / comb(k + m - 1, m)
        if spent * gain > 0.2:
            break
        block = np.int64(1) << np.arange(n)
        block[: 2 * pairs] = (block[0 : 2 * pairs : 2] | block[1 : 2 * pairs : 2]).repeat(2)
        out.append(block)
        pairs //= 2
    return out if seconds > RELAXED * gain else []


def relaxed_bound(
    G: NDArray[np.float64], m: int, block: NDArray[np.int64], best: float, stop: NDArray[np.int64]
) -> float:
    """An upper bound on h_m, by leaving out blocks of coordinates; inf where the search is stopped or proves none."""
    k, n = G.shape
    known, identity = np.empty((0, 2), np.int64), none_of(n).perms
    problem = Problem(G, m, np.int64(1) << np.arange(n), block, known, np.inf, identity, known[:, 0].copy())
    report = Report(stop, np.zeros(1), np.empty(1, np.int64), np.zeros(2, np.int64), np.zeros(3, np.int64))
    found, none, tau = Codeword(np.zeros(k), np.zeros(k), np.empty(n)), np.int64(0), best * (1.0 + MARGIN)
    ended, _, proven = search_all(problem, m, none, none, tau, best, report, found)
    return float(proven) if ended == DONE else np.inf
