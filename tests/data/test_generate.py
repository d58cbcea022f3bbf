"""Generated codes and their labels, orbits and splits without leaks, and audits that find what was planted."""

from __future__ import annotations

import warnings
from itertools import combinations, permutations, product
from math import inf, nan

import brute
import numpy as np
import pytest

from moe_mheight import CodeError, DataError, equivalent, m_height, random_codes
from moe_mheight.codes.generators import KINDS, SCALES
from moe_mheight.data import generate as datasets
from moe_mheight.data.code_files import Codes, count, take
from moe_mheight.data.generate import (
    expected_seconds,
    generate,
    generate_set,
    orbit_ids,
    parse_groups,
    shuffled,
    split,
)
from moe_mheight.data.labelling import audit, exact_heights
from moe_mheight.data.sources import open_codes
from moe_mheight.exact import cost_model, heights

GROUPS = ((5, 2, 2), (6, 3, 3), (7, 3, 1))


def same(one, two):
    return one.keys() == two.keys() and all(
        np.array_equal(getattr(one[g], part), getattr(two[g], part)) for g in one for part in ("P", "row", "h")
    )


# generate


@pytest.mark.parametrize("kind", KINDS)
def test_generate(kind):
    told = []
    data = dict(generate(GROUPS, 150, kind, 3, scale=7, advance=told.append))
    assert tuple(data) == GROUPS
    assert sum(told) == count(data) == 450
    assert np.concatenate([codes.row for codes in data.values()]).tolist() == list(range(450))
    for (n, k, m), codes in data.items():
        assert codes.P.shape == (150, k, n - k)
        assert np.isfinite(codes.h).all()
        for P, h in list(zip(codes.P, codes.h, strict=True))[:5]:
            assert brute.error(h, brute.profile(P.tolist())[m]) < 1e-12
        largest = np.abs(codes.P).max(axis=(1, 2))
        if kind == "integer":
            zero = {0} if m < n - k else set()  # an MDS code has none
            assert set(codes.P.flat) == set(range(-7, 8)) - {0} | zero
        elif kind == "scaled-integer":
            assert np.array_equal(codes.P, np.rint(codes.P))
            assert largest.max() <= max(SCALES)
            # every matrix has a scale of its own, so small ones are as frequent as large ones
            assert 0.1 < (largest <= 10).mean() < 0.6
        elif kind == "uniform":
            assert 0.9 < largest.max() <= 1.0
        else:
            assert 0.9 < codes.P.std() < 1.1


def test_generate_again_is_the_same():
    first = dict(generate(GROUPS, 100, "scaled-integer", 5, threads=1))
    assert same(dict(generate(GROUPS, 100, "scaled-integer", 5, threads=3)), first)
    # a group on its own, or in other company, is what it was
    for group in GROUPS:
        alone = dict(generate((group,), 100, "scaled-integer", 5))[group]
        assert np.array_equal(alone.P, first[group].P)
        assert np.array_equal(alone.h, first[group].h)
    for seed in (4, 6):
        assert not (dict(generate(GROUPS, 100, "scaled-integer", seed))[GROUPS[0]].P == first[GROUPS[0]].P).all()


def test_infinite_heights_are_kept_only_on_request():
    """Nine in ten 0/+-1 matrices of this shape have one."""
    group = (4, 2, 2)
    kept = dict(generate((group,), 400, "integer", 0, scale=1, infinite=True))[group]
    dropped = dict(generate((group,), 400, "integer", 0, scale=1))[group]
    truth = [brute.profile(P.tolist())[2] for P in kept.P]
    assert 300 < sum(h == inf for h in truth) < 400
    assert max(map(brute.error, kept.h, truth)) < 1e-12
    assert np.isfinite(dropped.h).all()
    # those dropped are drawn again: the finite ones come first, in the same order
    finite = np.isfinite(kept.h)
    assert np.array_equal(dropped.P[: finite.sum()], kept.P[finite])


def test_generate_refuses():
    with pytest.raises(CodeError, match="kind must be one of integer"):
        list(generate(GROUPS, 10, "ternary", 0))
    # two rows of three signs are parallel in two places at least
    with pytest.raises(DataError, match=r"\(5,2,3\).*finite height"):
        list(generate(((5, 2, 3),), 60_000, "integer", 0, scale=1))


