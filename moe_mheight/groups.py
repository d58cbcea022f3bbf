"""Which expert a code belongs to: the tier follows from the slack s = n - k - m.

RULES is all that is said about a tier anywhere: who adds one adds a line there, and trains it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import comb
from typing import NamedTuple

Group = tuple[int, int, int]
"""(n, k, m): length, dimension, and which height."""


def group_name(group: Iterable[int], mark: str = ",") -> str:
    """A group as text, as in files and tables.

    Example:
        >>> from moe_mheight.groups import group_name
        >>> group_name((9, 4, 2)), group_name((9, 4, 2), "_"), group_name((9, 4, 2), ", ")
        ('9,4,2', '9_4_2', '9, 4, 2')
    """
    return mark.join(map(str, group))


def parse_group(text: str, mark: str = ",") -> Group:
    """The group that a text names, with or without brackets.

    Raises:
        ValueError: it names none; whether 1 <= k < n and 1 <= m <= n - k is not looked at.

    Example:
        >>> from moe_mheight.groups import parse_group
        >>> parse_group("9,4,2"), parse_group("(9, 4, 2)"), parse_group("9_4_2", "_")
        ((9, 4, 2), (9, 4, 2), (9, 4, 2))
    """
    n, k, m = map(int, text.strip("[]() ").split(mark))
    return n, k, m


def slack_of(n: int, k: int, m: int) -> int:
    """s = n - k - m: by how many a set S of n - m coordinates exceeds a basis.

    Example:
        >>> from moe_mheight.groups import slack_of
        >>> slack_of(9, 4, 2)
        3
    """
    return n - k - m


class Rule(NamedTuple):
    """A tier: its codes, and how it is trained.

    At slack 0 brackets are closed and nothing is left to learn: such a tier learns from the nearest that has open ones.
    At slack 0 and 1 nearly all brackets decide the height by themselves: there is more to learn under a budget.
    """

    name: str
    slack: int  # smallest; the next rule's codes have less
    learns_from: str  # the tier whose sizes it trains on
    minutes: float  # default training time of the ensemble
    scanned: float  # share of that for codes whose every set is looked at; the rest is for searches under a budget
    easy: float  # share kept, in training, of the codes that need no expert
    gate: float  # share of the raw view's high-capacity pathway before its gate learns
    stream: int  # its number in the random streams of training codes


RULES = (
    Rule("low", slack=2, learns_from="low", minutes=16.0, scanned=0.5, easy=1 / 64, gate=0.1, stream=0),
    Rule("medium", slack=1, learns_from="medium", minutes=10.0, scanned=0.4, easy=1 / 16, gate=0.5, stream=1),
    Rule("high", slack=0, learns_from="medium", minutes=8.0, scanned=0.3, easy=1 / 16, gate=0.9, stream=2),
)
"""The tiers, by falling slack; the last one's is 0."""

RULE = {rule.name: rule for rule in RULES}

TIERS = tuple(RULE)
"""Complexity tiers: low s >= 2, medium s = 1, high s = 0."""

OPEN = tuple(rule.name for rule in RULES if rule.slack > 0)
"""Those whose brackets may be open."""


def in_words() -> str:
    """The rule of every tier.

    Example:
        >>> from moe_mheight.groups import in_words
        >>> in_words()
        'low s >= 2, medium s = 1, high s = 0'
    """
    highest: int | None = None
    parts = []
    for name, slack, *_ in RULES:
        span = (
            f"s >= {slack}" if highest is None else f"s = {slack}" if slack == highest else f"{slack} <= s <= {highest}"
        )
        parts.append(f"{name} {span}")
        highest = slack - 1
    return ", ".join(parts)


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
        >>> from moe_mheight.groups import tier_of
        >>> tier_of(9, 4, 2), tier_of(9, 5, 3), tier_of(9, 6, 3)
        ('low', 'medium', 'high')
    """
    return next(rule.name for rule in RULES if slack_of(n, k, m) >= rule.slack)


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
