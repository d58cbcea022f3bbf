"""The shipped models keep what their cards say: figures recomputed from the weights."""

import json

import numpy as np
import pytest
from safetensors.torch import load, save
from tiny_models import tiny_models

from moe_mheight import ModelError, Predictor, random_codes
from moe_mheight.experts import features as experts_features
from moe_mheight.experts.model_card import held_out, over_kinds
from moe_mheight.experts.model_store import FORMAT, OLD_FORMAT, OLD_NAMES, load_set, shipped_folder, write_checksums
from moe_mheight.experts.network import combined
from moe_mheight.groups import EVALUATOR, TIERS, tier_of


@pytest.fixture(scope="module")
def shipped():
    return load_set(shipped_folder())


def metrics(tier):
    return json.loads((shipped_folder() / tier / "metrics.json").read_text())


def test_three_tiers_of_five_seeds(shipped):
    assert set(shipped) == set(TIERS)
    assert all(len(experts) >= 5 and len(searchers) >= 5 for _, experts, searchers in shipped.values())


def test_small_enough_to_ship():
    assert sum(p.stat().st_size for p in shipped_folder().rglob("*") if p.is_file()) < 10e6


def test_seeds_differ(shipped):
    for _, *both in shipped.values():
        for experts in both:
            one, two = (expert.state_dict()["input_layer.weight"] for expert in experts[:2])
            assert not np.allclose(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "near-singular"])
@pytest.mark.parametrize("tier", TIERS)
def test_figures_of_the_card(shipped, tier, kind):
    _, experts, _ = shipped[tier]
    said, apart = metrics(tier)["groups"], 0
    for group, features, log2_h in held_out("test", tier, experts[0].architecture, 1000, kinds=(kind,)):
        figures = said[",".join(map(str, group))][kind]
        error = features.log2_heights(combined(experts, features)[0].mean(0)) - log2_h
        found = np.mean(error**2), np.abs(error).max()
        same = found == (
            pytest.approx(figures["log2_mse"], rel=0.05, abs=1e-11),
            pytest.approx(figures["worst_bits"], rel=0.05, abs=1e-5),
        )
        # the same codes and weights; but machines round differently, and a single code can carry the figure: between
        # two of them, one of 150 cells differed by more than 5 %, by 15 %
        apart += not same
        assert found[0] == pytest.approx(figures["log2_mse"], rel=0.3, abs=1e-11)
        assert found[1] == pytest.approx(figures["worst_bits"], rel=0.15, abs=1e-5)
    assert apart <= 1


@pytest.mark.parametrize("tier", TIERS)
def test_what_the_cards_promise(tier):
    """The goals: 3e-5 on the mean, 1e-4 a group, 0.08 bit a code, gain 15 wherever there is something to learn."""
    said = metrics(tier)
    assert {tuple(map(int, group.split(","))) for group in said["groups"]} == {
        group for group in EVALUATOR if tier_of(*group) == tier
    }
    for kind in ("integer", "scaled-integer", "uniform", "normal", "near-singular"):
        assert said["kinds"][kind]["log2_mse"] <= 3e-5
        assert said["kinds"][kind]["worst_bits"] <= 0.08
    for row in over_kinds(said).values():
        assert row["log2_mse"] <= 1e-4
        assert tier == "high" or row["fixed_log2_mse"] / row["log2_mse"] >= 15


@pytest.mark.parametrize("tier", TIERS)
def test_under_a_budget_learning_pays(tier):
    """Geometric mean over sizes and budgets; errors below 1e-9 count as none."""
    rows = metrics(tier)["search"].values()
    gains = [(row["constant_log2_mse"] + 1e-9) / (row["log2_mse"] + 1e-9) for row in rows]
    assert np.exp(np.mean(np.log(gains))) >= 2


def test_history_is_there():
    for tier in TIERS:
        lines = [json.loads(line) for line in (shipped_folder() / tier / "history.jsonl").read_text().splitlines()]
        assert {(line["view"], line["seed"]) for line in lines} >= {("seed", 0), ("seed", 1), ("search", 0)}


def test_the_learned_router_is_no_worse():
    compared = json.loads((shipped_folder() / "router.json").read_text())["comparison"]
    assert compared["kept out"]["sizes"] > 20
    assert all(compared[part]["ratio"] <= 1.02 for part in ("fitted", "field", "kept out"))
    Predictor.load(router="learned")


def test_the_shipped_weights_have_todays_names():
    for tier in TIERS:
        assert json.loads((shipped_folder() / tier / "config.json").read_text())["format"] == FORMAT


@pytest.mark.slow
def test_models_of_the_older_format_load(tmp_path, rng, monkeypatch):
    """The same weights under the names of format 3: the same predictions, to the last bit."""
    new, old = tiny_models(tmp_path / "new"), tiny_models(tmp_path / "old")
    names = {name: before for before, name in OLD_NAMES.items()}
    for folder in old.iterdir():
        for path in folder.glob("*.safetensors"):
            tensors = load(path.read_bytes())
            renamed = {".".join(names.get(part, part) for part in key.split(".")): x for key, x in tensors.items()}
            assert "enter.weight" in renamed
            path.write_bytes(save(renamed))
        config = json.loads((folder / "config.json").read_text())
        for part in (config, config["search"]):
            part["architecture"]["tokens"] = part["architecture"].pop("kept")
        (folder / "config.json").write_text(json.dumps(config | {"format": OLD_FORMAT}))
        write_checksums(folder)
    monkeypatch.setattr(experts_features, "DECIDED", -1.0)  # every open bracket is routed
    P = random_codes("normal", 50, 6, 6, rng)
    for budget in (0, 50):
        one, two = (Predictor.load(folder).measure(P, 3, budget=budget) for folder in (new, old))
        assert one.routed.any()
        assert np.array_equal(one.height, two.height)
        assert np.array_equal(one.predicted_error, two.predicted_error, equal_nan=True)
    (tmp_path / "old/low/config.json").write_text(json.dumps(config | {"format": FORMAT, "tier": "low"}))
    write_checksums(tmp_path / "old/low")
    with pytest.raises(ModelError, match="'tokens'"):
        Predictor.load(tmp_path / "old")


@pytest.mark.slow
def test_a_predictor_says_what_it_is():
    said = repr(Predictor.load(router="learned"))
    assert said == f"Predictor(low 5+5, medium 5+5, high 5+5 members, router Gate, from {shipped_folder()})"
    assert "from memory" in repr(Predictor(load_set(shipped_folder())))
