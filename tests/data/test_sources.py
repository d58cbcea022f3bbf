"""Codes a piece at a time: the same answers from a file, from a set of shards, and by any workers."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from commands import assert_refused

from moe_mheight import DataError, Predictor, bounds
from moe_mheight._parallel import workers
from moe_mheight.data import manifests, sources
from moe_mheight.data.code_files import Codes, read, write_json, write_npz, write_pair
from moe_mheight.data.generate import generate, shuffled
from moe_mheight.data.labelling import audit, exact_heights, label_set
from moe_mheight.data.manifests import FINISHED, MANIFEST
from moe_mheight.data.sources import by_row, of, open_codes, over
from moe_mheight.errors import FolderError
from moe_mheight.evaluation import scoring
from moe_mheight.exact.cost_model import expected_seconds
from moe_mheight.experts.conformal import splitmix64
from moe_mheight.experts.model_card import best_fixed

GROUPS = ((6, 3, 2), (7, 4, 3), (10, 5, 2))


@pytest.fixture(scope="module")
def data():
    """A file's codes, groups splitmix64."""
    return shuffled(generate(GROUPS, 70, "integer", 3, scale=5, infinite=True), 3)


def listed(data):
    """Rows in order: (group, P, h)."""
    rows = {}
    for group, codes in data.items():
        for i, place in enumerate(codes.row):
            rows[int(place)] = (group, codes.P[i].tolist(), None if codes.h is None else float(codes.h[i]))
    return [rows[i] for i in range(len(rows))]


def test_pieces_are_cut_in_the_order_of_rows(data):
    whole, rows = listed(data), []
    source = of(data, 64)
    assert [shard.rows for shard in source.shards] == [64, 64, 64, 18]
    for shard, piece in zip(source.shards, source.pieces(), strict=True):
        assert {group: len(codes.P) for group, codes in piece.items()} == shard.groups
        places = np.concatenate([codes.row for codes in piece.values()])
        assert sorted(places) == list(range(len(rows), len(rows) + shard.rows))
        rows += listed({g: Codes(c.P, c.row - len(rows), c.h) for g, c in piece.items()})
    assert rows == whole
    assert listed(source.in_memory()) == whole


def test_a_file_becomes_a_set_with_true_labels(data, tmp_path):
    wrong = {group: Codes(codes.P, codes.row, codes.h + 1.0) for group, codes in data.items()}
    made = label_set(tmp_path / "set", of(wrong, 64))
    assert made["rows"] == 210
    assert made["shards"][3]["groups"] == {
        ",".join(map(str, g)): int((codes.row >= 192).sum()) for g, codes in data.items()
    }
    source = open_codes([tmp_path / "set"])
    assert listed(source.in_memory()) == listed(data)
    assert source.groups == tuple(data)
    found = audit(of(wrong), h=exact_heights(source))
    finite = sum(int(np.isfinite(codes.h).sum()) for codes in data.values())
    assert len(found.wrong) == finite


@pytest.mark.slow
def test_workers_and_pieces_change_nothing(data, tmp_path):
    label_set(tmp_path / "one", of(data, 64))
    with workers(2, "loky"):
        label_set(tmp_path / "two", of(data, 64), threads=1)
        one = exact_heights(open_codes([tmp_path / "two"]))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert np.array_equal(one, exact_heights(data))
    # a set of a set has the shards of the first, and no others
    label_set(tmp_path / "again", open_codes([tmp_path / "one"]))
    for path in (tmp_path / "one").glob("*.npz"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_labels_are_resumed_for_the_same_codes_only(data, tmp_path):
    label_set(tmp_path / "set", of(data, 64))
    (tmp_path / "set" / "rows-00001.npz").unlink()
    bare = {group: Codes(codes.P, codes.row, None) for group, codes in data.items()}
    told = []
    label_set(tmp_path / "set", of(bare, 64), advance=told.append)  # whatever the labels
    assert told == [146, 64]
    moved = {g: Codes(c.P + (g == (6, 3, 2)), c.row, None) for g, c in data.items()}
    with pytest.raises(FolderError, match="other settings: codes"):
        label_set(tmp_path / "set", of(moved, 64))


def test_a_set_is_not_made_in_its_own_place(data, tmp_path):
    label_set(tmp_path / "set", of(data, 64))
    before = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    for force in (False, True):
        with pytest.raises(FolderError, match="where the codes come from"):
            label_set(tmp_path / "set", open_codes([tmp_path / ".." / tmp_path.name / "set"]), force=force)
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()} == before


