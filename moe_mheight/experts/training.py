"""Training one tier's experts, member by member, with checkpoints; work is counted in chunks of codes (`batches`)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
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
from .features import Features
from .model_card import SEARCHES, expected_seconds, finish, groups_measured, held_out
from .model_store import MOST_SEEDS, VIEWS, architecture_config, pack, plan_once, staging_folder, unpack
from .network import Architecture, Expert, combined
from .provenance import provenance
from .torch_threads import on_threads

SCALE = 1e4
"""Brings squared errors of log2 h to order one, so that clipping means something."""

GAP_SCALE = 10.0
"""The same for what a search has missed."""

ERROR_WEIGHT = 0.1
"""Weight of the error head's own loss. Its gradients reach no weight that the position depends on."""


def loss(expert: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """What training minimises, and its part that matters: the mean squared error of log2 h, in bits squared.

    Another part is the negative log-likelihood of the |error| under a Laplace law of the predicted error. Under a
    budget, positions learn from heights that the candidates' own bounds hold, which differ by thousandths of a bit, and
    only the gap of unvisited sets learns from the others, whose set no search has visited and nobody can place so well.
    """
    kept, low, high, width, target = batch
    position, unvisited_gap, log_error = expert(kept, low, high)
    error = position * width - target
    if cast(Expert, expert).architecture.open_ended:
        visited = (target <= high.amax(1).clamp(min=0.0) + UNDECIDED).to(error.dtype)
        objective = SCALE * (visited * error**2).mean()
        error = error.detach() + unvisited_gap
        objective = objective + GAP_SCALE * (error**2).mean()
    else:
        objective = SCALE * (error**2).mean()
    off = (error.detach() / width).abs()
    return objective + ERROR_WEIGHT * (log_error + off * torch.exp(-log_error)).mean(), (error**2).mean()


def validate(expert: Expert, known: list[tuple[Any, Features, Any]]) -> dict[str, float]:
    """log2-MSE per group, over codes that need an expert and codes that do not, and their plain mean; known is what
    `held_out` gives."""
    errors = {}
    for group, features, log2_h in known:
        predicted = features.log2_heights(combined([expert], features)[0][0])
        errors[group_name(group)] = float(np.mean((predicted - log2_h) ** 2))
    return {"macro": float(np.mean(list(errors.values()))), **errors}


def _moving_average(slowest: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average of weights whose memory grows with training, up to 1 / (1 - slowest) steps."""

    def average(means: list[Tensor], new: list[Tensor], seen: Tensor | int) -> None:
        decay = min(slowest, (1.0 + float(seen)) / (10.0 + float(seen)))
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


def learning_rate(recipe: Recipe, done: float) -> float:
    """Of AdamW when this share of the training is done: a linear warm-up from 1 %, times half a cosine down to 0."""
    return recipe.rate * min(1.0, 0.01 + done / recipe.warmup) * (1 + math.cos(math.pi * done)) / 2


def advance(task: tuple[Member, Stage]) -> Stage:
    """Train a member from where it stands for `span` seconds, or to its end."""
    return on_threads(task[0].threads, _advanced, *task)


class _Training:
    """A member's networks and optimizer as a stage left them, and what is counted while they train on."""

    def __init__(self, member: Member, stage: Stage) -> None:
        self.member, recipe = member, member.recipe
        with FRESH:
            torch.manual_seed(member.seed)
            self.expert = Expert(recipe.architecture)
        if stage.checkpoint is None:
            self.expert.standardise(chunk(recipe, member.seed, 0, member.threads)[0])
        self.expert.to(member.device)
        self.mean = AveragedModel(self.expert, multi_avg_fn=_moving_average(recipe.average))
        self.optimizer = torch.optim.AdamW(self.expert.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
        self.state: dict[str, Any] = {"done": 0.0, "minutes": 0.0, "errors": 0.0, "steps": 0.0}
        if stage.checkpoint is not None:
            self.state = restore(stage.checkpoint, self.expert, self.mean, self.optimizer)

    def learn(self, codes: Batch, done: int) -> None:
        """One pass over chunk number `done`."""
        recipe, state = self.member.recipe, self.state
        self.expert.train()
        for start in range(0, len(codes[0]), recipe.batch):
            rate = learning_rate(recipe, (done + start / len(codes[0])) / recipe.chunks)
            for parameters in self.optimizer.param_groups:
                parameters["lr"] = rate
            batch = [part[start : start + recipe.batch].to(self.member.device) for part in codes]
            objective, error = loss(self.expert, (batch[0], batch[1], batch[2], batch[3], batch[4]))
            self.optimizer.zero_grad()
            objective.backward()
            torch.nn.utils.clip_grad_norm_(self.expert.parameters(), recipe.clip)
            self.optimizer.step()
            self.mean.update_parameters(self.expert)
            state["errors"] += error.item()
            state["steps"] += 1

    def record(self, done: int, minutes: float) -> dict[str, Any]:
        """What is measured after so many chunks."""
        member, recipe, state = self.member, self.member.recipe, self.state
        self.mean.eval()
        count = max(1, round(member.share * (VALIDATED_SEARCHES if member.view == "search" else VALIDATED)))
        known = _known(recipe.tier, recipe.architecture, count)
        train = state["errors"] / state["steps"] if state["steps"] else None
        state["errors"] = state["steps"] = 0.0
        return {
            "view": member.view, "seed": member.seed, "chunk": done, "chunks": recipe.chunks,
            "minutes": round(minutes, 2), "train": train, "validation": validate(cast(Expert, self.mean.module), known),
        }  # fmt: skip


def _advanced(member: Member, stage: Stage) -> Stage:
    recipe = member.recipe
    training = _Training(member, stage)
    state, measured = training.state, list(stage.records)
    done, spent = int(state["done"]), state["minutes"]
    every = max(1, recipe.chunks // 20)
    began, seconds = time.monotonic(), span(spent)
    with ThreadPoolExecutor(1) as ahead:

        def prepare(number: int) -> Future[Batch]:
            return ahead.submit(chunk, recipe, member.seed, number, member.threads)

        coming = prepare(done) if done < recipe.chunks else None
        while coming is not None:
            codes = coming.result()
            more = done + 1 < recipe.chunks and time.monotonic() - began < seconds
            coming = prepare(done + 1) if more else None
            training.learn(codes, done)
            done += 1
            minutes = spent + (time.monotonic() - began) / 60
            if done % every == 0 or done == recipe.chunks:
                measured.append(training.record(done, minutes))
            state |= {"done": done, "minutes": minutes}
    weights = pack(training.mean.module.state_dict()) if done >= recipe.chunks else None
    state["measured"] = len(measured)
    content = pack_checkpoint(training.expert, training.mean, training.optimizer, **state)
    return Stage(done, content, tuple(measured), weights)


VALIDATED, VALIDATED_SEARCHES = 1500, 100
"""Codes a group that validate, in every process anew."""

TRIAL = 5.0
"""Seconds."""

STARTING = 20.0
"""Seconds that trials and the start of workers take."""

HELD_OUT = 0.4
"""Share of the time, at most, that goes into held-out codes: validation, calibration and figures."""

LEAST_SHARE = 1 / 20
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
        scanned, searched: seconds that the end takes with all held-out codes, see `model_card.expected_seconds`.
        processes: that train side by side, each with validation codes of its own.
    """
    validation = processes * searched * VALIDATED_SEARCHES / (2 * SEARCHES)
    share = min(1.0, max(LEAST_SHARE, HELD_OUT * seconds / (scanned + searched + validation)))
    ending = share * (scanned + searched)
    training = max(seconds - STARTING - share * validation - ending, seconds / 4)
    return Plan(training, ending, share)


FEWEST_CHUNKS = 2
"""Of a network; fewer do not train it, so there is a least time for each tier and machine."""


def plan_chunks(recipe: Recipe, minutes: float, workers: int, threads: int) -> tuple[int, float]:
    """How many chunks fit into that many minutes, and the seconds of one, from a short trial on this machine."""
    alone = on_threads(threads, _seconds_a_chunk, recipe, threads)
    # the trial had the machine to itself; members side by side share its cores, caches and memory
    crowded = 1.2 * max(1.0, workers * threads / thread_count(None)) if workers > 1 else 1.0
    return max(FEWEST_CHUNKS, int(60.0 * minutes / (alone * crowded))), alone * crowded


def _seconds_a_chunk(recipe: Recipe, threads: int) -> float:
    trial = Expert(recipe.architecture)
    optimizer = torch.optim.AdamW(trial.parameters())
    chunk(recipe, 0, 0, threads)  # compiles
    start = time.monotonic()
    trials = 0
    while trials < 1 or time.monotonic() - start < TRIAL:
        trials += 1
        codes = chunk(recipe, 0, trials, threads)
        for at in range(0, len(codes[0]), recipe.batch):
            kept, low, high, width, target = (part[at : at + recipe.batch] for part in codes)
            optimizer.zero_grad()
            loss(trial, (kept, low, high, width, target))[0].backward()
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
        tier: one of `groups.TIERS`.
        models: folder of the model set; the tier goes to models / tier.
        seeds: how many ensemble members, trained independently and side by side, by the workers at hand
            (`_parallel.workers`).
        minutes: the whole time on this machine, calibration and figures included; default that of `groups.RULES`. Where
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
    with staging_folder(models / tier, force) as partial:
        workers, threads = share_out(len(who))
        plan, threads, device, times = _planned(
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
        made = {
            view: {
                "architecture": architecture_config(plan[view].architecture),
                "recipe": {key: value for key, value in asdict(plan[view]).items() if key != "architecture"},
            }
            for view in VIEWS
        }
        config: dict[str, Any] = {"tier": tier, **made["seed"], "search": made["search"]}
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


def _planned(
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
    settings = {
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

    decided = plan_once(partial, settings, decide)
    recipes = {view: replace(recipe, chunks=decided["chunks"][view]) for view, recipe in plan.items()}
    return recipes, decided["threads"], device_of(decided["device"]), Plan(**decided["times"])


def expert_of(architecture: Architecture, content: bytes) -> Expert:
    expert = Expert(architecture)
    expert.load_state_dict(unpack(content, "fresh weights"))
    return expert.eval().requires_grad_(False)
