"""The connection to a broker. The only importer of aiomqtt.

``Link.scan`` lets a publisher see one scan and never waits; ``Link.run`` carries what it said. Every connection is
a new client: aiomqtt's own re-entry does not wait for the broker's answer and re-sends what it should forget.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

import structlog
from aiomqtt import Client, MqttCodeError, MqttError, ProtocolVersion, Will

from controller.clock import Clock, SystemClock
from controller.config.enclosure import LinkSettings
from controller.core.alarm_rows import LINK_CAUSES
from controller.core.commands import Command, Outcome
from controller.core.points import Value
from controller.northbound.credentials import CredentialError, secret, tls_context
from controller.northbound.diagnosis import Attempt, Cause, diagnose
from controller.northbound.heard import Heard
from controller.northbound.outbox import Kept, Outbox
from controller.northbound.publisher import AUDIT, EVENT, TELEMETRY, Arrived, Message, Publisher
from controller.northbound.snapshot import Snapshot

VERSIONS: Final = {ProtocolVersion.V5: "5", ProtocolVersion.V311: "3.1.1"}
AIOMQTT_TIMEOUT: Final = "Operation timed out"
UNSUPPORTED_VERSION: Final = 0x84  # paho turns code 1 of an MQTT 3.1.1 broker into this one of MQTT 5
CONNECT_S: Final = 10.0
CONNECT_POLL_S: Final = 0.05
PREPARE_S: Final = 5.0  # how long a disk that hangs may hold up a connection
ECHO_S: Final = 5.0
FAREWELL_S: Final = 2.0
BACK_OFF_S: Final = (1.0, 60.0)
STEADY_S: Final = 30.0  # a connection that stood this long starts the back-off anew
QUEUE_MAX: Final = 4096  # messages; several times the topics of a large pod
INCOMING_MAX: Final = 1024
INCOMING_BYTES_MAX: Final = 65_536  # of one message; the rest is cut off, and every publisher refuses what is so long
# Without it the last small packet of each window waits for the broker's delayed receipt: 100 messages a second.
NO_DELAY: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
WINDOW: Final = 8  # publishes that wait for the broker's receipt at a time
BACKLOG_WINDOW: Final = 32  # the same of late telemetry, which is deleted by one write to the disk for all of them
REFUSED: Final = 0x80  # reason codes from here on are refusals
STATUS_REPEAT_S: Final = 10.0
IDLE_S: Final = 1.0  # how long the pump waits for news before it looks again
RECENT_S: Final = 600.0  # how long a loss keeps its alarm up
LOSSES_MAX: Final = 4000


def full_jitter(ceiling_s: float) -> float:
    """Return a random delay up to ``ceiling_s``, so that pods do not come back to a broker all at once."""
    return random.uniform(0.0, ceiling_s)  # noqa: S311 - spreads load, guards nothing


class Link:
    """One connection to one broker for one publisher, kept up for as long as ``run`` runs.

    Args:
        settings: where the broker is, who we are, TLS, outbox.
        publisher: what is said here, and who hears what comes in.
        name: of the link, for logs.
        outbox: keeps the journal until the broker has it, and telemetry while there is no connection.
        credentials: directory of keys, certificates and passwords.
        clock: for the times in wills and farewells.
        prepare: awaited between the making of a will and the connection that carries it, PREPARE_S at most.
        logger: one line is said when the link is lost, one when it is back.

    Attributes:
        connected: True from the broker's acceptance to its loss.
        echoed: False when the broker took our own status and did not give it back: it drops what we publish.
        protocol: MQTT version of this or the last connection.
        published, dropped, denied, connects: counted since the start of the process; ``dropped`` by a full queue or
            inbox, ``denied`` by the broker.
        cause, last_error: why the link does not do its work, or last did not, in one word and in a sentence.
    """

    def __init__(
        self,
        settings: LinkSettings,
        publisher: Publisher,
        *,
        name: str = "native",
        outbox: Outbox | None = None,
        credentials: Path | None = None,
        clock: Clock | None = None,
        prepare: Callable[[], Awaitable[object]] | None = None,
        logger: Any = None,
        queue_max: int = QUEUE_MAX,
        delay: Callable[[float], float] = full_jitter,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self.name = name
        self.outbox = outbox
        self._credentials = credentials
        self._clock = clock or SystemClock()
        self._prepare = prepare
        self._log = logger or structlog.get_logger()
        self._queue_max = queue_max
        self._delay = delay
        self._queue: dict[object, Message] = {}
        self._inbox: deque[Arrived] = deque()
        self._stored_at: dict[str, float] = {}
        self._waiting = asyncio.Event()
        self._closing = asyncio.Event()
        self._numbers = count()
        self._version = ProtocolVersion.V311 if settings.protocol == "3.1.1" else ProtocolVersion.V5
        self._will: Message | None = None
        self._status: Message | None = None  # the newest one said on the topic of a retained will
        self._status_said = asyncio.Event()
        self._heard = Heard()
        self._fresh = False
        self._flaps = 0
        self._pace_at = float("-inf")
        self._said_lost = ""
        self._losses: deque[tuple[float, int]] = deque()
        self.connected = False
        self.echoed = True
        self.published = self.dropped = self.denied = self.connects = 0
        self.cause: Cause = ""
        self.protocol = self.last_error = ""

    def scan(self, snapshot: Snapshot, now: float) -> list[Command]:
        """Let the publisher see one scan; return the commands that came in. Never waits."""
        if self._fresh:
            self._fresh = False
            self._publisher.connected(snapshot.wall_ms)
        commands: list[Command] = []
        while self._inbox:
            commands += self._publisher.received(self._inbox.popleft(), now)
        if self._publisher.leaving:
            self._waiting.set()
        commands += self._publisher.pending(now)
        self.offer(self._publisher.messages(snapshot, now))
        return commands

    def answered(self, outcomes: Sequence[Outcome], wall_ms: int) -> None:
        """Tell the publisher what became of commands, its own and others'."""
        self._publisher.answered(outcomes, wall_ms)

    def offer(self, messages: list[Message]) -> None:
        """Take messages to publish. Never waits.

        The newest of a retained topic replaces the one still queued. With an outbox the journal goes through it, and
        telemetry while there is no connection; without a connection the rest is forgotten.
        """
        stored: list[Message] = []
        for message in messages:
            if self.outbox and message.kind in (AUDIT, EVENT):
                stored.append(message)
            elif self.connected:
                self._enqueue(message)
            elif self.outbox and message.kind == TELEMETRY and self._worth_keeping(message):
                stored.append(message)
        if self.outbox and stored:
            self.outbox.put(stored)
        if messages:
            self._waiting.set()

    def _enqueue(self, message: Message) -> None:
        self._queue[message.topic if message.retain else next(self._numbers)] = message
        if len(self._queue) > self._queue_max:
            del self._queue[next(iter(self._queue))]
            self.dropped += 1

    def _worth_keeping(self, message: Message) -> bool:
        """Return whether it is time for another message of this topic in the history."""
        every_s = self._settings.outbox.every_s if self._settings.outbox else 0.0
        now = self._clock.monotonic()
        if now - self._stored_at.get(message.topic, float("-inf")) < every_s:
            return False
        if every_s:
            self._stored_at[message.topic] = now
        return True

    def readings(self, now: float) -> Mapping[str, Value]:
        """Return the link's own points at monotonic ``now``, without their device."""
        outbox = self.outbox
        lost = sum(outbox.lost.values()) if outbox else 0
        total = lost + self.dropped
        self._losses.append((now, total))
        while len(self._losses) > LOSSES_MAX or (len(self._losses) > 1 and now - self._losses[0][0] > RECENT_S):
            self._losses.popleft()
        flags = {cause.flag: self.cause == cause.flag for cause in LINK_CAUSES}
        numbers: dict[str, float] = {
            "connects": self.connects,
            "published": self.published,
            "dropped": self.dropped,
            "denied": self.denied,
            "kept": sum(outbox.kept.values()) if outbox else 0,
            "kept_bytes": outbox.kept_bytes if outbox else 0,
            "lost": lost,
            "lost_events": outbox.lost[AUDIT] + outbox.lost[EVENT] if outbox else 0,
            "recent_lost": total - self._losses[0][1],
        }
        failing = bool(outbox and outbox.problem)
        floats = {name: float(value) for name, value in numbers.items()}
        return {"connected": self.connected, "outbox_failing": failing, **flags, **floats}

    def in_words(self) -> str:
        """Return how the link stands, for a person."""
        state = f"connected, MQTT {self.protocol}" if self.connected else f"not connected: {self.last_error}"
        if self.connected and self.cause:
            state += f", but {self.last_error}"
        words = f"{state}; {self.published} published, {self.dropped} dropped, {self.connects} connects"
        if self.outbox:
            words += f"; {sum(self.outbox.kept.values())} kept, {sum(self.outbox.lost.values())} lost"
            words += f"; {self.outbox.problem}" if self.outbox.problem else ""
        return words

    def close(self) -> None:
        """Ask ``run`` to publish what is queued, say "offline", and return."""
        self._closing.set()
        self._waiting.set()

    async def run(self) -> None:
        """Keep the link up until ``close`` or cancellation; both leave the publisher's farewell behind."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._closing.is_set():
            started, connects = loop.time(), self.connects
            try:
                await self._connection()
            except Exception as error:
                # Whatever it is, a fault of the link must not reach control: it is told, and tried again.
                if self._other_version(error):
                    continue
                steady = loop.time() - started > STEADY_S
                self._flaps = self._flaps + 1 if self.connects > connects and not steady else 0
                self._lost(error, accepted=self.connects > connects)
                failures = 1 if steady else failures + 1
                ceiling = min(BACK_OFF_S[1], BACK_OFF_S[0] * 2.0 ** min(failures - 1, 10))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), self._delay(ceiling))

    async def _connection(self) -> None:
        self._will, self._heard = self._publisher.will(self._clock.wall_ms()), Heard()
        if self._prepare:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._prepare(), PREPARE_S)
        client = await self._client(self._will)
        await self._enter(client)
        orderly = False
        try:
            await self._serve(client)
            orderly = True
        except asyncio.CancelledError:
            orderly = True
            raise
        finally:
            self._park()
            # aiomqtt always disconnects gracefully, which silences the will: what it would say is said first.
            last = self._publisher.farewell(self._clock.wall_ms()) if orderly else [self._will] if self._will else []
            with contextlib.suppress(MqttError, TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    for message in last:
                        await self._publish(client, message)
            with contextlib.suppress(MqttError):
                await client.__aexit__(None, None, None)

    def _park(self) -> None:
        """The connection is over: keep what the outbox takes of the queue, forget the rest."""
        self.connected = False
        queued, self._queue = list(self._queue.values()), {}
        self.offer(queued)

    async def _client(self, will: Message | None) -> Client:
        settings = self._settings
        context = password = None
        if settings.tls:
            context = await asyncio.to_thread(tls_context, settings.tls, self._credentials)
        if settings.password is not None:
            password = await asyncio.to_thread(secret, self._credentials, settings.password)
        client = Client(
            settings.host,
            settings.port,
            identifier=settings.client_id,
            username=settings.username or None,
            password=password,
            protocol=self._version,
            clean_session=None if self._version is ProtocolVersion.V5 else True,
            keepalive=settings.keepalive_s,
            will=will and Will(will.topic, will.payload, will.qos, will.retain),
            timeout=CONNECT_S,
            tls_context=context,
            logger=self._heard.logger,
            max_queued_incoming_messages=INCOMING_MAX,
            socket_options=NO_DELAY,
        )
        self._heard.hook(client, self._refused)
        return client

    async def _enter(self, client: Client) -> None:
        entering = asyncio.ensure_future(client.__aenter__())
        failed = asyncio.ensure_future(self._heard.failed.wait())
        try:
            await asyncio.wait((entering, failed), return_when=asyncio.FIRST_COMPLETED)
            if not entering.done():  # aiomqtt itself would wait for its timeout
                await asyncio.wait((entering,), timeout=CONNECT_POLL_S)
            if not entering.done():
                raise MqttError(self._heard.said or "broker closed the connection before it accepted it")
            entering.result()
        except BaseException:
            # aiomqtt connects in a thread that can't be stopped (5 s at most), and leaves a failed socket open.
            failed_socket = self._heard.failed.is_set()
            while client._client.socket() is None and not failed_socket and not entering.done():  # noqa: ASYNC110 - nothing to wait on
                await asyncio.sleep(CONNECT_POLL_S)
            entering.cancel()
            await asyncio.gather(entering, return_exceptions=True)
            client._client.disconnect()
            raise
        finally:
            failed.cancel()
        self.connects += 1
        self.protocol = VERSIONS[self._version]

    async def _serve(self, client: Client) -> None:
        """Publish from the queue until the connection is lost (MqttError) or ``close`` was called."""
        self._status = None
        self._status_said.clear()
        self._inbox.clear()
        self._queue.clear()
        status = self._will.topic if self._will and self._will.retain else ""
        for topic in (*([status] if status else ()), *self._publisher.subscriptions):
            await self._subscribe(client, topic)
        echo = asyncio.Event()
        tasks = [
            asyncio.ensure_future(self._read(client, status, echo)),
            asyncio.ensure_future(self._pump(client)),
            asyncio.ensure_future(self._listen(status, echo)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _subscribe(self, client: Client, topic: str) -> None:
        """Subscribe; a refusal shows as a missing echo, and is no reason to give up the rest."""
        granted = await client.subscribe(topic, qos=1)
        code = granted[0] if granted else 0
        if (code if isinstance(code, int) else code.value) >= REFUSED:
            self.last_error = f"broker refuses to let us subscribe to {topic}"

    async def _read(self, client: Client, status: str, echo: asyncio.Event) -> None:
        """Hear our own status and what the publisher subscribed to; the loss of the connection comes out here."""
        repeated = float("-inf")
        loop = asyncio.get_running_loop()
        async for message in client.messages:
            topic, payload = message.topic.value, bytes(message.payload or b"")[:INCOMING_BYTES_MAX]
            if topic != status:
                if len(self._inbox) >= INCOMING_MAX:
                    self.dropped += 1
                    continue
                self._inbox.append(Arrived(topic, payload, message.retain, message.qos, self._clock.wall_ms()))
            elif self._status and payload == self._status.payload:
                echo.set()
            elif self._status and echo.is_set() and loop.time() - repeated > STATUS_REPEAT_S:
                # The will of a connection that we left half open, or another controller with our topics.
                repeated = loop.time()
                self.last_error = "someone else publishes on our status topic"
                self.offer([self._status])

    async def _listen(self, status: str, echo: asyncio.Event) -> None:
        """Say whether the broker gives back our first status; never returns."""
        if status:
            await self._status_said.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(echo.wait(), ECHO_S)
            self.echoed = echo.is_set()
            if not self.echoed:
                self._denied("broker accepts us but drops what we publish: check its access list")
        await asyncio.sleep(STEADY_S)
        if self.cause == "taken_over":
            self.cause = ""
        await asyncio.Event().wait()

    async def _pump(self, client: Client) -> None:
        self._back()
        self._fresh = self.connected = True
        while not self._closing.is_set() and not self._publisher.leaving:
            self._waiting.clear()
            if self._queue:
                await self._publish_batch(client)
            elif not await self._backlog(client):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._waiting.wait(), IDLE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                while self._queue or (self.outbox and self.outbox.journal_waits):
                    await (self._publish_batch(client) if self._queue else self._backlog(client))

    async def _backlog(self, client: Client) -> bool:
        """Send some of what was kept, the journal first, in order; return whether there was any.

        Not before the publisher has said how things stand now.
        """
        outbox = self.outbox
        if outbox is None or self._fresh:
            return False
        if outbox.journal_waits:
            taken = await outbox.take(WINDOW, journal=True)
            await self._send_kept(client, taken, [held.message for held in taken])
            return bool(taken)
        loop = asyncio.get_running_loop()
        if not outbox.telemetry_waits or loop.time() < self._pace_at:
            return False
        taken = await outbox.take(BACKLOG_WINDOW, journal=False)
        per_s = self._settings.outbox.drain_per_s if self._settings.outbox else WINDOW
        self._pace_at = loop.time() + len(taken) / per_s
        late = [self._publisher.late(held.message) for held in taken]
        await self._send_kept(client, taken, [message for message in late if message])
        loop.call_later(max(0.0, self._pace_at - loop.time()), self._waiting.set)
        return bool(taken)

    async def _send_kept(self, client: Client, taken: list[Kept], messages: list[Message]) -> None:
        await self._all([self._publish(client, message) for message in messages])
        if self.outbox and taken:
            await self.outbox.done(taken)

    async def _publish_batch(self, client: Client) -> None:
        keys = [key for key, _ in zip(self._queue, range(WINDOW), strict=False)]
        batch = [self._queue.pop(key) for key in keys]
        try:
            await self._all([self._publish(client, message) for message in batch])
        except BaseException:  # without a receipt the broker may not have them
            self._queue = {**dict(zip(keys, batch, strict=True)), **self._queue}
            raise

    @staticmethod
    async def _all(publishing: list[Coroutine[Any, Any, None]]) -> None:
        for failure in await asyncio.gather(*publishing, return_exceptions=True):
            if failure is not None:
                raise failure

    async def _publish(self, client: Client, message: Message) -> None:
        if self._will and message.topic == self._will.topic:
            self._status = message
            self._status_said.set()
        await client.publish(message.topic, message.payload, qos=message.qos, retain=message.retain)
        self.published += 1

    def _other_version(self, error: Exception) -> bool:
        """Change to the other MQTT version if that may be why; return True to try it at once."""
        if self._settings.protocol != "auto":
            return False
        refused = isinstance(error, MqttCodeError) and getattr(error.rc, "value", None) == UNSUPPORTED_VERSION
        silent = isinstance(error, MqttError) and str(error) == AIOMQTT_TIMEOUT and not self.connects
        if not refused and not silent:
            return False
        was = self._version
        self._version = ProtocolVersion.V311 if was is ProtocolVersion.V5 else ProtocolVersion.V5
        return refused and was is ProtocolVersion.V5

    def _refused(self, reason: str) -> None:
        self.denied += 1
        self._denied(f"broker refuses what we publish: {reason}")

    def _denied(self, words: str) -> None:
        if self.cause != "denied":
            self._log.error("MQTT publish denied", link=self.name, why=words)
        self.cause, self.last_error = "denied", words

    def _lost(self, error: Exception, *, accepted: bool) -> None:
        code = getattr(getattr(error, "rc", None), "value", None)
        moment = datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        if not isinstance(error, MqttError | OSError | CredentialError):
            self._log.error("MQTT link failed", link=self.name, exc_info=error)
        tls, client_id = self._settings.tls is not None, self._settings.client_id
        attempt = Attempt(error, code, accepted, tls, self._flaps, self._heard.said, client_id, moment)
        trouble = diagnose(attempt)
        if self.cause == "taken_over" and trouble.cause == "unreachable" and accepted:
            return
        self.cause, self.last_error = trouble
        if self._said_lost != self.cause:
            self._said_lost = self.cause
            self._log.warning(
                "MQTT link lost", link=self.name, host=self._settings.host, port=self._settings.port,
                cause=self.cause, why=self.last_error,
            )  # fmt: skip

    def _back(self) -> None:
        self._said_lost = ""
        if self.cause != "taken_over":  # stays until the connection has proved steady
            self.cause = ""
        self._log.info(
            "MQTT link up", link=self.name, host=self._settings.host, port=self._settings.port, version=self.protocol
        )
