"""h_r of an [n, k] code, r = n - k, by a walk over its circuits: sets S are bases there, and there are no programs.

k + 1 columns D of a code without k dependent columns have one dependency c, no coordinate of it 0: their circuit. For a
basis B = D - i it is (y, -1) up to scale, with y = G_B^-1 g_i, and so the largest |y|_1 over all B and i in D is
|c|_1 / min |c| - 1. h_r is the largest of these, and infinite where some k columns are dependent.

Each D is visited once. A node is a basis with its table, k - s of its coordinates decided to be in D and s not yet, and
w of the other columns that may still be in D: C(s + w, s + 1) sets. To decide on a coordinate of the basis costs
nothing where it is in; where it is out, it is exchanged for one of the w. So each table is evaluated whole, w circuits
of k + 1 numbers, and made from the one before by one pivot. LANES nodes of the same (s, w) are walked side by side.

What rounding does is bounded as `start_table` says. Circuits that this leaves in doubt go to `certified_norm` and
`certified_height`, and from there to fractions.
"""

from __future__ import annotations

from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.bitsets import BITS
from ..numerics.certified import Codeword, certified_height, certified_norm
from ..numerics.jit import LANES, compiled, fused
from ..numerics.simplex_tableau import renew
from .hitting_set import DONE, DOUBTFUL, MARGIN, STOPPED, Report, largest_height
from .start_table import Start, first_tableau

CLOSE = 1e-9
"""Circuits this close to the best height, relatively, are computed again in twice the precision."""

DEPTHS = (11, 13)
"""Decisions before the walk, at most, for long and for very long ones: 2 to that power is how many nodes the lanes and
the threads share."""

PER_NODE = 9
"""Circuits of a node, as a power of 2, where there may be that many nodes."""

VERY_LONG = 10**8
"""Circuits from which on the parts are smaller, so that one of them ends sooner."""


class Walk(NamedTuple):
    """LANES nodes of one (s, w), and the tables below them; level w has w columns.

    tables: (columns, k, LANES), column c of level w at w (w - 1) / 2 + c.
    rows, columns: (k, LANES) and (r, LANES) int64, the coordinates of the first level.
    out: (r + 1,) int64, the row that each level is being exchanged in.
    flipped: (r + 1, LANES), 1 where the last two columns have changed places since the level was made.
    after: (top + 1,) int64, how many rows of a level have still to be put out, one after the other.
    off, largest: (r + 1, LANES), see `Start.off`, and the largest |y|_1 of a column.
    total, least: (r, LANES), |y|_1 of each column of the newest level, and its smallest |entry|, at most 1.
    flip, inverse, ratio: (LANES,), of one pivot.
    """

    tables: Any
    rows: Any
    columns: Any
    out: Any
    flipped: Any
    after: Any
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
    circuits = comb(k + r, k + 1)
    most = DEPTHS[int(circuits > VERY_LONG)]
    for step in range(max(0, min(most, circuits.bit_length() - PER_NODE))):
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
def _seat(start, paths, s, w, walk, T, rows, columns):  # type: ignore[no-untyped-def]
    """Take every lane to its node (s, w); spare lanes repeat the last. T, rows, columns: room for one more table."""
    k, r = T.shape
    first = w * (w - 1) // 2
    for lane in range(LANES):
        for i in range(k):
            rows[i] = start.basis[i]
            for c in range(r):
                T[i, c] = start.T[i, c]
        for c in range(r):
            columns[c] = start.others[c]
        off, largest, path = start.off, start.largest, paths[min(lane, paths.shape[0] - 1)]
        before, left = k, r
        while before > s or left > w:
            if path & 1:
                after = _exchange(T, rows, columns, before - 1, left)
                left -= 1
                off += start.unit * (largest + after)
                largest = after
            else:
                before -= 1
            path >>= 1
        for i in range(k):
            walk.rows[i, lane] = rows[i]
            for c in range(w):
                walk.tables[first + c, i, lane] = T[i, c]
        for c in range(w):
            walk.columns[c, lane] = columns[c]
        walk.off[w, lane] = off


