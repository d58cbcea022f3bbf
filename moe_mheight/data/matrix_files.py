"""Reading the one matrix of one code, P, G or H, from a file, without rounding what is written as a fraction.

Text (comma, semicolon, tab or space between entries; `#` and `%` begin comments), MatrixMarket, .json (a list of rows,
or an object with a key P, G or H), .npz (an array P, G or H) and .npy are told apart by content.

Whole numbers and fractions "p/q" stay what they are, of any size. A decimal point or an exponent anywhere makes all
entries float64, for such files hold doubles that were printed; so a decimal that is meant exactly is written p/q.
Arrays of doubles count as integers where all are whole.
"""

from __future__ import annotations

import io
import json
import re
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codes.linear import check_P, from_parity_check, systematic
from ..errors import CodeError, DataError, brief
from ..numerics.rationals import eliminate, whole_rows
from .array_files import Header, header, promised, unpacked, unpacking
from .code_files import named_once, not_one_matrix, refuse_packed
from .entries import finite, number
from .matrix_market import matrix_market

KINDS = ("P", "G", "H")

LARGEST = 2**26
"""Bytes of a file."""

Rational = list[list[Fraction]]
Numbers = list[list[Fraction | float]]


@dataclass(frozen=True, eq=False)
class Matrix:
    """One code, systematic: P (k, r); coordinate j of [I | P] is column order[j] of the matrix that was read."""

    P: Rational | NDArray[np.float64]
    order: tuple[int, ...]
    """(n,) a permutation of 0..n-1, increasing over the k information coordinates and over the r others."""
    exact: bool
    """Whether P is rational; otherwise it is float64."""
    kind: str
    """What was read: "P", "G" or "H"."""
    entries: Rational | NDArray[np.float64] = field(repr=False)
    """The matrix that was read, as it was written."""


def read_matrix(
    path: str | Path, kind: str | None = None, *, longest: int = 64, otherwise: str | None = None
) -> Matrix:
    r"""The code of one matrix in a file.

    A rational G or H is made systematic exactly: the information set is the leftmost one of G, and what the rightmost
    independent columns of H leave. A float64 one goes through `systematic` or `from_parity_check`.

    Args:
        path: text, MatrixMarket, .json, .npz or .npy; "-" is standard input.
        kind: P, the (k, r) part of [I | P]; G, a (k, n) generator of rank k in any basis; H, an (n - k, n) parity
            check, where a rational one may have rows to spare. Default: the name of the array or key in the file, or
            else the end of the file's name, as in P.csv or code_G.mtx.
        longest: largest n.
        otherwise: the kind where neither `kind` nor the file says one.

    Raises:
        DataError: no such matrix is there; one line that says where and why.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "code_G.csv")
        ...     _ = path.write_text("0, 1, 1/2\n2, 0, 1\n", encoding="utf-8")
        ...     read_matrix(path)
        Matrix(P=[[Fraction(1, 2)], [Fraction(1, 2)]], order=(0, 1, 2), exact=True, kind='G')
    """
    if kind not in (None, *KINDS):
        raise DataError(f"kind must be P, G or H, got {brief(kind)}")
    name = "standard input" if str(path) == "-" else str(path)
    content = _bytes(path, name)
    key, matrix = _content(content, Path(path).suffix.lower(), kind, name, longest)
    stem = re.fullmatch(r"(?:.*_)?([PGH])", Path(path).stem, re.IGNORECASE | re.DOTALL)
    kind = kind or key or (stem[1].upper() if stem else otherwise)
    if kind is None:
        raise DataError(f"{name} does not say which matrix it holds: say --matrix P, G or H")
    rows, columns = len(matrix), len(matrix[0])
    n = rows + columns if kind == "P" else columns
    if n > longest:
        raise DataError(f"{name}: {kind} is {rows} x {columns}, a code of length n = {n}; n must be at most {longest}")
    if kind == "G" and rows >= n:
        raise DataError(f"{name}: G must have fewer rows than columns (r = n - k >= 1), got {rows} x {columns}")
    code = _systematic(matrix, kind, name)
    zero = [
        j for j, column in zip(code.order[len(code.P) :], zip(*code.P, strict=True), strict=True) if not any(column)
    ]
    if zero:
        warnings.warn(
            f"{name}: coordinate {zero[0]} (counted from 0) is 0 in every codeword, as P has a column of zeros",
            stacklevel=2,
        )
    return code


