"""Files of one matrix: the code read back is the code written, exactly, and broken files are refused in one line."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import sys
import zipfile
from fractions import Fraction
from math import lcm

import numpy as np
import pytest

from moe_mheight import DataError, height_profile
from moe_mheight.data.matrix_files import read_matrix

pytestmark = pytest.mark.filterwarnings("ignore:.*column of zeros")

FORMATS = (".csv", ".tsv", ".txt", "; .csv", "coordinate .mtx", "array .mtx", ".json", "key .json", ".npz", ".npy")


def encode(rows, form, kind="G"):
    """Bytes of a matrix in one of the formats; entries are written by str."""
    text = [[str(value) for value in row] for row in rows]
    if form in (".npz", ".npy"):
        out = io.BytesIO()
        array = np.array([[int(v) if Fraction(v).denominator == 1 else float(v) for v in row] for row in rows])
        np.savez(out, **{kind: array}) if form == ".npz" else np.save(out, array)
        return out.getvalue()
    if form == "array .mtx":
        cells = [row[j] for j in range(len(text[0])) for row in text]
        lines = ["%%MatrixMarket matrix array real general", f"{len(text)} {len(text[0])}", *cells]
    elif form == "coordinate .mtx":
        cells = [f"{i + 1} {j + 1} {v}" for i, row in enumerate(text) for j, v in enumerate(row) if v != "0"]
        lines = ["%%MatrixMarket matrix coordinate real general", f"{len(text)} {len(text[0])} {len(cells)}", *cells]
    elif form.endswith(".json"):
        return json.dumps(text if form == ".json" else {"note": "one code", kind: text}).encode()
    else:
        separator = {".csv": ",", ".tsv": "\t", ".txt": "  ", "; .csv": "; "}[form]
        lines = [separator.join(row) for row in text]
    return ("\n".join(lines) + "\n").encode()


def save(folder, content, name="code_G.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def echelon(rows):
    """Reduced row echelon form without zero rows, by Gauss and Jordan in Fractions: the same for equal row spaces."""
    rows, done = [[Fraction(v) for v in row] for row in rows], 0
    for j in range(len(rows[0])):
        i = next((i for i in range(done, len(rows)) if rows[i][j]), None)
        if i is not None:
            rows[done], rows[i] = rows[i], rows[done]
            rows[done] = [v / rows[done][j] for v in rows[done]]
            for t, row in enumerate(rows):
                if t != done:
                    rows[t] = [v - row[j] * w for v, w in zip(row, rows[done], strict=True)]
            done += 1
    return rows[:done]


def generator_of(matrix):
    """[I | P] with its columns put back where they came from."""
    k = len(matrix.P)
    assert sorted(matrix.order) == list(range(len(matrix.order)))
    G = [[Fraction(0)] * len(matrix.order) for _ in range(k)]
    for i, row in enumerate(matrix.P):
        for j, value in zip(matrix.order, [int(i == t) for t in range(k)] + list(row), strict=True):
            G[i][j] = Fraction(value)
    return G


def random_generator(rng, k, n, kinds="whole"):
    """A generator of rank k in a random basis, columns shuffled, with zeros and repeats."""
    while True:
        systematic = np.hstack([np.eye(k, dtype=int), rng.integers(-3, 4, (k, n - k))])
        G = (rng.integers(-2, 3, (k, k)) @ systematic)[:, rng.permutation(n)].tolist()
        if kinds == "fractions":
            G = [[Fraction(v, int(d)) for v, d in zip(row, rng.integers(1, 9, n), strict=True)] for row in G]
        if len(echelon(G)) == k:
            return G


def null_space(G):
    """Rows that span the dual, from the echelon form."""
    rows = echelon(G)
    pivots = [next(j for j, v in enumerate(row) if v) for row in rows]
    free = [j for j in range(len(G[0])) if j not in pivots]
    out = [[Fraction(int(j == f)) for j in range(len(G[0]))] for f in free]
    for dual, f in zip(out, free, strict=True):
        for row, j in zip(rows, pivots, strict=True):
            dual[j] = -row[f]
    return out


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kinds", ["whole", "fractions"])
def test_one_code_through_its_three_matrices(tmp_path, rng, form, kinds):
    exact = kinds == "whole" or not form.startswith(".np")
    for k, n in ((1, 3), (2, 5), (3, 6), (4, 7), (5, 6)):
        G = random_generator(rng, k, n, kinds)
        from_G = read_matrix(save(tmp_path, encode(G, form), f"code_G{form.split()[-1]}"))
        assert (from_G.exact, from_G.kind, len(from_G.P), len(from_G.P[0])) == (exact, "G", k, n - k)
        shuffled = [null_space(G)[i] for i in rng.permutation(n - k)]
        H = [[a + 2 * b for a, b in zip(row, shuffled[0], strict=True)] for row in shuffled[1:]] + shuffled[:1]
        scale = 1 if kinds == "fractions" else lcm(*(v.denominator for row in H for v in row))
        H = [[v * scale for v in row] for row in H]
        from_H = read_matrix(save(tmp_path, encode(H, form, "H"), f"code_h{form.split()[-1]}"))
        from_P = read_matrix(save(tmp_path, encode(from_G.P, form, "P"), f"P{form.split()[-1]}"))
        assert (from_H.kind, from_P.kind, from_P.order) == ("H", "P", tuple(range(n)))
        if from_P.exact and from_G.exact:
            assert from_P.P == from_G.P
        if exact:
            assert echelon(generator_of(from_G)) == echelon(G) == echelon(generator_of(from_H))
            assert all(isinstance(v, Fraction) for matrix in (from_G, from_H) for row in matrix.P for v in row)
        for matrix in (from_G, from_H, from_P):
            assert list(matrix.order[:k]) == sorted(matrix.order[:k])
            assert list(matrix.order[k:]) == sorted(matrix.order[k:])
        profiles = [height_profile(np.array(matrix.P, float)) for matrix in (from_G, from_H, from_P)]
        np.testing.assert_allclose(profiles[1:], profiles[:1] * 2, rtol=1e-9)


def test_the_information_set_is_the_leftmost(tmp_path):
    assert read_matrix(save(tmp_path, "2 1 5 0\n0 3 1 1\n")).order == (0, 1, 2, 3)
    assert read_matrix(save(tmp_path, "0 1 2 3\n0 0 0 1\n")).order == (1, 3, 0, 2)
    H = read_matrix(save(tmp_path, "1 2 3 1\n4 5 6 1\n"), "H")
    assert H.order == (0, 1, 2, 3)
    assert generator_of(H)[0][2:] == [Fraction(-1), Fraction(2)]
    floats = read_matrix(save(tmp_path, "1.0 2 3 1\n4 5 6 1\n"), "H")
    assert floats.order == H.order
    np.testing.assert_allclose(floats.P, np.array(H.P, float))


def test_a_rational_parity_check_may_have_rows_to_spare(tmp_path):
    twice = read_matrix(save(tmp_path, "1,1,1\n2,2,2\n0,0,0\n"), "H")
    assert (twice.P, twice.order) == ([[-1], [-1]], (0, 1, 2))


THIRD = [[0, Fraction(1, 3)], [Fraction(-1, 3), 0]]


@pytest.mark.parametrize(
    ("text", "P"),
    [
        ("1/3, -3/4\n+2, 0\n", [[Fraction(1, 3), Fraction(-3, 4)], [2, 0]]),
        (f"{10**400}/{10**400 + 1}\n", [[Fraction(10**400, 10**400 + 1)]]),
        ('\ufeff# two rows\r\n\r\n"1";2\r\n% more\r\n 3 ; 4/8 # half\r\n\r\n', [[1, 2], [3, Fraction(1, 2)]]),
        ("1\t2\r3\t4", [[1, 2], [3, 4]]),
        ('[[1, "1/7"], [1234567890123456789012, -0]]', [[1, Fraction(1, 7)], [1234567890123456789012, 0]]),
        ('  {"P": [["5"]], "by": null}', [[5]]),
        ("%%MatrixMarket matrix coordinate integer general\n% c\n\n2 3 2\n2 1 -4\n\n1 3 7\n", [[0, 0, 7], [-4, 0, 0]]),
        ("%%matrixmarket MATRIX Array Integer General\n%\n2 2\n1\n2\n\n3\n4\n", [[1, 3], [2, 4]]),
        ("%%MatrixMarket matrix array real symmetric\n2 2\n1\n2\n3/2\n", [[1, 2], [2, Fraction(3, 2)]]),
        ("%%MatrixMarket matrix coordinate integer symmetric\n2 2 2\n1 1 5\n2 1 6\n", [[5, 6], [6, 0]]),
        ("%%MatrixMarket matrix array integer skew-symmetric\n3 3\n1\n2\n3\n", [[0, -1, -2], [1, 0, -3], [2, 3, 0]]),
        ("%%MatrixMarket matrix coordinate real skew-symmetric\n2 2 1\n2 1 -1/3\n", THIRD),
    ],
)  # fmt: skip
def test_what_is_written_is_what_is_read(tmp_path, text, P):
    matrix = read_matrix(save(tmp_path, text, "P"))
    assert (matrix.P, matrix.exact, matrix.kind) == (P, True, "P")


@pytest.mark.parametrize(
    ("text", "P"),
    [
        ("0.1, 1/3\n-2, 1e-3\n", [[0.1, 1 / 3], [-2.0, 0.001]]),
        ("[[0.1, 2], [3, 4E2]]", [[0.1, 2.0], [3.0, 400.0]]),
        ("1. .5", [[1.0, 0.5]]),
        ("%%MatrixMarket matrix coordinate real skew-symmetric\n2 2 1\n2 1 2.5\n", [[0.0, -2.5], [2.5, 0.0]]),
    ],
)
def test_a_decimal_makes_doubles(tmp_path, text, P):
    matrix = read_matrix(save(tmp_path, text), "P")
    assert not matrix.exact
    assert matrix.P.dtype == np.float64
    assert matrix.P.tolist() == P


def test_arrays_of_whole_doubles_are_exact(tmp_path):
    for dtype, exact in ((np.float64, True), (">f4", True), (np.uint64, True), (np.int8, True)):
        np.save(tmp_path / "P.npy", np.asfortranarray([[1, 2], [3, 4]]).astype(dtype))
        matrix = read_matrix(tmp_path / "P.npy")
        assert (matrix.P, matrix.exact) == ([[1, 2], [3, 4]], exact)
    np.save(tmp_path / "P.npy", np.array([[2**64 - 1]], np.uint64))
    assert read_matrix(tmp_path / "P.npy").P == [[2**64 - 1]]
    np.save(tmp_path / "P.npy", np.array([[2.0**60]]))
    assert not read_matrix(tmp_path / "P.npy").exact


def test_where_the_kind_comes_from(tmp_path):
    rows = "1 0 2\n0 1 3\n"
    for name, kind in (("G.txt", "G"), ("my_h.csv", "H"), ("a_b_P", "P"), ("p.txt", "P")):
        assert read_matrix(save(tmp_path, rows, name)).kind == kind
    assert read_matrix(save(tmp_path, rows, "code_P.txt"), "G").kind == "G"
    assert read_matrix(save(tmp_path, '{"G": [[1, 2]]}', "code_P.json")).kind == "G"
    both = save(tmp_path, '{"G": [[1, 2]], "H": [[1, -2]]}', "both.json")
    assert read_matrix(both, "H").P[0] == [Fraction(1, 2)]
    for name in ("code.txt", "xG.csv", "G_old.csv"):
        with pytest.raises(DataError, match="say --matrix P, G or H"):
            read_matrix(save(tmp_path, rows, name))
    for path, kind in ((both, None), (both, "P"), (both, "Q")):
        with pytest.raises(DataError):
            read_matrix(path, kind)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["1, 2\n3, 4\n", " [[1, 2], [3, 4]]", '{"P": [["1", 2], [3, "8/2"]]}'])
def test_standard_input(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert read_matrix("-", "P").P == [[1, 2], [3, 4]]


def refusal(path, kind=None, **settings):
    """The message of a refusal: one readable line that names the file."""
    with pytest.raises(DataError) as refused:
        read_matrix(path, kind, **settings)
    message = str(refused.value)
    assert message.isprintable(), message
    assert len(message) < 600
    assert str(path) in message
    return message


MTX = "%%MatrixMarket matrix coordinate integer general\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("# nothing\n\n", "no rows"),
        ("1,2,3\n4,5\n", "row 2 (counted from 1): has 2 entries, row 1 has 3"),
        ("1,2,\n4,5,6\n", "row 1, column 3 (counted from 1): must be a number such as -3, 3/4 or 0.75, got ''"),
        ("1,2\nx,3\n", "row 2, column 1 (counted from 1): must be a number"),
        ("1;2,5\n", "got '2,5'"),
        ("1,nan\n", "row 1, column 2 (counted from 1): must be finite"),
        ("1,-Infinity\n", "must be finite"),
        ("1,1e400\n", "must be finite"),
        (f"0.5,1{'0' * 400}\n", "must be finite"),
        ("1,1/0\n", "must be a number"),
        ("1,1_0\n", "must be a number"),
        ("1,\u0661\n", "must be a number"),
        ("1,0x10\n", "must be a number"),
        ("1,1j\n", "must be a number"),
        (f"1,{'9' * 3000}\n", "3000 characters"),
        ("1,2,3\n2,4,6\n", "rank k = 2, got 1; row 2"),
        ("1.5,2,3\n3,4,6\n", "rank 1"),
        ("1,0\n0,1\n", "r = n - k >= 1"),
        ("1,0.5\n0,1\n", "r = n - k >= 1"),
        ("1e-40,1,2\n", "entries"),
        (",".join(["1"] * 65), "n must be at most 64"),
        ("1,2\n" * 65, "n must be at most 64"),
        (b"\xff\xfe1\x00,\x002\x00", "UTF-8"),
        (bytes(range(256)) * 4, "UTF-8"),
        (b"\x00\x01\x02", "must be a number"),
        ("[", "not valid JSON"),
        ("[" * 100000, "JSON"),
        (f"[[1, {'9' * 5000}]]", "5000 characters"),
        ("[1, 2]", "list of rows"),
        ("[[1, 2], 3]", "list of rows"),
        ("[[]]", "has 0 entries"),
        ("[[1, true]]", "column 2 (counted from 1): must be a number, got True"),
        ("[[1, null]]", "got None"),
        ("[[1, [2]]]", "must be a number"),
        ("[[1, NaN]]", "must be finite"),
        ("[[4, 2, 1, [[1, 2], [3, 4]]]]", "column 4"),
        ('{"rows": [[1, 2]]}', "nothing named P, G or H"),
        ('{"H": [[1, 2]]}', "holds H, not G"),
        ('{"G": [[1, 2]], "G": [[1, 3]]}', "twice"),
        ('{"G": 3}', "list of rows"),
        ("%%MatrixMarket matrix coordinate\n1 2 0\n", "line 1"),
        ("%%MatrixMarket vector array real general\n1 2 0\n", "line 1"),
        ("%%MatrixMarket matrix coordinate pattern general\n1 2 1\n1 1\n", "holds no numbers"),
        ("%%MatrixMarket matrix array complex general\n1 1\n1 1\n", "complex"),
        ("%%MatrixMarket matrix array real hermitian\n1 1\n1\n", "hermitian"),
        (MTX, "size line"),
        (MTX + "2 3\n", "size line"),
        (MTX + "2 -3 1\n1 1 1\n", "size line"),
        (MTX + "0 3 0\n", "1 to 64"),
        (MTX + "999999999 999999999 1\n1 1 1\n", "1 to 64"),
        (MTX + "2 3 999\n1 1 1\n", "places"),
        (MTX + "2 3 2\n1 1 1\n", "must hold 2 entries, as its size line says, got only 1"),
        (MTX + "2 3 1\n1 1 1\n2 2 2\n", "got more"),
        (MTX + "2 3 1\n3 1 1\n", "row 3, column 1 (counted from 1): lies outside 2 x 3"),
        (MTX + "2 3 1\n0 1 1\n", "outside"),
        (MTX + "2 3 1\n1 1\n", "row column value"),
        (MTX + "2 3 1\n1 1 1 1\n", "row column value"),
        (MTX + "2 3 2\n1 1 1\n1 1 2\n", "twice"),
        (MTX + "2 3 1\n1 1 1.5\n", "integer"),
        (MTX + "2 3 1\n1 1 nan\n", "finite"),
        (MTX.replace("general", "symmetric") + "2 3 1\n1 1 1\n", "square"),
        (MTX.replace("general", "symmetric") + "2 2 2\n1 2 1\n2 1 1\n", "twice"),
        (MTX.replace("general", "skew-symmetric") + "2 2 1\n1 1 1\n", "diagonal"),
        ("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n", "got only 3"),
        ("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n4\n5\n", "got more"),
    ],
)  # fmt: skip
def test_broken_text_is_refused(tmp_path, text, words):
    assert words in refusal(save(tmp_path, text), "G")


def test_broken_parity_checks_are_refused(tmp_path):
    assert "rank n = 2" in refusal(save(tmp_path, "1,2\n3,4\n5,6\n"), "H")
    assert "rank 0" in refusal(save(tmp_path, "0,0\n"), "H")
    assert "rank" in refusal(save(tmp_path, "1.5,2,3\n3,4,6\n"), "H")
    assert "fewer rows" in refusal(save(tmp_path, "1.5,2\n3,5\n"), "H")


@pytest.mark.slow
def test_size_limits(tmp_path):
    P = save(tmp_path, "1,2,3\n4,5,6\n", "P.csv")
    assert read_matrix(P, longest=5).order == (0, 1, 2, 3, 4)
    assert "2 x 3, a code of length n = 5; n must be at most 4" in refusal(P, longest=4)
    with open(P, "wb") as handle:
        handle.truncate(2**26 + 1)
    assert "64 MiB" in refusal(P)
    long = [[str(3 ** (3000 + i * j) + j) for j in range(40)] for i in range(20)]
    assert "exact elimination" in refusal(save(tmp_path, encode(long, ".csv")))
    # denominators without a common factor, which together would take minutes
    rows = [[f"1/{10**1990 + 64 * i + j}" for j in range(50)] for i in range(40)]
    assert "exact elimination" in refusal(save(tmp_path, encode(rows, ".csv")))
    assert "cannot read" in refusal(tmp_path / "absent_G.csv")
    assert "line 1" in refusal(save(tmp_path, "\ufeff", "G.mtx"))
    assert "cannot read" in refusal(tmp_path)


def npy(array=None, header=None):
    out = io.BytesIO()
    if header is None:
        np.lib.format.write_array(out, np.asarray(array))
    else:
        np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


def npz(*members, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


GOOD = npy([[1, 2, 3]])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (npy(np.array([[1, "x"]], object)), "must hold real numbers"),
        (npy(np.array([[1j, 2]])), "complex"),
        (npy(np.array([[True, False]])), "bool"),
        (npy([1, 2]), "rows x columns"),
        (npy(np.ones((1, 2, 3))), "rows x columns"),
        (npy(np.ones((0, 3))), "1 to 64"),
        (npy(np.ones((1, 65))), "1 to 64"),
        (npy([[1.0, np.nan]]), "row 1, column 2 (counted from 1): must be finite"),
        (npy([[1.0, -np.inf]]), "must be finite"),
        (npy(np.array([[1, np.longdouble(np.finfo(np.float64).max) * 4]])), "must be finite"),
        (npy(header={"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}), "1 to 64"),
        (npy(header={"descr": "<f8", "fortran_order": False, "shape": (20, 40)}), "not a readable array"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{" * 100, "not a readable array"),
        (GOOD[:40], "not a readable array"),
    ],
)
def test_broken_arrays_are_refused(tmp_path, array, words):
    assert words in refusal(save(tmp_path, array, "code_G.npy"))
    assert words in refusal(save(tmp_path, npz(("G.npy", array)), "code.npz"))


@pytest.mark.slow
def test_hostile_archives_are_refused(tmp_path):
    bomb = npz(("G.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**27) + b" " * 2**27))
    assert "not a readable array" in refusal(save(tmp_path, bomb, "bomb.npz"))
    # lzma unpacks as much as it can whatever it is asked for
    assert "numpy.savez" in refusal(save(tmp_path, npz(("G.npy", GOOD), method=zipfile.ZIP_LZMA), "lzma.npz"))
    assert "not a readable .npz" in refusal(save(tmp_path, npz(("G.npy", GOOD))[:-30], "cut.npz"))
    damaged = npz(("G.npy", GOOD), method=zipfile.ZIP_STORED).replace(GOOD, GOOD[:-1] + b"\x01")
    assert "CRC" in refusal(save(tmp_path, damaged, "damaged.npz"))
    assert "nothing named P, G or H" in refusal(save(tmp_path, npz(("arr_0.npy", GOOD)), "code_G.npz"))
    assert "holds G, not P" in refusal(save(tmp_path, npz(("G.npy", GOOD)), "code.npz"), "P")
    assert "not a readable .npz" in refusal(save(tmp_path, "1,2,3\n", "code_G.npz"))


def test_what_is_no_matrix_is_named(tmp_path):
    """A pickle of codes or a packed file, given for one code."""
    wide = np.arange(1, 21).reshape(4, 5)
    for value, words in [
        ({(9, 4, 2): wide}, "holds a dict of 1 key, the first (9, 4, 2): an array 4 x 5"),
        ({"setting1": wide}, "numpy.save('G.npy', the_dict['setting1'])"),
        ([[9, 4, 2, wide]], "holds rows [n, k, m, P] of many codes: leave out --m and --matrix"),
        (wide, "an array (4, 5) as a pickle"),
    ]:
        for kind in (None, "G"):
            assert words in refusal(save(tmp_path, pickle.dumps(value), "code"), kind)
        packed = refusal(save(tmp_path, gzip.compress(pickle.dumps(value)), "code.pkl.gz"), "G")
        assert "packed by gzip: unpack it first" in packed
    assert "refused" in refusal(save(tmp_path, pickle.dumps(print), "code.pkl"))


@pytest.mark.parametrize("text", ["1,0,2\n2,0,1\n", "1.5,0,2\n2,0,1\n"])
def test_a_column_of_zeros_is_told(tmp_path, text):
    with pytest.warns(UserWarning, match=r"coordinate 3 \(counted from 0\) is 0 in every codeword"):
        assert read_matrix(save(tmp_path, text, "P.csv")).order == (0, 1, 2, 3, 4)
    with pytest.warns(UserWarning, match=r"coordinate 1 \("):
        read_matrix(save(tmp_path, text, "G.csv"))
