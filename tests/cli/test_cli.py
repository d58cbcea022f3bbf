"""The command line as a user meets it: exit codes, one line for every failure, nothing half written."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
from hashlib import sha256
from itertools import pairwise
from math import inf
from pathlib import Path

import brute
import numpy as np
import pytest
from commands import HEIGHTS, ROWS, assert_refused, contents, python, write_json
from tiny_models import tiny_models

from moe_mheight import ModelError, bounds
from moe_mheight.experts.measurement import Measurement

MHEIGHT = [sys.executable, "-m", "moe_mheight"]


# as a program

HELP = """
import json, sys
from click.testing import CliRunner
from moe_mheight.cli.main import COMMANDS, mheight
texts = {}
for name in ["", *COMMANDS]:
    for flag in ("--help", "-h"):
        done = CliRunner().invoke(mheight, [*name.split(), flag], prog_name="mheight")
        assert done.exit_code == 0, name
        texts[name] = done.output
print(json.dumps([texts, [name for name in ("torch", "numba", "sklearn") if name in sys.modules]]))
"""


def test_help_has_examples_and_is_quick():
    """Quick means: without the libraries that take long to import."""
    from moe_mheight.cli.main import COMMANDS

    done = python("-c", HELP)
    assert done.returncode == 0, done.stderr
    texts, imported = json.loads(done.stdout)
    assert imported == []
    assert set(texts) == {"", *COMMANDS}
    for name, text in texts.items():
        assert f"Usage: mheight {name}".rstrip() in text
        examples = text.partition("Examples:")[2].partition("Options:")[0]
        assert f"mheight {name}".rstrip() in examples
        assert "--help" in text
        if name:
            assert {"--json", "--quiet"} <= set(re.findall(r"--\w+", text))
    assert all(name in texts[""] for name in COMMANDS)


@pytest.mark.slow
def test_exit_codes_of_the_program(folder):
    """The installed script, where there is one, and `python -m`."""
    wrong = write_json(folder / "wrong", ROWS, [2.0, *HEIGHTS[1:]])
    script = Path(sys.executable).with_name("mheight")
    for command, data, code in [
        ([script] if script.exists() else [sys.executable, "-m", "moe_mheight"], wrong, 1),
        ([sys.executable, "-m", "moe_mheight"], folder / "missing", 2),
    ]:
        done = subprocess.run(
            [*command, "exact", "--check", data], capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == code, done.stderr
        assert (done.stdout == "") == (code == 2)
        assert done.stderr.count("\n") == (code == 2)


@pytest.mark.slow
def test_exact_and_generate_start_without_torch(folder):
    script = (
        "import sys, moe_mheight.cli.main as cli\n"
        "for arguments in (['generate', 'codes.npz', '--rows', '2', '--groups', '4,2,2'], ['exact', 'codes.npz']):\n"
        "    sys.argv = ['mheight', *arguments]\n"
        "    try: cli.main()\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_failure(folder):
    """As in `mheight exact rows | head -1`: more is printed than a pipe holds."""
    write_json(folder / "rows", ROWS * 2000)
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "wb") as pipe:
        done = subprocess.run(
            [*MHEIGHT, "exact", "rows"], stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=600
        )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_on_a_full_disk(folder):
    write_json(folder / "rows", ROWS)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*MHEIGHT, "exact", "rows"], stdout=full, stderr=subprocess.PIPE, check=False, timeout=600
        )
    assert_refused((done.returncode, "", done.stderr.decode()), "No space left on device")


# faults of ours


class NonsenseError(Exception):
    """Of several lines, as those of compilers are."""


def typing_error():
    from numba.core.errors import TypingError

    return TypingError("Failed in nopython mode pipeline\n\nnon-precise type array(pyobject, 1d, C)")


FAULTS = [RuntimeError("lost"), ZeroDivisionError("division by zero"), RecursionError(), OverflowError("too large")]
FAULTS += [NonsenseError("one\ntwo"), AssertionError(), KeyError("lowest"), typing_error]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: getattr(fault, "__name__", type(fault).__name__))
def test_a_fault_of_ours_is_neither_a_failed_check_nor_bad_input(fault, mheight, folder, monkeypatch):
    """Of commands with a verdict, and of others."""
    error = fault() if fault is typing_error else fault

    def fails(*_, **__):
        raise error

    monkeypatch.setattr("moe_mheight.data.labelling.exact_heights", fails)
    monkeypatch.setattr("moe_mheight.proofs.verify.verify", fails)
    monkeypatch.setattr("moe_mheight.data.generate.generate", fails)
    path = write_json(folder / "rows", ROWS, HEIGHTS)
    for line in (["exact", "--check", path], ["verify", path, "--quiet"], ["generate", "codes.npz", "--json"]):
        monkeypatch.setattr("moe_mheight.proofs.certificate_format.read_certificate", lambda file: file)
        monkeypatch.delenv("MHEIGHT_TRACEBACK", raising=False)
        code, out, err = mheight(*line)
        assert (code, out) == (3, "")
        assert re.fullmatch(
            r"mheight: a fault of ours, \w+[^\n]*please report[^\n]*MHEIGHT_TRACEBACK=1[^\n]*\n", err
        ), err
        assert type(error).__name__ in err
        monkeypatch.setenv("MHEIGHT_TRACEBACK", "1")
        code, out, err = mheight(*line)
        assert (code, out) == (3, "")
        assert err.startswith("Traceback")
        assert "in fails" in err
        assert err.splitlines()[-1].startswith("mheight: a fault of ours, ")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_what_the_machine_refuses_is_no_fault_of_ours(error, mheight, folder, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("moe_mheight.data.labelling.exact_heights", fails)
    assert_refused(mheight("exact", "--check", write_json(folder / "rows", ROWS, HEIGHTS)))


def test_help_names_the_exit_codes(mheight):
    text = mheight("--help")[1].partition("Exit codes:")[2].partition("Completion")[0]
    assert re.findall(r"^ +(\d+)  ", text, re.MULTILINE) == ["0", "1", "2", "3", "130"]


# usage


def test_no_command_shows_the_help(mheight):
    _, out, err = mheight()
    assert "\nOptions:" in out + err
    assert "\nCommands:" in out + err


def test_version(mheight):
    from moe_mheight import __version__

    code, out, err = mheight("--version")
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"mheight, version {re.escape(__version__)}, models default [0-9a-f]{{12}}\n", out)


def test_did_you_mean(mheight):
    assert_refused(mheight("exat", "x"), "Did you mean exact?")
    assert_refused(mheight("generate", "--rowz", 3, "x"), "--rows")
    assert_refused(mheight("generate", "--groups", "n_9", "x"), "did you mean n9")
    assert_refused(mheight("nothing-like-it"), "No such command")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell, mheight, monkeypatch):
    """The script that a shell sources, and what it is told when it asks."""

    def asked(**env):
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return mheight()[1]

    script = asked(_MHEIGHT_COMPLETE=f"{shell}_source")
    assert "mheight" in script
    assert f"{shell}_complete" in script
    for words, wanted in (("mheight ge", "generate"), ("mheight generate --see", "--seed")):
        last = words.split()[-1]
        env = {"COMP_WORDS": words, "COMP_CWORD": last if shell == "fish" else str(len(words.split()) - 1)}
        assert wanted in asked(_MHEIGHT_COMPLETE=f"{shell}_complete", **env)


@pytest.mark.parametrize(
    "arguments",
    [
        "nonsense",
        "--nonsense",
        "exact",
        "exact --nonsense rows",
        "exact rows --show -1",
        "exact rows --threads 0",
        "exact rows --tolerance -1",
        "exact rows --tolerance nan",
        "exact rows --tolerance inf",
        "exact rows --jobs 0",
        "exact rows --jobs -2",
        "exact rows --out new.txt",
        "exact rows --out missing/new.npz",
        "exact rows rows rows",
        "exact missing",
        "exact .",
        "predict",
        "predict missing",
        "predict rows --models missing",
        "predict rows --models rows",
        "predict rows --interval lots",
        "predict rows --interval nan",
        "predict rows --m 0",
        "predict rows --threads -2",
        "explain rows --row 0 --time-limit nan",
        "explain rows --row 0 --time-limit inf",
        "explain rows --row 0 --time-limit -1",
        "explain rows --row 0 --interval nan",
        "predict rows --router missing",
        "predict rows --router .",
        "ensemble-eval missing",
        "ensemble-eval --rows 0",
        "ensemble-eval --models missing",
        "generate",
        "generate new.txt",
        "generate new.npz two.npz three.npz",
        "generate one.pkl one.pkl",
        "generate new.npz --rows 0",
        "generate new.npz --seed -1",
        "generate new.npz --kind ternary",
        "generate new.npz --scale 0",
        "generate new.npz --groups 9,4",
        "generate new.npz --groups 9,4,6",
        "generate new.npz --groups 65,4,2",
        "generate missing/new.npz",
        "generate .",
        "train-expert",
        "train-expert --tier lowest",
        "train-expert --tier low --seeds 0",
        "train-expert --tier low --minutes 0",
        "train-expert --tier low --minutes nan",
        "train-expert --tier low --minutes inf",
        "train-router --codes 5",
        "train-router --models missing",
        "train-router --models rows",
        "train-router rows",
    ],
)
def test_bad_usage(arguments, mheight, folder):
    write_json(folder / "rows", ROWS, HEIGHTS)
    before = contents(folder)
    assert_refused(mheight(*arguments.split()))
    assert contents(folder) == before


# exact


def test_exact_prints_heights(mheight, folder):
    path = write_json(folder / "rows", ROWS)
    code, out, err = mheight("exact", path)
    assert (code, err) == (0, "")
    np.testing.assert_allclose([float(line) for line in out.splitlines()], HEIGHTS, rtol=1e-12)
    assert out.splitlines()[2] == "inf"
    code, out, _ = mheight("exact", path, "--json")
    plain = json.loads(out, parse_constant=pytest.fail)
    assert plain["format"] == "moe_mheight exact 1"
    np.testing.assert_allclose(list(map(float, plain["heights"])), HEIGHTS, rtol=1e-12)


def test_the_help_texts_example_on_standard_input(mheight):
    assert mheight("exact", "-", stdin=b"[[4, 2, 2, [[1, 1], [1, 2]]]]\n") == (0, "3.0\n", "")


def test_exact_on_right_labels(mheight, folder):
    path = write_json(folder / "rows", ROWS, HEIGHTS)
    for arguments, stdin in [(["exact", path], b""), (["exact", "--check", "-"], path.read_bytes())]:
        code, out, err = mheight(*arguments, stdin=stdin)
        assert (code, err) == (0, "")
        assert out.startswith("6 labels: 6 right")
        assert "row" not in out


def test_exact_on_the_fields_pair(mheight, shared):
    pair = [shared / "data" / name for name in ("sample9-mHeights", "sample9-n_k_m_P")]
    for order in (pair, pair[::-1]):
        code, out, err = mheight("exact", "--check", *order)
        assert (code, err) == (0, "")
        assert out.startswith("1001 labels: 1001 right")


WRONG = {0: HEIGHTS[0] * 1.001, 1: HEIGHTS[1] * 100, 2: 1e6, 5: inf}
"""Labels that are wrong, wrong, finite though the height is infinite, and the reverse, by row."""


@pytest.mark.parametrize("form", ["json", "pickles", "npz"])
def test_exact_lists_planted_errors(form, mheight, folder):
    labels = [WRONG.get(i, h) for i, h in enumerate(HEIGHTS)]
    if form == "json":
        data = [write_json(folder / "rows", ROWS, labels)]
    elif form == "pickles":
        data = [folder / "rows", folder / "labels"]
        for path, part in zip(data, (ROWS, labels), strict=True):
            path.write_bytes(pickle.dumps(part))
    else:
        data = [folder / "rows.npz"]
        arrays = {f"{n}_{k}_{m}": [] for n, k, m, _ in ROWS}
        for i, (n, k, m, _) in enumerate(ROWS):
            arrays[f"{n}_{k}_{m}"].append(i)
        parts = {f"{g}/P": np.array([ROWS[i][3] for i in places], float) for g, places in arrays.items()}
        parts |= {f"{g}/row": np.array(places) for g, places in arrays.items()}
        parts |= {f"{g}/h": np.array([labels[i] for i in places]) for g, places in arrays.items()}
        np.savez(data[0], **parts)
    code, out, err = mheight("exact", *data)
    assert (code, err) == (0, "")
    assert mheight("exact", *data, "--check") == (1, out, "")
    assert out.startswith("6 labels: 2 right to 1e-06, 2 wrong, 1 finite though")
    sections = {block.split()[0]: re.findall(r"row (\d)", block) for block in out.split("\n\n")[1:]}
    assert sections == {"wrong": ["0", "1"], "truly": ["2"], "falsely": ["5"]}
    assert f"{HEIGHTS[1]:.6g}" in out
    code, out, err = mheight("exact", *data, "--json")
    assert (code, err) == (0, "")
    assert mheight("exact", *data, "--json", "--check") == (1, out, "")
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["format"] == "moe_mheight audit 1"
    assert found["rows"] == 6
    assert found["tolerance"] == 1e-6
    assert found["worst"] == pytest.approx(99.0)
    for kind, rows in {"wrong": (0, 1), "truly_infinite": (2,), "falsely_infinite": (5,)}.items():
        assert [row["row"] for row in found[kind]] == list(rows)
        assert [float(row["label"]) for row in found[kind]] == [WRONG[i] for i in rows]
        np.testing.assert_allclose([float(row["exact"]) for row in found[kind]], [HEIGHTS[i] for i in rows], rtol=1e-12)


def test_exact_tolerance_and_show(mheight, folder):
    path = write_json(folder / "rows", ROWS * 5, [h * (1 + 1e-8) for h in HEIGHTS] * 5)
    assert mheight("exact", "--check", path)[0] == 0
    code, out, _ = mheight("exact", "--check", path, "--tolerance", "1e-9", "--show", "3")
    assert code == 1
    assert len(re.findall(r"^ +row", out, re.MULTILINE)) == 3
    assert "and 22 more" in out
    code, out, _ = mheight("exact", path, "--tolerance", "1e-9", "--show", "0")
    assert (code, len(out.splitlines())) == (0, 1)


@pytest.mark.parametrize("out", ["exact.npz", "exact.json"])
def test_exact_writes_right_labels(out, mheight, folder):
    path = write_json(folder / "rows", ROWS, [2.0] * 6)
    given = path.read_bytes()
    assert mheight("exact", path, "--out", out, "--quiet", "--check")[::2] == (1, "")
    assert path.read_bytes() == given
    assert mheight("exact", out, "--check")[0] == 0
    if out.endswith("json"):
        plain = json.loads((folder / out).read_text())
        assert [[n, k, m, np.array(P, float).tolist()] for n, k, m, P in plain["rows"]] == (
            [[n, k, m, np.array(P, float).tolist()] for n, k, m, P in ROWS]
        )
        np.testing.assert_allclose([inf if h is None else h for h in plain["heights"]], HEIGHTS, rtol=1e-12)
    before = contents(folder)
    assert_refused(mheight("exact", path, "--out", out), out, "--force")
    assert contents(folder) == before
    code, _, err = mheight("exact", write_json(folder / "rows", ROWS), "--out", out, "--force")
    assert (code, err) == (0, f"wrote 6 rows to {out}\n")


@pytest.mark.parametrize("out", [["exact.pkl"], ["rows.pkl", "heights.pkl"], ["rows", "heights"]])
def test_exact_writes_the_pair_of_the_peers(out, mheight, folder):
    path = write_json(folder / "rows.json", ROWS, [2.0] * 6)
    named = ["exact-n_k_m_P.pkl", "exact-mHeights.pkl"] if len(out) == 1 else out
    flags = [word for name in out for word in ("--out", name)]
    assert mheight("exact", path, *flags, "-q")[0] == 0
    rows, heights = (pickle.loads((folder / name).read_bytes()) for name in named)
    assert [[n, k, m, P.tolist()] for n, k, m, P in rows] == [[n, k, m, np.array(P).tolist()] for n, k, m, P in ROWS]
    np.testing.assert_allclose(heights, HEIGHTS, rtol=1e-12)
    assert all(type(h) is float for h in heights)
    assert mheight("exact", "--check", *named)[0] == 0
    before = contents(folder)
    assert_refused(mheight("exact", path, *flags), named[0], "--force")
    (folder / named[0]).unlink()
    assert_refused(mheight("exact", path, *flags), named[1], "--force")
    assert contents(folder) == {name: content for name, content in before.items() if name != named[0]}
    code, _, err = mheight("exact", path, *flags, "--force")
    assert (code, err) == (0, f"wrote 6 rows to {' and '.join(named)}\n")
    assert contents(folder) == before


@pytest.mark.parametrize("out", ["a.npz b.pkl", "a.pkl A.pkl", "a b c", "missing/a.pkl"])
def test_exact_refuses_other_pairs(out, mheight, folder):
    path = write_json(folder / "rows.json", ROWS)
    before = contents(folder)
    assert_refused(mheight("exact", path, *[word for name in out.split() for word in ("--out", name)]))
    assert contents(folder) == before


# generate

SMALL = ["--rows", 40, "--groups", "4,2,2;6,3,1"]


@pytest.mark.parametrize("out", [["codes.npz"], ["codes.json"], ["rows.pkl", "heights.pkl"]])
def test_generate(out, mheight, folder):
    assert mheight("generate", *out, *SMALL, "--seed", 3) == (
        0,
        "",
        f"wrote 80 labelled codes to {' and '.join(out)}\n",
    )
    first = contents(folder)
    assert set(first) == set(out)
    assert mheight("exact", "--check", *out)[0] == 0
    # there they stay
    assert_refused(mheight("generate", *out, *SMALL), out[0], "--force")
    if len(out) == 2:
        (folder / out[0]).unlink()
        assert_refused(mheight("generate", *out, *SMALL), out[1], "--force")
        assert contents(folder) == {out[1]: first[out[1]]}
    else:
        assert contents(folder) == first
    # the same seed gives the same bytes, another one others
    assert mheight("generate", *out, *SMALL, "--seed", 3, "--force", "--quiet", "--threads", 2) == (0, "", "")
    assert contents(folder) == first
    assert mheight("generate", *out, *SMALL, "--seed", 4, "--force")[0] == 0
    assert contents(folder) != first


def test_generated_pair_is_the_fields(mheight, folder):
    assert mheight("generate", "rows", "heights", *SMALL, "--kind", "integer", "--scale", 5)[0] == 0
    rows, heights = (pickle.loads((folder / name).read_bytes()) for name in ("rows", "heights"))
    assert sorted({(n, k, m) for n, k, m, _ in rows}) == [(4, 2, 2), (6, 3, 1)]
    assert len(rows) == len(heights) == 80
    # in random order
    assert 20 < sum(one[0] != two[0] for one, two in pairwise(rows)) < 60
    for (n, k, m, P), h in list(zip(rows, heights, strict=True))[:20]:
        assert P.shape == (k, n - k)
        assert np.abs(P).max() <= 5
        assert brute.error(h, brute.profile(P.tolist())[m]) < 1e-12


def test_generate_json_and_infinite(mheight, folder):
    code, out, err = mheight(
        "generate",
        "codes.json",
        "--rows",
        200,
        "--groups",
        "4,2,2",
        "--kind",
        "integer",
        "--scale",
        1,
        "--infinite",
        "--json",
    )
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["format"] == "moe_mheight generate 1"
    assert (said["rows"], said["groups"], said["seed"], said["files"]) == (200, [[4, 2, 2]], 0, ["codes.json"])
    heights = json.loads((folder / "codes.json").read_text())["heights"]
    assert 150 < heights.count(None) < 200


@pytest.mark.parametrize(("out", "after"), [("codes.npz", "Ctrl-C loses them"), ("set", "the same command goes on")])
def test_generate_says_how_long_many_labels_take(out, after, mheight, folder, monkeypatch):
    from moe_mheight.data import generate as datasets

    long = [out, "--rows", 2, "--groups", "20,4,2;17,4,1", "--jobs", 1]
    assert mheight("generate", *long)[2] == f"wrote 4 labelled codes to {out}\n"
    monkeypatch.setattr(datasets, "expected_seconds", lambda groups, rows: 7200.0 * rows)
    err = mheight("generate", *long, "--force")[2]
    assert err.startswith("4 labels take about 4 h on 1 thread, by a guess; ")
    assert after in err.splitlines()[0]
    assert mheight("generate", *long, "--force", "--quiet")[2] == ""
    # what is refused takes no time
    assert_refused(mheight("generate", "missing/codes.npz", *long[1:]), "missing")


# what can go wrong while writing


def nearly_full(monkeypatch):
    def fsync(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


def interrupted(monkeypatch):
    from moe_mheight.data import generate as datasets

    generate = datasets.generate

    def stops(*arguments, **options):
        yield next(generate(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "generate", stops)


@pytest.mark.parametrize("out", [["codes.npz"], ["codes.json"], ["rows.pkl", "heights.pkl"]])
@pytest.mark.parametrize("trouble", [nearly_full, interrupted])
def test_trouble_while_writing_leaves_what_was_there(trouble, out, mheight, folder, monkeypatch):
    for name in out:
        (folder / name).write_bytes(b"old")
    before = contents(folder)
    trouble(monkeypatch)
    result = mheight("generate", *out, *SMALL, "--force")
    if trouble is interrupted:
        assert result[0] == 130
        assert result[2].strip() == "interrupted"
    else:
        assert_refused(result, out[0], "No space left on device")
    assert contents(folder) == before


@pytest.mark.slow
def test_a_file_that_grows_too_large(folder):
    """The operating system's own refusal, half-way through."""
    pytest.importorskip("resource")
    (folder / "codes.npz").write_bytes(b"old")
    limited = (
        "import resource, sys, moe_mheight.cli.main as cli, moe_mheight.data.generate\n"
        "list(moe_mheight.data.generate.generate(((4, 2, 2),), 1, 'integer', 0))\n"  # compiled before the limit
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.argv = 'mheight generate codes.npz --rows 9000 --groups 4,2,2 --force'.split()\n"
        "cli.main()\n"
    )
    done = python("-c", limited)
    assert_refused((done.returncode, done.stdout, done.stderr), "codes.npz", "File too large")
    assert contents(folder) == {"codes.npz": b"old"}


