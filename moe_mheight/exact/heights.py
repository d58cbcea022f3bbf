"""The entrance to exact heights: enumeration of bases for short codes, branch and bound for long ones.

Which is quicker is told by `cost_model`. `bases` goes up to n = 20; `branch_and_bound` up to n = 64 while the search
fits: its work grows with C(k + m - 1, m), hardly with n (see `cost_model.expected_seconds`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arguments import real
from ..codes.forms import as_P, in_given_order
from ..codes.linear import check_m, check_P, like_input
from ..codes.minors import MAX_N
from ..errors import CodeError, brief
from ..numerics.bitsets import BITS
from ..numerics.jit import thread_count
from . import bases, cost_model
from .branch_and_bound import SMALLEST, search_height
from .choice import check_method, choose
from .cost_model import expected_seconds
from .given import codes_beyond_float64, in_float64, whole_profiles
from .result import Height, Progress, Thresholds, silent
from .single_height import LONGEST, ask, basis_tables, heights_by_bases

LONG, ANNOUNCED = 60.0, 5.0
"""Seconds beyond which a search is announced by a warning, and by the command line."""


def in_words(seconds: float) -> str:
    """A time for people: "about 20 s", "about 3 h", "years"."""
    for unit, size, limit in (
        ("s", 1.0, 120.0),
        ("min", 60.0, 7200.0),
        ("h", 3600.0, 172800.0),
        ("days", 86400.0, 6e7),
    ):
        if seconds < limit:
            return f"about {max(seconds / size, 1.0):.0f} {unit}"
    return "years"


def _announce(n: int, k: int, m: int, threads: int | None) -> None:
    expected = expected_seconds(n, k, m, threads)
    if expected > LONG:
        warnings.warn(
            f"h_{m} of a code of length {n} and dimension {k} takes {in_words(expected)} on {thread_count(threads)} "
            "threads, by a guess; time_limit= ends it with the bracket so far",
            stacklevel=3,
        )


@cache
def _compile() -> None:
    """Compile what one code takes, or read it from disk, before a clock starts; `search_height` does so itself."""
    bases.by_bases(SMALLEST, 1)


@overload
def m_height(
    P: ArrayLike,
    m: Any,
    *,
    method: str = "auto",
    matrix: str | None = None,
    details: Literal[True],
    time_limit: float | None = None,
    threads: int | None = None,
    watch: Callable[[Progress], None] = silent,
    above: ArrayLike | None = None,
    below: ArrayLike | None = None,
) -> Height | Any: ...  # Any stands for the list that a batch gives


@overload
def m_height(
    P: ArrayLike,
    m: Any,
    *,
    method: str = "auto",
    matrix: str | None = None,
    details: bool = False,
    time_limit: float | None = None,
    threads: int | None = None,
    watch: Callable[[Progress], None] = silent,
    above: ArrayLike | None = None,
    below: ArrayLike | None = None,
) -> Any: ...


def m_height(
    P: ArrayLike,
    m: Any,
    *,
    method: str = "auto",
    matrix: str | None = None,
    details: bool = False,
    time_limit: float | None = None,
    threads: int | None = None,
    watch: Callable[[Progress], None] = silent,
    above: ArrayLike | None = None,
    below: ArrayLike | None = None,
) -> Any:
    """Exact m-height of codes [I | P].

    Args:
        P: (k, r) or (B, k, r), n = k + r <= 64. Integers and Fractions are taken as they are; those that float64 would
            round need n <= 16.
        m: int, or (B,) ints, 1 <= m <= r.
        method: "bases" (enumeration, n <= 20), "search" (branch and bound), or "auto", what `cost_model` expects to be
            quicker, compiling on first use included.
        matrix: what P is: "P", or "G", a generator (k, n) in any basis, or "H", a parity check (r, n); n <= 64. Where
            bases are enumerated, a G or H of integers or fractions is made systematic exactly, else to rounding. None:
            "P", with a warning where it looks like another one.
        details: return a `Height`, which also holds the method, a certified bracket and a codeword that attains it.
        time_limit: seconds for each code, > 0; implies details. When it is over the bracket so far is returned:
            `lower` is what the best codeword found attains; `upper` comes from a covering, or from relaxed searches,
            which leave out pairs of coordinates, and is inf before the first of these has ended.
        threads: default all cores. They change nothing but the time.
        watch: called with a `Progress` some times a second by a long search.
        above: a threshold, or (B,): stop as soon as a codeword proves h_m > above. The value is then what some codeword
            attains, more than `above`.
        below: a threshold, or (B,): stop as soon as h_m <= below is proven. The value is then a bound that is proven,
            no more than `below`. Where a height does not pass its threshold the value is the height.

    Returns:
        A float, or (B,) float64; inf exactly when m >= d, the minimum distance. With details or a time limit a
        `Height`, or a list of them; its `ended` says which threshold has ended it, if one has. Ctrl-C ends a search
        with details like a time limit, and raises otherwise.

        Precision: see `height_profile`.

    Raises:
        CodeError: P, m, method, time_limit or a threshold is out of range.

    Source: arXiv:2602.20366, Theorem 8; the search is described in `hitting_set`.

    Example:
        >>> from moe_mheight import m_height
        >>> m_height([[1, 1], [1, 2]], 2)
        3.0
        >>> found = m_height([[1, 1], [1, 2]], 2, method="search", details=True)
        >>> found.value, found.method, found.finished
        (3.0, 'search', True)
        >>> found = m_height([[1, 1], [1, 2]], 2, above=2.5, details=True)
        >>> found.lower > 2.5, found.ended
        (True, 'above')
    """
    plain = above is None and below is None and time_limit is None and matrix is None and not details
    if plain and method == "auto" and (threads is None or thread_count(threads)):
        row = _at_once(P, m, m)
        if row is not None:
            return float(row[m])
    details = details or time_limit is not None
    if time_limit is not None:
        time_limit = real("time_limit", time_limit, 0.0, np.inf)
    P, order = as_P(P, matrix, rounded=in_float64(P, matrix, method))
    check_method(method)
    thread_count(threads)
    if codes := codes_beyond_float64(P, method):
        levels, single = check_m(m, len(codes), len(codes[0][0])), np.ndim(P) == 2
        _thresholds(above, below, len(codes))  # checked only: the heights themselves are as quick
        values = whole_profiles(codes)[np.arange(len(codes)), levels]
        if not details:
            return like_input(values, single)
        exactly = [bases.by_integers(*each) for each in zip(codes, levels.tolist(), values.tolist(), strict=True)]
        return _as_given(exactly, order, single)
    batch, single = check_P(P, max_n=BITS)
    levels = check_m(m, len(batch), batch.shape[2])
    limits = _thresholds(above, below, len(batch))
    if time_limit is None:
        for level in np.unique(levels):
            _announce(sum(batch.shape[1:]), batch.shape[1], int(level), threads)
    if not details:
        return like_input(_values(batch, levels, limits, method, threads, watch), single)
    run = _Run(method, threads, time_limit, watch, single)
    return _as_given(_details(batch, levels, limits, run), order, single)


class _Run(NamedTuple):
    """How heights are worked out; may_end: Ctrl-C ends a search with what it has, and is not raised."""

    method: str
    threads: int | None
    time_limit: float | None
    watch: Callable[[Progress], None]
    may_end: bool


def _thresholds(above: Any, below: Any, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both, (count,) each."""
    given = []
    for name, value, none in (("above", above, np.inf), ("below", below, 0.0)):
        try:
            limit = np.asarray(none if value is None else value, np.float64)
        except (TypeError, ValueError) as error:
            raise CodeError(f"{name} must be a number, or one per code, got {brief(value)}") from error
        if limit.ndim > 1 or (limit.ndim == 1 and len(limit) != count) or np.isnan(limit).any():
            raise CodeError(f"{name} must be a number, or one per code ({count}), got {brief(value)}")
        given.append(np.broadcast_to(limit, (count,)))
    return given[0], given[1]


