"""Reading and writing files of codes: the field's pickle pairs, .npz and .json.

The field's format is two pickles: a list of rows [n, k, m, P] and a list of heights in the same order; `pickles` says
how those of strangers are read.

An .npz holds, for each group, `9_4_2/P` (B, k, r), `9_4_2/h` (B,) when labelled and `9_4_2/row` (B,), the rows' places.
A .json holds {"rows": [[n, k, m, [[...], ...]], ...], "heights": [...]}, or just the list of rows; an infinite height
is null.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import groups
from .._io import replacing, restore
from ..codes.linear import check_P, check_row
from ..errors import CodeError, DataError, brief
from ..groups import group_name, parse_group
from ..numerics.bitsets import BITS
from . import array_files, safe_pickle

Group = groups.Group


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes of one group: P (B, k, r), their places in the file (B,), and heights (B,) when the file has labels."""

    P: NDArray[np.float64]
    row: NDArray[np.int64]
    h: NDArray[np.float64] | None


Data = dict[Group, Codes]
"""A file of codes, by group (n, k, m)."""


def count(data: Data) -> int:
    """Number of rows."""
    return sum(len(codes.P) for codes in data.values())


def labelled(data: Data) -> bool:
    """Whether every group has heights."""
    return bool(data) and all(codes.h is not None for codes in data.values())


def take(data: Data, rows: NDArray[np.int64]) -> Data:
    """Only those rows, renumbered in order."""
    place = np.full(max((int(codes.row.max()) for codes in data.values() if len(codes.row)), default=-1) + 1, -1)
    place[rows] = np.arange(len(rows))
    out = {}
    for group, codes in data.items():
        keep = place[codes.row] >= 0
        if keep.any():
            h = None if codes.h is None else codes.h[keep]
            out[group] = Codes(codes.P[keep], place[codes.row[keep]], h)
    return out


def silently(rows: int) -> None:
    """The `advance` of those who do not watch progress."""


def _is_rows(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], (list, tuple))


def from_rows(rows: Any, heights: Any, name: str = "rows") -> Data:
    """Rows [n, k, m, P], checked, by group.

    Raises:
        DataError: a row or a height breaks a rule; the message says which row.
    """
    if not isinstance(rows, (list, tuple)):
        raise DataError(
            f"{name} must be a list of rows [n, k, m, P] (matrices alone need m), got {type(rows).__name__}"
        )
    if not rows:
        raise DataError(f"{name} holds no rows")
    h = None if heights is None else _check_heights(heights, name)
    if h is not None and len(h) != len(rows):
        raise DataError(f"{name} has {len(rows)} rows but {len(h)} heights")
    gathered: dict[Group, tuple[list[int], list[NDArray[np.float64]]]] = {}
    for i, row in enumerate(rows):
        if isinstance(row, np.ndarray) and row.dtype == object and row.ndim == 1:
            row = row.tolist()  # noqa: PLW2901  a row of an array of rows
        if not isinstance(row, (list, tuple)) or len(row) != 4:
            raise DataError(f"{name}, row {i}: must be [n, k, m, P], got {_no_row(row)}")
        n, k, m, P = row
        try:
            matrix = check_row(n, k, m, safe_pickle.plain(P), max_n=BITS)
        except CodeError as error:
            raise DataError(f"{name}, row {i}: {error}{_meant(n, k, safe_pickle.plain(P))}") from error
        places, matrices = gathered.setdefault((int(n), int(k), int(m)), ([], []))
        places.append(i)
        matrices.append(matrix)
    return {
        group: Codes(np.stack(matrices), np.array(places), None if h is None else h[places])
        for group, (places, matrices) in sorted(gathered.items())
    }


def _no_row(row: Any) -> str:
    """What stands where a row should, and what it may have been meant for."""
    if isinstance(row, (int, float, np.number)):
        return f"{brief(row)}; are these the heights? The file of rows comes first"
    if isinstance(row, (list, tuple)) and row and all(isinstance(x, (int, float)) for x in row):
        return f"{len(row)} numbers; a matrix alone is for `mheight exact` and `mheight explain`, with --matrix and --m"
    if isinstance(row, (list, tuple)):
        return f"{type(row).__name__} of {len(row)}"
    return brief(row) if isinstance(row, (dict, safe_pickle.Dict, str)) or row is None else type(row).__name__


