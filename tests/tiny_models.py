"""A model set small enough to make for every test run: three tiers of untrained experts, saved as trained ones are."""

from __future__ import annotations

import numpy as np


def made_up_calibration(seed):
    """What `conformal.fit` makes of errors that are twice as large as predicted, lopsided, and never near."""
    from moe_mheight.experts.conformal import fit

    rng = np.random.default_rng(seed)
    predicted_error = np.exp(rng.normal(-3.0, 1.0, 2000))
    position = rng.random(2000)
    truth = np.clip(position + 2.0 * predicted_error * (rng.exponential(size=2000) - 0.5), 0.0, 1.0)
    return fit(truth, position, predicted_error)


def tiny_models(folder, seeds=2):
    """Fill a folder with the three tiers, two seeds each, always the same weights; returns the folder."""
    import torch

    from moe_mheight.experts.model_store import VIEWS, architecture_config, pack, save_tier
    from moe_mheight.experts.network import Architecture, Expert
    from moe_mheight.groups import TIERS

    for place, tier in enumerate(TIERS):
        weights, parts = {}, {}
        for view, open_ended in zip(VIEWS, (False, True), strict=True):
            architecture = Architecture(width=8, blocks=1, open_ended=open_ended)
            weights[view] = []
            for seed in range(seeds):
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(100 * place + 10 * open_ended + seed)
                    weights[view].append(pack(Expert(architecture).state_dict()))
            parts[view] = {
                "architecture": architecture_config(architecture),
                "calibration": made_up_calibration(10 * place + open_ended),
            }
        parts["seed"]["calibration"] = {
            "field": parts["seed"]["calibration"],
            "other": made_up_calibration(10 * place + 5),
        }
        parts["search"]["threshold"] = 0.01
        (folder / tier).mkdir(parents=True)
        config = {"tier": tier, **parts["seed"], "search": parts["search"]}
        save_tier(folder / tier, config, weights, {"README.md": f"# {tier}, untrained\n"})
    return folder


def made_up_long(seed, members=2):
    """Experts of long codes that nobody trained, whose certainty grows with their logit."""
    from moe_mheight.experts.long_experts import SHAPES_OF, Calibration, LongTier

    rng = np.random.default_rng(seed)
    experts = [
        {name: rng.normal(scale=0.3, size=shape).astype(np.float32).astype(float) for name, shape in SHAPES_OF.items()}
        | {"record.mean": np.zeros(SHAPES_OF["record.mean"]), "record.std": np.ones(SHAPES_OF["record.std"])}
        for _ in range(members)
    ]
    levels = np.linspace(0.0, 1.0, 5)
    return LongTier(experts, Calibration(np.linspace(-3.0, 3.0, 7), np.linspace(0.2, 0.98, 7), levels, 2.0 * levels))


def with_long(folder):
    """Puts such experts into each tier of a model set; returns the folder."""
    from moe_mheight.experts.long_store import save_long
    from moe_mheight.groups import TIERS

    for place, tier in enumerate(TIERS):
        save_long(folder / tier, made_up_long(place), {"ranking": {}, "stages": []})
    return folder


def few_labels(path, groups, batches=6, seed=7):
    """A set of exactly labelled codes, so many batches of each group."""
    from moe_mheight import m_height
    from moe_mheight.data.drawn_labels import DrawnBatch, draw_batch, kind_of, write_batches

    found = []
    for place, group in enumerate(groups):
        for number in range(place * batches, (place + 1) * batches):
            kind = kind_of(seed, number)
            h = m_height(draw_batch(seed, number, group, kind), group[2])
            found.append(DrawnBatch(seed, number, group, kind, h))
    write_batches(path, found)
    return path