def _at_once(P: Any, lowest: Any, highest: Any) -> NDArray[np.float64] | None:
    """Heights of one short code in float64, if nothing about it asks for more care: a call of some 10 us."""
    if type(P) is not np.ndarray or P.ndim != 2 or P.dtype != np.float64 or type(highest) is not int:
        return None
    k, r = P.shape
    if not (k and 1 <= lowest <= highest <= r and _is_quick(k, r, lowest, highest)):
        return None
    if P[0, 0] == 1.0 or P[max(k - r, 0), max(r - k, 0)] == 1.0:  # a 1 that may begin an identity deserves a remark
        return None
    tables, limit = basis_tables(k + r, k)
    out = np.empty((1, r + 4))
    heights_by_bases(P.reshape(1, k * r), _question(lowest, highest), limit, tables, out)
    return out[0] if out[0, r + 1] == 1.0 else None


@cache
def _is_quick(k: int, r: int, lowest: int, highest: int) -> bool:
    """Whether one code is enumerated, and its P not so tall that it deserves a remark."""
    if lowest < highest:
        return k + r <= MAX_N and k <= max(8, 4 * r)
    m = lowest
    return k + r <= LONGEST and k <= max(8, 4 * r) and cost_model.quickest(k + r, k, m) == "bases"


@cache
def _question(lowest: int, highest: int) -> NDArray[np.float64]:
    return ask(1, lowest, highest)


def _values(batch: Any, levels: Any, limits: Any, method: str, threads: Any, watch: Any) -> NDArray[np.float64]:
    """Heights (B,), or what the thresholds let be told of them."""
    count, k, r = batch.shape
    out = np.empty(count)
    searched = np.zeros(count, np.bool_)
    for level in np.unique(levels):
        rows = levels == level
        searched[rows] = choose(k + r, k, int(level), int(rows.sum()), method) == "search"
    rows = ~searched
    if rows.any():
        out[rows] = bases.heights(batch[rows], levels[rows], limits[0][rows], limits[1][rows], threads)
    if searched.any():
        rest = (limits[0][searched], limits[1][searched])
        run = _Run("search", threads, None, watch, False)
        out[searched] = [found.value for found in _details(batch[searched], levels[searched], rest, run)]
    return out


