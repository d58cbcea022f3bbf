"""Random codes: entries drawn one by one, or codes with a structure that makes heights large, tied or infinite."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._arguments import whole
from ..errors import CodeError, brief
from ..numerics.rationals import MAGNITUDES
from .linear import RANK_TOLERANCE, equivalent

KINDS = ("integer", "scaled-integer", "uniform", "normal")
"""The default kinds: entries of P drawn independently. See `random_codes`."""

STRUCTURED = ("near-singular", "small-integer", "fourier", "vandermonde", "spherical", "repeated", "tight-frame")
"""Kinds for hard cases: nearly dependent columns, ties, and the frames and codes that people build.

New ones come last: random streams are numbered by a kind's place in ALL_KINDS.
"""

ALL_KINDS = KINDS + STRUCTURED
"""All that `random_codes` knows."""

SCALES = (1, 2, 4, 8, 10, 16, 25, 32, 49, 50, 64, 99, 100)
"""Scales max|P| drawn by the kind "scaled-integer", with the modes seen in peers' files."""


MAX_SCALE = 2**53
"""Integers up to there are exact as float64."""


def random_codes(
    kind: str, count: int, k: int, r: int, rng: np.random.Generator, *, scale: int = 100
) -> NDArray[np.float64]:
    """Random systematic codes.

    Args:
        kind: one of the default KINDS:
            "integer": uniform integers in [-scale, scale];
            "scaled-integer": the same, with a scale of its own per matrix drawn from SCALES, as in peers' files;
            "uniform": reals in [-1, 1];
            "normal": standard normal,
            or of the STRUCTURED ones:
            "near-singular": a random number of columns of P within eps of the span of 1 to k - 1 other columns of the
            generator (of 0 if k = 1), or a row of P within eps of a multiple of another row, in two or more columns;
            eps is log-uniform in [1e-6, 1e-1] for each code. Heights grow like 1/eps, and are finite, though a few at
            m = r are above the 1e11 from which `height_profile` says inf;
            "small-integer": uniform integers in [-s, s], with s from 1 to 5 for each matrix: zeros, ties and copies;
            "fourier": sampled cosines of k random frequencies and phases, at equally spaced points (k rows of a real
            DFT) or, half of the time, at random ones;
            "vandermonde": all polynomials of degree below k at n real nodes, spread uniformly, like Chebyshev's, or
            over a decade on both sides of 0. Any k columns are independent, so every height is finite;
            "spherical": columns uniform on the unit sphere;
            "repeated": 1 to 3 columns of the generator are another column times +-1 or any factor. So, for k > 1,
            h_r is infinite;
            "tight-frame": half of the time a uniformly random subspace, that is, k orthonormal rows; else a unit-norm
            tight frame, whose columns besides have one length, up to rounding.
        count, k, r: shape of the result.
        rng: where the draws come from.
        scale: for "integer", from 1 to MAX_SCALE.

    Returns:
        P, (count, k, r) float64.

    Raises:
        CodeError: no such kind, or a number that is none.

    Source: of unit-norm tight frames Benedetto and Fickus, "Finite normalized tight frames", Adv. Comput. Math. 18
    (2003), 357-385; see `_with_equal_columns` for how they are made.

    Example:
        >>> import numpy as np
        >>> from moe_mheight import random_codes
        >>> random_codes("vandermonde", 1000, 4, 5, np.random.default_rng(0)).shape
        (1000, 4, 5)
    """
    if not isinstance(kind, str) or kind not in ALL_KINDS:
        raise CodeError(f"kind must be one of {', '.join(ALL_KINDS)}, got {brief(kind)}")
    if not isinstance(rng, np.random.Generator):
        raise CodeError(f"rng must be a NumPy Generator, as numpy.random.default_rng(0) makes, got {brief(rng)}")
    shape = count, k, r = whole("count", count, 0), whole("k", k, 1), whole("r", r, 1)
    scale = whole("scale", scale, 1, MAX_SCALE)
    if kind == "integer":
        return rng.integers(-scale, scale + 1, shape).astype(np.float64)
    if kind == "scaled-integer":
        scales = rng.choice(SCALES, (count, 1, 1))
        return np.floor(rng.random(shape) * (2 * scales + 1)) - scales
    if kind == "uniform":
        return rng.uniform(-1.0, 1.0, shape)
    if kind == "normal":
        return rng.normal(size=shape)
    structured = {
        "near-singular": _near_singular,
        "small-integer": _small_integer,
        "fourier": _fourier,
        "vandermonde": _vandermonde,
        "spherical": _spherical,
        "repeated": _repeated,
        "tight-frame": _tight_frame,
    }
    P = structured[kind](count, k, r, rng)
    while (again := ~_admissible(P)).any():
        P[again] = structured[kind](int(again.sum()), k, r, rng)
    return P


