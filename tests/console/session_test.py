"""Every verb, said to a Session directly, through the unix socket, and through a serial line (a pty)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from controller.console import screens
from controller.console.session import HELP, LINE_MAX, SUBMIT_MAX_S, Session, answer
from controller.core.points import Kind, Point, Quality, Reading, good
from tests.console.desk import FakeDesk, running
from tests.console.doors import Door

DOORS = ["session", "socket", "tty"]


@pytest.fixture(params=DOORS)
async def door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Door]:
    async with Door.of(request.param, running(), tmp_path) as opened:
        yield opened


def fits(text: str) -> bool:
    lines = text.split("\n")
    return len(lines) <= screens.LINES_MAX + 1 and all(
        len(s) <= screens.WIDTH and (not s or s.isprintable()) for s in lines
    )


def squeezed(text: str) -> str:
    """Return text without its columns."""
    return " ".join(text.split())


async def test_status_shows_the_whole_pod(door: Door) -> None:
    text = await door.ask("status")
    assert fits(text)
    assert text.startswith("reference-pod at factory,  podkeeper 0.1.0,  plan ")
    for shown in (
        "Mode      NORMAL for 9.8 s, because: found running, taken over as it is",
        "Supply    30.0 C",
        "setpoint 30.0 C",
        "dew margin 18.7 K",
        "Flow      1302.0 L/min",
        "need 1199.5 L/min",
        "IT power  960.0 kW",
        "pump_1      TCS pump  running  speed 71.5 %",
        "chiller_2   chiller   running  supply 30.0 C",
        "rack_8  8 of 8 outlets on  120.0 kW  of 130.0 kW  valve 100.0 %  dry  no trip in sight",
        "Alarms: none",
        "Readings: all GOOD",
    ):
        assert squeezed(shown) in squeezed(text)


async def test_status_tells_every_trouble_with_its_reason(door: Door) -> None:
    desk = door.desk
    desk.run(40, leak_1__zone_2_leak=True, io_1__epo=True)
    desk.fill(leak_1__zone_2_leak=True, io_1__epo=True)
    desk.lose("pump_2", 12)
    desk.lose("pdu_3a", 30)
    desk.breaks("io_1.supply_temp_3", "sensor open")
    desk.scan()
    text = await door.ask("status")
    assert fits(text)
    for shown in (
        "FAULT.tripped, DEGRADED",
        "because: emergency power off",
        "Acting    epo, wet_rack_1, leak_rack_1, bms_lost",
        "First out epo",
        "pump_2      TCS pump  UNKNOWN  speed 71.5 % (STALE, 12.2 s)",
        "rack_1  8 of 8 outlets on  120.0 kW  of 130.0 kW  valve 100.0 %  LEAK",
        "rack_3  4 of 8 outlets on, 4 NOT KNOWN  power not known",
        "Alarms: 2 standing, 2 not acknowledged",
        "CRITICAL  UNACK        Emergency power off pressed  (pod_epo,",
        "do: Find out why it was pressed",
        "io_1.supply_temp_3   BAD    0.2 s   sensor open",
        "no answer for 12.2 s",
        "no answer for 30.2 s",
    ):
        assert squeezed(shown) in squeezed(text)


async def test_a_picture_that_is_old_says_so(door: Door) -> None:
    door.desk.at += 30
    assert "NO SCAN FOR 30.0 s" in await door.ask("status")
    assert "NO SCAN FOR 30.0 s" in await door.ask("mode")


async def test_before_the_first_scan(door: Door) -> None:
    door.desk.newest = None
    for verb in ("status", "points", "alarms", "mode", "links"):
        assert "first scan" in await door.ask(verb)
    assert "status" in await door.ask("help")


async def test_points(door: Door) -> None:
    door.desk.breaks("pump_2.speed", "sentinel")
    door.desk.scan()
    assert "pump_2 " in await door.ask("points")
    speed = await door.ask("points *.speed")
    assert "pump_2.speed      -       BAD      0.2 s  sentinel" in speed
    assert speed.endswith("Points: 5")
    assert "fws_pump_1" not in await door.ask("points pump_1")
    assert (await door.ask("points BAD")).endswith("Points: 1")
    assert "No point matches" in await door.ask("points nothing_like_it")
    whole = await door.ask("points *")
    assert fits(whole)
    assert whole.endswith(f"Points: {len(door.desk.points)}, the first {screens.LINES_MAX - 2} shown")


async def test_alarms_say_what_they_mean_and_what_to_do(door: Door) -> None:
    assert await door.ask("alarms") == "No alarms."
    door.desk.run(2, leak_1__zone_2_leak=True)
    text = await door.ask("alarms")
    assert fits(text)
    for shown in (
        "CRITICAL  UNACK",
        "leak_1.zone_2_leak was on",
        "means: Coolant near live parts",
        "do: Go and look; dry and repair before the reset.",
    ):
        assert squeezed(shown) in squeezed(text)


async def test_an_alarm_is_put_aside_and_brought_back(door: Door) -> None:
    wet = {"leak_1__zone_2_leak": True}
    door.desk.run(2, **wet)
    assert (
        await door.ask("shelve leak_1_zone_2_leak 30m hose is being changed") == "Accepted: shelve leak_1_zone_2_leak."
    )
    text = squeezed(await door.ask("alarms"))
    assert "CRITICAL SHELVED" in text
    assert f"put aside by {door.principal} for another 1800 s: hose is being changed, its condition is there" in text
    assert "0 standing, 0 not acknowledged, 1 put aside" in squeezed(await door.ask("status"))
    assert await door.ask("unshelve leak_1_zone_2_leak") == "Accepted: unshelve leak_1_zone_2_leak."
    assert "CRITICAL UNACK" in squeezed(await door.ask("alarms"))
    assert "not shelved (not_in_mode)" in await door.ask("unshelve leak_1_zone_2_leak")
    assert await door.ask("out_of_service pump_1_fault order 7") == "Accepted: out_of_service pump_1_fault."
    assert "OUT OF SERV" in await door.ask("alarms")
    assert "out of service (not_in_mode)" in await door.ask("shelve pump_1_fault noise")
    assert await door.ask("return_to_service pump_1_fault") == "Accepted: return_to_service pump_1_fault."
    door.desk.run(1, **wet)
    assert "pump_1_fault" not in await door.ask("alarms")


async def test_what_is_wrong_with_putting_aside(door: Door) -> None:
    assert "Which alarm? Usage: shelve ID [TIME] REASON" in await door.ask("shelve")
    assert "Why? Usage: shelve" in await door.ask("shelve pump_1_fault 2h")
    assert "A time of nothing" in await door.ask("shelve pump_1_fault 0m noise")
    assert "Why? Usage: out_of_service" in await door.ask("out_of_service pump_1_fault")
    assert "Too many words" in await door.ask("unshelve pump_1_fault now")
    assert door.desk.asked == []
    assert "at most 28800 s (out_of_range)" in await door.ask("shelve pump_1_fault 9h noise")
    assert "no such alarm: nobody (unknown_target)" in await door.ask("shelve nobody noise")
    assert "Usage: alarms [suppressed|figures]" in await door.ask("alarms pump_1")


async def test_what_its_cause_suppresses_is_listed_apart(door: Door) -> None:
    lost = {"cooling__online": False, "pump_1__comms": False}
    door.desk.run(5, **lost)
    assert "pump_1_silent" not in await door.ask("alarms")
    text = squeezed(await door.ask("alarms suppressed"))
    assert text.startswith("Alarms suppressed by their cause: 1.")
    assert "pump_1_silent" in text
    assert "put aside: cooling.lost" in text
    figures = squeezed(await door.ask("alarms figures"))
    assert "alarms_suppressed 1 " in figures
    assert "alarm_flood off" in figures


async def test_ack(door: Door) -> None:
    door.desk.run(2, leak_1__zone_2_leak=True)
    assert await door.ask("ack leak_1_zone_2_leak") == "Accepted: ack leak_1_zone_2_leak."
    door.desk.run(2, leak_1__zone_2_leak=True)
    text = await door.ask("alarms")
    assert "ACKED" in text
    assert f"by {door.principal}" in text
    assert await door.ask("ack nobody") == "Refused: ack nobody: no such alarm: nobody (unknown_target)."
    assert await door.ask("ack *") == "Accepted: ack *."
    assert "Usage: ack ID|*" in await door.ask("ack")
    assert door.desk.asked[0] == ("ack", "leak_1_zone_2_leak", door.principal)


async def test_mode(door: Door) -> None:
    assert "Possible  stop, reset" in await door.ask("mode")
    assert await door.ask("mode start") == "Refused: start: start is not possible in NORMAL (not_in_mode)."
    assert await door.ask("MODE Stop") == "Accepted: stop."
    assert "Mode      COOLDOWN for 0.0 s, because: operator" in await door.ask("mode")
    assert 'No operation "sotp"; nearest is stop.' in await door.ask("mode sotp")
    assert [operation for operation, *_ in door.desk.asked] == ["start", "stop"]


async def test_mode_tells_what_precheck_misses(door: Door) -> None:
    door.desk.engine.modes.state = "OFF"
    door.desk.engine.holding = False
    off = {
        point.id.replace(".", "__"): False for point in door.desk.points.values() if point.name.startswith("outlet_")
    }
    door.desk.run(1, io_1__reservoir_level_ok=False, **off)
    await door.ask("mode start")
    door.desk.run(1, io_1__reservoir_level_ok=False, **off)
    text = await door.ask("mode")
    assert "STARTUP.precheck" in text
    assert "Missing   reservoir level is low or not known" in text
    assert fits(text)


async def test_links(door: Door) -> None:
    door.desk.lose("pump_2", 12)
    door.desk.inbox["io.online"] = good(False, door.desk.at)
    door.desk.scan()
    text = await door.ask("links")
    assert fits(text)
    assert "cooling silent: pump_2" in text
    assert "io         DOWN" in text
    assert "mqtt native  connected, MQTT 5; 1207 published" in text
    assert "last scan 0.0 s ago" in text


async def test_help(door: Door) -> None:
    text = await door.ask("help")
    for verb in ("help", "status", "points", "alarms", "mode", "ack", "links", "quit"):
        assert verb in text
        assert (await door.ask(f"help {verb}")).startswith(HELP[verb][0])
    assert "nearest is status" in await door.ask("help statsu")


async def test_what_is_not_understood_names_the_nearest_verb(door: Door) -> None:
    assert await door.ask("sttus") == 'No verb "sttus"; nearest is status. help lists all.'
    assert await door.ask("ALARMS") == "No alarms."
    assert "Too many words" in await door.ask("status now")
    assert await door.ask("") == ""
    assert await door.ask("   \t ") == ""
    assert door.desk.asked == []


async def test_the_longest_line_and_one_longer(door: Door) -> None:
    assert "nearest is" in await door.ask("x" * LINE_MAX)
    assert "refused" in await door.ask("x" * (LINE_MAX + 1))
    assert await door.ask("alarms") == "No alarms."


async def test_control_characters_and_ansi_are_not_heard(door: Door) -> None:
    assert await door.ask("\x1b[2Jala\x1b[31mr\x00m\x07s\x1b]0;title\x07") == "No alarms."


async def test_quit(door: Door) -> None:
    assert await door.ask("quit") == "Bye."


async def test_a_burst_is_answered_in_order(door: Door) -> None:
    assert await door.burst([f"help x{number}" for number in range(40)]) == [
        f'No verb "x{number}"; nearest is {door_nearest(number)}. help lists all.' for number in range(40)
    ]


def door_nearest(number: int) -> str:
    return Session(FakeDesk(), "").line(f"help x{number}").text.split("nearest is ")[1].split(".")[0]


async def test_an_error_inside_costs_nobody_the_console(tmp_path: Path) -> None:
    async with Door.of("socket", running(), tmp_path) as door:
        door.desk.engine.points = {"odd": None}  # type: ignore[dict-item]
        with capture_logs() as lines:
            assert await door.ask("points odd") == "Internal error; the log has it."
        assert lines[0]["event"] == "console_failed"
        assert "No verb" in await door.ask("x")


async def test_a_scan_that_does_not_judge_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.console.session.SUBMIT_MAX_S", 0.01)
    desk = running()
    desk.deaf = True
    reply = await answer(Session(desk, "console:ann"), "mode stop")
    assert "No answer from the scan" in reply.text
    assert SUBMIT_MAX_S == 5.0


# ---------------------------------------------------------------- what devices say


def test_a_hostile_device_cannot_write_on_the_terminal() -> None:
    desk = running()
    name = "pump_1.\x1b[2J"
    points = {**desk.points, name: Point("pump_1", "\x1b[2J", Kind.TEXT)}
    desk.engine.points = points
    desk.inbox[name] = Reading("\x1b]0;x\x07\r\n" * 300, Quality.FORCED, desk.at, "\x1b[31m\nreason " * 50)
    desk.inbox["pump_1.speed"] = Reading(None, Quality.BAD, desk.at, "Ⓐ dry\u202eline ° é\x9b2J" * 20)
    desk.scan()
    session = Session(desk, "console:ann")
    for line in ("status", "points", "points pump_1", "alarms", "links", "mode"):
        assert fits(session.line(line).text)


@pytest.mark.parametrize(
    ("kind", "value", "unit", "texts", "shown"),
    [
        (Kind.NUMBER, 31.84, "Cel", {}, "31.8 C"),
        (Kind.NUMBER, 0.0, "%", {}, "0.0 %"),
        (Kind.NUMBER, 0.0042, "kW", {}, "0.0042 kW"),
        (Kind.NUMBER, 1.5e9, "Wh", {}, "1.5e+09 Wh"),
        (Kind.NUMBER, float("nan"), "kW", {}, "nan kW"),
        (Kind.NUMBER, float("inf"), "{count}", {}, "inf"),
        (Kind.NUMBER, 12.0, "{count}", {}, "12"),
        (Kind.FLAG, True, "", {}, "on"),
        (Kind.CODE, 3, "", {3: "ready"}, "ready (3)"),
        (Kind.CODE, 9, "", {3: "ready"}, "unknown code (9)"),
        (Kind.BITS, 5, "", {0: "hot", 2: "wet"}, "hot, wet"),
        (Kind.BITS, 8, "", {0: "hot"}, "bit 3"),
        (Kind.BITS, 0, "", {0: "hot"}, "none"),
        (Kind.TEXT, "v1.2", "", {}, '"v1.2"'),
        (Kind.TEXT, None, "", {}, "-"),
    ],
)
def test_values(kind: Kind, value: float, unit: str, texts: dict[int, str], shown: str) -> None:
    assert screens.value_text(Point("d", "n", kind, unit, texts=texts), value) == shown


# ---------------------------------------------------------------- fuzz

FUZZED = running().run(2, leak_1__zone_2_leak=True)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text(max_size=700),
        st.tuples(st.sampled_from([*HELP, "POINTS", "mode"]), st.text(max_size=60)).map(" ".join),
    )
)
def test_no_line_breaks_the_session(line: str) -> None:
    reply = Session(FUZZED, "console:fuzz").line(line)
    assert fits(reply.text)
    assert len(reply.text) <= (screens.LINES_MAX + 2) * (screens.WIDTH + 1)
