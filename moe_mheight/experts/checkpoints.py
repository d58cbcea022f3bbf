"""Trainings that may be interrupted and moved: in stages, each from a checkpoint that decides all that follows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from .._io import write_file
from .._parallel import asked, each
from ..errors import ModelError, brief
from ..numerics.jit import thread_count
from .model_store import pack, unpack

Member = TypeVar("Member")


def device_of(name: str) -> str:
    """The device to train on: "auto" takes a GPU when there is one.

    Raises:
        ModelError: there is no such device, or a GPU is asked for, and there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ModelError(f"device must be auto, cpu or cuda, got {brief(name)}")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ModelError("no GPU that torch can use is here; --device cpu or auto trains without")
    return ("cuda" if there else "cpu") if name == "auto" else name


def pack_checkpoint(
    expert: torch.nn.Module, mean: torch.nn.Module, optimizer: torch.optim.Optimizer, **state: Any
) -> bytes:
    """Weights, a second set of them (their moving average, or the best so far), the optimizer's state and some numbers,
    among them how much is `done`, as safetensors."""
    tensors = {f"expert.{key}": value for key, value in expert.state_dict().items()}
    tensors |= {f"mean.{key}": value for key, value in mean.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{key}": value for key, value in moments.items()}
    return pack(tensors | {f"state.{key}": torch.tensor(value, dtype=torch.float64) for key, value in state.items()})


def restore(
    content: bytes, expert: torch.nn.Module, mean: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put a checkpoint back; returns the numbers that were stored with it."""
    parts: dict[str, dict[str, Tensor]] = {"expert": {}, "mean": {}, "optimizer": {}, "state": {}}
    for key, value in unpack(content, "the checkpoint").items():
        kind, _, name = key.partition(".")
        parts[kind][name] = value
    expert.load_state_dict(parts["expert"])
    mean.load_state_dict(parts["mean"])
    state = optimizer.state_dict()
    for key, value in parts["optimizer"].items():
        i, _, name = key.partition(".")
        state["state"].setdefault(int(i), {})[name] = value
    optimizer.load_state_dict(state)
    return {key: value.tolist() for key, value in parts["state"].items()}


FORMAT = 3
"""Of checkpoints; a part of a training's settings, so that another version's is refused and not misread."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """Where a member stands: how much is done, its checkpoint, all that it has measured, and, when its training is
    over, its weights as safetensors."""

    done: int = 0
    checkpoint: bytes | None = None
    records: tuple[Record, ...] = ()
    weights: bytes | None = None


Report = Callable[[int, int, list[Record]], None]
"""Told how much of all members is done, of how much, and the newest record of each; first before anything is done."""


def in_stages(
    work: Callable[[tuple[Member, Stage]], Stage],
    members: dict[str, Member],
    lengths: dict[str, int],
    folder: Path,
    *,
    unit: str,
    jobs: int | None = None,
    report: Report | None = None,
) -> list[bytes]:
    """Train members side by side, some seconds at a time (`span`), by the workers at hand (`_parallel.workers`).

    Checkpoints travel with the work and are kept here, in `folder`, as NAME.checkpoint, with what was measured in
    NAME.jsonl: workers need no files of ours, one that dies costs a stage, and a training goes on from any machine that
    has the folder. Where stages end changes no weight.

    Args:
        work: trains a member from where it stands for a while; it must pickle.
        members: what `work` needs to know, by name.
        lengths: how much there is to do, by name.
        folder: where they are kept; a checkpoint that does not match its checksum counts as none.
        unit: what is counted, as records call it: "chunk" or "epoch".
        jobs: workers where nobody asked for others; 0 does the work here and now, without any.
        report: see Report.

    Returns:
        The members' weights, in order.
    """
    names = list(members)
    stages = {name: _resumed(folder, name, unit) for name in names}

    def report_progress() -> None:
        if report:
            done = sum(s.done if s.weights is None else lengths[name] for name, s in stages.items())
            report(done, sum(lengths.values()), [s.records[-1] for s in stages.values() if s.records])

    report_progress()
    while missing := [name for name in names if stages[name].weights is None]:
        tasks = [(members[name], stages[name]) for name in missing]
        for number, stage in enumerate(map(work, tasks)) if jobs == 0 else each(work, tasks, jobs):
            name = missing[number]
            # the history first: what it has beyond the checkpoint is dropped when the training goes on
            write_file(folder / f"{name}.jsonl", "".join(json.dumps(r) + "\n" for r in stage.records).encode())
            if stage.checkpoint is not None:
                write_file(folder / f"{name}.checkpoint", stage.checkpoint + sha256(stage.checkpoint).digest())
            stages[name] = stage
            report_progress()
    return [weights for name in names if (weights := stages[name].weights) is not None]


def share_out(members: int) -> tuple[int, int]:
    """How many members to train side by side, and on how many threads each.

    Where workers were asked for, those, of one thread each. Else this machine's cores are all kept busy, by members
    that share them if need be.
    """
    wanted = asked()
    if wanted is not None:
        return min(members, wanted), 1
    cores = thread_count(None)
    workers = min(members, 2 * cores)
    return workers, max(1, cores // workers)


SPANS = 2.0, 20.0
"""Seconds of a stage, at least and at most."""


def span(minutes: float) -> float:
    """Seconds of the next stage of a training that took so long up to now: the first ones show early how it goes."""
    return min(SPANS[1], max(SPANS[0], 60.0 * minutes / 5.0))


def _resumed(folder: Path, name: str, unit: str) -> Stage:
    """A member as an earlier attempt left it."""
    saved, history = folder / f"{name}.checkpoint", folder / f"{name}.jsonl"
    content = saved.read_bytes() if saved.exists() else b""
    checkpoint, digest = content[:-32], content[-32:]
    if sha256(checkpoint).digest() != digest:  # damaged, or none yet
        return Stage()
    try:
        state = unpack(checkpoint, str(saved))
        done, measured = int(state["state.done"]), int(state["state.measured"])
        known = tuple(r for r in (records(history) if history.exists() else []) if r[unit] <= done)
    except (ModelError, ValueError, KeyError, TypeError):
        return Stage()
    return Stage(done, checkpoint, known) if len(known) == measured else Stage()


def records(history: Path) -> list[Record]:
    """What a member has measured; a last line cut short, by a kill or a full disk, does not count."""
    lines = history.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


FRESH = threading.Lock()
"""Held while weights are drawn: torch has one random stream for all threads of a process."""
