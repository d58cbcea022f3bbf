"""Exact labels for the training of the experts of long codes, and for the table that `mheight ensemble-eval` prints.

    python benchmarks/label_long_codes.py batches FILE --seed 1 --minutes 20   random groups with 17 <= n <= 44
    python benchmarks/label_long_codes.py table FILE --seed 2                  the groups of the table, with seconds

FILE is written every minute and read again by the next run with the same seed, which goes on after it.
"""

from __future__ import annotations

import argparse
import io
import time
from itertools import count
from math import comb
from pathlib import Path

import numpy as np

from moe_mheight import m_height, random_codes
from moe_mheight.data.drawn_labels import COUNT, DrawnBatch, draw_batch, kind_of, read_batches, write_batches
from moe_mheight.exact.cost_model import expected_seconds
from moe_mheight.groups import Group, group_name

KEPT_OUT = {(20, 10, 6), (32, 8, 8), (24, 12, 9), (32, 16, 8), (40, 20, 6), (48, 24, 5), (48, 36, 4), (64, 32, 4)}
"""Groups that no expert sees; nor does any with n a multiple of 7."""

SLOWEST, FEWEST = 0.12, 200
"""Seconds that a label may take by the guess; sets that there must be."""

TABLE = {
    (20, 10, 6): 60, (24, 12, 6): 60, (24, 12, 9): 50, (32, 8, 8): 40, (32, 16, 6): 40, (48, 36, 4): 25,
    (64, 32, 4): 8, (40, 20, 6): 10, (48, 24, 5): 8, (64, 16, 8): 1,
}  # fmt: skip
"""Codes of each kind of the table's groups."""

TABLE_KINDS = ("integer", "small-integer", "normal", "tight-frame")


SLACKS = (0.1, 0.2, 0.15, 0.15, 0.1)
"""Share of groups of slack 0, 1, 2, ...; the others have any."""


def group_of(seed: int, number: int) -> Group:
    rng = np.random.default_rng([seed, number, 1])
    slack = int(rng.choice(len(SLACKS) + 1, p=[*SLACKS, 1.0 - sum(SLACKS)]))
    while True:
        n = int(rng.integers(17, 45))
        k = int(rng.integers(2, n - 2))
        m = n - k - slack if slack < len(SLACKS) else int(rng.integers(2, max(3, n - k + 1)))
        if not 2 <= m <= n - k or n % 7 == 0 or (n, k, m) in KEPT_OUT or comb(n, m) < FEWEST:
            continue
        seconds = expected_seconds(n, k, m, 1)
        # the slower ones teach more
        if seconds < SLOWEST and rng.random() < (seconds / SLOWEST) ** 0.3:
            return n, k, m


def label_batches(path: Path, seed: int, minutes: float) -> None:
    done = [batch for batch, _ in read_batches(path)] if path.exists() else []
    began = told = time.monotonic()
    for number in count(1 + max((batch.number for batch in done), default=-1)):
        group, kind = group_of(seed, number), kind_of(seed, number)
        h = m_height(draw_batch(seed, number, group, kind), group[2], threads=1)
        done.append(DrawnBatch(seed, number, group, kind, np.asarray(h)))
        now = time.monotonic()
        if now - told > 60 or now - began > 60 * minutes:
            write_batches(path, done)
            print(f"{len(done) * COUNT} codes after {(now - began) / 60:.1f} minutes", flush=True)
            told = now
        if now - began > 60 * minutes:
            return


def label_table(path: Path, seed: int) -> None:
    found = dict(np.load(path)) if path.exists() else {}
    for group, codes in TABLE.items():
        for place, kind in enumerate(TABLE_KINDS):
            name = f"{group_name(group, '_')}/{kind}"
            if f"{name}/h" in found:
                continue
            n, k, m = group
            P = random_codes(kind, codes, k, n - k, np.random.default_rng([seed, *group, place]))
            h, seconds = np.empty(codes), np.empty(codes)
            for i in [0, *range(codes)] if codes > 1 else [0]:  # the first one again: kernels may have been compiled
                before = time.process_time()
                h[i] = m_height(P[i], m, threads=1)
                seconds[i] = time.process_time() - before
            whole = np.array_equal(P, np.round(P))
            found |= {f"{name}/P": P.astype(np.int8) if whole else P, f"{name}/h": h, f"{name}/seconds": seconds}
            content = io.BytesIO()
            np.savez_compressed(content, **found)  # type: ignore[arg-type]
            path.write_bytes(content.getvalue())
            print(group, kind, f"{1e3 * np.median(seconds):.1f} ms", int(np.isinf(h).sum()), "infinite", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["batches", "table"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20.0)
    given = parser.parse_args()
    if given.what == "batches":
        label_batches(given.file, given.seed, given.minutes)
    else:
        label_table(given.file, given.seed)


if __name__ == "__main__":
    main()
