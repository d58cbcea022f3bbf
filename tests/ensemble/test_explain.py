"""Explanations of one code: every fact against a second computation, and the command."""

import json
import time
import types
from pathlib import Path

import brute
import numpy as np
import pytest
from commands import assert_refused

from moe_mheight import CodeError, Predictor, explain, m_height, random_codes
from moe_mheight.data.code_files import write_npz
from moe_mheight.data.generate import generate
from moe_mheight.ensemble.explain import _shuffled, _th
from moe_mheight.experts.measurement import Measurement


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load()


@pytest.mark.parametrize("seed", range(6))
def test_facts(seed, predictor, rng):
    n, k = ((9, 4), (8, 5), (6, 2), (10, 5), (7, 3), (9, 6))[seed]
    P = random_codes("normal", 1, k, n - k, np.random.default_rng(seed))[0]
    profile = brute.profile(P.tolist())
    for m in range(1, n - k + 1):
        found = explain(P, m, predictor)
        h = found.height
        assert h.value == pytest.approx(float(profile[m]), rel=1e-12)
        assert found.lower * (1 - 1e-12) <= h.value <= found.upper * (1 + 1e-12)
        assert found.lower <= found.predicted <= found.upper
        assert found.lower <= found.low <= found.high <= found.upper
        # the codeword is one, and its m + 1 largest entries say the height
        G = np.hstack([np.eye(k), P])
        assert np.allclose(h.witness[:k] @ G, h.witness)
        sizes = np.abs(h.witness)[list(found.largest)]
        assert (np.diff(sizes) <= 0).all()
        assert sizes[0] / sizes[-1] == pytest.approx(h.value, rel=1e-9)
        assert sorted([*h.outside, *found.inside]) == list(range(n))
        assert h.outside[0] == found.largest[0]
        assert set(found.experts) == {"low", "medium", "high"}
        assert sum(found.router.values()) == pytest.approx(1.0)
        assert found.distance == n - k + 1
        assert np.isclose(found.minor, abs(np.linalg.det(G[:, list(found.basis)])) / largest_minor(G))


def largest_minor(G):
    from itertools import combinations

    k, n = G.shape
    return max(abs(np.linalg.det(G[:, list(B)])) for B in combinations(range(n), k))


def test_minors_by_hand(predictor):
    found = explain([[1, 1], [1, 2]], 1, predictor)  # minors 1, 1, 2, 1, 1, 1
    assert found.minor == pytest.approx(0.5)
    assert found.basis == (0, 1)


def test_coordinates_have_the_names_they_came_with(predictor, rng):
    P = rng.normal(size=(4, 5))
    order = rng.permutation(9)
    G = np.empty((4, 9))
    G[:, order] = np.hstack([np.eye(4), P])
    found = explain(P, 3, predictor, order=order)
    plain = explain(P, 3, predictor)
    u = np.linalg.lstsq(G.T, found.height.witness, rcond=None)[0]
    assert np.allclose(u @ G, found.height.witness)
    assert found.largest[:3] == tuple(int(order[j]) for j in plain.largest[:3])
    # of the entries on the basis, all of one size, the first comes next
    size = np.abs(found.height.witness)
    assert size[found.largest[3]] == pytest.approx(np.sort(size)[-4])
    assert found.height.outside == tuple(int(order[j]) for j in plain.height.outside)
    assert found.basis == tuple(sorted(int(order[j]) for j in plain.basis))


@pytest.mark.parametrize(
    "order",
    [[0, 0, 0, 0, 0], [0, 1, 2, 3], [0, 1, 2, 3, 5], [1, 2, 3, 4, 5], [0.0, 1, 2, 3, 4], [-1, 0, 1, 2, 3], 5, "01234"],
)
def test_order_is_a_permutation(order, predictor):
    """Else coordinates of the codeword shown are those of nobody."""
    with pytest.raises(CodeError, match=r"order must be a permutation of 0\.\.4"):
        explain([[1, 2, 5], [3, -1, 2]], 1, predictor, order=order)


