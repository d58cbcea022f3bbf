"""Heights compared with thresholds: every method says on which side they are, and by which bound."""

import numpy as np
import pytest

from moe_mheight import CodeError, height_profile, m_height, random_codes
from moe_mheight.codes.generators import ALL_KINDS

METHODS = ("bases", "search")


def compared(P, m, h, t, method):
    """Both thresholds of one code."""
    above = m_height(P, m, above=t, method=method, details=True)
    below = m_height(P, m, below=t, method=method, details=True)
    for found in (above, below):
        assert found.lower <= h * (1 + 1e-9) or h == np.inf
        assert h <= found.upper * (1 + 1e-9)
        assert found.lower <= found.upper
    assert (above.value > t) == (h > t)
    assert (below.value <= t) == (h <= t)
    if above.ended == "above":
        assert above.lower > t
    else:
        assert above.value == pytest.approx(h, rel=1e-9)
    if below.ended == "below":
        assert below.upper <= t
        assert below.value == below.upper
    else:
        assert below.value == pytest.approx(h, rel=1e-9)
    return above.ended, below.ended


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["normal", "integer", "small-integer", "near-singular", "repeated", "spherical"])
def test_both_sides(kind, method, rng):
    ends = []
    for n, k in [(8, 3), (9, 5)]:
        for P in random_codes(kind, 4, k, n - k, rng):
            profile = height_profile(P)
            for m in (1, 2, n - k):
                h = profile[m]
                around = [0.5, 0.999, 1.001, 2.0] if np.isfinite(h) else []
                for t in [1.0, 7.5, 1e6, *(h * factor for factor in around)]:
                    ends.append(compared(P, m, h, t, method))
    assert {"above", "finished"} <= {above for above, _ in ends}
    assert {"below", "finished"} <= {below for _, below in ends}


@pytest.mark.parametrize("method", METHODS)
def test_a_height_is_not_above_itself(method):
    """Integers, where a threshold can be the height exactly."""
    P = [[1, 1], [1, 2]]
    for m, h in ((1, 2.0), (2, 3.0)):
        assert m_height(P, m, above=h, method=method) == h
        assert m_height(P, m, below=h, method=method) <= h
        assert m_height(P, m, above=np.nextafter(h, 0), method=method) == h
        assert m_height(P, m, below=np.nextafter(h, 0), method=method) == h


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_batches(method, rng):
    P = random_codes("normal", 30, 4, 5, rng)
    h = height_profile(P)[:, 3]
    t = np.median(h)
    assert ((m_height(P, 3, above=t, method=method) > t) == (h > t)).all()
    assert ((m_height(P, 3, below=t, method=method) <= t) == (h <= t)).all()
    each = np.roll(h, 1)
    assert ((m_height(P, 3, above=each, method=method) > each) == (h > each)).all()
    found = m_height(P, 3, above=t, below=t, method=method, details=True)
    for one, is_above in zip(found, h > t, strict=True):
        assert one.ended in (("above", "finished") if is_above else ("below", "finished"))
    assert len({f.ended for f in found}) > 1


def test_a_rejected_code_costs_a_fraction(rng):
    """Counted, not timed: nodes of the search."""
    P = rng.normal(size=(8, 10))
    whole = m_height(P, 6, method="search", details=True)
    above = m_height(P, 6, above=whole.value / 2, method="search", details=True)
    assert above.ended == "above"
    assert above.nodes < whole.nodes / 10


def test_infinite_heights_are_above_everything():
    P = [[1.0, 0.0], [0.0, 1.0]]
    for method in METHODS:
        assert m_height(P, 2, above=1e300, method=method) == np.inf
        assert m_height(P, 2, below=1e10, method=method) == np.inf


def test_integers_beyond_float64(rng):
    """The height itself, where float64 holds it, and the same refusals."""
    assert m_height([[10**30, 1], [1, 2]], 1, above=2.0) == 1e30
    with pytest.raises(CodeError, match="above"):
        m_height([[10**30, 1], [1, 2]], 1, above="x")
    for details in (False, True):
        with pytest.raises(CodeError, match="finite and above"):
            m_height([[10**400, 1], [1, 2]], 1, details=details)


@pytest.mark.parametrize("value", ["x", [1.0, 2.0], np.nan, [[1.0]]])
@pytest.mark.parametrize("name", ["above", "below"])
def test_thresholds_that_are_none(name, value):
    with pytest.raises(CodeError, match=name):
        m_height([[1, 1], [1, 2]], 2, **{name: value})


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_twenty_thousand(method, rng):
    """Every kind, n = 5 to 9, thresholds around the height and far from it."""
    count = 0
    for n, k, m in [(5, 2, 2), (7, 3, 2), (8, 4, 3), (9, 4, 3), (9, 6, 2)]:
        for kind in ALL_KINDS:
            P = random_codes(kind, 200, k, n - k, rng)
            h = height_profile(P)[:, m]
            finite = np.where(np.isfinite(h), h, 1e6)
            t = finite * np.exp(rng.normal(size=len(h)) * rng.choice([1e-6, 0.1, 2.0], len(h)))
            assert ((m_height(P, m, above=t, method=method) > t) == (h > t)).all()
            assert ((m_height(P, m, below=t, method=method) <= t) == (h <= t)).all()
            count += 2 * len(P)
    assert count >= 20_000
