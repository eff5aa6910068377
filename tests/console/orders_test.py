"""Orders of a technician: setpoints, local control, isolation; from the line to what the engine does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.console.orders import ORDERS, order
from controller.console.session import HELP, LINE_MAX, Session, answer
from controller.core.commands import Command
from tests.console.desk import FakeDesk, running

SP = "pod.supply_temp_sp"


@pytest.fixture
def desk() -> FakeDesk:
    return running()


async def said(desk: FakeDesk, line: str, who: str = "console:ann") -> str:
    return (await answer(Session(desk, who), line)).text


def bms(desk: FakeDesk, value: float, slot: int = 8) -> None:
    desk.scan(Command(f"b{value}", "bms", "set", SP, desk.at + 5, value, slot, 0.0, "free cooling"))


async def test_a_technician_beats_the_bms_and_gives_back(desk: FakeDesk) -> None:
    bms(desk, 33.0)
    assert await said(desk, "set supply_temp_sp 29 2h check") == (
        "Accepted: set pod.supply_temp_sp: 29.0 C wins, lasts 120 min."
    )
    assert desk.engine.authority.slots.arrays[SP].winner == 7
    assert await said(desk, "relinquish supply_temp_sp") == "Accepted: relinquish pod.supply_temp_sp: 33.0 C wins."


async def test_a_technician_may_put_the_bms_out(desk: FakeDesk) -> None:
    bms(desk, 33.0)
    assert await said(desk, "relinquish pod/supply_temp_sp 8") == (
        "Accepted: relinquish pod.supply_temp_sp: 30.0 C wins."
    )
    shown = await said(desk, "slots supply")
    assert "slot 8 ended: bms" in shown
    assert "relinquished by console:ann" in shown


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("set", "Which setpoint?"),
        ("set supply_temp_sp", "Which value?"),
        ("set supply_temp_sp warm x", "no number"),
        ("set supply_temp_sp nan x", "no number"),
        ("set supply_temp_sp 1e999 x", "no number"),
        ("set supply_temp_sp 29", "Why?"),
        ("set supply_temp_sp 29 2h", "Why?"),
        ("set supply_temp_sp 29 0m x", "A time of nothing."),
        ("set supply_temp_sp 29 9h x", "out_of_range"),
        ("set supply_temp_sp 5 x", "allowed: 22 to 40 Cel"),
        ("set nothing 5 x", "no such setpoint"),
        ("relinquish supply_temp_sp x", "The slot is no number."),
        ("relinquish supply_temp_sp 5", "forbidden"),
        ("relinquish supply_temp_sp 8 x", "Too many words."),
        ("local", "Why?"),
        ("remote x", "Too many words."),
        ("isolate", "Which rack?"),
        ("isolate rack_1", "Why?"),
        ("isolate rack_99 wet", "no such rack"),
        ("slots nothing", "No setpoint matches"),
    ],
)
async def test_what_is_wrong_is_said(desk: FakeDesk, line: str, told: str) -> None:
    assert told in await said(desk, line)
    assert not desk.engine.authority.slots.arrays[SP].leases


async def test_local_control_is_seen_everywhere_and_given_back(desk: FakeDesk) -> None:
    bms(desk, 33.0)
    assert await said(desk, "local pump 1 is being changed") == "Accepted: lock."
    assert "LOCAL CONTROL by console:ann" in await said(desk, "slots")
    assert "console:ann: pump 1 is being changed" in await said(desk, "status")
    assert not desk.engine.authority.slots.arrays[SP].leases
    assert await said(desk, "remote", "console:bob") == "Accepted: unlock."
    assert "Remote control" in await said(desk, "slots")


async def test_a_rack_is_isolated(desk: FakeDesk) -> None:
    assert await said(desk, "isolate rack_2 wet floor") == "Accepted: isolate rack_2."
    assert "isolate_rack_2" in desk.engine.interlocks.latched()


def test_every_order_has_a_help() -> None:
    assert set(ORDERS) <= set(HELP)


@given(verb=st.sampled_from(sorted(ORDERS)), words=st.lists(st.text(min_size=1, max_size=12), max_size=5))
def test_whatever_is_typed_gives_a_request_or_words(verb: str, words: list[str]) -> None:
    reply = order(verb, words, HELP[verb][0])
    assert bool(reply.text) != bool(reply.request)
    assert len(" ".join(words)) < LINE_MAX