def test_the_others_have_the_entries_of_the_code(rng):
    P = rng.normal(size=(3, 4))
    others = _shuffled(P)
    assert others.shape == (400, 3, 4)
    assert np.array_equal(np.sort(np.abs(others).reshape(400, -1)), np.tile(np.sort(np.abs(P).ravel()), (400, 1)))
    assert np.array_equal(others, _shuffled(P))
    # every entry is about as often at every place, with either sign
    at = np.abs(others) == np.abs(P[1, 2])
    assert ((at.mean(0) > 0.03) & (at.mean(0) < 0.16)).all()
    assert 0.4 < (others[at] > 0).mean() < 0.6
    with_zero = _shuffled(np.array([[0.0, 1.0], [2.0, 3.0]]))
    assert ((with_zero == 0).sum((1, 2)) == 1).all()


@pytest.mark.parametrize("method", ["bases", "search"])
def test_the_time_told_is_that_of_solving(method, monkeypatch):
    """Not that of the compiler, which comes first, once: here an hour, by a clock of the test's own."""
    from moe_mheight.exact import bases, branch_and_bound, heights

    module, name, compiles = {
        "bases": (bases, "answers", heights._compile),
        "search": (branch_and_bound, "first_words", branch_and_bound._compile),
    }[method]
    kernel, hours = getattr(module, name), []

    def cold(*arguments):
        if not hours:
            hours.append(3600.0)
        return kernel(*arguments)

    clock = types.SimpleNamespace(monotonic=lambda: time.monotonic() + sum(hours))

    class Search(branch_and_bound._Search):
        def __post_init__(self):
            self.began = clock.monotonic()
            super().__post_init__()

    monkeypatch.setattr(branch_and_bound, "_Search", Search)
    monkeypatch.setattr(module, name, cold)
    monkeypatch.setattr(module, "time", clock)
    compiles.cache_clear()
    found = m_height(np.array([[1.0, 1.0], [1.0, 2.0]]), 1, method=method, details=True)
    assert hours
    assert found.method == method
    assert found.seconds < 3600.0


def test_sentences(predictor, rng):
    useless = explain([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]], 2, predictor)
    assert useless.height.value == np.inf
    assert useless.sentence.startswith("Useless at m = 2: a codeword vanishes on")
    near = rng.normal(size=(4, 5))
    near[:, 1] = near[:, 0] * (1 + 1e-6) + 1e-6 * rng.normal(size=4)
    bad = explain(near, 5, predictor)
    assert bad.sentence.startswith("Lower than")
    assert "of the largest, so a codeword can be small" in bad.sentence
    many = random_codes("normal", 300, 4, 5, rng)
    best = many[np.argmin(m_height(many, 3))]
    good = explain(best, 3, predictor)
    assert good.sentence.startswith("Lower than all of 400 codes with these entries in random order")
    assert good.better > 0.9
    assert good.typical == pytest.approx(float(np.median(m_height(many, 3))), rel=0.3)
    assert not {"good", "bad"} & set(f"{useless.sentence} {bad.sentence} {good.sentence}".lower().split())
    assert [_th(i) for i in (1, 2, 3, 4, 11, 12, 21, 112)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "21st",
        "112th",
    ]


@pytest.mark.slow
def test_long_codes(predictor, rng):
    found = explain(random_codes("normal", 1, 10, 10, rng)[0], 3, predictor)
    assert found.distance is None
    assert found.lower * (1 - 1e-9) <= found.height.value
    assert found.upper == np.inf
    assert found.predicted == pytest.approx(found.height.value, rel=0.05)
    longer = explain(random_codes("normal", 1, 4, 36, rng)[0], 2, predictor)
    assert set(longer.experts) == {"low", "medium", "high"}
    assert longer.lower * (1 - 1e-9) <= longer.height.value <= longer.upper
    for one in (found, longer):
        assert 0.0 <= one.certainty <= 1.0
        assert "sure" in one.sentence
        assert one.as_dict()["certainty"] == one.certainty
        assert "certainty" in dict(one.lines())
    for text in (repr(found), repr(longer), longer._repr_html_()):
        assert "codeword" in text


def told(certainty, lower):
    """A predictor of the shipped tiers that knows this much of a long code."""
    predictor = Predictor.load()
    known = Measurement.unknown(1, intervals=True)
    for name in ("height", "tightest_lower", "low", "std_bits"):
        getattr(known, name)[:] = lower
    known.high[:] = known.tightest_upper[:] = np.inf
    known.certainty[:] = certainty
    predictor.measure = lambda *_, **__: known
    predictor.long = dict.fromkeys(predictor.tiers)
    return predictor


