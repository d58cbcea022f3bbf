"""The experts of long codes in a tier's folder: long0.safetensors and so on, and long.json, among its checked files.

They are trained in memory. Then a copy of the tier's folder, made aside, gets them and takes its name: whoever is
interrupted or killed before that leaves the tier as it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .._io import PART, as_json, locked, make_folder, restore, swap, sweep, write_file
from ..data.rows import silently
from ..errors import FolderError, ModelError, brief
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
        advance: told of every batch of labels that was searched; each is, twice (`long_training.count_batches`).
        threads: default all cores.

    Returns:
        What long.json holds: calibration, figures on held-out codes, provenance.

    Raises:
        ModelError: there is no such tier, or it has such experts (and not force).
        DataError: the labels are no such set, or hold too few codes of the tier.
        FolderError: another process trains those of this tier, or the folder cannot be written.
    """
    if tier not in TIERS:
        raise ModelError(f"no tier at {models / tier}; the tiers are {', '.join(TIERS)}")
    folder = models / tier
    check_long(folder, force)
    with _aside(folder):
        check_long(folder, force)
        found, figures = train_long(labels or shipped_labels(), tier, seeds, advance=advance, threads=threads)
        return _put(folder, found, figures)


def check_long(folder: Path, force: bool) -> None:
    """Whether experts of long codes can be put into a tier's folder.

    Raises:
        ModelError: there is no such tier, it is damaged, or it has such experts (and not force).
    """
    tier = folder.name if folder.name in TIERS else TIERS[0]
    if folder.name not in TIERS or not folder.parent.is_dir():
        raise ModelError(f"no tier at {brief(str(folder))}; train it first with `mheight train-expert --tier {tier}`")
    restore(folder.parent)
    if not folder.is_dir():
        raise ModelError(f"no tier at {folder}; train it first with `mheight train-expert --tier {tier}`")
    if "long.json" in checked_files(folder) and not force:
        raise ModelError(f"{folder} has experts of long codes; --force to replace them")


def save_long(folder: Path, tier: LongTier, figures: dict[str, Any]) -> dict[str, Any]:
    """Put experts of long codes into a tier's folder, in place of those that are there; returns what long.json holds.

    Raises:
        ModelError: the tier is damaged. FolderError: another process is at it, or it cannot be written.
    """
    with _aside(folder):
        return _put(folder, tier, figures)


@contextmanager
def _aside(folder: Path) -> Iterator[None]:
    """Hold the folder, beside a tier's own, where its next version is made."""
    made = _made(folder)
    make_folder(made)
    try:
        with locked(made):
            sweep(made)
            yield
    finally:
        with suppress(OSError):  # somebody else may have come
            made.rmdir()


def _made(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.long.unfinished")


def _put(folder: Path, tier: LongTier, figures: dict[str, Any]) -> dict[str, Any]:
    """A copy of the tier with these experts takes its name."""
    about = {
        "format": FORMAT,
        "seeds": len(tier.members),
        "calibration": {name: column.tolist() for name, column in tier.calibration._asdict().items()},
        "held out": figures,
        "provenance": provenance(),
    }
    restore(folder.parent)
    checked_files(folder)
    finished = _made(folder) / "finished"
    try:
        shutil.rmtree(finished, ignore_errors=True)
        try:
            shutil.copytree(folder, finished, ignore=shutil.ignore_patterns("long*.safetensors", "lock", f"*{PART}"))
        except (OSError, shutil.Error) as error:
            raise FolderError(f"cannot copy {folder} to {finished}: {brief(error)}") from error
        for number, member in enumerate(tier.members):
            write_file(finished / f"long{number}.safetensors", pack_long(member))
        write_file(finished / "long.json", (as_json(about, indent=1) + "\n").encode())
        write_checksums(finished)
        swap([(finished, folder)])
    finally:
        shutil.rmtree(finished, ignore_errors=True)
    return about
