"""The experts of long codes: which swap to solve next, whether the best height found is the height, what is missing.

A member is two small networks. One ranks swaps (`brackets.swap_scores`); as it runs inside the search, the members of a
tier are one network there, whose output is the mean of theirs. The other reads the record of a search
(`search_records`) and answers with the probability that nothing larger exists, and with the bits that are missing where
something does. What a member says of a probability is averaged in logits, then corrected by what held-out codes have
shown (`Calibration`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..brackets.swap_scores import SHAPES, Ranking
from ..errors import ModelError, brief
from .search_records import READ

Floats = NDArray[np.float64]

HIDDEN_RANKING, HIDDEN = 8, 24
"""Hidden units of a member's networks."""

SHAPES_OF = {
    "ranking.inner": (HIDDEN_RANKING, SHAPES), "ranking.shift": (HIDDEN_RANKING,), "ranking.outer": (HIDDEN_RANKING,),
    "record.mean": (len(READ),), "record.std": (len(READ),),
    "record.0.weight": (HIDDEN, len(READ)), "record.0.bias": (HIDDEN,),
    "record.1.weight": (HIDDEN, HIDDEN), "record.1.bias": (HIDDEN,),
    "record.2.weight": (2, HIDDEN), "record.2.bias": (2,),
}  # fmt: skip
"""The arrays of a member, and their shapes."""

GAP_SHIFT = 2.0
"""The network begins with softplus(-GAP_SHIFT) bits missing."""

MOST_SEEDS = 64

FORMAT = "moe_mheight long 1"
"""Of long.json."""

SURE = 0.95
"""From this certainty on nothing is added: the few codes with something missing do not outweigh the others."""

NEGLIGIBLE = 1e-6
"""Expected bits that are not worth adding."""

LongExpert = dict[str, Floats]
"""The arrays of one member, named as in SHAPES_OF."""


class Calibration(NamedTuple):
    """What held-out codes have shown of one tier.

    logits, certainty: (K,) ascending, the mean logit of the members and the share of codes there whose best height was
    the height. levels, quantiles: (Q,) ascending, of the bits missing over those expected, where some were missing.
    share: (), of the expected bits what is worth adding, from 0 to 1.
    """

    logits: Floats
    certainty: Floats
    levels: Floats
    quantiles: Floats
    share: Floats


@dataclass(frozen=True, eq=False)
class LongTier:
    """The experts of a tier's long codes."""

    members: list[LongExpert]
    calibration: Calibration

    @cached_property
    def stacked(self) -> LongExpert:
        """The members' arrays with one more dimension, (members,), first; matrices transposed, for products."""
        names = [name for name in SHAPES_OF if name.startswith("record")]
        stacked = {name: np.stack([member[name] for member in self.members]) for name in names}
        return {
            name: np.ascontiguousarray(array.swapaxes(1, 2)) if array.ndim == 3 else array[:, None, :]
            for name, array in stacked.items()
        }

    @cached_property
    def ranking(self) -> Ranking:
        """The members' rankings as one network."""
        return ranking_of(self.members)


class Judgement(NamedTuple):
    """Of B searches: the probability that the best height is the height, the bits missing if not, those to add to log2
    of the best height, and the std of what the members expect.

    Shapes: (B,) each.
    """

    certainty: Floats
    gap: Floats
    expected: Floats
    std_bits: Floats


def ranking_of(members: list[LongExpert]) -> Ranking:
    """The members' rankings as one network."""
    inner, shift, outer = (np.concatenate([member[f"ranking.{name}"] for member in members]) for name in
                           ("inner", "shift", "outer"))  # fmt: skip
    return Ranking(np.ascontiguousarray(inner.T), shift, outer / len(members))


def _softsign(x: Floats) -> Floats:
    return x / (1.0 + np.abs(x))


def answers(stacked: LongExpert, read: Floats) -> tuple[Floats, Floats]:
    """The members' logits and bits missing, (members, B) each, for what is read of B searches, (B, len(READ))."""
    x = (read - stacked["record.mean"]) / stacked["record.std"]
    for layer in (0, 1):
        x = _softsign(x @ stacked[f"record.{layer}.weight"] + stacked[f"record.{layer}.bias"])
    out = x @ stacked["record.2.weight"] + stacked["record.2.bias"]
    return out[..., 0], np.logaddexp(0.0, out[..., 1] - GAP_SHIFT)