# hostile input


class Touch:
    def __reduce__(self):
        return os.system, ("touch made",)


HOSTILE = {
    "code": pickle.dumps([Touch()]),
    "code for P": pickle.dumps([[4, 2, 2, Touch()]]),
    "eval": b"\x80\x02]cbuiltins\neval\nX\x01\x00\x00\x001\x85Ra.",
    "two lines": b"\x80\x04]X\x04\x00\x00\x00os\n\nX\x06\x00\x00\x00system\x93a.",
    "objects": pickle.dumps([[4, 2, 2, np.array([[1, 1], [1, None]])]]),
    "cut": pickle.dumps(ROWS)[:-9],
    "cut array": pickle.dumps([[4, 2, 2, np.eye(2)]], 5)[:-20],
    "empty": b"",
    "no rows": b"[]",
    "noise": bytes(range(256)),
    "zip": b"PK\x03\x04 and no more",
    "deep": b"[" * 100_000,
    "text": b"n,k,m,P\n4,2,2,1\n",
    "nan": b"[[4, 2, 2, [[1, NaN], [1, 2]]]]",
    "ragged": b"[[4, 2, 2, [[1, 1], [1]]]]",
    "huge": b"[[1" + b"0" * 4000 + b", 2, 2, [[1, 1], [1, 2]]]]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input(name, mheight, folder, models):
    """By every command that reads, from a file and from standard input."""
    path = folder / "input"
    path.write_bytes(HOSTILE[name])
    for arguments in (
        ["exact", "--out", "new.npz"],
        ["predict", "--models", models],
        ["ensemble-eval", "--models", models],
    ):
        assert_refused(mheight(*arguments, path))
        assert_refused(mheight(*arguments, "-", stdin=HOSTILE[name]))
        assert contents(folder) == {"input": HOSTILE[name]}


# predict and ensemble-eval


def test_predict(mheight, folder, models):
    path = write_json(folder / "rows", ROWS)
    code, out, err = mheight("predict", path, "--models", models)
    assert (code, err) == (0, "")
    heights = np.array([float(line) for line in out.splitlines()])
    assert np.array_equal(np.isinf(heights), np.isinf(HEIGHTS))
    code, out, err = mheight("predict", path, "--models", models, "--json", "--bounds", "--interval", "0.9")
    assert (code, err) == (0, "")
    plain = json.loads(out, parse_constant=pytest.fail)
    assert plain.pop("format") == "moe_mheight predict 1"
    columns = {name: np.array(list(map(float, values))) for name, values in plain.items()}
    assert set(columns) == {"heights", "certainty", "lower", "upper", "low", "high"}
    assert np.array_equal(columns["heights"], heights)
    slightly = 1 + 1e-12
    for low, high in [("lower", "upper"), ("low", "high"), ("lower", "low"), ("high", "upper")]:
        assert (columns[low] <= columns[high]).all()
    for low, value, high in [("lower", HEIGHTS, "upper"), ("low", heights, "high")]:
        assert (columns[low] <= np.array(value) * slightly).all()
        assert (columns[high] * slightly >= value).all()


def test_predict_prints_what_its_json_says(mheight, folder, models):
    path = write_json(folder / "rows", ROWS)
    flags = ["--models", models, "--certainty", "--bounds", "--interval", "0.5"]
    plain = json.loads(mheight("predict", path, "--json", *flags)[1])
    head, *lines = mheight("predict", path, *flags)[1].splitlines()
    assert head.split() == ["height", "certainty", "lower", "upper", "low", "high"]
    assert [[float(cell) for cell in line.split()] for line in lines] == (
        [[float(x) for x in row] for row in zip(*list(plain.values())[1:], strict=True)]
    )


@pytest.mark.slow
def test_predict_writes_its_columns(mheight, folder, models):
    """What it would print, as a table, as arrays and as JSON; never over what is there."""
    path = write_json(folder / "rows", ROWS)
    flags = [path, "--models", models, "--certainty", "--bounds", "--spread", "--interval", 0.5]
    printed = mheight("predict", *flags)[1]
    cells = [line.split() for line in printed.splitlines()]
    for out in ("new.csv", "new.npz", "new.json"):
        assert mheight("predict", *flags, "--out", out) == (0, "", f"wrote 6 rows to {out}\n")
        first = (folder / out).read_bytes()
        assert_refused(mheight("predict", *flags, "--out", out), out, "--force")
        assert mheight("predict", *flags, "--out", out, "--force", "-q") == (0, "", "")
        assert (folder / out).read_bytes() == first
    assert [line.split(",") for line in (folder / "new.csv").read_text().splitlines()] == cells
    with np.load(folder / "new.npz") as arrays:
        assert list(arrays) == cells[0]
        assert np.array_equal(np.stack([arrays[name] for name in arrays], axis=1), np.array(cells[1:], float))
    assert json.loads((folder / "new.json").read_text()) == json.loads(mheight("predict", *flags, "--json")[1])
    before = contents(folder)
    for out in ("new.txt", "new", "missing/new.csv"):
        assert_refused(mheight("predict", *flags, "--out", out))
    assert contents(folder) == before


def test_predictions_of_one_matrix_say_their_m(mheight, folder, models):
    (folder / "code.json").write_text(json.dumps(P))
    for flags, levels in ([], [1, 2, 3, 4]), (["--m", 3], [3]):
        line = [
            "predict",
            "code.json",
            "--matrix",
            "P",
            "--models",
            models,
            "--out",
            "new.csv",
            "--force",
            "-q",
            *flags,
        ]
        assert mheight(*line) == (0, "", "")
        head, *lines = [line.split(",") for line in (folder / "new.csv").read_text().splitlines()]
        assert head == ["m", "height"]
        assert [int(m) for m, _ in lines] == levels


def test_a_json_of_one_matrix(mheight, folder, models):
    """By every command that takes one."""
    (folder / "code.json").write_text(json.dumps(P))
    truth = float(brute.profile(P)[3])
    flags = ["code.json", "--matrix", "P", "--m", 3, "-q"]
    assert float(mheight("predict", *flags, "--models", models)[1]) == pytest.approx(truth, rel=0.1)
    assert float(mheight("exact", *flags)[1].split()[2]) == pytest.approx(truth)
    assert json.loads(mheight("explain", *flags, "--models", models, "--json")[1])["height"] == pytest.approx(truth)


@pytest.mark.slow
def test_predict_keeps_the_order_of_rows_and_reads_no_labels(mheight, folder, models):
    def predict(path):
        return mheight("predict", path, "--models", models)[1].splitlines()

    whole = predict(write_json(folder / "rows", ROWS))
    assert predict(write_json(folder / "turned", ROWS[::-1], [1.0] * 6)) == whole[::-1]
    assert [predict(write_json(folder / "one", [row])) for row in ROWS] == [[line] for line in whole]


P = [[5, -3, 8, 1], [2, 7, -4, 6], [-1, 4, 4, -8]]


def matrices(folder):
    """One code, r = 4, as P, as a generator with its columns turned, and as a parity check."""
    from moe_mheight import generator, parity_check

    both = {"P": np.array(P), "G": generator(P)[:, ::-1], "H": parity_check(P)}
    for name, matrix in both.items():
        np.savetxt(folder / f"{name}.csv", matrix, fmt="%d", delimiter=",")
    return list(both)


def test_predict_takes_one_matrix(mheight, folder, models):
    """As a file of rows with all its m."""
    rows = write_json(folder / "rows", [[7, 3, m, P] for m in (1, 2, 3, 4)])
    flags = ["--models", models, "--bounds", "--spread", "--interval", 0.9]
    wanted = json.loads(mheight("predict", rows, "--json", *flags)[1])
    truth = brute.profile(P)[1:]
    for name in matrices(folder):
        code, out, err = mheight("predict", f"{name}.csv", "--json", *flags)
        assert (code, err) == (0, "")
        found = json.loads(out, parse_constant=pytest.fail)
        assert (found["n"], found["k"], found["matrix"], found["m"]) == (7, 3, name, [1, 2, 3, 4])
        if name != "G":  # the turned one is put in systematic form on other columns
            assert found == wanted | {key: found[key] for key in ("n", "k", "matrix", "m")}
        np.testing.assert_allclose(list(map(float, found["lower"])), list(map(float, truth)), rtol=0.1)
        assert all(low <= float(h) * (1 + 1e-12) for low, h in zip(found["lower"], truth, strict=True))
        for m in (1, 4):
            code, out, err = mheight("predict", f"{name}.csv", "--m", m, "--models", models)
            assert (code, out, err) == (0, f"{found['heights'][m - 1]!r}\n", "")
        code, out, err = mheight("predict", f"{name}.csv", "--matrix", name, "--models", models)
        assert (code, err) == (0, "")
        head, *lines = [line.split() for line in out.splitlines()]
        assert head == ["m", "height"]
        assert [[int(m), float(h)] for m, h in lines] == [[m, found["heights"][m - 1]] for m in (1, 2, 3, 4)]
        head = mheight("predict", f"{name}.csv", *flags)[1].split("\n")[0].split()
        assert head == ["m", "height", "spread", "lower", "upper", "low", "high"]
        head = mheight("predict", f"{name}.csv", "--m", 2, *flags)[1].split("\n")[0].split()
        assert head == ["height", "spread", "lower", "upper", "low", "high"]
    text = json.dumps(P).encode()
    assert mheight("predict", "-", "--matrix", "P", "--m", 2, "--models", models, stdin=text)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("P.csv --m 5", "--m must be at most n - k = 4"),
        ("code.csv", "--matrix P, G or H"),
        ("P.csv G.csv", "one matrix"),
        ("P.csv --partial", "one matrix"),
        ("P.csv --jobs 2", "one matrix"),
        ("missing.csv --matrix P", "missing.csv"),
        ("huge.csv --matrix P", "1e+30"),
        ("longer.csv --matrix P --budget 100", "go up to n = 32, got a code of n = 33: leave --budget out"),
        ("longest.csv --matrix P", "at most 64"),
        ("long.csv --matrix P --budget 100 --effort fast", "give one of them"),
        ("long.csv --matrix P --effort fastt", "Did you mean fast?"),
        ("long.csv --matrix P --effort 0", "above 0"),
        ("long.csv --matrix P --effort nan", "above 0"),
        ("long.csv --matrix P --effort inf", "above 0"),
    ],
)
def test_predict_of_one_matrix_refuses(arguments, says, mheight, folder, models):
    matrices(folder)
    shutil.copy("P.csv", "code.csv")
    (folder / "huge.csv").write_text("1,2\n3,1" + "0" * 400 + "\n")
    np.savetxt("long.csv", np.ones((8, 9)), fmt="%d", delimiter=",")
    np.savetxt("longer.csv", np.ones((20, 13)), fmt="%d", delimiter=",")
    np.savetxt("longest.csv", np.ones((40, 25)), fmt="%d", delimiter=",")
    assert_refused(mheight("predict", *arguments.split(), "--models", models), says)


