"""`mheight exact` for one code and `mheight verify`: what a user types, gets, and may do wrong."""

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction

import brute
import numpy as np
import pytest
from commands import assert_refused, contents

from moe_mheight import from_parity_check, generator, height_profile, m_height, parity_check, systematic

P = np.array([[5, -3, 8, 1, 0], [2, 7, -4, 6, 9], [-1, 4, 4, -8, 3], [6, 0, 5, 2, -7]])
LONG = np.random.default_rng(8).integers(-9, 10, (7, 13))


def write_csv(path, matrix):
    path.write_text("\n".join(",".join(map(str, row)) for row in matrix.tolist()) + "\n")
    return path


def value(line):
    return float(line.split("=")[1].split("(")[0])


def test_every_height_of_a_short_code(mheight, folder):
    code, out, err = mheight("exact", write_csv(folder / "P.csv", P), "--quiet")
    assert (code, err) == (0, "")
    assert [value(line) for line in out.splitlines()] == pytest.approx([*height_profile(P)[1:5].tolist(), np.inf])


@pytest.mark.parametrize("kind", ["P", "G", "H"])
def test_one_height_of_a_long_code(kind, mheight, folder):
    truth = m_height(LONG, 4)
    matrix = {"P": LONG, "G": generator(LONG).astype(int), "H": parity_check(LONG).astype(int)}[kind]
    path = write_csv(folder / "code.csv", matrix)
    for method in ("auto", "search"):
        code, out, _ = mheight("exact", path, "--matrix", kind, "--m", 4, "--method", method)
        assert code == 0
        assert out.startswith("h_4 = ")
        assert method == "auto" or "search" in out  # what "auto" takes depends on what is compiled
        assert value(out) == pytest.approx(truth, rel=1e-12)
    np.savez(folder / "code.npz", **{kind: matrix})
    (folder / "code.json").write_text(json.dumps({kind: matrix.tolist()}))
    for name in ("code.npz", "code.json"):
        assert value(mheight("exact", folder / name, "--m", 4)[1]) == pytest.approx(truth, rel=1e-12)
    assert mheight("exact", path, "--m", 4)[0] == 2  # P, G or H? the name does not say


def test_json_numbers_coordinates_as_in_the_file(mheight, folder):
    G = generator(LONG)[:, ::-1]
    np.savez(folder / "code.npz", G=G)
    code, out, _ = mheight("exact", folder / "code.npz", "--m", 3, "--json")
    assert code == 0
    (found,) = json.loads(out)["heights"]
    c = np.array(found["witness"])
    # a codeword of G as it was given
    assert np.abs(np.linalg.lstsq(G.T, c, rcond=None)[0] @ G - c).max() < 1e-9
    down = -np.sort(-np.abs(c))
    assert down[0] / down[3] == pytest.approx(found["height"], rel=1e-9)
    assert abs(c[found["outside"][0]]) == 1
    assert found["ended"] == "finished"
    assert found["lower"] <= found["height"] <= found["upper"]


def test_standard_input(mheight, folder):
    text = json.dumps({"P": P.tolist()}).encode()
    code, out, _ = mheight("exact", "-", "--m", 2, stdin=text)
    assert (code, value(out)) == (0, pytest.approx(m_height(P, 2)))


def test_certificates_are_fractions_and_verify(mheight, folder):
    path = write_csv(folder / "P.csv", LONG)
    code, out, err = mheight("exact", path, "--m", 3, "--certificate", folder / "proof.json")
    assert code == 0
    top, bottom = out.split("=")[1].split("/")
    assert float(Fraction(int(top), int(bottom))) == pytest.approx(m_height(LONG, 3), rel=1e-12)
    assert "mheight verify" in err
    code, out, _ = mheight("verify", folder / "proof.json", "--json")
    assert (code, json.loads(out)["accepted"]) == (0, True)
    assert mheight("verify", "-", stdin=(folder / "proof.json").read_bytes())[0] == 0
    assert_refused(mheight("exact", path, "--m", 3, "--certificate", folder / "proof.json"), "--force")
    text = (folder / "proof.json").read_text()
    (folder / "wrong.json").write_text(text.replace(f'"height": "{top.strip()[0]}', '"height": "9'))
    code, out, _ = mheight("verify", folder / "wrong.json")
    assert code == 1
    assert out.startswith("refused")
    assert_refused(mheight("verify", path))
    assert_refused(mheight("verify", folder / "missing.json"))


