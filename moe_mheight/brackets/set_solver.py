"""The height of a set of coordinates, exactly: the linear programs of all its targets from one table.

Tables propose; what counts in the end is certified from the best set (`certify_codes`).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..numerics.bitsets import lowest_bit
from ..numerics.certified import certified_height, height_of
from ..numerics.jit import compiled
from ..numerics.simplex_tableau import MOVED, descend, largest_in_row, norm, push_out_anywhere
from .search_room import ELITE, INFINITE, begin_code, new_room

VANISHED = 1e-12
"""An entry of a table so small is rounding, of integers at least; exact arithmetic decides."""

_in_any_order = partial(compiled, fastmath={"reassoc", "nsz", "contract"})


@compiled
def height_of_word(word, m, sizes):  # type: ignore[no-untyped-def]
    """(height, mask of the m largest, the largest) of a codeword. Shapes: word, sizes (n,)."""
    n, mask, top = word.shape[0], np.int64(0), 0
    for j in range(n):
        sizes[j] = abs(word[j])
    for b in range(m):
        place = 0
        for j in range(1, n):
            if sizes[j] > sizes[place]:
                place = j
        if b == 0:
            top = place
        mask |= np.int64(1) << place
        sizes[place] = -1.0
    below = 0.0
    for j in range(n):
        below = max(below, sizes[j])
    return (abs(word[top]) / below if below > 0.0 else np.inf), mask, top


@compiled
def word_of(D, column, word):  # type: ignore[no-untyped-def]
    """The codeword that is as large on the basis as the signs of a column say."""
    for j in range(word.shape[0]):
        word[j] = 0.0
    for i in range(D.shape[0]):
        row, sign = D[i], 1.0 if D[i, column] > 0.0 else -1.0
        for j in range(word.shape[0]):
            word[j] += sign * row[j]


@compiled
def minimise(D, basis, row_of, mask, a, enough, space):  # type: ignore[no-untyped-def]
    """Lower |y|_1 of column a until it is `enough` (True), or the linear program of (S, a) is solved (False).

    The table's last column, which is a moved a little, says where to go: none of its coefficients vanishes, so that no
    pivots go round in circles, and its signs are those of the codeword. It is moved anew at the end, by what is a
    little there.
    """
    k, last = D.shape[0], D.shape[1] - 1
    for _ in range(2):
        shift = MOVED * norm(D, a)
        for i in range(k):
            D[i, last] = D[i, a] + shift * np.sin(1.0 + 1.7 * i + 0.37 * a)
        if descend(D, basis, row_of, mask, a, last, enough, space):
            return True
    return False


@_in_any_order
def _row_above(D, n, m, known):  # type: ignore[no-untyped-def]
    """A row whose codeword has a height above `known`, at least 1, or -1."""
    for i in range(D.shape[0]):
        row, most, count = D[i], 0.0, 0
        for j in range(n):
            most = max(most, abs(row[j]))
        for j in range(n):
            count += 1 if abs(row[j]) * known >= most else 0
        if count <= m:
            return i
    return -1


@compiled
def best_row(D, m, known, word):  # type: ignore[no-untyped-def]
    """The codeword of a row, in word[0], where one's height is above `known`: (height, its mask, its largest)."""
    height, mask, top = 0.0, np.int64(0), 0
    n = word.shape[1]
    for _ in range(4):
        i = _row_above(D, n, m, max(known, height, 1.0) * (1.0 + 1e-9))
        if i < 0:
            break
        for j in range(n):
            word[0, j] = D[i, j] if abs(D[i, j]) > VANISHED else 0.0
        height, mask, top = height_of_word(word[0], m, word[2])
        if height > INFINITE:
            break
    return height, mask, top


@compiled
def solve_set(table, mask, m, known, word):  # type: ignore[no-untyped-def]
    """The best codeword of a set's linear programs above `known`: (height, its mask, its largest, programs).

    0 where none is above. Shape: word (3, n); the codeword comes in the first row.
    """
    D, basis, row_of, space = table.D, table.basis, table.row_of, table.space
    best, best_mask, best_top, programs = 0.0, mask, 0, 0
    for i in range(D.shape[0]):
        if not mask >> basis[i] & 1:
            continue
        largest = largest_in_row(D, row_of, i, mask)
        if largest * max(known, 1.0) < 0.5 or largest == 0.0:  # a codeword that nearly vanishes on S
            for j in range(word.shape[1]):
                word[1, j] = D[i, j]
            height, its_mask, top = height_of_word(word[1], m, word[2])
            if height > best:
                best, best_mask, best_top = height, its_mask, top
                word[0, :] = word[1, :]
        if largest < 1e-10 or not push_out_anywhere(D, basis, row_of, i, mask):
            return best, best_mask, best_top, programs
    height, its_mask, top = best_row(D, m, max(known, best), word)
    if height > best:
        best, best_mask, best_top = height, its_mask, top
    tau = max(known, best) * (1.0 + 1e-9)
    left = mask
    while left and best < INFINITE:
        a = lowest_bit(left)
        left &= left - 1
        if norm(D, a) <= tau:
            continue
        programs += 1
        if minimise(D, basis, row_of, mask, a, tau, space):
            continue
        word_of(D, D.shape[1] - 1, word[1])
        height, its_mask, top = height_of_word(word[1], m, word[2])
        if height > best:
            best, best_mask, best_top = height, its_mask, top
            word[0, :] = word[1, :]
            tau = max(tau, height * (1.0 + 1e-9))
    return best, best_mask, best_top, programs


@compiled
def _certify(table, mask, a, m, x, rest, word):  # type: ignore[no-untyped-def]
    """The information part, high and low, of the best codeword of (S, a), or of one that vanishes on S."""
    D, basis, row_of, space = table.D, table.basis, table.row_of, table.space
    k = D.shape[0]
    for i in range(k):
        if not mask >> basis[i] & 1:
            continue
        largest = largest_in_row(D, row_of, i, mask)
        if largest < 1e-10 or not push_out_anywhere(D, basis, row_of, i, mask):
            for p in range(k):
                x[p], rest[p] = D[i, p], 0.0
            return
    minimise(D, basis, row_of, mask, a, 0.0, space)
    certified_height(table.G, D, basis, D.shape[1] - 1, m, x, rest, word)


@compiled
def certify_codes(P, m, records, lower, words):  # type: ignore[no-untyped-def]
    """Certified heights of the best sets' codewords, rounded down, and these: lower (B,), words (B, n)."""
    count, k, r = P.shape
    n = k + r
    room = new_room(k, n)
    table, x, rest, word = room.table, np.empty(k), np.empty(k), np.empty(n)
    for code in range(count):
        begin_code(room, P[code])
        lower[code], words[code, :] = 1.0, table.G[0]
        best = 0
        for e in range(ELITE):
            if records.heights[code, e] > records.heights[code, best]:
                best = e
        if records.heights[code, best] == 0.0:
            continue
        _certify(table, records.masks[code, best], records.targets[code, best], m, x, rest, word)
        height = height_of(table.G, x, rest, m, word)
        if height > lower[code]:
            lower[code] = height
            words[code, :] = word
