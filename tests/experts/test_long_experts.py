"""Experts of long codes: files that come back, files that are refused, and what they may say."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save
from tiny_models import few_labels, made_up_long

from moe_mheight import DataError, ModelError
from moe_mheight.brackets import long_codes
from moe_mheight.experts.long_experts import (
    FORMAT,
    GAP_SHIFT,
    SHAPES_OF,
    answers,
    calibration_of,
    judge,
    load_long,
    pack_long,
    ranking_of,
    unpack_long,
    upper_bits,
)
from moe_mheight.experts.long_training import count_batches, train_long
from moe_mheight.experts.search_records import READ, read_records


@pytest.fixture(scope="module")
def tier():
    return made_up_long(3, members=3)


@pytest.fixture
def read(rng):
    return rng.normal(size=(400, len(READ)))


def table(tier):
    return {name: column.tolist() for name, column in tier.calibration._asdict().items()}


def files_of(tier, **changes):
    about = {"format": FORMAT, "seeds": len(tier.members), "calibration": table(tier)} | changes
    weights = {f"long{i}.safetensors": pack_long(member) for i, member in enumerate(tier.members)}
    return weights | {"long.json": json.dumps(about).encode()}


def test_a_member_comes_back(tier):
    for member in tier.members:
        back = unpack_long(pack_long(member), "long0.safetensors")
        assert back.keys() == member.keys() == SHAPES_OF.keys()
        for name in member:
            np.testing.assert_array_equal(back[name], member[name])


def spoiled(name, array):
    return save(load(pack_long(made_up_long(0).members[0])) | {name: np.asarray(array, np.float32)})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a safetensors file"),
        (b"\xff" * 100, "not a safetensors file"),
        (pack_long(made_up_long(0).members[0])[:-8], "not a safetensors file"),
        (spoiled("ranking.shift", np.zeros(3)), "does not hold an expert"),
        (spoiled("another", np.zeros(3)), "does not hold an expert"),
        (save({}), "does not hold an expert"),
        (spoiled("ranking.shift", np.full(8, np.nan)), "not finite"),
        (spoiled("record.mean", np.full(len(READ), np.inf)), "not finite"),
        (spoiled("record.std", np.zeros(len(READ))), "above 0"),
    ],
)
def test_hostile_weights(content, says):
    with pytest.raises(ModelError, match=f"long0.*{says}"):
        unpack_long(content, "long0.safetensors")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (None, "not a table"),
        ({"logits": None}, "lengths|table"),
        ({"logits": [0.0]}, "lengths"),
        ({"logits": [[0.0, 1.0]]}, "lengths"),
        ({"certainty": ["a", "b"]}, "not a table"),
        ({"logits": [float("nan")] * 7}, "finite"),
        ({"logits": [3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0]}, "ascend"),
        ({"certainty": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]}, "ascend"),
        ({"certainty": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.1]}, "beyond"),
        ({"certainty": [-0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}, "beyond"),
        ({"quantiles": [-1.0, 0.0, 1.0, 1.0, 2.0]}, "below 0"),
        ({"levels": [0.0, 0.5, 1.0]}, "lengths"),
        ({"share": 1.5}, "between 0 and 1"),
        ({"share": float("nan")}, "between 0 and 1"),
        ({"share": [0.5]}, "between 0 and 1"),
        ({"levels": [0.1, 0.2, 0.3, 0.4, 1.5]}, "beyond"),
    ],
)
def test_calibrations_that_are_none(tier, change, says):
    with pytest.raises(ModelError, match=says):
        calibration_of(change if change is None else table(tier) | change)


def test_a_tier_comes_back(tier, tmp_path):
    back = load_long(tmp_path, files_of(tier))
    assert len(back.members) == 3
    for one, two in zip(back.calibration, tier.calibration, strict=True):
        np.testing.assert_array_equal(one, two)
    assert load_long(tmp_path, {}) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "moe_mheight long 2"}, "this version reads"),
        ({"seeds": 0}, "1 to 64"),
        ({"seeds": 4}, "long3"),
        ({"seeds": "many"}, "long.json"),
        ({"seeds": None}, "long.json"),
        ({"seeds": 10**400}, "long.json"),
        ({"calibration": []}, "not a table"),
    ],
)
def test_tiers_that_are_none(tier, tmp_path, changes, says):
    with pytest.raises(ModelError, match=says):
        load_long(tmp_path, files_of(tier, **changes))
    for content in (b"", b"[]", b"{}", b"[" * 100_000, b"\xff", b"null"):
        with pytest.raises(ModelError, match=r"long\.json"):
            load_long(tmp_path, files_of(tier) | {"long.json": content})


def test_members_together_rank_as_the_mean_of_theirs(tier, rng):
    x = rng.normal(size=SHAPES_OF["ranking.inner"][1])

    def output(network):
        z = x @ network.inner + network.shift
        return (z / (1 + np.abs(z))) @ network.outer

    alone = [output(ranking_of([member])) for member in tier.members]
    assert output(ranking_of(tier.members)) == pytest.approx(np.mean(alone))


def by_hand(member, read):
    """One layer after the other, one code at a time."""
    out = []
    for row in read:
        x = (row - member["record.mean"]) / member["record.std"]
        for layer in ("record.0", "record.1"):
            z = member[f"{layer}.weight"] @ x + member[f"{layer}.bias"]
            x = z / (1 + np.abs(z))
        out.append(member["record.2.weight"] @ x + member["record.2.bias"])
    logit, gap = np.array(out).T
    return logit, np.log1p(np.exp(gap - GAP_SHIFT))


def test_what_they_say_is_a_probability(tier, read):
    judged = judge(tier, np.concatenate([read, 1e6 * read]))
    assert ((judged.certainty >= 0) & (judged.certainty <= 1)).all()
    assert (judged.gap >= 0).all()
    assert (judged.std_bits >= 0).all()
    assert (judged.expected >= 0).all()
    logits, gaps = answers(tier.stacked, read)
    for member, logit, gap in zip(tier.members, logits, gaps, strict=True):
        for one, two in zip(by_hand(member, read), (logit, gap), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)
    logits = logits.mean(0)
    order = np.argsort(logits)
    assert (np.diff(judge(tier, read[order]).certainty) >= 0).all()


def test_more_coverage_reaches_higher(tier, read):
    judged = judge(tier, read)
    before = np.zeros(len(read))
    for coverage in np.linspace(0.05, 1.0, 20):
        bits = upper_bits(tier, judged, coverage)
        assert (bits >= before).all()
        assert (bits[judged.certainty >= coverage] == 0).all()
        before = bits
    assert before.max() > 0


def test_what_is_read_is_finite(rng):
    for records in (long_codes.begin(3), long_codes.begin(3)):
        P = rng.normal(size=(3, 6, 6))
        assert np.isfinite(read_records(records, (12, 6, 4), np.zeros(3, bool))).all()
        long_codes.go_on(P, 4, records, 20)
        read = read_records(records, (12, 6, 4), np.array([True, False, True]))
        assert read.shape == (3, len(READ))
        assert np.isfinite(read).all()
        assert read[:, READ.index("integers")].tolist() == [1, 0, 1]


def test_training_from_few_labels(tmp_path, quick_long):
    labels = few_labels(tmp_path / "labels.npz", [(12, 6, 4)], batches=8)
    told = []
    tier, figures = train_long(labels, "low", 2, advance=told.append, threads=1)
    assert sum(told) == 2 * count_batches(labels, "low") == 16
    assert len(tier.members) == 2
    assert not np.array_equal(tier.members[0]["record.0.weight"], tier.members[1]["record.0.weight"])
    assert len(figures["stages"]) == 2
    calibration_of(table(tier))  # what is trained can be loaded
    for member in tier.members:
        unpack_long(pack_long(member), "long0")
    again, _ = train_long(labels, "low", 2, threads=1)
    for one, two in zip(tier.members, again.members, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


def test_too_few_labels(tmp_path):
    labels = few_labels(tmp_path / "labels.npz", [(12, 6, 4)], batches=1)
    for tier in ("low", "high"):
        with pytest.raises(DataError, match=f"{tier} tier.*label_long_codes"):
            train_long(labels, tier, 1)
