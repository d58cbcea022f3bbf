"""What searches of long codes work in and keep: the code, its projection, a table, and the best sets so far."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..numerics.bitsets import random_word
from ..numerics.jit import compiled, embedded, inlined_exactly
from ..numerics.simplex_tableau import Tableau, first_table, widen

ELITE = 8
"""Sets kept, those of the largest heights."""

COUNTS = 8
(ROUNDS, HITS, RETURNS, LAST, SOLVED, PROGRAMS, SURPRISES, NEAR) = range(COUNTS)
"""Counted in a search: rounds; those that ended at the best height, begun anew (HITS) or from a good set (RETURNS); the
round that found it; sets solved; linear programs; swaps that turned out better, and swaps tried."""

SEEN = 4096
"""Places for sets that need not be solved again."""

INFINITE = 1e11
"""A height from here on may be infinite, and ends the search."""


class Record(NamedTuple):
    """What a search of one code has found, to go on from and to judge it by.

    masks, targets, heights: (ELITE,), the best sets, as masks of the coordinates outside S; 0 where there are fewer.
    counts: (COUNTS,). state: (1,) uint64, of the random numbers.
    """

    masks: Any
    targets: Any
    heights: Any
    counts: Any
    state: Any


class Room(NamedTuple):
    """What one search works in."""

    table: Any
    Q: Any  # (k, n), orthonormal rows of the code
    weighted: Any  # (k, n)
    N: Any  # (n, n), the projection on it; with_weights: that of the columns with weights
    with_weights: Any
    W: Any
    space: Any  # (n + 3, n)
    scores: Any  # (n, n)
    word: Any  # (3, n)
    seen: Any


@embedded
def new_room(k, n):  # type: ignore[no-untyped-def]
    table = Tableau(
        np.empty((k, n)), np.empty((k, n + 1)), np.empty(k, np.int64), np.empty(n, np.int64), np.empty((7, n + 1))
    )
    return Room(
        table,
        np.empty((k, n)),
        np.empty((k, n)),
        np.empty((n, n)),
        np.empty((n, n)),
        np.empty((n, n)),
        np.empty((n + 3, n)),
        np.empty((n, n)),
        np.empty((3, n)),
        np.empty(SEEN, np.int64),
    )


@inlined_exactly
def random_bits(state):  # type: ignore[no-untyped-def]
    """31 random bits."""
    return random_word(state) >> 1


@compiled
def orthonormalise(Q):  # type: ignore[no-untyped-def]
    """Make the rows orthonormal, each freed of those before it twice."""
    k, n = Q.shape
    for i in range(k):
        row = Q[i]
        for _ in range(2):
            for p in range(i):
                other, inner = Q[p], 0.0
                for j in range(n):
                    inner += row[j] * other[j]
                for j in range(n):
                    row[j] -= inner * other[j]
            size = 0.0
            for j in range(n):
                size += row[j] * row[j]
            size = 1.0 / np.sqrt(size)
            for j in range(n):
                row[j] *= size


@compiled
def project(Q, N):  # type: ignore[no-untyped-def]
    """N = Q^T Q."""
    k, n = Q.shape
    for i in range(n):
        out = N[i]
        for j in range(n):
            out[j] = 0.0
        for p in range(k):
            factor, row = Q[p, i], Q[p]
            for j in range(n):
                out[j] += factor * row[j]


@compiled
def weigh(room, spread, state):  # type: ignore[no-untyped-def]
    """Random weights for the columns: exp(spread z), z about normal."""
    Q, weighted = room.Q, room.weighted
    k, n = Q.shape
    for j in range(n):
        z = -6.0
        for _ in range(12):
            z += random_bits(state) / 2147483648.0
        weight = np.exp(spread * z)
        for i in range(k):
            weighted[i, j] = Q[i, j] * weight
    orthonormalise(weighted)
    project(weighted, room.with_weights)


@compiled
def spread_out(table):  # type: ignore[no-untyped-def]
    """A table of a basis without large entries, by pivots from that of the first k coordinates."""
    first_table(table.G, 0, table.D, table.basis, table.row_of)
    widen(table.D, table.basis, table.row_of, np.int64(0))


@compiled
def begin_code(room, P):  # type: ignore[no-untyped-def]
    k, r = P.shape
    G, Q = room.table.G, room.Q
    for i in range(k):
        for j in range(k):
            G[i, j] = 1.0 if i == j else 0.0
        for j in range(r):
            G[i, k + j] = P[i, j]
        for j in range(k + r):
            Q[i, j] = G[i, j]
    orthonormalise(Q)
    project(Q, room.N)
    spread_out(room.table)
    for s in range(SEEN):
        room.seen[s] = 0


@compiled
def keep(record, mask, target, height):  # type: ignore[no-untyped-def]
    """Put a set among the best, if it is one of them and new."""
    masks, heights = record.masks, record.heights
    lowest = 0
    for e in range(ELITE):
        if masks[e] == mask and heights[e] > 0.0:
            return
        if heights[e] < heights[lowest]:
            lowest = e
    if height > heights[lowest]:
        masks[lowest], record.targets[lowest], heights[lowest] = mask, target, height


@compiled
def best_of(record):  # type: ignore[no-untyped-def]
    best = 0
    for e in range(ELITE):
        if record.heights[e] > record.heights[best]:
            best = e
    return best
