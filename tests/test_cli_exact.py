"""`mheight exact` for one code and `mheight verify`: what a user types, gets, and may do wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
from test_cli import assert_refused, contents, folder, mheight  # noqa: F401

from moe_mheight import from_parity_check, generator, height_profile, m_height, parity_check, systematic

P = np.array([[5, -3, 8, 1, 0], [2, 7, -4, 6, 9], [-1, 4, 4, -8, 3], [6, 0, 5, 2, -7]])
LONG = np.random.default_rng(8).integers(-9, 10, (7, 13))


def write_csv(path, matrix):
    path.write_text("\n".join(",".join(map(str, row)) for row in matrix.tolist()) + "\n")
    return path


def value(line):
    return float(line.split("=")[1].split("(")[0])


def test_every_height_of_a_short_code(mheight, folder):  # noqa: F811
    code, out, err = mheight("exact", write_csv(folder / "P.csv", P), "--quiet")
    assert (code, err) == (0, "")
    assert [value(line) for line in out.splitlines()] == pytest.approx([*height_profile(P)[1:5].tolist(), np.inf])


@pytest.mark.parametrize("kind", ["P", "G", "H"])
def test_one_height_of_a_long_code(kind, mheight, folder):  # noqa: F811
    truth = m_height(LONG, 4)
    matrix = {"P": LONG, "G": generator(LONG).astype(int), "H": parity_check(LONG).astype(int)}[kind]
    path = write_csv(folder / "code.csv", matrix)
    for method in ("auto", "search"):
        code, out, _ = mheight("exact", path, "--matrix", kind, "--m", 4, "--method", method)
        assert code == 0
        assert out.startswith("h_4 = ")
        assert "search" in out
        assert value(out) == pytest.approx(truth, rel=1e-12)
    np.savez(folder / "code.npz", **{kind: matrix})
    (folder / "code.json").write_text(json.dumps({kind: matrix.tolist()}))
    for name in ("code.npz", "code.json"):
        assert value(mheight("exact", folder / name, "--m", 4)[1]) == pytest.approx(truth, rel=1e-12)
    assert mheight("exact", path, "--m", 4)[0] == 2  # P, G or H? the name does not say


def test_json_numbers_coordinates_as_in_the_file(mheight, folder):  # noqa: F811
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


def test_standard_input(mheight, folder):  # noqa: F811
    text = json.dumps({"P": P.tolist()}).encode()
    code, out, _ = mheight("exact", "-", "--m", 2, stdin=text)
    assert (code, value(out)) == (0, pytest.approx(m_height(P, 2)))


def test_certificates_are_fractions_and_verify(mheight, folder):  # noqa: F811
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


def test_an_unfinished_search_writes_no_certificate(mheight, folder):  # noqa: F811
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


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_interrupted_says_what_it_has(folder):  # noqa: F811
    np.savez(folder / "code.npz", P=np.random.default_rng(0).normal(size=(24, 24)))
    m_height(LONG, 3)
    command = [sys.executable, "-m", "moe_mheight", "exact", "code.npz", "--m", "9"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "<= h_9 <=" in out
    assert "interrupt" in out


@pytest.mark.parametrize(
    "arguments",
    [
        "P.csv --m 0",
        "P.csv --m 6",
        "P.csv --m two",
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
def test_bad_usage(arguments, mheight, folder):  # noqa: F811
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


def test_rows_of_long_codes(mheight, folder):  # noqa: F811
    """A file of rows may hold long codes, too."""
    other = systematic(generator(LONG)[:, ::-1])[0]
    rows = [[20, 7, 3, LONG.tolist()], [20, 7, 3, other.tolist()], [9, 4, 2, P.tolist()]]
    (folder / "rows.json").write_text(json.dumps(rows))
    code, out, _ = mheight("exact", "rows.json")
    assert code == 0
    first, second, third = map(float, out.split())
    assert first == pytest.approx(second, rel=1e-9) == pytest.approx(m_height(LONG, 3), rel=1e-12)
    assert third == pytest.approx(m_height(P, 2))


def test_parity_check_files_are_the_same_code(mheight, folder):  # noqa: F811
    H = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], list(range(18))])
    write_csv(folder / "H.csv", H)
    code, out, _ = mheight("exact", "H.csv", "--m", 2)
    assert code == 0
    assert value(out) == pytest.approx(m_height(from_parity_check(H)[0], 2), rel=1e-9)
