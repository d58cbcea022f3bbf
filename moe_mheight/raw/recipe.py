"""A recipe: everything that decides the weights of a raw-view network, apart from the data and the seed.

Run 1 is the first training of the network that this project grew from. Its analysis proposes five priorities; each is a
field here, and all can be combined.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import ModelError, brief
from ..groups import TIERS

NETWORKS = ("run1", "gated", "symmetric")
METHODS = ("noise", "smote", "geometric", "row-sums")
"""Ways to make new matrices from old ones, see `augmentation`."""

LABELS = ("copied", "exact")
SCHEDULES = ("constant", "cosine")
SCOPES = (*TIERS, "all")
"""What one network is trained on: the groups of a tier, or all."""

PROPOSED_WEIGHTS = (
    *((4, 2, 1.0), (4, 3, 1.0), (5, 2, 1.0)),
    *((4, 4, 1.5), (5, 3, 1.5), (6, 2, 2.0)),
    *((5, 4, 3.0), (6, 3, 3.0), (4, 5, 5.0)),
)
"""The loss weights that the analysis of run 1 proposes: (k, m, weight). Groups that a table leaves out weigh 1."""

PROPOSED_CURRICULUM = ((0.25, ("low",)), (0.25, ("low", "medium")), (0.5, TIERS))
"""The three phases that it proposes, 50, 50 and 100 epochs: share of the training, tiers."""

LARGEST_WEIGHT = 1e6

NO_WEIGHTS: tuple[tuple[int, int, float], ...] = ()
NO_CURRICULUM: tuple[tuple[float, tuple[str, ...]], ...] = ()


def _about(default: Any, about: str, **limits: Any) -> Any:
    """A field with its help text, and what values are allowed: low to high, or choices."""
    return field(default=default, metadata={"about": about, **limits})


@dataclass(frozen=True, kw_only=True)
class RawRecipe:
    """Settings of one raw-view training; stored beside the weights.

    Raises:
        ModelError: a value is out of range; the message says which and what is allowed.
    """

    network: str = _about("symmetric", "run1, gated (two pathways and a complexity gate) or symmetric.", of=NETWORKS)
    width: int = _about(0, "Features; run 1 had 1024.  [default: 32 for symmetric, else 256]", low=0, high=4096)
    blocks: int = _about(4, "Residual blocks, or rounds of messages between pairs of coordinates.", low=1, high=64)
    gate_from: float = _about(0.3, "Share of the training from which the gate is learned; 1 keeps it fixed.", high=1.0)
    weights: tuple[tuple[int, int, float], ...] = _about(
        NO_WEIGHTS, 'Loss weights of groups: none, proposed (for run 2) or a JSON FILE like {"4,5": 5.0}.'
    )
    augment: tuple[str, ...] = _about(
        (), "Make new matrices: noise, smote, geometric, row-sums, like noise,smote.", of=METHODS
    )
    augment_to: int = _about(12000, "Codes per group after that, as run 1 had.", low=1, high=10**7)
    noise: float = _about(0.05, "Of noise: standard deviations of the matrix's own entries.", high=10.0)
    labels: str = _about("exact", "Of matrices so made: copied from the nearer original, or exact.", of=LABELS)
    check: bool = _about(True, "Accept only those with mean and deviation near the originals', as proposed.")
    orbit: bool = _about(False, "Show another member of each code's orbit every epoch; labels stay exact.")
    views: int = _about(
        1, "Test-time augmentation: predictions are means over this many members of a code's orbit.", low=1, high=1024
    )
    dropout: float = _about(0.0, "After each dense layer; run 1 had 0.3.", high=0.95)
    decay: float = _about(1e-3, "AdamW's weight decay; run 1 had 1e-4.", high=10.0)
    l2: float = _about(0.0, "Penalty on squared weights; 1e-4 was proposed.", high=10.0)
    rate: float = _about(2e-3, "Peak learning rate; run 1 had 1e-3.", low=1e-8, high=1.0)
    schedule: str = _about("cosine", "Of the learning rate, after a warm-up of 2 %.", of=SCHEDULES)
    patience: int = _about(
        0,
        "Stop after so many epochs (of the last phase) without a better validation, keep the best; 0: never.",
        low=0,
        high=10**6,
    )
    jitter: float = _about(
        0.0, "Noise added anew every epoch, in deviations of the matrix; 0.02 was proposed.", high=10.0
    )
    curriculum: tuple[tuple[float, tuple[str, ...]], ...] = _about(
        NO_CURRICULUM, 'Phases by tier: none, proposed, or a JSON FILE like [[0.5, ["low"]], [0.5, ["low", "high"]]].'
    )
    batch: int = _about(128, "Codes per step.", low=1, high=65536)
    epochs: int = _about(30, "Epochs.", low=1, high=10**6)
    per_epoch: int = _about(0, "Codes per epoch.  [default: each once]", low=0, high=10**8)

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(each.name, getattr(self, each.name), each.default, each.metadata)
        _check_weights(self.weights)
        _check_curriculum(self.curriculum)
        if not self.width:
            object.__setattr__(self, "width", 32 if self.network == "symmetric" else 256)


RUN1 = {
    "network": "run1",
    "width": 1024,
    "dropout": 0.3,
    "decay": 1e-4,
    "rate": 1e-3,
    "schedule": "constant",
    "patience": 50,
    "epochs": 200,
    "batch": 256,
}
"""Run 1, as far as the analysis tells: what differs from the defaults."""


RUN2 = RUN1 | {
    "weights": "proposed",
    "rate": 5e-4,
    "decay": 1e-3,
    "dropout": 0.4,
    "l2": 1e-4,
    "patience": 30,
    "jitter": 0.02,
}
"""What the analysis proposes for run 2: the first and the fourth priority."""


def named(start: str | None, changes: dict[str, Any]) -> RawRecipe:
    """A recipe from "run1", "run2", a JSON file of settings or, for None, the defaults, with changes.

    Raises:
        ModelError: the file is not there, or a setting is wrong.
    """
    known: dict[str | None, dict[str, Any]] = {None: {}, "run1": RUN1, "run2": RUN2}
    base = known[start] if start in known else read_json(str(start), "a recipe")
    if not isinstance(base, dict):
        raise ModelError(f"{start} must hold an object of settings, got {brief(base)}")
    return make(base | changes)


def make(settings: dict[str, Any], *, files: bool = True) -> RawRecipe:
    """A recipe from plain values, as JSON or a command line gives them.

    Args:
        settings: field names and values; weights and curriculum may be "none", "proposed", a JSON file, or what it
            holds.
        files: whether files may be read; not those that a stranger's model set names.

    Raises:
        ModelError: an unknown field, with the nearest known one, or a wrong value.
    """
    known = [each.name for each in fields(RawRecipe)]
    for name in settings:
        if name not in known:
            hint = _nearest(name, known) or f"; known are {', '.join(known)}"
            raise ModelError(f"a recipe has no {brief(name)}{hint}")
    plain = dict(settings)
    if not files and any(isinstance(plain.get(name), str) for name in ("weights", "curriculum")):
        raise ModelError("weights and curriculum must be spelled out here")
    if "weights" in plain:
        plain["weights"] = _weights(plain["weights"])
    if "curriculum" in plain:
        plain["curriculum"] = _curriculum(plain["curriculum"])
    if "augment" in plain:
        plain["augment"] = _tuple(plain["augment"], "augment")
    return RawRecipe(**plain)


def from_text(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings as a command line gives them, for `make`.

    Args:
        assignments: like "width=64", "orbit=true", "augment=noise,smote" or 'weights={"4,5": 5.0}'.

    Raises:
        ModelError: one is not of that form.

    Example:
        >>> from moe_mheight.raw.recipe import from_text
        >>> from_text(["width=64", "rate=1e-3", "augment=noise,smote"])
        {'width': 64, 'rate': 0.001, 'augment': ['noise', 'smote']}
    """
    known = {each.name: each for each in fields(RawRecipe)}
    found = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ModelError(f"a setting is given like width=64, got {brief(assignment)}")
        name = name.strip().replace("-", "_")
        found[name] = _value(text.strip(), known[name]) if name in known else text
    return found


