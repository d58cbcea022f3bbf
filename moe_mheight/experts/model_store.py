"""Models on disk: a folder per model set, in it a folder per tier.

    SET/low/config.json        format, architecture, training settings, calibration, provenance
    SET/low/seed0.safetensors  weights of one ensemble member (and seed1, ...)
    SET/low/search0.safetensors  of one that predicts under a budget of sets (and search1, ...)
    SET/low/long0.safetensors  of one for long codes (and long1, ..., long.json; see `long_store`)
    SET/low/metrics.json       held-out figures for each group and kind of codes
    SET/low/history.jsonl      validation figures as training went
    SET/low/README.md          the model card
    SET/low/SHA256SUMS         checksums of all the others

A tier is written to a temporary name and renamed when complete. Loading checks every checksum and every weight's name
and shape; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from .._io import locked, make_folder, restore, swap, sweep, write_file
from ..errors import FolderError, ModelError, brief
from ..groups import TIERS
from .conformal import check as check_calibration
from .long_experts import LongTier, load_long
from .network import Architecture, Expert

FORMAT = "moe_mheight tier 4"

OLD_FORMAT = "moe_mheight tier 3"
"""Still read: the same numbers, under OLD_NAMES."""

OLD_NAMES = {
    "mean": "feature_mean",
    "spread": "feature_std",
    "enter": "input_layer",
    "rounds": "blocks",
    "hear": "context_projection",
    "widen": "hidden_layer",
    "narrow": "output_projection",
    "place": "value_head",
    "free": "free_head",
    "unseen": "gap_head",
    "wonder": "error_head",
}
"""What parts of an expert's weights were called in OLD_FORMAT, and are called now."""

MOST_SEEDS = 64

SHIPPED = "default"
"""Name of the model set inside moe_mheight.models that `Predictor.load()` takes."""


def shipped_folder() -> Path:
    """Where the shipped model set lies, in a wheel, an editable install and a checkout alike."""
    return Path(import_module("moe_mheight.models").__path__[0]) / SHIPPED


def pack(tensors: dict[str, Tensor]) -> bytes:
    """Tensors as safetensors bytes."""
    return save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def unpack(content: bytes, what: str) -> dict[str, Tensor]:
    """The tensors of safetensors bytes."""
    try:
        return load_tensors(content)
    except SafetensorError as error:
        raise ModelError(f"{what} is not a safetensors file: {error}") from error


def write_checksums(folder: Path) -> None:
    """SHA256SUMS over every other file of the folder, in the format of sha256sum."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != "SHA256SUMS")
    lines = [f"{sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    write_file(folder / "SHA256SUMS", "".join(lines).encode())


class Tier(NamedTuple):
    """One tier: its config, its ensemble for codes whose every set is visited, and the one for searches."""

    config: dict[str, Any]
    experts: list[Expert]
    searchers: list[Expert]


VIEWS = ("seed", "search")
"""Names of the two ensembles' weights."""


def save_tier(folder: Path, config: dict[str, Any], weights: dict[str, list[bytes]], texts: dict[str, str]) -> None:
    """Fill a folder with one tier: config, for each of VIEWS one weights file per member, and text files."""
    for view in VIEWS:
        for number, content in enumerate(weights[view]):
            write_file(folder / f"{view}{number}.safetensors", content)
    for name, text in texts.items():
        write_file(folder / name, text.encode())
    config = {"format": FORMAT, **config, "seeds": len(weights["seed"])}
    write_file(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    write_checksums(folder)


def checked_files(folder: Path) -> dict[str, bytes]:
    """The listed files of a tier's folder, after checking each against its checksum."""
    try:
        listing = (folder / "SHA256SUMS").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder} has no readable SHA256SUMS; it is not a complete tier") from error
    files = {}
    for line in listing.splitlines():
        digest, _, name = line.partition("  ")
        if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
            raise ModelError(f"{folder}/SHA256SUMS has a malformed line: {brief(line)}")
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise ModelError(f"{folder / name} is missing or unreadable, though SHA256SUMS lists it") from error
        if sha256(files[name]).hexdigest() != digest:
            raise ModelError(f"{folder / name} does not match its checksum; restore it or train the tier again")
    return files