# codes longer than n = 16


def labels_of(group, rows, kind="normal", seed=4, **options):
    return dict(generate((group,), rows, kind, seed, **options))[group]


@pytest.mark.parametrize("group", [(18, 9, 9), (20, 10, 3), (24, 4, 2)])
def test_long_codes_are_labelled_exactly(group, monkeypatch):
    """One label after the other or many at a time, by one thread or more: as `m_height` of each, by either method."""
    told = []
    codes = labels_of(group, 12, threads=1, advance=told.append)
    assert told == [0, 12]
    for method in ("search", "bases") if group[0] <= 20 else ("search",):
        for P, h in list(zip(codes.P, codes.h, strict=True))[:4]:
            assert m_height(P, group[2], method=method) == pytest.approx(h, rel=1e-12)
    monkeypatch.setattr(datasets, "PIECE_SECONDS", 0.0)
    again = labels_of(group, 12, threads=2, advance=told.append)
    assert told == [0, 12, 0] + [1] * 12
    assert np.array_equal(again.P, codes.P)
    assert np.array_equal(again.h, codes.h)


def rank_of(columns, prime=2**31 - 1):
    """Rank of small integers modulo a prime, Python's integers: the rank itself but for one chance in a thousand
    million."""
    A, rank = [[int(x) % prime for x in row] for row in columns], 0
    for j in range(len(A[0])):
        pivot = next((i for i in range(rank, len(A)) if A[i][j]), None)
        if pivot is None:
            continue
        A[rank], A[pivot] = A[pivot], A[rank]
        inverse = pow(A[rank][j], -1, prime)
        for i in range(rank + 1, len(A)):
            factor = A[i][j] * inverse % prime
            A[i] = [(x - factor * y) % prime for x, y in zip(A[i], A[rank], strict=True)]
        rank += 1
    return rank


def test_infinite_heights_of_long_codes_are_told_by_ranks():
    """h_m is infinite exactly when all but some m columns do not span; such codes are drawn again."""
    group = (18, 12, 2)
    kept = labels_of(group, 14, "integer", scale=1, infinite=True)
    for P, h in zip(kept.P, kept.h, strict=True):
        G = np.hstack([np.eye(12), P])
        spans = all(rank_of(np.delete(G, left_out, axis=1)) == 12 for left_out in combinations(range(18), 2))
        assert np.isfinite(h) == spans
    finite = np.isfinite(kept.h)
    assert 2 < finite.sum() < 14
    dropped = labels_of(group, 14, "integer", scale=1)
    assert np.isfinite(dropped.h).all()
    assert np.array_equal(dropped.P[: finite.sum()], kept.P[finite])


def test_long_codes_that_are_all_infinite_are_refused(monkeypatch):
    monkeypatch.setattr(datasets, "m_height", lambda P, m, **options: np.full(len(P), inf))
    with pytest.raises(DataError, match=r"\(24,12,12\).*finite height"):
        labels_of((24, 12, 12), 5, "repeated")


def test_a_set_of_long_codes_goes_on(tmp_path):
    """With the labels of a file, and the same bytes, whatever is missing."""
    group, path = (20, 10, 2), tmp_path / "set"

    def make(rows):
        generate_set(path, (group,), rows, "small-integer", 7, shard_rows=3)
        return {each.name: each.read_bytes() for each in path.glob("*.npz")}

    whole = make(8)
    assert sorted(whole) == [f"20_10_2-0000{i}.npz" for i in range(3)]
    (path / "20_10_2-00001.npz").unlink()
    assert make(8) == whole
    first = next(open_codes([path]).pieces())[group]
    alone = labels_of(group, 3, "small-integer", 7)
    assert np.array_equal(first.P, alone.P)
    assert np.array_equal(first.h, alone.h)


def test_expected_seconds_are_of_all_labels():
    one = expected_seconds(((24, 12, 6),), 1)
    assert one == cost_model.expected_seconds(24, 12, 6, threads=1)
    assert expected_seconds(((24, 12, 6), (24, 12, 6)), 50) == pytest.approx(100 * one)
    assert expected_seconds(((9, 4, 2),), 10**6) < 60


