"""The elements of a group of automorphisms, and how far off they are: a bound for each, checked against G itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.rounding import ROUNDING
from .automorphisms import Automorphism

LARGEST = 2048
"""Elements of a group that are listed; of larger groups a subgroup is."""

FAILURES = 4
"""Generators left out for making a group too large, after which no more are tried."""

EXACT_WHOLE = 2.0**53
"""Sums of integers below this are exact in float64."""


WORKED_OUT = 4e6
"""Products that the errors of all elements of a group may take: some 10 ms."""

WIDE = 1.5
"""A basis is widened while some column has a larger coefficient."""


class Group(NamedTuple):
    """A group of automorphisms, that of equal columns left out.

    generators: what generates it.
    perms: (g, n) int64, its elements, the identity first: j goes to perms[:, j].
    error: for a codeword c with coordinates within [-1, 1] and every element some codeword is that close to what the
        element makes of c, coordinate by coordinate.
    """

    generators: list[Automorphism]
    perms: NDArray[np.int64]
    error: float


def orbits(perms: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first coordinate of each one's orbit, (n,), for a group with these elements (g, n)."""
    return np.asarray(perms.min(axis=0))


class Elements(NamedTuple):
    """The elements of a group: perms, signs (g, n), the identity first; the longest product of generators needed."""

    perms: NDArray[np.int64]
    signs: NDArray[np.float64]
    longest: int


def listed(generators: Sequence[Automorphism], n: int, largest: int = LARGEST) -> Elements | None:
    """The group that automorphisms generate, one for each permutation; None where there are more than `largest`."""
    rows, longest = np.arange(n, dtype=np.uint8)[None], 0
    new, signs = rows, np.ones((1, n))
    new_signs = signs
    while len(generators) and len(new):
        images = np.concatenate([found.perm.astype(np.uint8)[new] for found in generators])
        image_signs = np.concatenate([found.sign[new] * new_signs for found in generators])
        _, first = np.unique(_as_one(np.concatenate([rows, images])), return_index=True)
        fresh = np.sort(first[first >= len(rows)]) - len(rows)
        new, new_signs = images[fresh], image_signs[fresh]
        rows, signs = np.concatenate([rows, new]), np.concatenate([signs, new_signs])
        longest += len(new) > 0
        if len(rows) > largest:
            return None
    return Elements(rows.astype(np.int64), signs, longest)


def _as_one(rows: NDArray[np.uint8]) -> NDArray[np.void]:
    """Each row (n,) as one value that can be compared."""
    return np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1])))[:, 0]


class _Basis(NamedTuple):
    """Codewords that are nearly 1 at one of k coordinates each, 0 at the others, and not much larger anywhere.

    A: (k, n), rounded. off: (k, n), a bound on how much. B: (k,), the coordinates.
    reach: the largest coefficient of a codeword with coordinates within [-1, 1].
    """

    A: NDArray[np.float64]
    off: NDArray[np.float64]
    B: NDArray[np.int64]
    reach: float


def _basis(G: NDArray[np.float64]) -> _Basis:
    """Such codewords, X G for an X near the inverse of G_B: in the code exactly, whatever X is.

    A codeword c = v X G has c_B = v (I + D), so |v_i| <= 1 / (1 - d) where d bounds the columns of |D|.
    """
    k = len(G)
    A, B = G.copy(), np.arange(k)
    for _ in range(4 * k):
        i, j = np.unravel_index(np.abs(A).argmax(), A.shape)
        if abs(A[i, j]) <= WIDE:
            break
        row = A[i] / A[i, j]
        A -= np.outer(A[:, j], row)
        A[i], A[:, j], B[i] = row, np.arange(k) == i, j
    X, wide = np.linalg.inv(G[:, B]).astype(np.longdouble), G.astype(np.longdouble)
    X += X @ (np.eye(k) - wide[:, B] @ X)  # Newton: where long doubles are no longer than doubles, bounds are wider
    A = (X @ wide).astype(float)
    unit = float(np.finfo(np.longdouble).eps)
    off = ((k + 2) * unit * (np.abs(X).astype(float) @ np.abs(G)) + ROUNDING * np.abs(A)) * (1.0 + k * 1e-15) + 1e-300
    d = float((np.abs(A[:, B] - np.eye(k)) + off[:, B]).sum(axis=0).max())
    return _Basis(A, off, B, 1.0 / (1.0 - d) * (1.0 + 1e-14) if d < 0.5 else np.inf)


