"""P of what users give: P itself, a generator G or a parity check H; a remark where it looks like another of these."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CodeError, brief
from ..numerics.rationals import as_floats, rational_matrix, systematic_part
from .linear import as_numbers, from_parity_check, systematic

KINDS = ("P", "G", "H")


def is_rational(M: Any) -> bool:
    """Whether a matrix is meant exactly: integers, Fractions or text, or floats that all are integers."""
    values = M.ravel().tolist() if isinstance(M, np.ndarray) else np.asarray(M, dtype=object).ravel().tolist()
    return all(not isinstance(value, float) or value.is_integer() for value in values)


def check_kind(matrix: Any) -> None:
    if matrix not in KINDS:
        raise CodeError(f"matrix must be P, G or H, got {brief(matrix)}")


def as_P(M: Any, matrix: str | None = None, *, rounded: bool = False) -> tuple[Any, NDArray[np.int64] | None]:
    """P of codes that are given by P, G or H.

    Args:
        M: one matrix or a batch of them. P is (k, r), of the generator [I | P]; G, (k, n), a generator of rank k in
            any basis; H, (r, n), a parity check of rank r, or of more rows where it is rational.
        matrix: "P", "G" or "H"; None is P, with a warning where M looks like another one.
        rounded: P in float64, even where that rounds.

    Returns:
        P, of a G or H of integers or fractions exactly, else to rounding; and None, or for G and H (n,) or (B, n):
        entry j of [I | P] is column order[j] of the matrix given.

    Raises:
        CodeError: there is no such kind, or the rank is not what it must be.
    """
    if matrix in (None, "P"):
        if matrix is None:
            _remark_other_kind(M)
        return M, None
    check_kind(matrix)
    raw = as_numbers(M, matrix)
    if raw.ndim not in (2, 3) or 0 in raw.shape[-2:]:
        raise CodeError(f"{matrix} must be one matrix or a batch of them, got shape {raw.shape}")
    made = [_form(one, matrix, rounded) for one in ([M] if raw.ndim == 2 else M)]
    if len({np.shape(P) for P, _ in made}) > 1:
        raise CodeError(f"{matrix} must have one rank in a batch, got several")
    P = np.array([P for P, _ in made]) if made else np.empty((0, *_empty_shape(raw.shape, matrix)))
    orders = np.array([order for _, order in made], np.int64).reshape(len(made), raw.shape[-1])
    return (P[0], orders[0]) if raw.ndim == 2 else (P, orders)


def _empty_shape(shape: tuple[int, ...], matrix: str) -> tuple[int, int]:
    rows, n = shape[-2:]
    return (rows, n - rows) if matrix == "G" else (n - rows, rows)


def _form(M: Any, matrix: str, rounded: bool) -> tuple[NDArray[Any], NDArray[np.int64]]:
    if not is_rational(M):
        return systematic(M) if matrix == "G" else from_parity_check(M)
    P, _, order = in_fractions(rational_matrix(M, matrix), matrix, exact=True)
    in_float64 = all(float(value) == value for row in P for value in row)
    out = as_floats(P, f"the systematic form of {matrix}, P") if rounded or in_float64 else np.array(P, dtype=object)
    return out, np.array(order)


def in_fractions(
    given: Sequence[Sequence[Fraction]], matrix: str, *, exact: bool
) -> tuple[list[list[Fraction]], int, list[int]]:
    """P in fractions, what makes its minors integers, and the order of columns, of a G or an H.

    exact: prefer the leftmost information set of G, and what the rightmost columns of H leave; else the one of
        `systematic` and `from_parity_check`.
    """
    n = len(given[0])
    if exact:
        first = list(range(n)) if matrix == "G" else list(range(n))[::-1]
    else:
        order = (systematic if matrix == "G" else from_parity_check)(as_floats(given, matrix))[1].tolist()
        first = order if matrix == "G" else order[::-1]
    X, den, inside = systematic_part(given, first, matrix)
    rank = len(inside)
    outside = [j for j in range(n) if j not in inside]
    if not 1 <= rank < n or (matrix == "G" and rank < len(given)):
        wanted = f"rank k = {len(given)} < n" if matrix == "G" else f"rank n - k with 1 <= k < n = {n}"
        raise CodeError(f"{matrix} must have {wanted}, got rank {rank}; drop rows that are combinations of others")
    if matrix == "G":
        return X, den, inside + outside
    return [[-x for x in column] for column in zip(*X, strict=True)], den, outside + inside


def in_given_order(word: NDArray[np.float64], order: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """A codeword, (n,) or (B, n), with its coordinates where the matrix given has them; order as `as_P` returns it."""
    if order is None:
        return word
    out = np.empty_like(word)
    np.put_along_axis(out, np.broadcast_to(order, word.shape), word, axis=-1)
    return out


def _remark_other_kind(M: Any) -> None:
    try:
        P = np.asarray(M)
    except ValueError:
        return
    if P.ndim not in (2, 3) or P.dtype.kind not in "iuf" or 0 in P.shape:
        return
    k, r = P.shape[-2:]
    eye = np.eye(min(k, r))

    def holds(block: tuple[slice, slice]) -> bool:
        return bool((P.reshape(-1, k, r)[0][block] == eye).all() and (P[(..., *block)] == eye).all())

    found = ""
    if k == 1 or r == 1:
        pass
    elif r > k and holds(np.index_exp[:, :k]):
        found = f'begins with a {k} x {k} identity block, as a generator does: if it is one, say matrix="G"'
    elif r > k and holds(np.index_exp[:, r - k :]):
        found = f'ends with a {k} x {k} identity block, as a parity check does: if it is one, say matrix="H"'
    elif k > r > 2 and (holds(np.index_exp[:r, :]) or holds(np.index_exp[k - r :, :])):
        found = (
            f'holds a {r} x {r} identity block: if it is a transposed G or H, say matrix="G" or "H" and transpose it'
        )
    if not found and P.ndim == 2 and k > max(8, 4 * r):  # in a batch it is meant
        found = f"has {k} rows and {r} columns, a code of dimension {k}: if it is transposed, transpose it"
    if found:
        warnings.warn(f'P {found}; if it is the P of [I | P], say matrix="P"', stacklevel=4)
