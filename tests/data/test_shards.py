"""Sets of shards: the same bytes whoever makes them and after any interruption; what is wrong is refused, and said."""

import ast
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import brute
import joblib
import numpy as np
import pytest
from commands import assert_refused, started
from joblib.parallel import ParallelBackendBase

from moe_mheight import DataError, MHeightError
from moe_mheight._io import PART, locked, write_file
from moe_mheight._parallel import asked, each, workers
from moe_mheight.data import manifests, shards
from moe_mheight.data.code_files import read, write_npz
from moe_mheight.data.generate import generate, generate_set
from moe_mheight.data.manifests import FINISHED, MANIFEST
from moe_mheight.data.sources import by_row, open_codes
from moe_mheight.errors import FolderError

GROUPS = ((6, 3, 2), (7, 4, 3))


def make(path, **changes):
    settings = {"rows": 230, "kind": "scaled-integer", "seed": 5, "shard_rows": 100} | changes
    return generate_set(path, GROUPS, **settings)


def stream(path, partial=False):
    return (group for piece in open_codes([path], partial=partial).pieces() for group in piece.items())


def contents(path):
    return {each.name: each.read_bytes() for each in path.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("sets") / "whole"
    return path, make(path)


def test_shards_are_cut_by_rows(whole):
    found = [(e["name"], e["rows"], e["groups"]) for e in whole[1]["shards"]]
    assert found == [
        ("6_3_2-00000.npz", 100, {"6,3,2": 100}), ("6_3_2-00001.npz", 100, {"6,3,2": 100}),
        ("6_3_2-00002.npz", 30, {"6,3,2": 30}), ("7_4_3-00000.npz", 100, {"7,4,3": 100}),
        ("7_4_3-00001.npz", 100, {"7,4,3": 100}), ("7_4_3-00002.npz", 30, {"7,4,3": 30}),
    ]  # fmt: skip


def test_a_set_holds_labelled_codes(whole):
    path, manifest = whole
    rows = []
    for group, codes in stream(path):
        n, k, m = group
        assert codes.P.shape[1:] == (k, n - k)
        rows += codes.row.tolist()
        assert np.allclose(codes.h[:5], [float(brute.profile(P)[m]) for P in codes.P[:5]])
    assert rows == list(range(460))
    assert manifest["rows"] == 460
    assert manifest["complete"]
    assert sorted(contents(path)) == sorted([MANIFEST, *(entry["name"] for entry in manifest["shards"])])


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "backend"), [(2, "threading"), (3, "loky")])
def test_workers_change_no_byte(jobs, backend, whole, tmp_path):
    with workers(jobs, backend):
        make(tmp_path / "set")
    assert contents(tmp_path / "set") == contents(whole[0])


def test_shards_differ(whole):
    matrices = np.concatenate([codes.P for group, codes in stream(whole[0]) if group == (6, 3, 2)])
    assert len(np.unique(matrices, axis=0)) > 220


def test_a_file_of_one_shard_holds_the_codes_of_the_set(tmp_path):
    make(tmp_path / "set", rows=50)
    write_npz(tmp_path / "file.npz", generate(GROUPS, 50, "scaled-integer", 5))
    one = read([tmp_path / "file.npz"])
    for group, codes in stream(tmp_path / "set"):
        assert np.array_equal(codes.P, one[group].P)
        assert np.array_equal(codes.h, one[group].h)


def test_what_is_damaged_or_missing_is_made_again(whole, tmp_path):
    path = tmp_path / "set"
    make(path)
    (path / "6_3_2-00001.npz").write_bytes(b"damaged")
    (path / "7_4_3-00000.npz").unlink()
    (path / f"7_4_3-00002.npz{PART}").write_bytes(b"half")
    with pytest.raises(DataError, match="checksum"):
        list(stream(path))
    told = []
    generate_set(path, GROUPS, 230, "scaled-integer", 5, shard_rows=100, advance=told.append)
    assert told[0] == 260  # found made
    assert sum(told) == 460
    assert contents(path) == contents(whole[0])


