"""The walk over circuits against enumeration, fractions, and branch and bound, which share no code with it."""

from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from exact_residuals import in_coordinates_of, residual_share, with_its_own_error

from moe_mheight import m_height, random_codes
from moe_mheight.codes.generators import ALL_KINDS
from moe_mheight.exact import basis_walk, branch_and_bound
from moe_mheight.exact.basis_walk import CircuitSearch, walk_parts
from moe_mheight.exact.branch_and_bound import search_height
from moe_mheight.exact.hitting_set import DONE, Report
from moe_mheight.exact.start_table import start_of
from moe_mheight.numerics import rationals
from moe_mheight.numerics.certified import Codeword


def generator(P):
    return np.ascontiguousarray(np.hstack([np.eye(len(P)), P]))


def by_programs(P, monkeypatch, **options):
    """h_r by branch and bound."""
    with monkeypatch.context() as without:
        without.setattr(branch_and_bound, "WALKED", False)
        return search_height(P, P.shape[1], **options)[0]


def same(found, truth, rel=1e-9):
    if truth == np.inf:
        assert found.value == found.lower == found.upper == np.inf
        return
    assert found.value == pytest.approx(truth, rel=rel)
    assert found.lower * (1 - 1e-14) <= truth <= found.upper * (1 + 1e-14)
    assert found.upper <= found.lower * (1 + 1e-9)


def scaled(P, rng):
    """Rows and columns of any size from 1e-8 to 1e8."""
    rows, columns = (10.0 ** rng.uniform(-4, 4, size) for size in P.shape)
    return P * rows[:, None] * columns


def nearly_singular(P, rng):
    """One column that k - 1 others, of those and of the first k, nearly span."""
    k, r = P.shape
    G = generator(P)
    others = rng.choice(k + r - 1, k - 1, replace=False)
    P[:, -1] = G[:, others] @ rng.normal(size=k - 1) + 10.0 ** -rng.integers(4, 9) * rng.normal(size=k)
    return P


@pytest.mark.parametrize("kind", [*ALL_KINDS, "ternary", "scaled", "nearly singular"])
def test_equals_enumeration(kind, rng):
    for _ in range(25):
        n = int(rng.integers(2, 13))
        k = int(rng.integers(1, n))
        if kind == "ternary":
            P = rng.integers(-1, 2, (k, n - k)).astype(float)
        elif kind in ALL_KINDS:
            P = random_codes(kind, 1, k, n - k, rng)[0]
        else:
            P = (scaled if kind == "scaled" else nearly_singular)(rng.normal(size=(k, n - k)), rng)
        same(search_height(P, n - k)[0], m_height(P, n - k, method="bases", matrix="P"))


def test_every_entry_of_another_size(rng):
    for _ in range(20):
        P = rng.normal(size=(5, 6)) * 10.0 ** rng.integers(-8, 9, (5, 6))
        same(search_height(P, 6)[0], m_height(P, 6, method="bases"))


def test_integers_are_exact(rng):
    """Heights of integers are finite however large, and infinite only where k columns are dependent, in integers."""
    for size in (3, 50, 10**6):
        for _ in range(15):
            P = rng.integers(-size, size + 1, (5, 5)).astype(float)
            G = [[Fraction(int(x)) for x in row] for row in generator(P).tolist()]
            dependent = any(rationals.short_of_rank([row[5:] for row in G], B) for B in combinations(range(10), 5))
            found, _ = search_height(P, 5)
            assert (found.value == np.inf) == dependent
            same(found, m_height(P, 5, method="bases"))


@pytest.mark.parametrize(("n", "k"), [(16, 8), (18, 9), (17, 4), (17, 13)])
@pytest.mark.parametrize("kind", ["normal", "integer"])
def test_equals_branch_and_bound(n, k, kind, rng, monkeypatch):
    for _ in range(2):
        P = random_codes(kind, 1, k, n - k, rng)[0]
        same(search_height(P, n - k)[0], by_programs(P, monkeypatch).value)


def test_a_long_code_of_low_dimension(rng, monkeypatch):
    """64 coordinates: the sign of a mask is one of them."""
    P = rng.normal(size=(3, 61))
    same(search_height(P, 61)[0], by_programs(P, monkeypatch).value)
    P = rng.normal(size=(62, 2))
    same(search_height(P, 2)[0], by_programs(P, monkeypatch).value)


def test_dependent_columns_of_a_long_code(rng):
    P = rng.integers(-9, 10, (8, 10)).astype(float)
    P[:, 9] = P[:, 0] + P[:, 1] - P[:, 2]
    assert search_height(P, 10)[0].value == np.inf
    real = rng.normal(size=(8, 10))
    real[:, 9] = 0.3 * real[:, 0] + 0.7 * real[:, 1]
    assert search_height(real, 10)[0].value == np.inf


@pytest.mark.parametrize(("k", "r"), [(1, 1), (1, 9), (9, 1), (5, 5), (6, 10), (12, 12), (3, 61), (16, 16)])
def test_parts_hold_every_circuit_once(k, r):
    assert sum(part.size for part in walk_parts(k, r)) == comb(k + r, k + 1)


