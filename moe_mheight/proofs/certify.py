"""Certificates: a height with all that is needed to check it, without trusting the search that found it.

A certificate names a matrix P, G or H. It holds a codeword of its code that attains the height, the dual vector that
shows that it is the best for its own S and a, and the bases that show that no other S and a does better: for every a
and every T of m - 1 other coordinates one of them avoids both, and has |y|_1 <= the height. `verify` checks that,
by code of its own. Of a code with automorphisms it lists one basis where all its images are meant, and generators of
their group.

For matrices of integers and fractions all numbers are fractions and the height is one. Other matrices stand for the
doubles that they are: the P of a real G or H is worked out in fractions, as by the check, and only then rounded; the
codeword and the bounds are float64, and what is proven is a bracket of the height of the matrix given.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf, nextafter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._io import replacing
from ..codes.automorphism_groups import Group, group_of, none_of
from ..codes.automorphisms import automorphisms
from ..codes.forms import check_kind, in_fractions, is_rational
from ..codes.linear import check_m, check_P
from ..codes.minors import LARGEST_RATIO
from ..errors import CodeError, DataError, MHeightError, brief
from ..exact.branch_and_bound import search_height
from ..exact.result import Height, Progress, silent
from ..numerics import rationals
from ..numerics.bitsets import BITS
from .automorphism_check import keeps_code
from .certificate_format import LONGEST, LONGEST_ENTRY, MOST_GENERATORS, digest
from .repair import Exact, HolesError, mend
from .set_orbits import all_images, one_of_each_orbit
from .verify import verify

ROOM = 1 << 22
"""Bases kept of each part of the search: all of them, one would hope."""

MARGIN = 1e-12
"""How far above the bounds found, relatively, a float64 certificate claims them: its verifier solves in its own way."""


NEARLY = 1e-9
"""What an automorphism of a code may be off for the code that is rounded from it."""


SAVING = 0.6
"""Share of the sets of columns up to which it is worth listing one of each orbit, with the automorphisms."""


class UnfinishedError(MHeightError):
    """A search that is to prove something was ended before it did; `found` says what it has."""

    def __init__(self, found: Height) -> None:
        super().__init__(
            f"the search for h_{found.m} ended by {found.ended} after {found.seconds:.1f} s, at "
            f"[{found.lower!r}, {found.upper!r}]: nothing to certify yet"
        )
        self.found = found


@dataclass(frozen=True, eq=False)
class _Code:
    """The matrix that a certificate is of, in fractions, and its [I | P]: coordinate j is column order[j]."""

    kind: str
    given: list[list[Fraction]]
    exact: bool
    order: list[int]
    P: list[list[Fraction]]
    den: int | None
    rounded: NDArray[np.float64]
    """P in float64, for the search."""
    group: Group
    """Automorphisms of the exact code."""


def certify(
    P: Any,
    m: int,
    *,
    matrix: str = "P",
    path: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    time_limit: float | None = None,
    watch: Callable[[Progress], None] = silent,
    symmetry: bool = True,
) -> dict[str, Any]:
    """The m-height of a code as a certificate that `mheight verify` and `verify` check.

    Args:
        P: the matrix; ints, Fractions, text such as "-3/4", or floats. Floats that are not all integers stand for
            themselves, and the certificate proves a bracket of relative width 1e-9.
        m: 1 <= m <= r.
        matrix: what P is: "P", (k, r), of the generator [I | P]; "G", a generator, (k, n) of rank k in any basis; "H",
            a parity check, (r, n) of rank r, or of more rows when it is rational. n = k + r <= 64. The certificate is
            of this matrix, and says so.
        path: a file to write it to, too.
        threads, time_limit, watch: as in `m_height`.
        symmetry: of a code with automorphisms, list one basis of each orbit; else all, for readers of format 2.

    Returns:
        A dict of JSON types; see `verify` for what is in it.

    Raises:
        CodeError: P or m is out of range, or numbers become too long to be written down.
        UnfinishedError: time ran out, or Ctrl-C came; its `found` holds the bracket.
        DataError: the file cannot be written.

    Source: arXiv:2602.20366, Theorem 8: |y|_1 of any basis in S bounds the height of (S, a).

    Example:
        >>> from moe_mheight import certify
        >>> certify([[1, 1], [1, 2]], 1)["height"]
        '2'
        >>> certify([["1/2", "1/3"], ["3/4", 2]], 1)["height"]
        '7/2'
        >>> made = certify([[2, 2, 4, 0], [0, 3, 3, 1]], 2, matrix="G")
        >>> made["matrix"], made["G"][1], made["P"]
        ('G', ['0', '3', '3', '1'], [['1', '-1/3'], ['1', '1/3']])
    """
    made, _ = _certified(P, m, matrix, threads, time_limit, watch, symmetry)
    if path is not None:
        with replacing(Path(path)) as (handle,):
            handle.write((json.dumps(made, indent=1) + "\n").encode())
    return made


def exact_height(
    P: Any,
    m: int,
    *,
    threads: int | None = None,
    time_limit: float | None = None,
    watch: Callable[[Progress], None] = silent,
) -> Height:
    """The m-height of [I | P], P (k, r) of integers or fractions of any size, without rounding them first.

    Returns:
        value is the double next to the height, lower and upper those on its two sides. Where the time was over: what
        the search for the rounded P had found by then.

    Raises:
        CodeError: as `certify`; or the height is beyond float64.
    """
    try:
        made, found = _certified(P, m, "P", threads, time_limit, watch)
    except UnfinishedError as error:
        return error.found
    c = rationals.codeword(rationals.rational_matrix(P), [Fraction(x) for x in made["witness"]["u"]])
    largest = max(map(abs, c))
    value = lower = upper = inf
    if made["height"] != "inf":
        z = Fraction(made["height"])
        try:
            value, lower, upper = float(z), _down(z), -_down(-z)
        except OverflowError:
            raise CodeError(
                f"h_{m} is {rationals.about(z)}, beyond float64; certify or --certificate says it as a fraction"
            ) from None
    word, outside = np.array([float(x / largest) for x in c]), tuple(made["witness"]["outside"])
    return replace(found, value=value, lower=lower, upper=upper, witness=word, outside=outside)


def _certified(
    P: Any,
    m: int,
    matrix: str,
    threads: int | None,
    time_limit: float | None,
    watch: Callable[[Progress], None],
    symmetry: bool = True,
) -> tuple[dict[str, Any], Height]:
    """The certificate, and what the search in float64 had found."""
    number = isinstance(time_limit, (int, float, np.integer, np.floating)) and not isinstance(time_limit, bool)
    if time_limit is not None and not (number and time_limit > 0.0):
        raise CodeError(f"time_limit must be a number of seconds > 0, got {brief(time_limit)}")
    code = _read(P, matrix) if symmetry else _plain(_read(P, matrix))
    m = int(check_m(m, 1, len(code.P[0]))[0])
    found, bases = search_height(
        code.rounded,
        m,
        threads=threads,
        time_limit=time_limit,
        watch=watch,
        room=ROOM,
        symmetry=False,
        group=code.group,
    )
    began = time.monotonic() - found.seconds  # compiling does not count
    if not found.finished:
        raise UnfinishedError(found)
    masks = {mask & (2**BITS - 1) for mask in bases}
    try:
        made = _prove(code, m, found, masks, None if time_limit is None else began + time_limit)
    except HolesError as error:
        if "time" not in str(error):
            raise CodeError(f"h_{m} of this code is beyond float64, and in fractions {error}: no certificate") from None
        seconds = time.monotonic() - began
        raise UnfinishedError(replace(found, ended="time limit", lower=1.0, upper=inf, seconds=seconds)) from None
    return made, replace(found, seconds=time.monotonic() - began)


def _read(matrix: Any, kind: str) -> _Code:
    check_kind(kind)
    given = rationals.rational_matrix(matrix, kind)
    exact = is_rational(matrix)
    rows, columns = len(given), len(given[0])
    if (n := columns + rows * (kind == "P")) > BITS:
        raise CodeError(f"{kind} is {rows} x {columns}, a code of length n = {n}; here n must be at most {BITS}")
    if kind == "P":
        P, den, order = given, None, list(range(n))
    else:
        P, den, order = in_fractions(given, kind, exact=exact)
    rounded = rationals.as_floats(P, "P" if kind == "P" else f"the systematic form of {kind}, P")
    rounded = check_P(rounded)[0][0]
    return _Code(kind, given, exact, order, P, den, rounded, _exact_group(P, rounded))


def _plain(code: _Code) -> _Code:
    """The code without its automorphisms."""
    return replace(code, group=none_of(len(code.order)))


def _exact_group(P: list[list[Fraction]], rounded: NDArray[np.float64]) -> Group:
    """Automorphisms of [I | P] itself among those that rounding suggests."""
    G = np.hstack([np.eye(len(P)), rounded])
    found = [f for f in automorphisms(G) if keeps_code(P, f.perm.tolist(), f.sign.astype(int).tolist())]
    return group_of(G, found[-MOST_GENERATORS:], NEARLY)


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """With the digest of all the rest, by which a slip of the pen is noticed before anything is computed."""
    return {**content, "sha256": digest(content)}


def _frame(code: _Code, m: int) -> dict[str, Any]:
    from .. import __version__  # noqa: PLC0415  a package does not import itself while it loads

    def shown(rows: list[list[Fraction]], what: str, longest: int) -> list[list[str]]:
        return [
            [_text(x, f"{what}[{i}][{j}]", longest) if code.exact else repr(float(x)) for j, x in enumerate(row)]
            for i, row in enumerate(rows)
        ]

    frame: dict[str, Any] = {
        "format": f"moe_mheight certificate {3 if code.group.generators else 2}",
        "arithmetic": "rational" if code.exact else "float64",
        "n": len(code.P) + len(code.P[0]),
        "k": len(code.P),
        "m": m,
        "matrix": code.kind,
    }
    if code.kind != "P":
        frame |= {code.kind: shown(code.given, code.kind, LONGEST_ENTRY), "order": code.order}
    if code.group.generators:
        frame["automorphisms"] = [
            {"perm": found.perm.tolist(), "signs": found.sign.astype(int).tolist()} for found in code.group.generators
        ]
    P = shown(code.P, "P", LONGEST_ENTRY if code.kind == "P" else LONGEST)
    return {**frame, "P": P, "made_by": f"moe_mheight {__version__}"}


def _text(x: Fraction, where: str, longest: int = LONGEST) -> str:
    """A fraction for a certificate, which holds no longer ones; Python itself refuses those beyond 4,300 digits."""
    digits = (x.numerator.bit_length() + x.denominator.bit_length()) * 0.30103
    text = "" if digits > longest + 10 else str(x)
    if not 0 < len(text) <= longest:
        raise CodeError(f"{where} has some {digits:.0f} digits; a certificate holds numbers of at most {longest}")
    return text


@dataclass(frozen=True)
class _Best:
    """A codeword u [I | P] and its height, None when infinite; the program of its S and a, and that one's dual."""

    u: list[Fraction]
    height: Fraction | None
    outside: list[int]
    basis: list[int]
    y: list[Fraction]


