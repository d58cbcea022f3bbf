"""Training raw-view networks: one member for one seed, readable top to bottom, and the ensemble of a tier."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._arguments import whole
from ..data.code_files import Group
from ..errors import ModelError, brief
from ..experts.checkpoints import (
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
from ..experts.model_store import MOST_SEEDS, pack, plan_once, staging_folder
from ..experts.provenance import provenance
from ..experts.torch_threads import on_threads
from ..groups import TIERS, tier_of
from .data import Part, Parts, Split, of_scope, prepared, shown
from .models import RawTier, answers, save
from .monitor import figures, ratio, roughness
from .networks import Codes, Network, build
from .recipe import SCOPES, RawRecipe, as_json

CLIP = 1.0
"""Largest norm of a gradient."""

WARMUP = 0.02
"""Share of the training over which the learning rate rises."""

WATCHED = 500
"""Training codes per group that every epoch is measured on, as they are in the file."""

Errors = dict[Group, NDArray[np.float64]]


def learning_rate(recipe: RawRecipe, share: float) -> float:
    """The learning rate when that share of the training is done."""
    warm = min(1.0, 0.02 + share / WARMUP)
    cosine = (1.0 + math.cos(math.pi * min(share, 1.0))) / 2.0
    return recipe.rate * warm * (cosine if recipe.schedule == "cosine" else 1.0)


def tiers_shown(recipe: RawRecipe, share: float) -> tuple[int, tuple[str, ...]]:
    """The curriculum's phase, from 1, and its tiers when that share of the training is done; without one all."""
    end = 0.0
    for number, (length, tiers) in enumerate(recipe.curriculum, 1):
        end += length
        if share < end - 1e-9 or number == len(recipe.curriculum):
            return number, tiers
    return 1, TIERS


def loss_weights(recipe: RawRecipe, parts: Parts) -> Tensor:
    """Of each group, of mean 1 over the codes, so that the table shifts attention and not the learning rate."""
    table = {(k, m): float(weight) for k, m, weight in recipe.weights}
    weights = np.array([table.get(part.group[1:], 1.0) for part in parts])
    counts = np.array([len(part.P) for part in parts])
    mean = (weights * counts).sum() / counts.sum()
    if not mean > 0:
        raise ModelError("the loss weights of all groups trained on are 0")
    return torch.from_numpy(weights / mean).float()


def penalty(network: Network) -> Tensor:
    """Sum of the squares of all matrices of weights."""
    return torch.stack([(p**2).sum() for p in network.parameters() if p.ndim > 1]).sum()


def _measured(network: Network, parts: Parts) -> Errors:
    # one form: every epoch is measured, and only the end counts
    return {part.group: answers(network, part.P, part.group, 1) - part.log2_h for part in parts}


