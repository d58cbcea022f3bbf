"""Swaps with their exact heights, sampled around good sets: what a ranking learns from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..numerics.jit import compiled
from ..numerics.simplex_tableau import largest_in_row, norm, push_out_anywhere
from ..numerics.swaps import take_out
from .long_codes import begin, plan_for
from .search_room import ROUNDS, Record, begin_code, new_room, random_bits, spread_out
from .set_solver import minimise
from .swap_scores import FIXED, SHAPES, score_swaps
from .swap_search import climb, solve, start

SWAPS = 16
"""Swaps of a scan: half the first by the fixed ranking, half any."""


@compiled
def _height_of_set(room, mask, a):  # type: ignore[no-untyped-def]
    """The height of (S, a), or 0 where S is short of rank or nearly so."""
    D, basis, row_of, space = room.table.D, room.table.basis, room.table.row_of, room.table.space
    spread_out(room.table)
    for i in range(D.shape[0]):
        if not mask >> basis[i] & 1:
            continue
        if largest_in_row(D, row_of, i, mask) < 1e-9 or not push_out_anywhere(D, basis, row_of, i, mask):
            return 0.0
    minimise(D, basis, row_of, mask, a, 0.0, space)
    return norm(D, a)


@compiled
def _next_swap(scores, first, state):  # type: ignore[no-untyped-def]
    """The swap of the largest score, or any: (b, j), or (-1, -1)."""
    n, best, out, into = scores.shape[0], -np.inf, -1, -1
    if first:
        for b in range(n):
            for j in range(n):
                if best < scores[b, j] < 100.0:
                    best, out, into = scores[b, j], b, j
        return out, into
    for _ in range(500):
        b, j = random_bits(state) % n, random_bits(state) % n
        if -1e300 < scores[b, j] < 100.0:
            return b, j
    return -1, -1


@compiled
def _sample(P, m, plan, ranking, record, read_out, log2_h):  # type: ignore[no-untyped-def]
    k, r = P.shape
    n, scans, done = k + r, read_out.shape[0], 0
    room = new_room(k, n)
    begin_code(room, P)
    read = np.zeros((n * n, read_out.shape[2]))
    for _ in range(4 * scans):
        if done == scans:
            break
        mask, a, _fresh = start(record, plan, n, m)
        mask, a = climb(room, room.N, mask, a, m)
        record.counts[ROUNDS] += 1
        height, named, target, _new = solve(room, record, mask, m, 0.0)
        if 0.0 < height < 1e9:
            mask, a = named, target
        if not take_out(room.N, mask, room.W, room.space[0]):
            continue
        score_swaps(room.W, mask, a, k, -np.inf, ranking, read, room.scores, room.space)
        taken = 0
        for place in range(read_out.shape[1]):
            b, j = _next_swap(room.scores, place < read_out.shape[1] // 2, record.state)
            if b < 0:
                break
            room.scores[b, j] = -np.inf
            height = _height_of_set(room, mask ^ np.int64(1) << b ^ np.int64(1) << j, a)
            if not 1e-3 < height < 1e8:
                break
            read_out[done, taken, :] = read[b * n + j]
            log2_h[done, taken] = np.log2(height)
            taken += 1
        if taken == read_out.shape[1]:
            done += 1
    return done


def sample_swaps(
    P: NDArray[np.float64], m: int, scans: int, *, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Up to so many scans of one code (k, r): what is read (A, SWAPS, SHAPES), and log2 heights (A, SWAPS), exact."""
    k, r = P.shape
    records = begin(1, seed)
    read, log2_h = np.zeros((scans, SWAPS, SHAPES)), np.zeros((scans, SWAPS))
    done = _sample(P, m, plan_for(k + r, k, m), FIXED, Record(*(part[0] for part in records)), read, log2_h)
    fine = np.isfinite(read[:done]).all((1, 2))
    return read[:done][fine], log2_h[:done][fine]
