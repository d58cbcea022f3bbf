"""Predictions of long codes against exact heights, on fresh codes: errors, certainty, times, and what was learned.

    python benchmarks/long_codes.py label FOLDER --codes 100 --seconds 25   fresh codes, labelled exactly, timed
    python benchmarks/long_codes.py score FOLDER                            the predictor on them
    python benchmarks/long_codes.py ablate FOLDER                           without its parts, at equal time
    python benchmarks/long_codes.py parts FOLDER                            the search, part by part, for 100 rounds

`label` keeps what is there, and goes on. Results go to benchmarks/results/long_codes.json, long_codes_ablation.json and
long_codes_parts.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from moe_mheight import Predictor, m_height, random_codes
from moe_mheight.brackets import long_codes
from moe_mheight.brackets.swap_scores import FIXED
from moe_mheight.codes.minors import are_whole
from moe_mheight.ensemble.long_codes import EFFORTS
from moe_mheight.experts.long_experts import LongTier, judge, ranking_of
from moe_mheight.experts.search_records import read_records
from moe_mheight.groups import Group, group_name, tier_of

RESULTS = Path(__file__).parent / "results"

SIZES = (
    (16, 8, 4), (16, 8, 8), (20, 10, 6), (24, 12, 6), (24, 12, 9), (32, 16, 6), (32, 8, 8), (40, 20, 6), (48, 24, 5),
    (48, 36, 4), (64, 32, 4), (32, 16, 8), (64, 16, 8),
)  # fmt: skip

KINDS = ("integer", "small-integer", "normal", "tight-frame")

SINGLES = 10
"""Codes that are also timed one at a time."""


def label(folder: Path, seed: int, codes: int, seconds: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n, k, m in SIZES:
        for place, kind in enumerate(KINDS):
            path = folder / f"{n}_{k}_{m}_{kind}.npz"
            if path.exists():
                continue
            P = random_codes(kind, codes, k, n - k, np.random.default_rng([seed, n, k, m, place]))
            h, taken, began = [], [], time.monotonic()
            for code in P:
                before = time.process_time()
                h.append(m_height(code, m, threads=1))
                taken.append(time.process_time() - before)
                if time.monotonic() - began > seconds:
                    break
            np.savez(path, P=P[: len(h)], h=h, seconds=taken)
            print(f"({n}, {k}, {m}) {kind}: {len(h)} codes, {1e3 * np.mean(taken):.1f} ms each", flush=True)


def labelled(folder: Path) -> Iterator[tuple[Group, str, Any, Any, Any]]:
    for n, k, m in SIZES:
        for kind in KINDS:
            path = folder / f"{n}_{k}_{m}_{kind}.npz"
            if path.exists():
                found = np.load(path)
                yield (n, k, m), kind, found["P"], found["h"], found["seconds"]


def timed(work: Any) -> tuple[Any, float]:
    """What it gives, and its seconds of this process."""
    before = time.process_time()
    out = work()
    return out, time.process_time() - before


def _line(row: dict[str, Any]) -> str:
    errors = f"mse {row['log2_mse']:.1e} (lower {row['lower_log2_mse']:.1e})  worst {row['worst_bits']:.3f}"
    sure = f"off {row['off_by_0.02']:.3f}  found {row['found']:.3f}  sure {row['sure']}, right {row['sure_right']}"
    infinite = f"inf {row['infinite']} -{row['infinite_missed']} +{row['infinite_invented']}"
    times = (
        f"{row['ms']:.2f} ms, single {row['ms_single']:.2f}, exact {row['exact_ms']:.1f}, now {row['exact_ms_now']:.1f}"
    )
    return f"{row['group']:>10} {row['kind']:14} {row['codes']:4d}  {errors}  {sure}  {infinite}  {times}"


def score(folder: Path) -> None:
    predictor, rows = Predictor.load(), []
    predictor.predict(np.ones((2, 8, 16)) + np.eye(8, 16), 4, threads=1)  # compiles
    for group, kind, P, h, seconds in labelled(folder):
        m = group[2]
        measured, spent = timed(lambda P=P, m=m: predictor.measure(P, m, coverage=0.9, threads=1))
        singles = P[:SINGLES]
        _, one_by_one = timed(lambda P=singles, m=m: [predictor.predict(code, m, threads=1) for code in P])
        _, exact_now = (
            timed(lambda P=singles[:2], m=m: [m_height(code, m, threads=1) for code in P])
            if (np.mean(seconds) < 1.0)
            else (None, 2.0 * float(np.mean(seconds)))
        )
        finite = np.isfinite(h) & np.isfinite(measured.height)
        error = np.log2(measured.height[finite]) - np.log2(h[finite])
        short = np.log2(h[finite]) - np.log2(measured.lower[finite])
        found = short <= 1e-7
        certainty = measured.certainty[finite]
        sure = certainty >= 0.99
        row = {
            "group": group_name(group), "kind": kind, "codes": len(h),
            "log2_mse": float(np.mean(error**2)) if finite.any() else 0.0,
            "lower_log2_mse": float(np.mean(short**2)) if finite.any() else 0.0,
            "worst_bits": float(np.abs(error).max(initial=0.0)),
            "off_by_0.02": float((np.abs(error) > 0.02).mean()) if finite.any() else 0.0,
            "found": float(found.mean()) if finite.any() else 1.0,
            "above": int((short < -1e-12).sum()),
            "infinite": int(np.isinf(h).sum()),
            "infinite_missed": int((np.isinf(h) & np.isfinite(measured.height)).sum()),
            "infinite_invented": int((np.isfinite(h) & np.isinf(measured.height)).sum()),
            "certainty": float(certainty.mean()) if finite.any() else 1.0,
            "sure": int(sure.sum()), "sure_right": int(found[sure].sum()),
            "brier": float(np.mean((certainty - found) ** 2)) if finite.any() else 0.0,
            "covered_0.9": float((h <= measured.high * (1 + 1e-12)).mean()),
            "ms": 1e3 * spent / len(h), "ms_single": 1e3 * one_by_one / len(singles),
            "exact_ms": 1e3 * float(np.mean(seconds)), "exact_ms_now": 1e3 * exact_now / 2,
        }  # fmt: skip
        rows.append(row)
        print(_line(row), flush=True)
    sure, right = sum(row["sure"] for row in rows), sum(row["sure_right"] for row in rows)
    total = {
        "macro": float(np.mean([row["log2_mse"] for row in rows])),
        "worst group and kind": max(row["log2_mse"] for row in rows),
        "right of those called 0.99": right / max(sure, 1),
    }
    print(total)
    (RESULTS / "long_codes.json").write_text(json.dumps({"rows": rows, "total": total}, indent=1) + "\n")


def _searched(P: Any, group: Group, tier: LongTier, ranking: Any, rounds: Any) -> Any:
    """Records, judgement and seconds of searches of so many rounds: a number, or "certain", as the predictor goes."""
    records, whole, m = long_codes.begin(len(P)), are_whole(P), group[2]
    before = time.process_time()
    if isinstance(rounds, int):
        long_codes.go_on(P, m, records, rounds, ranking=ranking, threads=1)
        return records, judge(tier, read_records(records, group, whole)), time.process_time() - before
    effort, rows, step, done = EFFORTS["default"], np.arange(len(P)), long_codes.first_rounds(*group), 0
    certainty, expected = np.zeros(len(P)), np.zeros(len(P))
    for _ in range(effort.stages):
        part = long_codes.rows_of(records, rows)
        long_codes.go_on(P[rows], m, part, step, ranking=ranking, threads=1)
        for column, changed in zip(records, part, strict=True):
            column[rows] = changed
        judged = judge(tier, read_records(part, group, whole[rows]))
        certainty[rows], expected[rows] = judged.certainty, judged.expected
        done += step
        unsure = (judged.certainty < effort.certainty) & ((1 - judged.certainty) * judged.gap**2 > effort.error)
        step, rows = done, rows[unsure]
        if not len(rows):
            break
    return records, (certainty, expected), time.process_time() - before


def ablate(folder: Path) -> None:
    """The same search for the same time, without what was learned: the fixed ranking, the same rounds for every code,
    and the best constant added (chosen on these very codes, in its favour)."""
    predictor, rows = Predictor.load(), []
    for group, kind, codes, h, _ in labelled(folder):
        finite = np.isfinite(h)
        if group[0] < 24 or finite.sum() < 5:
            continue
        P, log2_h, tier = codes[finite], np.log2(h[finite]), predictor.long[tier_of(*group)]
        learned = ranking_of(tier.members)
        records, (_, expected), spent = _searched(P, group, tier, learned, "certain")
        short = log2_h - np.log2(records.heights.max(1))
        row = {"group": group_name(group), "kind": kind, "codes": len(P), "ms": 1e3 * spent / len(P)}
        row |= {"all": float(np.mean((short - expected) ** 2)), "without the gap": float(np.mean(short**2))}
        for name, ranking in (("without certainty", learned), ("without anything", FIXED)):
            first = long_codes.first_rounds(*group)
            _, _, trial = _searched(P, group, tier, ranking, first)
            rounds = max(1, int(first * spent / trial))
            records, _, again = _searched(P, group, tier, ranking, rounds)
            short = log2_h - np.log2(records.heights.max(1))
            row[name], row[f"{name}, ms"] = float(np.var(short)), 1e3 * again / len(P)  # the best constant added
        one = LongTier(tier.members[:1], tier.calibration)
        records, (_, expected), _ = _searched(P, group, one, ranking_of(one.members), "certain")
        row["one member"] = float(np.mean((log2_h - np.log2(records.heights.max(1)) - expected) ** 2))
        rows.append(row)
        print(
            {key: value if isinstance(value, str) else float(f"{value:.3g}") for key, value in row.items()}, flush=True
        )
    (RESULTS / "long_codes_ablation.json").write_text(json.dumps(rows, indent=1) + "\n")


BARE = long_codes.PLAN._replace(spread=0.0, fresh=256, tried=0)

VARIANTS = {
    "least squares, swaps of one and two": (BARE, False),
    "random weights": (BARE._replace(spread=0.5), False),
    "starts from good sets": (BARE._replace(spread=0.5, fresh=128), False),
    "swaps around good sets, fixed ranking, margin 0.5": (long_codes.PLAN._replace(margin=0.5), False),
    "the same, margin 0.15": (long_codes.PLAN, False),
    "learned ranking, margin 0.5": (long_codes.PLAN._replace(margin=0.5), True),
    "learned ranking, margin 0.15 (the search)": (long_codes.PLAN, True),
}
"""Each with what those before it have, and whether the ranking is learned."""

PARTS, PARTS_ROUNDS, PARTS_CODES = ((24, 12, 6), (24, 12, 9), (32, 16, 6), (40, 20, 6), (64, 32, 4)), 100, 40


def parts(folder: Path) -> None:
    """What each part of the search finds."""
    predictor, rows = Predictor.load(), []
    codes: dict[Group, list[Any]] = {}
    for group, _, P, h, _ in labelled(folder):
        if group in PARTS:
            finite = np.isfinite(h)
            codes.setdefault(group, []).append((P[finite][:PARTS_CODES], h[finite][:PARTS_CODES]))
    for name, (plan, learned) in VARIANTS.items():
        for group, of_kinds in codes.items():
            P, h = (np.concatenate(column) for column in zip(*of_kinds, strict=True))
            ranking = predictor.long[tier_of(*group)].ranking if learned else FIXED
            for count in (2, len(P)):  # the first compiles
                records, before = long_codes.begin(count), time.process_time()
                settings: Any = {"ranking": ranking, "plan": plan, "threads": 1}
                long_codes.go_on(P[:count], group[2], records, PARTS_ROUNDS, **settings)
                spent = time.process_time() - before
            short = np.log2(h) - np.log2(records.heights.max(1))
            row = {"variant": name, "group": group_name(group), "codes": len(P), "found": float((short <= 1e-7).mean()),
                   "log2_mse": float(np.mean(short**2)), "ms": 1e3 * spent / len(P)}  # fmt: skip
            rows.append(row)
            print(row, flush=True)
    (RESULTS / "long_codes_parts.json").write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["label", "score", "ablate", "parts"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--codes", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=25.0, help="of labelling, for each group and kind")
    given = parser.parse_args()
    if given.what == "label":
        label(given.folder, given.seed, given.codes, given.seconds)
    else:
        {"score": score, "ablate": ablate, "parts": parts}[given.what](given.folder)


if __name__ == "__main__":
    main()