def test_other_rows_of_a_shard_are_refused(data, tmp_path):
    label_set(tmp_path / "set", of(data, 64))
    with pytest.raises(FolderError, match="other shards, of 64 rows and not 50"):
        label_set(tmp_path / "set", of(data, 50))
    assert listed(open_codes([tmp_path / "set"]).in_memory()) == listed(data)


def test_memory_does_not_grow_with_the_rows(monkeypatch):
    import tracemalloc

    P = np.ones((1 << 16, 1, 1))
    source = of({(2, 1, 1): Codes(P, np.arange(1 << 16), None)})
    many = sources.Source(source.shards * 30, source.content, lambda i: source.read(0), False, source.stamp)
    tracemalloc.start()
    held = [tracemalloc.get_traced_memory()[0] for _ in over(many, lambda codes, group: 0)]
    tracemalloc.stop()
    quarter = len(held) // 4
    assert max(held[-quarter:]) < max(held[:quarter]) + 1e6  # 8 bytes a row would be 12 million


def test_a_shard_of_somebody_elses(data, tmp_path):
    label_set(tmp_path / "set", of(data, 64))
    manifest = json.loads((tmp_path / "set" / MANIFEST).read_text())
    a, b = manifest["shards"][0], manifest["shards"][1]
    a["sha256"], b["sha256"] = b["sha256"], a["sha256"]
    (tmp_path / "set" / a["name"]).rename(tmp_path / "set" / "c")
    (tmp_path / "set" / b["name"]).rename(tmp_path / "set" / a["name"])
    (tmp_path / "set" / "c").rename(tmp_path / "set" / b["name"])
    (tmp_path / "set" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="is not the shard"):
        list(open_codes([tmp_path / "set"]).pieces())


def test_a_set_that_is_not_complete(data, tmp_path):
    begun = label_set(tmp_path / "set", of(data, 64))
    names = [entry["name"] for entry in begun["shards"]]
    done = {entry["name"]: entry["sha256"] for entry in begun["shards"][1:3]}
    (tmp_path / "set" / MANIFEST).write_bytes(
        manifests.to_bytes(begun | {"complete": False, "shards": [e | {"sha256": None} for e in begun["shards"]]})
    )
    with pytest.raises(DataError, match="not complete"):
        open_codes([tmp_path / "set"])
    with pytest.raises(DataError, match="no finished shard"):
        open_codes([tmp_path / "set"], partial=True)
    (tmp_path / "set" / FINISHED).write_bytes(b"".join(manifests.line(*entry) for entry in done.items()))
    source = open_codes([tmp_path / "set"], partial=True)
    assert [shard.name for shard in source.shards] == names[1:3]
    assert listed(source.in_memory()) == listed(data)[64:192]


def test_one_piece_is_in_memory_at_a_time(data, monkeypatch):
    """Serially, the next piece is read when the one before is done."""
    monkeypatch.setattr(sources, "PIECE", 10)
    source, events = of(data, 64), []

    def read_and_tell(i):
        events.append(("read", i))
        return source.read(i)

    watched = sources.Source(source.shards, source.content, read_and_tell, True, source.stamp)
    rows = []
    for _, places, total in over(watched, lambda codes, group: len(codes.P)):
        events.append(("done", total))
        rows += places.tolist()
    assert sorted(rows) == list(range(210))
    reads = [at for at, event in enumerate(events) if event[0] == "read"]
    done_before = [sum(count for name, count in events[:at] if name == "done") for at in reads]
    # joblib asks for three pieces of work ahead
    assert all(done >= 64 * i - 40 for i, done in enumerate(done_before))


def test_long_codes_go_in_small_pieces(rng):
    """So that a file of few hard codes keeps many workers busy; by the codes alone."""
    data = {(28, 4, 2): Codes(rng.normal(size=(20, 4, 24)), np.arange(20), None)}
    sizes = [len(rows) for _, rows, _ in over(data, lambda codes, group: None)]
    assert sizes == [8, 8, 4]
    assert [shard.rows for shard in of(data, 64).shards] == [20]