def _meant(n: Any, k: Any, P: Any) -> str:
    """A hint where the matrix of a row has the shape of another one that is often meant."""
    if isinstance(P, (list, tuple)):
        shape: tuple[int, ...] = (len(P), len(P[0])) if P and isinstance(P[0], (list, tuple)) else ()
    else:
        shape = np.shape(P)[-2:]
    if not (isinstance(n, (int, np.integer)) and isinstance(k, (int, np.integer)) and 0 < k < n):
        return ""
    if shape == (k, n):
        return "; that is a generator's shape: give P of [I | P], as moe_mheight.systematic(G) returns it"
    if shape == (n - k, n):
        return "; that is a parity check's shape: give P of [I | P], as moe_mheight.from_parity_check(H) returns it"
    return "; is it transposed?" if shape == (n - k, k) and n != 2 * k else ""


def _check_heights(heights: Any, name: str) -> NDArray[np.float64]:
    if isinstance(heights, np.ndarray):
        if heights.ndim != 1 or heights.dtype.kind not in "iuf":
            raise DataError(f"{name}: heights must be one number a row, got {heights.dtype} {heights.shape}")
        if (heights >= 1.0 - 1e-9).all():
            return heights.astype(np.float64)
        heights = heights[: np.argmin(heights >= 1.0 - 1e-9) + 1].tolist()
    h = np.empty(len(heights))
    for i, value in enumerate(heights):
        number = np.inf if value is None else value
        right = isinstance(number, (int, float, np.integer, np.floating)) and not isinstance(number, bool)
        if not right or (isinstance(number, int) and number.bit_length() > 1000) or not float(number) >= 1.0 - 1e-9:
            raise DataError(f"{name}, row {i}: a height is a number >= 1 or infinite, got {brief(value)}")
        h[i] = number
    return h


def read(paths: Sequence[str | Path]) -> Data:
    """Codes from a pair of pickles, rows and heights in either order, from one pickle of rows, an .npz or a .json.

    Args:
        paths: one or two; "-" is standard input. The format is told by content, not by name.

    Raises:
        DataError: unreadable, hostile or broken files; one line that says what and where.
    """
    if not 1 <= len(paths) <= 2:
        raise DataError(f"give one file, or the two files of a pair, got {len(paths)}")
    for folder in {Path(path).parent for path in paths if str(path) != "-" and not Path(path).exists()}:
        restore(folder)  # a pair that a killed process has half replaced
    data = _read([(str(path), _bytes(path)) for path in paths])
    _remark_zero_columns(data, str(paths[0]))
    return data


def _read(contents: list[tuple[str, bytes]]) -> Data:
    kinds = {_kind(content, name) for name, content in contents}
    if len(contents) == 1 and kinds == {"npz"}:
        return from_npz(contents[0][1], contents[0][0])
    if len(contents) == 1 and kinds == {"json"}:
        return _from_json(contents[0][1], contents[0][0])
    if kinds != {"pickle"}:
        names, formats = " and ".join(name for name, _ in contents), " and ".join(sorted(kinds))
        raise DataError(f"{names}: a pair must be two pickles, got {formats}")
    values = [(name, safe_pickle.load(content, name)) for name, content in contents]
    for name, value in values:
        if isinstance(value, safe_pickle.Dict):
            raise DataError(f"{name} holds {_of_dict(value)}")
    rows = [(name, value) for name, value in values if _is_rows(value) or (isinstance(value, list) and not value)]
    heights = [(name, value) for name, value in values if not _is_rows(value)]
    if len(values) == 1:
        return from_rows(values[0][1], None, values[0][0])
    if not rows or not heights:
        raise DataError(f"{values[0][0]} and {values[1][0]}: one must hold rows [n, k, m, P], the other their heights")
    labels = next((v for name, v in heights if name != rows[0][0]), heights[0][1])
    if not isinstance(labels, (list, tuple, np.ndarray)):
        raise DataError(f"{heights[0][0]} must hold a list of heights, got {type(labels).__name__}")
    return from_rows(rows[0][1], labels, rows[0][0])


