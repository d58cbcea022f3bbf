"""Exact heights against closed forms, exact rationals, linear programs, a published package and the symmetries."""

from __future__ import annotations

import importlib.util
import json
import pickle
from collections import Counter
from fractions import Fraction
from itertools import combinations
from math import inf
from pathlib import Path

import brute
import numpy as np
import pytest

from moe_mheight import (
    CodeError,
    bounds,
    equivalent,
    height_profile,
    m_height,
    minimum_distance,
    random_codes,
    systematic,
    witness,
)
from moe_mheight.codes.generators import KINDS
from moe_mheight.codes.minors import (
    LARGEST_RATIO,
    exact_integer_limit,
    load_lanes,
    minor_lanes,
    minor_tables,
    new_minors,
    permanent_lanes,
    rounding_units,
    whole_minors,
)
from moe_mheight.exact.enumeration import profile_ends
from moe_mheight.numerics.jit import LANES

EXACT = 2e-15
"""A minor is rounded once, a sum of k + 1 of them and a quotient follow: a few units of 2^-52."""

SHAPES = [(k, n - k) for n in range(2, 9) for k in range(1, n)]


def assert_same(P, truth, tolerance=EXACT):
    found = height_profile(P)
    assert max(map(brute.error, found, truth)) <= tolerance, (P, found, truth)
    assert minimum_distance(P) == next((m for m, h in enumerate(truth) if h == inf), len(truth))


# closed forms and labels


def check_oracles(codes):
    for name, G, profile in codes:
        P, _ = systematic(G)
        known = ~np.isnan(profile)
        tolerance = 1e-7 if name.startswith("course example") else 1e-9  # that one is printed with eight digits
        np.testing.assert_allclose(height_profile(P)[known], profile[known], rtol=tolerance, err_msg=name)


def test_closed_forms(oracles):
    check_oracles(oracles)


def test_all_closed_forms(all_oracles):
    assert len(all_oracles) == 45
    check_oracles(all_oracles)


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["sample9-{}", "sample21-{}.pkl"])
def test_labels_of_shared_data(shared, stem):
    rows, labels = (
        pickle.loads((shared / "data" / stem.format(part)).read_bytes()) for part in ("n_k_m_P", "mHeights")
    )
    found = [m_height(P, m) for _, _, m, P in rows]
    np.testing.assert_allclose(found, labels, rtol=1e-9)


# exact rationals


@pytest.mark.parametrize("make", ["ternary", "small", "integer", "dependent", "uniform", "normal"])
def test_equals_exact_rationals(make, rng):
    for k, r in SHAPES:
        for _ in range(1 if k + r == 8 else 4):
            if make == "ternary":
                P = rng.integers(-1, 2, (k, r))
            elif make == "small":
                P = rng.integers(-4, 5, (k, r))
            elif make == "dependent":  # zero, repeated and parallel columns, repeated rows
                P = rng.integers(-5, 6, (k, r))
                P[:, rng.integers(r)] = P[:, rng.integers(r)] * rng.integers(-2, 3)
                P[rng.integers(k)] = P[rng.integers(k)]
            else:
                P = random_codes(make, 1, k, r, rng)[0]
            assert_same(P, brute.profile(P.tolist()))


@pytest.mark.parametrize(
    "P",
    [
        [[0]],
        [[0, 0, 0]],
        [[5, 5, 5]],
        [[0, 7, 0, -7]],
        [[0], [0], [0]],
        [[1], [0], [-3]],
        np.zeros((3, 4)),
        np.ones((4, 4)),
        np.eye(4),
        [[1, 1, 2, -2], [1, 1, 2, -2]],
        [[1, 1, 0], [1, 1, 0], [1, 1, 3]],
    ],
)
def test_degenerate_codes(P):
    assert_same(P, brute.profile(np.array(P).tolist()))


def test_the_twin_agrees_with_duality(rng):
    # the twin goes through vertices; Theorem 8 of arXiv:2602.20366 is its dual, and here both are exact
    for k, r in [(2, 3), (3, 3), (4, 2)]:
        P = rng.integers(-3, 4, (k, r)).tolist()
        n = k + r
        dual = [Fraction(1)] + [
            max(brute.best_for(P, set(range(n)) - set(out), a) for out in combinations(range(n), m) for a in out)
            for m in range(1, r + 1)
        ]
        assert dual == brute.profile(P)


