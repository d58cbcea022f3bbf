"""Where something was made: machine, versions and commit."""

from __future__ import annotations

import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..numerics.jit import thread_count


def provenance() -> dict[str, Any]:
    """Where and with what a model was made."""
    try:
        here = Path(__file__).parent
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            check=False,
            cwd=here,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        ).stdout.strip()
    except OSError:
        commit = ""
    return {
        "version": __version__,
        "commit": commit or "unknown",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {thread_count(None)} cores",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
