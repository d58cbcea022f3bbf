"""Automorphisms of a real code: permutations of its coordinates, with signs, that map codewords to codewords.

The orthogonal projection N on the code determines it, so those are the signed permutations that keep N. They are found
as those of a graph: two vertices (j, +), (j, -) for each coordinate, every pair of vertices coloured by its entry of N,
taken with the product of their signs. Colours of vertices are refined by the colours around them until nothing changes;
where that leaves a choice, a vertex is singled out, and every image of it is tried (McKay, Practical graph isomorphism,
Congressus Numerantium 30, 1981). How far off they may be is for `automorphism_groups` to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..numerics.bitsets import BITS

EQUAL = 1e-9
"""Entries of N nearer than this may be the same one."""

TRIED = 1000
"""Refinements after which the search for more generators ends; those found by then generate a subgroup."""


class Automorphism(NamedTuple):
    """For every codeword c there is one with sign[j] c[j] at coordinate perm[j].

    perm: (n,) int64. sign: (n,) float64, 1 or -1.
    """

    perm: NDArray[np.int64]
    sign: NDArray[np.float64]


def _classes(G: NDArray[np.float64]) -> tuple[list[list[int]], NDArray[np.float64]]:
    """Coordinates whose columns are equal up to their sign, and each one's sign: (n,) 1 or -1."""
    seen: dict[bytes, list[int]] = {}
    signs = np.ones(G.shape[1])
    for j, column in enumerate(G.T):
        first = column[np.flatnonzero(column)[:1]]
        if len(first):
            signs[j] = np.sign(first[0])
        seen.setdefault((column * signs[j] + 0.0).tobytes(), []).append(j)
    return list(seen.values()), signs


