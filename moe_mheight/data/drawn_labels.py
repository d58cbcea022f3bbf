"""Exact heights of codes that are drawn again from a seed: a few bytes a code, where the matrices would be kilobytes.

A batch is COUNT codes of one (n, k, m) and one kind; its number and the seed of the set decide its random stream.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from .._io import write_file
from ..codes.generators import random_codes
from ..errors import DataError, brief
from ..groups import Group, group_name

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
    return crc32(np.ascontiguousarray(P).tobytes())


def write_batches(path: Path, batches: Iterable[DrawnBatch]) -> None:
    """Write a set: seed, number, kind as a place in LONG_KINDS, digest (B,); group (B, 3); h (B, COUNT)."""
    found = list(batches)
    arrays = {
        "seed": np.array([batch.seed for batch in found], np.uint32),
        "group": np.array([batch.group for batch in found], np.uint8).reshape(-1, 3),
        "number": np.array([batch.number for batch in found], np.uint32),
        "kind": np.array([LONG_KINDS.index(batch.kind) for batch in found], np.uint8),
        "digest": np.array([_digest(draw_batch(*batch[:4])) for batch in found], np.uint32),
        "h": np.array([batch.h for batch in found]).reshape(-1, COUNT),
    }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_file(path, content.getvalue())


def read_batches(path: Path) -> Iterator[tuple[DrawnBatch, NDArray[np.float64]]]:
    """The batches of a set, each with its codes, drawn again.

    Raises:
        DataError: it is no such set, or this version of NumPy draws other codes.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            parts = [found[name] for name in ("seed", "number", "group", "kind", "digest", "h")]
    except (OSError, ValueError, KeyError, EOFError) as error:
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
