"""`mheight`: the group of commands, their help, and how failures are told: one line on standard error."""

from __future__ import annotations

import atexit
import importlib
import io
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.shell_completion import shell_complete

from moe_mheight import __version__
from moe_mheight._io import identity
from moe_mheight.errors import MHeightError, brief

from .printing import remark, silence, unread_is_fine
from .progress import told_of_compiling

COMMANDS = {
    "ensemble-eval": "Score the predictor: true against predicted heights, per group.",
    "exact": "Exact heights of a file of codes, audit of its labels; certified heights of long codes.",
    "export-onnx": "Write the experts as ONNX files, for programs without torch.",
    "explain": "One code: its height, who says what about it, and how it compares with random codes.",
    "generate": "Draw random codes with exact labels.",
    "predict": "Predicted heights of a file of codes.",
    "train-expert": "Train the experts of one tier of codes, on brackets or on raw matrices.",
    "train-router": "Fit the learned router of a model set.",
    "verify": "Check the certificate of a height.",
}


MEANT = {
    "audit": "exact", "label": "exact", "evaluate": "ensemble-eval", "report": "ensemble-eval --report",
    "export": "export-onnx", "train": "train-expert", "router": "train-router", "certify": "exact --certificate",
}  # fmt: skip
"""Commands by other names that people try."""


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """The package's version, and which models it ships."""
    if wanted and not ctx.resilient_parsing:
        models = Path(importlib.import_module("moe_mheight.models").__path__[0]) / "default"
        click.echo(f"mheight, version {__version__}, models default {identity(models)}")
        ctx.exit()


WIDEST = 100
"""Columns of a help text: longer lines are hard to read."""

STICKY = "\u2011"
"""A hyphen that does not end a line, else --time-limit were two words."""


class Help(click.HelpFormatter):
    """Help as wide as the terminal, examples too: a command goes on in the next line as a shell takes it."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        super().__init__(indent_increment, width, max_width or WIDEST)

    def write_text(self, text: str) -> None:
        room = self.width - self.current_indent
        parts = text.split("\n\n")
        parts = ["\n".join(_broken(line, room) for line in p.split("\n")) if p[:1] == "\b" else p for p in parts]
        super().write_text("\n\n".join(parts).replace("-", STICKY))

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        pairs = [(name, text.replace("-", STICKY)) for name, text in rows]
        super().write_dl(pairs, min(col_max, self.width * 2 // 5), col_spacing)

    def getvalue(self) -> str:
        return super().getvalue().replace(STICKY, "-")


def _broken(line: str, room: int) -> str:
    """A line of an example in lines of `room` columns, broken before options and words that are not in quotes."""
    if len(line) <= room:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    end = " \\" if "mheight " in line else ""
    first, *words = re.findall(r"""--\S+ (?=[^\s-])(?:'[^']*'|"[^"]*"|\S)+|(?:'[^']*'|"[^"]*"|\S)+""", line)
    lines = [indent + first]
    for word in words:
        if len(f"{lines[-1]} {word}{end}") > room:
            lines[-1] += end
            lines.append(f"{indent}    {word}")
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)


class Context(click.Context):
    """What a command runs in, with that help."""

    formatter_class = Help