@fused
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


@fused
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
            least[c, lane] = abs(value) if abs(value) < 1.0 else 1.0
        for i in range(tables.shape[1]):
            if i != j:
                for lane in range(LANES):
                    value = tables[above + c, i, lane] - tables[last, i, lane] * ratio[lane]
                    tables[below + c, i, lane] = value
                    size = abs(value)
                    total[c, lane] += size
                    least[c, lane] = size if size < least[c, lane] else least[c, lane]


@fused
def _doubts(walk, w, tau, unit):  # type: ignore[no-untyped-def]
    """How many circuits of the newest level w are not bounded by tau."""
    off, largest, total, least = walk.off, walk.largest, walk.total, walk.least
    for lane in range(LANES):
        largest[w, lane] = total[0, lane]
    for c in range(1, w):
        for lane in range(LANES):
            largest[w, lane] = total[c, lane] if total[c, lane] > largest[w, lane] else largest[w, lane]
    for lane in range(LANES):
        off[w, lane] = off[w + 1, lane] + unit * (largest[w, lane] + largest[w + 1, lane])
    enough, doubts = (1.0 + tau) * (1.0 - CLOSE), 0
    for c in range(w):
        for lane in range(LANES):
            # false for nan as well
            bounded = (1.0 + total[c, lane]) * (1.0 + tau * off[w, lane]) <= enough * least[c, lane]
            doubts += 0 if bounded else 1
    return doubts


@compiled
def walk_on(walk, state, unit, tau, counts, stop):  # type: ignore[no-untyped-def]
    """Walk until circuits are in doubt: how many of the newest level are; 0 at the end, -1 where told to stop.

    state: (2,) int64, the level and the lanes that count. unit: see `Start`.
    """
    w, top = state[0], walk.after.shape[0] - 1
    while True:
        while w == 1 or walk.after[w] == 0:
            w += 1
            if w > top:
                return 0
        if stop[0] != 0:
            return -1
        walk.after[w] -= 1
        j = walk.after[w]
        walk.out[w], walk.after[w - 1] = j, j + 1
        _flip(walk.tables, w, j, walk.flip, walk.inverse)
        for lane in range(LANES):
            walk.flipped[w, lane] = abs(walk.flipped[w, lane] - walk.flip[lane])
            walk.flipped[w - 1, lane] = 0.0
        _contracted(walk.tables, w, j, walk.inverse, walk.ratio, walk.total, walk.least)
        w -= 1
        counts[0] += w * state[1]
        doubts = _doubts(walk, w, tau, unit)
        if doubts > 0:
            state[0] = w
            return doubts


