"""How the plant's physics is compiled: pure functions on flat arrays of numbers, turned into machine code by numba.

numba's cache looks at the file of the compiled entry alone and would keep old physics when a file that it calls has
changed. So the cache lies in a folder named after the text of the whole room.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Numbers: TypeAlias = NDArray[np.float64]
Words: TypeAlias = NDArray[np.uint64]
HERE = Path(__file__).parent


def _cache_folder() -> Path:
    """Return this text's folder for compiled code, and drop those of older texts."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(HERE.glob("*.py")))).hexdigest()[:16]
    folder = HERE / "__pycache__" / f"compiled-{digest}"
    for other in folder.parent.glob("compiled-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


numba.config.CACHE_DIR = str(_cache_folder())


def _compiled(**options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        made: Callable[P, R] = numba.njit(error_model="numpy", **options)(function)
        return made

    return decorate


kernel = _compiled()  # one piece of physics, called by other pieces
entry = _compiled(cache=True, nogil=True)  # what Python calls; its machine code is kept on disk