def _best(code: _Code, m: int, u: list[Fraction]) -> _Best:
    """This codeword, or better ones while the program of its own S and a has them."""
    while True:
        c = rationals.codeword(code.P, u)
        outside = sorted(range(len(c)), key=lambda j: (-abs(c[j]), j))[:m]
        height = rationals.height(c, m)
        if height is None:
            return _Best(u, None, outside, [], [])
        S = [j for j in range(len(c)) if j not in outside]
        mth = max(abs(c[j]) for j in S)
        z, basis, y, better = rationals.best_of_set(
            code.P, S, outside[0], [j for j in S if abs(c[j]) == mth], den=code.den
        )
        if z == height:
            return _Best(u, height, outside, basis, y)
        u = better


def _first(code: _Code, m: int, found: Height) -> _Best:
    """The codeword that the search found, again and exactly from its coordinates on S."""
    size = np.abs(found.witness)
    S = [j for j in range(found.n) if j not in found.outside]
    start = [j for j in S if size[j] > size[S].max() * (1.0 - 1e-9)]
    *_, u = rationals.best_of_set(code.P, S, found.outside[0], start, den=code.den)
    return _best(code, m, u)


def _prove(code: _Code, m: int, found: Height, masks: set[int], deadline: float | None) -> dict[str, Any]:
    """A certificate that verifies: with the search's bases, or else with those that fractions find in addition."""
    state = _rational if code.exact else _real
    best = _first(code, m, found)
    upper = Fraction(found.upper) if found.upper < inf else None
    code, masks = _shortest(code, masks)
    verdict, made = _checked(state(code, m, best, upper, masks))
    if verdict.missing is not None and best.height is not None:
        bound = best.height if code.exact or upper is None else max(best.height, upper)
        masks, code = all_images(masks, code.group.perms), _plain(code)
        proven = mend(Exact(code.P, code.den, m), masks, bound, deadline)
        best = best if proven.u is None else _best(code, m, proven.u)
        verdict, made = _checked(state(code, m, best, proven.U, proven.masks))
    if not verdict.accepted:
        raise MHeightError(f"the certificate does not verify: {verdict.reason}")
    return made