def errors_of(G: NDArray[np.float64], generators: Sequence[Automorphism]) -> list[float]:
    """How far what each makes of a codeword with coordinates within [-1, 1] may be from a codeword, at any coordinate.

    With Pi the signed permutation, v the coefficients of the codeword in a basis A and M the columns B of A Pi,
    v A Pi = (v M) A + v E: E is worked out, with a bound on its rounding. 0 for integers when G Pi = M G exactly.
    """
    if not generators:
        return []
    whole = bool((np.floor(G) == G).all())
    basis = _basis(G)
    return [
        0.0 if whole and _is_exact(G, found) else float(_errors(basis, found.perm[None], found.sign[None])[0])
        for found in generators
    ]


def _is_exact(G: NDArray[np.float64], found: Automorphism) -> bool:
    """Whether it keeps the code of integers G = [I | P], which float64 says when all sums are small."""
    moved = np.empty_like(G)
    moved[:, found.perm] = G * found.sign
    M = moved[:, : len(G)]
    return float((np.abs(M) @ np.abs(G)).max()) < EXACT_WHOLE and bool((moved == M @ G).all())


def _errors(basis: _Basis, perms: NDArray[np.int64], signs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The errors of automorphisms (g, n), (g,)."""
    A, k = basis.A, len(basis.B)
    back = np.argsort(perms, axis=1)
    moved = np.moveaxis(A[:, back] * np.take_along_axis(signs, back, axis=1), 0, 1)
    off = np.moveaxis(basis.off[:, back], 0, 1)
    M = moved[:, :, basis.B]
    terms = np.abs(M) @ np.abs(A) + np.abs(moved)
    E = np.abs(moved - M @ A) + off + np.abs(M) @ basis.off + (k + 4) * ROUNDING * terms
    return np.asarray(E.sum(axis=1).max(axis=1) * basis.reach * (1.0 + 4.0 * (k + 4) * ROUNDING))


def _error_of_all(G: NDArray[np.float64], elements: Elements, worst: float) -> float:
    """The error of every element of a group with generators of that one: each worked out, or as products add up."""
    total = elements.longest * worst
    total *= 1.0 + 2.0 * total  # (1 + worst)^longest - 1, and a little more
    if worst == 0.0 or len(elements.perms) * len(G) ** 2 * G.shape[1] > WORKED_OUT:
        return total
    return min(total, float(_errors(_basis(G), elements.perms, elements.signs).max()))


def none_of(n: int) -> Group:
    """The identity alone, for codes of length n."""
    return Group([], np.arange(n)[None], 0.0)


def group_of(G: NDArray[np.float64], generators: Sequence[Automorphism], error: float, largest: int = LARGEST) -> Group:
    """The group of those generators whose error is at most `error`, or one of its subgroups of listable size."""
    n = G.shape[1]
    errors = errors_of(G, generators)
    good = [found for found, off in zip(generators, errors, strict=True) if off <= error]
    kept, elements, whole = _gathered(good[::-1], n, largest)
    if not whole:
        others = _gathered(good, n, largest)
        kept, elements = max((kept, elements), others[:2], key=lambda pair: len(pair[1].perms))
    worst = max(
        (off for found, off in zip(generators, errors, strict=True) if any(found is f for f in kept)), default=0.0
    )
    return Group(kept, elements.perms, _error_of_all(G, elements, worst))


def _gathered(generators: Sequence[Automorphism], n: int, largest: int) -> tuple[list[Automorphism], Elements, bool]:
    """The group of the first of these, left out where they make it too large; whether none was."""
    kept: list[Automorphism] = []
    elements, too_large = Elements(np.arange(n)[None], np.ones((1, n)), 0), 0
    for found in generators:
        if 2 * len(elements.perms) > largest or too_large == FAILURES:
            return kept, elements, False
        more = listed([*kept, found], n, largest)
        if more is None:
            too_large += 1
        elif len(more.perms) > len(elements.perms):
            elements = more
            kept.append(found)
    return kept, elements, too_large == 0
