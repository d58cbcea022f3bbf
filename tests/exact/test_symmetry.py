"""Searches that do one of each orbit find what plain searches do."""

from itertools import combinations

import numpy as np
import pytest
import symmetric_codes as sym

from moe_mheight import m_height
from moe_mheight.codes.automorphism_groups import Group, group_of
from moe_mheight.codes.automorphisms import Automorphism, automorphisms
from moe_mheight.codes.linear import systematic
from moe_mheight.exact import branch_and_bound, parts
from moe_mheight.exact.branch_and_bound import search_height
from moe_mheight.exact.orbits import completed_by, completing, leave, tables_of
from moe_mheight.exact.result import Thresholds


@pytest.fixture
def blind(monkeypatch):
    """Searches begin with no good codeword, so that they find the best one only where they look."""
    monkeypatch.setattr(branch_and_bound, "first_masks", lambda G, m: np.zeros(0, np.int64))


def found_group(P):
    G = np.hstack([np.eye(len(P)), P])
    return group_of(G, automorphisms(G), 1e-9)


def compare(P, m, threads=1):
    """The order of the group that was used, after a symmetric search found what a plain one does."""
    group = found_group(P)
    plain, _ = search_height(P, m, threads=1, symmetry=False)
    symmetric, _ = search_height(P, m, threads=threads, group=group)
    assert symmetric.value == pytest.approx(plain.value, rel=1e-9)
    assert symmetric.lower <= plain.upper
    assert plain.lower <= symmetric.upper
    if np.isfinite(symmetric.value):
        assert symmetric.upper <= symmetric.lower * (1 + 1e-9)
        word = np.sort(np.abs(symmetric.witness))[::-1]
        assert word[0] / word[m] == pytest.approx(symmetric.lower, rel=1e-9)
        u = symmetric.witness[: len(P)]
        assert np.allclose(u @ P, symmetric.witness[len(P) :], atol=1e-9)
    if sum(P.shape) <= 12:
        assert symmetric.value == pytest.approx(m_height(P, m, method="bases", matrix="P"), rel=1e-9)
    return len(group.perms)


def sized(P, rng):
    """An m for which a plain search is short."""
    k, r = P.shape
    return int(rng.integers(1, min(r, 8 if k < 7 else 5) + 1))


def drawn(kind, rng):
    P = systematic(kind(rng)[0])[0]
    return P, sized(P, rng)


@pytest.mark.parametrize("kind", sym.KINDS)
def test_orbits_and_plain_searches_agree(kind, blind, rng):
    for _ in range(4):
        compare(*drawn(kind, rng))


@pytest.mark.slow
def test_orbits_and_plain_searches_agree_on_500_codes(blind, rng):
    orders = [compare(*drawn(sym.KINDS[i % len(sym.KINDS)], rng)) for i in range(500)]
    assert sum(order > 1 for order in orders) > 450
    assert min(order for order in orders if order > 1) == 2
    assert sum(order >= 60 for order in orders) > 40


@pytest.mark.parametrize("alone", [0.25, -1.0])
def test_both_ways_to_search(alone, blind, rng, monkeypatch):
    """All targets at once, and one of each orbit."""
    monkeypatch.setattr(parts, "ALONE", alone)
    circulant = np.hstack([np.eye(6), sym.circulant(rng.normal(size=6))])
    for G, m in ((sym.paley(5), 3), (sym.polygon(24), 11), (circulant, 4)):
        assert compare(systematic(G)[0], m) > 5


def test_many_parts_and_threads_change_nothing(rng, monkeypatch):
    monkeypatch.setattr(parts, "SMALL", 100)
    P = sym.circulant(rng.integers(-9, 10, 9).astype(float))
    group = found_group(P)
    plain, _ = search_height(P, 5, symmetry=False)
    first, bases = search_height(P, 5, threads=1, group=group)
    for threads in (2, 3):
        again, others = search_height(P, 5, threads=threads, group=group)
        assert (again.value, again.nodes, others) == (first.value, first.nodes, bases)
    assert first.value == pytest.approx(plain.value, rel=1e-9)
    assert first.nodes < plain.nodes / 2


