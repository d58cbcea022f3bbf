"""Files and folders written whole or not at all: by many at once, on full disks, and killed at every step."""

import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from commands import started
from tiny_models import tiny_models

import moe_mheight
from moe_mheight._io import PART, locked, make_folder, meant, replacing, restore, swap, sweep, temporary, write_file
from moe_mheight.data.code_files import Codes, read, refuse_existing, write_pair
from moe_mheight.ensemble import onnx
from moe_mheight.errors import DataError, FolderError, MHeightError
from moe_mheight.evaluation import report
from moe_mheight.experts.model_store import load_set, staging_folder

STEPS = ("rename", "replace", "link", "unlink", "rmdir", "mkdir", "fsync")
"""Calls of os between which a process may be killed; what they change is all that another one sees."""


class Killed(BaseException):
    """As if by SIGKILL: from then on, no call changes anything."""


def killed_at(patch, number):
    """Let `number` calls pass; all later ones change nothing. Tells how many there were."""
    calls = []

    def watched(real):
        def call(*args, **kwargs):
            calls.append(real.__name__)
            if len(calls) > number:
                raise Killed
            return real(*args, **kwargs)

        return call

    for name in STEPS:
        patch.setattr(os, name, watched(getattr(os, name)))
    return calls


def at_every_step(work, prepare):
    """Kill `work` before its first step, its second, ...; after each kill yields its number, and last None."""
    for number in count():
        prepare()
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, number)
            try:
                work()
            except Killed:
                pass
            else:
                assert number > 3
                return
        yield number


def texts(folder):
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


# one file


@pytest.mark.slow
@pytest.mark.parametrize("writers", [1, 3])
def test_many_write_one_file(writers, tmp_path):
    """Nobody's write fails, and whoever reads sees one whole content."""
    path, contents = tmp_path / "a", [bytes([65 + i]) * 100_000 for i in range(writers)]
    write_file(path, contents[0])
    seen, failed, done = set(), [], threading.Event()

    def write(content):
        try:
            for _ in range(300):
                write_file(path, content)
        except Exception as error:
            failed.append(error)

    def watch():
        while not done.is_set():
            try:
                seen.add(path.read_bytes())
            except OSError as error:
                seen.add(str(error))

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        done.set()
        watcher.join()
    assert failed == []
    assert seen <= set(contents)
    assert list(tmp_path.iterdir()) == [path]


MANY = """
import sys
from pathlib import Path
from moe_mheight._io import replacing, write_file
for _ in range(200):
    write_file(Path("a"), sys.argv[1].encode() * 50_000)
    with replacing(Path("rows"), Path("heights")) as handles:
        for handle in handles:
            handle.write(sys.argv[1].encode())
"""


@pytest.mark.slow
def test_two_processes_write_the_same_files(tmp_path):
    line = [sys.executable, "-c", MANY]
    with started([*line, "x"], cwd=tmp_path) as one, started([*line, "y"], cwd=tmp_path) as other:
        assert [one.wait(timeout=300), other.wait(timeout=300)] == [0, 0]
    found = texts(tmp_path)
    assert set(found) == {"a", "rows", "heights"}
    assert found["a"] in ("x" * 50_000, "y" * 50_000)
    assert found["rows"] == found["heights"]


@pytest.mark.skipif(os.name == "nt", reason="no umask there")
def test_permissions_are_those_of_any_new_file(tmp_path):
    for mask in (0o022, 0o077):
        before = os.umask(mask)
        try:
            write_file(tmp_path / "a", b"")
            with replacing(tmp_path / "b", tmp_path / "c"):
                pass
        finally:
            os.umask(before)
        for name in "abc":
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~mask


def test_temporary_names(tmp_path):
    part = temporary(tmp_path / "a.npz")
    assert part.parent == tmp_path
    assert part.name.endswith(PART)
    assert meant(part.name) == meant("a.npz" + PART) == meant("a.npz") == "a.npz"
    assert temporary(tmp_path / "a.npz") != part
    part.write_bytes(b"half")
    (tmp_path / "kept").touch()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


# several as one


def pair(folder, text):
    with replacing(folder / "rows", folder / "heights") as handles:
        for handle in handles:
            handle.write(text)


