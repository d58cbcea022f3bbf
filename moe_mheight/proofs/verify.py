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

**Of which matrix.** A certificate names the matrix P, G or H that it was made for, and the order of its columns. G and
H are reduced here, in whole numbers, to the P of [I | P] in that order, and the P of the certificate must be that one:
in float64, whose P is rounded, each entry must be the double nearest to it. All that follows is about the exact P, so
what is proven is proven of the exact code of the matrix named, whose doubles are the fractions that they are.

A rational certificate states h_m itself, and both directions are whole-number arithmetic. One in float64 states
lower <= h_m <= upper for the code whose entries are exactly those doubles. An infinite height needs only its codeword:
h_m is infinite when some nonzero codeword has n - m zeros. Real codes hardly ever have exact zeros, so in float64 a
codeword of height above 1e11 counts as infinite too, as it does in the rest of this package; the verdict says which.

This module, `claims`, `reductions` and `transversals` use no code of the solvers that make certificates.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, brief
from .certificate_format import Claim, as_claim, open_certificate, shown
from .hitting_set_check import HittingSets, coordinates, members
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
        height: the claim: a fraction such as "5/3", "inf", or "[lower, upper]".
        bases: how many sets B the certificate lists.
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
    >>> claim = {"format": "moe_mheight certificate 1", "arithmetic": "rational", "n": 2, "k": 1, "m": 1, "P": [["2"]]}
    >>> claim |= {"height": "2", "witness": {"u": ["1"], "outside": [1]}, "dual": {"a": 1, "basis": [0], "y": ["2"]}}
    >>> claim |= {"bases": ["1", "2"], "made_by": "hand"}
    >>> verdict = verify(claim | {"sha256": digest(claim)})
    >>> verdict.accepted, verdict.height
    (True, '2')
    >>> claim["height"] = "5/2"
    >>> verify(claim | {"sha256": digest(claim)}).reason
    'the codeword has height 2, not 5/2'
    >>> claim["height"] = "2"
    >>> verify(claim | {"sha256": digest(claim)}, [[3, 6]], matrix="G").accepted
    True
    """
    claim = as_claim(open_certificate(certificate) if isinstance(certificate, (str, os.PathLike)) else certificate)
    if matrix not in (None, "P", "G", "H"):
        raise DataError(f"matrix must be P, G or H, got {brief(matrix)}")
    kind = matrix or claim.matrix
    rows = None if code is None else exact_rows(code, kind)
    search = HittingSets(claim.n)
    try:
        accepted, reason, missing = True, _proof(claim, rows, kind, search, advance), None
    except _NotProvenError as error:
        accepted, reason, missing = False, str(error), error.missing
    advance(1.0)
    return Verdict(
        accepted,
        reason,
        claim.n,
        claim.k,
        claim.m,
        claim.arithmetic,
        claim.height,
        len(claim.masks),
        search.nodes,
        missing,
        claim.matrix,
        code is not None,
    )


def _proof(
    claim: Claim, rows: Rational | None, kind: str, search: HittingSets, advance: Callable[[float], None]
) -> str:
    """Every check in turn; one line that says what they prove."""
    if not claim.digest_is_right:
        raise _NotProvenError("the sha256 is not that of the contents: the file was damaged or edited")
    claim = _of_its_matrix(claim)
    same = ""
    if rows is not None:
        _check_same_code(claim, rows, kind)
        same = f"; the {kind} given has this very code"
    return _proven(claim, search, advance) + same


def _of_its_matrix(claim: Claim) -> Claim:
    """The claim with the exact P of the matrix that it names; the P stated is that one, or rounded from it."""
    if claim.matrix == "P":
        return claim
    try:
        P, whole = systematic(claim.given, claim.matrix, claim.order, claim.k)
    except ReductionError as error:
        raise _NotProvenError(str(error)) from None
    for i, (row, stated) in enumerate(zip(P, claim.P, strict=True)):
        for j, (x, y) in enumerate(zip(row, stated, strict=True)):
            if x != y if claim.arithmetic == "rational" else not _rounds_to(x, y):
                raise _NotProvenError(
                    f"P[{i}][{j}] is {shown(y)}, but {claim.matrix} in this order of its columns has {shown(x)} there"
                )
    return replace(claim, P=P, whole=whole)


def _rounds_to(x: Fraction, y: Fraction) -> bool:
    """Whether y is the double nearest to x, and no subnormal one, whose relative error is larger."""
    try:
        return float(x) == y and (x == 0 or abs(x) >= 2.0**-1022)
    except OverflowError:
        return False


def _check_same_code(claim: Claim, rows: Rational, kind: str) -> None:
    n = len(rows[0]) + (len(rows) if kind == "P" else 0)
    if n != claim.n:
        raise _NotProvenError(f"the certificate is about a code of length {claim.n}; the {kind} given has length {n}")
    if kind == "P":
        rows = [[Fraction(i == j) for j in range(len(rows))] + row for i, row in enumerate(rows)]
    try:
        P, _ = systematic(rows, "H" if kind == "H" else "G", claim.order, claim.k)
    except ReductionError as error:
        raise _NotProvenError(f"the certificate is about another code than the {kind} given: {error}") from None
    if P != claim.P:
        i, j = next((i, j) for i, row in enumerate(P) for j, x in enumerate(row) if x != claim.P[i][j])
        raise _NotProvenError(
            f"the certificate is about another code: in its order of columns P[{i}][{j}] of [I | P] is "
            f"{shown(claim.P[i][j])}, and {shown(P[i][j])} for the {kind} given"
        )


def _proven(claim: Claim, search: HittingSets, advance: Callable[[float], None]) -> str:
    _check_witness(claim)
    if claim.upper is None:
        if _vanishes(claim):
            return f"h_{claim.m} is infinite: a codeword has n - m = {claim.n - claim.m} zeros or more"
        return f"h_{claim.m} counts as infinite: a codeword has a height above 1e11, the rule for real codes"
    if claim.dual is not None:
        _check_dual(claim, *claim.dual)
    within = _within_exactly(claim, advance) if claim.arithmetic == "rational" else _within_in_floats(claim, advance)
    masks = np.array(claim.masks, dtype=np.uint64)
    # neighbours in an ascending list are alike; shuffled, a few masks speak for all of them
    order = np.random.default_rng(0).permutation(len(masks))
    masks, within = masks[order], within[order]
    for a in range(claim.n):
        T = search.find(masks[within[:, a]], claim.m - 1)
        if T is not None:
            # a is in none of the masks, and a hitting set stays one when it grows
            T &= ~(1 << a)
            spare = [b for b in range(claim.n) if b != a and not T >> b & 1]
            hit = sorted([*coordinates(T), *spare[: claim.m - 1 - T.bit_count()]])
            raise _NotProvenError(
                f"not proven: no listed set that avoids a = {a} and T = {hit} has |y|_1 <= {claim.bound}",
                (a, tuple(hit)),
            )
        advance((1 + (a + 1) / claim.n) / 2)
    relation = "=" if claim.arithmetic == "rational" else "is in"
    return f"h_{claim.m} {relation} {claim.height}: a codeword proves one side, {len(masks)} sets of columns the other"


def _check_witness(claim: Claim) -> None:
    """The codeword is one, is sorted as the certificate says, and has the height claimed."""
    sizes = [abs(x) for x in claim.codeword]
    down = sorted(sizes, reverse=True)
    top, mth = down[0], down[claim.m]
    if not top:
        raise _NotProvenError("the witness is the zero codeword")
    if sizes[claim.outside[0]] != top:
        raise _NotProvenError(f"coordinate {claim.outside[0]}, first in outside, is not a largest one of the codeword")
    if max(size for j, size in enumerate(sizes) if j not in claim.outside) != mth:
        raise _NotProvenError(f"witness.outside = {claim.outside} are not m largest coordinates of the codeword")
    if claim.lower is None:
        if mth and (claim.arithmetic == "rational" or top <= COUNTS_AS_INFINITE * mth):
            raise _NotProvenError(f"the codeword has height {shown(top / mth)}, not inf")
    elif not mth:
        raise _NotProvenError(f"the codeword has n - m zeros, so the height is infinite, not {claim.height}")
    elif claim.arithmetic == "rational" and top != claim.lower * mth:
        raise _NotProvenError(f"the codeword has height {shown(top / mth)}, not {claim.bound}")
    elif top < claim.lower * mth:
        raise _NotProvenError(f"the codeword has height {float(top / mth)!r}, below {float(claim.lower)!r}")


def _vanishes(claim: Claim) -> bool:
    return sum(x == 0 for x in claim.codeword) >= claim.n - claim.m


def _check_dual(claim: Claim, a: int, basis: list[int], y: list[Fraction]) -> None:
    """The dual solution of the witness's own linear program; a float64 one need not be exact."""
    assert claim.upper is not None
    if a != claim.outside[0]:
        raise _NotProvenError(f"dual.a = {a} is not the witness's largest coordinate {claim.outside[0]}")
    if set(basis) & set(claim.outside):
        raise _NotProvenError(f"dual.basis = {basis} meets witness.outside = {claim.outside}")
    if claim.arithmetic == "rational":
        if any(_residual(claim.G, basis, a, y)):
            raise _NotProvenError(f"dual.y does not solve G_B y = g_a for a = {a}")
        if sum(map(abs, y)) != claim.upper:
            raise _NotProvenError(f"dual.y has |y|_1 = {shown(Fraction(sum(map(abs, y))))}, not {claim.bound}")
        return
    bound = _bound(claim.G, basis, a, y)
    if bound is None:
        raise _NotProvenError(f"dual.y does not solve G_B y = g_a for a = {a}, not even nearly")
    if bound > claim.upper:
        tableau = Tableau(claim.G, claim.whole)
        tableau.move_to(basis)
        exact = tableau.norm(a)
        if exact is None or exact > claim.upper:
            raise _NotProvenError(f"dual.y proves only {shown(bound)} for a = {a}, not {claim.bound}")