def _details(batch: Any, levels: Any, limits: Any, run: _Run) -> list[Height]:
    """A `Height` of each code. Many searches go side by side, one thread each, where one alone has time for all."""
    count, k, r = batch.shape
    n = k + r
    threads = thread_count(run.threads)
    way = {m: choose(n, k, m, int((levels == m).sum()), run.method) for m in set(levels.tolist())}
    if "bases" in way.values():
        _compile()
    stop = np.zeros(1, np.int64)

    def one(i: int, own: int) -> Height:
        m, thresholds = int(levels[i]), Thresholds(float(limits[0][i]), float(limits[1][i]))
        if way[m] == "bases":
            return bases.by_bases(batch[i], m, thresholds, own)
        settings: dict[str, Any] = {"threads": own, "time_limit": run.time_limit, "watch": run.watch}
        found, _ = search_height(batch[i], m, limits=thresholds, stop=stop, **settings)
        if found.ended == "interrupt" and not run.may_end:
            raise KeyboardInterrupt
        return found

    if threads == 1 or count < 2 * threads or "search" not in way.values() or run.watch is not silent:
        return [one(i, threads) for i in range(count)]
    pool = ThreadPoolExecutor(threads)
    try:
        return [future.result() for future in [pool.submit(one, i, 1) for i in range(count)]]
    finally:
        stop[0] = 1
        pool.shutdown(cancel_futures=True)


def _as_given(heights: list[Height], orders: NDArray[np.int64] | None, single: bool) -> Height | list[Height]:
    """One or many, with their coordinates where the matrices given have them."""
    if orders is not None:
        heights = [
            replace(
                found,
                witness=in_given_order(found.witness, order),
                outside=tuple(int(order[j]) for j in found.outside),
            )
            for found, order in zip(heights, np.atleast_2d(orders), strict=True)
        ]
    return heights[0] if single else heights


def height_profile(
    P: ArrayLike, *, matrix: str | None = None, method: str = "auto", threads: int | None = None
) -> NDArray[np.float64]:
    """Exact heights h_0..h_r of codes [I | P], infinite ones as inf.

    Args:
        P: (k, r) or (B, k, r), real, n = k + r <= 64. Up to n = 16 all bases are enumerated (the work grows like
            n 2^n); beyond, each m is worked out by itself, and the later ones may not fit: `heights.expected_seconds`.
        matrix, method: as in `m_height`.
        threads: default all cores. The answer does not depend on it.

    Returns:
        (r + 1,) or (B, r + 1) float64, dimensionless, non-decreasing along the last axis.

        Precision: a finite height is right to 1e-13 (measured: 4e-15) for the very P given, whatever its scale and
        however near it is to singular: every minor has a bound on its rounding, and where that leaves a doubt Python's
        integers decide (a search: to 1e-9, with fractions for doubts). For integers of any size, and for fractions, inf
        means infinite and every finite height is told. Real P carries rounding errors of its own, so there a height
        above 1e11 is reported as inf: see minors.LARGEST_RATIO.

    Raises:
        CodeError: P is not a real, finite matrix of a size this solver can do.

    Source: arXiv:2602.20366, Theorem 8.

    Example:
        >>> from moe_mheight import height_profile
        >>> height_profile([[1, 1], [1, 2]]).tolist()
        [1.0, 2.0, 3.0]
    """
    plain = matrix is None and method in ("auto", "bases") and (threads is None or thread_count(threads))
    if plain and isinstance(P, np.ndarray) and P.ndim == 2:
        row = _at_once(P, 1, P.shape[1])
        if row is not None:
            return row[:-3].copy()
    P, _ = as_P(P, matrix, rounded=in_float64(P, matrix, method))
    if codes := codes_beyond_float64(P, method):
        out = whole_profiles(codes)
        return out[0] if np.ndim(P) == 2 else out
    batch, single = check_P(P, max_n=BITS)
    count, k, r = batch.shape
    choose(k + r, k, 1, count, method)
    if k + r <= MAX_N and method != "search":
        out = bases.profiles(batch, threads)
        return out[0] if single else out
    _announce(k + r, k, max(range(1, r + 1), key=lambda m: expected_seconds(k + r, k, m)), threads)
    out = np.full((count, r + 1), np.inf)
    out[:, 0] = 1.0
    for row, code in zip(out, batch, strict=True):
        word = None
        for m in range(1, r + 1):
            if choose(k + r, k, m, 1, method) == "bases":
                found = bases.by_bases(code, m, threads=threads)
            else:
                found, _ = search_height(code, m, threads=threads, start=word)
            if found.ended == "interrupt":
                raise KeyboardInterrupt
            row[m] = max(found.value, row[m - 1])
            if row[m] == np.inf:
                break
            word = found.witness
    return out[0] if single else out
