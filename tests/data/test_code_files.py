"""Files of codes: what is read back is what was written, and what strangers send is refused in one line."""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import pickletools
import re
import struct
import subprocess
import sys
import warnings
import zipfile
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest

from moe_mheight import DataError, m_height
from moe_mheight.data import code_files
from moe_mheight.data.code_files import Codes
from moe_mheight.errors import FolderError

P = np.array([[1, 1], [1, 2]])
ROW = [4, 2, 2, P]
PROTOCOLS = range(2, 6)


def save(folder, *contents):
    """Each content (bytes, or an object for JSON) in a file of its own; the paths."""
    paths = []
    for i, content in enumerate(contents):
        path = folder / f"file{i}"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        paths.append(path)
    return paths


def in_order(data):
    """[(group, P as lists, height or None)] in the order of the file's rows."""
    rows = [
        (int(place), group, codes.P[i].tolist(), None if codes.h is None else float(codes.h[i]))
        for group, codes in data.items()
        for i, place in enumerate(codes.row)
    ]
    assert sorted(row[0] for row in rows) == list(range(len(rows)))
    return [row[1:] for row in sorted(rows, key=lambda row: row[0])]


def refusal(paths):
    """The message of a refusal: one readable line that names the file."""
    with pytest.raises(DataError) as refused:
        code_files.read(paths)
    message = str(refused.value)
    assert message.isprintable(), message
    assert len(message) < 1000
    assert any(str(path) in message for path in paths), message
    return message


# the field's pair


def field_rows():
    """Rows as the field's files have them: types mixed, rows as lists and tuples."""
    real = np.array([[0.5, -3.25, 1e-3], [7.0, 2.0, -1 / 3]])
    return [
        [4, 2, 2, P],
        (5, 2, 3, real),
        [np.int64(4), np.int32(2), np.int8(1), P.astype(np.int8)],
        (5, 2, np.uint8(1), real.astype(np.float32)),
        [5, 3, 2, np.asfortranarray([[1, 2], [3, 4], [-5, 6]])],
        [5, 3, 2, np.arange(12.0).reshape(6, 2)[::2]],
        [4, 2, 2, [[1, 2.5], [0, -4]]],
        (4, 2, 1, ((1, 2), (3, 4))),
    ]


FIELD_HEIGHTS = [3.0, np.float64(2.5), np.float32(4.5), 7, np.int64(1), inf, np.float64(inf), 1e9]


def check_field(data):
    expected = [
        ((int(n), int(k), int(m)), np.array(matrix, float).tolist(), float(h))
        for (n, k, m, matrix), h in zip(field_rows(), FIELD_HEIGHTS, strict=True)
    ]
    assert in_order(data) == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("order", [1, -1])
def test_pair_is_read(protocol, order, tmp_path):
    """Whatever the protocol, and whichever of the two files comes first."""
    pair = [pickle.dumps(part, protocol) for part in (field_rows(), FIELD_HEIGHTS)]
    check_field(code_files.read(save(tmp_path, *pair[::order])))


@pytest.mark.parametrize("container", [tuple, np.array])
def test_pair_in_other_containers(container, tmp_path):
    pair = [pickle.dumps(tuple(field_rows())), pickle.dumps(container(FIELD_HEIGHTS))]
    check_field(code_files.read(save(tmp_path, *pair)))


@pytest.mark.parametrize("protocol", [0, 2])
@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
def test_either_name_of_numpys_core(protocol, module, tmp_path):
    """These protocols spell module names without their lengths, so they can be exchanged."""
    pair = [pickle.dumps(part, protocol) for part in (field_rows(), FIELD_HEIGHTS)]
    pair = [re.sub(rb"numpy\._?core\b", module, content) for content in pair]
    assert all(module + b".multiarray" in content for content in pair)
    check_field(code_files.read(save(tmp_path, *pair)))


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("dtype", [">i2", ">i8", ">f4", ">f8"])
def test_arrays_of_the_other_byte_order(dtype, protocol, tmp_path):
    matrix = np.array([[1, -2, 3], [256, 5, -6]], dtype)
    pair = [pickle.dumps(part, protocol) for part in ([[5, 2, 3, matrix]], np.array([256], dtype))]
    [(_, found, h)] = in_order(code_files.read(save(tmp_path, *pair)))
    assert found == [[1.0, -2.0, 3.0], [256.0, 5.0, -6.0]]
    assert h == 256.0


def test_one_file_of_rows_has_no_heights(tmp_path):
    data = code_files.read(save(tmp_path, pickle.dumps(field_rows())))
    assert [row[2] for row in in_order(data)] == [None] * 8
    assert not code_files.labelled(data)
    assert code_files.count(data) == 8


@pytest.mark.slow
@pytest.mark.parametrize("protocol", range(6))
def test_what_stands_in_many_places_is_read(protocol, tmp_path):
    """The same P under several m, the same row and the same height, as objects, not only as values."""
    wide, h = np.arange(1, 21).reshape(4, 5), 7.5
    rows = [[9, 4, m, wide] for m in range(1, 6)] * 500 + [[4, 2, 2, [[1, 2], [3, 4]]]] * 500
    pair = [pickle.dumps(part, protocol) for part in (rows, [h] * 3000)]
    data = code_files.read(save(tmp_path, *pair))
    assert [row[0] for row in in_order(data)] == [tuple(row[:3]) for row in rows]
    assert [row[1] for row in in_order(data)] == [np.asarray(row[3]).tolist() for row in rows]
    assert {row[2] for row in in_order(data)} == {h}


def test_numbers_as_python_2_wrote_them(tmp_path):
    """Bytes as text, beyond ASCII too."""
    content = P.astype("<i8") * -1
    state = b"(K\x01K\x02K\x02\x86cnumpy\ndtype\n(U\x02i8K\x00K\x01tR(K\x03U\x01<NNNI-1\nI-1\nK\x00tb\x89"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    row = b"\x80\x02](](K\x04K\x02K\x02" + made + state + b"U" + bytes([32]) + content.tobytes() + b"tbee."
    assert in_order(code_files.read(save(tmp_path, row))) == [((4, 2, 2), content.tolist(), None)]


