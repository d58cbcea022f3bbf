"""What commands share: arguments, options, and groups of options that travel as one argument."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import isfinite
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

MATRICES = (".csv", ".tsv", ".txt", ".mtx", ".npy")
"""Endings of files that hold one matrix, not a file of codes."""


def gathered(name: str, kind: type) -> Callable[[F], F]:
    """Hand the options that are fields of the dataclass `kind` over as one argument."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def call(*arguments: Any, **options: Any) -> Any:
            own = {field.name: options.pop(field.name) for field in fields(kind)}
            return command(*arguments, **options, **{name: kind(**own)})

        return call  # type: ignore[return-value]

    return decorate


def data_argument(required: bool) -> Callable[[F], F]:
    """DATA: the peers' pair of pickles, an .npz, a .json, a folder of shards; - is standard input."""
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


class Effort(click.ParamType):  # type: ignore[type-arg]
    """How long to search for the height of a code: a word, or seconds."""

    name = "effort"
    words = ("fast", "default", "thorough")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | float:
        if value in self.words:
            return str(value)
        try:
            seconds = float(value)
        except ValueError:
            text = f"{value!r} is none of {', '.join(map(repr, self.words))}, and no number of seconds."
            raise click.BadParameter(text + did_you_mean(value, self.words), ctx, param) from None
        if not 0.0 < seconds < float("inf"):
            raise click.BadParameter(f"seconds must be above 0, got {value}.", ctx, param)
        return seconds


def did_you_mean(value: object, words: Iterable[str]) -> str:
    known = {word.lower(): word for word in words}
    near = get_close_matches(str(value).lower(), known, 1)
    return f" Did you mean {known[near[0]]}?" if near else ""


@dataclass(frozen=True)
class Output:
    """How a command prints."""

    as_json: bool = False
    quiet: bool = False


def output_options(command: F) -> F:
    """--json and --quiet, as `output`."""
    command = gathered("output", Output)(command)
    command = click.option("--quiet", "-q", is_flag=True, help="No progress, no remarks on standard error.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")(command)


force_option = click.option("--force", is_flag=True, help="Overwrite what exists.")

partial_option = click.option(
    "--partial", is_flag=True, help="DATA is a set that is not complete: take the shards that are finished."
)

KINDS = (
    *("integer", "scaled-integer", "uniform", "normal"),
    *("near-singular", "small-integer", "fourier", "vandermonde", "spherical", "repeated", "tight-frame"),
)  # all of generators.ALL_KINDS, spelled out because that module imports NumPy

BACKENDS = ("loky", "threading", "dask")


@dataclass(frozen=True)
class Workers:
    """Who does the work, as far as the command line says it."""

    jobs: int | None
    backend: str | None
    scheduler: str | None

    @property
    def named(self) -> bool:
        return (self.jobs, self.backend, self.scheduler) != (None, None, None)


def jobs_options(command: F) -> F:
    """--jobs, --backend and --scheduler, as `workers`."""
    command = gathered("workers", Workers)(command)
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
        callback=_count,
        help="Pieces of work side by side, a thread each; -1: all cores, or all of a cluster.",
    )(command)


def _count(ctx: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    if value is not None and value < 1 and value != -1:
        raise click.BadParameter(f"must be at least 1, or -1 for all cores, got {value}", ctx, parameter)
    return value


@contextmanager
def working(workers: Workers, jobs: int | None = None) -> Iterator[bool]:
    """The workers that a command line asks for, or `jobs` of them; whether it asks for any."""
    import logging

    from moe_mheight import _parallel

    logging.disable(logging.ERROR)  # Dask logs at length what we say in one line
    with _parallel.workers(workers.jobs if workers.named else jobs, workers.backend, workers.scheduler):
        yield workers.named or jobs is not None


def seconds_option(help_text: str) -> Callable[[F], F]:
    """--time-limit."""
    return click.option("--time-limit", type=Finite(0, min_open=True), metavar="SECONDS", help=help_text)


threads_option = click.option(
    "--threads", type=int, metavar="N", callback=_count, help="Threads to use; -1: all cores.  [default: all cores]"
)


def models_option(help_text: str) -> Callable[[F], F]:
    return click.option("--models", metavar="DIR", type=click.Path(file_okay=False), help=help_text)


@dataclass(frozen=True)
class Ensemble:
    """Who predicts: a model set, and who mixes its experts."""

    models: str | None
    router: str

    def load(self) -> Any:
        """The predictor, of the bracket view or of the raw one."""
        from pathlib import Path

        from moe_mheight.ensemble.predictor import Predictor
        from moe_mheight.raw.models import RawPredictor, is_raw

        if self.models is None or not is_raw(Path(self.models)):
            return Predictor.load(self.models, router=self.router)
        if self.router != "fixed":
            raise click.UsageError("--router is for the bracket view; these models read the raw view")
        return RawPredictor.load(self.models)


def ensemble_options(command: F) -> F:
    """--models and --router, as `ensemble`."""
    command = gathered("ensemble", Ensemble)(command)
    command = click.option(
        "--router",
        default="fixed",
        show_default=True,
        type=WordOrFile("fixed", "learned"),
        metavar="fixed|learned|FILE",
        help="Who mixes the experts of the tiers: the table of slacks n - k - m (low >= 2, medium 1, high 0), the "
        "set's own gate (train-router), or a JSON file of rules.",
    )(command)
    return models_option("A model set made by train-expert.  [default: the shipped one]")(command)


def as_floats(read: Any) -> Any:
    """P of a matrix that was read, (k, r) float64, each entry rounded once."""
    from moe_mheight.numerics import rationals

    return rationals.as_floats(read.P, "P" if read.kind == "P" else f"the systematic form of {read.kind}, P")