@pytest.mark.parametrize("there", [(), ("rows",), ("heights",), ("rows", "heights")])
def test_a_pair_killed_at_every_step(there, tmp_path):
    """At no moment do new rows stand beside old heights, and the next one who comes finds all old or all new."""
    folder, old, new = tmp_path / "x", dict.fromkeys(there, "old"), {"rows": "new", "heights": "new"}

    def prepare():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in there:
            (folder / name).write_text("old")

    kills = 0
    for kills in at_every_step(lambda: pair(folder, b"new"), prepare):  # noqa: B007  counted
        now = {name: text for name, text in texts(folder).items() if name in new}
        assert not (len(now) == 2 and len(set(now.values())) == 2) or now == old
        restore(folder)
        found = {name: text for name, text in texts(folder).items() if name in new}
        assert found in (old, new)
        assert {meant(name) for name in texts(folder) if name.endswith(PART)} <= {*new}
        pair(folder, b"newer")
        sweep(folder)
        assert texts(folder) == dict.fromkeys(new, "newer")
    assert kills >= 5 + len(there)  # the last one


def test_parts_that_are_lost_after_a_kill(tmp_path):
    """Then what was there comes back."""

    def prepare():
        for path in tmp_path.iterdir():
            path.unlink()
        pair(tmp_path, b"old")

    for _ in at_every_step(lambda: pair(tmp_path, b"new"), prepare):
        sweep(tmp_path)
        restore(tmp_path)
        sweep(tmp_path)
        assert texts(tmp_path) in (dict.fromkeys(("heights", "rows"), text) for text in ("old", "new"))


def test_killed_while_it_puts_right(tmp_path):
    def prepare():
        for path in tmp_path.iterdir():
            path.unlink()
        pair(tmp_path, b"old")

    for _ in at_every_step(lambda: pair(tmp_path, b"new"), prepare):
        for number in range(12):
            with pytest.MonkeyPatch.context() as patch:
                killed_at(patch, number)
                with suppress(Killed):
                    restore(tmp_path)
        restore(tmp_path)
        sweep(tmp_path)
        assert texts(tmp_path) in (dict.fromkeys(("heights", "rows"), text) for text in ("old", "new"))


