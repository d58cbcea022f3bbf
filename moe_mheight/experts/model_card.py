"""What a finished tier is worth: calibration, held-out figures, and the card that says so."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codes.generators import ALL_KINDS
from ..data.code_files import silently
from ..groups import EVALUATOR, RULE, SEARCHED, group_name, searched_sizes, sizes
from . import conformal
from .features import Features
from .model_store import save_tier
from .network import Architecture, Expert, answers, code_features, combined
from .provenance import provenance
from .rng_streams import draw, stream

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Coverages that are checked."""

TESTED_BUDGETS = (100, 300, 1000)
"""Budgets of the held-out searches."""

Known = tuple[tuple[int, ...], Features, NDArray[np.float64]]
"""(group, features, log2 h)"""


def held_out(
    name: str,
    tier: str,
    architecture: Architecture,
    count: int,
    *,
    kinds: tuple[str, ...] = ALL_KINDS,
    elsewhere: int = 0,
    threads: int | None = None,
) -> Iterator[Known]:
    """Codes of finite height from the named stream: `count` a group of the course's groups of a tier, and `elsewhere`
    for every other size that the tier is for. An open-ended architecture gets SEARCHED under each of
    TESTED_BUDGETS, and (n, k, m, budget) for a group.
    """
    searching = architecture.open_ended
    focus = SEARCHED if searching else EVALUATOR
    for group in searched_sizes(tier) if searching else sizes(tier):
        wanted = count if group in focus else elsewhere
        if not wanted:
            continue
        for budget in TESTED_BUDGETS if searching else (0,):
            rng = stream(name, *group, budget, *map(ALL_KINDS.index, kinds))
            P, h = draw(rng, group, wanted, kinds, threads=threads)
            if len(P):
                key = (*group, budget) if searching else group
                yield key, code_features(P, group[2], architecture, threads, budget=budget), np.log2(h)


Advance = Callable[[int], None]
"""Told of each group measured, see `groups_measured`."""

CALIBRATED, CALIBRATED_ELSEWHERE, TESTED, SEARCHES = 8000, 800, 1000, 400
"""Codes a group that `measure` and `measure_search` take when they take all."""


def groups_measured(tier: str) -> int:
    """How many groups of codes `finish` goes through, those of all streams, kinds and budgets."""
    field = sum(group in EVALUATOR for group in sizes(tier))
    searched = sum(group in SEARCHED for group in searched_sizes(tier)) * len(TESTED_BUDGETS)
    return len(sizes(tier)) + len(ALL_KINDS) * field + 2 * searched


