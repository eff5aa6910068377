"""An enclosure file: buses, devices, roles in the loops, limits, links. A site file may lay its own keys over a base.

Tables that control reads are the core's own dataclasses; ``Table`` makes pydantic check them: every field without a
default required, none unknown, and numbers inside the limits of the unit their name ends in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_type_hints

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, StringConstraints, create_model, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from controller.config.adapters import DsxSettings, HomeAssistantSettings, Identifier, SparkplugSettings
from controller.config.problems import ConfigError, Document, misplaced, overlaid, read_toml
from controller.config.profile import Name, Row, Strict
from controller.core import capacity, duty, loops, modes
from controller.core.power import Power, Rack
from controller.core.protection import Protection

BASES_MAX = 4
PRINCIPALS_MAX = 16
# Sanity limits of a number by the unit that ends its name; a loop's own range is far inside.
UNIT_LIMITS: dict[str, tuple[float, float]] = {
    "_k_per_min": (0.01, 60),
    "_pct_per_k": (0.01, 1000),
    "_kj_per_k": (0.1, 10_000_000),
    "_kw_per_k": (0.1, 100_000),
    "_pct_per_s": (0.01, 1000),
    "_lpm_per_s": (0.01, 100_000),
    "_kw_lpm": (0.01, 10_000),
    "_lpm": (1, 10_000_000),
    "_kpa": (0, 5_000),
    "_pct": (0, 200),
    "_tier": (0, 9),
    "_rangeability": (1, 200),
    "_kw": (0.1, 100_000),
    "_s": (0, 86_400),
    "_h": (0, 10_000),
    "_on_duty": (1, 16),
    "_duty_low": (1, 16),
    "_per_h_max": (0, 60),
    "_max": (1, 20),
    "_l": (0, 1_000_000),
    "_a": (1, 10_000),
    "_c": (-40, 120),
    "_k": (0, 60),
}
Credential = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _or_false(value: object) -> object:
    """Let ``false`` stand for a point that an enclosure does not have; the core sees it as ""."""
    if value == "":
        raise PydanticCustomError("absent", "allowed: a point or device, or false where there is none")
    return "" if value is False else value


class Table:
    """Annotates a core dataclass as a TOML table.

    A field that metadata calls ``optional`` may be ``false``: the enclosure has no such point.
    A figure ``of`` a role is NaN where it is not given; ``plan.py`` sees that one with its role is given.
    """

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        hints = get_type_hints(source)
        fields: dict[str, Any] = {}
        for item in dataclasses.fields(source):
            if not item.init or item.default is not dataclasses.MISSING:
                continue
            hint, default = hints[item.name], math.nan if "of" in item.metadata else ...
            unit = next((suffix for suffix in UNIT_LIMITS if item.name.endswith(suffix)), None)
            if hint in (float, int) and unit:
                low, high = UNIT_LIMITS[unit]
                fields[item.name] = (Annotated[hint, Field(ge=low, le=high, allow_inf_nan=False)], default)
            elif item.metadata.get("optional"):
                fields[item.name] = (Annotated[str, BeforeValidator(_or_false)], ...)
            else:
                fields[item.name] = (list[str] if hint == tuple[str, ...] else hint, ...)
        model = create_model(source.__name__, __base__=Strict, **fields)

        def built(tables: Strict) -> Any:
            values = {name: getattr(tables, name) for name in fields}
            values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
            return source(**values)

        return core_schema.no_info_after_validator_function(built, handler.generate_schema(model))


class Rates(Strict):
    """Poll period of each rate group; ``best_effort`` names those that may be read less often on a bus that is full."""

    fast_s: Annotated[float, Field(ge=0.1, le=5)]
    normal_s: Annotated[float, Field(ge=0.2, le=30)]
    slow_s: Annotated[float, Field(ge=1, le=600)]
    best_effort: list[Literal["normal", "slow"]]


class Scan(Strict):
    period_ms: Annotated[int, Field(ge=50, le=1000)]


class Bus(Strict):
    """One wire or one TCP connection. No single read may keep a write waiting longer than ``write_budget_ms``.

    ``rtu_over_tcp`` is a serial line, of ``baud``, behind a device server that hands its bytes on as they are.
    """

    kind: Literal["rtu", "tcp", "rtu_over_tcp"]
    timeout_ms: Annotated[int, Field(ge=20, le=5000)]
    write_budget_ms: Annotated[int, Field(ge=5, le=5000)]
    port: str | Annotated[int, Field(ge=1, le=65535)]
    baud: Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200] | None = None
    parity: Literal["none", "even", "odd"] | None = None
    stop_bits: Literal[1, 2] | None = None
    host: str | None = None

    SERIAL: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rtu": ("baud", "parity", "stop_bits"),
        "rtu_over_tcp": ("baud",),
        "tcp": (),
    }

    @property
    def serial(self) -> bool:
        """Whether a serial line carries the frames, and its times count."""
        return self.kind != "tcp"

    @property
    def networked(self) -> bool:
        return self.kind != "rtu"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key in self.SERIAL["rtu"]:
            given, needed = getattr(self, key) is not None, key in self.SERIAL[self.kind]
            if given != needed:
                raise misplaced(key, "required for a serial line" if needed else f"not for {self.kind}")
        if self.networked and not self.host:
            raise misplaced("host", f"required for {self.kind}: a host name or address")
        if not self.networked and self.host is not None:
            raise misplaced("host", "not for rtu")
        if self.networked and not isinstance(self.port, int):
            raise misplaced("port", f"allowed for {self.kind}: a number from 1 to 65535")
        if not self.networked and not isinstance(self.port, str):
            raise misplaced("port", 'allowed for rtu: a device path, such as "/dev/ttyUSB0"')
        return self


class Device(Strict):
    profile: Name
    bus: Name
    unit: Annotated[int, Field(ge=0, le=255)]
    description: str = ""
    points: dict[Name, Row] = Field(default_factory=dict)


class Tls(Strict):
    """TLS towards a broker: names of credentials in $CREDENTIALS_DIRECTORY, never paths.

    ``ca`` is the only authority that is believed; ``certificate`` and ``key`` are shown to a broker that asks for them.
    """

    ca: Credential
    certificate: Credential | None = None
    key: Credential | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise misplaced("key" if self.key is None else "certificate", "required: a certificate and its key")
        return self


class OutboxLimits(Strict):
    """What one link keeps on disk while its broker can't be reached.

    ``every_s`` is the least time between two kept telemetry messages of one topic; 0 keeps all.
    """

    max_mib: Annotated[int, Field(ge=1, le=4096)]
    max_age_h: Annotated[int, Field(ge=1, le=720)]
    every_s: Annotated[float, Field(ge=0, le=3600)]
    drain_per_s: Annotated[int, Field(ge=1, le=1000)]


class LinkSettings(Strict):
    """One connection to one broker, and who speaks over it."""

    publisher: Literal["native", "dsx", "sparkplug", "homeassistant"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    keepalive_s: Annotated[int, Field(ge=5, le=300)]
    client_id: Identifier
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    username: str = ""
    password: Credential | None = None
    tls: Tls | None = None
    outbox: OutboxLimits | None = None

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.publisher == "sparkplug" and self.protocol != "3.1.1":
            raise misplaced("protocol", 'allowed for sparkplug: "3.1.1"')
        if self.password is not None and not self.username:
            raise misplaced("username", "required with a password")
        if self.password is not None and self.tls is None and self.host not in LOOPBACK:
            raise misplaced("tls", "required: a password may leave this machine only encrypted")
        return self


class NativeSettings(Strict):
    """The native tree; ``root`` is the beginning of each of its topics."""

    root: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,48}(/[A-Za-z0-9_-]{1,48}){0,7}$")]


class Principal(Strict):
    """Who may ask something of the pod over MQTT: the kinds of request, and the slots of setpoints it may write."""

    roles: list[Literal["setpoints", "alarms", "modes", "isolation"]]
    slots: list[Literal[8, 10, 13]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.slots) != ("setpoints" in self.roles):
            raise misplaced("slots", 'needed for the role "setpoints", and only for it')
        return self


class Console(Strict):
    """Technicians' way in. The socket is served to users of the service's group only."""

    socket: str
    tty: str = ""


class Operation(Strict):
    """autostart: go to STARTUP by itself after the controller started, once PRECHECK passes."""

    autostart: bool


class Enclosure(Strict):
    """A whole enclosure file."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Identifier
    site: Identifier
    description: str = ""
    state_dir: str
    profiles_dir: str
    scan: Scan
    rates: Rates
    operation: Operation
    buses: Annotated[dict[Name, Bus], Field(min_length=1)]
    devices: Annotated[dict[Name, Device], Field(min_length=1)]
    tcs: Annotated[loops.Tcs, Table]
    fws: Annotated[loops.Fws, Table]
    room: Annotated[loops.Room, Table]
    cooling: Annotated[capacity.Cooling, Table]
    rotation: Annotated[duty.Rotation, Table]
    power: Annotated[Power, Table]
    racks: dict[Name, Annotated[Rack, Table]]
    protection: Annotated[Protection, Table]
    startup: Annotated[modes.StartupTimes, Table]
    native: NativeSettings
    links: dict[Name, LinkSettings]
    principals: Annotated[dict[Identifier, Principal], Field(max_length=PRINCIPALS_MAX)] = Field(default_factory=dict)
    console: Console
    dsx: DsxSettings | None = None
    sparkplug: SparkplugSettings | None = None
    homeassistant: HomeAssistantSettings | None = None

    @model_validator(mode="after")
    def _tables_of_links(self) -> Self:
        for name, link in self.links.items():
            if getattr(self, link.publisher) is None:
                raise misplaced("links", f"{name}: its publisher needs the table [{link.publisher}]")
        return self


def read_enclosure(path: Path) -> Document:
    """Return the document at ``path`` laid over its ``base``, if it names one.

    Raises:
        ConfigError: a file can't be read, or bases go round in a circle.
    """
    documents = [read_toml(path)]
    while "base" in documents[-1].data:
        here = documents[-1]
        base = here.data.pop("base")
        if not isinstance(base, str) or len(documents) > BASES_MAX:
            problem = here.problem(("base",), base, f"allowed: the path of another file, at most {BASES_MAX} deep")
            raise ConfigError([problem])
        documents.append(read_toml(here.path.parent / base))
    document = documents.pop()
    while documents:
        document = overlaid(document, documents.pop())
    return document
