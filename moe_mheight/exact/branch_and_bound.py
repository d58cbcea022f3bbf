"""Certified heights of codes too long to enumerate, by branch and bound over all cores; anytime.

The search (`hitting_set`) is cut into parts (R, K), a part being the sets that leave out R and keep K. Parts are
searched in rounds that start from the best codeword of the rounds before. Neither the parts nor the rounds depend on
the number of threads, and so the result does not. Where float64 is in doubt, `rationals` decides. Before long searches
come relaxed ones, which leave out pairs of coordinates at a time: fast, and an upper bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from heapq import heappop, heappush
from math import comb, nextafter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codes.minors import LARGEST_RATIO
from ..numerics import rationals
from ..numerics.bitsets import BITS, lowest_bit
from ..numerics.jit import compiled, thread_count
from ..numerics.swaps import fill_queue
from .all_targets import common_basis, search_all
from .hitting_set import DONE, DOUBTFUL, MARGIN, Problem, Report, best_without, largest_height, search_target
from .result import Height, Progress, expected_seconds, silent
from .simplex_tableau import Codeword, first_table, height_of, new_tableau

PARTS, ROUND = 64, 16
"""How many parts a search is cut into, and how many of them make a round."""

SMALL = 20_000
"""With no more sets than this at worst the search is a single part, a matter of milliseconds."""

RELAXED = 2.0
"""Seconds of a search from which on quick upper bounds are worth having."""

QUEUE = 64
"""Sets of large least-squares norm that the first codewords come from."""

ALONE = 0.25
"""Share of the targets that the first basis may fail to bound before each target is searched by itself."""

TIGHT = 1e-9
"""A finished bracket is no wider than this, relatively."""

ROOM = 4096
"""Bases kept of a part where nobody asks for all."""


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


@compiled
def branching(G, out, tau, best):  # type: ignore[no-untyped-def]
    """A basis that bounds all targets in `out`, those it does not bound, its largest bound; inf where there is none."""
    mask, bad, bound, hard = common_basis(new_tableau(G, 0), out, out, tau, best, False)
    return mask, bad, bound if hard < 0 else np.inf


def _relaxations(n: int, k: int, m: int, seconds: float) -> list[NDArray[np.int64]]:
    """Blocks for relaxed searches, the fastest first: in pairs, while m blocks leave k coordinates; then fewer pairs.

    With p of n / 2 pairs a search is about that of a code of p fewer coordinates. Those that would take more than a
    fifth of the whole in all are left out.
    """
    pairs = n // 2 if 2 * m <= n - k else n - k - m
    out, spent = [], 0.0
    while pairs > 0:
        fewer = max(1, round(k * (1 - pairs / n)))
        spent += comb(fewer + m - 1, m) / comb(k + m - 1, m)
        if spent > 0.2:
            break
        block = np.int64(1) << np.arange(n)
        block[: 2 * pairs] = (block[0 : 2 * pairs : 2] | block[1 : 2 * pairs : 2]).repeat(2)
        out.append(block)
        pairs //= 2
    return out if seconds > RELAXED else []


def exchangeable(G: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each coordinate the mask of those whose column is the same up to its sign: exchanging them keeps the code."""
    seen: dict[bytes, list[int]] = {}
    for j, column in enumerate(G.T):
        first = column[np.flatnonzero(column)[:1]]
        seen.setdefault(((column * np.sign(first) if len(first) else column) + 0.0).tobytes(), []).append(j)
    out = np.empty(G.shape[1], np.int64)
    for group in seen.values():
        out[group] = _signed(sum(1 << j for j in group))
    return out


def first_masks(G: NDArray[np.float64], m: int) -> NDArray[np.int64]:
    """Sets to leave out for the first codewords, as masks: the ends of local searches, by the norm they reached."""
    n = G.shape[1]
    Q = np.linalg.qr((G / np.linalg.norm(G, axis=1, keepdims=True)).T)[0]
    queue, worth = np.zeros(QUEUE, np.int64), np.zeros(QUEUE)
    fill_queue(Q @ Q.T, m, 2 * n, 1.0, np.empty((n, n)), queue, worth)
    order = np.lexsort((queue, -worth))
    return queue[order][queue[order] != 0]


