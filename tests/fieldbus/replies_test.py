"""The worker on a real serial line that answers anything: nothing leaves it, and no value comes of nothing."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.core.points import good
from hil.bench.fuzz_replies import Line, Watched, session
from hil.bench.master import run
from hil.wire.rtu import with_crc

DUE = bytes((0, 1))  # one piece, and it is the reply that is due

pytestmark = pytest.mark.timeout(120)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=12) | st.just(DUE * 8), max_size=25).map(b"".join))
def test_no_reply_makes_the_worker_fail_or_takes_a_value_from_nothing(script: bytes) -> None:
    run(session(script))


def test_a_line_that_answers_as_it_should_brings_values() -> None:
    script = bytes(0 if place % 2 else 1 for place in range(300))
    assert run(session(script)) > 0


async def test_a_value_that_no_sound_frame_brought_is_seen() -> None:
    line = Line(b"")
    inbox = Watched(line)
    line.asked = bytes.fromhex("010300640001")
    line.told = b"noise" + with_crc(bytes((1, 3, 2, 0x12, 0x34)))
    inbox["unit_1.r100"] = good(float(0x1234), 0.0)
    assert not inbox.unsound
    inbox["unit_1.r100"] = good(5.0, 0.0)
    inbox["unit_2.r100"] = good(float(0x1234), 0.0)
    inbox["unit_1.r101"] = good(float(0x1234), 0.0)
    assert len(inbox.unsound) == 3
    line.close()
