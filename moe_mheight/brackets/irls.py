"""Certified bounds by reweighted least squares: what every source of candidate sets (S, a) hands its sets to.

Let Q be G with orthonormal rows, S a set of n - m coordinates, a one outside, u = (Q_S Q_S^T)^-1 q_a and y = Q_S^T u.

* c = Q^T u is a codeword, so h_m(c) <= h_m(C): a lower bound with its witness.
* Q_S y = q_a, so |y|_1 bounds the best codeword for (S, a); the largest over all (S, a) bounds h_m(C) from above.
* Solving again with weights |y| (iteratively reweighted least squares, which tends to the L1 minimum) tightens both.
  The weight of a coordinate outside the support shrinks by |c| / max|c| a step. A power of that factor makes an
  accelerated step, and a plain step after it mends what it broke: ten steps so do the work of dozens.

The few candidates with the largest upper bounds are kept: they go on for EXTRA_STEPS steps and are rounded to a basis,
the k coordinates with the largest |c|. Its basic solution and the codeword that goes with it are bounds too, often
equal ones. Experts read them; the bracket is left as the common steps made it, unless the tightest one is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.jit import LANES, compiled, inlined_exactly, over_batch
from ..numerics.least_squares import copy, fill, load_generator, multiply, orthonormalise, solve_weighted, sort_down
from ..numerics.rounding import lower_bound, residuals, upper_bound, witness

CANDIDATES = 24
"""Sets (S, a) that are reweighted."""

KEPT = 12
"""Of these, the ones with the largest upper bounds, which experts read."""

STEPS = 10
"""Reweighting steps that narrow the bracket, by default."""

EXTRA_STEPS = 4
"""Further steps of the kept candidates, which experts see and the bracket does not."""

ACCELERATIONS = np.array([0, 0, 2, 0, 3, 0, 4, 0, 5, 0])
"""After step i, weights become |y| (|c| / max|c|)^(2^ACCELERATIONS[i] - 1); further steps repeat the last two."""

LEAST_ACCELERATION = 1e-3
"""No accelerated step shrinks a weight by more: one that starts near zero has |c| far above all others, and would undo
them all."""

FIRST = 2
"""Steps that all candidates take, before the kept ones are chosen and go on."""

BASIC = 2
"""Solves after the last step: the basic solution, and the codeword that it calls for."""

EXTRA = EXTRA_STEPS + BASIC
"""Solves after the bracket's own."""

LEAST_WEIGHT = 1e-290

TIED = 2.0**-16
"""Steps of |c| / max|c| within which entries tie; on a basis all do, and rounding must not decide which comes first."""

LARGEST_C = 4.0
"""Where the reduced costs of basic solutions are cut off."""


@inlined_exactly
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
def _sharpen(weight, y, total, acceleration):  # type: ignore[no-untyped-def]
    """The next weights, see ACCELERATIONS; c = y / weight."""
    top, factor, power = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    fill(top, 0.0)
    for j in range(y.shape[0]):
        value, before = y[j], weight[j]
        for lane in range(top.shape[0]):
            top[lane] = max(top[lane], abs(value[lane]) / before[lane])
    for j in range(y.shape[0]):
        value, out = y[j], weight[j]
        fill(power, 1.0)
        for lane in range(top.shape[0]):
            factor[lane] = abs(value[lane]) / (out[lane] * top[lane])
        for _ in range(acceleration):  # factor^(2^acceleration - 1)
            multiply(power, factor)
            multiply(factor, factor)
        for lane in range(top.shape[0]):
            out[lane] = max(abs(value[lane]) * max(power[lane], LEAST_ACCELERATION), 1e-12 * total[lane], LEAST_WEIGHT)


@compiled
def _round_to_basis(weight, c, k):  # type: ignore[no-untyped-def]
    """Leave weight on the k coordinates with the largest |c| only; a trace elsewhere, should they be dependent."""
    above = np.empty(LANES)
    for i in range(c.shape[0]):
        fill(above, 0.0)
        size, out = c[i], weight[i]
        for j in range(c.shape[0]):
            other, ahead = c[j], j < i
            for lane in range(above.shape[0]):
                above[lane] += 1.0 if other[lane] > size[lane] or (ahead and other[lane] == size[lane]) else 0.0
        for lane in range(above.shape[0]):
            out[lane] *= 1.0 if above[lane] < k else 1e-9