class Commands(click.Group):
    """Imports a command's module only when it runs, so that --help is fast."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            near = [MEANT[name]] if name in MEANT else get_close_matches(name, COMMANDS, 1)
            if near and not ctx.resilient_parsing:
                raise click.UsageError(f"No such command '{name}'. Did you mean {near[0]}?", ctx)
            return None
        module = importlib.import_module(f".{name.replace('-', '_')}", __package__)
        command: click.Command = module.command
        command.context_class = Context
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show and exit.")
def mheight() -> None:
    """Exact, certified and predicted m-heights of real linear codes.

    The m-height h_m(C) is the largest ratio |c|_(0) / |c|_(m) over nonzero codewords c, entries sorted by size. Codes
    are given by P, k x (n - k), meaning the generator [I | P]. Experts come in tiers, by the slack n - k - m of a code:
    low (2 or more), medium (1), high (0).

    \b
    Examples:
      mheight ensemble-eval               true | predicted
      mheight exact rows.pkl heights.pkl  audit of labels
      mheight generate codes.npz          labelled codes
      mheight exact G.csv --m 6           one long code

    \b
    Exit codes:
      0    done
      1    a check failed: labels, criteria, a certificate
      2    bad usage or input
      3    a fault of ours; MHEIGHT_TRACEBACK=1 shows where
      130  interrupted

    \b
    Completion, once in ~/.bashrc, in ~/.zshrc, or in
    ~/.config/fish/config.fish:
      eval "$(_MHEIGHT_COMPLETE=bash_source mheight)"
      eval "$(_MHEIGHT_COMPLETE=zsh_source mheight)"
      _MHEIGHT_COMPLETE=fish_source mheight | source
    """


class Interrupts:
    """Ctrl-C: the first ends the command in order, but at once amid an import, which may not survive an exception; so
    does a second one where a kernel still compiles. One that comes when the answer is out changes nothing."""

    def __init__(self) -> None:
        self.seen, self.late = 0, False

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """While a command is at work, and no longer."""
        try:
            yield
        finally:
            self.late = True

    def __call__(self, number: int, frame: Any) -> None:
        if self.late:
            return
        self.seen += 1
        kept = getattr(signal.getsignal(signal.SIGINT), "kept", 0)  # one that did not come here: jit.uninterrupted
        if _importing(frame) or (compiling() and (self.seen > 1 or kept)):
            with suppress(OSError):
                os.write(2, b"interrupted\n")
            os._exit(130)
        raise KeyboardInterrupt


def _importing(frame: Any) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def compiling() -> list[int]:
    """Threads that compile a kernel right now."""
    return list(getattr(sys.modules.get("moe_mheight.numerics.jit"), "COMPILING", ()))


@contextmanager
def ctrl_c() -> Iterator[Interrupts]:
    """Our handling of Ctrl-C, where Python's own would be at work.

    Afterwards no handler of Python's, which takes them back before it ends: an answer with death by a signal for an
    exit code. It is deaf, but lets a second Ctrl-C end what goes on in other threads after a first one.
    """
    interrupts = Interrupts()
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupts)
    try:
        yield interrupts
    finally:
        after = signal.SIG_DFL if interrupts.seen else signal.SIG_IGN
        if signal.getsignal(signal.SIGINT) is interrupts:
            signal.signal(signal.SIGINT, after)


def main(command: click.Command = mheight, name: str = "mheight") -> None:
    """Run `mheight`, or a command alone.

    Exit codes: 0 done, 1 a check failed, 2 bad usage or input, 3 a fault of ours, 130 interrupted.
    """
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started us
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  until the end
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    if instruction := os.environ.get("_MHEIGHT_COMPLETE"):
        sys.exit(shell_complete(mheight, {}, "mheight", "_MHEIGHT_COMPLETE", instruction))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # a name of a file or row that a Windows code page lacks ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    with ctrl_c() as interrupts:
        code = _run(interrupts, command, name)
        try:
            sys.stdout.flush()
        except OSError:  # as on a full disk, which has been told
            silence()
        if code == 130 and compiling():
            os._exit(code)
    if colorama := sys.modules.get("colorama.initialise"):  # numba's, which would end with an escape code
        atexit.unregister(colorama.reset_all)
    sys.exit(code)


def _run(interrupts: Interrupts, command: click.Command, name: str) -> int:
    """The command that the arguments name: its exit code, once every failure has been told in a line."""
    try:
        quiet = bool({"-q", "--quiet"} & set(sys.argv))
        warnings.showwarning = lambda message, *_: remark(f"mheight: note: {message}", quiet)
        with told_of_compiling(compiling, quiet), interrupts.heeded():
            with command.make_context(name, sys.argv[1:]) as context:
                code = command.invoke(context)
            with unread_is_fine():
                sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        with unread_is_fine():
            click.echo(error.format_message())
        return 2
    except (KeyboardInterrupt, click.exceptions.Abort):
        return _interrupted()
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else name
        return _fail(f"{where}: {error.format_message()}")
    except BrokenPipeError:  # whoever read our output has gone; commands with a verdict see to that themselves
        silence()
        return 0
    except BrokenExecutor:
        return _fail("mheight: a worker process was killed, perhaps for want of memory; the same command goes on later")
    except (MHeightError, OSError, MemoryError) as error:
        return _fail(f"mheight: {str(error) or type(error).__name__}")
    except Exception as error:
        return _interrupted() if interrupts.seen else _fault(error)


def _interrupted() -> int:
    threading.excepthook = lambda _: None
    remark("interrupted", quiet=False)
    exec("")  # Python remembers an interrupt that came out of an exec, as in an import, and would end by the signal
    return 130


def _fail(text: str) -> int:
    remark(" ".join(text.split()), quiet=False)
    return 2


def _fault(error: Exception) -> int:
    """What no input should bring about: nobody may take it for a failed check, nor for bad input."""
    shown = bool(os.environ.get("MHEIGHT_TRACEBACK"))
    if shown:
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {brief(error)}".rstrip(": ")
    remark(
        f"mheight: a fault of ours, {what}; please report it with the command and its input"
        + ("" if shown else "; MHEIGHT_TRACEBACK=1 shows where it happened"),
        quiet=False,
    )
    return 3
