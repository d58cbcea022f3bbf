"""The raw view: every setting of a recipe does what it says, networks keep the symmetries they claim, training resumes
to the same weights, and what was trained loads, predicts and refuses."""

import json
from dataclasses import replace

import brute
import numpy as np
import pytest
import torch

from moe_mheight import CodeError, DataError, ModelError, Predictor, equivalent, m_height, random_codes
from moe_mheight._parallel import workers
from moe_mheight.data.code_files import Codes
from moe_mheight.data.generate import orbit_ids
from moe_mheight.experts.checkpoints import Stage, in_stages
from moe_mheight.groups import HEADLINE, TIERS, tier_of
from moe_mheight.raw import augmentation, monitor, training
from moe_mheight.raw import models as raw_models
from moe_mheight.raw.data import Part, divide, of_scope, prepared, run1_data, shown
from moe_mheight.raw.models import RawPredictor, RawTier, answers, is_raw
from moe_mheight.raw.networks import FIXED_GATE, build, projectors
from moe_mheight.raw.networks import Codes as Batch
from moe_mheight.raw.recipe import PROPOSED_CURRICULUM, PROPOSED_WEIGHTS, RUN1, RawRecipe, as_json, make, named
from moe_mheight.raw.training import Epoch, Member, advance, learning_rate, loss_weights, tiers_shown, train_raw

TINY = {"width": 16, "blocks": 1, "epochs": 2, "batch": 32}


@pytest.fixture(scope="module")
def data():
    return divide(run1_data(60, seed=3))


@pytest.fixture(scope="module")
def ensemble(data, tmp_path_factory):
    """A model set with one ensemble for all groups, and its config."""
    folder = tmp_path_factory.mktemp("raw")
    config = train_raw("all", folder, data, recipe=make(TINY), seeds=2, device="cpu")
    return folder, config


def member(data, folder, settings, seed=0):
    """Weights and history of one member."""
    recipe = make(TINY | settings)
    folder.mkdir(parents=True, exist_ok=True)
    originals = data.training
    one = Member(recipe, prepared(originals, recipe), originals, data.validation, seed)
    (content,) = in_stages(advance, {f"seed{seed}": one}, {f"seed{seed}": 1}, folder, unit="epoch", jobs=0)
    history = [json.loads(line) for line in (folder / f"seed{seed}.jsonl").read_text().splitlines()]
    tier = RawTier.of({"recipe": as_json(recipe), "groups": data.groups}, [content])
    return tier.networks[0], history


# recipes


def test_a_recipe_goes_through_json():
    recipe = make(
        {
            "network": "gated",
            "weights": "proposed",
            "curriculum": "proposed",
            "augment": ["noise", "geometric"],
            "orbit": True,
        }
    )
    assert make(json.loads(json.dumps(as_json(recipe)))) == recipe
    assert recipe.weights == PROPOSED_WEIGHTS
    assert recipe.curriculum == PROPOSED_CURRICULUM


