"""What each way to a height costs: measured, fitted to the counts of `exact.cost_model`, and the choice made by it.

    python benchmarks/cost_model.py measure    # every way on a grid of sizes up to n = 64; keeps what it has
    python benchmarks/cost_model.py fit        # COEFFICIENTS for moe_mheight/exact/cost_model.py, how far off they are
    python benchmarks/cost_model.py choice     # "auto" against the better of both methods, n <= 20, 1 code and 1,000
    python benchmarks/cost_model.py guesses    # expected_seconds against the clock, 31 sizes and five kinds of codes

Each writes its part of benchmarks/results/cost_model.json. Seconds are the least of some calls in one thread, on codes
that are normal where nothing else is said.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from exact_profile import machine
from numpy.typing import NDArray

from moe_mheight import m_height, random_codes
from moe_mheight.codes.generators import ALL_KINDS
from moe_mheight.exact.cost_model import COEFFICIENTS, OVERHEAD, expected_seconds, leaves, quickest, terms
from moe_mheight.exact.enumeration import enumerated_profiles
from moe_mheight.exact.single_height import LONGEST, answers, ask

RESULTS = Path(__file__).parent / "results" / "cost_model.json"
PATIENCE = 1.0
"""Seconds beyond which a call is not repeated."""

SEARCHED = [
    (22, 11, 4), (24, 12, 3), (24, 12, 5), (24, 12, 6), (24, 12, 8), (22, 11, 11), (24, 4, 6), (24, 4, 12), (24, 20, 2),
    (26, 13, 6), (28, 7, 6), (28, 14, 4), (28, 14, 6), (30, 20, 5), (32, 8, 6), (32, 16, 3), (32, 16, 5), (32, 16, 6),
    (32, 24, 4), (36, 18, 4), (40, 10, 5), (40, 20, 4), (40, 30, 4), (48, 12, 5), (48, 24, 4), (48, 36, 3), (56, 28, 3),
    (64, 4, 8), (64, 8, 6), (64, 32, 3), (64, 48, 3),
]  # fmt: skip
"""31 sizes of a search, from milliseconds to seconds."""


def normal(count: int, n: int, k: int) -> NDArray[np.float64]:
    return np.random.default_rng([n, k]).normal(size=(count, k, n - k))


def least(call: Callable[[], object], repeats: int = 5) -> float:
    """The least of some calls' seconds, one where it is long."""
    best = np.inf
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
        if best > PATIENCE:
            break
    return best


