"""What a finished tier is worth: calibration, held-out figures, where it was made, and the card that says so."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import __version__
from ..codes.generators import ALL_KINDS
from ..data.code_files import silently
from ..groups import EVALUATOR, RULE, SEARCHED, group_name, searched_sizes, sizes
from ..numerics.jit import thread_count
from . import conformal
from .model_store import save_tier
from .network import Architecture, Expert, Reading, answers, combined, read_codes
from .rng_streams import draw, stream

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Coverages that are checked."""

TESTED_BUDGETS = (100, 300, 1000)
"""Budgets of the held-out searches."""

Known = tuple[tuple[int, ...], Reading, NDArray[np.float64]]
"""(group, reading, log2 h)"""


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
    """Codes of finite height from the named stream, read: `count` a group of the field's groups of a tier, and
    `elsewhere` for every other size that the tier is for. An open-ended architecture gets SEARCHED under each of
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
                yield key, read_codes(P, group[2], architecture, threads, budget=budget), np.log2(h)


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


def _some(count: int, share: float) -> int:
    return max(1, round(share * count))


def measure(
    tier: str, architecture: Architecture, experts: list[Expert], *, share: float = 1.0, advance: Advance = silently
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Calibration of a finished ensemble, and its figures on fresh codes, each from a stream of its own.

    The best fixed point of the bracket is chosen on the calibration stream, so that it is judged on fresh codes too.
    share: of the codes.
    """
    count, elsewhere, tested = (_some(codes, share) for codes in (CALIBRATED, CALIBRATED_ELSEWHERE, TESTED))
    parts: dict[str, list[Any]] = {"field": [], "other": []}
    fixed = {}
    for group, reading, log2_h in held_out("calibrate", tier, architecture, count, elsewhere=elsewhere):
        advance(1)
        positions, doubt = combined(experts, reading)
        truth = (log2_h - reading.lower)[reading.asked] / reading.gap[reading.asked]
        parts["field" if group in EVALUATOR else "other"].append((truth, positions.mean(0), doubt))
        fixed[group] = best_fixed(reading.lower, reading.gap, log2_h)
    tables = {where: conformal.fit(*map(np.concatenate, zip(*some, strict=True))) for where, some in parts.items()}
    groups: dict[str, dict[str, Any]] = {}
    kinds: dict[str, Any] = {}
    for kind in ALL_KINDS:
        rows, covered, reach = [], [], []
        for group, reading, log2_h in held_out("test", tier, architecture, tested, kinds=(kind,)):
            advance(1)
            positions, doubt = combined(experts, reading)
            figures = _figures(reading, positions, log2_h, fixed[group])
            groups.setdefault(group_name(group), {})[kind] = figures
            rows.append(figures)
            ends = np.array([_interval(tables["field"], reading, positions.mean(0), doubt, level) for level in LEVELS])
            off, slip = log2_h - reading.lower, 1e-15 * np.abs(log2_h)  # of adding and taking away log2 L
            covered.append((ends[:, 0] <= off + slip) & (off - slip <= ends[:, 1]))
            reach.append(ends[:, 1] - ends[:, 0])
        if rows:
            held, length = np.concatenate(covered, 1).mean(1), np.concatenate(reach, 1).mean(1)
            kinds[kind] = {key: float(np.mean([row[key] for row in rows])) for key in MEANS}
            kinds[kind] |= {
                "worst_bits": max(row["worst_bits"] for row in rows),
                "codes": sum(r["codes"] for r in rows),
            }
            kinds[kind]["coverage"] = {str(level): float(v) for level, v in zip(LEVELS, held, strict=True)}
            kinds[kind]["interval_bits"] = {str(level): float(v) for level, v in zip(LEVELS, length, strict=True)}
    return tables, {"format": "moe_mheight metrics 1", "tier": tier, "groups": groups, "kinds": kinds}