def _value(text: str, setting: Any) -> Any:
    """What a text means for a setting; one that means nothing stays text, which `make` refuses with a reason."""
    default = setting.default
    try:
        if text[:1] in ("{", "["):
            return json.loads(text)
        if isinstance(default, tuple) and "of" in setting.metadata:
            return [part.strip() for part in text.split(",") if part.strip()]
        if isinstance(default, bool):
            return {"true": True, "false": False}.get(text.lower(), text)
        return type(default)(text) if isinstance(default, (int, float)) else text
    except (ValueError, RecursionError):
        return text


def _nearest(value: Any, words: Iterable[str]) -> str:
    near = get_close_matches(str(value), list(words), 1)
    return f"; did you mean {near[0]}?" if near else ""


def settings_table() -> list[tuple[str, str]]:
    """Every setting and what it is, with its default."""
    rows = []
    for each in fields(RawRecipe):
        about = each.metadata["about"]
        if "default:" not in about and each.default not in ((), ""):
            about += f"  [default: {str(each.default).lower() if isinstance(each.default, bool) else each.default}]"
        rows.append((each.name, about))
    return rows


def as_json(recipe: RawRecipe) -> dict[str, Any]:
    """Plain values, such that make(as_json(recipe)) == recipe."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    plain["weights"] = {f"{k},{m}": weight for k, m, weight in recipe.weights}
    return plain


def read_json(path: str | Path, what: str, words: Iterable[str] = ()) -> Any:
    """What a JSON file holds; `words` are what may be said instead of a file's name."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = f"{error.strerror or error}{_nearest(path, words)}"
        raise ModelError(f"cannot read {what} from {path}: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not valid JSON: {brief(error)}") from error