def test_the_seeds_table_is_the_analysis_table():
    assert {(k, m): w for k, m, w in PROPOSED_WEIGHTS} == {
        (4, 2): 1, (4, 3): 1, (5, 2): 1, (4, 4): 1.5, (5, 3): 1.5, (6, 2): 2, (5, 4): 3, (6, 3): 3, (4, 5): 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widht": 16}, "did you mean width"),
        ({"width": -1}, "from 0 to 4096"),
        ({"dropout": 1.0}, "from 0 to 0.95"),
        ({"dropout": True}, "a number"),
        ({"epochs": 2.5}, "an int"),
        ({"rate": float("nan")}, "rate must be"),
        ({"network": "mlp"}, "run1, gated, symmetric"),
        ({"augment": ["noise", "noise"]}, "not repeat"),
        ({"augment": "noise"}, "must be a list"),
        ({"labels": "guessed"}, "copied, exact"),
        ({"weights": {"4;5": 1}}, '"4,5"'),
        ({"weights": {"4,5": -1}}, "from 0 to 1e"),
        ({"weights": {"4,5": 0.0}}, "not all be 0"),
        ({"weights": {"4,5": 1, "(4, 5)": 2}}, "once"),
        ({"weights": {"4,5": 10**400}}, "from 0 to 1e"),
        ({"curriculum": [[1.0, [["low"]]]]}, "low, medium, high"),
        ({"weights": [1]}, "must be like"),
        ({"curriculum": [[0.5, ["low"]]]}, "add up to 1"),
        ({"curriculum": [[1, ["lower"]]]}, "low, medium, high"),
        ({"curriculum": [[1.0]]}, "must be like"),
        ({"curriculum": [[0.0, ["low"]], [1.0, ["low"]]]}, "above 0"),
        ({"curriculum": "no such file"}, "cannot read"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    with pytest.raises(ModelError, match=message):
        make(settings)


def test_weights_and_curriculum_from_files(tmp_path):
    (tmp_path / "w.json").write_text('{"4,5": 7.5, "6,3": 2}')
    (tmp_path / "c.json").write_text('[[0.25, ["high"]], [0.75, ["low", "high"]]]')
    recipe = make({"weights": str(tmp_path / "w.json"), "curriculum": str(tmp_path / "c.json")})
    assert recipe.weights == ((4, 5, 7.5), (6, 3, 2))
    assert recipe.curriculum == ((0.25, ("high",)), (0.75, ("low", "high")))
    (tmp_path / "r.json").write_text('{"network": "gated", "weights": {"4,5": 2.0}}')
    assert named(str(tmp_path / "r.json"), {"width": 64}).width == 64
    assert named("run1", {}) == make(RUN1)
    (tmp_path / "bad.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="not valid JSON"):
        named(str(tmp_path / "bad.json"), {})


# data and augmentation


def test_no_orbit_is_on_both_sides(data):
    """Even after everything that augments: the orbit of a code is the code, and the others start on one side."""
    for n, k in {group[:2] for group in data.groups}:
        sides = [
            np.concatenate([part.P for part in side if part.group[:2] == (n, k)])
            for side in (data.training, data.validation)
        ]
        ids = orbit_ids(np.concatenate([sides[0], equivalent(sides[1], np.random.default_rng(0))]))
        assert not set(ids[: len(sides[0])]) & set(ids[len(sides[0]) :])


def test_fewer_rows_leave_the_validation_side_as_it_is():
    file = run1_data(40, seed=1)
    whole, few = divide(file), divide(file, rows=7)
    assert all(np.array_equal(a.P, b.P) for a, b in zip(whole.validation, few.validation, strict=True))
    assert all(np.array_equal(a.P[:7], b.P) for a, b in zip(whole.training, few.training, strict=True))
    assert sum(len(part.P) for part in whole.training + whole.validation) == 9 * 40


def test_infinite_heights_are_left_out_and_missing_labels_computed():
    P = np.random.default_rng(0).integers(-9, 10, (60, 4, 5)).astype(float)
    P[::10, :, 1] = P[::10, :, 0]
    split = divide({(9, 4, 5): Codes(P, np.arange(60), None)})
    log2_h = np.concatenate([part.log2_h for part in split.training + split.validation])
    assert len(log2_h) <= 54
    assert np.isfinite(log2_h).all()
    part = split.validation[0]
    assert np.allclose(np.exp2(part.log2_h), [float(brute.profile(matrix)[5]) for matrix in part.P])


def test_the_scope_of_a_tier(data):
    assert {part.group for part in of_scope(data.training, "high")} == {(9, 4, 5), (9, 5, 4), (9, 6, 3)}
    with pytest.raises(DataError, match="no group of the low tier"):
        of_scope(of_scope(data.training, "high"), "low")


def test_interpolations_by_hand():
    P, Q, alpha = np.array([[[2.0, -6.0]]]), np.array([[[8.0, 6.0]]]), np.array([[[0.5]]])
    assert np.allclose(augmentation.smote(P, Q, alpha), [[[5.0, 0.0]]])
    assert np.allclose(augmentation.geometric(P, Q, alpha), [[[4.0, -6.0]]])
    # sums -4 and 14: shares (-0.5, 1.5) and (4/7, 3/7), mixed (1/28, 27/28), times the mixed sum 5
    assert np.allclose(augmentation.row_sums(P, Q, alpha), [[[5 / 28, 135 / 28]]])


def test_row_sums_keep_the_interpolated_row_sums(rng):
    P, Q, alpha = rng.normal(size=(2000, 4, 5)), rng.normal(size=(2000, 4, 5)), rng.uniform(0.3, 0.7, (2000, 1, 1))
    made = augmentation.row_sums(P, Q, alpha)
    assert np.allclose(made.sum(2), (alpha * P + (1 - alpha) * Q).sum(2))
    assert np.abs(made).max() < 2 / augmentation.MIN_SUM**2 * max(np.abs(P).max(), np.abs(Q).max())


def test_noise_has_the_size_asked_for(rng):
    P = rng.integers(-50, 51, (400, 4, 5)).astype(float)
    off = augmentation.noisy(P, 0.1, rng) - P
    assert np.isclose((off / P.std(axis=(1, 2), keepdims=True)).std(), 0.1, rtol=0.05)


def test_the_acceptance_check_against_its_definition(rng):
    originals, made = rng.normal(-5, 1, (50, 3, 4)), rng.normal(-5, 3, (300, 3, 4))
    made[:100] *= rng.uniform(0.2, 3, (100, 1, 1))
    made[100] = np.nan
    means, deviations = [P.mean() for P in originals], [P.std() for P in originals]
    wanted = [
        min(means) - 0.2 * abs(min(means)) <= P.mean() <= max(means) + 0.2 * abs(max(means))
        and 0.8 * min(deviations) <= P.std() <= 1.2 * max(deviations)
        for P in made
    ]
    found = augmentation.accepted(made, originals)
    assert found.tolist() == wanted
    assert 0 < found.sum() < 300
    assert augmentation.accepted(originals, originals).all()


@pytest.mark.parametrize("method", ["noise", "smote", "geometric", "row-sums"])
def test_labels_copied_and_exact(method, rng):
    P = rng.integers(-20, 21, (30, 4, 3)).astype(float)
    h = m_height(P, 2)
    P, h = P[np.isfinite(h)], h[np.isfinite(h)]
    made = {}
    for labels in ("copied", "exact"):
        made[labels] = augmentation.augmented(
            P, h, 2, (method,), 80, np.random.default_rng(1), level=0.1, labels=labels
        )
        assert len(made[labels][0]) == len(made[labels][1]) == 80
        assert np.array_equal(made[labels][0][: len(P)], P)
    assert np.array_equal(made["copied"][0], made["exact"][0])
    new = slice(len(P), len(P) + 10)
    assert np.allclose(made["exact"][1][new], [float(brute.profile(matrix)[2]) for matrix in made["exact"][0][new]])
    assert set(made["copied"][1]) == set(h)
    assert not np.isclose(made["copied"][1][len(P) :], made["exact"][1][len(P) :]).all()


def test_several_methods_get_equal_shares(monkeypatch, rng):
    made = dict.fromkeys(("smote", "geometric"), 0)
    for name in made:
        real = augmentation.INTERPOLATIONS[name]

        def counted(P, other, alpha, real=real, name=name):
            made[name] += len(P)
            return real(P, other, alpha)

        monkeypatch.setitem(augmentation.INTERPOLATIONS, name, counted)
    P = rng.normal(size=(50, 3, 3))
    h = m_height(P, 2)
    out, _ = augmentation.augmented(P, h, 2, tuple(made), 1000, rng, level=0, labels="exact", check=False)
    assert len(out) == 1000
    assert made["smote"] == made["geometric"]


def test_copied_labels_come_from_the_nearer_parent(rng):
    P = np.stack([np.eye(2) + 1, 50 * np.eye(2) + 10])
    made, h = augmentation.augmented(P, np.array([3.0, 8.0]), 1, ("smote",), 200, rng, level=0, labels="copied")
    nearer = np.abs(made[:, None] - P).sum(axis=(2, 3)).argmin(axis=1)
    assert np.array_equal(h, np.array([3.0, 8.0])[nearer])


def test_impossible_augmentation_ends(rng):
    one = np.array([[[1.0, 2.0], [3.0, 5.0]]])
    with pytest.raises(DataError, match="at least two"):
        augmentation.augmented(one, np.ones(1), 1, ("smote",), 5, rng, level=0, labels="exact")
    with pytest.raises(DataError, match="one in a hundred"):
        augmentation.augmented(np.repeat(one, 2, 0), np.ones(2), 1, ("noise",), 50, rng, level=9.0, labels="exact")


def test_the_orbit_changes_matrices_and_no_height(data):
    recipe = make(TINY | {"orbit": True})
    few = tuple(Part(part.group, part.P[:10], part.log2_h[:10]) for part in data.training)
    for part, P in zip(few, shown(few, recipe, np.random.default_rng(0)), strict=True):
        assert not np.isclose(P, part.P).all(axis=(1, 2)).any()
        assert np.allclose(np.log2(m_height(P, part.group[2])), part.log2_h, atol=1e-6)


# networks


@pytest.mark.parametrize("network", ["run1", "gated", "symmetric"])
def test_networks_answer_finite_log2_heights(network, data):
    built = build(make(TINY | {"network": network}), data.groups).eval()
    for part in data.training:
        log2_h = answers(built, part.P, part.group)
        assert log2_h.shape == (len(part.P),)
        assert (log2_h >= 0).all()
        assert np.isfinite(log2_h).all()


@pytest.mark.parametrize("width", [1, 7, 50])
@pytest.mark.parametrize("network", ["run1", "gated", "symmetric"])
def test_any_width_will_do(network, width, data):
    built = build(make({"network": network, "width": width, "blocks": 1}), data.groups).eval()
    assert np.isfinite(answers(built, data.training[0].P, data.groups[0])).all()


def test_run_1_at_full_size_is_as_large_as_the_seed_says():
    network = build(make({"network": "run1", "width": 1024}), HEADLINE)
    parameters = sum(weights.numel() for weights in network.parameters())
    assert 10.4e6 < parameters < 11.4e6  # "10.9 million"
    assert network.k_embedding.embedding_dim == network.m_embedding.embedding_dim == 32
    assert network.pathway.heads == 8
    assert len(network.trunk.first) == 4


@pytest.mark.parametrize("group", [(9, 4, 2), (9, 6, 3), (10, 5, 4), (7, 3, 4)])
def test_the_symmetric_network_gives_a_whole_orbit_one_answer(group, rng):
    torch.manual_seed(0)
    n, k, _ = group
    network = build(make({"network": "symmetric", "width": 16}), (group,)).eval()
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    network.level.data.fill_(20.0)  # where softplus is the identity
    P = rng.normal(size=(40, k, n - k))
    one = answers(network, P, group)
    for some in ({"permute": False, "resystematise": False}, {"signs": False, "resystematise": False}, {}):
        assert np.abs(answers(network, equivalent(P, rng, **some), group) - one).max() < 0.02 * one.std(), some
    other = answers(network, P * np.linspace(1, 3, n - k), group)  # scaled columns are another code
    assert np.abs(other - one).max() > 0.5 * one.std() > 1e-3


def test_projectors_project(rng):
    P = rng.normal(size=(20, 3, 4))
    x = projectors(P).astype(float)
    G = np.concatenate([np.broadcast_to(np.eye(3), (20, 3, 3)), P], axis=2)
    assert np.allclose(x @ x, x, atol=1e-5)
    assert np.allclose(G @ x, G, atol=1e-4)
    assert np.allclose(np.trace(x, axis1=1, axis2=2), 3, atol=1e-5)


def test_the_gate_starts_with_the_tiers_and_mixes(data):
    network = build(make(TINY | {"network": "gated"}), data.groups).eval()
    gates = dict(zip(data.groups, network.gates().tolist(), strict=True))
    assert all(np.isclose(share, FIXED_GATE[tier_of(*group)]) for group, share in gates.items())
    part = data.training[0]
    codes = Batch(torch.from_numpy(network.read(part.P)), torch.zeros(len(part.P), dtype=torch.int64))
    x = network.entry_embedding((codes.x / network.scale).flatten(1)[:, :, None]) + network.position_embedding
    network.gate.bias.data.fill_(50.0)
    assert torch.allclose(network.attended(x, codes.group), network.capable(x), atol=1e-5)
    network.gate.bias.data.fill_(-50.0)
    assert torch.allclose(network.attended(x, codes.group), network.pathway(x), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("gate_from", "moves"), [(1.0, False), (0.5, True), (0.0, True)])
def test_the_gate_is_fixed_first_and_learned_after(gate_from, moves, data, tmp_path):
    _, history = member(data, tmp_path, {"network": "gated", "gate_from": gate_from, "epochs": 4, "rate": 1e-2})
    at_first = [FIXED_GATE[tier_of(*group)] for group in data.groups]
    moved = [not np.allclose(list(record["gates"].values()), at_first, atol=1e-6) for record in history]
    assert moved == [moves and (number + 1) / 4 > gate_from for number in range(4)]


# the other priorities


def test_loss_weights_are_the_table_with_mean_one(data):
    weights = loss_weights(make({"weights": "proposed"}), data.training).numpy()
    table = {(k, m): w for k, m, w in PROPOSED_WEIGHTS}
    wanted = np.array([table[group[1:]] for group in data.groups])
    assert np.allclose(weights / weights[0], wanted / wanted[0])
    assert np.isclose(np.average(weights, weights=[len(part.P) for part in data.training]), 1.0)
    assert (loss_weights(make({}), data.training) == 1).all()


@pytest.mark.slow
def test_the_loss_is_weighted_as_the_table_says(data, tmp_path):
    """Before anything is learned, at rate next to nothing: the loss of the first epoch is the weighted mean."""
    table = {"4,5": 30.0, "4,2": 0.0}
    network, history = member(data, tmp_path, {"rate": 1e-8, "epochs": 1, "weights": table, "batch": 4096})
    weights = loss_weights(make({"weights": table}), data.training).numpy()
    errors = [answers(network, part.P, part.group) - part.log2_h for part in data.training]
    total = sum(w * (error**2).sum() for w, error in zip(weights, errors, strict=True)) / sum(map(len, errors))
    assert np.isclose(history[0]["loss"], total, rtol=1e-4)
    assert not np.isclose(history[0]["loss"], np.mean(np.concatenate(errors) ** 2), rtol=0.1)


@pytest.mark.slow
def test_groups_without_weight_teach_nothing(data, tmp_path):
    table = {f"{k},{m}": float((k, m) == (4, 2)) for _, k, m in HEADLINE}
    network, _ = member(data, tmp_path, {"weights": table, "epochs": 30, "rate": 5e-3})
    mse = {part.group: np.mean((answers(network, part.P, part.group) - part.log2_h) ** 2) for part in data.training}
    assert mse[9, 4, 2] < 1.5
    # the levels of the others stay where they began, while what they share with the one moves
    began = [part.log2_h.mean() for part in data.training[1:]]
    assert np.allclose(network.level[1:].numpy(), began, rtol=0.05)


def test_dropout_in_training_only(data):
    for kind in ("run1", "gated", "symmetric"):
        torch.manual_seed(0)
        network = build(make(TINY | {"network": kind, "dropout": 0.5}), data.groups)
        part = data.training[0]
        codes = Batch(torch.from_numpy(network.read(part.P)), torch.zeros(len(part.P), dtype=torch.int64))
        network.train()
        assert not torch.equal(network(codes), network(codes)), kind
        network.eval()
        assert torch.equal(network(codes), network(codes)), kind


@pytest.mark.slow
@pytest.mark.parametrize("setting", [{"l2": 1.0}, {"decay": 5.0}])
def test_penalties_shrink_weights(setting, data, tmp_path):
    plain, _ = member(data, tmp_path / "plain", {"decay": 0.0, "epochs": 6})
    small, _ = member(data, tmp_path / "small", {"decay": 0.0, "epochs": 6} | setting)
    size = [float(training.penalty(network)) for network in (plain, small)]
    assert size[1] < 0.8 * size[0]


def test_the_penalty_by_hand():
    network = build(make(TINY | {"network": "run1"}), HEADLINE)
    wanted = sum(float((p.detach().numpy() ** 2).sum()) for p in network.parameters() if p.ndim > 1)
    assert np.isclose(float(training.penalty(network)), wanted, rtol=1e-5)


def test_learning_rates():
    constant, cosine = make({"schedule": "constant", "rate": 1e-3}), make({"schedule": "cosine", "rate": 1e-3})
    assert learning_rate(constant, 0.0) < 1e-4
    assert learning_rate(constant, 0.5) == learning_rate(constant, 1.0) == 1e-3
    assert np.isclose(learning_rate(cosine, 0.5), 5e-4)
    assert learning_rate(cosine, 1.0) < 1e-12


@pytest.mark.slow
def test_patience_stops_and_keeps_the_best(data, tmp_path):
    """At a rate that makes validation jump about."""
    network, history = member(data, tmp_path, {"patience": 3, "epochs": 60, "rate": 0.05, "schedule": "constant"})
    macros = [record["validation"]["macro"] for record in history]
    best = int(np.argmin(macros))
    assert len(macros) < 60
    assert len(macros) - 1 - best == 3
    errors = {part.group: answers(network, part.P, part.group) - part.log2_h for part in data.validation}
    assert np.isclose(monitor.figures(errors)["macro"], macros[best], rtol=1e-5)


@pytest.mark.slow
def test_patience_waits_for_the_last_phase(data, tmp_path):
    """What a first phase does to groups it does not show must not end the training."""
    settings = {"patience": 2, "epochs": 24, "rate": 0.05, "schedule": "constant", "curriculum": "proposed"}
    network, history = member(data, tmp_path, settings)
    last = [record["validation"]["macro"] for record in history if record["phase"] == 3]
    assert len(history) - len(last) == 12
    assert len(last) - 1 - int(np.argmin(last)) == 2
    errors = {part.group: answers(network, part.P, part.group) - part.log2_h for part in data.validation}
    assert np.isclose(monitor.figures(errors)["macro"], min(last), rtol=1e-5)


@pytest.mark.slow
def test_without_patience_the_last_weights_are_kept(data, tmp_path):
    network, history = member(data, tmp_path, {"epochs": 3, "rate": 0.05, "schedule": "constant"})
    errors = {part.group: answers(network, part.P, part.group) - part.log2_h for part in data.validation}
    assert len(history) == 3
    assert np.isclose(monitor.figures(errors)["macro"], history[-1]["validation"]["macro"], rtol=1e-5)


def test_jitter_is_new_every_epoch(data):
    recipe = make(TINY | {"jitter": 0.02})
    parts = data.training[:1]
    one, again, two = (next(shown(parts, recipe, np.random.default_rng(seed))) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, two)
    assert 0.01 < ((one - parts[0].P) / parts[0].P.std(axis=(1, 2), keepdims=True)).std() < 0.03


def test_the_curriculum_shows_its_tiers(data):
    recipe = make(TINY | {"curriculum": "proposed", "epochs": 8})
    phases = [tiers_shown(recipe, number / 8) for number in range(8)]
    assert phases == [(1, ("low",))] * 2 + [(2, ("low", "medium"))] * 2 + [(3, TIERS)] * 4
    network = build(recipe, data.groups)
    for number, (_, tiers) in enumerate(phases):
        epoch = Epoch(network, data.training, recipe, 0, number)
        seen = torch.cat([codes.group for codes, _ in epoch.batches(64, False)])
        assert {tier_of(*data.groups[i]) for i in seen.tolist()} == set(tiers)
        assert len(seen) == sum(len(part.P) for part in data.training if tier_of(*part.group) in tiers)


def test_an_epoch_shows_each_code_once_with_its_height(data):
    recipe = make(TINY)
    network = build(recipe, data.groups)
    heights = [[] for _ in data.groups]
    for codes, log2_h in Epoch(network, data.training, recipe, 0, 0).batches(50, True):
        for i, value in zip(codes.group.tolist(), log2_h.tolist(), strict=True):
            heights[i].append(value)
    for part, seen in zip(data.training, heights, strict=True):
        assert np.allclose(np.sort(seen), np.sort(part.log2_h), rtol=1e-6)
    assert len(Epoch(network, data.training, replace(recipe, per_epoch=70), 0, 0)) == 70
    assert len(Epoch(network, data.training, replace(recipe, per_epoch=1700), 0, 0)) == 1700


@pytest.mark.parametrize("shape", [(4, 5), (1, 3), (3, 1)])
def test_views_of_a_batch_are_those_of_each_code_alone(shape, rng, monkeypatch):
    """To the bit, whatever the neighbours are; and made at one go, not code by code."""
    P = np.concatenate([random_codes(kind, 40, *shape, rng) for kind in ("normal", "near-singular", "integer")])
    alone = np.concatenate([equivalent(one, np.random.default_rng([2, 3])) for one in P[:, None]])
    calls = []
    monkeypatch.setattr(raw_models, "equivalent", lambda *a: calls.append(a) or equivalent(*a))
    assert np.array_equal(raw_models._another(P, 3), alone)
    assert np.array_equal(raw_models._another(P[7:8], 3), alone[7:8])
    assert len(calls) == 2
    assert not np.array_equal(raw_models._another(P, 2), alone)


def test_views_are_means_over_the_orbit(data):
    part = data.training[3]
    torch.manual_seed(0)
    one = build(make(TINY | {"network": "run1"}), data.groups).eval()
    many = build(make(TINY | {"network": "run1", "views": 3}), data.groups).eval()
    many.load_state_dict(one.state_dict())
    forms = [[equivalent(P, np.random.default_rng([2, view])) for P in part.P] for view in (1, 2)]
    wanted = np.mean([answers(one, np.array(P), part.group) for P in [part.P, *forms]], axis=0)
    found = answers(many, part.P, part.group)
    assert np.allclose(found, wanted, atol=1e-6)
    assert np.allclose(answers(many, part.P[::-1], part.group)[::-1], found, atol=1e-5)  # whoever stands beside it


# monitoring


def test_figures_by_hand():
    errors = {(9, 4, 2): np.array([1.0, -1.0]), (9, 4, 3): np.array([2.0]), (9, 4, 5): np.array([3.0, 0.0])}
    found = monitor.figures(errors)
    assert found["groups"] == {"9,4,2": 1.0, "9,4,3": 4.0, "9,4,5": 4.5}
    assert found["tiers"] == {"low": 2.5, "high": 4.5}
    assert (found["worst"], found["worst_group"]) == (4.5, "9,4,5")
    assert np.isclose(found["macro"], 9.5 / 3)


def test_roughness_is_nothing_for_a_steady_fall():
    assert monitor.roughness([1.0, 0.5]) is None
    assert monitor.roughness([8.0, 4.0, 2.0, 1.0]) == 0.0
    assert np.isclose(monitor.roughness([1.0, 2.0, 1.0, 2.0]), np.std([1, -1, 1]))


def test_every_epoch_is_on_record(ensemble):
    folder, _ = ensemble
    records = [json.loads(line) for line in (folder / "all" / "history.jsonl").read_text().splitlines()]
    assert [(record["seed"], record["epoch"]) for record in records] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    for record in records:
        for side in ("train", "validation"):
            assert set(record[side]["groups"]) == {",".join(map(str, group)) for group in HEADLINE}
            assert set(record[side]["tiers"]) == set(TIERS)
            assert record[side]["worst"] == max(record[side]["groups"].values())
        assert np.isclose(record["ratio"], record["validation"]["macro"] / record["train"]["macro"])


# training and models


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures(data, tmp_path):
    settings = {
        "network": "run1",
        "dropout": 0.3,
        "orbit": True,
        "jitter": 0.01,
        "augment": ["noise"],
        "augment_to": 60,
    }
    runs = [member(data, tmp_path / name, settings, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    figures = [[(r["loss"], r["validation"]) for r in history] for _, history in runs]
    assert figures[0] == figures[1]
    assert figures[0] != figures[2]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"network": "run1", "dropout": 0.3, "orbit": True}, {"patience": 2}])
def test_an_interrupted_training_ends_with_the_same_weights(settings, data, tmp_path, monkeypatch):
    settings = {"epochs": 4, **settings}
    whole, history = member(data, tmp_path / "whole", settings)
    clock = iter(range(0, 10**9, 60))
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(clock)))  # so that every epoch is saved
    count = [0]

    def dies(record):
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt
        return monitor.ratio(record)

    monkeypatch.setattr(training, "ratio", dies)
    with pytest.raises(KeyboardInterrupt):
        member(data, tmp_path / "broken", settings)
    monkeypatch.setattr(training, "ratio", monitor.ratio)
    resumed, again = member(data, tmp_path / "broken", settings)
    one, two = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert [{**record, "minutes": 0} for record in history] == [{**record, "minutes": 0} for record in again]