def test_rows_of_a_shard():
    """Of short codes by their length, of long ones by a guess of the time, which is the same everywhere."""
    short = [(4, 2, 1), (9, 4, 2), (10, 5, 3), (16, 8, 4)]
    assert [sources.rows_of_shard(*group) for group in short] == [1 << 18, 1 << 18, 1 << 17, 2048]
    for n, k, m in [(17, 8, 3), (20, 10, 10), (24, 12, 6), (32, 16, 3), (40, 20, 10), (64, 32, 2), (64, 62, 2)]:
        rows = sources.rows_of_shard(n, k, m)
        seconds = rows * expected_seconds(n, k, m, threads=1)
        assert rows.bit_count() == 1
        assert seconds <= 100
        assert seconds > 50 or rows * k * (n - k) > 1 << 22  # 32 MiB
    assert sources.rows_of_shard(64, 32, 16) == 1


def test_by_row_of_nothing():
    assert by_row({}, lambda codes, group: codes.P).shape == (0,)


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load()


@pytest.mark.slow
def test_scores_do_not_depend_on_pieces_or_workers(predictor, tmp_path, monkeypatch):
    data = scoring.default_data(300, 5, ((9, 4, 2), (9, 5, 3), (9, 4, 5)))
    label_set(tmp_path / "set", of(data, 250))

    def scores(codes):
        return scoring.evaluate(predictor, codes, threads=1).scores

    whole = scores(data)
    parts = scores(open_codes([tmp_path / "set"]))
    for one, other in zip(whole, parts, strict=True):
        assert one.group == other.group
        for name in ("log2_mse", "bounds_log2_mse", "fixed_log2_mse", "worst", "width"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9, abs=1e-30), name
        for name in ("codes", "infinite", "infinite_found", "infinite_false", "violations", "asked"):
            assert getattr(other, name) == getattr(one, name)
    monkeypatch.setattr(sources, "PIECE", 64)
    with workers(2, "threading"):
        side_by_side = scores(open_codes([tmp_path / "set"]))
    assert side_by_side == scores(open_codes([tmp_path / "set"]))


def test_baselines_know_no_label_of_the_codes_they_are_scored_on(predictor):
    """Bounds alone are the middle of `bounds`, whatever the labels; the fixed point comes from the other half."""
    group = (9, 4, 2)
    data = scoring.default_data(400, 6, (group,))
    codes = data[group]
    codes.h[:] *= np.exp(np.random.default_rng(3).normal(size=len(codes.h)) * 1e-3)  # labels that bounds do not decide
    (score,) = scoring.evaluate(predictor, data).scores
    finite = np.isfinite(codes.h)
    log2_h = np.log2(codes.h[finite])
    lower, upper = (np.log2(end) for end in bounds(codes.P[finite], 2))
    squares = ((lower + upper) / 2 - log2_h) ** 2
    assert score.bounds_log2_mse == pytest.approx(squares.mean(), rel=1e-9)
    low, high = (np.log2(end) for end in bounds(codes.P[finite], 2, tightest=False))
    half = splitmix64(codes.row[finite].astype(np.uint64)) % 2 == 1
    assert 0.4 < half.mean() < 0.6
    off = np.empty(len(low))
    for mine in (half, ~half):
        share = best_fixed(low[~mine], (high - low)[~mine], log2_h[~mine])
        off[mine] = (low + share * (high - low) - log2_h)[mine]
    assert score.fixed_log2_mse == pytest.approx(np.mean(off**2), rel=1e-6)

    asked = predictor.measure(codes.P, 2).routed
    assert score.asked == asked.sum() > 0
    first = int(np.flatnonzero(finite)[0])
    codes.h[first] *= 2.0  # one label moves its own error and no other code's
    (moved,) = scoring.evaluate(predictor, data).scores
    change = (np.sqrt(squares[0]) * np.sign(lower[0] / 2 + upper[0] / 2 - log2_h[0]) - 1.0) ** 2 - squares[0]
    assert (moved.bounds_log2_mse - score.bounds_log2_mse) * finite.sum() == pytest.approx(change, rel=1e-9)


def test_where_nobody_is_asked_the_prediction_is_that_of_bounds_alone(predictor):
    """So all that the gain counts is learnt."""
    data = scoring.default_data(300, 5, ((9, 4, 5), (9, 5, 3), (9, 6, 3)))
    for score in scoring.evaluate(predictor, data).scores:
        assert score.asked == 0
        assert score.log2_mse == pytest.approx(score.bounds_log2_mse, rel=1e-3, abs=1e-24)
        assert np.isnan(score.gain)


