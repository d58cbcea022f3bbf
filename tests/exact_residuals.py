"""What a table's column leaves of the column that it stands for, in fractions."""

from fractions import Fraction


def inverse(M):
    """The inverse of a matrix of fractions, rows as lists."""
    k = len(M)
    table = [[*row, *(Fraction(i == j) for j in range(k))] for i, row in enumerate(M)]
    for i in range(k):
        p = next(p for p in range(i, k) if table[p][i])
        table[i], table[p] = table[p], table[i]
        table[i] = [x / table[i][i] for x in table[i]]
        for q in range(k):
            if q != i:
                table[q] = [x - table[q][i] * z for x, z in zip(table[q], table[i], strict=True)]
    return [row[k:] for row in table]


def in_coordinates_of(G, basis):
    """G_B^-1 G in fractions."""
    exact = [[Fraction(x) for x in row] for row in G.tolist()]
    first = inverse([[row[j] for j in basis] for row in exact])
    return [[sum(x * row[j] for x, row in zip(line, exact, strict=True)) for j in range(G.shape[1])] for line in first]


def residual_share(A, rows, a, y):
    """|a - A_rows y|_1 / (1 + |y|_1), which `off` bounds."""
    y = [Fraction(float(x)) for x in y]
    left = [line[a] - sum(x * line[j] for x, j in zip(y, rows, strict=True)) for line in A]
    return sum(map(abs, left)) / (1 + sum(map(abs, y)))


def with_its_own_error(start, A):
    """A Start whose `off` is what it is, so that pivots have to answer for what they add."""
    columns = zip(start.others.tolist(), start.T.T.tolist(), strict=True)
    off = max(sum(abs(line[a] - Fraction(x)) for line, x in zip(A, y, strict=True)) for a, y in columns)
    return start._replace(off=float(off) * (1 + 1e-15))