def exchangeable(G: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each coordinate the mask of those whose column is the same up to its sign: exchanging them keeps the code."""
    out = np.empty(G.shape[1], np.int64)
    for group in _classes(G)[0]:
        mask = sum(1 << j for j in group)
        out[group] = mask - 2**BITS if mask >> 63 else mask
    return out


def automorphisms(G: NDArray[np.float64], tried: int = TRIED) -> list[Automorphism]:
    """Generators of the automorphisms of a code but for exchanges of equal columns, which keep their order.

    Args:
        G: (k, n) = [I | P].
        tried: see TRIED.

    Returns:
        Generators, none for most codes. Each may be off by rounding: `automorphism_groups.errors_of` says how far.

    Example:
        >>> import numpy as np
        >>> from moe_mheight.codes.automorphisms import automorphisms
        >>> [found.perm.tolist() for found in automorphisms(np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]]))]
        [[1, 0, 2]]
    """
    classes, signs = _classes(G)
    Q = np.linalg.qr((G / np.linalg.norm(G, axis=1, keepdims=True)).T)[0]
    N = (Q @ Q.T) * signs * signs[:, None]
    first = [group[0] for group in classes]
    sizes = np.array([len(group) for group in classes])
    if (np.diff(np.sort(N.diagonal()[first] + 2.0 * sizes)) > EQUAL).all():  # no two are alike
        return []
    found = _Graph(N[np.ix_(first, first)], sizes, tried).generators()
    return [_lifted(classes, signs, perm, sign) for perm, sign in found]


def _lifted(
    classes: list[list[int]], signs: NDArray[np.float64], perm: NDArray[np.int64], sign: NDArray[np.float64]
) -> Automorphism:
    """An automorphism of one coordinate for each class, for all coordinates."""
    out = Automorphism(np.empty(len(signs), np.int64), np.empty(len(signs)))
    for group, to, s in zip(classes, perm, sign, strict=True):
        out.perm[group] = classes[to]
        out.sign[group] = s * signs[group] * signs[classes[to]]
    return out


class _Graph:
    """The graph whose automorphisms are wanted, and how many refinements may still be tried."""

    def __init__(self, N: NDArray[np.float64], sizes: NDArray[np.int64], tried: int) -> None:
        self.n, self.tried = len(N), tried
        kinds = _kinds(np.abs(N))
        self.signed = np.where(N < 0.0, -kinds, kinds)
        both = np.concatenate([self.signed, -self.signed], axis=1)
        pairs = np.concatenate([both, np.roll(both, self.n, axis=1)])
        draw = np.random.default_rng(0)
        self.weights = draw.integers(0, 2**63, 2 * self.n + 2, np.uint64) * np.uint64(2) + np.uint64(1)
        largest = int(kinds.max())
        self.pairs = draw.integers(0, 2**63, 2 * largest + 2, np.uint64)[pairs + largest]
        everything = np.arange(2 * self.n)
        self.pairs[everything, (everything + self.n) % (2 * self.n)] = draw.integers(0, 2**63, None, np.uint64)
        _, start = np.unique(kinds.diagonal() * (self.n + 1) + sizes, return_inverse=True)
        self.start = np.tile(start, 2)

    def refine(self, colour: NDArray[np.int64]) -> tuple[NDArray[np.int64], bytes]:
        """Colours that say all of the colours around them; what is the same for isomorphic colourings."""
        self.tried -= 1
        trace, count = b"", int(colour.max()) + 1
        while True:
            weight = self.weights[colour]
            keys = self.pairs @ weight ^ weight * weight
            kept, finer, often = np.unique(keys, return_inverse=True, return_counts=True)
            trace += kept.tobytes() + often.tobytes()
            if len(kept) <= count:
                return colour, trace
            colour, count = finer, len(kept)

    def single(self, colour: NDArray[np.int64], point: int) -> tuple[NDArray[np.int64], bytes]:
        """The same with one point in a colour of its own."""
        colour = colour.copy()
        colour[point] = colour.max() + 1
        return self.refine(colour)

    def generators(self) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Permutations with signs that generate all, unless too many would have to be tried."""
        colours, traces, base = [self.refine(self.start)[0]], [b""], []
        while (cells := np.bincount(colours[-1])).max() > 1:
            base.append(int(np.flatnonzero(colours[-1] == cells.argmax())[0]))
            colour, trace = self.single(colours[-1], base[-1])
            colours.append(colour)
            traces.append(trace)
        path = _Path(base, colours, traces)
        found: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        for level in reversed(range(len(base))):
            done = {base[level] % self.n}  # coordinates of the orbit, and those that are no images
            for x in self.images(path, level, colours[level]):
                done = orbit([perm for perm, _ in found], done)
                if x % self.n not in done and self.tried > 0:
                    image = self.matched(path, level, colours[level], [x])
                    if image is not None:
                        found.append(image)
                    done.add(x % self.n)
        return found

    def images(self, path: _Path, level: int, colour: NDArray[np.int64]) -> list[int]:
        """Where the next point of the base may go: points, of which the sign is + where it does not matter."""
        points = np.flatnonzero(colour == path.colours[level][path.base[level]])
        free = set(points.tolist())
        return [x for x in free if x < self.n or x - self.n not in free]

    def matched(
        self, path: _Path, level: int, colour: NDArray[np.int64], images: list[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """An automorphism that maps the base up to `level` as this colouring does, and the next one to some image."""
        for x in images:
            if self.tried <= 0:
                return None
            finer, trace = self.single(colour, x)
            if trace != path.traces[level + 1]:
                continue
            if level + 1 < len(path.base):
                found = self.matched(path, level + 1, finer, self.images(path, level + 1, finer))
            else:
                found = self.read(path.colours[-1], finer)
            if found is not None:
                return found
        return None

    def read(
        self, colour: NDArray[np.int64], image: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """The permutation between two colourings of all points by different colours; None where it keeps no N."""
        to = np.argsort(image)[colour][: self.n]
        perm, sign = to % self.n, np.where(to < self.n, 1, -1)
        if len(set(perm.tolist())) < self.n:
            return None
        moved = self.signed[np.ix_(perm, perm)] * sign * sign[:, None]
        return (perm, sign.astype(float)) if np.array_equal(moved, self.signed) else None


class _Path(NamedTuple):
    """The points singled out one after the other, and the colours, and traces, before each and after the last."""

    base: list[int]
    colours: list[NDArray[np.int64]]
    traces: list[bytes]


def _kinds(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers for values, the same where they are nearer than EQUAL, by steps; 0 for those near 0."""
    order = np.argsort(values, axis=None)
    steps = np.diff(values.ravel()[order], prepend=0.0) > EQUAL
    out = np.empty(values.size, np.int64)
    out[order] = np.cumsum(steps)
    return out.reshape(values.shape)


def orbit(perms: Sequence[NDArray[np.int64]], points: set[int]) -> set[int]:
    """Where permutations take these coordinates, after any number of steps."""
    out, new = set(points), list(points)
    while new:
        j = new.pop()
        for perm in perms:
            image = int(perm[j])
            if image not in out:
                out.add(image)
                new.append(image)
    return out
