"""What a training keeps on disk while it goes on: everything that decides the next step, and what was measured."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import ModelError
from .storage import pack, unpack


def device_of(name: str) -> str:
    """The device to train on: "auto" takes a GPU when there is one.

    Raises:
        ModelError: a GPU is asked for, and there is none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ModelError("no GPU that torch can use is here; --device cpu or auto trains without")
    return ("cuda" if there else "cpu") if name == "auto" else name


def pack_checkpoint(
    expert: torch.nn.Module, mean: torch.nn.Module, optimizer: torch.optim.Optimizer, done: int
) -> bytes:
    """Weights, a second set of them (their moving average, or the best so far), the optimizer's state and how much is
    done, as safetensors."""
    tensors = {f"expert.{key}": value for key, value in expert.state_dict().items()}
    tensors |= {f"mean.{key}": value for key, value in mean.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{key}": value for key, value in state.items()}
    return pack(tensors | {"done": torch.tensor(done)})


def restore(content: bytes, expert: torch.nn.Module, mean: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint back; returns how much is done."""
    parts: dict[str, dict[str, Tensor]] = {"expert": {}, "mean": {}, "optimizer": {}, "done": {}}
    for key, value in unpack(content, "the checkpoint").items():
        kind, _, name = key.partition(".")
        parts[kind][name] = value
    expert.load_state_dict(parts["expert"])
    mean.load_state_dict(parts["mean"])
    whole = optimizer.state_dict()
    for key, value in parts["optimizer"].items():
        i, _, name = key.partition(".")
        whole["state"].setdefault(int(i), {})[name] = value
    optimizer.load_state_dict(whole)
    return int(parts["done"][""])


def records(history: Path) -> list[dict[str, Any]]:
    """What a member has measured; a last line cut short, by a kill or a full disk, does not count."""
    return [json.loads(line) for line in history.read_text().splitlines(keepends=True) if line.endswith("\n")]


@contextmanager
def reporting(histories: list[Path], report: Callable[[list[dict[str, Any]]], None] | None) -> Iterator[None]:
    """Tell the members' newest records about once a second while they train, perhaps in other processes."""
    over = threading.Event()

    def tell() -> None:
        last = False
        while report and not last:
            last = over.wait(1.0)  # and once more at the end
            known = [records(path) for path in histories if path.exists()]
            report([some[-1] for some in known if some])

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
