"""Error against the budget of sets, and against time: the search alone, with its best constant, and the experts.

    python benchmarks/budget.py [--count 300] [--out benchmarks/results/budget.json]

Codes are half normal, half integers in [-100, 100], of finite height, from a random stream that no training sees; true
heights are exact. For each size and budget, in bits of log2 h:

search    the lower bound that experts start from, of `Predictor.measure(P, m, budget=...)`
constant  the same and its best constant, chosen on as many other codes of the same size
closing   the tightest lower bound that the same sets give, `brackets(..., tightest=True).lower`, and with its constant
predict   `Predictor.predict(P, m, budget=...)`

A budget of at least C(n, m) looks at all sets, "all"; "scan" is `predict(P, m)` without a budget, for n <= 16, whose
bracket has an upper bound too. Microseconds a code on one thread, the best of several repetitions over the batch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from exact_profile import machine, seconds
from numpy.typing import NDArray

from moe_mheight import Predictor, m_height, random_codes
from moe_mheight.brackets.bounds import brackets
from moe_mheight.codes.minors import MAX_N
from moe_mheight.experts.batches import SHORTEST
from moe_mheight.experts.model_store import shipped_folder
from moe_mheight.experts.rng_streams import stream
from moe_mheight.groups import TIERS, TRAINED_N, parse_group, searched_sizes, tier_of

Group = tuple[int, int, int]

SIZES = (*((12, 6, m) for m in range(2, 7)), (16, 8, 4), (16, 8, 8), (20, 10, 6), (24, 12, 6))
BUDGETS = (100, 300, 1000, 3000)
MOST_SETS = 15_000
"""Sizes with more sets are not searched without end."""

LONG, LONG_BUDGET, LONG_BATCH = (32, 16, 8), 1000, 64
"""Timed only: nobody knows the heights."""

KINDS = ("normal", "integer")
SEED = 97
"""Of the codes, in the stream "default", whose codes nothing is trained on."""

LEVEL = 0.9

SLIP = {True: 1e-14, False: 1e-9}
"""How far off true heights may be, relatively: up to n = 16, and beyond."""


def models_in(folder: Path) -> dict[str, str]:
    """What tells one model set from another: a mark of each tier's checksums."""
    return {tier: hashlib.sha256((folder / tier / "SHA256SUMS").read_bytes()).hexdigest()[:12] for tier in TIERS}


def circumstances(folder: Path) -> dict[str, Any]:
    """Where, when and with what models a result was measured."""
    here = machine() | {"torch": version("torch")}
    return {"machine": here, "date": time.strftime("%Y-%m-%d", time.gmtime()), "models": models_in(folder)}