def test_several_m(mheight, folder):
    path = write_csv(folder / "P.csv", P)
    truth = height_profile(P)
    for arguments, levels in ((["--m", "1-3"], [1, 2, 3]), (["--m", "2,4"], [2, 4]), (["--m", 3, "--m", 1], [1, 3]),
                              (["--m", "1-2,4", "--m", "2-3"], [1, 2, 3, 4]), (["--m", "2"], [2])):  # fmt: skip
        code, out, _ = mheight("exact", path, *arguments)
        assert code == 0
        assert [line.split(" ")[0] for line in out.splitlines()] == [f"h_{m}" for m in levels]
        assert [value(line) for line in out.splitlines()] == pytest.approx(truth[levels].tolist())
    code, out, _ = mheight("exact", path, "--m", "1-3", "--certificate", "proof.json", "--json")
    assert code == 0
    found = json.loads(out)["heights"]
    assert [entry["certificate"] for entry in found] == ["proof-1.json", "proof-2.json", "proof-3.json"]
    assert not (folder / "proof.json").exists()
    for m in (1, 2, 3):
        code, out, _ = mheight("verify", f"proof-{m}.json", path)
        assert (code, out.startswith(f"accepted: h_{m} = ")) == (0, True)
    assert_refused(mheight("exact", path, "--m", "3-4", "--certificate", "proof.json"), "--force")
    assert not (folder / "proof-4.json").exists()


@pytest.mark.parametrize("kind", ["G", "H"])
def test_a_certificate_is_about_the_matrix_in_the_file(kind, mheight, folder):
    """Its columns are not in systematic order, its rows no unit ones."""
    matrix = {"G": generator(P), "H": parity_check(P)}[kind].astype(int)[:, ::-1]
    matrix[0] = 2 * matrix[0] - matrix[1]
    np.savez(folder / "code.npz", **{kind: matrix})
    assert mheight("exact", "code.npz", "--m", 2, "--certificate", "proof.json")[0] == 0
    code, out, _ = mheight("verify", "proof.json", "code.npz")
    assert (code, "very code" in out) == (0, True)
    other = write_csv(folder / "other.csv", matrix[::-1] * 3)
    assert mheight("verify", "proof.json", other)[0] == 0
    assert mheight("verify", "proof.json", other, "--matrix", "GH".replace(kind, ""))[0] == 1
    code, out, _ = mheight("verify", "proof.json", write_csv(folder / "swapped.csv", matrix[:, ::-1]))
    assert (code, "another code" in out) == (1, True)
    assert_refused(mheight("verify", "proof.json", "missing.csv"))
    assert_refused(mheight("verify", "proof.json", "--matrix", "G"), "MATRIX")
    assert_refused(mheight("verify", "-", "-"), "standard input")


@pytest.mark.parametrize("entry", ["1" + "0" * 400, "1/1" + "0" * 400, "1e-400", "1e400"])
@pytest.mark.parametrize(
    "command", [["exact"], ["exact", "--m", 1, "--certificate", "new.json"], ["explain", "--m", 1]]
)
def test_entries_beyond_float64(entry, command, mheight, folder):
    (folder / "P.csv").write_text(f"1, 2\n3, {entry}\n")
    refused = mheight(command[0], "P.csv", *command[1:])
    assert_refused(refused)
    assert "P[1][1]" in refused[2] or "row 2, column 2" in refused[2]


def test_integers_and_fractions_that_float64_would_round(mheight, folder):
    whole = [[3 * 10**17 + 1, 10**17], [9 * 10**17 + 4, 3 * 10**17 + 1]]
    (folder / "P.json").write_text(json.dumps(whole))
    truth = brute.profile(whole)
    code, out, _ = mheight("exact", "P.json", "--matrix", "P")
    assert code == 0
    assert [value(line) for line in out.splitlines()] == [float(h) for h in truth[1:]]
    (found,) = json.loads(mheight("exact", "P.json", "--matrix", "P", "--m", 2, "--json")[1])["heights"]
    assert Fraction(found["lower"]) <= truth[2] <= Fraction(found["upper"])


