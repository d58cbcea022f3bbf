"""Long jobs, and what may happen to them. Real processes; in the end every byte must be that of an unbroken run.

    python benchmarks/survival.py             # all of it, some minutes
    python benchmarks/survival.py cluster     # a Dask scheduler and three workers over TCP, one of them killed
    python benchmarks/survival.py kills       # `generate` killed at ten random moments
    python benchmarks/survival.py training    # `train-expert` killed three times; and on a cluster, a worker killed
    python benchmarks/survival.py disk        # a disk that runs full (a small tmpfs; needs root, or user namespaces)

Each writes its part of benchmarks/results/survival.json. --small does the same with little work, for tests.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from distributed import Client

from moe_mheight._io import write_file
from moe_mheight.data.sources import open_codes

RESULTS = Path(__file__).parent / "results" / "survival.json"


def mheight(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "moe_mheight", *map(str, arguments)]


def start(command: list[str], **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **more)


def finish(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(process.args)} ended with {process.returncode}: {err}")  # type: ignore[arg-type]


def run(*arguments: object) -> float:
    """Run a command to its end; seconds."""
    began = time.perf_counter()
    finish(start(mheight(*arguments)))
    return time.perf_counter() - began


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def rows_of(folder: Path) -> int:
    """Rows that are really there."""
    return sum(len(codes.P) for piece in open_codes([folder]).pieces() for codes in piece.values())


@contextmanager
def cluster(
    place: Path, workers: int, threads: int = 1, name: str = "cluster"
) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A Dask scheduler and workers as processes, each in a folder of its own: (address, workers and the scheduler)."""
    folder = place / name
    folder.mkdir()
    info = folder / "scheduler.json"
    scheduler = start(
        [
            *(sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
            *("--no-dashboard", "--scheduler-file", str(info)),
        ],
        cwd=folder,
    )
    running = [scheduler]
    try:
        for number in range(workers):
            (folder / f"worker{number}").mkdir()
            command = [
                *(sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(info)),
                *("--nthreads", str(threads), "--no-nanny", "--no-dashboard", "--name", str(number)),
            ]
            running.append(start(command, cwd=folder / f"worker{number}"))
        deadline = time.monotonic() + 60
        while not info.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        address = json.loads(info.read_text())["address"]
        with Client(address) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address, [*running[1:], scheduler]
    finally:
        for process in running:
            process.kill()
            process.communicate()


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and not ready():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.005)


