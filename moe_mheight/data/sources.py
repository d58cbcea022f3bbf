"""Codes to go through a piece at a time: a file's, or those of a folder of shards, of which one is in memory at a time.

Where a piece begins depends on the codes alone, so that results do not depend on who works on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import count
from math import floor, log2
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._parallel import each
from ..codes.minors import MAX_N
from ..errors import DataError
from ..exact.cost_model import expected_seconds
from ..groups import Group
from . import code_files, manifests
from .manifests import MANIFEST, Shard
from .npz_files import compact
from .rows import Codes, Data, silently

PIECE = 16384
"""Short codes worked on between two looks at the progress bar."""


def chunk_rows(max_rows: int, n: int, full_up_to: int, min_rows: int) -> int:
    """How many codes of length n at a time: beyond the length `full_up_to` half as many for every coordinate."""
    return max(min_rows, max_rows >> max(0, n - full_up_to))


Result = TypeVar("Result")


@dataclass(frozen=True)
class Source:
    """Where codes come from; rows are numbered over the whole.

    shards: which rows of which groups each piece holds. content: a piece's bytes, as an .npz whose rows count from 0.
    read: the same as `Data`. labelled: whether there are heights. stamp: a digest of all codes, whatever their labels.
    folder: of a set.
    """

    shards: tuple[Shard, ...]
    content: Callable[[int], bytes]
    read: Callable[[int], Data]
    labelled: bool
    stamp: Callable[[], str]
    folder: Path | None = None

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def groups(self) -> tuple[Group, ...]:
        """All (n, k, m) that there are, as they come."""
        return tuple(dict.fromkeys(group for shard in self.shards for group in shard.groups))

    def pieces(self) -> Iterator[Data]:
        """Piece after piece, one at a time."""
        start = 0
        for i, shard in enumerate(self.shards):
            yield {g: Codes(c.P, c.row + start, c.h) for g, c in self.read(i).items()}
            start += shard.rows

    def in_memory(self) -> Data:
        """All codes in memory."""
        parts: dict[Group, list[Codes]] = {}
        for piece in self.pieces():
            for group, codes in piece.items():
                parts.setdefault(group, []).append(codes)
        return {group: _joined(found) for group, found in sorted(parts.items())}


def _joined(parts: list[Codes]) -> Codes:
    h = [codes.h for codes in parts if codes.h is not None]
    P, row = (np.concatenate([getattr(codes, name) for codes in parts]) for name in ("P", "row"))
    return Codes(P, row, np.concatenate(h) if len(h) == len(parts) else None)


def of(data: Data, max_rows: int | None = None) -> Source:
    """Codes in memory, cut in the order of their rows into pieces of that many, or in one."""
    rows = code_files.count(data)
    step = max_rows or max(1, rows)
    starts = range(0, rows, step)

    def read(i: int) -> Data:
        return data if len(starts) == 1 else code_files.take(data, np.arange(starts[i], min(starts[i] + step, rows)))

    per_piece = {group: np.bincount(codes.row // step, minlength=len(starts)) for group, codes in data.items()}
    shards = tuple(
        Shard(f"rows-{i:05d}.npz", {group: int(rows_of[i]) for group, rows_of in per_piece.items() if rows_of[i]})
        for i in range(len(starts))
    )
    return Source(
        shards, lambda i: code_files.npz_bytes(read(i)), read, code_files.labelled(data), lambda: _stamp(data)
    )


def _stamp(data: Data) -> str:
    digest = sha256()
    for group, codes in sorted(data.items()):
        for array in (np.array(group), codes.row, codes.P):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def open_codes(paths: Sequence[str | Path], *, partial: bool = False, max_rows: int | None = None) -> Source:
    """Codes of a folder of shards, or of a file as `files.read` takes it.

    Args:
        paths: a folder; or one or two files.
        partial: of a set that is not complete take what is there, rows numbered as they come.
        max_rows: of a piece, of a file, by default all of them; 0 for as many as make good shards. A set has its own.

    Raises:
        DataError: unreadable or broken, or a set that is not complete (and not partial); while pieces are read, a shard
            that is missing or does not match its checksum. The message says which.
    """
    if len(paths) == 1 and str(paths[0]) != "-" and Path(paths[0]).is_dir():
        return _set(Path(paths[0]), partial)
    data = code_files.read(paths)
    return of(data, min(rows_of_shard(*group) for group in data) if max_rows == 0 else max_rows)


SHARD = 1 << 18
"""Rows of a shard of short codes."""

SHARD_SECONDS, SHARD_NUMBERS = 100.0, 1 << 23
"""A shard of long codes takes about so long to label in one thread, and holds at most so many numbers."""


def rows_of_shard(n: int, k: int, m: int) -> int:
    """Rows of a shard: half a second to some seconds of labelling up to n = 16, beyond it about a minute.

    The time is a guess from the size alone, rounded to a power of two: the same wherever the shard is made.
    """
    if n <= MAX_N:
        return chunk_rows(SHARD, n, 9, min_rows=64)
    rows = min(SHARD_SECONDS / expected_seconds(n, k, m, threads=1), SHARD_NUMBERS / (k * (n - k)))
    return 1 << max(0, floor(log2(rows)))


def _set(folder: Path, partial_too: bool) -> Source:
    manifest = manifests.read(folder)
    if manifest["complete"]:
        digests = {entry["name"]: entry["sha256"] for entry in manifest["shards"]}
    elif partial_too:
        digests = manifests.finished(folder, manifest)
    else:
        raise DataError(
            f"{folder} is not complete: repeat the command that was making it, or take what is there with --partial"
        )
    shards = tuple(shard for shard in manifests.shards_of(manifest) if shard.name in digests)
    if not shards:
        raise DataError(f"{folder} holds no finished shard yet")

    def content(i: int) -> bytes:
        path = folder / shards[i].name
        try:
            found = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}; make the set again") from error
        if sha256(found).hexdigest() != digests[shards[i].name]:
            raise DataError(f"{path} does not match its checksum; repeat the command that made the set")
        return found

    def read(i: int) -> Data:
        path = folder / shards[i].name
        data = code_files.from_npz(content(i), str(path))
        if {group: len(codes.P) for group, codes in data.items()} != shards[i].groups or not code_files.labelled(data):
            raise DataError(f"{path} is not the shard that {MANIFEST} speaks of")
        return data

    stamp = "".join(f"{shard.name} {digests[shard.name]}\n" for shard in shards)
    return Source(shards, content, read, True, lambda: sha256(stamp.encode()).hexdigest(), folder)


def over(
    source: Source | Data, function: Callable[[Codes, Group], Result], advance: Callable[[int], None] = silently
) -> Iterator[tuple[int, NDArray[np.int64], Result]]:
    """function(codes, group) of all rows, some thousands at a time, by the workers at hand (`workers`; then the
    function must pickle), as they are done.

    Yields:
        (number, rows, result): the results' order, which rows they are about, and what the function gave.
    """
    source = source if isinstance(source, Source) else of(source)
    places: dict[int, NDArray[np.int64]] = {}
    numbers = count()

    def tasks() -> Iterator[tuple[Codes, Group]]:
        for piece in source.pieces():
            for group, codes in piece.items():
                step = chunk_rows(PIECE, group[0], 12, min_rows=8)
                for at in range(0, len(codes.P), step):
                    rows = slice(at, at + step)
                    number = next(numbers)
                    places[number] = codes.row[rows].copy()  # a view would keep all of the piece's
                    h = None if codes.h is None else codes.h[rows]
                    yield Codes(compact(codes.P[rows]), places[number], h), group  # small, for it may travel

    for number, result in each(partial(_apply, function), tasks()):
        rows = places.pop(number)
        advance(len(rows))
        yield number, rows, result


def _apply(function: Callable[[Codes, Group], Result], task: tuple[Codes, Group]) -> Result:
    codes, group = task
    return function(Codes(codes.P.astype(np.float64), codes.row, codes.h), group)


def by_row(
    source: Source | Data, function: Callable[[Codes, Group], NDArray[Any]], advance: Callable[[int], None] = silently
) -> NDArray[Any]:
    """function(codes, group), an array of a line for each code, in the order of the rows: (rows, ...)."""
    total = source.rows if isinstance(source, Source) else code_files.count(source)
    out: NDArray[Any] | None = None
    for _, rows, values in over(source, function, advance):
        if out is None:
            out = np.empty((total, *values.shape[1:]), values.dtype)
        out[rows] = values
    return np.empty(0) if out is None else out
