"""The link without a broker: its queue, its back-off, its way out. tests/conform has the real brokers."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiomqtt import Client

from controller.config.enclosure import LinkSettings
from controller.northbound.heard import Heard
from controller.northbound.link import BACK_OFF_S, Link
from controller.northbound.publisher import Arrived, Message
from controller.service import precise_loop


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, **_: object) -> None:
        self.lines.append(event)

    warning = error = info


class Talker:
    """A publisher that says what it is told to, and remembers what it heard."""

    leaving = False

    subscriptions = ()

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.due: list[Message] = []

    def will(self, wall_ms: int) -> Message:
        return Message("r/status", b"lost")

    def farewell(self, wall_ms: int) -> list[Message]:
        return [Message("r/status", b"offline")]

    def connected(self, wall_ms: int) -> None:
        self.heard.append("connected")

    def messages(self, snapshot: object, now: float) -> list[Message]:
        said, self.due = self.due, []
        return said

    def late(self, message: Message) -> Message | None:
        return message

    def received(self, arrived: Arrived, now: float) -> list:
        self.heard.append(arrived.topic)
        return []

    def pending(self, now):
        return []

    def answered(self, outcomes, wall_ms) -> None:
        self.heard += [outcome.id for outcome in outcomes]


def link(port: int = 1, connected: bool = True, **more) -> Link:
    settings = LinkSettings(publisher="native", host="127.0.0.1", port=port, keepalive_s=5, client_id="pod")
    made = Link(settings, Talker(), logger=Said(), **more)
    made.connected = connected
    return made


def test_newest_of_a_topic_wins_and_keeps_its_turn():
    made = link()
    made.offer([Message("a", b"1"), Message("b", b"1"), Message("a", b"2")])
    assert [(m.topic, m.payload) for m in made._queue.values()] == [("a", b"2"), ("b", b"1")]
    assert made.dropped == 0


def test_what_is_not_retained_is_kept_in_order():
    made = link()
    made.offer([Message("e", b"1", retain=False), Message("e", b"2", retain=False)])
    assert [m.payload for m in made._queue.values()] == [b"1", b"2"]


def test_a_full_queue_drops_its_oldest_and_counts():
    made = link(queue_max=3)
    made.offer([Message(str(n), b"") for n in range(5)])
    assert [m.topic for m in made._queue.values()] == ["2", "3", "4"]
    assert made.dropped == 2


async def test_back_off_doubles_up_to_a_minute_and_one_line_is_said():
    ceilings: list[float] = []

    def delay(ceiling: float) -> float:
        ceilings.append(ceiling)
        if len(ceilings) == 9:
            made.close()
        return 0.0

    made = link(connected=False, delay=delay)
    await asyncio.wait_for(made.run(), 20)
    assert ceilings == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert max(ceilings) == BACK_OFF_S[1]
    assert made._log.lines == ["MQTT link lost"]
    assert "refused" in made.last_error
    assert (made.connected, made.connects) == (False, 0)


async def test_a_broker_that_never_answers_does_not_hold_up_the_end():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        made = link(silent.getsockname()[1])
        run = asyncio.create_task(made.run())
        await asyncio.sleep(0.3)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(run, 2)
        await asyncio.sleep(0.1)


def test_the_publisher_hears_of_a_connection_before_what_came_over_it(picture):
    made = link()
    made._fresh = True
    made._inbox.append(Arrived("r/cmd", b"", False, 1, 0))
    made._publisher.due = [Message("r/state", b"1")]
    assert made.scan(picture(1000.0), 1000.0) == []
    assert made._publisher.heard == ["connected", "r/cmd"]
    assert [m.topic for m in made._queue.values()] == ["r/state"]


def test_nothing_is_queued_without_a_connection(picture):
    made = link(connected=False)
    made._publisher.due = [Message("r/state", b"1")]
    made.scan(picture(1000.0), 1000.0)
    assert (made._queue, made.dropped) == ({}, 0)


def test_no_socket_is_watched_that_has_closed_before_its_turn() -> None:
    """aiomqtt asks for a watch by call_soon; the connection may be gone by then, and its number another's."""

    async def main() -> None:
        client = Client("localhost")
        Heard().hook(client, lambda _: None)
        loop, paho = asyncio.get_running_loop(), client._client
        ours, theirs = socket.socketpair()
        with theirs:
            number = ours.fileno()
            paho._sock = ours
            paho.on_socket_register_write(paho, None, ours)
            await asyncio.sleep(0)
            assert loop.remove_writer(number)
            paho.on_socket_register_write(paho, None, ours)
            paho._sock = None
            ours.close()
            await asyncio.sleep(0)
            assert not loop.remove_writer(number)

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(main())
