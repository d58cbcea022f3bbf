"""Predictions for long codes: a search in stages, ended for each code when the experts are certain enough.

The first stage has `brackets.long_codes.first_rounds`, or half of what `patience` allows; the second as many, and each
later one twice as many as the one before it. So most codes cost a stage or two, and one whose search keeps finding
better sets up to 2^(stages - 1) stages.
"""

from __future__ import annotations

import time
from math import comb, inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..brackets import long_codes
from ..brackets.search_room import INFINITE, Record
from ..codes.minors import are_whole
from ..errors import CodeError, brief
from ..experts.long_experts import Judgement, LongTier, judge, upper_bits
from ..experts.measurement import Measurement
from ..experts.search_records import read_records
from ..groups import Group


class Effort(NamedTuple):
    """Search until the experts are that certain, or expect no larger squared error of the lower bound, in bits squared;
    for so many stages at most, and so many seconds a code.

    work: seconds of a usual machine (`brackets.long_codes.round_seconds`), so that the answer is the same on any.
    """

    certainty: float
    error: float
    stages: int
    work: float
    seconds: float = inf


EFFORTS = {
    "fast": Effort(certainty=0.9, error=1e-3, stages=1, work=0.1),
    "default": Effort(certainty=0.97, error=7e-5, stages=5, work=0.25),
    "thorough": Effort(certainty=0.999, error=1e-7, stages=8, work=2.5),
}
"""What `effort` names."""

PROOF_OF_A_LEAF, IN_A_CROWD = 2.5e-6, 0.3e-6
"""Seconds of a proof for each of its C(k + m - 1, m) leaves, to a factor of five; where plans are CROWDED, most leaves
are pruned. See `exact.cost_model`."""

PATIENT = 0.999
"""Certainty that is worth a quarter of the time of a proof of less than SHORT seconds, a sixtieth of a longer one."""

SHORT = 0.1

LONGEST_SEARCH = 24
"""Stages of a search that only time ends."""

SLIP = 1e-9
"""Bits that an interval reaches above the certified bound where that is the height."""

Weighted = list[tuple[float, LongTier]]
"""The tiers that a code is routed to, with their gate weights."""


def effort_of(effort: Any) -> Effort:
    """The effort that a name or a number of seconds a code stands for.

    Raises:
        CodeError: it is neither.
    """
    if isinstance(effort, str) and effort in EFFORTS:
        return EFFORTS[effort]
    if not isinstance(effort, (bool, str)) and isinstance(effort, (int, float, np.number)) and 0.0 < effort < inf:
        return Effort(1.0, 0.0, LONGEST_SEARCH, inf, float(effort))
    raise CodeError(f"effort must be {', '.join(EFFORTS)} or seconds a code, above 0, got {brief(effort)}")


def patience(n: int, k: int, m: int) -> float:
    """Rounds that a search may take to become PATIENT."""
    crowded = long_codes.plan_for(n, k, m) != long_codes.PLAN
    proof = (IN_A_CROWD if crowded else PROOF_OF_A_LEAF) * comb(k + m - 1, m)
    return proof / (4.0 if proof < SHORT else 60.0) / long_codes.round_seconds(n, m)


def measure_long(
    P: NDArray[np.float64],
    m: int,
    tiers: Weighted,
    effort: Effort,
    *,
    coverage: float | None = None,
    threads: int | None = None,
) -> Measurement:
    """What is known of the heights of codes (B, k, r) of one group after such a search.

    Bounds from below are certified, `certainty` is the probability that they are the heights; none from above is known.
    Positions and predicted errors are bits above the lower bound. The seed of a search is fixed, so that the same code
    gets the same answer, unless time ends the search.
    """
    count, k, r = P.shape
    group = (k + r, k, m)
    records = long_codes.begin(count)
    judged = _search(P, group, tiers, effort, records, threads)
    found = long_codes.certify(P, m, records, threads=threads)
    infinite = np.isinf(found.lower)
    stopped = ~infinite & (records.heights.max(1) > INFINITE)  # by a height that rounding made
    certainty = np.where(infinite, 1.0, np.where(stopped, 0.0, judged.certainty))
    added = np.where(infinite, 0.0, judged.expected)
    height = found.lower * np.exp2(added)
    low = high = None
    if coverage is not None:
        loudest = max(tiers, key=lambda pair: pair[0])[1]
        bits = upper_bits(loudest, judged, coverage) + SLIP
        low = found.lower
        high = np.full(count, inf) if coverage >= 1.0 else found.lower * np.exp2(np.where(infinite, 0.0, bits))
        high = np.where(stopped, inf, high)
    return Measurement(
        found.lower,
        np.full(count, inf),
        height,
        np.where(infinite, 0.0, judged.std_bits),
        np.where(infinite, np.nan, added),
        np.where(infinite, np.nan, (1.0 - judged.certainty) * judged.gap),
        found.lower,
        np.full(count, inf),
        ~infinite & (certainty < 1.0),
        certainty,
        low,
        high,
    )


def _search(
    P: NDArray[np.float64], group: Group, tiers: Weighted, effort: Effort, records: Record, threads: int | None
) -> Judgement:
    """Search all codes, and say how it went."""
    n, _, m = group
    count = len(P)
    judged = Judgement(*np.zeros((4, count)))
    if comb(n, m) <= long_codes.FEW_SETS:
        long_codes.go_on(P, m, records, 1, threads=threads)
        return judged._replace(certainty=np.ones(count))
    ranking, whole = max(tiers, key=lambda pair: pair[0])[1].ranking, are_whole(P)
    began, done, rows = time.monotonic(), 0, np.arange(count)
    most = max(1.0, effort.work / long_codes.round_seconds(n, m))
    patient = patience(*group)
    rounds = int(min(max(long_codes.first_rounds(*group), patient / 2.0), most))
    for _ in range(effort.stages):
        part = long_codes.rows_of(records, rows)
        long_codes.go_on(P[rows], m, part, rounds, ranking=ranking, threads=threads)
        done += rounds
        for whole_of_it, changed in zip(records, part, strict=True):
            whole_of_it[rows] = changed
        now = _judged(tiers, read_records(part, group, whole[rows]))
        for column, values in zip(judged, now, strict=True):
            column[rows] = values
        certainty = max(effort.certainty, PATIENT) if done < patient else effort.certainty
        unsure = (now.certainty < certainty) & ((1.0 - now.certainty) * now.gap**2 > effort.error)
        going_on = unsure & (part.heights.max(1) < INFINITE)
        rows, elapsed = rows[going_on], time.monotonic() - began
        left = effort.seconds * count - elapsed
        rounds = int(min(done if left >= elapsed else done * left / elapsed, most - done))
        if not len(rows) or rounds < 1:
            break
    return judged


def _judged(tiers: Weighted, read: NDArray[np.float64]) -> Judgement:
    """What the tiers say together, by their gate weights."""
    said = [(weight, judge(tier, read)) for weight, tier in tiers]
    mixed = [np.sum([weight * one[place] for weight, one in said], axis=0) for place in range(len(Judgement._fields))]
    return Judgement(*mixed)
