"""What aiomqtt passes over: why a socket failed, an end before the beginning, and refusals of what we publish."""

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