def _residual(G: list[list[Fraction]], basis: list[int], a: int, y: list[Fraction]) -> list[Fraction]:
    """rho = g_a - G_B y."""
    return [row[a] - sum((row[j] * x for j, x in zip(basis, y, strict=True)), Fraction(0)) for row in G]


def _bound(G: list[list[Fraction]], basis: list[int], a: int, y: list[Fraction]) -> Fraction | None:
    """U_B = |y|_1 / (1 - |rho|_1), exactly; None when |rho|_1 >= 1."""
    off = sum(map(abs, _residual(G, basis, a, y)), Fraction(0))
    return sum(map(abs, y), Fraction(0)) / (1 - off) if off < 1 else None


def _within_exactly(claim: Claim, advance: Callable[[float], None]) -> NDArray[np.bool_]:
    """For every listed B and every a: a is not in B, and |y|_1 <= U in whole numbers."""
    assert claim.upper is not None
    U = claim.upper
    within = np.zeros((len(claim.masks), claim.n), dtype=bool)
    tableau = Tableau(claim.G, claim.whole)
    for i, mask in enumerate(claim.masks):
        tableau.move_to(coordinates(mask))
        most = U.numerator * abs(tableau.D) // U.denominator
        within[i] = [
            total is not None and total <= most and not mask >> a & 1 for a, total in enumerate(tableau.sums())
        ]
        if i % 256 == 0:
            advance(i / len(claim.masks) / 2)
    return within


