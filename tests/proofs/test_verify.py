"""An accepted certificate is right, whatever was done to it; an honest one is accepted; a broken one is told."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import random
import sys
from fractions import Fraction
from itertools import combinations, product
from math import inf, nextafter
from pathlib import Path

import brute
import numpy as np
import pytest
from click.testing import CliRunner
from moe_mheight.cli.verify import command

import moe_mheight
from moe_mheight.errors import DataError
from moe_mheight.proofs.certificate_format import digest
from moe_mheight.proofs.hitting_set_check import HittingSets
from moe_mheight.proofs.verify import verify

SMALL = [[1, 1], [1, 2]]


def norms(P):
    """{B: [|y|_1 for every a, None for a in B]} over all bases, straight from elimination."""
    G = brute.whole_generator(P)
    n = len(G[0])
    found = {}
    for basis in combinations(range(n), len(G)):
        M = brute.on_basis(G, basis)
        if M is not None:
            D = abs(M[0][basis[0]])
            found[basis] = [None if a in basis else Fraction(sum(abs(row[a]) for row in M), D) for a in range(n)]
    return found


def best_word(P, m):
    """Information symbols of a codeword of the largest finite height, among those that are +-1 on a basis."""
    G = brute.whole_generator(P)
    best, u = Fraction(0), None
    for basis in combinations(range(len(G[0])), len(G)):
        M = brute.on_basis(G, basis)
        for signs in product((1, -1), repeat=len(G)) if M else ():
            word = [sum(s * x for s, x in zip(signs, column, strict=True)) for column in zip(*M, strict=True)]
            h = brute.height_of(word, m)
            if best < h != inf:
                best, u = h, word[: len(G)]
    return u


def proves(P, m, masks, U):
    """Whether these bases bound h_m by U: every a and every T, one by one."""
    table = {sum(1 << j for j in basis): row for basis, row in norms(P).items()}
    n = len(P) + len(P[0])
    for a in range(n):
        family = [mask for mask in masks if mask in table and table[mask][a] is not None and table[mask][a] <= U]
        for T in combinations([b for b in range(n) if b != a], m - 1):
            if not any(mask & sum(1 << b for b in T) == 0 for mask in family):
                return False
    return True


def signed(claim):
    return claim | {"sha256": digest(claim)}


def certificate(P, m, arithmetic="rational"):
    """An honest certificate of a finite height, with every useful basis in it."""
    real = arithmetic == "float64"
    k, r = len(P), len(P[0])
    h = brute.profile(P)[m]
    u = best_word(P, m)
    sizes = [abs(x) for x in brute.codeword(P, u)]
    outside = sorted(range(k + r), key=lambda j: -sizes[j])[:m]
    a = outside[0]
    table = norms(P)
    dual = next(basis for basis, row in table.items() if not set(basis) & set(outside) and row[a] == h)
    M = brute.on_basis(brute.whole_generator(P), dual)
    y = [Fraction(row[a], M[0][dual[0]]) for row in M]
    number = (lambda x: repr(float(x))) if real else str
    lower, upper = float(h), float(h)
    lower = nextafter(lower, 0.0) if Fraction(lower) > h else lower
    upper = nextafter(upper, inf) if Fraction(upper) < h else upper
    U = Fraction(upper) if real else h
    useful = [basis for basis, row in table.items() if any(x is not None and x <= U for x in row)]
    return signed(
        {
            "format": "moe_mheight certificate 1",
            "arithmetic": arithmetic,
            "n": k + r,
            "k": k,
            "m": m,
            "P": [[number(x) for x in row] for row in P],
            "height": {"lower": repr(lower), "upper": repr(upper)} if real else str(h),
            "witness": {"u": [str(x) for x in u], "outside": outside},
            "dual": {"a": a, "basis": list(dual), "y": [number(x) for x in y]},
            "bases": [f"{mask:x}" for mask in sorted(sum(1 << j for j in basis) for basis in useful)],
            "made_by": "moe_mheight 0.0.0",
        }
    )


def infinite(P, m, u, arithmetic="rational"):
    number = (lambda x: repr(float(x))) if arithmetic == "float64" else str
    sizes = [abs(x) for x in brute.codeword(P, u)]
    return signed(
        {
            "format": "moe_mheight certificate 1",
            "arithmetic": arithmetic,
            "n": len(P) + len(P[0]),
            "k": len(P),
            "m": m,
            "P": [[number(x) for x in row] for row in P],
            "height": "inf",
            "witness": {"u": [str(x) for x in u], "outside": sorted(range(len(sizes)), key=lambda j: -sizes[j])[:m]},
            "bases": [],
            "made_by": "moe_mheight 0.0.0",
        }
    )


def changed(claim, **changes):
    """A copy with some keys replaced, and the right sha256."""
    return signed(json.loads(json.dumps(claim)) | changes)


def refused(claim):
    verdict = verify(claim)
    assert not verdict.accepted
    assert "\n" not in verdict.reason
    return verdict.reason


def test_a_known_height():
    """The codeword (1, 1, 2, 3) attains h_1 = 3/2 and h_2 = 3."""
    heights = {m: verify(certificate(SMALL, m)) for m in (1, 2)}
    assert all(verdict.accepted for verdict in heights.values())
    assert heights[2].height == "3" == str(brute.profile(SMALL)[2])
    assert (heights[2].n, heights[2].k, heights[2].m, heights[2].bases) == (4, 2, 2, 6)
    assert heights[2].nodes >= 4


@pytest.mark.parametrize("arithmetic", ["rational", "float64"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (2, 3), (3, 2), (3, 3)])
def test_honest_certificates_are_accepted(arithmetic, size, rng):
    accepted = 0
    for draw in range(3):
        P = rng.integers(-4, 5, size).tolist() if draw < 2 else rng.standard_normal(size).tolist()
        if draw == 2 and arithmetic == "rational":
            P = [[Fraction(x).limit_denominator(9) for x in row] for row in P]
        for m, h in enumerate(brute.profile(P)):
            if m and h != inf:
                claim = certificate(P, m, arithmetic)
                verdict = verify(claim)
                assert verdict.accepted, verdict.reason
                if arithmetic == "float64":
                    assert verify(signed({key: claim[key] for key in claim if key != "dual"})).accepted
                accepted += 1
    assert accepted


@pytest.mark.parametrize("arithmetic", ["rational", "float64"])
def test_infinite_heights(arithmetic):
    P = [[1, 0, 2], [3, 1, 0]]
    claim = infinite(P, 3, [1, 0], arithmetic)
    assert brute.profile(P)[3] == inf
    verdict = verify(claim)
    assert verdict.accepted
    assert verdict.height == "inf"
    assert "zeros" in verdict.reason
    assert "not inf" in refused(infinite(P, 2, [1, 0], arithmetic))
    assert "zero codeword" in refused(infinite(P, 3, [0, 0], arithmetic))


def test_real_codes_count_as_infinite_above_1e11_only_in_float64():
    P = [[1e-12, 3.0]]
    claim = infinite(P, 1, [1], "float64")
    assert "not inf" in refused(claim)
    claim = infinite([[1e-12, 1e-13]], 1, [1], "float64")
    verdict = verify(claim)
    assert verdict.accepted
    assert "above 1e11" in verdict.reason
    assert "not inf" in refused(infinite([[1e-10, 1e-10]], 1, [1], "float64"))
    assert "not inf" in refused(infinite([[Fraction(1, 10**12)]], 1, [1]))


def test_a_word_in_two_parts():
    P = [[0.1, 0.7], [0.3, -0.2]]
    claim = certificate(P, 2, "float64")
    u = [Fraction(x) for x in claim["witness"]["u"]]
    high = [float(x) for x in u]
    low = [x - Fraction(z) for x, z in zip(u, high, strict=True)]
    parts = {"u": [repr(x) for x in high], "u_low": ["0", repr(high[0])], "outside": claim["witness"]["outside"]}
    assert not verify(changed(claim, witness=parts)).accepted
    parts["u_low"] = [str(x) for x in low]
    assert verify(changed(claim, witness=parts)).accepted


@pytest.mark.parametrize("arithmetic", ["rational", "float64"])
def test_whatever_digit_changes_nothing_false_is_accepted(arithmetic):
    claim = certificate(SMALL, 2, arithmetic)
    text = json.dumps(claim)
    changes = accepted = 0
    for i, old in enumerate(text):
        for new in set("0123456789") - {old} if old.isdigit() else ():
            changes += 1
            try:
                other = json.loads(text[:i] + new + text[i + 1 :])
            except ValueError:
                continue
            try:
                assert not verify(other).accepted, (i, new)
            except DataError:
                continue
            if all(other[key] == claim[key] for key in claim if key not in ("made_by", "sha256")):
                continue
            if verify(signed(other)).accepted:
                # the claim must be true of the code that now stands there
                accepted += 1
                h = brute.profile([[Fraction(x) for x in row] for row in other["P"]])[other["m"]]
                sides = [other["height"]] * 2 if arithmetic == "rational" else list(other["height"].values())
                assert Fraction(sides[0]) <= h <= Fraction(sides[1]), (i, new)
    assert changes > 500
    # in float64 an interval may grow and stay true
    assert accepted < (20 if arithmetic == "rational" else 60)


def test_false_claims_with_a_right_sha256_are_refused(rng):
    P = [[1, 3, -2], [2, -1, 1], [Fraction(1, 2), 1, 4]]
    m = 2
    claim = certificate(P, m)
    h = Fraction(claim["height"])
    assert "sha256" in refused(claim | {"made_by": "somebody"})
    assert "the codeword has height" in refused(changed(claim, height=str(h + 1)))
    assert "the codeword has height" in refused(changed(claim, height=str(h - Fraction(1, 10**9))))
    for i in range(3):
        u = list(claim["witness"]["u"])
        u[i] = str(Fraction(u[i]) + 1)
        refused(changed(claim, witness=claim["witness"] | {"u": u}))
        y = list(claim["dual"]["y"])
        y[i] = str(Fraction(y[i]) + Fraction(1, 7))
        assert "does not solve" in refused(changed(claim, dual=claim["dual"] | {"y": y}))
        for j in range(3):
            rows = [list(row) for row in claim["P"]]
            rows[i][j] = str(Fraction(rows[i][j]) + 1)
            refused(changed(claim, P=rows))
    outside = claim["witness"]["outside"]
    low = next(j for j in range(6) if j not in outside)
    assert "largest" in refused(changed(claim, witness=claim["witness"] | {"outside": [low, outside[0]]}))
    assert "largest" in refused(changed(claim, witness=claim["witness"] | {"outside": [outside[0], low]}))
    assert "meets" in refused(changed(claim, dual={"a": outside[0], "basis": [outside[1]], "y": ["1"]}))
    assert "dual.a" in refused(changed(claim, dual=claim["dual"] | {"a": outside[1]}))


def test_a_lower_codeword_does_not_pass_for_the_height():
    """Witness, height and dual may agree and still be beaten elsewhere: then the bases cannot suffice."""
    P = [[1, 3, -2], [2, -1, 1], [1, 1, 4]]
    honest = certificate(P, 2)
    lower = 0
    for u in product(range(-3, 4), repeat=3):
        sizes = [abs(x) for x in brute.codeword(P, u)]
        outside = sorted(range(6), key=lambda j: -sizes[j])[:2]
        h = brute.height_of(sizes, 2) if any(sizes) else inf
        if h == inf:
            continue
        for basis, row in norms(P).items():
            if row[outside[0]] == h and not set(basis) & set(outside):
                M = brute.on_basis(brute.whole_generator(P), basis)
                y = [str(Fraction(line[outside[0]], M[0][basis[0]])) for line in M]
                claim = changed(
                    honest,
                    height=str(h),
                    witness={"u": [str(x) for x in u], "outside": outside},
                    dual={"a": outside[0], "basis": list(basis), "y": y},
                    bases=[f"{sum(1 << j for j in b):x}" for b in sorted(norms(P), key=lambda b: b[::-1])],
                )
                assert verify(claim).accepted == (str(h) == honest["height"])
                if str(h) != honest["height"]:
                    assert "no listed set" in refused(claim)
                    lower += 1
    assert lower > 3


def of_matrix(P, kind, order, m=2, arithmetic="rational"):
    """An honest certificate of the G or H with these columns in this order."""
    old = certificate(P, m, arithmetic)
    k, r = len(P), len(P[0])
    number = (lambda x: repr(float(x))) if arithmetic == "float64" else str
    plain = [[Fraction(i == j) for j in range(k)] + list(P[i]) for i in range(k)]
    if kind == "H":
        plain = [[-P[j][i] for j in range(k)] + [Fraction(i == j) for j in range(r)] for i in range(r)]
    plain[0] = [2 * x for x in plain[0]]
    rows = [[plain[i][order.index(j)] for j in range(k + r)] for i in range(len(plain))]
    new = {"format": "moe_mheight certificate 2", "matrix": kind, kind: [[number(x) for x in row] for row in rows]}
    return signed(old | new | {"order": order})


@pytest.mark.parametrize("arithmetic", ["rational", "float64"])
@pytest.mark.parametrize("kind", ["G", "H"])
def test_the_matrix_must_be_that_of_the_proof(kind, arithmetic):
    P, order = [[1, 3, -2], [2, -1, 1]], [3, 0, 4, 1, 2]
    claim = of_matrix(P, kind, order, arithmetic=arithmetic)
    verdict = verify(claim)
    assert verdict.accepted, verdict.reason
    assert verdict.matrix == kind
    for i in range(len(claim[kind])):
        for j in range(5):
            rows = json.loads(json.dumps(claim[kind]))
            rows[i][j] = "5.0" if arithmetic == "float64" else "5"
            refused(changed(claim, **{kind: rows}))
    for i in range(2):
        for j in range(3):
            rows = json.loads(json.dumps(claim["P"]))
            rows[i][j] = "1.0000000000000002" if arithmetic == "float64" else "7/5"
            assert f"P[{i}][{j}]" in refused(changed(claim, P=rows))
    refused(changed(claim, order=[3, 0, 4, 2, 1]))
    dependent = json.loads(json.dumps(claim[kind]))
    dependent[1] = dependent[0]
    assert "dependent" in refused(changed(claim, **{kind: dependent}))
    for changes in (
        {"order": [3, 0, 4, 1]},
        {"order": [3, 0, 4, 1, 1]},
        {"matrix": "P"},
        {"matrix": 5},
        {"matrix": None},
    ):
        with pytest.raises(DataError):
            verify(changed(claim, **changes))
    for key in (kind, "order"):
        with pytest.raises(DataError, match="lacks"):
            verify(signed({name: value for name, value in claim.items() if name != key}))
    with pytest.raises(DataError):
        verify(changed(claim, format="moe_mheight certificate 1"))


def test_rounding_of_the_matrix_counts():
    """G = [3 1]: P is 1/3, not the double next to it, whose height is another one."""
    claim = {
        "format": "moe_mheight certificate 2", "arithmetic": "float64", "n": 2, "k": 1, "m": 1, "made_by": "hand",
        "matrix": "G", "G": [["3.0", "1.0"]], "order": [0, 1], "P": [["0.3333333333333333"]],
        "witness": {"u": ["1"], "outside": [0]}, "bases": ["1", "2"],
    }  # fmt: skip
    assert verify(signed(claim | {"height": {"lower": "3.0", "upper": "3.0"}})).accepted
    old = {key: value for key, value in claim.items() if key not in ("matrix", "G", "order")}
    old["format"] = "moe_mheight certificate 1"
    assert "no listed set" in refused(signed(old | {"height": {"lower": "3.0", "upper": "3.0"}}))
    for P in ("0.33333333333333337", "0.33333333333333326"):
        assert "P[0][0]" in refused(signed(claim | {"P": [[P]], "height": {"lower": "3.0", "upper": "3.0"}}))


@pytest.mark.parametrize("arithmetic", ["rational", "float64"])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_bases_must_suffice(arithmetic, m):
    """Every subset left after random removals is accepted exactly when all (a, T) have a basis, one by one."""
    P = [[1, 2, -3], [3, -1, 1], [2, 5, 2]]
    claim = certificate(P, m, arithmetic)
    U = Fraction(claim["height"] if arithmetic == "rational" else claim["height"]["upper"])
    draw = random.Random(m)
    outcomes = set()
    for _ in range(25):
        kept = sorted(
            draw.sample(
                claim["bases"], draw.randint(3, len(claim["bases"])) if draw.random() < 0.8 else len(claim["bases"])
            ),
            key=lambda x: int(x, 16),
        )
        truth = proves(P, m, [int(x, 16) for x in kept], U)
        assert verify(changed(claim, bases=kept)).accepted == truth
        outcomes.add(truth)
    # thin it out as far as it goes: then each that is left is needed
    kept = list(claim["bases"])
    for mask in claim["bases"]:
        fewer = [x for x in kept if x != mask]
        kept = fewer if proves(P, m, [int(x, 16) for x in fewer], U) else kept
    assert verify(changed(claim, bases=kept)).accepted
    every = sorted(sum(1 << j for j in basis) for basis in norms(P))
    for mask in kept:
        fewer = {int(x, 16) for x in kept} - {int(mask, 16)}
        reason = refused(changed(claim, bases=[f"{x:x}" for x in sorted(fewer)]))
        assert "a = " in reason
        for other in draw.sample(every, 3):
            masks = sorted(fewer | {other})
            assert verify(changed(claim, bases=[f"{x:x}" for x in masks])).accepted == proves(P, m, masks, U)
    assert outcomes == {True, False}


def test_the_counterexample_named_is_one():
    P = [[1, 2, -3], [3, -1, 1], [2, 5, 2]]
    claim = certificate(P, 3)
    reason = refused(changed(claim, bases=claim["bases"][2:]))
    a = int(reason.split("a = ")[1].split(" ")[0])
    T = json.loads(reason.split("T = ")[1].split("]")[0] + "]")
    assert len(T) == 2
    assert a not in T
    hit = sum(1 << b for b in T)
    for basis, row in norms(P).items():
        mask = sum(1 << j for j in basis)
        if f"{mask:x}" in claim["bases"][2:] and not mask & hit and row[a] is not None:
            assert row[a] > Fraction(claim["height"])


def test_float64_upper_side_to_the_last_digit():
    """Norms that equal the upper side are found equal by fractions, and one unit less is refused."""
    claim = certificate(SMALL, 2, "float64")
    assert claim["height"] == {"lower": "3.0", "upper": "3.0"}
    assert verify(claim).accepted
    below = repr(nextafter(3.0, 0.0))
    assert "proves only" in refused(changed(claim, height={"lower": below, "upper": below}))
    del claim["dual"]
    assert verify(changed(claim)).accepted
    assert "no listed set" in refused(changed(claim, height={"lower": below, "upper": below}))
    above = repr(nextafter(3.0, 4.0))
    assert "below" in refused(changed(claim, height={"lower": above, "upper": above}))


@pytest.mark.parametrize("arithmetic", ["rational", "float64"])
def test_sets_that_are_no_bases(arithmetic):
    """g_3 = 2 g_2, so {2} and {3} prove each other's targets; dependent, small and empty sets stop nothing."""
    claim = certificate([[1, 2], [1, 2]], 1, arithmetic)
    assert Fraction(claim["height"] if arithmetic == "rational" else claim["height"]["upper"]) == 2
    few = ["4", "5", "6", "8"]
    assert verify(changed(claim, bases=few)).accepted
    assert verify(changed(claim, bases=["0", "1", *few, "c"])).accepted
    for needed, a in (("5", 1), ("6", 0), ("8", 2)):
        left = ["0", "1", *[mask for mask in few if mask != needed], "c"]
        assert f"a = {a} and T = []" in refused(changed(claim, bases=left))


