"""A set of codes as a folder of shards: made by any number of workers, resumed after anything, read one at a time.

    SET/manifest.json         format, settings, versions, the shards with their rows; when complete, their SHA-256
    SET/9_4_2-00000.npz       one shard: some rows of one group, P and h
    SET/finished.jsonl        while it is being made: shards that are done, with their SHA-256
    SET/lock                  while somebody is at it

A shard is settled by the settings, its group and its number, and by nothing else. It is written to a temporary name,
synced and renamed, then entered in finished.jsonl; the manifest that says complete is written last.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .errors import DataError, FolderError, brief
from .files import Codes, Group, from_npz, npz_bytes
from .folders import PART, locked, write_file
from .jobs import each

FORMAT = "moe_mheight shards 1"

MANIFEST, FINISHED = "manifest.json", "finished.jsonl"

NAME = r"\d+_\d+_\d+-\d{5,}\.npz"
"""Of a shard. Nothing else of somebody's is ever removed."""


@dataclass(frozen=True)
class Shard:
    """Rows start, start + 1, ... of a set: the number-th shard of its group."""

    group: Group
    number: int
    rows: int
    start: int

    @property
    def name(self) -> str:
        return "_".join(map(str, self.group)) + f"-{self.number:05d}.npz"


def cut(groups: Mapping[Group, int], most: int) -> tuple[Shard, ...]:
    """Shards of at most that many rows, group after group."""
    shards, start = [], 0
    for group, rows in groups.items():
        for number, first in enumerate(range(0, rows, most)):
            shards.append(Shard(group, number, min(most, rows - first), start))
            start += shards[-1].rows
    return tuple(shards)


def versions() -> dict[str, str]:
    """Of everything that the bytes of a shard may depend on."""
    return {"moe_mheight": __version__, "numpy": np.__version__, "machine": platform.machine()}


def build(
    folder: Path,
    shards: tuple[Shard, ...],
    make: Callable[[Shard], Codes],
    settings: dict[str, Any],
    *,
    force: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Make what is missing of a set of shards.

    Args:
        folder: of the set; new, or one that was begun with the same settings.
        shards: all of them, from `cut`.
        make: a shard's codes, with heights; it must pickle, and may run anywhere (see `jobs.workers`).
        settings: everything that decides the codes, plain values.
        force: start over whatever is there.
        advance: told how many rows were made, or found made.

    Returns:
        The complete manifest.

    Raises:
        FolderError: another process is at it, it was begun with other settings or versions (the message says which),
            holds something else, or cannot be written; what is finished stays.
    """
    begun = json.loads(json.dumps({
        "format": FORMAT, "complete": False, "settings": settings, "versions": versions(),
        "shards": [{"name": s.name, "group": s.group, "rows": s.rows} for s in shards],
    }))  # fmt: skip
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder} exists and is no folder")
    if folder.is_dir() and not (folder / MANIFEST).exists() and any(_foreign(folder)):  # not even when forced
        raise FolderError(f"{folder} holds other files; choose an empty or a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"cannot make {folder}: {error.strerror or error}") from error
    with locked(folder):
        known = None if force or not (folder / MANIFEST).exists() else _manifest(folder)
        if known is not None:
            _compare(folder, known, begun)
        done = _done(folder, known) if known is not None else {}
        keep = {"lock", *(() if known is None else (MANIFEST, *done, *(() if known["complete"] else (FINISHED,))))}
        for path in folder.iterdir():
            plain = path.name.removesuffix(PART)
            if path.name not in keep and (plain in (MANIFEST, FINISHED) or re.fullmatch(NAME, plain)):
                path.unlink()
        advance(sum(s.rows for s in shards if s.name in done))
        missing = [s for s in shards if s.name not in done]
        if known is None or known["complete"]:
            if known is not None and not missing:
                return known
            write_file(folder / MANIFEST, _text(begun))
            write_file(folder / FINISHED, _lines(done))
        for number, content in each(partial(_made, make), missing):
            write_file(folder / missing[number].name, content)
            done[missing[number].name] = sha256(content).hexdigest()
            _append(folder / FINISHED, _lines({missing[number].name: done[missing[number].name]}))
            advance(missing[number].rows)
        whole: dict[str, Any] = begun | {
            "complete": True,
            "rows": sum(s.rows for s in shards),
            "shards": [entry | {"sha256": done[entry["name"]]} for entry in begun["shards"]],
        }
        write_file(folder / MANIFEST, _text(whole))
        (folder / FINISHED).unlink(missing_ok=True)
    return whole


def _made(make: Callable[[Shard], Codes], shard: Shard) -> bytes:
    """A shard's bytes, wherever that runs."""
    codes = make(shard)
    if len(codes.P) != shard.rows:
        raise DataError(f"shard {shard.name} came out with {len(codes.P)} rows instead of {shard.rows}")
    return npz_bytes([(shard.group, codes)])


def _text(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1) + "\n").encode()


