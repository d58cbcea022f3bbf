"""Codes as matrices: round trips between G, H and P, every rule's message, symmetries."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from moe_mheight import (
    CodeError,
    MHeightError,
    equivalent,
    from_parity_check,
    generator,
    height_profile,
    m_height,
    minimum_distance,
    parity_check,
    random_codes,
    systematic,
)
from moe_mheight.codes.generators import ALL_KINDS, KINDS
from moe_mheight.codes.linear import check_m, check_P, check_row
from moe_mheight.data.generate import orbit_ids

SHAPES = [(k, n - k) for n in range(2, 11) for k in range(1, n)]


def spans_the_same(G, other):
    """Two full-rank generators of one code: stacking them adds nothing to the rank."""
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (G, other)]
    Q = np.linalg.qr(unit[0].T)[0]
    rest = unit[1].T - Q @ (Q.T @ unit[1].T)
    return np.abs(rest).max() < 1e-10


def orthogonal(G, H):
    """G H^T = 0 up to the rounding of each sum."""
    return (np.abs(G @ H.T) <= 1e-10 * (np.abs(G) @ np.abs(H).T)).all()


# G, H and P


@pytest.mark.parametrize("kind", KINDS)
def test_generator_and_parity_check_are_orthogonal(kind, rng):
    for k, r in SHAPES:
        P = random_codes(kind, 1, k, r, rng)[0]
        order = rng.permutation(k + r)
        for given in (None, order):
            G, H = generator(P, given), parity_check(P, given)
            assert G.shape == (k, k + r)
            assert H.shape == (r, k + r)
            assert orthogonal(G, H)
        assert np.array_equal(generator(P)[:, :k], np.eye(k))
        # column order[j] of the permuted matrix is column j of [I | P]
        assert np.array_equal(generator(P, order)[:, order], generator(P))


def test_systematic_input_comes_back_as_it_is(rng):
    for k, r in SHAPES:
        P = rng.normal(size=(k, r)) * 10.0 ** rng.integers(-8, 9, (k, r))
        found, order = systematic(generator(P))
        assert np.array_equal(found, P)
        assert np.array_equal(order, np.arange(k + r))


@pytest.mark.parametrize("kind", KINDS)
def test_systematic_keeps_the_code(kind, rng):
    for k, r in SHAPES:
        P = random_codes(kind, 1, k, r, rng)[0]
        G = rng.normal(size=(k, k)) @ generator(P)[:, rng.permutation(k + r)]
        found, order = systematic(G)
        assert sorted(order) == list(range(k + r))
        assert spans_the_same(G, generator(found, order))
        assert orthogonal(G, parity_check(found, order))
        # random bases have conditions up to a few thousand, integer codes heights up to 1e6
        before, after = height_profile(P), height_profile(found)
        assert np.array_equal(np.isinf(before), np.isinf(after))
        finite = np.isfinite(before)
        np.testing.assert_allclose(after[finite], before[finite], rtol=1e-7)


def test_systematic_of_ill_scaled_generators(rng):
    for k, r in SHAPES:
        P = rng.uniform(-1, 1, (k, r))
        rows = 10.0 ** rng.integers(-8, 9, (k, 1)) * generator(P)
        columns = rng.normal(size=(k, k)) @ generator(P) * 10.0 ** rng.integers(-4, 5, k + r)
        for G in (rows, columns):
            found, order = systematic(G)
            assert sorted(order) == list(range(k + r))
            assert orthogonal(G, parity_check(found, order))


def test_systematic_of_integers_is_exact_where_it_can_be(rng):
    for k, r in [(2, 3), (3, 3), (4, 4), (5, 2)]:
        P = rng.integers(-100, 101, (k, r)).astype(float)
        mix = np.tril(rng.integers(-3, 4, (k, k)), -1) + np.eye(k)  # determinant 1
        found, order = systematic(mix @ generator(P))
        G = (mix @ generator(P))[:, order]
        if np.array_equal(found, np.rint(found)):
            assert np.array_equal(G[:, :k] @ found, G[:, k:])
    assert systematic([[2, 0, 4], [0, 3, 9]])[0].tolist() == [[2.0], [3.0]]


def test_systematic_never_chooses_a_zero_column(rng):
    # an orthonormal basis of the rows holds rounding errors where the generator has zeros
    for _ in range(300):
        k, r = SHAPES[rng.integers(len(SHAPES))]
        P = rng.normal(size=(k, r))
        P[:, rng.integers(r)] = 0
        G = rng.normal(size=(k, k)) @ generator(P)[:, rng.permutation(k + r)]
        found, order = systematic(G)
        assert np.abs(G[:, order[:k]]).max(axis=0).all()
        assert orthogonal(G, parity_check(found, order))


def test_systematic_skips_dependent_columns():
    P, order = systematic([[1, 2, 0, 1], [2, 4, 0, 3]])
    assert order.tolist() == [0, 3, 1, 2]
    assert P.tolist() == [[2.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("kind", KINDS)
def test_from_parity_check(kind, rng):
    for k, r in SHAPES:
        P = random_codes(kind, 1, k, r, rng)[0]
        order = rng.permutation(k + r)
        H = rng.normal(size=(r, r)) @ parity_check(P, order)
        found, where = from_parity_check(H)
        assert found.shape == (k, r)
        G = generator(found, where)
        assert orthogonal(G, H)
        assert spans_the_same(generator(P, order), G)


def test_from_an_integer_parity_check_is_exact(rng):
    for k, r in SHAPES:
        H = parity_check(rng.integers(-9, 10, (k, r)))
        assert not (H @ generator(*from_parity_check(H)).T).any()


# rules and their messages


@pytest.mark.parametrize(
    ("P", "message"),
    [
        ([[1, 2], [3]], "P must be a rectangular matrix, got rows of different lengths"),
        ([[1, "x"]], "P must hold real numbers, got dtype"),
        ([[1j, 2]], "P must hold real numbers, got dtype complex"),
        ([[True, False]], "P must hold real numbers, got dtype bool"),
        ([[1.0, None]], "P must hold real numbers, got None among its entries"),
        (np.array([[Decimal(1), "x"]], object), "P must hold real numbers, got 'x' among its entries"),
        (np.array([[object()]]), "P must be a rectangular matrix of real numbers"),
        ([1, 2], r"P must have shape \(k, r\) or \(B, k, r\), got \(2,\)"),
        (np.ones((1, 1, 1, 1)), r"P must have shape .* got \(1, 1, 1, 1\)"),
        ([[]], "P must have k >= 1 rows and r >= 1 columns, got 1 x 0"),
        (np.ones((2, 0, 3)), "k >= 1 rows and r >= 1 columns, got 0 x 3"),
        ([[1, np.nan]], "P must be finite, got nan at row 0, column 1"),
        ([[[1, 1]], [[-np.inf, 1]]], "P must be finite, got -inf at row 0, column 0"),
        ([[1, 1e31]], r"P must have \|entries\| in .* got 1e\+31; scale the whole code or round the entry to 0"),
        ([[1, -1e-37]], r"P must have \|entries\| in .* got -1e-37"),
    ],
)
def test_P_rules(P, message):
    with pytest.raises(CodeError, match=message):
        check_P(P)


def test_P_too_long():
    with pytest.raises(CodeError, match=r"P is 33 x 32, a code of length n = k \+ r = 65; here n must be at most 64"):
        height_profile(np.ones((33, 32)))


def test_P_accepts_what_is_real():
    for same in ([[1, 2]], [[1.0, 2.0]], [[Fraction(1), Decimal(2)]], np.array([[1, 2]], np.uint8), ((1, 2),)):
        batch, single = check_P(same)
        assert batch.tolist() == [[[1.0, 2.0]]]
        assert single
    assert check_P([[2**80, 0]])[0].tolist() == [[[2.0**80, 0.0]]]
    assert not check_P(np.ones((1, 2, 3)))[1]


@pytest.mark.parametrize(
    ("m", "message"),
    [
        (0, "m must satisfy 1 <= m <= n - k = 3, got m = 0"),
        (4, "m must satisfy 1 <= m <= n - k = 3, got m = 4"),
        (-1, "got m = -1"),
        (1.0, "m must be an int or an array of ints, got 1.0"),
        (True, "m must be an int or an array of ints, got True"),
        ("2", "m must be an int or an array of ints, got '2'"),
        ([1.5, 2], r"m must be an int or an array of ints, got \[1.5, 2\]"),
        ([1, 2, 3], r"m must be one int or one per code \(2\), got shape \(3,\)"),
        ([[1], [2]], r"m must be one int or one per code \(2\), got shape \(2, 1\)"),
        ([1, 7], "m must satisfy 1 <= m <= n - k = 3, got m = 7"),
    ],
)
def test_m_rules(m, message):
    with pytest.raises(CodeError, match=message):
        check_m(m, 2, 3)


@pytest.mark.parametrize(
    ("n", "k", "m", "P", "message"),
    [
        (5.0, 2, 2, np.ones((2, 3)), "n must be an int, got 5.0"),
        (5, True, 2, np.ones((2, 3)), "k must be an int, got True"),
        (5, 2, "2", np.ones((2, 3)), "m must be an int, got '2'"),
        (5, 5, 2, np.ones((2, 3)), "k must satisfy 1 <= k < n = 5, got k = 5"),
        (5, 0, 2, np.ones((2, 3)), "k must satisfy 1 <= k < n = 5, got k = 0"),
        (20, 2, 2, np.ones((2, 18)), "n must be at most 16, got n = 20"),
        (5, 2, 2, np.ones((3, 2)), r"P must have shape \(k, n - k\) = \(2, 3\), got \(3, 2\)"),
        (5, 2, 2, np.ones((1, 2, 3)), r"P must have shape \(k, n - k\) = \(2, 3\), got \(1, 2, 3\)"),
        (5, 2, 4, np.ones((2, 3)), "m must satisfy 1 <= m <= n - k = 3, got m = 4"),
        (5, 2, 2, np.full((2, 3), np.nan), "P must be finite"),
    ],
)
def test_row_rules(n, k, m, P, message):
    with pytest.raises(CodeError, match=message):
        check_row(n, k, m, P, max_n=16)


def test_a_row_that_keeps_the_rules():
    P = check_row(np.int64(5), 2, np.uint8(3), [[1, 2, 3], [4, 5, 6]])
    assert P.dtype == np.float64
    assert P.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: systematic([[1, 2], [3, 4]]), "G must have fewer rows than columns, got 2 x 2"),
        (lambda: systematic([[1, 2, 3], [2, 4, 6]]), "G must have full rank 2, got rank 1; drop dependent rows"),
        (lambda: systematic([[0, 0, 0]]), "G must have full rank 1, got rank 0"),
        (lambda: systematic(np.ones((2, 2, 3))), r"G must be one matrix, got shape \(2, 2, 3\)"),
        (lambda: systematic([[1, np.inf, 0]]), "G must be finite, got inf"),
        (lambda: from_parity_check([[1, 2, 3], [2, 4, 6]]), "H must have full rank 2, got rank 1"),
        (lambda: from_parity_check(np.ones((3, 2))), "H must have fewer rows than columns, got 3 x 2"),
        (lambda: generator([[1, 2]], [0, 1, 1]), r"order must be a permutation of range\(3\), got \[0, 1, 1\]"),
        (lambda: parity_check([[1, 2]], [1, 2, 3]), r"order must be a permutation of range\(3\), got \[1, 2, 3\]"),
        (lambda: generator([[1, 2]], [0.0, 1.0, 2.0]), r"order must be .*0\.0, 1\.0, 2\.0"),
        (lambda: generator(np.ones((2, 1, 2))), r"P must be one matrix, got shape \(2, 1, 2\)"),
        (lambda: parity_check(np.ones((2, 1, 2))), r"P must be one matrix, got shape \(2, 1, 2\)"),
    ],
)
def test_other_rules(call, message):
    with pytest.raises(CodeError, match=message):
        call()


def test_errors_are_ours_and_value_errors():
    with pytest.raises(MHeightError):
        m_height([[1, 2]], 0)
    with pytest.raises(ValueError, match="m must satisfy"):
        m_height([[1, 2]], 0)


# symmetries


@pytest.mark.parametrize("kind", ["integer", "normal", "ternary"])
@pytest.mark.parametrize("off", [None, "permute", "signs", "resystematise"])
def test_equivalent_codes_share_distance_and_profile(kind, off, rng):
    flags = {} if off is None else {off: False}
    for k, r in SHAPES:
        P = rng.integers(-1, 2, (20, k, r)).astype(float) if kind == "ternary" else random_codes(kind, 20, k, r, rng)
        other = equivalent(P, rng, **flags)
        assert other.shape == P.shape
        assert np.array_equal(minimum_distance(other), minimum_distance(P))
        before, after = height_profile(P), height_profile(other)
        assert np.array_equal(np.isinf(before), np.isinf(after))
        finite = np.isfinite(before)
        np.testing.assert_allclose(after[finite], before[finite], rtol=1e-8)


def test_without_resystematising_entries_only_move_and_change_sign(rng):
    P = rng.normal(size=(50, 4, 5))
    moved = equivalent(P, rng, resystematise=False)
    assert not np.array_equal(moved, P)
    assert np.array_equal(np.sort(np.abs(moved).reshape(50, -1)), np.sort(np.abs(P).reshape(50, -1)))
    flipped = equivalent(P, rng, resystematise=False, permute=False)
    assert np.array_equal(np.abs(flipped), np.abs(P))
    # a sign for each row and column and nothing else: every 2 x 2 block keeps the sign of its product
    sign = np.sign(flipped / P)
    assert (sign[:, :1, :1] * sign[:, 1:, 1:] == sign[:, :1, 1:] * sign[:, 1:, :1]).all()
    still = equivalent(P, rng, resystematise=False, permute=False, signs=False)
    assert np.array_equal(still, P)


def test_equivalent_is_reproducible_and_leaves_its_input(rng):
    P = rng.normal(size=(7, 3, 4))
    kept = P.copy()
    one, two = (equivalent(P, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, two)
    assert np.array_equal(P, kept)
    assert equivalent(P[0], rng).shape == (3, 4)
    assert equivalent(P[:0], rng).shape == (0, 3, 4)


def test_equivalent_reaches_every_information_set():
    # [I | P] of an MDS code has C(4, 2) = 6 information sets, each with its own |P| up to permutation
    P = np.array([[1.0, 1.0], [1.0, 3.0]])
    found = equivalent(np.tile(P, (500, 1, 1)), np.random.default_rng(0))
    forms = {tuple(np.sort(np.abs(p).ravel()).round(9)) for p in found}
    minors = {tuple(np.sort(np.abs(p).ravel()).round(9)) for p in _all_systematic_forms(P)}
    assert forms == minors


def _all_systematic_forms(P):
    G = generator(P)
    for i in range(4):
        for j in range(i):
            rest = [q for q in range(4) if q not in (i, j)]
            yield np.linalg.solve(G[:, [j, i]], G[:, rest])


def test_messages_survive_numbers_too_long_to_print():
    from moe_mheight.errors import brief

    assert brief([[10**5000]]) == "a list of numbers too long to print"


@pytest.mark.parametrize("kind", [*ALL_KINDS, "scaled"])
def test_equivalent_codes_are_codes(kind, rng):
    """Of an equivalent of an equivalent, entries of 3e-49 were refused, and the whole batch with them."""
    for k, r in [(2, 3), (3, 3), (4, 5), (6, 3), (5, 5)]:
        P = random_codes("normal" if kind == "scaled" else kind, 100, k, r, rng)
        if kind == "scaled":
            P = P * 10.0 ** rng.uniform(-8, 8, (100, k, 1)) * 10.0 ** rng.uniform(-8, 8, (100, 1, r))
        for _ in range(5):
            P = equivalent(P, rng)
        checked, _ = check_P(P)
        assert np.array_equal(checked, P)
        assert len(orbit_ids(P)) == 100


def test_equivalent_keeps_what_is_too_badly_scaled_to_move(rng):
    P = np.tile([[1e29, 1e-29], [1e29, 1.0]], (50, 1, 1))
    assert np.abs(equivalent(P, rng)).max() <= 1e30


def test_one_list_in_many_places_is_counted_before_it_is_walked():
    """6.4e10 entries of 12,000 references."""
    row = [1] * 4000
    for matrices in ([[row] * 4000] * 4000, [[row] * 40_000, [row] * 4]):
        with pytest.raises(CodeError, match="must be an array where it has more than"):
            check_P(matrices)
    assert check_P([[[1, 2], [3, 4]]] * 3)[0].tolist() == [[[1, 2], [3, 4]]] * 3
