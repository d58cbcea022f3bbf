"""Single codes by enumeration: the same heights as LANES codes at a time, to the last bit, and what decides them."""

import numpy as np
import pytest

from moe_mheight import CodeError, height_profile, m_height, random_codes
from moe_mheight.codes.generators import ALL_KINDS
from moe_mheight.exact import choice
from moe_mheight.exact.enumeration import deciding_set, enumerated_profiles, whole_profile
from moe_mheight.exact.single_height import answers, ask, basis_tables

SIZES = [(2, 1), (3, 1), (5, 2), (6, 4), (8, 1), (9, 4), (9, 6), (10, 3), (12, 6)]


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_bits_of_the_lanes(n, k, kind, rng):
    P = random_codes(kind, 12, k, n - k, rng)
    found = answers(P, ask(len(P), 1, n - k))
    sure = found.sure == 1.0
    np.testing.assert_array_equal(found.heights[sure], enumerated_profiles(P)[sure])
    assert sure.mean() > 0.5 or kind in ("near-singular", "repeated", "fourier", "vandermonde")


@pytest.mark.parametrize("m", [1, 3, 5])
def test_one_level_is_that_of_the_profile(m, rng):
    P = rng.normal(size=(40, 4, 5))
    found = answers(P, ask(len(P), m, m))
    np.testing.assert_array_equal(found.heights[:, m], enumerated_profiles(P)[:, m])


def test_what_decides(rng):
    for P in random_codes("integer", 20, 4, 5, rng):
        found = answers(P[None], ask(1, 3, 3))
        h = whole_profile(P.tolist())[3]
        left, at = int(found.left[0]), int(found.at[0])
        assert left.bit_count() == 3
        assert left >> at & 1
        assert found.heights[0, 3] == pytest.approx(h, rel=1e-14)
        if len(np.unique(P)) == P.size:  # no ties
            assert (left, at) == deciding_set(P.tolist(), 3)


def test_badly_scaled_codes_are_not_sure_or_right(rng):
    P = rng.normal(size=(200, 4, 5)) * 10.0 ** rng.uniform(-6, 6, (200, 1, 5))
    P[:, 0] = P[:, 1] * (1 + 1e-9 * rng.normal(size=(200, 1)))
    found = answers(P, ask(len(P), 1, 5))
    for code, h, sure in zip(P[:60], found.heights, found.sure, strict=False):
        if sure:
            true = whole_profile(code.tolist())
            true[true > 1e11] = np.inf
            np.testing.assert_allclose(h, true, rtol=1e-13)


@pytest.mark.parametrize("entry", [np.nan, np.inf, 1e-300, 1e300])
def test_what_is_out_of_range_is_left_to_the_checks(entry, rng):
    P = rng.normal(size=(3, 4))
    P[1, 2] = entry
    assert answers(P[None], ask(1, 2, 2)).sure[0] == 0.0
    with pytest.raises(CodeError):
        m_height(P, 2)


def test_singles_and_batches_are_equal(rng):
    """Whichever kernel a batch goes to."""
    for n, k in [(9, 4), (12, 3), (14, 7)]:
        P = random_codes("normal", 70, k, n - k, rng)
        for m in (1, 2, n - k):
            batch = m_height(P, m)
            np.testing.assert_array_equal(batch, [m_height(code, m) for code in P])
            np.testing.assert_array_equal(batch, height_profile(P)[:, m])


@pytest.mark.parametrize(("n", "k", "m"), [(17, 8, 4), (18, 3, 6), (18, 15, 2), (19, 17, 2), (20, 10, 3)])
def test_beyond_sixteen_bases_agree_with_the_search(n, k, m, rng):
    P = rng.normal(size=(k, n - k))
    bases = m_height(P, m, method="bases", details=True)
    search = m_height(P, m, method="search", details=True)
    assert bases.method == "bases"
    assert bases.value == pytest.approx(search.value, rel=1e-9)
    assert bases.lower <= search.upper
    assert search.lower <= bases.upper
    assert bases.upper <= bases.value * (1 + 1e-13)


def test_tables_hold_every_set():
    packed, _ = basis_tables(7, 3)
    ends = packed[:5]
    assert ends[0] - 5 == 35
    assert ends[1] - ends[0] == 35
    assert ends[2] - ends[1] == 1 << 7
    assert ends[4] == len(packed)


def test_enumeration_where_nothing_of_a_search_is_compiled(rng, monkeypatch):
    """Until it has taken as long as compiling would."""
    P = rng.normal(size=(9, 9))
    assert m_height(P, 2, details=True).method == "search"
    monkeypatch.setattr(choice, "is_ready", lambda _: False)
    monkeypatch.setattr(choice, "_waited", [])
    assert m_height(P, 2, details=True).method == "bases"
    assert m_height(rng.normal(size=(11, 11)), 2, details=True).method == "search"
    choice._waited.append(choice.COMPILING)
    assert m_height(P, 2, details=True).method == "search"
