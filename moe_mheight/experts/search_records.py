"""What an expert reads of the record of a search: how long it went on, how often it came back, how far the rest is."""

from __future__ import annotations

from math import comb, log2

import numpy as np
from numpy.typing import NDArray

from ..brackets.search_room import HITS, LAST, NEAR, PROGRAMS, RETURNS, ROUNDS, SOLVED, SURPRISES, Record
from ..groups import Group, slack_of

READ = (
    "log rounds", "log hits", "log returns", "log rounds since", "last, of all rounds", "hits a round",
    "returns a round", "bits to the second", "bits to the third", "bits to the last", "log sets solved", "log programs",
    "log surprises", "log swaps tried", "log2 of the best height", "n", "k / n", "m / (n - k)", "slack / (n - k)",
    "log sets", "log leaves of a proof", "integers",
)  # fmt: skip
"""Names of the columns."""


def read_records(records: Record, group: Group, whole: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What is read of B searches of codes of one group, (B, len(READ)); whole: (B,), codes of integers."""
    n, k, m = group
    counts, heights = records.counts, -np.sort(-records.heights, axis=1)
    rounds, last = counts[:, ROUNDS], counts[:, LAST]
    since = rounds - last + 1.0
    best = np.log2(np.clip(heights, 1.0, 1e12))
    ones = np.ones(len(counts))
    columns = [
        np.log2(1.0 + rounds) / 8.0,
        np.log2(1.0 + counts[:, HITS]) / 4.0,
        np.log2(1.0 + counts[:, RETURNS]) / 4.0,
        np.log2(since) / 8.0,
        last / np.maximum(rounds, 1.0),
        counts[:, HITS] / since,
        counts[:, RETURNS] / since,
        *(np.sqrt(np.minimum(best[:, 0] - best[:, e], 4.0)) for e in (1, 2, heights.shape[1] - 1)),
        *(np.log2(1.0 + counts[:, place]) / 10.0 for place in (SOLVED, PROGRAMS, SURPRISES, NEAR)),
        best[:, 0] / 16.0,
        ones * n / 64.0,
        ones * k / n,
        ones * m / (n - k),
        ones * slack_of(n, k, m) / (n - k),
        ones * log2(comb(n, m)) / 32.0,
        ones * log2(comb(k + m - 1, m)) / 24.0,
        whole.astype(np.float64),
    ]
    return np.stack(columns, axis=1)