@pytest.mark.parametrize(
    ("certainty", "share", "says"),
    [
        (0.875, 1.0, "The ensemble found it without the proof, and was 87.5 % sure."),
        (0.99999, 1.0, "The ensemble found it without the proof, and was 99.9 % sure."),
        (0.3, 0.5, "The ensemble found no more than 5.29 without the proof, and was 30 % sure."),
        (np.nan, 1.0, "decides."),
    ],
)
def test_what_was_known_without_the_proof(certainty, share, says, monkeypatch):
    monkeypatch.setattr(Predictor, "predict", lambda *_, **__: 10.58)
    P = np.array([[1.0, 2.0, -3.0, 5.0] * 4, [2.0, -1.0, 4.0, 1.0] * 4])
    h = m_height(P, 1)
    found = explain(P, 1, told(certainty, share * h))
    assert found.sentence.endswith(says.replace("5.29", f"{share * h:.4g}"))
    assert found.certainty == (None if np.isnan(certainty) else certainty)
    short = explain([[1, 1], [1, 2]], 1, Predictor.load())
    assert "sure" not in short.sentence
    assert short.certainty == 1.0


def test_what_is_not_proven_is_not_claimed(rng, monkeypatch):
    monkeypatch.setattr(Predictor, "predict", lambda *_, **__: 5.0)
    predictor = told(0.75, 5.0)
    P = random_codes("normal", 1, 20, 20, rng)[0]
    found = explain(P, 9, predictor, time_limit=0.2)
    assert not found.height.finished
    assert found.better is None
    assert found.sentence.startswith("Not proven: the search ended early")
    assert found.sentence.endswith("The ensemble found 5, and is 75 % sure that this is the height.")


def test_shown(predictor):
    found = explain([[1, 1], [1, 2]], 2, predictor)
    text = repr(found)
    assert "height h_2" in text
    assert text.endswith(found.sentence)
    assert all(len(line) < 200 for line in text.splitlines()[:-1])
    html = found._repr_html_()
    assert html.startswith("<table>")
    assert html.count("<tr>") == len(found.lines())
    assert html.count("<rect") == found.height.n


@pytest.mark.parametrize(("P", "m"), [(np.ones((2, 3, 3)), 1), ([[1, 1], [1, 2]], 3), ([[1, np.nan]], 1)])
def test_refused(P, m, predictor):
    with pytest.raises(CodeError):
        explain(P, m, predictor)
    with pytest.raises(CodeError, match="bracket view"):
        explain([[1, 1], [1, 2]], 1, object())


@pytest.mark.slow
def test_the_command(mheight, folder):
    pytest.importorskip("matplotlib")
    Path("P.csv").write_text("1,1\n1,2\n")
    code, out, err = mheight("explain", "P.csv", "--m", 2, "--json", "--plot", "word.png")
    assert (code, err) == (0, "wrote word.png\n")
    found = json.loads(out)
    assert found["height"] == 3.0
    assert found["format"] == "moe_mheight explanation 1"
    assert Path("word.png").read_bytes()[:4] == b"\x89PNG"
    write_npz(Path("codes.npz"), generate(((6, 3, 2), (7, 4, 3)), 5, "integer", 1))
    code, out, _ = mheight("explain", "codes.npz", "--row", 7)
    assert code == 0
    assert "n = 7, k = 4, m = 3" in out
    Path("H.csv").write_text("0,0,1,0,1\n1,2,0,1,0\n")
    found = json.loads(mheight("explain", "H.csv", "--matrix", "H", "--m", 1, "--json")[1])
    H = np.array([[0, 0, 1, 0, 1], [1, 2, 0, 1, 0]])
    assert np.allclose(H @ found["witness"], 0)
    assert_refused(mheight("explain", "codes.npz"), "--row says which")
    assert_refused(mheight("explain", "codes.npz", "--row", 10), "--row must be below 10")
    assert_refused(mheight("explain", "P.csv"), "--m")
    assert_refused(mheight("explain", "P.csv", "--m", 3), "m")
    assert_refused(mheight("explain", "P.csv", "--m", 1, "--plot", "word.png"), "--force")
