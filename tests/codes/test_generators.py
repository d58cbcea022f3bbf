"""Random codes of every kind: admitted, repeatable, bracketed, and what each kind says it is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from click.testing import CliRunner

from moe_mheight import CodeError, generator, height_profile, m_height, minimum_distance, random_codes, systematic
from moe_mheight.brackets.bounds import brackets
from moe_mheight.codes import generators as kinds
from moe_mheight.codes.generators import ALL_KINDS, SCALES, STRUCTURED, harmonics, systematise
from moe_mheight.codes.linear import RANK_TOLERANCE, check_P

SHORT = [(k, n - k) for n in range(2, 13) for k in range(1, n)]
LONG = [(k, n - k) for n in (16, 24, 32) for k in sorted({1, 2, n // 2, n - 2, n - 1})]


def generators(P):
    """[I | P] of a batch."""
    count, k, _ = P.shape
    return np.concatenate([np.broadcast_to(np.eye(k), (count, k, k)), P], axis=2)


# all kinds


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_shape_is_admitted(kind, rng):
    for k, r in [*SHORT, *LONG]:
        P = random_codes(kind, 20, k, r, rng)
        assert P.shape == (20, k, r)
        assert P.dtype == np.float64
        assert np.array_equal(check_P(P)[0], P)
        assert random_codes(kind, 0, k, r, rng).shape == (0, k, r)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_random_codes_repeat_with_their_seed(kind):
    one, two, other = (random_codes(kind, 30, 3, 4, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    # few of a batch, if any, are alike
    assert len(np.unique(one, axis=0)) > 25


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k", "m"), [(9, 5, 2), (9, 4, 3), (12, 6, 3)])
@pytest.mark.parametrize("kind", STRUCTURED)
def test_brackets_hold(kind, n, k, m, rng):
    P = random_codes(kind, 500, k, n - k, rng)
    h = m_height(P, m)
    found = brackets(P, m)
    assert np.array_equal(np.isinf(found.lower), np.isinf(h))
    assert np.array_equal(np.isinf(h), minimum_distance(P) <= m)
    # 2e-15: the exact solver's own rounding, as in test_exact
    assert (found.lower <= h * (1 + 2e-15)).all()
    assert (found.upper >= h * (1 - 2e-15)).all()


def test_unknown_kind():
    with pytest.raises(CodeError, match=f"kind must be one of {', '.join(ALL_KINDS)}, got 'gauss'"):
        random_codes("gauss", 1, 2, 2, np.random.default_rng(0))


def test_the_command_knows_all_kinds(tmp_path):
    from moe_mheight.cli import generate

    option = next(parameter for parameter in generate.command.params if parameter.name == "kind")
    assert tuple(option.type.choices) == ALL_KINDS
    assert option.default == "scaled-integer"
    out = tmp_path / "codes.npz"
    for kind in STRUCTURED:
        arguments = [str(out), "--rows", "20", "--groups", "9,4,2", "--force", "--quiet", "--kind", kind]
        assert CliRunner().invoke(generate.command, arguments).exit_code == 0


def test_what_cannot_be_admitted_is_drawn_again(monkeypatch, rng):
    drawn = []

    def often_degenerate(count, k, r, rng):
        drawn.append(count)
        P = rng.normal(size=(count, k, r))
        P[:, 0, 0] *= rng.choice([1.0, np.nan, np.inf, 1e-37, 1e31], count)
        return P

    monkeypatch.setattr(kinds, "_spherical", often_degenerate)
    check_P(random_codes("spherical", 500, 2, 3, rng))
    assert drawn[0] == 500
    assert 350 < drawn[1] < 450


# each kind


def test_kinds_of_independent_entries(rng):
    integer = random_codes("integer", 4000, 2, 3, rng, scale=7)
    assert integer.shape == (4000, 2, 3)
    assert integer.dtype == np.float64
    assert np.array_equal(np.unique(integer), np.arange(-7, 8))
    assert abs(random_codes("integer", 10, 2, 2, rng)).max() > 7

    scaled = random_codes("scaled-integer", 8000, 3, 3, rng)
    assert np.array_equal(scaled, np.rint(scaled))
    largest = np.abs(scaled).max(axis=(1, 2))
    assert largest.max() == max(SCALES)
    assert (largest <= 1).mean() == pytest.approx(1 / len(SCALES), rel=0.2)  # eight thousand draws: 4 % is one sigma
    assert not np.isin(101, np.abs(scaled))

    uniform = random_codes("uniform", 4000, 2, 2, rng)
    assert 0.999 < np.abs(uniform).max() <= 1
    assert abs(uniform.mean()) < 0.03

    normal = random_codes("normal", 4000, 2, 2, rng)
    assert abs(normal.mean()) < 0.05
    assert normal.std() == pytest.approx(1, abs=0.05)


def least_singular_values(P):
    """Over all sets of k columns of [I | P], scaled to length 1."""
    G = generators(P)
    G = G / np.maximum(np.linalg.norm(G, axis=1, keepdims=True), 1e-300)
    k = P.shape[1]
    sets = [np.linalg.svd(G[:, :, list(B)], compute_uv=False)[:, -1] for B in combinations(range(G.shape[2]), k)]
    return np.min(sets, axis=0)


@pytest.mark.slow
@pytest.mark.parametrize(("k", "r"), [(2, 3), (4, 3), (4, 5), (5, 4), (6, 2)])
def test_near_singular_columns_nearly_are(k, r, rng):
    P = random_codes("near-singular", 1000, k, r, rng)
    least = least_singular_values(P)
    # two eps in five are below 1e-4; one set in ten thousand comes as close by chance
    assert (least < 1e-4).mean() > 0.4
    assert (least_singular_values(random_codes("normal", 1000, k, r, rng)) < 1e-4).mean() < 0.1
    # never singular: eps >= 1e-6, and rounding leaves 1e-16
    assert least.min() > 1e-12
    h = height_profile(P)
    assert np.isfinite(h).mean() > 0.999
    assert np.median(h[:, r]) > 10 * np.median(height_profile(random_codes("normal", 1000, k, r, rng))[:, r])


def test_near_singularities_reach_every_m(rng):
    """From 2 to n - 1 columns near a hyperplane make large heights at slacks above 0 too."""
    ours, plain = (height_profile(random_codes(kind, 4000, 4, 5, rng)) for kind in ("near-singular", "normal"))
    for m in range(1, 6):
        assert (ours[:, m] > 1e3).mean() > 0.03 + 2 * (plain[:, m] > 1e3).mean()


def test_near_singular_codes_of_one_row_have_a_near_zero_column(rng):
    P = np.abs(random_codes("near-singular", 3000, 1, 3, rng)[:, 0])
    # heights of [1 | P] are ratios of entries
    entries = np.sort(np.hstack([np.ones((3000, 1)), P]), axis=1)
    ratio = entries[:, 0] / entries[:, -1]
    assert np.median(ratio) < 3e-3
    assert ratio.min() > 1e-11


def test_near_singular_eps_is_log_uniform(rng):
    """At k = r = 1 the code is [1 | eps normal], or the same turned round."""
    P = np.abs(random_codes("near-singular", 20_000, 1, 1, rng))
    eps = np.log10(np.minimum(P, 1 / P))
    # log10 |normal| has mean -0.276 and variance 0.233, a uniform on [-6, -1] mean -3.5 and variance 25 / 12
    assert eps.mean() == pytest.approx(-3.776, abs=0.05)
    assert eps.std() == pytest.approx(np.sqrt(25 / 12 + 0.233), abs=0.05)


def test_without_noise_columns_are_in_a_span(rng):
    for k, r in [(2, 2), (3, 5), (4, 3), (5, 4)]:
        P = rng.normal(size=(500, k, r))
        made = kinds._with_columns_near_a_span(P, np.zeros_like(P), rng)
        assert least_singular_values(made).max() < 1e-12
        replaced = (made != P).any(axis=1).sum(axis=1)
        assert set(replaced) == set(range(1, r + 1))
        noise = 1e-9 * rng.normal(size=P.shape)
        near, on = (kinds._with_columns_near_a_span(P, x, np.random.default_rng(1)) for x in (noise, 0 * noise))
        np.testing.assert_allclose(near - on, noise * (on != P), atol=1e-14)


def test_without_noise_rows_are_multiples(rng):
    for k, r in [(2, 2), (3, 5), (4, 3), (5, 4)]:
        P = rng.normal(size=(200, k, r))
        sizes = set()
        for before, after in zip(P, kinds._with_rows_near_multiples(P, np.zeros_like(P), rng), strict=True):
            (row,) = np.flatnonzero((before != after).any(axis=1))
            where = before[row] != after[row]
            ratio = after[row, where] / np.delete(after, row, axis=0)[:, where]
            assert np.ptp(ratio, axis=1).min() < 1e-12 * np.abs(ratio).max()
            sizes.add(int(where.sum()))
        assert sizes == set(range(2, r + 1))


def test_small_integers(rng):
    P = random_codes("small-integer", 5000, 4, 5, rng)
    assert np.array_equal(P, np.rint(P))
    assert set(P.flat) == set(range(-5, 6))
    # twenty entries nearly always hold their s
    largest = np.abs(P).max(axis=(1, 2))
    np.testing.assert_allclose([(largest == s).mean() for s in range(1, 6)], 0.2, atol=0.03)
    # at s = 1 uniform on -1, 0, 1
    assert (P[largest == 1] == 0).mean() == pytest.approx(1 / 3, abs=0.02)
    assert P[largest == 5].mean() == pytest.approx(0, abs=0.1)


def test_harmonics_are_orthogonal_at_equally_spaced_points(rng):
    for k, r in SHORT:
        n = k + r
        even = np.broadcast_to(2 * np.pi * np.arange(n) / n, (20, n))
        G = harmonics(even, k, rng)
        np.testing.assert_allclose(G @ G.transpose(0, 2, 1), np.broadcast_to(n / 2 * np.eye(k), (20, k, k)), atol=1e-12)


def test_harmonics_are_sampled_cosines(rng):
    """The three rows at n = 3 are all of 1, cos and sin: at any points, each is in their span."""
    points = rng.uniform(0, 2 * np.pi, (50, 3))
    points[:, 2] = points[:, 0] + 2 * np.pi  # a period later the same value
    G = harmonics(points, 2, rng)
    np.testing.assert_allclose(G[:, :, 2], G[:, :, 0], atol=1e-12)
    assert (np.abs(G[:, :, 1] - G[:, :, 0]).max(axis=1) > 0).all()


def test_fourier_codes_of_three_samples(rng):
    """A cosine at three equally spaced points sums to zero: for two rows in three, at such points half of the time."""
    P = random_codes("fourier", 6000, 1, 2, rng)[:, 0]
    signed = np.abs([1 + P @ signs for signs in ([1, 1], [1, -1], [-1, 1], [-1, -1])]).min(axis=0)
    assert (signed < 1e-12).mean() == pytest.approx(1 / 3, abs=0.03)
    assert (np.abs(np.abs(P) - 1).max(axis=1) < 1e-12).mean() == pytest.approx(1 / 3, abs=0.03)


def test_vandermonde_codes_hold_the_polynomials(rng):
    P = random_codes("vandermonde", 300, 3, 5, rng)
    # 1 is one: Lagrange's polynomials sum to it
    np.testing.assert_allclose(P.sum(axis=1), 1.0, rtol=1e-9)
    # and x and x^2 are others: with the first two nodes at 0 and 1 and the third at z, each column gives
    # (P1 + z P2)^2 = P1 + z^2 P2, so all these quadratics have a root in common
    for own in P:
        roots = [np.roots([c * (c - 1), 2 * b * c, b * (b - 1)]) for _, b, c in own.T]
        apart = [max(np.abs(others - z).min() / (1 + abs(z)) for others in roots) for z in roots[0]]
        assert min(apart) < 1e-6


@pytest.mark.slow
def test_vandermonde_codes_are_maximum_distance_separable(rng):
    for k, r in [*SHORT, (8, 8)]:
        P = random_codes("vandermonde", 100, k, r, rng)
        assert (minimum_distance(P) == r + 1).all()
        assert np.isfinite(height_profile(P)).all()
    spread = np.abs(random_codes("vandermonde", 100, 16, 16, rng))
    assert spread.max() < 1e6  # the information set lies among the other nodes: no far extrapolation


def unit_length_misfit(P):
    """How far any basis is from making all columns of [I | P] unit vectors: |least squares residual| for A = M^T M."""
    misfit, definite = [], []
    for own in P:
        G = generator(own)
        k = len(G)
        i, j = np.triu_indices(k)
        system = G[i] * G[j] * np.where(i == j, 1.0, 2.0)[:, None]
        # columns of any length count alike
        weight = 1 / np.sum(G**2, axis=0)
        entries = np.linalg.lstsq((system * weight).T, weight, rcond=None)[0]
        A = np.zeros((k, k))
        A[i, j] = A[j, i] = entries
        misfit.append(np.abs((system.T @ entries - 1) * weight).max())
        definite.append(np.linalg.eigvalsh(A)[0] > 0)
    return np.array(misfit), np.array(definite)


@pytest.mark.parametrize(("k", "r"), [(2, 4), (3, 6), (4, 8)])
def test_spherical_columns_have_one_length_in_some_basis(k, r, rng):
    misfit, definite = unit_length_misfit(random_codes("spherical", 200, k, r, rng))
    assert misfit.max() < 1e-10
    assert definite.all()
    assert np.median(unit_length_misfit(random_codes("normal", 200, k, r, rng))[0]) > 1e-3


def test_spherical_columns_are_uniform(rng):
    """Three random lines in the plane cut the half circle as two points cut an interval: means 1/9, 5/18, 11/18."""
    P = random_codes("spherical", 20_000, 2, 1, rng)
    # the minors of pairs are, up to a factor, sines of the angles between lines, which sum to pi: so a triangle's sides
    a, b, c = np.abs(np.stack([np.ones(len(P)), P[:, 0, 0], P[:, 1, 0]]))
    cosines = [(y**2 + z**2 - x**2) / (2 * y * z) for x, y, z in [(a, b, c), (b, c, a), (c, a, b)]]
    angles = np.sort(np.arccos(np.clip(cosines, -1, 1)), axis=0) / np.pi
    np.testing.assert_allclose(angles.mean(axis=1), [1 / 9, 5 / 18, 11 / 18], atol=0.004)


def parallel_classes(G):
    """Number of directions among the columns of G that are not zero, up to rounding."""
    length = np.linalg.norm(G, axis=0)
    unit = (G / np.maximum(length, 1e-300))[:, length > 0]
    parallel = np.abs(unit.T @ unit) > 1 - 1e-12
    return len(np.unique(parallel.argmax(axis=0)))


def test_repeated_columns(rng):
    for k, r in [(2, 1), (2, 2), (3, 2), (4, 5), (5, 4), (6, 3)]:
        P = random_codes("repeated", 300, k, r, rng)
        copies = np.array([k + r - parallel_classes(generator(own)) for own in P])
        assert copies.min() >= 1
        if k >= 4:  # for fewer rows integers are parallel by chance
            assert set(copies) == set(range(1, min(3, r) + 1))
        # a codeword with k - 1 zeros has another one in the copy
        assert np.isinf(height_profile(P)[:, r]).all()
    plain = random_codes("normal", 300, 4, 5, rng)
    assert all(parallel_classes(generator(own)) == 9 for own in plain)


def test_repeated_columns_come_in_all_forms(rng):
    """Up to sign and up to scale; beside an identity column, and not."""
    P = random_codes("repeated", 2000, 4, 5, rng)
    G = generators(P)
    zeros = (G[:, :, 4:] == 0).sum(axis=1) == 3
    assert 0.2 < zeros.any(axis=1).mean() < 0.9
    scale = np.abs(P.sum(axis=1))[zeros]
    assert 0.3 < (scale == 1).mean() < 0.8
    # half are of integers, half of those have copies up to sign only, and half of those are as they were made
    assert (np.rint(P) == P).all(axis=(1, 2)).mean() == pytest.approx(1 / 8, abs=0.03)


def equal_columns(P):
    """Which codes have an orthonormal basis whose columns are all of one length, to 1e-11."""
    rows = np.linalg.qr(generators(P).transpose(0, 2, 1))[0]
    squares = np.sum(rows**2, axis=2)
    return np.abs(squares - squares.mean(axis=1, keepdims=True)).max(axis=1) < 1e-11


@pytest.mark.parametrize(("k", "r"), [(2, 3), (3, 3), (4, 5), (6, 2), (10, 12), (30, 34)])
def test_half_of_tight_frames_have_columns_of_one_length(k, r, rng):
    assert equal_columns(random_codes("tight-frame", 400, k, r, rng)).mean() == pytest.approx(0.5, abs=0.1)
    assert not equal_columns(random_codes("normal", 100, k, r, rng)).any()


@pytest.mark.parametrize(("k", "n"), [(1, 2), (1, 7), (2, 4), (3, 4), (4, 9), (11, 12), (32, 64), (63, 64)])
def test_rotations_make_columns_of_one_length_and_leave_rows_orthonormal(k, n, rng):
    G = np.linalg.qr(rng.normal(size=(50, n, k)))[0].transpose(0, 2, 1)
    for start in (G, np.broadcast_to(np.eye(k, n), (3, k, n))):  # the second has columns of length 0, and ties
        found = kinds._with_equal_columns(start)
        np.testing.assert_allclose(np.sum(found**2, axis=1), k / n, rtol=1e-13)
        np.testing.assert_allclose(found @ found.transpose(0, 2, 1) - np.eye(k), 0.0, atol=1e-14)


def test_the_other_half_are_uniform_subspaces(rng):
    """Of a uniform plane in three dimensions the normal is uniform on the sphere, so each coordinate on [-1, 1]."""
    P = random_codes("tight-frame", 8000, 2, 1, rng)
    P = P[~equal_columns(P)]
    normal = np.concatenate([P[:, :, 0], -np.ones((len(P), 1))], axis=1)  # orthogonal to the rows of [I | P]
    coordinate = np.abs(normal / np.linalg.norm(normal, axis=1, keepdims=True))
    # permuted by the systematic form, which prefers large pivots: so all three together
    np.testing.assert_allclose(np.quantile(coordinate, [0.1, 0.3, 0.5, 0.7, 0.9]), [0.1, 0.3, 0.5, 0.7, 0.9], atol=0.02)


def test_other_kinds_keep_their_streams():
    """Random streams of held-out codes are numbered by place: new kinds come last."""
    before = "integer scaled-integer uniform normal near-singular small-integer fourier vandermonde spherical repeated"
    assert ALL_KINDS[:10] == tuple(before.split())


# systematic forms of a batch


@pytest.mark.parametrize(("k", "n"), [(1, 4), (2, 5), (3, 6), (4, 9), (5, 9), (6, 8)])
def test_systematise_keeps_the_code(k, n, rng):
    G = rng.normal(size=(30, k, n)) * 10.0 ** rng.integers(-3, 4, (30, k, 1))
    P = systematise(G, rng)
    for own, found in zip(G, P, strict=True):
        np.testing.assert_allclose(height_profile(found), height_profile(systematic(own)[0]), rtol=1e-7)
    # a code has many forms, all well conditioned
    forms = np.abs(systematise(np.broadcast_to(G[0], (300, k, n)), rng))
    assert len({tuple(np.sort(own.ravel()).round(6)) for own in forms}) > 1
    assert forms.max() < 50
    assert systematise(G[:0], rng).shape == (0, k, n - k)


def test_systematise_says_what_has_no_full_rank(rng):
    G = rng.normal(size=(40, 4, 7))
    G[0, 2] = G[0, 1] - 3 * G[0, 3]
    G[1, 3] = 0
    G[2, :, 1:] = G[2, :, :1]
    G[3, 0] = (1 + 1e-3 * RANK_TOLERANCE) * G[3, 1]
    P = systematise(G, rng)
    assert np.isnan(P[:4]).all()
    assert np.isfinite(P[4:]).all()
