"""Paper-sized experiments behind the experts, and the page that tells of them, docs/experiments.md.

python benchmarks/experiments.py brackets    reweighting schedules, no learning (a minute)
python benchmarks/experiments.py experts     networks and features, one short training each (ten minutes, two cores)
python benchmarks/experiments.py searches    what is taught under a budget, one short training each (five minutes)
python benchmarks/experiments.py norms       where the set that decides the height ranks by its norm (a minute)
python benchmarks/experiments.py precision   what half precision would save (seconds)
python benchmarks/experiments.py worst       the worst codes of the shipped models (a minute)
python benchmarks/sizes.py                   every length, trained on or not (ten minutes)
python benchmarks/experiments.py page        docs/experiments.md from all results, the shipped metrics included

Each but the last writes benchmarks/results/experiments_NAME.json.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from sizes import table as sizes_table

from moe_mheight import Predictor
from moe_mheight.brackets import bounds, irls
from moe_mheight.codes.generators import ALL_KINDS, KINDS
from moe_mheight.codes.linear import generator
from moe_mheight.experts import batches, network, training
from moe_mheight.experts.features import PROFILE, Features
from moe_mheight.experts.model_card import best_fixed, held_out, over_kinds
from moe_mheight.experts.model_store import shipped_folder
from moe_mheight.experts.network import Architecture, Expert, combined
from moe_mheight.experts.rng_streams import draw, stream
from moe_mheight.groups import EVALUATOR, TIERS, group_name, tier_of

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"

PLAIN = np.zeros(10, np.int64)
GROUPS = ((9, 4, 2), (9, 5, 2), (10, 5, 2), (10, 6, 2), (12, 6, 3))
SCHEDULES: tuple[tuple[str, Any, int, bool], ...] = (
    ("plain, 2 steps", PLAIN, 2, False),
    ("plain, 4 steps", PLAIN, 4, False),
    ("plain, 6 steps", PLAIN, 6, False),
    ("plain, 10 steps", PLAIN, 10, False),
    ("leaps, 4 steps", irls.ACCELERATIONS, 4, False),
    ("leaps, 6 steps", irls.ACCELERATIONS, 6, False),
    ("leaps, 8 steps", irls.ACCELERATIONS, 8, False),
    ("leaps, 10 steps (the bracket)", irls.ACCELERATIONS, 10, False),
    ("plain, 10 + 4 steps, basic solution", PLAIN, 10, True),
    ("leaps, 6 + 4 steps, basic solution", irls.ACCELERATIONS, 6, True),
    ("leaps, 10 + 4 steps, basic solution (closing)", irls.ACCELERATIONS, 10, True),
)


def on_brackets() -> list[dict[str, Any]]:
    """Best fixed point, width and share closed of each schedule, without learning."""
    rows = []
    for name, leaps, steps, closing in SCHEDULES:
        irls.ACCELERATIONS = leaps
        for group in GROUPS:
            P, h = draw(stream("default", 99, *group), group, 4000 if group[0] < 12 else 1000, KINDS)
            start = time.process_time()
            found = bounds.brackets(P, group[2], steps=steps, tightest=closing, threads=1)
            spent = (time.process_time() - start) / len(P)
            lower, width, log2_h = np.log2(found.lower), np.log2(found.upper / found.lower), np.log2(h)
            error = lower + best_fixed(lower, width, log2_h) * width - log2_h
            rows.append(
                {
                    "schedule": name,
                    "group": list(group),
                    "fixed_log2_mse": float(np.mean(error**2)),
                    "worst_bits": float(np.abs(error).max()),
                    "width_bits": float(width.mean()),
                    "widest_bits": float(width.max()),
                    "closed": float(np.mean(width < 1e-9)),
                    "cpu_us": 1e6 * spent,
                }
            )
        print(name, f"{np.mean([r['fixed_log2_mse'] for r in rows[-len(GROUPS) :]]):.1e}", flush=True)
    return rows


def _blind(features: Features, architecture: Architecture, what: str) -> Features:
    """The features without some of its features."""
    kept, solves = features.kept.copy(), architecture.steps + 1 + irls.EXTRA
    seen = architecture.steps + 1
    profiles = 2 * solves + 2
    if what == "tokens only as far as the bracket":
        for at in (0, solves):
            kept[..., at + seen : at + solves] = kept[..., at + seen - 1 : at + seen]
        kept[..., 2 * solves : profiles] = 0.0
        kept[..., profiles + 2 * PROFILE : profiles + 4 * PROFILE] = 0.0
        gap = np.sinh(kept[..., [seen - 1, solves + seen - 1]])  # what the token's bounds were by then
        low, high = np.clip(gap[..., 1], -6, 1), np.clip(1 + gap[..., 0], -6, 1)
        room = {"floor": np.zeros_like(features.gap), "ceiling": features.gap}
        return replace(features, kept=kept, low=low, high=high, **room)
    if what == "no profiles":
        kept[..., profiles : profiles + 4 * PROFILE] = 0.0
    if what == "no history":
        kept[..., : solves - 1] = kept[..., solves : 2 * solves - 1] = 0.0
    return replace(features, kept=kept)


TRIALS: tuple[tuple[str, dict[str, Any], dict[str, Any], str], ...] = (
    ("as shipped (width 48, 2 rounds, batch 128)", {}, {}, ""),
    ("width 24", {"width": 24}, {}, ""),
    ("width 96", {"width": 96}, {}, ""),
    ("1 round", {"blocks": 1}, {}, ""),
    ("4 rounds", {"blocks": 4}, {}, ""),
    ("batch 512, rate 2e-3", {}, {"batch": 512, "rate": 2e-3}, ""),
    ("bracket of 6 steps", {"steps": 6}, {}, ""),
    ("all codes, not those that need an expert", {}, {"easy": 1.0, "codes": 128}, ""),
    ("tokens only as far as the bracket", {}, {}, "tokens only as far as the bracket"),
    ("no profiles", {}, {}, "no profiles"),
    ("no history", {}, {}, "no history"),
)
CHUNKS = 6


def _taught(recipe: batches.Recipe, objective: Callable[..., Any]) -> Expert:
    """One network after a short training."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = Expert(recipe.architecture)
    net.standardise(batches.chunk(recipe, 1000, 0, 1)[0])
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    for number in range(recipe.chunks):
        whole = batches.chunk(recipe, 1000, number, 1)
        for at in range(0, len(whole[0]), recipe.batch):
            kept, low, high, width, target = (part[at : at + recipe.batch] for part in whole)
            optimizer.zero_grad()
            objective(net, (kept, low, high, width, target))[0].backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            done = (number + at / len(whole[0])) / recipe.chunks
            optimizer.param_groups[0]["lr"] = recipe.rate * min(1.0, 10.0 * done + 0.01) * (1.0 - done)
            optimizer.step()
    return net.eval()


