"""How long jobs grow: with cores, with a cluster, with rows, and what a million labels cost.

    python benchmarks/scale.py                # all of it, about a quarter of an hour on two cores that do nothing else
    python benchmarks/scale.py scaling        # the same set by one worker and by all cores
    python benchmarks/scale.py dask           # by a Dask cluster against loky, shards of a second
    python benchmarks/scale.py rows           # ten million labelled rows of n = 9, memory all the while
    python benchmarks/scale.py costs          # core-seconds a label by (n, k, m), and what one coordinator can take in

Each writes its part of benchmarks/results/scale.json; `rows` also docs/scale/memory.png. Times are wall seconds of
whole commands, start and end included, unless said otherwise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from exact_profile import machine
from survival import cluster, mheight, run, start

from moe_mheight import m_height, random_codes
from moe_mheight._io import write_file
from moe_mheight._parallel import each, workers
from moe_mheight.data.code_files import npz_bytes
from moe_mheight.data.generate import draw_shard
from moe_mheight.figures.style import picture
from moe_mheight.groups import HEADLINE, group_name

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "scale.json"

TRIALS = 3
"""Of each timing, one after the other in turn; the median counts."""


def in_turn(ways: dict[str, Any], trials: int = TRIALS) -> dict[str, float]:
    """Median seconds of each way to do the same, the ways taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(trials):
        for name, way in ways.items():
            seconds[name].append(way())
    return {name: round(median(times), 2) for name, times in seconds.items()}


def scaling() -> dict[str, Any]:
    cores = machine()["cores"]
    found = {}
    for what, groups, rows in (("n = 9", "n9", 4_000_000), ("(12, 6, 3)", "12,6,3", 6_000_000)):
        with tempfile.TemporaryDirectory() as name:
            numbers = iter(range(100))

            def generate(
                jobs: int, name: str = name, groups: str = groups, rows: int = rows, numbers: Any = numbers
            ) -> float:
                out = f"{name}/{next(numbers)}"
                seconds = run("generate", "--groups", groups, "--rows", rows, "--jobs", jobs, out)
                subprocess.run(["rm", "-r", out], check=True)
                return seconds

            times = in_turn({"one": lambda: generate(1), "all": lambda: generate(cores)}, trials=1)  # minutes long
        count = rows * (9 if groups == "n9" else 1)
        found[what] = times | {"rows": count, "speedup": round(times["one"] / times["all"], 2)}
        found[what] |= {"rows_per_second": round(count / times["all"])}
    return {"cores": cores, **found}


def dask() -> dict[str, Any]:
    """Shards of about a second, as many workers as cores."""
    cores = machine()["cores"]
    group, sample = (12, 6, 3), 20_000
    draw_shard((group, 0, 1000), kind="scaled-integer", seed=0, threads=1)
    began = time.perf_counter()
    draw_shard((group, 0, sample), kind="scaled-integer", seed=0, threads=1)
    shard = int(sample / (time.perf_counter() - began))
    given = ["--groups", group_name(group), "--rows", 30 * cores * shard, "--shard-rows", shard]
    with tempfile.TemporaryDirectory() as name, cluster(Path(name), cores) as (address, _):
        numbers = iter(range(100))

        def generate(*more: object) -> float:
            out = f"{name}/{next(numbers)}"
            seconds = run("generate", *given, *more, out)
            subprocess.run(["rm", "-r", out], check=True)
            return seconds

        generate("--scheduler", address, "--rows", 100)
        times = in_turn({"loky": lambda: generate("--jobs", cores), "dask": lambda: generate("--scheduler", address)})
    overhead = times["dask"] / times["loky"] - 1.0
    return {"shards": 30 * cores, "rows_per_shard": shard, **times, "overhead_percent": round(100 * overhead, 1)}


