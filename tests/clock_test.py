"""Whether the wall clock can be believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.clock import STA_UNSYNC, SystemClock, kernel_status, trust


@pytest.mark.parametrize(
    ("timesyncd", "marked", "status", "told"),
    [
        (True, True, None, "sync"),
        (True, True, STA_UNSYNC, "sync"),
        (True, False, None, "unsync"),
        (True, False, STA_UNSYNC, "unsync"),
        (True, False, 0, "sync"),
        (False, False, None, "unknown"),
        (False, False, 0x2001, "sync"),
        (False, False, 0x2001 | STA_UNSYNC, "unsync"),
    ],
)
def test_trust(tmp_path: Path, timesyncd: bool, marked: bool, status: int | None, told: str) -> None:
    marker = tmp_path / "timesync" / "synchronized"
    if timesyncd:
        marker.parent.mkdir()
    if marked:
        marker.touch()
    assert trust(marker, status) == told


def test_the_kernel_answers_or_forbids() -> None:
    status = kernel_status()
    assert status is None or 0 <= status <= 0xFFFF
    assert SystemClock().trust() in ("sync", "unsync", "unknown")
