"""Training one tier's experts on an endless stream of fresh, exactly labelled codes.

Work is counted in chunks: chunk number c of seed s is drawn from a random stream of its own, so nothing is ever seen
twice, a resumed training sees what an unbroken one would have seen, and no training code is a validation or test code.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .cards import card, held_out, measure, provenance
from .codes import KINDS
from .errors import ModelError
from .experts import CLOSED, Architecture, Expert, Reading, positions, read_codes
from .kernels import thread_count
from .storage import architecture_config, locked, pack, save_tier, unpack, write_file
from .streams import draw, stream
from .tiers import EVALUATOR, TIERS, sizes

MINUTES = {"low": 9.0, "medium": 9.0, "high": 2.0}
"""Default training time of a tier. At slack 0 brackets close by themselves: the high expert has little to learn."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the weights, apart from the seed; stored beside them."""

    tier: str
    architecture: Architecture = field(default_factory=Architecture)
    chunks: int = 0  # length of training
    groups: int = 16  # (n, k, m) groups in a chunk
    codes: int = 512  # codes drawn per group
    batch: int = 512  # codes per step
    headline: float = 0.5  # share of groups drawn from the field's 21, the rest from all trained sizes
    kinds: tuple[str, ...] = KINDS  # of random codes, drawn per group
    rate: float = 2e-3  # peak learning rate, after warm-up, before its cosine
    warmup: int = 100  # steps
    decay: float = 1e-4  # AdamW weight decay
    average: float = 0.998  # of the exponential moving average of weights
    clip: float = 1.0  # gradient norm


def learnable(tier: str) -> list[tuple[int, int, int]]:
    """Sizes a tier trains on. At slack 0 brackets are closed, so the high expert learns from slack 1, the nearest."""
    return sizes("medium" if tier == "high" else tier)


Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""tokens, low, high, width, target: log2 h - log2 L."""


def as_batch(reading: Reading, h: NDArray[np.float64]) -> Batch:
    """Open brackets only, as float32 tensors."""
    keep = reading.width > CLOSED
    target = np.log2(h[keep]) - reading.lower[keep]
    parts = (reading.tokens[keep], reading.low[keep], reading.high[keep], reading.width[keep], target)
    tokens, low, high, width, offset = (torch.from_numpy(part.astype(np.float32)) for part in parts)
    return tokens, low, high, width, offset


def chunk(recipe: Recipe, seed: int, number: int, threads: int) -> Batch:
    """Chunk `number` of the training stream, shuffled."""
    rng = stream("train", seed, TIERS.index(recipe.tier), number)
    everywhere = learnable(recipe.tier)
    focus = [group for group in EVALUATOR if group in set(everywhere)]
    batches = []
    for _ in range(recipe.groups):
        among = focus if rng.random() < recipe.headline else everywhere
        group = among[rng.integers(len(among))]
        P, h = draw(rng, group, recipe.codes, (recipe.kinds[rng.integers(len(recipe.kinds))],))
        if len(P):
            batches.append(as_batch(read_codes(P, group[2], recipe.architecture, threads), h))
    whole = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    order = torch.from_numpy(rng.permutation(len(whole[0])))
    tokens, low, high, width, target = (part[order] for part in whole)
    return tokens, low, high, width, target


def loss(expert: torch.nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of log2 h, in bits squared."""
    tokens, low, high, width, target = batch
    return ((expert(tokens, low, high) * width - target) ** 2).mean()


def validate(expert: Expert, known: list[tuple[Any, Reading, Any]]) -> dict[str, float]:
    """log2-MSE per group and their plain mean; known is what `held_out` gives."""
    errors = {}
    for group, reading, log2_h in known:
        predicted = reading.lower + positions(expert, reading) * reading.width
        errors[",".join(map(str, group))] = float(np.mean((predicted - log2_h) ** 2))
    return {"macro": float(np.mean(list(errors.values()))), **errors}


