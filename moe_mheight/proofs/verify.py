"""Certificates of heights, checked without a solver: an accepted certificate is a proof, and this is the proof.

Write c for a codeword of [I | P], g_0, ..., g_(n-1) for the columns, |c|_(0) >= |c|_(1) >= ... for its sorted sizes.

**From below.** A certificate shows a codeword, and its |c|_(0) / |c|_(m) is worked out in fractions: h_m is no less.

**From above.** Let B be a set of columns, a one outside B, and G_B y = g_a. Every codeword has c_a = sum_j y_j c_j over
B, so |c_a| <= |y|_1 max_j |c_j|. Now take any nonzero codeword, let a be its largest coordinate and T the next m - 1.
If B avoids a and T, its coordinates are at most |c|_(m), hence |c|_(0) <= |y|_1 |c|_(m), and |c|_(m) is not 0.
Therefore h_m <= U as soon as, **for every a and every T of m - 1 other coordinates, some listed B avoids a and T and
has |y|_1 <= U for that a**. Put differently: for each a, the listed B that avoid a and have |y|_1 <= U have no hitting
set of m - 1 coordinates. Nothing else about the B is needed, neither that they are bases nor that they are the best.

**With rounding.** If y solves the system but for rho = g_a - G_B y, then c_a = sum_j y_j c_j + sum_i c_i rho_i, where
i runs through the k information coordinates, and |c_i| <= |c_a|. So |c_a| (1 - |rho|_1) <= |y|_1 |c|_(m), and
U_B = |y|_1 / (1 - |rho|_1) takes the place of |y|_1 wherever |rho|_1 < 1: y may be wrong, U_B is right all the same.

**With automorphisms.** A signed permutation that maps the code to itself maps what is said above of B and a to their
images. A certificate may list generators of a group of them, each checked in whole numbers. Then the images of the
listed B count as listed, and one a of each orbit stands for all.

**Of which matrix.** A certificate names the matrix P, G or H that it was made for, and the order of its columns. G and
H are reduced here, in whole numbers, to the P of [I | P] in that order, and the P of the certificate must be that one:
in float64, whose P is rounded, each entry must be the double nearest to it. All that follows is about the exact P, so
what is proven is proven of the exact code of the matrix named, whose doubles are the fractions that they are.

A rational certificate states h_m itself, and both directions are whole-number arithmetic. One in float64 states
lower <= h_m <= upper for the code whose entries are exactly those doubles. An infinite height needs only its codeword:
h_m is infinite when some nonzero codeword has n - m zeros. Real codes hardly ever have exact zeros, so in float64 a
codeword of height above 1e11 counts as infinite too, as it does in the rest of this package; the verdict says which.

This module, `certificate_format`, `automorphism_check`, `dual_bounds`, `row_reduction` and `hitting_set_check` use no
code of the solvers that make certificates.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import DataError, brief
from .automorphism_check import LARGEST_GROUP, Images, Perm, closure, keeps_code
from .certificate_format import Parsed, open_certificate, parse, shown
from .dual_bounds import residual, rounded_bound, within_exactly, within_in_floats
from .hitting_set_check import HittingSets, coordinates
from .row_reduction import Rational, ReductionError, Tableau, exact_rows, systematic

COUNTS_AS_INFINITE = 10**11
"""The height above which a real code's counts as infinite."""


@dataclass(frozen=True)
class Verdict:
    """What a check of a certificate found.

    Attributes:
        accepted: whether the height is proven.
        reason: one line: what was proven and how, or the first thing that is not.
        n, k, m, arithmetic: as the certificate states them.
        height: what is claimed: a fraction such as "5/3", "inf", or "[lower, upper]".
        bases: how many sets B the certificate lists, their images under automorphisms not counted.
        nodes: how many nodes the search for hitting sets had.
        missing: (a, T) that no listed B avoids, where that is why it is refused.
        matrix: of what the certificate is: "P", "G" or "H".
        compared: whether a matrix was given to compare it with.
    """

    accepted: bool
    reason: str
    n: int
    k: int
    m: int
    arithmetic: str
    height: str
    bases: int
    nodes: int
    missing: tuple[int, tuple[int, ...]] | None = None
    matrix: str = "P"
    compared: bool = False


