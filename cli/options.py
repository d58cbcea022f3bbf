"""What commands share: arguments and options, printing, progress."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from math import isfinite
from typing import Any, TypeVar

import click

from moe_mheight._io import as_json

F = TypeVar("F", bound=Callable[..., Any])

MATRICES = (".csv", ".tsv", ".txt", ".mtx", ".npy")
"""Endings of files that hold one matrix, not a file of codes."""


def data_argument(required: bool) -> Callable[[F], F]:
    """DATA: a pair of the field's pickles, an .npz, a .json, a folder of shards; - is standard input."""
    return click.argument("data", nargs=-1, required=required, metavar="DATA" if required else "[DATA]...")


class Choice(click.Choice):  # type: ignore[type-arg]  # generic from click 8.2 on
    """One of some words; of a word that is none of them, the nearest is told."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            raise click.BadParameter(error.message + did_you_mean(value, self.choices), ctx, param) from None


class Finite(click.FloatRange):
    """A number of a range; click itself takes nan for one of any range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            raise click.BadParameter(f"{value} is not a finite number.", param=param, ctx=ctx)
        return number


class WordOrFile(click.ParamType):  # type: ignore[type-arg]
    """One of some words or a file of one's own."""

    name = "file"

    def __init__(self, *words: str) -> None:
        self.words = words

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.words and not os.path.exists(value):
            text = f"{value!r} is none of {', '.join(map(repr, self.words))}, and no file."
            raise click.BadParameter(text + did_you_mean(value, self.words), ctx, param)
        return value


def did_you_mean(value: object, words: Iterable[str]) -> str:
    known = {word.lower(): word for word in words}
    near = get_close_matches(str(value).lower(), known, 1)
    return f" Did you mean {known[near[0]]}?" if near else ""


def output_options(command: F) -> F:
    """--json and --quiet."""
    command = click.option("--quiet", "-q", is_flag=True, help="No progress, no remarks on standard error.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")(command)


force_option = click.option("--force", is_flag=True, help="Overwrite what exists.")

partial_option = click.option(
    "--partial", is_flag=True, help="DATA is a set that is not complete: take the shards that are finished."
)

KINDS = (
    *("integer", "scaled-integer", "uniform", "normal"),
    *("near-singular", "small-integer", "fourier", "vandermonde", "spherical", "repeated"),
)  # all of kinds.ALL_KINDS, spelled out because that module imports NumPy

BACKENDS = ("loky", "threading", "dask")


def jobs_options(command: F) -> F:
    """--jobs, --backend and --scheduler: who does the work, see `working`."""
    command = click.option(
        "--scheduler", metavar="tcp://HOST:PORT", help="Address of a Dask scheduler, whose workers do it (extra dask)."
    )(command)
    command = click.option(
        "--backend", metavar="|".join(BACKENDS), help="Kind of workers; others that joblib knows too.  [default: loky]"
    )(command)
    return click.option(
        "--jobs",
        type=int,
        metavar="N",
        callback=_some,
        help="Pieces of work side by side, a thread each; -1: all cores, or all of a cluster.",
    )(command)


