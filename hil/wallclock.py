"""Runs the installed controller with a wall clock that can be set off while it runs.

``python -m hil.wallclock FILE ARGUMENT...``: FILE holds the seconds to add; the controller itself is unchanged, and its
monotonic clock too.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

LOOK_S = 0.1


def main() -> None:
    """Set the clock up, then hand over to the controller's command line."""
    path, arguments = Path(sys.argv[1]), sys.argv[2:]
    plain_ns, steady = time.time_ns, time.monotonic
    held, looked = 0.0, float("-inf")

    def time_ns() -> int:
        nonlocal held, looked
        if steady() - looked > LOOK_S:
            looked = steady()
            held = float(path.read_text() or 0) if path.exists() else 0.0
        return plain_ns() + round(held * 1e9)

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
    from controller.cli import main as controller  # noqa: PLC0415  after the clock is in place

    sys.argv = ["podkeeper", *arguments]
    controller()


if __name__ == "__main__":
    main()
