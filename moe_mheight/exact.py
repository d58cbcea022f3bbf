"""The entrance to exact heights: enumeration of bases for short codes, the pruned search for long ones.

`enumeration` does up to n = 16 and gives all m at once; `pruned` does one m at a time, up to n = 64 as long as the
search fits: its work grows with C(k + m - 1, m), hardly with n (see `heights.expected_seconds`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .codes import check_m, check_P, like_input
from .enumeration import enumerated_profiles
from .errors import CodeError, brief
from .heights import Height, Progress, expected_seconds, silent
from .kernels import thread_count
from .masks import BITS
from .minors import MAX_N
from .pruned import pruned_search
from .witnesses import witness

METHODS = ("auto", "bases", "search")

LONG, ANNOUNCED = 60.0, 5.0
"""Seconds beyond which a search is announced by a warning, and by the command line."""

ENUMERATION_ERROR = 1e-14
"""Relative error of enumerated heights, which are right to a few units in 1e-15."""


def choose(n: int, method: str = "auto") -> str:
    """The method for codes of length n: "bases" up to 16, else "search".

    Raises:
        CodeError: no such method, or the code is too long for it.
    """
    if method not in METHODS:
        raise CodeError(f"method must be one of {', '.join(METHODS)}, got {brief(method)}")
    if method == "bases" and n > MAX_N:
        raise CodeError(f'method "bases" goes up to n = {MAX_N}, got n = {n}; "search" goes up to {BITS}')
    return ("bases" if n <= MAX_N else "search") if method == "auto" else method


def in_words(seconds: float) -> str:
    """A time for people: "about 20 s", "about 3 h", "years"."""
    for unit, size, most in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172800.0), ("days", 86400.0, 6e7)):
        if seconds < most:
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


def _by_bases(P: NDArray[np.float64], m: int, began: float) -> Height:
    k, r = P.shape
    value = float(enumerated_profiles(P[None], 1)[0, m])
    c = witness(P, m, threads=1)
    order = tuple(int(j) for j in np.argsort(-np.abs(c), kind="stable")[:m])
    off = value * ENUMERATION_ERROR if value < np.inf else 0.0
    return Height(
        k + r, k, m, value, max(value - off, 1.0), value + off, c, order, "bases", "finished",
        time.monotonic() - began, comb(k + r, k), 0,
    )  # fmt: skip


def m_height(
    P: ArrayLike,
    m: Any,
    *,
    method: str = "auto",
    details: bool = False,
    time_limit: float | None = None,
    threads: int | None = None,
    watch: Callable[[Progress], None] = silent,
) -> Any:
    """Exact m-height of codes [I | P].

    Args:
        P: (k, r) or (B, k, r), n = k + r <= 64.
        m: int, or (B,) ints, 1 <= m <= r.
        method: "bases" (enumeration, n <= 16), "search" (branch and bound), or "auto", which takes bases up to n = 16.
        details: return a `Height`, which also holds the method, a certified bracket and a codeword that attains it.
        time_limit: seconds for each code, > 0; implies details. When it is over the bracket so far is returned:
            `lower` is what the best codeword found attains; `upper` comes from relaxed searches, which leave out pairs
            of coordinates, and is inf before the first of these has ended.
        threads: default all cores. They change nothing but the time.
        watch: called with a `Progress` some times a second by a long search.

    Returns:
        A float, or (B,) float64; inf exactly when m >= d, the minimum distance. With details or a time limit a
        `Height`, or a list of them. Ctrl-C ends a search with details like a time limit, and raises otherwise.

        Precision: see `height_profile`.

    Raises:
        CodeError: P, m, method or time_limit is out of range.

    Source: arXiv:2602.20366, Theorem 8; the search is described in `hitting`.

    Example:
        >>> from moe_mheight import m_height
        >>> m_height([[1, 1], [1, 2]], 2)
        3.0
        >>> found = m_height([[1, 1], [1, 2]], 2, method="search", details=True)
        >>> found.value, found.method, found.finished
        (3.0, 'search', True)
    """
    batch, single = check_P(P, max_n=BITS)
    count, k, r = batch.shape
    levels = check_m(m, count, r)
    how = choose(k + r, method)
    thread_count(threads)
    details = details or time_limit is not None
    if time_limit is not None and not (isinstance(time_limit, (int, float)) and time_limit > 0.0):
        raise CodeError(f"time_limit must be a number of seconds > 0, got {brief(time_limit)}")
    if how == "bases" and not details:
        return like_input(enumerated_profiles(batch, threads)[np.arange(count), levels], single)
    if how == "search" and time_limit is None:
        for level in set(levels.tolist()):
            _announce(k + r, k, level, threads)
    heights = []
    for matrix, level in zip(batch, levels.tolist(), strict=True):
        began = time.monotonic()
        if how == "bases":
            heights.append(_by_bases(matrix, level, began))
            continue
        found, _ = pruned_search(matrix, level, threads=threads, time_limit=time_limit, watch=watch)
        if found.ended == "interrupt" and (not details or not single):
            raise KeyboardInterrupt
        heights.append(found)
    if details:
        return heights[0] if single else heights
    return like_input(np.array([height.value for height in heights]), single)


def height_profile(P: ArrayLike, *, method: str = "auto", threads: int | None = None) -> NDArray[np.float64]:
    """Exact heights h_0..h_r of codes [I | P], infinite ones as inf.

    Args:
        P: (k, r) or (B, k, r), real, n = k + r <= 64. Up to n = 16 all bases are enumerated (the work grows like
            n 2^n); beyond, each m is a search of its own, and the later ones may not fit: `heights.expected_seconds`.
        method: as in `m_height`.
        threads: default all cores. The answer does not depend on it.

    Returns:
        (r + 1,) or (B, r + 1) float64, dimensionless, non-decreasing along the last axis.

        Precision: the enumeration's minors carry about 32 digits, and so do the search's codewords and residuals: a
        finite height is right to a few units in 1e-15 for the P given, and the search has proven that nothing beats it
        by more than 1e-9. For integer P with j! max|P|^j < 2^96, j = min(k, r) (max|P| up to 21,000 at n = 12) infinite
        is exact, by the search for all integers. Real P carries rounding errors of its own, so there a height above
        1e11 is reported as inf: see minors.LARGEST_RATIO.

    Raises:
        CodeError: P is not a real, finite matrix of a size this solver can do.

    Source: arXiv:2602.20366, Theorem 8.

    Example:
        >>> from moe_mheight import height_profile
        >>> height_profile([[1, 1], [1, 2]]).tolist()
        [1.0, 2.0, 3.0]
    """
    batch, single = check_P(P, max_n=BITS)
    count, k, r = batch.shape
    if choose(k + r, method) == "bases":
        out = enumerated_profiles(batch, threads)
        return out[0] if single else out
    _announce(k + r, k, max(range(1, r + 1), key=lambda m: expected_seconds(k + r, k, m)), threads)
    out = np.full((count, r + 1), np.inf)
    out[:, 0] = 1.0
    for row, matrix in zip(out, batch, strict=True):
        word = None
        for m in range(1, r + 1):
            found, _ = pruned_search(matrix, m, threads=threads, start=word)
            if found.ended == "interrupt":
                raise KeyboardInterrupt
            row[m] = max(found.value, row[m - 1])
            if row[m] == np.inf:
                break
            word = found.witness
    return out[0] if single else out
