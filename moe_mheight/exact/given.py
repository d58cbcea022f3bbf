"""Codes as they are given: in float64, or in integers and fractions that float64 would round."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codes.linear import as_numbers, beyond_float64
from ..codes.minors import MAX_N
from ..errors import CodeError, brief
from ..numerics.bitsets import BITS
from ..numerics.rationals import rational_matrix
from .enumeration import whole_profile

LARGEST_FLOAT = float(np.finfo(np.float64).max)


def in_float64(M: Any, matrix: str | None, method: str) -> bool:
    """Whether a G or H is made systematic to rounding, as a search takes it; exactly where bases are enumerated."""
    if matrix not in ("G", "H") or isinstance(M, tuple):
        return False
    n = as_numbers(M, matrix).shape[-1:]
    return bool(n) and (n[0] > MAX_N or method == "search")


def codes_beyond_float64(P: Any, method: str) -> list[Any] | None:
    """The codes of P where it has integers or fractions that float64 would round; None where it has not."""
    if isinstance(P, np.ndarray) and P.dtype.kind == "f":
        return None
    raw = as_numbers(P)
    if sum(raw.shape[-2:]) > BITS or beyond_float64(P, raw) is None:
        return None
    entries = np.asarray(P, dtype=object)
    if entries.ndim not in (2, 3):
        raise CodeError(f"P must have shape (k, r) or (B, k, r), got {entries.shape}")
    k, r = entries.shape[-2:]
    if k + r > MAX_N or method == "search":
        raise CodeError(
            f"P has entries that float64 rounds, {brief(beyond_float64(P, raw))} among them; a search takes integers "
            f"up to 2^53, bases any up to n = {MAX_N}, and certify(P, m) any"
        )
    return [rational_matrix(code) for code in entries.reshape(-1, k, r).tolist()]


def whole_profiles(codes: list[Any]) -> NDArray[np.float64]:
    """Profiles of codes given as fractions; what is finite is finite, however large."""
    out = np.array([whole_profile(F) for F in codes])
    if (out == LARGEST_FLOAT).any():
        raise CodeError(
            f"a height of this code is finite and above {LARGEST_FLOAT:g}; certify(P, m) says it as a fraction"
        )
    return out