@compiled
def _rank(c, y, keys, top):  # type: ignore[no-untyped-def]
    """What a candidate's entries are sorted by: |c| in steps of TIED, and where it ties |y|, which is at most 1."""
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


class _Bounds(NamedTuple):
    """What comes out, as in `Brackets`; sets (B, T, n) are the kept candidates."""

    lower: Any
    upper: Any
    elsewhere: Any
    witness: Any
    sets: Any
    kept_lower: Any
    kept_upper: Any
    y: Any
    c: Any
    basic_y: Any
    basic_c: Any


class _Plan(NamedTuple):
    """Numbers of solves, from 0, and how codes share the lanes."""

    m: int
    first: int  # the first solve that only kept candidates take
    end: int  # the last step
    solves: int
    last: int  # the last solve that narrows the bracket
    used: int  # lanes in use
    share: int  # lanes of one code, more than one where codes are few
    turns: int  # how often a code's lanes are filled until all its candidates have been in one


KEYS, Y_LAST, C_LAST, Y_BASIC, C_BASIC = range(5)


class _Lanes(NamedTuple):
    """One (S, a) in each lane, and space to solve for it; the last axis is the lane."""

    G: Any  # (k, n), and with orthonormal rows Q
    Q: Any
    G_S: Any  # (k, s), g_a (k,): their columns S and a
    g_a: Any
    Q_S: Any
    q_a: Any
    V: Any
    R: Any
    t: Any
    u: Any
    weight: Any  # (s,)
    y: Any
    c: Any
    profile: Any  # (5, s), KEYS to sort by, and y and c of the last step and of the basic solution
    total: Any  # |y|_1
    rho: Any
    word: Any  # (n,), the codeword, its error and space to sort it
    error: Any
    sizes: Any
    low: Any
    top: Any
    sets: Any  # (LANES, n) uint8
    candidate: Any  # (LANES,), its number


class _Candidates(NamedTuple):
    """What is known of each candidate of the codes in work; the first axis is the code."""

    weights: Any  # (LANES, C, s)
    uppers: Any  # (LANES, C, solves), running best, and lowers
    lowers: Any
    largest: Any  # (LANES, T + 1) largest upper bounds after the first steps, and whose they are
    order: Any
    won: Any  # (LANES,) the best lower bound, and which candidate and solve it is from
    winner: Any


@compiled
def _new_lanes(k, n, s):  # type: ignore[no-untyped-def]
    G, Q = np.empty((k, n, LANES)), np.empty((k, n, LANES))
    G_S, Q_S, V = np.empty((k, s, LANES)), np.empty((k, s, LANES)), np.empty((k, s, LANES))
    g_a, q_a, t, u = np.empty((k, LANES)), np.empty((k, LANES)), np.empty((k, LANES)), np.empty((k, LANES))
    weight, y, c, profile = np.empty((s, LANES)), np.empty((s, LANES)), np.empty((s, LANES)), np.empty((5, s, LANES))
    word, error, sizes = np.empty((n, LANES)), np.empty((n, LANES)), np.empty((n, LANES))
    total, rho, low, top = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    R, sets, candidate = np.empty((k, k, LANES)), np.empty((LANES, n), np.uint8), np.empty(LANES, np.int64)
    return _Lanes(
        G, Q, G_S, g_a, Q_S, q_a, V, R, t, u, weight, y, c, profile, total, rho, word, error, sizes, low, top, sets,
        candidate,
    )  # fmt: skip


@compiled
def _load_codes(P, start, x, lanes, plan):  # type: ignore[no-untyped-def]
    """The codes from `start` on, `share` lanes each."""
    k, r = P.shape[1:]
    for lane in range(LANES):
        at = start + min(lane, plan.used - 1) // plan.share
        for i in range(k):
            for j in range(r):
                x[i * r + j, lane] = P[at, i, j]
    load_generator(x, lanes.G)
    load_generator(x, lanes.Q)
    orthonormalise(lanes.Q, lanes.R)


