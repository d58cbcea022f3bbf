"""Certificates that list automorphisms: what their images prove is proven, and nothing else is."""

from fractions import Fraction

import brute
import numpy as np
import pytest
import symmetric_codes as sym

from moe_mheight import certify, verify
from moe_mheight.errors import DataError
from moe_mheight.proofs.automorphism_check import LARGEST_GROUP, closure, keeps_code
from moe_mheight.proofs.certify import signed


def expanded(made):
    """A certificate's sets and their images, by applying generators until nothing is new."""
    found = {int(text, 16) for text in made["bases"]}
    new = list(found)
    while new:
        mask = new.pop()
        for generator in made.get("automorphisms", []):
            image = sum(1 << to for j, to in enumerate(generator["perm"]) if mask >> j & 1)
            if image not in found:
                found.add(image)
                new.append(image)
    return found


SYMMETRIC = [
    (sym.circulant([3, -1, 4]).tolist(), "P", 2),
    (sym.circulant([2, 7, -1, 8]).tolist(), "P", 3),
    (sym.circulant([1, 4, 1, -3, 2]).tolist(), "P", 3),
    (sym.circulant([5, -2, 3, 1], -1).tolist(), "P", 2),
    (sym.paley(5)[:, 6:].tolist(), "P", 3),
    (
        (np.array([[2, 1, 0], [0, 1, 1], [1, 0, 3]]) @ np.hstack([np.eye(3), sym.circulant([3, -1, 4])]))
        .astype(int)
        .tolist(),
        "G",
        2,
    ),
    (np.hstack([sym.circulant([3, 1, -2]), np.eye(3, dtype=int)]).tolist(), "H", 2),
    (sym.circulant([0.3, -1.7, 0.45, 2.2]).tolist(), "P", 2),
]


@pytest.mark.parametrize(("matrix", "kind", "m"), SYMMETRIC)
def test_symmetric_codes(matrix, kind, m):
    """One set of each orbit proves what all of them do, and fewer of them do not."""
    made = certify(matrix, m, matrix=kind)
    whole = certify(matrix, m, matrix=kind, symmetry=False)
    assert (made["format"][-1], whole["format"][-1]) == ("3", "2")
    assert "automorphisms" not in whole
    assert verify(made, matrix, matrix=kind).accepted
    if made["arithmetic"] == "rational" and made["n"] <= 10:
        assert made["height"] == whole["height"] == str(brute.profile(made["P"])[m])
    assert len(made["bases"]) < len(whole["bases"])
    plain = {key: value for key, value in made.items() if key not in ("automorphisms", "sha256")}
    plain |= {"format": "moe_mheight certificate 2"}
    images = signed(plain | {"bases": [f"{mask:x}" for mask in sorted(expanded(made))]})
    assert verify(images, matrix, matrix=kind).accepted
    # not without the images; and with any set less only where its images are not needed
    assert not verify(signed(plain)).accepted
    for i in range(len(made["bases"])):
        less = made | {"bases": made["bases"][:i] + made["bases"][i + 1 :]}
        fewer = signed(plain | {"bases": [f"{mask:x}" for mask in sorted(expanded(less))]})
        assert verify(signed(less)).accepted == verify(fewer).accepted


@pytest.mark.parametrize(("matrix", "kind", "m"), SYMMETRIC)
def test_wrong_automorphisms_are_refused(matrix, kind, m, rng):
    made = certify(matrix, m, matrix=kind)
    n, (first, *others) = made["n"], made["automorphisms"]

    def verdict(*generators):
        return verify(signed(made | {"automorphisms": list(generators)}))

    j = next(j for j in range(n) if first["perm"][j] != j)
    turned = first["signs"].copy()
    turned[j] *= -1
    assert not verdict(first | {"signs": turned}, *others).accepted
    for _ in range(10):
        perm = rng.permutation(n).tolist()
        G = np.hstack([np.eye(made["k"]), np.array([[float(Fraction(x)) for x in row] for row in made["P"]])])
        N = np.abs(np.linalg.pinv(G) @ G)
        if not np.allclose(N[np.ix_(perm, perm)], N):
            found = verdict({"perm": perm, "signs": [1] * n}, first, *others)
            assert "automorphisms[0] is not shown to map the code to itself" in found.reason
    identity = {"perm": list(range(n)), "signs": [1] * n}
    assert not verdict(identity).accepted
    assert verdict(identity, first, *others).accepted


