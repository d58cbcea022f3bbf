"""What benchmarks/survival.py shows with much work, with little: real processes are killed, disks run full."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "survival.py"


@pytest.mark.slow
@pytest.mark.parametrize("check", ["cluster", "kills", "training", "disk"])
def test_survival(check, tmp_path):
    if not SCRIPT.exists():
        pytest.skip("benchmarks/ is not there")
    pytest.importorskip("distributed", reason="real clusters need dask's distributed (extra test-all)")
    done = subprocess.run(
        [sys.executable, SCRIPT, check, "--small"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=1200,
    )
    if "no way to mount" in done.stdout + done.stderr:
        pytest.skip("no small disk can be mounted here: not root, and no user namespaces")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{check}: ")
    assert not list(tmp_path.iterdir())
