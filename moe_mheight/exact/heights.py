"""The entrance to exact heights: enumeration of bases for short codes, branch and bound for long ones.

`enumeration` does up to n = 16 and gives all m at once; `branch_and_bound` does one m at a time, up to n = 64 while the
search fits: its work grows with C(k + m - 1, m), hardly with n (see `result.expected_seconds`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from math import comb, nextafter
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arguments import real
from ..codes.forms import as_P, in_given_order
from ..codes.linear import as_numbers, beyond_float64, check_m, check_P, like_input
from ..codes.minors import MAX_N
from ..errors import CodeError, brief
from ..numerics.bitsets import BITS
from ..numerics.jit import thread_count
from ..numerics.rationals import rational_matrix
from .branch_and_bound import SMALLEST, search_height
from .enumeration import TIGHT, deciding_set, enumerated_profiles, profile_ends, whole_profile
from .result import Height, Progress, expected_seconds, silent
from .witness import deciding_sets, exact_word

METHODS = ("auto", "bases", "search")

LONG, ANNOUNCED = 60.0, 5.0
"""Seconds beyond which a search is announced by a warning, and by the command line."""

LARGEST_FLOAT = float(np.finfo(np.float64).max)


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
            stacklevel=4,
        )


def _by_bases(P: NDArray[np.float64], m: int, began: float) -> Height:
    """By enumeration, both bounds certified: one by the codeword in fractions, one by an interval for every minor."""
    k, r = P.shape
    value, upper = float(enumerated_profiles(P[None], 1)[0, m]), float(profile_ends(P[None], 1)[0, 1, m])
    left, at, _ = deciding_sets(P[None], np.array([m]), 1)
    z, c = exact_word(P.tolist(), m, int(left[0]), int(at[0]))
    if value == np.inf:
        lower = upper = np.inf
    else:
        assert z is not None
        value = float(z)
        lower = value if Fraction(value) <= z else nextafter(value, 0.0)
        if not upper <= value * (1.0 + TIGHT):  # intervals were not enough: Python's integers have decided
            upper = nextafter(value, np.inf)
        upper = max(upper, value)
    return _enumerated(k, r, m, value, lower, upper, c, began)


def _enumerated(
    k: int, r: int, m: int, value: float, lower: float, upper: float, c: NDArray[np.float64], began: float
) -> Height:
    order = tuple(int(j) for j in np.argsort(-np.abs(c), kind="stable")[:m])
    return Height(
        k + r, k, m, value, lower, upper, c, order, "bases", "finished", time.monotonic() - began, comb(k + r, k), 0
    )


def _by_integers(F: list[list[Fraction]], m: int) -> Height:
    """As `_by_bases`, of a code given in fractions."""
    began = time.monotonic()
    value = float(_whole_profiles([F])[0, m])
    z, c = exact_word(F, m, *deciding_set(F, m))
    lower = upper = value
    if z is not None:
        lower = value if Fraction(value) <= z else nextafter(value, 0.0)
        upper = value if Fraction(value) >= z else nextafter(value, np.inf)
    return _enumerated(len(F), len(F[0]), m, value, lower, upper, c, began)


def _in_float64(M: Any, matrix: str | None, method: str) -> bool:
    """Whether a G or H is made systematic to rounding, as a search takes it; exactly where bases are enumerated."""
    if matrix not in ("G", "H") or isinstance(M, tuple):
        return False
    n = as_numbers(M, matrix).shape[-1:]
    return bool(n) and (n[0] > MAX_N or choose(n[0], method) == "search")


def _beyond_float64(P: Any, method: str) -> list[Any] | None:
    """The codes of P where it has integers or fractions that float64 would round; None where it has not."""
    if isinstance(P, np.ndarray) and P.dtype.kind == "f":
        return None
    raw = as_numbers(P)
    if sum(raw.shape[-2:]) > BITS or beyond_float64(P, raw) is None:
        return None
    entries = np.asarray(P, dtype=object)
    if entries.ndim not in (2, 3):
        raise CodeError(f"P must have shape (k, r) or (B, k, r), got {entries.shape}")
    k, r = entries.shape[-2:]
    if choose(k + r, method) != "bases":
        raise CodeError(
            f"P has entries that float64 rounds, {brief(beyond_float64(P, raw))} among them; a search takes integers "
            f"up to 2^53, bases any up to n = {MAX_N}, and certify(P, m) any"
        )
    return [rational_matrix(code) for code in entries.reshape(-1, k, r).tolist()]


def _whole_profiles(codes: list[Any]) -> NDArray[np.float64]:
    """Profiles of codes given as fractions; what is finite is finite, however large."""
    out = np.array([whole_profile(F) for F in codes])
    if (out == LARGEST_FLOAT).any():
        raise CodeError(
            f"a height of this code is finite and above {LARGEST_FLOAT:g}; certify(P, m) says it as a fraction"
        )
    return out


@cache
def _compile() -> None:
    """Compile what one code takes, or read it from disk, before a clock starts; `search_height` does so itself."""
    _by_bases(SMALLEST, 1, 0.0)


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
) -> Any:
    """Exact m-height of codes [I | P].

    Args:
        P: (k, r) or (B, k, r), n = k + r <= 64. Integers and Fractions are taken as they are; those that float64 would
            round need n <= 16.
        m: int, or (B,) ints, 1 <= m <= r.
        method: "bases" (enumeration, n <= 16), "search" (branch and bound), or "auto", which takes bases up to n = 16.
        matrix: what P is: "P", or "G", a generator (k, n) in any basis, or "H", a parity check (r, n); n <= 64. Where
            bases are enumerated, a G or H of integers or fractions is made systematic exactly, else to rounding. None:
            "P", with a warning where it looks like another one.
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

    Source: arXiv:2602.20366, Theorem 8; the search is described in `hitting_set`.

    Example:
        >>> from moe_mheight import m_height
        >>> m_height([[1, 1], [1, 2]], 2)
        3.0
        >>> found = m_height([[1, 1], [1, 2]], 2, method="search", details=True)
        >>> found.value, found.method, found.finished
        (3.0, 'search', True)
    """
    details = details or time_limit is not None
    if time_limit is not None:
        time_limit = real("time_limit", time_limit, 0.0, np.inf)
    P, order = as_P(P, matrix, rounded=_in_float64(P, matrix, method))
    if codes := _beyond_float64(P, method):
        levels, single = check_m(m, len(codes), len(codes[0][0])), np.ndim(P) == 2
        if not details:
            return like_input(_whole_profiles(codes)[np.arange(len(codes)), levels], single)
        exactly = [_by_integers(F, level) for F, level in zip(codes, levels.tolist(), strict=True)]
        return _as_given(exactly, order, single)
    batch, single = check_P(P, max_n=BITS)
    levels = check_m(m, len(batch), batch.shape[2])
    bases = choose(sum(batch.shape[1:]), method) == "bases"
    thread_count(threads)
    if bases and not details:
        return like_input(enumerated_profiles(batch, threads)[np.arange(len(batch)), levels], single)
    if bases:
        _compile()
        heights = [_by_bases(P, level, time.monotonic()) for P, level in zip(batch, levels.tolist(), strict=True)]
    else:
        heights = _by_search(batch, levels.tolist(), details and single, threads, time_limit, watch)
    if details:
        return _as_given(heights, order, single)
    return like_input(np.array([height.value for height in heights]), single)


def _by_search(
    batch: NDArray[np.float64],
    levels: list[int],
    may_end: bool,
    threads: int | None,
    time_limit: float | None,
    watch: Callable[[Progress], None],
) -> list[Height]:
    """may_end: Ctrl-C ends a search with what it has, and is not raised."""
    k, r = batch.shape[1:]
    if time_limit is None:
        for level in set(levels):
            _announce(k + r, k, level, threads)
    heights = []
    for code, level in zip(batch, levels, strict=True):
        found, _ = search_height(code, level, threads=threads, time_limit=time_limit, watch=watch)
        if found.ended == "interrupt" and not may_end:
            raise KeyboardInterrupt
        heights.append(found)
    return heights


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
            n 2^n); beyond, each m is a search of its own, and the later ones may not fit: `heights.expected_seconds`.
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
    P, _ = as_P(P, matrix, rounded=_in_float64(P, matrix, method))
    if codes := _beyond_float64(P, method):
        out = _whole_profiles(codes)
        return out[0] if np.ndim(P) == 2 else out
    batch, single = check_P(P, max_n=BITS)
    count, k, r = batch.shape
    if choose(k + r, method) == "bases":
        out = enumerated_profiles(batch, threads)
        return out[0] if single else out
    _announce(k + r, k, max(range(1, r + 1), key=lambda m: expected_seconds(k + r, k, m)), threads)
    out = np.full((count, r + 1), np.inf)
    out[:, 0] = 1.0
    for row, code in zip(out, batch, strict=True):
        word = None
        for m in range(1, r + 1):
            found, _ = search_height(code, m, threads=threads, start=word)
            if found.ended == "interrupt":
                raise KeyboardInterrupt
            row[m] = max(found.value, row[m - 1])
            if row[m] == np.inf:
                break
            word = found.witness
    return out[0] if single else out