def test_groups_that_are_too_large_are_refused():
    """A transposition and a cycle generate all permutations of 8 coordinates."""
    made = certify(np.ones((8, 1), int).tolist(), 1)
    assert made["height"] == "1" or len(made["bases"]) > 0
    cycle = [1, 2, 3, 4, 5, 6, 7, 0, 8]
    swap = [1, 0, *range(2, 9)]
    generators = [{"perm": perm, "signs": [1] * 9} for perm in (cycle, swap)]
    found = verify(signed(made | {"format": "moe_mheight certificate 3", "automorphisms": generators}))
    assert not found.accepted
    assert "more than 4096 permutations" in found.reason


def test_what_automorphisms_must_look_like():
    made = certify(sym.circulant([3, -1, 4]).tolist(), 1)
    good = made["automorphisms"][0]
    for bad, message in (
        ([], "1 to 64 generators"),
        ([good] * 65, "1 to 64 generators"),
        ([good | {"perm": good["perm"][:-1]}], "must hold all n"),
        ([good | {"perm": [0] * 6}], "must not repeat"),
        ([good | {"signs": [0] * 6}], "1 or -1"),
        ([good | {"signs": [1] * 5}], "list of 6"),
        ([good | {"x": 1}], "key"),
        ([good["perm"]], "object"),
    ):
        with pytest.raises(DataError, match=message):
            verify(made | {"automorphisms": bad})
    with pytest.raises(DataError, match="automorphisms"):
        verify(made | {"format": "moe_mheight certificate 2"})
    with pytest.raises(DataError, match="lacks automorphisms"):
        verify({key: value for key, value in made.items() if key != "automorphisms"})


def test_infinite_heights_need_no_automorphisms():
    made = certify(sym.circulant([1, 1, 0]).tolist(), 3)
    assert (made["height"], made["format"]) == ("inf", "moe_mheight certificate 2")
    generator = {"perm": [1, 2, 0, 4, 5, 3], "signs": [1] * 6}
    with pytest.raises(DataError, match="infinite"):
        verify(signed(made | {"format": "moe_mheight certificate 3", "automorphisms": [generator]}))


def test_keeps_code_in_fractions(rng):
    """Against automorphisms by construction, and with one entry changed by next to nothing."""
    P = [[Fraction(1, 3), Fraction(-2, 7), Fraction(5)], [Fraction(5), Fraction(1, 3), Fraction(-2, 7)]]
    P.append([Fraction(-2, 7), Fraction(5), Fraction(1, 3)])
    turn = [1, 2, 0, 4, 5, 3]
    assert keeps_code(P, turn, [1] * 6)
    assert keeps_code(P, turn, [-1] * 6)
    assert not keeps_code(P, turn, [1, 1, 1, -1, -1, -1])
    assert not keeps_code(P, [1, 0, 2, 4, 3, 5], [1] * 6)
    P[1][1] += Fraction(1, 10**30)
    assert not keeps_code(P, turn, [1] * 6)
    assert not keeps_code([[Fraction(1, 3**4000)]], [0, 1], [1, 1])  # too long to try


def test_closure():
    assert closure([], 5) == [(0, 1, 2, 3, 4)]
    assert len(closure([[1, 2, 3, 4, 0], [4, 3, 2, 1, 0]], 5)) == 10
    assert len(closure([[1, 0, 2, 3, 4], [1, 2, 3, 4, 0]], 5)) == 120
    assert closure([[1, 0, *range(2, 8)], [*range(1, 8), 0]], 8) is None
    assert LARGEST_GROUP < 40320


def test_little_is_saved_where_the_group_fixes_most_sets():
    made = certify([[1, 1], [1, 2]], 2)
    assert made["format"] == "moe_mheight certificate 2"
    assert made["bases"] == ["3", "5", "6", "9", "a", "c"]
