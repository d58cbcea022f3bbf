"""Files that are written whole or not at all, folders that one process holds at a time, and what is in them."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from .errors import FolderError

PART = ".part"
"""Ending of temporary names; what a killed process left under such a name may be removed."""


def as_json(value: Any, indent: int | None = None) -> str:
    """One JSON document; JSON has no infinity, so that is the string "inf"."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def identity(models: Path) -> str:
    """Which models a set holds: the start of the SHA-256 of all its checksums and its learned router, if it has one."""
    sums = [path.read_bytes() for path in [*sorted(models.glob("*/SHA256SUMS")), *models.glob("router.json")]]
    return sha256(b"".join(sums)).hexdigest()[:12]


def write_file(path: Path, content: bytes) -> None:
    """Write whole or not at all: to a temporary name, synced, then renamed.

    Raises:
        FolderError: the file cannot be written, as on a full disk; what was there before stays.
    """
    temporary = path.with_name(path.name + PART)
    try:
        with open(temporary, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise FolderError(f"cannot write {path}: {error.strerror or error}; what was finished before stays") from error


BEYOND = 1 << 20
"""Where Windows locks a lock file; a place, so that it does not depend on how long the file is."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; a second one is refused. The lock of a killed process is nobody's.

    Raises:
        FolderError: another process holds it, which the message names, or the folder cannot be written.
    """
    path = folder / "lock"
    try:
        handle = _held(path)
    except OSError as error:
        raise FolderError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # removed while still held, so that nobody takes a lock that is about to vanish
            path.unlink(missing_ok=True)
        handle.close()
        if os.name == "nt":  # no open file can be removed there, and so none that another process holds by now
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _held(path: Path) -> IO[str]:
    """The lock file, open and locked, with the name of its holder in it."""
    while True:
        handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115  closed when the lock is given back
        if not _lock(handle):
            handle.seek(0)
            owner = handle.read(200).strip() or "another process"
            handle.close()
            raise FolderError(f"{path.parent} is in use by {owner}; wait for it, or work elsewhere")
        with suppress(OSError):
            if os.path.samestat(os.stat(path), os.fstat(handle.fileno())):
                break
        handle.close()  # the holder before has just removed it
    handle.seek(0)
    handle.truncate()
    handle.write(f"process {os.getpid()} on {socket.gethostname()}")
    handle.flush()
    return handle


def _lock(handle: IO[str]) -> bool:
    """Lock an open file for this process; False where somebody else has."""
    try:
        if os.name == "nt":
            import msvcrt  # noqa: PLC0415  not there elsewhere

            # one and the same byte for all, beyond the name, which others may read: what is locked there nobody can
            os.lseek(handle.fileno(), BEYOND, os.SEEK_SET)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl  # noqa: PLC0415  not there on Windows

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