def test_a_budget_reaches_longer_codes(mheight, folder, models):
    np.savetxt("long.csv", np.random.default_rng(0).integers(1, 9, (12, 5)), fmt="%d", delimiter=",")
    flags = ["--models", models, "--quiet", "--matrix", "P", "--budget", 50, "--json", "--bounds"]
    code, out, err = mheight("predict", "long.csv", "--m", 2, *flags)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["lower"][0] <= found["heights"][0] * (1 + 1e-12)
    assert found["upper"] == ["inf"]


class Asked:
    """Stands in for `Predictor.measure`: remembers what it was asked, and answers for codes of any n."""

    def __init__(self, monkeypatch):
        self.settings = []

        def measure(predictor, P, m, **more):
            self.settings.append((P.shape, m, more))
            known = Measurement.unknown(len(P), intervals="coverage" in more)
            answers = {"height": 4.5, "tightest_lower": 4.0, "tightest_upper": np.inf, "certainty": 0.75}
            for name, value in answers.items():
                getattr(known, name)[:] = value
            return known

        monkeypatch.setattr("moe_mheight.ensemble.predictor.Predictor.measure", measure)


@pytest.mark.parametrize("n", [17, 40, 64])
def test_long_codes_need_no_budget(n, mheight, folder, models, monkeypatch):
    asked = Asked(monkeypatch)
    np.savetxt("long.csv", np.arange(1, 3 * (n - 3) + 1).reshape(3, -1), fmt="%d", delimiter=",")
    flags = ["long.csv", "--models", models, "--quiet", "--matrix", "P", "--m", 2]
    assert mheight("predict", *flags) == (0, "4.5\n", "")
    assert asked.settings == [((1, 3, n - 3), 2, {"threads": None})]
    _, out, _ = mheight("predict", *flags, "--bounds", "--certainty")
    assert [line.split() for line in out.splitlines()] == [
        ["height", "certainty", "lower", "upper"], ["4.5", "0.75", "4.0", "inf"]
    ]  # fmt: skip
    found = json.loads(mheight("predict", *flags, "--json")[1])
    assert (found["n"], found["heights"], found["certainty"]) == (n, [4.5], [0.75])
    assert "upper" not in found