@compiled
def _rank_candidates(start, codes, plan, known, out):  # type: ignore[no-untyped-def]
    """Choose the kept candidates by what the first steps made of all, and bound the others."""
    candidates, kept = known.uppers.shape[1], known.order.shape[1] - 1
    for code in range(codes):
        largest, order = known.largest[code], known.order[code]
        for place in range(kept + 1):
            largest[place], order[place] = -1.0, 0
        for q in range(candidates):
            insert(largest, order, known.uppers[code, q, plan.first - 1], q)
        at = start + code
        if candidates > kept:
            out.upper[at] = max(out.upper[at], largest[kept])
        out.elsewhere[at] = out.upper[at]


@compiled
def _load_candidates(turn, start, sets, lanes, plan, known):  # type: ignore[no-untyped-def]
    """Put a candidate into each lane: of all, with weights 1, or of the kept ones, with the weights that they have."""
    weight, chosen, candidate, order, weights = lanes.weight, lanes.sets, lanes.candidate, known.order, known.weights
    s = weight.shape[0]
    candidates, kept = known.uppers.shape[1], order.shape[1] - 1
    for lane in range(LANES):
        code = min(lane, plan.used - 1) // plan.share
        if turn >= plan.turns:
            place = min((turn - plan.turns) * plan.share + lane % plan.share, kept - 1)
            q = order[code, place]
            for j in range(s):
                weight[j, lane] = weights[code, q, j]
        else:
            q = min(turn * plan.share + lane % plan.share, candidates - 1)
            for j in range(s):
                weight[j, lane] = 1.0
        candidate[lane] = q
        for j in range(sets.shape[2]):
            chosen[lane, j] = sets[start + code, q, j]
    gather(lanes.G, lanes.sets, lanes.G_S, lanes.g_a)
    gather(lanes.Q, lanes.sets, lanes.Q_S, lanes.q_a)


@compiled
def _solve(lanes, m):  # type: ignore[no-untyped-def]
    """Least squares under the weights: y, |c| and both bounds of each lane."""
    # read once: every attribute read of a NamedTuple counts a reference
    V, Q_S, y, weight, c = lanes.V, lanes.Q_S, lanes.y, lanes.weight, lanes.c
    k, s = Q_S.shape[:2]
    for i in range(k):
        for j in range(s):
            copy(V[i, j], Q_S[i, j])
    solve_weighted(V, lanes.R, weight, lanes.q_a, lanes.t, y, lanes.u)
    residuals(lanes.G_S, lanes.g_a, y, lanes.total, lanes.rho)
    witness(lanes.G, lanes.Q, lanes.u, lanes.word, lanes.error)
    lower_bound(lanes.word, lanes.error, m, lanes.sizes, lanes.low)
    for j in range(s):
        value, before, size = y[j], weight[j], c[j]
        for lane in range(size.shape[0]):
            size[lane] = abs(value[lane]) / before[lane]  # y = weight Q_S^T u


@compiled
def _note_bounds(step, start, lanes, plan, known, out):  # type: ignore[no-untyped-def]
    """The running best bounds of each candidate, and of each code the best codeword."""
    word, total, rho, lows, candidate = lanes.word, lanes.total, lanes.rho, lanes.low, lanes.candidate
    uppers, lowers, wons, winner, lower, words = (
        known.uppers, known.lowers, known.won, known.winner, out.lower, out.witness
    )  # fmt: skip
    n, s = word.shape[0], lanes.weight.shape[0]
    for lane in range(plan.used):
        code, q, low = lane // plan.share, candidate[lane], lows[lane]
        before_upper = uppers[code, q, step - 1] if step else np.inf
        before_lower = lowers[code, q, step - 1] if step else 1.0
        uppers[code, q, step] = min(before_upper, upper_bound(total[lane], rho[lane], s))
        lowers[code, q, step] = max(before_lower, low)
        rank = q * plan.solves + step  # ties go to the first, however many lanes a code has
        if step <= plan.last and (low > wons[code] or (low == wons[code] and rank < winner[code])):
            wons[code], winner[code] = low, rank
            lower[start + code] = max(low, 1.0)
            for j in range(n):
                words[start + code, j] = word[j, lane]