def clusters(small: bool) -> dict[str, Any]:
    """Labels by a cluster, one worker killed in the middle, against those of one process; then its scheduler."""
    rows, size = (50, 25) if small else (14_286, 4_000)
    given = ["--groups", "n21", "--rows", rows, "--shard-rows", size, "--seed", 1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = run("generate", *given, "--jobs", 1, folder / "alone")
        run("exact", folder / "alone", "--out", folder / "labels", "--jobs", 1)
        shards = len(list((folder / "alone").glob("*.npz")))
        seconds, killed = [], []
        with cluster(folder, 3) as (address, workers):
            for number, (what, made, wanted) in enumerate(
                (
                    (["generate", *given, folder / "made"], "made", "alone"),
                    (["exact", folder / "alone", "--out", folder / "again"], "again", "labels"),
                )
            ):
                began = time.perf_counter()
                process = start(mheight(*what, "--scheduler", address))
                wait_for(lambda made=made: len(list((folder / made).glob("*.npz"))) >= shards // 3, process)
                killed.append(len(list((folder / made).glob("*.npz"))))
                workers[number].send_signal(signal.SIGKILL)
                finish(process)
                seconds.append(round(time.perf_counter() - began, 1))
                assert contents(folder / made) == contents(folder / wanted), what[0]
        with cluster(folder, 2, name="doomed") as (address, running):
            process = start(mheight("generate", *given, folder / "half", "--scheduler", address))
            wait_for(lambda: len(list((folder / "half").glob("*.npz"))) >= shards // 3, process)
            running[-1].send_signal(signal.SIGKILL)
            _, err = process.communicate(timeout=120)
            assert process.returncode == 2, (process.returncode, err)
            assert len(err.splitlines()) == 1, err
        run("generate", *given, folder / "half", "--jobs", 2)
        assert contents(folder / "half") == contents(folder / "alone")
        return {
            "rows": rows_of(folder / "made"),
            "shards": shards,
            "workers": 3,
            "killed_after_shards": killed,
            "generate_seconds": seconds[0],
            "exact_seconds": seconds[1],
            "alone_seconds": round(alone, 1),
            "same_bytes": True,
            "scheduler_killed": err.strip(),
        }


def kills(small: bool) -> dict[str, Any]:
    """`generate` killed again and again, alone and with its workers, at random moments."""
    rows, times = (300_000, 3) if small else (3_000_000, 10)
    given = ["--groups", "9,4,2;9,5,3", "--rows", rows, "--shard-rows", rows // 30, "--seed", 2, "--jobs", 2]
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("generate", *given, folder / "unbroken")
        found: list[int] = []

        def finished() -> int:
            return len(list((folder / "broken").glob("*.npz")))

        for number in range(times):
            process = start(mheight("generate", *given, folder / "broken"), start_new_session=True)
            if number == 0:  # while it starts
                time.sleep(rng.uniform(0.1, 1.0))
            else:  # after so many more shards, and a moment
                more = sum(found) + rng.randint(1, 100 // times)
                wait_for(lambda more=more: finished() >= more, process)
                time.sleep(rng.uniform(0.0, 0.1))
            os.killpg(process.pid, signal.SIGKILL) if number % 2 else process.kill()
            process.wait()
            found.append(finished() - sum(found))
        run("generate", *given, folder / "broken")
        assert contents(folder / "broken") == contents(folder / "unbroken")
        names = {path.name for path in (folder / "broken").iterdir()}
        manifest = json.loads((folder / "broken" / "manifest.json").read_text())
        assert names == {"manifest.json", *(entry["name"] for entry in manifest["shards"])}, "something is left over"
        assert rows_of(folder / "broken") == 2 * rows
    return {"rows": 2 * rows, "kills": times, "shards": 60, "finished_before_each_kill": found, "same_bytes": True}


def weights(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in contents(folder).items() if name.endswith(".safetensors")}


def training(small: bool) -> dict[str, Any]:
    """`train-expert` killed in the middle, moved, and ended elsewhere; trained by a cluster, one worker killed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if small:
            run("generate", "--rows", 40, "--kind", "integer", folder / "codes.npz")
            given = [
                "--tier",
                "all",
                "--view",
                "raw",
                "--data",
                folder / "codes.npz",
                "--set",
                "width=64",
                "--epochs",
                8,
            ]
        else:
            given = ["--tier", "low", "--chunks", 10]
        tier, kills = str(given[1]), 2 if small else 3
        given += ["--seeds", 2]
        seconds = run("train-expert", *given, "--jobs", 2, "--models", folder / "unbroken")
        seen = []
        kept = folder / "broken" / f".{tier}.unfinished"
        for _ in range(kills):
            process = start(mheight("train-expert", *given, "--jobs", 2, "--models", folder / "broken"))
            before = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.checkpoint")}

            def moved(before: dict[str, int] = before) -> bool:
                return any(path.stat().st_mtime_ns != before.get(path.name) for path in kept.glob("*.checkpoint"))

            wait_for(moved, process)
            time.sleep(0.5 if small else 5.0)
            process.kill()
            process.wait()
            histories = [path.read_text().splitlines() for path in sorted(kept.glob("*.jsonl"))]
            units = [json.loads(lines[-1]) if lines else {} for lines in histories]
            seen.append([unit.get("chunk", unit.get("epoch", 0)) for unit in units])
        moved_to = folder / "elsewhere" / "broken"
        moved_to.parent.mkdir()
        (folder / "broken").rename(moved_to)  # as if on another machine
        run("train-expert", *given, "--jobs", 1, "--models", moved_to)
        assert weights(moved_to / tier) == weights(folder / "unbroken" / tier)
        with cluster(folder, 2, threads=2) as (address, workers):
            began = time.perf_counter()
            process = start(mheight("train-expert", *given, "--scheduler", address, "--models", folder / "cluster"))
            wait_for(lambda: any((folder / "cluster").glob(f".{tier}.unfinished/*.checkpoint")), process)
            workers[0].send_signal(signal.SIGKILL)
            finish(process)
            clustered = time.perf_counter() - began
        assert weights(folder / "cluster" / tier) == weights(folder / "unbroken" / tier)
        found = len(weights(folder / "unbroken" / tier))
    return {
        "command": "mheight train-expert " + " ".join(str(part).replace(name, "DIR") for part in given),
        "measured_last_when_killed": seen,
        "unbroken_seconds": round(seconds, 1),
        "cluster_seconds": round(clustered, 1),
        "networks_with_the_same_weights": found,
    }


def disk(small: bool) -> dict[str, Any]:
    """A disk that runs full while shards are written, and has room again later."""
    rows = 20_000 if small else 400_000
    given = ["--groups", "9,4,2;9,5,3", "--rows", rows, "--shard-rows", rows // 10, "--seed", 3, "--jobs", 2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("generate", *given, folder / "unbroken")
        size = sum(path.stat().st_size for path in (folder / "unbroken").iterdir())
        small_disk = folder / "disk"
        small_disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "tmpfs", str(small_disk)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            if os.environ.get("MHEIGHT_NAMESPACE"):
                raise SystemExit("no way to mount a small disk here: not root, and no user namespaces")
            again = ["unshare", "-rm", sys.executable, __file__, "disk", *(["--small"] if small else [])]
            done = subprocess.run(again, check=False, env=os.environ | {"MHEIGHT_NAMESPACE": "1"})
            if done.returncode:
                raise SystemExit(done.returncode)
            return dict(json.loads(RESULTS.read_text())["disk"]) if not small else {}
        try:
            process = start(mheight("generate", *given, small_disk / "set"))
            _, err = process.communicate()
            assert process.returncode == 2, (process.returncode, err)
            left = sorted(path.name for path in (small_disk / "set").iterdir())
            unbroken = contents(folder / "unbroken")
            kept = [n for n in left if n.endswith(".npz")]
            assert all(contents(small_disk / "set")[n] == unbroken[n] for n in kept), "a finished shard is damaged"
            assert not any(n.endswith(".part") for n in left)
            subprocess.run(["mount", "-o", f"remount,size={4 * size}", str(small_disk)], check=True)
            process = start(mheight("generate", *given, "--json", small_disk / "set"))
            finish(process)
            assert contents(small_disk / "set") == unbroken
        finally:
            subprocess.run(["umount", str(small_disk)], check=False)
    return {
        "disk_bytes": size // 2,
        "set_bytes": size,
        "error": err.strip().replace(str(folder), "DIR"),
        "finished_before": len(kept),
        "same_bytes_after_room_was_made": True,
    }


CHECKS = {"cluster": clusters, "kills": kills, "training": training, "disk": disk}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join(CHECKS)}; default all")
    parser.add_argument("--small", action="store_true", help="little work, and no figures are kept")
    args = parser.parse_args()
    if wrong := [name for name in args.checks if name not in CHECKS]:
        parser.error(f"no such check: {wrong[0]}")
    for name in args.checks or CHECKS:
        if name == "disk" and not shutil.which("mount"):
            print("disk: no mount here, left out")
            continue
        found = CHECKS[name](args.small)
        print(f"{name}: {json.dumps(found)}", flush=True)
        if not args.small:
            known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            write_file(RESULTS, (json.dumps(known | {name: found}, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
