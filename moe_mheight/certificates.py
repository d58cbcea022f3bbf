"""Certificates: a height with all that is needed to check it, without trusting the search that found it.

A certificate holds the code, a codeword that attains the height, the dual vector that shows that it is the best for its
own S and a, and the bases that show that no other S and a does better: for every a and every T of m - 1 other
coordinates one of them avoids both, and has |y|_1 <= the height. `verification` checks that, by code of its own.

For integer and rational P all numbers are fractions and the height is one; for other P the codeword and the bounds are
float64, and what is proven is a bracket.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from fractions import Fraction
from hashlib import sha256
from math import nextafter
from pathlib import Path
from typing import Any

import numpy as np

from . import rationals
from .codes import check_m, check_P
from .errors import CodeError, MHeightError
from .folders import replacing
from .heights import Height, Progress, silent
from .masks import BITS
from .minors import LARGEST_RATIO
from .pruned import pruned_search
from .verification import verify

ROOM = 1 << 22
"""Bases kept of each part of the search: all of them, one would hope."""

MARGIN = 1e-12
"""How far above the bounds found, relatively, a float64 certificate claims them: its verifier solves in its own way."""

HOLES = 1000
"""Sets that rounding may leave without a basis, each mended exactly, before we give up."""


class UnfinishedError(MHeightError):
    """A search that is to prove something was ended before it did; `found` says what it has."""

    def __init__(self, found: Height) -> None:
        super().__init__(
            f"the search for h_{found.m} ended by {found.ended} after {found.seconds:.1f} s, at "
            f"[{found.lower!r}, {found.upper!r}]: nothing to certify yet"
        )
        self.found = found


def is_rational(P: Any) -> bool:
    """Whether P is meant exactly: integers, Fractions or text, or floats that all are integers."""
    values = np.asarray(P, dtype=object).ravel().tolist() if not isinstance(P, np.ndarray) else P.ravel().tolist()
    return all(not isinstance(value, float) or value.is_integer() for value in values)


def certify(
    P: Any,
    m: int,
    *,
    path: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    time_limit: float | None = None,
    watch: Callable[[Progress], None] = silent,
) -> dict[str, Any]:
    """The m-height of [I | P] as a certificate that `mheight verify` and `verification.verify` check.

    Args:
        P: (k, r), n = k + r <= 64; ints, Fractions, text such as "-3/4", or floats. Floats that are not all integers
            stand for themselves, and the certificate proves a bracket of relative width 1e-9.
        m: 1 <= m <= r.
        path: a file to write it to, too.
        threads, time_limit, watch: as in `m_height`.

    Returns:
        A dict of JSON types; see `verification` for what is in it.

    Raises:
        CodeError: P or m is out of range.
        UnfinishedError: time ran out, or Ctrl-C came; its `found` holds the bracket.
        DataError: the file cannot be written.

    Source: arXiv:2602.20366, Theorem 8: |y|_1 of any basis in S bounds the height of (S, a).

    Example:
        >>> from moe_mheight import certify
        >>> certify([[1, 1], [1, 2]], 1)["height"]
        '2'
        >>> certify([["1/2", "1/3"], ["3/4", 2]], 1)["height"]
        '7/2'
    """
    exact = is_rational(P)
    F = rationals.rational_matrix(P)
    batch, _ = check_P([[float(value) for value in row] for row in F], max_n=BITS)
    m = int(check_m(m, 1, batch.shape[2])[0])
    found, bases = pruned_search(
        batch[0], m, threads=threads, time_limit=time_limit, watch=watch, room=ROOM, symmetry=False
    )
    if not found.finished:
        raise UnfinishedError(found)
    made = _rational(F, m, found, bases) if exact else _float64(F, batch[0], m, found, bases)
    if path is not None:
        with replacing(Path(path)) as (handle,):
            handle.write((json.dumps(made, indent=1) + "\n").encode())
    return made


def _frame(F: list[list[Fraction]], m: int, arithmetic: str, show: Callable[[Fraction], str]) -> dict[str, Any]:
    from . import __version__  # noqa: PLC0415  a package does not import itself while it loads

    return {
        "format": "moe_mheight certificate 1",
        "arithmetic": arithmetic,
        "n": len(F) + len(F[0]),
        "k": len(F),
        "m": m,
        "P": [[show(value) for value in row] for row in F],
        "made_by": f"moe_mheight {__version__}",
    }


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """With the digest of all the rest, by which a slip of the pen is noticed before anything is computed."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "sha256": sha256(text.encode()).hexdigest()}