def _admissible(P: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which matrices hold only what `check_P` takes."""
    size = np.abs(P)
    fine = (size == 0) | ((size >= MAGNITUDES[0]) & (size <= MAGNITUDES[1]))
    return fine.all(axis=(1, 2))


def _near_singular(count: int, k: int, r: int, rng: np.random.Generator) -> NDArray[np.float64]:
    P = _half(rng.normal(size=(count, k, r)), rng.uniform(-1.0, 1.0, (count, k, r)), rng)
    noise = 10.0 ** rng.uniform(-6.0, -1.0, (count, 1, 1)) * rng.normal(size=(count, k, r))
    columns = _with_columns_near_a_span(P, noise, rng)
    rows = _with_rows_near_multiples(P, noise, rng) if k > 1 and r > 1 else columns
    return _half_moved(_half(columns, rows, rng), rng)


def _with_columns_near_a_span(
    P: NDArray[np.float64], noise: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    count, k, r = P.shape
    G = np.concatenate([np.broadcast_to(np.eye(k), (count, k, k)), P], axis=2)
    # t columns of P near a span take k - 1 + t columns of the generator near a hyperplane: h_m is large from r + 1 - t
    replaced = _random_subsets(r, rng.integers(1, r + 1, count), rng)
    spanning = rng.integers(min(1, k - 1), max(1, k), count)
    taken = np.concatenate([np.zeros((count, k), bool), replaced], axis=1)
    source = _random_subsets(k + r, spanning, rng, taken)
    factor = rng.normal(size=(count, k + r, r)) * source[:, :, None]
    return np.where(replaced[:, None, :], G @ factor + noise, P)


def _with_rows_near_multiples(
    P: NDArray[np.float64], noise: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    count, k, r = P.shape
    one, two = rng.permuted(np.tile(np.arange(k), (count, 1)), axis=1)[:, :2].T
    where = _random_subsets(r, rng.integers(2, r + 1, count), rng)
    out = P.copy()
    every = np.arange(count)
    multiple = rng.normal(size=(count, 1)) * P[every, two] + noise[every, one]
    out[every, one] = np.where(where, multiple, P[every, one])
    return out


def _small_integer(count: int, k: int, r: int, rng: np.random.Generator) -> NDArray[np.float64]:
    scales = rng.integers(1, 6, (count, 1, 1))
    return np.floor(rng.random((count, k, r)) * (2 * scales + 1)) - scales


def _fourier(count: int, k: int, r: int, rng: np.random.Generator) -> NDArray[np.float64]:
    n = k + r
    even = np.broadcast_to(2 * np.pi * np.arange(n) / n, (count, n))
    points = _half(even, rng.uniform(0.0, 2 * np.pi, (count, n)), rng)
    return systematise(harmonics(points, k, rng), rng)


def harmonics(points: NDArray[np.float64], k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """k of the n rows of a real DFT, with random phases, at any points: (B, n) -> (B, k, n).

    At n equally spaced points the rows are orthogonal, each of squared length n / 2.
    """
    count, n = points.shape
    # a cosine and a sine for each frequency, but no sine for 0 and n / 2, which are their own mirror images
    frequency = (np.arange(n) + 1) // 2
    single = 2 * frequency % n == 0
    phase = np.where(single, 0.0, rng.uniform(0.0, 2 * np.pi, (count, n // 2 + 1))[:, frequency])
    phase -= np.where(single, 0.0, np.pi / 2 * (np.arange(n) % 2))
    rows = rng.permuted(np.tile(np.arange(n), (count, 1)), axis=1)[:, :k]
    angle = frequency[rows][:, :, None] * points[:, None, :] + np.take_along_axis(phase, rows, 1)[:, :, None]
    return np.cos(angle) * np.where(single, np.sqrt(0.5), 1.0)[rows][:, :, None]


def _vandermonde(count: int, k: int, r: int, rng: np.random.Generator) -> NDArray[np.float64]:
    n = k + r
    # one node well inside each of n cells: drawn freely, k could lie so close together that heights pass 1e11
    cell = (np.arange(n) + rng.uniform(0.2, 0.8, (count, n))) / n
    layouts = [2.0 * cell - 1.0, np.cos(np.pi * cell), rng.choice([-1.0, 1.0], (count, n)) * 10.0 ** (-cell)]
    nodes = np.choose(rng.integers(0, len(layouts), (count, 1)), layouts)
    nodes = np.take_along_axis(nodes, _far_apart(nodes, k, rng), 1)
    x, y = nodes[:, :k], nodes[:, k:]
    # P[i, j] is Lagrange's polynomial of node x_i at y_j: right to a few units in 1e-16, however close the nodes
    P = np.ones((count, k, r))
    for i in range(k):
        difference = x - x[:, i : i + 1]
        difference[:, i] = 1.0
        ratio = (y - x[:, i : i + 1])[:, None, :] / difference[:, :, None]
        ratio[:, i] = 1.0
        P *= ratio
    return P


def _far_apart(nodes: NDArray[np.float64], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """An order in which each of the first k nodes is far from those before it (Leja's, loosened at random)."""
    count, n = nodes.shape
    every = np.arange(count)
    product = rng.uniform(0.3, 1.0, (count, n))
    rank = rng.permuted(np.tile(np.arange(n), (count, 1)), axis=1)
    for i in range(k):
        pick = product.argmax(axis=1)
        product *= np.abs(nodes - nodes[every, pick][:, None])
        rank[every, pick] = i - n
    return np.argsort(rank, axis=1)


def _spherical(count: int, k: int, r: int, rng: np.random.Generator) -> NDArray[np.float64]:
    G = rng.normal(size=(count, k, k + r))
    return systematise(G / np.linalg.norm(G, axis=1, keepdims=True), rng)


def _tight_frame(count: int, k: int, r: int, rng: np.random.Generator) -> NDArray[np.float64]:
    G = np.linalg.qr(rng.normal(size=(count, k + r, k)))[0].transpose(0, 2, 1)
    return systematise(_half(G, _with_equal_columns(G), rng), rng)


def _with_equal_columns(G: NDArray[np.float64]) -> NDArray[np.float64]:
    """k orthonormal rows turned so that all n columns have one length, in n - 1 rotations: (B, k, n) -> the same.

    A rotation of two columns leaves G G^T alone. One of the shortest with the longest can give either the mean length,
    which it keeps from then on. After n - 1 rotations the last column has what is left, the mean.

    Source: Bendel and Mickey, Commun. Statist. Simul. Comput. B7 (1978), 163-182; the tangent as in Davies and Higham,
    "Numerically stable generation of correlation matrices and their factors", BIT 40 (2000), 640-651.
    """
    count, k, n = G.shape
    G, every = G.copy(), np.arange(count)
    for _ in range(n - 1):
        square = np.sum(G**2, axis=1)
        i, j = square.argmin(axis=1), square.argmax(axis=1)
        short, long = G[every, :, i], G[every, :, j]
        missing, beyond = (np.maximum(x, 0.0) for x in (k / n - square[every, i], square[every, j] - k / n))
        # |short + t long|^2 = (1 + t^2) k / n, or beyond t^2 + 2 product t = missing: the smaller root
        product = np.sum(short * long, axis=1)
        sum_of_both = product + np.copysign(np.sqrt(product**2 + beyond * missing), product)
        t = np.divide(missing, sum_of_both, out=np.zeros(count), where=sum_of_both != 0)[:, None]
        cosine = 1.0 / np.sqrt(1.0 + t**2)
        G[every, :, i], G[every, :, j] = cosine * (short + t * long), cosine * (long - t * short)
    return G


def _repeated(count: int, k: int, r: int, rng: np.random.Generator) -> NDArray[np.float64]:
    P = _half(rng.normal(size=(count, k, r)), rng.integers(-9, 10, (count, k, r)).astype(np.float64), rng)
    copy = _random_subsets(r, rng.integers(1, min(3, r) + 1, count), rng)
    G = np.concatenate([np.broadcast_to(np.eye(k), (count, k, k)), P], axis=2)
    original = np.where(np.concatenate([np.zeros((count, k), bool), copy], axis=1), -1.0, 1.0)
    source = (rng.random((count, r, k + r)) * original[:, None, :]).argmax(axis=2)
    sign = rng.choice([-1.0, 1.0], (count, 1, r))
    factor = sign * _half(np.ones((count, 1, r)), np.exp(rng.normal(size=(count, 1, r))), rng)
    P = np.where(copy[:, None, :], np.take_along_axis(G, source[:, None, :], 2) * factor, P)
    return _half_moved(P, rng)


def _half(one: NDArray[np.float64], two: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Each code, whole, from the one or from the other, at random."""
    heads = rng.random(len(one)) < 0.5
    return np.where(heads.reshape(-1, *[1] * (one.ndim - 1)), one, two)


def _half_moved(P: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Half of the codes in another systematic form, so that P does not give its making away."""
    moved = rng.random(len(P)) < 0.5
    P[moved] = equivalent(P[moved], rng)
    return P


def _random_subsets(
    n: int, size: NDArray[np.int64], rng: np.random.Generator, without: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """A uniformly random subset of range(n), of a size of its own, for each code: (B,) -> (B, n)."""
    score = rng.random((len(size), n + 1))
    score[:, n] = 2.0
    if without is not None:
        score[:, :n] += without
    return score[:, :n] < np.sort(score, axis=1)[np.arange(len(size)), size][:, None]


def systematise(G: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """P of the codes that G generates, coordinates permuted and signed at random; nan where G is short of full rank.

    Gauss-Jordan elimination with complete pivoting, loosened at random so that one code has many forms.

    Shape: (B, k, n) -> (B, k, n - k).
    """
    count, k, n = G.shape
    every = np.arange(count)
    order = rng.permuted(np.tile(np.arange(n), (count, 1)), axis=1)
    left = np.take_along_axis(G, order[:, None, :], 2) * rng.choice([-1.0, 1.0], (count, 1, n))
    left /= np.maximum(np.abs(left).max(axis=2, keepdims=True), MAGNITUDES[0])
    weight = rng.uniform(0.3, 1.0, (count, 1, n))
    free_row, free_column = np.ones((count, k, 1), bool), np.ones((count, 1, n), bool)
    full_rank = np.ones(count, bool)
    for _ in range(k):
        size = np.where(free_row & free_column, weight * np.abs(left), -1.0)
        i, j = np.divmod(size.reshape(count, k * n).argmax(axis=1), n)
        pivot = left[every, i, j]
        full_rank &= np.abs(pivot) > RANK_TOLERANCE
        row = left[every, i] / np.where(full_rank, pivot, 1.0)[:, None]
        left -= left[every, :, j][:, :, None] * row[:, None, :]
        left[every, i] = row
        free_row[every, i], free_column[every, 0, j] = False, False
    P = left.transpose(0, 2, 1)[free_column[:, 0]].reshape(count, n - k, k).transpose(0, 2, 1)
    return np.where(full_rank[:, None, None], P, np.nan)
