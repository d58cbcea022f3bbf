"""Making a set of codes as a folder of shards: by any number of workers, resumed after anything, the same bytes.

A shard is settled by the settings and its number, and by nothing else. It is written to a temporary name, synced and
renamed, then entered in finished.jsonl; the manifest that says complete is written last (`manifests` has the layout).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from .._io import PART, append, locked, make_folder, meant, write_file
from .._parallel import each
from ..errors import DataError, FolderError
from . import manifests
from .manifests import FINISHED, MANIFEST, NAME, Shard
from .npz_files import npz_bytes
from .rows import Data

Task = TypeVar("Task")


def build(
    folder: Path,
    shards: tuple[Shard, ...],
    task: Callable[[int], Task],
    make: Callable[[Task], Data],
    settings: dict[str, Any],
    *,
    force: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Make what is missing of a set of shards.

    Args:
        folder: of the set; new, or one that was begun with the same settings.
        shards: all of them.
        task: what it takes to make a shard, by its number; asked for when its turn comes.
        make: a shard's codes, with heights, from its task; it must pickle, and may run anywhere (see `workers`).
        settings: everything that decides the codes, plain values.
        force: start over whatever is there.
        advance: told how many rows were made, or found made.

    Returns:
        The complete manifest.

    Raises:
        FolderError: another process is at it, it was begun with other settings or versions (the message says which),
            holds something else, or cannot be written; what is finished stays. Or a worker has other versions.
    """
    begun = manifests.begin(settings, shards)
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder} exists and is no folder")
    if folder.is_dir() and not manifests.ours(folder) and any(_foreign(folder)):  # not even when forced
        raise FolderError(f"{folder} holds other files; choose an empty or a new folder")
    make_folder(folder)
    with locked(folder):
        known = None if force or not (folder / MANIFEST).exists() else manifests.read(folder)
        if known is not None:
            manifests.compare(folder, known, begun)
        done = manifests.finished(folder, known) if known is not None else {}
        keep = {"lock", *(() if known is None else (MANIFEST, *done, *(() if known["complete"] else (FINISHED,))))}
        for path in folder.iterdir():
            plain = meant(path.name)
            if path.name not in keep and (plain in (MANIFEST, FINISHED) or re.fullmatch(NAME, plain)):
                path.unlink()
        advance(sum(s.rows for s in shards if s.name in done))
        missing = [(i, s) for i, s in enumerate(shards) if s.name not in done]
        if known is None or known["complete"]:
            if known is not None and not missing:
                return known
            write_file(folder / MANIFEST, manifests.to_bytes(begun))
            write_file(folder / FINISHED, b"".join(manifests.line(*entry) for entry in done.items()))
        work = partial(_made, make, begun["versions"])
        for at, content in each(work, ((shard, task(i)) for i, shard in missing)):
            name = missing[at][1].name
            write_file(folder / name, content)
            done[name] = sha256(content).hexdigest()
            append(folder / FINISHED, manifests.line(name, done[name]))
            advance(missing[at][1].rows)
        complete = manifests.complete(begun, done)
        write_file(folder / MANIFEST, manifests.to_bytes(complete))
        (folder / FINISHED).unlink(missing_ok=True)
    return complete


def _made(make: Callable[[Task], Data], wanted: dict[str, str], work: tuple[Shard, Task]) -> bytes:
    """A shard's bytes, wherever that runs."""
    here = manifests.versions()
    if here != wanted:
        differ = ", ".join(f"{key} {here[key]} instead of {wanted[key]}" for key in wanted if here[key] != wanted[key])
        raise FolderError(f"a worker has {differ}; install the same versions everywhere")
    shard, task = work
    data = make(task)
    found = {group: len(codes.P) for group, codes in data.items()}
    if found != shard.groups:
        raise DataError(f"shard {shard.name} came out with rows {found} instead of {shard.groups}")
    return npz_bytes(data)


def _foreign(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.name != "lock" and not path.name.endswith(PART))