def _trial(name: str, shape: dict[str, Any], settings: dict[str, Any], hidden: str) -> dict[str, Any]:
    architecture = Architecture(**shape)
    recipe = batches.Recipe(tier="low", architecture=architecture, headline=1.0, chunks=CHUNKS, **settings)
    real = network.features_of

    def features_of(found: Any, also: Any = None) -> Features:
        if hidden == "tokens only as far as the bracket":  # nothing is decided then
            also = np.ones(len(found.lower), bool)
        features = real(found, also)
        return _blind(features, architecture, hidden) if hidden else features

    network.features_of = features_of
    known = list(held_out("validate", "low", architecture, 3000, kinds=KINDS))
    start = time.perf_counter()
    net = _taught(recipe, training.loss)
    network.features_of = real
    errors, alone, worst = [], [], 0.0
    for _, features, log2_h in known:
        error = features.log2_heights(combined([net], features, 1)[0][0]) - log2_h
        errors.append(float(np.mean(error**2)))
        middle = features.lower + (features.floor + features.ceiling) / 2.0
        alone.append(float(np.mean((middle - log2_h) ** 2)))
        worst = max(worst, float(np.abs(error).max()))
    return {
        "trial": name,
        "macro_log2_mse": float(np.mean(errors)),
        "bounds_macro": float(np.mean(alone)),
        "worst_bits": worst,
        "seconds": time.perf_counter() - start,
        "weights": sum(p.numel() for p in net.parameters()),
    }


