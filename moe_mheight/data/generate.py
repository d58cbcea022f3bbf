"""Making labelled codes, and splitting codes without leaks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._parallel import asked, each
from ..codes.generators import random_codes
from ..codes.minors import MAX_N, exact_integer_limit, load_lanes, minor_lanes, minor_tables, new_minors
from ..errors import DataError, brief
from ..exact import cost_model
from ..exact.heights import height_profile, m_height
from ..groups import EVALUATOR, HEADLINE, Group, group_name, parse_group
from ..numerics.bitsets import BITS
from ..numerics.jit import LANES, compiled, over_batch, thread_count
from .manifests import Shard
from .rows import Codes, Data, silently
from .shards import build
from .sources import rows_of_shard

MAX_SHARDS = 1_000_000
"""Of a set, whose manifest names them all."""

PIECE = 65536
"""Codes drawn at a time, and labelled, where they are short."""

PIECE_SECONDS = 2.0
"""About how long long codes are labelled between two looks at the progress bar."""


def parse_groups(text: str) -> tuple[Group, ...]:
    """Groups from text: "n9" (the field's nine), "n21" (its evaluator's 21), or "9,4,2;9,5,3".

    Raises:
        DataError: not understood, or a group is out of range.
    """
    named = {"n9": HEADLINE, "n21": EVALUATOR}
    if text in named:
        return named[text]
    groups = []
    for part in text.split(";"):
        try:
            n, k, m = parse_group(part)
        except ValueError as error:
            near = get_close_matches(text, named, 1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise DataError(f'groups must be n9, n21 or like "9,4,2;9,5,3", got {brief(text)}{hint}') from error
        if not (1 <= k < n <= BITS and 1 <= m <= n - k):
            raise DataError(f"group {brief((n, k, m))}: needs 1 <= k < n <= {BITS} and 1 <= m <= n - k")
        groups.append((n, k, m))
    if len(set(groups)) < len(groups):
        raise DataError(f"groups must differ, got {brief(text)}")
    return tuple(groups)


def expected_seconds(groups: tuple[Group, ...], rows: int) -> float:
    """A guess of how long one thread labels `rows` codes of each group, right to a factor of 3 for most kinds."""
    return rows * sum(_label_seconds(group) for group in groups)


def _label_seconds(group: Group) -> float:
    """Of one of many codes, in one thread."""
    alone = cost_model.expected_seconds(*group, threads=1)
    return min(alone, cost_model.seconds("lanes", *group)) if group[0] <= MAX_N else alone


def generate(
    groups: tuple[Group, ...],
    rows: int,
    kind: str,
    seed: int,
    *,
    scale: int = 100,
    infinite: bool = False,
    advance: Callable[[int], None] = silently,
    threads: int | None = None,
) -> Iterator[tuple[Group, Codes]]:
    """Labelled random codes, one group after the other, by the workers at hand (`workers`).

    Args:
        groups: (n, k, m) each.
        rows: codes per group.
        kind: see `generators.random_codes`.
        seed: the same seed gives the same codes, for each group on its own.
        scale: of the kind "integer".
        infinite: keep codes of infinite height, which are drawn again otherwise, as in the field's files.
        advance: told 0 before the first, then how many rows were added, every few seconds unless workers are asked for
            or one code takes longer.
        threads: default all cores; the result does not depend on it.

    Yields:
        (group, Codes), places numbered so that the groups lie one after the other.

    Raises:
        CodeError: no such kind.
        DataError: finite heights are too rare to draw.
    """
    here = asked() is None  # workers may be anywhere, and tell nothing before a shard is done
    draw = partial(draw_shard, kind=kind, seed=seed, scale=scale, infinite=infinite, threads=threads)
    if here:
        draw = partial(draw, advance=advance)
    advance(0)
    for place, group in enumerate(groups):
        drawn = list(_draws({group: rows}))
        parts: dict[int, Codes] = {}
        for number, data in each(draw, drawn):
            parts[number] = data[group]
            if not here:
                advance(len(parts[number].P))
        P, h = (np.concatenate([getattr(parts[i], name) for i in range(len(drawn))]) for name in ("P", "h"))
        yield group, Codes(P, np.arange(place * rows, (place + 1) * rows), h)


Draw = tuple[Group, int, int]
"""A group, which of its shards, and its rows."""


def _draws(groups: dict[Group, int], max_rows: int | None = None) -> Iterator[Draw]:
    for group, rows in groups.items():
        step = max_rows or rows_of_shard(*group)
        for number, first in enumerate(range(0, rows, step)):
            yield group, number, min(step, rows - first)


def draw_shard(
    draw: Draw,
    *,
    kind: str,
    seed: int,
    scale: int = 100,
    infinite: bool = False,
    threads: int | None = None,
    advance: Callable[[int], None] = silently,
) -> Data:
    """The codes of one shard, with exact heights, from a random stream of its own; arguments as in `generate`.

    Raises:
        DataError: finite heights are too rare to draw.
    """
    group, number, rows = draw
    n, k, m = group
    # the first shard's stream is the group's, so that files of few rows do not depend on the size of shards
    rng = np.random.default_rng([seed, n, k, m, *([number] if number else [])])
    P, h, found, tried = np.empty((rows, k, n - k)), np.empty(rows), 0, 0
    step, patience = _codes_at_a_time(group, threads), 1_000_000 if n <= MAX_N else 3000
    chunk = np.empty((0, k, n - k))
    while found < rows:
        if not len(chunk):
            chunk = random_codes(kind, min(PIECE, int(1.1 * (rows - found)) + 16), k, n - k, rng, scale=scale)
        # of long codes no more than are wanted
        piece, chunk = np.split(chunk, [step if n <= MAX_N else min(step, rows - found)])
        heights = _heights(piece, m, threads)
        kept = np.flatnonzero(np.isfinite(heights) | infinite)[: rows - found]
        P[found : found + len(kept)], h[found : found + len(kept)] = piece[kept], heights[kept]
        found, tried = found + len(kept), tried + len(piece)
        advance(len(kept))
        if found < rows and tried > patience and found < tried / 1000:
            raise DataError(
                f"group ({group_name(group)}): fewer than one code in 1000 of this kind has a finite height"
            )
    return {group: Codes(P, np.arange(rows), h)}


def _codes_at_a_time(group: Group, threads: int | None) -> int:
    """How many codes to label between two looks at the progress bar. It changes no label."""
    if group[0] <= MAX_N:
        return PIECE
    each_thread = int(PIECE_SECONDS / _label_seconds(group))
    # fewer than two each `m_height` searches one after the other, by all threads together
    return each_thread * thread_count(threads) if each_thread > 1 else 1


def _heights(P: NDArray[np.float64], m: int, threads: int | None) -> NDArray[np.float64]:
    """Exact heights (B,), the same whatever the threads, the other codes, and what is compiled."""
    _, k, r = P.shape
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "h_[0-9]+ of a code .* by a guess")  # `expected_seconds` tells of all
        # which way is quicker for long codes may hang on what is compiled, and ways differ in the last digit
        method = "auto" if k + r <= MAX_N else cost_model.quickest(k + r, k, m)
        heights: NDArray[np.float64] = m_height(P, m, method=method, threads=threads)
    return heights


def generate_set(
    folder: Path,
    groups: tuple[Group, ...],
    rows: int,
    kind: str,
    seed: int,
    *,
    scale: int = 100,
    infinite: bool = False,
    shard_rows: int | None = None,
    force: bool = False,
    advance: Callable[[int], None] = silently,
) -> dict[str, Any]:
    """Labelled random codes as a folder of shards, made by the workers at hand (`workers`), resumed if begun.

    Whoever makes them, in whatever order and after whatever interruption: the same settings give the same bytes.

    Args:
        folder: of the set.
        shard_rows: rows of a shard, default `sources.rows_of_shard`; a setting like the others, since every shard
            draws from a stream of its own.
        force: start over whatever is there.
        Others: as in `generate`.

    Returns:
        The complete manifest, see `shards.build`.

    Raises:
        FolderError: see `shards.build`. CodeError, DataError: see `generate`.
    """
    settings = {"groups": groups, "rows": rows, "kind": kind, "seed": seed, "scale": scale, "infinite": infinite}
    make = partial(draw_shard, kind=kind, seed=seed, scale=scale, infinite=infinite, threads=1)
    count = sum(-(-rows // (shard_rows or rows_of_shard(*group))) for group in groups)
    if count > MAX_SHARDS:
        raise DataError(f"{count:,} shards are too many, at most {MAX_SHARDS:,}; give more rows a shard")
    draws = list(_draws(dict.fromkeys(groups, rows), shard_rows))
    shards = tuple(Shard(f"{group_name(group, '_')}-{i:05d}.npz", {group: size}) for group, i, size in draws)
    settings |= {"shard_rows": shard_rows}
    return build(folder, shards, draws.__getitem__, make, settings, force=force, advance=advance)


def shuffled(groups: Iterator[tuple[Group, Codes]], seed: int) -> Data:
    """All groups in memory, rows in random order, as the field's files have them."""
    data = dict(groups)
    total = sum(len(codes.P) for codes in data.values())
    order = np.random.default_rng([seed, 0]).permutation(total)
    return {group: Codes(codes.P, order[codes.row], codes.h) for group, codes in data.items()}


