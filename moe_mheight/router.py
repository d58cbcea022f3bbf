"""Which experts speak for a code, and how loud: weights over the tiers from (n, k, m)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .tiers import TIERS, tier_of


def slack_weights(n: int, k: int, m: int) -> NDArray[np.float64]:
    """The fixed router: all weight on the tier of the slack n - k - m. Returns (3,), in the order of TIERS.

    Example:
        >>> from moe_mheight.router import slack_weights
        >>> slack_weights(9, 4, 4).tolist()
        [0.0, 1.0, 0.0]
    """
    return np.array([float(tier == tier_of(n, k, m)) for tier in TIERS])
