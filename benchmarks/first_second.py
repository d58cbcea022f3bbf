"""Single codes, batches and thresholds: this tree beside an older one, in turns, on the same codes.

    python benchmarks/first_second.py [--against REF] [--only PATTERN] [--out benchmarks/results/first_second.json]

Each case is a statement that both trees run in processes of their own, which take turns; seconds are the least of some
calls once everything is compiled. REF is checked out by git worktree into a folder that is deleted afterwards; without
it, or where the older tree cannot run a case, there is no ratio. Codes are normal, `code(n, k)` with the seed (n, k).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exact_profile import machine

HERE = Path(__file__).resolve().parent
ROUNDS = 2

LONG = 2.0
"""Seconds beyond which one round is enough."""

CASES = {
    "one code (9,4,3)": "m_height(code(9, 4), 3)",
    "one code (9,5,2)": "m_height(code(9, 5), 2)",
    "one code (10,4,3)": "m_height(code(10, 4), 3)",
    "one code (10,5,3)": "m_height(code(10, 5), 3)",
    "one code (12,6,3)": "m_height(code(12, 6), 3)",
    "one code (14,7,3)": "m_height(code(14, 7), 3)",
    "one code (16,8,4)": "m_height(code(16, 8), 4)",
    "one code (18,9,6)": "m_height(code(18, 9), 6)",
    "one code (20,10,4)": "m_height(code(20, 10), 4)",
    "one code (20,10,10)": "m_height(code(20, 10), 10)",
    "profile of one code (9,4)": "height_profile(code(9, 4))",
    "profile of one code (16,8)": "height_profile(code(16, 8))",
    "profiles of 1,000 codes (9,4)": "height_profile(codes(1000, 9, 4))",
    "1,000 codes (9,4,3)": "m_height(codes(1000, 9, 4), 3)",
    "1,000 codes (12,6,3)": "m_height(codes(1000, 12, 6), 3)",
    "100 codes (16,8,4)": "m_height(codes(100, 16, 8), 4)",
    "20 codes (20,10,4)": "m_height(codes(20, 20, 10), 4)",
    "16 codes (24,12,5)": "m_height(codes(16, 24, 12), 5)",
    "search (24,12,6)": 'm_height(code(24, 12), 6, method="search")',
    "search (32,16,6)": 'm_height(code(32, 16), 6, method="search")',
    "slack 0 (20,10,10)": 'm_height(code(20, 10), 10, method="search")',
    "slack 0 (24,12,12)": "m_height(code(24, 12), 12)",
    "slack 0 (28,14,14)": "m_height(code(28, 14), 14, time_limit=5)",
    "polygon [64,2] m = 32": 'm_height(polygon(64), 32, matrix="G")',
    "details (9,4,3)": "m_height(code(9, 4), 3, details=True)",
    "above: reject (24,12,6)": "m_height(code(24, 12), 6, above=5.0)",
    "above: reject 1,000 codes (9,4,3)": "m_height(codes(1000, 9, 4), 3, above=4.0)",
    "below: accept (24,12,6)": "m_height(code(24, 12), 6, below=1e6)",
    "bounds of 1,000 codes (9,4,3)": "bounds(codes(1000, 9, 4), 3)",
    "predict 1,000 codes (9,4,3)": "predictor.predict(codes(1000, 9, 4), 3)",
    "predict one code (9,4,3)": "predictor.predict(code(9, 4), 3)",
    "predict one code (20,10,4)": "predictor.predict(code(20, 10), 4, budget=512)",
}

CHILD = """
import json, sys, time, warnings, resource
warnings.simplefilter("ignore")
import numpy as np
from moe_mheight import *
from moe_mheight import m_height, height_profile, bounds, Predictor

def codes(count, n, k):
    return np.random.default_rng([n, k]).normal(size=(count, k, n - k))

def code(n, k):
    return codes(1, n, k)[0]

def polygon(n):
    angles = np.pi * np.arange(n) / n
    return np.vstack([np.cos(angles), np.sin(angles)])

statement = json.loads(sys.argv[1])
names = {"codes": codes, "code": code, "polygon": polygon, "m_height": m_height, "height_profile": height_profile}
names["bounds"] = bounds
if "predictor" in statement:
    names["predictor"] = Predictor.load()
# what makes the code is not timed
import re
made = re.search(r"(?:codes?|polygon)\\([^()]*\\)", statement).group()
names["P"] = eval(made, names)
run = compile(statement.replace(made, "P"), "case", "eval")
value = eval(run, names)
best, began, calls = 1e9, time.perf_counter(), 0
while calls < 3 or (time.perf_counter() - began < 0.5 and calls < 20_000):
    start = time.perf_counter()
    eval(run, names)
    best = min(best, time.perf_counter() - start)
    calls += 1
    if best > 2.0:
        break
value = np.atleast_1d(np.asarray(getattr(value, "value", value) if not isinstance(value, tuple) else value[0], float))
print(json.dumps([best, float(value.ravel()[0]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def run(tree: Path, statement: str) -> tuple[float, float, float] | None:
    """Seconds, the (first) value and peak MiB; None where the tree cannot."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(statement)], cwd=tempfile.gettempdir(), text=True, capture_output=True,
        check=False, env={**os.environ, "PYTHONPATH": str(tree)},
    )  # fmt: skip
    return tuple(json.loads(done.stdout)) if done.returncode == 0 else None  # type: ignore[return-value]


def measure(trees: dict[str, Path], only: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Cases, and what each took."""
    for name, statement in CASES.items():
        if not re.search(only, name):
            continue
        found: dict[str, list[tuple[float, float, float]]] = {tree: [] for tree in trees}
        for turn in range(ROUNDS):
            for tree, path in trees.items():
                if turn and (not found[tree] or found[tree][0][0] > LONG):
                    continue
                if (one := run(path, statement)) is not None:
                    found[tree].append(one)
        row: dict[str, Any] = {"statement": statement}
        for tree, runs in found.items():
            if runs:
                row[f"{tree}_seconds"] = min(seconds for seconds, _, _ in runs)
                row[f"{tree}_value"], row[f"{tree}_peak_MiB"] = runs[0][1], round(runs[0][2])
        if found["new"] and found.get("old"):
            row["ratio"] = row["old_seconds"] / row["new_seconds"]
        ratio = f"  {row['ratio']:8.2f} x" if "ratio" in row else ""
        old = f"{row['old_seconds'] * 1e3:12.4f}" if "old_seconds" in row else " " * 12
        print(f"{name:36}{old} {row.get('new_seconds', float('nan')) * 1e3:12.4f} ms{ratio}", flush=True)
        yield name, row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REF", help="an older tree")
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases whose names match, like slack|polygon")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "first_second.json")
    args = parser.parse_args()
    trees = {"new": HERE.parent}
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "old"
        if args.against:
            subprocess.run(["git", "worktree", "add", "-q", "--detach", old, args.against], cwd=HERE, check=True)
            trees = {"old": old, **trees}
        try:
            for name, row in measure(trees, args.only):
                report = json.loads(args.out.read_text()) if args.out.exists() else {"cases": {}}
                report |= {"command": " ".join(sys.argv), "against": args.against, "machine": machine()}
                report["cases"][name] = row
                args.out.write_text(json.dumps(report, indent=1) + "\n")
        finally:
            if args.against:
                subprocess.run(["git", "worktree", "remove", "--force", old], cwd=HERE, check=True)


if __name__ == "__main__":
    main()