class Epoch:
    """The codes of one epoch, read and shuffled: the same for the same seed and number, whatever went before."""

    def __init__(self, network: Network, parts: Parts, recipe: RawRecipe, seed: int, number: int) -> None:
        rng = np.random.default_rng([seed, number])
        share = number / recipe.epochs
        self.phase, tiers = tiers_shown(recipe, share)
        numbers = [i for i, part in enumerate(parts) if tier_of(*part.group) in tiers] or list(range(len(parts)))
        self.read = [network.read(P) for P in shown(tuple(parts[i] for i in numbers), recipe, rng)]
        self.log2_h = [parts[i].log2_h.astype(np.float32) for i in numbers]
        counts = [len(parts[i].P) for i in numbers]
        self.number = np.repeat(numbers, counts)
        row = np.concatenate([np.arange(count) for count in counts])
        self.rows = np.stack([np.repeat(np.arange(len(numbers)), counts), row], axis=1)
        self.shuffle(rng, recipe.per_epoch or len(self.rows))

    def shuffle(self, rng: np.random.Generator, wanted: int) -> None:
        """Put that many codes in random order, each as often as the others, or once more."""
        rounds = -(-wanted // len(self.rows))
        self.order = np.concatenate([rng.permutation(len(self.rows)) for _ in range(rounds)])[:wanted]

    def batches(self, size: int, one_length: bool) -> Iterator[tuple[Codes, Tensor]]:
        """Batches of codes and log2 h; of one length n each where the network wants that."""
        lengths = np.array([len(x[0]) for x in self.read])[self.rows[:, 0]] if one_length else np.zeros(len(self.rows))
        for start in range(0, len(self.order), size):
            chunk = self.order[start : start + size]
            for length in np.unique(lengths[chunk]):
                places = chunk[lengths[chunk] == length]
                at, row = self.rows[places].T
                x = np.empty((len(places), *self.read[at[0]].shape[1:]), np.float32)
                y = np.empty(len(places), np.float32)
                for i in np.unique(at):
                    x[at == i], y[at == i] = self.read[i][row[at == i]], self.log2_h[i][row[at == i]]
                yield Codes(torch.from_numpy(x), torch.from_numpy(self.number[places])), torch.from_numpy(y)

    def __len__(self) -> int:
        return len(self.order)


@dataclass(frozen=True)
class Member:
    """One network to train.

    training: codes to learn from, augmented. originals: the training side as it was, for the training figures.
    validation: codes to measure on. seed: of the weights and of every draw. threads, device: for torch.
    """

    recipe: RawRecipe
    training: Parts
    originals: Parts
    validation: Parts
    seed: int
    threads: int = 1
    device: str = "cpu"


def advance(task: tuple[Member, Stage]) -> Stage:
    """Train a member from where it stands for `span` seconds, in whole epochs, or to its end.

    All chance comes from the seed and the epoch's number, so where stages end changes no weight. With patience the
    weights are those of the best validation, of a curriculum's last phase, else the last ones.
    """
    return on_threads(task[0].threads, _advanced, *task)


def _advanced(member: Member, stage: Stage) -> Stage:
    run, began = _Run(member, stage), time.monotonic()
    minutes, seconds, epoch = run.minutes, span(run.minutes), None
    while not run.over and (epoch is None or time.monotonic() - began < seconds):
        epoch = run.epoch_after(epoch)
        loss = run.learn(epoch)
        minutes = run.minutes + (time.monotonic() - began) / 60
        run.measure(epoch, loss, minutes)
    saved = pack_checkpoint(
        run.network, run.best, run.optimizer, done=run.done, minutes=minutes, measured=len(run.records)
    )
    return Stage(run.done, saved, tuple(run.records), pack(run.best.state_dict()) if run.over else None)


class _Run:
    """A member's training, as it stands after `done` epochs that took so many minutes."""

    def __init__(self, member: Member, stage: Stage) -> None:
        self.member, self.recipe, training = member, member.recipe, member.training
        with FRESH:
            torch.manual_seed(member.seed)
            self.network = build(self.recipe, tuple(part.group for part in training))
        self.network.start([part.P for part in training], [part.log2_h for part in training])
        self.network.to(member.device)
        self.best = deepcopy(self.network)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.recipe.rate, weight_decay=self.recipe.decay
        )
        self.weights = loss_weights(self.recipe, training).to(member.device)
        self.watched = tuple(Part(part.group, part.P[:WATCHED], part.log2_h[:WATCHED]) for part in member.originals)
        state = {"done": 0.0, "minutes": 0.0}
        if stage.checkpoint is not None:
            state = restore(stage.checkpoint, self.network, self.best, self.optimizer)
        self.done, self.minutes, self.records = int(state["done"]), state["minutes"], list(stage.records)

    @property
    def over(self) -> bool:
        return self.done == self.recipe.epochs or _out_of_patience(
            _final(self.records, self.recipe), self.recipe.patience
        )

    def epoch_after(self, epoch: Epoch | None) -> Epoch:
        """The next epoch; where all show the same codes, the one before in another order."""
        recipe, seed = self.recipe, self.member.seed
        if epoch is None or recipe.orbit or recipe.jitter or recipe.curriculum:
            return Epoch(self.network, self.member.training, recipe, seed, self.done)
        return _reordered(epoch, seed, self.done)

    def learn(self, epoch: Epoch) -> float:
        """Train for one epoch: its mean loss."""
        self.network.seed_dropout(1_000_003 * (self.done + 1) + self.member.seed, self.member.device)
        self.network.train()
        losses, seen = [], 0
        for codes, log2_h in epoch.batches(self.recipe.batch, self.recipe.network == "symmetric"):
            losses.append(self._step(codes, log2_h, (self.done + seen / len(epoch)) / self.recipe.epochs))
            seen += len(log2_h)
        self.network.eval()
        self.done += 1
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            advice = f"try a lower rate than {self.recipe.rate:g}"
            raise ModelError(f"training of seed {self.member.seed} diverged in epoch {self.done}; {advice}")
        return loss

    def _step(self, codes: Codes, log2_h: Tensor, share: float) -> Tensor:
        """One step, when that share of the training is done: the weighted loss before it."""
        network, device = self.network, self.member.device
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = learning_rate(self.recipe, share)
        if network.gates() is not None:
            network.gate.requires_grad_(share >= self.recipe.gate_from)
        error = network(Codes(codes.x.to(device), codes.group.to(device))) - log2_h.to(device)
        objective = (self.weights[codes.group] * error**2).mean()
        loss = objective.detach()
        if self.recipe.l2:
            objective = objective + self.recipe.l2 * penalty(network)
        self.optimizer.zero_grad()
        objective.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        self.optimizer.step()
        return loss

    def measure(self, epoch: Epoch, loss: float, minutes: float) -> None:
        """Record what the epoch brought, and keep the weights if they are the best, or the last."""
        record: dict[str, Any] = {
            "seed": self.member.seed,
            "epoch": self.done,
            "epochs": self.recipe.epochs,
            "samples": (self.records[-1]["samples"] if self.records else 0) + len(epoch),
            "minutes": round(minutes, 3),
            "phase": epoch.phase,
            "rate": learning_rate(self.recipe, self.done / self.recipe.epochs),
            "loss": loss,
            "train": figures(_measured(self.network, self.watched)),
            "validation": figures(_measured(self.network, self.member.validation)),
        }
        record["ratio"] = ratio(record)
        record["roughness"] = roughness([known["validation"]["macro"] for known in [*self.records, record]])
        if (gates := self.network.gates()) is not None:
            record["gates"] = dict(zip(record["validation"]["groups"], gates.tolist(), strict=True))
        self.records.append(record)
        final = _final(self.records, self.recipe)
        if not self.recipe.patience or not final or final[-1] <= min(final):
            self.best.load_state_dict(self.network.state_dict())


