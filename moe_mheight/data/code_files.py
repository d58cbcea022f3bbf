"""Reading and writing files of codes: the peers' pairs of pickles, .npz and .json.

The peers' format is two pickles: a list of rows [n, k, m, P] and a list of heights in the same order; `safe_pickle`
says how those of strangers are read, `npz_files` what an .npz holds.

A .json holds {"rows": [[n, k, m, [[...], ...]], ...], "heights": [...]}, or just the list of rows; an infinite height
is null.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .._io import replacing, restore
from ..errors import DataError, brief
from ..groups import Group
from . import safe_pickle
from .npz_files import from_npz, npz_bytes, write_npz
from .rows import Codes, Data, count, from_rows, labelled, silently, take, to_rows

__all__ = [
    "Codes",
    "Data",
    "Group",
    "count",
    "from_npz",
    "from_rows",
    "labelled",
    "npz_bytes",
    "pair_paths",
    "read",
    "refuse_existing",
    "silently",
    "take",
    "to_rows",
    "write_json",
    "write_npz",
    "write_pair",
]


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


def _is_rows(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], (list, tuple))


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
            return _read_all(sys.stdin.buffer, "-")
        with open(path, "rb") as handle:
            return _read_all(handle, str(path))
    except (OSError, ValueError) as error:  # a ValueError for a NUL in the name
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or brief(error)}") from error


def _read_all(handle: BinaryIO, name: str) -> bytes:
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


def pair_paths(out: Path) -> tuple[Path, Path]:
    """Names of a pair beside each other, as the peers' are: codes-n_k_m_P.pkl and codes-mHeights.pkl for codes.pkl."""
    rows, heights = (out.with_name(f"{out.stem}-{part}{out.suffix}") for part in ("n_k_m_P", "mHeights"))
    return rows, heights


def write_pair(rows_path: Path, heights_path: Path | None, data: Data) -> None:
    """The peers' pair of pickles, both or neither: rows [n, k, m, P], P an array, and heights, floats, in file order.

    Args:
        rows_path: of the rows.
        heights_path: of the heights; None for rows alone.
        data: codes, with heights where these are written.

    Raises:
        DataError: there are no heights to write. FolderError: a file cannot be written; what was there stays.
    """
    rows, heights = to_rows(data)
    if heights_path is not None and heights is None:
        raise DataError(f"these codes have no heights to write to {heights_path}")
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