def _systematic(matrix: Rational | NDArray[np.float64], kind: str, name: str) -> Matrix:
    if isinstance(matrix, np.ndarray):
        try:
            return _from_floats(matrix, kind)
        except CodeError as error:
            raise DataError(f"{name}: {error}") from error
    if kind == "P":
        return Matrix(matrix, tuple(range(len(matrix) + len(matrix[0]))), True, kind, matrix)
    return _from_generator(matrix, name) if kind == "G" else _from_parity_check(matrix, name)


def _from_floats(matrix: NDArray[np.float64], kind: str) -> Matrix:
    P, order = matrix, np.arange(sum(matrix.shape))
    if kind != "P":
        P, order = systematic(matrix) if kind == "G" else from_parity_check(matrix)
        k = len(P)
        rows, columns = np.argsort(order[:k]), np.argsort(order[k:])
        P, order = P[np.ix_(rows, columns)], np.concatenate([order[:k][rows], order[k:][columns]])
    checked, _ = check_P(P, what="P" if kind == "P" else f"the systematic form of {kind}")
    return Matrix(checked[0], tuple(order.tolist()), False, kind, matrix)


def _from_generator(G: Rational, name: str) -> Matrix:
    P, inside, outside, spare = _eliminate(G, name)
    if spare:
        raise DataError(
            f"{name}: G must have rank k = {len(G)}, got {len(inside)}; row {spare[0] + 1} (counted from 1) is a "
            "combination of the others: drop it"
        )
    return Matrix(P, (*inside, *outside), True, "G", G)


def _from_parity_check(H: Rational, name: str) -> Matrix:
    # [I | X] generates the dual on reversed coordinates, parity first; then P = -X^T
    X, parity, information, _ = _eliminate([row[::-1] for row in H], name)
    n = len(H[0])
    if not parity or not information:
        what = f"rank n = {n}, so that no nonzero c has H c = 0" if parity else "rank 0, so that r = 0"
        raise DataError(f"{name}: H must have rank n - k with 1 <= k < n, got {what}; is it the matrix you mean?")
    P = [[-value for value in column[::-1]] for column in list(zip(*X, strict=True))[::-1]]
    return Matrix(P, tuple(n - 1 - j for j in (*information[::-1], *parity[::-1])), True, "H", H)


def _eliminate(rows: Rational, name: str) -> tuple[Rational, list[int], list[int], list[int]]:
    """X with [I | X] on columns (inside, outside) spanning the rows, inside leftmost; and the rows not needed."""
    try:
        table = whole_rows(rows, name)
    except CodeError as error:
        raise DataError(str(error)) from error
    den, basis = eliminate(table, range(len(rows[0])))
    inside = sorted(j for j in basis if j >= 0)
    outside = [j for j in range(len(rows[0])) if j not in inside]
    X = [[Fraction(table[basis.index(b)][j], den) for j in outside] for b in inside]
    return X, inside, outside, [i for i, j in enumerate(basis) if j < 0]


def _bytes(path: str | Path, name: str) -> bytes:
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with open(path, "rb") as handle:
                content = handle.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # a ValueError for a NUL in the name
        raise DataError(f"cannot read {name}: {brief(getattr(error, 'strerror', None) or error)}") from error
    if len(content) > LARGEST:
        raise DataError(
            f"{name} is larger than {LARGEST >> 20} MiB; a matrix of one code is not: is it the right file?"
        )
    if not content.strip():
        raise DataError(f"{name} is empty")
    return content


def _content(
    content: bytes, suffix: str, kind: str | None, name: str, longest: int
) -> tuple[str | None, Rational | NDArray[np.float64]]:
    """The file's own name for its matrix, if it has one, and the numbers."""
    refuse_packed(content, name)
    if content[:1] == b"\x80" or suffix in (".pkl", ".pickle"):
        raise DataError(f"{name} holds {not_one_matrix(content, name)}")
    if content.startswith(b"PK"):
        return _from_npz(content, kind, name, longest)
    if content.startswith(b"\x93NUMPY"):
        return None, _from_npy(content, name, longest)
    if suffix in (".npz", ".npy"):
        raise DataError(f"{name} is not a readable {suffix}")
    start = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    if suffix == ".mtx" or start[:14].lower() == b"%%matrixmarket":
        return None, _of_one_type(matrix_market(_lines(content, name), name, longest), name)
    if suffix == ".json" or start[:1] in (b"[", b"{"):
        key, rows = _from_json(content, kind, name)
        return key, _of_one_type(_numbers(rows, name, longest), name)
    return None, _of_one_type(_numbers(_text_rows(_lines(content, name), longest), name, longest), name)


def _lines(content: bytes, name: str) -> Iterator[str]:
    try:
        yield from io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not text in UTF-8, nor an .npz or .npy ({brief(error)})") from error


