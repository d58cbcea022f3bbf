"""What tests of commands share: a few rows with their heights, files of them, and what a refusal looks like."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from math import inf

import brute

ROWS = [
    [4, 2, 2, [[1, 1], [1, 2]]],
    [5, 2, 1, [[3, -1, 2], [0.5, 2, 7]]],
    [4, 2, 2, [[1, 1], [1, 1]]],
    [6, 3, 2, [[1, 2, 3], [4, -5, 6], [7, 8, 10]]],
    [5, 2, 3, [[3, -1, 2], [0.5, 2, 7]]],
    [6, 4, 1, [[1, 2], [3, 4], [5, -6], [-7, 8]]],
]
HEIGHTS = [float(brute.profile(P)[m]) for _, _, m, P in ROWS]


def contents(folder):
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


def write_json(path, rows, heights=None):
    plain = rows if heights is None else {"rows": rows, "heights": [None if h == inf else h for h in heights]}
    path.write_text(json.dumps(plain))
    return path


def assert_refused(result, *parts):
    """Exit code 2 and one line that says why."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert re.fullmatch(r"(mheight|ablation)[^\n]*: [^\n]+\n", err), err
    assert "Traceback" not in err
    assert len(err) < 1000
    for part in parts:
        assert str(part) in err


def python(*arguments, **options):
    """A process of its own, killed where it does not end."""
    line = [sys.executable, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=600, **options)


@contextmanager
def started(arguments, **options):
    """A process that is ended when the block is left, however that comes about."""
    process = subprocess.Popen([*map(str, arguments)], **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
