"""The search visits no more sets than it may, finds what a scan finds, and depends on nothing but its arguments."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest

from moe_mheight import CodeError, m_height, random_codes
from moe_mheight.brackets.bounds import brackets
from moe_mheight.brackets.budget_search import search
from moe_mheight.brackets.irls import CANDIDATES
from moe_mheight.brackets.solve import INFINITE, selection


def word(G, S, a):
    return G.T @ np.linalg.solve(G[:, S] @ G[:, S].T, G[:, a])


def height_of(c, m):
    down = np.sort(np.abs(c))[::-1]
    return down[0] / down[m]


def rank_of(G, S, a, m):
    """The geometric mean of the two sides of least squares."""
    c = word(G, list(S), a)
    return np.sqrt(height_of(c, m) * np.abs(c[list(S)]).sum())


def split(sets, n, m):
    return sets[..., : n - m], sets[..., n - m], sets[..., n - m + 1 :]


def candidates(sets, n, m):
    """The (S, a) of one code as hashable pairs."""
    S, a, _ = split(sets, n, m)
    return list(zip(map(tuple, S.tolist()), a.tolist(), strict=True))


@pytest.mark.parametrize(
    ("k", "r", "m"), [(6, 6, 3), (8, 8, 8), (1, 6, 4), (1, 6, 6), (9, 1, 1), (5, 4, 4), (12, 12, 7), (16, 16, 8)]
)
def test_what_comes_back(k, r, m, rng):
    n, budget = k + r, 150
    P = random_codes("normal", 5, k, r, rng)
    sets, found, visited = search(P, m, budget)
    assert sets.shape == (5, CANDIDATES, n)
    assert found.shape == (5, CANDIDATES)
    assert sets.dtype == visited.dtype == np.int64
    assert (np.sort(sets, axis=2) == np.arange(n)).all()
    S, _, others = split(sets, n, m)
    assert (np.diff(S, axis=2) > 0).all()
    assert (np.diff(others, axis=2) > 0).all()
    assert (visited == min(budget, comb(n, m))).all()
    assert (np.diff(found, axis=1) <= 0).all() or comb(n, m) * m < CANDIDATES
    for row in sets:
        different = min(CANDIDATES, comb(n, m) * m)
        assert len(set(candidates(row, n, m))) == different
        assert set(candidates(row, n, m)[different:]) <= {candidates(row, n, m)[0]}


@pytest.mark.parametrize(("k", "r", "m"), [(4, 5, 3), (6, 4, 4), (1, 5, 2), (5, 3, 1)])
def test_with_budget_for_all_it_is_a_scan(k, r, m, rng):
    n = k + r
    P = random_codes("normal", 6, k, r, rng)
    sets, found, visited = search(P, m, comb(n, m))
    assert (visited == comb(n, m)).all()
    for code in range(len(P)):
        G = np.hstack([np.eye(k), P[code]])
        values = {}
        for A in combinations(range(n), m):
            S = tuple(i for i in range(n) if i not in A)
            for a in A:
                values[S, a] = rank_of(G, S, a, m)
        best = sorted(values.values(), reverse=True)[:CANDIDATES]
        np.testing.assert_allclose(found[code, : len(best)], best, rtol=1e-5)
        for candidate, value in zip(candidates(sets[code], n, m), found[code], strict=True):
            assert values[candidate] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("kind", ["normal", "integer"])
@pytest.mark.parametrize(("k", "r", "m"), [(6, 6, 4), (7, 7, 6), (16, 16, 8), (12, 12, 12)])
def test_found_is_what_a_library_says(kind, k, r, m, rng):
    n = k + r
    P = random_codes(kind, 3, k, r, rng)
    sets, found, _ = search(P, m, 200)
    for code in range(len(P)):
        G = np.hstack([np.eye(k), P[code]])
        S, a, _ = split(sets[code], n, m)
        moderate = np.flatnonzero(found[code] < 1e5)  # beyond, rounding shows: the search squares the condition of G_S
        own = [rank_of(G, S[q], a[q], m) for q in moderate]
        np.testing.assert_allclose(found[code][moderate], own, rtol=1e-3)


def test_never_more_than_the_budget(rng):
    P = random_codes("normal", 2, 5, 5, rng)
    for m in (1, 3, 5):
        for budget in (1, 2, 7, 63, 64, 65, 119, comb(10, m) - 1, comb(10, m), 10**9):
            sets, found, visited = search(P, m, budget)
            assert (visited == min(budget, comb(10, m))).all()
            # each set visited gives at most m pairs
            distinct = [len({S for S, _ in candidates(row, 10, m)}) for row in sets]
            assert max(distinct) <= min(budget, comb(10, m))
            assert np.isfinite(found).all()


def test_one_set_short_of_all_finds_almost_all_of_it(rng):
    # the last sets are found by walking on from a random one, so the search cannot hang
    P = random_codes("normal", 4, 5, 5, rng)
    every, _, _ = search(P, 3, 120)
    short, _, _ = search(P, 3, 119)
    for one, two in zip(every, short, strict=True):
        missing = {S for S, _ in candidates(one, 10, 3)} - {S for S, _ in candidates(two, 10, 3)}
        assert len(missing) <= 1


@pytest.mark.slow
def test_neither_threads_nor_neighbours_change_a_bit(rng):
    P = np.concatenate([random_codes(kind, 40, 6, 6, rng) for kind in ("normal", "integer")])
    once = search(P, 5, 150, threads=1)
    order = rng.permutation(len(P))
    again = search(P[order], 5, 150, threads=3)
    for one, two in zip(once, again, strict=True):
        assert np.array_equal(one[order], two)
    alone = search(P[7], 5, 150)
    for one, two in zip(once, alone, strict=True):
        assert np.array_equal(one[7:8], two)
    other = search(P, 5, 150, seed=1)
    assert not np.array_equal(once[0], other[0])


@pytest.mark.slow
@pytest.mark.parametrize(("k", "r", "m"), [(7, 7, 6), (8, 8, 6), (8, 8, 7), (8, 8, 8)])
def test_a_hundred_sets_of_thousands_find_the_height(k, r, m, rng):
    """Needles: at slack 1 the best of as many random sets is off by more than a bit rms."""
    P = np.concatenate([random_codes(kind, 30, k, r, rng) for kind in ("normal", "uniform")])
    gap = np.log2(m_height(P, m) / brackets(P, m, budget=100).tightest[0])
    assert gap.min() > -1e-9
    assert np.mean(gap > 1e-6) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("k", "r", "m"), [(6, 6, 5), (8, 8, 8)])
def test_integers_of_all_scales_are_found_too(k, r, m, rng):
    P = random_codes("integer", 60, k, r, rng)
    h = m_height(P, m)
    finite = np.isfinite(h)
    gap = np.log2(h[finite] / brackets(P, m, budget=300).tightest[0][finite])
    assert np.mean(gap > 1e-6) <= 0.1


@pytest.mark.parametrize(("k", "r", "m"), [(8, 8, 6), (12, 12, 6), (16, 16, 8)])
def test_the_first_set_is_better_than_the_best_of_many_random_ones(k, r, m, rng):
    n, better = k + r, []
    for P in random_codes("normal", 20, k, r, rng):
        G = np.hstack([np.eye(k), P])
        draws = [rng.permutation(n) for _ in range(100)]
        best = max(rank_of(G, tuple(order[m:]), order[0], m) for order in draws)
        better.append(search(P, m, 1)[1][0, 0] > best)
    assert np.mean(better) >= 0.9


@pytest.mark.slow
def test_a_larger_budget_helps(rng):
    P = random_codes("normal", 40, 16, 16, rng)
    few, many = search(P, 10, 2)[1][:, 0], search(P, 10, 1000)[1][:, 0]
    assert (many >= few * (1 - 1e-6)).all()
    assert np.mean(np.log2(many / few)) > 0.25


HOSTILE = {
    "zeros": lambda k, r, rng: np.zeros((k, r)),
    "a zero column": lambda k, r, rng: rng.normal(size=(k, r)) * (np.arange(r) > 0),
    "zero rows": lambda k, r, rng: rng.normal(size=(k, r)) * (np.arange(k) > 0)[:, None],
    "repeated columns": lambda k, r, rng: np.repeat(rng.integers(-9, 10, (k, 1)), r, axis=1).astype(float),
    "ones": lambda k, r, rng: np.ones((k, r)),
    "signs": lambda k, r, rng: rng.integers(-1, 2, (k, r)).astype(float),
    "nearly dependent": lambda k, r, rng: 1.0 + 1e-13 * rng.normal(size=(k, r)),
    "huge": lambda k, r, rng: 1e30 * rng.normal(size=(k, r)).clip(-1, 1),
    "tiny": lambda k, r, rng: 1e-35 * np.sign(rng.normal(size=(k, r))),
    "scales": lambda k, r, rng: np.sign(rng.normal(size=(k, r))) * 10.0 ** rng.integers(-30, 30, (k, r)),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", HOSTILE)
def test_hostile_codes_come_back(make, rng):
    for k, r in [(1, 1), (1, 5), (5, 1), (4, 4), (8, 9), (1, 31), (31, 1), (16, 16)]:
        P = HOSTILE[make](k, r, rng)
        for m in sorted({1, (r + 1) // 2, r}):
            sets, found, visited = search(P, m, 100)
            assert (np.sort(sets, axis=2) == np.arange(k + r)).all()
            assert (found >= 0).all()
            assert (found <= INFINITE * 1.001).all()
            assert visited[0] == min(100, comb(k + r, m))


def test_dependent_sets_are_found():
    # two equal columns and no others: the only codeword of weight m = 5 that the search can find is far from random
    rng = np.random.default_rng(5)
    P = rng.normal(size=(6, 6))
    P[:, 0] = P[:, 1] = P[:, 2] = P[:, 3]
    G = np.hstack([np.eye(6), P])
    sets, found, _ = search(P, 6, 300)
    assert found[0, 0] > 1e6
    S = split(sets[0, 0], 12, 6)[0]
    assert np.linalg.matrix_rank(G[:, S]) < 6


def test_no_codes():
    sets, found, visited = search(np.empty((0, 3, 4)), 2, 10, keep=5)
    assert sets.shape == (0, 5, 7)
    assert found.shape == (0, 5)
    assert visited.shape == (0,)


def test_the_network_selects(rng):
    for n in range(2, 33):
        for place in range(1, n):
            values = rng.integers(0, n, n)
            moved = values.copy()
            for i, j in selection(n, place):
                moved[i], moved[j] = max(moved[i], moved[j]), min(moved[i], moved[j])
            assert moved[place] == np.sort(values)[::-1][place]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda P: search(P, 0, 10), "m must satisfy"),
        (lambda P: search(np.ones((17, 16)), 1, 10), "n must be at most 32"),
        (lambda P: search(P, 1, 0), "budget must be an int >= 1, got 0"),
        (lambda P: search(P, 1, 2.5), "budget must be an int >= 1, got 2.5"),
        (lambda P: search(P, 1, 10, seed=-1), "seed must be an int >= 0, got -1"),
        (lambda P: search(P, 1, 10, keep=0), "keep must be an int >= 1, got 0"),
    ],
)
def test_rules(call, message):
    with pytest.raises(CodeError, match=message):
        call(np.ones((2, 3)))
