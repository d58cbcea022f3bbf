"""Automorphisms: those that were built in are found, and nothing that is none."""

from itertools import permutations, product

import numpy as np
import pytest
import symmetric_codes as sym

from moe_mheight.codes.automorphism_groups import group_of, orbits
from moe_mheight.codes.automorphisms import automorphisms, exchangeable, orbit
from moe_mheight.codes.linear import systematic


def standard(G):
    P = systematic(G)[0]
    return np.hstack([np.eye(len(P)), P])


def projection(G):
    return G.T @ np.linalg.solve(G @ G.T, G)


@pytest.mark.parametrize("kind", sym.KINDS)
def test_what_was_built_in_is_found(kind, rng):
    for _ in range(8):
        G, order = kind(rng)
        G = standard(G)
        generators = automorphisms(G)
        N = projection(G)
        for found in generators:
            signed = N[np.ix_(found.perm, found.perm)] * found.sign * found.sign[:, None]
            assert np.allclose(signed, N, atol=1e-7)
        group = group_of(G, generators, 1e-6)
        assert len(group.perms) >= min(order, 2) if len(set(exchangeable(G).tolist())) < G.shape[1] else order
        assert np.array_equal(group.perms[0], np.arange(G.shape[1]))


def test_all_of_them_by_trying_all(rng):
    """Against every permutation with every choice of signs, in exact fractions."""
    for _ in range(12):
        k, r = (2, 3) if rng.random() < 0.5 else (3, 2)
        P = rng.integers(-1, 2, (k, r)) if rng.random() < 0.7 else rng.integers(-4, 5, (k, r))
        G = np.hstack([np.eye(k, dtype=int), P])
        if len(set(exchangeable(G.astype(float)).tolist())) < k + r:
            continue
        whole = G.tolist()
        true = set()
        for perm in permutations(range(k + r)):
            for signs in product((1, -1), repeat=k + r - 1):
                image = [[0] * (k + r) for _ in range(k)]
                for i, j in product(range(k), range(k + r)):
                    image[i][perm[j]] = (*signs, 1)[j] * whole[i][j]
                if all(
                    image[i][j] == sum(image[i][p] * whole[p][j] for p in range(k))
                    for i in range(k)
                    for j in range(k, k + r)
                ):
                    true.add(perm)
                    break
        group = group_of(G.astype(float), automorphisms(G.astype(float)), 1e-9)
        assert {tuple(perm) for perm in group.perms.tolist()} == true


def test_random_codes_have_none(rng):
    for k, n in ((2, 5), (6, 12), (12, 24), (32, 64)):
        assert automorphisms(standard(rng.normal(size=(k, n)))) == []


def test_known_orders():
    for n in (5, 12, 40):
        G = standard(sym.polygon(n))
        assert len(group_of(G, automorphisms(G), 1e-9).perms) == 2 * n
    G = sym.paley(13)
    group = group_of(G, automorphisms(G), 0.0)
    assert len(group.perms) == 13 * (13 * 13 - 1) // 2
    assert sorted(np.unique(orbits(group.perms)).tolist()) == [0, 14]
    assert group.error == 0.0


def test_equal_columns_move_together(rng):
    G, k = np.repeat(np.hstack([np.eye(4), sym.circulant(rng.normal(size=4))]), 3, axis=1), 4
    G = G[:, np.argsort(np.arange(24) % 3, kind="stable")] * rng.choice([-1.0, 1.0], 24)
    G[:, :4] = np.eye(4)
    alike = exchangeable(G)
    group = group_of(G, automorphisms(G), 1e-9)
    assert len(group.perms) == k
    for perm in group.perms:
        for j in range(24):
            assert sum(1 << int(perm[i]) for i in range(24) if alike[j] >> i & 1) == alike[perm[j]]


def test_orbits_of_coordinates():
    turn = np.roll(np.arange(7), 1)
    assert orbit([turn], {3}) == set(range(7))
    assert orbit([np.arange(7)], {3}) == {3}
