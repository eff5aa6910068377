"""Home Assistant: one retained discovery document for each device, over the native tree. Read-only.

Needs Home Assistant 2024.11 or later (discovery by device). No document has a ``command_topic``. What is published is
only how to read what the native tree says; so this publisher and the native one must speak to the same broker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from json import JSONEncoder
from typing import Any, Final

from controller.config.plan import Plan
from controller.core.commands import Command, Outcome
from controller.core.pod import pod_points
from controller.core.points import Kind, Point
from controller.northbound.publisher import STATE, Arrived, Message
from controller.northbound.snapshot import Snapshot, by_device, decimals

DOCUMENTS_PER_SCAN: Final = 8
URL: Final = "https://www.home-assistant.io/integrations/mqtt/"
# UCUM -> (unit, device class) as Home Assistant knows them; a unit that is not here is shown as it is, without a class.
UNITS: Final[dict[str, tuple[str, str]]] = {
    "Cel": ("°C", "temperature"),
    "K": ("K", ""),
    "kPa": ("kPa", "pressure"),
    "Pa": ("Pa", "pressure"),
    "L/min": ("L/min", "volume_flow_rate"),
    "kW": ("kW", "power"),
    "kVA": ("kVA", ""),
    "kvar": ("kvar", ""),
    "kWh": ("kWh", "energy"),
    "V": ("V", "voltage"),
    "A": ("A", "current"),
    "Hz": ("Hz", "frequency"),
    "h": ("h", "duration"),
    "min": ("min", "duration"),
    "s": ("s", "duration"),
    "ms": ("ms", "duration"),
    "{rpm}": ("rpm", ""),
    "{count}": ("", ""),
}
GROWING: Final = ("energy",)
PROBLEMS: Final = ("fault", "failed", "write_fault", "store_failing", "alarm", "comm_loss", "cable_break")

_encode: Final = JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class HomeAssistant:
    """Discovery of one pod.

    Args:
        plan: the enclosure; its ``[homeassistant]`` table must be there.
        version: of the software.
        root: of the native tree.
    """

    def __init__(self, plan: Plan, version: str, root: str) -> None:
        if plan.homeassistant is None:
            raise ValueError("there is no table [homeassistant]")
        self._plan, self._version, self._root = plan, version, root
        self._prefix = plan.homeassistant.prefix
        self._documents = list(self._made())
        self._next = len(self._documents)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Home Assistant's own birth, after which it must be told everything again."""
        return (f"{self._prefix}/status",)

    def will(self, wall_ms: int) -> Message | None:  # noqa: ARG002
        """Nothing: availability is the native tree's own status, with its own will."""
        return None

    def connected(self, wall_ms: int) -> None:  # noqa: ARG002
        self._next = 0

    def farewell(self, wall_ms: int) -> list[Message]:  # noqa: ARG002
        return []

    def late(self, message: Message) -> Message | None:  # noqa: ARG002
        return None

    def messages(self, snapshot: Snapshot, now: float) -> list[Message]:  # noqa: ARG002
        """Return the documents that are still to be said, a few each scan."""
        start, self._next = self._next, min(self._next + DOCUMENTS_PER_SCAN, len(self._documents))
        return self._documents[start : self._next]

    def received(self, arrived: Arrived, now: float) -> list[Command]:  # noqa: ARG002
        if arrived.topic == f"{self._prefix}/status" and arrived.payload == b"online" and not arrived.retain:
            self._next = 0
        return []

    def pending(self, now: float) -> list[Command]:  # noqa: ARG002
        return []

    def answered(self, outcomes: Sequence[Outcome], wall_ms: int) -> None:
        """Nothing is asked here."""

    def _made(self) -> Iterator[Message]:
        plan = self._plan
        points = by_device((*plan.pod.points.values(), *pod_points(plan.pod).values()))
        about = {device.name: device for device in plan.devices}
        pod = f"podkeeper_{plan.site}_{plan.name}"
        for name, group in points.items():
            device: dict[str, Any] = {"identifiers": [f"{pod}_{name}"], "name": f"{plan.name} {name}"}
            if name in about:
                tables = about[name].profile.tables
                device |= {"manufacturer": tables.vendor, "model": tables.model, "via_device": f"{pod}_pod"}
            elif name != "pod":
                device["via_device"] = f"{pod}_pod"
            readable = [point for point in group if point.readable]
            components = {point.name: self._component(point, f"{pod}_{name}_{point.name}") for point in readable}
            if name == "pod":
                components |= self._whole(pod)
            body = {
                "device": device,
                "origin": {"name": "podkeeper", "sw_version": self._version, "support_url": URL},
                "availability_topic": f"{self._root}/status",
                "availability_template": "{{ 'online' if value_json.state == 'online' else 'offline' }}",
                "state_topic": f"{self._root}/dev/{name}",
                "qos": 1,
                "components": components,
            }
            yield Message(f"{self._prefix}/device/{pod}_{name}/config", _encode(body).encode(), kind=STATE)

    def _component(self, point: Point, unique: str) -> dict[str, Any]:
        """Return how Home Assistant is to show a point; a bad value is shown as unknown."""
        value = f"value_json.pts.{point.name}"
        body: dict[str, Any] = {"unique_id": unique, "name": point.name.replace("_", " ")}
        if point.kind is Kind.FLAG:
            template = f"{{{{ 'None' if {value}.v is none else ('ON' if {value}.v else 'OFF') }}}}"
            kind = {"device_class": _flag_class(point.name)} if _flag_class(point.name) else {}
            return {"platform": "binary_sensor", **body, "value_template": template, **kind}
        template = f"{{{{ {value}.v if {value}.q < 2147483648 else None }}}}"
        if point.kind is Kind.CODE and point.texts:
            texts = ", ".join(f"{number}: '{text}'" for number, text in sorted(point.texts.items()))
            template = f"{{{{ {{{texts}}}.get({value}.v, {value}.v) }}}}"
        body |= {"platform": "sensor", "value_template": template}
        if point.kind is Kind.NUMBER:
            unit, kind_ = UNITS.get(point.unit, (point.unit, ""))
            body |= {"unit_of_measurement": unit} if unit else {}
            body |= {"device_class": kind_} if kind_ else {}
            body["state_class"] = "total_increasing" if kind_ in GROWING else "measurement"
            if point.deadband:
                body["suggested_display_precision"] = min(3, decimals(point.deadband))
        if point.device == "controller":
            body["entity_category"] = "diagnostic"
        return body

    def _whole(self, pod: str) -> dict[str, Any]:
        """Return what is said of the pod as a whole: its mode, and how many alarms stand."""
        text = {"platform": "sensor", "value_template": "{{ value_json.mode }}", "state_topic": f"{self._root}/state"}
        count = {
            "platform": "sensor",
            "value_template": "{{ value_json.active }}",
            "state_topic": f"{self._root}/alarms",
        }
        return {
            "mode": {"unique_id": f"{pod}_mode", "name": "mode", **text},
            "alarms": {"unique_id": f"{pod}_alarms", "name": "active alarms", "state_class": "measurement", **count},
        }


def _flag_class(name: str) -> str:
    if "leak" in name and "comm_loss" not in name:
        return "moisture"
    if name in ("comms", "online"):
        return "connectivity"
    if name == "running":
        return "running"
    if any(word in name for word in PROBLEMS):
        return "problem"
    return ""
