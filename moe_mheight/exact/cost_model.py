"""How long each way to a height takes, by one table fitted to measurements, and which one is the quickest.

The logarithm of the seconds is a quadratic in the logarithms of what a way has to count: minors, sets S, bases in each,
nodes of a search. `python benchmarks/cost_model.py` measures, fits COEFFICIENTS and says how far off they are.
"""

from __future__ import annotations

from functools import cache
from math import comb, exp, log

from ..codes.minors import MAX_N
from ..numerics.jit import LANES, thread_count
from .single_height import LONGEST

COEFFICIENTS: dict[str, tuple[float, ...]] = {
    "lanes": (
        -13.1306, -0.112579, -1.93251, 0.50226, 0.0887274, -0.277022, -0.21035, 3.79358, 0.618351, -3.28265,
    ),
    "single": (
        -13.8845, 0.100247, 0.263312, 0.405555, -2.20298, 1.73614, -0.0786761, 0.0606191, 0.146358, 0.103417,
        -0.248336, 0.0270921, -0.0110655, -0.318971, 0.265949, -0.00975941, -0.22806, -1.72272, 1.20238, 7.62181,
        -7.87786,
    ),
    "walk": (
        -8.10771, -0.066769, -1.00011, 0.0725833, -0.918903, -0.110794,
    ),
    "search": (
        -5.83096, -2.40224, -3.34131, -1.11111, 0.296752, 0.833502, 1.50485, 0.650997, 0.743246, -0.716507, -1.32084,
        -0.228244, 0.897433, -0.955411, -1.08628,
    ),
}  # fmt: skip
"""For the terms of `terms`; see there. Of one code in one thread."""

OVERHEAD = {"lanes": 0.0, "single": 0.0, "walk": 5e-4, "search": 5e-4}
"""Seconds that a call takes whatever the size."""


def counts(way: str, n: int, k: int, m: int) -> tuple[float, ...]:
    """Logarithms of what a way has to count, for one code."""
    minors, sets, bases = log(comb(n, k)), log(comb(n, m)), log(comb(n - m, k) + 1)
    if way == "lanes":
        return minors, n / 10, k / 10
    if way == "single":
        return minors, sets, bases, n / 10, m / 10
    return (log(k), log(n - k)) if way == "walk" else (log(n), log(k), log(m), log(n - k))


def terms(way: str, n: int, k: int, m: int) -> list[float]:
    """1, the counts and their products in pairs, each once; a search counts nodes, in proportion, besides."""
    x = [1.0, *counts(way, n, k, m)]
    return [x[i] * x[j] for i in range(len(x)) for j in range(i, len(x))]


def leaves(way: str, n: int, k: int, m: int) -> float:
    """What the seconds are in proportion to, however large: the sets left out that a search tells apart, circuits."""
    if way == "walk":
        return float(comb(n, k + 1))
    return float(min(comb(k + m - 1, m), comb(n - 1, m - 1))) if way == "search" else 1.0


@cache
def seconds(way: str, n: int, k: int, m: int) -> float:
    """Of one code in one thread: by "lanes" all m, LANES codes at a time; by "single" or "search" one m.

    A search at m = n - k is a "walk".
    """
    if way == "search" and m == n - k:
        way = "walk"
    power = sum(price * term for price, term in zip(COEFFICIENTS[way], terms(way, n, k, m), strict=True))
    return OVERHEAD[way] + leaves(way, n, k, m) * exp(min(power, 300.0))


@cache
def quickest(n: int, k: int, m: int, codes: int = 1) -> str:
    """ "bases" or "search"."""
    if n > LONGEST:
        return "search"
    bases = seconds("single", n, k, m)
    if n <= MAX_N and codes >= LANES:
        bases = min(bases, seconds("lanes", n, k, m))
    return "bases" if bases <= seconds("search", n, k, m) else "search"


def tree_seconds(n: int, k: int, m: int) -> float:
    """About what a search by its tree alone takes in one thread; relaxed searches and coverings are weighed with it."""
    sets = min(comb(k + m - 1, m - 1), comb(n - 1, m - 1))
    return 0.01 + 3e-10 * sets * float(k * n) ** 1.6


def expected_seconds(n: int, k: int, m: int, threads: int | None = None, *, way: str | None = None) -> float:
    """A guess of how long `m_height` takes for a random code, from its size alone.

    Args:
        n, k, m: 1 <= k < n <= 64, 1 <= m <= n - k.
        threads: default all cores.
        way: "single" (enumeration) or "search"; default the quicker.

    Returns:
        Seconds, right to a factor of 3 for most kinds of codes; codes of low height with large m may take less.

    Source: benchmarks/cost_model.py, which fits and checks it.

    Example:
        >>> from moe_mheight.exact.cost_model import expected_seconds
        >>> expected_seconds(24, 12, 6, threads=1) < 1.0 < expected_seconds(64, 32, 16, threads=1)
        True
    """
    if way == "single" or (way is None and quickest(n, k, m) == "bases"):
        return seconds("single", n, k, m)
    return seconds("search", n, k, m) / thread_count(threads)
