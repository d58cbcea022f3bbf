"""Which experts speak for a code, and how loud: weights over the tiers from (n, k, m).

Three ways: the slack table (`slack_weights`), rules that a user writes (`table_router`), and a small gate (`Gate`)
fitted on held-out predictions of the frozen experts, see `gating`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, brief
from ..groups import TIERS, slack_of, tier_of

Router = Callable[[int, int, int], NDArray[np.float64]]

ROUTERS = ("fixed", "learned")

PRIOR = 6.0
"""Logit that the gate gives the tier of the slack before it has learnt anything: weights 0.995, 0.002, 0.002."""

QUIET = 0.01
"""Gate weights below this are dropped: no code is routed to an expert for so little."""


def slack_weights(n: int, k: int, m: int) -> NDArray[np.float64]:
    """The fixed router: all weight on the tier of the slack n - k - m. Returns (3,), in the order of TIERS.

    Example:
        >>> from moe_mheight.ensemble.router import slack_weights
        >>> slack_weights(9, 4, 4).tolist()
        [0.0, 1.0, 0.0]
    """
    return np.array([float(tier == tier_of(n, k, m)) for tier in TIERS])


def table_router(path: str | Path) -> Router:
    """A router from a file of rules; the first that fits a code decides, the slack table where none does.

    The file is JSON: {"rules": [{"n": 9, "k": [4, 5], "slack": 1, "weights": {"medium": 2, "high": 1}}, ...]}. A rule
    may name n, k, m and slack, each a number or a list of them; weights are divided by their sum.

    Raises:
        ModelError: the file cannot be read, or a rule is not one; the message says which.
    """
    try:
        rules = json.loads(Path(path).read_text(encoding="utf-8-sig"))["rules"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f'{path} is not a router: want JSON like {{"rules": [{{"n": 9, "weights": ...}}]}}') from error
    if not isinstance(rules, list):
        raise ModelError(f'{path}: "rules" must be a list')
    known = [_rule(rule, f"{path}, rule {number}") for number, rule in enumerate(rules, 1)]

    def weights(n: int, k: int, m: int) -> NDArray[np.float64]:
        code = {"n": n, "k": k, "m": m, "slack": slack_of(n, k, m)}
        for wanted, given in known:
            if all(code[name] in values for name, values in wanted.items()):
                return given
        return slack_weights(n, k, m)

    return weights


def _rule(rule: Any, where: str) -> tuple[dict[str, list[int]], NDArray[np.float64]]:
    if not isinstance(rule, dict) or not isinstance(rule.get("weights"), dict):
        raise ModelError(f'{where} must be an object with "weights", got {brief(rule)}')
    wanted = {}
    for name, value in rule.items():
        if name == "weights":
            continue
        values = value if isinstance(value, list) else [value]
        if name not in ("n", "k", "m", "slack") or not all(type(v) is int for v in values):
            raise ModelError(f"{where}: rules name n, k, m or slack, each a whole number or a list, got {brief(name)}")
        wanted[name] = values
    unknown = set(rule["weights"]) - set(TIERS)
    if unknown:
        raise ModelError(f"{where}: weights are for {', '.join(TIERS)}, got {brief(unknown.pop())}")
    weights = np.array([_number(rule["weights"].get(tier, 0.0)) for tier in TIERS])
    if not ((weights >= 0).all() and 0 < weights.sum() < np.inf):
        raise ModelError(f"{where}: weights must be >= 0 and not all 0")
    return wanted, weights / weights.sum()


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) and abs(value) < 1e300 else float("nan")


INPUTS = 4 + len(TIERS)
"""Numbers that the gate reads of a size."""


def inputs(n: int, k: int, m: int) -> NDArray[np.float64]:
    """What the gate reads of a size, (INPUTS,)."""
    return np.array([n / 12.0, k / n, m / (n - k), slack_of(n, k, m) / 6.0, *slack_weights(n, k, m)])


class Gate:
    """The learned router: softmax of the slack table's logits plus a small network's. Calling it gives the weights.

    Shapes: inner (INPUTS, H), outer (H, tiers): (7, H) and (H, 3).
    """

    def __init__(self, inner: Any, outer: Any) -> None:
        try:
            self.inner, self.outer = np.array(inner, float), np.array(outer, float)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelError("the gate's weights are not matrices of numbers") from error
        shapes = self.inner.shape, self.outer.shape
        wanted = f"({INPUTS}, H) and (H, {len(TIERS)})"
        if len(shapes[0]) != 2 or shapes[0][0] != INPUTS or shapes[1] != (shapes[0][1], len(TIERS)):
            raise ModelError(f"the gate's weights must have shapes {wanted}, got {shapes[0]} and {shapes[1]}")
        if not (np.isfinite(self.inner).all() and np.isfinite(self.outer).all()):
            raise ModelError("the gate's weights must be finite")

    def __call__(self, n: int, k: int, m: int) -> NDArray[np.float64]:
        logits = PRIOR * slack_weights(n, k, m) + np.tanh(inputs(n, k, m) @ self.inner) @ self.outer
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        weights[weights < QUIET] = 0.0
        return weights / weights.sum()


GATE = "moe_mheight router 1"


def sealed(found: dict[str, Any]) -> dict[str, Any]:
    """What router.json holds, with "sha256": that of all the rest, as JSON of sorted keys."""
    rest = {key: value for key, value in found.items() if key != "sha256"}
    return rest | {"sha256": sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def load_gate(folder: Path) -> Gate:
    """The gate of a model set, from its router.json.

    Raises:
        ModelError: there is none, it is damaged, or it has no checksum, as those of older versions.
    """
    path = folder / "router.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != GATE:
            raise ModelError(f"{path} has format {brief(found['format'])}, this version reads {GATE!r}")
        again = f"make it again with `mheight train-router --force --models {folder}`"
        if "sha256" not in found:
            raise ModelError(f"{path} has no checksum, as those of older versions; {again}")
        if found != sealed(found):
            raise ModelError(f"{path} does not match its checksum; restore it, or {again}")
        return Gate(found["inner"], found["outer"])
    except FileNotFoundError as error:
        raise ModelError(f"{folder} has no learned router; make it with `mheight train-router --models DIR`") from error
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is not a learned router: {brief(error)}") from error