KILLS_ITSELF = """
import os, signal, sys
from pathlib import Path
from moe_mheight._io import replacing
left = [int(sys.argv[1])]
def watched(real):
    def call(*args, **kwargs):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(*args, **kwargs)
    return call
for name in ("rename", "replace", "unlink", "fsync"):
    setattr(os, name, watched(getattr(os, name)))
with replacing(Path("rows"), Path("heights")) as handles:
    for handle in handles:
        handle.write(b"new")
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_process_that_is_really_killed(tmp_path):
    for number in count():
        pair(tmp_path, b"old")
        ended = subprocess.run([sys.executable, "-c", KILLS_ITSELF, str(number)], cwd=tmp_path, check=False).returncode
        restore(tmp_path)
        found = texts(tmp_path)
        assert found["rows"] == found["heights"]
        assert found["rows"] in ("old", "new")
        if not ended:
            break
        assert ended == -signal.SIGKILL
    assert number >= 8
    assert found["rows"] == "new"


def test_reading_a_pair_puts_it_right(tmp_path):
    """Half replaced, the file that comes last is not there; whoever reads next finishes what was begun."""
    old, new = ({(4, 2, 1): Codes(np.ones((3, 2, 2)), np.arange(3), np.full(3, h))} for h in (1.0, 2.0))
    paths = tmp_path / "rows.pkl", tmp_path / "heights.pkl"
    in_between = 0

    for _ in at_every_step(lambda: write_pair(*paths, new), lambda: write_pair(*paths, old)):
        in_between += not all(path.exists() for path in paths)
        assert read(paths)[4, 2, 1].h[0] in (1.0, 2.0)
        refuse_existing(paths, force=True)
    assert in_between >= 3


FULL_DISK = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fails_at(patch, number, error=FULL_DISK):
    """The number-th change of names fails, as on a full disk, or is interrupted."""
    left = [number]

    def watched(real):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == -1:
                raise error
            return real(*args, **kwargs)

        return call

    for name in ("rename", "replace", "fsync", "mkdir"):
        patch.setattr(os, name, watched(getattr(os, name)))


@pytest.mark.parametrize("error", [FULL_DISK, KeyboardInterrupt()], ids=["full", "interrupted"])
@pytest.mark.parametrize("there", [(), ("rows",), ("heights",), ("rows", "heights")])
def test_a_pair_that_fails_at_any_step_stays(there, error, tmp_path, monkeypatch):
    for name in there:
        (tmp_path / name).write_text("old")
    for number in count():
        with monkeypatch.context() as patch:
            fails_at(patch, number, error)
            try:
                pair(tmp_path, b"new")
            except (FolderError, KeyboardInterrupt) as raised:
                told = str(raised)
            else:
                break
        assert texts(tmp_path) == dict.fromkeys(sorted(there), "old")
        if error is FULL_DISK:
            assert "rows" in told
            assert "No space left on device; what was finished before stays" in told
    assert number >= 5
    assert texts(tmp_path) == {"heights": "new", "rows": "new"}


def test_a_pair_in_two_folders(tmp_path, monkeypatch):
    paths = [tmp_path / "a" / "rows", tmp_path / "b" / "heights"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"old")
    for number in count():
        with monkeypatch.context() as patch:
            fails_at(patch, number)
            try:
                with replacing(*paths) as handles:
                    for handle in handles:
                        handle.write(b"new")
            except FolderError:
                assert [path.read_bytes() for path in paths] == [b"old", b"old"]
            else:
                break
    assert [path.read_bytes() for path in paths] == [b"new", b"new"]
    assert [len(list(path.parent.iterdir())) for path in paths] == [1, 1]


def test_no_folder_is_replaced_by_a_file(tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "mine").write_text("kept")
    with pytest.raises(FolderError, match="a folder has that name"):
        pair(tmp_path, b"new")
    with pytest.raises(FolderError, match="a folder has that name"):
        swap([(None, tmp_path / "rows")])
    with pytest.raises(FolderError, match="cannot write"):
        write_file(tmp_path / "rows", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]
    assert texts(tmp_path / "rows") == {"mine": "kept"}


HOSTILE = [
    [["../victim", "a", False]],
    [["/etc/hostname", "a", False]],
    [[None, "../victim", True]],
    [["link/file", "a", False]],
    [["a", "..", True]],
    [["..", "a", True]],
    [["x/../../victim", "a", False]],
    [["a", "", True]],
    [[{}, "a", True]],
    [[1, 2]],
    [],
    "abc",
    None,
]


@pytest.mark.parametrize("moves", HOSTILE, ids=str)
def test_a_strangers_journal_reaches_nothing_outside(moves, tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("mine")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / ".a.journal").write_text(json.dumps({"format": "moe_mheight journal 1", "moves": moves}))
    with pytest.raises(FolderError, match=r"\.a\.journal is damaged"):
        restore(folder)
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "elsewhere" / "file").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b"[]", b'{"moves": [["a", "b", true]]}'])
def test_damaged_journals(content, tmp_path):
    (tmp_path / ".a.journal").write_bytes(content)
    with pytest.raises(FolderError, match="is damaged"):
        restore(tmp_path)


# tiers


def tier(folder, text):
    folder.mkdir(parents=True)
    for name in ("config", "weights"):
        (folder / name).write_text(text)


@pytest.mark.parametrize("force", [False, True])
def test_a_tier_killed_at_every_step(force, tmp_path):
    """Between the two renames of a finished tier, a kill and a second start once lost the new tier and the old one."""
    final, models = tmp_path / "set" / "low", tmp_path / "set"

    def prepare():
        shutil.rmtree(models, ignore_errors=True)
        models.mkdir()
        if force:
            tier(final, "old")

    def train(text):
        with staging_folder(final, force) as partial:
            write_file(partial / "seed0.checkpoint", b"1")
            tier(partial / "finished", text)

    kills = 0
    for kills in at_every_step(lambda: train("new"), prepare):  # noqa: B007  counted
        restore(models)
        found = texts(final) if final.exists() else None
        assert found in ({"config": text, "weights": text} for text in ("old", "new")) or (not force and not found)
        if force:  # refused, or killed at once: what was restored stays
            with suppress(MHeightError), staging_folder(final, force=False):
                pytest.fail("it is there")
            assert texts(final) == found
        with suppress(MHeightError):
            train("newer")
        wanted = "newer" if force or not found else "new"
        assert texts(final) == {"config": wanted, "weights": wanted}
    assert kills >= (12 if force else 8)


@pytest.mark.slow
def test_models_load_whenever_their_training_was_killed(tmp_path):
    """`load_set` finishes by itself what a killed training has begun."""
    made = tiny_models(tmp_path / "made", seeds=1)
    models = tmp_path / "set"
    config = json.loads((made / "low" / "config.json").read_text())
    missing = 0

    def prepare():
        shutil.rmtree(models, ignore_errors=True)
        shutil.copytree(made, models)

    def train():
        with staging_folder(models / "low", force=True) as partial:
            shutil.copytree(made / "low", partial / "finished")

    for _ in at_every_step(train, prepare):
        missing += not (models / "low").exists()
        assert load_set(models)["low"].config["seeds"] == config["seeds"]
    assert missing >= 1


# reports and exports

OLD_REPORT = {"error.png": "old", "router-4.svg": "old", "report.json": "old", "report.html": "old"}
NEW_REPORT = {"error.png": "new", "width.png": "new", "report.json": "new", "report.html": "new"}


def put(folder, text, force=True):
    report._put(folder, {name: text.encode() for name in NEW_REPORT}, force)


def old_report(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "mine").write_text("mine")
    for name, text in OLD_REPORT.items():
        (folder / name).write_text(text)


@pytest.mark.slow
def test_a_report_killed_at_every_step(tmp_path):
    """Where there is a page, all its files are of one making, and the next report finds all old or all new."""
    folder, kills = tmp_path / "report", 0
    for kills in at_every_step(lambda: put(folder, "new"), lambda: old_report(folder)):  # noqa: B007  counted
        pages = {name for name in (*OLD_REPORT, *NEW_REPORT) if (folder / name).exists()}
        if "report.html" in pages:
            assert {(folder / name).read_text() for name in pages} in ({"old"}, {"new"})
        with pytest.raises(DataError, match="exists; use --force"):
            put(folder, "newer", force=False)
        found = {name: (folder / name).read_text() for name in (*OLD_REPORT, *NEW_REPORT) if (folder / name).exists()}
        assert found in (OLD_REPORT, NEW_REPORT)
        put(folder, "newer")
        assert texts(folder) == dict.fromkeys(sorted([*NEW_REPORT, "mine"]), "newer") | {"mine": "mine"}
    assert kills > 20


def test_a_report_that_fails_at_any_step_stays(tmp_path, monkeypatch):
    """It said so, and had removed the old page and its pictures."""
    folder = tmp_path / "report"
    old_report(folder)
    for number in count(1):  # before that, a folder that is there
        with monkeypatch.context() as patch:
            fails_at(patch, number)
            try:
                put(folder, "new")
            except FolderError as raised:
                told = str(raised)
            else:
                break
        assert "No space left on device" in told
        assert "stays" in told
        assert texts(folder) == dict(sorted((OLD_REPORT | {"mine": "mine"}).items()))
    assert number > 15
    assert texts(folder) == dict(sorted((NEW_REPORT | {"mine": "mine"}).items()))


def test_an_export_killed_at_every_step(tmp_path):
    """All that an export does to the folder that it replaces; making its files takes seconds and touches others."""
    final, part = tmp_path / "onnx", tmp_path / "onnx.0123456789ab.part"

    def prepare():
        for folder in (final, part):
            shutil.rmtree(folder, ignore_errors=True)
        for folder, text in ((final, "old"), (part, "new")):
            folder.mkdir()
            (folder / "experts.json").write_text(json.dumps({"format": onnx.FORMAT, "files": [], "text": text}))

    for _ in at_every_step(lambda: onnx._settle(part, final, True), prepare):
        with pytest.raises(FolderError, match="--force to replace an export"):
            onnx._refuse_taken(final, False)
        assert json.loads((final / "experts.json").read_text())["text"] in ("old", "new")
        assert {path.name for path in tmp_path.iterdir()} <= {final.name, part.name}


# full disks


def limited():
    import resource  # not there on Windows

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


FULL = """
import sys, numpy as np
from pathlib import Path
from moe_mheight.errors import FolderError
from moe_mheight.data.code_files import Codes, write_json, write_npz, write_pair
from moe_mheight._io import append, write_file
from moe_mheight.figures.style import picture

