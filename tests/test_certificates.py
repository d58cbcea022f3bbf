"""Certificates: what `certify` makes is what `verify` proves, fractions where the code is rational, and refusals."""

import contextlib
import json
from fractions import Fraction
from itertools import combinations

import brute
import numpy as np
import pytest

from moe_mheight import CodeError, MHeightError, certify, height_profile, m_height, random_codes, verify
from moe_mheight.certificates import UnfinishedError, is_rational, signed


def check(P, m, **options):
    made = certify(P, m, **options)
    verdict = verify(json.loads(json.dumps(made)))
    assert verdict.accepted, verdict.reason
    return made


@pytest.mark.parametrize(("k", "r"), [(1, 3), (2, 3), (3, 2), (3, 3), (2, 4)])
def test_integer_codes_have_the_height_of_exact_arithmetic(k, r, rng):
    for _ in range(3):
        P = rng.integers(-3, 4, (k, r)).tolist()
        truth = brute.profile(P)
        for m in range(1, r + 1):
            found = check(P, m)["height"]
            assert found == ("inf" if truth[m] == float("inf") else str(Fraction(truth[m])))


@pytest.mark.parametrize("m", range(1, 7))
def test_integer_codes_of_twelve(m, rng):
    """(12, 6, m), entries in +-100: a fraction, within rounding of the enumeration."""
    P = rng.integers(-100, 101, (6, 6))
    found = check(P, m)
    truth = height_profile(P)[m]
    if truth == np.inf:
        assert found["height"] == "inf"
    else:
        assert float(Fraction(found["height"])) == pytest.approx(truth, rel=1e-12)


def test_rational_entries():
    P = [["1/2", "-2/3", 5], [Fraction(7, 4), 1, "0.1"]]
    made = check(P, 2)
    exact = brute.profile([[Fraction(v) for v in row] for row in P])
    assert made["height"] == str(exact[2])
    assert made["P"][1] == ["7/4", "1", "1/10"]


@pytest.mark.parametrize("kind", ["normal", "near-singular", "uniform", "fourier", "spherical"])
def test_real_codes_have_a_tight_bracket(kind, rng):
    for k, r, m in [(3, 4, 2), (6, 6, 3), (5, 9, 6)]:
        P = random_codes(kind, 1, k, r, rng)[0]
        made = check(P, m)
        if made["height"] == "inf":
            assert m_height(P, m) == np.inf
            continue
        if isinstance(made["height"], str):
            continue  # integers, so it is a fraction
        lower, upper = (float(made["height"][side]) for side in ("lower", "upper"))
        assert lower * (1 - 1e-14) <= m_height(P, m) <= upper
        assert upper <= lower * (1 + 1e-9)


def test_long_codes(rng):
    P = rng.integers(-20, 21, (9, 11))
    made = check(P, 5)
    assert float(Fraction(made["height"])) == pytest.approx(m_height(P, 5), rel=1e-9)
    real = check(rng.normal(size=(10, 10)), 4)
    assert float(real["height"]["upper"]) / float(real["height"]["lower"]) - 1 < 1e-9


def test_repeated_columns_need_all_their_sets(rng):
    """The search looks at one of several equal sets; a certificate, whose verifier knows no symmetry, at all."""
    P = rng.integers(-5, 6, (5, 9))
    P[:, 1] = P[:, 0]
    P[:, 2] = -P[:, 0]
    check(P, 4)
    check(np.ones((1, 8), int), 6)


def test_infinite_heights(rng):
    assert check(np.eye(4, 7, dtype=int), 3)["height"] == "inf"
    P = rng.normal(size=(6, 8))
    P[2] = 0.0
    P[2, :2] = 1.0, 2.0
    made = check(P, 3)
    assert made["height"] == "inf"
    assert "dual" not in made
    assert made["bases"] == []


@pytest.mark.parametrize("P", [[[3, -7, 2], [1, 4, 9]], [[0.25, 0.5, 0.3], [1.5, 0.7, 2.0]]])
def test_every_changed_digit_is_refused(P):
    """As it is, and with a digest that fits: then the claim must be unproven, unless it is still the same claim."""
    made = certify(P, 2)
    text = json.dumps(made)
    refused = 0
    for at, letter in enumerate(text):
        if letter.isdigit():
            other = text[:at] + str((int(letter) + 1) % 10) + text[at + 1 :]
            with contextlib.suppress(MHeightError):
                assert not verify(json.loads(other)).accepted
            refused += 1
    assert refused > 40
    for key in ("height", "P", "bases", "m"):
        wrong = json.loads(text)
        del wrong["sha256"]
        if key == "height":
            wrong[key] = "2" if isinstance(made[key], str) else {**made[key], "upper": made[key]["lower"][:6]}
        elif key == "P":
            wrong[key][0][0] = "9" if made["arithmetic"] == "rational" else "9.0"
            exact = brute.profile([[Fraction(v) for v in row] for row in wrong[key]])[2]
            if isinstance(made["height"], str) and str(exact) == made["height"]:
                continue  # true of that code too
        elif key == "bases":
            wrong[key] = wrong[key][:1]
        else:
            wrong[key] = 3
        with contextlib.suppress(MHeightError):
            assert not verify(signed(wrong)).accepted


def test_fewer_bases_prove_less(rng):
    """Which bases may go? Whatever is left, an accepted certificate is a proof: brute force says so."""
    P = rng.integers(-4, 5, (3, 4))
    P[0, 0] = 1
    made = certify(P, 2)
    n, h = 7, Fraction(made["height"])
    for gone in made["bases"]:
        rest = [b for b in made["bases"] if b != gone]
        verdict = verify(signed({**{k: v for k, v in made.items() if k != "sha256"}, "bases": rest}))
        G = [[Fraction(int(i == j)) for j in range(3)] + [Fraction(int(v)) for v in row] for i, row in enumerate(P)]

        def bounds(mask, a, G=G):
            columns = [j for j in range(n) if int(mask, 16) >> j & 1]
            best = brute.best_for([list(map(Fraction, row[3:])) for row in G], set(columns), a)
            return best <= h

        holes = 0
        for a in range(n):
            for T in combinations([j for j in range(n) if j != a], 1):
                out = {a, *T}
                if not any(not out & {j for j in range(n) if int(b, 16) >> j & 1} and bounds(b, a) for b in rest):
                    holes += 1
        assert verdict.accepted == (holes == 0)


def test_files(tmp_path, rng):
    path = tmp_path / "proof.json"
    made = certify(rng.integers(-9, 10, (3, 5)), 2, path=path)
    assert json.loads(path.read_text()) == made
    assert verify(path).accepted
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(MHeightError, match="cannot write"):
        certify([[1, 2]], 1, path=tmp_path / "no" / "proof.json")


def test_unfinished(rng):
    P = rng.normal(size=(24, 24))
    m_height(rng.normal(size=(4, 14)), 3)
    with pytest.raises(UnfinishedError, match="time limit") as caught:
        certify(P, 9, time_limit=0.5)
    assert caught.value.found.lower > 1


def test_what_counts_as_rational():
    assert is_rational([[1, 2]])
    assert is_rational([["1/3", 2.0]])
    assert is_rational(np.ones((2, 2)))
    assert not is_rational([[0.5]])
    assert not is_rational(np.full((1, 2), np.nan))


@pytest.mark.parametrize(
    ("P", "m"), [([[1, 2]], 3), ([[1, 2]], 0), ([], 1), ([[1], [2, 3]], 1), ([["x"]], 1), ([[float("nan")]], 1), (7, 1)]
)
def test_bad_input(P, m):
    with pytest.raises(CodeError):
        certify(P, m)
