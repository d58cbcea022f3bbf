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