def expected_seconds(tier: str, scanned: Architecture, searched: Architecture) -> tuple[float, float]:
    """What `measure` and `measure_search` will take on this machine with all their codes, from a short trial."""
    parts = ((scanned, CALIBRATED // 20, 30.0), (searched, SEARCHES // 50, 100.0))
    out = []
    for architecture, count, times in parts:
        for codes in (1, count):  # the first time compiles
            began = time.monotonic()
            for _ in held_out("validate", tier, architecture, codes, elsewhere=codes // 10):
                pass
        out.append(times * (time.monotonic() - began))
    return out[0], out[1]


def _part(count: int, share: float) -> int:
    return max(1, round(share * count))


def measure(
    tier: str, architecture: Architecture, experts: list[Expert], *, share: float = 1.0, advance: Advance = silently
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Calibration of a finished ensemble, and its figures on fresh codes, each from a stream of its own.

    The best fixed point of the bracket is chosen on the calibration stream, so that it is judged on fresh codes too.
    share: of the codes.
    """
    count, elsewhere, tested = (_part(codes, share) for codes in (CALIBRATED, CALIBRATED_ELSEWHERE, TESTED))
    parts: dict[str, list[Any]] = {"field": [], "other": []}
    fixed = {}
    for group, features, log2_h in held_out("calibrate", tier, architecture, count, elsewhere=elsewhere):
        advance(1)
        positions, predicted_error = combined(experts, features)
        truth = (log2_h - features.lower)[features.routed] / features.gap[features.routed]
        parts["field" if group in EVALUATOR else "other"].append((truth, positions.mean(0), predicted_error))
        fixed[group] = best_fixed(features.lower, features.gap, log2_h)
    tables = {where: conformal.fit(*map(np.concatenate, zip(*part, strict=True))) for where, part in parts.items()}
    groups: dict[str, dict[str, Any]] = {}
    kinds: dict[str, Any] = {}
    for kind in ALL_KINDS:
        rows, covered, reach = [], [], []
        for group, features, log2_h in held_out("test", tier, architecture, tested, kinds=(kind,)):
            advance(1)
            positions, predicted_error = combined(experts, features)
            rows.append(_figures(features, positions, log2_h, fixed[group]))
            groups.setdefault(group_name(group), {})[kind] = rows[-1]
            inside, length = _coverage(tables["field"], features, positions.mean(0), predicted_error, log2_h)
            covered.append(inside)
            reach.append(length)
        if rows:
            kinds[kind] = _of_kind(rows, np.concatenate(covered, 1), np.concatenate(reach, 1))
    return tables, {"format": "moe_mheight metrics 1", "tier": tier, "groups": groups, "kinds": kinds}


def _coverage(
    table: dict[str, Any],
    features: Features,
    position: NDArray[np.float64],
    predicted_error: NDArray[np.float64],
    log2_h: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """(len(LEVELS), B) whether the intervals hold log2 h, and their lengths in bits."""
    ends = np.array([_interval(table, features, position, predicted_error, level) for level in LEVELS])
    off, slip = log2_h - features.lower, 1e-15 * np.abs(log2_h)  # of adding and taking away log2 L
    inside: NDArray[np.bool_] = (ends[:, 0] <= off + slip) & (off - slip <= ends[:, 1])
    return inside, ends[:, 1] - ends[:, 0]


def _of_kind(rows: list[dict[str, Any]], covered: NDArray[np.bool_], reach: NDArray[np.float64]) -> dict[str, Any]:
    """Figures of one kind of codes, from those of its groups and from (len(LEVELS), B) intervals."""
    held, length = covered.mean(1), reach.mean(1)
    return {key: float(np.mean([row[key] for row in rows])) for key in MEANS} | {
        "worst_bits": max(row["worst_bits"] for row in rows),
        "codes": sum(row["codes"] for row in rows),
        "coverage": {str(level): float(v) for level, v in zip(LEVELS, held, strict=True)},
        "interval_bits": {str(level): float(v) for level, v in zip(LEVELS, length, strict=True)},
    }


Trial = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Of one group and budget: log2 h - log2 L (B,); the members' positions and unvisited gaps (members, B)."""

THRESHOLDS = (0.0, *np.geomspace(1e-4, 0.3, 36))
"""Bits. From these the threshold is chosen."""


def error_at(threshold: float, trials: list[Trial]) -> float:
    """Mean log of the squared error, relative to the best constant, so that searches that see everything count too."""
    of_trials = []
    for truth, positions, unvisited_gap in trials:
        error = (positions + np.maximum(unvisited_gap - threshold, 0.0)).mean(0) - truth
        of_trials.append(np.log((np.mean(error**2) + 1e-7) / (np.var(truth) + 1e-7)))
    return float(np.mean(of_trials))


def best_threshold(trials: list[Trial]) -> float:
    """What an unvisited gap must exceed to count (see `combined`): of THRESHOLDS the one of the least error."""
    return float(min(THRESHOLDS, key=lambda threshold: error_at(threshold, trials)))


def measure_search(
    tier: str, experts: list[Expert], *, share: float = 1.0, advance: Advance = silently
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Calibration under a budget, and figures on fresh codes: for each "n,k,m,budget" the log2-MSE of the lower bound
    alone, of the lower bound and its best constant (chosen on the calibration stream), of the tightest lower bound that
    the same sets give, and of the ensemble."""
    trials: list[Trial] = []
    known, constants, rows = [], {}, {}
    for key, features, log2_h in held_out("calibrate", tier, experts[0].architecture, _part(SEARCHES, share)):
        advance(1)
        truth = log2_h - features.lower  # heights are finite, so all are routed
        constants[key] = float(truth.mean())
        positions, unvisited_gap, _ = np.stack([answers(expert, features) for expert in experts], axis=1)
        trials.append((truth, positions, unvisited_gap))
        known.append((truth, features))
    threshold = best_threshold(trials)
    parts = []
    for truth, features in known:
        positions, predicted_error = combined(experts, features, threshold=threshold)
        parts.append((truth, positions.mean(0), predicted_error))
    table = conformal.fit(*map(np.concatenate, zip(*parts, strict=True)))
    for key, features, log2_h in held_out("test", tier, experts[0].architecture, _part(SEARCHES, share)):
        advance(1)
        truth = log2_h - features.lower
        position = combined(experts, features, threshold=threshold)[0].mean(0)
        tightest = np.clip(features.low.max(1), 0.0, None)
        rows[group_name(key)] = {
            "codes": len(truth),
            "lower_log2_mse": float(np.mean(truth**2)),
            "constant_log2_mse": float(np.mean((truth - constants[key]) ** 2)),
            "closing_log2_mse": float(np.mean((tightest - truth) ** 2)),
            "log2_mse": float(np.mean((position - truth) ** 2)),
            "worst_bits": float(np.abs(position - truth).max()),
        }
    return {"threshold": threshold, "calibration": table}, rows


def finish(
    folder: Path,
    config: dict[str, Any],
    experts: dict[str, list[Expert]],
    weights: dict[str, list[bytes]],
    history: str,
    *,
    share: float = 1.0,
    advance: Advance = silently,
) -> dict[str, Any]:
    """Calibrate and measure a trained tier, and fill a folder with it and its card.

    Args:
        folder: an empty one.
        config: settings and provenance, see `storage`.
        experts, weights: by VIEWS, the members and what they are saved as.
        history: lines of JSON, a record each.
        share: of the codes that calibration and figures take.
        advance: told of each of `groups_measured`.

    Returns:
        The config, and as "metrics" the held-out figures.
    """
    config = config | {"search": dict(config["search"]), "measured": provenance()}
    config["calibration"], metrics = measure(
        config["tier"], experts["seed"][0].architecture, experts["seed"], share=share, advance=advance
    )
    found, metrics["search"] = measure_search(config["tier"], experts["search"], share=share, advance=advance)
    config["search"] |= found
    texts = {"history.jsonl": history, "metrics.json": json.dumps(metrics, indent=1) + "\n"}
    texts["README.md"] = card(config, metrics, len(weights["seed"]))
    save_tier(folder, config, weights, texts)
    return config | {"metrics": metrics}


def _interval(
    table: dict[str, Any],
    features: Features,
    position: NDArray[np.float64],
    predicted_error: NDArray[np.float64],
    coverage: float,
) -> NDArray[np.float64]:
    """Ends of the intervals that `Predictor.predict_interval` gives, (2, B), in bits above the lower bound."""
    room = features.ceiling - features.floor
    low, high = conformal.truncate(coverage, features.lower.view(np.uint64))
    ends = np.stack([features.floor + low * room, features.floor + high * room])
    within = np.stack(conformal.interval(table, position, predicted_error, coverage)) * features.gap[features.routed]
    ends[:, features.routed] = np.clip(within, features.floor[features.routed], features.ceiling[features.routed])
    return ends


MEANS = ("log2_mse", "fixed_log2_mse", "bracket_bits", "spread_bits", "asked")
"""Figures of a group that are averaged over groups."""


def _figures(
    features: Features, positions: NDArray[np.float64], log2_h: NDArray[np.float64], fixed: float
) -> dict[str, Any]:
    errors = features.log2_heights(positions) - log2_h
    error = errors.mean(0)
    at_fixed = features.lower + fixed * features.gap - log2_h
    seeds = len(errors)
    by_number = {
        str(number): float(
            np.mean([np.mean(errors[list(members)].mean(0) ** 2) for members in combinations(range(seeds), number)])
        )
        for number in range(1, seeds + 1)
    }
    return {
        "codes": len(log2_h),
        "log2_mse": float(np.mean(error**2)),
        "worst_bits": float(np.abs(error).max()),
        "fixed_point": fixed,
        "fixed_log2_mse": float(np.mean(at_fixed**2)),
        "asked": float(features.routed.mean()),
        "bracket_bits": float(features.gap.mean()),
        "spread_bits": float(errors.std(0).mean()),
        "log2_mse_by_seeds": by_number,
    }


def over_kinds(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Figures of each group over all kinds, every code counting the same."""
    out = {}
    for group, kinds in metrics["groups"].items():
        rows, codes = list(kinds.values()), sum(row["codes"] for row in kinds.values())
        out[group] = {key: sum(row[key] * row["codes"] for row in rows) / codes for key in MEANS}
        out[group] |= {"codes": codes, "worst_bits": max(row["worst_bits"] for row in rows)}
    return out


def best_fixed(lower: NDArray[np.float64], width: NDArray[np.float64], log2_h: NDArray[np.float64]) -> float:
    """The position in [0, 1] that predicts best when it is the same for every code (least squares, closed form).

    Shapes: all (B,), in bits: log2 of the lower bounds, widths of the brackets, log2 of the heights.
    """
    weight = float(np.sum(width**2))
    return float(np.clip(np.sum(width * (log2_h - lower)) / weight, 0.0, 1.0)) if weight > 0 else 0.5


def _card_row(name: str, v: dict[str, Any]) -> str:
    gain = f"{v['fixed_log2_mse'] / v['log2_mse']:.0f}" if v["fixed_log2_mse"] > 1e-12 else "-"
    return (
        f"| {name} | {v['codes']} | {v['log2_mse']:.1e} | {v['fixed_log2_mse']:.1e} | {gain} | "
        f"{v['worst_bits']:.3f} | {v['bracket_bits']:.4f} |"
    )


def _card_search_row(key: str, v: dict[str, Any]) -> str:
    *group, budget = key.split(",")
    return (
        f"| ({', '.join(group)}) | {budget} | {v['codes']} | {v['log2_mse']:.1e} | {v['closing_log2_mse']:.1e} | "
        f"{v['constant_log2_mse']:.1e} | {v['lower_log2_mse']:.1e} | {v['worst_bits']:.2f} |"
    )


def card(config: dict[str, Any], metrics: dict[str, Any], seeds: int) -> str:
    """The model card of a tier, from its own config and metrics."""
    made, measured, recipe = config["provenance"], config["measured"], config["recipe"]
    by_group = "\n".join(_card_row(f"({group.replace(',', ', ')})", v) for group, v in over_kinds(metrics).items())
    by_kind = "\n".join(
        _card_row(kind, v) + " " + " | ".join(f"{100 * share:.1f}" for share in v["coverage"].values()) + " |"
        for kind, v in metrics["kinds"].items()
    )
    by_search = "\n".join(_card_search_row(key, v) for key, v in metrics["search"].items())
    source = RULE[config["tier"]].learns_from
    nearest = f"slack {RULE[source].slack} (at slack 0 brackets are closed and there is nothing to learn)"
    return f"""# The {config["tier"]} expert

Predicts where in its certified bracket log2 h_m lies, for codes of the {config["tier"]} tier. Ensemble of {seeds}.

* Data: fresh random codes ({", ".join(recipe["kinds"])}), exact labels, {recipe["chunks"]} chunks of up to
  {recipe["groups"] * recipe["codes"]} codes per member, no code seen twice; sizes 4 <= n <= 12 of
  {"the tier" if source == config["tier"] else nearest}, half of them from the course's 21 groups.
* Made: {made["date"]}, version {made["version"]}, commit {made["commit"]}, torch {made["torch"]}, {made["machine"]},
  device {made["device"]}, {config["trained_minutes"]} minutes.
* Measured: {measured["date"]}, commit {measured["commit"]}.
* Limits: other kinds of codes and sizes outside 4 <= n <= 12 are extrapolation; the bracket holds all the same.
* Licence: MIT.

Held-out figures, from a random stream used for nothing else; metrics.json has them for each group and kind. "fixed" is
the best fixed point of the same bracket, "gain" how many times worse it is. Errors in bits, log2-MSE in bits squared.

| group | codes | log2-MSE | fixed | gain | worst | bracket |
|---|---|---|---|---|---|---|
{by_group}

Each kind of codes (means over the groups), with the share of codes in the intervals of nominal coverage, in per cent:

| kind | codes | log2-MSE | fixed | gain | worst | bracket | {" | ".join(f"{100 * level:.0f}" for level in LEVELS)} |
|---|---|---|---|---|---|---|{"---|" * len(LEVELS)}
{by_kind}

Under a budget of sets: log2-MSE of the ensemble, of the tightest lower bound that the same sets give, of the lower
bound that experts start from and its best constant, and of that lower bound alone.

| group | sets | codes | log2-MSE | tightest | constant | lower bound | worst |
|---|---|---|---|---|---|---|---|
{by_search}
"""