@pytest.mark.parametrize(("said", "effort"), [("fast", "fast"), ("thorough", "thorough"), ("0.05", 0.05), ("2", 2.0)])
def test_effort_reaches_the_search(said, effort, mheight, folder, models, monkeypatch):
    asked = Asked(monkeypatch)
    path = write_json(folder / "long.json", [[17, 8, 1, np.ones((8, 9)).tolist()], [9, 8, 1, [[1]] * 8]])
    assert mheight("predict", path, "--models", models, "--effort", said)[0] == 0
    assert [more["effort"] for _, _, more in asked.settings] == [effort] * 2
    asked.settings.clear()
    assert mheight("predict", path, "--models", models, "--effort", "default")[0] == 0
    assert not any("effort" in more for _, _, more in asked.settings)


def test_predict_spread(mheight, folder, models):
    path = write_json(folder / "rows", ROWS)
    flags = ["--models", models, "--spread", "--bounds"]
    plain = json.loads(mheight("predict", path, "--json", *flags)[1], parse_constant=pytest.fail)
    columns = {name: np.array(list(map(float, plain[name]))) for name in ("heights", "spread", "lower", "upper")}
    assert set(plain) == {"format", "certainty", *columns}
    known = np.isfinite(HEIGHTS)
    width = np.log2(columns["upper"][known]) - np.log2(columns["lower"][known])
    assert ((columns["spread"][known] >= 0) & (columns["spread"][known] <= width / 2 + 1e-15)).all()
    assert (columns["spread"][~known] == 0).all()
    code, out, err = mheight("predict", path, *flags)
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split() == ["height", "spread", "lower", "upper"]
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    assert [[float(cell) for cell in line.split()] for line in lines] == rows


