"""h_r of an [n, k] code, r = n - k, by a walk over its circuits: sets S are bases there, and there are no programs.

k + 1 columns D of a code without k dependent columns have one dependency c, no coordinate of it 0: their circuit. For a
basis B = D - i it is (y, -1) up to scale, with y = G_B^-1 g_i, and so the largest |y|_1 over all B and i in D is
|c|_1 / min |c| - 1. h_r is the largest of these, and infinite where some k columns are dependent.

Each D is visited once. A node is a basis with its table, k - s of its coordinates decided to be in D and s not yet, and
w of the other columns that may still be in D: C(s + w, s + 1) sets. To decide on a coordinate of the basis costs nothing
where it is in; where it is out, it is exchanged for one of the w. So each table is evaluated whole, w circuits of k + 1
numbers, and made from the one before by one pivot. LANES nodes of the same (s, w) are walked side by side.

What rounding does is bounded from behind. A table T of the basis B is the exact one of columns moved a little, those of
B and its own: a pivot that is off by F moves column c by A_B F_c more, A being the columns in the coordinates of the
first basis. With off >= |a_c - moved a_c|_1 for all c, y has a residual of at most off (1 + |y|_1), and bounds the
height by |y|_1 / (1 - off (1 + |y|_1)), however large the entries have become on the way. Circuits that this leaves in
doubt go to `certified_norm` and `certified_height`, and from there to fractions.
"""

from __future__ import annotations

from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.jit import LANES, compiled
from ..numerics.rounding import ROUNDING
from .hitting_set import DONE, DOUBTFUL, MARGIN, STOPPED, added, largest_height
from .simplex_tableau import certified_height, certified_norm, new_tableau, renew, widen

CLOSE = 1e-9
"""Circuits this close to the best height, relatively, are computed again in twice the precision."""

DEPTH = 11
"""Decisions before the walk: 2^DEPTH nodes at most, which the lanes and the threads share."""

DEEPER = 10**8
"""Circuits from which on there are four times as many, so that a part of them ends sooner."""


class Start(NamedTuple):
    """The first table, in the coordinates of a basis without large entries.

    G: (k, n) = [I | P].
    T: (k, r), the columns outside the basis.
    basis, others: (k,) and (r,) int64, the coordinates of rows and columns.
    off: how far the columns of T are from exact ones, |.|_1.
    unit: what a pivot moves a column by at most, over the sum of its largest |y|_1 before and after.
    """

    G: Any
    T: Any
    basis: Any
    others: Any
    off: Any
    unit: Any


class Walk(NamedTuple):
    """LANES nodes of one (s, w), and the tables below them; level w has w columns.

    tables: (columns, k, LANES), column c of level w at w (w - 1) / 2 + c.
    rows, columns: (k, LANES) and (r, LANES) int64, the coordinates of the first level.
    out: (r + 1,) int64, the row that each level is being exchanged in.
    flipped: (r + 1, LANES), 1 where the last two columns have changed places since the level was made.
    off, largest: (r + 1, LANES), see `Start.off`, and the largest |y|_1 of a column.
    total, least: (r, LANES), |y|_1 of each column of the newest level, and its smallest |entry|, at most 1.
    flip, inverse, ratio: (LANES,), of one pivot.
    """

    tables: Any
    rows: Any
    columns: Any
    out: Any
    flipped: Any
    off: Any
    largest: Any
    total: Any
    least: Any
    flip: Any
    inverse: Any
    ratio: Any


class WalkPart(NamedTuple):
    """Nodes (s, w) of the tree, each by its decisions: bit t is 1 where the t-th puts a coordinate out."""

    size: int
    s: int
    w: int
    paths: NDArray[np.int64]


def walk_parts(k: int, r: int) -> list[WalkPart]:
    """Parts that hold every set of k + 1 coordinates once, the largest first; `size` circuits each."""
    found: dict[tuple[int, int], NDArray[np.int64]] = {(k, r): np.zeros(1, np.int64)}
    ends: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    for step in range(DEPTH + 2 * (comb(k + r, k + 1) > DEEPER)):
        more: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
        for (s, w), paths in found.items():
            if s == 0 or w == 1:
                ends.setdefault((s, w), []).append(paths)
                continue
            more.setdefault((s - 1, w), []).append(paths)
            more.setdefault((s, w - 1), []).append(paths | np.int64(1) << step)
        found = {node: np.concatenate(pieces) for node, pieces in more.items()}
    for node, paths in found.items():
        ends.setdefault(node, []).append(paths)
    parts = []
    for (s, w), pieces in ends.items():
        paths = np.concatenate(pieces)
        for i in range(0, len(paths), LANES):
            some = paths[i : i + LANES]
            parts.append(WalkPart(comb(s + w, s + 1) * len(some), s, w, some))
    return sorted(parts, key=lambda part: (-part.size, part.s))


