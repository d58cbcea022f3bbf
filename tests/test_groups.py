"""Tiers are told in one place: with one line more there, a fourth one is routed to, trained, loaded and asked."""

import subprocess
import sys
from pathlib import Path

import pytest

from moe_mheight import groups
from moe_mheight.groups import OPEN, RULE, RULES, TIERS, in_words, searched_sizes, sizes, tier_of

FOURTH = r"""
import importlib, json, sys, types
from pathlib import Path

# the module as it would be with one line more
import importlib.util
spec = importlib.util.find_spec("moe_mheight.groups")
text = Path(spec.origin).read_text(encoding="utf-8")
line = 'Rule("lowest", slack=3, learns_from="lowest", minutes=1.0, scanned=0.5, easy=0.1, gate=0.1, stream=3),'
start = "RULES = (\n"
assert text.count(start) == 1
module = importlib.util.module_from_spec(spec)
exec(compile(text.replace(start, start + "    " + line + "\n"), spec.origin, "exec"), module.__dict__)
sys.modules["moe_mheight.groups"] = module
import moe_mheight
moe_mheight.groups = module

import numpy as np
from moe_mheight import Predictor, explain, m_height, random_codes
from moe_mheight.ensemble import router_training as gating
from moe_mheight.experts import model_card as cards, training
from moe_mheight.experts.network import Architecture
from moe_mheight.experts.batches import recipes_of
from moe_mheight.ensemble.router import load_gate, slack_weights
from tiny_models import tiny_models

assert module.TIERS == ("lowest", "low", "medium", "high")
assert slack_weights(9, 4, 2).tolist() == [1, 0, 0, 0]
assert slack_weights(9, 4, 3).tolist() == [0, 1, 0, 0]
assert slack_weights(9, 4, 5).tolist() == [0, 0, 0, 1]

# trained: few codes of few sizes
few = {"lowest": [(8, 3, 1), (9, 4, 2)], "low": [(9, 4, 3), (9, 5, 2)], "medium": [(9, 4, 4)], "high": [(9, 4, 5)]}
for where in (cards, gating):
    where.sizes = few.__getitem__
cards.searched_sizes = lambda tier: [(12, 6, 3)] if tier == "lowest" else []
real = cards.held_out
def some(name, tier, architecture, count, *, kinds=cards.ALL_KINDS, elsewhere=0, threads=None):
    return real(name, tier, architecture, min(count, 20), kinds=kinds, elsewhere=min(elsewhere, 20))
cards.held_out = training.held_out = gating.held_out = some
plan = recipes_of
def small(tier, architecture=None):
    few = {"groups": 2, "codes": 64, "searched": 16, "easy": 1.0}
    return {view: training.replace(recipe, **few) for view, recipe in plan(tier, architecture).items()}
training.recipes_of = small
folder = tiny_models(Path(sys.argv[1]) / "mine", seeds=1)
assert sorted(p.name for p in folder.iterdir()) == ["high", "low", "lowest", "medium"]
import joblib
with joblib.parallel_config(backend="threading", n_jobs=1):
    shape = Architecture(width=8, blocks=1)
    config = training.train_tier("lowest", folder, seeds=1, chunks=2, architecture=shape, device="cpu", force=True)
assert config["tier"] == "lowest"
card = (folder / "lowest" / "README.md").read_text()
assert card.startswith("# The lowest expert") and "(9, 4, 2)" in card

# asked
predictor = Predictor.load(folder)
P = random_codes("normal", 20, 4, 5, np.random.default_rng(0))
for m in range(1, 6):
    low, high = predictor.bounds(P, m)
    h = predictor.predict(P, m)
    assert ((low <= h) & (h <= high)).all()
assert set(explain(P[0], 2, predictor).router) == set(module.TIERS)
def uniform(n, k, m):
    return np.full(4, 0.25)
Predictor.load(folder, router=uniform).predict(P, 2)
try:
    Predictor.load(folder, router=lambda n, k, m: np.full(3, 1 / 3)).predict(P, 2)
except moe_mheight.ModelError as error:
    assert "four" in str(error) or "4 weights" in str(error), error
else:
    raise AssertionError("three weights were taken for four tiers")
gating.train_router(folder, codes=20, keep_worse=True)
assert load_gate(folder)(9, 4, 2).shape == (4,)
Predictor.load(folder, router="learned").predict(P, 2)

# named
import shutil
shutil.rmtree(folder / "lowest")
try:
    Predictor.load(folder)
except moe_mheight.ModelError as error:
    assert "has no lowest tier" in str(error), error
from click.testing import CliRunner
from moe_mheight.cli.main import mheight
help_text = CliRunner().invoke(mheight, ["train-expert", "--help"]).output
assert "lowest s >= 3, low s = 2, medium s = 1, high s = 0" in " ".join(help_text.split()), help_text
print("done")
"""


@pytest.mark.slow
def test_a_fourth_tier_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FOURTH, str(tmp_path)],
        check=False, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=600,
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr


def test_every_size_has_one_tier():
    for n in range(2, 14):
        for k in range(1, n):
            for m in range(1, n - k + 1):
                slack = n - k - m
                assert tier_of(n, k, m) == ("high" if slack == 0 else "medium" if slack == 1 else "low")
    assert sum(len(sizes(tier)) for tier in TIERS) == sum((n - k) for n in range(4, 13) for k in range(1, n))
    assert all(tier_of(*size) == tier for tier in TIERS for size in searched_sizes(tier))


def test_the_rules_are_whole():
    slacks = [rule.slack for rule in RULES]
    assert slacks == sorted(slacks, reverse=True)
    assert slacks[-1] == 0
    assert len({rule.stream for rule in RULES}) == len(RULES) == len(RULE)
    assert all(rule.learns_from in OPEN for rule in RULES)
    assert in_words() == "low s >= 2, medium s = 1, high s = 0"


def test_no_other_module_spells_the_tiers_out():
    """Examples in docstrings and what the seed did are the exceptions."""
    package = Path(groups.__file__).parent
    spelled = {
        path.relative_to(package).as_posix()
        for path in [*package.rglob("*.py"), *(package.parent / "cli").glob("*.py")]
        if path.is_relative_to(package) and '"medium"' in path.read_text(encoding="utf-8")
    }
    assert spelled <= {"groups.py", "ensemble/router.py", "raw/recipe.py", "figures/plots.py", "evaluation/charts.py"}
