"""Routers: the slack table, rules from a file, and the gate that is fitted to the experts' errors."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from tiny_models import tiny_models

from moe_mheight import ModelError, Predictor, m_height, random_codes
from moe_mheight._io import identity
from moe_mheight.brackets.bounds import brackets
from moe_mheight.brackets.irls import Brackets
from moe_mheight.ensemble import router_training
from moe_mheight.ensemble.router import GATE, QUIET, Gate, load_gate, sealed, slack_weights, table_router
from moe_mheight.ensemble.router_training import KEPT_OUT, compare, fit_gate, moments, train_router
from moe_mheight.experts import model_card, network
from moe_mheight.experts.features import features_of
from moe_mheight.experts.model_store import load_set
from moe_mheight.groups import EVALUATOR, HEADLINE, TIERS, sizes

LOW, MEDIUM, HIGH = np.eye(3)
OPEN = [group for tier in ("low", "medium") for group in sizes(tier)]


# the slack table


def test_the_table_of_the_field():
    """Written out in the field's own terms, not by the slack."""
    said = {
        "low": [(9, 4, 2), (9, 4, 3), (9, 5, 2)],
        "medium": [(9, 4, 4), (9, 5, 3), (9, 6, 2)],
        "high": [(9, 4, 5), (9, 5, 4), (9, 6, 3)],
    }
    assert sorted(group for groups in said.values() for group in groups) == sorted(HEADLINE)
    for tier, groups in said.items():
        for group in groups:
            assert slack_weights(*group).tolist() == [float(tier == t) for t in TIERS]
    assert slack_weights(16, 1, 1).tolist() == [1, 0, 0]


# rules from a file


def write_rules(path, *rules):
    path.write_text(json.dumps({"rules": list(rules)}))
    return table_router(path)


def test_rules_choose_by_numbers_lists_and_slack(tmp_path):
    weights = write_rules(
        tmp_path / "rules.json",
        {"n": 9, "k": 4, "m": 2, "weights": {"high": 1}},
        {"n": [10, 11], "slack": [1, 3], "weights": {"low": 1, "medium": 3}},
        {"m": 1, "weights": {"medium": 0.5}},
    )
    assert weights(9, 4, 2).tolist() == [0, 0, 1]
    for n in (10, 11):
        assert weights(n, 4, n - 5).tolist() == [0.25, 0.75, 0]
        assert weights(n, 4, n - 7).tolist() == [0.25, 0.75, 0]
        assert weights(n, 4, n - 6).tolist() == [1, 0, 0]  # slack 2: the table
    assert weights(7, 5, 1).tolist() == [0, 1, 0]
    # one number off: the table again
    for group in ((10, 4, 2), (9, 5, 2), (9, 4, 3), (12, 4, 7), (9, 4, 5)):
        assert np.array_equal(weights(*group), slack_weights(*group))


def test_the_first_rule_that_fits_decides(tmp_path):
    rules = [{"n": 9, "weights": {"low": 1}}, {"k": 4, "weights": {"medium": 1}}, {"weights": {"high": 1}}]
    one, two = (write_rules(tmp_path / "rules.json", *order) for order in (rules, rules[1::-1] + rules[2:]))
    assert np.array_equal(one(9, 4, 2), LOW)
    assert np.array_equal(two(9, 4, 2), MEDIUM)
    for weights in (one, two):
        assert np.array_equal(weights(9, 5, 2), LOW)
        assert np.array_equal(weights(10, 4, 2), MEDIUM)
        assert np.array_equal(weights(10, 5, 2), HIGH)


def test_no_rules_are_the_slack_table(tmp_path):
    weights = write_rules(tmp_path / "rules.json")
    assert all(np.array_equal(weights(*group), slack_weights(*group)) for group in EVALUATOR)