def start_of(G: NDArray[np.float64]) -> Start:
    """The first table of a code, with what rounding may have done to it."""
    k, n = G.shape
    table = new_tableau(G, 0)
    widen(table.D, table.basis, table.row_of, np.int64(0))
    renew(G, 0, table.D, table.basis, table.row_of)
    others = np.flatnonzero(table.row_of < 0)
    T, C, B = np.ascontiguousarray(table.D[:, others]), np.abs(table.D[:, :k]), G[:, table.basis]
    slack = (k + 4) * ROUNDING
    left = np.abs(G[:, others] - B @ T) + slack * (np.abs(G[:, others]) + np.abs(B) @ np.abs(T))
    apart = np.abs(np.eye(k) - table.D[:, :k] @ B) + slack * (np.eye(k) + C @ np.abs(B))
    contraction = float(apart.sum(0).max())
    off = float((C @ left).sum(0).max()) * 1.001 / (1.0 - contraction) if contraction < 0.5 else np.inf
    # columns moved by up to 1 are still no longer than twice as long; more than that bounds nothing
    longest = 2.0 * max(1.0, float(np.abs(T).sum(0).max()))
    return Start(G, T, table.basis, others, off, 3.0 * ROUNDING * longest * 1.001)


@compiled
def _exchange(T, rows, columns, j, w):  # type: ignore[no-untyped-def]
    """Put the coordinate of row j out, for the largest of w columns; the largest |y|_1 of those that are left."""
    k, at = T.shape[0], 0
    for c in range(w):
        if abs(T[j, c]) > abs(T[j, at]):
            at = c
    for i in range(k):
        T[i, at], T[i, w - 1] = T[i, w - 1], T[i, at]
    columns[at], columns[w - 1] = columns[w - 1], columns[at]
    rows[j] = columns[w - 1]
    inverse, largest = 1.0 / T[j, w - 1], 0.0
    for c in range(w - 1):
        ratio = T[j, c] * inverse
        total = abs(ratio)
        for i in range(k):
            if i != j:
                T[i, c] -= T[i, w - 1] * ratio
                total += abs(T[i, c])
        T[j, c] = ratio
        largest = max(largest, total)
    return largest


@compiled
def _seat(start, path, lane, s, w, walk):  # type: ignore[no-untyped-def]
    """Take one lane to its node."""
    k, r = start.T.shape
    T, rows, columns = start.T.copy(), start.basis.copy(), start.others.copy()
    before, off, largest = k, start.off, 0.0
    for c in range(r):
        total = 0.0
        for i in range(k):
            total += abs(T[i, c])
        largest = max(largest, total)
    left, step = r, 0
    while before > s or left > w:
        if path >> step & 1:
            after = _exchange(T, rows, columns, before - 1, left)
            left -= 1
            off += start.unit * (largest + after)
            largest = after
        else:
            before -= 1
        step += 1
    first = w * (w - 1) // 2
    for c in range(w):
        for i in range(k):
            walk.tables[first + c, i, lane] = T[i, c]
        walk.columns[c, lane] = columns[c]
    for i in range(k):
        walk.rows[i, lane] = rows[i]
    walk.off[w, lane], walk.flipped[w, lane] = off, 0.0


@compiled
def _sums(tables, w, total, least):  # type: ignore[no-untyped-def]
    """|y|_1 and the smallest |entry| of each column of a level."""
    first = w * (w - 1) // 2
    for c in range(w):
        for lane in range(LANES):
            total[c, lane], least[c, lane] = 0.0, 1.0
        for i in range(tables.shape[1]):
            for lane in range(LANES):
                size = abs(tables[first + c, i, lane])
                total[c, lane] += size
                least[c, lane] = size if size < least[c, lane] else least[c, lane]


@compiled
def _flip(tables, w, j, flip, inverse):  # type: ignore[no-untyped-def]
    """Put the larger of the last two entries of row j last, by exchanging the columns."""
    one, two = w * (w - 1) // 2 + w - 2, w * (w - 1) // 2 + w - 1
    for lane in range(LANES):
        last, other = tables[two, j, lane], tables[one, j, lane]
        larger = abs(other) > abs(last)
        flip[lane] = 1.0 if larger else 0.0
        inverse[lane] = 1.0 / (other if larger else last)
    for i in range(tables.shape[1]):
        for lane in range(LANES):
            last, other = tables[two, i, lane], tables[one, i, lane]
            tables[two, i, lane] = other if flip[lane] > 0.0 else last
            tables[one, i, lane] = last if flip[lane] > 0.0 else other


