"""Kernels that are called where numba would copy them: how the machine code of one finds that of another.

Numba copies whatever a kernel calls into it, and there optimises and translates it once more. A kernel that is shared
is only declared by its callers, under a name that is the same in every process, and machine code from the disk brings
along the names that it needs.
"""

from __future__ import annotations

from copy import copy
from hashlib import sha256
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from numba.core.caching import CompileResultCacheImpl

PREFIX = "moe_mheight."

KERNELS: dict[str, Any] = {}
"""All shared kernels, by module and qualified name."""

SHARED: dict[str, tuple[str, tuple[Any, ...]]] = {}
"""Symbols of machine code: the kernel, by its name in KERNELS, and the types of its arguments."""


class MissingKernelError(Exception):
    """Machine code calls what this process does not know."""


def fields(signature: Any) -> tuple[Any, ...]:
    """The names in all NamedTuples of a signature, which numba does not tell apart by them."""
    kinds: Any = signature if isinstance(signature, tuple) else getattr(signature, "types", ())
    return getattr(signature, "fields", ()), *(fields(kind) for kind in kinds)


def name_of(kernel: Any) -> str:
    return f"{kernel.py_func.__module__}.{kernel.py_func.__qualname__}"


def share(kernel: Any, arguments: tuple[Any, ...]) -> None:
    """Let whatever calls this kernel with these types of arguments call its machine code."""
    name, result = name_of(kernel), kernel.overloads[arguments]
    if result.entry_point in kernel.shared:
        return
    symbol = PREFIX + sha256(repr((name, arguments, fields(arguments))).encode()).hexdigest()
    KERNELS[name], SHARED[symbol] = kernel, (name, arguments)
    llvm.add_symbol(symbol, result.library.get_pointer_to_function(result.fndesc.llvm_func_name))
    description = copy(result.fndesc)
    description.mangled_name = symbol
    kernel.shared.add(result.entry_point)
    kernel.targetctx.remove_user_function(result.entry_point)
    kernel.targetctx.insert_user_function(result.entry_point, description)


def called(library: Any) -> list[tuple[str, tuple[Any, ...]]]:
    """The shared kernels that machine code calls."""
    functions = library._final_module.functions
    return [SHARED[function.name] for function in functions if function.is_declaration and function.name in SHARED]


class SharedResults(CompileResultCacheImpl):  # type: ignore[misc]
    """Machine code on disk, with the names of the shared kernels that it calls."""

    def reduce(self, result: Any) -> Any:
        return called(result.library), super().reduce(result)

    def rebuild(self, context: Any, payload: Any) -> Any:
        needed, result = payload
        for name, arguments in needed:  # LLVM ends the process where a symbol is missing
            if name not in KERNELS:
                raise MissingKernelError(name)
            KERNELS[name].compile(arguments)
        return super().rebuild(context, result)