def test_an_interruption_loses_nothing(whole, tmp_path, monkeypatch):
    path, real, written = tmp_path / "set", shards.write_file, []

    def dies(target, content):
        if target.suffix == ".npz":
            written.append(target.name)
            if len(written) == 3:
                raise KeyboardInterrupt
        real(target, content)

    monkeypatch.setattr(shards, "write_file", dies)
    with pytest.raises(KeyboardInterrupt):
        make(path)
    monkeypatch.setattr(shards, "write_file", real)
    assert not json.loads((path / MANIFEST).read_text())["complete"]
    with pytest.raises(DataError, match="not complete"):
        list(stream(path))
    assert sum(len(codes.P) for _, codes in stream(path, partial=True)) == 200
    with open(path / FINISHED, "a") as out:
        out.write('{"name": "7_4')  # a line cut short
    with pytest.raises(FolderError, match="other settings: seed 5 there, 6 here"):
        make(path, seed=6)
    make(path)
    assert contents(path) == contents(whole[0])


@pytest.mark.slow
def test_killed_at_random_moments_the_bytes_are_the_same(tmp_path):
    """A real process, killed for good, several times; in the end nothing is lost, doubled or left over."""
    program = (
        "from moe_mheight.data.generate import generate_set\nfrom pathlib import Path\n"
        "generate_set(Path({!r}), ((6, 3, 2), (7, 4, 3)), 150000, 'scaled-integer', 1, shard_rows=5000)"
    )

    def start(name):
        return started([sys.executable, "-c", program.format(str(tmp_path / name))])

    def finish(name):
        with start(name) as process:
            return process.wait(timeout=600)

    assert finish("whole") == 0
    rng = np.random.default_rng(0)
    for _ in range(3):
        with start("broken") as process:
            seen = len(list((tmp_path / "broken").glob("*.npz"))) if (tmp_path / "broken").exists() else 0
            deadline = time.monotonic() + 300
            while process.poll() is None and time.monotonic() < deadline:
                if len(list((tmp_path / "broken").glob("*.npz"))) >= min(seen + 4, 50):
                    break
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.05))  # then it is killed
    assert finish("broken") == 0
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_other_settings_are_refused_and_force_starts_over(tmp_path):
    path = tmp_path / "set"
    make(path)
    for changes, message in (
        ({"kind": "normal"}, "kind 'scaled-integer' there, 'normal' here"),
        ({"rows": 231, "shard_rows": 50}, r"rows 230 there, 231 here \(and shard_rows\)"),
    ):
        with pytest.raises(FolderError, match=message):
            make(path, **changes)
    made = make(path, kind="normal", force=True)
    assert made["settings"]["kind"] == "normal"
    assert sorted(contents(path)) == sorted([MANIFEST, *(entry["name"] for entry in made["shards"])])


def test_other_versions_are_refused(tmp_path, monkeypatch):
    make(tmp_path / "set")
    monkeypatch.setattr(manifests.np, "__version__", "9.9")
    with pytest.raises(FolderError, match="other versions: numpy"):
        make(tmp_path / "set")


def test_a_second_process_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    with locked(tmp_path / "set"), pytest.raises(FolderError, match=f"in use by process {os.getpid()} on"):
        make(tmp_path / "set")
    make(tmp_path / "set")


