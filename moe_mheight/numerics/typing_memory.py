"""What numba knows of operators on numbers and arrays, remembered.

Each time that a kernel adds two numbers, numba asks all that it knows about addition, one by one, and writes down why
those that do not fit did not. That took a fifth of all compiling. The answer depends on nothing but the types.
"""

from __future__ import annotations

from typing import Any

from numba.core.types import Array, BaseTuple, Boolean, BooleanLiteral, IntegerLiteral, Number, functions

PLAIN = (Number, Boolean, IntegerLiteral, BooleanLiteral, Array, BaseTuple)
"""Types that operators are remembered for."""

_KNOWN: dict[Any, Any] = {}

_resolve = functions.BaseFunction.get_call_type


def _resolve_once(self: Any, context: Any, args: Any, kws: Any) -> Any:
    if kws or getattr(self.typing_key, "__module__", "") not in ("_operator", "builtins"):
        return _resolve(self, context, args, kws)
    if not all(isinstance(kind, PLAIN) for kind in args):
        return _resolve(self, context, args, kws)
    key = self, context, tuple(args)
    if key not in _KNOWN:
        _KNOWN[key] = _resolve(self, context, args, kws)
    return _KNOWN[key]


def remember_operators() -> None:
    """From now on, until `leave_operators`: only while our own kernels compile, not those of others."""
    functions.BaseFunction.get_call_type = _resolve_once  # type: ignore[method-assign]


def leave_operators() -> None:
    """As numba has it."""
    functions.BaseFunction.get_call_type = _resolve  # type: ignore[method-assign]
