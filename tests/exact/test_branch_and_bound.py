"""Branch and bound against enumeration, linear programs, closed forms, and itself under other conditions."""

import _thread
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import combinations, count, product
from math import cos, pi, sin, tan

import numpy as np
import pytest

from moe_mheight import CodeError, from_parity_check, height_profile, m_height, random_codes, systematic
from moe_mheight.codes.generators import ALL_KINDS
from moe_mheight.exact import heights, relaxations
from moe_mheight.exact.branch_and_bound import exchangeable, search_height
from moe_mheight.exact.cost_model import expected_seconds
from moe_mheight.exact.hitting_set import Problem, Report, search_target
from moe_mheight.numerics import rationals
from moe_mheight.numerics.certified import Codeword, certified_norm
from moe_mheight.numerics.simplex_tableau import first_table, push_out_anywhere, renew


def heights_of(c):
    down = -np.sort(-np.abs(c))
    with np.errstate(divide="ignore", invalid="ignore"):
        return down[0] / down


def codes_of(kind, rng, largest):
    n = int(rng.integers(2, largest + 1))
    k = int(rng.integers(1, n))
    if kind == "ternary":
        return rng.integers(-1, 2, (k, n - k)).astype(float)
    if kind == "dependent":
        P = rng.normal(size=(k, n - k))
        P[:, rng.integers(n - k)] = P[:, rng.integers(n - k)] * rng.choice([0.0, 1.0, -1.0, 2.5])
        P[rng.integers(k)] = P[rng.integers(k)]
        return P
    return random_codes(kind, 1, k, n - k, rng)[0]


@pytest.mark.parametrize("kind", [*ALL_KINDS, "ternary", "dependent"])
def test_equals_enumeration(kind, rng):
    for _ in range(25):
        P = codes_of(kind, rng, 12)
        m = int(rng.integers(1, P.shape[1] + 1))
        truth = m_height(P, m, method="bases")
        found = m_height(P, m, method="search", details=True, threads=1)
        assert found.finished
        assert found.method == "search"
        if truth == np.inf:
            assert found.value == found.lower == found.upper == np.inf
            zeros = np.sort(np.abs(found.witness))[: P.shape[0] + P.shape[1] - m]
            assert zeros.max() < 1e-10
        else:
            assert found.value == pytest.approx(truth, rel=1e-9)
            assert found.lower * (1 - 1e-14) <= truth <= found.upper * (1 + 1e-14)
            assert found.upper <= found.lower * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["normal", "integer", "near-singular", "ternary"])
def test_the_witness_is_a_codeword_of_that_height(kind, rng):
    for _ in range(10):
        P = codes_of(kind, rng, 14)
        k, r = P.shape
        m = int(rng.integers(1, r + 1))
        found = m_height(P, m, method="search", details=True)
        c = found.witness
        np.testing.assert_allclose(c[:k] @ P, c[k:], atol=1e-12 * max(1.0, np.abs(P).max()))
        assert np.abs(c).max() == 1
        assert len(set(found.outside)) == m
        assert abs(c[found.outside[0]]) == 1
        if found.value < 1e6:
            assert heights_of(c)[m] == pytest.approx(found.value, rel=1e-9)


@pytest.mark.parametrize(("n", "k"), [(13, 6), (14, 5), (15, 9), (16, 4)])
def test_equals_all_linear_programs(n, k, rng):
    """max over all (S, a) of the linear program, by HiGHS: a second algorithm, to its tolerance of 1e-7."""
    linprog = pytest.importorskip("scipy.optimize").linprog
    P = rng.normal(size=(k, n - k))
    G = np.hstack([np.eye(k), P])
    for m in (1, 2):
        best = 1.0
        for out in combinations(range(n), m):
            rows = np.delete(G, out, axis=1).T
            for a in out:
                done = linprog(-G[:, a], np.vstack([rows, -rows]), np.ones(2 * len(rows)), bounds=(None, None))
                best = max(best, -done.fun)
        assert m_height(P, m, method="search") == pytest.approx(best, rel=1e-6)


