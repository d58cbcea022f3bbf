"""Codes in an .npz: for each group `9_4_2/P` (B, k, r), `9_4_2/h` (B,) when labelled, `9_4_2/row` (B,) their places."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .._io import replacing
from ..codes.linear import check_P, check_row
from ..errors import CodeError, DataError, brief
from ..groups import Group, group_name, parse_group
from ..numerics.bitsets import BITS
from . import array_files
from .rows import Codes, Data, check_heights, shape_hint


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
        if found[key].ndim != 3:
            raise DataError(f"{name}, {key}: must have shape (B, k, n - k), got {found[key].shape}")
        if len(found[key]):
            group = parse_group(key[:-2], "_")
            data[group] = _codes(found, key, group, total, name)
            total += len(data[group].P)
    if not data:
        raise DataError(f"{name} holds no group of codes (arrays named like 9_4_2/P)")
    if len({codes.h is None for codes in data.values()}) > 1:
        raise DataError(f"{name} has heights for some groups and none for others")
    if not np.array_equal(np.sort(np.concatenate([codes.row for codes in data.values()])), np.arange(total)):
        raise DataError(f"{name}: the row numbers are not a permutation of 0..{total - 1}")
    return data


def _codes(found: dict[str, NDArray[Any]], key: str, group: Group, first_row: int, name: str) -> Codes:
    """One group's codes; first_row is the place of the first where the file does not say their rows."""
    try:
        check_row(*group, found[key][0], max_n=BITS)
        P, _ = check_P(found[key], max_n=BITS)
    except CodeError as error:
        raise DataError(f"{name}, {key}: {error}{shape_hint(*group[:2], found[key])}") from error
    stem = key[:-2]
    h = check_heights(found[f"{stem}/h"], f"{name}, {stem}/h") if f"{stem}/h" in found else None
    row = found.get(f"{stem}/row", np.arange(first_row, first_row + len(P)))
    if row.shape != (len(P),) or row.dtype.kind not in "iu" or (h is not None and len(h) != len(P)):
        raise DataError(f"{name}, {stem}: row must hold whole numbers, and P, h and row be of one length")
    return Codes(P, row.astype(np.int64), h)


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