def resident(pid: int) -> dict[int, int]:
    """Resident bytes of a process and all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
    family, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in family} - family
        grown = bool(more)
        family |= more
    found = {}
    for member in family:
        try:
            found[member] = int(Path(f"/proc/{member}/statm").read_text().split()[1]) * 4096
        except (OSError, IndexError):
            continue
    return found


def watched(*arguments: object) -> dict[str, Any]:
    """A command's seconds, and the memory of its first process and of its workers every half second."""
    process = start(mheight(*arguments))
    began = time.perf_counter()
    samples: list[list[float]] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            found = resident(process.pid)
            first = found.pop(process.pid, 0)
            samples.append([round(time.perf_counter() - began, 1), first / 2**20, sum(found.values()) / 2**20])

    looking = threading.Thread(target=look)
    looking.start()
    _, err = process.communicate()
    over.set()
    looking.join()
    if process.returncode:
        raise SystemExit(err)
    seconds = time.perf_counter() - began
    every = max(1, len(samples) // 200)
    return {
        "command": "mheight " + " ".join(Path(str(part)).name for part in arguments),
        "seconds": round(seconds, 1),
        "peak_mib": round(max(first + rest for _, first, rest in samples)),
        "seconds_first_rest_mib": [[t, round(first), round(rest)] for t, first, rest in samples[::every]],
    }


def rows() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        made = watched("generate", "--rows", 1_111_112, f"{name}/many")
        size = sum(path.stat().st_size for path in Path(name, "many").iterdir())
        read = watched("exact", f"{name}/many", "--jobs", -1, "--check")
    found = {"rows": 9 * 1_111_112, "bytes": size, "made": made, "audited": read}
    draw(found, ROOT / "docs" / "scale" / "memory.png")
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with picture(path, 9.0, 3.2) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        for ax, part, title in zip(axes, ("made", "audited"), ("made", "read again and audited"), strict=True):
            t, first, rest = np.array(found[part]["seconds_first_rest_mib"]).T
            ax.stackplot(t, first, rest, labels=["first process", "its workers"], colors=["#0072b2", "#9fd0ee"])
            ax.set(xlabel="seconds", title=f"{found['rows']:,} rows {title}", xlim=(0, t[-1]))
        axes[0].set_ylabel("resident memory, MiB")
        axes[0].legend(loc="lower right")


SHORT = [*HEADLINE, (12, 4, 3), (12, 6, 3), (12, 8, 2), (14, 7, 3), (16, 8, 4), (16, 8, 8)]
LONG = [(20, 10, 6), (24, 12, 6), (32, 16, 4), (32, 16, 6), (40, 20, 4)]


def costs() -> dict[str, Any]:
    """One thread; drawing included for n <= 16, and the bytes of a row in a set."""
    table = []
    for group in SHORT:
        draw_shard((group, 0, 100), kind="scaled-integer", seed=0, threads=1)
        began = time.perf_counter()
        draw_shard((group, 0, 2000), kind="scaled-integer", seed=0, threads=1)
        count = int(min(1 << 18, max(2000, 3.0 / (time.perf_counter() - began) * 2000)))
        began = time.perf_counter()
        data = draw_shard((group, 1, count), kind="scaled-integer", seed=0, threads=1)
        seconds = (time.perf_counter() - began) / count
        table.append({"group": group, "core_seconds": seconds, "bytes": round(len(npz_bytes(data)) / count, 1)})
    for n, k, m in LONG:
        P = random_codes("normal", 30, k, n - k, np.random.default_rng([0, n, k, m]))
        m_height(P[:1], m, threads=1)
        began = time.perf_counter()
        for one in P:
            m_height(one, m, threads=1)
        seconds = (time.perf_counter() - began) / len(P)
        table.append({"group": (n, k, m), "core_seconds": seconds, "bytes": 8.0 * (k * (n - k) + 1)})
    return {"groups": table, "coordinator": coordinator()}


def produce(size: int) -> bytes:
    return bytes(size)


def coordinator() -> dict[str, float]:
    """Megabytes a second that one process can take in from workers that do nothing, and write, hash and sync."""
    size, count = 7_000_000, 40
    found = {}
    with tempfile.TemporaryDirectory(dir=ROOT) as name, cluster(Path(name), 2) as (address, _):
        for how, settings in (("dask", {"scheduler": address}), ("loky", {"jobs": 2})):
            with workers(**settings):
                list(each(produce, [10] * 4))
                began = time.perf_counter()
                for number, content in each(produce, [size] * count):
                    write_file(Path(name, f"{number}"), content)
                found[f"{how}_mb_per_second"] = round(size * count / 1e6 / (time.perf_counter() - began))
    return found


PARTS = {"scaling": scaling, "dask": dask, "rows": rows, "costs": costs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default all")
    args = parser.parse_args()
    if wrong := [name for name in args.parts if name not in PARTS]:
        parser.error(f"no such part: {wrong[0]}")
    for name in args.parts or PARTS:
        found = PARTS[name]() | {"machine": machine()}
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        write_file(RESULTS, (json.dumps(known | {name: found}, indent=1) + "\n").encode())
        print(f"{name}: {json.dumps({k: v for k, v in found.items() if k != 'machine'})[:1500]}", flush=True)


if __name__ == "__main__":
    main()
