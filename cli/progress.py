"""Progress on standard error: a bar for people, lines of JSON for programs that ask for them, silence otherwise."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from .options import Output
from .printing import remark, width_of


class Progress:
    """Told by `update` how many more are done; `note` is what else there is to say.

    Click's bar, or a line of JSON at most once a second, and one at the end of work that had one.
    """

    def __init__(self, total: int, label: str, output: Output) -> None:
        self.total, self.label, self.output = total, label, output
        self.done, self.note, self.told = 0, "", 0
        self.began = self.last = time.monotonic()
        self.first: tuple[int, float] | None = None  # what was done at first, perhaps by an earlier attempt, and when
        for_people = not (output.as_json or output.quiet) and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        # not the last column, after which some terminals go to the next line
        self.room = width_of(sys.stderr) - 1 - len(f"{label}  []  {total}/{total}")
        self.bar: Any = click.progressbar(
            length=total, label=label, file=sys.stderr, hidden=not for_people, show_pos=True, show_eta=False,
            width=max(1, min(8, self.room), min(30, self.room - 26)), item_show_func=self._beside,
        )  # fmt: skip

    def __enter__(self) -> Progress:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)
        if self.output.as_json and self.told < self.done and self.last > self.began:
            self._tell()

    def update(self, count: int) -> None:
        self.done += count
        self.first = self.first or (self.done, time.monotonic())
        self.bar.update(count)
        if not count:  # click shows a new note with the next step only
            self.bar.render_progress()
        if self.output.as_json and time.monotonic() - self.last > 1.0:
            self._tell()

    def pace(self) -> tuple[float | None, float | None]:
        """How many a second, and how many seconds are left."""
        done, began = self.first or (0, 0.0)
        seconds = time.monotonic() - began
        if self.done <= done or seconds <= 0.0:
            return None, None
        rate = (self.done - done) / seconds
        return rate, (self.total - self.done) / rate

    def _beside(self, _: Any) -> str:
        """What stands beside the bar: as much as there is room for."""
        rate, left = self.pace()
        parts = [] if rate is None else [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"]
        parts += [f"{time.strftime('%H:%M:%S', time.gmtime(left))} left"] * bool(left) + [self.note] * bool(self.note)
        while len("  ".join(["", *parts])) > self.room - self.bar.width:
            parts.pop()
        return "  ".join(parts)

    def _tell(self) -> None:
        self.last, self.told = time.monotonic(), self.done
        rate, left = self.pace()
        line = {"format": "moe_mheight progress 1", "progress": self.label, "done": self.done, "total": self.total}
        line |= {"seconds": round(self.last - self.began, 1), "per_second": rate and round(rate, 3)}
        line |= {"seconds_left": left and round(left, 1)} | ({"note": self.note} if self.note else {})
        remark(json.dumps(line), self.output.quiet)


LONG = 2.0
"""Seconds of compiling after which people are told what they wait for."""


@contextmanager
def told_of_compiling(compiling: Callable[[], list[int]], quiet: bool) -> Iterator[None]:
    """Say once, terminal or not, that kernels compile, as soon as that has taken LONG; `compiling`: who does so now."""
    done = threading.Event()

    def watch() -> None:
        began, spent = time.monotonic(), 0.0
        while not done.wait(0.1):
            now = time.monotonic()
            spent, began = spent + (now - began if compiling() else 0.0), now
            if spent > LONG:
                remark("compiling for this machine, once: some 10 to 20 seconds", quiet)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join(1.0)


@contextmanager
def training(label: str, output: Output, newest: Callable[[list[Any]], str]) -> Iterator[Any]:
    """Progress for those who report how much is done, of how much, and records, of which `newest` makes a note."""
    with ExitStack() as stack:
        bar: Progress | None = None
        now = label

        def report(done: int, total: int, records: list[Any]) -> None:
            nonlocal bar, now
            if records and "expected" in records[0]:
                remark(records[0]["expected"], output.quiet)
                return
            doing = records[0].get("doing", now) if records else now
            if doing != now:  # what comes at the end has a bar of its own
                stack.close()
                bar, now = None, doing
            bar = bar or stack.enter_context(Progress(total, now, output))
            bar.note = newest(records) if records else ""
            bar.update(done - bar.done)

        yield report