P = np.random.default_rng(0).normal(size=(2000, 2, 2))
data = {(4, 2, 1): Codes(P, np.arange(2000), np.ones(2000))}

def draw():
    with picture(Path("a.png"), 8, 8) as figure:
        figure.subplots().imshow(np.random.default_rng(0).normal(size=(300, 300)))

for write in (
    lambda: write_file(Path("a"), b"x" * 100_000),
    lambda: write_npz(Path("a.npz"), data.items()),
    lambda: write_pair(Path("rows"), Path("heights"), data),
    lambda: write_json(Path("a.json"), data),
    lambda: append(Path("a.jsonl"), b"x" * 100_000),
    draw,
):
    try:
        write()
    except FolderError as error:
        print(error)
    else:
        print("written?")
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no such limit there")
def test_every_writer_on_a_full_disk(tmp_path):
    """One line, and what was there stays; what stands for the disk is a limit of 20 kB a file."""
    names = ["a", "a.npz", "rows", "heights", "a.json", "a.png"]
    for name in names:
        (tmp_path / name).write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", FULL], cwd=tmp_path, check=True, capture_output=True, text=True, preexec_fn=limited
    )
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"cannot write {name}" for name in ("a", "a.npz", "rows and heights", "a.json", "a.jsonl", "a.png")
    ]
    assert all("File too large" in line and "what was finished before stays" in line for line in lines)
    assert {path.name for path in tmp_path.iterdir()} == {*names, "a.jsonl"}
    assert all((tmp_path / name).read_text() == "old" for name in names)


