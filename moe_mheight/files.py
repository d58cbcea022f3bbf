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
import pickle
import re
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import pickles
from .codes import check_P, check_row
from .errors import CodeError, DataError, brief
from .folders import replacing, restore
from .masks import BITS

Group = tuple[int, int, int]


@dataclass(frozen=True)
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
        try:
            n, k, m, P = row
        except (TypeError, ValueError) as error:
            hint = ""
            if isinstance(row, (int, float)):
                hint = "; are these the heights? The file of rows comes first"
            elif isinstance(row, (list, tuple)) and all(isinstance(x, (int, float)) for x in row):
                hint = "; a matrix alone is for `mheight exact` and `mheight explain`, with --matrix and --m"
            raise DataError(f"{name}, row {i}: must be [n, k, m, P], got {type(row).__name__}{hint}") from error
        try:
            matrix = check_row(n, k, m, pickles.plain(P), max_n=BITS)
        except CodeError as error:
            raise DataError(f"{name}, row {i}: {error}") from error
        places, matrices = gathered.setdefault((int(n), int(k), int(m)), ([], []))
        places.append(i)
        matrices.append(matrix)
    return {
        group: Codes(np.stack(matrices), np.array(places), None if h is None else h[places])
        for group, (places, matrices) in sorted(gathered.items())
    }


def _check_heights(heights: Any, name: str) -> NDArray[np.float64]:
    if isinstance(heights, np.ndarray):
        if heights.ndim != 1 or heights.dtype.kind not in "iuf":
            raise DataError(f"{name}: heights must be one number a row, got {heights.dtype} {heights.shape}")
        heights = heights.tolist()
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
    contents = [(str(path), _bytes(path)) for path in paths]
    kinds = {_kind(content, name) for name, content in contents}
    if len(contents) == 1 and kinds == {"npz"}:
        return from_npz(contents[0][1], contents[0][0])
    if len(contents) == 1 and kinds == {"json"}:
        return _from_json(contents[0][1], contents[0][0])
    if kinds != {"pickle"}:
        names, formats = " and ".join(name for name, _ in contents), " and ".join(sorted(kinds))
        raise DataError(f"{names}: a pair must be two pickles, got {formats}")
    values = [(name, pickles.load(content, name)) for name, content in contents]
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


def _bytes(path: str | Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _kind(content: bytes, name: str) -> str:
    if not content:
        raise DataError(f"{name} is empty")
    if content[:2] == b"PK":
        return "npz"
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return "json"
    if content[:1] in b"\x80(]lc":
        return "pickle"
    raise DataError(
        f"{name} is neither a pickle, an .npz nor a .json of codes; a matrix alone is for "
        "`mheight exact` and `mheight explain`, with --matrix and --m"
    )


def _from_json(content: bytes, name: str) -> Data:
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not valid JSON: {brief(error)}") from error
    if isinstance(value, list):
        return from_rows(value, None, name)
    if not isinstance(value, dict) or not isinstance(value.get("rows"), list):
        raise DataError(f'{name} must be a list of rows [n, k, m, P] or {{"rows": [...], "heights": [...]}}')
    heights = value.get("heights")
    if heights is not None and not isinstance(heights, list):
        raise DataError(f"{name}: heights must be a list")
    return from_rows(value["rows"], heights, name)


def from_npz(content: bytes, name: str) -> Data:
    """Codes from the bytes of an .npz; name is for messages.

    Raises:
        DataError: they are damaged, or hold no codes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            arrays = {
                info.filename.removesuffix(".npy"): _array(archive, info, name)
                for info in archive.infolist()
                if re.search(r"/(P|h|row)\.npy$", info.filename)
            }
    except DataError:
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        raise DataError(f"{name} is not a readable .npz ({type(error).__name__}: {brief(error)})") from error
    data: Data = {}
    total = 0
    for key in sorted(key for key in arrays if key.endswith("/P")):
        match = re.fullmatch(r"(\d{1,3})_(\d{1,3})_(\d{1,3})/P", key)
        if not match:
            raise DataError(f"{name}: the array {brief(key)} is not named like 9_4_2/P")
        n, k, m = map(int, match.groups())
        if arrays[key].ndim != 3:
            raise DataError(f"{name}, {key}: must have shape (B, k, n - k), got {arrays[key].shape}")
        if len(arrays[key]):
            try:
                check_row(n, k, m, arrays[key][0], max_n=BITS)
                P, _ = check_P(arrays[key], max_n=BITS)
            except CodeError as error:
                raise DataError(f"{name}, {key}: {error}") from error
            stem = key[:-2]
            h = _check_heights(arrays[f"{stem}/h"], f"{name}, {stem}/h") if f"{stem}/h" in arrays else None
            row = arrays.get(f"{stem}/row", np.arange(total, total + len(P)))
            if row.shape != (len(P),) or row.dtype.kind not in "iu" or (h is not None and len(h) != len(P)):
                raise DataError(f"{name}, {stem}: row must hold whole numbers, and P, h and row be of one length")
            data[n, k, m] = Codes(P, row.astype(np.int64), h)
            total += len(P)
    if not data:
        raise DataError(f"{name} holds no group of codes (arrays named like 9_4_2/P)")
    if len({codes.h is None for codes in data.values()}) > 1:
        raise DataError(f"{name} has heights for some groups and none for others")
    if not np.array_equal(np.sort(np.concatenate([codes.row for codes in data.values()])), np.arange(total)):
        raise DataError(f"{name}: the row numbers are not a permutation of 0..{total - 1}")
    return data


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    """One array of an .npz, looked at before any memory is taken for it."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # the others unpack at once, whatever size the archive states
        raise DataError(f"{name}, {brief(info.filename)}: must be stored or deflated, as NumPy writes it")
    with archive.open(info) as part:
        version = np.lib.format.read_magic(part)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(part)
    size = int(np.prod(shape, dtype=object))
    if dtype.kind not in "iuf" or len(shape) > 3 or (len(shape) == 3 and shape[1] + shape[2] > BITS):
        got = f"{brief(dtype)} {brief(shape)}"
        raise DataError(f"{name}, {brief(info.filename)}: must hold numbers, P of shape (B, k, r), got {got}")
    if size * dtype.itemsize > info.file_size:
        raise DataError(f"{name}, {brief(info.filename)}: the header promises more numbers than there are")
    with archive.open(info) as part:
        return np.lib.format.read_array(part, allow_pickle=False)


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
        for (n, k, m), codes in groups:
            arrays = {"P": compact(codes.P)} | ({"row": codes.row} if rows else {})
            arrays |= {} if codes.h is None else {"h": codes.h}
            for key, array in arrays.items():
                # ZipInfo's own date, 1980, not the clock's
                with archive.open(zipfile.ZipInfo(f"{n}_{k}_{m}/{key}.npy"), "w", force_zip64=True) as part:
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
