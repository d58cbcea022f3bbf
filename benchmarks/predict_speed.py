"""How fast a Predictor is: codes a second, one code, a fresh process, memory, and beside the exact ways.

    python benchmarks/predict_speed.py [--rows 4000] [--out benchmarks/results/predict_speed.json]

`batches`  codes a second of `predict` over the nine groups of n = 9: as one list of mixed rows [n, k, m, P], and as one
           array for each group; one thread and two, with the fixed router and, where the set has one, the learned one
`one_code` milliseconds of a call with one code
`process`  seconds in fresh processes that find compiled kernels on disk: imports, `Predictor.load()`, a first `predict`
`disk`     the model set
`memory`   the most that a fresh process needs for many codes of (9, 5, 3) in one call, over its own input and output
`against`  microseconds a code, one thread, of `predict`, of the exact solver (all heights at once) and of the linear
           programs of all (S, a), solved one by one with HiGHS through SciPy, whose wrapper is a good part of the time;
           where a code has too many of them, a random sample is timed

Codes are integers in [-100, 100] from a random stream that nothing is trained on.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
import warnings
from functools import partial
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from budget import circumstances, microseconds
from exact_profile import seconds
from numpy.typing import NDArray
from scipy.optimize import linprog

from moe_mheight import Predictor, height_profile, random_codes
from moe_mheight.codes.linear import generator
from moe_mheight.experts.model_store import shipped_folder
from moe_mheight.experts.rng_streams import stream
from moe_mheight.groups import HEADLINE

Group = tuple[int, int, int]

SEED = 96
"""Of the codes, in the stream "default", whose codes nothing is trained on."""

AGAINST = ((9, 4, 2), (12, 6, 3), (16, 8, 4))

MANY = (9, 5, 3)
"""The group whose memory is measured."""

MOST_PROGRAMS = 1000
"""Codes with more linear programs than this have a sample of them timed."""

PROCESS = """
import json, sys, time
start = time.perf_counter()
from moe_mheight import Predictor
imported = time.perf_counter()
predictor = Predictor.load(sys.argv[1])
loaded = time.perf_counter()
predictor.predict([[3, 7, 1, 4], [5, 2, 9, 6], [1, 8, 4, 3], [7, 5, 2, 8], [6, 1, 9, 2]], 3)
first = time.perf_counter()
predictor.predict([[3, 7, 1, 4], [5, 2, 9, 6], [1, 8, 4, 3], [7, 5, 2, 8], [6, 1, 9, 2]], 3)
print(json.dumps([imported - start, loaded - imported, first - loaded, time.perf_counter() - first]))
"""

MEMORY = """
import json, resource, sys, time
import numpy as np
from moe_mheight import Predictor
folder, n, k, m, count = sys.argv[1], *map(int, sys.argv[2:])
predictor = Predictor.load(folder)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
P = np.random.default_rng(0).normal(size=(count, k, n - k))
predictor.predict(P[:8192], m)
before, start = peak(), time.perf_counter()
h = predictor.predict(P, m)
spent = time.perf_counter() - start
print(json.dumps([peak(), before, (P.nbytes + h.nbytes) / 2**20, spent]))
"""


def codes_of(group: Group, count: int) -> NDArray[np.float64]:
    n, k, _ = group
    return random_codes("integer", count, k, n - k, stream("default", SEED, *group))


def batches(predictor: Predictor, rows: int, repetitions: int) -> dict[str, float]:
    """Codes a second, with as many threads as named."""
    arrays = {group: codes_of(group, -(-rows // len(HEADLINE))) for group in HEADLINE}
    mixed: list[list[Any]] = [[*group, one] for group, P in arrays.items() for one in P]
    mixed = [mixed[i] for i in np.random.default_rng(SEED).permutation(len(mixed))[:rows]]
    predictor.predict(mixed[:200])
    out = {}
    for threads in (1, 2):

        def in_arrays(threads: int = threads) -> None:
            for (_, _, m), P in arrays.items():
                predictor.predict(P, m, threads=threads)

        in_rows = partial(predictor.predict, mixed, threads=threads)
        (of_rows,) = microseconds([in_rows], len(mixed), repetitions)
        (of_arrays,) = microseconds([in_arrays], sum(len(P) for P in arrays.values()), repetitions)
        out[f"rows_{threads}"], out[f"arrays_{threads}"] = 1e6 / of_rows, 1e6 / of_arrays
    return out


def one_code(predictor: Predictor, calls: int) -> dict[str, float]:
    """Milliseconds of warm calls, over the nine groups in turn."""
    times = []
    for group in HEADLINE:
        P = codes_of(group, calls // len(HEADLINE) + 2)
        for one in P[:2]:
            predictor.predict(one, group[2])
        times += [1e3 * seconds(partial(predictor.predict, one, group[2])) for one in P[2:]]
    return {
        "median_ms": float(np.median(times)),
        "slowest_of_100_ms": float(np.quantile(times, 0.99)),
        "calls": len(times),
    }


def fresh(script: str, *arguments: Any) -> tuple[list[float], float]:
    """What a script in a process of its own prints, and how long the process takes."""
    start = time.perf_counter()
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout), time.perf_counter() - start


def process(folder: Path, repetitions: int) -> dict[str, float]:
    fresh(PROCESS, folder)  # compiles
    found = [fresh(PROCESS, folder) for _ in range(repetitions)]
    imports, load, first, second = np.median([times for times, _ in found], axis=0)
    return {
        "import_s": float(imports),
        "load_s": float(load),
        "first_predict_s": float(first),
        "second_predict_s": float(second),
        "whole_process_s": float(np.median([whole for _, whole in found])),
    }


def disk(folder: Path) -> dict[str, float]:
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    weights = sum(size for path, size in sizes.items() if path.suffix == ".safetensors")
    return {"mb": sum(sizes.values()) / 1e6, "weights_mb": weights / 1e6, "files": len(sizes)}


def memory(folder: Path, counts: list[int]) -> list[dict[str, float]]:
    """MiB: the most a process ever held, before the large call and over all; and over its own input and output."""
    out = []
    for count in counts:
        (peak, before, own, spent), _ = fresh(MEMORY, folder, *MANY, count)
        out.append(
            {
                "codes": count,
                "peak_mib": peak,
                "before_mib": before,
                "input_and_output_mib": own,
                "beyond_mib": peak - own,
                "seconds": spent,
            }
        )
    return out


def program(G: NDArray[np.float64], S: list[int], a: int) -> float:
    """The largest c_a of codewords with |c_j| <= 1 on S, by a linear program; inf where it has no end."""
    rows = G[:, S].T
    both, ones = np.vstack([rows, -rows]), np.ones(2 * len(rows))
    found = linprog(-G[:, a], both, ones, bounds=(None, None), method="highs")
    if found.status not in (0, 3):
        raise ArithmeticError(f"the linear program of S = {S}, a = {a} ended with: {found.message}")
    return -float(found.fun) if found.status == 0 else float("inf")


def against(predictor: Predictor, group: Group, count: int, programs: int, repetitions: int) -> dict[str, Any]:
    n, k, m = group
    P = codes_of(group, count)
    height_profile(P[:64], threads=1)
    predictor.predict(P[:64], m, threads=1)
    exact = partial(height_profile, P, threads=1)
    exact_us, predict_us = microseconds([exact, partial(predictor.predict, P, m, threads=1)], count, repetitions)
    pairs = [(sorted(set(range(n)) - set(A)), a) for A in combinations(range(n), m) for a in A]
    whole = len(pairs) <= MOST_PROGRAMS
    rng, spent, solved, agreeing, codes = stream("default", SEED, *group, 1), 0.0, 0, 0, 0
    while solved < programs or not solved:
        G = generator(P[codes])
        chosen = pairs if whole else [pairs[i] for i in rng.permutation(len(pairs))[:programs]]
        start = time.perf_counter()
        found = max(program(G, S, a) for S, a in chosen)
        spent, solved, codes = spent + time.perf_counter() - start, solved + len(chosen), codes + 1
        h = float(height_profile(P[codes - 1])[m])
        agreeing += found == h or abs(found / h - 1.0) < 1e-6
    programs_us = 1e6 * spent / solved * len(pairs)
    return {
        "n": n,
        "k": k,
        "m": m,
        "sets": comb(n, m),
        "codes": count,
        "predict_us": predict_us,
        "exact_us": exact_us,
        "programs_us": programs_us,
        "programs_a_code": len(pairs),
        "programs_timed": solved,
        "programs_extrapolated": not whole,
        "programs_agreeing": f"{agreeing} of {codes}" if whole else None,
        "predict_over_exact": predict_us / exact_us,
        "programs_over_predict": programs_us / predict_us,
        "programs_over_exact": programs_us / exact_us,
    }


def tables(result: dict[str, Any]) -> str:
    """A result file as Markdown."""
    lines = ["| codes a second | rows, 1 thread | arrays, 1 | rows, 2 threads | arrays, 2 |", "|---" + "|--:" * 4 + "|"]
    for router, row in result["batches"].items():
        cells = [row[key] for key in ("rows_1", "arrays_1", "rows_2", "arrays_2")]
        lines.append(f"| {router} router | " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |")
    one, started, size = result["one_code"], result["process"], result["disk"]
    lines += [
        "",
        f"One warm code: {one['median_ms']:.2f} ms in the median, {one['slowest_of_100_ms']:.2f} ms for 1 in 100.",
        f"A fresh process: imports {started['import_s']:.2f} s, load {started['load_s']:.2f} s, first predict "
        f"{started['first_predict_s']:.2f} s (later {1e3 * started['second_predict_s']:.1f} ms), "
        f"{started['whole_process_s']:.2f} s in all.",
        f"Models: {size['mb']:.2f} MB in {size['files']} files, {size['weights_mb']:.2f} MB of weights.",
        "",
        f"| codes of {MANY} in one call | peak, MiB | input and output | beyond them | seconds |",
        "|--:" * 5 + "|",
    ]
    for row in result["memory"]:
        cells = [row[key] for key in ("peak_mib", "input_and_output_mib", "beyond_mib", "seconds")]
        lines.append(f"| {row['codes']:,} | " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |")
    few, many = result["memory"][0], result["memory"][-1]
    if many["codes"] > few["codes"]:
        more = (many["beyond_mib"] - few["beyond_mib"]) * 2**20 / (many["codes"] - few["codes"])
        own = many["input_and_output_mib"] * 2**20 / many["codes"]
        lines += ["", f"So a code takes {own:.0f} bytes of input and output, and {more:.0f} bytes beyond them."]
    head = ["sets", "predict", "exact", "linear programs", "predict / exact", "programs / predict", "programs / exact"]
    lines += ["", "| microseconds | " + " | ".join(head) + " |", "|---" + "|--:" * len(head) + "|"]
    for row in result["against"]:
        about = "about " if row["programs_extrapolated"] else ""
        cells = [f"{row['sets']:,}", f"{row['predict_us']:,.0f}", f"{row['exact_us']:,.1f}"]
        cells += [f"{about}{row['programs_us']:,.0f}", f"{row['predict_over_exact']:.1f}"]
        cells += [f"{about}{row[f'programs_over_{other}']:,.0f}" for other in ("predict", "exact")]
        lines.append(f"| ({row['n']}, {row['k']}, {row['m']}) | " + " | ".join(cells) + " |")
    sampled = [row for row in result["against"] if row["programs_extrapolated"]]
    lines += [
        f'"about": from {row["programs_timed"]:,} of the {row["programs_a_code"]:,} programs of a code.'
        for row in sampled
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000, help="mixed rows in a batch")
    parser.add_argument("--calls", type=int, default=450, help="with one code")
    parser.add_argument("--memory", default="100000,1000000", help="codes in one call, several numbers")
    parser.add_argument("--count", type=int, default=2048, help="codes beside the exact ways; for n > 12 an eighth")
    parser.add_argument("--programs", type=int, default=400, help="linear programs timed at least, for each size")
    parser.add_argument("--repetitions", type=int, default=5, help="the best of so many, or the median for processes")
    parser.add_argument("--models", type=Path, help="folder of a model set; default the shipped one")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "predict_speed.json")
    args = parser.parse_args()
    folder = (args.models or shipped_folder()).resolve()
    warnings.filterwarnings("ignore", message="n = .* is outside the trained range")
    routers = ["fixed", *(["learned"] if (folder / "router.json").exists() else [])]
    predictor = Predictor.load(folder)
    result: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/predict_speed.py", *sys.argv[1:]]),
        "seed": SEED,
        "rows": args.rows,
        **circumstances(folder),
    }
    result["batches"] = {
        router: batches(Predictor.load(folder, router=router), args.rows, args.repetitions) for router in routers
    }
    result["one_code"] = one_code(predictor, args.calls)
    result["process"] = process(folder, args.repetitions)
    result["disk"] = disk(folder)
    result["memory"] = memory(folder, [int(count) for count in args.memory.split(",")])
    result["against"] = [
        against(predictor, group, args.count // (1 if group[0] <= 12 else 8), args.programs, args.repetitions)
        for group in AGAINST
    ]
    print(f"{result['machine']['cpu']}, {result['machine']['cores']} cores, {result['date']}")
    print(tables(result))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
