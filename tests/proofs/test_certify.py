"""Certificates: what `certify` makes is what `verify` proves, fractions where the code is rational, and refusals."""

import contextlib
import json
from fractions import Fraction
from itertools import combinations

import brute
import numpy as np
import pytest

from moe_mheight import CodeError, MHeightError, certify, height_profile, m_height, random_codes, verify
from moe_mheight.proofs.certificate_format import LONGEST_ENTRY
from moe_mheight.proofs.certify import UnfinishedError, exact_height, is_rational, signed
from moe_mheight.proofs.repair import Exact, HolesError, mend


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


@pytest.mark.slow
def test_unfinished(rng):
    P = rng.normal(size=(24, 24))
    m_height(rng.normal(size=(4, 14)), 3)
    with pytest.raises(UnfinishedError, match="time limit") as caught:
        certify(P, 9, time_limit=0.5)
    assert caught.value.found.lower > 1


def text(h):
    return "inf" if h == float("inf") else str(Fraction(h))


def exact_part(rows, kind):
    """P, by elimination that shares nothing with the package; the height does not mind the order of columns."""
    rows = [[Fraction(x) for x in row] for row in rows]
    scale = 1
    for row in rows:
        for x in row:
            scale *= x.denominator
    whole, n = [[int(x * scale) for x in row] for row in rows], len(rows[0])
    for basis in combinations(range(n), len(rows)):
        M = brute.on_basis(whole, basis)
        if M is not None:
            X = [[Fraction(row[j], M[0][basis[0]]) for j in range(n) if j not in basis] for row in M]
            return X if kind == "G" else [[-x for x in column] for column in zip(*X, strict=True)]
    raise AssertionError("singular")


def full_rank(rng, k, n, whole):
    while True:
        G = rng.integers(-4, 5, (k, n)) if whole else rng.normal(size=(k, n))
        if np.linalg.matrix_rank(G) == k:
            return G


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", ["G", "H"])
def test_the_height_is_that_of_the_matrix_given(kind, whole, rng):
    """A real G or H is the fractions that its doubles are: the bracket holds the height of that very code."""
    for k, r in [(1, 2), (2, 2), (2, 3), (3, 2), (3, 3)]:
        given = full_rank(rng, k if kind == "G" else r, k + r, whole)
        truth = brute.profile(exact_part(given.tolist(), kind))
        for m in range(1, r + 1):
            made = check(given, m, matrix=kind)
            assert made["matrix"] == kind
            assert [[float(Fraction(x)) for x in row] for row in made[kind]] == given.tolist()
            if isinstance(made["height"], str):
                assert made["height"] == text(truth[m])
            else:
                lower, upper = (Fraction(float(made["height"][side])) for side in ("lower", "upper"))
                assert lower <= truth[m] <= upper <= lower * (1 + Fraction(1, 10**9))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", ["P", "G", "H"])
def test_verify_is_told_the_matrix(kind, whole, rng):
    """Accepted for the matrix and for all others of the same code; refused for any other code."""
    k, r = 2, 3
    given = full_rank(rng, {"P": k, "G": k, "H": r}[kind], {"P": r, "G": k + r, "H": k + r}[kind], whole)
    made = certify(given, 2, matrix=kind)
    assert verify(made).accepted
    assert not verify(made).compared
    told = verify(made, given)
    assert told.accepted
    assert told.compared
    assert told.matrix == kind
    assert "this very code" in told.reason
    rows = [[Fraction(x) for x in row] for row in given.tolist()]
    if kind == "P":
        P, order = rows, list(range(k + r))
    else:
        order = made["order"]
        inside = order[:k] if kind == "G" else order[k:]
        outside = order[k:] if kind == "G" else order[:k]
        scale = 1
        for row in rows:
            for x in row:
                scale *= x.denominator
        M = brute.on_basis([[int(x * scale) for x in row] for row in rows], inside)
        X = [[Fraction(row[j], M[0][inside[0]]) for j in outside] for row in M]
        P = X if kind == "G" else [[-x for x in column] for column in zip(*X, strict=True)]
    G = [[Fraction(0)] * (k + r) for _ in range(k)]
    H = [[Fraction(0)] * (k + r) for _ in range(r)]
    for j, column in enumerate(order):
        for i in range(k):
            G[i][column] = Fraction(i == j) if j < k else P[i][j - k]
        for i in range(r):
            H[i][column] = -P[j][i] if j < k else Fraction(i == j - k)
    mixed = [[3 * x + y for x, y in zip(G[0], G[1], strict=True)], [Fraction(-1, 7) * x for x in G[1]]]
    for other, matrix in ((G, "G"), (H, "H"), (mixed, "G"), ([*H, H[0]], "H")):
        assert verify(made, other, matrix=matrix).accepted, matrix
    wrong = [row[:] for row in mixed]
    wrong[1][-1] += Fraction(1, 10**20)
    for other, matrix in ((wrong, "G"), (G, "H"), (H, "G"), (G[:1], "G"), (P[:1], "P"), ([[1]], "P")):
        verdict = verify(made, other, matrix=matrix)
        assert not verdict.accepted, matrix
        assert "\n" not in verdict.reason
    for nothing in ([], [[]], [[1], [1, 2]], [["x"]], [[float("nan")]], 7, [["1e999999999"]], [[True]], [[None]]):
        with pytest.raises(MHeightError):
            verify(made, nothing)
    with pytest.raises(MHeightError, match="P, G or H"):
        verify(made, G, matrix="Q")


