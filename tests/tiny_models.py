"""A model set small enough to make for every test run: three tiers of untrained experts, saved as trained ones are."""

from __future__ import annotations


def tiny_models(folder):
    """Fill a folder with the three tiers, two seeds each, always the same weights; returns the folder."""
    import torch

    from moe_mheight.experts import Architecture, Expert
    from moe_mheight.storage import architecture_config, pack, save_tier
    from moe_mheight.tiers import TIERS

    architecture = Architecture(width=8, blocks=1)
    for place, tier in enumerate(TIERS):
        weights = []
        for seed in range(2):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(100 * place + seed)
                weights.append(pack(Expert(architecture).state_dict()))
        config = {
            "tier": tier,
            "architecture": architecture_config(architecture),
            "calibration": {"0.5": 0.1, "0.9": 0.3},
            "test": {},
        }
        (folder / tier).mkdir(parents=True)
        save_tier(folder / tier, config, weights, {"README.md": f"# {tier}, untrained\n"})
    return folder