@compiled
def _invariants(P, exact_below, tables, out):  # type: ignore[no-untyped-def]
    count, k, r = P.shape
    x = np.empty((k * r, LANES))
    found = new_minors(tables)
    minor, total = found.size, found.total
    sums = np.empty((4, LANES))
    for start in range(0, count, LANES):
        stop = min(start + LANES, count)
        load_lanes(P, start, stop, x)
        minor_lanes(x, exact_below, tables, found)
        sums[:] = 0.0
        for b in range(minor.shape[0]):
            for lane in range(LANES):
                value = minor[b, lane]
                sums[0, lane] += value
                sums[1, lane] += value * value
                sums[2, lane] += np.sqrt(value)
        for d in range(total.shape[0]):
            for lane in range(LANES):
                sums[3, lane] += total[d, lane] * total[d, lane]
        for lane in range(stop - start):
            size = np.sqrt(sums[1, lane])
            out[start + lane, 0] = sums[0, lane] / size
            out[start + lane, 1] = sums[2, lane] / np.sqrt(size)
            out[start + lane, 2] = np.sqrt(sums[3, lane]) / size


def orbit_ids(P: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers such that codes equivalent under the symmetries of the m-height get the same one.

    The absolute values of all minors, up to a common factor, are what a change of basis, permutations and signs leave
    alone. By three sums over them, and the whole profile, one after the other, codes are kept together where values
    follow each other within rounding. Inequivalent codes may stay together too, which a split can afford.

    Args:
        P: (B, k, r), n = k + r <= 16.

    Returns:
        (B,) int64, the least index of each orbit.
    """
    if len(P) == 0:
        return np.empty(0, np.int64)
    P, first, copies = np.unique(P, axis=0, return_index=True, return_inverse=True)
    count, k, r = P.shape
    keys = np.empty((count, 3 + r))
    tables = minor_tables(k + r, k)
    limit = exact_integer_limit(k, r)
    over_batch(lambda i, j: _invariants(P[i:j], limit, tables, keys[i:j]), count)
    profile = height_profile(P)[:, 1:]
    # rounding grows with the height, so very large ones are all alike
    keys[:, 3:] = np.log2(np.minimum(profile, 1e8))
    orbit = np.zeros(count, np.int64)
    for key, tolerance in zip(keys.T, [1e-8, *[1e-6] * (keys.shape[1] - 1)], strict=True):
        order = np.lexsort((key, orbit))
        is_new = (np.diff(orbit[order]) > 0) | (np.diff(key[order]) > tolerance)
        orbit[order] = np.concatenate([[0], np.cumsum(is_new)])
    first_of_orbit = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first_of_orbit, orbit, first)
    return first_of_orbit[orbit][copies.reshape(-1)]


def split(data: Data, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split a file's rows in two, all rows of one orbit, whatever their m, on one side.

    Args:
        data: the file.
        fraction: share of orbits on the second side, 0 < fraction < 1.
        seed: of the draw.

    Returns:
        Places of the rows on the first and on the second side, ascending.

    Raises:
        DataError: fraction out of range, or all rows are one orbit.
    """
    from sklearn.model_selection import GroupShuffleSplit  # noqa: PLC0415  a second to import, for this alone

    if not 0.0 < fraction < 1.0:
        raise DataError(f"fraction must satisfy 0 < fraction < 1, got {fraction}")
    rows, orbits = [], []
    next_free = 0
    for n, k in sorted({(n, k) for n, k, _ in data}):
        members = [codes for (n_, k_, _), codes in data.items() if (n_, k_) == (n, k)]
        P = np.concatenate([codes.P for codes in members])
        rows.append(np.concatenate([codes.row for codes in members]))
        orbits.append(orbit_ids(P) + next_free)
        next_free += len(P)
    row, orbit = (np.concatenate(parts) if parts else np.empty(0, np.int64) for parts in (rows, orbits))
    if len(np.unique(orbit)) < 2:
        raise DataError("a split needs at least two codes that are not equivalent")
    first, second = next(GroupShuffleSplit(1, test_size=fraction, random_state=seed).split(row, groups=orbit))
    return np.sort(row[first]), np.sort(row[second])