@pytest.mark.slow
def test_members_in_threads_do_not_disturb_each_other(data, tmp_path):
    """Dropout draws from each member's own stream."""
    recipe = make(TINY | {"dropout": 0.5, "epochs": 3})
    members = {f"seed{i}": Member(recipe, data.training, data.training, data.validation, i) for i in range(4)}
    lengths, found = dict.fromkeys(members, 3), []
    for folder, jobs in (("alone", 1), ("together", 4)):
        (tmp_path / folder).mkdir()
        with workers(jobs, "threading"):
            found.append(in_stages(advance, members, lengths, tmp_path / folder, unit="epoch"))
    assert found[0] == found[1]
    assert len(set(found[0])) == 4


def test_a_training_on_other_data_is_not_resumed(data, tmp_path):
    partial = tmp_path / ".all.unfinished"
    partial.mkdir()
    recipe = make(TINY)
    plan = {"asked": {"recipe": as_json(recipe), "seeds": 1, "data": ["other", "data"]}, "decided": None}
    (partial / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ModelError, match="other settings \\(data"):
        train_raw("all", tmp_path, data, recipe=recipe, seeds=1, device="cpu")


@pytest.mark.slow
def test_training_learns(data, tmp_path):
    _, history = member(data, tmp_path, {"epochs": 12, "width": 32, "blocks": 2})
    macros = [record["train"]["macro"] for record in history]
    assert macros[-1] < 0.6 * macros[0]


