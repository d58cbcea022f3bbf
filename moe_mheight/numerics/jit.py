"""How compiled kernels are built, cached on disk, and spread over threads.

A kernel handles LANES codes at a time: every number it holds is an array of LANES numbers, one per code, so that
plain loops over the last axis become SIMD instructions. Kernels release the GIL; a batch is cut into pieces that run
on ordinary threads, so no global thread setting is touched and calls may come from many threads at once.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from types import CodeType, ModuleType
from typing import Any

import numba as nb
import numpy as np
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.sigutils import normalize_signature
from numba.core.types import unliteral
from numba.extending import intrinsic

from .._arguments import whole
from .linking import KERNELS, MissingKernelError, SharedResults, fields, name_of, share
from .typing_memory import leave_operators, remember_operators

LANES = 64


class _ByCode:
    """Mixed into numba's locators, which say where machine code is kept: its name and its stamp are its code's alone.

    Numba's own hold the file's content and the function's line, so that a comment compiles a whole module again.
    """

    def get_source_stamp(self) -> str:
        return "see the key in the name"

    def get_disambiguator(self) -> str:
        return "kernel"


class _Files(SharedResults):
    _locator_classes: Any = tuple(
        type(base.__name__, (_ByCode, base), {}) for base in CompileResultCacheImpl._locator_classes
    )


class KernelCache(FunctionCache):  # type: ignore[misc]
    """Machine code on disk, found again as long as `code_key` is the same, whatever else changes in the file."""

    _impl_class = _Files

    def __init__(self, kernel: Any) -> None:
        super().__init__(kernel.py_func)
        self._options = kernel.targetoptions

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        # numba tells a NamedTuple by its class: one whose fields have changed places would get stale machine code
        return (*super()._index_key(sig, codegen), fields(sig), self._options[BARE])

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """None, too, where the files are of another version of this package: they name classes that have moved."""
        try:
            return super().load_overload(sig, target_context)
        except MissingKernelError:
            return None
        except Exception:
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):  # a full disk: this process has its machine code, others compile again
            super().save_overload(sig, data)
            self._remove_stale()

    def _remove_stale(self) -> None:
        """Delete what this function's earlier keys have left. A process that still runs those only compiles again."""
        base = self._impl.filename_base
        name, _, rest = base.partition("-kernel.")
        stale = re.compile(re.escape(name[:-KEY]) + rf"[0-9a-f]{{{KEY}}}-\w+\.(py.*?)(\.\d+)?\.nb[ic]")
        for entry in list(os.scandir(self.cache_path)):
            found = stale.fullmatch(entry.name)
            if found and found[1] == rest and not entry.name.startswith(base):
                with suppress(FileNotFoundError, PermissionError):  # another process deletes or reads it
                    os.unlink(entry.path)


KEY = 12
"""Characters of a `code_key`."""


def compiled(function: Callable[..., Any], *, shared: bool = True, **options: Any) -> Callable[..., Any]:
    """Compile with numba, keeping the machine code on disk where some folder can be written.

    shared: kernels that call it share one machine code, for some 10 ns a call; else it is copied into them.
    """
    options = {"nogil": True, "error_model": "numpy", **options}
    # numba's cache knows the bytecode of the function itself, not that of what it calls: name all of it in the key
    function.__qualname__ += "_" + code_key(function, options)
    kernel: Any = nb.njit(function, **options)
    kernel.targetoptions["no_cfunc_wrapper"] = True
    with suppress(RuntimeError):  # numba found no writable folder for its cache: compile in every process instead
        kernel._cache = KernelCache(kernel)
    return _patient(kernel, shared)


BARE = "no_cpython_wrapper"
"""Numba's option for machine code that only other kernels call: what Python calls takes its arguments apart first.

A kernel that is called from both is compiled for both.
"""

COMPILING: list[int] = []
"""Threads that compile right now, by their idents, one entry for each kernel: those called by a kernel come on top."""


PATIENCE = (100_000, 20, 100)
"""Thresholds of Python's garbage collector while kernels compile, where it would take a third of the time."""

_THRESHOLDS: list[tuple[int, int, int]] = []
_COUNTING = threading.Lock()


def _start_compiling(thread: int) -> None:
    with _COUNTING:
        COMPILING.append(thread)
        if len(COMPILING) == 1:
            _THRESHOLDS[:] = [gc.get_threshold()]
            gc.set_threshold(*PATIENCE)
            remember_operators()


def _end_compiling(thread: int) -> None:
    with _COUNTING:
        COMPILING.remove(thread)
        if not COMPILING:
            gc.set_threshold(*_THRESHOLDS.pop())
            leave_operators()


