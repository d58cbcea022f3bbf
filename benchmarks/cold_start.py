"""The first answer of a fresh installation: core-seconds and seconds of each command, and what it compiles.

    python benchmarks/cold_start.py [COMMAND ...] [--against REF] [--repeats N] [--out FILE]

Each command runs in a process of its own, with an empty folder for machine code, as after `pip install`; the numbers
are those of the quickest of N processes, the start of Python and all imports among them. Prints JSON. With --against
the tree of that commit is measured in turn with this one, in a git worktree, and the ratios are this one's to its.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent

SHOWN = 10
"""Kernels that are listed, the dearest."""

COMMANDS = {
    "exact n=9": "mheight('exact', short, '--m', '3', '--matrix', 'P')",
    "exact n=20": "mheight('exact', long, '--m', '3', '--matrix', 'P')",
    "predict": "mheight('predict', short, '--m', '3', '--matrix', 'P')",
    "explain": "mheight('explain', short, '--m', '3', '--matrix', 'P')",
    "bounds": "moe_mheight.bounds(np.loadtxt(short, delimiter=','), 3)",
    "predict n=20": "moe_mheight.Predictor.load().predict(np.loadtxt(long, delimiter=','), 3, budget=200)",
    "generate": "mheight('generate', folder + '/codes.npz', '--groups', '9,4,3', '--rows', '10', '--seed', '0')",
}
"""What is run, where `short` and `long` are files with the P of a code of n = 9 and 20."""

CHILD = """
import json, sys, time
folder, what, told = sys.argv[1:4]
short, long = folder + "/short.csv", folder + "/long.csv"
rows, running = [], []

from numba.core import event

class Listener(event.Listener):
    def on_start(self, _):
        running.append([time.process_time(), 0.0])
    def on_end(self, seen):
        began, inside = running.pop()
        spent = time.process_time() - began
        if running:
            running[-1][1] += spent
        rows.append((spent - inside, seen.data["dispatcher"].py_func.__name__))

event.register("numba:compile", Listener())

def mheight(*arguments):
    from moe_mheight.cli.main import main
    sys.argv = ["mheight", *arguments]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise

import numpy as np
import moe_mheight
exec(what)
json.dump(sorted(rows, reverse=True), open(told, "w"))
"""


def measured(tree: Path, folder: Path, what: str) -> dict[str, Any]:
    """One run of a command with the package of that tree, nothing being compiled yet."""
    told = folder / "told.json"
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": cache}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), what, str(told)],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr}")
    kernels = json.loads(told.read_text(encoding="utf-8"))
    return {
        "core_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "seconds": round(seconds, 2),
        "kernels": len(kernels),
        "dearest": {name: round(own, 2) for own, name in reversed(kernels[:SHOWN])},
        "said": done.stderr.splitlines(),
    }


@contextmanager
def checked_out(ref: str) -> Iterator[Path]:
    """A worktree of that commit."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(
            ["git", "worktree", "add", "--detach", str(tree), ref], cwd=ROOT, check=True, capture_output=True
        )
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def compared(names: list[str], trees: dict[str, Path], repeats: int) -> dict[str, Any]:
    """{command: {tree: its quickest run}}, with the ratio of core-seconds where there are two trees."""
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        np.savetxt(folder / "short.csv", rng.normal(size=(4, 5)), delimiter=",")
        np.savetxt(folder / "long.csv", rng.normal(size=(10, 10)), delimiter=",")
        for command in names:
            runs: dict[str, list[Any]] = {tree: [] for tree in trees}
            for _ in range(repeats):
                for tree, path in trees.items():
                    runs[tree].append(measured(path, folder, COMMANDS[command]))
            best: dict[str, Any] = {tree: min(each, key=lambda run: run["core_seconds"]) for tree, each in runs.items()}
            if len(best) == 2:
                new, old = best.values()
                best["ratio"] = round(new["core_seconds"] / old["core_seconds"], 3)
            out[command] = best
            print(command, {tree: run["core_seconds"] for tree, run in best.items() if tree in trees}, file=sys.stderr)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"all by default: {', '.join(COMMANDS)}")
    parser.add_argument("--against", metavar="REF", help="a commit to compare with")
    parser.add_argument("--repeats", type=int, default=1, metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    names = arguments.commands or list(COMMANDS)
    if unknown := set(names) - set(COMMANDS):
        parser.error(f"no such command: {', '.join(sorted(unknown))}")
    if arguments.against:
        with checked_out(arguments.against) as tree:
            found = compared(names, {"this": ROOT, arguments.against: tree}, arguments.repeats)
    else:
        found = compared(names, {"this": ROOT}, arguments.repeats)
    text = json.dumps({"cores": os.cpu_count(), "commands": found}, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