def test_a_sparse_set_that_spans_nearly():
    """g_3 = 10 g_2 but for the last bits of 0.1 and 0.3: no exact solution, yet a proof through its residual."""
    claim = {
        "format": "moe_mheight certificate 1", "arithmetic": "float64", "n": 4, "k": 2, "m": 1, "made_by": "hand",
        "P": [["0.1", "1.0"], ["0.3", "3.0"]], "witness": {"u": ["0", "1"], "outside": [3]},
        "bases": ["4", "8", "9", "a"],
    }  # fmt: skip
    for upper in ("11.0", "10.000000000000004"):
        assert verify(signed(claim | {"height": {"lower": "3.0", "upper": upper}})).accepted
    for upper in ("10.0", "9.999999999999998"):
        assert "a = 3" in refused(signed(claim | {"height": {"lower": "3.0", "upper": upper}}))


@pytest.mark.parametrize("counting", ["numpy's", "own"])
def test_hitting_sets_agree_with_trying_all(counting, monkeypatch):
    if counting == "own":
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    draw = random.Random(5)
    found = 0
    for _ in range(300):
        n, size, t = draw.randint(3, 9), draw.randint(1, 3), draw.randint(0, 5)
        family = {sum(1 << j for j in draw.sample(range(n), size)) for _ in range(draw.randint(0, 40))}
        truth = any(
            all(mask & sum(1 << b for b in T) for mask in family)
            for s in range(t + 1)
            for T in combinations(range(n), s)
        )
        T = HittingSets(n).find(np.array(sorted(family), dtype=np.uint64), t)
        assert (T is not None) == truth
        if T is not None:
            found += 1
            assert T.bit_count() <= t
            assert all(mask & T for mask in family)
    assert 60 < found < 240