# closed forms of long codes


def rotated(P, rng):
    """The same code in another systematic form, coordinates permuted and negated."""
    k, r = P.shape
    G = np.hstack([np.eye(k), P]) * rng.choice([-1.0, 1.0], k + r)
    return systematic(G[:, rng.permutation(k + r)])[0]


@pytest.mark.parametrize("n", [17, 24, 40, 64])
def test_polygons(n, rng):
    """Axes of a regular 2n-gon: c_j = cos(phi + j pi / n), largest over the (m+1)-st largest (Roth 2020)."""
    angles = pi * np.arange(n) / n
    P = rotated(systematic(np.vstack([np.cos(angles), np.sin(angles)]))[0], rng)
    for m in (1, 2, 3, 7, 10):
        # j steps of pi / n on either side of the largest, which lies on an axis or between two
        if m % 2:
            truth = 1.0 / cos((m + 1) // 2 * pi / n)
        else:
            truth = cos(pi / (2 * n)) / cos((m + 1) * pi / (2 * n))
        assert m_height(P, m) == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize(("k", "n"), [(20, 21), (40, 41), (63, 64)])
def test_single_parity_checks(k, n, rng):
    P = rotated(-np.ones((k, n - k)), rng)
    assert height_profile(P) == pytest.approx([1, k], rel=1e-9)


def test_repetition_and_its_sums(rng):
    assert m_height(np.ones((1, 63)), 63) == 1
    assert height_profile(np.kron(np.eye(3), np.ones((1, 6)))).tolist() == [1.0] * 7 + [np.inf] * 12


def test_disjoint_parity_checks(rng):
    """Blocks of coordinates that each sum to 0: h_1 is the size of the largest less one, and the distance is 2."""
    sizes = (5, 4, 6, 3)
    H = np.zeros((len(sizes), sum(sizes)))
    at = 0
    for i, size in enumerate(sizes):
        H[i, at : at + size] = 1
        at += size
    P = rotated(from_parity_check(H)[0], rng)
    assert m_height(P, 1) == pytest.approx(max(sizes) - 1, rel=1e-12)
    assert m_height(P, 2) == np.inf


def test_hypercube_axes(rng):
    """[16, 5, 8]: the axes of the 5-cube; c is a vector of all sums +-x_1 +- ... +- x_5 up to sign."""
    G = np.array([s for s in product([1, -1], repeat=5) if s[0] == 1]).T.astype(float)
    P = rotated(systematic(G)[0], rng)
    truth = [1, 5 / 3, 2, 2, 3, 3, 5, 5]
    assert height_profile(P, method="search")[:8] == pytest.approx(truth, rel=1e-9)
    assert m_height(P, 8, method="search") == np.inf


def test_cartesian_products(rng):
    """h_m of C1 x C2 (words side by side): the larger of both m-heights, by words of one part only."""
    one, two = rng.normal(size=(3, 8)), rng.normal(size=(4, 6))
    P = np.zeros((7, 14))
    P[:3, :8], P[3:, 8:] = one, two
    for m in (1, 2, 4, 6):
        assert m_height(P, m) == pytest.approx(max(m_height(one, m), m_height(two, m)), rel=1e-9)
    assert m_height(P, 7) == np.inf  # [10, 4]: 7 exceeds its redundancy


@pytest.mark.parametrize("n", [17, 24, 33, 64])
def test_spherical_parity_codes(n, rng):
    """[n, n - 2, 3], H's columns the axes of a 2n-gon (Roth 2020): sums of the cosines of all angles but two."""
    angles = pi * np.arange(n) / n
    P = rotated(from_parity_check(np.vstack([np.cos(angles), np.sin(angles)]))[0], rng)
    whole = 1 / sin(pi / (2 * n)) if n % 2 else 1 / tan(pi / (2 * n))
    assert m_height(P, 1) == pytest.approx(whole - 1, rel=1e-9)
    assert m_height(P, 2) == pytest.approx(1 / (1 - cos(pi / n)) - 1, rel=1e-9)


# infinite heights


@pytest.mark.parametrize(("k", "r"), [(8, 12), (20, 20), (10, 40)])
def test_infinite_by_rank(k, r, rng):
    """A word of weight 3 planted in an integer code: h_2 finite, h_3 infinite, and exactly so for huge integers."""
    P = rng.integers(-50, 51, (k, r))
    P[0] = 0
    P[0, :2] = (3, -7)
    assert m_height(P, 2) < np.inf
    found = m_height(P, 3, details=True)
    assert found.value == np.inf
    assert np.count_nonzero(found.witness) == 3
    near = P.astype(float)
    near[0, 2] = 1e-7
    assert 1e6 < m_height(near, 3) < 1e11
    near[0, 2] = 1e-13
    assert m_height(near, 3) == np.inf


def test_real_rank_deficiency_survives_rounding(rng):
    P = rng.normal(size=(9, 11))
    P[3] = 0.3 * P[1] + 0.7 * P[2]
    P[3, 4] += 1.0
    # e_3 - 0.3 e_1 - 0.7 e_2 has weight 4
    assert m_height(P, 3) < np.inf
    assert m_height(P, 4) == np.inf
    assert m_height(rotated(P, rng), 4) == np.inf


# the same answer whatever happens


@pytest.mark.parametrize(("n", "k", "m"), [(20, 10, 5), (18, 9, 9), (30, 6, 6)])
def test_threads_change_nothing(n, k, m, rng):
    P = rng.normal(size=(k, n - k))
    one, *others = (m_height(P, m, threads=t, details=True) for t in (1, 2, 3, 7))
    for other in others:
        assert (other.value, other.lower, other.upper) == (one.value, one.lower, one.upper)
        assert (other.nodes, other.programs, other.outside) == (one.nodes, one.programs, one.outside)
        assert np.array_equal(other.witness, one.witness)


@pytest.mark.parametrize(("n", "k", "m"), [(18, 8, 4), (24, 6, 6), (22, 14, 5)])
def test_invariant_under_the_symmetries(n, k, m, rng):
    P = rng.integers(-20, 21, (k, n - k)).astype(float)
    assert m_height(rotated(P, rng), m) == pytest.approx(m_height(P, m), rel=1e-9)


def test_repeated_and_zero_columns(rng):
    P = rng.integers(-5, 6, (6, 12)).astype(float)
    P[:, 3] = P[:, 0]
    P[:, 4] = -P[:, 0]
    P[:, 5] = 0
    P[:, 6] = -np.eye(6)[2]
    G = np.hstack([np.eye(6), P])
    assert len(set(exchangeable(G).tolist())) == 15
    for m in (1, 2, 3, 5):
        every, _ = search_height(P, m, symmetry=False)
        assert m_height(P, m) == pytest.approx(every.value, rel=1e-9)
    full = m_height(P[:, :10], 4, method="search")
    assert full == pytest.approx(m_height(P[:, :10], 4, method="bases"), rel=1e-9)


@pytest.mark.slow
def test_profiles_grow(rng):
    profile = height_profile(rng.normal(size=(5, 13)))
    assert (np.diff(profile) >= 0).all()
    P = rng.normal(size=(7, 9))
    assert height_profile(P, method="search") == pytest.approx(height_profile(P, method="bases"), rel=1e-9)


# anytime


@pytest.mark.slow
def test_a_time_limit_leaves_a_bracket(rng):
    P = rng.normal(size=(24, 24))
    m_height(P[:5, :14], 3)  # compiled before the clock starts
    seen = []
    found = m_height(P, 12, time_limit=2.0, watch=seen.append)
    assert found.ended == "time limit"
    assert not found.finished
    assert heights_of(found.witness)[12] == pytest.approx(found.lower, rel=1e-9)
    assert found.lower < found.upper
    assert seen
    uppers = [p.upper for p in seen]
    assert uppers == sorted(uppers, reverse=True)
    assert all(p.lower <= found.lower <= found.upper <= p.upper for p in seen)


def test_relaxed_bounds_hold(rng, monkeypatch):
    """What a relaxed search proves is never below the height; checked on a code that is searched to its end."""
    P = rng.normal(size=(12, 12))
    truth = m_height(P, 6)
    monkeypatch.setattr(relaxations, "RELAXED", 0.0)
    seen = []
    found = m_height(P, 6, time_limit=60, watch=seen.append)
    assert found.value == truth
    assert any(np.isfinite(p.upper) for p in seen)
    assert all(p.upper >= truth for p in seen)


@pytest.mark.slow
def test_interrupted(rng):
    """Ctrl-C while threads search: the bracket with details, KeyboardInterrupt without."""
    P = rng.normal(size=(20, 20))

    def strikes(progress):
        seen.append(progress)
        if len(seen) == 1:
            _thread.interrupt_main()

    seen = []
    found = m_height(P, 8, details=True, watch=strikes)
    assert found.ended == "interrupt"
    assert 1.0 < found.lower < found.upper
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        m_height(P, 8, watch=strikes)


@pytest.mark.skipif(os.name == "nt", reason="sends itself a signal")
def test_a_batch_is_searched_by_threads_and_interrupted(rng, monkeypatch):
    """Side by side or one after the other, the heights are the same; Ctrl-C ends all of them."""
    P = rng.normal(size=(6, 11, 11))
    one = m_height(P, 2, threads=1)
    np.testing.assert_array_equal(m_height(P, 2, threads=2), one)
    found = m_height(P, [1, 2, 3, 1, 2, 3], threads=3, details=True)
    assert [f.m for f in found] == [1, 2, 3, 1, 2, 3]
    assert [f.value for f in found[1::3]] == one[1::3].tolist()
    begun, queued, ended = count(), threading.Event(), []

    class Pool(ThreadPoolExecutor):
        def submit(self, work, i, own):
            future = super().submit(work, i, own)
            if i == 5:
                queued.set()
            return future

    def strikes(*arguments, **settings):
        queued.wait(300)
        if next(begun) == 0:
            time.sleep(0.2)  # by now the main thread waits, from which only a signal wakes it
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        found, proof = search_height(*arguments, **settings)
        ended.append(found.ended)
        return found, proof

    monkeypatch.setattr(heights, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(heights, "search_height", strikes)
    with pytest.raises(KeyboardInterrupt):
        m_height(rng.normal(size=(6, 20, 20)), 7, threads=2)
    assert set(ended) == {"interrupt"}


def test_hopeless_sizes_are_announced(rng, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    assert expected_seconds(64, 32, 20) > 1e6
    monkeypatch.setattr(heights, "search_height", interrupted)
    with pytest.warns(UserWarning, match="takes (about .* days|years)"), pytest.raises(KeyboardInterrupt):
        m_height(rng.normal(size=(32, 32)), 20)


# parts


def test_a_basis_bounds_what_it_says(rng):
    """U of `certified_norm` is never below the exact |y|_1, and tight; nearly singular bases included."""
    for trial in range(20):
        k, n = 5, 11
        P = rng.normal(size=(k, n - k))
        if trial % 2:
            P[:, 0] = P[:, 1] + 10.0 ** -rng.integers(3, 10) * rng.normal(size=k)
        G = np.ascontiguousarray(np.hstack([np.eye(k), P]))
        D, basis, row_of = np.empty((k, n + 1)), np.empty(k, np.int64), np.empty(n, np.int64)
        a = int(rng.integers(n))
        first_table(G, a, D, basis, row_of)
        for i in range(k):
            push_out_anywhere(D, basis, row_of, i, np.int64(1) << a)
        bound, mask = certified_norm(G, D, basis, a, 0.0, np.empty(k), np.empty(k))
        B = [[Fraction(float(G[i, j])) for j in basis] + [Fraction(float(G[i, a]))] for i in range(k)]
        for i in range(k):
            row = next(p for p in range(i, k) if B[p][i])
            B[i], B[row] = B[row], B[i]
            B[i] = [v / B[i][i] for v in B[i]]
            for p in range(k):
                if p != i:
                    B[p] = [v - B[p][i] * w for v, w in zip(B[p], B[i], strict=True)]
        truth = sum(abs(B[i][-1]) for i in range(k))
        assert truth <= Fraction(float(bound)) <= truth * Fraction(1 + 1e-11)
        assert mask & ~sum(1 << int(j) for j in basis) == 0
        assert renew(G, a, D, basis, row_of)


def test_single_targets_make_up_the_height(rng):
    P = rng.normal(size=(5, 8))
    G = np.ascontiguousarray(np.hstack([np.eye(5), P]))
    found, single = [], np.int64(1) << np.arange(13)
    identity = np.arange(13)[None]
    problem = Problem(G, 4, single, single, np.empty((0, 2), np.int64), np.inf, identity, single[:0])
    for a in range(13):
        report = Report(
            np.zeros(1, np.int64), np.zeros(1), np.empty(99, np.int64), np.zeros(2, np.int64), np.zeros(3, np.int64)
        )
        word = Codeword(np.zeros(5), np.zeros(5), np.zeros(13))
        ended, height, proven = search_target(problem, a, 0, 0, 1.0, 1.0, report, word)
        assert ended == 0
        assert proven <= height * (1 + 1e-9)
        found.append(height)
    assert max(found) == pytest.approx(m_height(P, 4), rel=1e-9)


def test_a_start_codeword_is_used(rng):
    P = rng.normal(size=(6, 14))
    word = m_height(P, 5, details=True).witness
    found, bases = search_height(P, 5, start=word)
    assert found.value == pytest.approx(m_height(P, 5), rel=1e-9)
    assert len(bases) > 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"method": "simplex"}, "method must be one of"),
        ({"time_limit": 0}, "time_limit must be"),
        ({"time_limit": "soon"}, "time_limit must be"),
        ({"time_limit": float("nan")}, "time_limit must be"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(CodeError, match=match):
        m_height(np.ones((2, 20)), 2, **arguments)


def test_sizes_out_of_reach():
    with pytest.raises(CodeError, match="at most 64"):
        m_height(np.ones((1, 64)), 2)
    with pytest.raises(CodeError, match="goes up to n = 20"):
        m_height(np.ones((2, 20)), 2, method="bases")
    with pytest.raises(CodeError, match="at most 64"):
        height_profile(np.ones((32, 33)))


def test_exact_programs_of_real_codes(rng):
    """`rationals.best_of_set` on real entries of every size, against HiGHS."""
    linprog = pytest.importorskip("scipy.optimize").linprog
    for trial in range(12):
        P = rng.normal(size=(4, 6)) * 10.0 ** rng.integers(-3, 4, (4, 6))
        G = np.hstack([np.eye(4), P])
        S = sorted(rng.choice(10, 7, replace=False).tolist())
        a = next(j for j in range(10) if j not in S)
        z, basis, y, u = rationals.best_of_set(rationals.rational_matrix(P), S, a)
        rows = G[:, S].T
        done = linprog(-G[:, a], np.vstack([rows, -rows]), np.ones(2 * len(rows)), bounds=(None, None))
        if done.status == 0:
            assert float(z) == pytest.approx(-done.fun, rel=1e-6), trial
        c = rationals.codeword(rationals.rational_matrix(P), u)
        assert max(abs(c[j]) for j in S) == 1
        assert abs(c[a]) == z == sum(map(abs, y))
        assert set(basis) <= set(S)


def test_parallel_columns_up_to_rounding(rng):
    """Sets that are short of rank but for rounding: infinite by the rule for real codes, as by enumeration."""
    for _ in range(20):
        P = rng.normal(size=(5, 6))
        P[:, 1], P[:, 3], P[:, 5] = P[:, 0] * rng.normal(), P[:, 2] * rng.normal(), P[:, 4] * rng.normal()
        for m in (2, 3, 4):
            truth, found = m_height(P, m, method="bases"), m_height(P, m, method="search")
            assert found == truth or found == pytest.approx(truth, rel=1e-9)
