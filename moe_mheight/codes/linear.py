"""Real linear codes as matrices: what counts as one, its systematic forms and its symmetries.

A code is given by P, k x r, meaning G = [I_k | P] with n = k + r coordinates. The m-height does not change when
coordinates are permuted, coordinates change sign, or another information set is made systematic; scaling a coordinate
does change the code.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import CodeError, brief
from ..numerics.rationals import MAGNITUDES

RANK_TOLERANCE = 1e-10
"""Columns of an orthonormalised generator this close to dependent count as dependent."""


def check_P(P: ArrayLike, *, max_n: int | None = None, what: str = "P") -> tuple[NDArray[np.float64], bool]:
    """One matrix or a batch as (B, k, r) float64, and whether it was one matrix.

    Raises:
        CodeError: P is ragged, not real, not finite, empty, out of range, or longer than max_n.
    """
    given = as_numbers(P, what)
    raw = _from_objects(P, given, what) if given.dtype == object else given
    if raw.dtype.kind not in "iuf":
        raise CodeError(f"{what} must hold real numbers, got dtype {raw.dtype}")
    if raw.ndim not in (2, 3):
        raise CodeError(f"{what} must have shape (k, r) or (B, k, r), got {raw.shape}")
    k, r = raw.shape[-2:]
    if k < 1 or r < 1:
        raise CodeError(f"{what} must have k >= 1 rows and r >= 1 columns, got {k} x {r}")
    if max_n is not None and k + r > max_n:
        raise CodeError(f"{what} is {k} x {r}, a code of length n = k + r = {k + r}; here n must be at most {max_n}")
    _refuse_rounding(P, given, what)
    batch = np.ascontiguousarray(raw.reshape(-1, k, r), dtype=np.float64)
    for start in range(0, len(batch), CHECKED_AT_ONCE):
        _check_entries(batch[start : start + CHECKED_AT_ONCE], what)
    return batch, raw.ndim == 2


CHECKED_AT_ONCE = 65536
"""Codes, so that checking a million of them needs no second copy."""


def _check_entries(batch: NDArray[np.float64], what: str) -> None:
    if not np.isfinite(batch).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(batch))[0])
        raise CodeError(f"{what} must be finite, got {batch[where]} at row {where[1]}, column {where[2]}")
    size = np.abs(batch)
    bad = (size > MAGNITUDES[1]) | ((size < MAGNITUDES[0]) & (size > 0))
    if bad.any():
        value = batch[tuple(np.argwhere(bad)[0])]
        raise CodeError(
            f"{what} must have |entries| in [{MAGNITUDES[0]:g}, {MAGNITUDES[1]:g}] or 0, got {value:g}; "
            "scale the whole code or round the entry to 0"
        )


def _refuse_nesting(P: Any, what: str) -> None:
    """Lists inside lists inside lists, perhaps themselves, or one in many places: NumPy would walk them without end."""

    def lists(outer: Any) -> list[Any]:
        return [inner for inner in outer if isinstance(inner, (list, tuple))]

    wide, max_entries = lists(P), 2**27
    once = {id(outer): outer for outer in wide}
    size = {key: max(len(outer), sum(map(len, lists(outer)))) for key, outer in once.items()}
    entries = sum(size[id(outer)] for outer in wide)
    if entries > max_entries:
        raise CodeError(
            f"{what} must be an array where it has more than {max_entries:,} entries, got lists of {entries:,}"
        )
    if any(lists(row) for outer in once.values() for row in lists(outer)):
        raise CodeError(f"{what} must have shape (k, r) or (B, k, r), got lists nested deeper")


def as_numbers(P: Any, what: str = "P") -> NDArray[Any]:
    """P as an array of whatever type NumPy finds for it.

    Raises:
        CodeError: P is ragged, nested too deep, or a pair (P, order).
    """
    if isinstance(P, tuple) and len(P) == 2 and isinstance(P[0], np.ndarray) and P[0].ndim == 2 and np.ndim(P[1]) == 1:
        raise CodeError(
            f"{what} is a pair (P, order), as systematic and from_parity_check return it: give the first of the two"
        )
    if isinstance(P, (list, tuple)):
        _refuse_nesting(P, what)
    try:
        return np.asarray(P)
    except ValueError as error:
        raise CodeError(f"{what} must be a rectangular matrix, got rows of different lengths") from error


def beyond_float64(P: Any, raw: NDArray[Any]) -> int | Fraction | None:
    """An entry of P, given as an integer or a fraction, that float64 would round; None where there is none.

    raw: P as NumPy reads it, which may have rounded already.
    """
    if raw.dtype.kind in "iuf":
        exact = isinstance(P, np.ndarray) and raw.dtype.kind == "f"
        if exact or raw.size == 0 or not (raw.max() > EVERY_INTEGER or raw.min() < -EVERY_INTEGER):
            return None
    entries = raw.ravel().tolist() if isinstance(P, np.ndarray) else np.asarray(P, dtype=object).ravel().tolist()
    for entry in entries:
        value = entry.item() if isinstance(entry, np.generic) else entry
        if isinstance(value, (int, Fraction)):
            try:
                if float(value) != value:
                    return value
            except OverflowError:
                return value
    return None


EVERY_INTEGER = 2**53
"""Up to here float64 holds every integer."""


def _refuse_rounding(P: Any, raw: NDArray[Any], what: str) -> None:
    if (rounded := beyond_float64(P, raw)) is not None:
        raise CodeError(
            f"{what} has the entry {brief(rounded)}, which float64 rounds (integers are safe up to 2^53): only "
            "m_height, height_profile and certify take it as it is; for the others round it yourself"
        )


def _from_objects(P: Any, raw: NDArray[Any], what: str) -> NDArray[np.float64]:
    for value in raw.flat:
        if isinstance(value, (str, bytes, complex, type(None))):
            raise CodeError(f"{what} must hold real numbers, got {brief(value)} among its entries")
    try:
        return np.array(raw.tolist(), np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, OverflowError):
            _refuse_rounding(P, raw, what)
        raise CodeError(f"{what} must be a rectangular matrix of real numbers") from error


def check_m(m: Any, count: int, r: int) -> NDArray[np.int64]:
    """m as (count,) int64 with 1 <= m <= r; an int stands for the whole batch.

    Raises:
        CodeError: m is not whole, has another length than the batch, or is out of range.
    """
    values = np.asarray(m)
    if values.dtype.kind not in "iu":
        raise CodeError(f"m must be an int or an array of ints, got {brief(m)}")
    if values.ndim > 1 or (values.ndim == 1 and len(values) != count):
        raise CodeError(f"m must be one int or one per code ({count}), got shape {values.shape}")
    out = np.broadcast_to(values, (count,)).astype(np.int64)
    if ((out < 1) | (out > r)).any():
        value = int(out[(out < 1) | (out > r)][0])
        raise CodeError(f"m must satisfy 1 <= m <= n - k = {r}, got m = {value}")
    return out


def check_row(n: Any, k: Any, m: Any, P: Any, *, max_n: int | None = None) -> NDArray[np.float64]:
    """P of one row [n, k, m, P] as (k, n - k) float64, after checking all four against each other."""
    for name, value in (("n", n), ("k", k), ("m", m)):
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            raise CodeError(f"{name} must be an int, got {brief(value)}")
    if not 1 <= k < n:
        raise CodeError(f"k must satisfy 1 <= k < n = {brief(n)}, got k = {brief(k)}")
    if max_n is not None and n > max_n:
        raise CodeError(f"n must be at most {max_n}, got n = {brief(n)}")
    batch, single = check_P(P, max_n=max_n)
    if not single:
        raise CodeError(f"P must have shape (k, n - k) = ({k}, {n - k}), got {np.shape(P)}")
    if batch.shape[1:] != (k, n - k):
        raise CodeError(f"P must have shape (k, n - k) = ({k}, {n - k}), got {batch.shape[1:]}")
    check_m(m, 1, int(n - k))
    return batch[0]


def like_input(values: NDArray[Any], single: bool) -> Any:
    """Undo the batch axis that `check_P` added: a Python number or an array of one rank less."""
    if not single:
        return values
    return values[0].item() if values.ndim == 1 else values[0]


def generator(P: ArrayLike, order: ArrayLike | None = None) -> NDArray[np.float64]:
    """Generator [I | P], (k, n), with its columns put back where `order` says they came from.

    Args:
        P: (k, r).
        order: (n,) permutation from `systematic` or `from_parity_check`; column order[j] of the result is column j of
            [I | P]. Default: as it is.

    Example:
        >>> from moe_mheight import generator
        >>> generator([[2.0, 3.0]]).tolist()
        [[1.0, 2.0, 3.0]]
    """
    matrix = _check_one(P)
    return _in_order(np.hstack([np.eye(len(matrix)), matrix]), order)


def parity_check(P: ArrayLike, order: ArrayLike | None = None) -> NDArray[np.float64]:
    """Parity-check matrix [-P^T | I], (r, n), of the code [I | P]; `order` as in `generator`."""
    matrix = _check_one(P)
    return _in_order(np.hstack([-matrix.T, np.eye(matrix.shape[1])]), order)


def _check_one(matrix: ArrayLike, what: str = "P") -> NDArray[np.float64]:
    batch, single = check_P(matrix, what=what)
    if not single:
        raise CodeError(f"{what} must be one matrix, got shape {np.shape(matrix)}")
    return batch[0]


def _in_order(matrix: NDArray[np.float64], order: ArrayLike | None) -> NDArray[np.float64]:
    if order is None:
        return matrix
    positions = np.asarray(order)
    if positions.dtype.kind not in "iu" or sorted(positions.tolist()) != list(range(matrix.shape[1])):
        raise CodeError(f"order must be a permutation of range({matrix.shape[1]}), got {positions.tolist()}")
    out = np.empty_like(matrix)
    out[:, positions] = matrix
    return out


def systematic(G: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Systematic form of any full-rank generator.

    The information set is the leftmost one that is well conditioned, so [I | P] comes back as P.

    Args:
        G: (k, n) real, rank k < n.

    Returns:
        P: (k, n - k), such that G[:, order] spans the same code as [I | P].
        order: (n,) int64, a permutation of range(n).

    Raises:
        CodeError: G is not a real finite k x n matrix, or its rank is below k.

    Example:
        >>> from moe_mheight import systematic
        >>> P, order = systematic([[1, 0, 1], [1, 2, 3]])
        >>> P.tolist(), order.tolist()
        ([[1.0], [1.0]], [0, 1, 2])
    """
    matrix = _check_full_rank(G, "G")
    k, n = matrix.shape
    if np.array_equal(matrix[:, :k], np.eye(k)):
        return matrix[:, k:].copy(), np.arange(n)
    chosen = _information_sets(_unit_rows(matrix)[None], np.arange(n)[None])[0]
    order = np.concatenate([np.sort(chosen), np.setdiff1d(np.arange(n), chosen)])
    P = np.linalg.solve(matrix[:, order[:k]], matrix[:, order[k:]])
    rounded = np.rint(P)
    if np.array_equal(matrix[:, order[:k]] @ rounded, matrix[:, order[k:]]):
        P = rounded
    return P, order.astype(np.int64)