class _NotProvenError(Exception):
    """A claim that the certificate does not prove; the message is the verdict's reason."""

    def __init__(self, reason: str, missing: tuple[int, tuple[int, ...]] | None = None) -> None:
        super().__init__(reason)
        self.missing = missing


def _silently(share: float) -> None:
    """The `advance` of those who do not watch progress."""


def verify(
    certificate: dict[str, Any] | str | os.PathLike[str],
    code: Any = None,
    *,
    matrix: str | None = None,
    advance: Callable[[float], None] = _silently,
) -> Verdict:
    """Check the certificate of a height, and that it is about a certain code.

    Args:
        certificate: a certificate as JSON reads it, or the path of a file of at most 512 MiB.
        code: a matrix, rows of ints, Fractions, floats (each the fraction it is) or text such as "-3/4". The
            certificate is refused unless it is about the very code that this matrix generates, coordinate by
            coordinate: the matrix that it names, or any other P, G or H of the same code.
        matrix: what `code` is: "P", "G" or "H". Default: what the certificate is of.
        advance: told the share of the work that is done, from 0 to 1.

    Returns:
        The verdict. Refused means that this certificate proves nothing, not that its height is wrong.

    Raises:
        DataError: the file cannot be read, or is no certificate: broken JSON, missing keys, numbers that are none; or
            `code` is no matrix.

    h_1 of the code with P = [[2]], whose codewords are the multiples of (1, 2), is 2:

    >>> from moe_mheight.proofs.certificate_format import digest
    >>> stated = {"format": "moe_mheight certificate 1", "arithmetic": "rational", "n": 2, "k": 1, "m": 1, "P": [["2"]]}
    >>> stated |= {"height": "2", "witness": {"u": ["1"], "outside": [1]}, "dual": {"a": 1, "basis": [0], "y": ["2"]}}
    >>> stated |= {"bases": ["1", "2"], "made_by": "hand"}
    >>> verdict = verify(stated | {"sha256": digest(stated)})
    >>> verdict.accepted, verdict.height
    (True, '2')
    >>> stated["height"] = "5/2"
    >>> verify(stated | {"sha256": digest(stated)}).reason
    'the codeword has height 2, not 5/2'
    >>> stated["height"] = "2"
    >>> verify(stated | {"sha256": digest(stated)}, [[3, 6]], matrix="G").accepted
    True
    """
    parsed = parse(open_certificate(certificate) if isinstance(certificate, (str, os.PathLike)) else certificate)
    if matrix not in (None, "P", "G", "H"):
        raise DataError(f"matrix must be P, G or H, got {brief(matrix)}")
    kind = matrix or parsed.matrix
    rows = None if code is None else exact_rows(code, kind)
    search = HittingSets(parsed.n)
    try:
        accepted, reason, missing = True, _proof(parsed, rows, kind, search, advance), None
    except _NotProvenError as error:
        accepted, reason, missing = False, str(error), error.missing
    advance(1.0)
    return Verdict(
        accepted,
        reason,
        parsed.n,
        parsed.k,
        parsed.m,
        parsed.arithmetic,
        parsed.height,
        len(parsed.masks),
        search.nodes,
        missing,
        parsed.matrix,
        code is not None,
    )


def _proof(
    parsed: Parsed, rows: Rational | None, kind: str, search: HittingSets, advance: Callable[[float], None]
) -> str:
    """Every check in turn; one line that says what they prove."""
    if not parsed.digest_is_right:
        raise _NotProvenError("the sha256 is not that of the contents: the file was damaged or edited")
    parsed = _of_its_matrix(parsed)
    same = ""
    if rows is not None:
        _check_same_code(parsed, rows, kind)
        same = f"; the {kind} given has this very code"
    return _proven(parsed, search, advance) + same