@pytest.mark.parametrize(("k", "r"), [(1, 4), (2, 2), (2, 5), (3, 3), (4, 4), (5, 3), (6, 2), (5, 1), (4, 5)])
def test_large_integers(k, r, rng):
    """Near the documented range singular integer matrices have infinite heights and their neighbours have not."""
    limit = min(int(exact_integer_limit(k, r)), 2**50)
    for _ in range(3):
        P = rng.integers(-(limit // 8), limit // 8, (k, r))
        size = int(rng.integers(2, min(k, r) + 1)) if min(k, r) > 1 else 1
        rows, columns = rng.choice(k, size, replace=False), rng.choice(r, size, replace=False)
        # one row of a block becomes a combination of the block's other rows, the rest of P stays
        factors = rng.choice([-2, -1, 1, 2], size - 1)
        P[rows[0], columns] = factors @ P[np.ix_(rows[1:], columns)]
        assert limit // 100 < np.abs(P).max() <= limit
        truth = brute.profile(P.tolist())
        assert truth[-1] == inf
        assert_same(P, truth)
        P[rows[0], columns[0]] += 1
        truth = brute.profile(P.tolist())
        assert truth[-1] < inf
        assert_same(P, truth)


def test_exact_integer_limit_as_documented():
    assert 21_000 < exact_integer_limit(6, 6) < 22_000


# badly scaled, nearly singular and huge


def hard_codes():
    codes = json.loads((Path(__file__).parents[1] / "hard_codes.json").read_text())["codes"]
    return {code["name"]: (code["P"], [inf if h is None else h for h in code["profile"]]) for code in codes}


@pytest.mark.parametrize("name", hard_codes())
def test_hard_codes(name):
    P, truth = hard_codes()[name]
    np.testing.assert_allclose(height_profile(P), truth, rtol=1e-14)
    np.testing.assert_allclose([m_height(P, m) for m in range(1, len(truth))], truth[1:], rtol=1e-14)
    if "beyond" in name:
        return
    infinite = [m for m, h in enumerate(truth) if h == inf]
    assert minimum_distance(P) == min(infinite, default=len(truth))
    for m in range(1, len(truth)):
        for method in ("bases", "search"):
            found = m_height(P, m, method=method, details=True)
            assert found.value == pytest.approx(truth[m], rel=1e-9)
            assert found.lower <= truth[m] * (1 + 1e-15)
            assert found.upper >= truth[m] * (1 - 1e-15)
            if truth[m] < inf:
                assert brute.height_of(found.witness, m) == pytest.approx(found.lower, rel=1e-14)
        lower, upper = bounds(P, m)
        assert lower <= truth[m] <= upper


@pytest.mark.parametrize("name", ["real_5x6", "integer_5x5", "integer_7x7", "integer_beyond_2_53"])
def test_faults_that_were_reported(shared, name):
    P = json.loads((shared / "faults" / f"wrong_{name}.json").read_text())
    np.testing.assert_allclose(height_profile(P), hard_codes()[name.replace("_", " ")][1], rtol=1e-14)


@pytest.fixture(scope="module")
def truth_benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "truth.py"
    if not path.exists():
        pytest.skip("benchmarks are in the repository only")
    spec = importlib.util.spec_from_file_location("truth", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["near-singular", "worst-set", "scaled", "integer", "combined"])
def test_hard_kinds_in_small(truth_benchmark, kind):
    tally = Counter()
    for number in (1, 2, 3, 5, 8, 13):
        tally.update(truth_benchmark.one_batch(kind, number, count=40, seed=5, share=0.1))
    assert tally["codes"] >= 200
    assert tally["against reference"] >= 10
    wrong = [name for name in tally if name.startswith(("wrong", "contradicts", "distance", "certificate differs"))]
    assert len(wrong) >= 5
    assert {name: tally[name] for name in wrong} == dict.fromkeys(wrong, 0)


def test_the_bound_on_a_minor_s_rounding(rng):
    """Measured against integers: no minor is off by more than what the permanent allows, and some come near."""
    used = []
    for k, r in [(2, 2), (3, 3), (4, 4), (4, 5), (3, 6), (6, 3)]:
        P = rng.normal(size=(LANES, k, r)) * 10.0 ** rng.integers(-3, 4, (LANES, k, 1))
        P[:, :, 0] = P[:, :, -1] * rng.normal(size=(LANES, 1)) + 10.0 ** rng.uniform(-18, -6, (LANES, 1)) * P[:, :, 0]
        tables = minor_tables(k + r, k)
        x, found = np.empty((k * r, LANES)), new_minors(tables)
        minor, permanent = found.size, np.empty_like(found.size)
        load_lanes(P, 0, LANES, x)
        minor_lanes(x, 0.0, tables, found)
        permanent_lanes(x, tables, permanent)
        for lane in range(0, LANES, 8):
            F = [[Fraction(value) for value in row] for row in P[lane].tolist()]
            scale = max(value.denominator for row in F for value in row) ** min(k, r)
            exact = whole_minors(P[lane].tolist())[0]
            for b, order in enumerate(np.diff(tables.first)):
                off = abs(Fraction(minor[b, lane]) - Fraction(exact[b], scale))
                allowed = Fraction(rounding_units(order)) / 2**106 * Fraction(permanent[b, lane])
                assert off <= allowed + Fraction(minor[b, lane]) / 2**52
                used.append(float((off - Fraction(minor[b, lane]) / 2**53) / allowed) if allowed else 0.0)
    assert max(used) > 1e-6


@pytest.mark.slow
def test_the_ends_of_a_profile_hold_it(rng):
    for k, r in [(2, 4), (3, 3), (4, 4), (5, 3)]:
        P = rng.normal(size=(30, k, r)) * 10.0 ** rng.integers(-8, 9, (30, 1, r))
        P[:, :, 0] = P[:, :, 1] * (1 + 10.0 ** rng.uniform(-17, -3, (30, 1)))
        for matrix, (lower, upper) in zip(P, profile_ends(P), strict=True):
            truth = brute.profile(matrix.tolist())
            for low, h, high in zip(lower, truth, upper, strict=True):
                assert low <= h <= high


def test_integers_and_fractions_that_float64_rounds(rng):
    P = [[2**60 + 1, 3], [5, 2**60 - 1]]
    truth = brute.profile(P)
    for same in (P, np.array(P), np.array(P, dtype=object), [P, P]):
        found = np.atleast_2d(height_profile(same))
        assert max(brute.error(h, t) for h, t in zip(found[0], truth, strict=True)) < 1e-15
    F = [[Fraction(1, 3), Fraction(1, 7)], [Fraction(2, 3), Fraction(2, 7)]]  # rank 1: infinite, and not by rounding
    assert height_profile(F).tolist() == [float(h) for h in brute.profile(F)]
    assert m_height([[10**300, 3]], 2) == 1e300
    for m, h in enumerate(truth[1:], 1):
        found = m_height(P, m, details=True)
        assert found.lower <= h <= found.upper
        assert found.upper - found.lower <= 2.3e-16 * found.value
        assert brute.error(float(brute.height_of(found.witness, m)), h) < 1e-15
    for call in (minimum_distance, lambda P: bounds(P, 1), lambda P: witness(P, 1)):
        with pytest.raises(CodeError, match=r"has the entry 1152921504606846977, which float64 rounds"):
            call(P)
    with pytest.raises(CodeError, match=r"finite and above 1\.79769e"):
        m_height([[10**400]], 1)
    with pytest.raises(CodeError, match=r"a search takes integers up to 2\^53"):
        m_height(P, 1, method="search")


def test_a_pair_of_matrix_and_order_is_named():
    with pytest.raises(CodeError, match=r"a pair \(P, order\), as systematic and from_parity_check return it"):
        height_profile(systematic([[2.0, 0, 1], [0, 1, 1]]))


# real codes: what counts as infinite


def as_documented(truth):
    """Finite heights of real codes end at LARGEST_RATIO."""
    return [h if h <= LARGEST_RATIO else inf for h in truth]


@pytest.mark.parametrize(("k", "r"), [(2, 4), (3, 3), (3, 5), (4, 4), (4, 5), (5, 3), (6, 2)])
def test_real_rank_deficiency_survives_rounding(k, r, rng):
    """A code singular in exact arithmetic is infinite at the same m when its floats are only nearly singular."""
    for _ in range(6):
        scale = Fraction(10) ** int(rng.integers(-3, 4))
        own = [Fraction(10) ** int(rng.integers(-2, 3)) for _ in range(r)]
        columns = [[Fraction(float(x)) for x in rng.uniform(-1, 1, k)] for _ in range(r)]
        if k == 2 or r == 2:
            columns[-1] = [Fraction(1, 3) * x for x in columns[0]]
        else:
            columns[-1] = [Fraction(3, 10) * x + Fraction(7, 10) * y for x, y in zip(*columns[:2], strict=True)]
        if r == 2:
            columns[-1][0] += 1  # dependent together with the first unit vector
        P = [[scale * s * x for s, x in zip(own, row, strict=True)] for row in zip(*columns, strict=True)]
        truth = as_documented(brute.profile(P))
        assert truth[r] == inf
        rounded = np.array([[float(x) for x in row] for row in P])
        # rounding the input moves a height by about its size in units of rounding
        worst = max(float(h) for h in truth if h < inf)
        assert_same(rounded, truth, 100 * 2**-52 * worst + EXACT)


def test_real_double_rank_deficiency(rng):
    # two dependent triples: products of rounding errors must not pass for bases
    c = rng.normal(size=(4, 5))
    P = np.column_stack([c[:, 0], c[:, 1], 0.3 * c[:, 0] + 0.7 * c[:, 1], 0.1 * c[:, 0] - 1.7 * c[:, 1], c[:, 2]])
    assert np.isinf(height_profile(P)).tolist() == [False, False, False, False, True, True]
    for scale in (1e-5, 1.0, 1e5, 1e15):
        assert np.isinf(height_profile(scale * np.ones((2, 3)) / 3)).tolist() == [False, False, True, True]


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-7, 1e-8, 1e-9])
def test_nearly_singular_stays_finite_and_right(distance, rng):
    for k, r in [(3, 3), (3, 4), (4, 3), (4, 4), (5, 3)] * 2:
        P = rng.uniform(-1, 1, (k, r))
        P[:, 0] = 0.3 * P[:, 1] + 0.7 * P[:, -1] + distance * rng.uniform(0.5, 1, k)
        truth = brute.profile(P.tolist())
        assert truth[r] > 0.1 / distance
        assert_same(P, as_documented(truth))