def members(mask: int, n: int) -> list[int]:
    """The coordinates of a mask."""
    return [j for j in range(n) if mask >> j & 1]


class Part(NamedTuple):
    """The sets that leave out `out` and keep `kept`, for the target a, or for all where a is -1; `size` at worst."""

    size: int
    out: int
    kept: int
    a: int


def _parts(G: NDArray[np.float64], m: int, tau: float, best: float) -> tuple[list[Part], list[int], float]:
    """Parts, largest first; the bases that cut them; the largest bound those prove.

    Or one for each target, where a basis hardly ever bounds many of them: codes of low height.
    """
    k, n = G.shape
    _, bad, bound = branching(G, np.int64(0), tau, best)
    if not bound < np.inf or int(bad & (2**BITS - 1)).bit_count() > ALONE * (n - k):
        return [Part(1, 0, 0, a) for a in range(n)], [], 0.0
    small: list[Any] = []
    open_parts, bases, proven = [(-comb(k + m - 1, m - 1) * m, 0, 0)], [], 0.0
    while open_parts and len(open_parts) + len(small) < PARTS and -open_parts[0][0] > SMALL // 8:
        size, out, kept = heappop(open_parts)
        left = m - int(out).bit_count()
        mask, bad, bound = branching(G, np.int64(_signed(out)), tau, best) if left > 2 else (0, 0, np.inf)
        if not bound <= tau:
            small.append((size, out, kept))
            continue
        bases.append(int(mask))
        proven = max(proven, bound)
        free = members((int(mask) | int(bad)) & ~kept & (2**BITS - 1), n)
        for i, b in enumerate(free):
            leaves = comb(len(free) - i + left - 2, left - 1)
            heappush(open_parts, (-leaves, out | 1 << b, kept | sum(1 << j for j in free[:i])))
    return [Part(-size, out, kept, -1) for size, out, kept in sorted(small + open_parts)], bases, proven


def _signed(mask: int) -> int:
    """A mask of 64 bits as the int64 it is."""
    return mask - 2**BITS if mask >> 63 else mask


SMALLEST = np.array([[1.0, 0.5, 0.3], [0.2, 1.0, -0.7]])


@cache
def _compile() -> None:
    """Compile both searches, or read them from disk, before a clock starts: it takes some 10 s, once per install."""
    for m in (1, 2):  # targets one at a time, and all at once
        if search_height(SMALLEST, m, threads=1)[0].ended == "interrupt":
            raise KeyboardInterrupt


def search_height(
    P: NDArray[np.float64],
    m: int,
    *,
    threads: int | None = None,
    time_limit: float | None = None,
    watch: Callable[[Progress], None] = silent,
    room: int = ROOM,
    symmetry: bool = True,
    start: NDArray[np.float64] | None = None,
) -> tuple[Height, list[int]]:
    """The m-height of one code, with the bases that prove it.

    Args:
        P: (k, r) float64, checked; n = k + r <= 64.
        m: 1 <= m <= r.
        threads: default all cores; they change nothing but the time.
        time_limit: seconds after which the bracket so far is returned.
        watch: told about progress.
        room: bases kept of each part; all of them only matter to a certificate.
        symmetry: of sets that differ by an exchange of equal columns, search one only; a certificate needs them all.
        start: (n,) a codeword to begin with.

    Returns:
        the height, and masks of bases: for every set S and every a outside it, one of them lies in S and has
        |y|_1 <= upper, provided that no part found more than `room`.
    """
    if P is not SMALLEST:
        _compile()
    search = _Search(P, m, room, time_limit, watch)
    if search.begin(start) == np.inf:  # zeros without rounding
        return search.result(np.inf, np.inf, np.inf), []
    parts = search.cut(symmetry)
    search.run(parts, min(thread_count(threads), max(len(parts), 1)))
    if search.infinite:
        return search.result(np.inf, np.inf, np.inf), []
    if search.ended != "finished":
        return search.result(search.best, search.best, max(search.upper, search.best)), []
    upper = max(search.best, search.proven)
    # the codeword's coordinates are rounded from twice the precision, `best` is rounded down on top
    down = np.sort(np.abs(search.found.word))[::-1]
    value = min(max(float(down[0] / down[m]), search.best), upper)
    return search.result(value, search.best, upper), search.bases


