"""Split-conformal intervals: how far from the expert's position the truth may lie, learnt from held-out codes.

What is calibrated is the signed error of the position divided by the expert's predicted error. Codes fall into BINS
cells of growing predicted error (Mondrian); each has its own quantiles, so that easy and hard codes are each covered as
often as they should. A height that its bounds decide leaves nothing to calibrate: there the interval is the certified
bracket, truncated at random just as often as the coverage asked for wants it (`truncate`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError

BINS = 8
"""Cells, equally filled on the calibration codes."""

LEVELS = np.concatenate([[0.0005, 0.001, 0.0025], np.arange(1, 200) / 200, [0.9975, 0.999, 0.9995]])
"""Levels whose quantiles are stored."""

FEWEST = 20
"""Calibration codes that a cell needs to say anything."""

UNKNOWN = np.where(LEVELS < 0.5, -1e9, 1e9)
"""Quantiles of a cell that has not seen FEWEST codes: its intervals are whole brackets."""

SLIP = 1e-9
"""Bits."""

Floats = NDArray[np.float64]


def fit(truth: Floats, position: Floats, predicted_error: Floats) -> dict[str, Any]:
    """Calibrate on held-out codes of one tier that were routed to experts.

    Args:
        truth, position: (A,), where in its bracket log2 h lies, and where the expert puts it.
        predicted_error: (A,), what the expert expects |truth - position| to be; > 0.

    Returns:
        {"edges": BINS - 1 predicted errors between the cells, "quantiles": BINS lists, one entry for each of LEVELS}.
    """
    error = predicted_error
    edges = np.quantile(error, np.arange(1, BINS) / BINS) if len(error) else np.zeros(BINS - 1)
    cell = np.searchsorted(edges, error)
    score = (truth - position) / error
    quantiles = []
    for number in range(BINS):
        of_cell = score[cell == number]
        quantiles.append(np.quantile(of_cell, LEVELS).tolist() if len(of_cell) >= FEWEST else UNKNOWN.tolist())
    return {"edges": edges.tolist(), "quantiles": quantiles}


def interval(
    table: dict[str, Any], position: Floats, predicted_error: Floats, coverage: float, highest: float = 1.0
) -> tuple[Floats, Floats]:
    """Ends of the intervals as positions in the bracket, (A,) each, never outside [0, highest].

    Open-ended ones (highest = inf) start at 0: a search that has visited the right set has its height there, to SLIP
    bits.
    """
    if coverage >= 1.0:
        return np.zeros_like(position), np.full_like(position, highest)
    cell = np.searchsorted(np.array(table["edges"]), predicted_error)

    def end(level: float) -> Floats:
        at = np.array([np.interp(level, LEVELS, quantiles) for quantiles in table["quantiles"]])
        reached: Floats = np.clip(position + at[cell] * predicted_error, 0.0, highest)
        return reached

    if highest == np.inf:
        return np.zeros_like(position), end(coverage) + SLIP
    return end((1.0 - coverage) / 2.0), end((1.0 + coverage) / 2.0)


def truncate(coverage: float, seeds: NDArray[np.uint64]) -> tuple[Floats, Floats]:
    """Random pieces (low, high) of [0, 1], (B,) each, that hold any given point with probability `coverage`.

    Cut at a random place and keep a side at random: that halves the probability, wherever the point is. A piece is cut
    as often as need be, the last time with the probability that gives the coverage, so pieces of one seed are nested.
    seeds: (B,), the only source of chance.
    """
    low, high = np.zeros(len(seeds)), np.ones(len(seeds))
    times = int(np.log2(1.0 / max(coverage, 1e-9)))
    spared = 2.0 * coverage * 2.0**times - 1.0
    for i in range(times + 1):
        at, side = low + _uniform(seeds, 2 * i + 1) * (high - low), _uniform(seeds, 2 * i + 2) < 0.5
        cuts = (i < times) | (_uniform(seeds, 0) >= spared)
        low, high = np.where(cuts & side, at, low), np.where(cuts & ~side, at, high)
    return low, high


def hashes(P: Floats, m: int) -> NDArray[np.uint64]:
    """A number for each code of a batch (B, k, r) that looks random and depends on nothing but P and m."""
    count, k, r = P.shape
    entries = np.ascontiguousarray(P.reshape(count, k * r) + 0.0).view(np.uint64)  # + 0.0: no negative zero
    found = np.full(count, m, np.uint64)
    for entry in entries.T:
        found = splitmix64(found ^ entry)
    return found


def splitmix64(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers that look random, of others that need not."""
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _uniform(seeds: NDArray[np.uint64], number: int) -> Floats:
    """(B,) in [0, 1): the seed's number-th random number."""
    bits = splitmix64(seeds ^ splitmix64(np.full(1, number, np.uint64))) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def check(table: Any) -> dict[str, Any]:
    """The table, if `fit` could have made it.

    Raises:
        ModelError: it is something else.
    """
    try:
        edges, quantiles = np.array(table["edges"], float), np.array(table["quantiles"], float)
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ModelError("the calibration is not a table of edges and quantiles") from error
    shapes = edges.shape == (BINS - 1,) and quantiles.shape == (BINS, len(LEVELS))
    if not (shapes and all(np.isfinite(a).all() and (np.diff(a) >= 0).all() for a in (edges, quantiles))):
        raise ModelError("the calibration is not a table of ascending edges and quantiles of the right shape")
    return {"edges": edges.tolist(), "quantiles": quantiles.tolist()}
