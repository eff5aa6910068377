"""What anyone learns of the controller over MQTT: the demo's only source about it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

KEEPALIVE_S = 30
MISC_PERIOD_S = 1.0


@dataclass(slots=True)
class Picture:
    """The newest document of each topic below the root, and how many messages have come."""

    root: str
    messages: int = 0
    documents: dict[str, Any] = field(default_factory=dict)

    def take(self, topic: str, payload: bytes | bytearray) -> None:
        self.messages += 1
        name = topic.removeprefix(self.root).strip("/")
        if not payload:
            self.documents.pop(name, None)
            return
        with contextlib.suppress(ValueError):
            self.documents[name] = json.loads(payload)

    def table(self, name: str) -> dict[str, Any]:
        """Return the JSON object last seen under ``name``; empty if there is none."""
        found = self.documents.get(name)
        return found if isinstance(found, dict) else {}

    def value(self, device: str, point: str) -> Any:
        """Return the value of a point, None while it is not known."""
        points = self.table(f"dev/{device}").get("pts")
        entry = points.get(point) if isinstance(points, dict) else None
        return entry.get("v") if isinstance(entry, dict) else entry

    def number(self, device: str, point: str) -> float | None:
        value = self.value(device, point)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def mode(self) -> str:
        return str(self.table("state").get("mode", "unknown"))

    @property
    def alarms(self) -> list[str]:
        """Return the ids of the alarms that stand, without those that their cause suppresses."""
        told = [name for name in self.documents if name.startswith("alarm/")]
        return sorted(name.removeprefix("alarm/") for name in told if self.table(name).get("state") != "F")

    @property
    def devices(self) -> list[str] | None:
        """Return the devices the controller tells of, without buses, pod and controller; None before it does."""
        found = self.table("meta").get("devices")
        if not isinstance(found, dict):
            return None
        return [name for name, entry in found.items() if isinstance(entry, dict) and "profile" in entry]

    @property
    def points(self) -> int | None:
        """Return how many points those devices have; None before each of them is described."""
        described = [self.table(f"meta/{name}").get("pts") for name in self.devices or ()]
        if not described or not all(isinstance(points, dict) for points in described):
            return None
        return sum(len(points) for points in described if isinstance(points, dict))


class Monitor:
    """A subscriber on this event loop, without a thread."""

    def __init__(self, host: str, port: int, root: str) -> None:
        self.picture = Picture(root)
        self._address = (host, port)
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="podkeeper-demo")
        self._client.on_connect = self._connected
        self._client.on_message = self._received
        self._client.on_socket_open = self._opened
        self._client.on_socket_close = self._closed
        self._client.on_socket_register_write = self._write_wanted
        self._client.on_socket_unregister_write = self._write_done
        self._loop = asyncio.get_running_loop()
        self._misc: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect; the broker is on this machine, so this does not block."""
        self._client.connect(*self._address, keepalive=KEEPALIVE_S)
        self._misc = asyncio.create_task(self._keep_alive(), name="monitor")

    async def stop(self) -> None:
        if self._misc:
            self._misc.cancel()
            await asyncio.gather(self._misc, return_exceptions=True)
        self._client.disconnect()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(MISC_PERIOD_S)
            if self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                with contextlib.suppress(OSError):
                    self._client.reconnect()

    def _connected(self, client: Client, *_: Any) -> None:
        client.subscribe(f"{self.picture.root}/#")

    def _received(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.picture.take(message.topic, message.payload)

    def _opened(self, _client: Client, _data: Any, connection: Any) -> None:
        self._loop.add_reader(connection, self._client.loop_read)

    def _closed(self, _client: Client, _data: Any, connection: Any) -> None:
        self._loop.remove_reader(connection)
        self._loop.remove_writer(connection)

    def _write_wanted(self, _client: Client, _data: Any, connection: Any) -> None:
        self._loop.add_writer(connection, self._client.loop_write)

    def _write_done(self, _client: Client, _data: Any, connection: Any) -> None:
        self._loop.remove_writer(connection)
