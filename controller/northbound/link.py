"""The connection to a broker. The only importer of aiomqtt.

``Link.scan`` lets a publisher see one scan and never waits; ``Link.run`` carries what it said. Every connection is
a new client: aiomqtt's own re-entry does not wait for the broker's answer and re-sends what it should forget.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import structlog
from aiomqtt import Client, MqttCodeError, MqttError, ProtocolVersion, Will

from controller.clock import Clock, SystemClock
from controller.config.enclosure import Mqtt
from controller.core.commands import Command
from controller.northbound.publisher import Arrived, Message, Publisher
from controller.northbound.snapshot import Snapshot

VERSIONS: Final = {ProtocolVersion.V5: "5", ProtocolVersion.V311: "3.1.1"}
AIOMQTT_TIMEOUT: Final = "Operation timed out"
UNSUPPORTED_VERSION: Final = 0x84  # paho turns code 1 of an MQTT 3.1.1 broker into this one of MQTT 5
CONNECT_S: Final = 10.0
CONNECT_POLL_S: Final = 0.05
ECHO_S: Final = 5.0
FAREWELL_S: Final = 2.0
BACK_OFF_S: Final = (1.0, 60.0)
STEADY_S: Final = 30.0  # a connection that stood this long starts the back-off anew
QUEUE_MAX: Final = 4096  # messages; several times the topics of a large pod
INCOMING_MAX: Final = 1024
WINDOW: Final = 8  # publishes that wait for the broker's receipt at a time
REFUSED: Final = 0x80  # reason codes from here on are refusals
STATUS_REPEAT_S: Final = 10.0


def full_jitter(ceiling_s: float) -> float:
    """Return a random delay up to ``ceiling_s``, so that pods do not come back to a broker all at once."""
    return random.uniform(0.0, ceiling_s)  # noqa: S311 - spreads load, guards nothing


class Link:
    """One connection to one broker for one publisher, kept up for as long as ``run`` runs.

    Args:
        settings: host, port, keepalive, client id, user.
        publisher: what is said here, and who hears what comes in.
        clock: for the times in wills and farewells.
        logger: one line is said when the link is lost, one when it is back.

    Attributes:
        connected: True from the broker's acceptance to its loss.
        echoed: False when the broker took our own status and did not give it back: it drops what we publish.
        protocol: MQTT version of this or the last connection.
        published, dropped, connects: counted since the start of the process.
        last_error: why the link is down, or was last, in words.
    """

    def __init__(
        self,
        settings: Mqtt,
        publisher: Publisher,
        *,
        clock: Clock | None = None,
        logger: Any = None,
        queue_max: int = QUEUE_MAX,
        delay: Callable[[float], float] = full_jitter,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._clock = clock or SystemClock()
        self._log = logger or structlog.get_logger()
        self._queue_max = queue_max
        self._delay = delay
        self._queue: dict[object, Message] = {}
        self._inbox: deque[Arrived] = deque()
        self._waiting = asyncio.Event()
        self._closing = asyncio.Event()
        self._numbers = count()
        self._version = ProtocolVersion.V311 if settings.protocol == "3.1.1" else ProtocolVersion.V5
        self._will: Message | None = None
        self._status: Message | None = None  # the newest one said on the topic of a retained will
        self._status_said = asyncio.Event()
        self._fresh = False
        self._said_lost = False
        self.connected = False
        self.echoed = True
        self.protocol = ""
        self.published = self.dropped = self.connects = 0
        self.last_error = ""

    def scan(self, snapshot: Snapshot, now: float) -> list[Command]:
        """Let the publisher see one scan; return the commands that came in. Never waits."""
        if self._fresh:
            self._fresh = False
            self._publisher.connected(snapshot.wall_ms)
        commands: list[Command] = []
        while self._inbox:
            commands += self._publisher.received(self._inbox.popleft(), now)
        commands += self._publisher.pending(now)
        self.offer(self._publisher.messages(snapshot, now))
        return commands

    def offer(self, messages: list[Message]) -> None:
        """Take messages to publish. Never waits; the newest of a retained topic replaces the one still queued."""
        if not self.connected:
            return
        for message in messages:
            key: object = message.topic if message.retain else next(self._numbers)
            self._queue[key] = message
            if len(self._queue) > self._queue_max:
                del self._queue[next(iter(self._queue))]
                self.dropped += 1
        if messages:
            self._waiting.set()

    def close(self) -> None:
        """Ask ``run`` to publish what is queued, say "offline", and return."""
        self._closing.set()
        self._waiting.set()

    async def run(self) -> None:
        """Keep the link up until ``close`` or cancellation; both leave "offline" behind."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._closing.is_set():
            started = loop.time()
            try:
                await self._connection()
            except Exception as error:
                # Whatever it is, a fault of the link must not reach control: it is told, and tried again.
                if self._other_version(error):
                    continue
                self._lost(error)
                failures = 1 if loop.time() - started > STEADY_S else failures + 1
                ceiling = min(BACK_OFF_S[1], BACK_OFF_S[0] * 2.0 ** min(failures - 1, 10))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), self._delay(ceiling))

    async def _connection(self) -> None:
        self._will = self._publisher.will(self._clock.wall_ms())
        client = self._client(self._will)
        await self._enter(client)
        orderly = False
        try:
            await self._serve(client)
            orderly = True
        except asyncio.CancelledError:
            orderly = True
            raise
        finally:
            self.connected = False
            # aiomqtt always disconnects gracefully, which silences the will: what it would say is said first.
            last = self._publisher.farewell(self._clock.wall_ms()) if orderly else [self._will] if self._will else []
            with contextlib.suppress(MqttError, TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    for message in last:
                        await self._publish(client, message)
            with contextlib.suppress(MqttError):
                await client.__aexit__(None, None, None)

    def _client(self, will: Message | None) -> Client:
        settings = self._settings
        return Client(
            settings.host,
            settings.port,
            identifier=settings.client_id,
            username=settings.username or None,
            protocol=self._version,
            clean_session=None if self._version is ProtocolVersion.V5 else True,
            keepalive=settings.keepalive_s,
            will=will and Will(will.topic, will.payload, will.qos, will.retain),
            timeout=CONNECT_S,
            max_queued_incoming_messages=INCOMING_MAX,
        )

    async def _enter(self, client: Client) -> None:
        entering = asyncio.ensure_future(client.__aenter__())
        try:
            await asyncio.shield(entering)
        except BaseException:
            # aiomqtt connects in a thread that can't be stopped (5 s at most), and leaves a failed socket open.
            while client._client.socket() is None and not entering.done():  # noqa: ASYNC110 - nothing to wait on
                await asyncio.sleep(CONNECT_POLL_S)
            entering.cancel()
            await asyncio.gather(entering, return_exceptions=True)
            client._client.disconnect()
            raise
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
            topic, payload = message.topic.value, bytes(message.payload or b"")
            if topic != status:
                if len(self._inbox) < INCOMING_MAX:
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
                self.last_error = "broker accepts us but drops what we publish: check its access list"
                self._log.error("MQTT self-test failed", why=self.last_error, topic=status)
        await asyncio.Event().wait()

    async def _pump(self, client: Client) -> None:
        self._back()
        self._fresh = self.connected = True
        while not self._closing.is_set():
            await self._waiting.wait()
            self._waiting.clear()
            while self._queue and not self._closing.is_set():
                await self._publish_batch(client)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                while self._queue:
                    await self._publish_batch(client)

    async def _publish_batch(self, client: Client) -> None:
        keys = [key for key, _ in zip(self._queue, range(WINDOW), strict=False)]
        batch = [self._publish(client, self._queue.pop(key)) for key in keys]
        for failure in await asyncio.gather(*batch, return_exceptions=True):
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

    def _lost(self, error: Exception) -> None:
        self.last_error = _words(error)
        if not self._said_lost:
            self._said_lost = True
            self._log.warning("MQTT link lost", host=self._settings.host, port=self._settings.port, why=self.last_error)

    def _back(self) -> None:
        self._said_lost = False
        self._log.info("MQTT link up", host=self._settings.host, port=self._settings.port, version=self.protocol)


def _words(error: Exception) -> str:
    text = str(error) if isinstance(error, MqttError) else f"{type(error).__name__}: {error}"
    cause = error.__cause__
    return f"{text}: {cause}" if cause is not None and str(cause) not in text else text
