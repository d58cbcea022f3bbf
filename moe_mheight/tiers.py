"""Which expert a code belongs to: the tier follows from the slack s = n - k - m."""

from __future__ import annotations

from math import comb

TIERS = ("low", "medium", "high")
"""Complexity tiers: low s >= 2, medium s = 1, high s = 0."""

MINUTES = {"low": 16.0, "medium": 10.0, "high": 8.0}
"""Default training time of a tier's ensemble."""

TRAINED_N = (4, 12)
"""Shortest and longest codes the experts are trained on."""

HEADLINE = ((9, 4, 2), (9, 4, 3), (9, 4, 4), (9, 4, 5), (9, 5, 2), (9, 5, 3), (9, 5, 4), (9, 6, 2), (9, 6, 3))
"""The field's nine (n, k, m) groups; its evaluator adds those of n = 10."""

EVALUATOR = HEADLINE + tuple((10, k, m) for k in (4, 5, 6) for m in range(2, 11 - k))
"""The 21 groups that the field's evaluator scores."""


SEARCHED_N = (10, 16)
"""Shortest and longest codes that experts are trained on under a budget; exact labels are cheap up to there."""

SEARCHED = (
    (12, 6, 3), (12, 6, 4), (14, 7, 4), (16, 8, 4), (16, 8, 6),
    (12, 6, 5), (14, 7, 6), (16, 8, 7),
    (12, 6, 6), (14, 7, 7), (16, 8, 8),
)  # fmt: skip
"""Groups that stand for larger codes under a budget: half of that training, and its held-out figures."""


def tier_of(n: int, k: int, m: int) -> str:
    """The tier of a group.

    Example:
        >>> from moe_mheight.tiers import tier_of
        >>> tier_of(9, 4, 2), tier_of(9, 5, 3), tier_of(9, 6, 3)
        ('low', 'medium', 'high')
    """
    return TIERS[2 - min(n - k - m, 2)]


def sizes(tier: str, shortest: int = TRAINED_N[0], longest: int = TRAINED_N[1]) -> list[tuple[int, int, int]]:
    """All (n, k, m) of a tier with shortest <= n <= longest."""
    return [
        (n, k, m)
        for n in range(shortest, longest + 1)
        for k in range(1, n)
        for m in range(1, n - k + 1)
        if tier_of(n, k, m) == tier
    ]


def searched_sizes(tier: str) -> list[tuple[int, int, int]]:
    """Sizes of a tier that experts are trained on under a budget: those with hundreds of sets."""
    return [size for size in sizes(tier, *SEARCHED_N) if size[1] > 1 and comb(size[0], size[2]) >= 150]