def _text_rows(lines: Iterable[str], longest: int) -> Iterator[list[str]]:
    separator: str | None = ""
    for line in lines:
        text = line.partition("#")[0].rstrip("\n")
        if not text.strip() or text.lstrip().startswith("%"):
            continue
        if separator == "":
            separator = next((mark for mark in ";,\t" if mark in text.strip()), None)
        yield [entry.strip(' \t"') for entry in text.split(separator, longest)]


def _numbers(rows: Iterable[Any], name: str, longest: int) -> Numbers:
    out: Numbers = []
    for i, row in enumerate(rows):
        if not isinstance(row, list):
            raise DataError(f"{name} must be a list of rows, each a list of numbers, got {brief(row)} for a row")
        if i == longest or len(row) > longest:
            what = "rows" if i == longest else "columns"
            raise DataError(f"{name} has more than {longest} {what}; n must be at most {longest}")
        if not row or (out and len(row) != len(out[0])):
            wanted = f"row 1 has {len(out[0])}" if out else "a matrix has at least one"
            raise DataError(f"{name}, row {i + 1} (counted from 1): has {len(row)} entries, {wanted}")
        out.append([number(value, i, j, name) for j, value in enumerate(row)])
    if not out:
        raise DataError(f"{name} holds no rows")
    return out


def _of_one_type(rows: Numbers, name: str) -> Rational | NDArray[np.float64]:
    exact = [[value for value in row if isinstance(value, Fraction)] for row in rows]
    if sum(map(len, exact)) == len(rows) * len(rows[0]):
        return exact
    out = np.empty((len(rows), len(rows[0])))
    for (i, j), _ in np.ndenumerate(out):
        try:
            out[i, j] = float(rows[i][j])
        except OverflowError:
            finite(np.inf, i, j, name, "a whole number beyond 1e308 among decimals")
    return out


def _from_json(content: bytes, kind: str | None, name: str) -> tuple[str | None, list[Any]]:
    try:
        value = json.loads(
            content.decode("utf-8-sig"),
            parse_int=str,
            parse_float=str,
            parse_constant=str,
            object_pairs_hook=named_once,
        )
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not valid JSON: {brief(error)}") from error
    key = None
    if isinstance(value, dict):
        key = _chosen(value, kind, name)
        value = value[key]
    if not isinstance(value, list):
        raise DataError(f'{name} must be a list of rows, or an object {{"G": rows}}, got {brief(value)}')
    return key, value


def _chosen(names: Collection[str], kind: str | None, name: str) -> str:
    found = [key for key in KINDS if key in names]
    if kind in found:
        return str(kind)
    if kind and found:
        raise DataError(f"{name} holds {' and '.join(found)}, not {kind}: leave --matrix out, or rename what is in it")
    if not found:
        raise DataError(f"{name} holds nothing named P, G or H, only {brief(sorted(names))}: rename what is in it")
    if len(found) > 1:
        raise DataError(f"{name} holds {' and '.join(found)}: say --matrix P, G or H")
    return found[0]


def _from_npz(content: bytes, kind: str | None, name: str, longest: int) -> tuple[str, Rational | NDArray[np.float64]]:
    with unpacking(content, name) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        key = _chosen(members, kind, name)
        inside = f"{name}, {key}"
        promise = promised(archive, members[key], inside)
        _check_shape(promise, inside, longest)
        array = unpacked(archive, members[key], promise, inside)
    return key, _from_array(array, inside)


def _from_npy(content: bytes, name: str, longest: int) -> Rational | NDArray[np.float64]:
    _check_shape(header(io.BytesIO(content), name), name, longest)
    try:
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(f"{name} is not a readable array ({type(error).__name__}: {brief(error)})") from error
    return _from_array(array, name)


def _check_shape(promise: Header, name: str, longest: int) -> None:
    shape, dtype = promise
    if dtype.kind not in "iuf" or len(shape) != 2:
        raise DataError(f"{name}: must hold real numbers, rows x columns, got {brief(dtype)} {brief(shape)}")
    if not all(1 <= length <= longest for length in shape):
        raise DataError(f"{name}: must have 1 to {longest} rows and columns, got shape {brief(shape)}")


def _from_array(array: NDArray[Any], name: str) -> Rational | NDArray[np.float64]:
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = array.astype(np.float64)
        for (i, j), value in np.ndenumerate(array):
            finite(float(value), i, j, name, float(value))
        # beyond 2^53 a whole double may be one that was rounded
        if not ((np.rint(array) == array) & (np.abs(array) <= 2**53)).all():
            return np.asarray(array, np.float64)
    return [[Fraction(int(value)) for value in row] for row in array.tolist()]