@compiled
def _keep_profile(lanes, y_out, c_out):  # type: ignore[no-untyped-def]
    """|y| / |y|_1 and |c|."""
    c, y, total = lanes.c, lanes.y, lanes.total
    for j in range(y_out.shape[0]):
        copy(c_out[j], c[j])
        value, size = y[j], y_out[j]
        for lane in range(size.shape[0]):
            size[lane] = abs(value[lane]) / total[lane] if total[lane] > 0.0 else 0.0


@compiled
def _take_steps(steps, start, accelerations, lanes, plan, known, out):  # type: ignore[no-untyped-def]
    """The solves of these numbers, one after another."""
    for step in range(steps[0], steps[1]):
        if step == plan.end + 1:
            _round_to_basis(lanes.weight, lanes.profile[C_LAST], lanes.Q.shape[0])
        _solve(lanes, plan.m)
        _note_bounds(step, start, lanes, plan, known, out)
        if step == plan.end:
            _keep_profile(lanes, lanes.profile[Y_LAST], lanes.profile[C_LAST])
        elif step == plan.solves - 1:
            _keep_profile(lanes, lanes.profile[Y_BASIC], lanes.profile[C_BASIC])
        count = accelerations.shape[0]
        acceleration = accelerations[step if step < count else count - 2 + step % 2]
        _sharpen(lanes.weight, lanes.y, lanes.total, acceleration if step < plan.end else 0)