@compiled
def _contracted(tables, w, j, inverse, ratio, total, least):  # type: ignore[no-untyped-def]
    """The level below: the last column of level w enters in row j, and what leaves is out; with its sums."""
    above, below = w * (w - 1) // 2, (w - 1) * (w - 2) // 2
    last = above + w - 1
    for c in range(w - 1):
        for lane in range(LANES):
            value = tables[above + c, j, lane] * inverse[lane]
            ratio[lane] = value
            tables[below + c, j, lane] = value
            total[c, lane] = abs(value)
            least[c, lane] = min(1.0, abs(value))
        for i in range(tables.shape[1]):
            if i != j:
                for lane in range(LANES):
                    value = tables[above + c, i, lane] - tables[last, i, lane] * ratio[lane]
                    tables[below + c, i, lane] = value
                    size = abs(value)
                    total[c, lane] += size
                    least[c, lane] = size if size < least[c, lane] else least[c, lane]


@compiled
def _doubts(walk, w, tau, pivots):  # type: ignore[no-untyped-def]
    """How many circuits of the newest level w are not bounded by tau; `pivots`: what its own one may move a column by."""
    off, largest, total, least = walk.off, walk.largest, walk.total, walk.least
    for lane in range(LANES):
        largest[w, lane] = total[0, lane]
    for c in range(1, w):
        for lane in range(LANES):
            largest[w, lane] = max(largest[w, lane], total[c, lane])
    if pivots > 0.0:
        for lane in range(LANES):
            off[w, lane] = off[w + 1, lane] + pivots * (largest[w, lane] + largest[w + 1, lane])
    enough, doubts = (1.0 + tau) * (1.0 - CLOSE), 0
    for c in range(w):
        for lane in range(LANES):
            # false for nan as well
            bounded = (1.0 + total[c, lane]) * (1.0 + tau * off[w, lane]) <= enough * least[c, lane]
            doubts += 0 if bounded else 1
    return doubts


@compiled
def _places(walk, lane, top, w, rows, columns):  # type: ignore[no-untyped-def]
    """The coordinates of rows and columns at level w, below the first level."""
    for i in range(rows.shape[0]):
        rows[i] = walk.rows[i, lane]
    for c in range(top):
        columns[c] = walk.columns[c, lane]
    for level in range(top, w - 1, -1):
        if walk.flipped[level, lane] > 0.0:
            columns[level - 1], columns[level - 2] = columns[level - 2], columns[level - 1]
        if level > w:
            rows[walk.out[level]] = columns[level - 1]


@compiled
def _bounded_before(known, inside, a):  # type: ignore[no-untyped-def]
    """Whether exact arithmetic has bounded a by a basis inside that mask."""
    found = False
    for q in range(known.shape[0]):
        found |= known[q, 1] == a and known[q, 0] & ~inside == 0
    return found


@compiled
def _decide(table, a, best, report, known, found):  # type: ignore[no-untyped-def]
    """The (S, a) of the table's basis, in twice the precision: (how it ended, best, its bound)."""
    G, D, basis, row_of, space = table
    k, n = G.shape
    y, low, x, rest, word = space[2, :k], space[3, :k], space[5, :k], space[6, :k], space[4, :n]
    inside, everything = np.int64(0), np.int64(-1) if n == 64 else (np.int64(1) << n) - 1
    for i in range(k):
        inside |= np.int64(1) << basis[i]
    report.counts[1] += 1
    if _bounded_before(known, inside, a):
        return DONE, best, 0.0
    report.doubt[0], report.doubt[1] = everything & ~inside & ~(np.int64(1) << a), a
    if not renew(G, a, D, basis, row_of):
        return DOUBTFUL, best, np.inf
    tau = best * (1.0 + MARGIN)
    bound, mask = certified_norm(G, D, basis, a, tau, y, low)
    if not bound <= tau:
        height = certified_height(G, D, basis, a, n - k, x, rest, word)
        if height > largest_height(G):
            return DOUBTFUL, best, np.inf
        if height > best:
            best = height
            found.x[:], found.rest[:], found.word[:] = x, rest, word
        if not bound <= best * (1.0 + MARGIN):
            return DOUBTFUL, best, np.inf
    added(report, mask)
    return DONE, best, bound


