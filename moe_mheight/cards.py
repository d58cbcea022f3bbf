"""What a finished tier is worth: calibration, held-out figures, where it was made, and the model card that says so."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import __version__
from .experts import CLOSED, Architecture, Expert, Reading, positions, read_codes
from .kernels import thread_count
from .streams import draw, stream
from .tiers import EVALUATOR, tier_of


def held_out(name: str, tier: str, architecture: Architecture, count: int) -> Iterator[tuple[Any, Reading, Any]]:
    """(group, reading, log2 h) for the field's groups of a tier, from the named stream."""
    for group in EVALUATOR:
        if tier_of(*group) == tier:
            P, h = draw(stream(name, *group), group, count)
            yield group, read_codes(P, group[2], architecture), np.log2(h)


QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995)


def measure(tier: str, architecture: Architecture, experts: list[Expert]) -> dict[str, Any]:
    """Calibration and test figures of a finished ensemble, each from a stream of its own.

    The best fixed point of the bracket is chosen on the calibration stream, so that it is judged on fresh codes too.
    """
    residuals, fixed = [], {}
    for group, reading, log2_h in held_out("calibrate", tier, architecture, 3000):
        position = np.mean([positions(expert, reading) for expert in experts], axis=0)
        open_ = reading.width > CLOSED
        true = (log2_h[open_] - reading.lower[open_]) / reading.width[open_]
        residuals.append(np.abs(true - position[open_]))
        fixed[group] = best_fixed(reading.lower, reading.width, log2_h)
    groups = {}
    for group, reading, log2_h in held_out("test", tier, architecture, 3000):
        position = np.mean([positions(expert, reading) for expert in experts], axis=0)
        error = reading.lower + position * reading.width - log2_h
        at_fixed = reading.lower + fixed[group] * reading.width - log2_h
        groups[",".join(map(str, group))] = {
            "codes": len(log2_h),
            "log2_mse": float(np.mean(error**2)),
            "worst_bits": float(np.abs(error).max()),
            "fixed_point": fixed[group],
            "fixed_log2_mse": float(np.mean(at_fixed**2)),
            "bracket_bits": float(reading.width.mean()),
        }
    spread = np.concatenate(residuals)
    calibration = {str(q): float(np.quantile(spread, q)) if len(spread) else 0.0 for q in QUANTILES}
    return {"calibration": calibration, "test": groups}


def best_fixed(lower: NDArray[np.float64], width: NDArray[np.float64], log2_h: NDArray[np.float64]) -> float:
    """The position in [0, 1] that predicts best when it is the same for every code (least squares, closed form).

    Shapes: all (B,), in bits: log2 of the lower bounds, widths of the brackets, log2 of the heights.
    """
    weight = float(np.sum(width**2))
    return float(np.clip(np.sum(width * (log2_h - lower)) / weight, 0.0, 1.0)) if weight > 0 else 0.5


def card(config: dict[str, Any], seeds: int) -> str:
    """The model card of a tier, from its own config."""
    made, recipe = config["provenance"], config["recipe"]
    rows = "\n".join(
        f"| ({group.replace(',', ', ')}) | {v['codes']} | {v['log2_mse']:.2e} | {v['fixed_log2_mse']:.2e} | "
        f"{v['worst_bits']:.3f} | {v['bracket_bits']:.3f} |"
        for group, v in config["test"].items()
    )
    trained_on = "slack 1 (at slack 0 brackets are closed and there is nothing to learn)"
    return f"""# The {config["tier"]} expert

Predicts where in its certified bracket log2 h_m lies, for codes of the {config["tier"]} tier. Ensemble of {seeds}.

* Data: fresh random codes ({", ".join(recipe["kinds"])}), exact labels, {recipe["chunks"]} chunks of up to
  {recipe["groups"] * recipe["codes"]} codes per member, no code seen twice; sizes 4 <= n <= 12 of
  {trained_on if config["tier"] == "high" else "the tier"}, half of them from the field's 21 groups.
* Made: {made["date"]}, version {made["version"]}, commit {made["commit"]}, torch {made["torch"]}, {made["machine"]},
  device {made["device"]}, {config["trained_minutes"]} minutes.
* Limits: other kinds of codes and sizes outside 4 <= n <= 12 are extrapolation; the bracket holds all the same.
* Licence: MIT.

Held-out figures, from a random stream used for nothing else. "fixed" is the best fixed point of the same bracket.

| group | codes | log2-MSE | fixed | worst, bits | bracket, bits |
|---|---|---|---|---|---|
{rows}
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
