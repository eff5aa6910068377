"""The contract between a publisher (what is said, in which form) and a link (how it gets to one broker).

A publisher is pure: it is given pictures, arrivals and outcomes with their times, and returns messages and commands.
The scan is the only caller, so no publisher needs a lock. A link carries what it returns, or keeps it in its outbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol

from controller.core.commands import Command, Outcome
from controller.northbound.snapshot import Snapshot

Kind = Literal["audit", "event", "telemetry", "state"]
AUDIT: Final = "audit"  # who did what: kept on disk before it is published, the last to be given up
EVENT: Final = "event"  # what happened: kept on disk before it is published
TELEMETRY: Final = "telemetry"  # values: kept while there is no connection, then published by ``late``
STATE: Final = "state"  # how things stand: never kept, said anew on each connection


class Message(NamedTuple):
    """One MQTT message as it is to be published.

    While connected, the newest of a retained topic replaces the one still queued; what is not retained keeps its order.
    """

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True
    kind: Kind = TELEMETRY


class Arrived(NamedTuple):
    """One MQTT message that came in; ``wall_ms`` is when."""

    topic: str
    payload: bytes
    retain: bool
    qos: int
    wall_ms: int


class Publisher(Protocol):
    """One northbound contract: native, DSX, Sparkplug B or Home Assistant.

    Attributes:
        subscriptions: topic filters to subscribe with QoS 1 on each connection.
    """

    @property
    def subscriptions(self) -> tuple[str, ...]: ...

    def will(self, wall_ms: int) -> Message | None:
        """Return what the broker is to say should the connection break; asked for anew before each connection.

        The topic of a retained will is the publisher's own status topic: the link listens to it, takes its echo for
        the proof that the broker does not drop what it publishes, and says the last status again when another
        (a late will of an earlier connection) spoke there.
        """

    def connected(self, wall_ms: int) -> None:
        """A new connection stands; the next ``messages`` says births and retained documents anew."""

    def messages(self, snapshot: Snapshot, now: float) -> list[Message]:
        """Return what is due at monotonic ``now``. Called once a scan, connected or not."""

    def late(self, message: Message) -> Message | None:
        """Return TELEMETRY that was kept while there was no connection in the form that marks it as historical.

        Called as it is about to be sent, in order. None: it is worth nothing now.
        """

    def farewell(self, wall_ms: int) -> list[Message]:
        """Return what is to be said before an orderly disconnect."""

    def received(self, arrived: Arrived, now: float) -> list[Command]:
        """Return the commands in a message that came in. Replies may come with the next ``messages``."""

    def pending(self, now: float) -> list[Command]:
        """Return commands that had to wait, such as a request that must still stand some time later. Once a scan."""

    def answered(self, outcomes: Sequence[Outcome], wall_ms: int) -> None:
        """Take in what became of the commands that ``received`` returned."""