def _of_its_matrix(parsed: Parsed) -> Parsed:
    """The certificate with the exact P of the matrix that it names; the P stated is that one, or rounded from it."""
    if parsed.matrix == "P":
        return parsed
    try:
        P, scale = systematic(parsed.given, parsed.matrix, parsed.order, parsed.k)
    except ReductionError as error:
        raise _NotProvenError(str(error)) from None
    for i, (row, stated) in enumerate(zip(P, parsed.P, strict=True)):
        for j, (x, y) in enumerate(zip(row, stated, strict=True)):
            if x != y if parsed.arithmetic == "rational" else not _rounds_to(x, y):
                raise _NotProvenError(
                    f"P[{i}][{j}] is {shown(y)}, but {parsed.matrix} in this order of its columns has {shown(x)} there"
                )
    return replace(parsed, P=P, scale=scale)


def _rounds_to(x: Fraction, y: Fraction) -> bool:
    """Whether y is the double nearest to x, and no subnormal one, whose relative error is larger."""
    try:
        return float(x) == y and (x == 0 or abs(x) >= 2.0**-1022)
    except OverflowError:
        return False


def _check_same_code(parsed: Parsed, rows: Rational, kind: str) -> None:
    n = len(rows[0]) + (len(rows) if kind == "P" else 0)
    if n != parsed.n:
        raise _NotProvenError(f"the certificate is about a code of length {parsed.n}; the {kind} given has length {n}")
    if kind == "P":
        rows = [[Fraction(i == j) for j in range(len(rows))] + row for i, row in enumerate(rows)]
    try:
        P, _ = systematic(rows, "H" if kind == "H" else "G", parsed.order, parsed.k)
    except ReductionError as error:
        raise _NotProvenError(f"the certificate is about another code than the {kind} given: {error}") from None
    if P != parsed.P:
        i, j = next((i, j) for i, row in enumerate(P) for j, x in enumerate(row) if x != parsed.P[i][j])
        raise _NotProvenError(
            f"the certificate is about another code: in its order of columns P[{i}][{j}] of [I | P] is "
            f"{shown(parsed.P[i][j])}, and {shown(P[i][j])} for the {kind} given"
        )


def _proven(parsed: Parsed, search: HittingSets, advance: Callable[[float], None]) -> str:
    _check_witness(parsed)
    if parsed.upper is None:
        if _vanishes(parsed):
            return f"h_{parsed.m} is infinite: a codeword has n - m = {parsed.n - parsed.m} zeros or more"
        return f"h_{parsed.m} counts as infinite: a codeword has a height above 1e11, the rule for real codes"
    if parsed.dual is not None:
        _check_dual(parsed, *parsed.dual)
    group = _group(parsed)
    within = within_exactly(parsed, advance) if parsed.arithmetic == "rational" else within_in_floats(parsed, advance)
    masks = np.array(parsed.masks, dtype=np.uint64)
    # neighbours in an ascending list are alike; shuffled, a few masks speak for all of them
    order = np.random.default_rng(0).permutation(len(masks))
    masks, within = masks[order], within[order]
    images = Images(masks, within, group)
    for a in images.targets:
        T = search.find(images.of_target(a), parsed.m - 1)
        if T is not None:
            # a is in none of the masks, and a hitting set stays one when it grows
            T &= ~(1 << a)
            spare = [b for b in range(parsed.n) if b != a and not T >> b & 1]
            hit = sorted([*coordinates(T), *spare[: parsed.m - 1 - T.bit_count()]])
            raise _NotProvenError(
                f"not proven: no listed set that avoids a = {a} and T = {hit} has |y|_1 <= {parsed.bound}",
                (a, tuple(hit)),
            )
        advance((1 + (a + 1) / parsed.n) / 2)
    relation = "=" if parsed.arithmetic == "rational" else "is in"
    sets = f"{len(masks)} sets of columns" + (f" and their images under {len(group)} automorphisms" * (len(group) > 1))
    return f"h_{parsed.m} {relation} {parsed.height}: a codeword proves one side, {sets} the other"