def _some(ctx: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    if value is not None and value < 1 and value != -1:
        raise click.BadParameter(f"must be at least 1, or -1 for all cores, got {value}", ctx, parameter)
    return value


@contextmanager
def working(jobs: int | None, backend: str | None, scheduler: str | None) -> Iterator[bool]:
    """The workers that a command line asks for; whether it asks for any."""
    import logging

    from moe_mheight._parallel import workers

    logging.disable(logging.ERROR)  # Dask logs at length what we say in one line
    with workers(jobs, backend, scheduler):
        yield (jobs, backend, scheduler) != (None, None, None)


def seconds_option(help_text: str) -> Callable[[F], F]:
    """--time-limit."""
    return click.option("--time-limit", type=Finite(0, min_open=True), metavar="SECONDS", help=help_text)


threads_option = click.option(
    "--threads", type=int, metavar="N", callback=_some, help="Threads to use; -1: all cores.  [default: all cores]"
)


router_option = click.option(
    "--router",
    default="fixed",
    show_default=True,
    type=WordOrFile("fixed", "learned"),
    metavar="fixed|learned|FILE",
    help="Who mixes the experts: the slack table, the set's own gate (train-router), or a JSON file of rules.",
)


def load_predictor(models: str | None, router: str) -> Any:
    """The predictor of a model set, of the bracket view or of the raw one."""
    from pathlib import Path

    from moe_mheight.ensemble.predictor import Predictor
    from moe_mheight.raw.models import RawPredictor, is_raw

    if models is None or not is_raw(Path(models)):
        return Predictor.load(models, router=router)
    if router != "fixed":
        raise click.UsageError("--router is for the bracket view; these models read the raw view")
    return RawPredictor.load(models)


def models_option(help_text: str) -> Callable[[F], F]:
    return click.option("--models", metavar="DIR", type=click.Path(file_okay=False), help=help_text)


def as_floats(read: Any) -> Any:
    """P of a matrix that was read, (k, r) float64, each entry rounded once."""
    from moe_mheight.numerics import rationals

    return rationals.as_floats(read.P, "P" if read.kind == "P" else f"the systematic form of {read.kind}, P")


def emit(value: Any) -> None:
    """One JSON document on standard output; JSON has no infinity, so it is the string "inf"."""
    click.echo(as_json(value, indent=2))


@contextmanager
def unread_is_fine() -> Iterator[None]:
    """Around printing: when whoever read has gone, as in `| head -3`, the rest stays unsaid; the exit code stands."""
    try:
        yield
    except BrokenPipeError:
        silence()


def silence() -> None:
    """Nothing more to standard output, not even while Python closes its streams."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def columns() -> int | None:
    """Of the terminal on standard output; None where it is none, and lines may have any length."""
    return _width(sys.stdout) if sys.stdout.isatty() else None


def _width(stream: Any) -> int:
    """Columns of a stream's own terminal: the other stream may be a pipe."""
    try:
        return int(os.environ.get("COLUMNS", "")) or 80
    except ValueError:
        with suppress(OSError, ValueError):
            return os.get_terminal_size(stream.fileno()).columns or 80
        return 80


def fold(text: str, hang: int = 0) -> str:
    """A line of text in lines that the terminal has room for, all but the first indented by `hang`."""
    room = columns()
    if room is None or len(text) <= room:
        return text
    indent = " " * min(hang, room // 2)
    return textwrap.fill(text, room, subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True)


TOGETHER = 20
"""Rows of a table that is folded, before the next columns of the same rows."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Right-aligned columns, the first one left-aligned.

    On a terminal that is narrower, columns that have no room go below, each time beside the first one.
    """
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    bands = _bands(widths, columns())
    if len(bands) == 1:
        return _aligned(lines, widths, bands[0])
    some = [[lines[0], *lines[at : at + TOGETHER]] for at in range(1, len(lines), TOGETHER)]
    return "\n\n".join(_aligned(part, widths, band) for part in some for band in bands)


def _bands(widths: list[int], room: int | None) -> list[list[int]]:
    """Which columns stand beside each other: the first one and as many more as there is room for."""
    bands, used = [[0]], widths[0]
    for i, width in enumerate(widths[1:], 1):
        used += 2 + width
        if room is not None and used > room and len(bands[-1]) > 1:
            bands.append([0])
            used = widths[0] + 2 + width
        bands[-1].append(i)
    return bands


def _aligned(lines: list[list[str]], widths: list[int], band: list[int]) -> str:
    return "\n".join(
        "  ".join(line[i].rjust(widths[i]) if i else line[i].ljust(widths[i]) for i in band).rstrip() for line in lines
    )


def shows_progress(quiet: bool) -> bool:
    """Progress bars are for people: a terminal on standard error that moves its cursor, and not --quiet."""
    return not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def progress(length: int, label: str, quiet: bool, lines: bool = False) -> Any:
    """A progress bar on standard error for people; lines of JSON for programs that ask for them; silent otherwise.

    Both have `update(n)`, told how many more are done, and take `note`, what else is to be said.
    """
    return Lines(length, label, quiet) if lines else Bar(length, label, hidden=not shows_progress(quiet))


class Pace:
    """How fast it goes. The clock starts when the first are done: they may be those of an earlier attempt."""

    def __init__(self, length: int) -> None:
        self.length, self.done, self.first = length, 0, 0
        self.began: float | None = None

    def update(self, count: int) -> None:
        self.done += count
        if self.began is None:
            self.first, self.began = self.done, time.monotonic()

    def rate(self) -> float | None:
        """Of these, a second."""
        seconds = 0.0 if self.began is None else time.monotonic() - self.began
        return (self.done - self.first) / seconds if seconds > 0.0 and self.done > self.first else None

    def left(self) -> float | None:
        """Seconds."""
        rate = self.rate()
        return (self.length - self.done) / rate if rate else None


WIDEST_BAR, NARROWEST_BAR = 30, 8


class Bar:
    """Click's bar, with done / total, how many a second and the estimated rest, on one line of the terminal."""

    def __init__(self, length: int, label: str, hidden: bool) -> None:
        self.pace, self.note = Pace(length), ""
        self.bar: Any = click.progressbar(
            length=length,
            label=label,
            file=sys.stderr,
            hidden=hidden,
            show_pos=True,
            show_eta=False,
            item_show_func=self._say,
            width=WIDEST_BAR,
        )

    def _say(self, _: Any) -> str:
        rate, left = self.pace.rate(), self.pace.left()
        parts = [] if rate is None else [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"]
        parts += [] if not left else [f"{time.strftime('%H:%M:%S', time.gmtime(left))} left"]
        return self._fitted(parts + [self.note] * bool(self.note))

    def _fitted(self, parts: list[str]) -> str:
        """As many of the parts as there is room for, and the bar as wide as the others leave it."""
        # not the last column, after which some terminals go to the next line
        room = _width(sys.stderr) - 1 - len(f"{self.bar.label}  []  {self.bar.format_pos()}")
        text = ""
        for part in parts:
            if NARROWEST_BAR + len(text) + 2 + len(part) > room:
                break
            text += "  " + part
        self.bar.width = max(0, min(WIDEST_BAR, room - len(text)))
        return text[2:]

    def __enter__(self) -> Bar:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def update(self, count: int) -> None:
        self.pace.update(count)
        self.bar.update(count)
        if not count:  # click shows a new note with the next step only
            self.bar.render_progress()


class Lines:
    """Progress as JSON: a line at most once a second, and, of work that had one, a last one at the end."""

    def __init__(self, length: int, label: str, quiet: bool) -> None:
        self.pace, self.label, self.quiet, self.note = Pace(length), label, quiet, ""
        self.began = self.told = time.monotonic()
        self.said = 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        if self.said < self.pace.done and self.told > self.began:
            self._tell()

    def update(self, count: int) -> None:
        self.pace.update(count)
        if time.monotonic() - self.told > 1.0:
            self._tell()

    def _tell(self) -> None:
        self.told, self.said = time.monotonic(), self.pace.done
        rate, left = self.pace.rate(), self.pace.left()
        line = {
            "format": "moe_mheight progress 1",
            "progress": self.label,
            "done": self.pace.done,
            "total": self.pace.length,
        }
        line |= {"seconds": round(self.told - self.began, 1), "per_second": None if rate is None else round(rate, 3)}
        line |= {"seconds_left": None if left is None else round(left, 1)} | ({"note": self.note} if self.note else {})
        remark(json.dumps(line), self.quiet)


@contextmanager
def training(label: str, quiet: bool, lines: bool, newest: Callable[[list[Any]], str]) -> Iterator[Any]:
    """Progress for those who report how much is done, of how much, and records, of which `newest` makes a note."""
    with ExitStack() as stack:
        bar: Any = None
        now = label

        def report(done: int, total: int, records: list[Any]) -> None:
            nonlocal bar, now
            if records and "expected" in records[0]:
                remark(records[0]["expected"], quiet)
                return
            doing = records[0].get("doing", now) if records else now
            if doing != now:  # what comes at the end has a bar of its own
                stack.close()
                bar, now = None, doing
            bar = bar or stack.enter_context(progress(total, now, quiet, lines))
            bar.note = newest(records) if records else ""
            bar.update(done - bar.pace.done)

        yield report


def remark(text: str, quiet: bool) -> None:
    """A line on standard error, unless --quiet."""
    if not quiet:
        with suppress(BrokenPipeError):  # nobody listens any more, and the work goes on
            click.echo(text, err=True)