def test_coordinates_up_to_63():
    family = [(1 << 63) | 1, (1 << 62) | 1, 1 << 63 | 1 << 62]
    assert HittingSets(64).find(np.array(family, dtype=np.uint64), 2) is not None
    assert HittingSets(64).find(np.array(family, dtype=np.uint64), 1) is None


def test_progress_goes_from_0_to_1():
    for arithmetic in ("rational", "float64"):
        told = []
        verify(certificate(SMALL, 2, arithmetic), advance=told.append)
        assert told == sorted(told)
        assert all(0 <= share <= 1 for share in told)
        assert told[-1] == 1


BROKEN = {
    "empty": "",
    "no JSON": "height",
    "cut off": '{"format": "moe_mheight certificate 1"',
    "a list": "[1]",
    "deep lists": "[" * 200_000,
    "deep objects": '{"a":' * 200_000,
    "a key twice": '{"format": "moe_mheight certificate 1", "format": "moe_mheight certificate 1"}',
    "NaN": '{"n": NaN}',
    "a huge whole number": '{"n": ' + "9" * 10_000 + "}",
    "a decimal": '{"n": 4.0}',
    "no text": b"\xff\xfe\x00",
    "null": "null",
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_are_no_certificates(name, tmp_path):
    content = BROKEN[name]
    path = tmp_path / "certificate.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        verify(path)
    assert len(str(error.value)) < 400


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "none", tmp_path, "a\0b"):
        with pytest.raises(DataError, match="certificate"):
            verify(path)
    for value in (None, 7, [1], {}):
        with pytest.raises(DataError):
            verify(value)