def test_ties_are_certified_too(rng):
    """Entries of -2..2: many codewords attain the height, with other coordinates large and other bases tight."""
    for P in ([[1, 0, 1], [-1, 2, -2]], [[-2, 1, -2, -1], [-2, 0, -1, -1]], [[0, -1, -1], [2, -1, -2]]):
        assert check(P, 2)["height"] == text(brute.profile(P)[2])
        check([[x / 4 for x in row] for row in P], 2)
    for _ in range(40):
        P = rng.integers(-2, 3, rng.integers(1, 5, 2)).tolist()
        truth = brute.profile(P)
        for m in range(1, len(P[0]) + 1):
            assert check(P, m)["height"] == text(truth[m])


HUGE = [10**400, -(10**400), Fraction(1, 10**400), "1e-400", "1e400", 10**31, Fraction(10**400, 3), "1/1" + "0" * 400]


@pytest.mark.parametrize("entry", HUGE)
def test_entries_beyond_float64_are_named(entry):
    for P in ([[1, 2], [3, entry]], [[1, 2], [Fraction(1, 3), entry]]):
        with pytest.raises(
            CodeError, match=r"P\[1\]\[1\] must have a size in \[1e-36, 1e\+30\] or be 0, got -?(about )?-?1?"
        ):
            certify(P, 1)
    if isinstance(entry, int):  # of a G it is no matter: P is (2, 1)
        assert check([[entry, 2 * entry, entry]], 1, matrix="G")["height"] == "2"


@pytest.mark.parametrize("entry", ["1e999999999", "1E-99999999", "9" * 3000, 10**3000])
def test_entries_too_long_to_compute_with(entry):
    with pytest.raises(CodeError, match=r"G\[0\]\[1\]"):
        certify([[1, entry, 3]], 1, matrix="G")


def test_numbers_too_long_for_a_certificate(rng):
    long = Fraction(10**400 + 1, 10**400)
    with pytest.raises(CodeError, match=rf"P\[0\]\[0\] has some 8\d\d digits.*{LONGEST_ENTRY}"):
        certify([[long, 2]], 1)
    G = [[Fraction(int(x), 10**200 + int(y)) for x, y in rng.integers(1, 10**9, (20, 2))] for _ in range(10)]
    with pytest.raises(CodeError, match=r"too long|digits"):
        certify(G, 2, matrix="G")


