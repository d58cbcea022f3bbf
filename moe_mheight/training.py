"""Training one tier's experts, seed by seed, with checkpoints; work is counted in chunks of fresh codes (`recipes`)."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import joblib
import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from .cards import card, held_out, measure, measure_search, provenance
from .checkpoints import device_of, pack_checkpoint, records, reporting, restore
from .errors import ModelError
from .experts import Architecture, Expert, Reading, combined
from .folders import write_file
from .kernels import thread_count
from .recipes import UNDECIDED, Batch, Recipe, chunk, recipes_of
from .storage import VIEWS, architecture_config, pack, save_tier, settled, unpack, workshop
from .tiers import MINUTES, TIERS

SCANNED = {"low": 0.5, "medium": 0.4, "high": 0.3}
"""Share of that time for codes whose every set is looked at; the rest is for searches under a budget. At slack 0 and 1
nearly all brackets decide the height by themselves: there is more to learn under a budget."""


SCALE = 1e4
"""Brings squared errors of log2 h to order one, so that clipping means something."""

BEYOND_SCALE = 10.0
"""The same for what a search has missed."""

DOUBT = 0.1
"""Weight of the doubt's own loss. Its gradients reach no weight that the position depends on."""


def loss(expert: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """What training minimises, and its part that matters: the mean squared error of log2 h, in bits squared.

    Another part is the negative log-likelihood of the |error| under a Laplace law of the expert's doubt. Under a
    budget, positions learn from heights that the tokens' own bounds hold, which differ by thousandths of a bit, and
    only what is expected beyond them learns from the others, which no search has seen and nobody can place so well.
    """
    tokens, low, high, width, target = batch
    position, beyond, doubt = expert(tokens, low, high)
    error = position * width - target
    if cast(Expert, expert).architecture.open_ended:
        seen = (target <= high.amax(1).clamp(min=0.0) + UNDECIDED).to(error.dtype)
        objective = SCALE * (seen * error**2).mean()
        error = error.detach() + beyond
        objective = objective + BEYOND_SCALE * (error**2).mean()
    else:
        objective = SCALE * (error**2).mean()
    off = (error.detach() / width).abs()
    return objective + DOUBT * (doubt + off * torch.exp(-doubt)).mean(), (error**2).mean()


def validate(expert: Expert, known: list[tuple[Any, Reading, Any]]) -> dict[str, float]:
    """log2-MSE per group, over codes that need an expert and codes that do not, and their plain mean; known is what
    `held_out` gives."""
    errors = {}
    for group, reading, log2_h in known:
        predicted = reading.placed(combined([expert], reading)[0][0])
        errors[",".join(map(str, group))] = float(np.mean((predicted - log2_h) ** 2))
    return {"macro": float(np.mean(list(errors.values()))), **errors}


def _moving_average(most: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average of weights whose memory grows with training, up to 1 / (1 - most) steps."""

    def average(means: list[Tensor], new: list[Tensor], seen: Tensor | int) -> None:
        decay = min(most, (1.0 + float(seen)) / (10.0 + float(seen)))
        torch._foreach_lerp_(means, new, 1.0 - decay)

    return torch.no_grad()(average)


def train_member(recipe: Recipe, view: str, seed: int, folder: Path, threads: int, device: str, owner: int) -> bytes:
    """Train one ensemble member, resuming from its checkpoint in `folder`; returns its weights as safetensors.

    Writes VIEW + SEED + .checkpoint about every 30 seconds and appends to .jsonl what it measured. A member that trains
    in a child of the process `owner` stops when that one is gone.
    """
    is_child = os.getppid() == owner
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    expert = Expert(recipe.architecture)
    known = list(held_out("validate", recipe.tier, recipe.architecture, 100 if view == "search" else 1500))  # for all
    first = chunk(recipe, seed, 0, threads)
    expert.standardise(first[0])
    expert.to(device)
    mean = AveragedModel(expert, multi_avg_fn=_moving_average(recipe.average))
    optimizer = torch.optim.AdamW(expert.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    saved, history = folder / f"{view}{seed}.checkpoint", folder / f"{view}{seed}.jsonl"
    done = restore(saved.read_bytes(), expert, mean, optimizer) if saved.exists() else 0
    spent = 0.0
    if history.exists():  # what was measured after the checkpoint will be measured again
        kept = [record for record in records(history) if record["chunk"] <= done]
        spent = kept[-1]["minutes"] if kept else 0.0
        write_file(history, "".join(json.dumps(record) + "\n" for record in kept).encode())
    every = max(1, recipe.chunks // 20)
    began = last_saved = time.monotonic()
    running = []
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
                share = (done + start / len(whole[0])) / recipe.chunks
                rate = recipe.rate * min(1.0, 0.01 + share / recipe.warmup) * (1 + math.cos(math.pi * share)) / 2
                for parameters in optimizer.param_groups:
                    parameters["lr"] = rate
                tokens, low, high, width, target = (p[start : start + recipe.batch].to(device) for p in whole)
                objective, error = loss(expert, (tokens, low, high, width, target))
                optimizer.zero_grad()
                objective.backward()
                torch.nn.utils.clip_grad_norm_(expert.parameters(), recipe.clip)
                optimizer.step()
                mean.update_parameters(expert)
                running.append(error.item())
            done += 1
            if done % every == 0 or done == recipe.chunks:
                mean.eval()
                record: dict[str, Any] = {
                    "view": view,
                    "seed": seed,
                    "chunk": done,
                    "chunks": recipe.chunks,
                    "minutes": round(spent + (time.monotonic() - began) / 60, 2),
                    "train": float(np.mean(running)) if running else None,
                }
                record["validation"] = validate(cast(Expert, mean.module), known)
                running = []
                with open(history, "a") as out:
                    out.write(json.dumps(record) + "\n")
            if time.monotonic() - last_saved > 30 or done == recipe.chunks:
                write_file(saved, pack_checkpoint(expert, mean, optimizer, done))
                last_saved = time.monotonic()
    return pack(mean.module.state_dict())


TRIAL = 5.0
"""Seconds."""


def plan_chunks(recipe: Recipe, minutes: float, workers: int, threads: int) -> int:
    """How many chunks fit into that many minutes, from a short trial on this machine."""
    torch.set_num_threads(threads)
    trial = Expert(recipe.architecture)
    optimizer = torch.optim.AdamW(trial.parameters())
    chunk(recipe, 0, 0, threads)  # compiles
    start = time.monotonic()
    trials = 0
    while trials < 3 or time.monotonic() - start < TRIAL:
        trials += 1
        whole = chunk(recipe, 0, trials, threads)
        for at in range(0, len(whole[0]), recipe.batch):
            tokens, low, high, width, target = (part[at : at + recipe.batch] for part in whole)
            optimizer.zero_grad()
            loss(trial, (tokens, low, high, width, target))[0].backward()
            optimizer.step()
    each = (time.monotonic() - start) / trials
    # the trial had the machine to itself; members side by side share its cores, caches and memory
    crowded = 1.2 * max(1.0, workers * threads / thread_count(None)) if workers > 1 else 1.0
    return max(2, int(60.0 * minutes / (each * crowded)))


def train_tier(
    tier: str,
    models: Path,
    *,
    seeds: int = 3,
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
        The config of the finished tier and, as "metrics", its held-out figures.

    Raises:
        ModelError: the tier exists (and not force), or an unfinished training has other settings.
    """
    if tier not in TIERS:
        raise ModelError(f"tier must be one of {', '.join(TIERS)}, got {tier!r}")
    if seeds < 1:
        raise ModelError(f"seeds must be at least 1, got {seeds}")
    device = device_of(device)
    workers = min(seeds, 2 * thread_count(None))  # side by side, even if they share cores: no core is ever idle
    threads = max(1, thread_count(None) // workers)
    members = [(view, seed) for view in VIEWS for seed in range(seeds)]
    before = torch.get_num_threads()
    with workshop(models / tier, force) as partial:
        plan = _settled(recipes_of(tier, architecture), partial, seeds, minutes, chunks, workers, threads)
        with reporting([partial / f"{view}{seed}.jsonl" for view, seed in members], report):
            trained = joblib.Parallel(n_jobs=workers)(
                joblib.delayed(train_member)(plan[view], view, seed, partial, threads, device, os.getpid())
                for view, seed in members
            )
        torch.set_num_threads(before)
        weights = {view: [w for (v, _), w in zip(members, trained, strict=True) if v == view] for view in VIEWS}
        experts = {view: [expert_of(plan[view].architecture, content) for content in weights[view]] for view in VIEWS}
        settings = {
            view: {
                "architecture": architecture_config(plan[view].architecture),
                "recipe": {key: value for key, value in asdict(plan[view]).items() if key != "architecture"},
            }
            for view in VIEWS
        }
        config: dict[str, Any] = {"tier": tier, **settings["seed"], "search": settings["search"]}
        minutes_each = [records(partial / f"{view}{seed}.jsonl")[-1]["minutes"] for view, seed in members]
        config["trained_minutes"] = round(sum(minutes_each) / workers, 1)  # resumed or not
        config["provenance"] = provenance() | {"device": device}
        config["calibration"], metrics = measure(tier, plan["seed"].architecture, experts["seed"])
        found, metrics["search"] = measure_search(tier, experts["search"])
        config["search"] |= found
        history = "".join((partial / f"{view}{seed}.jsonl").read_text() for view, seed in members)
        finished = partial / "finished"
        finished.mkdir()
        texts = {"history.jsonl": history, "metrics.json": json.dumps(metrics, indent=1) + "\n"}
        save_tier(finished, config, weights, texts | {"README.md": card(config, metrics, seeds)})
    return config | {"metrics": metrics}


def _settled(
    plan: dict[str, Recipe],
    partial: Path,
    seeds: int,
    minutes: float | None,
    chunks: int | None,
    workers: int,
    threads: int,
) -> dict[str, Recipe]:
    """The recipes with their lengths; an unfinished training's own when they are the same otherwise."""
    asked = {
        "recipes": {view: asdict(recipe) for view, recipe in plan.items()},
        "seeds": seeds,
        "minutes": minutes,
        "chunks": chunks,
    }

    def decide() -> dict[str, int]:
        lengths = {}
        for view, recipe in plan.items():
            share = SCANNED[recipe.tier] if view == "seed" else 1.0 - SCANNED[recipe.tier]
            span = (MINUTES[recipe.tier] if minutes is None else minutes) * share * workers / seeds
            lengths[view] = chunks or plan_chunks(recipe, span, workers, threads)
        return lengths

    lengths = settled(partial, asked, decide)
    return {view: replace(recipe, chunks=lengths[view]) for view, recipe in plan.items()}


def expert_of(architecture: Architecture, content: bytes) -> Expert:
    expert = Expert(architecture)
    expert.load_state_dict(unpack(content, "fresh weights"))
    return expert.eval().requires_grad_(False)
