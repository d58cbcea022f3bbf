"""Heights straight from the definition, in exact integers: slow, short, and sharing nothing with the package.

For fixed S the best codeword is a vertex of {u : |u g_i| <= 1 for i in S}, so it takes values +-1 on some basis B in S.
Going through every basis and every choice of signs therefore meets a codeword that attains h_m, for every m, whatever
S is; and h_m is infinite when some n - m columns contain no basis.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product
from math import inf, lcm


def whole_generator(P):
    """[I | P] times the common denominator: a float is a fraction too, so nothing is rounded."""
    rows = [[Fraction(value) for value in row] for row in P]
    scale = lcm(*(value.denominator for row in rows for value in row))
    return [[scale * (i == j) for j in range(len(rows))] + [int(scale * x) for x in row] for i, row in enumerate(rows)]


def on_basis(G, basis):
    """det(G_B) G_B^-1 G by fraction-free elimination (Bareiss), or None when B is no basis."""
    A = [row[:] for row in G]
    before = 1
    for i, column in enumerate(basis):
        pivot = next((p for p in range(i, len(A)) if A[p][column]), None)
        if pivot is None:
            return None
        A[i], A[pivot] = A[pivot], A[i]
        own, now = A[i], A[i][column]
        for p, row in enumerate(A):
            if p != i:
                A[p] = [(now * x - row[column] * y) // before for x, y in zip(row, own, strict=True)]
        before = now
    return A


def profile(P):
    """[h_0, ..., h_r], Fractions or inf, of a matrix of ints, floats or Fractions."""
    G = whole_generator(P)
    k, n = len(G), len(G[0])
    bases = []
    best = [Fraction(1)] * (n - k + 1)
    for basis in combinations(range(n), k):
        M = on_basis(G, basis)
        if M is None:
            continue
        bases.append(sum(1 << i for i in basis))
        for signs in product((1, -1), repeat=k - 1):
            word = [sum(s * x for s, x in zip((1, *signs), column, strict=True)) for column in zip(*M, strict=True)]
            sizes = sorted(map(abs, word), reverse=True)
            for m, h in enumerate(best):
                if sizes[m] and sizes[0] * h.denominator > h.numerator * sizes[m]:
                    best[m] = Fraction(sizes[0], sizes[m])
    for m in range(1, n - k + 1):
        sets = (sum(1 << i for i in S) for S in combinations(range(n), n - m))
        if best[m - 1] == inf or not all(any(B & ~S == 0 for B in bases) for S in sets):
            best[m] = inf
    return best


def best_for(P, S, a):
    """max |u g_a| over |u g_i| <= 1 on S, by duality min |y|_1 over G_S y = g_a: a Fraction, or inf."""
    G = whole_generator(P)
    every = (on_basis(G, basis) for basis in combinations(S, len(G)))
    found = [(M, basis) for M, basis in zip(every, combinations(S, len(G)), strict=True) if M is not None]
    return min((Fraction(sum(abs(row[a]) for row in M), abs(M[0][basis[0]])) for M, basis in found), default=inf)


def codeword(P, information):
    """information x [I | P], exactly."""
    x = [Fraction(value) for value in information]
    columns = [[Fraction(value) for value in column] for column in zip(*P, strict=True)]
    return x + [sum((u * p for u, p in zip(x, column, strict=True)), Fraction(0)) for column in columns]


def height_of(word, m):
    """|c|_(0) / |c|_(m), a Fraction or inf."""
    sizes = sorted((abs(Fraction(value)) for value in word), reverse=True)
    return sizes[0] / sizes[m] if sizes[m] else inf


def error(value, truth):
    """|value - truth| / truth for an exact truth; 0 when both are infinite, inf when only one is."""
    if inf in (value, truth):
        return 0.0 if value == truth else inf
    return float(abs(Fraction(float(value)) - truth) / truth)
