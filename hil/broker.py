"""An MQTT broker inside the bench, on a free loopback port, for demos and tests; not for a site."""

from __future__ import annotations

import logging

from amqtt.broker import Broker as Amqtt

from hil.wire.tcp import LOOPBACK

LISTENER = "default"
PLUGINS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}


class Broker:
    """Starts and stops one broker. Its log stays silent but for errors."""

    def __init__(self) -> None:
        self._broker: Amqtt | None = None

    async def start(self) -> int:
        """Listen on a free port and return it."""
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._broker = Amqtt(
            {
                "listeners": {LISTENER: {"type": "tcp", "bind": f"{LOOPBACK}:0"}},
                "plugins": PLUGINS,
            }
        )
        await self._broker.start()
        return self._port()

    def _port(self) -> int:
        assert self._broker is not None
        server = self._broker._servers[LISTENER].instance
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        if self._broker is not None:
            await self._broker.shutdown()
            self._broker = None