def measure_search(
    tier: str, experts: list[Expert], *, share: float = 1.0, advance: Advance = silently
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Calibration under a budget, and figures on fresh codes: for each "n,k,m,budget" the log2-MSE of the lower bound
    alone, of the lower bound and its best constant (chosen on the calibration stream), of the tightest lower bound that
    the same sets give, and of the ensemble."""
    seen, constants, rows = [], {}, {}
    for key, reading, log2_h in held_out("calibrate", tier, experts[0].architecture, _some(SEARCHES, share)):
        advance(1)
        truth = log2_h - reading.lower  # heights are finite, so all are asked
        constants[key] = float(truth.mean())
        positions, beyond, _ = np.stack([answers(expert, reading) for expert in experts], axis=1)
        seen.append((truth, positions, beyond, reading))

    def missed(threshold: float) -> float:
        """Relative to the best constant, so that searches which see everything count too."""
        of_each = []
        for truth, positions, beyond, _ in seen:
            error = (positions + np.maximum(beyond - threshold, 0.0)).mean(0) - truth
            of_each.append(np.log((np.mean(error**2) + 1e-7) / (np.var(truth) + 1e-7)))
        return float(np.mean(of_each))

    threshold = min((0.0, *np.geomspace(1e-4, 0.3, 36)), key=missed)
    parts = []
    for truth, _, _, reading in seen:
        positions, doubt = combined(experts, reading, threshold=threshold)
        parts.append((truth, positions.mean(0), doubt))
    table = conformal.fit(*map(np.concatenate, zip(*parts, strict=True)))
    for key, reading, log2_h in held_out("test", tier, experts[0].architecture, _some(SEARCHES, share)):
        advance(1)
        truth = log2_h - reading.lower
        position = combined(experts, reading, threshold=threshold)[0].mean(0)
        least = np.clip(reading.low.max(1), 0.0, None)
        rows[group_name(key)] = {
            "codes": len(truth),
            "lower_log2_mse": float(np.mean(truth**2)),
            "constant_log2_mse": float(np.mean((truth - constants[key]) ** 2)),
            "closing_log2_mse": float(np.mean((least - truth) ** 2)),
            "log2_mse": float(np.mean((position - truth) ** 2)),
            "worst_bits": float(np.abs(position - truth).max()),
        }
    return {"threshold": float(threshold), "calibration": table}, rows


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
    table: dict[str, Any], reading: Reading, position: NDArray[np.float64], doubt: NDArray[np.float64], coverage: float
) -> NDArray[np.float64]:
    """Ends of the intervals that `Predictor.predict_interval` gives, (2, B), in bits above the lower bound."""
    room = reading.ceiling - reading.floor
    low, high = conformal.cut(coverage, reading.lower.view(np.uint64))
    ends = np.stack([reading.floor + low * room, reading.floor + high * room])
    within = np.stack(conformal.interval(table, position, doubt, coverage)) * reading.gap[reading.asked]
    ends[:, reading.asked] = np.clip(within, reading.floor[reading.asked], reading.ceiling[reading.asked])
    return ends


MEANS = ("log2_mse", "fixed_log2_mse", "bracket_bits", "spread_bits", "asked")
"""Figures of a group that are averaged over groups."""


def _figures(
    reading: Reading, positions: NDArray[np.float64], log2_h: NDArray[np.float64], fixed: float
) -> dict[str, Any]:
    errors = reading.placed(positions) - log2_h
    error = errors.mean(0)
    at_fixed = reading.lower + fixed * reading.gap - log2_h
    seeds = len(errors)
    by_number = {
        str(number): float(
            np.mean([np.mean(errors[list(some)].mean(0) ** 2) for some in combinations(range(seeds), number)])
        )
        for number in range(1, seeds + 1)
    }
    return {
        "codes": len(log2_h),
        "log2_mse": float(np.mean(error**2)),
        "worst_bits": float(np.abs(error).max()),
        "fixed_point": fixed,
        "fixed_log2_mse": float(np.mean(at_fixed**2)),
        "asked": float(reading.asked.mean()),
        "bracket_bits": float(reading.gap.mean()),
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


def card(config: dict[str, Any], metrics: dict[str, Any], seeds: int) -> str:
    """The model card of a tier, from its own config and metrics."""
    made, measured, recipe = config["provenance"], config["measured"], config["recipe"]

    def line(name: str, v: dict[str, Any]) -> str:
        gain = f"{v['fixed_log2_mse'] / v['log2_mse']:.0f}" if v["fixed_log2_mse"] > 1e-12 else "-"
        return (
            f"| {name} | {v['codes']} | {v['log2_mse']:.1e} | {v['fixed_log2_mse']:.1e} | {gain} | "
            f"{v['worst_bits']:.3f} | {v['bracket_bits']:.4f} |"
        )

    by_group = "\n".join(line(f"({group.replace(',', ', ')})", v) for group, v in over_kinds(metrics).items())
    by_kind = "\n".join(
        line(kind, v) + " " + " | ".join(f"{100 * share:.1f}" for share in v["coverage"].values()) + " |"
        for kind, v in metrics["kinds"].items()
    )
    by_search = "\n".join(
        f"| ({', '.join(key.split(',')[:3])}) | {key.split(',')[3]} | {v['codes']} | {v['log2_mse']:.1e} | "
        f"{v['closing_log2_mse']:.1e} | {v['constant_log2_mse']:.1e} | {v['lower_log2_mse']:.1e} | "
        f"{v['worst_bits']:.2f} |"
        for key, v in metrics["search"].items()
    )
    source = RULE[config["tier"]].learns_from
    nearest = f"slack {RULE[source].slack} (at slack 0 brackets are closed and there is nothing to learn)"
    return f"""# The {config["tier"]} expert

Predicts where in its certified bracket log2 h_m lies, for codes of the {config["tier"]} tier. Ensemble of {seeds}.

* Data: fresh random codes ({", ".join(recipe["kinds"])}), exact labels, {recipe["chunks"]} chunks of up to
  {recipe["groups"] * recipe["codes"]} codes per member, no code seen twice; sizes 4 <= n <= 12 of
  {"the tier" if source == config["tier"] else nearest}, half of them from the field's 21 groups.
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


def provenance() -> dict[str, Any]:
    """Where and with what a model was made."""
    try:
        here = Path(__file__).parent
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            check=False,
            cwd=here,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        ).stdout.strip()
    except OSError:
        commit = ""
    return {
        "version": __version__,
        "commit": commit or "unknown",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {thread_count(None)} cores",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
