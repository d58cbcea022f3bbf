"""Exact labels for codes that are there: of a file, of a set of any size; and an audit of the labels of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CodeError, DataError, FolderError
from ..exact.heights import m_height
from ..groups import Group
from .npz_files import from_npz
from .rows import Codes, Data, silently
from .shards import build
from .sources import Source, by_row, of


def exact_heights(
    data: Source | Data, threads: int | None = None, advance: Callable[[int], None] = silently
) -> NDArray[np.float64]:
    """Exact heights (rows,), in the order of the rows; advance is told how many were done."""
    return by_row(data, partial(_heights, threads=threads), advance)


def _heights(codes: Codes, group: Group, threads: int | None) -> NDArray[np.float64]:
    h: NDArray[np.float64] = m_height(codes.P, group[2], threads=threads)
    return h


def label_set(
    folder: Path,
    source: Source,
    *,
    threads: int | None = None,
    force: bool = False,
    advance: Callable[[int], None] = silently,
) -> dict[str, Any]:
    """The codes of a source with exact heights as a folder of shards, one for each of its pieces, resumed if begun.

    Args:
        folder: of the new set.
        source: codes, with or without labels, which are not looked at.
        threads: of each worker; the result does not depend on it.
        force, advance: as in `generate_set`.

    Returns:
        The complete manifest, see `shards.build`.

    Raises:
        FolderError: see `shards.build`; other codes than those it was begun with count as other settings.
        DataError: see `sources.open_codes`.
    """
    if source.folder is not None and folder.resolve() == source.folder.resolve():
        raise FolderError(f"{folder} is where the codes come from; choose another folder for the labelled ones")
    settings = {"codes": source.stamp(), "rows": source.rows}
    make = partial(_labelled, threads=threads)
    return build(folder, source.shards, source.content, make, settings, force=force, advance=advance)


def _labelled(content: bytes, threads: int | None) -> Data:
    data = from_npz(content, "a shard")
    return {group: Codes(c.P, c.row, m_height(c.P, group[2], threads=threads)) for group, c in data.items()}


@dataclass(frozen=True, eq=False)
class Audit:
    """What exact heights say about a file's labels; arrays of row places, ascending.

    truly_infinite: labelled with a number, but the height is infinite. falsely_infinite: the reverse. wrong: both are
    numbers that differ by more than the tolerance. h and label are in file order.
    """

    h: NDArray[np.float64]
    label: NDArray[np.float64]
    truly_infinite: NDArray[np.int64]
    falsely_infinite: NDArray[np.int64]
    wrong: NDArray[np.int64]
    worst: float


def labels(data: Source | Data) -> NDArray[np.float64]:
    """The labels of a file or set (rows,), in the order of the rows.

    Raises:
        DataError: it has none.
    """
    source = data if isinstance(data, Source) else of(data)
    if not source.labelled:
        raise DataError("an audit needs a labelled file")
    label = np.empty(source.rows)
    for piece in source.pieces():
        for codes in piece.values():
            label[codes.row] = codes.h
    return label


def audit(
    data: Source | Data,
    tolerance: float = 1e-6,
    threads: int | None = None,
    advance: Callable[[int], None] = silently,
    h: NDArray[np.float64] | None = None,
) -> Audit:
    """Compare labels with the exact heights.

    Args:
        data: a labelled file or set.
        tolerance: relative difference up to which a label is right.
        threads, advance: as in `exact_heights`.
        h: the exact heights, where they are known.

    Raises:
        DataError: there are no labels.
        CodeError: tolerance is negative.
    """
    if not tolerance >= 0:
        raise CodeError(f"tolerance must be >= 0, got {tolerance}")
    label = labels(data)
    h = exact_heights(data, threads, advance) if h is None else h
    both = np.isfinite(h) & np.isfinite(label)
    off = np.zeros(len(h))
    off[both] = np.abs(label[both] / h[both] - 1.0)
    return Audit(
        h,
        label,
        np.flatnonzero(np.isinf(h) & np.isfinite(label)),
        np.flatnonzero(np.isfinite(h) & np.isinf(label)),
        np.flatnonzero(off > tolerance),
        float(off.max(initial=0.0)),
    )