def test_the_fixed_point_of_halves(rng):
    for _ in range(200):
        low, width = rng.normal(size=50), rng.exponential(10.0 ** rng.integers(-9, 1), 50)
        log2_h = low + width * np.clip(rng.normal(rng.uniform(-0.5, 1.5), 0.3, 50), 0, 1)
        parts = [(low[at], width[at], log2_h[at]) for at in (slice(0, 20), slice(20, 50))]
        shares = [best_fixed(*part) for part in parts]
        expected = sum(
            np.sum((lows + share * wide - truth) ** 2)
            for (lows, wide, truth), share in zip(parts, shares[::-1], strict=True)
        )
        halves = np.stack([scoring._moments(*part) for part in parts])
        assert scoring._at_other_half(halves, 50) == pytest.approx(expected / 50, rel=1e-5, abs=1e-26)
    alone = np.stack([scoring._moments(low, width, log2_h), np.zeros(3)])  # no other half: the middle
    assert scoring._at_other_half(alone, 50) == pytest.approx(np.mean((low + width / 2 - log2_h) ** 2), rel=1e-9)
    assert scoring._at_other_half(np.zeros((2, 3)), 5) == 0.0
    assert np.isnan(scoring._at_other_half(np.zeros((2, 3)), 0))


# the commands


@pytest.mark.slow
def test_commands_take_a_file_or_a_set(mheight, folder, data):
    write_json(Path("codes.json"), data)
    write_pair(Path("rows.pkl"), Path("heights.pkl"), data)
    code, out, err = mheight("exact", "rows.pkl", "heights.pkl", "--out", "set", "--shard-rows", 64, "--jobs", 1)
    assert (code, err) == (0, "wrote 210 rows to set, a folder of shards (--out codes.npz for one file)\n")
    assert out.startswith("210 labels: 210 right")
    assert listed(open_codes(["set"]).in_memory()) == listed(data)
    for command in (["predict"], ["predict", "--bounds", "--interval", 0.9], ["exact"], ["exact", "--json"]):
        assert mheight(*command, "set") == mheight(*command, "codes.json")
    one, two = (
        json.loads(mheight("ensemble-eval", path, "--json", "--show", 0)[1])["groups"] for path in ("set", "codes.json")
    )
    assert [group["log2_mse"] for group in one] == pytest.approx([group["log2_mse"] for group in two], rel=1e-9)
    # resumed, with nothing to do, and again as a file
    assert mheight("exact", "codes.json", "--out", "set", "--shard-rows", 64, "--quiet")[0] == 0
    assert mheight("exact", "set", "--out", "flat.npz")[0] == 0
    assert listed(read(["flat.npz"])) == listed(data)


@pytest.mark.slow
def test_commands_refuse_half_a_set(mheight, folder, data):
    label_set(Path("set"), of(data, 64))
    manifest = json.loads(Path("set", MANIFEST).read_text())
    lines = b"".join(manifests.line(e["name"], e["sha256"]) for e in manifest["shards"][:2])
    Path("set", FINISHED).write_bytes(lines)
    Path("set", MANIFEST).write_text(json.dumps(manifest | {"complete": False}))
    for command in ("exact", "predict", "ensemble-eval"):
        assert_refused(mheight(command, "set"), "not complete", "--partial")
        assert mheight(command, "set", "--partial", "--quiet")[0] == 0
    assert len(mheight("predict", "set", "--partial")[1].splitlines()) == 128
    assert_refused(mheight("predict", "."), "no set of shards")
    assert_refused(mheight("exact", "set", "--partial", "--shard-rows", 5), "--shard-rows is for --out")
    os.mkdir("other")
    Path("other", "letter").write_text("dear")
    assert_refused(mheight("exact", "set", "--partial", "--out", "other"), "other files")


def test_a_set_in_the_place_of_a_file(mheight, folder, data):
    write_npz(Path("codes.npz"), data.items())
    Path("set").write_text("")
    assert_refused(mheight("exact", "codes.npz", "--out", "set"), "is no folder")
    assert_refused(mheight("exact", "codes.npz", "--out", "set.txt"), "no ending for a folder")
    assert_refused(mheight("exact", "codes.npz", "--tolerance", -1), "tolerance")
