"""A certificate's file: read with nothing taken on trust, its keys, types, sizes and numbers checked.

What it says is checked by `verify`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, isfinite
from typing import Any, BinaryIO

from ..errors import DataError, brief

FORMATS = ("moe_mheight certificate 1", "moe_mheight certificate 2", "moe_mheight certificate 3")
"""The first is of P alone; the second names the matrix P, G or H that it was made for; the third lists automorphisms,
and sets of columns up to these."""

MOST_GENERATORS = 64
"""Automorphisms that a certificate lists; no group of permutations of 64 needs more."""

LONGEST = 4000
"""Characters of a number; Python itself refuses whole numbers beyond 4,300 digits."""
LONGEST_ENTRY = 700
"""Characters of an entry of the matrix: products of k of them are formed."""

_LARGEST_FILE = 512 << 20

_RATIONAL = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:/([1-9][0-9]*))?")
_MASK = re.compile(r"0|[1-9a-f][0-9a-f]{0,15}")
Number = Callable[..., Fraction]
"""Reads one number: (value, where it stands for the message, its longest text)."""

_KEYS = {"format", "arithmetic", "n", "k", "m", "P", "height", "witness", "bases", "made_by", "sha256"}


@dataclass(frozen=True)
class Parsed:
    """A certificate in numbers; lower and upper are None when the height is infinite."""

    arithmetic: str
    n: int
    k: int
    m: int
    P: list[list[Fraction]]
    matrix: str
    """Of what the certificate is: "P", "G" or "H"."""
    given: list[list[Fraction]]
    """That matrix."""
    order: list[int]
    """Coordinate j of [I | P] is column order[j] of that matrix."""
    scale: int | None
    """Makes every minor of P an integer; None where no number smaller than the product of denominators is known."""
    height: str
    lower: Fraction | None
    upper: Fraction | None
    u: list[Fraction]
    outside: list[int]
    dual: tuple[int, list[int], list[Fraction]] | None
    masks: list[int]
    automorphisms: list[tuple[list[int], list[int]]]
    """Generators (perm, signs): the images of `masks` under all that they generate count, too."""
    digest_is_right: bool

    @property
    def bound(self) -> str:
        """The upper side for a message."""
        assert self.upper is not None
        return shown(self.upper) if self.arithmetic == "rational" else repr(float(self.upper))

    @property
    def G(self) -> list[list[Fraction]]:
        return [[Fraction(i == j) for j in range(self.k)] + row for i, row in enumerate(self.P)]

    @property
    def codeword(self) -> list[Fraction]:
        return [
            sum((x * g for x, g in zip(self.u, column, strict=True)), Fraction(0))
            for column in zip(*self.G, strict=True)
        ]


def open_certificate(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            return read_certificate(stream)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"cannot open the certificate {brief(os.fspath(path))}: {brief(error)}") from None


def read_certificate(stream: BinaryIO) -> dict[str, Any]:
    """A certificate from an open file, such as standard input, for `verify`.

    Raises:
        DataError: it cannot be read, is too large, or is not JSON.
    """
    try:
        data = stream.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise DataError(f"cannot read the certificate: {brief(error)}") from None
    if len(data) > _LARGEST_FILE:
        raise DataError(f"a certificate has at most {_LARGEST_FILE >> 20} MiB; this file has more")
    try:
        certificate = json.loads(
            data.decode(), object_pairs_hook=_once_each, parse_float=_no_number, parse_constant=_no_number
        )
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"a certificate is a JSON file; this one is not: {brief(error)}") from None
    if not isinstance(certificate, dict):
        raise DataError(f"a certificate is a JSON object, got {brief(certificate)}")
    return certificate


def digest(certificate: dict[str, Any]) -> str:
    """The sha256 that a certificate must carry: that of everything else in it."""
    rest = {key: value for key, value in certificate.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def shown(x: Fraction) -> str:
    """A fraction for a message: as it is, or about that when it is long."""
    if max(x.numerator.bit_length(), x.denominator.bit_length()) <= 64:
        return str(x)
    try:
        return f"about {float(x):.17g}"
    except OverflowError:
        return f"about 2^{x.numerator.bit_length() - x.denominator.bit_length()}"


def parse(certificate: object) -> Parsed:
    """A certificate's keys, types, sizes and numbers checked, and nothing of what it says.

    Raises:
        DataError: one of them is not as it must be; the message says which.
    """
    certificate, matrix = _with_its_keys(certificate)
    infinite = certificate["height"] == "inf"
    real = certificate["arithmetic"] == "float64"
    n = _integer(certificate["n"], "n", 2, 64)
    k = _integer(certificate["k"], "k", 1, n - 1)
    m = _integer(certificate["m"], "m", 1, n - k)
    P, given, order = _matrices(certificate, matrix, n, k, _double if real else _rational)
    height, lower, upper = _height(certificate["height"], real)
    u, outside = _witness(certificate["witness"], n, k, m, _either if real else _rational)
    dual = _dual(certificate["dual"], n, _double if real else _rational) if "dual" in certificate else None
    masks = _masks(certificate["bases"], n, k)
    if infinite and "automorphisms" in certificate:
        raise DataError("automorphisms must not be listed when the height is infinite")
    if infinite and masks:
        raise DataError(f"bases must be empty when the height is infinite, got {len(masks)}")
    return Parsed(
        arithmetic=certificate["arithmetic"],
        n=n,
        k=k,
        m=m,
        P=P,
        matrix=matrix,
        given=given,
        order=order,
        scale=None,
        height=height,
        lower=lower,
        upper=upper,
        u=u,
        outside=outside,
        dual=dual,
        masks=masks,
        automorphisms=_automorphisms(certificate["automorphisms"], n) if "automorphisms" in certificate else [],
        digest_is_right=digest(certificate) == certificate["sha256"],
    )


def _with_its_keys(certificate: object) -> tuple[dict[str, Any], str]:
    """The certificate, which has all keys that it must have and no others, and of which matrix it is."""
    if not isinstance(certificate, dict):
        raise DataError(f"a certificate is a dict or the path of a file, got {brief(certificate)}")
    if certificate.get("format") not in FORMATS:
        raise DataError(
            f"format must be one of {', '.join(map(repr, FORMATS))}, got {brief(certificate.get('format'))}"
        )
    names_matrix = certificate["format"] != FORMATS[0]
    matrix = certificate.get("matrix", "P") if names_matrix else "P"
    if matrix not in ("P", "G", "H"):
        raise DataError(f"matrix must be P, G or H, got {brief(matrix)}")
    infinite = certificate.get("height") == "inf"
    keys = _KEYS | ({"matrix"} if names_matrix else set()) | (set() if matrix == "P" else {matrix, "order"})
    keys |= {"automorphisms"} if certificate["format"] == FORMATS[2] else set()
    _check_keys("the certificate", certificate, keys, set() if infinite else {"dual"})
    if certificate["arithmetic"] not in ("rational", "float64"):
        raise DataError(f'arithmetic must be "rational" or "float64", got {brief(certificate["arithmetic"])}')
    if not (infinite or certificate["arithmetic"] == "float64" or "dual" in certificate):
        raise DataError("a rational certificate of a finite height has a dual; this one has none")
    for key in ("made_by", "sha256"):
        if not isinstance(certificate[key], str):
            raise DataError(f"{key} must be a string, got {brief(certificate[key])}")
    return certificate, matrix


def _matrices(
    certificate: dict[str, Any], matrix: str, n: int, k: int, number: Number
) -> tuple[list[list[Fraction]], list[list[Fraction]], list[int]]:
    """P, the matrix that the certificate is of, and the order of its columns."""
    # a P that stands for another matrix is checked against it before anything is made of its entries
    longest = LONGEST_ENTRY if matrix == "P" else LONGEST
    P = [_numbers(row, f"P[{i}]", n - k, number, longest) for i, row in enumerate(_list(certificate["P"], "P", k))]
    if matrix == "P":
        return P, P, list(range(n))
    rows = _list(certificate[matrix], matrix, k if matrix == "G" else None)
    if matrix == "H" and not n - k <= len(rows) <= 64:
        raise DataError(f"H must have n - k = {n - k} to 64 rows, got {len(rows)}")
    given = [_numbers(row, f"{matrix}[{i}]", n, number, LONGEST_ENTRY) for i, row in enumerate(rows)]
    order = _coordinates(certificate["order"], "order", n)
    if len(order) != n:
        raise DataError(f"order must hold all n = {n} columns, got {len(order)}")
    return P, given, order


def _witness(witness: Any, n: int, k: int, m: int, number: Number) -> tuple[list[Fraction], list[int]]:
    _check_keys("witness", witness, {"u", "outside"}, {"u_low"})
    u = _numbers(witness["u"], "witness.u", k, number)
    if "u_low" in witness:
        low = _numbers(witness["u_low"], "witness.u_low", k, number)
        u = [x + z for x, z in zip(u, low, strict=True)]
    outside = _coordinates(witness["outside"], "witness.outside", n)
    if len(outside) != m:
        raise DataError(f"witness.outside must hold m = {m} coordinates, got {len(outside)}")
    return u, outside


def _dual(dual: Any, n: int, number: Number) -> tuple[int, list[int], list[Fraction]]:
    _check_keys("dual", dual, {"a", "basis", "y"}, set())
    basis = _coordinates(dual["basis"], "dual.basis", n)
    y = _numbers(dual["y"], "dual.y", len(basis), number)
    return _integer(dual["a"], "dual.a", 0, n - 1), basis, y


def _check_keys(where: str, value: object, needed: set[str], allowed: set[str]) -> None:
    if not isinstance(value, dict):
        raise DataError(f"{where} must be an object, got {brief(value)}")
    if missing := sorted(needed - set(value)):
        raise DataError(f"{where} lacks {', '.join(missing)}")
    if unexpected := [key for key in value if key not in needed | allowed]:
        raise DataError(f"{where} has a key that it should not have here: {brief(unexpected[0])}")


def _height(value: object, real: bool) -> tuple[str, Fraction | None, Fraction | None]:
    """The height stated as text, and its two sides."""
    if value == "inf":
        return "inf", None, None
    if not real:
        height = _rational(value, "height")
        return str(height), height, height
    _check_keys("height", value, {"lower", "upper"}, set())
    assert isinstance(value, dict)
    lower, upper = (_double(value[side], f"height.{side}") for side in ("lower", "upper"))
    if lower > upper:
        raise DataError(f"height.lower must not be above height.upper, got {brief(value)}")
    return f"[{value['lower']}, {value['upper']}]", lower, upper


def _masks(value: object, n: int, k: int) -> list[int]:
    masks = []
    before = -1
    for i, text in enumerate(_list(value, "bases")):
        if not isinstance(text, str) or not _MASK.fullmatch(text):
            raise DataError(f"bases[{i}] must be a mask in lower-case hex, got {brief(text)}")
        mask = int(text, 16)
        if mask >> n or mask.bit_count() > k:
            raise DataError(f"bases[{i}] must hold at most k = {k} of the coordinates 0..{n - 1}, got {text}")
        if mask <= before:
            raise DataError(f"bases must be strictly ascending, and bases[{i}] = {text} is not above the one before")
        masks.append(mask)
        before = mask
    return masks


def _automorphisms(value: object, n: int) -> list[tuple[list[int], list[int]]]:
    found = []
    for i, generator in enumerate(_list(value, "automorphisms")):
        where = f"automorphisms[{i}]"
        _check_keys(where, generator, {"perm", "signs"}, set())
        perm = _coordinates(generator["perm"], f"{where}.perm", n)
        if len(perm) != n:
            raise DataError(f"{where}.perm must hold all n = {n} coordinates, got {len(perm)}")
        signs = [_integer(s, f"{where}.signs[{j}]", -1, 1) for j, s in enumerate(_list(generator["signs"], where, n))]
        if 0 in signs:
            raise DataError(f"{where}.signs must be 1 or -1, got 0")
        found.append((perm, signs))
    if not 0 < len(found) <= MOST_GENERATORS:
        raise DataError(f"automorphisms must be 1 to {MOST_GENERATORS} generators, got {len(found)}")
    return found


def _coordinates(value: object, where: str, n: int) -> list[int]:
    found = [_integer(j, f"{where}[{i}]", 0, n - 1) for i, j in enumerate(_list(value, where))]
    if len(set(found)) != len(found):
        raise DataError(f"{where} must not repeat a coordinate, got {brief(found)}")
    return found


def _numbers(value: object, where: str, length: int, number: Number, longest: int = LONGEST) -> list[Fraction]:
    return [number(x, f"{where}[{i}]", longest) for i, x in enumerate(_list(value, where, length))]


def _list(value: object, where: str, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise DataError(f"{where} must be a list{'' if length is None else f' of {length}'}, got {brief(value)}")
    return value


def _integer(value: object, where: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise DataError(f"{where} must be a whole number from {low} to {high}, got {brief(value)}")
    return value


def _rational(value: object, where: str, longest: int = LONGEST) -> Fraction:
    """ "3" or "-3/4", in lowest terms: a number has one spelling only."""
    if not isinstance(value, str) or len(value) > longest:
        raise DataError(f"{where} must be a string of at most {longest} characters, got {brief(value)}")
    parts = _RATIONAL.fullmatch(value)
    if parts and value != "-0":
        p, q = int(parts[1]), int(parts[2] or 1)
        if parts[2] is None or (q > 1 and gcd(p, q) == 1):
            return Fraction(p, q)
    raise DataError(f'{where} must be a fraction in lowest terms such as "3" or "-3/4", got {brief(value)}')


def _double(value: object, where: str, longest: int = LONGEST) -> Fraction:
    """The shortest decimal that reads as a double, standing for that double."""
    if isinstance(value, str) and len(value) <= 30:
        try:
            x = float(value)
        except ValueError:
            x = float("nan")
        if isfinite(x) and repr(x) == value:
            return Fraction(x)
    raise DataError(f'{where} must be a double as Python prints it, such as "0.1", got {brief(value)}')


def _either(value: object, where: str, longest: int = LONGEST) -> Fraction:
    if isinstance(value, str) and ("." in value or "e" in value):
        return _double(value, where)
    return _rational(value, where, longest)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DataError(f"a key stands twice in one object, one of {brief([key for key, _ in pairs])}")
    return found


def _no_number(text: str) -> None:
    raise DataError(f"a certificate's numbers are whole ones or strings, got {brief(text)}")
