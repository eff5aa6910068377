"""An MQTT broker inside the bench, on free loopback ports, for demos and tests; not for a site."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import websockets
from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter, WebSocketsReader, WebSocketsWriter
from amqtt.broker import Broker as Amqtt
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from hil.wire.tcp import LOOPBACK

LISTENER = "default"
PLUGINS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
MESSAGE_BYTES_MAX = 65_536


def _not_a_page_gone(record: logging.LogRecord) -> bool:
    """Return False for what the broker tells when a browser leaves while a message is on its way to it."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, ConnectionClosed)


class Broker:
    """Starts and stops one broker. Its log stays silent but for errors."""

    def __init__(self) -> None:
        self._broker: Amqtt | None = None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._websocket: Server | None = None
        self._pages: tuple[str, ...] = ()
        self._websocket_port = 0

    async def start(self, port: int = 0) -> int:
        """Listen on ``port`` (0: a free one) and return it; for pages as before ``stop``."""
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger("amqtt.broker").addFilter(_not_a_page_gone)
        self._broker = Amqtt(
            {"listeners": {LISTENER: {"type": "external", "bind": f"{LOOPBACK}:{port}"}}, "plugins": PLUGINS}
        )
        await self._broker.start()
        self._server = await asyncio.start_server(self._connected, LOOPBACK, port)
        taken: int = self._server.sockets[0].getsockname()[1]
        if self._pages:
            await self.open_websocket(self._pages)
        return taken

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand a connection to the broker, and end it when the broker is through with it or is stopped."""
        if self._broker is None:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            await self._broker.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), LISTENER)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def open_websocket(self, origins: Sequence[str]) -> int:
        """Let pages of ``origins``, and no other site's, connect by websocket; return the port."""
        allowed = [websockets.Origin(origin) for origin in origins]
        protocol = websockets.Subprotocol("mqtt")
        self._websocket = await serve(
            self._page_connected, LOOPBACK, self._websocket_port, origins=allowed, subprotocols=[protocol],
            max_size=MESSAGE_BYTES_MAX,
        )  # fmt: skip
        self._pages = tuple(origins)
        self._websocket_port = next(iter(self._websocket.sockets)).getsockname()[1]
        return self._websocket_port

    async def _page_connected(self, connection: ServerConnection) -> None:
        assert self._broker is not None
        await self._broker.external_connected(WebSocketsReader(connection), WebSocketsWriter(connection), LISTENER)

    async def stop(self) -> None:
        if self._websocket is not None:
            self._websocket.close()
            await self._websocket.wait_closed()
            self._websocket = None
        if self._server is not None:
            self._server.close()
        if self._broker is not None:
            broker, self._broker = self._broker, None
            await broker.shutdown()
        for writer in list(self._writers):
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None