FILES = {
    "empty": "",
    "not json": "rules: []",
    "cut": '{"rules": [',
    "a list": "[]",
    "a number": "3",
    "no rules": '{"weights": {"low": 1}}',
    "rules an object": '{"rules": {"n": 9}}',
    "rules a number": '{"rules": 3}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("name", FILES)
def test_malformed_files(name, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(FILES[name])
    with pytest.raises(ModelError, match=r"mine\.json") as refused:
        table_router(path)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_files_that_cannot_be_read(content, tmp_path):
    path = tmp_path / "mine.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    for where in (path, tmp_path / "missing mine.json"):
        with pytest.raises(ModelError, match=r"mine\.json"):
            table_router(where)


RULES = {
    "a number": 3,
    "a list": [9, {"low": 1}],
    "nothing": None,
    "no weights": {"n": 9},
    "weights a list": {"weights": [1, 0, 0]},
    "weights a number": {"weights": 1},
    "weights empty": {"weights": {}},
    "weights zero": {"weights": {"low": 0, "high": 0.0}},
    "weights negative": {"weights": {"low": 2, "high": -1}},
    "weights text": {"weights": {"low": "1"}},
    "weights true": {"weights": {"low": True}},
    "weights null": {"weights": {"low": 1, "high": None}},
    "weights not a number": {"weights": {"low": float("nan"), "high": 1}},
    "weights endless": {"weights": {"low": float("inf")}},
    "weights huge": {"weights": {"low": 10**400}},
    "weights too large together": {"weights": {"low": 1.5e308, "high": 1.5e308}},
    "another tier": {"weights": {"lowest": 1}},
    "another name": {"r": 5, "weights": {"low": 1}},
    "a fraction": {"n": 9.5, "weights": {"low": 1}},
    "a float": {"n": 9.0, "weights": {"low": 1}},
    "text": {"k": "4", "weights": {"low": 1}},
    "true": {"m": True, "weights": {"low": 1}},
    "null": {"slack": None, "weights": {"low": 1}},
    "a list of text": {"k": [4, "5"], "weights": {"low": 1}},
    "a list in a list": {"k": [[4, 5]], "weights": {"low": 1}},
    "an object": {"k": {"4": 5}, "weights": {"low": 1}},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", RULES)
def test_malformed_rules(name, tmp_path):
    """The message says where: the second rule, the first and third being fine."""
    fine = {"n": 9, "weights": {"low": 1}}
    with pytest.raises(ModelError, match=r"mine\.json, rule 2\b") as refused:
        write_rules(tmp_path / "mine.json", fine, RULES[name], fine)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


# the gate


def test_a_gate_that_has_learnt_nothing_is_the_slack_table():
    gate = Gate(np.zeros((7, 2)), np.zeros((2, 3)))
    assert all(np.array_equal(gate(*group), slack_weights(*group)) for group in OPEN)


def test_weights_sum_to_one_and_small_ones_are_dropped(rng):
    dropped = 0
    for _ in range(30):
        gate = Gate(rng.normal(size=(7, 4)), 3.0 * rng.normal(size=(4, 3)))
        for group in EVALUATOR:
            weights = gate(*group)
            assert weights.shape == (3,)
            assert weights.sum() == pytest.approx(1.0, abs=1e-12)
            assert ((weights == 0) | (weights >= QUIET)).all()
            dropped += (weights == 0).sum()
    assert 100 < dropped < 1200  # of 1890


def test_the_gate_in_closed_form():
    """One hidden unit that sees the slack's tier only: weights of a softmax by hand."""
    inner, outer = np.zeros((7, 1)), np.array([[1.0, 0.0, 2.0]])
    inner[5] = 50.0  # on at medium
    gate = Gate(inner, outer)
    logits = np.array([1.0, 6.0, 2.0])
    np.testing.assert_allclose(gate(9, 4, 4), [0, *(np.exp(logits) / np.exp(logits[1:]).sum())[1:]], rtol=1e-12)
    assert np.array_equal(gate(9, 4, 2), LOW)


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        (np.zeros((6, 2)), np.zeros((2, 3))),
        (np.zeros((7, 2)), np.zeros((3, 3))),
        (np.zeros((7, 2)), np.zeros((2, 2))),
        (np.zeros(7), np.zeros(3)),
        (np.zeros((7, 2)), np.zeros(3)),
        (np.zeros((7, 2, 1)), np.zeros((2, 3))),
        ([[0.0]] * 6 + [[0.0, 1.0]], np.zeros((1, 3))),
        ([["a"]] * 7, np.zeros((1, 3))),
        (None, None),
        ({}, {}),
        (np.full((7, 1), np.nan), np.zeros((1, 3))),
        (np.zeros((7, 1)), np.full((1, 3), np.inf)),
        ([[10**400]] * 7, np.zeros((1, 3))),
    ],
)
def test_what_is_no_gate(inner, outer):
    with pytest.raises(ModelError, match="gate's weights"):
        Gate(inner, outer)


def independent(low, medium, high):
    """Second moments of independent errors of these mean squares."""
    return np.diag([low, medium, high]).astype(float)


def mean_log_ratio(gate, errors):
    """What the fit is for, again: how much better than the slack table, mean over sizes, in e-folds."""
    ratios = [(gate(*s) @ A @ gate(*s)) / (slack_weights(*s) @ A @ slack_weights(*s)) for s, A in errors.items()]
    return np.log(ratios).mean()


@pytest.mark.slow
def test_the_better_expert_is_found():
    """At slack 1 the expert of slack 0 is a hundred times better; elsewhere the table is right."""
    errors = {s: independent(100, 1, 0.01) if s[0] - s[1] - s[2] == 1 else independent(1, 100, 100) for s in OPEN}
    gate = fit_gate(errors)
    for n, k, m in OPEN:
        assert gate(n, k, m).argmax() == (2 if n - k - m == 1 else 0), (n, k, m)
        assert gate(n, k, m).max() > 0.9, (n, k, m)
    assert mean_log_ratio(gate, errors) < 0.9 * np.mean([np.log(0.01) if n - k - m == 1 else 0 for n, k, m in OPEN])


@pytest.mark.slow
def test_the_better_expert_is_found_by_length():
    """The gate sees more than the slack."""
    errors = {s: independent(1, 100, 0.01) if s[0] >= 9 else independent(1, 100, 100) for s in sizes("low")}
    gate = fit_gate(errors)
    assert all(gate(*s)[2] > 0.8 for s in errors if s[0] >= 10)
    assert all(gate(*s)[0] > 0.8 for s in errors if s[0] <= 8)


@pytest.mark.slow
def test_equally_good_independent_experts_are_mixed():
    """Half and half halves the error."""
    errors = {s: independent(100, 1, 1) if s[0] - s[1] - s[2] == 1 else independent(1, 100, 100) for s in OPEN}
    gate = fit_gate(errors)
    for n, k, m in OPEN:
        if n - k - m == 1:
            np.testing.assert_allclose(gate(n, k, m), [0, 0.5, 0.5], atol=0.05, err_msg=str((n, k, m)))
        else:
            assert gate(n, k, m)[0] > 0.95


def test_equally_good_equal_experts_are_not_mixed():
    """Errors that are the same leave nothing to gain, however good the others are."""
    gate = fit_gate(dict.fromkeys(OPEN, np.ones((3, 3))))
    assert all(np.array_equal(gate(*s), slack_weights(*s)) for s in OPEN)


@pytest.mark.slow
def test_the_table_stays_where_nothing_is_to_gain():
    errors = {s: independent(*(1 + 99 * (1 - slack_weights(*s)))) for s in OPEN}
    gate = fit_gate(errors)
    assert all(gate(*s) @ slack_weights(*s) > 0.97 for s in OPEN)
    assert -0.02 < mean_log_ratio(gate, errors) < 0.02


@pytest.mark.slow
def test_every_size_counts_the_same():
    """Errors of any unit: scaling one size's moments changes nothing but rounding."""
    errors = {s: independent(100, 1, 0.3) if s[0] - s[1] - s[2] == 1 else independent(1, 3, 4) for s in OPEN}
    scaled = {s: A * 10.0 ** (8 * np.sin(sum(s))) for s, A in errors.items()}
    one, two = fit_gate(errors), fit_gate(scaled)
    for s in OPEN:
        np.testing.assert_allclose(one(*s), two(*s), atol=0.02)


@pytest.mark.slow
def test_a_size_without_errors_does_no_harm():
    """Brackets of one size may close exactly; the others' gate is fitted all the same."""
    errors = {s: independent(100, 1, 0.01) if s[0] - s[1] - s[2] == 1 else independent(1, 100, 100) for s in OPEN}
    gate = fit_gate(errors | {(4, 1, 2): np.zeros((3, 3))})
    assert gate(9, 4, 4)[2] > 0.9


@pytest.mark.slow
def test_the_fit_repeats_to_the_bit():
    errors = {s: independent(1, 2, 3 + s[0]) for s in OPEN}
    torch.manual_seed(1)
    one = fit_gate(errors)
    torch.manual_seed(2)
    two = fit_gate(errors)
    assert np.array_equal(one.inner, two.inner)
    assert np.array_equal(one.outer, two.outer)


def test_compare_in_closed_form():
    found = {
        (9, 4, 4): independent(5, 4, 8),
        (10, 4, 5): independent(5, 2, 6),
        (8, 4, 3): independent(0, 10, 10),
        (5, 3, 1): independent(1, 1, 1),
    }
    report = compare(lambda n, k, m: np.array([0.0, 0.5, 0.5]), found)
    # fixed 4, 2, 10, 1; mixed a quarter of 12, 8, 20, 2; n = 8 kept out; (5,3,1) not in the field's 21
    assert report["fitted"] == {
        "sizes": 3, "fixed": pytest.approx(7 / 3), "learned": pytest.approx(5.5 / 3), "ratio": pytest.approx(5.5 / 7)
    }  # fmt: skip
    assert report["kept out"] == {"sizes": 1, "fixed": 10, "learned": 5, "ratio": 0.5}
    assert report["field"] == {"sizes": 2, "fixed": 3, "learned": 2.5, "ratio": pytest.approx(2.5 / 3)}


# in a model set

FEW = {"low": [(5, 2, 1), (8, 4, 2), (9, 4, 2)], "medium": [(5, 2, 2), (9, 4, 4), (11, 7, 3)], "high": [(4, 2, 2)]}
ALL_FEW = FEW["low"] + FEW["medium"]


@pytest.fixture
def few(monkeypatch):
    """Six sizes instead of some three hundred, kept out and the field's own among them."""
    for module in (router_training, model_card):
        monkeypatch.setattr(module, "sizes", FEW.__getitem__)


@pytest.fixture(scope="module")
def with_gate(tmp_path_factory):
    """A model set whose gate lets all three experts speak."""
    folder = tiny_models(tmp_path_factory.mktemp("with gate"))
    rng = np.random.default_rng(5)
    outer = np.concatenate([-6.0 * np.eye(3), rng.normal(size=(2, 3))])
    inner = np.concatenate([np.concatenate([np.zeros((4, 3)), 50.0 * np.eye(3)]), rng.normal(size=(7, 2))], axis=1)
    gate = {"format": GATE, "inner": inner.tolist(), "outer": outer.tolist()}
    (folder / "router.json").write_text(json.dumps(sealed(gate)))
    return folder


def opinion(expert, features):
    """Positions all over the bracket, of each expert its own; what untrained ones say is nearly the same for all."""
    own = 1e3 * float(expert.input_layer.bias[0])
    return 0.5 + 0.5 * np.sin(own + 7.0 * features.lower[features.routed])


@pytest.fixture
def loud(monkeypatch, models, with_gate):
    """Experts that speak their opinion, of every open bracket and all over it."""

    def answers(expert, features, threads=None):
        said = opinion(expert, features)
        return np.stack([said, np.zeros_like(said), 0.01 + 0.1 * said])

    monkeypatch.setattr("moe_mheight.experts.features.DECIDED", -1.0)
    monkeypatch.setattr(Brackets, "tightest", property(lambda b: (b.lower, b.upper)))
    monkeypatch.setattr(network, "answers", answers)


def by_hand(folder, P, m):
    """log2 heights by each tier's ensemble, (3, B), from the experts' opinions."""
    out = []
    for tier in load_set(folder).values():
        features = features_of(brackets(P, m, steps=tier.experts[0].architecture.steps))
        out.append(features.log2_heights(np.mean([opinion(e, features) for e in tier.experts], axis=0)))
    return np.array(out)


@pytest.mark.slow
def test_moments_are_those_of_the_errors(few, loud, models, monkeypatch):
    seen = {}
    real = model_card.draw

    def remembering(rng, group, *arguments, **options):
        seen[group] = real(rng, group, *arguments, **options)
        return seen[group]

    monkeypatch.setattr(model_card, "draw", remembering)
    done = []
    found = moments(models, "router", 400, done.append)
    assert list(found) == list(seen) == ALL_FEW
    assert sum(done) == len(ALL_FEW)
    for group, A in found.items():
        P, h = seen[group]
        assert len(P) > 300
        errors = by_hand(models, P, group[2]) - np.log2(h)
        np.testing.assert_allclose(A, errors @ errors.T / len(h), rtol=1e-9, atol=1e-25)
        assert np.trace(A) > 1e-8


@pytest.mark.slow
def test_train_router_and_back(few, loud, tmp_path):
    folder = tiny_models(tmp_path / "mine")
    done = []
    said = train_router(folder, codes=20, keep_worse=True, advance=done.append)
    assert sum(done) == 2 * len(ALL_FEW) == 2 * router_training.sizes_compared()
    assert json.loads((folder / "router.json").read_text()) == json.loads(json.dumps(said))
    gate = load_gate(folder)
    assert np.abs(gate.outer).max() > 0.01, "there was nothing to learn"
    assert np.array_equal(gate.inner, said["inner"])
    assert np.array_equal(gate.outer, said["outer"])
    assert set(said["weights"]) == {",".join(map(str, s)) for s in EVALUATOR}
    for size, weights in said["weights"].items():
        np.testing.assert_allclose(weights, gate(*map(int, size.split(","))), atol=1e-4)
    # fitted on the sizes that are not kept out, compared on all of them with fresh codes
    fitted = fit_gate({s: A for s, A in moments(folder, "router", 20).items() if s[0] not in KEPT_OUT})
    assert np.array_equal(gate.outer, fitted.outer)
    assert said["comparison"] == compare(gate, moments(folder, "test", 20))
    assert [said["comparison"][part]["sizes"] for part in ("fitted", "kept out", "field")] == [4, 2, 2]
    # there it stays, unless forced; the same again
    before = (folder / "router.json").read_bytes()
    (folder / "router.json").write_bytes(b"mine")
    with pytest.raises(ModelError, match=r"router\.json exists; --force"):
        train_router(folder, codes=20)
    assert (folder / "router.json").read_bytes() == b"mine"
    train_router(folder, codes=20, force=True, keep_worse=True)
    assert (folder / "router.json").read_bytes() == before


@pytest.mark.parametrize("factor", [0.5, 1.009, 1.02, 1.32])
def test_a_worse_router_is_kept_on_demand_only(few, tmp_path, monkeypatch, factor):
    """Rigged: on sizes that it was not fitted on, its error is so many times the fixed router's."""
    folder = tiny_models(tmp_path / "mine")
    monkeypatch.setattr(router_training, "moments", lambda *_: dict.fromkeys(ALL_FEW, np.eye(3)))
    monkeypatch.setattr(router_training, "fit_gate", lambda _: Gate(np.zeros((7, 1)), np.zeros((1, 3))))
    monkeypatch.setattr(router_training, "compare", lambda *_: parts(factor))
    said = train_router(folder, codes=20)
    assert said["worse"] == (factor > 1.01)
    assert (folder / "router.json").exists() == (factor < 1.01)
    (folder / "router.json").write_bytes(b"mine")
    train_router(folder, codes=20, force=True)
    assert ((folder / "router.json").read_bytes() == b"mine") == (factor > 1.01)
    train_router(folder, codes=20, force=True, keep_worse=True)
    assert load_gate(folder).outer.tolist() == [[0.0, 0.0, 0.0]]


def parts(factor):
    row = {"sizes": 3, "fixed": 1e-6, "learned": 1e-6, "ratio": 1.0}
    return {"fitted": row, "kept out": row | {"learned": factor * 1e-6, "ratio": factor}, "field": row}


def test_a_gate_is_part_of_what_a_set_is(with_gate, tmp_path):
    """A changed digit is refused, so is a gate without a checksum; the set's identity names the gate."""
    folder = tmp_path / "mine"
    shutil.copytree(with_gate, folder)
    path = folder / "router.json"
    whole, without = path.read_text(), identity(folder)
    path.unlink()
    assert identity(folder) != without
    assert Predictor.load(folder)  # and needs none
    gate = json.loads(whole)
    changed = gate | {"outer": [[0.25 + x for x in gate["outer"][0]], *gate["outer"][1:]]}
    path.write_text(json.dumps(changed))
    assert identity(folder) != without
    with pytest.raises(ModelError, match=r"router\.json does not match its checksum; .*train-router --force"):
        load_gate(folder)
    del gate["sha256"]
    path.write_text(json.dumps(gate))
    with pytest.raises(ModelError, match=r"router\.json has no checksum, .*train-router --force"):
        load_gate(folder)
    path.write_text(whole)
    assert identity(folder) == without
    assert load_gate(folder)


def test_a_set_with_a_missing_tier_gets_no_router(tmp_path):
    folder = tiny_models(tmp_path / "mine")
    (folder / "high").rename(tmp_path / "high")
    with pytest.raises(ModelError, match="has no high tier"):
        train_router(folder, codes=20)
    assert not (folder / "router.json").exists()


@pytest.mark.slow
def test_a_predictor_with_the_learned_router_mixes_by_its_gate(loud, with_gate, rng):
    predictor, gate = Predictor.load(with_gate, router="learned"), load_gate(with_gate)
    for n, k, m in ((9, 4, 2), (9, 5, 3), (7, 2, 1)):
        weights = gate(n, k, m)
        assert (weights > 0.02).all(), "the test wants all three to speak"
        P = random_codes("normal", 200, k, n - k, rng)
        wanted = weights @ by_hand(with_gate, P, m)
        found = np.log2(predictor.predict(P, m))
        np.testing.assert_allclose(found, wanted, atol=1e-12)
        fixed = np.log2(Predictor.load(with_gate).predict(P, m))
        np.testing.assert_allclose(fixed, slack_weights(n, k, m) @ by_hand(with_gate, P, m), atol=1e-12)
        assert np.abs(found - fixed).max() > 1e-3


def test_the_spread_of_a_mixture_is_that_of_all_who_spoke(loud, with_gate, rng):
    """Standard deviation over six experts, each tier's weight shared by its two."""
    P, m = random_codes("normal", 100, 4, 5, rng), 2
    shares = np.repeat(load_gate(with_gate)(9, 4, m) / 2, 2)
    features = features_of(brackets(P, m))
    six = np.array([opinion(e, features) for tier in load_set(with_gate).values() for e in tier.experts])
    widths = features.gap[features.routed]
    variance = np.array([np.cov(six[:, i] * w, aweights=shares, ddof=0) for i, w in enumerate(widths)])
    found = Predictor.load(with_gate, router="learned").measure(P, m)
    np.testing.assert_allclose(found.std_bits[features.routed], np.sqrt(variance), rtol=1e-6, atol=1e-12)
    assert (found.std_bits > 1e-4).mean() > 0.25


def test_any_function_may_be_the_router(loud, with_gate, rng):
    P = random_codes("normal", 50, 4, 5, rng)
    each = by_hand(with_gate, P, 2)
    asked = []

    def mine(n, k, m):
        asked.append((n, k, m))
        return np.array([0.0, 0.25, 0.75])

    found = Predictor.load(with_gate, router=mine).predict(P, 2)
    np.testing.assert_allclose(np.log2(found), 0.25 * each[1] + 0.75 * each[2], atol=1e-12)
    assert set(asked) == {(9, 4, 2)}


def test_a_file_may_be_the_router(loud, with_gate, tmp_path, rng):
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"rules": [{"n": 9, "weights": {"low": 3, "high": 1}}]}))
    P = random_codes("normal", 50, 4, 5, rng)
    each = by_hand(with_gate, P, 2)
    for name in (path, str(path)):
        found = Predictor.load(with_gate, router=name).predict(P, 2)
        np.testing.assert_allclose(np.log2(found), 0.75 * each[0] + 0.25 * each[2], atol=1e-12)