# who holds a folder


def test_the_byte_that_windows_locks_holds_nothing(tmp_path):
    """Nobody can read a locked byte there: the holder's name begins after it."""
    with locked(tmp_path):
        assert (tmp_path / "lock").read_bytes()[:9] == b" process "
        with pytest.raises(FolderError, match=f"is in use by process {os.getpid()} on"), locked(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_a_lock_of_nobody_is_taken(tmp_path):
    """As a killed process leaves it, on this machine or another that wrote there."""
    (tmp_path / "lock").write_text(" process 1 on elsewhere, whose name is longer than ours is likely to be, by far")
    with locked(tmp_path):
        assert "elsewhere" not in (tmp_path / "lock").read_text()


def test_one_of_many_threads_holds_a_folder(tmp_path):
    inside, most, refused = [], [], []

    def work():
        for _ in range(50):
            try:
                with locked(tmp_path):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except FolderError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert len(most) + len(refused) == 200
    assert all("is in use by" in text for text in refused)


def test_where_no_lock_can_be_written(tmp_path):
    with pytest.raises(FolderError, match=r"cannot write .*lock: No such file or directory"), locked(tmp_path / "none"):
        pass
    (tmp_path / "file").write_text("")
    for where in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FolderError, match=r"cannot write|cannot make"):
            make_folder(where)


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    """As some network folders are: nobody can be kept out, so nothing is begun."""
    import filelock

    def none(handle, **_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(filelock, "lock_descriptor", none)
    with pytest.raises(FolderError, match=r"cannot write .*lock: Function not implemented"), locked(tmp_path):
        pass
    write_file(tmp_path / "a", b"new")
    swap([(None, tmp_path / "a")])  # files are replaced there all the same
    assert not (tmp_path / "a").exists()


WRITES = re.compile(
    r"""open\([^)\n]*,\s*["'][wxa]|\.open\(["'][wxa]|write_text\(|write_bytes\(|np\.savez?\w*\(|torch\.save\("""
    r"""|\.mkdir\(|os\.makedirs|os\.replace|os\.rename|json\.dump\(|\.tofile\(|NamedTemporaryFile"""
)


def test_nothing_else_writes_by_itself():
    """A file or a folder is written by _io, which says the same of every full disk; examples in docstrings aside."""
    package = Path(moe_mheight.__file__).parent
    found = {
        f"{path.name}: {line.strip()}"
        for folder in (package, package.parent / "cli")
        for path in folder.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if path.name != "_io.py" and WRITES.search(line) and not line.lstrip().startswith((">>>", "..."))
    }
    allowed = ("np.savez(arrays, ", "open(os.devnull", "def write_text", "super().write_text")
    assert [line for line in sorted(found) if not any(text in line for text in allowed)] == []
