"""Success criteria as data: which figure of an evaluation must lie below which limit.

A file of criteria is JSON; name, source and labels may be left out:

    {"format": "moe_mheight criteria 1", "name": "mine", "source": "where the limits come from",
     "criteria": [{"figure": "macro", "below": 0.4, "label": "overall"}, ...]}

    macro                     plain mean of the groups' log2-MSE
    worst group               largest log2-MSE of a group
    worst code                largest |log2 error| of one code, in bits
    gap                       macro on validation over macro on training, of models whose training kept both
    group 4,5 or group 9,4,5  largest log2-MSE of the groups with this k and m; that of (n, k, m)
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import DataError, brief

FORMAT = "moe_mheight criteria 1"

SHIPPED = ("release", "run2")
"""Names of files in moe_mheight.models: the shipped models' goals, and those of the run that the seed had planned."""

FIGURES = ("macro", "worst group", "worst code", "gap")
"""Names of figures, besides those of groups."""

_GROUP = re.compile(r"group (?:([1-9][0-9]?),)?([1-9][0-9]?),([1-9][0-9]?)")
_LARGEST_FILE = 1 << 20
_LONGEST = 60


@dataclass(frozen=True)
class Criterion:
    """A figure, named as above, must lie below a limit in the figure's unit."""

    figure: str
    below: float
    label: str


@dataclass(frozen=True)
class Verdict:
    """A criterion and the figure's value, None where it was not measured."""

    criterion: Criterion
    value: float | None
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self.criterion) | {"value": self.value, "passed": self.passed}


def load(name_or_path: str | os.PathLike[str]) -> tuple[Criterion, ...]:
    """Criteria from a file, in its order.

    Args:
        name_or_path: a name of SHIPPED, or the path of a file (one of such a name is "./release").

    Returns:
        At least one criterion, each of another figure.

    Raises:
        DataError: the file cannot be read, or breaks a rule; the message says which criterion and which rule.

    Example:
        >>> from moe_mheight.evaluation.criteria import load
        >>> [(criterion.figure, criterion.below) for criterion in load("release")]
        [('macro', 3e-05), ('worst group', 0.0001), ('worst code', 0.08)]
    """
    path = name_or_path
    if path in SHIPPED:
        path = Path(import_module("moe_mheight.models").__path__[0]) / "criteria" / f"{path}.json"
    where = f"criteria {brief(os.fspath(path))}"
    try:
        with open(path, "rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or brief(error)
        raise DataError(f"{where}: {why}; give a file, or one of {', '.join(SHIPPED)}") from None
    if len(content) > _LARGEST_FILE:
        raise DataError(f"{where}: at most {_LARGEST_FILE >> 20} MiB are read, this file has more")
    try:
        document = json.loads(content, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: must be a JSON file, but {brief(error)}") from None
    found = document.get("format") if isinstance(document, dict) else document
    if found != FORMAT:
        raise DataError(f'{where}: must be an object whose format is "{FORMAT}", got {brief(found)}')
    _check_keys(document, ("format", "criteria"), ("name", "source"), where)
    for key in ("name", "source"):
        if not isinstance(document.get(key, ""), str):
            raise DataError(f"{where}: {key} must be a string, got {brief(document[key])}")
    if not isinstance(document["criteria"], list) or not document["criteria"]:
        raise DataError(f"{where}: criteria must be a list, not an empty one, got {brief(document['criteria'])}")
    criteria: dict[str, Criterion] = {}
    for number, value in enumerate(document["criteria"], 1):
        criterion = _criterion(value, f"{where}, criterion {number}")
        if criterion.figure in criteria:
            raise DataError(f"{where}, criterion {number}: a figure has one criterion, {criterion.figure!r} has two")
        criteria[criterion.figure] = criterion
    return tuple(criteria.values())


def judge(criteria: tuple[Criterion, ...], figures: dict[str, float]) -> list[Verdict]:
    """Whether figures meet criteria: below is strictly below; nan, and what was not measured, are misses.

    Args:
        criteria: from `load`.
        figures: values by name, from `evaluation.Report.figures`.

    Returns:
        A verdict for each criterion, in their order.

    Example:
        >>> from moe_mheight.evaluation.criteria import Criterion, judge
        >>> criteria = Criterion("macro", 0.4, "overall"), Criterion("gap", 2.0, "gap")
        >>> [(verdict.value, verdict.passed) for verdict in judge(criteria, {"macro": 0.3})]
        [(0.3, True), (None, False)]
    """
    values = [figures.get(criterion.figure) for criterion in criteria]
    return [Verdict(c, x, x is not None and x < c.below) for c, x in zip(criteria, values, strict=True)]


def _criterion(value: object, where: str) -> Criterion:
    if not isinstance(value, dict):
        raise DataError(f"{where}: must be an object with figure and below, got {brief(value)}")
    _check_keys(value, ("figure", "below"), ("label",), where)
    figure, below, label = value["figure"], value["below"], value.get("label", value["figure"])
    group = _GROUP.fullmatch(figure) if isinstance(figure, str) else None
    if group and group[1] and int(group[2]) + int(group[3]) > int(group[1]):
        raise DataError(f"{where}: group n,k,m needs k + m <= n, got {figure!r}")
    if not group and figure not in FIGURES:
        names = (*FIGURES, "group k,m", "group n,k,m")
        near = get_close_matches(figure[:_LONGEST].lower(), names, 1) if isinstance(figure, str) else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{where}: figure must be one of {', '.join(map(repr, names))}, got {brief(figure)}{hint}")
    # no figure is below 0, and the limit is compared with float64
    if type(below) not in (int, float) or not 0 < below <= 1e300:
        raise DataError(f"{where}: below must be a number above 0 and at most 1e300, got {brief(below)}")
    if not isinstance(label, str) or not label.isprintable() or not 0 < len(label) <= _LONGEST:
        raise DataError(f"{where}: label must be a string of 1 to {_LONGEST} printable characters, got {brief(label)}")
    return Criterion(figure, float(below), label)


def _check_keys(value: dict[str, Any], needed: tuple[str, ...], optional: tuple[str, ...], where: str) -> None:
    if missing := [key for key in needed if key not in value]:
        raise DataError(f"{where}: lacks {', '.join(missing)}")
    if unknown := [key for key in value if key not in needed + optional]:
        raise DataError(f"{where}: keys are {', '.join(needed + optional)}, got {brief(unknown[0])}")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key stands twice in one object, one of {brief([key for key, _ in pairs])}")
    return found
