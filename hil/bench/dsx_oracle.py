"""The DSX contract as validators, made of NVIDIA's own AsyncAPI file.

The file is no part of this repository; ``PODKEEPER_CONTRACTS`` names the folder that holds ``dsx/bms.yaml``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from hil.bench.result import Missing

VARIABLE = "PODKEEPER_CONTRACTS"
OLDER_KEYS = ("rackName", "rackId")  # said on purpose; consumers older than the contract look for them
DRAFTS = (Draft7Validator, Draft202012Validator)  # the one AsyncAPI names, and one in which unknown keys are mistakes


def contract() -> Path:
    """Return where the contract is.

    Raises:
        Missing: it is not there.
    """
    path = Path(os.environ.get(VARIABLE, "")) / "dsx" / "bms.yaml"
    if not os.environ.get(VARIABLE) or not path.is_file():
        raise Missing(f"dsx/bms.yaml in the folder that {VARIABLE} names")
    return path


class Oracle:
    """One schema for each pair of object type and point type, and one for values."""

    def __init__(self, path: Path) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.document: dict[str, Any] = yaml.load(path.read_text(), loader)  # noqa: S506  safe loaders both
        messages = self.document["components"]["messages"]
        self.metadata: dict[tuple[str, str], Mapping[str, Any]] = {}
        for channel in self.document["channels"].values():
            parts = channel["address"].split("/")
            if parts[3] == "Metadata":
                for message in channel["messages"].values():
                    payload = messages[message["$ref"].rpartition("/")[2]]["payload"]
                    for kind in self._point_types(payload):
                        self.metadata[parts[4], kind] = payload
        self.value: Mapping[str, Any] = messages["ValueMessage"]["payload"]
        self._made: dict[Any, Any] = {}

    def _point_types(self, schema: Any) -> set[str]:
        if not isinstance(schema, dict):
            return set()
        if "$ref" in schema:
            found: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            return self._point_types(found)
        own = set(schema.get("properties", {}).get("pointType", {}).get("enum", ()))
        return own.union(*(self._point_types(part) for part in schema.get("allOf", ())))

    def errors(self, topic: str, payload: bytes) -> list[str]:
        """Return what is wrong with one message by either draft."""
        parts = topic.split("/")
        body = json.loads(payload)
        if parts[:3] != ["BMS", "v1", "PUB"] or len(parts) < 7 or parts[3] not in ("Value", "Metadata"):
            return [f"{topic}: no topic of a BMS"]
        value = parts[3] == "Value"
        schema = self.value if value else self.metadata.get((parts[4], parts[5]))
        if schema is None:
            return [f"{topic}: {parts[4]} has no {parts[5]}"]
        found: list[str] = []
        if not value and (body.get("objectType"), body.get("pointType")) != (parts[4], parts[5]):
            found.append(f"{topic}: says that it is another point")
        for draft in DRAFTS:
            judged = body
            if draft is Draft202012Validator and not value:
                judged = {key: part for key, part in body.items() if key not in OLDER_KEYS}
            key = (id(schema), draft)
            if key not in self._made:
                self._made[key] = draft({**schema, "components": self.document["components"]})
            found += [f"{topic}: {error.message[:120]}" for error in self._made[key].iter_errors(judged)]
        return found
