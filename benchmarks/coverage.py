"""How often intervals hold the height, how wide they are, and that certified bounds are never broken.

    python benchmarks/coverage.py [--codes 20000] [--bounds 1000000] [--out benchmarks/results/coverage.json]
    python benchmarks/coverage.py --groups n21 --out benchmarks/results/coverage_n21.json

Fresh codes of each of the ten kinds, over the groups in equal parts, from a random stream that nothing is trained or
calibrated on, against exact heights. Coverage and widths are those of `Predictor.predict_interval` over codes of finite
height; infinite ones that are drawn on the way are counted apart, and some kinds have no other at m = r. "macro" is the
mean over the groups of the mean squared error of log2 h. A second part checks `moe_mheight.bounds` over codes of all
sizes 4 <= n <= 12, kinds in equal parts.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from budget import circumstances
from numpy.typing import NDArray

from moe_mheight import Predictor, bounds, m_height, random_codes
from moe_mheight.codes.generators import ALL_KINDS
from moe_mheight.data.generate import parse_groups
from moe_mheight.experts.model_card import LEVELS
from moe_mheight.experts.model_store import shipped_folder
from moe_mheight.experts.rng_streams import stream
from moe_mheight.groups import TIERS, TRAINED_N, tier_of

Group = tuple[int, int, int]
Floats = NDArray[np.float64]

SEED = 95
"""Of the codes, in the stream "default", whose codes nothing is trained on."""

MOST_DRAWN = 4
"""Codes drawn for each one wanted, before infinite heights are called too common."""

SLIP = 1e-14
"""The exact height is rounded too: by so much it may leave a bracket that has closed. Coverage allows no such slip."""

CLOSED = 1e-9
"""Bits."""

PIECE = 65536


@dataclass(frozen=True)
class Cell:
    """What became of the codes of one kind and group. Widths and errors in bits, of finite heights only.

    Shapes: error, bracket (B,); inside, width (len(LEVELS), B).
    """

    kind: str
    group: Group
    error: Floats
    bracket: Floats
    inside: NDArray[np.bool_]
    width: Floats
    infinite: int
    infinite_missed: int
    infinite_false: int
    violations: int


def draw(kind: str, group: Group, count: int) -> tuple[Floats, Floats]:
    """Codes of one kind until `count` have finite heights, the infinite ones drawn on the way among them."""
    n, k, m = group
    rng = stream("default", SEED, *group, ALL_KINDS.index(kind))
    P, h = np.empty((0, k, n - k)), np.empty(0)
    while (missing := count - int(np.isfinite(h).sum())) > 0 and len(P) < MOST_DRAWN * count:
        some = random_codes(kind, missing, k, n - k, rng)
        P, h = np.concatenate([P, some]), np.concatenate([h, m_height(some, m)])
    return P, h


def holds(low: Floats, h: Floats, high: Floats, slip: float = 0.0) -> NDArray[np.bool_]:
    return (low <= h * (1 + slip)) & (h * (1 - slip) <= high)


def bits(low: Floats, high: Floats) -> Floats:
    """Widths in bits; inf where there is no upper end."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(low), 0.0, np.log2(high) - np.log2(low))


def cell(predictor: Predictor, kind: str, group: Group, count: int) -> Cell:
    P, h = draw(kind, group, count)
    measured = predictor.measure(P, group[2])
    lower, upper, best = measured.lower, measured.upper, measured.height
    infinite = np.isinf(h)
    finite = ~infinite
    inside, width = [], []
    for level in LEVELS:
        low, high = predictor.predict_interval(P[finite], group[2], coverage=level)
        inside.append(holds(low, h[finite], high))
        width.append(bits(low, high))
    return Cell(
        kind=kind,
        group=group,
        error=np.log2(best[finite]) - np.log2(h[finite]),
        bracket=bits(lower[finite], upper[finite]),
        inside=np.array(inside),
        width=np.array(width),
        infinite=int(infinite.sum()),
        infinite_missed=int((infinite & ~np.isinf(best)).sum()),
        infinite_false=int((finite & np.isinf(best)).sum()),
        violations=int((~holds(lower, h, upper, SLIP)).sum()),
    )


def summary(cells: Iterable[Cell]) -> dict[str, Any]:
    """Figures over some cells; every code counts the same, but in the macro error every group does."""
    cells = list(cells)
    error, bracket = (np.concatenate([getattr(c, name) for c in cells]) for name in ("error", "bracket"))
    inside, width = (np.concatenate([getattr(c, name) for c in cells], axis=1) for name in ("inside", "width"))
    by_group = [np.concatenate([c.error for c in cells if c.group == group]) for group in {c.group for c in cells}]
    bounded = np.isfinite(bracket)
    out: dict[str, Any] = {
        "codes": len(error),
        "macro_log2_mse": float(np.mean([np.mean(errors**2) for errors in by_group if len(errors)])),
        "worst_bits": float(np.abs(error).max(initial=0.0)),
        "bracket_bits": float(bracket[bounded].mean()),
        "closed": float(np.mean(bracket < CLOSED)),
        "unbounded": int((~bounded).sum()),
        "coverage": {str(level): float(share) for level, share in zip(LEVELS, inside.mean(axis=1), strict=True)},
        "interval_bits": {
            str(level): float(mean) for level, mean in zip(LEVELS, width[:, bounded].mean(axis=1), strict=True)
        },
    }
    for name in ("infinite", "infinite_missed", "infinite_false", "violations"):
        out[name] = sum(getattr(c, name) for c in cells)
    return out


