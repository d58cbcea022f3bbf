"""P, G and H given to the Python functions: one code, one answer, in the coordinates of the matrix given."""

from __future__ import annotations

import warnings
from fractions import Fraction

import brute
import numpy as np
import pytest

from moe_mheight import (
    CodeError,
    Predictor,
    bounds,
    certify,
    explain,
    from_parity_check,
    generator,
    height_profile,
    m_height,
    minimum_distance,
    parity_check,
    random_codes,
    systematic,
    witness,
)


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load()


@pytest.fixture
def code(rng):
    """P of integers, and a G and an H of the same code, in other bases and another order of coordinates."""
    P = rng.integers(-9, 10, (3, 5))
    order = rng.permutation(8)
    # of determinant 1, so that G and H stay integers
    change = np.triu(rng.integers(-2, 3, (3, 3)), 1) + np.eye(3)
    other = np.tril(rng.integers(-2, 3, (5, 5)), -1) + np.eye(5)
    return P, change @ generator(P, order), other @ parity_check(P, order)


@pytest.mark.slow
@pytest.mark.parametrize("as_type", [lambda M: M, lambda M: M.astype(int).tolist()])
def test_every_function_takes_every_matrix(code, predictor, as_type):
    P, *others = code
    truth = height_profile(P)
    for M, matrix in zip(others, "GH", strict=True):
        given = as_type(M)
        np.testing.assert_allclose(height_profile(given, matrix=matrix), truth, rtol=1e-14)
        assert minimum_distance(given, matrix=matrix) == minimum_distance(P)
        for m in range(1, 6):
            for method in ("bases", "search"):
                assert m_height(given, m, matrix=matrix, method=method) == pytest.approx(truth[m], rel=1e-12)
            lower, upper = bounds(given, m, matrix=matrix)
            assert lower <= truth[m] <= upper
            assert predictor.predict(given, m, matrix=matrix) == pytest.approx(truth[m], rel=1e-3)
            assert predictor.bounds(given, m, matrix=matrix)[0] <= truth[m]
            low, high = predictor.predict_interval(given, m, matrix=matrix, coverage=1.0)
            assert low <= truth[m] <= high
        assert len(predictor.measure([given], 2, matrix=matrix)) == 1
        assert explain(given, 2, matrix=matrix).height.value == pytest.approx(truth[2], rel=1e-12)
        made = certify(given, 2, matrix=matrix)
        assert float(Fraction(made["height"])) == pytest.approx(truth[2], rel=1e-15)


@pytest.mark.slow
def test_codewords_are_of_the_matrix_given(code):
    _, G, H = code
    for M, matrix in ((G, "G"), (H, "H")):
        for m in (1, 2, 3):
            words = [witness(M, m, matrix=matrix), m_height(M, m, matrix=matrix, details=True).witness]
            words.append(m_height(M, m, matrix=matrix, details=True, method="search").witness)
            words.append(explain(M, m, matrix=matrix).height.witness)
            for c in words:
                assert np.abs(H @ c).max() < 1e-9
        found = m_height(M, 3, matrix=matrix, details=True)
        assert set(found.outside) <= set(np.argsort(-np.abs(found.witness))[:3])


def test_a_generator_of_integers_is_made_systematic_exactly():
    """The issue's own case: 30.81 came back where the code's height is 55.78, for G was read as P."""
    G = [[3, 1, 4, 1, 5], [2, 7, 1, 8, 2]]  # P has denominators of 19
    truth = brute.profile(brute_P(G))
    np.testing.assert_allclose(height_profile(G, matrix="G"), [float(h) for h in truth], rtol=1e-15)
    assert m_height(G, 1, matrix="G", method="search") == pytest.approx(float(truth[1]), rel=1e-12)


def brute_P(G):
    """G_I^-1 G_J by Cramer's rule, for two rows."""
    (a, b), (c, d) = (row[:2] for row in G)
    det = a * d - b * c
    return [
        [Fraction(d * x - b * y, det) for x, y in zip(G[0][2:], G[1][2:], strict=True)],
        [Fraction(a * y - c * x, det) for x, y in zip(G[0][2:], G[1][2:], strict=True)],
    ]


def test_batches_of_generators(rng):
    P = rng.normal(size=(20, 3, 4))
    G = np.array([rng.normal(size=(3, 3)) @ generator(p) for p in P])
    np.testing.assert_allclose(height_profile(G, matrix="G"), height_profile(P), rtol=1e-8)
    assert witness(G, 2, matrix="G").shape == (20, 7)
    assert height_profile(G[:0], matrix="G").shape == (0, 5)


@pytest.mark.parametrize(
    ("M", "said"),
    [
        (np.hstack([np.eye(3), np.ones((3, 4))]), r"begins with a 3 x 3 identity block, as a generator does"),
        (np.hstack([np.ones((3, 4)), np.eye(3)]), r"ends with a 3 x 3 identity block, as a parity check does"),
        (np.vstack([np.eye(3), np.ones((4, 3))]), r"holds a 3 x 3 identity block: if it is a transposed G or H"),
        (np.ones((13, 3)), r"has 13 rows and 3 columns, a code of dimension 13: if it is transposed"),
    ],
)
def test_what_looks_like_another_matrix_is_remarked(M, said):
    for call in (height_profile, lambda M, **more: m_height(M, 1, **more), minimum_distance):
        with pytest.warns(UserWarning, match=said) as seen:
            call(M)
        assert seen[0].filename == __file__
        assert 'say matrix="P"' in str(seen[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(M, matrix="P")


def test_what_is_ordinary_is_not_remarked(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k, r in [(1, 4), (4, 1), (3, 3), (6, 2), (8, 2), (2, 9)]:
            height_profile(random_codes("integer", 1, k, r, rng)[0])
            height_profile(random_codes("integer", 50, k, r, rng))
        height_profile(np.eye(3))


@pytest.mark.parametrize(
    ("M", "matrix", "said"),
    [
        ([[1, 2]], "Q", r"matrix must be P, G or H, got 'Q'"),
        ([[1, 2]], 3, r"matrix must be P, G or H, got 3"),
        ([[1, 2, 3], [2, 4, 6]], "G", r"G must have rank k = 2 < n, got rank 1"),
        ([[0, 0, 0]], "H", r"H must have rank n - k with 1 <= k < n = 3, got rank 0"),
        (np.eye(3), "G", r"G must have rank k = 3 < n"),
        ([1, 2], "G", r"G must be one matrix or a batch of them, got shape \(2,\)"),
        (np.array([[0.5, 1.0], [0.5, 1.0]]), "G", r"G must have fewer rows than columns, got 2 x 2"),
        (systematic([[2.0, 0, 1], [0, 1, 1]]), "G", r"G is a pair \(P, order\)"),
        (from_parity_check([[2.0, 0, 1], [0, 1, 1]]), None, r"P is a pair \(P, order\)"),
    ],
)
def test_what_is_no_such_matrix_is_named(M, matrix, said):
    for call in (height_profile, minimum_distance, lambda M, **more: bounds(M, 1, **more)):
        with pytest.raises(CodeError, match=said):
            call(M, matrix=matrix)


def test_rows_hold_P(predictor):
    with pytest.raises(CodeError, match=r"rows \[n, k, m, P\] hold P, and matrix is 'G'"):
        predictor.predict([[4, 2, 2, [[1, 1], [1, 2]]]], matrix="G")
