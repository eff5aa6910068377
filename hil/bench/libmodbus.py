"""libmodbus of Debian: its server and client, compiled when they are needed."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hil.bench.publish import program, wait_for
from hil.bench.result import Missing
from hil.runner import free_port

HERE = Path(__file__).parent
HEADER = "modbus/modbus.h"
INCLUDES = (Path("/usr/include"), Path("/usr/local/include"))


def compiled(name: str, folder: Path) -> Path:
    """Return the program made from ``name``.c.

    Raises:
        Missing: no compiler, or no libmodbus.
    """
    compiler = program("gcc", "gcc")
    include = next((place for place in INCLUDES if (place / HEADER).is_file()), None)
    if include is None:
        raise Missing("the headers of libmodbus, of the Debian package libmodbus-dev")
    made = folder / name
    command = [compiler, "-O2", f"-I{include / 'modbus'}", str(HERE / f"{name}.c"), "-o", str(made), "-lmodbus"]
    subprocess.run(command, check=True, capture_output=True)
    return made


@contextlib.contextmanager
def server() -> Iterator[int]:
    """Run the server and return its port; register ``a`` of its every table holds what unit 1's would on the bench."""
    with tempfile.TemporaryDirectory(prefix="podkeeper-libmodbus-") as folder:
        port = free_port()
        process = subprocess.Popen([compiled("libmodbus_server", Path(folder)), str(port)])
        try:
            wait_for(port)
            yield port
        finally:
            process.kill()
            process.wait()
