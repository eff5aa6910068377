"""Judging a command before anything is looked at: time, place, lock-out, mode; and the words outcomes are told in."""

from __future__ import annotations

import dataclasses
import math
from typing import get_args

import pytest

from controller.core.commands import (
    ALLOWED_MODES,
    CODES,
    LOCAL_ONLY,
    LOCKED_OUT,
    MODE_OPERATIONS,
    OPERATIONS,
    Command,
    Operation,
    Outcome,
    State,
    is_local,
    number,
    refused,
    rejected,
)

ANN, BMS = "console:ann", "bms"
MODES = ("OFF", "STARTUP.proving", "NORMAL", "FAULT.limiting", "FAULT.cooling_lost", "FAULT.tripped", "COOLDOWN",
         "MAINTENANCE")  # fmt: skip


def command(operation: Operation = "set", by: str = ANN, expires: float = 10.0) -> Command:
    return Command("c1", by, operation, "pod.sp", expires)


def test_operations_and_codes_are_closed_lists() -> None:
    """Both are the contract of docs/mqtt.md: a name that changes breaks every client."""
    assert OPERATIONS == (
        "start", "stop", "reset", "energise", "maintain", "release",
        "ack", "shelve", "unshelve", "out_of_service", "return_to_service",
        "set", "relinquish", "heartbeat", "isolate", "isolate_power", "lock", "unlock", "bypass", "unbypass",
    )  # fmt: skip
    assert CODES == (
        "", "bad_request", "forbidden", "unknown_target", "out_of_range", "bad_unit", "interlock", "not_in_mode",
        "local_lockout", "expired", "id_reuse", "rate", "busy", "readback", "comms", "internal",
    )  # fmt: skip
    assert get_args(State) == ("accepted", "applied", "confirmed", "rejected", "failed", "expired", "superseded")
    assert MODE_OPERATIONS == ("start", "stop", "reset", "maintain", "release", "energise")
    assert set(ALLOWED_MODES) == set(MODE_OPERATIONS)


def test_a_command_asks_for_nothing_that_its_sender_does_not_say() -> None:
    asked = command()
    assert (asked.value, asked.slot, asked.ttl_s, asked.reason) == (None, 0, 0.0, "")
    told = Outcome("c1", ANN, "accepted")
    assert (told.code, told.message, told.effective, told.until) == ("", "", None, None)
    for made, name in ((asked, "slot"), (told, "state")):
        assert not hasattr(made, "__dict__")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, name, "other")


@pytest.mark.parametrize(
    ("state", "accepted"),
    [("accepted", True), ("applied", True), ("confirmed", True), ("rejected", False), ("failed", False),
     ("expired", False), ("superseded", False)],
)  # fmt: skip
def test_accepted_is_what_acts_or_acted(state: State, accepted: bool) -> None:
    assert Outcome("c1", ANN, state).accepted is accepted


def test_a_rejection_names_the_command_and_its_sender() -> None:
    told = rejected(command(by=BMS), "rate", "too fast")
    assert told == Outcome("c1", BMS, "rejected", "rate", "too fast")


@pytest.mark.parametrize(
    ("principal", "local"), [(ANN, True), ("bms", False), ("console", False), ("a:console:", False)]
)
def test_only_the_console_stands_at_the_pod(principal: str, local: bool) -> None:
    assert is_local(principal) is local


@pytest.mark.parametrize(
    ("value", "found"),
    [(3, 3.0), (2.5, 2.5), (-0.0, 0.0), (True, None), (False, None), ("3", None), (None, None), (10**400, None),
     (math.nan, None), (math.inf, None), (-math.inf, None), ([1.0], None)],
)  # fmt: skip
def test_number(value: object, found: float | None) -> None:
    assert number(value) == found
    assert isinstance(number(value), float) == (found is not None)


@pytest.mark.parametrize(("expires", "code"), [(9.9, "expired"), (10.0, ""), (10.1, ""), (math.nan, "expired")])
def test_a_command_acts_until_it_expires_and_not_after(expires: float, code: str) -> None:
    told = refused(command(expires=expires), "NORMAL", 10.0, "")
    assert (told.code if told else "") == code
    assert told is None or told == Outcome("c1", ANN, "rejected", "expired", "came too late")


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o not in MODE_OPERATIONS])
def test_what_is_no_business_of_modes_is_possible_in_all(operation: Operation) -> None:
    assert [refused(command(operation), mode, 0.0, "") for mode in MODES] == [None] * len(MODES)


@pytest.mark.parametrize(
    ("operation", "modes"),
    [
        ("start", ("OFF",)),
        ("stop", ("STARTUP.proving", "NORMAL", "FAULT.limiting", "FAULT.cooling_lost")),
        ("reset", MODES),
        ("maintain", ("OFF",)),
        ("release", ("MAINTENANCE",)),
        ("energise", ("NORMAL",)),
    ],
)
def test_each_operation_of_the_mode_has_its_modes(operation: Operation, modes: tuple[str, ...]) -> None:
    for mode in MODES:
        told = refused(command(operation), mode, 0.0, "")
        if mode in modes:
            assert told is None, mode
        else:
            words = f"{operation} is not possible in {mode}"
            assert told == Outcome("c1", ANN, "rejected", "not_in_mode", words)


AT_THE_POD = {
    "reset", "maintain", "release", "lock", "unlock", "out_of_service", "return_to_service", "bypass", "unbypass",
}  # fmt: skip
POSSIBLE_IN = {"start": "OFF", "maintain": "OFF", "release": "MAINTENANCE"}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("locked_by", ["", ANN])
def test_who_is_away_may_not_do_what_must_be_seen_nor_what_is_locked(operation: Operation, locked_by: str) -> None:
    mode = POSSIBLE_IN.get(operation, "NORMAL")
    told = refused(command(operation, BMS), mode, 0.0, locked_by)
    if operation in AT_THE_POD:
        words = f"{operation} is only for the console of the pod"
        assert told == Outcome("c1", BMS, "rejected", "forbidden", words)
    elif locked_by and operation in ("start", "stop", "energise", "set"):
        assert told == Outcome("c1", BMS, "rejected", "local_lockout", "local control taken by console:ann")
    else:
        assert told is None, "isolation, alarms and heartbeats go on under local control"
    assert refused(command(operation, ANN), mode, 0.0, locked_by) is None, "who is there may do all"


def test_local_only_and_locked_out_name_operations() -> None:
    assert LOCAL_ONLY == AT_THE_POD
    assert {"start", "stop", "energise", "set"} == LOCKED_OUT