def labelled(group: Group, count: int, part: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`count` codes of finite height, kinds taking turns, and their heights; part 0 is judged, part 1 sets constants.

    Shapes: (B, k, r), (B,).
    """
    n, k, m = group
    rng = stream("default", SEED, *group, part)
    halves = [_finite(kind, group, -(-count // len(KINDS)), rng) for kind in KINDS]
    P = np.stack(halves, axis=1).reshape(-1, k, n - k)[:count]
    h = m_height(P, m)
    finite = np.isfinite(h)
    return P[finite], h[finite]


def _finite(kind: str, group: Group, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Codes of one kind whose height is finite; beyond n = 16 hardly any is not, and those are left out later."""
    n, k, m = group
    P = random_codes(kind, count, k, n - k, rng)
    while n <= MAX_N and (again := np.isinf(m_height(P, m))).any():
        P[again] = random_codes(kind, int(again.sum()), k, n - k, rng)
    return P


def errors(name: str, off: NDArray[np.float64]) -> dict[str, float]:
    return {f"{name}_log2_mse": float(np.mean(off**2)), f"{name}_worst_bits": float(np.abs(off).max())}


def microseconds(works: list[Callable[[], Any]], codes: int, repetitions: int) -> list[float]:
    """The best of several repetitions of each, a code; they take turns, so that a busy spell falls on all."""
    times = [[seconds(work) for work in works] for _ in range(repetitions)]
    return [1e6 * float(best) / codes for best in np.min(times, axis=0)]


def measure(
    predictor: Predictor,
    group: Group,
    budget: int,
    judged: tuple[NDArray[np.float64], NDArray[np.float64]],
    other: tuple[NDArray[np.float64], NDArray[np.float64]],
    repetitions: int,
) -> dict[str, Any]:
    """All figures of one size under one budget; 0: the scan."""
    n, k, m = group
    (P, h), (P_other, h_other) = judged, other
    log2_h, slip = np.log2(h), SLIP[n <= MAX_N]
    row: dict[str, Any] = {"n": n, "k": k, "m": m, "tier": tier_of(*group), "sets": comb(n, m), "budget": budget}
    scanned = TRAINED_N[0] <= n <= TRAINED_N[1]
    whole = scanned and n >= SHORTEST and budget == comb(n, m)
    trained = (whole or group in searched_sizes(tier_of(*group))) if budget else scanned
    row |= {"trained": trained, "codes": len(h), "violations": 0}
    lower = {"search": predictor.measure(P, m, budget=budget).lower}
    apart = {"search": predictor.measure(P_other, m, budget=budget).lower}
    settings: dict[str, Any] = {"steps": predictor.steps, "budget": budget}
    lower["closing"] = brackets(P, m, tightest=True, **settings).lower
    apart["closing"] = brackets(P_other, m, tightest=True, **settings).lower
    for name, bound in lower.items():
        constant = float(np.mean(np.log2(h_other) - np.log2(apart[name])))
        row |= errors(name, np.log2(bound) - log2_h)
        row |= errors(f"{name}_constant", np.log2(bound) + constant - log2_h) | {f"{name}_constant_bits": constant}
        row["violations"] += int((bound > h * (1 + slip)).sum())
    best = predictor.predict(P, m, budget=budget)
    row |= errors("predict", np.log2(best) - log2_h) | {"falsely_infinite": int(np.isinf(best).sum())}
    for name in lower:
        mse, own = row[f"{name}_constant_log2_mse"], row["predict_log2_mse"]
        row[f"gain_over_{name}"] = mse / own if mse > 1e-12 else None  # below, only rounding is left
    low, high = predictor.predict_interval(P, m, coverage=LEVEL, budget=budget)
    row["coverage"] = float(np.mean((low <= h * (1 + slip)) & (h * (1 - slip) <= high)))
    row["interval_bits"] = float(np.mean(np.log2(high) - np.log2(low)))
    alone = partial(brackets, P, m, threads=1, **settings)
    whole = partial(predictor.predict, P, m, budget=budget, threads=1)
    row["brackets_us"], row["predict_us"] = microseconds([alone, whole], len(P), repetitions)
    return row


def long_codes(predictor: Predictor, repetitions: int) -> dict[str, Any]:
    """Milliseconds a code of LONG, in a batch and one by one."""
    n, k, m = LONG
    rng = stream("default", SEED, *LONG, 0)
    P = np.concatenate([random_codes(kind, LONG_BATCH // 2, k, n - k, rng) for kind in KINDS])
    row: dict[str, Any] = {"n": n, "k": k, "m": m, "sets": comb(n, m), "budget": LONG_BUDGET, "batch": LONG_BATCH}
    both: dict[str, Callable[..., Any]] = {
        "brackets": partial(brackets, m=m, steps=predictor.steps, budget=LONG_BUDGET, threads=1),
        "predict": partial(predictor.predict, m=m, budget=LONG_BUDGET, threads=1),
    }
    for work in both.values():
        work(P[:1])
    batch = microseconds([partial(work, P) for work in both.values()], len(P), repetitions)
    for (name, work), us in zip(both.items(), batch, strict=True):
        row[f"{name}_batch_ms"] = 1e-3 * us
        row[f"{name}_single_ms"] = 1e3 * float(np.median([seconds(partial(work, one)) for one in P[::4]]))
    return row


def plans(group: Group, budgets: list[int]) -> list[tuple[int, list[int]]]:
    """Budgets that differ, and for "all" those that come to the same: (budget, others); 0 is the scan."""
    n, _, m = group
    sets = comb(n, m)
    found: list[tuple[int, list[int]]] = [(budget, []) for budget in budgets if budget < sets]
    if sets <= MOST_SETS:
        found.append((sets, [budget for budget in budgets if budget >= sets]))
    if n <= MAX_N:
        found.append((0, []))
    return found


CONTESTANTS = {
    "search": "search",
    "search_constant": "+ constant",
    "closing": "closing",
    "closing_constant": "+ constant",
    "predict": "predict",
}
MEANS = [*CONTESTANTS.values(), "gain", "over closing", "us, search", "us, all"]
EDGES = [*CONTESTANTS.values(), "violations", "in 90 %", "its width"]


def tables(result: dict[str, Any]) -> str:
    """A result file as two Markdown tables: mean errors, gains and times; worst errors and intervals."""
    means = ["| (n, k, m) | sets | budget | " + " | ".join(MEANS) + " |", "|---" + "|--:" * (len(MEANS) + 2) + "|"]
    edges = ["| (n, k, m) | sets | budget | " + " | ".join(EDGES) + " |", "|---" + "|--:" * (len(EDGES) + 2) + "|"]
    for row in result["rows"]:
        budget = f"{row['budget']:,}" if row["budget"] else "scan"
        if row["budget"] == row["sets"]:
            budget = "all" + (f" (also {', '.join(f'{b:,}' for b in row['also'])})" if row["also"] else "")
        size = f"| ({row['n']}, {row['k']}, {row['m']}){'' if row['trained'] else '*'} | {row['sets']:,} | {budget} | "
        cells = [f"{row[f'{name}_log2_mse']:.1e}" for name in CONTESTANTS]
        cells += [_gain(row["gain_over_search"]), _gain(row["gain_over_closing"])]
        cells += [f"{row['brackets_us']:.0f}", f"{row['predict_us']:.0f}"]
        means.append(size + " | ".join(cells) + " |")
        cells = [f"{row[f'{name}_worst_bits']:.3f}" for name in CONTESTANTS]
        cells += [str(row["violations"]), f"{100 * row['coverage']:.1f}", f"{row['interval_bits']:.4f}"]
        edges.append(size + " | ".join(cells) + " |")
    lines = [*means, "", *edges, ""]
    lines.append("\\* a size that the experts asked are not trained on.")
    if long := result["long"]:
        lines.append(
            f"({long['n']}, {long['k']}, {long['m']}), {long['sets']:,} sets, budget {long['budget']:,}, one thread: "
            f"{long['predict_batch_ms']:.1f} ms a code in batches of {long['batch']} (search and reweighting "
            f"{long['brackets_batch_ms']:.1f}), {long['predict_single_ms']:.1f} ms a code one by one "
            f"({long['brackets_single_ms']:.1f})."
        )
    return "\n".join(lines)


def _gain(gain: float | None) -> str:
    if gain is None:
        return "-"
    return f"{gain:.1f}" if gain < 1e4 else "> 10,000"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="codes a size")
    parser.add_argument("--sizes", help='like "12,6,2;16,8,4"; default all')
    parser.add_argument("--budgets", help='like "100,1000"; default 100,300,1000,3000')
    parser.add_argument("--repetitions", type=int, default=3, help="of timings, the best of so many")
    parser.add_argument("--models", type=Path, help="folder of a model set; default the shipped one")
    parser.add_argument("--without-long", action="store_true", help=f"leave {LONG} out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "budget.json")
    args = parser.parse_args()
    sizes = tuple(map(parse_group, args.sizes.split(";"))) if args.sizes else SIZES
    budgets = [int(budget) for budget in args.budgets.split(",")] if args.budgets else list(BUDGETS)
    folder = args.models or shipped_folder()
    warnings.filterwarnings("ignore", message="n = .* is outside the trained range")
    result: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/budget.py", *sys.argv[1:]]),
        "seed": SEED,
        "kinds": KINDS,
        **circumstances(folder),
        "rows": [],
    }
    codes = {size: [labelled(size, args.count, part) for part in (0, 1)] for size in sizes}
    predictor = Predictor.load(folder)
    for size in sizes:
        for budget, also in plans(size, budgets):
            print(f"{size}, budget {budget or 'scan'}", file=sys.stderr, flush=True)
            row = measure(predictor, size, budget, *codes[size], args.repetitions)
            result["rows"].append(row | {"also": also})
    result["long"] = None if args.without_long else long_codes(predictor, args.repetitions)
    print(f"{result['machine']['cpu']}, {result['date']}; log2-MSE in bits squared, worst errors and widths in bits")
    print(tables(result))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
