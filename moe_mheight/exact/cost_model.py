"""How long each way to a height takes, by one table fitted to measurements, and which one is the quickest.

Every way is a sum of counts, each with its price: what the code's size makes of C(n, k) minors, of the pairs (S, a), of
the nodes of a search. `python benchmarks/cost_model.py` measures, fits PRICES and says how far off they are.
"""

from __future__ import annotations

from math import comb, log

from ..codes.minors import MAX_N
from ..numerics.jit import LANES, thread_count
from .single_height import LONGEST

PRICES: dict[str, tuple[float, ...]] = {
    "lanes": (1e-7, 3e-9, 1e-9),
    "single": (1e-6, 4e-9, 1e-9, 1e-8, 3e-9),
    "search": (1e-3, 3e-10),
}
"""Nanoseconds to seconds: see `counts`."""


def counts(way: str, n: int, k: int, m: int) -> tuple[float, ...]:
    """What each price of a way is paid for, for one code."""
    r = n - k
    terms = sum(comb(k, j) * comb(r, j) * j for j in range(min(k, r) + 1))
    if way == "lanes":
        return 1.0, terms, n * (1 << (n - 1)) * (k + 1.0)
    if way == "single":
        patterns = comb(n - m, k)
        records = log(1.0 + comb(n, m) * m)
        return 1.0, terms, comb(n, k + 1) * (k + 1.0), comb(n, m) * (m + 4.0), k * patterns * records
    sets = min(comb(k + m - 1, m - 1), comb(n - 1, m - 1))
    return 1.0, sets * float(k * n) ** 1.6


def seconds(way: str, n: int, k: int, m: int) -> float:
    """Of one code in one thread."""
    return sum(price * count for price, count in zip(PRICES[way], counts(way, n, k, m), strict=True))


def lanes_seconds(n: int, k: int) -> float:
    """Of each of LANES codes, all m."""
    return seconds("lanes", n, k, 1)


def single_seconds(n: int, k: int, m: int) -> float:
    return seconds("single", n, k, m)


def quickest(n: int, k: int, m: int, codes: int = 1) -> str:
    """ "bases" or "search"."""
    if n > LONGEST:
        return "search"
    bases = single_seconds(n, k, m)
    if n <= MAX_N and codes >= LANES:
        bases = min(bases, lanes_seconds(n, k))
    return "bases" if bases <= seconds("search", n, k, m) else "search"


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
        return single_seconds(n, k, m)
    return seconds("search", n, k, m) / thread_count(threads)
