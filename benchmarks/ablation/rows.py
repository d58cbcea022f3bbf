"""The rows of the ablation: the priorities proposed after run 1, labels, sizes, structure; each changes run 1."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from moe_mheight.errors import ModelError, brief
from moe_mheight.raw.recipe import RawRecipe, as_json, make, read_json

WIDTH = 128
"""Of the reference network: an eighth of run 1, so that the whole table takes two cores an hour or so."""

ORIGINALS = 889
"""Training codes per group of most rows, 8,000 in all: as few as that, and the reference overfits as run 1 did."""

EPOCHS, PER_EPOCH = 20, 15_000
"""Every row sees 300,000 codes."""

REFERENCE = {
    "network": "run1",
    "width": WIDTH,
    "dropout": 0.3,
    "decay": 1e-4,
    "rate": 1e-3,
    "schedule": "constant",
    "batch": 256,
    "epochs": EPOCHS,
    "per_epoch": PER_EPOCH,
}
"""Run 1, scaled: what every row starts from."""

BASE, WHOLE = "run 1, scaled", "all 108,000 codes"
"""Rows that others are compared with."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Its originals are the first codes of each group's training side; "tiers" trains a network for each tier, with the
    codes that a single one sees shared among them.

    Raises:
        ModelError: a setting is wrong.
    """

    name: str
    part: str = "table"  # of the page
    settings: dict[str, Any] = field(default_factory=dict)  # what differs from REFERENCE
    originals: int | None = ORIGINALS  # per group; None for all
    against: str = ""  # the row it is compared with
    scope: str = "all"  # or "tiers"
    view: str = "raw"  # or "bracket"
    expected: str = ""  # what the analysis of run 1 expected

    def __post_init__(self) -> None:
        if self.scope not in ("all", "tiers") or self.view not in ("raw", "bracket"):
            raise ModelError("scope must be all or tiers, view raw or bracket")
        if self.view == "raw":
            self.recipe  # noqa: B018  a wrong setting should be told before anything is trained

    @property
    def recipe(self) -> RawRecipe:
        """The settings of each of its networks."""
        base = REFERENCE | ({"width": 0} if self.settings.get("network") == "symmetric" else {})
        whole = make(base | self.settings)
        return make(as_json(whole) | {"per_epoch": whole.per_epoch // 3}) if self.scope == "tiers" else whole


REGULARISED = {"dropout": 0.4, "decay": 1e-3, "l2": 1e-4, "rate": 5e-4, "patience": 6, "jitter": 0.02}
"""The fourth priority; its patience of 30 epochs in 200 is 3 in 20, doubled as our epochs are short."""

SYMMETRIC = {"network": "symmetric", "width": 16, "dropout": 0.0, "schedule": "cosine", "rate": 2e-3, "batch": 128}

MADE = {"augment": ["geometric"], "augment_to": 4 * ORIGINALS}
"""The third priority's domain-aware interpolation; four times as many codes as there were."""

ALL = REGULARISED | {"network": "gated", "weights": "proposed", "curriculum": "proposed"}

HOPES = {
    "run 1": "0.495 on a leaky split, 1.39 without leaks",
    "weights": "worst groups 25-35 % less, overall 15-20 % less, best groups 5-10 % more",
    "gate": "worst groups 30-40 % less, overall 20-25 % less",
    "augmentation": "worst groups 15-25 % less, overall 10-15 % less",
    "regularisation": "worst groups 10-15 % less, overall 12-18 % less, gap 15-25 % less",
    "curriculum": "worst groups 15-20 % less, overall 10-12 % less",
    "all": "worst groups 60-65 % less, overall 0.32-0.36",
    "tiers": "0.25-0.30, with seed ensembles",
}
"""What the analysis of run 1 expected of the errors."""


def _priority(name: str, settings: dict[str, Any], hope: str = "") -> Row:
    return Row(name=name, part="priorities", settings=settings, against=BASE, expected=HOPES.get(hope, ""))


def _augmentation(method: str, labels: str) -> Row:
    settings = MADE | {"augment": [method], "labels": labels}
    return Row(name=f"{method}, labels {labels}", part="augmentation", settings=settings, against=BASE)


