"""Training one tier's experts, seed by seed, with checkpoints; work is counted in chunks of fresh codes (`recipes`)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from .._arguments import real, whole
from .._io import make_folder
from ..errors import ModelError, brief
from ..groups import RULE, TIERS, group_name
from ..numerics.jit import thread_count
from .batches import UNDECIDED, Batch, Recipe, chunk, recipes_of
from .checkpoints import (
    FORMAT,
    FRESH,
    Report,
    Stage,
    device_of,
    in_stages,
    pack_checkpoint,
    records,
    restore,
    share_out,
    span,
)
from .model_card import SEARCHES, expected_seconds, finish, groups_measured, held_out, provenance
from .model_store import MOST_SEEDS, VIEWS, architecture_config, pack, settled, unpack, workshop
from .network import Architecture, Expert, Reading, combined
from .torch_threads import on_threads

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
        errors[group_name(group)] = float(np.mean((predicted - log2_h) ** 2))
    return {"macro": float(np.mean(list(errors.values()))), **errors}


def _moving_average(most: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average of weights whose memory grows with training, up to 1 / (1 - most) steps."""

    def average(means: list[Tensor], new: list[Tensor], seen: Tensor | int) -> None:
        decay = min(most, (1.0 + float(seen)) / (10.0 + float(seen)))
        torch._foreach_lerp_(means, new, 1.0 - decay)

    return torch.no_grad()(average)


@dataclass(frozen=True)
class Member:
    """One network to train: for a view ("seed" or "search"), from a seed, on so many threads of a device."""

    recipe: Recipe
    view: str
    seed: int
    threads: int
    device: str
    share: float = 1.0  # of the codes that validate


@lru_cache(maxsize=4)
def _known(tier: str, architecture: Architecture, count: int) -> list[Any]:
    return list(held_out("validate", tier, architecture, count, threads=1))


def advance(task: tuple[Member, Stage]) -> Stage:
    """Train a member from where it stands for `span` seconds, or to its end."""
    return on_threads(task[0].threads, _advanced, *task)