def _within_in_floats(claim: Claim, advance: Callable[[float], None]) -> NDArray[np.bool_]:
    """For every listed B and every a: a is not in B, and U_B <= U, by rounding bounds or else in fractions."""
    assert claim.upper is not None
    masks = np.array(claim.masks, dtype=np.uint64)
    held = members(masks, claim.n)
    within = np.zeros_like(held)
    unsure = np.zeros_like(held)
    G = np.array([[float(x) for x in row] for row in claim.G])
    size = held.sum(axis=1)
    pieces = [
        rows[i : i + 512]
        for s in np.unique(size)
        for rows in [np.flatnonzero(size == s)]
        for i in range(0, len(rows), 512)
    ]
    done = 0
    for rows in pieces:
        B = np.nonzero(held[rows])[1].reshape(len(rows), -1)
        within[rows], unsure[rows] = _within_rounded(G, B, float(claim.upper))
        done += len(rows)
        advance(done / len(masks) / 4)
    within &= ~held
    unsure &= ~held
    tableau = Tableau(claim.G, claim.whole)
    left = np.flatnonzero(unsure.any(axis=1))
    for tried, i in enumerate(left):
        basis = coordinates(claim.masks[i])
        tableau.move_to(basis)
        for a in np.flatnonzero(unsure[i]):
            bound = tableau.norm(int(a))
            if bound is None:
                bound = _refined(claim.G, basis, int(a))
            within[i, a] = bound is not None and bound <= claim.upper
        advance((1 + tried / len(left)) / 4)
    return within


