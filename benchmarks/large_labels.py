"""Exact heights of codes too long for the table of minors: all C(n, m) sets scanned, linear programs where it matters.

    python benchmarks/large_labels.py 20 10 6 --count 300 --seed 1 --out codes.npz [--kind normal] [--workers 1]

writes P (count, k, r), h (count,) and what made them. For one code: `exact_by_scan(P, m)`, n up to 24 or so.

With N, A, X as in moe_mheight.search and y the least-squares solution of (S, a), |y|_2^2 = X_aa - 1. So |y|_1^2 is at
most (n - m) (X_aa - 1), and nearly every (S, a) is dismissed against the best codeword that a short search has found.
What is left has y computed, is reweighted a few steps, then goes to a linear program, the largest bound first.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

from moe_mheight import random_codes
from moe_mheight.codes import check_m, check_P
from moe_mheight.kernels import LANES, compiled
from moe_mheight.kinds import KINDS
from moe_mheight.least_squares import invert_outside
from moe_mheight.search import search

LONGEST = 28
BUDGET = 1000
STEPS = 10
CHUNK = 256
MARGIN = 1e-10
"""A bound this close above the best codeword, relatively, is not looked into."""

LARGEST = 1e11
"""Heights above this count as infinite, as in moe_mheight.minors."""


@compiled
def _advance(combination, n):  # type: ignore[no-untyped-def]
    """The next combination in lexicographic order; False after the last."""
    m = combination.shape[0]
    i = m - 1
    while i >= 0 and combination[i] == n - m + i:
        i -= 1
    if i < 0:
        return False
    combination[i] += 1
    for j in range(i + 1, m):
        combination[j] = combination[j - 1] + 1
    return True


@compiled
def _scan(N, m, best, masks, places, bounds):  # type: ignore[no-untyped-def]
    """All (S, a) whose least-squares bound is above `best`; returns how many, though only as many as fit are stored."""
    n = N.shape[0]
    everything = np.arange(m)
    combination = np.arange(m)
    A = np.empty((m, LANES), np.int64)
    block, X = np.empty((m, m, LANES)), np.empty((m, m, LANES))
    doubtful = np.empty(LANES, np.bool_)
    enough = 1.0 + best * best / (n - m)
    found, more = 0, True
    while more:
        active = 0
        while more and active < LANES:
            for b in range(m):
                A[b, active] = combination[b]
            active += 1
            more = _advance(combination, n)
        for lane in range(active, LANES):
            for b in range(m):
                A[b, lane] = A[b, 0]
        for b in range(m):
            for d in range(m):
                rows, columns, out = A[b], A[d], block[b, d]
                for lane in range(out.shape[0]):
                    out[lane] = N[rows[lane], columns[lane]]
        invert_outside(block, everything, X)
        for lane in range(active):
            doubtful[lane] = False
            for p in range(m):
                doubtful[lane] |= not 0.9 < X[p, p, lane] < 1e12
        for p in range(m):
            for lane in range(active):
                if not doubtful[lane] and X[p, p, lane] <= enough:
                    continue
                mask = 0
                for b in range(m):
                    mask |= 1 << A[b, lane]
                total = 0.0
                for j in range(n):
                    if not mask >> j & 1:
                        y = 0.0
                        for b in range(m):
                            y += N[j, A[b, lane]] * X[b, p, lane]
                        total += abs(y)
                if doubtful[lane] or not total <= best:
                    if found < masks.shape[0]:
                        masks[found], places[found] = mask, A[p, lane]
                        bounds[found] = np.inf if doubtful[lane] else total
                    found += 1
    return found


def _survivors(N: NDArray[Any], m: int, best: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    room = 1 << 14
    while True:
        masks, places, bounds = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room)
        found = _scan(N, m, best, masks, places, bounds)
        if found <= room:
            order = np.argsort(-bounds[:found])
            return masks[order], places[order], bounds[order]
        room = found


def _heights(c: NDArray[Any], m: int) -> NDArray[Any]:
    down = -np.sort(-np.abs(c), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        h = down[..., 0] / down[..., m]
    return np.where(h > 0, h, 1.0)


def _reweight(Q: NDArray[Any], masks: NDArray[Any], places: NDArray[Any], m: int) -> tuple[Any, Any]:
    """Best codeword found and bound for each (S, a): (count,) each."""
    k, n = Q.shape
    inside = (masks[:, None] >> np.arange(n) & 1) == 0
    q_a = Q[:, places].T
    weight = inside.astype(float)
    lower, upper = np.ones(len(masks)), np.full(len(masks), np.inf)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for _ in range(STEPS):
            root = np.sqrt(weight)
            # QR of the weighted transpose: the condition of Q_S is not squared
            V, R = np.linalg.qr((root[:, None, :] * Q).transpose(0, 2, 1))
            diagonal = np.abs(np.einsum("bii->bi", R))
            good = diagonal.min(axis=1) > 1e-14 * diagonal.max(axis=1)
            R[~good] = np.eye(k)
            t = np.linalg.solve(R.transpose(0, 2, 1), q_a[..., None])[..., 0]
            u = np.linalg.solve(R, t[..., None])[..., 0]
            y = root * np.einsum("bnk,bk->bn", V, t)
            off = np.sqrt(n) * np.linalg.norm(q_a - y @ Q.T, axis=1)
            total = np.abs(y).sum(axis=1)
            bound = np.where(good & (off < 0.5), total / (1 - off), np.inf)
            upper = np.fmin(upper, bound)
            h = _heights(u @ Q, m)
            lower = np.fmax(lower, np.where(good & np.isfinite(h), h, 1.0))
            weight = np.where(inside, np.fmax(np.abs(y), 1e-12 * total[:, None]), 0.0)
            weight = np.where(np.isfinite(weight), weight, inside)
    return lower, upper


def _program(Q: NDArray[Any], mask: int, a: int, m: int) -> float:
    """The best height of (S, a), by a linear program; inf when it has no end."""
    inside = (mask >> np.arange(Q.shape[1]) & 1) == 0
    rows = Q[:, inside].T
    found = linprog(-Q[:, a], np.vstack([rows, -rows]), np.ones(2 * len(rows)), bounds=(None, None), method="highs")
    if found.status == 3:
        return np.inf
    if found.status != 0:
        raise ArithmeticError(f"the linear program of mask {mask}, a = {a} ended with: {found.message}")
    return float(_heights(found.x @ Q, m))


def exact_by_scan(P: ArrayLike, m: int, *, details: dict[str, Any] | None = None) -> float:
    """The m-height of one code, to about 1e-9 relative.

    Args:
        P: (k, r), n = k + r <= 28; the work grows like C(n, m).
        m: 1 <= m <= r.
        details: filled with how many (S, a) survived the scan and how many linear programs were solved.

    Returns:
        The height; inf where a linear program has no end, or above 1e11.
    """
    batch, _ = check_P(P, max_n=LONGEST)
    _, k, r = batch.shape
    n = k + r
    m = int(check_m(m, 1, r)[0])
    G = np.hstack([np.eye(k), batch[0]])
    Q = np.ascontiguousarray(np.linalg.qr((G / np.linalg.norm(G, axis=1, keepdims=True)).T)[0].T)
    sets = search(batch, m, BUDGET, threads=1)[0][0]
    masks, places = (1 << sets[:, n - m :]).sum(axis=1), sets[:, n - m]
    best = float(_reweight(Q, masks, places, m)[0].max())
    masks, places, bounds = _survivors(Q.T @ Q, m, best)
    counts = {"survivors": len(masks), "programs": 0}
    for start in range(0, len(masks), CHUNK):
        part = slice(start, start + CHUNK)
        if bounds[part][0] <= best * (1 + MARGIN):
            break
        lower, upper = _reweight(Q, masks[part], places[part], m)
        best = max(best, float(lower.max()))
        upper = np.fmin(upper, bounds[part])
        for q in np.argsort(-upper):
            if upper[q] <= best * (1 + MARGIN):
                break
            best = max(best, _program(Q, int(masks[part][q]), int(places[part][q]), m))
            counts["programs"] += 1
    if details is not None:
        details.update(counts)
    return best if best <= LARGEST else float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("n", "k", "m"):
        parser.add_argument(name, type=int)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--kind", choices=KINDS, default="normal")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    P = random_codes(args.kind, args.count, args.k, args.n - args.k, np.random.default_rng(args.seed))
    h = np.empty(args.count)
    start = time.perf_counter()
    label = partial(exact_by_scan, m=args.m)
    with ProcessPoolExecutor(args.workers) as pool:
        for q, value in enumerate(pool.map(label, P)):
            h[q] = value
            spent = time.perf_counter() - start
            print(f"\r{q + 1}/{args.count} codes, {spent / (q + 1):.2f} s each", end="", flush=True)
    print()
    settings = {"n": args.n, "k": args.k, "m": args.m, "kind": args.kind, "seed": args.seed}
    np.savez_compressed(args.out, P=P, h=h, **settings)


if __name__ == "__main__":
    main()