def _new_walk(start: Start, part: WalkPart) -> Walk:
    """The walk of a part at its first level, with the sums of that."""
    k, r = start.T.shape
    w = part.w
    walk = Walk(
        np.empty((w * (w + 1) // 2, k, LANES)),
        np.empty((k, LANES), np.int64),
        np.empty((r, LANES), np.int64),
        np.zeros(w + 1, np.int64),
        np.zeros((w + 1, LANES)),
        np.zeros(w + 1, np.int64),
        np.zeros((w + 1, LANES)),
        np.zeros((w + 1, LANES)),
        np.empty((w, LANES)),
        np.empty((w, LANES)),
        np.empty(LANES),
        np.empty(LANES),
        np.empty(LANES),
    )
    walk.after[w] = part.s
    room = np.empty_like(start.T), np.empty_like(start.basis), np.empty_like(start.others)
    _seat(start, part.paths, part.s, w, walk, *room)
    sizes = np.abs(walk.tables[w * (w - 1) // 2 :])
    walk.total[:], walk.least[:] = sizes.sum(1), np.minimum(sizes.min(1), 1.0)
    walk.largest[w] = walk.total.max(0)
    return walk


def _places(walk: Walk, lane: int, w: int) -> tuple[list[int], list[int]]:
    """The coordinates of rows and columns at level w."""
    rows, columns = walk.rows[:, lane].tolist(), walk.columns[:, lane].tolist()
    for level in range(len(walk.after) - 1, w - 1, -1):
        if walk.flipped[level, lane] > 0.0:
            columns[level - 1], columns[level - 2] = columns[level - 2], columns[level - 1]
        if level > w:
            rows[walk.out[level]] = columns[level - 1]
    return rows, columns[:w]


class CircuitSearch:
    """The walk of one part: what it finds, and what remains in doubt.

    best: the height of the best codeword so far, which `found` holds.
    proven: the largest bound of a circuit that had to be computed again; all others are below `best`.
    """

    def __init__(self, G: NDArray[np.float64], start: Start, best: float, report: Report, found: Codeword) -> None:
        self.G, self.start, self.best, self.report, self.found = G, start, best, report, found
        self.proven, self.known = 0.0, set[tuple[int, int]]()
        self.told = float(largest_height(G))
        self.tableau = first_tableau(G)

    def run(self, part: WalkPart, known: list[tuple[int, int]]) -> int:
        """Look for codewords with an r-height above `best`; how that ended, as `hitting_set` says it.

        known: as `hitting_set.Problem.known`; their bounds are not told again.
        """
        self.known = {(mask & (2**BITS - 1), a) for mask, a in known}
        walk, counts = _new_walk(self.start, part), self.report.counts
        state = np.array([part.w, len(part.paths)])
        counts[0] += part.w * len(part.paths)
        doubts = 1
        while doubts > 0:
            if not self._settle(walk, *state.tolist()):
                return DOUBTFUL
            doubts = walk_on(walk, state, self.start.unit, self.tau, counts, self.report.stop)
        self.report.progress[0] = float(doubts == 0)
        return DONE if doubts == 0 else STOPPED

    @property
    def tau(self) -> float:
        return self.best * (1.0 + MARGIN)

    def _settle(self, walk: Walk, w: int, lanes: int) -> bool:
        """Whether all circuits of the newest level w are bounded by tau, once those in doubt are computed again."""
        sums, off = 1.0 + walk.total[:w, :lanes], walk.off[w, :lanes]
        with np.errstate(invalid="ignore"):
            bounded = sums * (1.0 + self.tau * off) <= (1.0 + self.tau) * (1.0 - CLOSE) * walk.least[:w, :lanes]
        for c, lane in np.argwhere(~bounded).tolist():
            rows, columns = _places(walk, lane, w)
            sizes = np.abs([*walk.tables[w * (w - 1) // 2 + c, :, lane].tolist(), 1.0])
            D = [*rows, columns[c]]
            for i in np.argsort(sizes).tolist():
                if sums[c, lane] * (1.0 + self.tau * off[lane]) <= (1.0 + self.tau) * (1.0 - CLOSE) * sizes[i]:
                    break
                if not self._decide([*D[:i], *D[i + 1 :]], D[i]):
                    return False
        return True

    def _decide(self, B: list[int], a: int) -> bool:
        """Whether tau bounds |y|_1 of a basis B and a, by digits enough, and a new best codeword where it did not."""
        k, n = self.G.shape
        report, (D, basis, row_of), (x, rest, word) = self.report, self.tableau, map(np.empty_like, self.found)
        inside = sum(1 << j for j in B)
        report.counts[1] += 1
        if any(at == a and mask & ~inside == 0 for mask, at in self.known):
            return True
        report.doubt[1] = a
        report.doubt.view(np.uint64)[0] = (1 << n) - 1 & ~inside & ~(1 << a)
        basis[:] = B
        if not renew(self.G, a, D, basis, row_of):
            return False
        bound, mask = certified_norm(self.G, D, basis, a, self.tau, np.empty(k), np.empty(k))
        if not bound <= self.tau:
            height = float(certified_height(self.G, D, basis, a, n - k, x, rest, word))
            if height > self.told:
                return False
            if height > self.best:
                self.best = height
                for mine, new in zip(self.found, (x, rest, word), strict=True):
                    mine[:] = new
        if bound <= self.tau:
            self.proven = max(self.proven, float(bound))
            report.bases[report.counts[2] % len(report.bases)] = mask
            report.counts[2] += 1
        return bool(bound <= self.tau)