def open_codes(mheight, folder):
    """A file of longer codes, whose brackets leave something to say."""
    path = folder / "codes.json"
    arguments = ["--rows", 30, "--groups", "12,6,3;12,6,2", "--kind", "small-integer", "--quiet", "--seed", 1]
    assert mheight("generate", path, *arguments) == (0, "", "")
    return path


@pytest.mark.slow
def test_a_file_of_rules_routes(mheight, folder, models, monkeypatch):
    """Each tier alone, and a mixture, as the function of the library does it."""
    monkeypatch.setattr("moe_mheight.experts.features.DECIDED", -1.0)  # else nobody would be asked
    monkeypatch.setattr("moe_mheight.brackets.irls.Brackets.tightest", property(lambda b: (b.lower, b.upper)))
    from moe_mheight import Predictor
    from moe_mheight.data.code_files import read

    path = open_codes(mheight, folder)
    data = read([path])
    rows = [[n, k, m, P] for (n, k, m), codes in data.items() for P in codes.P]
    places = np.concatenate([codes.row for codes in data.values()])
    answers = []
    for weights in ({"low": 1}, {"medium": 2}, {"high": 0.1}, {"low": 3, "high": 1}):
        (folder / "rules.json").write_text(json.dumps({"rules": [{"n": 12, "weights": weights}]}))
        code, out, err = mheight("predict", path, "--models", models, "--router", folder / "rules.json")
        assert (code, err) == (0, "")
        answers.append([float(line) for line in out.splitlines()])
        mine = np.array([weights.get(tier, 0) for tier in ("low", "medium", "high")]) / sum(weights.values())
        wanted = Predictor.load(models, router=lambda n, k, m, mine=mine: mine).predict(rows)
        np.testing.assert_allclose(np.array(answers[-1])[places], wanted, rtol=1e-12)
        code, out, err = mheight(
            "ensemble-eval", path, "--models", models, "--router", folder / "rules.json", "--json", "--quiet"
        )
        assert (code, err) == (0, "")
        error = np.log2(wanted) - np.log2(np.concatenate([codes.h for codes in data.values()]))
        # two groups of 30, so their mean is that of all
        assert json.loads(out)["macro_log2_mse"] == pytest.approx(np.mean(error**2), rel=1e-6)
    assert len({tuple(answer) for answer in answers}) == 4
    fixed = mheight("predict", path, "--models", models)
    assert mheight("predict", path, "--models", models, "--router", "fixed") == fixed
    assert fixed[1].split() == list(map(repr, answers[0]))  # slack 3 and 4: the low tier


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("", "not a router"),
        ("[]", "not a router"),
        ('{"rules": 3}', "rules"),
        ('{"rules": [{"n": 9}]}', "rule 1"),
        ('{"rules": [{"weights": {"low": 1}}, {"weights": {"lowest": 1}}]}', "rule 2"),
        ('{"rules": [{"weights": {"low": -1}}]}', "rule 1"),
    ],
)
def test_a_bad_file_of_rules(rules, says, mheight, folder, models):
    path = write_json(folder / "rows", ROWS)
    (folder / "rules.json").write_text(rules)
    for command in ("predict", "ensemble-eval"):
        assert_refused(
            mheight(command, path, "--models", models, "--router", folder / "rules.json"), "rules.json", says
        )


