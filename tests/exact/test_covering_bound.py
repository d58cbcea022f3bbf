"""What a covering proves, by brute force over all sets, and what pivots have made of its tables."""

from itertools import combinations

import numpy as np
import pytest
from exact_residuals import in_coordinates_of, residual_share, with_its_own_error

from moe_mheight.exact import covering_bound, covering_tables
from moe_mheight.exact.covering_bound import Covering
from moe_mheight.exact.covering_tables import new_tables
from moe_mheight.exact.start_table import start_of
from moe_mheight.numerics.jit import LANES


def generator(P):
    return np.ascontiguousarray(np.hstack([np.eye(len(P)), P]))


def norms_of(G):
    """|G_B^-1 g_a|_1 by basis (a mask), inf where that is none."""
    k, n = G.shape
    out = {}
    for B in combinations(range(n), k):
        norms = np.full(n, np.inf)
        if abs(np.linalg.det(G[:, B])) > 1e-12:
            norms = np.abs(np.linalg.solve(G[:, B], G)).sum(0)
        out[sum(1 << j for j in B)] = norms
    return out


def unbounded(G, m, tau):
    """(A, a) such that no basis that keeps clear of A bounds a by tau."""
    n, norms = G.shape[1], norms_of(G)
    out = set()
    for A in combinations(range(n), m):
        left = sum(1 << j for j in A)
        for a in A:
            if min(norm[a] for B, norm in norms.items() if not B & left) > tau:
                out.add((left, a))
    return out


def pairs_left(G, m, tau):
    cover, stop = Covering(G, m), np.zeros(1, np.int64)
    jobs = [job for split in cover.splits for job in cover.jobs(split)]
    return [pair for job in jobs for pair in cover.follow(job, tau, stop)]


@pytest.mark.parametrize(
    ("n", "k", "m"), [(10, 5, 4), (10, 5, 3), (9, 4, 4), (10, 6, 3), (9, 3, 6), (8, 4, 4), (7, 2, 3)]
)
@pytest.mark.parametrize("kind", ["normal", "ternary", "near"])
def test_what_is_not_left_is_bounded(n, k, m, kind, rng):
    P = rng.normal(size=(k, n - k))
    if kind == "ternary":
        P = rng.integers(-1, 2, (k, n - k)).astype(float)
    if kind == "near":
        P[:, 0] = P[:, 1] + 1e-6 * rng.normal(size=k)
    G = generator(P)
    for tau in (1.5, 4.0, 20.0, 1e3):
        left = pairs_left(G, m, tau)
        for A, a in unbounded(G, m, tau * (1 + 1e-9)):
            assert any(at == a and not basis & A for _, basis, at in left)
    if kind == "normal":
        assert len(pairs_left(G, m, 1e9)) == 0 < len(pairs_left(G, m, 1.01))


@pytest.mark.parametrize(("n", "k", "m"), [(10, 5, 3), (9, 4, 4), (9, 3, 5), (9, 3, 3)])
def test_what_is_left_has_a_bound(n, k, m, rng):
    """For every set of the split that keeps the basis and leaves a out, some basis has a |y|_1 no larger."""
    P = rng.normal(size=(k, n - k))
    P[:, 0] = P[:, 1] + 1e-3 * rng.normal(size=k)
    G, stop, finite = generator(P), np.zeros(1, np.int64), 0
    norms, cover = norms_of(G), Covering(G, m)
    for split in cover.splits:
        for bound, basis, a in (pair for job in cover.jobs(split) for pair in cover.follow(job, 1.2, stop)):
            assert bound > 1.2
            others = [j for j in range(n) if not basis >> j & 1 and j != a]
            for rest in combinations(others, m - 1):
                A = (a, *rest)
                if sum(j < n // 2 for j in A) == split.t1:
                    left = sum(1 << j for j in A)
                    assert min(norm[a] for B, norm in norms.items() if not B & left) <= bound * (1 + 1e-9)
            finite += bound < np.inf
    assert finite > 20


def test_one_exchange_mends_most(rng, monkeypatch):
    """Without the bases B - i + c more is left."""
    G = generator(rng.normal(size=(6, 6)))
    with_them = pairs_left(G, 4, 12.0)
    monkeypatch.setattr(covering_bound, "_mended", lambda *_: np.inf)
    monkeypatch.setattr(covering_bound, "_check", covering_bound._check.py_func)
    monkeypatch.setattr(covering_bound, "follow", covering_bound.follow.py_func)
    without = pairs_left(G, 4, 12.0)
    assert {pair[1:] for pair in with_them} < {pair[1:] for pair in without}


def tables_are_right(tables, G, lanes):
    n = G.shape[1]
    for lane in range(lanes):
        rows, columns = tables.rows[:, lane], tables.columns[:, lane]
        assert sorted([*rows, *columns]) == list(range(n))
        T = np.linalg.solve(G[:, rows], G[:, columns])
        np.testing.assert_allclose(tables.entries[:, :, lane].T, T, atol=1e-10 * np.abs(T).max())
        np.testing.assert_allclose(tables.total[:, lane], np.abs(T).sum(0), rtol=1e-9)


def test_tables_follow_the_blocks(rng):
    G = generator(rng.normal(size=(6, 7)))
    start, cover = start_of(G), Covering(G, 5)
    job = max((job for split in cover.splits for job in cover.jobs(split)), key=lambda job: len(job.shared))
    tables = new_tables(6, 7)
    covering_tables.seat(start, job, job.shared[0], tables)
    covering_tables.largest_columns(tables.total, tables.largest)
    tables_are_right(tables, G, LANES)
    for before, wanted in zip(job.shared, job.shared[1:], strict=False):
        assert covering_tables.go_to(tables, before, wanted, start.unit)
        tables_are_right(tables, G, job.lanes)
    assert (tables.off < 1e-8).all()
    for j in range(13):
        if not job.half >> j & 1:
            inside = bool(job.shared[-1] >> j & 1)
            places = tables.rows if inside else tables.columns
            assert (places[tables.at[j]] == j).all()


def test_off_bounds_what_rounding_does(rng):
    """After many pivots, y of a table leaves a residual of at most off (1 + |y|_1), in fractions; and hardly less."""
    P = rng.normal(size=(5, 6))
    P[:, 0] = P[:, 1] + 1e-5 * rng.normal(size=5)
    G = generator(P)
    start, cover, shares = start_of(G), Covering(G, 4), []
    A = in_coordinates_of(G, start.basis)
    start = with_its_own_error(start, A)
    for split in cover.splits:
        job, tables = cover.jobs(split)[0], new_tables(5, 6)
        covering_tables.seat(start, job, job.shared[0], tables)
        covering_tables.largest_columns(tables.total, tables.largest)
        for before, wanted in zip(job.shared, job.shared[1:], strict=False):
            assert covering_tables.go_to(tables, before, wanted, start.unit)
        for lane in range(min(4, job.lanes)):
            for c in range(6):
                share = residual_share(A, tables.rows[:, lane], tables.columns[c, lane], tables.entries[c, :, lane])
                assert share <= tables.off[lane]
                shares.append(float(share) / tables.off[lane])
    assert len(shares) > 50
    assert max(shares) > 1e-4


def test_stops_and_overflows(rng, monkeypatch):
    G = generator(rng.normal(size=(4, 5)))
    cover = Covering(G, 4)
    job = cover.jobs(cover.splits[2])[0]
    assert cover.follow(job, 2.0, np.ones(1, np.int64)) is None
    monkeypatch.setattr(covering_bound, "ROOM", 2)
    assert cover.follow(job, 1.0, np.zeros(1, np.int64)) is None
