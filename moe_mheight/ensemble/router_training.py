"""Fitting the learned router: a small gate on (n, k, m), from held-out predictions of the frozen experts.

With e_t the tiers' errors of log2 h on the codes of one size, weights w give the mean squared error w^T A w,
A = mean(e e^T): three by three numbers a size, for three tiers, are all that the fit has to see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .._arguments import whole
from .._io import write_file
from ..errors import ModelError
from ..experts.model_card import held_out
from ..experts.model_store import load_set
from ..experts.network import combined
from ..experts.provenance import provenance
from ..groups import EVALUATOR, OPEN, TIERS, group_name, sizes
from .router import GATE, INPUTS, PRIOR, Gate, Router, inputs, sealed, slack_weights

SILENT = 1e-25
"""Sizes with smaller errors, in bits squared, have nothing to say: theirs is rounding."""


def fit_gate(errors: dict[tuple[int, int, int], NDArray[np.float64]], *, hidden: int = 16, decay: float = 1e-3) -> Gate:
    """Fit a gate to the second moments of the experts' errors.

    Minimises the mean over sizes of the log of the error relative to the fixed router's, so that every size counts the
    same, with weight decay towards the fixed router.

    Args:
        errors: for each (n, k, m) the matrix A = mean(e e^T), (tiers, tiers), in bits squared.
        hidden: width of the gate.
        decay: strength of the pull towards the fixed router.
    """
    known = [size for size, A in errors.items() if slack_weights(*size) @ A @ slack_weights(*size) > SILENT]
    if not known:
        return Gate(np.zeros((INPUTS, hidden)), np.zeros((hidden, len(TIERS))))
    seen = torch.tensor(np.array([inputs(*size) for size in known]))
    fixed = torch.tensor(np.array([slack_weights(*size) for size in known]))
    moments = torch.tensor(np.array([errors[size] for size in known]))
    moments = moments / torch.einsum("gi,gij,gj->g", fixed, moments, fixed)[:, None, None]
    generator = torch.Generator().manual_seed(0)
    inner = torch.randn((INPUTS, hidden), generator=generator, dtype=torch.float64).mul_(0.5).requires_grad_()
    outer = torch.zeros((hidden, len(TIERS)), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([inner, outer], max_iter=500, line_search_fn="strong_wolfe")

    def objective() -> torch.Tensor:
        optimizer.zero_grad()
        weights = torch.softmax(PRIOR * fixed + torch.tanh(seen @ inner) @ outer, dim=1)
        relative = torch.einsum("gi,gij,gj->g", weights, moments, weights)
        value = torch.log(relative).mean() + decay * ((outer**2).sum() + (inner**2).sum())
        value.backward()
        return value

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    return Gate(inner.detach().numpy(), outer.detach().numpy())


KEPT_OUT = (8, 11)
"""Lengths that the gate is not fitted on, to see how it does on sizes it has never seen."""

Moments = dict[tuple[int, int, int], NDArray[np.float64]]


def moments(folder: Path, name: str, codes: int, advance: Callable[[int], None] = lambda _: None) -> Moments:
    """Second moments of the tiers' errors for every trained size with an open bracket, {size: (tiers, tiers)}.

    Codes come from the named stream; advance is told of each size done.
    """
    ensembles = [tier.experts for tier in load_set(folder).values()]
    out = {}
    for group, features, log2_h in _every_size(ensembles[0][0].architecture, name, codes):
        errors = (
            np.stack([features.log2_heights(combined(experts, features)[0].mean(0)) for experts in ensembles]) - log2_h
        )
        out[group] = errors @ errors.T / len(log2_h)
        advance(1)
    return out


def _every_size(architecture: Any, name: str, codes: int) -> Iterator[Any]:
    for tier in OPEN:  # at slack 0 brackets are closed, and every router is right
        yield from held_out(name, tier, architecture, codes, elsewhere=codes)


def sizes_compared() -> int:
    """How many sizes `moments` goes through."""
    return sum(len(sizes(tier)) for tier in OPEN)


def compare(gate: Router, found: Moments) -> dict[str, dict[str, float]]:
    """log2-MSE of both routers, means over the sizes: those fitted on, those of KEPT_OUT, the field's 21 groups."""
    parts: dict[str, Callable[[Any], bool]] = {
        "fitted": lambda size: size[0] not in KEPT_OUT,
        "kept out": lambda size: size[0] in KEPT_OUT,
        "field": lambda size: size in EVALUATOR,
    }
    rows = {}
    for part, belongs in parts.items():
        errors = np.array([[w(*s) @ A @ w(*s) for w in (slack_weights, gate)] for s, A in found.items() if belongs(s)])
        fixed, learned = errors.mean(0)
        rows[part] = {"sizes": len(errors), "fixed": fixed, "learned": learned, "ratio": learned / fixed}
    return rows


TOLERATED = 1.01
"""A learned router whose log2-MSE is more than so many times the fixed one's is worse; less is chance."""


def is_worse(comparison: dict[str, dict[str, float]]) -> bool:
    """Whether a learned router, of which `compare` says this, loses on any of the parts compared."""
    return any(part["learned"] > TOLERATED * part["fixed"] + SILENT for part in comparison.values() if part["sizes"])


def train_router(
    folder: Path,
    *,
    codes: int = 500,
    force: bool = False,
    keep_worse: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Fit the learned router of a model set on held-out predictions of its frozen experts, and keep it in the set.

    A gate that is worse than the fixed router on fresh codes, of the sizes it was fitted on or of others (`is_worse`),
    is not kept: what was there stays.

    Args:
        folder: the model set; the gate goes to folder / router.json.
        codes: codes drawn for each size, once to fit and once, from another stream, to compare.
        force: replace a router that is there.
        keep_worse: keep it even if it is worse.
        advance: told of each size done, twice for every size.

    Returns:
        What router.json holds: the gate's weights, the weights it gives the field's groups, how it compares, whether it
        is "worse", and the checksum.

    Raises:
        ModelError: the set is incomplete, or has a router (and not force); codes is no int of at least 1.
    """
    codes = whole("codes", codes, 1, error=ModelError)
    path = folder / "router.json"
    if path.exists() and not force:
        raise ModelError(f"{path} exists; --force to replace it")
    seen = moments(folder, "router", codes, advance)
    gate = fit_gate({size: A for size, A in seen.items() if size[0] not in KEPT_OUT})
    comparison = compare(gate, moments(folder, "test", codes, advance))
    found = {
        "format": GATE,
        "inner": gate.inner.tolist(),
        "outer": gate.outer.tolist(),
        "fitted_on": f"{codes} codes of each size with 4 <= n <= 12 and slack >= 1, n = 8 and 11 kept out",
        "comparison": comparison,
        "worse": is_worse(comparison),
        "weights": {group_name(size): np.round(gate(*size), 4).tolist() for size in EVALUATOR},
        "provenance": provenance(),
    }
    found = sealed(found)
    if keep_worse or not found["worse"]:
        write_file(path, (json.dumps(found, indent=1) + "\n").encode())
    return found