@pytest.mark.parametrize(("stem", "rows", "lengths"), [("sample9-{}", 1001, [9]), ("sample21-{}.pkl", 1081, [9, 10])])
def test_shared_data(shared, stem, rows, lengths):
    paths = [shared / "data" / stem.format(part) for part in ("n_k_m_P", "mHeights")]
    data = code_files.read(paths)
    assert code_files.count(data) == rows
    assert code_files.labelled(data)
    assert sorted(data) == [(n, k, m) for n in lengths for k in (4, 5, 6) for m in range(2, n - k + 1)]
    trusted, heights = (pickle.loads(path.read_bytes()) for path in paths)
    assert in_order(data) == [
        ((n, k, m), matrix.astype(float).tolist(), h) for (n, k, m, matrix), h in zip(trusted, heights, strict=True)
    ]
    for group, codes in data.items():
        np.testing.assert_allclose(m_height(codes.P, group[2]), codes.h, rtol=1e-9)
    assert in_order(code_files.read(paths[::-1])) == in_order(data)


# writing


@pytest.fixture
def data(rng):
    """Three groups, rows shuffled, whole and real entries of all sizes, infinite heights, duplicates."""
    place = rng.permutation(30)
    found = {}
    for i, (n, k, m) in enumerate([(4, 2, 2), (7, 3, 4), (9, 6, 1)]):
        matrices = rng.integers(-100, 101, (10, k, n - k)).astype(float)
        matrices[3] = rng.normal(size=(k, n - k)) * 10.0 ** rng.integers(-30, 30, (k, n - k))
        matrices[4] *= 2.0**60
        matrices[5] = matrices[6]
        h = 1.0 + rng.exponential(10.0, 10) ** 4
        h[rng.integers(10, size=2)] = inf
        found[n, k, m] = Codes(matrices, place[10 * i : 10 * i + 10], h)
    return found


def write_pair(path, data):
    heights = path.with_name("heights")
    code_files.write_pair(path, heights if code_files.labelled(data) else None, data)
    return [path, heights] if code_files.labelled(data) else [path]


def write_json(path, data):
    code_files.write_json(path, data)
    return [path]


def write_npz(path, data):
    code_files.write_npz(path, data.items())
    return [path]


WRITERS = [write_pair, write_json, write_npz]


def test_round_trips_keep_rows_order_and_infinities(data, tmp_path):
    rows = in_order(data)
    assert sum(row[2] == inf for row in rows) >= 3
    for i, writers in enumerate(itertools.permutations(WRITERS)):
        found = data
        for writer in writers:
            found = code_files.read(writer(tmp_path / f"{writer.__name__}{i}", found))
            assert in_order(found) == rows


@pytest.mark.parametrize("writer", WRITERS)
def test_round_trip_without_heights(writer, data, tmp_path):
    plain = {group: Codes(codes.P, codes.row, None) for group, codes in data.items()}
    assert in_order(code_files.read(writer(tmp_path / "file", plain))) == in_order(plain)


@pytest.mark.parametrize("writer", WRITERS)
def test_the_same_data_is_the_same_bytes(writer, data, tmp_path):
    one, two = writer(tmp_path / "one", data), writer(tmp_path / "two", data)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_written_pickles_are_the_fields(data, tmp_path):
    rows, heights = (pickle.loads(path.read_bytes()) for path in write_pair(tmp_path / "rows", data))
    assert all(type(row) is list and [type(x) for x in row] == [int, int, int, np.ndarray] for row in rows)
    assert {row[3].dtype for row in rows} == {np.dtype(np.int64), np.dtype(np.float64)}
    assert all(type(h) is float for h in heights)
    assert [
        ((n, k, m), matrix.astype(float).tolist(), h) for (n, k, m, matrix), h in zip(rows, heights, strict=True)
    ] == (in_order(data))


def test_written_json_is_strict_and_has_null_for_infinity(data, tmp_path):
    text = write_json(tmp_path / "file", data)[0].read_text()
    plain = json.loads(text, parse_constant=pytest.fail)
    heights = [inf if h is None else h for h in plain["heights"]]
    assert [((n, k, m), matrix, h) for (n, k, m, matrix), h in zip(plain["rows"], heights, strict=True)] == in_order(
        data
    )