WRONG_NUMBERS = [
    *[
        "",
        "x",
        "NaN",
        "nan",
        "inf",
        "-0",
        "+1",
        "01",
        "1/1",
        "2/4",
        "1/0",
        "1/-2",
        " 1",
        "1 ",
        "1\n",
        "1_0",
        "1.0",
        "1e5",
    ],
    *["²", "١", "7" * 5000, "1/" + "7" * 5000, 1, None],
]


def wrong_values():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for key in ("format", "arithmetic", "n", "k", "m", "P", "height", "witness", "dual", "bases", "made_by", "sha256"):
        yield from ({key: value} for value in (None, True, 1.5, [], {}, [None], {"u": 1}, deep, "\ud800", 10**5000))
    yield from ({"n": n} for n in (-1, 0, 1, 5, 65, "4"))
    yield from ({"m": m} for m in (0, 3, -1))
    for x in WRONG_NUMBERS:
        yield {"P": [[x, "1"], ["1", "2"]]}
        yield {"height": x}
        yield {"witness": {"u": [x, "1"], "outside": [0, 1]}}
    yield {"P": [["1", "1"]]}
    yield {"P": [["1", "1"], ["1"]]}
    yield {"witness": {"u": ["1", "1"], "outside": [0, 0]}}
    yield {"witness": {"u": ["1", "1"], "outside": [0]}}
    yield {"witness": {"u": ["1", "1"], "outside": [0, 4]}}
    yield {"witness": {"u": ["1", "1"], "outside": [0, 1], "more": 1}}
    for masks in (
        ["3", "3"],
        ["5", "3"],
        ["10"],
        ["7"],
        ["0x3"],
        ["03"],
        ["C"],
        ["-3"],
        [3],
        ["f" * 17],
        [""],
        ["3\n"],
    ):
        yield {"bases": masks}
    yield {"more": 1}