def test_divergence_is_told(data, tmp_path):
    wild = make(TINY | {"epochs": 3})
    broken = tuple(Part(part.group, part.P, part.log2_h * np.nan) for part in data.training)
    with pytest.raises(ModelError, match="diverged in epoch 1"):
        advance((Member(wild, broken, data.training, data.validation, 0), Stage()))


def test_a_trained_set_loads_and_predicts(ensemble, data):
    folder, config = ensemble
    assert is_raw(folder)
    predictor = RawPredictor.load(folder)
    errors = {}
    for part in data.validation:
        h = predictor.predict(part.P, part.group[2])
        errors[part.group] = np.log2(h) - part.log2_h
    assert np.isclose(monitor.figures(errors)["macro"], config["metrics"]["validation"]["macro"], rtol=1e-4)
    assert np.isclose(predictor.gap, config["metrics"]["gap"])
    part = data.validation[0]
    n, k, m = part.group
    one = predictor.predict(part.P[0], m)
    assert isinstance(one, float)
    assert predictor(n, k, m, list(part.P[:3])) == predictor.predict(part.P[:3], m).tolist()
    rows = [[*p.group, p.P[0]] for p in data.validation]
    assert np.allclose(predictor.predict(rows), [predictor.predict(p.P[0], p.group[2]) for p in data.validation])
    assert np.allclose(predictor.predict(part.P, np.array([2] * len(part.P))), predictor.predict(part.P, 2))