def test_written_npz_is_plain_and_holds_no_clock(data, tmp_path):
    [path] = write_npz(tmp_path / "file", data)
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays.files) == {f"{n}_{k}_{m}/{part}" for n, k, m in data for part in ("P", "row", "h")}
        for (n, k, m), codes in data.items():
            for part in ("P", "row", "h"):
                assert np.array_equal(arrays[f"{n}_{k}_{m}/{part}"], getattr(codes, part))
    with zipfile.ZipFile(path) as archive:
        assert {part.date_time for part in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_whole_matrices_are_stored_small(tmp_path):
    for largest, dtype in [(1, "i1"), (127, "i1"), (128, "i2"), (32768, "i4"), (2.0**31, "f8"), (0.5, "f8")]:
        codes = Codes(np.full((1, 2, 2), -float(largest)), np.array([0]), None)
        [path] = write_npz(tmp_path / "file", {(4, 2, 2): codes})
        with np.load(path) as arrays:
            assert arrays["4_2_2/P"].dtype == dtype
            assert np.array_equal(arrays["4_2_2/P"], codes.P)


def test_null_is_an_infinite_height(tmp_path):
    data = code_files.read(save(tmp_path, {"rows": [[4, 2, 2, [[1, 1], [1, 2]]]] * 2, "heights": [None, 3]}))
    assert data[4, 2, 2].h.tolist() == [inf, 3.0]


def test_standard_input(tmp_path, monkeypatch, data):
    content = write_npz(tmp_path / "file", data)[0].read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert in_order(code_files.read(["-"])) == in_order(data)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(data, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted():
        yield next(iter(data.items()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        code_files.write_npz(path, interrupted())
    with pytest.raises(FolderError, match="cannot write"):
        code_files.write_npz(tmp_path / "missing" / "file", data.items())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_a_pair_is_replaced_whole_or_not_at_all(data, tmp_path, monkeypatch):
    """New rows beside old heights would be a file of wrong labels."""
    paths = write_pair(tmp_path / "rows", data)
    old = [path.read_bytes() for path in paths]
    synced = iter([None, OSError(28, "No space left on device")])

    def fsync(handle):
        if error := next(synced):
            raise error

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FolderError, match="No space left"):
        write_pair(tmp_path / "rows", {group: Codes(-c.P, c.row, 2 * c.h) for group, c in data.items()})
    assert [path.read_bytes() for path in paths] == old
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_refuse_existing(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    code_files.refuse_existing([tmp_path / "new"], force=False)
    code_files.refuse_existing([tmp_path / "file", tmp_path / "new"], force=True)
    for name, force in [("file", False), ("folder", False), ("folder", True), ("missing/file", True)]:
        with pytest.raises(DataError, match=name.split("/")[0]):
            code_files.refuse_existing([tmp_path / "new", tmp_path / name], force=force)


# strangers' pickles


class Call:
    """Pickles as the call of any function on any arguments, with a state when given."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


CODE = {
    "os.system": lambda path: Call(os.system, f"touch {path}"),
    "eval": lambda path: Call(eval, f"open({str(path)!r}, 'w')"),
    "exec": lambda path: Call(exec, f"open({str(path)!r}, 'w')"),
    "open": lambda path: Call(open, str(path), "w"),
    "Popen": lambda path: Call(subprocess.Popen, ["touch", str(path)]),
    "getattr": lambda path: Call(getattr, path, "touch"),
    "numpy.save": lambda path: Call(np.save, str(path), P),
    "numpy.memmap": lambda path: Call(np.memmap, str(path), "u1", "w+", 0, (9,)),
    "numpy.load": lambda path: Call(np.load, str(path.with_name("file0"))),
    "numpy.testing": lambda path: Call(np.testing.assert_equal, 1, 1),
}
"""Each calls a function that a file of codes has no need of, most of them to make a file at `path`."""


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", CODE)
def test_no_code_is_run(name, protocol, tmp_path):
    """By GLOBAL in protocols 0 and 2, by STACK_GLOBAL in 4; in place of a row, of P, of a height."""
    hostile = CODE[name](tmp_path / "made")
    for contents in [[[hostile]], [[[4, 2, 2, hostile]]], [[ROW, hostile], [3.0, 3.0]], [[ROW], [hostile]]]:
        message = refusal(save(tmp_path, *(pickle.dumps(content, protocol) for content in contents)))
        assert "only lists, numbers and arrays are read" in message
    assert not (tmp_path / "made").exists()


def test_no_code_is_run_by_old_opcodes(tmp_path):
    touch = f"touch {tmp_path / 'made'}".encode()
    for content, refused in [
        (b"(lp0\ncos\nsystem\n(S'" + touch + b"'\ntRa.", "system"),  # GLOBAL, REDUCE
        (b"(lp0\n(S'" + touch + b"'\nios\nsystem\na.", "INST"),
        (b"(lp0\n(cnumpy\nndarray\nS'" + touch + b"'\noa.", "OBJ"),
        (b"\x80\x02]cnumpy\nndarray\n(" + text(touch) + b"t\x81a.", "NEWOBJ"),
    ]:
        assert refused in refusal(save(tmp_path, content))
    assert not (tmp_path / "made").exists()


def text(content):
    """A string's opcode."""
    return b"X" + struct.pack("<I", len(content)) + content


def by_name(module, name):
    """A list of one thing found by name, in protocol 4."""
    return b"\x80\x04]" + text(module) + text(name) + b"\x93a."


@pytest.mark.parametrize("module", [b"numpy", b"numpy.core.multiarray", b"numpy._core.numeric", b"numpy.lib.npyio"])
@pytest.mark.parametrize("name", [b"load", b"fromfile", b"memmap", b"set_typeDict", b"__builtins__", b"dtype.type"])
def test_numpys_other_names_are_refused(module, name, tmp_path):
    message = refusal(save(tmp_path, by_name(module, name)))
    assert module.decode() in message
    assert name.decode() in message


@pytest.mark.parametrize(
    "module",
    [b"os\nTraceback (most recent call last):", b"\x1b[2Jos", b"x" * 100_000],
    ids=["lines", "terminal", "long"],
)
def test_a_message_is_not_for_strangers_to_write(module, tmp_path):
    refusal(save(tmp_path, by_name(module, b"system")))


@pytest.mark.parametrize("name", ["rows", "P", "heights"])
def test_object_arrays_are_refused(name, tmp_path):
    objects = {
        "rows": [np.array([4, 2, 2, [[1, 1], [1, 2]]], object)],
        "P": [[4, 2, 2, P.astype(object)]],
        "heights": np.array([3.0], object),
    }
    contents = [[ROW], objects[name]] if name == "heights" else [objects[name]]
    assert "dtype" in refusal(save(tmp_path, *map(pickle.dumps, contents)))


def nested(depth):
    """The opcodes of a list in a list in a list, which pickle itself could not write."""
    return b"](" * depth + b"K\x01" + b"e" * depth


def long(number):
    content = pickle.encode_long(number)
    return b"\x8b" + struct.pack("<i", len(content)) + content


def row_of(n=b"K\x04", k=b"K\x02", m=b"K\x02", matrix=b"](](K\x01K\x01e](K\x01K\x02ee"):
    """A pickle of one row, from opcodes."""
    return b"\x80\x04](](" + n + k + m + matrix + b"ee."


def matrix_of(shape, content, dtype=b"(X\x02\x00\x00\x00f8K\x00K\x01t"):
    """The opcodes of an array with that shape, which is anything, and no byte order of its own."""
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    return made + b"(K\x01" + shape + b"cnumpy\ndtype\n" + dtype + b"R\x89" + content + b"tb"


BROKEN_PICKLES = {
    "no list": pickle.dumps(3),
    "nothing": pickle.dumps(None),
    "dict": pickle.dumps({"rows": [ROW]}),
    "set": pickle.dumps({1, 2}),
    "heights alone": pickle.dumps([3.0]),
    "numpy string": pickle.dumps([np.str_("x")]),
    "records": pickle.dumps([[4, 2, 2, np.zeros((2, 2), "f8,f8")]]),
    "dates": pickle.dumps([[4, 2, 2, np.zeros((2, 2), "M8[s]")]]),
    "persistent id": b"\x80\x04]K\x01Qa.",
    "extension": b"\x80\x04]\x82\x01a.",
    "out of band": b"\x80\x05]\x97a.",
    "unknown opcode": b"\x80\x04\xff.",
    "new object": row_of(matrix=b"cnumpy\nndarray\n)\x81"),
    "array without a state": row_of(matrix=b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"),
    "class for a matrix": row_of(matrix=b"cnumpy\nndarray\n"),
    "function for n": row_of(n=b"cnumpy.core.multiarray\nscalar\n"),
    "frozen set": pickle.dumps([[4, 2, 2, frozenset([1])]]),
    "taken away": b"\x80\x04]K\x010.",
    "put into an array": row_of(matrix=matrix_of(b"(K\x01t", b"C\x08" + bytes(8)) + b"K\x01a"),
    "key for a list": b"\x80\x04]K\x01K\x02s.",
    "unknown protocol": b"\x80\xff].",
    "empty stack": b"\x80\x04.",
    "no end": b"\x80\x04](K\x01",
    "bytes of 1e15": b"\x80\x04]\x8e" + struct.pack("<Q", 10**15) + b"a.",
    "bytearray of 1e15": b"\x80\x05]\x96" + struct.pack("<Q", 10**15) + b"a.",
    "deep rows": b"\x80\x04" + nested(10_000) + b".",
    "deep n": row_of(n=nested(10_000)),
    "deep k": row_of(k=nested(10_000)),
    "deep m": row_of(m=nested(10_000)),
    "deep P": row_of(matrix=nested(10_000)),
    "endless n": row_of(n=long(10**5000)),
    "endless k": row_of(k=long(-(10**5000))),
    "endless m": row_of(m=long(10**5000)),
    "endless P": row_of(matrix=b"](](" + 2 * long(10**5000) + b"e](" + 2 * long(1) + b"ee"),
    "state of a function": pickle.dumps(np.dtype, 2)[:-1]
    + pickle.dumps((None, {"__defaults__": (1,)}), 2)[2:-1]
    + b"b.",
    "state of dtype": pickle.dumps(
        [[4, 2, 2, Call(np.ndarray, (2, 2), Call(np.dtype, ">f8", state=(3, ">", None, None, None, -1, -1, 255)))]]
    ),
    "array of None": pickle.dumps([[4, 2, 2, Call(np.ndarray, (2, 2), "O")]]),
    "array of text": pickle.dumps([[4, 2, 2, Call(np.ndarray, (2, 2), "U5")]]),
}


@pytest.mark.parametrize("name", BROKEN_PICKLES)
def test_broken_pickles(name, tmp_path):
    refusal(save(tmp_path, BROKEN_PICKLES[name]))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_cut_pickles(protocol, tmp_path, capfd):
    """At every length, and nothing but our own error is told."""
    whole = pickle.dumps([[4, 2, np.int64(2), P]], protocol)
    for length in range(1, len(whole)):
        refusal(save(tmp_path, whole[:length]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"\n", b"hello", bytes(9), b"\xff" * 9, b"4,2,2,1,1,1,2\n"])
def test_neither_pickle_nor_npz_nor_json(content, tmp_path):
    refusal(save(tmp_path, content))
    refusal(save(tmp_path, pickle.dumps([ROW]), content)[1:])


def test_random_bytes(tmp_path, rng):
    for start in (b"", b"PK", b"PK\x03\x04", b"[", b"{"):
        for _ in range(20):
            refusal(save(tmp_path, start + rng.bytes(int(rng.integers(1, 300)))))


def test_unreadable_paths(tmp_path):
    for path in (tmp_path, tmp_path / "missing", tmp_path / "missing" / "file"):
        assert "cannot read" in refusal([path])
    for paths in ([], ["a", "b", "c"]):
        with pytest.raises(DataError, match="one file"):
            code_files.read(paths)


def test_pairs_that_are_none(tmp_path):
    rows, heights = pickle.dumps([ROW]), pickle.dumps([3.0])
    for pair in [(rows, rows), (heights, heights), (rows, b"[3.0]"), (rows, b"PK"), (b"[]", b"[]")]:
        refusal(save(tmp_path, *pair))


# rows and heights that break a rule

BAD_ROWS = {
    "three entries": [4, 2, 2],
    "five entries": [4, 2, 2, [[1, 1], [1, 2]], 3.0],
    "text": "4221",
    "a number": 4,
    "null": None,
    "n real": [4.0, 2, 2, [[1, 1], [1, 2]]],
    "n text": ["4", 2, 2, [[1, 1], [1, 2]]],
    "n bool": [True, 2, 2, [[1, 1], [1, 2]]],
    "m real": [4, 2, 2.0, [[1, 1], [1, 2]]],
    "n too small": [3, 2, 1, [[1, 1], [1, 2]]],
    "n too large": [5, 2, 2, [[1, 1], [1, 2]]],
    "k = 0": [2, 0, 1, []],
    "k = n": [2, 2, 1, [[1, 1], [1, 2]]],
    "k < 0": [2, -2, 1, [[1, 1], [1, 2]]],
    "m = 0": [4, 2, 0, [[1, 1], [1, 2]]],
    "m < 0": [4, 2, -1, [[1, 1], [1, 2]]],
    "m > n - k": [4, 2, 3, [[1, 1], [1, 2]]],
    "m = n": [4, 2, 4, [[1, 1], [1, 2]]],
    "m huge": [4, 2, 10**30, [[1, 1], [1, 2]]],
    "n huge": [10**4000, 2, 2, [[1, 1], [1, 2]]],
    "long code": [65, 2, 2, [[1] * 63] * 2],
    "ragged": [4, 2, 2, [[1, 1], [1]]],
    "transposed": [5, 2, 2, [[1, 1], [1, 2], [1, 3]]],
    "flat": [4, 2, 2, [1, 1, 1, 2]],
    "batch": [4, 2, 2, [[[1, 1], [1, 2]]]],
    "empty": [4, 2, 2, []],
    "empty rows": [4, 2, 2, [[], []]],
    "no matrix": [4, 2, 2, 1],
    "dict": [4, 2, 2, {"0": [1, 1], "1": [1, 2]}],
    "entry text": [4, 2, 2, [["1", "1"], ["1", "2"]]],
    "entry long text": [4, 2, 2, [["x" * 100_000, None], [1, 2]]],
    "entry null": [4, 2, 2, [[1, None], [1, 2]]],
    "entry bool": [4, 2, 2, [[True, True], [True, False]]],
    "entry nan": [4, 2, 2, [[1, nan], [1, 2]]],
    "entry inf": [4, 2, 2, [[1, 1], [-inf, 2]]],
    "entry too large": [4, 2, 2, [[1e31, 1], [1, 2]]],
    "entry too small": [4, 2, 2, [[1, 1], [1e-37, 2]]],
    "entry huge": [4, 2, 2, [[10**400, 1], [1, 2]]],
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows(name, tmp_path):
    """The same rules in pickles and in JSON; the message says which row."""
    rows = [[4, 2, 2, [[1, 1], [1, 2]]], BAD_ROWS[name]]
    for content in (pickle.dumps(rows), rows, {"rows": rows, "heights": [3, 3]}):
        assert "row 1" in refusal(save(tmp_path, content))


def test_complex_entries(tmp_path):
    for matrix in (P + 0j, (P + 0j).tolist()):
        refusal(save(tmp_path, pickle.dumps([[4, 2, 2, matrix]])))


def test_a_huge_matrix_is_refused_before_it_is_copied():
    huge = np.broadcast_to(np.int8(1), (10**7, 10**7))
    for n, k in [(4, 2), (2 * 10**7, 10**7)]:
        with pytest.raises(DataError, match="row 0"):
            code_files.from_rows([[n, k, 2, huge]], None)


BAD_HEIGHTS = {
    "none": [],
    "too many": [3.0, 3.0, 3.0],
    "below 1": [3.0, 0.5],
    "zero": [3.0, 0],
    "negative": [3.0, -3.0],
    "-inf": [3.0, -inf],
    "nan": [3.0, nan],
    "text": [3.0, "3.0"],
    "all text": ["3.0", "3.0"],
    "bool": [3.0, True],
    "lists": [[3.0], [3.0]],
    "ragged": [3.0, [3.0]],
    "dict": [3.0, {}],
    "huge": [3.0, 10**400],
}


@pytest.mark.parametrize("name", BAD_HEIGHTS)
def test_bad_heights(name, tmp_path):
    rows, heights = [[4, 2, 2, [[1, 1], [1, 2]]]] * 2, BAD_HEIGHTS[name]
    refusal(save(tmp_path, pickle.dumps(rows), pickle.dumps(heights)))
    refusal(save(tmp_path, {"rows": rows, "heights": heights}))


@pytest.mark.parametrize(
    "heights", [3.0, None, "33", {0: 3.0, 1: 3.0}, np.array(3.0), np.ones((2, 1)), [b"3", b"3"], [3.0, 1j]], ids=repr
)
def test_heights_that_are_no_list_of_numbers(heights, tmp_path):
    refusal(save(tmp_path, pickle.dumps([ROW, ROW]), pickle.dumps(heights)))


# what is meant otherwise

WIDE = np.arange(1, 21).reshape(4, 5)
DICTS = {
    "tuples": ({(9, 4, 2): WIDE, (9, 4, 3): WIDE}, ["dict of 2 keys", "(9, 4, 2): an array 4 x 5", "[*key, P]"]),
    "text": ({"[9, 4, 2]": WIDE}, ["dict of 1 key,", "'[9, 4, 2]'", "literal_eval(key), P]"]),
    "heights": ({(9, 4, 2): 8.5}, ["(9, 4, 2): 8.5", "[heights[key] for key in matrices]"]),
    "settings": ({"setting1": WIDE}, ["'setting1': an array 4 x 5", "numpy.save('G.npy'"]),
    "nothing": ({}, ["empty dict"]),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", DICTS)
def test_dicts_are_named(name, protocol, tmp_path):
    value, words = DICTS[name]
    content = pickle.dumps(value, protocol)
    for contents in ([content], [content, pickle.dumps({(9, 4, 2): 8.5})], [pickle.dumps([ROW]), content]):
        message = refusal(save(tmp_path, *contents))
        assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("start", "tool"),
    [(b"\x1f\x8b\x08", "gzip"), (b"BZh9", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"\x28\xb5\x2f\xfd", "zstd")],
)
def test_packed_files_are_named(start, tool, tmp_path):
    assert f"packed by {tool}: unpack it first, {tool} -d" in refusal(save(tmp_path, start + bytes(50)))


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (WIDE.T, "is it transposed?"),
        (np.hstack([np.eye(4), WIDE]), "a generator's shape: give P of [I | P], as moe_mheight.systematic(G)"),
        (
            np.hstack([WIDE.T, np.eye(5)]),
            "a parity check's shape: give P of [I | P], as moe_mheight.from_parity_check(H)",
        ),
    ],
)
def test_other_matrices_are_named(matrix, words, tmp_path):
    for value in (matrix, matrix.tolist()):
        assert words in refusal(save(tmp_path, pickle.dumps([[9, 4, 2, WIDE], [9, 4, 2, value]])))
    assert words in refusal(save(tmp_path, [[9, 4, 2, matrix.tolist()]]))
    assert words in refusal(
        save(tmp_path, archive({"9_4_2/P.npy": npy(shape=(1, *matrix.shape), content=matrix.astype(float).tobytes())}))
    )


def test_rows_of_json_objects_are_named(tmp_path):
    row = {"code": "(9,4,2)", "lp_m_height": 8.1, "matrix": WIDE.tolist(), "rank": 4}
    assert "row 0: must be [n, k, m, P], got {'code'" in refusal(save(tmp_path, [row]))
    assert "twice" in refusal(save(tmp_path, b'{"rows": [[4, 2, 2, [[1, 1], [1, 2]]]], "rows": []}'))
    assert "['9_4_2']" in refusal(save(tmp_path, {"9_4_2": WIDE.tolist()}))


def test_columns_of_zeros_are_told_once_a_file(tmp_path):
    zero = WIDE * [1, 1, 0, 1, 1]
    rows = [[9, 4, 2, WIDE], [4, 2, 2, P], [9, 4, 3, zero], [9, 4, 2, zero]]
    with pytest.warns(UserWarning, match="zeros") as told:
        code_files.read(save(tmp_path, pickle.dumps(rows)))
    [message] = [str(warning.message) for warning in told]
    assert "column of zeros in 2 of 4 rows, the first in row 2, column 2 (counted from 0)" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code_files.read(save(tmp_path, pickle.dumps([*rows[:2], [9, 4, 2, WIDE * [[1], [0], [1], [1]]]])))


# strangers' JSON


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"{}",
        b'{"rows": 3}',
        b'{"rows": {}, "heights": []}',
        b'{"rows": [], "heights": 3}',
        b"[[]]",
        b"[[4, 2, 2, [[1, 1], [1, 2]]]] and more",
        b"[[4, 2, 2, [[1, 1], [1, 2",
        b'["\xff"]',
        b"[[4, 2, 2, [[1, NaN], [1, 2]]]]",
        b"[[4, 2, 2, [[1, Infinity], [1, 2]]]]",
        b'{"rows": [[4, 2, 2, [[1, 1], [1, 2]]]], "heights": [NaN]}',
        b'{"rows": [[4, 2, 2, [[1, 1], [1, 2]]]], "heights": [-Infinity]}',
        b"[" * 100_000,
        b"[[4, 2, 2, " + b"[" * 500 + b"]" * 500 + b"]]",
        b"[[1" + b"0" * 5000 + b", 2, 2, [[1, 1], [1, 2]]]]",
    ],
)
def test_broken_json(content, tmp_path):
    refusal(save(tmp_path, content))


# strangers' archives


def npz(**arrays):
    """An archive whose arrays for one group are right, but for those given; None leaves one out."""
    whole = {"P": np.array([P, P]), "h": np.array([3.0, 3.0]), "row": np.array([0, 1])} | arrays
    content = io.BytesIO()
    np.savez(content, **{f"4_2_2/{key}": array for key, array in whole.items() if array is not None})
    return content.getvalue()


def archive(members, method=zipfile.ZIP_STORED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method, compresslevel=1) as parts:
        for name, part in members.items():
            parts.writestr(name, part)
    return content.getvalue()


def npy(descr="<f8", shape="(2, 2, 2)", rest="", content=bytes(64)):
    """An array as bytes, its header as claimed."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, {rest}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def patched(content, *changes):
    """Bytes changed in a member's own header and in the archive's list: (offset there, offset here, value)."""
    content = bytearray(content)
    listed = content.find(b"PK\x01\x02")
    for local, central, value in changes:
        content[local] = content[listed + central] = value
    return bytes(content)


BAD_NPZ = {
    "empty archive": archive({}),
    "nothing of ours": archive({"readme.txt": b"hello"}),
    "cut": npz()[:-30],
    "start only": b"PK\x03\x04",
    "P object": npz(P=np.array([P, P], object)),
    "P text": npz(P=np.full((2, 2, 2), "1")),
    "P complex": npz(P=np.array([P, P]) + 0j),
    "P bool": npz(P=np.array([P, P]) > 1),
    "P nan": npz(P=np.full((2, 2, 2), nan)),
    "P one matrix": npz(P=P),
    "P shape": npz(P=np.ones((2, 3, 2))),
    "P records": npz(P=np.zeros((2, 2, 2), "f8,f8")),
    "P none": npz(P=np.empty((0, 2, 2))),
    "P left out": npz(P=None),
    "h short": npz(h=np.array([3.0])),
    "h one number": npz(h=np.array(3.0)),
    "h table": npz(h=np.array([[3.0], [3.0]])),
    "h nan": npz(h=np.array([3.0, nan])),
    "h below 1": npz(h=np.array([3.0, 0.5])),
    "h text": npz(h=np.array(["3", "3"])),
    "h bool": npz(h=np.array([True, True])),
    "h complex": npz(h=np.array([3 + 1j, 3])),
    "h dates": npz(h=np.array(["2020-01-01"] * 2, "M8[D]")),
    "h records": npz(h=np.zeros(2, "f8,f8")),
    "row twice": npz(row=np.array([1, 1])),
    "row negative": npz(row=np.array([-1, 0])),
    "row beyond": npz(row=np.array([0, 2])),
    "row short": npz(row=np.array([0])),
    "row one number": npz(row=np.array(0)),
    "row table": npz(row=np.array([[0], [1]])),
    "row fraction": npz(row=np.array([0.4, 1.4])),
    "row nan": npz(row=np.array([0, nan])),
    "row text": npz(row=np.array(["a", "b"])),
    "row complex": npz(row=np.array([0, 1j])),
    "m = 0": archive({"4_2_0/P.npy": npy()}),
    "m > n - k": archive({"4_2_3/P.npy": npy()}),
    "n": archive({"5_2_2/P.npy": npy()}),
    "bzip2": archive({"4_2_2/P.npy": npy()}, zipfile.ZIP_BZIP2),
    "lzma": archive({"4_2_2/P.npy": npy()}, zipfile.ZIP_LZMA),
    "long code": archive({"65_2_2/P.npy": npy(shape="(2, 2, 63)", content=bytes(2016))}),
    "name": archive({"codes/P.npy": npy()}),
    "two names of one group": archive({"4_2_2/P.npy": npy(), "04_2_2/P.npy": npy()}),
    "no array": archive({"4_2_2/P.npy": b"hello"}),
    "no array, no suffix": archive({"4_2_2/P": b"hello"}),
    "h no array": archive({"4_2_2/P.npy": npy(), "4_2_2/h.npy": b"hi"}),
    "row no array": archive({"4_2_2/P.npy": npy(), "4_2_2/row.npy": b"hi"}),
    "header object": archive({"4_2_2/P.npy": npy(descr="|O")}),
    "header dtype": archive({"4_2_2/P.npy": npy(descr="nonsense")}),
    "header key": archive({"4_2_2/P.npy": npy(rest="'more': 1")}),
    "header long": archive({"4_2_2/P.npy": npy(rest=f"'more': '{'x' * 20_000}'")}),
    "header digits": archive({"4_2_2/P.npy": npy(shape=f"({'9' * 5000}, 2, 2)")}),
    "header negative": archive({"4_2_2/P.npy": npy(shape="(-2, 2, 2)")}),
    "header claims too much": archive({"4_2_2/P.npy": npy(shape="(3, 2, 2)")}),
    "encrypted": patched(archive({"4_2_2/P.npy": npy()}), (6, 8, 1)),
    "unknown compression": patched(archive({"4_2_2/P.npy": npy()}), (8, 10, 99)),
    "compression broken": patched(archive({"4_2_2/P.npy": npy()}, zipfile.ZIP_DEFLATED), (45, 0, 80)),
}


@pytest.mark.filterwarnings("error")  # a number that had to be bent is no number of ours
@pytest.mark.parametrize("name", BAD_NPZ)
def test_bad_npz(name, tmp_path):
    refusal(save(tmp_path, BAD_NPZ[name]))


def test_npz_needs_neither_heights_nor_rows(tmp_path):
    expected = [((4, 2, 2), P.tolist(), None)] * 2
    assert in_order(code_files.read(save(tmp_path, npz(h=None, row=None)))) == expected


# files that would take the machine down

GUARD = """
import json, os, resource, signal, sys
from pathlib import Path
from moe_mheight import DataError
from moe_mheight.data import code_files as files

def outcome(path):
    try:
        files.read([path])
    except DataError:
        return "refused"
    except BaseException as error:
        return repr(error)[:200]
    return "read"

for case in sorted(Path(sys.argv[1]).iterdir()):
    child = os.fork()
    if not child:
        usage = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        used, pages = usage(), int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 3 * 2**30,) * 2)
        signal.alarm(120)
        found = sorted({outcome(path) for path in case.iterdir()})
        print(json.dumps([case.name, found, usage() - used]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def sharing(depth, width):
    """The opcodes of a list of `width` references to a list of `width` references ... : width ** depth numbers."""
    lists = b"](" + b"K\x01" * width + b"e\x94"
    for level in range(depth - 1):
        lists = b"](" + lists + (b"h" + bytes([level])) * (width - 1) + b"e\x94"
    return lists


def many(opcodes, times):
    """A list of what those opcodes make and `times` references to it."""
    return b"\x80\x04](" + opcodes + b"q\x00" + b"h\x00" * times + b"e."


LONG_ROW = [64, 32, 1, np.ones((32, 32))]


BOMBS = {
    "array of 5e7 codes": pickle.dumps([[4, 2, 2, Call(np.ndarray, (50_000_000, 2, 2), "f8")]]),
    "array of 1e12": pickle.dumps([[4, 2, 2, Call(np.ndarray, (10**12, 2), "f8")]]),
    "array that repeats itself": pickle.dumps(
        [[4, 2, 2, Call(np.ndarray, (10**9, 2, 2), "f8", bytes(8), 0, (0, 0, 0))]]
    ),
    "state of 1e12": pickle.dumps([[4, 2, 2, P]]).replace(b"K\x02K\x02\x86", long(10**12) + b"K\x02\x86"),
    "lists in lists": row_of(matrix=sharing(9, 10)),
    "lists in lists for n": row_of(n=sharing(9, 10)),
    "lists in many lists": row_of(matrix=sharing(40, 2)),
    "list of itself": row_of(matrix=b"]\x94(h\x00h\x00e"),
    "memo": b"\x80\x04K\x01r" + struct.pack("<I", 50_000_000) + b".",
    "memo beyond": b"\x80\x04K\x01r" + struct.pack("<I", 2**31) + b".",
    "bytes of 4e9": b"\x80\x04]\x8e" + struct.pack("<Q", 4 * 10**9) + b"a.",
    "bytearray of 4e9": b"\x80\x05]\x96" + struct.pack("<Q", 4 * 10**9) + b"a.",
    "text of 4e9": b"\x80\x04]\x8d" + struct.pack("<Q", 4 * 10**9) + b"a.",
    "frame of 4e9": b"\x80\x04\x95" + struct.pack("<Q", 4 * 10**9) + b"K\x01.",
    "bytearray of 2e9": b"\x80\x05]\x96" + struct.pack("<Q", 2 * 10**9) + b"a.",
    "hash of deep tuples": b"\x80\x04})" + b"\x85" * 200_000 + b"K\x01s.",
    "hashes of deep tuples": b"\x80\x04}()" + b"\x85" * 200_000 + b"K\x01NK\x02u.",
    "deep tuple for a shape": row_of(matrix=matrix_of(b")" + b"\x85" * 200_000, b"C\x00")),
    "text for a length": row_of(matrix=matrix_of(b"(I300000000\nX\x01\x00\x00\x00at", b"C\x00")),
    "length below 0": row_of(matrix=matrix_of(b"(I-1\nI-1\nt", b"C\x08" + bytes(8))),
    "one row in 2e5 places": many(pickle.dumps(LONG_ROW, 2)[2:-1].replace(b"q\x00", b"", 1), 200_000),
    "lists in lists in lists": row_of(matrix=sharing(3, 4000)),
    "lists beside each other": row_of(matrix=b"](" + sharing(3, 4000) + b"h\x01h\x00e"),
    "heights in lists": b"\x80\x04](" + sharing(3, 4000) + b"e.",
    "text to bytes, often": b"\x80\x02](c_codecs\nencode\nq\x00("
    + text(b"a" * 10**6)
    + text(b"latin1")
    + b"tq\x01R"
    + b"h\x00h\x01R" * 200_000
    + b"e.",
    "text for an array, often": b"\x80\x02]("
    + matrix_of(b"(I1000000\nt", text(b"a" * 10**6), b"(U\x02u1t")[:-1]
    + b"q\x01b"
    + b"h\x01b" * 200_000
    + b"e.",
    "many arguments": b"\x80\x02](cnumpy\ndtype\nq\x00("
    + text(b"f8")
    + b"N" * 10**5
    + b"tq\x01R"
    + b"h\x00h\x01R" * 200_000
    + b"e.",
    "whole number of 1e6 bytes": row_of(n=b"\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6),
    "npz packed": archive(
        {"4_2_2/P.npy": npy("|i1", "(15000000, 2, 2)", content=bytes(6 * 10**7))}, zipfile.ZIP_DEFLATED
    ),
    "npz packed heights": archive(
        {"4_2_2/P.npy": npy(), "4_2_2/h.npy": npy("|i1", "(60000000,)", content=b"\x01" * 6 * 10**7)},
        zipfile.ZIP_DEFLATED,
    ),
    "npz header of 1e8": archive(
        {"4_2_2/P.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**27) + b" " * 2**27}, zipfile.ZIP_DEFLATED
    ),
    "npz of 1e12": archive({"4_2_2/P.npy": npy(shape="(1000000000000, 2, 2)")}),
    "npz of 1e8": archive({"4_2_2/P.npy": npy(shape="(100000000, 2, 2)")}),
    "npz of 2e62": archive({"4_2_2/P.npy": npy(shape="(4611686018427387904, 4, 4)")}),
    "npz of no bytes": archive({"4_2_2/P.npy": npy(descr="|V0", shape="(1000000000000, 2, 2)", content=b"")}),
}


@pytest.fixture(scope="module")
def survived(tmp_path_factory):
    """What became of each bomb, {name: (outcomes, megabytes)}, each read by a process with limits of its own."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("limits of memory as Linux has them")
    rng = np.random.default_rng(0)
    cases = {name: [content] for name, content in BOMBS.items()}
    for protocol in range(6):
        whole = pickle.dumps([*field_rows(), [4, 2, 2, P]], protocol)
        cases[f"damage {protocol}"] = [damage(whole, rng) for _ in range(300) for damage in (damaged, rearranged)]
    folder = tmp_path_factory.mktemp("bombs")
    for name, contents in cases.items():
        (folder / name).mkdir()
        save(folder / name, *contents)
    done = subprocess.run([sys.executable, "-c", GUARD, folder], stdout=subprocess.PIPE, check=True)
    lines = map(json.loads, done.stdout.splitlines())
    return dict.fromkeys(cases, (["did not end"], 0)) | {name: (found, used) for name, found, used in lines}


def damaged(content, rng):
    """One to three bytes changed, now and then to a byte from elsewhere in the file."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        content[rng.integers(2, len(content))] = rng.choice([rng.integers(256), content[rng.integers(len(content))]])
    return bytes(content)


OPCODES = "".join(pickletools.code2op).encode("latin1")


def rearranged(content, rng):
    """One to three times: opcodes put in, left out, or a piece moved or repeated, but never the end."""
    for _ in range(rng.integers(1, 4)):
        at, to = (int(i) for i in rng.integers(2, len(content) - 1, 2))
        length = int(rng.integers(1, 30))
        new = rng.choice(list(OPCODES), int(rng.integers(1, 3))).astype(np.uint8).tobytes()
        piece = [new, content[to : to + length], b""][rng.integers(3)]
        content = content[:at] + piece + content[at + (length if rng.integers(2) else 0) :]
        content += b"." if len(content) < 4 else b""
    return content


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_does_not_cost_much(name, survived):
    outcomes, megabytes = survived[name]
    assert outcomes == ["refused"]
    assert megabytes < 100


@pytest.mark.parametrize("protocol", range(6))
def test_damaged_pickles(protocol, survived):
    outcomes, megabytes = survived[f"damage {protocol}"]
    assert set(outcomes) <= {"refused", "read"}
    assert megabytes < 100


def test_the_faults_that_were_found(shared, tmp_path):
    """Each in a process of its own, with little memory."""
    faults = [path for path in (shared / "faults").glob("*") if path.suffix in (".pkl", ".npz")]
    if not faults or not Path("/proc/self/statm").exists():
        pytest.skip("needs the folder ../shared/faults, and limits of memory as Linux has them")
    for path in faults:
        (tmp_path / path.name).mkdir()
        (tmp_path / path.name / "file").write_bytes(path.read_bytes())
    done = subprocess.run([sys.executable, "-c", GUARD, tmp_path], stdout=subprocess.PIPE, check=True)
    found = {name: (outcomes, used < 100) for name, outcomes, used in map(json.loads, done.stdout.splitlines())}
    assert found == {path.name: (["refused"], True) for path in faults}


@pytest.mark.filterwarnings("ignore:Duplicate name", "ignore:.*encountered in cast", "ignore:.*column of zeros")
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_npz(method, tmp_path, rng):
    whole = archive({"4_2_2/P.npy": npy(), "4_2_2/h.npy": npy(shape="(2,)", content=np.ones(2).tobytes())}, method)
    assert code_files.count(code_files.read(save(tmp_path, whole))) == 2
    for _ in range(300):
        [path] = save(tmp_path, b"PK" + damaged(whole, rng)[2:])
        try:
            assert code_files.count(code_files.read([path])) <= 2
        except DataError:
            refusal([path])


# the peers' pair


def test_a_pair_is_what_the_peers_read(tmp_path):
    """By Python's own pickle: lists, and in a row three ints and an array; whole matrices of whole numbers."""
    P = {(4, 2, 1): np.array([[[1.0, 2], [3, 4]]]), (5, 2, 2): np.array([[[0.5, 1, 2], [3, 4, 5]]])}
    data = {
        group: Codes(matrices, np.array([i]), np.array([[2.5], [np.inf]][i]))
        for i, (group, matrices) in enumerate(P.items())
    }
    paths = code_files.pair_paths(tmp_path / "codes.pkl")
    assert [path.name for path in paths] == ["codes-n_k_m_P.pkl", "codes-mHeights.pkl"]
    code_files.write_pair(*paths, data)
    rows, heights = (pickle.loads(path.read_bytes()) for path in paths)
    assert heights == [2.5, np.inf]
    assert [type(height) for height in heights] == [float, float]
    assert [row[:3] for row in rows] == [[4, 2, 1], [5, 2, 2]]
    assert [(row[3].dtype.kind, row[3].tolist()) for row in rows] == [
        ("i", [[1, 2], [3, 4]]),
        ("f", [[0.5, 1, 2], [3, 4, 5]]),
    ]
    back = code_files.read(paths)
    assert set(back) == set(data)
    for group, codes in back.items():
        assert np.array_equal(codes.P, data[group].P)
        assert np.array_equal(codes.row, data[group].row)
        assert np.array_equal(codes.h, data[group].h)


def test_a_pair_without_heights(tmp_path):
    data = {(4, 2, 1): Codes(np.ones((1, 2, 2)), np.arange(1), None)}
    with pytest.raises(DataError, match="no heights to write to"):
        code_files.write_pair(*code_files.pair_paths(tmp_path / "codes"), data)
    assert not list(tmp_path.iterdir())