@pytest.mark.parametrize("arithmetic", ["rational", "float64"])
def test_wrong_values_are_told_or_refused(arithmetic):
    """Never accepted, never an error but DataError, with a right sha256 wherever JSON can hold the value."""
    claim = certificate(SMALL, 2, arithmetic)
    told = []
    for changes in wrong_values():
        other = claim | changes
        if "sha256" not in changes:
            with contextlib.suppress(RecursionError, ValueError):
                other = signed(other)
        try:
            # who made it may be any text
            assert not verify(other).accepted or changes == {"made_by": "\ud800"}, changes
        except DataError as error:
            told.append(str(error))
    assert len(told) > 150
    assert max(map(len, told)) < 400
    for key in set(claim) - ({"dual"} if arithmetic == "float64" else set()):
        with pytest.raises(DataError, match=r"lacks|has none|must be"):
            verify({name: claim[name] for name in claim if name != key})


def test_rational_numbers_have_one_spelling():
    claim = certificate(SMALL, 2)
    for x in WRONG_NUMBERS:
        with pytest.raises(DataError, match=r"fraction|string"):
            verify(changed(claim, P=[[x, "1"], ["1", "2"]]))


def test_float64_numbers_have_one_spelling():
    claim = certificate(SMALL, 2, "float64")
    for x in ("1", "1.00", "1e0", "nan", "inf", "-inf", "1e999", "0.1000000000000000055511151231257827", "١.0"):
        with pytest.raises(DataError, match="double"):
            verify(changed(claim, P=[[x, "1.0"], ["1.0", "2.0"]]))
    with pytest.raises(DataError, match="above"):
        verify(changed(claim, height={"lower": "4.0", "upper": "3.0"}))


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e200, 1e308])
def test_extreme_doubles_give_a_verdict(scale):
    claim = certificate(SMALL, 2, "float64")
    assert not verify(changed(claim, P=[[repr(scale), "1.0"], ["1.0", repr(scale)]])).accepted