def test_no_learned_router(mheight, folder, models):
    path = write_json(folder / "rows", ROWS)
    for command in ("predict", "ensemble-eval"):
        assert_refused(mheight(command, path, "--models", models, "--router", "learned"), "mheight train-router")


# train-expert


def test_train_expert_help_fits_a_person(mheight, monkeypatch):
    """The settings of the raw view are listed where they are asked for."""
    from moe_mheight.raw.recipe import RawRecipe

    monkeypatch.setenv("COLUMNS", "100")
    code, text, err = mheight("train-expert", "--help")
    assert (code, err) == (0, "")
    assert len(re.findall(r"^ +(?:-\w, )?--\w", text.partition("\nOptions:")[2], re.MULTILINE)) <= 21
    assert "--set help" in text
    code, listed, err = mheight("train-expert", "--set", "help")
    assert (code, err) == (0, "")
    names = re.findall(r"^  (\w+) ", listed, re.MULTILINE)
    assert names == [field.name for field in dataclasses.fields(RawRecipe)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--set widht=8", "did you mean width"),
        ("--set width=x", "width must be an int"),
        ("--set width=9000", "from 0 to 4096"),
        ("--set orbit=maybe", "orbit must be true or false"),
        ("--set rate=nan", "rate must be"),
        ("--set schedule=cosin", "did you mean cosine"),
        ("--set augment=noise,noise", "not repeat"),
        ("--set weights={4:5", "cannot read weights"),
        ("--set curriculum=[[1]]", "must be like"),
        ("--set width", "like width=64"),
        ("--recipe recipe.json --set batch=0", "batch"),
        ("--recipe wrong.json", "did you mean width"),
        ("--recipe missing.json", "no file"),
    ],
)
def test_wrong_settings(line, says, mheight, folder):
    """Told as those of a recipe file are, before any data is made."""
    (folder / "recipe.json").write_text('{"width": 16}')
    (folder / "wrong.json").write_text('{"widht": 16}')
    before = contents(folder)
    assert_refused(mheight("train-expert", "--tier", "all", "--view", "raw", *line.split()), says)
    assert contents(folder) == before


# train-router


def test_train_router_help_has_an_example(mheight):
    code, out, err = mheight("train-router", "--help")
    assert (code, err) == (0, "")
    examples = out.partition("Examples:")[2].partition("Options:")[0]
    assert "mheight train-router --models" in examples
    assert "--router learned" in examples


@pytest.mark.slow
def test_train_router(mheight, folder, monkeypatch):
    """The file it makes, what it prints, and that the others read it."""
    from moe_mheight.ensemble import router_training
    from moe_mheight.experts import model_card

    few = {"low": [(5, 2, 1), (8, 4, 2), (9, 4, 2)], "medium": [(5, 2, 2), (9, 4, 4)], "high": [(4, 2, 2)]}
    for module in (model_card, router_training):
        monkeypatch.setattr(module, "sizes", few.__getitem__)
    tiny_models(folder / "mine")
    # untrained experts: whether the gate is worse on a few codes is chance
    monkeypatch.setattr(router_training, "is_worse", lambda comparison: True)
    code, out, err = mheight("train-router", "--models", "mine", "--codes", 20)
    assert (code, err) == (0, "")
    path = Path("mine") / "router.json"
    assert "\nworse than the fixed router on fresh codes: not saved, --keep-worse would; " in out
    assert not (folder / path).exists()
    code, out, err = mheight("train-router", "--models", "mine", "--codes", 20, "--keep-worse")
    assert code == 0
    assert f"\nworse than the fixed router on fresh codes: kept all the same, {path}\n" in out
    (folder / path).unlink()
    monkeypatch.setattr(router_training, "is_worse", lambda comparison: False)
    code, out, err = mheight("train-router", "--models", "mine", "--codes", 20)
    assert code == 0
    assert err == f"log2-MSE on fresh codes; saved to {path}\n"
    assert re.search(r"^\(9,4,2\) +\d\.\d{3} +\d\.\d{3} +\d\.\d{3}$", out, re.MULTILINE)
    for part, number in (("fitted", 4), ("kept out", 1), ("course", 2)):
        assert re.search(rf"^{part} +{number} ", out, re.MULTILINE)
    made = (folder / "mine" / "router.json").read_bytes()
    assert_refused(mheight("train-router", "--models", "mine", "--codes", 20), "router.json", "--force")
    code, out, err = mheight(
        "train-router", "--models", "mine", "--codes", 20, "--keep-worse", "--force", "--json", "--quiet"
    )
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(made) == json.loads((folder / "mine" / "router.json").read_text())
    path = write_json(folder / "rows", ROWS)
    code, out, err = mheight("predict", path, "--models", "mine", "--router", "learned")
    assert (code, err, len(out.splitlines())) == (0, "", len(ROWS))


