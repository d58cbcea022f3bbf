"""A table of recipes, each trained with several seeds on the same data for the same number of codes, and compared.

Every run (a row and a seed) is a file of its own, so that an interrupted table goes on where it stopped, and the same
row with the same seed gives the same figures on one machine, whatever else runs: one thread, one process each.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moe_mheight._io import locked, sweep, write_file
from moe_mheight._parallel import each
from moe_mheight.data.code_files import Group
from moe_mheight.errors import DataError, brief
from moe_mheight.experts import training as bracket
from moe_mheight.experts.batches import Recipe
from moe_mheight.experts.checkpoints import in_stages
from moe_mheight.experts.network import code_features, combined
from moe_mheight.experts.torch_threads import on_threads
from moe_mheight.groups import TIERS, tier_of
from moe_mheight.raw.data import Part, Parts, Split, of_scope, prepared
from moe_mheight.raw.models import RawTier
from moe_mheight.raw.monitor import figures, ratio
from moe_mheight.raw.recipe import as_json
from moe_mheight.raw.training import WATCHED, Member, advance, fingerprint

from .rows import FULL_SIZE, Row, stem

FORMAT = "moe_mheight ablation 1"


def run_table(
    table: tuple[Row, ...],
    data: Split,
    folder: Path,
    *,
    seeds: int = 3,
    jobs: int = -1,
    train: bool = True,
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Train and measure every row with every seed; runs that are in the folder already are not run again.

    Args:
        table: rows.
        data: from `data.divide`.
        folder: one file a run, and what unfinished ones need to go on.
        seeds: runs per row.
        jobs: runs side by side, each on one thread, where no workers were named (`_parallel.workers`).
        train: without, nothing is run, and rows that are not finished are left out.
        tell: gets the figures of each run that is done, those found in the folder first.

    Returns:
        "rows" as `summary` gives them, and what they were made with.

    Raises:
        FolderError: another process is at work in the folder.
        DataError: nothing is finished (and not train).
    """
    for row in table:
        missing_tiers = {*TIERS} - {tier_of(*group) for group in data.groups}
        if missing_tiers and (row.scope == "tiers" or row.view == "bracket"):
            raise DataError(f"row {brief(row.name)} needs all tiers, the data have no group of {min(missing_tiers)}")
    prints = {side: fingerprint(getattr(data, side)) for side in ("training", "validation")}
    work = [(row, seed) for row in table for seed in range(seeds)]
    folder.mkdir(parents=True, exist_ok=True)
    found = {(row.name, seed): _known(folder, row, seed, prints) for row, seed in work}
    for done in found.values():
        if done:
            tell(done)
    missing = [(row, seed) for row, seed in work if not found[row.name, seed]]
    if train and missing:
        with locked(folder):
            sweep(folder)
            # the long ones first, so that no core waits for a last one
            missing.sort(key=lambda task: -_effort(task[0]))
            work_on = partial(run, data=data, folder=folder.absolute(), prints=prints)
            for number, (done, predicted) in each(work_on, missing, jobs):
                _keep(folder, *missing[number], done, predicted)
                found[missing[number][0].name, missing[number][1]] = done
                tell(done)
    rows = [(row, [found[row.name, seed] for seed in range(seeds)]) for row in table]
    summaries = [summary(row, runs, folder, data.validation) for row, runs in rows if all(runs)]
    if not summaries:
        raise DataError(f"no row in {folder} is finished with {seeds} seeds")
    return {"format": FORMAT, "data": prints, "seeds": seeds, "rows": summaries}


def _effort(row: Row) -> float:
    heavy = {"gated": 3.0, "symmetric": 4.0}.get(str(row.settings.get("network")), 1.0)
    return heavy + 0.3 * int(row.settings.get("views", 1))


def _stem(row: Row, seed: int) -> str:
    return f"{stem(row.name)}.{seed}"