def load_tier(folder: Path) -> Tier:
    """Config and experts (one per seed and view, in eval mode, on the CPU) of one tier.

    Raises:
        ModelError: a file is missing, damaged, of another format, or its weights have wrong names or shapes.
    """
    files = checked_files(folder)
    try:
        config = _in_new_words(json.loads(files["config.json"]))
        if str(config["format"]).startswith("moe_mheight raw"):
            raise ModelError("it holds raw-view experts; moe_mheight.raw.models.RawPredictor loads those")
        old = config["format"] == OLD_FORMAT
        if not old and config["format"] != FORMAT:
            raise ModelError(
                f"{folder}/config.json has format {brief(config['format'])}, this version reads {FORMAT!r}"
            )
        architectures = Architecture(**config["architecture"]), Architecture(**config["search"]["architecture"])
        if [architecture.open_ended for architecture in architectures] != [False, True]:
            raise ModelError("the architectures must be open-ended for searches, and only there")
        seeds = config["seeds"]
        if not isinstance(seeds, int) or not 1 <= seeds <= MOST_SEEDS:
            raise ModelError(f"seeds must be an int from 1 to {MOST_SEEDS}, got {brief(seeds)}")
        for part, name in (
            (config["calibration"], "field"),
            (config["calibration"], "other"),
            (config["search"], "calibration"),
        ):
            part[name] = check_calibration(part[name])
        if not 0.0 <= float(config["search"]["threshold"]) < math.inf:
            raise ModelError("the threshold of searches must be >= 0 and finite")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = brief(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {brief(error)}"
        raise ModelError(f"{folder}/config.json is missing, incomplete or wrong: {what}") from error
    renamed = OLD_NAMES if old else {}
    ensembles = [
        [
            with_weights(Expert(architecture), folder, files, f"{view}{number}.safetensors", renamed)
            for number in range(seeds)
        ]
        for view, architecture in zip(VIEWS, architectures, strict=True)
    ]
    return Tier(config, *ensembles)


def _in_new_words(config: Any) -> Any:
    """The config, with the names that an architecture has now where it is of OLD_FORMAT."""
    if config["format"] == OLD_FORMAT:
        for part in (config, config["search"]):
            part["architecture"]["kept"] = part["architecture"].pop("tokens")
    return config


Module = TypeVar("Module", bound=torch.nn.Module)


def with_weights(
    network: Module, folder: Path, files: dict[str, bytes], name: str, renamed: Mapping[str, str] = MappingProxyType({})
) -> Module:
    """The network with the weights of one of a folder's files, in eval mode.

    renamed: what parts of the file's names, which are joined by dots, are called in the network.

    Raises:
        ModelError: the file is not there, or does not hold exactly the network's weights, all finite.
    """
    if name not in files:
        raise ModelError(f"{folder} has no {name}, though config.json speaks of it")
    found, wanted = unpack(files[name], str(folder / name)), network.state_dict()
    found = {".".join(renamed.get(part, part) for part in key.split(".")): tensor for key, tensor in found.items()}
    problems = [f"missing {key}" for key in sorted(wanted.keys() - found.keys())]
    problems += [f"unexpected {key}" for key in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{key} has shape {tuple(found[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & found.keys())
        if found[key].shape != wanted[key].shape
    ]
    if problems:
        raise ModelError(f"{folder / name} does not fit its config: {'; '.join(problems[:4])}")
    if not all(torch.isfinite(tensor).all() for tensor in found.values()):
        raise ModelError(f"{folder / name} holds weights that are not finite")
    network.load_state_dict(found, strict=True)
    return network.eval().requires_grad_(False)


def load_set(folder: Path) -> dict[str, Tier]:
    """All tiers of a model set."""
    if not folder.is_dir():
        raise ModelError(
            f"no models at {folder}; train them with `mheight train-expert --tier {TIERS[0]} --models {folder}`"
        )
    restore(folder)
    missing = [tier for tier in TIERS if not (folder / tier).is_dir()]
    if missing and (folder / "all").is_dir():
        raise ModelError(f"{folder} holds raw-view experts; moe_mheight.raw.models.RawPredictor loads those")
    if missing:
        raise ModelError(
            f"{folder} has no {' and no '.join(missing)} tier; "
            f"add it with `mheight train-expert --tier {missing[0]} --models {folder}`"
        )
    return {tier: load_tier(folder / tier) for tier in TIERS}


def load_long_set(folder: Path) -> dict[str, LongTier]:
    """The experts of long codes of a model set, by tier; those tiers that have some."""
    found = {tier: load_long(folder / tier, checked_files(folder / tier)) for tier in TIERS}
    return {tier: long for tier, long in found.items() if long is not None}


def architecture_config(architecture: Architecture) -> dict[str, Any]:
    """What `load_tier` needs to build the network again."""
    return asdict(architecture)


@contextmanager
def staging_folder(final: Path, force: bool) -> Iterator[Path]:
    """Where the folder `final` is made: yields a hidden folder beside it, locked for this process, that keeps what is
    unfinished from one attempt to the next. Its "finished" takes final's name when all went well. After a kill in
    between, the next attempt, and whoever loads the set, finishes that (`_io.restore`).

    Raises:
        ModelError: final exists (and not force). FolderError: another process is at it, or it cannot be written.
    """
    restore(final.parent)
    if final.exists() and not force:
        raise ModelError(f"{final} exists; choose another --models folder, or --force to replace it")
    partial = final.with_name(f".{final.name}.unfinished")
    make_folder(partial)
    with locked(partial):
        if force:  # only now: a training that is going on is refused above, not swept away
            try:
                _empty(partial)
            except OSError as error:
                raise FolderError(f"cannot empty {partial}: {error.strerror or error}") from error
        elif final.exists():  # made while we came
            raise ModelError(f"{final} exists; choose another --models folder, or --force to replace it")
        shutil.rmtree(partial / "finished", ignore_errors=True)
        sweep(partial)
        yield partial
        swap([(partial / "finished", final)])
        with suppress(OSError):  # what stays is swept when somebody trains here again
            _empty(partial)
    with suppress(OSError):  # somebody else may have come
        partial.rmdir()


def _empty(partial: Path) -> None:
    for path in [path for path in partial.iterdir() if path.name != "lock"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def plan_once(partial: Path, settings: dict[str, Any], decide: Callable[[], Any]) -> Any:
    """What was decided when the work in a staging folder began with these settings; decided now if it begins now.

    Raises:
        ModelError: it began with other settings; the message says which.
    """
    path = partial / "plan.json"
    settings = json.loads(json.dumps(settings))
    if path.exists():
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))
            before, decided = _flat(begun["asked"]), begun["decided"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} is damaged; --force to start over") from error
        now = _flat(settings)
        differ = [key for key in now if before.get(key) != now[key]]
        if differ:
            raise ModelError(
                f"{partial} holds an unfinished training with other settings ({', '.join(differ)}: "
                f"{brief(before.get(differ[0]))} there); repeat those, or --force to start over"
            )
        return decided
    decided = decide()
    write_file(path, json.dumps({"asked": settings, "decided": decided}).encode())
    return decided


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Nested settings by their own names, so that the one that differs can be told."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= (
            {f"{key}.{name}": part for name, part in _flat(value).items()} if isinstance(value, dict) else {key: value}
        )
    return found
