"""What commands share: arguments and options, printing, progress."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def data_argument(required: bool) -> Callable[[F], F]:
    """DATA: a pair of the field's pickles, an .npz or a .json; - is standard input."""
    return click.argument("data", nargs=-1, required=required, metavar="DATA" if required else "[DATA]...")


def output_options(command: F) -> F:
    """--json and --quiet."""
    command = click.option("--quiet", "-q", is_flag=True, help="No progress, no remarks on standard error.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")(command)


force_option = click.option("--force", is_flag=True, help="Overwrite what exists.")

threads_option = click.option("--threads", type=click.IntRange(1), help="Threads to use.  [default: all cores]")


router_option = click.option(
    "--router",
    default="fixed",
    show_default=True,
    metavar="fixed|learned|FILE",
    help="Who mixes the experts: the slack table, the set's own gate (train-router), or a JSON file of rules.",
)


def load_predictor(models: str | None, router: str) -> Any:
    """The predictor of a model set, of the bracket view or of the raw one."""
    from pathlib import Path

    from moe_mheight.ensemble import Predictor
    from moe_mheight.raw.models import RawPredictor, is_raw

    if models is None or not is_raw(Path(models)):
        return Predictor.load(models, router=router)
    if router != "fixed":
        raise click.UsageError("--router is for the bracket view; these models read the raw view")
    return RawPredictor.load(models)


def models_option(help_text: str) -> Callable[[F], F]:
    return click.option("--models", metavar="DIR", type=click.Path(file_okay=False), help=help_text)


def emit(value: Any) -> None:
    """One JSON document on standard output; JSON has no infinity, so it is the string "inf"."""
    click.echo(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and (not math.isfinite(value)):
        return str(value)
    return value


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Right-aligned columns, the first one left-aligned."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def shows_progress(quiet: bool) -> bool:
    """Progress bars are for people: a terminal on standard error, and not --quiet."""
    return not quiet and sys.stderr.isatty()


def progress(length: int, label: str, quiet: bool) -> Any:
    """A progress bar on standard error for people, silent otherwise."""
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not shows_progress(quiet))


def remark(text: str, quiet: bool) -> None:
    """A line on standard error, unless --quiet."""
    if not quiet:
        click.echo(text, err=True)
