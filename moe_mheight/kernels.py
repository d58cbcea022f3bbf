"""How compiled kernels are built, cached on disk, and spread over threads.

A kernel handles LANES codes at a time: every number it holds is an array of LANES numbers, one per code, so that
plain loops over the last axis become SIMD instructions. Kernels release the GIL; a batch is cut into pieces that run
on ordinary threads, so no global thread setting is touched and calls may come from many threads at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from types import CodeType, ModuleType
from typing import Any

import numba as nb
import numpy as np
from numba.extending import intrinsic

LANES = 64


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile with numba, keeping the machine code on disk where some folder can be written."""
    # numba's cache knows the bytecode of the function itself, not that of what it calls: name all of it in the key
    function.__qualname__ += "_" + code_key(function)
    build = partial(nb.njit, nogil=True, error_model="numpy", **options)
    try:
        return build(function, cache=True)
    except RuntimeError:  # numba found no writable folder for its cache: compile in every process instead
        return build(function)


def code_key(function: Callable[..., Any]) -> str:
    """A hash of a kernel's bytecode, of the kernels it calls and of the constants that become part of it."""
    parts: list[Any] = []
    for code in _bodies(function):
        known = [name for name in code.co_names if name in function.__globals__]
        parts += [_plain(code), [_key_of(name, function.__globals__[name]) for name in known]]
    return sha256(repr(parts).encode()).hexdigest()[:12]


def _bodies(function: Callable[..., Any]) -> list[CodeType]:
    """The code of a function and of the functions inside it."""
    bodies: list[CodeType] = [function.__code__]
    for body in bodies:
        bodies += [value for value in body.co_consts if isinstance(value, CodeType)]
    return bodies


def _plain(code: CodeType) -> tuple[Any, ...]:
    return code.co_code, code.co_names, [value for value in code.co_consts if not isinstance(value, CodeType)]


def _key_of(name: str, value: Any) -> Any:
    if kernel := getattr(value, "py_func", None):
        return kernel.__qualname__  # which ends in its own key
    if machine_code := getattr(value, "_defn", None):  # an intrinsic
        return [_plain(code) for code in _bodies(machine_code)]
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return name if callable(value) or isinstance(value, ModuleType) else repr(value)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a few lines of lane arithmetic into their callers (a call costs more than they do), fusing a * b + c."""
    return compiled(function, forceinline=True, fastmath={"contract"})


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c with one rounding; gives the exact error of a product."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return nb.float64(nb.float64, nb.float64, nb.float64), codegen


def thread_count(threads: int | None) -> int:
    """The number of threads to use: what was asked for, else every core this process may run on."""
    if threads is not None:
        return max(1, int(threads))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over_batch(work: Callable[[int, int], None], size: int, threads: int | None = None, *, least: int = LANES) -> None:
    """Call work(start, stop) on pieces that cover range(size), of `least` or more, in parallel when that pays."""
    count = min(thread_count(threads), -(-size // least))
    if count <= 1:
        if size:
            work(0, size)
        return
    # four pieces a thread: uneven pieces even out, and each is still many lanes long
    piece = max(-(-size // (4 * count) // LANES) * LANES, least)
    starts = range(0, size, piece)
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work, i, min(i + piece, size)) for i in starts]:
            done.result()
