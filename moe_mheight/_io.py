"""Files and folders that are written whole or not at all, alone or several as one, and folders that one process holds.

All that the package writes goes through `write_file`, `replacing`, `swap`, `append` or `make_folder`.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from .errors import FolderError, brief

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


def temporary(path: Path) -> Path:
    """A name beside a path that nobody has, for what is to be renamed to it when it is whole."""
    return path.with_name(f"{path.name}.{secrets.token_hex(6)}{PART}")


def meant(name: str) -> str:
    """What a file of a temporary name was to be called; any other name as it is."""
    return re.sub(rf"(\.[0-9a-f]{{12}})?{re.escape(PART)}$", "", name)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in a folder that this process holds."""
    for path in folder.glob(f"*{PART}"):
        with suppress(OSError):
            _discard(path)


def write_file(path: Path, content: bytes) -> None:
    """Write whole or not at all: to a temporary name of its own, synced, then renamed.

    Raises:
        FolderError: the file cannot be written, as on a full disk; what was there before stays.
    """
    with replacing(path) as (handle,):
        handle.write(content)


@contextmanager
def replacing(*paths: Path) -> Iterator[Sequence[BinaryIO]]:
    """Files under temporary names that take their own when all went well with all, and vanish otherwise.

    Several are replaced as one, see `swap`. Any number of threads and processes may write one path: the last one wins.

    Raises:
        FolderError: they cannot be written, as on a full disk; what was there before stays.
    """
    parts = [temporary(path) for path in paths]
    try:
        with ExitStack() as stack:
            handles = [stack.enter_context(open(part, "xb")) for part in parts]
            yield handles
            for handle in handles:
                handle.flush()
                os.fsync(handle.fileno())
        if len(paths) == 1:
            os.replace(parts[0], paths[0])
        else:
            swap(list(zip(parts, paths, strict=True)))
    except OSError as error:
        raise _failed("write", paths, error) from error
    finally:
        for part in parts:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def append(path: Path, content: bytes) -> None:
    """Add to a file, synced; what a full disk or a kill has cut short may stand at its end.

    Raises:
        FolderError: it cannot be written.
    """
    try:
        with open(path, "ab") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise _failed("write", [path], error) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises:
        FolderError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _failed("make", [folder.with_name(meant(folder.name))], error) from error


def _failed(what: str, paths: Iterable[Path], error: OSError) -> FolderError:
    names = " and ".join(map(str, paths))
    return FolderError(f"cannot {what} {names}: {error.strerror or error}; what was finished before stays")


class _Step(NamedTuple):
    """One of several things that take their names as one: where it is, its name, whether something had that name."""

    source: Path | None  # None: the name is only taken away
    name: Path
    there: bool

    @property
    def before(self) -> Path:
        """Where that lies meanwhile."""
        return self.name.with_name(f".{self.name.name}.before")

    @property
    def new(self) -> bool:
        """Whether the new one has its name already."""
        had = not self.there or os.path.lexists(self.before)
        return self.source is not None and not os.path.lexists(self.source) and os.path.lexists(self.name) and had


def swap(moves: Sequence[tuple[Path | None, Path]]) -> None:
    """Give what was written aside, files or folders, its names: all of it, or nothing changes.

    What has the names goes aside, the last one first, and the new ones come, the last one last: where the last one is,
    all are of one making. A journal says what is done, so that `restore` finishes what a killed process began. Without
    a common folder there is no journal; a kill then leaves the last name free, and NAME as .NAME.before.

    Args:
        moves: where it is, in the folder of its name or below, and its name; None to take what has the name away.

    Raises:
        FolderError: it cannot be done; what was there before stays.
    """
    folder = moves[-1][1].parent
    with _turn(folder):
        _restore(folder)
        steps = []
        for source, name in moves:
            step = _Step(source, name, os.path.lexists(name))
            try:
                if _is_folder(name) and not (source and _is_folder(source)):
                    raise IsADirectoryError(None, "a folder has that name", str(name))
                if step.there:
                    _discard(step.before)  # what a killed process did not come to remove
                elif os.path.lexists(step.before):
                    os.rename(step.before, name)
            except OSError as error:
                raise _failed("write", [name], error) from error
            steps.append(step._replace(there=os.path.lexists(name)))
        journal = _journal(steps) if len(steps) > 1 or steps[0].there else None
        try:
            _forward(steps)
            if journal:
                os.rename(journal, _done(journal))
        except BaseException as error:
            _back(steps, journal)
            if isinstance(error, OSError):
                raise _failed("write", [name for _, name in moves], error) from error
            raise
        _forget(steps, journal)


def _forward(steps: list[_Step]) -> None:
    """From wherever a killed process stopped."""
    for step in reversed(steps):
        if step.there and os.path.lexists(step.name) and not os.path.lexists(step.before):
            os.rename(step.name, step.before)
    for step in steps:
        if step.source is not None and not step.new:
            os.rename(step.source, step.name)


