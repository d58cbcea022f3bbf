"""Exact heights of codes that are drawn again from a seed: a few bytes a code, where the matrices would be kilobytes.

A batch is COUNT codes of one (n, k, m) and one kind; its number and the seed of the set decide its random stream.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from .._io import write_file
from ..codes.generators import random_codes
from ..errors import DataError, brief
from ..groups import Group, group_name
from ..numerics.bitsets import BITS

COUNT = 8
"""Codes of a batch."""

LONG_KINDS = (
    "integer",
    "scaled-integer",
    "small-integer",
    "normal",
    "uniform",
    "tight-frame",
    "near-singular",
    "spherical",
)
"""Kinds of the batches; integers of every scale make half of them."""

SHARES = (0.2, 0.15, 0.15, 0.15, 0.1, 0.15, 0.05, 0.05)


COLUMNS = ("seed", "number", "group", "kind", "digest", "h")
"""Arrays of a set, a row each batch."""


class DrawnBatch(NamedTuple):
    """COUNT codes of one group and kind, number `number` of a set with this seed, and their exact heights (COUNT,)."""

    seed: int
    number: int
    group: Group
    kind: str
    h: NDArray[np.float64]


def draw_batch(seed: int, number: int, group: Group, kind: str) -> NDArray[np.float64]:
    """The codes of a batch, (COUNT, k, r)."""
    n, k, _ = group
    return random_codes(kind, COUNT, k, n - k, np.random.default_rng([seed, number, *group]))


def kind_of(seed: int, number: int) -> str:
    """The kind of a batch, by SHARES."""
    return str(np.random.default_rng([seed, number]).choice(LONG_KINDS, p=SHARES))


def _digest(P: NDArray[np.float64]) -> int:
    return zlib.crc32(np.ascontiguousarray(P).tobytes())


def write_batches(path: Path, batches: Iterable[DrawnBatch]) -> None:
    """Write a set: seed, number, kind as a place in LONG_KINDS, digest (B,); group (B, 3); h (B, COUNT)."""
    found = list(batches)
    columns: dict[str, Any] = {
        "seed": np.array([batch.seed for batch in found], np.uint32),
        "group": np.array([batch.group for batch in found], np.uint8).reshape(-1, 3),
        "number": np.array([batch.number for batch in found], np.uint32),
        "kind": np.array([LONG_KINDS.index(batch.kind) for batch in found], np.uint8),
        "digest": np.array([_digest(draw_batch(*batch[:4])) for batch in found], np.uint32),
        "h": np.array([batch.h for batch in found]).reshape(-1, COUNT),
    }
    arrays = io.BytesIO()
    np.savez(arrays, **columns)
    write_file(path, arrays.getvalue())


def _check(columns: list[NDArray[Any]]) -> None:
    """Raises ValueError for columns of other lengths, codes that cannot be drawn, or heights that are none."""
    seeds, numbers, groups, kinds, _, heights = columns
    count = len(numbers)
    if any(c.shape != (count, *rest) for c, rest in zip(columns, ((), (), (3,), (), (), (COUNT,)), strict=True)):
        raise ValueError("its columns have other shapes than they should")
    if not all(c.dtype.kind in "iu" for c in columns[:-1]) or heights.dtype != np.float64:
        raise ValueError("its columns are of other types than they should be")
    n, k, m = groups.T.astype(np.int64)
    if not ((n <= BITS) & (k >= 1) & (m >= 1) & (m <= n - k)).all() or not (heights >= 1.0).all():
        raise ValueError("it holds groups or heights that no codes have")
    if count and (min(seeds.min(), numbers.min(), kinds.min()) < 0 or kinds.max() >= len(LONG_KINDS)):
        raise ValueError("it holds a kind of codes that is not known")


def read_batches(path: Path) -> Iterator[tuple[DrawnBatch, NDArray[np.float64]]]:
    """The batches of a set, each with its codes, drawn again.

    Raises:
        DataError: it is no such set, or this version of NumPy draws other codes.
    """
    try:
        with open(path, "rb") as handle, NpzFile(handle, allow_pickle=False) as found:
            parts = [found[name] for name in COLUMNS]
            _check(parts)
    except (OSError, ValueError, KeyError, EOFError, TypeError, OverflowError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a set of drawn codes with labels: {brief(error)}") from error
    for seed, number, numbers, kind, digest, h in zip(*parts, strict=True):
        n, k, m = map(int, numbers)
        batch = DrawnBatch(int(seed), int(number), (n, k, m), LONG_KINDS[kind], h)
        P = draw_batch(*batch[:4])
        if _digest(P) != digest:
            raise DataError(
                f"{path}: NumPy {np.__version__} draws other codes of ({group_name(batch.group)}) than when "
                "they were labelled; label them again"
            )
        yield batch, P