@pytest.mark.parametrize("size", [(2, 2), (2, 3), (3, 2), (3, 3), (2, 4), (4, 2)])
def test_integers_beyond_2_53_and_nearly_singular(size, rng):
    """The search sees rounded entries; the proof, and the height, are of the integers themselves."""
    for draw in range(6):
        P = [[int(x) for x in row] for row in rng.integers(-(10**18), 10**18, size)]
        if draw % 2:  # the last row all but a combination of the first
            P[-1] = [3 * x + int(d) for x, d in zip(P[0], rng.integers(-1, 2, size[1]), strict=True)]
        if draw == 5:
            P = [[x // 10**9 for x in row] for row in P]
        truth = brute.profile(P)
        for m in range(1, size[1] + 1):
            assert check(P, m)["height"] == text(truth[m])
            found = exact_height(P, m)
            assert found.value == (float(truth[m]))
            assert found.lower <= truth[m] <= found.upper


def test_heights_above_1e11_of_fractions_are_finite():
    """For doubles they would count as infinite; fractions mean what they say."""
    P = [["1/3", "2/3"], ["1/3", Fraction(2, 3) + Fraction(1, 10**13)]]
    truth = brute.profile([[Fraction(x) for x in row] for row in P])
    assert truth[2] > 10**11
    assert [check(P, m)["height"] for m in (1, 2)] == [text(h) for h in truth[1:]]


def test_known_hard_integers():
    """5 x 5 around 1e10; two finite heights above 1e11."""
    P = [[5, 3, 7], [2, 9, 4]]
    P = [[x * 10**17 + i + j for j, x in enumerate(row)] for i, row in enumerate(P)]
    truth = brute.profile(P)
    assert [check(P, m)["height"] for m in (1, 2, 3)] == [text(h) for h in truth[1:]]


@pytest.mark.parametrize("size", [(1, 2), (2, 3), (3, 3), (3, 2)])
def test_fractions_alone_find_the_height(size, rng):
    """From no basis at all, and from a bound that is too low."""
    for _ in range(4):
        P = rng.integers(-3, 4, size).tolist()
        exact = [[Fraction(x) for x in row] for row in P]
        truth = brute.profile(P)
        for m in range(1, size[1] + 1):
            proven = mend(Exact(exact, None, m), set(), Fraction(1))
            assert (None if truth[m] == float("inf") else truth[m]) == proven.U
            if proven.u is not None:
                assert brute.height_of(brute.codeword(P, proven.u), m) == truth[m]
            if proven.U is not None:
                known = mend(Exact(exact, None, m), proven.masks, proven.U)
                assert known.masks == proven.masks
                assert known.u is None


def test_mending_ends_when_the_time_is_over():
    with pytest.raises(HolesError, match="time"):
        mend(Exact([[Fraction(1), Fraction(2)]], None, 1), set(), Fraction(1), deadline=0.0)


@pytest.mark.parametrize(
    ("given", "matrix"),
    [
        ([[1, 2], [2, 4]], "Q"),
        ([[1, 2, 3], [2, 4, 6]], "G"),
        ([[1, 2], [3, 4]], "G"),
        ([[1, 2], [3, 4]], "H"),
        ([[0, 0]], "H"),
        ([[0.1, 0.2, 0.3], [0.2, 0.4, 0.6]], "G"),
        ([[1] * 65], "G"),
        ([[1] * 64], "P"),
    ],
)
def test_matrices_of_no_code(given, matrix):
    with pytest.raises(CodeError, match=r"rank|P, G or H|at most 64|fewer rows"):
        certify(given, 1, matrix=matrix)


def test_parity_checks_may_have_rows_to_spare():
    H = [[1, 2, 3, 4], [0, 1, 1, 5], [1, 3, 4, 9]]
    made = check(H, 2, matrix="H")
    assert made["k"] == 2
    assert made["height"] == text(brute.profile(exact_part(H[:2], "H"))[2])


@pytest.mark.parametrize("limit", [0, -1, True, "5", float("nan"), [5]])
def test_time_limits_are_numbers_of_seconds(limit):
    with pytest.raises(CodeError, match="time_limit must be a number of seconds > 0"):
        certify([[1, 2]], 1, time_limit=limit)
    certify([[1, 2]], 1, time_limit=np.int64(60))


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


def test_badly_scaled_reals_are_certified():
    """Floats say nothing of such a basis, so the check looks at it in fractions; it was taken for no proof before."""
    P = [
        [377765885.41882277, -342400460.38730687, 75438489.6331299, 824465038.3814571],
        [262753770557.73517, -238155470041.68063, 52470983648.33612, 573453839771.7372],
        [-875845901861.24, 793851566805.7284, -174903278825.48404, -1911512799243.7578],
    ]
    for m in (1, 2, 3, 4):
        made = certify(P, m)
        assert verify(made).accepted
        h = m_height(P, m)
        if made["height"] == "inf":
            assert h == np.inf
        else:
            assert float(made["height"]["lower"]) * (1 - 1e-9) <= h <= float(made["height"]["upper"]) * (1 + 1e-9)
