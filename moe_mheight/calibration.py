"""Split-conformal intervals: how far from the expert's position the truth may lie, learnt from held-out codes.

What is calibrated is the signed error of the position divided by the expert's own doubt. Codes fall into cells
(Mondrian): closed brackets, where rounding is all that is left, and BINS cells of growing doubt; each cell has its
own quantiles, so that easy and hard codes are each covered as often as they should.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError

BINS = 8
"""Cells of open brackets, equally filled on the calibration codes."""

LEVELS = np.concatenate([[0.0005, 0.001, 0.0025], np.arange(1, 200) / 200, [0.9975, 0.999, 0.9995]])
"""Levels whose quantiles are stored."""

UNKNOWN = np.where(LEVELS < 0.5, -1e9, 1e9)
"""Quantiles of a cell that no calibration code fell into: its intervals are whole brackets."""

Floats = NDArray[np.float64]


def fit(truth: Floats, position: Floats, doubt: Floats, closed: NDArray[np.bool_]) -> dict[str, Any]:
    """Calibrate on held-out codes of one tier.

    Args:
        truth, position: (B,), where in its bracket log2 h lies, and where the expert puts it.
        doubt: (B,), what the expert expects |truth - position| to be; > 0.
        closed: (B,), brackets without room for a position.

    Returns:
        {"edges": BINS - 1 doubts between the open cells, "quantiles": (1 + BINS) lists, one for each of LEVELS}.
    """
    edges = np.quantile(doubt[~closed], np.arange(1, BINS) / BINS) if (~closed).any() else np.zeros(BINS - 1)
    cell = _cells(edges, doubt, closed)
    score = (truth - position) / doubt
    quantiles = []
    for number in range(BINS + 1):
        mine = score[cell == number]
        quantiles.append(np.quantile(mine, LEVELS).tolist() if len(mine) else UNKNOWN.tolist())
    return {"edges": edges.tolist(), "quantiles": quantiles}


def interval(
    table: dict[str, Any],
    position: Floats,
    doubt: Floats,
    closed: NDArray[np.bool_],
    coverage: float,
    most: float = 1.0,
) -> tuple[Floats, Floats]:
    """Ends of the intervals as positions in the bracket, (B,) each, never outside [0, most]; inf if open-ended."""
    if coverage >= 1.0:
        return np.zeros_like(position), np.full_like(position, most)
    cell = _cells(np.array(table["edges"]), doubt, closed)
    ends = []
    for level in ((1.0 - coverage) / 2.0, (1.0 + coverage) / 2.0):
        at = np.array([np.interp(level, LEVELS, quantiles) for quantiles in table["quantiles"]])
        ends.append(np.clip(position + at[cell] * doubt, 0.0, most))
    return ends[0], ends[1]


def check(table: Any) -> dict[str, Any]:
    """The table, if `fit` could have made it.

    Raises:
        ModelError: it is something else.
    """
    try:
        edges, quantiles = np.array(table["edges"], float), np.array(table["quantiles"], float)
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ModelError("the calibration is not a table of edges and quantiles") from error
    shapes = edges.shape == (BINS - 1,) and quantiles.shape == (BINS + 1, len(LEVELS))
    if not (shapes and all(np.isfinite(a).all() and (np.diff(a) >= 0).all() for a in (edges, quantiles))):
        raise ModelError("the calibration is not a table of ascending edges and quantiles of the right shape")
    return {"edges": edges.tolist(), "quantiles": quantiles.tolist()}


def _cells(edges: Floats, doubt: Floats, closed: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(closed, 0, 1 + np.searchsorted(edges, doubt))
