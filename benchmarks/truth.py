"""Whether what is called exact is exact: hard codes against rational arithmetic.

    python benchmarks/truth.py [--codes 200000] [--seed 1] [--jobs 2] [--out benchmarks/results/truth.json]

Codes of length 3 to 10, as many of each kind:

    near-singular  one or two columns are combinations of others but for a relative 1e-6 to 1e-15
    worst-set      random codes made systematic on the information set with the smallest minor
    scaled         rows and columns times 1e-8 to 1e8
    integer        integers up to 1e15, half of them with rows that depend on others, or nearly
    combined       near-singular ones, a third of them scaled, made systematic on the worst set

For each, `height_profile` is held against certified bounds (`bounds`), and against the same enumeration in Python's
integers. A sample, and all that float64 left in doubt, up to a share of all, is held against `reference`, which shares
no code with the package: it eliminates every basis by itself, in integers. Of a smaller sample every height is also
certified, and the certificate verified. The rule of 1e11 for real codes is applied to the true height.
"""

import argparse
import json
import time
from collections import Counter
from fractions import Fraction
from itertools import combinations
from math import inf, lcm
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from moe_mheight import bounds, certify, height_profile, minimum_distance, random_codes, verify
from moe_mheight.codes.minors import are_whole
from moe_mheight.exact.enumeration import profile_ends, whole_profile

KINDS = ("near-singular", "worst-set", "scaled", "integer", "combined")
RULE, WRONG = 1e11, 1e-9


def near_singular(count: int, k: int, r: int, rng: np.random.Generator) -> np.ndarray:
    P = random_codes(str(rng.choice(["uniform", "normal", "integer"])), count, k, r, rng)
    for _ in range(int(rng.integers(1, 3))):
        columns = [np.eye(k)[rng.integers(k, size=count)], P[np.arange(count), :, rng.integers(r, size=count)]]
        target = rng.integers(r, size=count)
        made = columns[0] * rng.normal(size=(count, 1)) + columns[1] * rng.choice([0.0, 1.0, -2.0, 0.3], (count, 1))
        off = (
            10.0 ** rng.uniform(-15, -6, (count, 1)) * np.abs(made).max(1, keepdims=True) * rng.normal(size=(count, k))
        )
        P[np.arange(count), :, target] = made + off
    return P


def worst_set(count: int, k: int, r: int, rng: np.random.Generator) -> np.ndarray:
    return on_worst_set(random_codes(str(rng.choice(["normal", "integer", "scaled-integer"])), count, k, r, rng))


def on_worst_set(P: np.ndarray) -> np.ndarray:
    """The same codes but for rounding, systematic on the k coordinates with the smallest minor that is not 0."""
    count, k, r = P.shape
    G = np.concatenate([np.broadcast_to(np.eye(k), (count, k, k)), P], axis=2)
    sets = np.array(list(combinations(range(k + r), k)))
    size = np.abs(np.linalg.det(G[:, :, sets].transpose(0, 2, 1, 3)))
    size[size < 1e-13 * size.max(1, keepdims=True)] = inf
    out = np.empty_like(P)
    for i, at in enumerate(size.argmin(1)):
        others = np.setdiff1d(np.arange(k + r), sets[at])
        out[i] = np.linalg.solve(G[i][:, sets[at]], G[i][:, others])
    return out


def scaled(count: int, k: int, r: int, rng: np.random.Generator) -> np.ndarray:
    return scaled_lines(
        random_codes(str(rng.choice(["uniform", "normal", "integer", "repeated"])), count, k, r, rng), rng
    )