class Keeper:
    """Handles Ctrl-C by keeping it until it is handed on to `handler`, who gets a second one at once.

    Python's own does not get it: an exception amid the compiler leaves numba unable to compile anything afterwards.
    """

    def __init__(self, handler: Callable[[int, Any], Any]) -> None:
        self.handler, self.kept = handler, 0

    def __call__(self, number: int, frame: Any) -> None:
        self.kept += 1
        if self.kept > 1 and self.handler is not signal.default_int_handler:
            self.handler(number, frame)

    def hand_on(self) -> None:
        if self.kept:
            self.kept = 0
            self.handler(signal.SIGINT, None)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C until the block ends, or one inside it begins or ends, and hand it then to whoever handles it.

    For compiling: an exception in the middle of it gets lost in LLVM's callbacks, or comes out as an error of numba's.
    Between one kernel and the next none does. Signals reach the main thread only, so in other threads, and where Python
    does not handle Ctrl-C, nothing changes.
    """
    here, handler = threading.get_ident(), signal.getsignal(signal.SIGINT)
    keeper = None
    if here == threading.main_thread().ident and callable(handler):
        keeper = handler if isinstance(handler, Keeper) else Keeper(handler)
    outermost = keeper is not None and keeper is not handler
    if keeper is not None:
        keeper.hand_on()
    _start_compiling(here)
    try:
        if outermost:
            signal.signal(signal.SIGINT, keeper)
        yield
    finally:
        _end_compiling(here)
        if outermost:
            signal.signal(signal.SIGINT, handler)
        if keeper is not None:
            keeper.hand_on()


def _patient(kernel: Any, shared: bool) -> Callable[..., Any]:
    """A kernel that is not interrupted while it compiles; its calls are as fast as ever."""
    compile_, add_overload = kernel.compile, kernel.add_overload

    def patiently(signature: Any) -> Any:
        # True and a bool, 0 and an int are the same machine code
        arguments = tuple(map(unliteral, normalize_signature(signature)[0]))
        bare = threading.get_ident() in COMPILING
        with uninterrupted(), global_compiler_lock:
            if not bare and arguments in kernel.bare:
                del kernel.overloads[arguments]
                kernel.bare.remove(arguments)
            kernel.targetoptions[BARE] = bare
            entry = compile_(arguments)
            if shared:
                share(kernel, arguments)
        return entry

    def add(result: Any) -> None:
        if kernel.targetoptions[BARE]:
            arguments = tuple(result.signature.args)
            kernel.overloads[arguments] = result
            kernel.bare.add(arguments)
        else:
            add_overload(result)

    if shared:
        KERNELS[name_of(kernel)] = kernel
    kernel.bare, kernel.shared, kernel.compile, kernel.add_overload = set(), set(), patiently, add
    return kernel  # type: ignore[no-any-return]


def code_key(function: Callable[..., Any], options: dict[str, Any]) -> str:
    """A hash of a kernel's bytecode and options, of the kernels it calls and the constants that become part of it."""
    parts: list[Any] = [(name, sorted(value) if isinstance(value, set) else value) for name, value in options.items()]
    for code in _bodies(function):
        known = [name for name in code.co_names if name in function.__globals__]
        parts += [_plain(code, function.__doc__), [_key_of(name, function.__globals__[name]) for name in known]]
    return sha256(repr(parts).encode()).hexdigest()[:KEY]


def _bodies(function: Callable[..., Any]) -> list[CodeType]:
    """The code of a function and of the functions inside it."""
    bodies: list[CodeType] = [function.__code__]
    for body in bodies:
        bodies += [value for value in body.co_consts if isinstance(value, CodeType)]
    return bodies


def _plain(code: CodeType, docstring: str | None) -> tuple[Any, ...]:
    constants = [value for value in code.co_consts if not isinstance(value, CodeType)]
    return code.co_code, code.co_names, [None if value == docstring else value for value in constants]


def _key_of(name: str, value: Any) -> Any:
    if kernel := getattr(value, "py_func", None):
        return kernel.__qualname__  # which ends in its own key
    if machine_code := getattr(value, "_defn", None):  # an intrinsic
        return [_plain(code, machine_code.__doc__) for code in _bodies(machine_code)]
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if fields := getattr(value, "_fields", None):  # a NamedTuple that the kernel makes
        return name, fields
    return name if callable(value) or isinstance(value, ModuleType) else repr(value)


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with a * b + c in one rounding, for what need not be the same to the last bit everywhere."""
    return compiled(function, fastmath={"contract"})


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a few lines of lane arithmetic into their callers (a call costs more than they do), fusing a * b + c."""
    return compiled(function, shared=False, forceinline=True, fastmath={"contract"})


def inlined_exactly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a few lines into their callers, each operation with a rounding of its own."""
    return compiled(function, shared=False, forceinline=True)


def embedded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a step of a longer kernel into it, as if it were written there: calls with many arrays cost time."""
    return compiled(function, shared=False, inline="always")


def is_ready(kernel: Any) -> bool:
    """Whether machine code of a kernel is at hand, in this process or on disk."""
    files = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
    return bool(kernel.overloads) or (files is not None and os.path.exists(files._index_path))


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


def over_batch(
    work: Callable[[int, int], None], size: int, threads: int | None = None, *, min_rows: int = LANES
) -> None:
    """Call work(start, stop) on pieces that cover range(size), of `min_rows` or more, in parallel when that pays."""
    count = min(thread_count(threads), -(-size // min_rows))
    if count <= 1:
        if size:
            work(0, size)
        return
    # four pieces a thread: uneven pieces even out, and each is still many lanes long
    piece = max(-(-size // (4 * count) // LANES) * LANES, min_rows)
    side_by_side(work, [(i, min(i + piece, size)) for i in range(0, size, piece)], count)


def side_by_side(work: Callable[[int, int], None], pieces: Iterable[tuple[int, int]], threads: int) -> None:
    """Call work(start, stop) on all pieces, by that many threads."""
    pool = ThreadPoolExecutor(threads)
    try:
        for done in [pool.submit(work, start, stop) for start, stop in pieces]:
            done.result()
    except BaseException as error:
        # Ctrl-C does not wait for pieces at work: one may be compiling
        pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
        raise
    pool.shutdown()