def _of_dict(value: safe_pickle.Dict) -> str:
    """What a dict holds, and how it becomes the lists that are read: keys (n, k, m), the same as text, or others."""
    if not value.pairs:
        return "an empty dict; a list of rows [n, k, m, P] is read"
    key, first = value.pairs[0]
    what = f"{value!r}, the first {brief(key)}: {brief(first)}; a list of rows [n, k, m, P] is read"
    spelled = isinstance(key, str) and re.fullmatch(r"[\[(]\d+, *\d+, *\d+[\])]", key)
    if spelled or (isinstance(key, tuple) and len(key) == 3 and all(isinstance(x, int) for x in key)):
        group = "*ast.literal_eval(key)" if spelled else "*key"
        return (
            f"{what}, and beside it a list of heights in the same order: pickle [[{group}, P] for key, P in "
            "matrices.items()] and [heights[key] for key in matrices]"
        )
    of_lists = isinstance(first, list) and first and type(first[0]) is list
    if isinstance(safe_pickle.plain(first), np.ndarray) or of_lists:
        what += f"; for one matrix of these, numpy.save('G.npy', the_dict[{brief(key)}]) and `mheight exact G.npy`"
    return what


def not_one_matrix(content: bytes, name: str) -> str:
    """What a pickle holds that was given for the matrix of one code, and what to do with it."""
    value = safe_pickle.load(content, name)
    if isinstance(value, safe_pickle.Dict):
        return _of_dict(value)
    if _is_rows(value) and len(value[0]) == 4:
        return "rows [n, k, m, P] of many codes: leave out --m and --matrix, which are for a matrix alone"
    got = f"an array {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
    return f"{got} as a pickle; a matrix alone is read from text, .mtx, .json, .npz or, with numpy.save, from .npy"


def _remark_zero_columns(data: Data, name: str) -> None:
    """Warn, once a file, of coordinates that are zero in every codeword: they help nothing."""
    rows, first = 0, (sys.maxsize, 0)
    for codes in data.values():
        zero = codes.P[:, 0] == 0
        for i in range(1, codes.P.shape[1]):
            zero &= codes.P[:, i] == 0
        at = np.flatnonzero(zero.any(axis=1))
        if len(at):
            place = at[codes.row[at].argmin()]
            rows, first = rows + len(at), min(first, (int(codes.row[place]), int(zero[place].argmax())))
    if rows:
        warnings.warn(
            f"{name}: P has a column of zeros in {rows:,} of {count(data):,} rows, the first in row {first[0]}, column "
            f"{first[1]} (counted from 0): such a coordinate is 0 in every codeword",
            stacklevel=3,
        )


def _bytes(path: str | Path) -> bytes:
    """All of a file, unless its beginning says that it is of no kind that is read."""
    try:
        if str(path) == "-":
            return _whole(sys.stdin.buffer, "-")
        with open(path, "rb") as handle:
            return _whole(handle, str(path))
    except (OSError, ValueError) as error:  # a ValueError for a NUL in the name
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or brief(error)}") from error


def _whole(handle: BinaryIO, name: str) -> bytes:
    start = handle.read(HEAD)
    _kind(start, name)
    return start + handle.read()


