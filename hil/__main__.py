"""Command line of the bench: ``python -m hil demo``, ``report``, ``compare`` and ``procedure``."""

from __future__ import annotations

import sys

from hil.demo import main

if __name__ == "__main__":
    sys.exit(main())
