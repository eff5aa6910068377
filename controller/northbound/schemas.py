"""JSON Schemas (draft 2020-12) of the native tree's documents, by the topics of ``native.DOCUMENTS``.

They say what a consumer may rely on. Keys that are not here may come with any release, so none is forbidden.
``podkeeper schemas`` prints them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from controller.core.points import Kind
from controller.northbound.native import SEVERITIES
from controller.northbound.snapshot import STATUS_NAMES

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
NUMBER: Final[Schema] = {"type": "number"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
TIME: Final[Schema] = {"type": "integer", "description": "milliseconds since 1970-01-01 UTC"}
TIME_OR_NEVER: Final[Schema] = {"type": ["integer", "null"], "description": "milliseconds since 1970-01-01 UTC"}
VALUE: Final[Schema] = {"type": ["number", "boolean", "string", "null"]}
TEXTS: Final[Schema] = {"type": "object", "additionalProperties": TEXT}


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, **more: Any) -> Schema:
    """Return the schema of an object with these keys; others are allowed."""
    return {"type": "object", "required": [*required], "properties": {**required, **(optional or {})}, **more}


def every(schema: Schema) -> Schema:
    """Return the schema of an object whose every value is of one kind."""
    return {"type": "object", "additionalProperties": schema}


HEAD: Final = {"ts": TIME, "boot": COUNT}
QUALITY: Final[Schema] = {"enum": [*STATUS_NAMES], "description": "OPC UA StatusCode; 0 is good"}
PRIORITY: Final[Schema] = {"enum": [*SEVERITIES]}
SAMPLE: Final = record(
    {"v": VALUE, "q": QUALITY, "t": TIME_OR_NEVER},
    {"lv": VALUE},
    **{"if": {"properties": {"q": {"minimum": 0x8000_0000}}}, "then": {"properties": {"v": {"type": "null"}}}},
)
POINT: Final = record(
    {"id": {"type": "string", "pattern": "^[^/]+/[^/]+$"}, "kind": {"enum": [kind.value for kind in Kind]}},
    {
        "unit": {"type": "string", "description": "UCUM"},
        "range": {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2},
        "writable": FLAG,
        "safety": FLAG,
        "texts": TEXTS,
        "deadband": NUMBER,
        "description": TEXT,
    },
)
DEVICE: Final = record(
    {"class": TEXT},
    {
        "kind": TEXT,
        "profile": TEXT,
        "vendor": TEXT,
        "model": TEXT,
        "bus": TEXT,
        "unit": COUNT,
        "description": TEXT,
    },
)
ALARM: Final = record(
    {
        **HEAD,
        "id": TEXT,
        "occ": {"type": ["string", "null"], "description": "null while it was put aside before it ever came"},
        "point": TEXT,
        "title": TEXT,
        "priority": PRIORITY,
        "severity": {"type": "integer", "minimum": 1, "maximum": 1000},
        "state": {"type": "string", "pattern": "^[A-G]$", "description": "ISA-18.2"},
        "state_no": {"type": "integer", "minimum": 1, "maximum": 7},
        "active": FLAG,
        "acked": FLAG,
        "test": TEXT,
        "value": VALUE,
        "limit": VALUE,
        "hysteresis": NUMBER,
        "unit": TEXT,
        "t_active": TIME,
        "t_rtn": TIME_OR_NEVER,
        "t_ack": TIME_OR_NEVER,
        "ack_by": TEXT,
        "count": COUNT,
        "consequence": TEXT,
        "action": TEXT,
    }
)
NEWEST: Final = record({"id": TEXT, "title": TEXT, "priority": PRIORITY, "t_active": TIME})
SCHEMAS: Final[Mapping[str, Schema]] = {
    "{r}/status": record({"state": {"enum": ["online", "offline", "lost"]}, "ts": TIME, "boot": COUNT, "ver": TEXT}),
    "{r}/meta": record(
        {
            "schema": COUNT,
            "name": TEXT,
            "site": TEXT,
            "ver": TEXT,
            "cfg_rev": TEXT,
            "scan_s": NUMBER,
            "devices": every(DEVICE),
        }
    ),
    "{r}/meta/{dev}": record({"schema": COUNT, "cfg_rev": TEXT, "dev": TEXT, "class": TEXT, "pts": every(POINT)}),
    "{r}/state": record(
        {
            **HEAD,
            "mode": TEXT,
            "since": TIME_OR_NEVER,
            "cause": TEXT,
            "degraded": FLAG,
            "missing": {"type": "array", "items": TEXT},
            "interlocks": {"type": "array", "items": TEXT},
            "first_out": TEXT,
            "machines": TEXTS,
        }
    ),
    "{r}/dev/{dev}": record(
        {**HEAD, "seq": COUNT, "clk": {"enum": ["sync", "unsync", "unknown"]}, "pts": every(SAMPLE)}
    ),
    "{r}/alarm/{id}": ALARM,
    "{r}/alarms": record(
        {
            **HEAD,
            "total": COUNT,
            "active": COUNT,
            "unacked": COUNT,
            "state": every(COUNT),
            "priority": every(COUNT),
            "newest": {"anyOf": [{"type": "null"}, NEWEST]},
        }
    ),
}


def document(topic: str) -> Schema:
    """Return the whole schema of one document, with its draft and name.

    Raises:
        KeyError: there is no such topic.
    """
    return {"$schema": DRAFT, "title": topic, **SCHEMAS[topic]}