class _Outcome(NamedTuple):
    """What the search of one part ended with."""

    ended: int
    height: float
    proven: float
    bases: NDArray[np.int64]
    doubt: NDArray[np.int64]
    counts: NDArray[np.int64]
    found: Codeword


@dataclass(eq=False)
class _Search:
    """A search under way: the bracket so far, and what the threads that search its parts share."""

    P: NDArray[np.float64]
    m: int
    room: int
    time_limit: float | None
    watch: Callable[[Progress], None]
    began: float = field(default_factory=time.monotonic)
    ended: str = "finished"
    infinite: bool = False
    best: float = 1.0
    upper: float = np.inf
    proven: float = 0.0
    bases: list[int] = field(default_factory=list)
    known: list[tuple[int, int]] = field(default_factory=list)
    decided: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        k, r = self.P.shape
        self.G = np.ascontiguousarray(np.hstack([np.eye(k), self.P]))
        self.single = np.int64(1) << np.arange(k + r)
        self.real = bool((np.floor(self.P) != self.P).any())
        self.found = Codeword(np.zeros(k), np.zeros(k), np.empty(k + r))
        self.stop, self.counts = np.zeros(1, np.int64), np.zeros(3, np.int64)
        self.sizes, self.shares = np.empty(0), np.empty((0, 1))
        self.alike = self.single

    def begin(self, start: NDArray[np.float64] | None) -> float:
        """The first codewords; the best height among them."""
        x, rest, word = self.found
        x[0] = 1.0
        if start is not None:
            x[:] = start[: len(x)]
        self.best = float(height_of(self.G, x, rest, self.m, word))
        if self.best < np.inf:
            self.best = float(first_words(self.G, first_masks(self.G, self.m), self.m, self.best, self.found))
        return self.best

    def cut(self, symmetry: bool) -> list[Part]:
        """The parts to search."""
        if symmetry:
            self.alike = exchangeable(self.G)
        parts, self.bases, self.proven = _parts(self.G, self.m, self.tau, self.best)
        self.sizes, self.shares = np.array([part.size for part in parts], float), np.zeros((len(parts), 1))
        return parts

    @property
    def tau(self) -> float:
        return self.best * (1.0 + MARGIN)

    def run(self, parts: list[Part], workers: int) -> None:
        """Relaxed searches where they pay, then the parts, in rounds."""
        k, r = self.P.shape
        alone = workers == 1 and len(parts) == 1 and self.time_limit is None
        waiting = list(range(len(parts)))
        pool = ThreadPoolExecutor(workers)
        try:
            for block in _relaxations(k + r, k, self.m, expected_seconds(k + r, k, self.m, workers)):
                self.upper = min([self.upper, *self._attend([pool.submit(self._relaxed, block)])])
                self._tell()
                if self.ended != "finished":
                    break
            while waiting and self.ended == "finished" and not self.infinite:
                now, waiting = waiting[:ROUND], waiting[ROUND:]
                if alone:
                    outcomes = [self._search_part(now[0], parts[now[0]], self.best)]
                else:
                    outcomes = self._attend([pool.submit(self._search_part, i, parts[i], self.best) for i in now])
                again = [i for i, outcome in zip(now, outcomes, strict=True) if self._take(outcome)]
                waiting = again + waiting
                self.infinite |= self.best > LARGEST_RATIO and self.real
        finally:
            self.stop[0] = 1
            pool.shutdown()

    def _copy(self) -> Codeword:
        return Codeword(*(part.copy() for part in self.found))

    def _relaxed(self, block: NDArray[np.int64]) -> float:
        """An upper bound, by leaving out blocks of coordinates."""
        problem = Problem(self.G, self.m, self.single, block, np.empty((0, 2), np.int64))
        report = Report(self.stop, np.zeros(1), np.empty(1, np.int64), np.zeros(2, np.int64), np.zeros(3, np.int64))
        none, best = np.int64(0), self.best
        ended, _, proven = search_all(problem, self.m, none, none, self.tau, best, report, self._copy())
        return float(proven) if ended == DONE else np.inf

    def _search_part(self, i: int, part: Part, best: float) -> _Outcome:
        known = np.array(self.known, np.int64).reshape(-1, 2)
        problem = Problem(self.G, self.m, self.alike, self.single, known)
        bases, doubt, counts = np.empty(self.room, np.int64), np.zeros(2, np.int64), np.zeros(3, np.int64)
        report, found = Report(self.stop, self.shares[i], bases, doubt, counts), self._copy()
        out, kept, tau = np.int64(_signed(part.out)), np.int64(_signed(part.kept)), best * (1.0 + MARGIN)
        if part.a >= 0:
            ended, height, proven = search_target(problem, part.a, out, kept, tau, best, report, found)
            self.shares[i] = 1.0
        else:
            left = self.m - part.out.bit_count()
            ended, height, proven = search_all(problem, left, out, kept, tau, best, report, found)
        bases = bases[: min(int(counts[2]), self.room)]
        return _Outcome(ended, float(height), float(proven), bases, doubt, counts, found)

    def _attend(self, futures: list[Future[Any]]) -> list[Any]:
        """Their results, once they are done, or told to stop."""
        running = set(futures)
        while running:
            try:
                _, running = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
                self._tell()
                spent = time.monotonic() - self.began
                if self.time_limit is not None and spent > self.time_limit and not self.stop[0]:
                    self.stop[0], self.ended = 1, "time limit"
            except KeyboardInterrupt:
                self.stop[0], self.ended = 1, "interrupt"
        return [future.result() for future in futures]

    def _tell(self) -> None:
        share = float((self.shares[:, 0] * self.sizes).sum() / max(self.sizes.sum(), 1.0))
        spent = time.monotonic() - self.began
        remaining = spent * (1.0 - share) / share if share > 0.0 else np.inf
        self.watch(Progress(share, self.best, self.upper, spent, remaining))

    def _take(self, outcome: _Outcome) -> bool:
        """Add what a part has found; whether it must be searched again, an (S, a) having been in doubt."""
        if self.infinite:
            return False
        self.counts += outcome.counts
        self.bases.extend(outcome.bases.tolist())
        if outcome.height > self.best:
            self.best, self.found = outcome.height, outcome.found
        if outcome.ended == DONE:
            self.proven = max(self.proven, outcome.proven)
        elif outcome.ended == DOUBTFUL:
            self._decide(int(outcome.doubt[0]) & (2**BITS - 1), int(outcome.doubt[1]))
        return outcome.ended == DOUBTFUL

    def _decide(self, out: int, a: int) -> None:
        """The (S, a) that leaves out `out` and a, in fractions."""
        if (out, a) in self.decided:
            return
        self.decided.add((out, a))
        S = [j for j in range(self.G.shape[1]) if j != a and not out >> j & 1]
        F = rationals.rational_matrix(self.P)
        z, basis, y, u = rationals.best_of_set(F, S, a)
        if z is None or (z > LARGEST_RATIO and self.real):
            self.infinite = True
            self.found.word[:] = [float(value) for value in rationals.codeword(F, u)]
            return
        support = sum(1 << j for j, value in zip(basis, y, strict=True) if value)
        self.known.append((_signed(support), a))
        self.bases.append(support)
        self.proven = max(self.proven, nextafter(float(z), np.inf))
        if z > self.best:
            x, rest, word = self.found
            self.best = nextafter(float(z), 0.0)
            x[:] = [float(value) for value in u]
            rest[:] = [float(value - Fraction(v)) for value, v in zip(u, x.tolist(), strict=True)]
            height_of(self.G, x, rest, self.m, word)

    def result(self, value: float, lower: float, upper: float) -> Height:
        k, r = self.P.shape
        c = self.found.word
        order = np.argsort(-np.abs(c), kind="stable")
        return Height(
            k + r, k, self.m, value, lower, upper, c / np.abs(c).max(), tuple(int(j) for j in order[: self.m]),
            "search", self.ended, time.monotonic() - self.began, int(self.counts[0]), int(self.counts[1]),
        )  # fmt: skip
