"""Searches that do one of each orbit beside plain ones: seconds, nodes, and the group that was found.

    python benchmarks/symmetry.py               # writes results/symmetry.json
    python benchmarks/symmetry.py --repeats 1   # once each

Process seconds of `search_height` on one thread, the least of the repeats, after a first call that compiles; what
finding the automorphisms takes is part of them, and told by itself, too. Certificates: bytes and process seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from exact_profile import machine
from numpy.typing import NDArray

from moe_mheight import certify, systematic
from moe_mheight._io import write_file
from moe_mheight.codes.automorphism_groups import group_of, orbits
from moe_mheight.codes.automorphisms import automorphisms
from moe_mheight.exact.branch_and_bound import search_height
from moe_mheight.exact.result import Height
from moe_mheight.proofs.verify import verify

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import symmetric_codes as sym  # noqa: E402


def codes() -> list[tuple[str, NDArray[np.float64], int]]:
    """(name, P, m)."""
    rng = np.random.default_rng(18)

    def circulant(k: int) -> NDArray[np.float64]:
        return np.asarray(sym.circulant(rng.integers(-9, 10, k).astype(float)))

    def of(G: Any) -> NDArray[np.float64]:
        return np.asarray(systematic(G)[0], np.float64)

    quasi = np.block([[circulant(4) for _ in range(3)] for _ in range(3)])
    return [
        ("polygon", of(sym.polygon(64)), 32),
        ("polygon", of(sym.polygon(40)), 20),
        ("double circulant", circulant(12), 6),
        ("double circulant", circulant(16), 6),
        ("double circulant", circulant(20), 5),
        ("double circulant", circulant(12), 10),
        ("negacyclic", np.asarray(sym.circulant(rng.normal(size=12), -1)), 6),
        ("quasi-cyclic, 3 x 3 circulants", quasi, 6),
        ("4 circulants of 8", np.hstack([circulant(8) for _ in range(3)]), 8),
        ("harmonics 1 to 4 of 24", of(sym.harmonics(24, (1, 2, 3, 4))), 8),
        ("harmonics 1 and 2 of 48", of(sym.harmonics(48, (1, 2))), 12),
        ("conference matrix, q = 13", sym.paley(13)[:, 14:], 6),
        ("3 equal summands", of(np.kron(np.eye(3), np.hstack([np.eye(4), rng.normal(size=(4, 6))]))), 5),
        ("random", rng.normal(size=(12, 12)), 6),
    ]


def least(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Process seconds, and what came of it."""
    best, found = np.inf, None
    for _ in range(repeats):
        began = time.process_time()
        found = run()
        best = min(best, time.process_time() - began)
    return round(best, 5), found


def row(name: str, P: NDArray[np.float64], m: int, repeats: int) -> dict[str, Any]:
    G = np.hstack([np.eye(len(P)), P])
    finding, group = least(lambda: group_of(G, automorphisms(G), 1e-9), repeats)

    def search(symmetry: bool) -> tuple[float, Height]:
        seconds, (found, _) = least(lambda: search_height(P, m, threads=1, symmetry=symmetry), repeats)
        return seconds, found

    (plain_s, plain), (own_s, own) = search(False), search(True)
    if abs(own.value / plain.value - 1.0) > 1e-9:
        raise SystemExit(f"{name}: {own.value!r}, and {plain.value!r} by the plain search")
    return {
        "name": name, "n": G.shape[1], "k": len(P), "m": m, "height": own.value, "bracket": own.upper / own.lower - 1.0,
        "group": len(group.perms), "orbits": len(np.unique(orbits(group.perms))), "finding_s": finding,
        "plain_s": plain_s, "symmetric_s": own_s, "ratio": round(plain_s / own_s, 2),
        "plain_nodes": plain.nodes, "symmetric_nodes": own.nodes,
    }  # fmt: skip


def proof(k: int, m: int, repeats: int) -> dict[str, Any]:
    """A certificate of a double circulant code with its automorphisms, and without."""
    P = sym.circulant(np.random.default_rng([18, k]).integers(-9, 10, k)).tolist()
    out: dict[str, Any] = {"n": 2 * k, "k": k, "m": m}
    for name, symmetry in (("plain", False), ("symmetric", True)):
        made = certify(P, m, symmetry=symmetry)
        seconds, verdict = least(lambda made=made: verify(made), repeats)
        if not verdict.accepted:
            raise SystemExit(verdict.reason)
        out |= {f"{name}_bases": verdict.bases, f"{name}_bytes": len(json.dumps(made)), f"{name}_verify_s": seconds}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "symmetry.json")
    args = parser.parse_args()
    search_height(np.array([[1.0, 0.5], [0.3, 1.0]]), 1)
    rows = [row(name, P, m, args.repeats) for name, P, m in codes()]
    for one in rows:
        print(" ".join(f"{key}={value}" for key, value in one.items()))
    proofs = [proof(k, m, args.repeats) for k, m in ((8, 4), (10, 5), (12, 6))]
    for one in proofs:
        print(" ".join(f"{key}={value}" for key, value in one.items()))
    made = {
        "command": f"python benchmarks/symmetry.py --repeats {args.repeats}",
        "machine": machine(),
        "searches": rows,
        "certificates": proofs,
    }
    write_file(args.out, (json.dumps(made, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
