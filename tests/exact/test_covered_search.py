"""A search that begins with a covering against enumeration and against trees."""

import numpy as np
import pytest

from moe_mheight import m_height, random_codes
from moe_mheight.codes.generators import ALL_KINDS
from moe_mheight.exact import branch_and_bound, covered_search, covering_bound
from moe_mheight.exact.branch_and_bound import ROOM, search_height
from moe_mheight.exact.result import EXACTLY, silent


@pytest.fixture
def always(monkeypatch):
    """Coverings for short codes too; what they leave is kept."""
    monkeypatch.setattr(covered_search, "PAYS", 0.0)
    monkeypatch.setattr(covered_search, "LONG", 0.0)
    monkeypatch.setattr(covered_search, "PER_PAIR", 1e-99)
    monkeypatch.setattr(covering_bound, "PER_ENTRY", 0.0)
    made, plain = [], covered_search.covered_parts

    def counted(search, each):
        parts = plain(search, each)
        made.append(parts)
        return parts

    monkeypatch.setattr("moe_mheight.exact.branch_and_bound.covered_parts", counted)
    return made


def by_tree(P, m):
    """Who asks for all bases gets them from a tree."""
    return search_height(P, m, room=ROOM + 1)[0]


def same(found, truth):
    if truth == np.inf:
        assert found.value == found.lower == found.upper == np.inf
        return
    assert found.value == pytest.approx(truth, rel=1e-9)
    assert found.lower * (1 - 1e-14) <= truth <= found.upper * (1 + 1e-14)
    assert found.upper <= found.lower * (1 + 1e-9)


@pytest.mark.parametrize("kind", [*ALL_KINDS, "ternary"])
def test_equals_enumeration(kind, rng, always):
    for _ in range(20):
        n = int(rng.integers(3, 13))
        k = int(rng.integers(1, n - 1))
        m = int(rng.integers(1, n - k))
        P = random_codes(kind, 1, k, n - k, rng)[0] if kind in ALL_KINDS else rng.integers(-1, 2, (k, n - k))
        P = P.astype(float)
        seen = []
        found, _ = search_height(P, m, watch=seen.append)
        truth = m_height(P, m, method="bases", matrix="P")
        same(found, truth)
        assert all(told.upper >= truth * (1 - 1e-14) for told in seen)
    assert sum(parts is not None for parts in always) > 5


@pytest.mark.parametrize(
    ("n", "k", "m"), [(20, 10, 9), (20, 10, 6), (22, 11, 9), (18, 6, 9), (21, 14, 5), (22, 11, 5), (20, 8, 3)]
)
def test_equals_a_tree(n, k, m, rng, always):
    P = rng.normal(size=(k, n - k))
    found = search_height(P, m)[0]
    assert always[-1] is not None
    same(found, by_tree(P, m).value)


@pytest.mark.parametrize(("k", "m"), [(3, 5), (58, 3), (61, 2)])
def test_64_coordinates(k, m, rng, always):
    """The sign of a mask is a coordinate, and each half has all bits of an unsigned number."""
    P = rng.normal(size=(k, 64 - k))
    found = search_height(P, m)[0]
    assert always[-1] is not None
    same(found, by_tree(P, m).value)


def test_threads_change_nothing(rng, always):
    P = rng.normal(size=(10, 10))
    one, *others = (search_height(P, 7, threads=t)[0] for t in (1, 2, 5))
    for other in others:
        assert (other.value, other.lower, other.upper) == (one.value, one.lower, one.upper)
        assert (other.nodes, other.programs, other.outside) == (one.nodes, one.programs, one.outside)


def test_upper_bounds_fall(rng, always, monkeypatch):
    """One comes with the covering; then those that keep it up are searched first."""
    P = rng.normal(size=(11, 11))
    monkeypatch.setattr(branch_and_bound, "ROUND", 1)
    monkeypatch.setattr(covered_search, "LONG", np.inf)
    seen = []
    found = search_height(P, 5, watch=seen.append)[0]
    uppers = [told.upper for told in seen if np.isfinite(told.upper)]
    assert uppers == sorted(uppers, reverse=True)
    assert len(set(uppers)) > 5
    assert found.value < uppers[-1] < uppers[0] < 20.0 * found.value


def test_an_upper_bound_comes_early(rng, always):
    P = rng.normal(size=(11, 11))
    seen = []
    found = search_height(P, 9, watch=seen.append)[0]
    early = [told.upper for told in seen if told.share == 0.0 and np.isfinite(told.upper)]
    assert early
    assert found.value <= min(early) <= covered_search.LOOSE * found.value * (1 + 1e-9)


def test_too_much_left_goes_to_a_tree(rng, always, monkeypatch):
    P = rng.normal(size=(8, 8))
    monkeypatch.setattr(covered_search, "PER_PAIR", 1e9)
    found = search_height(P, 5)[0]
    assert always[-1] is None
    same(found, m_height(P, 5, method="bases"))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k", "m"), [(32, 16, 12), (44, 22, 12)])
def test_long_codes_have_a_bracket_first(n, k, m, rng):
    search = branch_and_bound._Search(rng.normal(size=(k, n - k)), m, 64, None, silent, EXACTLY, np.zeros(1, np.int64))
    search.begin(None)
    covering = covering_bound.Covering(search.G, m)
    jobs = [job for split in covering.splits for job in covering.jobs(split)]
    follow = covered_search._following(covering, covered_search.LOOSE * search.best, search.stop, 1e9)
    covered_search._bound_early(search, lambda work, over: [work(one) for one in over], follow, jobs)
    assert search.best <= search.upper <= 4.0 * search.best