def _checkpoint(expert: Expert, mean: AveragedModel, optimizer: torch.optim.Optimizer, done: int) -> bytes:
    tensors = {f"expert.{key}": value for key, value in expert.state_dict().items()}
    tensors |= {f"mean.{key}": value for key, value in mean.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{key}": value for key, value in state.items()}
    return pack(tensors | {"done": torch.tensor(done)})


def _restore(content: bytes, expert: Expert, mean: AveragedModel, optimizer: torch.optim.Optimizer) -> int:
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


def train_seed(recipe: Recipe, seed: int, folder: Path, threads: int, device: str, owner: int) -> bytes:
    """Train one ensemble member, resuming from its checkpoint in `folder`; returns its weights as safetensors.

    Writes seedN.checkpoint about every 30 seconds and appends to seedN.jsonl what it measured. A member that trains in
    a child of the process `owner` stops when that one is gone.
    """
    is_child = os.getppid() == owner
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    expert = Expert(recipe.architecture)
    known = list(held_out("validate", recipe.tier, recipe.architecture, 1500))  # the same for every seed
    first = chunk(recipe, seed, 0, threads)
    expert.standardise(first[0])
    expert.to(device)
    mean = AveragedModel(expert, multi_avg_fn=get_ema_multi_avg_fn(recipe.average))
    optimizer = torch.optim.AdamW(expert.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    saved, history = folder / f"seed{seed}.checkpoint", folder / f"seed{seed}.jsonl"
    done = _restore(saved.read_bytes(), expert, mean, optimizer) if saved.exists() else 0
    if history.exists():  # what was measured after the checkpoint will be measured again
        kept = [record for record in _records(history) if record["chunk"] <= done]
        write_file(history, "".join(json.dumps(record) + "\n" for record in kept).encode())
    steps = recipe.chunks * recipe.groups * recipe.codes / recipe.batch
    every = max(1, recipe.chunks // 20)
    last_saved, running = time.monotonic(), []
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(chunk, recipe, seed, done, threads)
        while done < recipe.chunks:
            if is_child and os.getppid() != owner:
                raise ModelError("the process that asked for this training is gone")
            whole = coming.result()
            if done + 1 < recipe.chunks:
                coming = ahead.submit(chunk, recipe, seed, done + 1, threads)
            expert.train()
            for start in range(0, len(whole[0]), recipe.batch):
                step = (done + start / len(whole[0])) / recipe.chunks * steps
                rate = recipe.rate * min(1.0, (step + 1) / recipe.warmup) * (1 + math.cos(math.pi * step / steps)) / 2
                for parameters in optimizer.param_groups:
                    parameters["lr"] = rate
                tokens, low, high, width, target = (p[start : start + recipe.batch].to(device) for p in whole)
                error = loss(expert, (tokens, low, high, width, target))
                optimizer.zero_grad()
                (1000.0 * error).backward()  # of order one, so that clipping means something
                torch.nn.utils.clip_grad_norm_(expert.parameters(), recipe.clip)
                optimizer.step()
                mean.update_parameters(expert)
                running.append(error.item())
            done += 1
            if done % every == 0 or done == recipe.chunks:
                mean.eval()
                record: dict[str, Any] = {
                    "seed": seed,
                    "chunk": done,
                    "chunks": recipe.chunks,
                    "train": float(np.mean(running)),
                }
                record["validation"] = validate(cast(Expert, mean.module), known)
                running = []
                with open(history, "a") as out:
                    out.write(json.dumps(record) + "\n")
            if time.monotonic() - last_saved > 30 or done == recipe.chunks:
                write_file(saved, _checkpoint(expert, mean, optimizer, done))
                last_saved = time.monotonic()
    return pack(mean.module.state_dict())


def _records(history: Path) -> list[dict[str, Any]]:
    """What a member has measured; a last line cut short, by a kill or a full disk, does not count."""
    return [json.loads(line) for line in history.read_text().splitlines(keepends=True) if line.endswith("\n")]


def plan_chunks(recipe: Recipe, minutes: float, workers: int, threads: int) -> int:
    """How many chunks fit into that many minutes, from a short trial on this machine."""
    torch.set_num_threads(threads)
    trial = Expert(recipe.architecture)
    optimizer = torch.optim.AdamW(trial.parameters())
    warm = chunk(recipe, 0, 0, threads)
    start = time.monotonic()
    for number in range(1, 4):
        whole = chunk(recipe, 0, number, threads)
        for at in range(0, len(whole[0]), recipe.batch):
            tokens, low, high, width, target = (part[at : at + recipe.batch] for part in whole)
            optimizer.zero_grad()
            loss(trial, (tokens, low, high, width, target)).backward()
            optimizer.step()
    each = (time.monotonic() - start) / 3 * len(warm[0]) / max(1, len(whole[0]))
    crowded = 1.2 if workers > 1 else 1.0  # members trained side by side share caches and memory
    return max(2, int(60.0 * minutes / (each * crowded)))


def train_tier(
    tier: str,
    models: Path,
    *,
    seeds: int = 2,
    minutes: float | None = None,
    chunks: int | None = None,
    architecture: Architecture | None = None,
    device: str = "auto",
    force: bool = False,
    report: Callable[[list[dict[str, Any]]], None] | None = None,
) -> dict[str, Any]:
    """Train a tier's seed ensemble and put it into a model set.

    Args:
        tier: "low", "medium" or "high".
        models: folder of the model set; the tier goes to models / tier.
        seeds: ensemble members, trained independently and side by side (joblib; its parallel_config is honoured).
        minutes: training time for all members together on this machine; default MINUTES[tier].
        chunks: length of training in chunks instead of minutes: the same weights on the same machine.
        architecture: default Architecture().
        device: "auto" (a GPU when there is one), "cpu" or "cuda".
        force: replace a finished tier, drop an unfinished one.
        report: called about every second with the newest record of each member.

    Returns:
        The config of the finished tier, its held-out figures included.

    Raises:
        ModelError: the tier exists (and not force), or an unfinished training has other settings.
    """
    if tier not in TIERS:
        raise ModelError(f"tier must be one of {', '.join(TIERS)}, got {tier!r}")
    if seeds < 1:
        raise ModelError(f"seeds must be at least 1, got {seeds}")
    final, partial = models / tier, models / f".{tier}.unfinished"
    if final.exists() and not force:
        raise ModelError(f"{final} exists; choose another --models folder, or --force to replace it")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    workers = min(seeds, thread_count(None))
    threads = max(1, thread_count(None) // workers)
    recipe = Recipe(tier=tier, architecture=architecture or Architecture())
    partial.mkdir(parents=True, exist_ok=True)
    before = torch.get_num_threads()
    with locked(partial):
        if force:  # only now: a training that is going on is refused above, not swept away
            for path in [path for path in partial.iterdir() if path.name != "lock"]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        recipe = _settled(recipe, partial, seeds, minutes, chunks, workers, threads)
        started = time.monotonic()
        with _reporting(partial, seeds, report):
            weights = joblib.Parallel(n_jobs=workers)(
                joblib.delayed(train_seed)(recipe, seed, partial, threads, device, os.getpid()) for seed in range(seeds)
            )
        torch.set_num_threads(before)
        config = {
            "tier": tier,
            "architecture": architecture_config(recipe.architecture),
            "recipe": {key: value for key, value in asdict(recipe).items() if key != "architecture"},
            "trained_minutes": round((time.monotonic() - started) / 60, 1),
            "provenance": provenance() | {"device": device},
        }
        experts = [_expert(recipe.architecture, content) for content in weights]
        config |= measure(tier, recipe.architecture, experts)
        history = "".join((partial / f"seed{seed}.jsonl").read_text() for seed in range(seeds))
        finished = partial / "finished"
        shutil.rmtree(finished, ignore_errors=True)
        finished.mkdir()
        save_tier(finished, config, weights, {"history.jsonl": history, "README.md": card(config, seeds)})
        if final.exists():  # aside first: at no moment is there neither
            final.rename(partial / "replaced")
        finished.rename(final)
    shutil.rmtree(partial, ignore_errors=True)
    return config


def _settled(
    recipe: Recipe, partial: Path, seeds: int, minutes: float | None, chunks: int | None, workers: int, threads: int
) -> Recipe:
    """The recipe with its length; an unfinished training's own when it is the same otherwise."""
    asked = {
        "recipe": json.loads(json.dumps(asdict(recipe) | {"chunks": 0})),
        "seeds": seeds,
        "minutes": minutes,
        "chunks": chunks,
    }
    plan = partial / "plan.json"
    if plan.exists():
        begun = json.loads(plan.read_text())
        differ = [key for key in asked if begun["asked"].get(key) != asked[key]]
        if differ:
            raise ModelError(
                f"{partial} holds an unfinished training with other settings ({', '.join(differ)}: "
                f"{begun['asked'].get(differ[0])!r:.60} there); repeat those, or --force to start over"
            )
        length = begun["chunks"]
    else:
        rounds = -(-seeds // workers)
        span = (MINUTES[recipe.tier] if minutes is None else minutes) / rounds
        length = chunks or plan_chunks(recipe, span, workers, threads)
        write_file(plan, json.dumps({"asked": asked, "chunks": length}).encode())
    return Recipe(**{**recipe.__dict__, "chunks": length})


@contextmanager
def _reporting(folder: Path, seeds: int, report: Callable[[list[dict[str, Any]]], None] | None) -> Iterator[None]:
    """Tell the members' newest records about once a second while they train, perhaps in other processes."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(1.0):
            histories = [folder / f"seed{seed}.jsonl" for seed in range(seeds)]
            records = [_records(path) for path in histories if path.exists()]
            if report:
                report([known[-1] for known in records if known])

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _expert(architecture: Architecture, content: bytes) -> Expert:
    expert = Expert(architecture)
    expert.load_state_dict(unpack(content, "fresh weights"))
    return expert.eval().requires_grad_(False)