def _settings(row: Row, prints: dict[str, str]) -> dict[str, Any]:
    settings = as_json(row.recipe) if row.view == "raw" else row.settings
    return {"settings": settings, "originals": row.originals, "scope": row.scope, "view": row.view, "data": prints}


def _known(folder: Path, row: Row, seed: int, prints: dict[str, str]) -> dict[str, Any] | None:
    """A finished run with the same settings and data."""
    path = folder / f"{_stem(row, seed)}.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        predicted = np.load(path.with_suffix(".npy"))
        fine = predicted.ndim == 1 and {"train", "validation", "gap", "minutes"} <= set(known)
        same = known["asked"] == json.loads(json.dumps(_settings(row, prints)))
        fine = fine and "macro" in known["validation"] and "groups" in known["validation"]
    except (OSError, ValueError, TypeError, KeyError, EOFError, AttributeError):  # damaged: to be run again
        return None
    return known if fine and same else None


def run(
    task: tuple[Row, int], data: Split, folder: Path, prints: dict[str, str]
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """One run: trained and measured; its figures, and its predictions on the validation side.

    What it needs to go on after an interruption is in the folder; a machine that does not see the folder does without.
    """
    return on_threads(1, _run, *task, data, folder, prints)


def _run(
    row: Row, seed: int, data: Split, folder: Path, prints: dict[str, str]
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    training = tuple(Part(p.group, p.P[: row.originals], p.log2_h[: row.originals]) for p in data.training)
    settings = json.loads(json.dumps(_settings(row, prints)))
    with ExitStack() as stack:
        if not folder.is_dir():
            folder = Path(stack.enter_context(TemporaryDirectory()))
        work = _unfinished(folder, row, seed)
        plan = work / "plan.json"
        if not plan.exists() or plan.read_bytes() != json.dumps(settings).encode():
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            write_file(plan, json.dumps(settings).encode())
        train_on = _bracket if row.view == "bracket" else _raw
        predicted, seen, minutes = train_on(row, seed, training, data.validation, work)
    record = {"train": figures(seen), "validation": figures(_errors(predicted, data.validation))}
    done = {"row": row.name, "seed": seed, "asked": settings, "minutes": minutes}
    return done | record | {"gap": ratio(record)}, np.concatenate([predicted[p.group] for p in data.validation])


def _unfinished(folder: Path, row: Row, seed: int) -> Path:
    return folder / f"{_stem(row, seed)}.unfinished"


def _keep(folder: Path, row: Row, seed: int, done: dict[str, Any], predicted: NDArray[np.float64]) -> None:
    """Predictions first, so that no figures ever speak of others."""
    path = folder / f"{_stem(row, seed)}.json"
    path.unlink(missing_ok=True)
    content = io.BytesIO()
    np.save(content, predicted)
    write_file(path.with_suffix(".npy"), content.getvalue())
    write_file(path, json.dumps(done).encode())
    shutil.rmtree(_unfinished(folder, row, seed), ignore_errors=True)


Predicted = dict[Group, NDArray[np.float64]]


def _errors(predicted: Predicted, parts: Parts) -> Predicted:
    return {part.group: predicted[part.group] - part.log2_h for part in parts}


def _raw(row: Row, seed: int, training: Parts, validation: Parts, work: Path) -> tuple[Predicted, Predicted, float]:
    """log2 heights of the validation side, errors on the training side, and core-minutes of training."""
    predicted: Predicted = {}
    seen: Predicted = {}
    minutes = 0.0
    for scope in TIERS if row.scope == "tiers" else ("all",):
        originals, held = of_scope(training, scope), of_scope(validation, scope)
        place = work / scope
        recipe = row.recipe
        device = "cuda" if row.name == FULL_SIZE.name and torch.cuda.is_available() else "cpu"
        began = time.process_time()
        member = Member(recipe, prepared(originals, recipe), originals, held, seed, 1, device)
        content = _trained(advance, member, recipe.epochs, _sub(place), "epoch")
        minutes += (time.process_time() - began) / 60
        tier = RawTier.of({"recipe": as_json(recipe), "groups": [list(part.group) for part in originals]}, [content])
        predicted |= {part.group: tier.members(part.P, part.group)[0] for part in held}
        seen |= {p.group: tier.members(p.P[:WATCHED], p.group)[0] - p.log2_h[:WATCHED] for p in originals}
    return predicted, seen, minutes


def _trained(work: Any, member: Any, length: int, folder: Path, unit: str) -> bytes:
    """A member's weights, by this process alone."""
    (content,) = in_stages(work, {"member": member}, {"member": length}, folder, unit=unit, jobs=0)
    return content


def _sub(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _bracket(row: Row, seed: int, training: Parts, validation: Parts, work: Path) -> tuple[Predicted, Predicted, float]:
    """The same for experts of the bracket view, which make their own codes to train on."""
    predicted: Predicted = {}
    seen: Predicted = {}
    minutes = 0.0
    for tier in TIERS:
        recipe = Recipe(tier=tier, chunks=int(row.settings["chunks"]))
        began = time.process_time()
        place = _sub(work / tier)
        content = _trained(
            bracket.advance, bracket.Member(recipe, "seed", seed, 1, "cpu"), recipe.chunks, place, "chunk"
        )
        minutes += (time.process_time() - began) / 60
        expert = bracket.expert_of(recipe.architecture, content)
        for side, parts in (("seen", training), ("held", validation)):
            for part in (p for p in parts if tier_of(*p.group) == tier):
                P = part.P[:WATCHED] if side == "seen" else part.P
                features = code_features(P, part.group[2], recipe.architecture, 1)
                log2_h = features.log2_heights(combined([expert], features, 1)[0][0])
                if side == "held":
                    predicted[part.group] = log2_h
                else:
                    seen[part.group] = log2_h - part.log2_h[:WATCHED]
    return predicted, seen, minutes


def predictions(folder: Path, row: Row, seeds: int, validation: Parts) -> Predicted:
    """log2 heights of the ensemble of a finished row's runs."""
    each = np.stack([np.load(folder / f"{_stem(row, seed)}.npy") for seed in range(seeds)])
    mean = each.astype(np.float64).mean(axis=0)
    ends = np.cumsum([len(part.P) for part in validation])
    if len(mean) != ends[-1]:
        raise DataError(f"the predictions of {row.name} in {folder} are of other data; remove the folder")
    return {part.group: piece for part, piece in zip(validation, np.split(mean, ends[:-1]), strict=True)}


def summary(row: Row, runs: list[Any], folder: Path, validation: Parts) -> dict[str, Any]:
    """A row's figures over its seeds: means, spreads, and those of the ensemble of all seeds."""
    macros = [done["validation"]["macro"] for done in runs]
    mean = {
        g: float(np.mean([done["validation"]["groups"][g] for done in runs])) for g in runs[0]["validation"]["groups"]
    }
    gaps = [done["gap"] for done in runs if done["gap"] is not None]
    best, worst = min(mean, key=lambda g: mean[g]), max(mean, key=lambda g: mean[g])
    together = figures(_errors(predictions(folder, row, len(runs), validation), validation))
    return {
        "name": row.name,
        "part": row.part,
        "against": row.against,
        "expected": row.expected,
        "originals": row.originals,
        "scope": row.scope,
        "view": row.view,
        "settings": row.settings,
        "macros": macros,
        "macro": float(np.mean(macros)),
        "spread": float(np.std(macros, ddof=1)) if len(macros) > 1 else 0.0,
        "ensemble": together["macro"],
        "ensemble_groups": together["groups"],
        "groups": mean,
        "best": [best, mean[best]],
        "worst": [worst, mean[worst]],
        "gap": float(np.mean(gaps)) if gaps else None,
        "minutes": float(np.mean([done["minutes"] for done in runs])),
    }