def test_no_label_warns_of_its_own_time(monkeypatch):
    """Whoever makes many codes is told once, of all of them."""
    monkeypatch.setattr(heights, "LONG", 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels_of((20, 4, 2), 2)


def test_shuffled_moves_rows_only():
    data = dict(generate(GROUPS, 50, "integer", 1))
    mixed = shuffled(iter(data.items()), 1)
    assert same(mixed, shuffled(iter(data.items()), 1))
    assert not same(mixed, shuffled(iter(data.items()), 2))
    for group, codes in data.items():
        assert np.array_equal(mixed[group].P, codes.P)
        assert np.array_equal(mixed[group].h, codes.h)
    row = np.concatenate([codes.row for codes in mixed.values()])
    assert sorted(row) == list(range(150))
    assert np.abs(np.diff(row)).mean() > 10


def test_parse_groups_by_name():
    n9, n21 = parse_groups("n9"), parse_groups("n21")
    assert sorted(n9) == [(9, k, m) for k in (4, 5, 6) for m in range(2, 10 - k)]
    assert sorted(n21) == [(n, k, m) for n in (9, 10) for k in (4, 5, 6) for m in range(2, n - k + 1)]


def test_parse_groups_by_number():
    assert parse_groups("9,4,2") == ((9, 4, 2),)
    assert parse_groups(" 9, 5,3; (2,1,1) ;[16,8,8]") == ((9, 5, 3), (2, 1, 1), (16, 8, 8))
    assert parse_groups("17,4,2;64,32,16;64,63,1") == ((17, 4, 2), (64, 32, 16), (64, 63, 1))


@pytest.mark.parametrize(
    "text",
    [
        *("", ";", "n10", "9,4", "9,4,2,1", "9;4;2", "a,b,c", "9.0,4,2", "9,4,2;", "9,4,2;9,4,2", "9 4 2"),
        *(
            "65,4,2",
            "20,4,17",
            "20,20,1",
            "9,4,6",
            "9,4,0",
            "9,0,2",
            "9,9,1",
            "-9,4,2",
            "9,4,-2",
            "1" * 5000 + ",4,2",
            "1" * 4000 + ",4,2",
        ),
    ],
    ids=lambda text: text[:12],
)
def test_parse_groups_refuses(text):
    with pytest.raises(DataError) as refused:
        parse_groups(text)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


# orbits

SHAPES = [(1, 3), (2, 2), (3, 1), (2, 4), (3, 3), (5, 2), (4, 4), (4, 5), (5, 4), (6, 3), (5, 5)]


def ternary(count, k, r, rng):
    return rng.integers(-1, 2, (count, k, r)).astype(float)


def dependent(count, k, r, rng):
    """A column that is a multiple of another, up to rounding."""
    P = rng.uniform(-1, 1, (count, k, r))
    P[:, :, -1] = P[:, :, 0] / 3
    return P


def badly_scaled(count, k, r, rng):
    return rng.normal(size=(count, k, r)) * 10.0 ** rng.integers(-6, 7, (count, k, 1))


def nearly_dependent(distance):
    def make(count, k, r, rng):
        P = rng.uniform(-1, 1, (count, k, r))
        P[:, :, 0] = 0.3 * P[:, :, r // 2] + 0.7 * P[:, :, -1] + distance * rng.uniform(0.5, 1, (count, k))
        return P

    return make


MAKES = {kind: lambda *shape, kind=kind: random_codes(kind, *shape) for kind in KINDS}
MAKES |= {f"nearly dependent, {d:g}": nearly_dependent(d) for d in (1e-3, 1e-6, 1e-8, 1e-9)}
MAKES |= {"ternary": ternary, "dependent": dependent, "badly scaled": badly_scaled}


@pytest.mark.parametrize("name", MAKES)
def test_equivalent_codes_share_their_orbit(name, rng):
    for k, r in SHAPES:
        P = MAKES[name](40, k, r, rng)
        ways = [P, *(equivalent(P, rng) for _ in range(3)), equivalent(P, rng, resystematise=False)]
        ids = orbit_ids(np.concatenate(ways)).reshape(len(ways), 40)
        assert (ids == ids[0]).all(), (k, r)
        # the least place of each orbit names it
        assert (ids[0] <= np.arange(40)).all()


@pytest.mark.parametrize("kind", ["integer", "uniform", "normal", "nearly dependent, 0.001", "badly scaled"])
def test_random_codes_do_not_share_an_orbit(kind, rng):
    for k, r in [(3, 3), (4, 5), (5, 4), (6, 4)]:
        assert len(set(orbit_ids(MAKES[kind](2000, k, r, rng)))) == 2000


def test_exact_copies_and_scaled_columns(rng):
    P = random_codes("normal", 10, 3, 3, rng)
    other = P.copy()
    other[:, :, 1] *= 1.0001
    ids = orbit_ids(np.concatenate([P, P, other]))
    assert ids.tolist() == [*range(10), *range(10), *range(20, 30)]


@pytest.mark.slow
def test_all_signed_matrices_of_a_small_size(rng):
    """All 81 codes of length 4 with entries 0, +-1, sorted into orbits by going through all their symmetries."""
    every = np.array(list(product((-1, 0, 1), repeat=4)), float).reshape(-1, 2, 2)

    def canonical(P):
        G = np.hstack([np.eye(2), P])
        pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
        forms = []
        for order in permutations(range(4)):
            for signs in product((1, -1), repeat=4):
                M = G[:, order] * signs
                minors = [round(np.linalg.det(M[:, pair])) for pair in pairs]
                # a basis multiplies all minors by one number: make the first of them that is not zero positive
                lead = next(x for x in minors if x)
                forms.append(tuple(x if lead > 0 else -x for x in minors))
        return min(forms)

    truth = [canonical(P) for P in every]
    shuffle = rng.permutation(81)
    ids = orbit_ids(every[shuffle])
    assert len(set(ids)) == len(set(truth)) == len(set(zip(ids, (truth[i] for i in shuffle), strict=True)))


# split and take


@pytest.fixture
def file(rng):
    """A shuffled file in which every code comes under each m, as itself and as twins; and which row is which code's."""
    groups, owner = {}, {}
    for n, k in [(5, 2), (5, 3), (7, 3)]:
        P = random_codes("scaled-integer" if n == 7 else "integer", 40, k, n - k, rng)
        twins = [P, equivalent(P, rng), P, equivalent(P[:20], rng)]
        for m in range(1, n - k + 1):
            some = twins[m % 2 :]
            groups[n, k, m] = np.concatenate(some)
            owner[n, k, m] = [(n, k, i) for part in some for i in range(len(part))]
    total = sum(map(len, groups.values()))
    places = iter(rng.permutation(total))
    data, owners = {}, [None] * total
    for group, P in groups.items():
        row = np.array([next(places) for _ in P])
        data[group] = Codes(P, row, rng.exponential(10, len(P)) + 1)
        for i, code in zip(row, owner[group], strict=True):
            owners[i] = code
    return data, owners


def test_split_cuts_no_orbit(file):
    data, owners = file
    for seed in range(5):
        first, second = split(data, 0.3, seed)
        assert sorted([*first, *second]) == list(range(count(data)))
        assert np.array_equal(first, np.sort(first))
        assert np.array_equal(second, np.sort(second))
        sides = {owners[i] for i in first}, {owners[i] for i in second}
        assert not sides[0] & sides[1]
        assert 0.2 < len(sides[1]) / len(set(owners)) < 0.4
        again = split(data, 0.3, seed)
        assert np.array_equal(again[0], first)
        assert np.array_equal(again[1], second)
    assert not np.array_equal(split(data, 0.3, 0)[1], split(data, 0.3, 1)[1])


def test_split_does_not_depend_on_labels(file):
    data, _ = file
    bare = {group: Codes(codes.P, codes.row, None) for group, codes in data.items()}
    assert np.array_equal(split(bare, 0.3, 0)[1], split(data, 0.3, 0)[1])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 2.0, nan, inf])
