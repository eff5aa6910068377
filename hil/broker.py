"""An MQTT broker inside the bench, on free loopback ports, for demos and tests; not for a site."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import websockets
from amqtt.adapters import WebSocketsReader, WebSocketsWriter
from amqtt.broker import Broker as Amqtt
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from hil.wire.tcp import LOOPBACK

LISTENER, PAGES = "default", "pages"
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
        self._websocket: Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen on ``port`` (0: a free one) and return it."""
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger("amqtt.broker").addFilter(_not_a_page_gone)
        self._broker = Amqtt(
            {
                "listeners": {
                    LISTENER: {"type": "tcp", "bind": f"{LOOPBACK}:{port}"},
                    PAGES: {"type": "external", "bind": f"{LOOPBACK}:0"},
                },
                "plugins": PLUGINS,
            }
        )
        await self._broker.start()
        return self._port()

    async def open_websocket(self, origins: Sequence[str]) -> int:
        """Let pages of ``origins``, and no other site's, connect by websocket; return the port."""
        allowed = [websockets.Origin(origin) for origin in origins]
        protocol = websockets.Subprotocol("mqtt")
        self._websocket = await serve(
            self._page_connected, LOOPBACK, 0, origins=allowed, subprotocols=[protocol], max_size=MESSAGE_BYTES_MAX
        )
        port: int = next(iter(self._websocket.sockets)).getsockname()[1]
        return port

    async def _page_connected(self, connection: ServerConnection) -> None:
        assert self._broker is not None
        await self._broker.external_connected(WebSocketsReader(connection), WebSocketsWriter(connection), PAGES)

    def _port(self) -> int:
        assert self._broker is not None
        server = self._broker._servers[LISTENER].instance
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        if self._websocket is not None:
            self._websocket.close()
            await self._websocket.wait_closed()
            self._websocket = None
        if self._broker is not None:
            await self._broker.shutdown()
            self._broker = None
