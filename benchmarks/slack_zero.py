"""How long heights of little slack take, by the walk over circuits and by coverings, beside trees in the same run.

    python benchmarks/slack_zero.py [--seeds 3] [--longest 40] [--out benchmarks/results/slack_zero.json]

Codes are normal, P (k, n - k), a seed is np.random.default_rng([seed, n, k, m]). Seconds are the best of --seeds codes
and two calls each, wall and of all cores together, after a call that compiles; the tree is left out where it is
expected to take more than --longest core-seconds. `brackets` tells what is known of a code after ten seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from exact_profile import machine

from moe_mheight.exact import branch_and_bound, covered_search
from moe_mheight.exact.branch_and_bound import search_height
from moe_mheight.exact.result import Height, expected_seconds

RESULTS = Path(__file__).parent / "results"
SIZES = [
    (16, 8, 8), (20, 10, 10), (24, 12, 12), (28, 14, 14), (32, 16, 16), (20, 10, 9), (24, 12, 11), (24, 12, 10),
    (28, 14, 12), (32, 16, 12), (40, 20, 8), (36, 18, 14), (44, 22, 12),
]  # fmt: skip
BRACKETS = [(32, 16, 12), (44, 22, 12), (44, 22, 20), (48, 24, 16)]


@contextmanager
def trees() -> Iterator[None]:
    """Every search is a tree."""
    walked, pays = branch_and_bound.WALKED, covered_search.PAYS
    branch_and_bound.WALKED, covered_search.PAYS = False, np.inf
    try:
        yield
    finally:
        branch_and_bound.WALKED, covered_search.PAYS = walked, pays


def timed(P: np.ndarray, m: int) -> tuple[Height, float, float]:
    wall, cores = time.perf_counter(), time.process_time()
    found, _ = search_height(P, m)
    return found, time.perf_counter() - wall, time.process_time() - cores


def row(n: int, k: int, m: int, seeds: int, longest: float) -> dict[str, Any]:
    with_tree = expected_seconds(n, k, m, 1) <= longest
    times, agree = [], 0
    for seed in range(seeds):
        P = np.random.default_rng([seed, n, k, m]).normal(size=(k, n - k))
        found = [timed(P, m) for _ in range(2)]
        times.append([min(t[1:][i] for t in found) for i in range(2)])
        if with_tree:
            with trees():
                tree = timed(P, m)
            times[-1] += tree[1:]
            agree += abs(tree[0].value / found[0][0].value - 1.0) < 1e-9
    best = np.min(times, axis=0).tolist()
    out = {"n": n, "k": k, "m": m, "seconds": best[0], "core_seconds": best[1], "seeds": seeds}
    if with_tree:
        out |= {"tree_seconds": best[2], "tree_core_seconds": best[3], "ratio": best[3] / best[1], "agree": agree}
    return out


def bracket(n: int, k: int, m: int) -> dict[str, Any]:
    P = np.random.default_rng([0, n, k, m]).normal(size=(k, n - k))
    found, _ = search_height(P, m, time_limit=10.0)
    return {"n": n, "k": k, "m": m, "lower": found.lower, "upper": found.upper, "ended": found.ended,
            "seconds": found.seconds, "ratio": found.upper / found.lower}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--longest", type=float, default=40.0)
    parser.add_argument("--out", type=Path, default=RESULTS / "slack_zero.json")
    options = parser.parse_args()
    small = np.random.default_rng(0).normal(size=(12, 12))
    for m in (12, 11):
        search_height(small, m)
    with trees():
        search_height(small[:4, :5], 2)
    rows = []
    for n, k, m in SIZES:
        rows.append(row(n, k, m, options.seeds if k < 16 else 1, options.longest))
        print(json.dumps(rows[-1]), flush=True)
    brackets = [bracket(*size) for size in BRACKETS]
    print(json.dumps(brackets, indent=1))
    content = {"machine": machine(), "sizes": rows, "brackets": brackets}
    options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