def _back(steps: list[_Step], journal: Path | None) -> None:
    try:
        for step in reversed(steps):
            if step.source is not None and step.new:
                os.rename(step.name, step.source)
        for step in steps:
            if os.path.lexists(step.before) and not os.path.lexists(step.name):
                os.rename(step.before, step.name)
        if journal:
            journal.unlink(missing_ok=True)
    except OSError as error:
        raise FolderError(
            f"{steps[-1].name.parent} is left half replaced: {error.strerror or error}; what was there lies in it as "
            f"{' and '.join(step.before.name for step in steps if os.path.lexists(step.before))}"
        ) from error


def _forget(steps: list[_Step], journal: Path | None) -> None:
    with suppress(OSError):  # the next one who comes removes it
        for step in steps:
            _discard(step.before)
        if journal:
            os.unlink(_done(journal))


def _discard(path: Path) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


JOURNAL = "moe_mheight journal 1"


def _journal(steps: list[_Step]) -> Path | None:
    """Of what is about to be done, if that is in one folder."""
    names = [step.name for step in steps]
    folder = names[-1].parent
    if {name.parent for name in names} != {folder}:
        return None
    path = folder / f".{names[-1].name}.journal"
    entries = [[s.source and s.source.relative_to(folder).as_posix(), s.name.name, s.there] for s in steps]
    try:
        write_file(path, as_json({"format": JOURNAL, "moves": entries}).encode())
    except FolderError as error:
        raise (_failed("write", names, error.__cause__) if isinstance(error.__cause__, OSError) else error) from error
    return path


def _done(journal: Path) -> Path:
    """Its name when all is done, and what was there is only to be removed."""
    return journal.with_name(f"{journal.name}.done")


def restore(folder: Path) -> None:
    """Finish what a killed process has begun to replace in a folder, or put back what was there; wait for living ones.

    Raises:
        FolderError: it cannot be done, as nothing can be written there.
    """
    if next(folder.glob(".*.journal*"), None):
        with _turn(folder):
            _restore(folder)


def _restore(folder: Path) -> None:
    for path in folder.glob(f".*.journal.*{PART}"):  # of a journal that was not begun to be followed
        with suppress(OSError):
            path.unlink(missing_ok=True)
    for path in sorted(folder.glob(".*.journal.done")):
        _forget(_steps(path), path.with_suffix(""))
    for journal in sorted(folder.glob(".*.journal")):
        steps = _steps(journal)
        try:
            if all(step.source is None or step.new or os.path.lexists(step.source) for step in steps):
                _forward(steps)
                os.rename(journal, _done(journal))
                _forget(steps, journal)
            else:  # what was to come is lost
                _back(steps, journal)
        except OSError as error:
            raise FolderError(
                f"a process was ended while it replaced {steps[-1].name}, and what it left cannot be put right: "
                f"{error.strerror or error}; make {folder} writable and try again"
            ) from error


def _steps(journal: Path) -> list[_Step]:
    """What a journal says. It may be a stranger's: nothing outside its folder is touched."""
    folder = journal.parent
    try:
        found = json.loads(journal.read_bytes())
        moves = found["moves"]
        steps = [_Step(None if s is None else folder / s, folder / name, there is True) for s, name, there in moves]
        right = found["format"] == JOURNAL and bool(steps)
        right = right and all(Path(name).name == name and name not in ("", "..") for _, name, _ in moves)
        inside = folder.resolve()
        sources = [step.source for step in steps if step.source is not None]
        right = right and all(inside in _place(s).parents and s.name != ".." for s in sources)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FolderError(f"{journal} is damaged ({brief(error)}); see what is in {folder}, and remove it") from error
    if not right:
        raise FolderError(f"{journal} is damaged; see what is in {folder}, and remove it")
    return steps


def _place(path: Path) -> Path:
    """Where it lies, itself and not what it may link to."""
    return path.parent.resolve() / path.name


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait until nobody else replaces things in a folder. Where folders have no locks, as on Windows, nobody waits."""
    with ExitStack() as stack:
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            _lock(handle, wait=True)
        yield


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
        raise _failed("write", [path], error) from error
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
    """The lock file, open and locked, with the name of its holder from its second byte on: Windows locks the first."""
    while True:
        handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115  closed when the lock is given back
        if not _lock(handle.fileno()):
            handle.seek(1)
            holder = handle.read(200).strip() or "another process"
            handle.close()
            raise FolderError(f"{path.parent} is in use by {holder}; wait for it, or work elsewhere")
        with suppress(OSError):
            if os.path.samestat(os.stat(path), os.fstat(handle.fileno())):
                break
        handle.close()  # the holder before has just removed it
    handle.seek(0)
    handle.truncate()
    handle.write(f" process {os.getpid()} on {socket.gethostname()}")
    handle.flush()
    return handle


def _lock(handle: int, *, wait: bool = False) -> bool:
    """Lock an open file or folder for this process; False where somebody else has, unless we wait."""
    from filelock import lock_descriptor  # noqa: PLC0415  40 ms that `--help` need not wait for

    return lock_descriptor(handle, blocking=wait, poll_interval=0.01)
