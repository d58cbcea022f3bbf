"""What a folder of shards says of itself: its manifest, and which shards are finished and match their checksums.

SET/manifest.json         format, settings, versions, the shards with their rows; when complete, their SHA-256
SET/9_4_2-00000.npz       one shard: some rows of one group, P and h, or of several groups, with their order
SET/finished.jsonl        while it is being made: shards that are done, with their SHA-256
SET/lock                  while somebody is at it
"""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._io import meant
from ..errors import DataError, FolderError, brief
from ..groups import Group, group_name, parse_group

FORMAT = "moe_mheight shards 1"

MANIFEST, FINISHED = "manifest.json", "finished.jsonl"

NAME = r"(\d+_\d+_\d+|rows)-\d{5,}\.npz"
"""Of a shard. Nothing else of somebody's is ever removed."""


@dataclass(frozen=True)
class Shard:
    """A shard's file name and how many rows of which groups it holds."""

    name: str
    groups: dict[Group, int]

    @property
    def rows(self) -> int:
        return sum(self.groups.values())


def versions() -> dict[str, str]:
    """Of everything that the bytes of a shard may depend on."""
    return {"moe_mheight": __version__, "numpy": np.__version__, "machine": platform.machine()}


def begin(settings: dict[str, Any], shards: tuple[Shard, ...]) -> dict[str, Any]:
    """The manifest of a set that has none of its shards yet."""
    entries = [
        {"name": s.name, "rows": s.rows, "groups": {group_name(g): rows for g, rows in s.groups.items()}}
        for s in shards
    ]
    begun = {"format": FORMAT, "complete": False, "settings": settings, "versions": versions(), "shards": entries}
    plain: dict[str, Any] = json.loads(json.dumps(begun))  # as it will be read again
    return plain


def complete(begun: dict[str, Any], done: dict[str, str]) -> dict[str, Any]:
    """The manifest of a set that has all of them, with their SHA-256."""
    entries = [entry | {"sha256": done[entry["name"]]} for entry in begun["shards"]]
    return begun | {"complete": True, "rows": sum(entry["rows"] for entry in entries), "shards": entries}


def shards_of(manifest: dict[str, Any]) -> tuple[Shard, ...]:
    """A manifest's shards, in order."""
    return tuple(
        Shard(entry["name"], {parse_group(text): rows for text, rows in entry["groups"].items()})
        for entry in manifest["shards"]
    )


def to_bytes(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1) + "\n").encode()


def read(folder: Path) -> dict[str, Any]:
    """A folder's manifest, checked.

    Raises:
        DataError: it is not there, or is none of this format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{folder} is no set of shards: cannot read {path.name}: {error.strerror or error}; of files in a folder "
            "give the names"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {brief(error)}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path} is not of the format {FORMAT!r}")
    shards, is_complete = manifest.get("shards"), manifest.get("complete")
    if not isinstance(is_complete, bool) or not isinstance(shards, list) or not all(map(_right, shards)):
        raise DataError(f"{path} is damaged")
    if len({entry["name"] for entry in shards}) < len(shards):
        raise DataError(f"{path} is damaged: a shard stands twice")
    if is_complete and not all(isinstance(entry.get("sha256"), str) for entry in shards):
        raise DataError(f"{path} says complete, but has no checksums")
    return manifest


def ours(folder: Path) -> bool:
    """Whether the folder has a manifest of this package, perhaps a damaged one among nothing but shards."""
    path = folder / MANIFEST
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        names = (MANIFEST, FINISHED, "lock")
        return all(meant(p.name) in names or re.fullmatch(NAME, meant(p.name)) for p in folder.iterdir())
    return isinstance(found, dict) and str(found.get("format")).startswith("moe_mheight shards")


def _right(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("groups"), dict):
        return False
    name, rows, groups = entry.get("name"), entry.get("rows"), entry["groups"]
    return (
        isinstance(name, str)
        and bool(re.fullmatch(NAME, name))
        and all(re.fullmatch(r"\d{1,3},\d{1,3},\d{1,3}", text) for text in groups)
        and all(type(count) is int and 0 < count < 2**40 for count in groups.values())
        and rows == sum(groups.values())
    )


def compare(folder: Path, known: dict[str, Any], begun: dict[str, Any]) -> None:
    """Refuse a set that was begun with other settings or versions.

    Raises:
        FolderError: it says which.
    """
    for part in ("settings", "versions"):
        mine, theirs = begun[part], known.get(part)
        theirs = theirs if isinstance(theirs, dict) else {}
        differ = [key for key in [*mine, *sorted(set(theirs) - set(mine))] if mine.get(key) != theirs.get(key)]
        if differ:
            key = differ[0]
            more = f" (and {brief(', '.join(differ[1:]))[1:-1]})" if len(differ) > 1 else ""
            raise FolderError(
                f"{folder} was begun with other {part}: {brief(key)[1:-1]} {brief(theirs.get(key))} there, "
                f"{brief(mine.get(key))} here{more}; repeat those, choose another folder, or --force to start over"
            )
    if shards_of(known) != shards_of(begun):
        raise FolderError(
            f"{folder} was begun with other shards, of {known['shards'][0]['rows']:,} rows and not "
            f"{begun['shards'][0]['rows']:,}; repeat those, choose another folder, or --force to start over"
            if known["shards"] and begun["shards"]
            else f"{folder} was begun with other shards; --force to start over"
        )


def line(name: str, digest: str) -> bytes:
    """What finished.jsonl says of a shard."""
    return (json.dumps({"name": name, "sha256": digest}) + "\n").encode()


def finished(folder: Path, known: dict[str, Any]) -> dict[str, str]:
    """Shards that are there and match their checksum: name -> SHA-256."""
    entries = known["shards"]
    if not known["complete"]:
        entries = []
        for text in _journal(folder):
            try:
                entries.append(json.loads(text))
            except ValueError:  # damaged
                continue
    names = {entry["name"] for entry in known["shards"]}
    found = {}
    for entry in entries:
        name, digest = (entry.get("name"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if isinstance(name, str) and name in names and digest is not None and _digest(folder / name) == digest:
            found[name] = str(digest)
    return found


def _journal(folder: Path) -> list[bytes]:
    """Whole lines of finished.jsonl; one cut short, by a kill or a full disk, does not count."""
    try:
        lines = (folder / FINISHED).read_bytes().splitlines(keepends=True)
    except OSError:
        return []
    return [text for text in lines if text.endswith(b"\n")]


def _digest(path: Path) -> str | None:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
