"""Certified heights of codes too long to enumerate, by the pruned search over all cores; anytime.

The search (`hitting`) is cut into parts (R, K), a part being the sets that leave out R and keep K. Parts are searched
in rounds that start from the best codeword of the rounds before. Neither the parts nor the rounds depend on the number
of threads, and so the result does not. Where float64 is in doubt, `rationals` decides. Before long searches come
relaxed ones, which leave out pairs of coordinates at a time: fast, and an upper bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from fractions import Fraction
from functools import cache
from heapq import heappop, heappush
from math import comb, nextafter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codes.minors import LARGEST_RATIO
from ..numerics import rationals
from ..numerics.bitsets import BITS, lowest_bit
from ..numerics.jit import compiled, thread_count
from ..numerics.swaps import first_promises
from .all_targets import common_basis, search_all
from .hitting_set import DONE, DOUBTFUL, MARGIN, best_without, largest_height, search_target
from .result import Height, Progress, expected_seconds, silent
from .simplex_tableau import first_table, height_of

PARTS, ROUND = 64, 16
"""How many parts a search is cut into, and how many of them make a round."""

SMALL = 20_000
"""With no more sets than this at worst the search is a single part, a matter of milliseconds."""

RELAXED = 2.0
"""Seconds of a search from which on quick upper bounds are worth having."""

PROMISES = 64
"""Sets of large least-squares norm that the first codewords come from."""

ALONE = 0.25
"""Share of the targets that the first basis may fail to bound before each target is searched by itself."""

TIGHT = 1e-9
"""A finished bracket is no wider than this, relatively."""

ROOM = 4096
"""Bases kept of a part where nobody asks for all."""


@compiled
def first_words(G, masks, m, best, x, rest, word):  # type: ignore[no-untyped-def]
    """The best codeword among those of the sets that leave out these masks, from `best` on."""
    k, n = G.shape
    D, basis, row_of = np.empty((k, n + 1)), np.empty(k, np.int64), np.empty(n, np.int64)
    space = np.empty((7, n + 1))
    told = largest_height(G)
    for mask in masks:
        left = mask
        while left:
            a = lowest_bit(left)
            left &= left - 1
            first_table(G, a, D, basis, row_of)
            tau = best * (1.0 + MARGIN)
            out = mask ^ np.int64(1) << a
            _, bound, best = best_without(G, D, basis, row_of, out, a, m, best, tau, True, told, space, x, rest, word)
            if bound < 0.0:
                return best
    return best


@compiled
def branching(G, out, tau, best):  # type: ignore[no-untyped-def]
    """A basis that bounds all targets in `out`, those it does not bound, its largest bound; inf where there is none."""
    k, n = G.shape
    D, basis, row_of = np.empty((k, n + 1)), np.empty(k, np.int64), np.empty(n, np.int64)
    first_table(G, 0, D, basis, row_of)
    mask, bad, bound, hard = common_basis(G, D, basis, row_of, out, out, tau, best, np.empty((7, n + 1)), False)
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
    """Sets to leave out for the first codewords, as masks: the ends of climbs, in order of the norm they reached."""
    n = G.shape[1]
    Q = np.linalg.qr((G / np.linalg.norm(G, axis=1, keepdims=True)).T)[0]
    pool, worth = np.zeros(PROMISES, np.int64), np.zeros(PROMISES)
    first_promises(Q @ Q.T, m, 2 * n, 1.0, np.empty((n, n)), pool, worth)
    order = np.lexsort((pool, -worth))
    return pool[order][pool[order] != 0]


def members(mask: int, n: int) -> list[int]:
    """The coordinates of a mask."""
    return [j for j in range(n) if mask >> j & 1]


def _parts(G: NDArray[np.float64], m: int, tau: float, best: float) -> tuple[list[Any], list[int], float]:
    """Parts (size, R, K, -1), largest first; the bases that cut them; the largest bound those prove.

    Or (1, 0, 0, a) for each target a, where one basis hardly ever bounds many of them: codes of low height.
    """
    k, n = G.shape
    _, bad, bound = branching(G, np.int64(0), tau, best)
    if not bound < np.inf or int(bad & (2**BITS - 1)).bit_count() > ALONE * (n - k):
        return [(1, 0, 0, a) for a in range(n)], [], 0.0
    parts: list[Any] = []
    whole, bases, proven = [(-comb(k + m - 1, m - 1) * m, 0, 0)], [], 0.0
    while whole and len(whole) + len(parts) < PARTS and -whole[0][0] > SMALL // 8:
        size, out, kept = heappop(whole)
        left = m - int(out).bit_count()
        mask, bad, bound = branching(G, np.int64(_signed(out)), tau, best) if left > 2 else (0, 0, np.inf)
        if not bound <= tau:
            parts.append((size, out, kept))
            continue
        bases.append(int(mask))
        proven = max(proven, bound)
        free = members((int(mask) | int(bad)) & ~kept & (2**BITS - 1), n)
        for i, b in enumerate(free):
            leaves = comb(len(free) - i + left - 2, left - 1)
            heappush(whole, (-leaves, out | 1 << b, kept | sum(1 << j for j in free[:i])))
    parts = sorted(parts + whole)
    return [(-size, out, kept, -1) for size, out, kept in parts], bases, proven


def _signed(mask: int) -> int:
    """A mask of 64 bits as the int64 it is."""
    return mask - 2**BITS if mask >> 63 else mask


SMALLEST = np.array([[1.0, 0.5, 0.3], [0.2, 1.0, -0.7]])


@cache
def _compile() -> None:
    """Compile both searches, or read them from disk, before a clock starts: it takes some 20 s, once per install."""
    for m in (1, 2):  # targets one at a time, and all at once
        if pruned_search(SMALLEST, m, threads=1)[0].ended == "interrupt":
            raise KeyboardInterrupt


def pruned_search(
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
        symmetry: of sets that differ by an exchange of equal columns, look at one only; a certificate needs them all.
        start: (n,) a codeword to begin with.

    Returns:
        the height, and masks of bases: for every set S and every a outside it, one of them lies in S and has
        |y|_1 <= upper, provided that no part found more than `room`.
    """
    if P is not SMALLEST:
        _compile()
    began = time.monotonic()
    k, r = P.shape
    n = k + r
    G = np.ascontiguousarray(np.hstack([np.eye(k), P]))
    x, rest, word = np.zeros(k), np.zeros(k), np.empty(n)
    x[0] = 1.0
    if start is not None:
        x[:] = start[:k]
    best = float(height_of(G, x, rest, m, word))
    if best == np.inf:  # zeros without rounding
        return _finish(P, m, np.inf, np.inf, np.inf, word, "finished", began, np.zeros(3, np.int64)), []
    best = float(first_words(G, first_masks(G, m), m, best, x, rest, word))
    single = np.int64(1) << np.arange(n)
    alike = exchangeable(G) if symmetry else single
    stop, counts = np.zeros(1, np.int64), np.zeros(3, np.int64)
    parts, bases, proven = _parts(G, m, best * (1.0 + MARGIN), best)
    shares = np.zeros((len(parts), 1))
    sizes = np.array([size for size, *_ in parts], float)
    known: list[tuple[int, int]] = []
    exact: set[tuple[int, int]] = set()
    ended, upper, real = "finished", np.inf, bool((np.floor(P) != P).any())

    def relaxed(block: NDArray[np.int64]) -> float:
        found, own, doubt = np.empty(1, np.int64), np.zeros(3, np.int64), np.zeros(2, np.int64)
        code, _, most = search_all(
            G, m, block, single, m, np.int64(0), np.int64(0), best * (1.0 + MARGIN), best,
            np.empty((0, 2), np.int64), stop, np.zeros(1), found, doubt, own, x.copy(), rest.copy(), word.copy(),
        )  # fmt: skip
        return float(most) if code == DONE else np.inf

    def task(part: int, best: float) -> tuple[Any, ...]:
        _, out, kept, a = parts[part]
        found, own, doubt = np.empty(room, np.int64), np.zeros(3, np.int64), np.zeros(2, np.int64)
        words = x.copy(), rest.copy(), word.copy()
        seen = np.array(known, np.int64).reshape(-1, 2)
        if a >= 0:
            code, height, most = search_target(
                G, a, m, alike, np.int64(0), np.int64(0), best * (1.0 + MARGIN), best, seen, stop, found, doubt, own,
                *words,
            )  # fmt: skip
            shares[part] = 1.0
        else:
            code, height, most = search_all(
                G, m, single, alike, m - int(out).bit_count(), np.int64(_signed(out)), np.int64(_signed(kept)),
                best * (1.0 + MARGIN), best, seen, stop, shares[part], found, doubt, own, *words,
            )  # fmt: skip
        return code, float(height), float(most), found[: min(int(own[2]), room)], doubt, own, words

    def report() -> None:
        share = float((shares[:, 0] * sizes).sum() / max(sizes.sum(), 1.0))
        spent = time.monotonic() - began
        watch(Progress(share, best, upper, spent, spent * (1.0 - share) / share if share > 0.0 else np.inf))

    def infinite(c: NDArray[np.float64]) -> tuple[Height, list[int]]:
        return _finish(P, m, np.inf, np.inf, np.inf, c, ended, began, counts), []

    def attend(futures: list[Future[Any]]) -> list[Any]:
        """Their results, once they are done, or told to stop."""
        nonlocal ended
        running = set(futures)
        while running:
            try:
                _, running = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
                report()
                if time_limit is not None and time.monotonic() - began > time_limit and not stop[0]:
                    stop[0], ended = 1, "time limit"
            except KeyboardInterrupt:
                stop[0], ended = 1, "interrupt"
        return [future.result() for future in futures]

    waiting = list(range(len(parts)))
    workers = min(thread_count(threads), max(len(parts), 1))
    pool = ThreadPoolExecutor(workers)
    try:
        for block in _relaxations(n, k, m, expected_seconds(n, k, m, workers)):
            upper = min([upper, *attend([pool.submit(relaxed, block)])])
            report()
            if ended != "finished":
                break
        while waiting and ended == "finished":
            now, waiting = waiting[:ROUND], waiting[ROUND:]
            if workers == 1 and len(parts) == 1 and time_limit is None:
                results = [task(now[0], best)]
            else:
                results = attend([pool.submit(task, part, best) for part in now])
            again = []
            for part, (code, height, most, found, doubt, own, words) in zip(now, results, strict=True):
                counts += own
                bases.extend(found.tolist())
                if height > best:
                    best, (x, rest, word) = height, words
                if code == DONE:
                    proven = max(proven, most)
                elif code == DOUBTFUL:
                    again.append(part)
                    out, a = int(doubt[0]) & (2**BITS - 1), int(doubt[1])
                    if (out, a) in exact:
                        continue
                    S = [j for j in range(n) if j != a and not out >> j & 1]
                    F = rationals.rational_matrix(P)
                    z, basis, y, u = rationals.best_of_set(F, S, a)
                    exact.add((out, a))
                    c = np.array([float(v) for v in rationals.codeword(F, u)])
                    if z is None or (z > LARGEST_RATIO and real):
                        return infinite(c)
                    support = sum(1 << j for j, value in zip(basis, y, strict=True) if value)
                    known.append((_signed(support), a))
                    bases.append(support)
                    proven = max(proven, nextafter(float(z), np.inf))
                    if z > best:
                        best = nextafter(float(z), 0.0)
                        x = np.array([float(value) for value in u])
                        rest = np.array([float(value - Fraction(v)) for value, v in zip(u, x, strict=True)])
                        height_of(G, x, rest, m, word)
            waiting = again + waiting
            if best > LARGEST_RATIO and real:
                return infinite(word)
    finally:
        stop[0] = 1
        pool.shutdown()
    if ended != "finished":
        return _finish(P, m, best, best, max(upper, best), word, ended, began, counts), []
    upper = max(best, proven)
    # the codeword's coordinates are rounded from twice the precision, `best` is rounded down on top
    down = np.sort(np.abs(word))[::-1]
    value = min(max(float(down[0] / down[m]), best), upper)
    return _finish(P, m, value, best, upper, word, ended, began, counts), bases


def _finish(
    P: NDArray[np.float64], m: int, value: float, lower: float, upper: float, c: NDArray[np.float64], ended: str,
    began: float, counts: NDArray[np.int64],
) -> Height:  # fmt: skip
    k, r = P.shape
    order = np.argsort(-np.abs(c), kind="stable")
    return Height(
        k + r, k, m, value, lower, upper, c / np.abs(c).max(), tuple(int(j) for j in order[:m]), "search", ended,
        time.monotonic() - began, int(counts[0]), int(counts[1]),
    )  # fmt: skip