def test_a_lock_dies_with_its_process(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom moe_mheight._io import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with started([sys.executable, "-c", code, tmp_path], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FolderError, match=f"process {holder.pid}"), locked(tmp_path):
            pass
    with locked(tmp_path):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "letter.npz").write_text("dear")
    for force in (False, True):
        with pytest.raises(FolderError, match="other files"):
            make(tmp_path, force=force)
        with pytest.raises(FolderError, match="is no folder"):
            make(tmp_path / "letter.npz", force=force)
    assert contents(tmp_path) == {"letter.npz": b"dear"}
    (tmp_path / "extension").mkdir()
    (tmp_path / "extension" / MANIFEST).write_text('{"name": "mine"}')
    for force in (False, True):
        with pytest.raises(FolderError, match="other files"):
            make(tmp_path / "extension", force=force)
    make(tmp_path / "set")
    (tmp_path / "set" / MANIFEST).write_text("{")  # damaged, among nothing but shards
    make(tmp_path / "set", force=True)
    (tmp_path / "set" / "letter.npz").write_text("dear")
    make(tmp_path / "set", kind="normal", force=True)
    assert (tmp_path / "set" / "letter.npz").read_text() == "dear"


@pytest.mark.parametrize(
    "manifest",
    [
        "{",
        "[]",
        '{"format": "other"}',
        '{"format": "moe_mheight shards 1", "complete": 1, "shards": []}',
        '{"format": "moe_mheight shards 1", "complete": true, "shards": [{"name": "../x.npz"}]}',
        '{"format": "moe_mheight shards 1", "complete": true, "shards": '
        '[{"name": "6_3_2-00000.npz", "group": [6, 3, 2], "rows": 1}]}',
        "[" * 100000,
        '{"format": "moe_mheight shards 1", "complete": true, "shards": [{"name": "rows-00000.npz", "rows": '
        + f'{10**30}, "groups": {{"9,4,2": {10**30}}}, "sha256": ""}}]}}',
    ],
)
def test_hostile_manifests(manifest, tmp_path):
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(DataError, match=r"manifest\.json"):
        list(stream(tmp_path))


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    write_file(tmp_path / "a", b"one")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FolderError, match="No space left on device"):
        write_file(tmp_path / "a", b"two")
    assert contents(tmp_path) == {"a": b"one"}


# jobs


def square(x):
    return x * x


@pytest.mark.slow
def test_each_gives_every_result_once():
    for jobs, backend in ((None, None), (2, "threading"), (2, "loky")):
        with workers(jobs, backend):
            assert sorted(each(square, range(20))) == [(i, i * i) for i in range(20)]


class Lists(ParallelBackendBase):
    """As Ray's: another package's, whose results come as lists."""

    supports_return_generator = False
    default_n_jobs = 3

    def effective_n_jobs(self, n_jobs):
        return 3 if n_jobs is None else n_jobs

    def submit(self, function, callback=None):
        done = Future()
        done.get = done.result  # joblib before 1.5 asks for that
        done.set_result(function())
        if callback:
            callback(done)
        return done

    apply_async = submit

    def retrieve_result(self, out, timeout=None):
        return out.result()


def test_how_many_workers_were_asked_for():
    """By `workers`, or by joblib's own ways, which say 1 as well when nobody has said anything."""
    assert asked() is None
    cores = joblib.effective_n_jobs(-1)
    for config, number in (
        ({"n_jobs": 1}, 1),
        ({"n_jobs": 7}, 7),
        ({"n_jobs": -1}, cores),
        ({"backend": "threading", "n_jobs": 1}, 1),
        ({"backend": "threading", "n_jobs": 5}, 5),
        ({"backend": "loky"}, None),
        ({"backend": Lists()}, 3),
        ({"backend": Lists(), "n_jobs": 2}, 2),
        ({"verbose": 0}, None),
    ):
        with joblib.parallel_config(**config):
            assert asked() == number, config
            with joblib.parallel_config(verbose=0):
                assert asked() == number, config
    with joblib.parallel_backend("threading", n_jobs=4):
        assert asked() == 4
    with workers():
        assert asked() is None
    with workers(3):
        assert asked() == 3
    with workers(None, "threading"):
        assert asked() == cores
    assert asked() is None


