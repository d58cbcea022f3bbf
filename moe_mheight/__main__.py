"""`python -m moe_mheight` is `mheight`."""

import os
import signal
from typing import Any


def main() -> None:
    """Run `mheight`; Ctrl-C ends it in one line also while its modules are imported."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _end)
    from moe_mheight.cli.main import main as run  # noqa: PLC0415  not before Ctrl-C is seen to

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _end(number: int, frame: Any) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
