"""Training the experts of long codes of one tier, from exact labels of codes that are drawn again (`drawn_labels`).

Codes whose batch number is 0 mod HELD_OUT calibrate, the others train; groups that a set does not hold, as those of the
table that `mheight ensemble-eval` prints, are seen by neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from torch import Tensor, nn

from ..brackets import long_codes
from ..brackets.swap_samples import sample_swaps
from ..brackets.swap_scores import FIXED, SHAPES, Ranking, fixed_scores
from ..codes.minors import are_whole
from ..data.drawn_labels import DrawnBatch, read_batches
from ..data.rows import silently
from ..errors import DataError
from ..groups import Group, tier_of
from ..numerics.jit import thread_count
from .checkpoints import FRESH
from .long_experts import (
    GAP_SHIFT,
    HIDDEN,
    HIDDEN_RANKING,
    Calibration,
    LongExpert,
    LongTier,
    answers,
    judge,
    ranking_of,
    upper_bits,
)
from .search_records import READ, read_records
from .torch_threads import on_threads

SHIPPED_LABELS = "long_labels.npz"
"""The set of labels inside this package."""

HELD_OUT = 4
"""One batch in so many calibrates."""

STAGES = 5
"""Stages of a search that are read: after 1, 2, 4, 8 and 16 times the first rounds."""

SAMPLED, SCANS = 2, 10
"""Codes of a batch whose swaps are sampled, and scans of each."""

SHARPNESS = 20.0
"""Of the distribution over the swaps of a scan that the ranking learns: exp(SHARPNESS log2 h)."""

RANKING_STEPS, RECORD_STEPS, BATCH = 1500, 4000, 256

MISSED = 1e-7
"""Bits: more than that below the height, the best is not the height."""

MOST_BITS = 4.0
"""Bits missing are cut to this, for training, so that a few codes do not decide everything."""

FEWEST_MISSED = 20
"""Codes with something missing that quantiles need."""

LEVELS = np.array([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1.0])

Advance = Callable[[int], None]


def shipped_labels() -> Path:
    """Where the labels lie that ship with this package."""
    return Path(str(resources.files("moe_mheight.experts") / SHIPPED_LABELS))


class Scans(NamedTuple):
    """Swaps of sets, SWAPS a scan: what is read (A, SWAPS, SHAPES), log2 of their heights (A, SWAPS), held out (A,)."""

    read: NDArray[np.float64]
    log2_h: NDArray[np.float64]
    held_out: NDArray[np.bool_]


class Searches(NamedTuple):
    """Searches after each of their stages: what is read (A, len(READ)), bits missing (A,), group (A, 3), held out (A,),
    stage (A,)."""

    read: NDArray[np.float64]
    missing: NDArray[np.float64]
    group: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    stage: NDArray[np.int64]


def _batches(labels: Path, tier: str) -> Iterator[tuple[DrawnBatch, NDArray[np.float64], NDArray[np.float64]]]:
    """Those of a tier, with the codes of finite height and these."""
    for batch, P in read_batches(labels):
        finite = np.isfinite(batch.h)
        if tier_of(*batch.group) == tier and finite.any():
            yield batch, P[finite], batch.h[finite]


def count_batches(labels: Path, tier: str) -> int:
    """How many batches of a tier a set of labels holds.

    Raises:
        DataError: it is no such set, or has no batch of the tier to train on, or none to hold out.
    """
    held = [batch.number % HELD_OUT == 0 for batch, *_ in _batches(labels, tier)]
    if not 0 < sum(held) < len(held):
        raise DataError(
            f"{labels} holds {len(held)} batches of the {tier} tier, {sum(held)} of them held out: more labels are "
            "needed, as `python benchmarks/label_long_codes.py batches` makes them"
        )
    return len(held)


def collect_scans(labels: Path, tier: str, advance: Advance = silently) -> Scans:
    """Sampled swaps of a tier's codes, with their exact heights."""
    read, log2_h, held = [], [], []
    for batch, P, _ in _batches(labels, tier):
        for code in P[:SAMPLED]:
            x, y = sample_swaps(code, batch.group[2], SCANS, seed=batch.number)
            read.append(x)
            log2_h.append(y)
            held.append(np.full(len(x), batch.number % HELD_OUT == 0))
        advance(1)
    return Scans(np.concatenate(read), np.concatenate(log2_h), np.concatenate(held))


