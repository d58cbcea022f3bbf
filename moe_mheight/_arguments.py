"""Scalar arguments: what is no number of the right kind is refused, naming argument, rule and value."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from .errors import CodeError, MHeightError, brief


def whole(
    name: str, value: Any, low: int, high: int | None = None, *, error: type[MHeightError] = CodeError, more: str = ""
) -> int:
    """The value as an int from `low` to `high`, NumPy's ints included; no bool, no float, no text.

    more: what else the argument may be, for the message.

    Example:
        >>> from moe_mheight._arguments import whole
        >>> whole("count", 3, 0)
        3
    """
    number = isinstance(value, Integral) and not isinstance(value, bool)
    if not number or value < low or (high is not None and value > high):
        rule = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise error(f"{name} must be an int {rule}{more}, got {brief(value)}")
    return int(value)


def real(name: str, value: Any, above: float, high: float, *, error: type[MHeightError] = CodeError) -> float:
    """The value as a float with above < value <= high, or < high where that is infinite."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    try:
        found = float(value) if number else math.nan
    except OverflowError:
        found = math.inf
    if not above < found <= high or math.isinf(found):
        rule = f"a number > {above:g}" if math.isinf(high) else f"a number with {above:g} < {name} <= {high:g}"
        raise error(f"{name} must be {rule}, got {brief(value)}")
    return found


def check_rows(P: Any) -> None:
    """Refuse what is given without m and has no rows."""
    if isinstance(P, (str, bytes, dict, set)) or not hasattr(P, "__len__") or getattr(P, "ndim", 1) == 0:
        raise CodeError(f"P must be a list of rows [n, k, m, P] where no m is given, got {brief(P)}; matrices need m")
