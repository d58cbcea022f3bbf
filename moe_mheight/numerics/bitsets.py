"""Sets of coordinates as bit masks in compiled code: drawn, enumerated, counted, and recognised when seen again."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numba.extending import intrinsic
from numpy.typing import NDArray

from .jit import compiled, inlined

LONGEST = 32
"""Coordinates that a set drawn or enumerated here has room for."""

BITS = 64
"""Coordinates that a mask in an int64 has room for, the sign being the last."""


def _count_bits(typingctx: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return nb.int64(nb.int64), codegen


def _lowest_bit(typingctx: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], context.get_constant(nb.boolean, True))

    return nb.int64(nb.int64), codegen


def _highest_bit(typingctx: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zeros = builder.ctlz(args[0], context.get_constant(nb.boolean, True))
        return builder.sub(context.get_constant(nb.int64, BITS - 1), zeros)

    return nb.int64(nb.int64), codegen


# an instruction or two each: how many coordinates a mask holds, and the first and last of a mask that is not empty
count_bits: Any = intrinsic(_count_bits)
lowest_bit: Any = intrinsic(_lowest_bit)
highest_bit: Any = intrinsic(_highest_bit)


@inlined
def random_word(state):  # type: ignore[no-untyped-def]
    """The next 32 bits of splitmix64."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((z ^ (z >> np.uint64(31))) >> np.uint64(32))


@compiled
def random_set(state, n, m):  # type: ignore[no-untyped-def]
    """A random mask of m bits out of n, each as likely (Floyd)."""
    mask = 0
    for j in range(n - m, n):
        t = (random_word(state) * (j + 1)) >> 32
        mask |= (1 << j) if mask >> t & 1 else (1 << t)
    return mask


@inlined
def next_set(mask, n):  # type: ignore[no-untyped-def]
    """The next mask with as many bits in numerical order (Gosper), after the last one the first."""
    low = mask & -mask
    up = mask + low
    after = (((up ^ mask) >> 2) // low) | up
    if after >> n:
        count = 0
        while mask:
            mask &= mask - 1
            count += 1
        after = (1 << count) - 1
    return after


@inlined
def slot_of(table, mask):  # type: ignore[no-untyped-def]
    """Where the mask is in the table of visited sets, or should go."""
    slot = (mask * 0x9E3779B1) & (table.shape[0] - 1)
    while table[slot] != 0 and table[slot] != mask:
        slot = (slot + 1) & (table.shape[0] - 1)
    return slot


@inlined
def largest_set(above, level, m):  # type: ignore[no-untyped-def]
    """The mask of the m largest coordinates, ties going to the first."""
    mask, rest = np.int64(above), np.int64(level)
    count, bits = 0, mask
    while bits:
        bits &= bits - 1
        count += 1
    while count < m:
        bit = rest & -rest
        mask |= bit
        rest ^= bit
        count += 1
    return mask


def as_permutations(masks: NDArray[Any], places: NDArray[Any], n: int, m: int) -> NDArray[np.int64]:
    """S, a, the others, as permutations: sorted by which part a coordinate belongs to, stably."""
    outside = masks[..., None] >> np.arange(n) & 1
    part = 2 * outside - (np.arange(n) == places[..., None])
    return np.argsort(part, axis=-1, kind="stable").astype(np.int64)
