"""Certified bounds by reweighted least squares: what every source of candidate sets (S, a) hands its sets to.

Let Q be G with orthonormal rows, S a set of n - m coordinates, a one outside, u = (Q_S Q_S^T)^-1 q_a and y = Q_S^T u.

* c = Q^T u is a codeword, so h_m(c) <= h_m(C): a lower bound with its witness.
* Q_S y = q_a, so |y|_1 bounds the best codeword for (S, a); the largest over all (S, a) bounds h_m(C) from above.
* Solving again with weights |y| (iteratively reweighted least squares, which tends to the L1 minimum) tightens both.
  The weight of a coordinate outside the support shrinks by |c| / max|c| a step. A power of that factor leaps over
  steps, and a plain step after each leap mends what it broke: ten steps so do the work of dozens.

The few candidates with the largest upper bounds, the tokens, go on for MORE steps and are rounded to a basis, the k
coordinates with the largest |c|. Its basic solution and the codeword that goes with it are bounds too, often equal
ones. Experts read them; the bracket is left as the common steps made it, unless it is asked to close.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..numerics.jit import LANES, compiled, over_batch
from ..numerics.least_squares import copy, fill, load_generator, multiply, orthonormalise, solve_weighted, sort_down
from ..numerics.rounding import lower_bound, residuals, upper_bound, witness

CANDIDATES = 24
"""Sets (S, a) that are reweighted."""

TOKENS = 12
"""Of these, the ones with the largest upper bounds, handed to experts."""

STEPS = 10
"""Reweighting steps that narrow the bracket, by default."""

MORE = 4
"""Further steps of the tokens, which experts see and the bracket does not."""

LEAPS = np.array([0, 0, 2, 0, 3, 0, 4, 0, 5, 0])
"""After step i, weights become |y| (|c| / max|c|)^(2^LEAPS[i] - 1); further steps repeat the last two."""

LEAST_LEAP = 1e-3
"""No leap shrinks a weight by more: one that starts near zero has |c| far above all others, and would undo them all."""

FIRST = 2
"""Steps that all candidates take, before the tokens are chosen and go on."""

BASIC = 2
"""Solves after the last step: the basic solution, and the codeword that it calls for."""

BEYOND = MORE + BASIC
"""Solves after the bracket's own."""

LEAST_WEIGHT = 1e-290

TIED = 2.0**-16
"""Steps of |c| / max|c| within which entries tie; on a basis all do, and rounding must not decide which comes first."""

LARGEST_C = 4.0
"""Where the reduced costs of basic solutions are cut off."""


@compiled
def insert(values, pairs, value, pair):  # type: ignore[no-untyped-def]
    """Keep the largest values in descending order, with their pairs."""
    at = values.shape[0] - 1
    if value > values[at]:
        while at > 0 and values[at - 1] < value:
            values[at] = values[at - 1]
            pairs[at] = pairs[at - 1]
            at -= 1
        values[at] = value
        pairs[at] = pair


@compiled
def gather(M, sets, M_S, m_a):  # type: ignore[no-untyped-def]
    """Columns S and a of M (k, n, LANES), one (S, a) per lane. Shape: sets (LANES, n), M_S (k, n - m, LANES),
    m_a (k, LANES)."""
    s = M_S.shape[1]
    for lane in range(M.shape[2]):
        for i in range(M.shape[0]):
            m_a[i, lane] = M[i, sets[lane, s], lane]
            for j in range(s):
                M_S[i, j, lane] = M[i, sets[lane, j], lane]


@compiled
def _sharpen(weight, y, total, leap):  # type: ignore[no-untyped-def]
    """The next weights, see LEAPS; c = y / weight."""
    top, factor, power = np.zeros(LANES), np.empty(LANES), np.empty(LANES)
    for j in range(y.shape[0]):
        value, before = y[j], weight[j]
        for lane in range(top.shape[0]):
            top[lane] = max(top[lane], abs(value[lane]) / before[lane])
    for j in range(y.shape[0]):
        value, out = y[j], weight[j]
        fill(power, 1.0)
        for lane in range(top.shape[0]):
            factor[lane] = abs(value[lane]) / (out[lane] * top[lane])
        for _ in range(leap):  # factor^(2^leap - 1)
            multiply(power, factor)
            multiply(factor, factor)
        for lane in range(top.shape[0]):
            out[lane] = max(abs(value[lane]) * max(power[lane], LEAST_LEAP), 1e-12 * total[lane], LEAST_WEIGHT)