@pytest.mark.slow
def test_an_unfinished_search_writes_no_certificate(mheight, folder):
    np.savez(folder / "code.npz", P=np.random.default_rng(0).normal(size=(24, 24)))
    m_height(LONG, 3)
    code, out, err = mheight("exact", "code.npz", "--m", 9, "--time-limit", 0.5, "--certificate", "proof.json")
    assert code == 0
    assert "<= h_9 <=" in out
    assert "time limit" in out
    assert "not written" in err
    assert not (folder / "proof.json").exists()
    code, out, _ = mheight("exact", "code.npz", "--m", 9, "--time-limit", 0.5, "--json")
    (found,) = json.loads(out)["heights"]
    assert found["ended"] == "time limit"
    assert found["lower"] < float(found["upper"])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_interrupted_says_what_it_has(folder):
    np.savez(folder / "code.npz", P=np.random.default_rng(0).normal(size=(24, 24)))
    m_height(LONG, 3)
    command = [sys.executable, "-m", "moe_mheight", "exact", "code.npz", "--m", "9", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)
    try:
        next(line for line in process.stderr if "progress" in line)  # it is at work
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, err
    (found,) = json.loads(out)["heights"]
    assert found["ended"] == "interrupt"
    assert found["lower"] < float(found["upper"])


@pytest.mark.parametrize(
    "arguments",
    [
        "P.csv --m 0",
        "P.csv --m 6",
        "P.csv --m two",
        "P.csv --m 2-1",
        "P.csv --m 1-",
        "P.csv --m 1,,2",
        "P.csv --m 0-2",
        "P.csv --m 1-6",
        "P.csv --m 1-2 --m 6 --certificate new.json",
        "P.csv --matrix Q",
        "P.csv --m 2 --time-limit 0",
        "P.csv --m 2 --time-limit nan",
        "P.csv --m 2 --threads 0",
        "P.csv --m 2 --method simplex",
        "P.csv --m 2 --out new.npz",
        "P.csv --m 2 --check",
        "P.csv --certificate new.json",
        "P.csv --m 2 --certificate missing/new.json",
        "P.csv G.csv --m 2",
        "rows.json --time-limit 5",
        "rows.json --certificate new.json",
        "rows.json --method search",
        "empty.csv --matrix P",
        "ragged.csv --matrix P",
        "letters.csv --matrix P",
        "nan.csv --matrix P",
        "deficient.csv --matrix G",
        "long.csv --matrix P --m 1",
        "missing.csv --matrix P",
    ],
)
def test_bad_usage(arguments, mheight, folder):
    write_csv(folder / "P.csv", P)
    write_csv(folder / "G.csv", P)
    write_csv(folder / "long.csv", np.ones((33, 32), int))
    write_csv(folder / "deficient.csv", np.array([[1, 2, 3], [2, 4, 6]]))
    for name, text in {"empty": "", "ragged": "1,2\n3\n", "letters": "1,x\n", "nan": "1,nan\n"}.items():
        (folder / f"{name}.csv").write_text(text)
    (folder / "rows.json").write_text("[[4, 2, 2, [[1, 1], [1, 2]]]]")
    before = contents(folder)
    assert_refused(mheight("exact", *arguments.split()))
    assert contents(folder) == before


def test_rows_of_long_codes(mheight, folder):
    """A file of rows may hold long codes, too."""
    other = systematic(generator(LONG)[:, ::-1])[0]
    rows = [[20, 7, 3, LONG.tolist()], [20, 7, 3, other.tolist()], [9, 4, 2, P.tolist()]]
    (folder / "rows.json").write_text(json.dumps(rows))
    code, out, _ = mheight("exact", "rows.json")
    assert code == 0
    first, second, third = map(float, out.split())
    assert first == pytest.approx(second, rel=1e-9) == pytest.approx(m_height(LONG, 3), rel=1e-12)
    assert third == pytest.approx(m_height(P, 2))


def test_parity_check_files_are_the_same_code(mheight, folder):
    H = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], list(range(18))])
    write_csv(folder / "H.csv", H)
    code, out, _ = mheight("exact", "H.csv", "--m", 2)
    assert code == 0
    assert value(out) == pytest.approx(m_height(from_parity_check(H)[0], 2), rel=1e-9)
