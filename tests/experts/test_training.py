"""Training: what it draws, that it learns, that it resumes to the same weights, and what it refuses."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from moe_mheight import ModelError
from moe_mheight._io import locked
from moe_mheight._parallel import workers
from moe_mheight.codes.generators import ALL_KINDS, random_codes
from moe_mheight.errors import FolderError
from moe_mheight.experts import batches, checkpoints, model_card, training
from moe_mheight.experts.batches import Recipe, chunk
from moe_mheight.experts.checkpoints import Stage, in_stages, records
from moe_mheight.experts.model_store import load_tier
from moe_mheight.experts.network import Architecture, Expert, code_features
from moe_mheight.experts.rng_streams import draw, stream
from moe_mheight.experts.training import Member, advance, train_tier
from moe_mheight.groups import HEADLINE, sizes, tier_of

TINY = Architecture(width=8, blocks=1)
SMALL = {"groups": 3, "codes": 64, "batch": 64, "easy": 1.0, "searched": 64, "missable": 1.0}


def test_tiers_cover_every_size_once():
    every = [group for tier in ("low", "medium", "high") for group in sizes(tier)]
    assert len(every) == len(set(every)) == sum(n - k for n in range(4, 13) for k in range(1, n))
    assert [tier_of(*group) for group in HEADLINE] == [
        "low", "low", "medium", "high", "low", "medium", "high", "medium", "high",
    ]  # fmt: skip


def test_chunks_depend_on_seed_and_number_only():
    recipe = Recipe(tier="low", architecture=TINY, **SMALL)
    one, again, other, next_one = (chunk(recipe, s, c, t) for s, c, t in ((0, 3, 1), (0, 3, 2), (1, 3, 1), (0, 4, 1)))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[4][:50], other[4][:50])
    assert not torch.equal(one[4][:50], next_one[4][:50])


def test_streams_share_no_code():
    seen = set()
    for name in ("train", "validate", "calibrate", "test", "default"):
        P, _ = draw(stream(name, 9, 4, 2), (9, 4, 2), 500, ("uniform",))
        mine = {matrix.tobytes() for matrix in P}
        assert len(mine) == len(P)
        assert not mine & seen
        seen |= mine


@pytest.mark.slow
def test_a_chunk_holds_the_codes_that_need_an_expert_and_few_others():
    """Those left open by more than DECIDED, and the share asked for of the rest, as far as brackets are open."""
    recipe = Recipe(tier="low", architecture=TINY, groups=12, codes=250, easy=0.0)
    hard, some = len(chunk(recipe, 0, 0, 1)[0]), len(chunk(replace(recipe, easy=0.2), 0, 0, 1)[0])
    assert 0 < hard < 1000
    assert 0.1 < (some - hard) / (3000 - hard) < 0.25


def test_targets_lie_in_the_bracket():
    recipe = Recipe(tier="medium", architecture=TINY, **SMALL)
    _, _, _, width, target = chunk(recipe, 0, 0, 1)
    assert ((target >= -1e-6) & (target <= width + 1e-6)).all()


def test_the_expert_answers_inside_the_bracket_whatever_it_reads(rng):
    expert = Expert(TINY).eval()
    for parameter in expert.parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    P, _ = draw(rng, (9, 4, 2), 200)
    features = code_features(P, 2, TINY, also=np.ones(len(P), bool))
    assert len(features.kept) > 50
    kept = torch.from_numpy(features.kept) * 1000.0
    position, unvisited_gap, log_error = expert(kept, torch.from_numpy(features.low), torch.from_numpy(features.high))
    assert ((position >= 0) & (position <= 1) & (unvisited_gap == 0)).all()
    assert torch.isfinite(log_error).all()


def test_under_a_budget_the_expert_never_answers_below_the_certified_bound(rng):
    expert = Expert(replace(TINY, open_ended=True)).eval()
    for parameter in expert.parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    P, h = draw(rng, (12, 6, 3), 100)
    features = code_features(P, 3, expert.architecture, budget=20)
    assert (features.lower <= np.log2(h) + 1e-12).all()
    position, unvisited_gap, _ = expert(*map(torch.from_numpy, (features.kept, features.low, features.high)))
    assert all(((part >= 0) & torch.isfinite(part)).all() for part in (position, unvisited_gap))


def test_the_error_head_teaches_the_position_nothing(rng):
    expert = Expert(TINY)
    P, h = draw(rng, (9, 4, 2), 100)
    batch = batches.as_batch(code_features(P, 2, TINY, also=np.ones(len(P), bool)), h)
    *_, log_error = expert(*batch[:3])
    log_error.sum().backward()
    taught = {name.split(".")[0] for name, p in expert.named_parameters() if p.grad is not None and p.grad.any()}
    assert taught == {"error_head"}


def test_under_a_budget_positions_learn_only_from_heights_that_were_seen(rng):
    expert = Expert(replace(TINY, open_ended=True))
    P, h = draw(rng, (12, 6, 3), 200)
    batch = batches.as_batch(code_features(P, 3, expert.architecture, budget=220), h)
    ceiling = batch[2].amax(1).clamp(min=0.0)
    for target, learns in ((ceiling + 0.5, False), (ceiling - 0.01, True)):
        expert.zero_grad()
        training.loss(expert, (*batch[:4], target))[0].backward()
        assert bool(expert.value_head.weight.grad.any()) == learns
        assert expert.gap_head.weight.grad.any()


@pytest.mark.slow
def test_a_chunk_under_budgets_holds_what_kept_candidates_leave_open_and_few_others():
    searching = replace(TINY, open_ended=True)
    recipe = Recipe(tier="low", architecture=searching, groups=24, codes=300, searched=60, easy=0.0, missable=0.0)
    hard = chunk(recipe, 0, 0, 1)
    _, low, high, width, target = chunk(replace(recipe, missable=0.5), 0, 0, 1)
    left = [part[2].amax(1) - part[1].amax(1).clamp(min=0.0) for part in (hard, (None, low, high))]
    assert 0 < len(left[0]) < 1000
    assert (left[0] > batches.UNDECIDED).all()
    assert 0.05 < len(left[1]) / (24 * 60) < 0.7
    assert (width == 1.0).all()
    assert (target >= -1e-6).all()


@pytest.mark.slow
def test_training_learns_and_loads(quick, tmp_path):
    told = []

    def report(done, total, newest):
        told.append((done, total, [record.get("view", record.get("doing")) for record in newest]))

    config = train_tier("low", tmp_path, seeds=1, chunks=14, architecture=TINY, device="cpu", report=report)
    assert told[0] == (0, 28, [])
    ending = [(done, total) for done, total, doing in told if doing == ["calibrating and measuring"]]
    told = told[: -len(ending)]
    assert told[-1] == (28, 28, ["seed", "search"])
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    groups = model_card.groups_measured("low")
    assert ending == [(done, groups) for done in range(groups + 1)]
    loaded, *both = load_tier(tmp_path / "low")
    assert loaded["architecture"] == config["architecture"]
    assert [len(ensemble) for ensemble in both] == [1, 1]
    history = [json.loads(line) for line in (tmp_path / "low" / "history.jsonl").read_text().splitlines()]
    for view in ("seed", "search"):
        mine = [record["validation"]["macro"] for record in history if record["view"] == view]
        assert mine[-1] < mine[0] if view == "seed" else len(mine) == 14
    metrics = json.loads((tmp_path / "low" / "metrics.json").read_text())
    assert metrics == config["metrics"]
    assert set(metrics["kinds"]) == set(ALL_KINDS)
    assert len(metrics["search"]) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["low"]
    assert (tmp_path / "low" / "README.md").read_text().startswith("# The low expert")
    with pytest.raises(ModelError, match="exists"):
        train_tier("low", tmp_path, seeds=1, chunks=2, architecture=TINY)


def without_times(history):
    return [{**json.loads(line), "minutes": None} for line in history.splitlines()]


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_weights(quick, tmp_path, monkeypatch):
    settings = {"seeds": 1, "chunks": 4, "architecture": TINY, "device": "cpu"}
    train_tier("medium", tmp_path / "unbroken", **settings)

    clock = iter(range(0, 10**9, 60))
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(clock)))  # so that every chunk is saved
    real, count = training.loss, [0]

    def dies(expert, batch):
        count[0] += 1
        if count[0] == 8:
            raise KeyboardInterrupt
        return real(expert, batch)

    monkeypatch.setattr(training, "loss", dies)
    with pytest.raises(KeyboardInterrupt):
        train_tier("medium", tmp_path / "broken", **settings)
    assert not (tmp_path / "broken" / "medium").exists()
    assert (tmp_path / "broken" / ".medium.unfinished" / "seed0.checkpoint").exists()
    monkeypatch.setattr(training, "loss", real)

    with pytest.raises(ModelError, match="other settings"):
        train_tier("medium", tmp_path / "broken", **{**settings, "chunks": 5})
    train_tier("medium", tmp_path / "broken", **settings)
    one, two = (load_tier(tmp_path / name / "medium")[1][0].state_dict() for name in ("unbroken", "broken"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    histories = [(tmp_path / name / "medium" / "history.jsonl").read_text() for name in ("unbroken", "broken")]
    assert without_times(histories[0]) == without_times(histories[1])


@pytest.mark.slow
def test_a_damaged_checkpoint_counts_as_none(quick, tmp_path, monkeypatch):
    settings = {"seeds": 1, "chunks": 2, "architecture": TINY, "device": "cpu"}
    train_tier("medium", tmp_path / "whole", **settings)
    monkeypatch.setattr(model_card, "save_tier", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_tier("medium", tmp_path / "broken", **settings)
    monkeypatch.undo()
    path = tmp_path / "broken" / ".medium.unfinished" / "seed0.checkpoint"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    assert checkpoints._resumed(path.parent, "seed0", "chunk") == Stage()
    assert checkpoints._resumed(path.parent, "search0", "chunk").done == 2


def tiny(view, seed):
    recipe = Recipe(tier="medium", chunks=2, architecture=replace(TINY, open_ended=view == "search"), **SMALL)
    return Member(recipe, view, seed, 1, "cpu")


@pytest.mark.slow
def test_members_in_threads_do_not_disturb_each_other(quick, tmp_path):
    """The same weights whether members train alone or side by side in one process, and wherever stages end."""
    members = {f"seed{seed}": tiny("seed", seed) for seed in range(3)}
    lengths, found = dict.fromkeys(members, 2), []
    for folder, jobs in (("alone", 1), ("together", 3)):
        (tmp_path / folder).mkdir()
        with workers(jobs, "threading"):
            found.append(in_stages(advance, members, lengths, tmp_path / folder, unit="chunk"))
    assert found[0] == found[1]
    assert len(set(found[0])) == 3


def test_two_trainings_in_one_place_are_refused(quick, tmp_path):
    partial = tmp_path / ".low.unfinished"
    partial.mkdir()
    (partial / "seed0.jsonl").write_text("theirs")
    for force in (False, True):
        with locked(partial), pytest.raises(FolderError, match=f"in use by process {os.getpid()} "):
            train_tier("low", tmp_path, seeds=1, chunks=2, architecture=TINY, force=force)
    assert (partial / "seed0.jsonl").read_text() == "theirs"


@pytest.mark.slow
def test_force_replaces_what_is_finished_and_what_is_not(quick, tmp_path):
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "old").touch()
    partial = tmp_path / ".low.unfinished"
    partial.mkdir()
    (partial / "seed0.checkpoint").write_bytes(b"of other settings")
    train_tier("low", tmp_path, seeds=1, chunks=2, architecture=TINY, device="cpu", force=True)
    assert load_tier(tmp_path / "low")
    assert not (tmp_path / "low" / "old").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["low"]


def test_a_history_cut_short_is_read_up_to_there(tmp_path):
    (tmp_path / "history").write_text('{"chunk": 1}\n{"chunk": 2}\n{"chu')
    assert records(tmp_path / "history") == [{"chunk": 1}, {"chunk": 2}]


@pytest.mark.parametrize("content", ['{"chunk": 1}\n', "not JSON\n", '{"seed": 0}\n', ""])
def test_a_damaged_history_counts_as_none(content, tmp_path):
    state = checkpoints.pack({"state.done": torch.tensor(2.0), "state.measured": torch.tensor(2.0)})
    (tmp_path / "a.checkpoint").write_bytes(state + checkpoints.sha256(state).digest())
    (tmp_path / "a.jsonl").write_text('{"chunk": 1}\n{"chunk": 2}\n{"chunk": 3}\n')
    assert checkpoints._resumed(tmp_path, "a", "chunk").records == ({"chunk": 1}, {"chunk": 2})
    (tmp_path / "a.jsonl").write_text(content)
    assert checkpoints._resumed(tmp_path, "a", "chunk") == Stage()
    (tmp_path / "a.checkpoint").write_bytes(checkpoints.sha256(b"").digest())
    assert checkpoints._resumed(tmp_path, "a", "chunk") == Stage()


@pytest.mark.parametrize(
    "settings",
    [
        {"tier": "huge"},
        {"tier": "low", "seeds": 0},
        {"tier": "low", "seeds": 65},
        {"tier": "low", "minutes": float("nan")},
        {"tier": "low", "minutes": float("inf")},
        {"tier": "low", "chunks": -1},
    ],
)
def test_bad_settings(tmp_path, settings):
    with pytest.raises(ModelError):
        train_tier(models=tmp_path, **settings)


def test_best_fixed_point_is_the_best(rng):
    P, h = draw(rng, (9, 4, 2), 300)
    features = code_features(P, 2, TINY)
    log2_h = np.log2(h)
    best = model_card.best_fixed(features.lower, features.gap, log2_h)

    def error(at):
        return np.mean((features.lower + at * features.gap - log2_h) ** 2)

    assert all(error(best) <= error(at) + 1e-15 for at in np.linspace(0, 1, 101))


def test_time_is_divided_between_training_and_what_follows():
    """At a minute or more all of it is spoken for; where it is short, codes are held out in proportion."""
    for minutes in (1, 2, 5, 16):
        for scanned, searched, processes in ((5, 20, 2), (30, 300, 4), (60, 60, 4)):
            plan = training.plan_time(60.0 * minutes, scanned, searched, processes)
            validation = plan.share * processes * searched / 8  # 100 codes of 800
            assert plan.ending == pytest.approx(plan.share * (scanned + searched))
            assert training.LEAST_SHARE <= plan.share <= 1
            whole = plan.training + plan.ending + validation + training.STARTING
            if plan.training > 60.0 * minutes / 4 + 1e-9:
                assert whole == pytest.approx(60.0 * minutes)
                most = training.HELD_OUT * 60.0 * minutes
                assert plan.ending + validation <= 1.000001 * most or plan.share == training.LEAST_SHARE
            else:
                assert whole <= 1.25 * 60.0 * minutes
    assert training.plan_time(60.0 * 60, 30, 300, 4).share == 1


@pytest.mark.slow
def test_short_trainings_hold_few_codes_out(quick, tmp_path, monkeypatch):
    """What is planned is told first, kept, and what calibration and figures take."""
    told, shares = [], []
    monkeypatch.setattr(training, "expected_seconds", lambda *_: (60.0, 60.0))
    monkeypatch.setattr(training, "plan_chunks", lambda *_: (2, 9.0))
    monkeypatch.setattr(training, "finish", lambda *_, share, advance: shares.append(share))

    def report(done, total, newest):
        told.extend(record["expected"] for record in newest if "expected" in record)

    train_tier("high", tmp_path, seeds=1, minutes=1.0, architecture=TINY, device="cpu", report=report)
    plan = training.plan_time(60.0, 60.0, 60.0, 1)
    assert shares == [plan.share]
    assert 0.1 < plan.share < 0.5
    # two networks of two chunks, 9 s each, whatever was asked for
    minutes = f"{4 * 9.0 / 60:.1f}", f"{plan.ending / 60:.1f}"
    assert told == ["about {} min of training, then about {} min of calibration and card".format(*minutes)]


def test_the_learning_rate_warms_up_and_follows_a_cosine(monkeypatch):
    """Every step's rate against the formula: from 1 % up to `rate` in a share `warmup`, times half a cosine to 0."""
    recipe = Recipe(tier="low", architecture=TINY, chunks=10, batch=16, rate=3e-3, warmup=0.2)
    codes = [torch.rand(40, TINY.kept, TINY.features), torch.zeros(40, TINY.kept), torch.ones(40, TINY.kept)]
    monkeypatch.setattr(training, "chunk", lambda *_: (*codes, torch.ones(40), torch.rand(40)))
    monkeypatch.setattr(training, "_known", lambda *_: [])
    monkeypatch.setattr(training, "validate", lambda *_: {"macro": 0.0})
    rates, step = [], torch.optim.AdamW.step

    def recorded(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    stage = Stage()
    while stage.weights is None:
        stage = advance((Member(recipe, "seed", 0, 1, "cpu"), stage))
    done = np.array([(number + at / 40) / 10 for number in range(10) for at in (0, 16, 32)])
    wanted = 3e-3 * np.minimum(1.0, 0.01 + done / 0.2) * np.cos(np.pi * done / 2) ** 2
    np.testing.assert_allclose(rates, wanted, rtol=1e-9)
    assert rates[0] == pytest.approx(3e-5)
    assert np.argmax(rates) == 6  # of 30 steps, right after the warm-up
    assert rates[-1] < 0.01 * max(rates)


def test_the_threshold_is_the_best_one(monkeypatch, rng):
    """Gaps of 0.05 are real, those up to 0.01 are noise: a threshold between loses little and drops all noise."""
    truth = np.where(rng.random(400) < 0.1, 0.05, 0.0) + 1e-4 * rng.random(400)
    noise = rng.uniform(0.0, 0.01, (3, 400))
    trials = [(truth, np.zeros((3, 400)), np.where(truth > 0.04, 0.06, noise))]
    found = model_card.best_threshold(trials)
    errors = {t: np.mean((np.maximum(trials[0][2] - t, 0.0).mean(0) - truth) ** 2) for t in model_card.THRESHOLDS}
    assert errors[found] == min(errors.values())
    assert 0.005 < found < 0.02
    assert max(errors.values()) > 20 * errors[found]
    # and it is the one that a tier gets
    expert = Expert(replace(TINY, open_ended=True)).eval()
    known = code_features(random_codes("normal", 30, 6, 6, rng), 3, expert.architecture, 1, budget=20)
    monkeypatch.setattr(model_card, "held_out", lambda *_: [((12, 6, 3, 20), known, known.lower + 0.1)])
    monkeypatch.setattr(model_card, "best_threshold", lambda trials: 0.125 if len(trials) == 1 else None)
    assert model_card.measure_search("low", [expert])[0]["threshold"] == 0.125
