"""Codewords of integers that vanish on all but m coordinates, which make a height infinite, found in tables at hand."""

from __future__ import annotations

import numpy as np

from ..numerics.jit import compiled, inlined_exactly
from ..numerics.simplex_tableau import first_table, pivot
from .search_room import INFINITE, keep
from .set_solver import VANISHED, best_row

FEW_LEFT, SCANNED = 3, 4096
"""Slack up to which pairs of exchanges are scanned for light codewords of integers, and how many."""

LIGHT = 1e9
"""What a codeword's height must exceed to be light: to vanish on all but m coordinates."""


@inlined_exactly
def all_whole(P):  # type: ignore[no-untyped-def]
    """Whether all entries are integers."""
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            if P[i, j] != np.floor(P[i, j]):
                return False
    return True


@compiled
def scan_bases(room, record, m, slack):  # type: ignore[no-untyped-def]
    """Look for light codewords in the tables of bases one exchange away from the first k coordinates, or two at small
    slack: small minors of integers vanish the most often."""
    table, word = room.table, room.word
    G, D, basis, row_of = table.G, table.D, table.basis, table.row_of
    k, n = G.shape
    tried = 0
    for i in range(k):
        for j in range(k, n):
            if abs(G[i, j]) < VANISHED:
                continue
            first_table(G, 0, D, basis, row_of)
            pivot(D, basis, row_of, i, j)
            for p in range(i if slack <= FEW_LEFT else k, k + 1):
                for q in range(j + 1 if p < k else n - 1, n):
                    if p < k:
                        tried += 1
                        if p == i or tried > SCANNED or abs(D[p, q]) < VANISHED or row_of[q] >= 0:
                            continue
                        pivot(D, basis, row_of, p, q)
                    height, mask, top = best_row(D, m, LIGHT, word)
                    if height > INFINITE:
                        keep(record, mask, top, height)
                        return
                    if p < k:  # and back
                        pivot(D, basis, row_of, p, p)
