"""The experts of long codes in a tier's folder: long0.safetensors and so on, and long.json, among its checked files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .._io import locked, write_file
from ..data.rows import silently
from ..errors import ModelError, brief
from ..groups import TIERS
from .long_experts import FORMAT, LongTier, pack_long
from .long_training import Advance, shipped_labels, train_long
from .model_store import checked_files, write_checksums
from .provenance import provenance


def add_long(
    models: Path,
    tier: str,
    *,
    seeds: int = 3,
    labels: Path | None = None,
    force: bool = False,
    advance: Advance = silently,
    threads: int | None = None,
) -> dict[str, Any]:
    """Train the experts of long codes of a finished tier, and put them into its folder.

    Args:
        models: folder of the model set.
        seeds: members.
        labels: a set of `data.drawn_labels`; default the one that ships.
        force: replace those that are there.
        advance: told of every batch of labels that was searched; each is, twice.

    Returns:
        What long.json holds: calibration, figures on held-out codes, provenance.

    Raises:
        ModelError: there is no such tier, or it has such experts (and not force).
    """
    folder = models / tier
    if tier not in TIERS or not folder.is_dir():
        raise ModelError(f"no tier at {folder}; train it first with `mheight train-expert --tier {brief(tier)}`")
    if "long.json" in checked_files(folder) and not force:
        raise ModelError(f"{folder} has experts of long codes; --force to replace them")
    found, figures = train_long(labels or shipped_labels(), tier, seeds, advance=advance, threads=threads)
    return save_long(folder, found, figures)


def save_long(folder: Path, tier: LongTier, figures: dict[str, Any]) -> dict[str, Any]:
    """Write them into a tier's folder, and its checksums anew; returns what long.json holds."""
    about = {
        "format": FORMAT,
        "seeds": len(tier.members),
        "calibration": {name: column.tolist() for name, column in tier.calibration._asdict().items()},
        "held out": figures,
        "provenance": provenance(),
    }
    with locked(folder):
        for old in folder.glob("long*.safetensors"):
            old.unlink()
        for number, member in enumerate(tier.members):
            write_file(folder / f"long{number}.safetensors", pack_long(member))
        write_file(folder / "long.json", (json.dumps(about, indent=1) + "\n").encode())
        write_checksums(folder)
    return about