def _advanced(member: Member, stage: Stage) -> Stage:
    recipe, seed, threads, device = member.recipe, member.seed, member.threads, member.device
    with FRESH:
        torch.manual_seed(seed)
        expert = Expert(recipe.architecture)
    if stage.checkpoint is None:
        expert.standardise(chunk(recipe, seed, 0, threads)[0])
    expert.to(device)
    mean = AveragedModel(expert, multi_avg_fn=_moving_average(recipe.average))
    optimizer = torch.optim.AdamW(expert.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    state = {"done": 0.0, "minutes": 0.0, "errors": 0.0, "steps": 0.0}
    if stage.checkpoint is not None:
        state = restore(stage.checkpoint, expert, mean, optimizer)
    done, spent, measured = int(state["done"]), state["minutes"], list(stage.records)
    every = max(1, recipe.chunks // 20)
    began, seconds = time.monotonic(), span(spent)
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(chunk, recipe, seed, done, threads) if done < recipe.chunks else None
        while coming is not None:
            whole = coming.result()
            more = done + 1 < recipe.chunks and time.monotonic() - began < seconds
            coming = ahead.submit(chunk, recipe, seed, done + 1, threads) if more else None
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
                state["errors"] += error.item()
                state["steps"] += 1
            done += 1
            minutes = spent + (time.monotonic() - began) / 60
            if done % every == 0 or done == recipe.chunks:
                mean.eval()
                count = max(1, round(member.share * (VALIDATED_SEARCHES if member.view == "search" else VALIDATED)))
                known = _known(recipe.tier, recipe.architecture, count)
                record: dict[str, Any] = {"view": member.view, "seed": seed, "chunk": done, "chunks": recipe.chunks}
                record["minutes"] = round(minutes, 2)
                record["train"] = state["errors"] / state["steps"] if state["steps"] else None
                record["validation"] = validate(cast(Expert, mean.module), known)
                measured.append(record)
                state["errors"] = state["steps"] = 0.0
            state |= {"done": done, "minutes": minutes}
    over = done >= recipe.chunks
    weights = pack(mean.module.state_dict()) if over else None
    state["measured"] = len(measured)
    return Stage(done, pack_checkpoint(expert, mean, optimizer, **state), tuple(measured), weights)


VALIDATED, VALIDATED_SEARCHES = 1500, 100
"""Codes a group that validate, in every process anew."""

TRIAL = 5.0
"""Seconds."""

STARTING = 20.0
"""Seconds that trials and the start of workers take."""

HELD_OUT = 0.4
"""Share of the time, at most, that goes into held-out codes: validation, calibration and figures."""

FEWEST = 1 / 20
"""Share of the held-out codes, at least, however short the time."""


@dataclass(frozen=True)
class Plan:
    """How the time is spent: seconds of training and of what follows, and the share of the held-out codes."""

    training: float
    ending: float
    share: float


def plan_time(seconds: float, scanned: float, searched: float, processes: int) -> Plan:
    """Divide the time.

    Args:
        seconds: all there is.
        scanned, searched: seconds that the end takes with all held-out codes, see `cards.expected_seconds`.
        processes: that train side by side, each with validation codes of its own.
    """
    validation = processes * searched * VALIDATED_SEARCHES / (2 * SEARCHES)
    share = min(1.0, max(FEWEST, HELD_OUT * seconds / (scanned + searched + validation)))
    ending = share * (scanned + searched)
    training = max(seconds - STARTING - share * validation - ending, seconds / 4)
    return Plan(training, ending, share)


FEWEST_CHUNKS = 2
"""Of a network; fewer do not train it, so there is a least time for each tier and machine."""


def plan_chunks(recipe: Recipe, minutes: float, workers: int, threads: int) -> tuple[int, float]:
    """How many chunks fit into that many minutes, and the seconds of one, from a short trial on this machine."""
    each = on_threads(threads, _seconds_a_chunk, recipe, threads)
    # the trial had the machine to itself; members side by side share its cores, caches and memory
    crowded = 1.2 * max(1.0, workers * threads / thread_count(None)) if workers > 1 else 1.0
    return max(FEWEST_CHUNKS, int(60.0 * minutes / (each * crowded))), each * crowded


def _seconds_a_chunk(recipe: Recipe, threads: int) -> float:
    trial = Expert(recipe.architecture)
    optimizer = torch.optim.AdamW(trial.parameters())
    chunk(recipe, 0, 0, threads)  # compiles
    start = time.monotonic()
    trials = 0
    while trials < 1 or time.monotonic() - start < TRIAL:
        trials += 1
        whole = chunk(recipe, 0, trials, threads)
        for at in range(0, len(whole[0]), recipe.batch):
            tokens, low, high, width, target = (part[at : at + recipe.batch] for part in whole)
            optimizer.zero_grad()
            loss(trial, (tokens, low, high, width, target))[0].backward()
            optimizer.step()
    return (time.monotonic() - start) / trials


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
    report: Report | None = None,
) -> dict[str, Any]:
    """Train a tier's seed ensemble and put it into a model set.

    Args:
        tier: one of `tiers.TIERS`.
        models: folder of the model set; the tier goes to models / tier.
        seeds: ensemble members, trained independently and side by side, by the workers at hand (`jobs.workers`).
        minutes: the whole time on this machine, calibration and figures included; default that of `tiers.RULES`. Where
            it is short fewer codes are held out, and a quarter of it at least is training.
        chunks: length of training in chunks instead: the same weights on the same machine, all held-out codes.
        architecture: default Architecture().
        device: "auto" (a GPU when there is one), "cpu" or "cuda".
        force: replace a finished tier, drop an unfinished one.
        report: told every 20 seconds or so how many chunks of all are done, and the newest record of each member;
            before that, where minutes count, a record of what is "expected"; at last, with a record of what is "doing",
            how many groups of held-out codes are measured, of how many.

    Returns:
        The config of the finished tier and, as "metrics", its held-out figures.

    Raises:
        ModelError: the tier exists (and not force), or an unfinished training has other settings.
    """
    if tier not in TIERS:
        raise ModelError(f"tier must be one of {', '.join(TIERS)}, got {brief(tier)}")
    seeds = whole("seeds", seeds, 1, MOST_SEEDS, error=ModelError)
    minutes = None if minutes is None else real("minutes", minutes, 0.0, math.inf, error=ModelError)
    chunks = None if chunks is None else whole("chunks", chunks, 2, error=ModelError)
    device = device_of(device)
    who = {f"{view}{seed}": (view, seed) for view in VIEWS for seed in range(seeds)}
    with workshop(models / tier, force) as partial:
        workers, threads = share_out(len(who))
        plan, threads, device, times = _settled(
            recipes_of(tier, architecture), partial, seeds, minutes, chunks, workers, threads, device
        )
        if report is not None and times.ending:
            report(0, sum(recipe.chunks for recipe in plan.values()) * seeds, [{"expected": _in_words(times)}])
        members = {
            name: Member(plan[view], view, seed, threads, device, times.share) for name, (view, seed) in who.items()
        }
        lengths = {name: member.recipe.chunks for name, member in members.items()}
        trained = in_stages(advance, members, lengths, partial, unit="chunk", jobs=workers, report=report)
        weights = {view: [w for (v, _), w in zip(who.values(), trained, strict=True) if v == view] for view in VIEWS}
        experts = {view: [expert_of(plan[view].architecture, content) for content in weights[view]] for view in VIEWS}
        settings = {
            view: {
                "architecture": architecture_config(plan[view].architecture),
                "recipe": {key: value for key, value in asdict(plan[view]).items() if key != "architecture"},
            }
            for view in VIEWS
        }
        config: dict[str, Any] = {"tier": tier, **settings["seed"], "search": settings["search"]}
        minutes_each = [records(partial / f"{name}.jsonl")[-1]["minutes"] for name in who]
        config["trained_minutes"] = round(sum(minutes_each) / workers, 1)  # resumed or not
        config["provenance"] = provenance() | {"device": device}
        history = "".join((partial / f"{name}.jsonl").read_text(encoding="utf-8") for name in who)
        make_folder(partial / "finished")
        told = _ending(report, groups_measured(tier))
        return finish(partial / "finished", config, experts, weights, history, share=times.share, advance=told)


def _ending(report: Report | None, total: int) -> Callable[[int], None]:
    """Tells `report` how many of the groups are measured."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if report is not None:
            report(min(done, total), total, [{"doing": "calibrating and measuring"}])

    advance(0)
    return advance


def _in_words(times: Plan) -> str:
    training, ending = times.training / 60, times.ending / 60
    return f"about {training:.1f} min of training, then about {ending:.1f} min of calibration and card"


def _settled(
    plan: dict[str, Recipe],
    partial: Path,
    seeds: int,
    minutes: float | None,
    chunks: int | None,
    workers: int,
    threads: int,
    device: str,
) -> tuple[dict[str, Recipe], int, str, Plan]:
    """The recipes with their lengths, threads, device, how the time is spent: an unfinished training's own, if it is
    the same otherwise."""
    asked = {
        "recipes": {view: asdict(recipe) for view, recipe in plan.items()},
        "seeds": seeds,
        "minutes": minutes,
        "chunks": chunks,
        "checkpoints": FORMAT,
        "plan": 2,  # of the time, as what is decided is kept
    }

    def decide() -> dict[str, Any]:
        if chunks is not None:
            times, lengths = Plan(0.0, 0.0, 1.0), dict.fromkeys(plan, chunks)
        else:
            rule = RULE[plan["seed"].tier]
            ending = expected_seconds(rule.name, plan["seed"].architecture, plan["search"].architecture)
            times = plan_time(60.0 * (rule.minutes if minutes is None else minutes), *ending, workers)
            shares = {"seed": rule.scanned, "search": 1.0 - rule.scanned}
            spans = {view: times.training / 60 * share * workers / seeds for view, share in shares.items()}
            found = {view: plan_chunks(recipe, spans[view], workers, threads) for view, recipe in plan.items()}
            lengths = {view: count for view, (count, _) in found.items()}
            # what it will take, which is more than what was asked for where that is less than FEWEST_CHUNKS take
            times = replace(times, training=sum(count * each for count, each in found.values()) * seeds / workers)
        return {"chunks": lengths, "threads": threads, "device": device, "times": asdict(times)}

    decided = settled(partial, asked, decide)
    recipes = {view: replace(recipe, chunks=decided["chunks"][view]) for view, recipe in plan.items()}
    return recipes, decided["threads"], device_of(decided["device"]), Plan(**decided["times"])


def expert_of(architecture: Architecture, content: bytes) -> Expert:
    expert = Expert(architecture)
    expert.load_state_dict(unpack(content, "fresh weights"))
    return expert.eval().requires_grad_(False)
