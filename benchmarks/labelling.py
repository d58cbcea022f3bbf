"""How long 3.83 million exactly labelled rows over the nine groups take, written as one .npz, and how much memory.

    python benchmarks/labelling.py [--rows 425556] [--out benchmarks/results/labelling.json]

The published record for that many labels is 8.7 hours on 64 cores. A first, small run compiles, and is not counted.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from moe_mheight._io import write_file

PUBLISHED = {"rows": 3_830_000, "hours": 8.7, "cores": 64}


def generate(path: Path, rows: int) -> float:
    command = [sys.executable, "-m", "moe_mheight", "generate", "--kind", "integer", "--rows", str(rows), str(path)]
    start = time.perf_counter()
    subprocess.run([*command, "--quiet"], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=425_556, help="per group")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "labelling.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "warm.npz", 100)
        path = Path(folder) / "codes.npz"
        seconds = generate(path, args.rows)
        size = path.stat().st_size
    rows = 9 * args.rows
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    cores = len(os.sched_getaffinity(0))
    core_hours = PUBLISHED["hours"] * PUBLISHED["cores"] * rows / PUBLISHED["rows"]
    result = {
        "command": f"mheight generate --kind integer --rows {args.rows} codes.npz",
        "rows": rows,
        "seconds": round(seconds, 1),
        "cores": cores,
        "peak_memory_gib": round(peak, 2),
        "file_mb": round(size / 1e6, 1),
        "published": PUBLISHED,
        "core_hours_ratio": round(core_hours / (seconds / 3600 * cores)),
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }
    write_file(args.out, (json.dumps(result, indent=2) + "\n").encode())
    print(f"{rows} labelled rows in {seconds:.1f} s on {cores} cores, {peak:.2f} GiB peak, file {size / 1e6:.0f} MB")
    print(
        f"published: {PUBLISHED['hours']} h on {PUBLISHED['cores']} cores, {result['core_hours_ratio']} x our core time"
    )


if __name__ == "__main__":
    main()
