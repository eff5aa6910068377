"""The units as systemd itself reads and scores them. Offline: no unit is started."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
# unit file: (name under which it is checked, worst score allowed in tenths)
CHECKED = {
    "podkeeper.service": ("podkeeper.service", 15),
    "podkeeper-console@.service": ("podkeeper-console@ttyS0.service", 8),
}


def tool(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed (Debian package systemd)")
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.peer
@pytest.mark.parametrize("unit", CHECKED)
def test_systemd_finds_nothing_wrong(unit: str, tmp_path: Path) -> None:
    name, _ = CHECKED[unit]
    text = (
        (UNITS / unit).read_text().replace("/opt/podkeeper/bin/podkeeper ", "/bin/true ")
    )  # nothing is installed here
    (tmp_path / name).write_text(text)
    done = run(tool("systemd-analyze"), "verify", "--man=no", str(tmp_path / name))
    assert done.returncode == 0, done.stderr
    assert name not in done.stderr  # unknown keys are warnings only


@pytest.mark.peer
@pytest.mark.parametrize("unit", CHECKED)
def test_exposure_stays_low(unit: str, tmp_path: Path) -> None:
    name, worst = CHECKED[unit]
    shutil.copy(UNITS / unit, tmp_path / name)
    done = run(tool("systemd-analyze"), "security", "--offline=true", f"--threshold={worst}", str(tmp_path / name))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.peer
def test_a_unit_without_its_fence_would_be_noticed(tmp_path: Path) -> None:
    text = re.sub(
        r"(?m)^(?:Protect|Restrict|SystemCall|CapabilityBounding).*\n", "", (UNITS / "podkeeper.service").read_text()
    )
    (tmp_path / "podkeeper.service").write_text(text)
    done = run(
        tool("systemd-analyze"), "security", "--offline=true", "--threshold=15", str(tmp_path / "podkeeper.service")
    )
    assert done.returncode != 0


@pytest.mark.peer
def test_users_are_made_as_written(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("systemd-sysusers gives files to root")
    (tmp_path / "etc").mkdir()
    done = run(tool("systemd-sysusers"), f"--root={tmp_path}", str(UNITS / "podkeeper.sysusers"))
    assert done.returncode == 0, done.stderr
    users = [line.split(":")[0] for line in (tmp_path / "etc/passwd").read_text().splitlines()]
    groups = {line.split(":")[0]: line.split(":")[3] for line in (tmp_path / "etc/group").read_text().splitlines()}
    assert users == ["podkeeper", "podkeeper-console"]
    assert groups == {"podkeeper": "podkeeper-console", "podkeeper-console": ""}


def settings(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().splitlines():
        key, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_the_units_and_the_enclosure_agree_on_places() -> None:
    enclosure = tomllib.loads((ROOT / "profiles/enclosures/reference-pod.toml").read_text())
    daemon, console = settings("podkeeper.service"), settings("podkeeper-console@.service")
    path = enclosure["console"]["socket"]
    assert path == f"/run/{daemon['RuntimeDirectory'][0]}/console.sock"
    assert console["ExecStart"] == [f"/opt/podkeeper/bin/podkeeper console --socket {path}"]
    assert enclosure["state_dir"] == f"/var/lib/{daemon['StateDirectory'][0]}"
    assert console["SupplementaryGroups"] == daemon["Group"]


def test_the_daemon_is_watched_and_started_again() -> None:
    daemon = settings("podkeeper.service")
    assert daemon["Type"] == ["notify"]
    assert daemon["WatchdogSec"] == ["20"]
    assert daemon["Restart"] == ["always"]
    assert daemon["StartLimitIntervalSec"] == ["0"]


@pytest.mark.peer
def test_the_broker_is_fenced_in_as_well(tmp_path: Path) -> None:
    debian = Path("/lib/systemd/system/mosquitto.service")
    if not debian.is_file():
        pytest.skip("needs the Debian package mosquitto")
    lines = debian.read_text().split("[Install]")[0].splitlines()
    text = "\n".join(line for line in lines if not line.startswith("ExecStartPre="))
    hardened = (UNITS / "mosquitto/hardening.conf").read_text().replace("[Service]\n", "")
    (tmp_path / "mosquitto.service").write_text(f"{text}\n{hardened}")
    done = run(
        tool("systemd-analyze"), "security", "--offline=true", "--threshold=15", str(tmp_path / "mosquitto.service")
    )
    assert done.returncode == 0, done.stdout[-600:]
    verified = run(tool("systemd-analyze"), "verify", "--man=no", str(tmp_path / "mosquitto.service"))
    assert "Unknown" not in verified.stderr, verified.stderr
