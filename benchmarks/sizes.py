"""The ensemble on every length from 4 to 16, all (k, m): trained sizes and, beyond n = 12, sizes never trained on.

    python benchmarks/sizes.py [--codes 200] [--out benchmarks/results/sizes.json]

Fresh codes of each of five kinds (integers in [-100, 100], integers with a scale of their own per matrix, uniform and
normal reals, nearly singular), from a random stream that nothing is trained or calibrated on, against exact heights.
log2-MSE in bits squared, per (n, k, m) and kind; "macro" is the plain mean over groups and kinds of one length, "fixed"
the same of the best fixed point of the bracket, chosen on other codes. Groups without finite heights count nowhere.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from budget import circumstances
from numpy.typing import NDArray

from moe_mheight import Predictor
from moe_mheight.codes.generators import KINDS
from moe_mheight.experts.model_card import best_fixed
from moe_mheight.experts.model_store import shipped_folder
from moe_mheight.experts.rng_streams import draw, stream
from moe_mheight.groups import TIERS, TRAINED_N, group_name, sizes, tier_of

Group = tuple[int, int, int]

SEED = 98
"""Of the codes, in the stream "default", whose codes nothing is trained on."""

ALL = (*KINDS, "near-singular")

SLIP = 1e-14
"""The exact height is rounded too."""


def measured(predictor: Predictor, group: Group, kind: str, count: int, part: int) -> NDArray[np.float64]:
    """(6, B): log2 lower bound, width, prediction, log2 h, whether finite, and whether bounds and infinities hold."""
    P, h = draw(stream("default", SEED, *group, ALL.index(kind), part), group, count, (kind,), infinite=True)
    if not len(P):
        return np.empty((6, 0))
    found = predictor.measure(P, group[2])
    lower, upper, best = found.lower, found.upper, found.height
    right = (lower <= h * (1 + SLIP)) & (h * (1 - SLIP) <= upper) & (np.isinf(best) == np.isinf(h))
    finite = np.isfinite(h)
    with np.errstate(invalid="ignore"):
        return np.stack([np.log2(lower), np.log2(upper) - np.log2(lower), np.log2(best), np.log2(h), finite, right])


def row(predictor: Predictor, group: Group, kind: str, count: int) -> dict[str, Any]:
    found = measured(predictor, group, kind, count, 0)
    other = measured(predictor, group, kind, max(count // 4, 20), 1)
    lower, width, best, log2_h = found[:4, found[4] > 0]
    known = other[:4, other[4] > 0]
    fixed = best_fixed(known[0], known[1], known[3])
    error = best - log2_h
    return {
        "group": group,
        "kind": kind,
        "codes": len(error),
        "infinite": int((found[4] == 0).sum()),
        "wrong": int((found[5] == 0).sum()),
        "log2_mse": float(np.mean(error**2)) if len(error) else None,
        "fixed_log2_mse": float(np.mean((lower + fixed * width - log2_h) ** 2)) if len(error) else None,
        "worst_bits": float(np.abs(error).max(initial=0.0)),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one length."""
    some = [row for row in rows if row["codes"]]
    groups: dict[Group, list[float]] = {}
    for each in some:
        groups.setdefault(each["group"], []).append(each["log2_mse"])
    means = {group: float(np.mean(errors)) for group, errors in groups.items()}
    worst = max(means, key=lambda group: means[group])
    return {
        "n": worst[0],
        "trained": TRAINED_N[0] <= worst[0] <= TRAINED_N[1],
        "groups": len(groups),
        "codes": sum(row["codes"] for row in some),
        "infinite": sum(row["infinite"] for row in rows),
        "wrong": sum(row["wrong"] for row in rows),
        "macro": float(np.mean([row["log2_mse"] for row in some])),
        "fixed": float(np.mean([row["fixed_log2_mse"] for row in some])),
        "worst_group": worst,
        "worst_group_log2_mse": means[worst],
        "worst_bits": max(row["worst_bits"] for row in some),
    }


def table(result: dict[str, Any]) -> str:
    """A line for each length."""
    lines = ["| n | groups | codes | infinite | macro log2-MSE | fixed | worst group | worst code, bits |"]
    lines += ["|---|" + "--:|" * 7]
    for s in result["lengths"]:
        lines.append(
            f"| {s['n']}{'' if s['trained'] else '*'} | {s['groups']} | {s['codes']:,} | {s['infinite']:,} | "
            f"{s['macro']:.1e} | {s['fixed']:.1e} | {s['worst_group_log2_mse']:.1e} at "
            f"({group_name(s['worst_group'], ', ')}) | {s['worst_bits']:.3f} |"
        )
    wrong = sum(s["wrong"] for s in result["lengths"])
    return "\n".join([*lines, "", f"\\* never trained on. Bounds broken, infinities missed or invented: {wrong}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=200, help="of each group and kind; a quarter beyond n = 12")
    parser.add_argument("--longest", type=int, default=16)
    parser.add_argument("--models", type=Path, help="folder of a model set; default the shipped one")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sizes.json")
    args = parser.parse_args()
    folder = args.models or shipped_folder()
    warnings.filterwarnings("ignore", message="n = .* is outside the trained range")
    predictor = Predictor.load(folder)
    began = time.perf_counter()
    lengths, rows = [], []
    for n in range(4, args.longest + 1):
        count = args.codes if n <= TRAINED_N[1] else args.codes // 4
        groups = [group for tier in TIERS for group in sizes(tier, n, n)]
        here = [row(predictor, group, kind, count) for group in groups for kind in ALL]
        rows += [each | {"tier": tier_of(*each["group"])} for each in here]
        lengths.append(summary(here))
        print(f"n = {n}: {len(groups)} groups, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/sizes.py", *sys.argv[1:]]),
        "seed": SEED,
        **circumstances(folder),
        "seconds": round(time.perf_counter() - began, 1),
        "lengths": lengths,
        "worst": sorted((each for each in rows if each["codes"]), key=lambda each: -each["log2_mse"])[:20],
    }
    print(table(result))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