def _shortest(code: _Code, masks: set[int]) -> tuple[_Code, set[int]]:
    """One set of each orbit, where that saves enough; else all, and the code without its automorphisms."""
    few, total = one_of_each_orbit(masks, code.group.perms)
    if len(few) <= SAVING * total:
        return code, few
    return _plain(code), all_images(few, code.group.perms)


def _checked(made: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    try:
        return verify(made), made
    except DataError as error:
        raise CodeError(f"the certificate's numbers are too long: {error}") from error


def _hex(masks: set[int]) -> list[str]:
    return [f"{mask:x}" for mask in sorted(masks)]


def _rational(code: _Code, m: int, best: _Best, upper: Fraction | None, masks: set[int]) -> dict[str, Any]:
    witness = {"u": _texts(best.u, "witness.u"), "outside": best.outside}
    if best.height is None:
        return signed({**_frame(_plain(code), m), "height": "inf", "witness": witness, "bases": []})
    dual = {"a": best.outside[0], "basis": best.basis, "y": _texts(best.y, "dual.y")}
    height = _text(best.height, "the height")
    return signed({**_frame(code, m), "height": height, "witness": witness, "dual": dual, "bases": _hex(masks)})


def _texts(values: Sequence[Fraction], where: str) -> list[str]:
    return [_text(x, f"{where}[{i}]") for i, x in enumerate(values)]


def _real(code: _Code, m: int, best: _Best, upper: Fraction | None, masks: set[int]) -> dict[str, Any]:
    # two doubles a number: what they leave out moves a height by 1e-32 times its square
    largest = max(map(abs, rationals.codeword(code.P, best.u)))
    u = [x / largest for x in best.u]
    high = [float(x) for x in u]
    low = [float(x - Fraction(part)) for x, part in zip(u, high, strict=True)]
    c = rationals.codeword(code.P, [Fraction(x) + Fraction(z) for x, z in zip(high, low, strict=True)])
    outside = sorted(range(len(c)), key=lambda j: (-abs(c[j]), j))[:m]
    witness = {"u": [repr(x) for x in high], "u_low": [repr(x) for x in low], "outside": outside}
    attained = rationals.height(c, m)
    if attained is None or attained > LARGEST_RATIO:
        return signed({**_frame(_plain(code), m), "height": "inf", "witness": witness, "bases": []})
    S = [j for j in range(len(c)) if j not in outside]
    z, basis, y, _ = rationals.best_of_set(code.P, S, outside[0], best.basis, den=code.den)
    if z is None or z > LARGEST_RATIO:
        raise MHeightError("a codeword of this code has a height next to 1e11, where real codes count as infinite")
    lower = _down(attained)
    top = max(lower, -_down(-max(z, upper or z))) * (1.0 + MARGIN)
    height = {"lower": repr(lower), "upper": repr(top)}
    dual = {"a": outside[0], "basis": basis, "y": [repr(float(x)) for x in y]}
    return signed({**_frame(code, m), "height": height, "witness": witness, "dual": dual, "bases": _hex(masks)})


def _down(x: Fraction) -> float:
    """The largest double that is not above x."""
    near = float(x)
    return nextafter(near, -inf) if Fraction(near) > x else near