def _within_rounded(
    G: NDArray[np.float64], B: NDArray[np.int64], U: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where U_B <= U whatever the rounding was, and where fractions may yet show it, for sets B of one size, (b, s).

    A sum of k products is off by at most gamma_k = k v / (1 - k v) times the sum of their sizes, v = 2^-53, in whatever
    order they are added (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). slack is above
    gamma_(k + 8), room for the few operations more that there are and for a G that is rounded from fractions (v more),
    and tiny is above all that underflow can lose.
    """
    k = len(G)
    slack, tiny = (k + 8) * 2.0**-52, 1e-300
    G_B = np.moveaxis(G[:, B], 1, 0)
    with np.errstate(all="ignore"):
        y = _solutions(G_B, G)
        size = np.abs(y).sum(axis=1)
        rho = np.abs(G - G_B @ y) + slack * (np.abs(G_B) @ np.abs(y) + np.abs(G))
        off = rho.sum(axis=1) * (1 + slack) + tiny
        bound = (size * (1 + slack) + tiny) / (1 - off) * (1 + slack)
        # comparisons with NaN are false, so what overflowed is not proven
        within = (off < 0.5) & (bound <= U)
        # y is off by G_B^-1 rho, and the first k columns of y are G_B^-1: far above U no more digits can help
        reach = 4 * size[:, :k].max(axis=1, keepdims=True) * off
        near = (off < 1) & (size <= U * (1 + 1e-3)) & (size - reach <= U)
        # where floats say nothing at all, k columns that are badly scaled may still be a basis
        unsure = ~within & (near | (~(off < 1) if B.shape[1] == k else False))
    return within, unsure


def _solutions(G_B: NDArray[np.float64], G: NDArray[np.float64]) -> NDArray[np.float64]:
    """y with G_B y = G, nearly, for a batch; nothing is concluded from how good they are. NaN where there is none."""
    count, k, s = G_B.shape
    try:
        return np.asarray(np.linalg.solve(G_B, G[None]) if s == k else np.linalg.pinv(G_B) @ G, dtype=np.float64)
    except np.linalg.LinAlgError:
        if count == 1:
            return np.full((1, s, G.shape[1]), np.nan)
        # one singular matrix stops a whole batch: halve until it is alone
        return np.concatenate([_solutions(half, G) for half in (G_B[: count // 2], G_B[count // 2 :])])


def _refined(G: list[list[Fraction]], basis: list[int], a: int) -> Fraction | None:
    """U_B for a set B that spans g_a only nearly: y in floats, twice improved by its exact residual."""
    y = [Fraction(0)] * len(basis)
    try:
        inverse = np.linalg.pinv(np.array([[float(row[j]) for j in basis] for row in G]).reshape(len(G), len(basis)))
        for _ in range(3):
            step = inverse @ np.array([float(x) for x in _residual(G, basis, a, y)])
            y = [x + Fraction(float(d)) for x, d in zip(y, step, strict=True)]
    except (np.linalg.LinAlgError, OverflowError, ValueError):
        # too large or too badly conditioned for floats; Fraction refuses infinity and NaN with these errors
        return None
    return _bound(G, basis, a, y)
