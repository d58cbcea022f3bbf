"""The method of a height: what is asked for, or what is expected to answer first."""

from __future__ import annotations

from ..errors import CodeError, brief
from ..numerics.bitsets import BITS
from ..numerics.jit import is_ready
from .all_targets import search_all
from .cost_model import quickest, seconds
from .single_height import LONGEST

METHODS = ("auto", "bases", "search")


def check_method(method: str) -> None:
    """
    Raises:
        CodeError: there is no such method.
    """
    if method not in METHODS:
        raise CodeError(f"method must be one of {', '.join(METHODS)}, got {brief(method)}")


def choose(n: int, k: int, m: int, codes: int = 1, method: str = "auto") -> str:
    """The method for so many codes: "bases" or "search", for "auto" what `cost_model` expects to be quicker.

    Raises:
        CodeError: no such method, or the code is too long for it.
    """
    check_method(method)
    if method == "bases" and n > LONGEST:
        raise CodeError(f'method "bases" goes up to n = {LONGEST}, got n = {n}; "search" goes up to {BITS}')
    if method != "auto":
        return method
    found = quickest(n, k, m, codes)
    return "bases" if found == "search" and n <= LONGEST and _is_worth_waiting(n, k, m, codes) else found


COMPILING = 10.0
"""Core-seconds that a search compiles on first use; until enumerations have taken as long they are worth the wait."""

_waited: list[float] = []


def _is_worth_waiting(n: int, k: int, m: int, codes: int) -> bool:
    """Whether to enumerate where a search is quicker, but nothing of it is compiled yet."""
    if is_ready(search_all):
        return False
    _waited.append(codes * seconds("single", n, k, m))
    return sum(_waited) < COMPILING