def test_badly_scaled_codes(rng):
    for k, r in [(1, 6), (2, 4), (3, 3), (4, 4), (6, 2)] * 4:
        P = rng.normal(size=(k, r)) * 10.0 ** rng.integers(-6, 7, (k, 1) if rng.random() < 0.5 else r)
        assert_same(P, as_documented(brute.profile(P.tolist())))


# linear programs


def linear_program_height(P, m):
    """max over |S| = n - m, a outside S, of max g_a . u subject to |g_i . u| <= 1 on S; unbounded is infinite."""
    linprog = pytest.importorskip("scipy.optimize").linprog
    G = np.hstack([np.eye(len(P)), P])
    best = 1.0
    for out in combinations(range(G.shape[1]), m):
        rows = np.delete(G, out, axis=1).T
        for a in out:
            done = linprog(-G[:, a], np.vstack([rows, -rows]), np.ones(2 * len(rows)), bounds=(None, None))
            if done.status in (2, 3):  # presolve may say infeasible for unbounded: u = 0 is always feasible
                return inf
            assert done.status == 0, done.message
            best = max(best, -done.fun)
    return best


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "ternary"])
def test_equals_linear_programs(kind, rng):
    for k, r in [(1, 4), (2, 3), (3, 3), (3, 2), (4, 2)]:
        P = rng.integers(-1, 2, (k, r)).astype(float) if kind == "ternary" else random_codes(kind, 1, k, r, rng)[0]
        for m in range(1, r + 1):
            # HiGHS stops at a vertex but allows |g_i . u| <= 1 + 1e-7
            assert m_height(P, m) == pytest.approx(linear_program_height(P, m), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "ternary"])
