"""What a training keeps on disk while it goes on: everything that decides the next step, and what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from .experts import Expert
from .storage import pack, unpack


def pack_checkpoint(expert: Expert, mean: AveragedModel, optimizer: torch.optim.Optimizer, done: int) -> bytes:
    """Weights, their moving average, the optimizer's state and the number of chunks done, as safetensors."""
    tensors = {f"expert.{key}": value for key, value in expert.state_dict().items()}
    tensors |= {f"mean.{key}": value for key, value in mean.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{key}": value for key, value in state.items()}
    return pack(tensors | {"done": torch.tensor(done)})


def restore(content: bytes, expert: Expert, mean: AveragedModel, optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint back; returns the number of chunks done."""
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
