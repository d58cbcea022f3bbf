"""What experts are trained on: recipes, and an endless stream of fresh, exactly labelled codes, cut into chunks.

Chunk number c of seed s is drawn from a random stream of its own: nothing is ever seen twice, a resumed training sees
what an unbroken one would have seen, and no training code is a validation or test code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..brackets.bounds import brackets
from ..codes.generators import ALL_KINDS
from ..groups import EVALUATOR, RULE, SEARCHED, searched_sizes, sizes
from .features import Features
from .network import Architecture, code_features
from .rng_streams import draw, stream

BUDGETS = (50, 1500)
"""Budgets of sets that searches are trained under, log-uniformly."""

SHORTEST = 9
"""Of the codes whose every set such training visits: shorter ones are nearly all decided by their kept candidates."""

UNDECIDED = 1e-5
"""Bits. Kept candidates that leave more open make a search worth an expert; heights that far above all that they allow
say that it has missed the right set."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the weights, apart from the seed; stored beside them."""

    tier: str
    architecture: Architecture = field(default_factory=Architecture)
    chunks: int = 0  # length of training
    groups: int = 16  # (n, k, m) groups in a chunk
    codes: int = 2048  # codes drawn per group; of these, the experts see those that need one
    easy: float = 1 / 64  # and this share of the others
    whole: float = 0.5  # under a budget: share of groups that are short and visited completely, which is cheap
    searched: int = 256  # codes drawn of the others
    missable: float = 0.25  # and the share of those that seem to need no expert: the right set may have been missed
    batch: int = 128  # codes per step
    headline: float = 0.5  # share of groups drawn from the course's 21, the rest from all trained sizes
    kinds: tuple[str, ...] = ALL_KINDS  # of random codes, drawn per group
    rate: float = 1e-3  # peak learning rate, after warm-up, before its cosine
    warmup: float = 0.02  # share of training
    decay: float = 1e-4  # AdamW weight decay
    average: float = 0.999  # of the exponential moving average of weights
    clip: float = 1.0  # gradient norm


def recipes_of(tier: str, architecture: Architecture | None = None) -> dict[str, Recipe]:
    """How the members of each of VIEWS are trained."""
    shape = architecture or Architecture()
    searching = replace(shape, open_ended=True)
    return {
        "seed": Recipe(tier=tier, architecture=shape, easy=RULE[tier].easy),
        "search": Recipe(tier=tier, architecture=searching, codes=4096, batch=32),
    }


def learnable(tier: str) -> list[tuple[int, int, int]]:
    """Sizes a tier trains on."""
    return sizes(RULE[tier].learns_from)


Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""kept, low, high, width, target: log2 h - log2 L."""


def as_batch(features: Features, h: NDArray[np.float64]) -> Batch:
    """The codes routed to experts, as float32 tensors."""
    width = features.gap[features.routed]
    target = np.log2(h[features.routed]) - features.lower[features.routed]
    parts = (features.kept, features.low, features.high, width, target)
    kept, low, high, gap, offset = (torch.from_numpy(part.astype(np.float32)) for part in parts)
    return kept, low, high, gap, offset


def _searched(recipe: Recipe, rng: np.random.Generator, threads: int) -> Iterator[Batch]:
    """Batches of a chunk under budgets. What the kept candidates leave open is the same question whether all sets were
    visited or few: short codes, visited completely, teach it at little cost. Longer ones teach what a search may miss.
    """
    long, short = searched_sizes(recipe.tier), [size for size in learnable(recipe.tier) if size[0] >= SHORTEST]
    focus = [group for group in SEARCHED if group in set(long)]
    for _ in range(recipe.groups):
        complete = rng.random() < recipe.whole
        among = short if complete else focus if rng.random() < recipe.headline else long
        group = among[rng.integers(len(among))]
        kinds = (recipe.kinds[rng.integers(len(recipe.kinds))],)
        P, h = draw(rng, group, recipe.codes if complete else recipe.searched, kinds)
        budget = math.comb(group[0], group[2]) if complete else int(np.exp2(rng.uniform(*np.log2(BUDGETS))))
        keep = rng.random(len(P)) < (recipe.easy if complete else recipe.missable)
        if len(P):
            scan = 0 if complete else budget  # the same candidates, and cheaper
            found = brackets(P, group[2], steps=recipe.architecture.steps, budget=scan, threads=threads)
            keep |= np.log2(found.kept_upper[..., -1].max(1) / found.tightest[0]) > UNDECIDED
            features = code_features(P[keep], group[2], recipe.architecture, threads, budget=budget)
            yield as_batch(features, h[keep])


def _scanned(recipe: Recipe, rng: np.random.Generator, threads: int) -> Iterator[Batch]:
    """Batches of a chunk of codes whose every set is visited."""
    everywhere = learnable(recipe.tier)
    focus = [group for group in EVALUATOR if group in set(everywhere)]
    for _ in range(recipe.groups):
        among = focus if rng.random() < recipe.headline else everywhere
        group = among[rng.integers(len(among))]
        P, h = draw(rng, group, recipe.codes, (recipe.kinds[rng.integers(len(recipe.kinds))],))
        if len(P):
            also = rng.random(len(P)) < recipe.easy
            yield as_batch(code_features(P, group[2], recipe.architecture, threads, also=also), h)


def chunk(recipe: Recipe, seed: int, number: int, threads: int) -> Batch:
    """Chunk `number` of the training stream, shuffled."""
    searching = recipe.architecture.open_ended
    rng = stream("train", seed, RULE[recipe.tier].stream, number, *([1] if searching else []))
    batches = _searched(recipe, rng, threads) if searching else _scanned(recipe, rng, threads)
    joined = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    order = torch.from_numpy(rng.permutation(len(joined[0])))
    kept, low, high, width, target = (part[order] for part in joined)
    return kept, low, high, width, target