HEAD = 4096
"""Bytes that tell what a file is."""

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""How packed files begin, and who unpacks them."""


def refuse_packed(content: bytes, name: str) -> None:
    """Refuse what has to be unpacked first."""
    for start, tool in PACKED.items():
        if content.startswith(start):
            raise DataError(f"{name} is packed by {tool}: unpack it first, {tool} -d, and give the file that comes out")


def _kind(content: bytes, name: str) -> str:
    if not content:
        raise DataError(f"{name} is empty")
    refuse_packed(content, name)
    if content[:2] == b"PK":
        return "npz"
    if content[:HEAD].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return "json"
    if content[:1] in b"\x80(]}lcd":
        return "pickle"
    raise DataError(
        f"{name} is neither a pickle, an .npz nor a .json of codes; a matrix alone is for "
        "`mheight exact` and `mheight explain`, with --matrix and --m"
    )


def _from_json(content: bytes, name: str) -> Data:
    try:
        value = json.loads(content.decode("utf-8-sig"), object_pairs_hook=named_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not valid JSON: {brief(error)}") from error
    if isinstance(value, list):
        return from_rows(value, None, name)
    if not isinstance(value, dict) or not isinstance(value.get("rows"), list):
        got = f"keys {brief(list(value))}" if isinstance(value, dict) else brief(value)
        raise DataError(f'{name} must be a list of rows [n, k, m, P] or {{"rows": [...], "heights": [...]}}, got {got}')
    heights = value.get("heights")
    if heights is not None and not isinstance(heights, list):
        raise DataError(f"{name}: heights must be a list")
    return from_rows(value["rows"], heights, name)


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, unless it has two answers to one name."""
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError("an object has a key twice")
    return out


def from_npz(content: bytes, name: str) -> Data:
    """Codes from the bytes of an .npz; name is for messages.

    Raises:
        DataError: they are damaged, or hold no codes.
    """
    found = _npz_arrays(content, name)
    data: Data = {}
    total = 0
    for key in sorted(key for key in found if key.endswith("/P")):
        if not re.fullmatch(r"\d{1,3}_\d{1,3}_\d{1,3}/P", key):
            raise DataError(f"{name}: the array {brief(key)} is not named like 9_4_2/P")
        n, k, m = group = parse_group(key[:-2], "_")
        if found[key].ndim != 3:
            raise DataError(f"{name}, {key}: must have shape (B, k, n - k), got {found[key].shape}")
        if len(found[key]):
            try:
                check_row(n, k, m, found[key][0], max_n=BITS)
                P, _ = check_P(found[key], max_n=BITS)
            except CodeError as error:
                raise DataError(f"{name}, {key}: {error}{_meant(n, k, found[key])}") from error
            stem = key[:-2]
            h = _check_heights(found[f"{stem}/h"], f"{name}, {stem}/h") if f"{stem}/h" in found else None
            row = found.get(f"{stem}/row", np.arange(total, total + len(P)))
            if row.shape != (len(P),) or row.dtype.kind not in "iu" or (h is not None and len(h) != len(P)):
                raise DataError(f"{name}, {stem}: row must hold whole numbers, and P, h and row be of one length")
            data[group] = Codes(P, row.astype(np.int64), h)
            total += len(P)
    if not data:
        raise DataError(f"{name} holds no group of codes (arrays named like 9_4_2/P)")
    if len({codes.h is None for codes in data.values()}) > 1:
        raise DataError(f"{name} has heights for some groups and none for others")
    if not np.array_equal(np.sort(np.concatenate([codes.row for codes in data.values()])), np.arange(total)):
        raise DataError(f"{name}: the row numbers are not a permutation of 0..{total - 1}")
    return data


def _npz_arrays(content: bytes, name: str) -> dict[str, NDArray[Any]]:
    """The arrays that are ours, P, h and row, all of whose headers are looked at before any is unpacked."""
    found: dict[str, tuple[zipfile.ZipInfo, array_files.Header]] = {}
    with array_files.unpacking(content, name) as archive:
        for info in archive.infolist():
            if not re.search(r"/(P|h|row)\.npy$", info.filename):
                continue
            inside = f"{name}, {brief(info.filename)}"
            if info.filename in found:
                raise DataError(f"{inside}: is there twice")
            shape, dtype = array_files.promised(archive, info, inside)
            if dtype.kind not in "iuf" or len(shape) > 3 or (len(shape) == 3 and shape[1] + shape[2] > BITS):
                got = f"{brief(dtype)} {brief(shape)}"
                raise DataError(f"{inside}: must hold numbers, P of shape (B, k, r), got {got}")
            found[info.filename] = info, (shape, dtype)
        numbers = sum(math.prod(shape) for _, (shape, _) in found.values())
        array_files.refuse_disproportion(numbers, len(content), name)
        return {
            key.removesuffix(".npy"): array_files.unpacked(archive, info, promise, f"{name}, {brief(key)}")
            for key, (info, promise) in found.items()
        }