@pytest.mark.parametrize("jobs", [None, 1, 2])
def test_each_by_other_packages_backends(jobs):
    config = {"backend": Lists()} if jobs is None else {"backend": Lists(), "n_jobs": jobs}
    with joblib.parallel_config(**config):
        assert sorted(each(square, range(20))) == [(i, i * i) for i in range(20)]
        assert sorted(each(square, range(20), jobs=2)) == [(i, i * i) for i in range(20)]


@pytest.mark.slow
def test_each_obeys_those_who_asked_first():
    def threads(config, jobs, meet=False):
        seen, together = set(), threading.Barrier(2, timeout=300)

        def work(_):
            seen.add(threading.get_ident())
            if meet:
                together.wait()
            time.sleep(0.01)

        with joblib.parallel_config(**config):
            list(each(work, range(4), jobs))
        return len(seen)

    assert threads({"backend": "threading", "n_jobs": 1}, 2) == 1
    assert threads({"backend": "threading", "n_jobs": 2}, 1, meet=True) == 2
    assert threads({}, 1) == 1


def test_of_joblib_only_what_it_lists_as_public():
    """Names that joblib's own __all__ has, and the class that backends are made of; others change without notice."""
    import moe_mheight

    for path in Path(moe_mheight.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "joblib":
                assert node.attr in joblib.__all__, f"{path.name}: joblib.{node.attr}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "joblib":
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                public = {f"joblib.{name}" for name in joblib.__all__} | {"joblib.parallel.ParallelBackendBase"}
                assert names <= public, path.name


def fails(x):
    if x == 3:
        raise DataError("three")
    return x


def test_an_error_of_a_worker_is_the_callers(tmp_path):
    for jobs in (1, 2):
        with workers(jobs, "loky"), pytest.raises(DataError, match="three"):
            list(each(fails, range(6)))


def test_pieces_come_back_in_order():
    data = dict(generate(GROUPS, 40_000, "integer", 0))

    with workers(3, "threading"):
        found = by_row(data, lambda codes, group: codes.P.sum(axis=(1, 2)))
    assert all(np.array_equal(found[codes.row], codes.P.sum(axis=(1, 2))) for codes in data.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, None, None), "at least 1"),
        ((None, "dask", None), "address of a scheduler"),
        ((None, "loky", "tcp://127.0.0.1:1"), "backend dask"),
        ((2, "nonsense", None), "backend must be one of loky, threading, dask or registered"),
    ],
)
def test_wrong_workers(arguments, message):
    with pytest.raises(MHeightError, match=message), workers(*arguments):
        pass


# the command


def test_generate_a_folder(mheight, folder, whole):
    arguments = ["generate", "--groups", "6,3,2;7,4,3", "--rows", 230, "--seed", 5, "--shard-rows", 100]
    assert mheight(*arguments, "--jobs", 1, "set")[0] == 0
    assert contents(Path("set")) == contents(whole[0])
    code, out, err = mheight(*arguments, "--jobs", 2, "--backend", "threading", "set", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["rows"] == 460
    assert_refused(mheight(*arguments, "--jobs", 1, "--kind", "normal", "set"), "other settings", "kind")
    assert_refused(mheight(*arguments, "codes.npz"), "--shard-rows")
    assert_refused(mheight("generate", "--jobs", 0, "new"), "at least 1")
    assert_refused(mheight("generate", "--threads", 2, "new"), "--threads is for a file")
    assert_refused(mheight("generate", "codes.txt"), "without an ending")
    assert_refused(mheight("generate", "--rows", 10**12, "--shard-rows", 1, "new"), "shards are too many")
    assert sorted(os.listdir()) == ["set"]


def test_jobs_change_no_answer(mheight, folder):
    write_npz(Path("codes.npz"), generate(GROUPS, 50, "integer", 0))
    for command in (["predict", "codes.npz"], ["exact", "codes.npz", "--json"]):
        one, two = mheight(*command), mheight(*command, "--jobs", 2, "--backend", "threading")
        assert one == two
        assert one[0] == 0