@compiled
def _examine(table, walk, place, best, report, known, found):  # type: ignore[no-untyped-def]
    """All bases of one circuit that its numbers do not bound. place: (top, w, c, lane), as int64."""
    basis = table.basis
    k, r = basis.shape[0], walk.columns.shape[0]
    top, w, c, lane = place
    column, off, total = w * (w - 1) // 2 + c, walk.off[w, lane], walk.total[c, lane]
    rows, columns = np.empty(k, np.int64), np.empty(r, np.int64)
    _places(walk, lane, top, w, rows, columns)
    proven = 0.0
    for i in range(-1, k):
        size = abs(walk.tables[column, i, lane]) if i >= 0 else 1.0
        tau = best * (1.0 + MARGIN)
        if (1.0 + total) * (1.0 + tau * off) <= (1.0 + tau) * (1.0 - CLOSE) * size:
            continue
        for p in range(k):
            basis[p] = rows[p]
        a = columns[c]
        if i >= 0:
            basis[i], a = columns[c], rows[i]
        ended, best, bound = _decide(table, a, best, report, known, found)
        if ended != DONE:
            return ended, best, np.inf
        proven = max(proven, bound)
    return DONE, best, proven


@compiled
def _settle(table, walk, top, w, best, report, known, found):  # type: ignore[no-untyped-def]
    """Examine the circuits of the newest level w that are in doubt."""
    proven = 0.0
    for c in range(w):
        for lane in range(LANES):
            tau = best * (1.0 + MARGIN)
            bounded = (1.0 + walk.total[c, lane]) * (1.0 + tau * walk.off[w, lane])
            if bounded <= (1.0 + tau) * (1.0 - CLOSE) * walk.least[c, lane]:
                continue
            ended, best, bound = _examine(table, walk, (top, w, c, lane), best, report, known, found)
            if ended != DONE:
                return ended, best, np.inf
            proven = max(proven, bound)
    return DONE, best, proven


@compiled
def _new_walk(k, r, w):  # type: ignore[no-untyped-def]
    """Room for a walk from level w down."""
    return Walk(
        np.empty((w * (w + 1) // 2, k, LANES)),
        np.empty((k, LANES), np.int64),
        np.empty((r, LANES), np.int64),
        np.zeros(r + 1, np.int64),
        np.zeros((r + 1, LANES)),
        np.zeros((r + 1, LANES)),
        np.zeros((r + 1, LANES)),
        np.empty((r, LANES)),
        np.empty((r, LANES)),
        np.empty(LANES),
        np.empty(LANES),
        np.empty(LANES),
    )


@compiled
def search_circuits(start, paths, s, top, best, report, known, found):  # type: ignore[no-untyped-def]
    """Look for codewords with an r-height above `best` among the circuits below nodes (s, top).

    Args:
        start: see there.
        paths: (count,) int64, the nodes; at most LANES.
        best: height of a known codeword.
        report, found, and what comes back: as in `hitting_set.search_target`.
        known: as `hitting_set.Problem.known`; their bounds are not told again.
    """
    G, counts, stop = start.G, report.counts, report.stop
    k, n = G.shape
    table, walk = new_tableau(G, 0), _new_walk(k, n - k, top)
    for lane in range(LANES):
        _seat(start, paths[min(lane, paths.shape[0] - 1)], lane, s, top, walk)
    after = np.zeros(top + 1, np.int64)
    after[top] = s
    w, proven, pivots = top, 0.0, 0.0
    _sums(walk.tables, w, walk.total, walk.least)
    while True:
        counts[0] += w * paths.shape[0]
        if _doubts(walk, w, best * (1.0 + MARGIN), pivots) > 0:
            ended, best, bound = _settle(table, walk, top, w, best, report, known, found)
            proven = max(proven, bound)
            if ended != DONE:
                return ended, best, proven
        while w == 1 or after[w] == 0:
            w += 1
            if w > top:
                report.progress[0] = 1.0
                return DONE, best, proven
        if stop[0] != 0:
            return STOPPED, best, proven
        after[w] -= 1
        j = after[w]
        walk.out[w], after[w - 1] = j, j + 1
        _flip(walk.tables, w, j, walk.flip, walk.inverse)
        for lane in range(LANES):
            walk.flipped[w, lane] = abs(walk.flipped[w, lane] - walk.flip[lane])
            walk.flipped[w - 1, lane] = 0.0
        _contracted(walk.tables, w, j, walk.inverse, walk.ratio, walk.total, walk.least)
        w, pivots = w - 1, start.unit
