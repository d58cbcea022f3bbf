"""What is certified at twice the precision holds where its own rounding, 1e-32, decides; against fractions."""

from __future__ import annotations

from fractions import Fraction

import brute
import numpy as np

from moe_mheight.numerics.certified import certified_norm, height_of

FIBONACCI = [0, 1]
while len(FIBONACCI) < 79:  # the next ones float64 would round
    FIBONACCI.append(FIBONACCI[-2] + FIBONACCI[-1])


def test_a_norm_holds_where_the_residual_is_lost(rng):
    """y solves G_B y = v where v is g_a rounded to integers; next to products of 1e31 the rest of g_a disappears.

    So y looks right and is not. Only the bound on the residual's own rounding, 1e-32 of its terms, says so.
    """
    finite = 0
    for at in rng.integers(20, 79, 200):
        one, two, three = FIBONACCI[at - 2 : at + 1]
        det = one * three - two * two  # 1 or -1
        inverse = det * np.array([[one, -two], [-two, three]], float)
        v = np.array([float(rng.integers(3, 10)), 0.0])
        P = np.column_stack([[three, two], [two, one], v + rng.uniform(-0.4, 0.4) * np.array([1.0, 0.0])])
        D = np.hstack([inverse, np.eye(2), (inverse @ v)[:, None], np.zeros((2, 1))])
        G = np.hstack([np.eye(2), P])
        bound, _ = certified_norm(G, D, np.array([2, 3]), 4, 0.0, np.empty(2), np.empty(2))
        # words that are 1 or -1 on both basic coordinates; no other is larger at the last one, nor smaller on these
        for sign in (1, -1):
            information = [det * (one - sign * two), det * (sign * three - two)]
            word = brute.codeword(P.tolist(), information)
            assert [abs(c) for c in word[2:4]] == [1, 1]
            assert max(map(abs, word)) == abs(word[4])
            assert brute.height_of(word, 3) <= (Fraction(float(bound)) if bound < np.inf else np.inf), at
        finite += bound < np.inf
    assert finite > 100


def test_a_height_holds_where_a_coordinate_is_lost(rng):
    """The last coordinate of x G is what is left of a sum after 32 digits of it have cancelled."""
    for trial in range(100):
        x, column = rng.normal(size=4), np.append(rng.normal(size=2), [1.0, 1.0])
        begun = sum(Fraction(a) * Fraction(b) for a, b in zip(x[:2].tolist(), column[:2].tolist(), strict=True))
        x[2] = -float(begun)
        x[3] = -float(begun + Fraction(x[2]))
        G = np.hstack([np.eye(4), column[:, None]])
        truth = brute.height_of(brute.codeword(column[:, None].tolist(), x.tolist()), 4)
        found = height_of(G, x, np.zeros(4), 4, np.empty(5))
        assert 1e25 < found < np.inf, trial
        assert Fraction(float(found)) <= truth, trial
