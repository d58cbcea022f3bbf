"""Groups of automorphisms: all elements are listed, and how far off they are is bounded."""

from fractions import Fraction

import numpy as np
import symmetric_codes as sym

from moe_mheight.codes.automorphism_groups import LARGEST, errors_of, group_of, listed
from moe_mheight.codes.automorphisms import Automorphism, automorphisms
from moe_mheight.codes.linear import systematic


def standard(G):
    P = systematic(G)[0]
    return np.hstack([np.eye(len(P)), P])


def projection(G):
    return G.T @ np.linalg.solve(G @ G.T, G)


def moved(G, found):
    out = np.empty_like(G)
    out[:, found.perm] = G * found.sign
    return out


def test_the_error_is_a_bound(rng):
    """What an automorphism makes of a codeword, in fractions, is no further from the code than the bound says."""
    circulant = np.hstack([np.eye(4), sym.circulant(rng.normal(size=4))])
    for G in map(standard, (sym.polygon(9), sym.harmonics(12, (1, 2, 5)), circulant)):
        k, n = G.shape
        for found, bound in zip(automorphisms(G), errors_of(G, automorphisms(G)), strict=True):
            assert bound < 1e-11
            F = [[Fraction(x) for x in row] for row in G.tolist()]
            image = moved(G, found)
            for _ in range(5):
                u = rng.normal(size=k)
                c = u @ G
                u = [Fraction(x) for x in (u / np.abs(c).max() * (1 - 1e-12)).tolist()]
                word = [sum(x * row[j] for x, row in zip(u, image.tolist(), strict=True)) for j in range(n)]
                back = [sum(word[i] * F[i][j] for i in range(k)) for j in range(n)]
                # a codeword that agrees on the first k coordinates is off by no more than k + 1 times the nearest
                off = max(abs(float(x - y)) for x, y in zip(word, back, strict=True))
                assert off <= bound * (1 + np.abs(G).sum(axis=0).max())
        wrong = Automorphism(np.roll(np.arange(n), 1), np.ones(n))
        assert errors_of(G[:, rng.permutation(n)] + 0.1, [wrong])[0] > 1e-6


def test_small_changes_are_seen(rng):
    G = np.hstack([np.eye(6), sym.circulant(rng.normal(size=6))])
    assert len(group_of(G, automorphisms(G), 1e-9).perms) == 6
    G[0, 8] += 1e-6
    assert automorphisms(G) == []
    G[0, 8] -= 1e-6 - 1e-11  # taken for one, and told how far off
    assert len(group_of(G, automorphisms(G), 1e-9).perms) == 6
    assert all(1e-12 < error < 1e-9 for error in errors_of(G, automorphisms(G)))
    assert len(group_of(G, automorphisms(G), 1e-13).perms) == 1


def test_groups_that_are_too_large_are_cut():
    G = np.hstack([np.eye(20), np.ones((20, 1))])
    group = group_of(G, automorphisms(G), 0.0)
    assert 1 < len(group.perms) <= LARGEST
    rows = {tuple(perm) for perm in group.perms.tolist()}
    assert {tuple(a[list(b)]) for a in group.perms[::97] for b in rows} <= rows
    assert len(automorphisms(G, tried=50)) < len(automorphisms(G))


def test_listed():
    turn = Automorphism(np.roll(np.arange(7), 1), np.array([1.0, 1, 1, 1, 1, 1, -1]))
    flip = Automorphism(np.arange(7)[::-1].copy(), np.ones(7))
    found = listed([turn, flip], 7)
    assert len({tuple(row) for row in found.perms.tolist()}) == len(found.perms) == 14
    assert found.longest == 4
    for perm, sign in zip(found.perms, found.signs, strict=True):
        assert sorted(perm.tolist()) == list(range(7))
        assert set(sign.tolist()) <= {1.0, -1.0}
    assert listed([turn, flip], 7, 13) is None
    assert len(listed([], 7).perms) == 1


def test_signs_of_products_are_those_of_the_code(rng):
    """Every element with its signs keeps the projection, in groups where they matter."""
    negacyclic = np.hstack([np.eye(5), sym.circulant(rng.normal(size=5), -1)])
    for G in map(standard, (sym.polygon(12), negacyclic, sym.paley(5))):
        N = projection(G)
        found = listed(automorphisms(G), G.shape[1])
        assert len(found.perms) >= 5
        for perm, sign in zip(found.perms, found.signs, strict=True):
            assert np.allclose(N[np.ix_(perm, perm)] * sign * sign[:, None], N, atol=1e-9)


def test_every_element_has_its_own_error():
    """Worked out for each, or from the longest product: both are bounds, the first the smaller one."""
    G = standard(sym.harmonics(24, (1, 2, 3)))
    generators = automorphisms(G)
    group = group_of(G, generators, 1e-9)
    assert max(errors_of(G, group.generators)) <= group.error
    assert group.error < listed(group.generators, 24).longest * max(errors_of(G, group.generators))