def judge(tier: LongTier, read: Floats) -> Judgement:
    """What the experts of a tier say of B searches."""
    logits, gaps = answers(tier.stacked, read)
    certainty = np.interp(logits.mean(0), tier.calibration.logits, tier.calibration.certainty)
    shares = 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))
    gap = gaps.mean(0)
    expected = tier.calibration.share * (1.0 - certainty) * gap
    expected = np.where((expected > NEGLIGIBLE) & (certainty < SURE), expected, 0.0)
    return Judgement(certainty, gap, expected, ((1.0 - shares) * gaps).std(0))


def upper_bits(tier: LongTier, judged: Judgement, coverage: float) -> Floats:
    """Bits above the best height that hold the height with probability `coverage`, (B,): 0 where that is found."""
    calibration = tier.calibration
    left = np.clip((coverage - judged.certainty) / np.maximum(1.0 - judged.certainty, 1e-12), 0.0, 1.0)
    reached = np.interp(left, calibration.levels, calibration.quantiles) * judged.gap
    return np.where(judged.certainty >= coverage, 0.0, reached)


def pack_long(member: LongExpert) -> bytes:
    """A member as safetensors bytes."""
    return save({name: np.ascontiguousarray(array, np.float32) for name, array in member.items()})


def unpack_long(content: bytes, name: str) -> LongExpert:
    """A member from safetensors bytes.

    Raises:
        ModelError: they are none, or hold other arrays than SHAPES_OF, or numbers that are not finite.
    """
    try:
        found = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{name} is not a safetensors file: {brief(error)}") from error
    shapes = {key: array.shape for key, array in found.items()}
    if shapes != SHAPES_OF:
        raise ModelError(f"{name} does not hold an expert of long codes: {brief(shapes)}")
    if not all(np.isfinite(array).all() for array in found.values()):
        raise ModelError(f"{name} holds weights that are not finite")
    if not (found["record.std"] > 0.0).all():
        raise ModelError(f"{name} holds a record.std that is not above 0")
    return {key: array.astype(np.float64) for key, array in found.items()}


def calibration_of(table: Any) -> Calibration:
    """The calibration that a config holds.

    Raises:
        ModelError: it is something else.
    """
    try:
        found = Calibration(*(np.array(table[name], np.float64) for name in Calibration._fields))
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ModelError("the calibration of long codes is not a table") from error
    pairs = ((found.logits, found.certainty), (found.levels, found.quantiles))
    for one, two in pairs:
        if one.ndim != 1 or one.shape != two.shape or len(one) < 2 or not np.isfinite([one, two]).all():
            raise ModelError(
                "the calibration of long codes has columns of other lengths, or numbers that are not finite"
            )
        if (np.diff(one) < 0).any() or (np.diff(two) < 0).any():
            raise ModelError("the calibration of long codes must ascend")
    if found.share.shape != () or not 0.0 <= found.share <= 1.0:
        raise ModelError("the calibration of long codes adds a share of the expected bits, between 0 and 1")
    shares = np.concatenate([found.certainty, found.levels])
    if not (shares.min() >= 0.0 and shares.max() <= 1.0 and found.quantiles[0] >= 0.0):
        raise ModelError("the calibration of long codes has probabilities beyond [0, 1], or bits below 0")
    return found


def load_long(folder: Path, files: dict[str, bytes]) -> LongTier | None:
    """The experts of long codes among a tier's files, or None where it has none.

    Raises:
        ModelError: they are damaged, incomplete or of another format.
    """
    if "long.json" not in files:
        return None
    try:
        found = json.loads(files["long.json"])
        if found["format"] != FORMAT:
            raise ModelError(f"its format is {brief(found['format'])}, this version reads {FORMAT!r}")
        seeds = found["seeds"]
        if type(seeds) is not int or not 1 <= seeds <= MOST_SEEDS:
            raise ModelError(f"seeds must be an int from 1 to {MOST_SEEDS}, got {brief(seeds)}")
        names = [f"long{number}.safetensors" for number in range(seeds)]
        members = [unpack_long(files[name], str(folder / name)) for name in names]
        return LongTier(members, calibration_of(found["calibration"]))
    except ModelError as error:
        raise ModelError(f"{folder}/long.json: {error}") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{folder}/long.json is incomplete or wrong: {type(error).__name__}: {brief(error)}"
        ) from error