def _check(name: str, value: Any, default: Any, allowed: Any) -> None:
    if "of" in allowed:
        for choice in value if isinstance(value, tuple) else (value,):
            if choice not in allowed["of"]:
                hint = _nearest(choice, allowed["of"])
                raise ModelError(f"{name} must be one of {', '.join(allowed['of'])}, got {brief(choice)}{hint}")
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise ModelError(f"{name} must not repeat, got {brief(value)}")
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise ModelError(f"{name} must be true or false, got {brief(value)}")
    elif isinstance(default, (int, float)):
        kinds = (int,) if isinstance(default, int) else (int, float)
        low, high = allowed.get("low", 0.0), allowed["high"]
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            word = "an int" if isinstance(default, int) else "a number"
            raise ModelError(f"{name} must be {word} from {low:g} to {high:g}, got {brief(value)}")


def _check_weights(weights: tuple[tuple[int, int, float], ...]) -> None:
    if len({(k, m) for k, m, _ in weights}) < len(weights):
        raise ModelError("weights must name each (k, m) once")
    for k, m, weight in weights:
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= LARGEST_WEIGHT:
            raise ModelError(
                f"the weight of ({k},{m}) must be a number from 0 to {LARGEST_WEIGHT:g}, got {brief(weight)}"
            )
    if weights and not any(weight for *_, weight in weights):
        raise ModelError("weights must not all be 0")


def _check_curriculum(curriculum: tuple[tuple[float, tuple[str, ...]], ...]) -> None:
    for share, tiers in curriculum:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ModelError(f"a phase's share must be above 0 and at most 1, got {brief(share)}")
        if not tiers or not all(isinstance(tier, str) and tier in TIERS for tier in tiers):
            raise ModelError(f"a phase's tiers must be some of {', '.join(TIERS)}, got {brief(tiers)}")
    if curriculum and abs(sum(share for share, _ in curriculum) - 1.0) > 1e-6:
        raise ModelError(f"the shares of the phases must add up to 1, got {sum(share for share, _ in curriculum):g}")


def _tuple(value: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ModelError(f"{what} must be a list, got {brief(value)}")
    return tuple(value)


def _spelled_out(value: str, known: dict[str, Any], what: str) -> Any:
    """What a word stands for, or what a file holds."""
    word = "proposed" if value == "seed" else value  # its name in recipes of earlier versions
    return known[word] if word in known else read_json(value, what, known)


def _weights(value: Any) -> tuple[tuple[int, int, float], ...]:
    if isinstance(value, str):
        value = _spelled_out(value, {"none": {}, "proposed": PROPOSED_WEIGHTS}, "weights")
    if isinstance(value, tuple):
        return value
    if not isinstance(value, dict):
        raise ModelError(f'weights must be like {{"4,5": 5.0}}, for k,m, got {brief(value)}')
    found = []
    for key, weight in value.items():
        parts = str(key).strip("() ").split(",")
        try:
            k, m = (int(part) for part in parts)
        except ValueError as error:
            raise ModelError(f'weights are for groups like "4,5" (k,m), got {brief(key)}') from error
        found.append((k, m, weight))
    return tuple(found)


def _curriculum(value: Any) -> tuple[tuple[float, tuple[str, ...]], ...]:
    if isinstance(value, str):
        value = _spelled_out(value, {"none": NO_CURRICULUM, "proposed": PROPOSED_CURRICULUM}, "a curriculum")
    phases = []
    for phase in _tuple(value, "a curriculum"):
        parts = _tuple(phase, "a phase")
        if len(parts) != 2:
            raise ModelError(f'a phase must be like [0.5, ["low", "medium"]], got {brief(phase)}')
        phases.append((parts[0], _tuple(parts[1], "a phase's tiers")))
    return tuple(phases)