def test_split_refuses_fractions(fraction, file):
    with pytest.raises(DataError, match="fraction"):
        split(file[0], fraction, 0)


def test_split_needs_two_codes(rng):
    P = random_codes("normal", 1, 3, 2, rng)
    one = {(5, 3, m): Codes(np.concatenate([P, equivalent(P, rng)]), np.arange(2 * m - 2, 2 * m), None) for m in (1, 2)}
    for data in (one, {}):
        with pytest.raises(DataError, match="two codes"):
            split(data, 0.5, 0)


def listed(data):
    """{place: (group, P, h)}"""
    return {
        int(place): (group, P.tolist(), None if codes.h is None else float(codes.h[i]))
        for group, codes in data.items()
        for i, (place, P) in enumerate(zip(codes.row, codes.P, strict=True))
    }


def test_take(file, rng):
    data, _ = file
    whole = listed(data)
    for rows in (split(data, 0.3, 0)[1], rng.permutation(count(data))[:50], np.array([7]), np.arange(count(data))):
        part = listed(take(data, rows))
        assert part == {i: whole[row] for i, row in enumerate(rows)}
    bare = {group: Codes(codes.P, codes.row, None) for group, codes in data.items()}
    assert listed(take(bare, np.array([3, 1]))) == {0: (*whole[3][:2], None), 1: (*whole[1][:2], None)}
    assert take(data, np.array([], np.int64)) == {}