def walked(P, best=1.0, start=None):
    """All parts of the walk, one after the other: (searches, circuits visited)."""
    G = generator(P)
    k, n = G.shape
    report = Report(
        np.zeros(1, np.int64), np.zeros(1), np.empty(4096, np.int64), np.zeros(2, np.int64), np.zeros(3, np.int64)
    )
    searches = []
    for part in walk_parts(k, n - k):
        search = CircuitSearch(G, start or start_of(G), best, report, Codeword(np.zeros(k), np.zeros(k), np.empty(n)))
        assert search.run(part, []) == DONE
        best = search.best
        searches.append(search)
    return searches, int(report.counts[0])


@pytest.mark.parametrize(("k", "r"), [(4, 5), (6, 6), (3, 9), (9, 3), (7, 8)])
def test_every_circuit_is_seen(k, r, rng, monkeypatch):
    """With nothing bounded beforehand every basis comes with each of its targets, and each bound is the exact |y|_1."""
    P = rng.normal(size=(k, r))
    G, seen = generator(P), []
    monkeypatch.setattr(CircuitSearch, "_decide", lambda search, B, a: seen.append((frozenset(B), a)) or True)
    searches, circuits = walked(P)
    assert circuits == comb(k + r, k + 1)
    assert len(set(seen)) == len(seen)
    heights = {}
    for B in combinations(range(k + r), k):
        for a in set(range(k + r)) - set(B):
            heights[frozenset(B), a] = np.abs(np.linalg.solve(G[:, B], G[:, a])).sum()
    assert {pair for pair, h in heights.items() if h > 1.0 + 1e-6} <= set(seen)
    assert all(search.best == 1.0 for search in searches)


def test_circuits_that_are_not_in_doubt_are_bounded(rng, monkeypatch):
    """What the walk passes over, over its own bound for rounding, is below the height in fractions too."""
    P = nearly_singular(rng.normal(size=(4, 5)), rng)
    F, asked = rationals.rational_matrix(P), set()
    limit = m_height(P, 5, method="bases") / 3.0
    monkeypatch.setattr(CircuitSearch, "_decide", lambda search, B, a: asked.add((frozenset(B), a)) or True)
    walked(P, best=limit)
    passed = [(B, a) for B in combinations(range(9), 4) for a in set(range(9)) - set(B)]
    for B, a in passed:
        if (frozenset(B), a) not in asked:
            assert rationals.best_of_set(F, list(B), a)[0] <= Fraction(limit)
    assert 0 < len(asked) < len(passed) // 2


def test_off_bounds_what_rounding_does(rng, monkeypatch):
    """At every level, y of the table leaves a residual of at most off (1 + |y|_1), in fractions; and hardly less."""
    G = generator(nearly_singular(rng.normal(size=(4, 5)), rng))
    start, shares = start_of(G), []
    A = in_coordinates_of(G, start.basis)
    start = with_its_own_error(start, A)

    def check(search, walk, w, lanes):
        for lane in range(lanes):
            rows, columns = basis_walk._places(walk, lane, w)
            for c in range(w):
                y = walk.tables[w * (w - 1) // 2 + c, :, lane]
                share = residual_share(A, rows, columns[c], y)
                assert share <= walk.off[w, lane]
                shares.append(float(share) / walk.off[w, lane])
        return True

    monkeypatch.setattr(CircuitSearch, "_settle", check)
    for depth in (0, 3, 11):
        monkeypatch.setattr(basis_walk, "PER_NODE", 7 - depth)
        walked(G[:, 4:], start=start)
    assert len(shares) > 200
    assert max(shares) > 1e-4


def test_kernels_run_as_plain_python(rng, monkeypatch):
    """The same code without numba finds the same."""
    P = rng.normal(size=(3, 4))
    truth = walked(P)[0][-1].best
    for name in ("_exchange", "_flip", "_contracted", "_doubts", "_seat", "walk_on"):
        monkeypatch.setattr(basis_walk, name, getattr(basis_walk, name).py_func)
    assert walked(P)[0][-1].best == pytest.approx(truth, rel=1e-12)


def test_certificates_have_their_bases(rng, monkeypatch):
    """Who asks for all bases gets those of branch and bound."""
    P = rng.normal(size=(4, 5))
    found, bases = search_height(P, 5, room=1 << 16)
    assert len(bases) > 20
    same(search_height(P, 5)[0], found.value)


def test_threads_change_nothing(rng):
    P = rng.normal(size=(9, 10))
    one, *others = (search_height(P, 10, threads=t)[0] for t in (1, 2, 5))
    for other in others:
        assert (other.value, other.lower, other.upper) == (one.value, one.lower, one.upper)
        assert (other.nodes, other.programs, other.outside) == (one.nodes, one.programs, one.outside)
        assert np.array_equal(other.witness, one.witness)


@pytest.mark.slow
def test_a_time_limit_leaves_a_bracket(rng):
    P = rng.normal(size=(18, 18))
    found, _ = search_height(P, 18, time_limit=1.0)
    assert found.ended == "time limit"
    assert 1.0 < found.lower < found.upper == np.inf
    down = np.sort(np.abs(found.witness))[::-1]
    assert down[0] / down[18] == pytest.approx(found.lower, rel=1e-9)
