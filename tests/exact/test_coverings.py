"""Covering designs: every set lies in a block, by brute force."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from moe_mheight.exact.coverings import covering, in_order, sets_of, splits


def masks(n, t):
    return [sum(1 << i for i in c) for c in combinations(range(n), t)]


@pytest.mark.parametrize(("v", "t"), [(1, 0), (1, 1), (6, 3), (9, 9), (12, 5)])
def test_all_sets_of_a_size(v, t):
    assert sorted(sets_of(v, t).tolist()) == sorted(masks(v, t))


@pytest.mark.parametrize(
    ("v", "r", "t"),
    [(8, 4, 3), (10, 5, 3), (11, 6, 4), (7, 7, 3), (7, 3, 3), (6, 2, 0), (6, 0, 0), (1, 1, 1), (12, 6, 5)],
)
def test_every_set_lies_in_a_block(v, r, t):
    blocks = covering(v, r, t).tolist()
    assert all(block.bit_count() == r and block < 1 << v for block in blocks)
    assert all(any(mask & ~block == 0 for block in blocks) for mask in masks(v, t))
    assert len(blocks) <= comb(v, t)


def test_coverings_are_always_the_same():
    before = covering(10, 5, 3).tolist()
    covering.cache_clear()
    assert covering(10, 5, 3).tolist() == before


@pytest.mark.parametrize(("v", "r", "t"), [(16, 8, 6), (14, 7, 5), (12, 6, 5), (16, 10, 8), (14, 5, 4)])
def test_sizes_are_foretold(v, r, t):
    ((way,),) = ([s for s in splits(2 * v, 2 * r, 2 * t) if (s.t1, s.r1) == (t, r)],)
    count = len(covering(v, r, t)) ** 2
    assert way.blocks / 2 < count < way.blocks * 2


@pytest.mark.parametrize(
    ("n", "r", "m"), [(10, 5, 4), (11, 6, 6), (9, 4, 2), (7, 6, 5), (2, 1, 1), (3, 2, 1), (8, 1, 1)]
)
def test_splits_cover_every_set(n, r, m):
    blocks = set()
    for s in splits(n, r, m):
        assert s.r1 + s.r2 == r
        assert s.t1 + s.t2 == m
        ones, others = covering(n // 2, s.r1, s.t1), covering(n - n // 2, s.r2, s.t2)
        blocks |= {one | other << n // 2 for one in ones.tolist() for other in others.tolist()}
    assert all(block.bit_count() == r for block in blocks)
    assert all(any(mask & ~block == 0 for block in blocks) for mask in masks(n, m))


def test_halves_that_are_too_long_have_no_splits():
    assert splits(64, 32, 20) == []
    assert splits(44, 22, 12)


def test_the_order_keeps_all_blocks():
    blocks = covering(12, 6, 4)
    ordered = in_order(blocks)
    assert sorted(ordered.tolist()) == sorted(blocks.tolist())
    steps, before = (np.bitwise_count(b[1:] ^ b[:-1]).sum() for b in (ordered, blocks))
    assert steps < before