def _final(known: list[dict[str, Any]], recipe: RawRecipe) -> list[float]:
    """Validation macros of the epochs that count for patience: those of a curriculum's last phase."""
    last = max(1, len(recipe.curriculum))
    return [record["validation"]["macro"] for record in known if record["phase"] == last]


def _out_of_patience(macros: list[float], patience: int) -> bool:
    return bool(patience and macros) and len(macros) - 1 - int(np.argmin(macros)) >= patience


def _reordered(epoch: Epoch, seed: int, number: int) -> Epoch:
    """The same codes, read already, in the order of another epoch."""
    epoch.shuffle(np.random.default_rng([seed, number]), len(epoch))
    return epoch


def fingerprint(parts: Parts) -> str:
    """SHA-256 of all codes and heights, so that a training is not resumed on other data."""
    digest = sha256()
    for part in parts:
        for array in (np.array(part.group), part.P, part.log2_h):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def train_raw(
    scope: str,
    models: Path,
    data: Split,
    *,
    recipe: RawRecipe,
    seeds: int = 3,
    device: str = "auto",
    force: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train the ensemble of one tier, or of all groups at once, on the raw view and put it into a model set.

    Args:
        scope: one of SCOPES, a tier or "all"; the ensemble goes to models / scope.
        models: folder of the model set.
        data: from `data.divide`; only the groups of the scope are used.
        recipe: all settings.
        seeds: members, trained independently and side by side, by the workers at hand (`jobs.workers`).
        device: "auto" (a GPU when there is one), "cpu" or "cuda".
        force: replace what is finished, drop what is unfinished.
        report: told every 20 seconds or so how many epochs of all are done, and the newest record of each member.

    Returns:
        The config and, as "metrics", its validation figures.

    Raises:
        ModelError: it exists (and not force), an unfinished training has other settings or other data, or diverged.
        DataError: the data hold no group of the tier.
    """
    if scope not in SCOPES:
        raise ModelError(f"tier must be one of {', '.join(SCOPES)}, got {brief(scope)}")
    seeds = whole("seeds", seeds, 1, MOST_SEEDS, error=ModelError)
    device = device_of(device)
    originals, validation = of_scope(data.training, scope), of_scope(data.validation, scope)
    with staging_folder(models / scope, force) as partial:
        prints = fingerprint(originals), fingerprint(validation)
        workers, threads = share_out(seeds)
        asked = {"recipe": as_json(recipe), "seeds": seeds, "data": prints, "checkpoints": FORMAT}
        decided = plan_once(partial, asked, lambda: {"threads": threads, "device": device})
        threads, device = decided["threads"], device_of(decided["device"])
        training = prepared(originals, recipe)
        members = {
            f"seed{seed}": Member(recipe, training, originals, validation, seed, threads, device)
            for seed in range(seeds)
        }
        histories = [partial / f"{name}.jsonl" for name in members]
        lengths = dict.fromkeys(members, recipe.epochs)
        trained = in_stages(advance, members, lengths, partial, unit="epoch", jobs=workers, report=report)
        config = {
            "scope": scope,
            "groups": [list(part.group) for part in training],
            "recipe": as_json(recipe),
            "codes": {"originals": _count(originals), "training": _count(training), "validation": _count(validation)},
            "data": {"training": prints[0], "validation": prints[1]},
            "trained_minutes": round(sum(records(path)[-1]["minutes"] for path in histories) / workers, 1),
            "provenance": provenance() | {"device": device},
        }
        tier = RawTier.of(config, trained)
        config["metrics"] = measured(tier, originals, validation)
        history = "".join(path.read_text(encoding="utf-8") for path in histories)
        save(partial / "finished", config, trained, history, tier, validation)
    return config


def _count(parts: Parts) -> int:
    return sum(len(part.P) for part in parts)


def measured(tier: RawTier, originals: Parts, validation: Parts) -> dict[str, Any]:
    """Figures of an ensemble and of its members on validation codes, of the ensemble on the first training codes."""
    each = {part.group: tier.members(part.P, part.group) - part.log2_h for part in validation}
    seen = {p.group: tier.members(p.P[:WATCHED], p.group).mean(0) - p.log2_h[:WATCHED] for p in originals}
    record = {
        "train": figures(seen),
        "validation": figures({group: errors.mean(0) for group, errors in each.items()}),
        "members": [figures({group: errors[i] for group, errors in each.items()}) for i in range(len(tier.networks))],
    }
    return record | {"gap": ratio(record), "worst_code": max(float(np.abs(e.mean(0)).max()) for e in each.values())}