def scaled_lines(P: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    count, k, r = P.shape
    rows, columns = (10.0 ** rng.uniform(-8, 8, shape) for shape in ((count, k, 1), (count, 1, r)))
    which = rng.integers(3)
    return P * (rows if which != 1 else 1.0) * (columns if which != 0 else 1.0)


def integer(count: int, k: int, r: int, rng: np.random.Generator) -> np.ndarray:
    size = 10.0 ** rng.uniform(1, 15, (count, 1, 1))
    P = np.rint(rng.uniform(-1, 1, (count, k, r)) * size)
    if k > 1 and rng.random() < 0.5:
        whole = np.rint(P / 8)
        whole[:, 0] = whole[:, 1] * rng.integers(-3, 4, (count, 1)) + (whole[:, 2] if k > 2 else 0.0)
        whole[:, 0] += rng.integers(-1, 2, (count, r)) * (rng.random((count, 1)) < 0.5)
        P = whole
    return P


def combined(count: int, k: int, r: int, rng: np.random.Generator) -> np.ndarray:
    P = near_singular(count, k, r, rng)
    return on_worst_set(scaled_lines(P, rng) if rng.random() < 0.3 else P)


MAKERS = dict(zip(KINDS, (near_singular, worst_set, scaled, integer, combined), strict=True))


def reference(P: list[list[float]]) -> list[float]:
    """h_0..h_r by eliminating every basis in integers; each |y|_1 is rounded once, correctly."""
    rows = [[Fraction(value) for value in row] for row in P]
    scale = lcm(*(value.denominator for row in rows for value in row))
    k, r = len(rows), len(rows[0])
    n = k + r
    G = [[scale * (i == j) for j in range(k)] + [int(scale * x) for x in row] for i, row in enumerate(rows)]
    bases, norms = [], []
    for basis in combinations(range(n), k):
        A, before = [row[:] for row in G], 1
        for i, column in enumerate(basis):
            at = next((p for p in range(i, k) if A[p][column]), None)
            if at is None:
                break
            A[i], A[at] = A[at], A[i]
            own, now = A[i], A[i][column]
            A = [
                row if p == i else [(now * x - row[column] * y) // before for x, y in zip(row, own, strict=True)]
                for p, row in enumerate(A)
            ]
            before = now
        else:
            bases.append(sum(1 << j for j in basis))
            norms.append([sum(abs(row[a]) for row in A) / abs(before) for a in range(n)])
    masks, table = np.array(bases), np.array(norms)
    out = [1.0]
    for m in range(1, r + 1):
        best = out[-1]
        for left in combinations(range(n), m):
            inside = table[masks & sum(1 << j for j in left) == 0]
            best = max(best, inside[:, left].min(0).max()) if len(inside) else inf
        out.append(best)
    real = any(value.denominator > 1 for row in rows for value in row)
    return [inf if real and h > RULE else float(h) for h in out]


def compare(found: np.ndarray, truth: np.ndarray) -> tuple[int, int, float]:
    """Wrong digits, wrong infinities, the largest relative error."""
    both = np.isfinite(found) & np.isfinite(truth)
    error = np.abs(found[both] / truth[both] - 1.0)
    return int((error > WRONG).sum()), int((np.isinf(found) != np.isinf(truth)).sum()), float(error.max(initial=0.0))


def one_batch(kind: str, number: int, count: int, seed: int, share: float) -> dict[str, Any]:
    rng = np.random.default_rng([seed, KINDS.index(kind), number])
    n = int(rng.integers(3, 11))
    k = int(rng.integers(1, n))
    P = MAKERS[kind](count, k, n - k, rng)
    P = P[((np.abs(P) < 1e30) & ((np.abs(P) > 1e-36) | (P == 0))).all((1, 2))]
    found = height_profile(P, threads=1)
    real = ~are_whole(P)
    tally = Counter(codes=len(P), heights=found[:, 1:].size, infinite=int(np.isinf(found).sum()))

    low, high = profile_ends(P, 1).transpose(1, 0, 2)
    open_ends = ~((high <= low * (1 + 1e-12)) | (real[:, None] & (low > RULE)) | (low == high)).all(1)
    tally["open after intervals"] = int(open_ends.sum())
    for m in range(1, n - k + 1):
        lower, upper = bounds(P, m, threads=1)
        h = found[:, m]
        tally["contradicts bounds"] += int((~((h >= lower * (1 - 1e-12)) & (h <= upper * (1 + 1e-12)))).sum())
    tally["distance differs"] = int((minimum_distance(P) != (np.isfinite(found)).sum(1)).sum())

    whole = np.array([whole_profile(matrix) for matrix in P.tolist()])
    whole[real[:, None] & (whole > RULE)] = inf
    digits, infinities, worst = compare(found, whole)
    tally["wrong digits"], tally["wrong infinities"] = digits, infinities
    sample = np.flatnonzero(open_ends | (rng.random(len(P)) < share))[: max(1, int(8 * share * count))]
    if len(sample):
        truth = np.array([reference(matrix) for matrix in P[sample].tolist()])
        digits, infinities, worst_again = compare(found[sample], truth)
        tally["against reference"] = len(sample)
        tally["wrong digits by reference"], tally["wrong infinities by reference"] = digits, infinities
        worst = max(worst, worst_again)
    if len(P) and number % 20 == 0:
        tally.update(proven(P[0], found[0]))
    return {"kind": kind, "worst": worst, **tally}


def proven(P: np.ndarray, found: np.ndarray) -> Counter[str]:
    """Every height of one code by a certificate, which is verified."""
    tally: Counter[str] = Counter()
    for m in range(1, len(found)):
        made = certify(P.tolist(), m)
        tally["certificates"] += verify(made).accepted
        height = made["height"]
        if height == "inf":
            tally["certificate differs"] += found[m] != inf
        elif isinstance(height, str):
            tally["certificate differs"] += not abs(Fraction(found[m]) / Fraction(height) - 1) < WRONG
        else:
            inside = float(height["lower"]) * (1 - WRONG) <= found[m] <= float(height["upper"]) * (1 + WRONG)
            tally["certificate differs"] += not inside
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codes", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=250, help="codes of one size together")
    parser.add_argument("--share", type=float, default=0.02, help="of codes that are held against the reference")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    began = time.perf_counter()
    batches = max(1, given.codes // (len(KINDS) * given.batch))
    tasks = [(kind, number) for number in range(batches) for kind in KINDS]
    results = joblib.Parallel(n_jobs=given.jobs, return_as="generator_unordered")(
        joblib.delayed(one_batch)(kind, number, given.batch, given.seed, given.share) for kind, number in tasks
    )
    kinds: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    worst = dict.fromkeys(KINDS, 0.0)
    for done, result in enumerate(results, 1):
        kind = result.pop("kind")
        worst[kind] = max(worst[kind], result.pop("worst"))
        kinds[kind].update(result)
        if done % 40 == 0:
            print(f"{done} of {len(tasks)} batches, {time.perf_counter() - began:.0f} s", flush=True)
    report = {
        "command": f"python benchmarks/truth.py --codes {given.codes} --seed {given.seed}",
        "seconds": round(time.perf_counter() - began, 1),
        "kinds": {kind: {**kinds[kind], "largest relative error": worst[kind]} for kind in KINDS},
    }
    text = json.dumps(report, indent=1, default=float)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