def _hex(bases: set[int]) -> list[str]:
    return [f"{mask:x}" for mask in sorted(bases)]


def _unsigned(bases: list[int]) -> set[int]:
    return {mask & (2**BITS - 1) for mask in bases}


def _outside(c: list[Fraction], m: int) -> list[int]:
    return sorted(range(len(c)), key=lambda j: (-abs(c[j]), j))[:m]


def _rational(F: list[list[Fraction]], m: int, found: Height, bases: list[int]) -> dict[str, Any]:
    n = found.n
    frame = _frame(F, m, "rational", str)

    def claim(S: list[int], a: int, start: list[int]) -> dict[str, Any]:
        z, basis, y, u = rationals.best_of_set(F, S, a, start)
        c = rationals.codeword(F, u)
        witness = {"u": [str(value) for value in u], "outside": _outside(c, m)}
        if z is None:
            return {"height": "inf", "witness": witness, "bases": []}
        dual = {"a": a, "basis": basis, "y": [str(value) for value in y]}
        return {"height": str(z), "witness": witness, "dual": dual}

    size = np.abs(found.witness)
    S = [j for j in range(n) if j not in found.outside]
    best = claim(S, found.outside[0], [j for j in S if size[j] > size[S].max() * (1.0 - 1e-9)])
    if (best["height"] == "inf") != (found.value == np.inf):
        raise CodeError(
            f"h_{m} of this code is beyond {LARGEST_RATIO:g} and finite, or infinite and not seen to be: no certificate"
        )
    masks = _unsigned(bases)
    for _ in range(HOLES):
        made = signed({**frame, **best} if best["height"] == "inf" else {**frame, **best, "bases": _hex(masks)})
        verdict = verify(made)
        if verdict.accepted:
            return made
        if verdict.missing is None:
            break
        # a basis that float64 took for good is not quite: this set is for exact arithmetic
        a, T = verdict.missing
        S = [j for j in range(n) if j != a and j not in T]
        z, basis, y, _ = rationals.best_of_set(F, S, a)
        if z is None or z > Fraction(best["height"]):
            best = claim(S, a, basis)
        masks.add(sum(1 << j for j, value in zip(basis, y, strict=True) if value))
    raise MHeightError(f"the certificate does not verify: {verdict.reason}")


def _float64(F: list[list[Fraction]], P: Any, m: int, found: Height, bases: list[int]) -> dict[str, Any]:
    frame = _frame(F, m, "float64", lambda value: repr(float(value)))
    # the codeword again from its coordinates on S, exactly: u in float64 would lose what its own rounding moves
    S = [j for j in range(found.n) if j not in found.outside]
    size = np.abs(found.witness)
    start = [j for j in S if size[j] > size[S].max() * (1.0 - 1e-9)]
    z, basis, y, u = rationals.best_of_set(F, S, found.outside[0], start)
    outside = _outside(rationals.codeword(F, u), m)
    # two doubles a number: what they leave out moves a height by 1e-32 times its square
    high = [float(value) for value in u]
    low = [float(value - Fraction(part)) for value, part in zip(u, high, strict=True)]
    witness = {"u": [repr(v) for v in high], "u_low": [repr(v) for v in low], "outside": outside}
    if found.value == np.inf:
        made = signed({**frame, "height": "inf", "witness": witness, "bases": []})
    else:
        assert z is not None
        c = rationals.codeword(F, [Fraction(v) + Fraction(w) for v, w in zip(high, low, strict=True)])
        attained = rationals.height(c, m)
        assert attained is not None
        lower = float(attained)
        while Fraction(lower) > attained:
            lower = nextafter(lower, 0.0)
        upper = max(found.upper, lower) * (1.0 + MARGIN)
        made = signed(
            {
                **frame,
                "height": {"lower": repr(lower), "upper": repr(upper)},
                "witness": {**witness, "outside": _outside(c, m)},
                "dual": {"a": found.outside[0], "basis": basis, "y": [repr(float(value)) for value in y]},
                "bases": _hex(_unsigned(bases)),
            }
        )
    verdict = verify(made)
    if not verdict.accepted:
        raise MHeightError(f"the certificate does not verify: {verdict.reason}")
    return made
