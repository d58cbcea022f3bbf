"""The first codewords of a search: those of sets with large least-squares norms, nearly always the best already."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..numerics.bitsets import lowest_bit
from ..numerics.jit import compiled
from ..numerics.simplex_tableau import first_table, new_tableau
from ..numerics.swaps import fill_queue
from .hitting_set import MARGIN, best_without, largest_height

QUEUE = 64
"""Sets of large least-squares norm that the first codewords come from."""


@compiled
def first_words(G, masks, m, best, found):  # type: ignore[no-untyped-def]
    """The best codeword among those of the sets that leave out these masks, from `best` on."""
    table = new_tableau(G, 0)
    told = largest_height(G)
    for mask in masks:
        left = mask
        while left:
            a = lowest_bit(left)
            left &= left - 1
            first_table(G, a, table.D, table.basis, table.row_of)
            tau = best * (1.0 + MARGIN)
            out = mask ^ np.int64(1) << a
            _, bound, best = best_without(table, a, m, out, best, tau, True, told, found)
            if bound < 0.0:
                return best
    return best


def first_masks(G: NDArray[np.float64], m: int) -> NDArray[np.int64]:
    """Sets to leave out for the first codewords, as masks: the ends of local searches, by the norm they reached."""
    n = G.shape[1]
    Q = np.linalg.qr((G / np.linalg.norm(G, axis=1, keepdims=True)).T)[0]
    queue, worth = np.zeros(QUEUE, np.int64), np.zeros(QUEUE)
    fill_queue(Q @ Q.T, m, 2 * n, 1.0, np.empty((n, n)), queue, worth)
    order = np.lexsort((queue, -worth))
    return queue[order][queue[order] != 0]
