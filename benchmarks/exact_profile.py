"""How long an exact height profile takes, beside the published package on the same codes in the same run.

    python benchmarks/exact_profile.py [--count 100000] [--out benchmarks/results/exact_profile.json]

The published package comes from PyPI without its C++ backend. With a C++ compiler, CMake, OpenMP and Eigen's headers,
build it beside everything else and let Python find that one first:

    pip install --no-deps --no-binary analog-ecc-heights --target build/published \\
        analog-ecc-heights==0.1.2 -Cwheel.cmake=true
    PYTHONPATH=build/published python benchmarks/exact_profile.py

Codes are random integers in [-100, 100]; times are microseconds a code for h_0..h_r, the best of several repetitions.
Of the published methods `primal` (h_m_roth_primal_combinatorial, all heights in one call) is the fastest; it can be
wrong on ties, which these codes hardly ever have. `dual` (h_m_roth_dual_combinatorial_generator, one call a height) is
right on every code. A profile counts as agreeing when it is within 1e-7, relative, of ours.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from moe_mheight import height_profile, random_codes

try:
    import analog_ecc_heights as aeh
except ImportError:
    aeh = None

SIZES = [(9, 4), (9, 5), (9, 6), (12, 6)]

FIRST_CALL = """
import json, time
start = time.perf_counter()
from moe_mheight import height_profile
imported = time.perf_counter()
height_profile([[1, 1], [1, 2]])
print(json.dumps([imported - start, time.perf_counter() - imported]))
"""


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(P: np.ndarray, repetitions: int) -> dict[str, float]:
    height_profile(P[:64])  # compiles, or reads the compiled code from disk
    # one and two threads take turns, so that a busy spell of the machine falls on both
    times = [[seconds(lambda t=t: height_profile(P, threads=t)) for t in (1, 2)] for _ in range(repetitions)]
    one, two = (1e6 * best / len(P) for best in np.min(times, axis=0))
    return {"one_thread_us": one, "two_threads_us": two, "speedup": one / two}


def published(P: np.ndarray, backend: str, method: str, repetitions: int) -> dict[str, Any]:
    """Microseconds a profile, one thread, and how many profiles agree with ours."""
    k, r = P.shape[1:]
    generators = [np.hstack([np.eye(k), p]) for p in P]
    if method == "primal":

        def profile(G: np.ndarray) -> list[float]:
            finite = aeh.h_m_roth_primal_combinatorial(G, backend=backend, num_threads=1)
            return [1.0, *finite, *[np.inf] * (r - len(finite))]
    else:

        def profile(G: np.ndarray) -> list[float]:
            level = aeh.h_m_roth_dual_combinatorial_generator
            return [1.0, *(level(G, m, backend=backend, num_threads=1) for m in range(1, r + 1))]

    found = [profile(G) for G in generators]
    best = min(seconds(lambda: [profile(G) for G in generators]) for _ in range(repetitions))
    agree = np.isclose(found, height_profile(P), rtol=1e-7, atol=0).all(axis=1)
    return {"us": 1e6 * best / len(P), "codes": len(P), "agreeing": int(agree.sum())}


def first_calls() -> dict[str, float]:
    """A process that must compile, and later ones that find the compiled code; the second number is the call alone."""
    with tempfile.TemporaryDirectory() as cache:

        def process() -> tuple[float, float, float]:
            command = [sys.executable, "-c", FIRST_CALL]
            start = time.perf_counter()
            done = subprocess.run(
                command, env={**os.environ, "NUMBA_CACHE_DIR": cache}, check=True, capture_output=True, text=True
            )
            return time.perf_counter() - start, *json.loads(done.stdout)

        fresh = process()
        later = min(process() for _ in range(3))
    return {
        "empty_cache_process_s": fresh[0],
        "empty_cache_call_s": fresh[2],
        "later_process_s": later[0],
        "later_import_s": later[1],
        "later_call_s": later[2],
    }


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        **{name: version(name) for name in ("numpy", "numba", "moe-mheight")},
        "commit": commit.stdout.strip(),
    }


def measure(n: int, k: int, count: int, repetitions: int, seed: int, backends: list[str]) -> dict[str, Any]:
    P = random_codes("integer", count, k, n - k, np.random.default_rng(seed))
    row: dict[str, Any] = {"n": n, "k": k, **ours(P, repetitions)}
    for backend in backends:
        for method in ("primal", "dual"):
            if backend == "cpp":
                sample = {("primal", 9): 400, ("dual", 9): 40, ("primal", 12): 20, ("dual", 12): 3}[method, n]
                again = 3
            else:
                sample, again = (3, 1) if n == 9 else (0 if method == "dual" else 1, 1)  # dual takes minutes at n = 12
            if sample:
                found = published(P[:sample], backend, method, again)
                name = f"published_{backend}" if method == "primal" else f"published_{backend}_dual"
                row[f"{name}_us"] = found["us"]
                row[f"{name}_ratio"] = found["us"] / row["one_thread_us"]
                row[f"{name}_agreeing"] = f"{found['agreeing']} of {found['codes']}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="codes in a batch")
    parser.add_argument("--repetitions", type=int, default=20, help="the best of so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "exact_profile.json")
    args = parser.parse_args()

    backends = [name for name in ("python", "cpp") if aeh and name in aeh.available_backends()]
    result = {
        "command": f"python benchmarks/exact_profile.py --count {args.count} --seed {args.seed}",
        "machine": machine(),
        "published": f"analog-ecc-heights {version('analog-ecc-heights')}" if backends else None,
        "published_backends": backends,
        "first_call": first_calls(),
        "profiles": [],
    }
    calls = result["first_call"]
    print(f"{result['machine']['cpu']}, {result['machine']['cores']} cores; {result['published']} {backends}")
    print(
        f"first process, empty cache: {calls['empty_cache_process_s']:.1f} s; "
        f"later: {calls['later_process_s']:.2f} s, the call {1e3 * calls['later_call_s']:.0f} ms of it"
    )
    columns = ["one thread", "two threads", "two/one", "C++ primal", "ratio", "C++ dual", "Python primal"]
    print("microseconds a profile\n(n, k)  " + "".join(f"{name:>14}" for name in columns))
    for n, k in SIZES:
        row = measure(n, k, args.count, args.repetitions, args.seed, backends)
        result["profiles"].append(row)
        keys = ["one_thread_us", "two_threads_us", "speedup", "published_cpp_us", "published_cpp_ratio"]
        values = [row.get(key) for key in [*keys, "published_cpp_dual_us", "published_python_us"]]
        shown = (f"{value:>14.2f}" if value is not None else f"{'-':>14}" for value in values)
        print(f"({n}, {k})".ljust(8) + "".join(shown))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