@compiled
def _keep_weights(lanes, plan, known):  # type: ignore[no-untyped-def]
    weights, candidate, weight = known.weights, lanes.candidate, lanes.weight
    for lane in range(plan.used):
        for j in range(weight.shape[0]):
            weights[lane // plan.share, candidate[lane], j] = weight[j, lane]


@compiled
def _write_kept(turn, start, sets, lanes, plan, known, out):  # type: ignore[no-untyped-def]
    """What is known of the kept candidates in the lanes."""
    s, kept = lanes.weight.shape[0], known.order.shape[1] - 1
    profile, y, c, basic_y, basic_c = lanes.profile, out.y, out.c, out.basic_y, out.basic_c
    kept_upper, kept_lower, uppers, lowers, kept_sets = (
        out.kept_upper, out.kept_lower, known.uppers, known.lowers, out.sets
    )  # fmt: skip
    _rank(profile[C_LAST], profile[Y_LAST], profile[KEYS], lanes.top)
    sort_down(profile)
    for lane in range(plan.used):
        place = (turn - plan.turns) * plan.share + lane % plan.share
        if place >= kept:
            continue
        code, q, top = lane // plan.share, lanes.candidate[lane], lanes.top[lane]
        at = start + code
        out.upper[at] = max(out.upper[at], known.uppers[code, q, plan.last])
        for j in range(sets.shape[2]):
            kept_sets[at, place, j] = sets[at, q, j]
        for step in range(plan.solves):
            kept_upper[at, place, step] = uppers[code, q, step]
            kept_lower[at, place, step] = lowers[code, q, step]
        for j in range(s):
            y[at, place, j] = profile[Y_LAST, j, lane]
            c[at, place, j] = profile[C_LAST, j, lane] / top if top > 0.0 else 0.0
            basic_y[at, place, j] = profile[Y_BASIC, j, lane]
            reduced = profile[C_BASIC, j, lane]
            basic_c[at, place, j] = min(reduced, LARGEST_C) if reduced >= 0.0 else LARGEST_C


@compiled
def _reweight(P, m, sets, rest, steps, accelerations, tightest, out):  # type: ignore[no-untyped-def]
    """All candidates take the first steps, then the kept ones go on; `tightest`: all that these find narrows the
    bounds."""
    count, k, r = P.shape
    n, candidates = k + r, sets.shape[1]
    s, kept = n - m, min(candidates, out.sets.shape[1])
    end = steps + EXTRA_STEPS
    solves, first = end + 1 + BASIC, min(FIRST, steps) + 1
    last = solves - 1 if tightest else steps
    x, lanes = np.empty((k * r, LANES)), _new_lanes(k, n, s)
    known = _Candidates(
        np.empty((LANES, candidates, s)),
        np.empty((LANES, candidates, solves)),
        np.empty((LANES, candidates, solves)),
        np.empty((LANES, kept + 1)),
        np.empty((LANES, kept + 1), np.int64),
        np.empty(LANES),
        np.empty(LANES, np.int64),
    )
    share = max(1, min(LANES // count, candidates))
    turns, further = -(-candidates // share), -(-kept // share)
    for start in range(0, count, LANES // share):
        codes = min(LANES // share, count - start)
        plan = _Plan(m, first, end, solves, last, codes * share, share, turns)
        _load_codes(P, start, x, lanes, plan)
        for code in range(codes):
            out.lower[start + code] = 1.0
            out.upper[start + code] = max(rest[start + code], 1.0)
            known.won[code], known.winner[code] = -1.0, 0
        for turn in range(turns + further):
            going_on = turn >= turns
            if turn == turns:
                _rank_candidates(start, codes, plan, known, out)
            _load_candidates(turn, start, sets, lanes, plan, known)
            steps_of_turn = (first, solves) if going_on else (0, first)
            _take_steps(steps_of_turn, start, accelerations, lanes, plan, known, out)
            if going_on:
                _write_kept(turn, start, sets, lanes, plan, known, out)
            else:
                _keep_weights(lanes, plan, known)


@dataclass(frozen=True, eq=False)
class Brackets:
    """Bounds of B codes of one (n, k, m), and their kept candidates: the sets (S, a) with the largest upper bounds.

    Shapes: lower, upper (B,); elsewhere (B,), an upper bound for all (S, a) that are not kept; witness (B, n), the
    codeword whose height is `lower`; outside (B, T, m), the coordinates outside S with a first; kept_lower,
    kept_upper (B, T, steps + 1 + EXTRA), after each solve, running best, those of the basic solution last; y, c
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
    kept_lower: NDArray[np.float64]
    kept_upper: NDArray[np.float64]
    y: NDArray[np.float32]
    c: NDArray[np.float32]
    basic_y: NDArray[np.float32]
    basic_c: NDArray[np.float32]

    @property
    def tightest(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(lower, upper), (B,) each, with all that the kept candidates found."""
        lower = np.maximum(self.lower, self.kept_lower[..., -1].max(1))
        upper = np.minimum(self.upper, np.maximum(self.elsewhere, self.kept_upper[..., -1].max(1)))
        return lower, np.where(np.isinf(self.lower) | (self.budget > 0), np.inf, upper)


def reweight(
    P: NDArray[np.float64],
    m: int,
    sets: NDArray[np.uint8],
    rest: NDArray[np.float64],
    steps: int,
    *,
    tightest: bool,
    budget: int = 0,
    threads: int | None = None,
) -> Brackets:
    """Bounds and kept candidates of a batch of codes from given candidates.

    Args:
        P: (B, k, r) float64, checked.
        m: 1 <= m <= r.
        sets: (B, C, n), each row S, a, then the other coordinates.
        rest: (B,), an upper bound for all sets that are not candidates; inf when there is none.
        steps: reweighting steps.
        budget: of sets that the candidates were chosen from; only kept.
        tightest: let the kept candidates' further steps and basic solutions narrow the bounds too.
        threads: default all cores; the answer does not depend on it.
    """
    count, k, r = P.shape
    n, s = k + r, k + r - m
    solves = steps + 1 + EXTRA
    lower, upper, elsewhere = np.empty((3, count))
    out = _Bounds(
        lower, upper, elsewhere, np.empty((count, n)), np.empty((count, KEPT, n), np.uint8),
        *(np.empty((count, KEPT, solves)) for _ in range(2)),
        *(np.empty((count, KEPT, s), np.float32) for _ in range(4)),
    )  # fmt: skip

    def solve(i: int, j: int) -> None:
        piece = _Bounds(*(part[i:j] for part in out))
        _reweight(P[i:j], m, sets[i:j], rest[i:j], steps, ACCELERATIONS, tightest, piece)

    over_batch(solve, count, threads)
    for part in out[4:]:  # too few candidates: the last one stands in for the missing
        part[:, sets.shape[1] :] = part[:, sets.shape[1] - 1 : sets.shape[1]]
    outside = out.sets[..., s:].astype(np.int64)
    return Brackets(n, k, m, steps, budget, *out[:4], outside, *out[5:])