@pytest.mark.parametrize("weights", [[0.5, 0.5, 0.5], [0, 0, 0], [1, 0], [2, -1, 0], [np.nan, 1, 0]])
def test_a_function_that_gives_no_weights(weights, models):
    """A slip of the caller's should be named, not turned into predictions."""
    predictor = Predictor.load(models, router=lambda n, k, m: np.array(weights, float))
    with pytest.raises(ModelError, match="router"):
        predictor.predict(np.arange(20.0).reshape(4, 5) ** 1.5 + 1, 2)


@pytest.mark.parametrize("choice", ["fixed", "learned"])
def test_every_router_stays_in_the_bracket(choice, loud, with_gate, rng):
    predictor = Predictor.load(with_gate, router=choice)
    for n, k, m in ((9, 4, 2), (9, 5, 3), (9, 4, 5)):
        P = random_codes("integer", 100, k, n - k, rng, scale=3)
        lower, upper = predictor.bounds(P, m)
        found, h = predictor.predict(P, m), m_height(P, m)
        assert ((lower <= found) & (found <= upper)).all()
        assert np.array_equal(np.isinf(found), np.isinf(h))


def test_no_gate_says_how_to_make_one(models):
    with pytest.raises(ModelError, match=r"no learned router.*mheight train-router"):
        Predictor.load(models, router="learned")
    Predictor.load(models, router="fixed")