@compiled
def _round_to_basis(weight, c, k):  # type: ignore[no-untyped-def]
    """Leave weight on the k coordinates with the largest |c| only; a trace elsewhere, should they be dependent."""
    above = np.empty(LANES)
    for i in range(c.shape[0]):
        fill(above, 0.0)
        own, out = c[i], weight[i]
        for j in range(c.shape[0]):
            other, ahead = c[j], j < i
            for lane in range(above.shape[0]):
                above[lane] += 1.0 if other[lane] > own[lane] or (ahead and other[lane] == own[lane]) else 0.0
        for lane in range(above.shape[0]):
            out[lane] *= 1.0 if above[lane] < k else 1e-9


@compiled
def _rank(c, y, keys, top):  # type: ignore[no-untyped-def]
    """What a token's entries are sorted by: |c| in steps of TIED, and where it ties |y|, which is at most 1."""
    fill(top, 0.0)
    for j in range(c.shape[0]):
        size = c[j]
        for lane in range(top.shape[0]):
            top[lane] = max(top[lane], size[lane])
    for j in range(c.shape[0]):
        size, share, key = c[j], y[j], keys[j]
        for lane in range(top.shape[0]):
            steps = np.rint(size[lane] / (top[lane] * TIED)) if top[lane] > 0.0 else 0.0
            key[lane] = steps + 0.9 * share[lane]


