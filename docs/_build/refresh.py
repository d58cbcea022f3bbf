"""Put what a page's blocks print now into the page, as after a change of what commands say.

    python docs/_build/refresh.py howto/predict.md tutorial.md

Blocks that show only a part (a line ...) and those that are marked as differing stay: mend these by hand.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent.parent
sys.path.insert(0, str(DOCS.parent / "tests" / "docs"))


def main(pages: list[str]) -> None:
    from test_docs import outcomes

    for page in pages:
        path = DOCS / page
        text, at = path.read_text(encoding="utf-8"), 0
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            found = list(outcomes(page))
            os.chdir(DOCS)
        for block, printed in found:
            if block.shown is None:
                continue
            at = text.index(block.content, at) + len(block.content)
            start = text.index("```text\n", at) + len("```text\n")
            end = text.index("```", start)
            if block.values and "..." not in text[start:end].split():
                text = text[:start] + printed.strip("\n") + "\n" + text[end:]
            at = start
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