def search_stages(
    P: NDArray[np.float64], group: Group, h: NDArray[np.float64], ranking: Ranking, seed: int, threads: int | None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """After each stage of the searches of codes with heights h: what is read of them, and the bits missing."""
    m, whole = group[2], are_whole(P)
    records, rounds, done = long_codes.begin(len(P), seed), long_codes.first_rounds(*group), 0
    for _ in range(STAGES):
        long_codes.go_on(P, m, records, rounds, ranking=ranking, threads=threads)
        done += rounds
        rounds = done
        lower = long_codes.certify(P, m, records, threads=threads).lower
        with np.errstate(invalid="ignore"):
            yield read_records(records, group, whole), np.maximum(np.log2(h) - np.log2(lower), 0.0)


def collect_searches(
    labels: Path, tier: str, ranking: Ranking, advance: Advance = silently, threads: int | None = None
) -> Searches:
    """The searches of a tier's codes, read after each stage."""
    parts: list[tuple[Any, ...]] = []
    for batch, P, h in _batches(labels, tier):
        for stage, (read, missing) in enumerate(search_stages(P, batch.group, h, ranking, batch.number, threads)):
            fine = np.isfinite(missing) & np.isfinite(read).all(1)
            count = int(fine.sum())
            held = np.full(count, batch.number % HELD_OUT == 0)
            group = np.repeat([batch.group], count, axis=0)
            parts.append((read[fine], missing[fine], group, held, np.full(count, stage)))
        advance(1)
    return Searches(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def train_ranking(scans: Scans, seed: int, steps: int = RANKING_STEPS) -> LongExpert:
    """One member's ranking: listwise, so that the best swap of a scan comes first, and close to the heights."""
    train = ~scans.held_out
    read, log2_h, fixed = scans.read[train], scans.log2_h[train], fixed_scores(scans.read[train])
    mean, std = read.mean((0, 1)), read.std((0, 1)) + 1e-6
    x, y, base = _tensor((read - mean) / std), _tensor(log2_h), _tensor(fixed)
    with FRESH:
        torch.manual_seed(seed)
        hidden, out = nn.Linear(SHAPES, HIDDEN_RANKING), nn.Linear(HIDDEN_RANKING, 1, bias=False)
        nn.init.normal_(out.weight, 0.0, 0.05)
    draws = torch.Generator().manual_seed(seed)
    parameters = [*hidden.parameters(), *out.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, steps)
    for _ in range(steps):
        at = torch.randint(len(x), (BATCH,), generator=draws)
        score = base[at] + out(nn.functional.softsign(hidden(x[at])))[..., 0]
        wanted = torch.softmax(SHARPNESS * y[at], 1)
        listwise = -(wanted * torch.log_softmax(SHARPNESS * score, 1)).sum(1).mean()
        objective = 10.0 * ((score - y[at]) ** 2).mean() + 0.1 * listwise
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
        schedule.step()
    weight, shift, outer = (part.detach().numpy().astype(np.float64) for part in parameters)
    return {
        "ranking.inner": weight / std,
        "ranking.shift": shift - (weight / std) @ mean,
        "ranking.outer": outer[0],
    }


def train_record(searches: Searches, seed: int, steps: int = RECORD_STEPS) -> LongExpert:
    """One member's judgement of searches: the log score for what is found, squared errors for what is missing."""
    train = ~searches.held_out
    read, missing = searches.read[train], searches.missing[train]
    mean, std = read.mean(0), read.std(0) + 1e-3
    x, found, bits = _tensor((read - mean) / std), _tensor(missing <= MISSED), _tensor(np.minimum(missing, MOST_BITS))
    with FRESH:
        torch.manual_seed(1000 + seed)
        layers = [nn.Linear(len(READ), HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 2)]
    draws = torch.Generator().manual_seed(1000 + seed)
    optimizer = torch.optim.AdamW([p for layer in layers for p in layer.parameters()], 1e-2, weight_decay=3e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    for _ in range(steps):
        at = torch.randint(len(x), (2 * BATCH,), generator=draws)
        z = x[at]
        for layer in layers[:-1]:
            z = nn.functional.softsign(layer(z))
        logit, gap = layers[-1](z).unbind(1)
        gap = nn.functional.softplus(gap - GAP_SHIFT)
        objective = nn.functional.binary_cross_entropy_with_logits(logit, found[at])
        objective = objective + 3.0 * ((1.0 - found[at]) * (gap - bits[at]) ** 2).mean()
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
        schedule.step()
    arrays = {"record.mean": mean, "record.std": std}
    for place, layer in enumerate(layers):
        arrays[f"record.{place}.weight"] = layer.weight.detach().numpy().astype(np.float64)
        arrays[f"record.{place}.bias"] = layer.bias.detach().numpy().astype(np.float64)
    return arrays


def calibrate(members: list[LongExpert], searches: Searches) -> Calibration:
    """What the held-out codes show: certainty by isotonic regression, bits missing by their quantiles."""
    held = searches.held_out
    read, missing = searches.read[held], searches.missing[held]
    nothing = Calibration(*np.zeros((5, 0)))
    logit, gap = (part.mean(0) for part in answers(LongTier(members, nothing).stacked, read))
    found = (missing <= MISSED).astype(float)
    grid = np.unique(np.quantile(logit, np.linspace(0.0, 1.0, 65)))
    # one code more that is wrong and one that is right: nobody has seen enough to say 0 or 1
    x, y = np.concatenate([logit, [logit.min(), logit.max()]]), np.concatenate([found, [1.0, 0.0]])
    weight = np.concatenate([np.ones(len(logit)), [1.0, 1.0]])
    share = IsotonicRegression(out_of_bounds="clip").fit(x, y, weight).predict(grid)
    ratio = missing[found == 0.0] / gap[found == 0.0]
    quantiles = np.quantile(ratio, LEVELS) if len(ratio) >= FEWEST_MISSED else 64.0 * LEVELS
    certainty = np.maximum.accumulate(np.clip(share, 0.0, 1.0))
    expected, bits = (1.0 - np.interp(logit, grid, certainty)) * gap, np.minimum(missing, MOST_BITS)
    added = np.clip((expected * bits).sum() / max((expected**2).sum(), 1e-30), 0.0, 1.0)
    return Calibration(grid, certainty, LEVELS, quantiles, added)


def train_long(
    labels: Path, tier: str, seeds: int, *, advance: Advance = silently, threads: int | None = None
) -> tuple[LongTier, dict[str, Any]]:
    """The members of a tier and their calibration, and figures on the held-out codes.

    Args:
        labels: a set of `drawn_labels`.
        seeds: members.
        advance: told of every batch of labels that was searched.
        threads: default all cores.

    Raises:
        DataError: the labels are no such set, or hold too few codes of the tier.
    """
    count_batches(labels, tier)
    workers = thread_count(threads)
    scans = collect_scans(labels, tier, advance)
    rankings = on_threads(workers, lambda: [train_ranking(scans, seed) for seed in range(seeds)])
    searches = collect_searches(labels, tier, ranking_of(rankings), advance, threads)
    records = on_threads(workers, lambda: [train_record(searches, seed) for seed in range(seeds)])
    members = [ranking | record for ranking, record in zip(rankings, records, strict=True)]
    found = LongTier(members, calibrate(members, searches))
    return found, {"ranking": _ranking_figures(scans, rankings), "stages": _stage_figures(found, searches)}


def _ranking_figures(scans: Scans, rankings: list[LongExpert]) -> dict[str, float]:
    """How the ranking orders held-out scans, and how the fixed one does."""
    read, log2_h = scans.read[scans.held_out], scans.log2_h[scans.held_out]
    figures = {"scans": float(len(read))}
    network = ranking_of(rankings)
    for name, ranking in (("fixed", FIXED), ("learned", network)):
        z = read @ ranking.inner + ranking.shift
        score = fixed_scores(read) + (z / (1.0 + np.abs(z))) @ ranking.outer
        first = np.take_along_axis(log2_h, score.argmax(1)[:, None], 1)[:, 0]
        figures[f"{name} first is best"] = float((score.argmax(1) == log2_h.argmax(1)).mean())
        figures[f"{name} bits lost"] = float((log2_h.max(1) - first).mean())
        figures[f"{name} std, bits"] = float((log2_h - score).std())
    return figures


def _stage_figures(tier: LongTier, searches: Searches) -> list[dict[str, float | None]]:
    """What the experts say of the held-out searches after each stage."""
    out = []
    for stage in range(STAGES):
        rows = searches.held_out & (searches.stage == stage)
        missing, judged = searches.missing[rows], judge(tier, searches.read[rows])
        found = missing <= MISSED
        base, sure = found.mean(), judged.certainty >= 0.99
        out.append({
            "codes": float(rows.sum()),
            "found": float(base),
            "lower bound alone": float(np.mean(missing**2)),
            "prediction": float(np.mean((missing - judged.expected) ** 2)),
            "Brier score": float(np.mean((judged.certainty - found) ** 2)),
            "of the base rate": float(base * (1.0 - base)),
            "certain of 0.99": float(sure.mean()),
            "of these right": float(found[sure].mean()) if sure.any() else None,
            **{f"covered at {level}": float((missing <= upper_bits(tier, judged, level) + MISSED).mean())
               for level in (0.5, 0.8, 0.9, 0.95, 0.99)},
        })  # fmt: skip
    return out