@compiled
def _reweight(P, m, sets, rest, steps, leaps, closing, out):  # type: ignore[no-untyped-def]
    """All candidates take the first steps, then the tokens go on; `closing`: all that they find narrows the bounds."""
    lower, upper, elsewhere, word_out, order_out, lower_out, upper_out, y_out, c_out, basic_y_out, basic_c_out = out
    count, k, r = P.shape
    n = k + r
    s = n - m
    candidates, tokens = sets.shape[1], min(sets.shape[1], order_out.shape[1])
    end = steps + MORE
    solves = end + 1 + BASIC
    first = min(FIRST, steps) + 1
    last = solves - 1 if closing else steps
    x = np.empty((k * r, LANES))
    G, Q = np.empty((k, n, LANES)), np.empty((k, n, LANES))
    G_S, Q_S, V = np.empty((k, s, LANES)), np.empty((k, s, LANES)), np.empty((k, s, LANES))
    g_a, q_a, t, u = np.empty((k, LANES)), np.empty((k, LANES)), np.empty((k, LANES)), np.empty((k, LANES))
    R = np.empty((k, k, LANES))
    y, c = np.empty((s, LANES)), np.empty((s, LANES))
    ys, cs, basic_ys, basic_cs = (
        np.empty((s, LANES)),
        np.empty((s, LANES)),
        np.empty((s, LANES)),
        np.empty((s, LANES)),
    )
    word, error, sizes = np.empty((n, LANES)), np.empty((n, LANES)), np.empty((n, LANES))
    columns = np.zeros((LANES, n), np.uint8)
    total, rho, low = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    keys, top = np.empty((s, LANES)), np.empty(LANES)
    weight, who = np.empty((s, LANES)), np.empty(LANES, np.int64)
    won, winner = np.empty(LANES), np.zeros(LANES, np.int64)
    # per code and candidate
    weights = np.empty((LANES, candidates, s))
    uppers, lowers = np.empty((LANES, candidates, solves)), np.empty((LANES, candidates, solves))
    final, order = np.empty((LANES, tokens + 1)), np.zeros((LANES, tokens + 1), np.int64)
    share = max(1, min(LANES // count, candidates))  # lanes of one code, where codes are few
    turns, further = -(-candidates // share), -(-tokens // share)
    for start in range(0, count, LANES // share):
        stop = min(start + LANES // share, count)
        used = (stop - start) * share
        for lane in range(LANES):
            at = start + min(lane, used - 1) // share
            for i in range(k):
                for j in range(r):
                    x[i * r + j, lane] = P[at, i, j]
        load_generator(x, G)
        load_generator(x, Q)
        orthonormalise(Q, R)
        for code in range(start, stop):
            lower[code] = 1.0
            upper[code] = max(rest[code], 1.0)
            won[code - start] = -1.0
        for turn in range(turns + further):
            going_on = turn >= turns
            if turn == turns:  # rank what the first steps made of the candidates
                for code in range(stop - start):
                    for place in range(tokens + 1):
                        final[code, place] = -1.0
                    for q in range(candidates):
                        insert(final[code], order[code], uppers[code, q, first - 1], q)
                    if candidates > tokens:
                        upper[start + code] = max(upper[start + code], final[code, tokens])
                    elsewhere[start + code] = upper[start + code]
            for lane in range(LANES):
                code = min(lane, used - 1) // share
                if going_on:
                    place = min((turn - turns) * share + lane % share, tokens - 1)
                    q = order[code, place]
                    for j in range(s):
                        weight[j, lane] = weights[code, q, j]
                else:
                    q = min(turn * share + lane % share, candidates - 1)
                    for j in range(s):
                        weight[j, lane] = 1.0
                who[lane] = q
                columns[lane] = sets[start + code, q]
            gather(G, columns, G_S, g_a)
            gather(Q, columns, Q_S, q_a)
            for step in range(first if going_on else 0, solves if going_on else first):
                if step == end + 1:
                    _round_to_basis(weight, cs, k)
                for i in range(k):
                    for j in range(s):
                        copy(V[i, j], Q_S[i, j])
                solve_weighted(V, R, weight, q_a, t, y, u)
                residuals(G_S, g_a, y, total, rho)
                witness(G, Q, u, word, error)
                lower_bound(word, error, m, sizes, low)
                for lane in range(used):
                    code, q = lane // share, who[lane]
                    before_upper = uppers[code, q, step - 1] if step else np.inf
                    before_lower = lowers[code, q, step - 1] if step else 1.0
                    uppers[code, q, step] = min(before_upper, upper_bound(total[lane], rho[lane], s))
                    lowers[code, q, step] = max(before_lower, low[lane])
                    rank = q * solves + step  # ties go to the first, however many lanes a code has
                    if step <= last and (low[lane] > won[code] or (low[lane] == won[code] and rank < winner[code])):
                        won[code], winner[code] = low[lane], rank
                        lower[start + code] = max(low[lane], 1.0)
                        for j in range(n):
                            word_out[start + code, j] = word[j, lane]
                for j in range(s):
                    value, before, size = y[j], weight[j], c[j]
                    for lane in range(size.shape[0]):
                        size[lane] = abs(value[lane]) / before[lane]  # y = weight Q_S^T u
                if step == end or step == solves - 1:
                    y_here, c_here = (ys, cs) if step == end else (basic_ys, basic_cs)
                    for j in range(s):
                        copy(c_here[j], c[j])
                        value, size = y[j], y_here[j]
                        for lane in range(size.shape[0]):
                            size[lane] = abs(value[lane]) / total[lane] if total[lane] > 0.0 else 0.0
                leap = leaps[step] if step < leaps.shape[0] else leaps[leaps.shape[0] - 2 + step % 2]
                _sharpen(weight, y, total, leap if step < end else 0)
            if not going_on:
                for lane in range(used):
                    for j in range(s):
                        weights[lane // share, who[lane], j] = weight[j, lane]
                continue
            _rank(cs, ys, keys, top)
            sort_down(keys, cs, ys, basic_ys, basic_cs)
            for lane in range(used):
                place = (turn - turns) * share + lane % share
                if place >= tokens:
                    continue
                code, q = lane // share, who[lane]
                at = start + code
                upper[at] = max(upper[at], uppers[code, q, last])
                order_out[at, place] = sets[at, q]
                for step in range(solves):
                    upper_out[at, place, step] = uppers[code, q, step]
                    lower_out[at, place, step] = lowers[code, q, step]
                for j in range(s):
                    y_out[at, place, j] = ys[j, lane]
                    c_out[at, place, j] = cs[j, lane] / top[lane] if top[lane] > 0.0 else 0.0
                    basic_y_out[at, place, j] = basic_ys[j, lane]
                    reduced = basic_cs[j, lane]
                    basic_c_out[at, place, j] = min(reduced, LARGEST_C) if reduced >= 0.0 else LARGEST_C


@dataclass(frozen=True, eq=False)
class Brackets:
    """Bounds of B codes of one (n, k, m), and their tokens: the candidates (S, a) with the largest upper bounds.

    Shapes: lower, upper (B,); elsewhere (B,), an upper bound for all (S, a) that are no tokens; witness (B, n), the
    codeword whose height is `lower`; outside (B, T, m), the coordinates outside S with a first; token_lower,
    token_upper (B, T, steps + 1 + BEYOND), after each solve, running best, those of the basic solution last; y, c
    (B, T, n - m), |y| / |y|_1 and |c_S| / max|c_S| of the last step, in descending order of |c_S|, of |y| where that
    ties; basic_y, basic_c (B, T, n - m), the same of the basic solution, in the same order, its |c_S| divided by that
    on the basis. Heights, not their logs. An infinite height has lower = upper = inf; its witness is only the best
    codeword found. Under a budget of sets (0: none), upper is inf: nothing is claimed.
    """

    n: int
    k: int
    m: int
    steps: int
    budget: int
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    elsewhere: NDArray[np.float64]
    witness: NDArray[np.float64]
    outside: NDArray[np.int64]
    token_lower: NDArray[np.float64]
    token_upper: NDArray[np.float64]
    y: NDArray[np.float32]
    c: NDArray[np.float32]
    basic_y: NDArray[np.float32]
    basic_c: NDArray[np.float32]

    @property
    def tightest(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(lower, upper), (B,) each, with all that the tokens found."""
        lower = np.maximum(self.lower, self.token_lower[..., -1].max(1))
        upper = np.minimum(self.upper, np.maximum(self.elsewhere, self.token_upper[..., -1].max(1)))
        return lower, np.where(np.isinf(self.lower) | (self.budget > 0), np.inf, upper)


def reweight(
    P: NDArray[np.float64],
    m: int,
    sets: NDArray[np.uint8],
    rest: NDArray[np.float64],
    steps: int,
    *,
    closing: bool,
    budget: int = 0,
    threads: int | None = None,
) -> Brackets:
    """Bounds and tokens of a batch of codes from given candidates.

    Args:
        P: (B, k, r) float64, checked.
        m: 1 <= m <= r.
        sets: (B, C, n), each row S, a, then the other coordinates.
        rest: (B,), an upper bound for all sets that are not candidates; inf when there is none.
        steps: reweighting steps.
        budget: of sets that the candidates were chosen from; only kept.
        closing: let the tokens' further steps and basic solutions narrow the bounds too.
        threads: default all cores; the answer does not depend on it.
    """
    count, k, r = P.shape
    n, s = k + r, k + r - m
    (lower, upper, elsewhere), word = np.empty((3, count)), np.empty((count, n))
    order = np.empty((count, TOKENS, n), np.uint8)
    token_lower, token_upper = (np.empty((count, TOKENS, steps + 1 + BEYOND)) for _ in range(2))
    y, c, basic_y, basic_c = (np.empty((count, TOKENS, s), np.float32) for _ in range(4))
    tokens = (order, token_lower, token_upper, y, c, basic_y, basic_c)
    whole = (lower, upper, elsewhere, word, *tokens)
    over_batch(
        lambda i, j: _reweight(
            P[i:j], m, sets[i:j], rest[i:j], steps, LEAPS, closing, tuple(part[i:j] for part in whole)
        ),
        count,
        threads,
    )
    for part in tokens:  # too few candidates: the last one stands in for the missing
        part[:, sets.shape[1] :] = part[:, sets.shape[1] - 1 : sets.shape[1]]
    outside = order[..., s:].astype(np.int64)
    bounds = (lower, upper, elsewhere, word)
    return Brackets(n, k, m, steps, budget, *bounds, outside, token_lower, token_upper, y, c, basic_y, basic_c)