def test_weights_by_their_earlier_names(ensemble, data, tmp_path):
    """Of sets that were trained before the layers had their present names."""
    import shutil

    from moe_mheight.experts.model_store import pack, unpack, write_checksums
    from moe_mheight.raw.networks import EARLIER

    folder = shutil.copytree(ensemble[0], tmp_path / "set")
    before = {name: earlier for earlier, name in EARLIER.items()}
    for path in (folder / "all").glob("*.safetensors"):
        weights = unpack(path.read_bytes(), "weights")
        old = {".".join(before.get(part, part) for part in name.split(".")): value for name, value in weights.items()}
        assert old.keys() != weights.keys()
        path.write_bytes(pack(old))
    write_checksums(folder / "all")
    part = data.validation[0]
    wanted = RawPredictor.load(ensemble[0]).predict(part.P, part.group[2])
    assert np.array_equal(RawPredictor.load(folder).predict(part.P, part.group[2]), wanted)


@pytest.mark.parametrize("network", ["run1", "gated", "symmetric"])
def test_no_layer_has_two_names(network):
    from moe_mheight.raw.networks import EARLIER, renamed

    names = build(make(TINY | {"network": network}), HEADLINE).state_dict()
    assert renamed(names).keys() == names.keys()
    assert len(set(EARLIER.values())) == len(EARLIER)