def on_experts() -> list[dict[str, Any]]:
    """One short training of a low expert for each of TRIALS, on the field's four kinds of codes and nine sizes."""
    rows: list[dict[str, Any]] = joblib.Parallel(n_jobs=2, verbose=5)(joblib.delayed(_trial)(*t) for t in TRIALS)
    return rows


def _one_loss(expert: Expert, batch: batches.Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The squared error of the whole answer, whether the height was seen or missed."""
    kept, low, high, _, target = batch
    position, unvisited_gap, log_error = expert(kept, low, high)
    error = position + unvisited_gap - target
    squared = (error**2).mean()
    aside = (log_error + error.detach().abs() * torch.exp(-log_error)).mean()
    return training.GAP_SCALE * squared + training.ERROR_WEIGHT * aside, squared


SEARCHES: tuple[tuple[str, dict[str, Any], Callable[..., Any]], ...] = (
    ("as shipped", {}, training.loss),
    ("one loss for seen and missed heights", {}, _one_loss),
    ("no short codes looked at as a whole", {"whole": 0.0}, training.loss),
)
SEARCH_CHUNKS = 16
THRESHOLD = 0.01
"""Bits."""


def _search_trial(name: str, settings: dict[str, Any], objective: Callable[..., Any]) -> list[dict[str, Any]]:
    start = time.perf_counter()
    net = _taught(replace(batches.recipes_of("low")["search"], chunks=SEARCH_CHUNKS, **settings), objective)
    seconds = time.perf_counter() - start
    rows = []
    for group, features, log2_h in held_out("validate", "low", net.architecture, 1000):
        truth = log2_h - features.lower
        least = np.maximum(features.low.max(1), 0.0)
        # a gap is added where it is clearly expected, as shipped models do: here from a hundredth of a bit
        error = combined([net], features, 1, threshold=THRESHOLD)[0][0] - truth
        above = combined([net], features, 1)[0][0] - least
        at_once = least + np.maximum(above - THRESHOLD, 0.0) - truth
        rows.append(
            {
                "trial": name,
                "group": list(group[:3]),
                "budget": group[3],
                "constant_log2_mse": float(np.var(truth)),
                "closing_log2_mse": float(np.mean((least - truth) ** 2)),
                "log2_mse": float(np.mean(error**2)),
                "one_threshold_log2_mse": float(np.mean(at_once**2)),
                "seconds": seconds,
            }
        )
    return rows


def on_searches() -> list[dict[str, Any]]:
    """One short training of a low expert under budgets for each of SEARCHES."""
    found = joblib.Parallel(n_jobs=2, verbose=5)(joblib.delayed(_search_trial)(*trial) for trial in SEARCHES)
    return [row for rows in found for row in rows]


NORMED = ((12, 6, 3), (12, 6, 6), (14, 7, 4), (14, 7, 6), (16, 8, 4), (16, 8, 6))


def on_norms() -> list[dict[str, Any]]:
    """The rank of the set that decides the height, among all sets by |y|_2, and how often 100 sets miss the height."""
    rows = []
    for group in NORMED:
        n, _, m = group
        P, h = draw(stream("default", 94, *group), group, 100, ("normal", "integer"))
        found_all = bounds.brackets(P, m)
        best = found_all.kept_lower[..., -1].argmax(1)
        known = np.flatnonzero(np.abs(np.log2(found_all.kept_lower[..., -1].max(1) / h)) < 1e-9)
        sets = np.array(list(combinations(range(n), m)))
        ranks = []
        for i in known:
            Q = np.linalg.qr(generator(P[i]).T)[0].T
            N = Q.T @ Q
            X = np.linalg.inv(np.eye(m) - N[sets[:, :, None], sets[:, None, :]])
            norms = np.einsum("caa->ca", X).max(1)
            own = (sets == np.sort(found_all.outside[i, best[i]])).all(1)
            ranks.append(int((norms > norms[own]).sum()))
        found = bounds.brackets(P, m, budget=100).tightest[0]
        rows.append(
            {
                "group": list(group),
                "sets": len(sets),
                "codes": len(ranks),
                "first": float(np.mean(np.array(ranks) == 0)),
                "among_ten": float(np.mean(np.array(ranks) < 10)),
                "last": max(ranks),
                "missed": float(np.mean(np.log2(h[known] / found[known]) > 1e-3)),
            }
        )
    return rows


def on_precision() -> list[dict[str, Any]]:
    """Milliseconds of a training step, in float32 and with bfloat16 autocast."""
    torch.set_num_threads(1)
    recipe = batches.Recipe(tier="low")
    net = Expert(recipe.architecture)
    whole = batches.chunk(recipe, 1000, 0, 1)
    rows = []
    for size in (128, 512, 4096):
        batch = tuple(part[:size] for part in whole)
        for name, on in (("float32", False), ("bfloat16", True)):
            best = np.inf
            for _ in range(10):
                start = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=on):
                    value = training.loss(net, batch)[0]  # type: ignore[arg-type]
                value.backward()
                best = min(best, time.perf_counter() - start)
            rows.append({"batch": size, "precision": name, "ms": 1e3 * best})
    return rows


def on_worst() -> list[dict[str, Any]]:
    """The ten worst codes of each tier among 2,000 fresh codes of each of the field's groups and each kind."""
    predictor = Predictor.load()
    found: dict[str, list[dict[str, Any]]] = {tier: [] for tier in TIERS}
    for group in EVALUATOR:
        n, k, m = group
        for kind in ALL_KINDS:
            P, h = draw(stream("default", 98, *group, ALL_KINDS.index(kind)), group, 2000, (kind,))
            if not len(P):
                continue
            measured = predictor.measure(P, m)
            error, width = np.log2(measured.height / h), np.log2(measured.upper / measured.lower)
            for i in np.argsort(-np.abs(error))[:10]:
                minors = [abs(np.linalg.det(generator(P[i])[:, list(B)])) for B in combinations(range(n), k)]
                closing = bounds.bounds(P[i], m)
                found[tier_of(*group)].append(
                    {
                        "tier": tier_of(*group),
                        "group": list(group),
                        "kind": kind,
                        "log2_h": float(np.log2(h[i])),
                        "error_bits": float(error[i]),
                        "bracket_bits": float(width[i]),
                        "closing_bits": float(np.log2(closing[1] / closing[0])),
                        "spread_bits": float(measured.std_bits[i]),
                        "doubt_bits": float(np.nan_to_num(measured.predicted_error[i] * width[i])),
                        "smallest_minor": float(min(minors) / max(minors)),
                        "codes_of_kind": len(P),
                    }
                )
    return [row for rows in found.values() for row in sorted(rows, key=lambda r: -abs(r["error_bits"]))[:10]]


def _group(group: list[int]) -> str:
    return f"({group_name(group, ', ')})"


def _long_codes() -> str:
    """The section on long codes, from what `python benchmarks/long_codes.py` measured."""
    parts = json.loads((RESULTS / "long_codes_parts.json").read_text())
    ablation = json.loads((RESULTS / "long_codes_ablation.json").read_text())
    groups = list(dict.fromkeys(row["group"] for row in parts))
    named = {group: f"({group.replace(',', ', ')})" for group in groups}
    lines = ["| search | " + " | ".join(named.values()) + " |", "|---|" + "--:|" * len(groups)]
    for variant in dict.fromkeys(row["variant"] for row in parts):
        of = {row["group"]: row for row in parts if row["variant"] == variant}
        cells = [f"{100 * of[g]['found']:.0f} %, {of[g]['ms']:.1f} ms" for g in groups]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    columns = ("all", "without the gap", "one member", "without certainty", "without anything")
    table = [
        "| (n, k, m) | kind | codes | ms | " + " | ".join(columns) + " |",
        "|---|---|--:|--:|" + "--:|" * len(columns),
    ]
    for row in ablation:
        cells = [f"{row[name]:.1e}" for name in columns]
        group = row["group"].replace(",", ", ")
        table.append(f"| ({group}) | {row['kind']} | {row['codes']} | {row['ms']:.1f} | {' | '.join(cells)} |")
    return LONG_CODES.format(parts="\n".join(lines), ablation="\n".join(table))


LONG_CODES = """
## Long codes

The search for the set that decides, part by part: how often 100 rounds find the height, and the time of one code.
Each line has what those above it have. (`python benchmarks/long_codes.py parts`)

{parts}

A set of large least-squares norm is found in microseconds, and for small m nearly always one of a few. What decides is
that local searches end in different places: random weights of the columns do that better than random sets, and parts of
good sets better still where m is small beside n - k. At small slack good sets have little in common, and most starts
are fresh. Around a good set, the least-squares norm of a swap misses its height by a fifth of a bit, the geometric mean
of its two bounds by a tenth within a set, and the learned ranking by 0.07. What that buys is modest: some codes at
(40, 20, 6) and (64, 32, 4), where the fixed ranking needs a wider margin, and nothing where 100 rounds find nearly all.

What was tried and not kept: walking through codewords that are +-1 on a basis, always to the best neighbour that has at
most m larger coordinates (a few neighbours, and soon a dead end: 15 to 40 % found at (20, 10, 6) in the time that now
finds 98); random bases at slack 0, whose heights have nothing in common from one to the next (a random walk sees a
table in 0.3 us, which is what enumeration takes for a proof).

What the experts are worth, at equal time: log2-MSE of the prediction, of the lower bound of the same search, of the
first member alone, of the same time spread evenly over all codes with the learned ranking, and with the fixed one; to
both the best constant is added, fitted to these very codes. (`python benchmarks/long_codes.py ablate`) They do not err
three times more: where the search finds all, there is nothing to gain; elsewhere a few codes decide, to either side.
What the certainty does is to choose the time, from one stage to sixteen, for every size and code; the even spread was
given what that had chosen. The bits that are
added to a lower bound help after one stage (0.023 to 0.020 bits squared over all sizes of the low tier), and nothing at
the end: they are added only where the certainty is below 95 %.

{ablation}
"""


def page() -> str:
    """docs/experiments.md."""
    result = {name: json.loads((RESULTS / f"experiments_{name}.json").read_text()) for name in RUNS}
    schedules = dict.fromkeys(row["schedule"] for row in result["brackets"])
    by = {(row["schedule"], tuple(row["group"])): row for row in result["brackets"]}
    lines = ["| schedule | " + " | ".join(_group(list(g)) for g in GROUPS) + " | widest | closed |"]
    lines += ["|---|" + "--:|" * (len(GROUPS) + 2)]
    for name in schedules:
        rows = [by[name, g] for g in GROUPS]
        lines.append(
            f"| {name} | "
            + " | ".join(f"{row['fixed_log2_mse']:.1e}" for row in rows)
            + f" | {max(row['widest_bits'] for row in rows):.2f} | {100 * np.mean([r['closed'] for r in rows]):.0f} % |"
        )
    bracket_table = "\n".join(lines)
    expert_table = "\n".join(
        [
            "| trial | log2-MSE | bounds alone | worst, bits | weights | seconds |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        + [
            f"| {r['trial']} | {r['macro_log2_mse']:.1e} | {r['bounds_macro']:.1e} | "
            f"{r['worst_bits']:.3f} | {r['weights']:,} | {r['seconds']:.0f} |"
            for r in result["experts"]
        ]
    )
    trials = list(dict.fromkeys(row["trial"] for row in result["searches"]))
    of = {(row["trial"], tuple(row["group"]), row["budget"]): row for row in result["searches"]}
    cases = list(dict.fromkeys((tuple(row["group"]), row["budget"]) for row in result["searches"]))
    searches = "\n".join(
        [
            "| (n, k, m) | sets | constant | tightest | one threshold | " + " | ".join(trials) + " |",
            "|---|--:|--:|--:|--:|" + "--:|" * len(trials),
        ]
        + [
            f"| {_group(list(group))} | {budget:,} | {of[trials[0], group, budget]['constant_log2_mse']:.1e} | "
            f"{of[trials[0], group, budget]['closing_log2_mse']:.1e} | "
            f"{of[trials[0], group, budget]['one_threshold_log2_mse']:.1e} | "
            + " | ".join(f"{of[trial, group, budget]['log2_mse']:.1e}" for trial in trials)
            + " |"
            for group, budget in cases
        ]
        + [
            "| seconds of training | | | | | "
            + " | ".join(f"{of[(trial, *cases[0])]['seconds']:.0f}" for trial in trials)
            + " |"
        ]
    )
    norms = "\n".join(
        ["| (n, k, m) | sets | codes | largest norm | among ten | last rank | missed |", "|---|" + "--:|" * 6]
        + [
            f"| {_group(r['group'])} | {r['sets']:,} | {r['codes']} | {100 * r['first']:.0f} % | "
            f"{100 * r['among_ten']:.0f} % | {r['last'] + 1} | {100 * r['missed']:.1f} % |"
            for r in result["norms"]
        ]
    )
    precision = "\n".join(
        ["| batch | float32 | bfloat16 |", "|--:|--:|--:|"]
        + [
            f"| {one['batch']} | {one['ms']:.1f} ms | {two['ms']:.1f} ms |"
            for one, two in zip(result["precision"][::2], result["precision"][1::2], strict=True)
        ]
    )
    worst = "\n".join(
        [
            "| tier | group | kind | log2 h | error | bracket | bounds | spread | doubt | smallest minor |",
            "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        + [
            f"| {r['tier']} | {_group(r['group'])} | {r['kind']} | {r['log2_h']:.2f} | {r['error_bits']:+.1e} | "
            f"{r['bracket_bits']:.1e} | {r['closing_bits']:.1e} | {r['spread_bits']:.1e} | {r['doubt_bits']:.1e} | "
            f"{r['smallest_minor']:.0e} |"
            for r in result["worst"]
        ]
    )
    metrics = {tier: json.loads((shipped_folder() / tier / "metrics.json").read_text()) for tier in TIERS}
    numbers = sorted(
        {n for m in metrics.values() for g in m["groups"].values() for k in g.values() for n in k["log2_mse_by_seeds"]}
    )
    seeds = "\n".join(
        [
            "| tier | " + " | ".join(f"{n} seed{'s' if n != '1' else ''}" for n in numbers) + " | fixed point |",
            "|---|" + "--:|" * (len(numbers) + 1),
        ]
        + [
            f"| {tier} | "
            + " | ".join(
                f"{np.mean([k['log2_mse_by_seeds'][n] for g in m['groups'].values() for k in g.values()]):.2e}"
                for n in numbers
            )
            + f" | {np.mean([row['fixed_log2_mse'] for row in over_kinds(m).values()]):.1e} |"
            for tier, m in metrics.items()
        ]
    )
    return PAGE.format(
        brackets=bracket_table,
        experts=expert_table,
        searches=searches,
        norms=norms,
        precision=precision,
        worst=worst,
        seeds=seeds,
        chunks=CHUNKS,
        search_chunks=SEARCH_CHUNKS,
        sizes=sizes_table(json.loads((RESULTS / "sizes.json").read_text())),
    )


PAGE = """# Experiments

Made by `python benchmarks/experiments.py page` from benchmarks/results and the shipped metrics; the commands that made
those are at the head of that script. log2-MSE in bits squared, all other errors in bits.

## How far the bracket goes without learning

log2-MSE of the best fixed point of the bracket (four kinds of codes; fitted to their heights, so it is the least that
any fixed point has), the widest bracket, and the share of brackets closed to 1e-9 bit. "plain" multiplies each weight
by |c| / max|c| a step, as iteratively reweighted least squares does; "leaps" are powers of that factor at every other
step.

{brackets}

Three things follow. Leaps are worth two to three times as many plain steps. Rounding to a basis by the largest |c|,
not the largest |y|, finds the optimal basis of nearly every token. And with all that, most brackets close: this is
`moe_mheight.bounds`. The Predictor's own bracket stays at the ten common steps, as the place where experts answer; they
read what the tokens found beyond it, and are asked only where that leaves more than a millionth of a bit open. The gain
in the tables of results is over the middle of those tightest bounds: it is what the networks add.

## Networks and features

One member of the low tier, {chunks} chunks, the field's sizes, four kinds of codes; "bounds alone" is the middle of the
tightest certified bounds. One training each: differences of a third mean nothing.

{experts}

Twice the width or the rounds change nothing, half of them costs: the answer is in the features, and there is no large
network to distil into a small one; the one shipped is small. What the tokens found beyond the common bracket matters
most; how their bounds came to be, and their profiles, hardly. A bracket of fewer steps leaves more to learn, and an
error that is larger all the same.

## Under a budget

Where the set that decides the height ranks among all sets by its largest least-squares norm: how often first, how
often among the first ten, and its last rank; and how often a search of 100 sets misses the height by more than a
thousandth of a bit. Half normal codes, half integers, whose deciding set is known.

{norms}

So searches start at the sets of the largest norms, which greedy choices and swaps find (`moe_mheight.numerics.swaps`).

One member of the low tier, {search_chunks} chunks, all ten kinds: log2-MSE of the search's lower bound with its best
constant, of the tightest lower bound that the tokens give, and of the expert.

{searches}

A height that the search has seen lies within its tokens' own bounds, thousandths of a bit wide, and the expert finds it
there as it does in a full bracket. How much a search has missed, by contrast, nothing tells. So these are two outputs,
and only the second has to clear a threshold before it counts: where their sum has to ("one threshold", a hundredth of a
bit, the same network), little is left of the first. It matters less whether two losses teach them or one (two are
better at n = 16), and short codes looked at as a whole make chunks cheaper, not better.

## Precision

A forward and backward pass on one core of a machine with bfloat16 instructions. At the batches used, 32 and 128, half
precision saves nothing (without such instructions it is several times slower), so training is float32.

{precision}

## Seeds

Mean over groups and kinds of the shipped tiers; fewer seeds are averages over all choices.

{seeds}

## Every length

All (k, m) of each length, five kinds of codes, from `python benchmarks/sizes.py`; experts are trained on 4 <= n <= 12.

{sizes}

## The worst codes

The ten worst of each tier, among 2,000 fresh codes of each of the 21 groups and ten kinds.

{worst}

In the low tier nearly all are integer codes of all scales, most with minors that vanish, whose tokens did not close:
their basis was not found, and the tightest bracket is nearly as wide as the common one. In the medium tier most are
nearly singular, ten to a thousand times less wrong, and in the high tier the errors are rounding, at heights of 2^27
and more. The doubt of the experts knows them all; the spread of the seeds understates it.
"""

RUNS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "brackets": on_brackets,
    "experts": on_experts,
    "searches": on_searches,
    "norms": on_norms,
    "precision": on_precision,
    "worst": on_worst,
}

if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) == 2 else ""
    if wanted == "page":
        (ROOT / "docs/experiments.md").write_text(page() + _long_codes())
    elif wanted in RUNS:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"experiments_{wanted}.json").write_text(json.dumps(RUNS[wanted](), indent=1) + "\n")
    else:
        sys.exit(__doc__)
