"""The codeword that attains an exact m-height.

`enumeration` finds the best S and a. By linear-programming duality some basis B inside S that attains the minimum is
also feasible for the codeword u G with u G_B = sign(y), y = G_B^-1 g_a; where coefficients of y vanish either sign may
be the right one. An infinite height is attained by a codeword that vanishes on S.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .codes import check_m, check_P
from .enumeration import lattice_tables, spread_minima
from .kernels import LANES, compiled, over_batch
from .minors import MAX_N, exact_integer_limit, load_lanes, minor_lanes, minor_tables, subsets


@compiled
def _eliminate(A, columns, u):  # type: ignore[no-untyped-def]
    """Row-reduce the first columns of A with complete pivoting, carrying the others along; u = last row carried.

    A is (k, columns + k) = [M | I]; when M has rank below k, u M = 0 afterwards.
    """
    k = A.shape[0]
    for i in range(k - 1):
        row, column = i, 0
        for p in range(i, k):
            for q in range(columns):
                if abs(A[p, q]) > abs(A[row, column]):
                    row, column = p, q
        if A[row, column] == 0.0:
            break
        for q in range(A.shape[1]):
            A[i, q], A[row, q] = A[row, q], A[i, q]
        for p in range(i + 1, k):
            factor = A[p, column] / A[i, column]
            for q in range(A.shape[1]):
                A[p, q] -= factor * A[i, q]
            A[p, column] = 0.0
    for q in range(k):
        u[q] = A[k - 1, columns + q]


@compiled
def _solve(A, b):  # type: ignore[no-untyped-def]
    """Solve A x = b in place (b becomes x), partial pivoting; False when A is singular."""
    k = A.shape[0]
    for i in range(k):
        row = i
        for p in range(i + 1, k):
            if abs(A[p, i]) > abs(A[row, i]):
                row = p
        if A[row, i] == 0.0:
            return False
        if row != i:
            for q in range(k):
                A[i, q], A[row, q] = A[row, q], A[i, q]
            b[i], b[row] = b[row], b[i]
        for p in range(i + 1, k):
            factor = A[p, i] / A[i, i]
            for q in range(i, k):
                A[p, q] -= factor * A[i, q]
            b[p] -= factor * b[i]
    for i in range(k - 1, -1, -1):
        for q in range(i + 1, k):
            b[i] -= A[i, q] * b[q]
        b[i] /= A[i, i]
    return True


@compiled
def _height(word, m, spare):  # type: ignore[no-untyped-def]
    for j in range(word.shape[0]):
        size, at = abs(word[j]), j
        while at > 0 and spare[at - 1] < size:
            spare[at] = spare[at - 1]
            at -= 1
        spare[at] = size
    return spare[0] / spare[m] if spare[m] != 0.0 else np.inf


@compiled
def _best_word(G, base_masks, values, inside, a, m, word):  # type: ignore[no-untyped-def]
    """Try the bases inside S that attain the minimum, and both signs where a coefficient vanishes."""
    k, n = G.shape
    A, y, u = np.empty((k, k)), np.empty(k), np.empty(k)
    columns = np.empty(k, np.int64)
    trial, spare = np.empty(n), np.empty(n)
    least = np.inf
    for q in range(base_masks.shape[0]):
        if base_masks[q] & ~inside == 0:
            least = min(least, values[q])
    best = 0.0
    for q in range(base_masks.shape[0]):
        if base_masks[q] & ~inside != 0 or not values[q] <= least * (1.0 + 1e-9):
            continue
        at = 0
        for j in range(n):
            if base_masks[q] >> j & 1:
                columns[at] = j
                at += 1
        for i in range(k):
            for t in range(k):
                A[i, t] = G[i, columns[t]]
            y[i] = G[i, a]
        if not _solve(A, y):
            continue
        largest = 0.0
        for i in range(k):
            largest = max(largest, abs(y[i]))
        free = 0
        for t in range(k):
            free += abs(y[t]) <= 1e-10 * largest
        for choice in range(1 << free):
            bit = 0
            for t in range(k):
                if abs(y[t]) <= 1e-10 * largest:
                    u[t] = 1.0 if choice >> bit & 1 else -1.0
                    bit += 1
                else:
                    u[t] = 1.0 if y[t] > 0.0 else -1.0
                for i in range(k):
                    A[t, i] = G[i, columns[t]]
            _solve(A, u)
            for j in range(n):
                trial[j] = 0.0
                for i in range(k):
                    trial[j] += u[i] * G[i, j]
            height = _height(trial, m, spare)
            if best < height < np.inf:
                best = height
                for j in range(n):
                    word[j] = trial[j]
        if best >= (least - 1.0) * (1.0 - 1e-9):
            return


@compiled
def _witnesses(P, m, exact_below, masks, first, source, entry, sign, parts, basis, wider, cover, level, sets, words):  # type: ignore[no-untyped-def]
    count, k, r = P.shape
    n, bases = basis.shape
    x = np.empty((k * r, LANES))
    minor = np.empty((masks.shape[0], LANES))
    low = np.empty_like(minor)
    inverse = np.empty_like(minor)
    total = np.empty((parts.shape[0], LANES))
    least = np.empty((bases + cover.shape[0], LANES))
    G = np.zeros((k, n))
    u = np.empty(k)
    values = np.empty(bases)
    base_masks = np.empty(bases, np.int64)
    for code in range(count):
        load_lanes(P, code, code + 1, x)
        minor_lanes(x, exact_below, first, source, entry, sign, parts, minor, low, total)
        for b in range(minor.shape[0]):
            for lane in range(LANES):
                inverse[b, lane] = 1.0 / minor[b, lane]
        for i in range(k):
            for j in range(n):
                G[i, j] = P[code, i, j - k] if j >= k else 1.0 if i == j else 0.0
        height, best_a, inside = -1.0, 0, 0
        for a in range(n):
            spread_minima(inverse, total, basis[a], wider[a], cover, least)
            for q in range(least.shape[0]):
                if (r if q < bases else level[q - bases]) == m[code] and least[q, 0] > height:
                    height, best_a = least[q, 0], a
                    inside = (sets[q] & ((1 << a) - 1)) | (sets[q] >> a << (a + 1))
        word = words[code]
        if height == np.inf:
            outside = n - m[code]
            A = np.zeros((k, outside + k))
            at = 0
            for j in range(n):
                if inside >> j & 1:
                    for i in range(k):
                        A[i, at] = G[i, j]
                    at += 1
            for i in range(k):
                A[i, outside + i] = 1.0
            _eliminate(A, outside, u)
            for j in range(n):
                word[j] = 0.0
                if not inside >> j & 1:
                    for i in range(k):
                        word[j] += u[i] * G[i, j]
        else:
            spread_minima(inverse, total, basis[best_a], wider[best_a], cover, least)
            for q in range(bases):
                base_masks[q] = masks[basis[best_a, q]]
                values[q] = least[q, 0]
            _best_word(G, base_masks, values, inside, best_a, m[code], word)
        largest = 0.0
        for j in range(n):
            largest = max(largest, abs(word[j]))
        for j in range(n):
            word[j] /= largest


def witness(P: ArrayLike, m: Any, *, threads: int | None = None) -> NDArray[np.float64]:
    """Codewords of [I | P] that attain the exact m-height, largest |coordinate| 1.

    Args:
        P: (k, r) or (B, k, r), n = k + r <= 16; for longer codes see the details of `m_height`.
        m: int or (B,) ints, 1 <= m <= r.
        threads: as in `height_profile`.

    Returns:
        (n,) or (B, n) float64. |c|_(0) / |c|_(m) is the height, to a relative 5e-14 times the height itself; for
        an infinite height n - m coordinates are exactly 0.

    Raises:
        CodeError: P or m is out of range.

    Source: the dual pair of arXiv:2602.20366, Theorem 8.

    Example:
        >>> import numpy as np
        >>> from moe_mheight import witness
        >>> c = np.sort(np.abs(witness([[1, 1], [1, 2]], 2)))
        >>> round(float(c[-1] / c[-3]), 6)
        3.0
    """
    batch, single = check_P(P, max_n=MAX_N)
    count, k, r = batch.shape
    n = k + r
    levels = check_m(m, count, r)
    sets = np.array([mask for size in range(k, n) for mask in subsets(n - 1, size)])
    tables = minor_tables(n, k) + lattice_tables(n, k)
    limit = exact_integer_limit(k, r)
    words = np.empty((count, n))
    over_batch(lambda i, j: _witnesses(batch[i:j], levels[i:j], limit, *tables, sets, words[i:j]), count, threads)
    return words[0] if single else words
