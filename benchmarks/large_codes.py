"""How long certified heights of long codes take: random ones, hard ones, growth, and the published solvers beside ours.

    python benchmarks/large_codes.py sizes       # five seeds a size, one thread and two; memory; the guess of the time
    python benchmarks/large_codes.py hard        # codes of low height, where bounds prune least
    python benchmarks/large_codes.py growth      # n and m against time, with benchmarks/results/large_codes.png
    python benchmarks/large_codes.py published   # analog-ecc-heights, its best method that ends within --limit seconds
    python benchmarks/large_codes.py checks      # 20,000 short codes against enumeration, 200 longer ones against HiGHS

Each writes its part of benchmarks/results/large_codes.json. Times are wall seconds of `m_height` on one code, after a
first call that compiles. Random codes are normal, P (k, n - k); a seed is np.random.default_rng([seed, n, k, m]).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from itertools import combinations, product
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from exact_profile import machine
from numpy.typing import NDArray

from moe_mheight import from_parity_check, height_profile, m_height, random_codes, systematic
from moe_mheight.codes.generators import ALL_KINDS
from moe_mheight.exact.cost_model import expected_seconds

RESULTS = Path(__file__).parent / "results"
SIZES = [
    (16, 8, 8), (20, 10, 6), (24, 12, 6), (28, 14, 6), (32, 16, 6), (40, 20, 4), (24, 12, 12),
    (20, 10, 10), (24, 12, 9), (32, 16, 8), (40, 20, 6), (48, 24, 5), (64, 32, 4), (64, 8, 12), (64, 16, 8),
    (64, 48, 4),
]  # fmt: skip
SEEDS = 5
LONGEST = 3.0
"""Seconds that a code may take in `growth`, by the guess."""

PUBLISHED_SIZES = [(12, 6, 3), (13, 6, 4), (14, 7, 4), (16, 8, 4), (16, 8, 8), (18, 9, 4), (20, 10, 3)]
PUBLISHED = (
    "h_m_roth_primal_combinatorial", "h_m_roth_primal_combinatorial_pruning", "h_m_roth_dual_lp", "h_m_roth_primal_lp",
    "h_m_jiang_simplified_lp", "h_m_roth_dual_combinatorial_generator", "h_m_roth_mds_combinatorial",
)  # fmt: skip

CALL = """
import json, sys, time
import numpy as np
import analog_ecc_heights as aeh
G = np.array(json.load(sys.stdin))
start = time.perf_counter()
h = getattr(aeh, sys.argv[1])(G, int(sys.argv[2]))
print(json.dumps([float(h), time.perf_counter() - start]))
"""


def normal(n: int, k: int, m: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng([seed, n, k, m]).normal(size=(k, n - k))


def timed(P: NDArray[np.float64], m: int, threads: int) -> Any:
    return m_height(P, m, method="search", details=True, threads=threads)


def sizes() -> list[dict[str, Any]]:
    rows = []
    for n, k, m in SIZES:
        found = {t: [timed(normal(n, k, m, seed), m, t) for seed in range(SEEDS)] for t in (1, 2)}
        for one, two in zip(found[1], found[2], strict=True):
            assert (one.value, one.nodes) == (two.value, two.nodes)
        two = [f.seconds for f in found[2]]
        rows.append(
            {
                "n": n, "k": k, "m": m, "sets": comb(n, m), "seconds_1": median(f.seconds for f in found[1]),
                "seconds_2": median(two), "slowest_2": max(two), "nodes": median(f.nodes for f in found[2]),
                "programs": median(f.programs for f in found[2]), "guess_2": expected_seconds(n, k, m, 2),
                "widest": max(f.upper / f.lower - 1 for f in found[2]),
                "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def polygon(n: int) -> NDArray[np.float64]:
    angles = np.pi * np.arange(n) / n
    return np.vstack([np.cos(angles), np.sin(angles)])


def equal_norms(n: int, k: int, seed: int) -> NDArray[np.float64]:
    """A random tight frame whose columns all have one norm, by alternating projections."""
    G = np.random.default_rng([seed, n, k]).normal(size=(k, n))
    for _ in range(2000):
        Q = np.linalg.qr(G.T)[0].T
        G = Q / np.linalg.norm(Q, axis=0)
    return G


def hard() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    axes = np.array([s for s in product([1, -1], repeat=5) if s[0] == 1]).T.astype(float)
    roots = np.array([np.eye(6)[i] + s * np.eye(6)[j] for i, j in combinations(range(6), 2) for s in (1, -1)]).T
    codes: list[tuple[str, NDArray[np.float64], int]] = [
        *((f"polygon [{n}, 2]", systematic(polygon(n))[0], m) for n, m in [(24, 12), (64, 16), (64, 32), (64, 56)]),
        *((f"spherical parity [{n}, {n - 2}]", from_parity_check(polygon(n))[0], 2) for n in (24, 40, 64)),
        *((f"tight frame, equal norms [{n}, {k}]", systematic(equal_norms(n, k, 1))[0], m)
          for n, k, m in [(16, 8, 8), (24, 12, 6), (24, 12, 8), (32, 16, 6), (32, 8, 8), (40, 20, 4)]),
        *((f"{kind} [{n}, {k}]", random_codes(kind, 1, k, n - k, rng)[0], m)
          for kind in ("fourier", "spherical", "vandermonde", "repeated")
          for n, k, m in [(24, 12, 6), (32, 16, 5), (32, 8, 8)]),
        ("hypercube axes [16, 5]", systematic(axes)[0], 7),
        ("roots of D_6 [30, 6]", systematic(roots)[0], 8),
        ("0, 1, -1 at random [24, 12]", rng.integers(-1, 2, (12, 12)).astype(float), 3),
        ("1, -1 at random [28, 14]", rng.choice([-1.0, 1.0], (14, 14)), 5),
    ]  # fmt: skip
    rows = []
    for name, P, m in codes:
        found = m_height(P, m, method="search", details=True, time_limit=120.0)
        rows.append(
            {
                "code": name, "m": m, "height": found.value if np.isfinite(found.value) else "inf",
                "upper": found.upper if np.isfinite(found.upper) else "inf",
                "ended": found.ended, "seconds_2": found.seconds, "nodes": found.nodes, "programs": found.programs,
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def growth() -> list[dict[str, Any]]:
    rows = []
    for rate, m in [(2, 2), (2, 4), (2, 6), (2, 8), (4, 4), (4, 6), (4, 8)]:
        for n in range(16, 65, 4):
            k = n // rate
            if m > n - k or expected_seconds(n, k, m, 2) > LONGEST:
                continue
            took = median(timed(normal(n, k, m, seed), m, 2).seconds for seed in range(3))
            rows.append({"n": n, "k": k, "m": m, "seconds_2": took, "guess_2": expected_seconds(n, k, m, 2)})
            print(rows[-1], flush=True)
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib  # noqa: PLC0415  an extra

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, rate, title in ((left, 2, "k = n / 2"), (right, 4, "k = n / 4")):
        for m in sorted({row["m"] for row in rows if row["n"] // row["k"] == rate}):
            line = [(row["n"], row["seconds_2"]) for row in rows if row["m"] == m and row["n"] // row["k"] == rate]
            axis.semilogy(*zip(*line, strict=True), marker="o", markersize=3, label=f"m = {m}")
        axis.set(title=title, xlabel="n")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    left.set_ylabel("seconds, two threads")
    figure.suptitle("Certified m-heights of random codes, median of three", fontsize=11)
    figure.savefig(path, dpi=130)


def published(limit: float) -> list[dict[str, Any]]:
    rows = []
    for n, k, m in PUBLISHED_SIZES:
        P = normal(n, k, m, 0)
        G = json.dumps(np.hstack([np.eye(k), P]).tolist())
        ours = min((timed(P, m, 1) for _ in range(3)), key=lambda found: found.seconds)
        best: tuple[str, float] | None = None
        for name in PUBLISHED:
            if "mds" in name and m != n - k:
                continue
            try:
                done = subprocess.run(
                    [sys.executable, "-c", CALL, name, str(m)], input=G, capture_output=True, text=True,
                    timeout=min(limit, 3.0 * best[1] + 20.0) if best else limit, check=True,
                )  # fmt: skip
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
                continue
            h, took = json.loads(done.stdout)
            if abs(h / ours.value - 1.0) < 1e-6 and (best is None or took < best[1]):
                best = (name, took)
        row: dict[str, Any] = {"n": n, "k": k, "m": m, "ours_1": ours.seconds, "height": ours.value}
        if best is not None:
            row |= {"method": best[0], "seconds": best[1], "ratio": best[1] / ours.seconds}
        rows.append(row | {"limit": limit})
        print(rows[-1], flush=True)
        if best is None:
            break
    return rows


def checks() -> dict[str, Any]:
    from scipy.optimize import linprog  # noqa: PLC0415  a test's dependency

    rng = np.random.default_rng(12)
    worst, count = 0.0, 0
    kinds = [*ALL_KINDS, "ternary"]
    for at in range(20_000):
        kind = kinds[at % len(kinds)]
        n = int(rng.integers(4, 13))
        k = int(rng.integers(1, n))
        m = int(rng.integers(1, n - k + 1))
        P = (
            rng.integers(-1, 2, (k, n - k)).astype(float)
            if kind == "ternary"
            else random_codes(kind, 1, k, n - k, rng)[0]
        )
        truth, found = height_profile(P)[m], m_height(P, m, method="search", threads=1)
        assert np.isinf(truth) == np.isinf(found), (kind, P.tolist(), m)
        if np.isfinite(truth):
            worst = max(worst, abs(found / truth - 1.0))
        count += 1
    print({"codes": count, "worst": worst}, flush=True)
    off = 0.0
    for at in range(200):
        n = 13 + at % 4
        k, m = int(rng.integers(n - 6, n - 1)) if at % 2 else int(rng.integers(2, 6)), 2 + at % 2
        m = min(m, n - k)
        P = rng.normal(size=(k, n - k))
        G = np.hstack([np.eye(k), P])
        best = 1.0
        for out in combinations(range(n), m):
            rows = np.delete(G, out, axis=1).T
            for a in out:
                done = linprog(-G[:, a], np.vstack([rows, -rows]), np.ones(2 * len(rows)), bounds=(None, None))
                c = done.x @ G  # HiGHS allows |c_j| <= 1 + 1e-7 on S: the height of its codeword does not
                down = -np.sort(-np.abs(c))
                best = max(best, down[0] / down[m])
        off = max(off, abs(m_height(P, m, method="search") / best - 1.0))
    print({"programs": 200, "worst": off}, flush=True)
    return {"codes": count, "worst_against_enumeration": worst, "codes_lp": 200, "worst_against_lp": off}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["sizes", "hard", "growth", "published", "checks"])
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that a published method may take")
    parser.add_argument("--out", type=Path, default=RESULTS / "large_codes.json")
    args = parser.parse_args()
    for P in (normal(18, 4, 3, 0), systematic(polygon(20))[0]):  # compiled: the search of all targets, and of one
        timed(P, 3, 2)
    part = {"sizes": sizes, "hard": hard, "growth": growth, "checks": checks}
    rows = published(args.limit) if args.part == "published" else part[args.part]()
    if args.part == "growth":
        plot(rows, args.out.with_suffix(".png"))
    report = json.loads(args.out.read_text()) if args.out.exists() else {}
    report |= {args.part: rows, f"{args.part}_machine": machine()}
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