def _group(parsed: Parsed) -> list[Perm]:
    """The permutations that the automorphisms listed generate; each of these keeps the code."""
    for i, (perm, signs) in enumerate(parsed.automorphisms):
        if not keeps_code(parsed.P, perm, signs):
            raise _NotProvenError(f"automorphisms[{i}] is not shown to map the code to itself")
    group = closure([perm for perm, _ in parsed.automorphisms], parsed.n)
    if group is None:
        raise _NotProvenError(f"the automorphisms generate more than {LARGEST_GROUP} permutations, too many to try")
    return group


def _check_witness(parsed: Parsed) -> None:
    """The codeword is one, is sorted as the certificate says, and has the height claimed."""
    sizes = [abs(x) for x in parsed.codeword]
    down = sorted(sizes, reverse=True)
    top, mth = down[0], down[parsed.m]
    if not top:
        raise _NotProvenError("the witness is the zero codeword")
    if sizes[parsed.outside[0]] != top:
        raise _NotProvenError(f"coordinate {parsed.outside[0]}, first in outside, is not a largest one of the codeword")
    if max(size for j, size in enumerate(sizes) if j not in parsed.outside) != mth:
        raise _NotProvenError(f"witness.outside = {parsed.outside} are not m largest coordinates of the codeword")
    if parsed.lower is None:
        if mth and (parsed.arithmetic == "rational" or top <= COUNTS_AS_INFINITE * mth):
            raise _NotProvenError(f"the codeword has height {shown(top / mth)}, not inf")
    elif not mth:
        raise _NotProvenError(f"the codeword has n - m zeros, so the height is infinite, not {parsed.height}")
    elif parsed.arithmetic == "rational" and top != parsed.lower * mth:
        raise _NotProvenError(f"the codeword has height {shown(top / mth)}, not {parsed.bound}")
    elif top < parsed.lower * mth:
        raise _NotProvenError(f"the codeword has height {float(top / mth)!r}, below {float(parsed.lower)!r}")


def _vanishes(parsed: Parsed) -> bool:
    return sum(x == 0 for x in parsed.codeword) >= parsed.n - parsed.m


def _check_dual(parsed: Parsed, a: int, basis: list[int], y: list[Fraction]) -> None:
    """The dual solution of the witness's own linear program; a float64 one need not be exact."""
    assert parsed.upper is not None
    if a != parsed.outside[0]:
        raise _NotProvenError(f"dual.a = {a} is not the witness's largest coordinate {parsed.outside[0]}")
    if set(basis) & set(parsed.outside):
        raise _NotProvenError(f"dual.basis = {basis} meets witness.outside = {parsed.outside}")
    if parsed.arithmetic == "rational":
        if any(residual(parsed.G, basis, a, y)):
            raise _NotProvenError(f"dual.y does not solve G_B y = g_a for a = {a}")
        if sum(map(abs, y)) != parsed.upper:
            raise _NotProvenError(f"dual.y has |y|_1 = {shown(Fraction(sum(map(abs, y))))}, not {parsed.bound}")
        return
    bound = rounded_bound(parsed.G, basis, a, y)
    if bound is None:
        raise _NotProvenError(f"dual.y does not solve G_B y = g_a for a = {a}, not even nearly")
    if bound > parsed.upper:
        tableau = Tableau(parsed.G, parsed.scale)
        tableau.move_to(basis)
        exact = tableau.norm(a)
        if exact is None or exact > parsed.upper:
            raise _NotProvenError(f"dual.y proves only {shown(bound)} for a = {a}, not {parsed.bound}")