def refuse_existing(paths: Iterable[Path], force: bool) -> None:
    """Refuse to overwrite, unless forced, before any work is done."""
    paths = list(paths)
    for folder in {path.parent for path in paths}:
        restore(folder)
    for path in paths:
        if path.exists() and (not force or path.is_dir()):
            raise DataError(f"{path} exists" + ("; use --force to overwrite it" if not path.is_dir() else ", a folder"))
        if not path.parent.is_dir():
            raise DataError(f"the folder {path.parent} does not exist")


def compact(P: NDArray[np.float64]) -> NDArray[Any]:
    """P in the smallest signed integer type that holds it, or as it is when not whole."""
    if P.size and (np.rint(P) == P).all() and np.abs(P).max() < 2**31:
        largest = np.abs(P).max()
        return P.astype(np.int8 if largest < 2**7 else np.int16 if largest < 2**15 else np.int32)
    return P


def write_npz(path: Path, groups: Iterable[tuple[Group, Codes]]) -> None:
    """Groups written one after the other, so that only one is in memory; the same codes give the same bytes."""
    with replacing(path) as (handle,):
        _put_npz(handle, groups)


def npz_bytes(data: Data) -> bytes:
    """The same in memory; of one group in order, rows are left out."""
    out = io.BytesIO()
    plain = len(data) == 1 and all(np.array_equal(codes.row, np.arange(len(codes.row))) for codes in data.values())
    _put_npz(out, data.items(), rows=not plain)
    return out.getvalue()


def _put_npz(handle: BinaryIO, groups: Iterable[tuple[Group, Codes]], *, rows: bool = True) -> None:
    with zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for group, codes in groups:
            folder = group_name(group, "_")
            arrays = {"P": compact(codes.P)} | ({"row": codes.row} if rows else {})
            arrays |= {} if codes.h is None else {"h": codes.h}
            for key, array in arrays.items():
                # ZipInfo's own date, 1980, not the clock's
                with archive.open(zipfile.ZipInfo(f"{folder}/{key}.npy"), "w", force_zip64=True) as part:
                    np.lib.format.write_array(part, array, allow_pickle=False)


def to_rows(data: Data) -> tuple[list[Any], list[float] | None]:
    """The field's lists: rows [n, k, m, P] and heights, in file order; whole matrices as int64."""
    rows: list[Any] = [None] * count(data)
    heights: list[float] = [0.0] * len(rows)
    for (n, k, m), codes in data.items():
        for i, P in zip(codes.row, codes.P, strict=True):
            rows[i] = [n, k, m, P.astype(np.int64) if (np.abs(P) < 2**53).all() and (np.rint(P) == P).all() else P]
        if codes.h is not None:
            for i, h in zip(codes.row, codes.h, strict=True):
                heights[i] = float(h)
    return rows, heights if labelled(data) else None


def write_pickles(rows_path: Path, heights_path: Path | None, data: Data) -> None:
    """The field's pair of pickles."""
    rows, heights = to_rows(data)
    paths = [rows_path] if heights_path is None else [rows_path, heights_path]
    with replacing(*paths) as handles:
        for value, handle in zip((rows, heights), handles, strict=False):
            pickle.dump(value, handle, protocol=4)


def write_json(path: Path, data: Data) -> None:
    """A .json file of rows and heights; infinite heights as null."""
    rows, heights = to_rows(data)
    plain: dict[str, Any] = {"rows": [[n, k, m, P.tolist()] for n, k, m, P in rows]}
    if heights is not None:
        plain["heights"] = [h if np.isfinite(h) else None for h in heights]
    with replacing(path) as (handle,):
        handle.write(json.dumps(plain).encode())