# audit


@pytest.fixture
def planted(rng):
    """A shuffled file with right labels but for some, and where those are."""
    data = shuffled(generate(((5, 2, 3), (6, 3, 2), (6, 4, 2)), 60, "integer", 11, scale=2, infinite=True), 11)
    h = exact_heights(data)
    for group, codes in data.items():
        for P, place in list(zip(codes.P, codes.row, strict=True))[:8]:
            assert brute.error(h[place], brute.profile(P.tolist())[group[2]]) < 1e-12
    order = rng.permutation(180)
    finite, infinite = order[np.isfinite(h[order])], order[np.isinf(h[order])]
    label = h.copy()
    label[infinite[:7]] = rng.uniform(1, 1e6, 7)
    label[finite[:5]] = inf
    label[finite[5:9]] *= 1 + 1e-5
    label[finite[9:13]] *= 1 - 1e-5
    label[finite[13]] *= 100.0
    label[finite[14:20]] *= 1 + 1e-8
    data = {group: Codes(codes.P, codes.row, label[codes.row]) for group, codes in data.items()}
    return data, label, np.sort(infinite[:7]), np.sort(finite[:5]), np.sort(finite[5:14]), finite[14:20]


def test_audit_finds_what_was_planted_and_nothing_else(planted):
    data, label, truly_infinite, falsely_infinite, wrong, slightly = planted
    found = audit(data)
    assert np.array_equal(found.label, label)
    assert np.array_equal(found.truly_infinite, truly_infinite)
    assert np.array_equal(found.falsely_infinite, falsely_infinite)
    assert np.array_equal(found.wrong, wrong)
    assert found.worst == pytest.approx(99.0)
    assert np.array_equal(audit(data, tolerance=1e-9).wrong, np.sort([*wrong, *slightly]))
    assert len(audit(data, tolerance=1e-4).wrong) == 1
    assert len(audit(data, tolerance=100.0).wrong) == 0


def test_audit_of_right_labels():
    data = dict(generate(GROUPS, 100, "scaled-integer", 2, infinite=True))
    told = []
    found = audit(data, tolerance=0.0, threads=2, advance=told.append)
    assert sum(told) == 300
    assert not len(found.wrong) + len(found.truly_infinite) + len(found.falsely_infinite)
    assert found.worst == 0.0


def test_audit_refuses(planted):
    data = planted[0]
    for tolerance in (-1e-9, nan):
        with pytest.raises(CodeError, match="tolerance"):
            audit(data, tolerance=tolerance)
    bare = {group: Codes(codes.P, codes.row, None) for group, codes in data.items()}
    for unlabelled in (bare, data | {(6, 4, 2): bare[6, 4, 2]}, {}):
        with pytest.raises(DataError, match="labelled"):
            audit(unlabelled)
