"""What the contracts other than the native one need to know of a site: names, places and who may ask for what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from controller.config.profile import Strict

IDENTIFIER = r"^[A-Za-z0-9_-]{1,48}$"
Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER)]
TopicPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,48}(/[A-Za-z0-9_-]{1,48}){0,7}$")]
ObjectType = Literal[
    "Rack", "PowerMeter", "CDU", "Chiller", "CoolingTower", "HX", "CRAH", "CRAC", "AHU", "Tank", "Valve", "Pump", "Fan",
    "Damper", "Sensor", "BESS", "UPS", "ATS", "Generator", "Shunt", "Breaker", "System", "GenericObject",
]  # fmt: skip


class DsxObject(Strict):
    """What one object is called and stands for; what is left out follows from its role.

    ``serves`` are the ids of what it supplies; ``associate`` is the id of the object that it is a part of and replaces
    its own name.
    """

    id: Identifier | None = None
    name: Identifier | None = None
    serves: list[Identifier] | None = None
    associate: Identifier | None = None
    area: list[Identifier] = Field(default_factory=list)


class DsxPoint(Strict):
    """A point that no role names: what it is of which object."""

    object: Identifier
    type: ObjectType
    point_type: Identifier
    area: Annotated[list[Identifier], Field(min_length=1)]
    setpoint: bool = False


class DsxSettings(Strict):
    """NVIDIA DSX Exchange, BMS event bus 1.0.

    Attributes:
        prefix: beginning of each tag path; site and name of the enclosure if empty.
        cdu: id of the object that the loops belong to; the enclosure's name with ``-CDU`` if empty.
        setpoint_integration, isolation_integration: who may ask for a supply temperature, and to isolate a rack;
            nobody if empty.
        rack_supply_temp, rack_return_temp: points of a rack's valve that measure there; none if empty.
        objects: by device or rack.
        points: by point (``device.point``).
    """

    version: Literal["1.0"]
    prefix: TopicPath | Literal[""] = ""
    cdu: Identifier | Literal[""] = ""
    setpoint_integration: Identifier | Literal[""] = ""
    isolation_integration: Identifier | Literal[""] = ""
    rack_supply_temp: str = ""
    rack_return_temp: str = ""
    objects: dict[str, DsxObject] = Field(default_factory=dict)
    points: dict[str, DsxPoint] = Field(default_factory=dict)


class SparkplugSettings(Strict):
    """A Sparkplug B edge node. With a primary host nothing is published until that host is online."""

    group: Identifier
    node: Identifier
    primary_host: Identifier | Literal[""] = ""


class HomeAssistantSettings(Strict):
    """Discovery of this pod by Home Assistant; it reads the native tree and can't write."""

    prefix: TopicPath = "homeassistant"