def _lines(done: dict[str, str]) -> bytes:
    return "".join(json.dumps({"name": name, "sha256": digest}) + "\n" for name, digest in done.items()).encode()


def _append(path: Path, content: bytes) -> None:
    try:
        with open(path, "ab") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise FolderError(f"cannot write {path}: {error.strerror or error}; what was finished before stays") from error


def _foreign(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.name != "lock" and not path.name.endswith(PART))


def _manifest(folder: Path) -> dict[str, Any]:
    """A folder's manifest, checked.

    Raises:
        DataError: it is not there, or is none of this format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{folder} is no set of shards: cannot read {path.name}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {brief(error)}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path} is not of the format {FORMAT!r}")
    shards, complete = manifest.get("shards"), manifest.get("complete")
    if not isinstance(complete, bool) or not isinstance(shards, list) or not all(map(_right, shards)):
        raise DataError(f"{path} is damaged")
    if complete and not all(isinstance(entry.get("sha256"), str) for entry in shards):
        raise DataError(f"{path} says complete, but has no checksums")
    return manifest


def _right(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and bool(re.fullmatch(NAME, entry["name"]))
        and isinstance(entry.get("group"), list)
        and isinstance(entry.get("rows"), int)
    )


def _compare(folder: Path, known: dict[str, Any], begun: dict[str, Any]) -> None:
    """Refuse other settings or versions, and say which."""
    for part in ("settings", "versions"):
        mine, theirs = begun[part], known.get(part)
        theirs = theirs if isinstance(theirs, dict) else {}
        differ = [key for key in [*mine, *(set(theirs) - set(mine))] if mine.get(key) != theirs.get(key)]
        if differ:
            key = differ[0]
            more = f" (and {', '.join(differ[1:])})" if len(differ) > 1 else ""
            raise FolderError(
                f"{folder} was begun with other {part}: {key} {brief(theirs.get(key))} there, {brief(mine.get(key))} "
                f"here{more}; repeat those, choose another folder, or --force to start over"
            )


def _done(folder: Path, known: dict[str, Any]) -> dict[str, str]:
    """Shards that are there and match their checksum: name -> SHA-256."""
    if known["complete"]:
        entries = known["shards"]
    else:
        try:
            lines = (folder / FINISHED).read_bytes().splitlines(keepends=True)
        except OSError:
            lines = []
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line) if line.endswith(b"\n") else {})
            except ValueError:  # cut short by a kill or a full disk
                continue
    names = {entry["name"] for entry in known["shards"]}
    found = {}
    for entry in entries:
        name, digest = (entry.get("name"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if isinstance(name, str) and name in names and digest is not None and _digest(folder / name) == digest:
            found[name] = str(digest)
    return found


def _digest(path: Path) -> str | None:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def is_set(path: Path) -> bool:
    """Whether a path is a folder of shards."""
    return (path / MANIFEST).is_file()


def stream(folder: Path, *, partial: bool = False) -> Iterator[tuple[Group, Codes]]:
    """The codes of a set, a shard at a time, in order; rows are numbered over the whole set.

    Args:
        folder: of the set.
        partial: take what is there of a set that is not complete; its rows are numbered as they come.

    Raises:
        DataError: no set, not complete (and not partial), or a shard is missing or damaged; the message says which.
    """
    manifest = _manifest(folder)
    if not manifest["complete"] and not partial:
        raise DataError(f"{folder} is not complete: repeat the command that was making it, or ask for what is there")
    done = {e["name"]: e["sha256"] for e in manifest["shards"]} if manifest["complete"] else _done(folder, manifest)
    start = 0
    for entry in manifest["shards"]:
        if entry["name"] in done:
            path = folder / entry["name"]
            try:
                content = path.read_bytes()
            except OSError as error:
                raise DataError(f"cannot read {path}: {error.strerror or error}; make the set again") from error
            if sha256(content).hexdigest() != done[entry["name"]]:
                raise DataError(f"{path} does not match its checksum; repeat the command that made the set")
            ((group, codes),) = from_npz(content, str(path)).items()
            if len(codes.P) != entry["rows"] or list(group) != entry["group"]:
                raise DataError(f"{path} is not the shard that the manifest speaks of")
            yield group, Codes(codes.P, np.arange(start, start + len(codes.P)), codes.h)
            start += len(codes.P)