ZEROS = {"format": GATE, "inner": [[0.0]] * 7, "outer": [[0.0] * 3]}
DAMAGE = {
    "empty": b"",
    "cut": json.dumps(ZEROS)[:-9].encode(),
    "not text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "text": b'"router"',
    "no format": {key: value for key, value in ZEROS.items() if key != "format"},
    "another format": ZEROS | {"format": "moe_mheight router 2"},
    "format a number": ZEROS | {"format": 1},
    "no inner": {key: value for key, value in ZEROS.items() if key != "inner"},
    "no outer": {key: value for key, value in ZEROS.items() if key != "outer"},
    "inner too short": ZEROS | {"inner": [[0.0]] * 6},
    "outer too short": ZEROS | {"outer": [[0.0] * 2]},
    "widths differ": ZEROS | {"inner": [[0.0, 1.0]] * 7},
    "ragged": ZEROS | {"inner": [[0.0]] * 6 + [[0.0, 1.0]]},
    "not a number": ZEROS | {"inner": [[float("nan")]] * 7},
    "endless": ZEROS | {"outer": [[float("inf")] * 3]},
    "weights text": ZEROS | {"outer": [["much"] * 3]},
    "weights null": ZEROS | {"outer": None},
    "weights an object": ZEROS | {"outer": {}},
    "weights huge": ZEROS | {"outer": [[10**400] * 3]},
    "a folder": None,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_gate_is_refused(name, tmp_path):
    path, content = tmp_path / "router.json", DAMAGE[name]
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(ModelError) as refused:
        load_gate(tmp_path)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


def test_what_the_damage_is_done_to(tmp_path):
    (tmp_path / "router.json").write_text(json.dumps(sealed(ZEROS)))
    assert np.array_equal(load_gate(tmp_path)(9, 4, 2), LOW)
