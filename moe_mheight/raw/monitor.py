"""What is measured every epoch: log2-MSE per group, per tier, of the worst group and their mean (macro)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.code_files import Group
from ..groups import TIERS, group_name, tier_of

WINDOW = 10
"""Epochs that roughness looks back on."""


def figures(errors: dict[Group, NDArray[np.float64]]) -> dict[str, Any]:
    """Figures of log2 errors by group, in bits squared.

    Returns:
        "groups" {"n,k,m": log2-MSE}, "tiers" {tier: mean over its groups}, "macro", the mean over all, "worst", the
        largest, and "worst_group".
    """
    groups = {group: float(np.mean(error**2)) for group, error in errors.items()}
    tiers = {tier: [mse for group, mse in groups.items() if tier_of(*group) == tier] for tier in TIERS}
    worst = max(groups, key=lambda group: groups[group])
    return {
        "macro": float(np.mean(list(groups.values()))),
        "worst": groups[worst],
        "worst_group": group_name(worst),
        "tiers": {tier: float(np.mean(mses)) for tier, mses in tiers.items() if mses},
        "groups": {group_name(group): mse for group, mse in groups.items()},
    }


def ratio(record: dict[str, Any]) -> float | None:
    """Validation over training macro: run 1's generalisation gap. None where training errors are 0."""
    trained = record["train"]["macro"]
    return record["validation"]["macro"] / trained if trained > 0 else None


def roughness(macros: list[float]) -> float | None:
    """How unsteady validation is: the standard deviation, over the last WINDOW epochs, of log2 of the macro's change
    from one to the next; 0 is a smooth curve. None before three epochs."""
    last = np.log2(np.maximum(macros[-WINDOW - 1 :], 1e-300))
    return float(np.diff(last).std()) if len(last) > 2 else None
