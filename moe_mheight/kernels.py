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
from pathlib import Path
from typing import Any

import numba as nb
from numba.extending import intrinsic

from .arguments import whole

LANES = 64

_FILES = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
_SOURCE = sha256(b"".join(text for text in _FILES if b"@compiled" in text or b"@inlined" in text)).hexdigest()[:8]


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile with numba, keeping the machine code on disk where some folder can be written."""
    # numba's cache looks at the file of the function itself, not at those it calls: name the whole source in the key
    function.__qualname__ += "_" + _SOURCE
    build = partial(nb.njit, nogil=True, error_model="numpy", **options)
    try:
        return build(function, cache=True)
    except RuntimeError:  # numba found no writable folder for its cache: compile in every process instead
        return build(function)


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
    """The number of threads to use: what was asked for; None or -1, every core this process may run on.

    Raises:
        CodeError: it is neither of these, nor an int of at least 1.
    """
    if threads is not None and (isinstance(threads, bool) or threads != -1):
        return whole("threads", threads, 1, more=", or -1 or None for all cores")
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
