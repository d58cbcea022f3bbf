"""One entry of a matrix in text: a fraction as it is written, or a float64, and where it stands when it is neither."""

from __future__ import annotations

import re
from fractions import Fraction
from math import isfinite
from typing import Any

from ..errors import DataError, brief


def where(i: int, j: int, name: str) -> str:
    return f"{name}, row {i + 1}, column {j + 1} (counted from 1)"


def number(value: Any, i: int, j: int, name: str) -> Fraction | float:
    """An entry as it is written: text, also where JSON has a number."""
    if not isinstance(value, str):
        raise DataError(f"{where(i, j, name)}: must be a number, got {brief(value)}")
    if len(value) > 2000:
        raise DataError(f"{where(i, j, name)}: has {len(value)} characters, more than 2000; round it")
    if re.fullmatch(r"[+-]?[0-9]+(/0*[1-9][0-9]*)?", value):
        return Fraction(value)
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value):
        found = finite(float(value), i, j, name, value)
        if not found and re.search(r"[1-9]", re.split("[eE]", value)[0]):
            raise DataError(f"{where(i, j, name)}: must be 0 or within float64, from 5e-324 on, got {brief(value)}")
        return found
    if re.fullmatch(r"[+-]?(nan|inf(inity)?)", value, re.IGNORECASE):
        finite(float(value), i, j, name, value)
    raise DataError(f"{where(i, j, name)}: must be a number such as -3, 3/4 or 0.75, got {brief(value) or 'nothing'}")


def finite(value: float, i: int, j: int, name: str, shown: object) -> float:
    if not isfinite(value):
        raise DataError(f"{where(i, j, name)}: must be finite and within float64, got {brief(shown)}")
    return value