@pytest.mark.parametrize("small", [50, 20_000])
def test_the_bases_and_their_images_bound_everything(small, rng, monkeypatch):
    """Every a and T, tried one by one, has an image of a basis that avoids them and is short enough."""
    monkeypatch.setattr(parts, "SMALL", small)
    circulant = sym.circulant(rng.integers(-9, 10, 6).astype(float))
    for P in (circulant, sym.paley(5)[:, 6:], systematic(sym.polygon(12))[0]):
        k, n, m = len(P), sum(P.shape), 4
        G, group = np.hstack([np.eye(k), P]), found_group(P)
        assert len(group.perms) >= 6
        found, bases = search_height(P, m, symmetry=False, group=group)
        family = [[] for _ in range(n)]
        for mask in bases:
            B = [j for j in range(n) if mask >> j & 1]
            y = np.abs(np.linalg.lstsq(G[:, B], G, rcond=None)[0]).sum(axis=0)
            exact = np.abs(G[:, B] @ np.linalg.lstsq(G[:, B], G, rcond=None)[0] - G).max(axis=0) < 1e-9
            for a in range(n):
                if a not in B and exact[a] and y[a] <= found.upper * (1 + 1e-9):
                    for perm in group.perms:
                        family[perm[a]].append(sum(1 << int(j) for j in perm[B]))
        for a in range(n):
            masks = np.unique(np.array(family[a]))
            for T in combinations([j for j in range(n) if j != a], m - 1):
                assert (masks & sum(1 << j for j in T) == 0).any(), (a, T)


def test_long_polygons_are_quick():
    P = systematic(sym.polygon(48))[0]
    found = m_height(P, 24, details=True)
    plain = search_height(P, 24, symmetry=False)[0]
    assert found.value == pytest.approx(plain.value, rel=1e-9)
    assert found.nodes < plain.nodes / 50


def test_automorphisms_that_are_too_far_off_are_not_used(rng):
    """A group that rounding leaves in doubt: the search is done again without it."""
    P = sym.circulant(rng.normal(size=8))
    group = found_group(P)
    plain, _ = search_height(P, 4, symmetry=False)
    coarse, _ = search_height(P, 4, group=group._replace(error=1e-6))
    fine, _ = search_height(P, 4, group=group._replace(error=1e-12))
    assert coarse.upper <= plain.upper * (1 + 1e-10)
    assert coarse.nodes > plain.nodes
    assert fine.upper == pytest.approx(plain.upper, rel=1e-9)
    assert fine.upper >= fine.value * (1 + 1e-12)


@pytest.mark.parametrize("kind", [sym.double_circulant, sym.polygons, sym.cyclic, sym.small_paley])
def test_thresholds(kind, blind, rng):
    """What is proven of a height is true, on both sides of it."""
    for _ in range(5):
        P, m = drawn(kind, rng)
        group, h = found_group(P), search_height(P, m, symmetry=False)[0].value
        if h == np.inf:
            continue
        for factor in (0.5, 0.999, 1.001, 2.0):
            below, _ = search_height(P, m, group=group, limits=Thresholds(below=h * factor))
            assert below.lower <= h * (1 + 1e-9)
            assert h <= below.upper * (1 + 1e-9)
            assert below.upper <= h * factor if factor > 1 else below.value == pytest.approx(h, rel=1e-9)
            above, _ = search_height(P, m, group=group, limits=Thresholds(above=h * factor))
            assert above.lower > h * factor if factor < 1 else above.value == pytest.approx(h, rel=1e-9)


def test_a_false_group_would_be_noticed(blind, rng):
    """What a wrong automorphism does, so that the other tests could fail."""
    wrong = 0
    for _ in range(10):
        P = rng.normal(size=(5, 7))
        perms = np.array([np.roll(np.arange(12), i) for i in range(12)])
        false = Group([Automorphism(perms[1], np.ones(12))], perms, 0.0)
        wrong += search_height(P, 3, group=false)[0].value < m_height(P, 3) * (1 - 1e-6)
    assert wrong > 0


def test_tables_say_what_completes_a_set_that_is_done():
    """Against trying every coordinate and every image."""
    n, draw = 9, np.random.default_rng(3)
    perms = np.array([np.roll(np.arange(n), 3 * i)[np.arange(n)] for i in range(3)])
    for target in (-1, 4):
        group = perms if target < 0 else np.array([perms[0], [1, 0, *range(2, n)]])
        sets = [int(sum(1 << j for j in draw.choice(n, size, replace=False))) for size in (2, 2, 3, 3)]
        done = tables_of(group, np.array(sets), target)
        images = [sum(1 << int(perm[j]) for j in range(n) if X >> j & 1) for X in sets for perm in group]
        for _ in range(60):
            R = int(draw.integers(0, 1 << n))
            wanted = sum(
                1 << c
                for c in range(n)
                if not R >> c & 1 and any(image & ~(R | 1 << c) == 0 and image >> c & 1 for image in images)
            )
            assert completing(done, np.int64(R)) == wanted
            if not any(image & ~R == 0 for image in images):
                assert completed_by(group, sets, R) == wanted
    assert leave(done, perms, np.int64(0b1111), np.int64(0b111), -1) == 0
