"""Certificates for the tests, made by the very commands of docs/operating.md; and some that are wrong on purpose."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"
CONFIG = """[ca]
default_ca = x
[x]
database = {0}/index.txt
new_certs_dir = {0}
serial = {0}/serial
default_md = sha256
policy = p
unique_subject = no
copy_extensions = copy
[p]
commonName = supplied
"""


def run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def documented(folder: Path, host: str = "localhost") -> Path:
    """Run the documented commands in ``folder``; return it."""
    folder.mkdir(parents=True)
    block = re.search(r"<!-- tested: certificates -->\n```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert block
    run(folder, "sh", "-e", "-c", block[1].replace("broker.example", host))
    return folder


def dated(folder: Path, start: str, end: str, name: str) -> None:
    """Sign the broker's request again, valid from ``start`` to ``end`` (YYMMDDHHMMSSZ)."""
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("1000\n")
    (folder / "dated.cnf").write_text(CONFIG.format(folder))
    run(
        folder, "openssl", "ca", "-batch", "-notext", "-config", "dated.cnf", "-in", "broker.csr", "-cert", "ca.crt",
        "-keyfile", "ca.key", "-startdate", start, "-enddate", end, "-out", f"{name}.crt",
    )  # fmt: skip