def test_predict_refuses(mheight, folder, models):
    path = write_json(folder / "rows", ROWS)
    for coverage in ("0", "-1", "1.5", "nan"):
        assert_refused(mheight("predict", path, "--models", models, "--interval", coverage), "coverage")


@pytest.mark.slow
def test_predict_beyond_the_trained_sizes(folder, models):
    """A remark of one line, without a place in our source; none when quiet."""
    P = np.random.default_rng(0).integers(1, 10, (1, 13)).tolist()
    write_json(folder / "rows", [[14, 1, 3, P]])
    for flags, remarks in ([], 1), (["--quiet"], 0):
        done = python("-m", "moe_mheight", "predict", "rows", "--models", models, *flags)
        assert done.returncode == 0
        assert float(done.stdout) == pytest.approx(float(brute.profile(P)[3]), rel=0.1)
        assert done.stderr.count("\n") == done.stderr.count("n = 14 is outside the trained range") == remarks
        assert ".py" not in done.stderr


def test_ensemble_eval_of_a_file(mheight, folder, models):
    """Its figures again, from what `predict` prints and the labels."""
    groups = ("--groups", "7,3,2;7,3,3;7,3,4")
    assert mheight("generate", "codes.json", "--rows", 30, *groups, "--infinite", "--seed", 2)[0] == 0
    code, out, err = mheight("ensemble-eval", "codes.json", "--models", models, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out, parse_constant=pytest.fail)
    assert report["format"] == "moe_mheight evaluation 2"
    file = json.loads((folder / "codes.json").read_text())
    values = json.loads(mheight("predict", "codes.json", "--models", models, "--bounds", "--json")[1])
    values = {name: np.array(list(map(float, values[name]))) for name in ("heights", "lower", "upper")}
    label = np.array([inf if h is None else h for h in file["heights"]])
    errors, middles = [], []
    for score, tier in zip(report["groups"], ("low", "medium", "high"), strict=True):
        group = [score[letter] for letter in "nkm"]
        places = np.array([row[:3] == group for row in file["rows"]])
        finite = places & np.isfinite(label)
        bits = np.log2(values["heights"][finite]) - np.log2(label[finite])
        P = np.array([row[3] for row, mine in zip(file["rows"], finite, strict=True) if mine])
        lower, upper = bounds(P, group[2], tightest=False)
        width = np.log2(upper) - np.log2(lower)
        errors.append((bits**2).mean())
        assert score["tier"] == tier
        assert score["codes"] == places.sum() == 30
        assert score["log2_mse"] == pytest.approx(errors[-1], rel=1e-9, abs=1e-20)
        middle = (np.log2(values["lower"][finite]) + np.log2(values["upper"][finite])) / 2
        middles.append(np.mean((middle - np.log2(label[finite])) ** 2))
        assert score["bounds_log2_mse"] == pytest.approx(middles[-1], rel=1e-9, abs=1e-20)
        assert score["worst"] == pytest.approx(np.abs(bits).max(), rel=1e-9, abs=1e-12)
        assert score["width"] == pytest.approx(width.mean(), rel=1e-9, abs=1e-12)
        assert score["infinite"] == score["infinite_found"] == (places & np.isinf(label)).sum()
        assert score["infinite_false"] == score["violations"] == 0
    assert report["macro_log2_mse"] == pytest.approx(np.mean(errors))
    code, out, err = mheight("ensemble-eval", "codes.json", "--models", models, "--show", 1)
    assert (code, err) == (0, "")
    assert all(out.count(f"\n7,3,{m} ") == 2 for m in (2, 3, 4))
    assert f"macro log2-MSE {np.mean(errors):.2e}, bounds alone {np.mean(middles):.2e}" in " ".join(out.split())


def test_ensemble_eval_shows_one_system_a_column(mheight, models):
    """Macro figures stand below the groups that they are the mean of, and only where all nine are there."""
    flags = ["--models", models, "--rows", 4, "--quiet", "--show", 0, "--long", "none"]
    code, out, _ = mheight("ensemble-eval", *flags)
    assert code == 0
    head, *rows = (line.split() for line in out.splitlines()[:11])
    assert " ".join(head) == (
        "(n,k,m) tier codes routed log2-MSE bounds alone gain worst bit width bit inf viol run 1 peer"
    )
    for column in (-2, -1):
        others = [float(row[column]) for row in rows]
        assert others[-1] == pytest.approx(np.mean(others[:-1]), abs=2e-3)
    assert rows[-1][0] == "macro"
    assert "best credible macro of a peer: 0.583, of another system" in " ".join(out.split())
    assert not {"closing", "fixed"} & set(out.split())
    code, out, _ = mheight(
        "ensemble-eval", "--models", models, "--rows", 4, "--quiet", "--show", 0, "--groups", "9,4,2"
    )
    assert out.splitlines()[1].split()[-2:] == ["0.103", "0.096"]
    assert len(out.splitlines()[2].split()) == 6


def test_ensemble_eval_does_not_blame_the_bounds_for_wrong_labels(mheight, folder, models):
    path = write_json(folder / "rows", ROWS, [h * (1.5 if i in (0, 3) else 1) for i, h in enumerate(HEIGHTS)])
    report = json.loads(mheight("ensemble-eval", path, "--models", models, "--json")[1])
    groups = report["groups"]
    assert report["wrong_labels"] == 2
    assert all(g["violations"] == 0 for g in groups)


@pytest.mark.slow
def test_ensemble_eval_draws_its_own_codes(mheight, models):
    def evaluate(*arguments):
        flags = ["--models", models, "--rows", 8, "--json", "--quiet", "--long", "none"]
        code, out, err = mheight("ensemble-eval", *flags, *arguments)
        assert (code, err) == (0, "")
        times = {"predict_microseconds", "exact_microseconds"}
        return [{key: value for key, value in g.items() if key not in times} for g in json.loads(out)["groups"]]

    groups = evaluate()
    assert [(g["n"], g["k"], g["m"]) for g in groups] == [(9, k, m) for k in (4, 5, 6) for m in range(2, 10 - k)]
    assert all(g["violations"] == 0 for g in groups)
    assert evaluate() == groups
    assert evaluate("--seed", 1) != groups


@pytest.mark.slow
def test_ensemble_eval_of_groups_and_kinds(mheight, models):
    def evaluate(*arguments):
        code, out, err = mheight("ensemble-eval", "--models", models, "--rows", 40, "--quiet", "--json", *arguments)
        assert (code, err) == (0, "")
        return json.loads(out, parse_constant=pytest.fail)["groups"]

    (one,) = evaluate("--groups", "9,4,2", "--kind", "near-singular")
    assert (one["n"], one["k"], one["m"], one["codes"], one["violations"]) == (9, 4, 2, 40, 0)
    groups = evaluate("--groups", "12,6,3;5,2,1", "--kind", "fourier", "--kind", "repeated")
    assert [(g["n"], g["k"], g["m"]) for g in groups] == [(12, 6, 3), (5, 2, 1)]
    # the kind is the kind: copies of columns make some heights at m = r infinite, independent reals none
    (copies,) = evaluate("--groups", "9,4,5", "--kind", "repeated")
    (reals,) = evaluate("--groups", "9,4,5", "--kind", "normal")
    assert copies["infinite"] == copies["infinite_found"] == 40
    assert reals["infinite"] == reals["infinite_false"] == 0
    code, out, err = mheight("ensemble-eval", "--models", models, "--rows", 40, "--groups", "9,4,2")
    assert code == 0
    assert err.startswith("no DATA: drawing 40 codes for each of 1 groups")
    assert "\n9,4,2 " in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--groups 9,4", "groups must be"),
        ("--groups 9,4,6", "1 <= m <= n - k"),
        ("--groups n10", "groups must be"),
        ("--kind ternary", "'ternary' is not one of 'integer'"),
    ],
)
def test_ensemble_eval_refuses_groups_and_kinds(arguments, says, mheight, models):
    code, out, err = mheight("ensemble-eval", "--models", models, "--rows", 4, "--quiet", *arguments.split())
    assert_refused((code, out, err), says)