def levels(n: int, k: int) -> list[int]:
    r = n - k
    return sorted({m for m in (1, 2, 3, 4, 6, r // 2, r - 1, r) if 1 <= m <= r})


def sizes() -> list[tuple[int, int, int]]:
    grid = [
        (n, k, m)
        for n in (4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20)
        for k in range(1, n)
        for m in levels(n, k)
    ]
    return grid + SEARCHED


def one_way(way: str, n: int, k: int, m: int) -> float | None:
    """Seconds a code, or None where that way does not go so far, or would take too long."""
    if way == "lanes":
        return least(lambda: enumerated_profiles(normal(64, n, k), 1)) / 64 if n <= 16 and m == 1 else None
    if way == "single":
        batch = normal(8 if n < 16 else 2, n, k)
        return least(lambda: answers(batch, ask(len(batch), m, m), 1)) / len(batch) if n <= LONGEST else None
    if (way == "walk") != (m == n - k) or leaves(way, n, k, m) > 2e6:
        return None
    codes = normal(3, n, k)
    return median(least(partial(m_height, P, m, method="search", threads=1, matrix="P"), 3) for P in codes)


def measure(report: dict[str, Any]) -> dict[str, Any]:
    rows = report.get("measured", {})
    for way in COEFFICIENTS:  # compiled before a clock starts
        one_way(way, 6, 3, 3 if way == "walk" else 1)
    for n, k, m in sizes():
        for way in COEFFICIENTS:
            key = f"{way} {n},{k},{m}"
            if key not in rows and (took := one_way(way, n, k, m)) is not None:
                rows[key] = took
    return rows


def _rows(measured: dict[str, float], way: str) -> list[tuple[tuple[int, int, int], float]]:
    out = []
    for key, took in measured.items():
        name, _, size = key.partition(" ")
        if name == way:
            n, k, m = map(int, size.split(","))
            out.append(((n, k, m), took))
    return out


def fit(report: dict[str, Any]) -> dict[str, Any]:
    """Least squares of the logarithms, with a little weight on small coefficients."""
    out = {}
    for way in COEFFICIENTS:
        rows = _rows(report["measured"], way)
        took = np.array([took for _, took in rows])
        A = np.array([terms(way, *size) for size, _ in rows])
        y = np.log(np.maximum(took - OVERHEAD[way], 0.1 * took) / [leaves(way, *size) for size, _ in rows])
        scale = A.std(0) + 1e-9
        scale[0] = 1.0
        B = A / scale
        calm = np.ones(len(y), np.bool_)  # what a busy moment has made too long counts in the first round only
        for _ in range(3):
            B_calm = B[calm]
            found = np.linalg.solve(B_calm.T @ B_calm + 1e-3 * np.eye(B.shape[1]), B_calm.T @ y[calm]) / scale
            calm = np.abs(A @ found - y) < 0.7
        guess = OVERHEAD[way] + np.exp(A @ found) * [leaves(way, *size) for size, _ in rows]
        off = guess / took
        out[way] = {"coefficients": [float(f"{value:.6g}") for value in found], "rows": len(rows), "rms_log": rms(off)}
        out[way] |= {f"{q:.0%}": round(float(np.quantile(off, q)), 3) for q in (0.0, 0.05, 0.5, 0.95, 1.0)}
        worst = np.argsort(np.abs(np.log(off)))[-6:]
        out[way]["worst"] = [[*rows[i][0], rows[i][1], round(float(off[i]), 3)] for i in worst]
        print(way, json.dumps(out[way]))
    return out


def rms(off: NDArray[np.float64]) -> float:
    return round(float(np.sqrt(np.mean(np.log(off) ** 2))), 4)


def choice(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Time lost by the choice, from what was measured: "auto" over the better method."""
    rows = []
    measured = report["measured"]
    for (n, k, m), search in _rows(measured, "search") + _rows(measured, "walk"):
        if n > LONGEST:
            continue
        single = measured[f"single {n},{k},{m}"]
        for codes in (1, 1000):
            bases = min(single, measured.get(f"lanes {n},{k},1", np.inf)) if codes > 1 else single
            took = bases if quickest(n, k, m, codes) == "bases" else search
            rows.append(
                {
                    "n": n,
                    "k": k,
                    "m": m,
                    "codes": codes,
                    "auto": took,
                    "bases": bases,
                    "search": search,
                    "over": took / min(bases, search),
                }
            )
    rows.sort(key=lambda row: -row["over"])
    print(len(rows), "cases,", sum(row["over"] <= 1.2 for row in rows), "within 1.2, the worst:", *rows[:10], sep="\n")
    return rows[:50]


def guesses(report: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for n, k, m in SEARCHED:
        for kind in ALL_KINDS[:5]:
            P = random_codes(kind, 3, k, n - k, np.random.default_rng([n, k, m]))
            took = median(m_height(code, m, threads=1, details=True, matrix="P").seconds for code in P)
            guess = expected_seconds(n, k, m, 1)
            rows.append({"size": [n, k, m], "kind": kind, "seconds": took, "guess": guess, "ratio": guess / took})
    rows.sort(key=lambda row: abs(np.log(row["ratio"])))
    print(
        sum(1 / 3 <= row["ratio"] <= 3 for row in rows), "of", len(rows), "within a factor of 3", *rows[-12:], sep="\n"
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["measure", "fit", "choice", "guesses"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    report = json.loads(args.out.read_text()) if args.out.exists() else {}
    part = {"measure": measure, "fit": fit, "choice": choice, "guesses": guesses}[args.part]
    report["measured" if args.part == "measure" else args.part] = part(report)
    args.out.write_text(json.dumps(report | {"machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
