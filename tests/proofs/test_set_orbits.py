"""Orbits of sets of columns, against one permutation after the other."""

import numpy as np
import pytest

from moe_mheight.proofs import set_orbits
from moe_mheight.proofs.set_orbits import all_images, one_of_each_orbit


@pytest.mark.parametrize("at_once", [1, 40, 1 << 20])
def test_orbits(at_once, rng, monkeypatch):
    monkeypatch.setattr(set_orbits, "AT_ONCE", at_once)
    for n in (6, 12, 64):
        perms = np.array([np.roll(np.arange(n), i * 2)[::step] for step in (1, -1) for i in range(n // 2)])
        perms = np.array([perms[0], *[perm for perm in perms[1:] if perm[0] % 2 == 0]])  # turns alone: a group
        masks = {sum(1 << int(j) for j in rng.choice(n, 3, replace=False)) for _ in range(20)}
        masks.add(sum(1 << j for j in range(0, n, 2)))  # which every turn keeps
        whole = {sum(1 << int(perm[j]) for j in range(n) if mask >> j & 1) for mask in masks for perm in perms}
        assert all_images(masks, perms) == whole
        few, total = one_of_each_orbit(masks, perms)
        assert few <= masks
        assert total == len(whole)
        assert all_images(few, perms) == whole
        for mask in few:
            assert not all_images({mask}, perms) & (few - {mask})