# damaged models


def with_sums(change):
    """Damage that the checksums do not show, because they were taken after it."""

    def damage(tier):
        change(tier)
        names = sorted(path.name for path in tier.iterdir() if path.name != "SHA256SUMS")
        lines = [f"{sha256((tier / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
        (tier / "SHA256SUMS").write_text("".join(lines))

    return damage


def configured(**changes):
    def change(tier):
        config = json.loads((tier / "config.json").read_text()) | changes
        left = {key: value for key, value in config.items() if value is not None}
        (tier / "config.json").write_text(json.dumps(left))

    return with_sums(change)


def resized(*part, **changes):
    """Another architecture, of the experts or of the part named."""

    def change(tier):
        config = json.loads((tier / "config.json").read_text())
        owner = config[part[0]] if part else config
        owner["architecture"] |= changes
        (tier / "config.json").write_text(json.dumps(config))

    return with_sums(change)


def calibrated(change):
    """The table of intervals changed."""

    def damage(tier):
        config = json.loads((tier / "config.json").read_text())
        change(config["calibration"]["field"])
        (tier / "config.json").write_text(json.dumps(config))

    return with_sums(damage)


def replaced(name, content):
    return lambda tier: (tier / name).write_bytes(content)


def flipped(tier):
    path = tier / "seed1.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def weights(change):
    """The first seed's weights changed, with right checksums."""

    def damage(tier):
        from safetensors.torch import load_file, save_file

        tensors = load_file(tier / "seed0.safetensors")
        change(tensors)
        save_file(tensors, tier / "seed0.safetensors")

    return with_sums(damage)


def pickled(tier):
    import torch

    torch.save({"enter.weight": Touch()}, tier / "seed0.safetensors")


def listing(line):
    """A line more in the list of checksums."""

    def damage(tier):
        with open(tier / "SHA256SUMS", "ab") as sums:
            sums.write(line)

    return damage


CLAIMS = {"enter.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}

DAMAGE = {
    "byte flipped": flipped,
    "weights missing": lambda tier: (tier / "seed0.safetensors").unlink(),
    "config missing": lambda tier: (tier / "config.json").unlink(),
    "sums missing": lambda tier: (tier / "SHA256SUMS").unlink(),
    "sums empty": replaced("SHA256SUMS", b""),
    "sums not text": replaced("SHA256SUMS", b"\xff\xfe\x00"),
    "sums malformed": replaced("SHA256SUMS", b"hello\n"),
    "tier missing": shutil.rmtree,
    "tier a file": lambda tier: (shutil.rmtree(tier), tier.write_bytes(b"")),
    "path upwards": listing(b"0" * 64 + b"  ../medium/config.json\n"),
    "path from the root": listing(b"0" * 64 + b"  /etc/passwd\n"),
    "folder above": listing(b"0" * 64 + b"  ..\n"),
    "name with a zero": listing(b"0" * 64 + b"  a\x00b\n"),
    "name of a screen": listing(b"0" * 64 + b"  \x1b[2J\n"),
    "config not json": with_sums(replaced("config.json", b"{")),
    "config not text": with_sums(replaced("config.json", b"\xff\xfe\x00")),
    "config a list": with_sums(replaced("config.json", b"[]")),
    "config deep": with_sums(replaced("config.json", b"[" * 100_000)),
    "format unknown": configured(format="moe_mheight tier 99"),
    "format missing": configured(format=None),
    "architecture missing": configured(architecture=None),
    "architecture unknown": resized(heads=4),
    "architecture text": resized(width="8"),
    "architecture negative": resized(width=-8),
    "architecture endless": resized(width=10**9),
    "architecture of another size": resized(width=16),
    "steps of another number": resized(steps=3),
    "no seeds": configured(seeds=0),
    "seeds negative": configured(seeds=-1),
    "seeds text": configured(seeds="two"),
    "seeds too many": configured(seeds=3),
    "calibration missing": configured(calibration=None),
    "calibration text": configured(calibration={"0.9": "far"}),
    "calibration list": configured(calibration=[0.1, 0.3]),
    "calibration of the first format": configured(calibration={"0.5": 0.1, "0.9": 0.3}),
    "calibration of too few cells": calibrated(lambda table: table["quantiles"].pop()),
    "calibration of too few edges": calibrated(lambda table: table["edges"].pop()),
    "calibration not finite": calibrated(lambda table: table["quantiles"][0].__setitem__(0, inf)),
    "search missing": configured(search=None),
    "search empty": configured(search={}),
    "search that is none": resized("search", open_ended=False),
    "search where there is none": resized(open_ended=True),
    "search of another size": resized("search", width=16),
    "search weights missing": with_sums(lambda tier: (tier / "search1.safetensors").unlink()),
    "tensor missing": weights(lambda tensors: tensors.pop("norm.bias")),
    "tensor extra": weights(lambda tensors: tensors.update(more=tensors["norm.bias"].clone())),
    "tensor of another shape": weights(lambda tensors: tensors.update({"norm.bias": tensors["norm.bias"][:4].clone()})),
    "tensor not finite": weights(lambda tensors: tensors["norm.bias"].fill_(inf)),
    "weights cut": with_sums(lambda tier: os.truncate(tier / "seed0.safetensors", 3000)),
    "weights empty": with_sums(replaced("seed0.safetensors", b"")),
    "weights a pickle": with_sums(pickled),
    "weights claimed": with_sums(
        replaced(
            "seed0.safetensors", struct.pack("<Q", len(json.dumps(CLAIMS))) + json.dumps(CLAIMS).encode() + bytes(8)
        )
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_models(name, mheight, folder, models):
    from moe_mheight import Predictor

    data = write_json(folder / "rows", ROWS)
    shutil.copytree(models, folder / "mine")
    DAMAGE[name](folder / "mine" / "low")
    before = contents(folder)
    with pytest.raises(ModelError) as refused:
        Predictor.load(folder / "mine")
    assert str(refused.value).isprintable()
    assert_refused(mheight("predict", data, "--models", "mine", "--interval", "0.9"), "mine")
    assert contents(folder) == before
    assert not (folder / "made").exists()


def test_what_the_damage_is_done_to(mheight, folder, models):
    """The copy without damage is fine, so what is refused above is the damage."""
    data = write_json(folder / "rows", ROWS)
    shutil.copytree(models, folder / "mine")
    with_sums(lambda tier: None)(folder / "mine" / "low")
    weights(lambda tensors: None)(folder / "mine" / "low")
    configured()(folder / "mine" / "low")
    whole = mheight("predict", data, "--models", models)
    assert whole[0] == 0
    assert mheight("predict", data, "--models", "mine") == whole


def test_tiny_models_are_the_same_each_time(models, tmp_path):
    again = tiny_models(tmp_path / "again")
    files = sorted(path.relative_to(models) for path in models.rglob("*") if path.is_file())
    assert len(files) == 21
    assert all((models / name).read_bytes() == (again / name).read_bytes() for name in files)
