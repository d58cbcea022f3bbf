"""How many threads torch's passes have.

That number is one for the whole process, taken over by each thread that asks torch for the first time. Passes as small
as ours are spread over our own threads; torch's would wait for each other, and round otherwise. So passes run in
threads of our own, which borrow the setting: the first that comes notes the process's number, the last that leaves
restores it, however it leaves, and the number of a caller's thread is never touched.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ..numerics.jit import uninterrupted

Result = TypeVar("Result")

_guard = threading.Lock()
_wanted: list[int] = []  # by those at work; the process's number is the least of these
_before = 0  # the process's number when the first of them came
_own = threading.local()

WAKE = 0.5
"""Seconds. Windows hears no interrupt while a thread waits for another."""


def on_threads(count: int, work: Callable[..., Result], *arguments: Any) -> Result:
    """work(*arguments) in a thread of our own, in which torch's passes have `count` threads; then all is as before.

    Fewer threads while others at work want fewer. Errors come out here, interrupts reach the work.

    Example:
        >>> import torch
        >>> from moe_mheight.experts.torch_threads import on_threads
        >>> before = torch.get_num_threads()
        >>> on_threads(1, torch.get_num_threads), torch.get_num_threads() == before
        (1, True)
    """
    if getattr(_own, "count", None) == count:  # it is such a thread
        return work(*arguments)
    errand = _Errand(count, work, arguments)
    try:
        with uninterrupted():  # an interrupt amid the start would leave the work alone
            errand.start()
    except BaseException as error:
        if errand.ident is None:  # no thread could be had
            raise
        errand.interrupt(error)
    while not errand.over.is_set():
        try:
            while not errand.over.wait(WAKE):
                pass
        except BaseException as error:  # by a signal
            errand.interrupt(error)
    try:
        if errand.error is not None:
            raise errand.error
        return errand.result  # type: ignore[no-any-return]
    finally:
        del errand  # else its error would hold itself


class _Errand(threading.Thread):
    """A piece of work in a thread of its own: its result, or the error that ended it."""

    def __init__(self, count: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        super().__init__(name="torch passes")
        self.count, self.work, self.arguments = count, work, arguments
        self.result: Any = None
        self.error: BaseException | None = None
        self.guard, self.at_work = threading.Lock(), False
        self.over = threading.Event()  # Python 3.12's join, interrupted, takes a thread for ended

    def run(self) -> None:
        _own.count = self.count
        _borrow(self.count)
        try:
            with self.guard:
                self.at_work = self.error is None
            try:
                if self.at_work:
                    self.result = self.work(*self.arguments)
            finally:
                with self.guard:
                    self.at_work = False
        except BaseException as error:
            self.error = self.error or error
        finally:
            _give_back(self.count)
            self.over.set()

    def interrupt(self, error: BaseException) -> None:
        """Raise it in the work, as Python does in the main thread, and in any case when that is over."""
        with self.guard:
            self.error = error
            if self.at_work:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.ident or 0), ctypes.py_object(type(error))
                )


def _borrow(count: int) -> None:
    """In a thread that has not asked torch yet: its number is the process's."""
    global _before  # noqa: PLW0603  as torch's own is
    with _guard:
        if not _wanted:
            _before = torch.get_num_threads()
        _wanted.append(count)
        torch.set_num_threads(min(_wanted))


def _give_back(count: int) -> None:
    with _guard:
        _wanted.remove(count)
        torch.set_num_threads(min(_wanted, default=_before))
