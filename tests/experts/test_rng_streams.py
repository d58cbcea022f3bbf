"""No code that a model is trained on, or an equivalent one, is one that it is validated, calibrated or tested on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from moe_mheight import equivalent
from moe_mheight.data.generate import orbit_ids
from moe_mheight.evaluation import scoring
from moe_mheight.experts import batches, model_card
from moe_mheight.experts.network import Architecture
from moe_mheight.experts.rng_streams import STREAMS

SIZES = [(5, 2, 1), (6, 3, 2), (7, 3, 2), (9, 4, 2), (9, 5, 2)]
LEAKY = ("normal", "uniform", "integer", "near-singular", "spherical")
"""Kinds of which two equivalent codes never come together by chance: reals, and integers up to 100."""
HELD_OUT = ("validate", "calibrate", "test", "router")


@pytest.fixture
def drawn(monkeypatch):
    """Codes of every stream by (n, k), each drawn by those who draw from it in earnest: {(n, k): {name: P}}."""
    codes = {}

    def remembers(module, name):
        real = module.draw

        def draw(rng, group, *arguments, **options):
            P, h = real(rng, group, *arguments, **options)
            if group in SIZES:
                codes.setdefault(group[:2], {}).setdefault(name, []).append(P)
            return P, h

        monkeypatch.setattr(module, "draw", draw)
        return lambda: monkeypatch.setattr(module, "draw", real)

    tiers = ("low", "medium")
    monkeypatch.setattr(model_card, "sizes", lambda tier: SIZES)
    monkeypatch.setattr(model_card, "code_features", lambda *arguments, **options: None)  # nobody brackets them
    architecture = Architecture(width=8, blocks=1)
    for name in HELD_OUT:
        forget = remembers(model_card, name)
        for kind in LEAKY:
            list(model_card.held_out(name, "low", architecture, 200, kinds=(kind,), elsewhere=200))
        list(model_card.held_out(name, "low", architecture, 200, kinds=LEAKY, elsewhere=200))
        forget()

    forget = remembers(scoring, "default")
    for seed in (0, 1):
        scoring.default_data(1000, seed, tuple(SIZES), LEAKY)
    forget()

    monkeypatch.setattr(batches, "EVALUATOR", tuple(SIZES))
    monkeypatch.setattr(batches, "sizes", lambda tier: SIZES)
    forget = remembers(batches, "train")
    recipe = batches.Recipe(tier="low", architecture=architecture, groups=8, codes=128, kinds=LEAKY)
    for tier in tiers:
        for seed in range(3):
            for number in range(4):
                batches.chunk(dataclasses.replace(recipe, tier=tier), seed, number, 1)
    forget()
    return {size: {name: np.concatenate(parts) for name, parts in own.items()} for size, own in codes.items()}


def shared_orbits(sets):
    """Pairs of names, and how many orbits they share."""
    orbits = orbit_ids(np.concatenate(list(sets.values())))
    ends = np.cumsum([len(P) for P in sets.values()])
    own = dict(zip(sets, map(set, np.split(orbits, ends[:-1])), strict=True))
    names = list(sets)
    return {(a, b): len(own[a] & own[b]) for i, a in enumerate(names) for b in names[i + 1 :] if own[a] & own[b]}


def test_no_two_streams_share_an_orbit(drawn):
    assert set(drawn) == {(n, k) for n, k, _ in SIZES}
    for size, sets in drawn.items():
        assert set(sets) == set(STREAMS)
        assert min(map(len, sets.values())) > 1000
        assert shared_orbits(sets) == {}, size


def test_a_leak_would_be_seen(drawn, rng):
    """One training code in another form among the test codes; else the test above would prove nothing."""
    for sets in drawn.values():
        leak = equivalent(sets["train"][17:18], rng)
        leaking = sets | {"test": np.concatenate([sets["test"], leak])}
        assert shared_orbits(leaking) == {("test", "train"): 1} or shared_orbits(leaking) == {("train", "test"): 1}


def test_streams_have_numbers_of_their_own():
    assert len(set(STREAMS.values())) == len(STREAMS)
    assert set(STREAMS) == {"train", "default", *HELD_OUT}