def check_bounds(wanted: int) -> dict[str, Any]:
    """Certified bounds against exact heights, all sizes of TRAINED_N, each (n, k, m) and kind as often as others."""
    shapes = [(n, k) for n in range(TRAINED_N[0], TRAINED_N[1] + 1) for k in range(1, n)]
    sizes = sum(n - k for n, k in shapes)
    found = dict.fromkeys(("codes", "violations", "infinite", "infinite_missed", "infinite_false", "unbounded"), 0)
    closed, widest, start = 0, 0.0, time.perf_counter()
    for n, k in shapes:
        rng = stream("default", SEED, n, k)
        share = -(-wanted * (n - k) // (sizes * len(ALL_KINDS)))
        whole = np.concatenate([random_codes(kind, share, k, n - k, rng) for kind in ALL_KINDS])
        levels = rng.integers(1, n - k + 1, len(whole))
        for at in range(0, len(whole), PIECE):
            P, m = whole[at : at + PIECE], levels[at : at + PIECE]
            h = m_height(P, m)
            lower, upper = bounds(P, m)
            infinite, width = np.isinf(h), bits(lower, upper)
            bounded = np.isfinite(width) & ~infinite
            found["codes"] += len(P)
            found["violations"] += int((~holds(lower, h, upper, SLIP)).sum())
            found["infinite"] += int(infinite.sum())
            found["infinite_missed"] += int((infinite & ~np.isinf(lower)).sum())
            found["infinite_false"] += int((~infinite & np.isinf(lower)).sum())
            found["unbounded"] += int((~infinite & np.isinf(width)).sum())
            closed += int((width[bounded] < CLOSED).sum())
            widest = max(widest, float(width[bounded].max(initial=0.0)))
        if k == n - 1:
            print(f"bounds, n = {n}: {found}", file=sys.stderr, flush=True)
    finite = found["codes"] - found["infinite"]
    return found | {
        "closed": closed / max(finite, 1),
        "widest_bits": widest,
        "seconds": round(time.perf_counter() - start, 1),
    }


def tables(result: dict[str, Any]) -> str:
    """A result file as two Markdown tables and a line on bounds."""
    levels = [f"{100 * level:g} %" for level in LEVELS]
    rows = {"all": result["overall"], **result["tiers"], **result["kinds"]}
    first = ["codes", "log2-MSE", "worst", "infinite", "missed", "false", "violations", *levels]
    second = ["closed", "bracket", *levels]
    heads = [f"| | {' | '.join(names)} |\n|---|{'--:|' * len(names)}" for names in (first, second)]
    means, widths = [heads[0]], ["Mean widths in bits:\n", heads[1]]
    for name, row in rows.items():
        counts = [f"{row[key]:,}" for key in ("infinite", "infinite_missed", "infinite_false", "violations")]
        cells = [f"{row['codes']:,}", f"{row['macro_log2_mse']:.1e}", f"{row['worst_bits']:.3f}", *counts]
        cells += [f"{100 * share:.1f}" for share in row["coverage"].values()]
        means.append(f"| {name} | {' | '.join(cells)} |")
        cells = [
            f"{100 * row['closed']:.1f} %",
            *(f"{w:.1e}" for w in (row["bracket_bits"], *row["interval_bits"].values())),
        ]
        widths.append(f"| {name} | {' | '.join(cells)} |")
    lines = [*means, "", *widths]
    if b := result["bounds"]:
        lines += [
            "",
            f"Certified bounds of {b['codes']:,} codes of all sizes, {TRAINED_N[0]} <= n <= {TRAINED_N[1]}: "
            f"{b['violations']} violations; of {b['infinite']:,} infinite heights {b['infinite_missed']} missed, "
            f"{b['infinite_false']} claimed that are not; {100 * b['closed']:.2f} % closed to {CLOSED:g} bit, the "
            f"widest {b['widest_bits']:.2g} bits, {b['unbounded']} finite without an upper bound.",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", default="n9", help='"n9", "n21" or like "9,4,2;9,5,3"')
    parser.add_argument("--codes", type=int, default=20_000, help="of finite height, of each kind, over all groups")
    parser.add_argument(
        "--bounds", type=int, default=1_000_000, help="codes whose certified bounds are checked; 0: none"
    )
    parser.add_argument("--router", default="fixed", help='"fixed" or "learned"')
    parser.add_argument("--models", type=Path, help="folder of a model set; default the shipped one")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coverage.json")
    args = parser.parse_args()
    groups = parse_groups(args.groups)
    folder = args.models or shipped_folder()
    predictor = Predictor.load(folder, router=args.router)
    start, cells = time.perf_counter(), []
    for kind in ALL_KINDS:
        print(f"{kind}, {len(groups)} groups", file=sys.stderr, flush=True)
        for place, group in enumerate(groups):
            share = args.codes * (place + 1) // len(groups) - args.codes * place // len(groups)
            cells.append(cell(predictor, kind, group, share))
    spent = time.perf_counter() - start
    tiers = [tier for tier in TIERS if any(tier_of(*group) == tier for group in groups)]
    result: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/coverage.py", *sys.argv[1:]]),
        "seed": SEED,
        "groups": groups,
        **circumstances(folder),
        "seconds": round(spent, 1),
        "overall": summary(cells),
        "tiers": {tier: summary(c for c in cells if tier_of(*c.group) == tier) for tier in tiers},
        "kinds": {kind: summary(c for c in cells if c.kind == kind) for kind in ALL_KINDS},
        "bounds": check_bounds(args.bounds) if args.bounds else None,
    }
    print(
        f"{result['machine']['cpu']}, {result['date']}, {spent:.0f} s; errors and widths in bits, MSE in bits squared"
    )
    print(tables(result))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