def test_recipes_of_earlier_versions_say_seed():
    earlier = make({"weights": "seed", "curriculum": "seed"})
    assert earlier == make({"weights": "proposed", "curriculum": "proposed"})


def test_answers_within_the_bracket_when_asked(ensemble, data):
    predictor = RawPredictor.load(ensemble[0])
    for part in data.validation:
        lower, upper = predictor.bounds(part.P, part.group[2])
        h = predictor.predict(part.P, part.group[2], certified=True)
        assert ((lower <= h) & (h <= upper)).all()


def test_infinite_heights_are_infinite(ensemble):
    P = np.arange(20.0).reshape(4, 5)
    P[:, 1] = P[:, 0]
    assert RawPredictor.load(ensemble[0]).predict(P, 5) == np.inf
    assert m_height(P, 5) == np.inf


def test_unknown_groups_are_refused(ensemble):
    with pytest.raises(CodeError, match="know the groups"):
        RawPredictor.load(ensemble[0]).predict(np.ones((3, 3)), 2)


def test_the_wrong_loader_says_which_is_right(ensemble):
    with pytest.raises(ModelError, match="RawPredictor"):
        Predictor.load(ensemble[0])
    with pytest.raises(ModelError, match="holds no raw-view models"):
        RawPredictor.load(ensemble[0] / "all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "moe_mheight raw 9"}, "its format is"),
        ({"seeds": True}, "seeds must be"),
        ({"groups": []}, "groups must be"),
        ({"groups": [[9, 4, 6]]}, "groups must be"),
        ({"recipe": {"width": 32}}, "does not fit its config"),
        ({"recipe": {"widht": 32}}, "did you mean width"),
        ({"recipe": {"weights": "/dev/zero"}}, "spelled out"),
        ({"recipe": {"width": 4096, "blocks": 64}}, "too many"),
        ({"metrics": None}, "incomplete or wrong"),
        ({"metrics": {"train": {"macro": "x"}, "validation": {"macro": 1.0}}}, "macros"),
    ],
)
def test_damaged_sets_are_refused(change, message, ensemble, tmp_path):
    import shutil
    from hashlib import sha256

    shutil.copytree(ensemble[0], tmp_path / "set")
    config = tmp_path / "set" / "all" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ModelError, match="checksum"):
        RawPredictor.load(tmp_path / "set")
    sums = config.with_name("SHA256SUMS")
    lines = [line for line in sums.read_text().splitlines() if "config.json" not in line]
    sums.write_text("\n".join([*lines, f"{sha256(config.read_bytes()).hexdigest()}  config.json"]) + "\n")
    with pytest.raises(ModelError, match=message):
        RawPredictor.load(tmp_path / "set")


def test_a_finished_set_says_what_it_is(ensemble):
    pytest.importorskip("matplotlib")
    folder, config = ensemble
    names = sorted(path.name for path in (folder / "all").iterdir())
    assert names == [
        "README.md", "SHA256SUMS", "config.json", "history.jsonl", "predictions_scatter.png", "seed0.safetensors",
        "seed1.safetensors", "training_history.png",
    ]  # fmt: skip
    assert [path.name for path in folder.iterdir()] == ["all"]
    text = (folder / "all" / "README.md").read_text()
    assert f"macro {config['metrics']['validation']['macro']:.3f}" in text
    assert config["codes"]["originals"] + config["codes"]["validation"] == 9 * 60
    with pytest.raises(ModelError, match="exists"):
        train_raw("all", folder, divide(run1_data(60, seed=3)), recipe=make(TINY), seeds=1)


@pytest.mark.parametrize(("scope", "seeds"), [("huge", 1), ("low", 0), ("low", 65)])
def test_wrong_arguments(scope, seeds, data, tmp_path):
    with pytest.raises(ModelError):
        train_raw(scope, tmp_path, data, recipe=RawRecipe(), seeds=seeds)
