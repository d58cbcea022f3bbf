"""Certified heights of codes too long to enumerate, by branch and bound over all cores; anytime.

The search (`hitting_set`) is cut into parts (R, K), a part being the sets that leave out R and keep K. Parts are
searched in rounds that start from the best codeword of the rounds before. Neither the parts nor the rounds depend on
the number of threads, and so the result does not. Where float64 is in doubt, `rationals` decides. For m = r the parts
are those of a walk over circuits (`basis_walk`); elsewhere a covering leaves few sets to search, where it pays
(`covered_search`); else long searches come after relaxed ones (`relaxations`), which are fast, and an upper bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from math import comb, nextafter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codes.automorphism_groups import Group, group_of, none_of
from ..codes.automorphisms import TRIED, automorphisms, exchangeable
from ..codes.minors import LARGEST_RATIO
from ..numerics import rationals
from ..numerics.bitsets import BITS
from ..numerics.certified import Codeword, height_of
from ..numerics.jit import thread_count
from ..numerics.rounding import ROUNDING
from .all_targets import search_all
from .basis_walk import CircuitSearch, WalkPart, walk_parts
from .cost_model import tree_seconds
from .covered_search import KeptPart, covered_parts, search_kept
from .first_words import first_masks, first_words
from .hitting_set import DONE, DOUBTFUL, MARGIN, Problem, Report, search_target
from .parts import SMALL, Part, parts, signed
from .relaxations import relaxations, relaxed_bound
from .result import EXACTLY, Height, Progress, Thresholds, silent
from .start_table import start_of

ROUND = 16
"""How many parts make a round."""

SHALLOW, FEW = 8, 1000
"""Up to this m, with no more sets than this at worst, a search is over before automorphisms are found."""

SYMMETRIC = 4
"""With more automorphisms than this a tree is taken instead of a covering, which makes nothing of them."""

SLACK = 4e-10
"""What rounding of automorphisms may add to a bracket, relatively; beyond, the search goes without them."""

TIGHT = 1e-9
"""A finished bracket is no wider than this, relatively."""

ROOM = 4096
"""Bases kept of a part where nobody asks for all."""

WALKED = True
"""Whether h_r comes from a walk over all bases (`basis_walk`), where nobody asks for those that prove it."""


AnyPart = Part | WalkPart | KeptPart


SMALLEST = np.array([[1.0, 0.5, 0.3], [0.2, 1.0, -0.7]])


@cache
def _compile(levels: tuple[int, ...] = (1, 2)) -> None:
    """Compile what takes these m of the smallest code, or read it from disk, before a clock starts.

    1 and 2: both searches, targets one at a time, and all at once; some 10 s, once per install. 3: the walk.
    """
    for m in levels:
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
    group: Group | None = None,
    start: NDArray[np.float64] | None = None,
    limits: Thresholds = EXACTLY,
    stop: NDArray[np.int64] | None = None,
) -> tuple[Height, list[int]]:
    """The m-height of one code, with the bases that prove it.

    Args:
        P: (k, r) float64, checked; n = k + r <= 64.
        m: 1 <= m <= r.
        threads: default all cores; they change nothing but the time.
        time_limit: seconds after which the bracket so far is returned.
        watch: told about progress.
        room: bases kept of each part; all of them only matter to a certificate.
        symmetry: of sets that differ by an exchange of equal columns, or by an automorphism, search one only.
        group: automorphisms to use in any case.
        start: (n,) a codeword to begin with.
        limits: what is enough to know.
        stop: (1,), ends the search like Ctrl-C when somebody makes it 1.

    Returns:
        the height, and masks of bases: for every set S and every a outside it, one of them or of their images under
        `group` lies in S and has |y|_1 <= upper, provided that no part found more than `room`. With symmetry the images
        under exchanges of equal columns, and all automorphisms, count too.
    """
    walked = WALKED and m == P.shape[1] and room == ROOM
    if P is not SMALLEST:
        _compile((3,) if walked else (1, 2))
    search = _Search(P, m, room, time_limit, watch, limits, np.zeros(1, np.int64) if stop is None else stop)
    if search.begin(start) == np.inf:  # zeros without rounding
        return search.result(np.inf, np.inf, np.inf), []
    if search.ended == "finished":
        search.use(symmetry and not walked, group)
        some = search.walk() if walked else search.cover(thread_count(threads)) if room == ROOM else None
        search.run(search.cut() if some is None else some, thread_count(threads))
        search.sharpen(thread_count(threads))
    if search.infinite:
        return search.result(np.inf, np.inf, np.inf), []
    if search.ended != "finished":
        upper = max(search.upper, search.best)
        return search.result(upper if search.ended == "below" else search.best, search.best, upper), []
    upper = search.proven_for_all
    if search.best * (1.0 + MARGIN) < search.proven and upper <= limits.below:
        search.ended = "below"
        return search.result(upper, search.best, upper), search.bases
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
    limits: Thresholds
    outer_stop: NDArray[np.int64]
    began: float = field(default_factory=time.monotonic)
    ended: str = "finished"
    infinite: bool = False
    covered: bool = False
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
        self.alike, self.group = self.single, none_of(k + r)

    def begin(self, start: NDArray[np.float64] | None) -> float:
        """The first codewords; the best height among them."""
        x, rest, word = self.found
        x[0] = 1.0
        if start is not None:
            x[:] = start[: len(x)]
        self.best = float(height_of(self.G, x, rest, self.m, word))
        if self.best < np.inf:
            self.best = float(first_words(self.G, first_masks(self.G, self.m), self.m, self.best, self.found))
        self._heed_limits()
        return self.best

    def _heed_limits(self) -> None:
        """End where a threshold is passed for certain."""
        if self.ended == "finished" and self.best > self.limits.above:
            self.ended = "above"
        elif self.ended == "finished" and self.upper <= self.limits.below:
            self.ended = "below"

    def use(self, symmetry: bool, group: Group | None) -> None:
        """Leave out what is an image of something else, under these automorphisms or those to be found."""
        if symmetry:
            self.alike = exchangeable(self.G)
        sets = comb(len(self.P) + self.m - 1, self.m)
        if symmetry and group is None and (self.m > SHALLOW or sets > FEW):
            error = SLACK / (1.0 + max(self.best, self.limits.below))
            group = group_of(self.G, automorphisms(self.G, min(TRIED, 100 + sets // 20)), error)
            group = group if group.error <= error else None
        if group is not None:
            self.group = group

    def cut(self) -> Sequence[AnyPart]:
        """The parts to search."""
        cut, self.bases, self.proven = parts(self.G, self.m, self.tau, self.best, self.group.perms)
        return self._sized(cut)

    def walk(self) -> Sequence[AnyPart]:
        """The parts to walk where m = r."""
        self.start = start_of(self.G)
        return self._sized(walk_parts(*self.P.shape))

    def cover(self, workers: int) -> Sequence[AnyPart] | None:
        """The parts that a covering leaves, with an upper bound on the way; None where it does not pay."""
        if len(self.group.perms) > SYMMETRIC:
            return None
        pool = ThreadPoolExecutor(workers)
        try:
            left = covered_parts(self, lambda work, over: self._attend([pool.submit(work, one) for one in over]))
        finally:
            pool.shutdown()
        self.covered = left is not None
        self._heed_limits()
        return None if left is None else self._sized(left)

    def bounded(self, upper: float) -> None:
        """An upper bound has been proven."""
        self.upper = min(self.upper, upper)
        self._tell()

    def _sized(self, some: Sequence[AnyPart]) -> Sequence[AnyPart]:
        self.sizes, self.shares = np.array([part.size for part in some], float), np.zeros((len(some), 1))
        return some

    @property
    def proven_for_all(self) -> float:
        """What bounds the images of the sets that were searched, too.

        Take a codeword c of height h with |c|_(m) = 1, its m largest coordinates in an image of a set A that was
        searched, so no coordinate above h. Some codeword is within h * error of what brings that image back to A:
        h (1 - error) <= proven (1 + h * error).
        """
        proven, error = max(self.best, self.proven), self.group.error
        return proven if error == 0.0 else proven / (1.0 - error * (1.0 + proven)) * (1.0 + 4.0 * ROUNDING)

    def sharpen(self, workers: int) -> None:
        """Search again without automorphisms whose rounding makes the bracket wider than it should be."""
        error = self.group.error * (1.0 + max(self.best, self.proven))
        if self.ended == "finished" and not self.infinite and error > SLACK:
            self.group = none_of(len(self.single))
            self.run(self.cut(), workers)

    @property
    def tau(self) -> float:
        return self._tau(self.best)

    def _tau(self, best: float) -> float:
        """What is not searched for: heights not above `best`, or below the threshold by what automorphisms are off."""
        below = self.limits.below if self.group.error == 0.0 else self.limits.below * (1.0 - 2.0 * SLACK)
        return max(best * (1.0 + MARGIN), below)

    def run(self, some: Sequence[AnyPart], workers: int) -> None:
        """Relaxed searches where they pay, then the parts, in rounds."""
        k, r = self.P.shape
        workers = min(workers, max(len(some), 1))
        alone = workers == 1 and self.time_limit is None and self.sizes.sum() <= SMALL
        waiting = list(range(len(some)))
        self.stop[0] = 0
        pool = ThreadPoolExecutor(workers)
        try:
            gain = max(1.0, len(self.group.perms) / 2)
            seconds = 0.0 if self.covered else tree_seconds(k + r, k, self.m) / workers
            for block in relaxations(k + r, k, self.m, seconds, gain):
                upper = self._attend([pool.submit(relaxed_bound, self.G, self.m, block, self.best, self.stop)])[0]
                self.bounded(upper)
                self._heed_limits()
                if self.ended != "finished":
                    break
            while waiting and self.ended == "finished" and not self.infinite:
                if isinstance(part := some[waiting[0]], KeptPart):  # those after it are bounded by less
                    self.bounded(max(self.tau, part.pairs[0].bound))
                now, waiting = waiting[:ROUND], waiting[ROUND:]
                if alone:
                    best = self.best
                    outcomes = [self._search_part(i, some[i], best) for i in now]
                else:
                    outcomes = self._attend([pool.submit(self._search_part, i, some[i], self.best) for i in now])
                again = [i for i, outcome in zip(now, outcomes, strict=True) if self._take(outcome)]
                waiting = again + waiting
                self._heed_limits()
                self.infinite |= self.best > LARGEST_RATIO and self.real
        finally:
            self.stop[0] = 1
            pool.shutdown()

    def _copy(self) -> Codeword:
        return Codeword(*(part.copy() for part in self.found))

    def _search_part(self, i: int, part: AnyPart, best: float) -> _Outcome:
        known, none = np.array(self.known, np.int64).reshape(-1, 2), np.empty(0, np.int64)
        bases, doubt, counts = np.empty(self.room, np.int64), np.zeros(2, np.int64), np.zeros(3, np.int64)
        report, found, tau = Report(self.stop, self.shares[i], bases, doubt, counts), self._copy(), self._tau(best)
        if isinstance(part, WalkPart):
            walked = CircuitSearch(self.G, self.start, best, report, found)
            ended = walked.run(part, self.known)
            bases = bases[: min(int(counts[2]), self.room)]
            return _Outcome(ended, walked.best, walked.proven, bases, doubt, counts, found)
        perms, enough = self.group.perms, self.limits.above
        problem = Problem(self.G, self.m, self.alike, self.single, known, enough, perms, none)
        if isinstance(part, KeptPart):
            problem = problem._replace(alike=self.single, perms=none_of(len(self.single)).perms)
            return _Outcome(*search_kept(problem, part, best, report, found), none, doubt, counts, found)
        problem = problem._replace(done=np.array([signed(X) for X in part.done], np.int64))
        out, kept = np.int64(signed(part.out)), np.int64(signed(part.kept))
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
                if self.outer_stop[0]:
                    self.stop[0], self.ended = 1, "interrupt"
                elif any(future.done() and self._is_enough(future.result()) for future in futures):
                    self.stop[0] = 1
            except KeyboardInterrupt:
                self.stop[0], self.ended = 1, "interrupt"
        return [future.result() for future in futures]

    def _is_enough(self, result: Any) -> bool:
        return isinstance(result, _Outcome) and result.height > self.limits.above

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
        self.known.append((signed(support), a))
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