TABLE = (
    Row(name=BASE, part="reference", expected=HOPES["run 1"]),
    _priority("1: group weights", {"weights": "proposed"}, "weights"),
    _priority("2: gate, fixed", {"network": "gated", "gate_from": 1.0}, "gate"),
    _priority("2: gate, fixed then learned", {"network": "gated", "gate_from": 0.3}, "gate"),
    _priority("2: gate, learned", {"network": "gated", "gate_from": 0.0}, "gate"),
    _priority("3: geometric, labels copied", MADE | {"labels": "copied"}, "augmentation"),
    _priority("3: geometric, labels exact", MADE | {"labels": "exact"}, "augmentation"),
    _priority("3: orbit", {"orbit": True}),
    _priority("3: orbit, 8 views", {"orbit": True, "views": 8}),
    _priority("4: regularisation", REGULARISED, "regularisation"),
    _priority("4, reversed: no dropout, cosine", {"dropout": 0.0, "schedule": "cosine"}),
    _priority("5: curriculum", {"curriculum": "proposed"}, "curriculum"),
    _priority("all five, labels copied", ALL | MADE | {"labels": "copied"}, "all"),
    _priority("all five, orbit", ALL | {"orbit": True}, "all"),
    *(_augmentation(method, labels) for method in ("noise", "smote", "row-sums") for labels in ("copied", "exact")),
    Row(name="2,000 codes", part="size", originals=222, against=BASE),
    Row(name="32,000 codes", part="size", originals=3556, against=BASE),
    Row(name=WHOLE, part="size", originals=None, against=BASE),
    Row(name="three tiers", part="structure", scope="tiers", against=BASE, expected=HOPES["tiers"]),
    Row(name="symmetric", part="structure", settings=SYMMETRIC, originals=None, against=WHOLE),
    Row(
        name="symmetric, three tiers",
        part="structure",
        settings=SYMMETRIC,
        originals=None,
        scope="tiers",
        against="symmetric",
    ),
    Row(name="bracket view, equal time", part="structure", view="bracket", settings={"chunks": 10}, against=BASE),
)
"""The reference, each priority alone, all together, labels, sizes, structure. The ensembles of all seeds of a row come
out of the same runs."""

FULL_SIZE = Row(
    name="run 1, full size",
    part="full size",
    settings={"width": 1024, "epochs": 200, "per_epoch": 0, "patience": 50},
    originals=None,
    against=WHOLE,
)
"""For a machine with a GPU."""

KEYS = {each.name for each in fields(Row)}


def stem(name: str) -> str:
    """A row's name as the beginning of its files' names."""
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def read_table(path: Path) -> tuple[Row, ...]:
    """A table of one's own: a JSON list of objects with a name, settings and, if wanted, originals, scope, against.

    Raises:
        ModelError: the file is not there or a row is wrong; the message says which.
    """
    value = read_json(path, "a table")
    if not isinstance(value, list) or not value:
        raise ModelError(f"{path} must hold a list of rows")
    rows = tuple(_row(plain, f"{path}, row {number}") for number, plain in enumerate(value))
    if len({stem(row.name) for row in rows}) < len(rows):
        raise ModelError(f"{path}: two rows have the same name, but for case and signs")
    for row in rows:
        if row.against and row.against not in {other.name for other in rows}:
            raise ModelError(f'{path}: {brief(row.name)} is against {brief(row.against)}, which is no row; "" for none')
    return rows


def _row(plain: Any, where: str) -> Row:
    if not isinstance(plain, dict) or not set(plain) <= KEYS or not isinstance(plain.get("name"), str):
        raise ModelError(f"{where}: must be an object with a name and some of {', '.join(sorted(KEYS - {'name'}))}")
    for key in KEYS - {"settings", "originals"}:
        if not isinstance(plain.get(key, ""), str):
            raise ModelError(f"{where}: {key} must be a string, got {brief(plain[key])}")
    if not re.fullmatch(r"\S(.{0,58}\S)?", plain["name"]) or not plain["name"].isprintable():
        raise ModelError(f"{where}: a name has 1 to 60 printable characters, got {brief(plain['name'])}")
    originals = plain.get("originals", ORIGINALS)
    if originals is not None and (not isinstance(originals, int) or isinstance(originals, bool) or originals < 1):
        raise ModelError(f"{where}: originals must be an int >= 1 or null, got {brief(originals)}")
    if not isinstance(plain.get("settings", {}), dict):
        raise ModelError(f"{where}: settings must be an object, got {brief(plain['settings'])}")
    chunks = plain.get("settings", {}).get("chunks")
    if plain.get("view") == "bracket" and (not isinstance(chunks, int) or isinstance(chunks, bool) or chunks < 1):
        raise ModelError(f'{where}: a row of the bracket view has settings {{"chunks": N}}, got {brief(chunks)}')
    try:
        return Row(**plain)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error