def test_equals_the_published_package(kind, rng):
    published = pytest.importorskip("analog_ecc_heights")
    for k, r in [(1, 4), (2, 3), (3, 3), (3, 2), (2, 5), (5, 2)]:
        P = rng.integers(-1, 2, (k, r)).astype(float) if kind == "ternary" else random_codes(kind, 1, k, r, rng)[0]
        G = np.hstack([np.eye(k), P])
        for m in range(1, r + 1):
            mine = m_height(P, m)
            # Gauss elimination in float64: rounding grows with the condition of the best basis
            assert mine == pytest.approx(published.h_m_roth_dual_combinatorial_generator(G, m), rel=1e-9)
            # the same tolerance of 1e-7 in HiGHS as above
            assert mine == pytest.approx(published.h_m_roth_dual_lp(G, m), rel=1e-6)


# laws


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "ternary"])
def test_invariant_under_the_symmetries(kind, rng):
    """100,000 codes, five kinds: h does not move, up to the rounding of the re-systematised matrix.

    An error of 2^-52 in P' moves a height by about h times that: the worst of two million codes was 40 h 2^-52, which
    is below 1e-9 for every height below 1e5.
    """
    shapes = [(k, n - k) for n in range(2, 11) for k in range(1, n)]
    each = -(-20_000 // len(shapes))
    for k, r in shapes:
        if kind == "ternary":
            P = rng.integers(-1, 2, (each, k, r)).astype(float)
        else:
            P = random_codes(kind, each, k, r, rng)
        before, after = height_profile(P), height_profile(equivalent(P, rng))
        finite = np.isfinite(before)
        assert np.array_equal(finite, np.isfinite(after))
        change = np.abs(after[finite] / before[finite] - 1)
        assert (change <= np.maximum(1e-9, 200 * 2**-52 * before[finite])).all()
        moved = height_profile(equivalent(P, rng, resystematise=False))
        assert np.array_equal(finite, np.isfinite(moved))
        np.testing.assert_allclose(moved[finite], before[finite], rtol=EXACT)  # no rounding on the way there


@pytest.mark.parametrize("kind", KINDS)
def test_a_profile_starts_at_one_and_grows(kind, rng):
    for k, r in [*SHAPES, (6, 6)]:
        profile = height_profile(random_codes(kind, 50, k, r, rng))
        assert profile.shape == (50, r + 1)
        assert (profile[:, 0] == 1).all()
        assert (profile[:, 1:] >= profile[:, :-1]).all()


def test_neither_threads_nor_neighbours_change_a_bit(rng):
    P = random_codes("normal", 333, 4, 3, rng)
    once = height_profile(P, threads=1)
    for threads in (2, 3, 8, None):
        assert np.array_equal(height_profile(P, threads=threads), once)
    order = rng.permutation(len(P))
    assert np.array_equal(height_profile(P[order]), once[order])
    assert np.array_equal([height_profile(p) for p in P], once)
    assert np.array_equal(minimum_distance(P, threads=2), minimum_distance(P, threads=1))


def test_shapes_and_types(rng):
    P = rng.integers(-9, 10, (5, 2, 4))
    profile = height_profile(P)
    assert isinstance(m_height(P[0], 2), float)
    assert isinstance(minimum_distance(P[0]), int)
    assert m_height(P, 2).shape == minimum_distance(P).shape == (5,)
    levels = np.array([1, 2, 3, 4, 1])
    assert np.array_equal(m_height(P, levels), profile[np.arange(5), levels])
    assert height_profile(P[:1]).shape == (1, 5)
    for same in (P.astype(np.int8), P.astype(np.float32), P.tolist(), np.asfortranarray(P), P[:, ::1].copy()):
        assert np.array_equal(height_profile(same), profile)
    assert np.array_equal(height_profile(P[:, ::-1]), height_profile(P[:, ::-1].copy()))


def test_empty_batch():
    nothing = np.empty((0, 2, 3))
    assert height_profile(nothing).shape == (0, 4)
    assert m_height(nothing, 2).shape == minimum_distance(nothing).shape == (0,)


@pytest.mark.slow
def test_longest_codes():
    # [16, 1] repetition, [16, 15] parity check, and a direct sum: closed forms at the documented limit n = 16
    assert np.array_equal(height_profile(np.ones((1, 15))), np.ones(16))
    assert height_profile(-np.ones((15, 1))).tolist() == [1, 15]
    assert height_profile(np.eye(8)).tolist() == [1, 1] + [inf] * 7
