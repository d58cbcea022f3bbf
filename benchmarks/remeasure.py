"""Calibrate and measure the shipped experts again, as after a change of what they read: weights stay, all else is new.

python benchmarks/remeasure.py [TIER ...]
mheight train-router --models models/default --force
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from moe_mheight.experts.model_card import finish
from moe_mheight.experts.model_store import VIEWS, load_tier
from moe_mheight.groups import TIERS

MODELS = Path(__file__).parent.parent / "models" / "default"


def main(tiers: list[str]) -> None:
    for name in tiers or TIERS:
        folder = MODELS / name
        tier = load_tier(folder)
        config = {key: value for key, value in tier.config.items() if key not in ("format", "seeds", "measured")}
        weights = {
            view: [(folder / f"{view}{i}.safetensors").read_bytes() for i in range(tier.config["seeds"])]
            for view in VIEWS
        }
        before = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["kinds"]["normal"]["log2_mse"]
        with tempfile.TemporaryDirectory(dir=MODELS) as made:
            history = (folder / "history.jsonl").read_text(encoding="utf-8")
            experts = dict(zip(VIEWS, (tier.experts, tier.searchers), strict=True))
            found = finish(Path(made), config, experts, weights, history)["metrics"]["kinds"]["normal"]["log2_mse"]
            for path in Path(made).iterdir():
                shutil.copyfile(path, folder / path.name)
        print(f"{name}: log2-MSE of normal codes {before:.2e} before, {found:.2e} now", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
