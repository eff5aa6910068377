"""What aiomqtt passes over: why a socket failed, an end before the start, refusals, and a socket that has closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

REFUSED: Final = 0x80  # reason codes of MQTT 5 from here on are refusals
PREFIX: Final = "failed to receive on socket: "


class Heard(logging.Handler):
    """Listens to one connection's MQTT library.

    Attributes:
        said: what the library last logged of its socket; it hides the error itself.
        failed: set when the socket failed or was closed, before or after the broker accepted us.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said = ""
        self.failed = asyncio.Event()
        self.logger = logging.Logger("mqtt", logging.WARNING)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if "socket" in str(record.msg):
            self.said = record.getMessage().removeprefix(PREFIX)
            self.failed.set()

    def hook(self, client: Any, refused: Callable[[str], None]) -> None:
        """Take in the callbacks of an aiomqtt client; ``refused`` is told each refusal of a publish in words."""
        published, ended = client._on_publish, client._on_disconnect

        def on_publish(paho: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
            if reason.value >= REFUSED:
                refused(str(reason))
            published(paho, data, mid, reason, properties)

        def on_disconnect(paho: Any, data: Any, flags: Any, reason: Any, properties: Any = None) -> None:
            self.failed.set()
            ended(paho, data, flags, reason, properties)

        client._client.on_publish, client._client.on_disconnect = on_publish, on_disconnect
        client._loop = _Careful(client._loop, client._client)


class _Careful:
    """The event loop as aiomqtt sees it: a watch on a socket that has closed meanwhile is not begun.

    aiomqtt asks for its watches by ``call_soon``; a connection that breaks first would leave one on a number that is
    free, or is another's by then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, paho: Any) -> None:
        self._loop, self._paho = loop, paho

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def add_reader(self, descriptor: int, callback: Callable[[], None]) -> None:
        if self._open(descriptor):
            self._loop.add_reader(descriptor, callback)

    def add_writer(self, descriptor: int, callback: Callable[[], None]) -> None:
        if self._open(descriptor):
            self._loop.add_writer(descriptor, callback)

    def _open(self, descriptor: int) -> bool:
        sock = self._paho.socket()
        return sock is not None and bool(sock.fileno() == descriptor)