def test_huge_numbers_give_a_short_reason():
    claim = certificate(SMALL, 2)
    huge = "1" + "0" * 3900
    assert len(refused(changed(claim, witness={"u": [huge, f"1/{huge[:-1]}7"], "outside": [3, 2]}))) < 300
    assert len(refused(changed(claim, height=f"{huge}1"))) < 300
    claim = certificate(SMALL, 2, "float64")
    y = ["1.7e+308"] * 2
    assert len(refused(changed(claim, dual=claim["dual"] | {"y": y}))) < 300


@pytest.mark.slow
def test_mutated_certificates():
    """What benchmarks/mutate_certificates.py shows with 20,000 of them, with 1,000."""
    path = Path(__file__).parents[2] / "benchmarks" / "mutate_certificates.py"
    if not path.exists():
        pytest.skip("benchmarks are in the repository only")
    spec = importlib.util.spec_from_file_location("mutate_certificates", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutate_certificates"] = module
    spec.loader.exec_module(module)
    module.LONGEST = inf  # how long it takes is for the benchmark, not for a busy machine
    found = module.run(1000, 7, commands=3)
    assert found["faults"] == []
    assert min(found["outcomes"][name] for name in ("accepted", "refused", "unreadable")) > 20


def invoke(*arguments, **options):
    return CliRunner().invoke(command, list(arguments), standalone_mode=False, **options)


def test_command(tmp_path):
    claim = certificate(SMALL, 2)
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps(claim))
    good = invoke(str(path))
    assert good.return_value == 0
    assert good.stdout.startswith("accepted: h_2 = 3: ")
    assert good.stdout.count("\n") == 1
    told = json.loads(invoke("--json", "-", input=path.read_bytes()).stdout)
    assert told["accepted"]
    assert told["height"] == "3"
    path.write_text(json.dumps(changed(claim, height="4")))
    for given, matrix, code in (
        ([[2, 0, 2, 2], [1, 1, 2, 3]], "G", 0),
        (SMALL, "P", 0),
        ([[2, 0, 2, 2], [1, 1, 2, 4]], "G", 1),
    ):
        other = tmp_path / "matrix.json"
        other.write_text(json.dumps(given))
        assert invoke(str(path), str(other), "--matrix", matrix).return_value == 1  # the height is another one
        path.write_text(json.dumps(claim))
        assert invoke(str(path), str(other), "--matrix", matrix).return_value == code
        path.write_text(json.dumps(changed(claim, height="4")))
    bad = invoke(str(path))
    assert bad.return_value == 1
    assert bad.stdout.startswith("refused: the codeword has height 3, not 4")
    for broken in (invoke("-", input="{"), invoke(str(tmp_path / "none"))):
        assert isinstance(broken.exception, moe_mheight.MHeightError)