def from_parity_check(H: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Systematic form of the code {c : H c = 0}.

    Args:
        H: (n - k, n) real, full rank.

    Returns:
        P, order: as in `systematic`; H[:, order] [I | P]^T = 0.

    Raises:
        CodeError: H is not a real finite matrix of full rank.
    """
    matrix = _check_full_rank(H, "H")
    r, n = matrix.shape
    if np.array_equal(matrix[:, n - r :], np.eye(r)):
        return -matrix[:, : n - r].T + 0.0, np.arange(n)
    # the dual is generated by H; its systematic form [I | X], parity positions last, gives P = -X^T
    X, reverse = systematic(matrix[:, ::-1])
    order = n - 1 - np.concatenate([reverse[r:], reverse[:r]])
    return -X.T + 0.0, order


def _check_full_rank(matrix: ArrayLike, what: str) -> NDArray[np.float64]:
    one = _check_one(matrix, what)
    rows, columns = one.shape
    if rows >= columns:
        raise CodeError(f"{what} must have fewer rows than columns, got {rows} x {columns}")
    rank = int((np.linalg.svd(_unit_rows(one), compute_uv=False) > RANK_TOLERANCE).sum())
    if rank < rows:
        raise CodeError(f"{what} must have full rank {rows}, got rank {rank}; drop dependent rows")
    return one


def _unit_rows(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(matrix, axis=-1, keepdims=True)
    return matrix / np.where(length > 0, length, 1.0)


def _information_sets(G: NDArray[np.float64], priority: NDArray[np.int64]) -> NDArray[np.int64]:
    """k independent columns for each of a batch of generators: the first by priority among well-conditioned ones.

    Shape: G (B, k, n), priority (B, n) a ranking; returns (B, k).
    """
    Q = np.linalg.qr(G.transpose(0, 2, 1))[0].transpose(0, 2, 1)
    Q = np.where((G == 0).all(axis=1, keepdims=True), 0.0, Q)  # what rounding left of a zero column is no direction
    left = Q / np.where((length := np.linalg.norm(Q, axis=1, keepdims=True)) > 0, length, 1.0)
    rows = np.arange(len(Q))
    chosen = np.empty((len(Q), Q.shape[1]), np.int64)
    for i in range(Q.shape[1]):
        size = np.linalg.norm(left, axis=1)
        fit = size >= 0.05 * size.max(axis=1, keepdims=True)
        pick = np.where(fit, priority, Q.shape[2]).argmin(axis=1)
        chosen[:, i] = pick
        direction = left[rows, :, pick] / size[rows, pick][:, None]
        left -= direction[:, :, None] * np.einsum("bk,bkn->bn", direction, left)[:, None, :]
        left[rows, :, pick] = 0.0
    return chosen


def equivalent(
    P: ArrayLike, rng: np.random.Generator, *, permute: bool = True, signs: bool = True, resystematise: bool = True
) -> NDArray[np.float64]:
    """A random member of each code's orbit under the symmetries of the m-height.

    Args:
        P: (k, r) or (B, k, r).
        rng: where the draws come from.
        permute: permute the coordinates (within the information set and within the rest, when not resystematised).
        signs: flip the signs of coordinates.
        resystematise: take another, well-conditioned information set; a code whose entries would leave MAGNITUDES
            keeps its own.

    Returns:
        Of P's shape. Exact up to rounding: without resystematise the entries are only moved and negated.

    Source: the m-height depends on sorted absolute values of codewords only (Roth, IEEE T-IT 66(7), 2020).
    """
    batch, single = check_P(P)
    count, k, r = batch.shape
    n = k + r
    rows = np.arange(count)[:, None]
    if resystematise:
        G = np.concatenate([np.broadcast_to(np.eye(k), (count, k, k)), batch], axis=2)
        chosen = _information_sets(G, rng.permuted(np.tile(np.arange(n), (count, 1)), axis=1))
        rest = np.ones((count, n), bool)
        rest[rows, chosen] = False
        parity = np.nonzero(rest)[1].reshape(count, r)
        out = np.linalg.solve(
            np.take_along_axis(G, chosen[:, None, :], 2), np.take_along_axis(G, parity[:, None, :], 2)
        )
        size = np.abs(out)
        out[size < MAGNITUDES[0]] = 0.0  # what rounding left of a zero
        beyond = ~(size <= MAGNITUDES[1]).all((1, 2))  # too badly scaled for another information set
        out[beyond] = batch[beyond]
    else:
        out = batch.copy()
    if permute:
        out = out[rows, rng.permuted(np.tile(np.arange(k), (count, 1)), axis=1)]
        columns = rng.permuted(np.tile(np.arange(r), (count, 1)), axis=1)
        out = np.take_along_axis(out, columns[:, None, :], 2)
    if signs:
        flips = rng.choice([-1.0, 1.0], (count, n))
        out = out * flips[:, :k, None] * flips[:, None, k:]
    return out[0] if single else out
