"""Mistakes in configuration files: collected, placed, worded; and the TOML they were found in."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

FILE_BYTES_MAX = 1_000_000
SHOWN_MAX = 80
MISPLACED = "misplaced"
DICTIONARY_KEY = "[key]"  # what pydantic appends to the place of a key that is itself wrong


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: ``file: [table] key = given: remedy``."""

    file: str
    table: str
    key: str
    given: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}: [{self.table}]" if self.table else f"{self.file}: top level,"
        given = f" = {self.given}" if self.given else ""
        return f"{place} {self.key}{given}: {self.remedy}"


class ConfigError(Exception):
    """Raised with every problem found; its text has one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML document, possibly merged from a base and an overlay, that knows which file each key came from."""

    path: Path
    data: dict[str, Any]
    origins: Mapping[Location, Path] = field(default_factory=dict)

    def problem(self, location: Location, given: object, remedy: str) -> Problem:
        """Return the problem of the key at ``location``; the last part of it is the key, the rest its table."""
        *table, key = location or ("",)
        return Problem(self.origin(location).name, ".".join(map(str, table)), str(key), shown(given), remedy)

    def origin(self, location: Location) -> Path:
        """Return the file that the key at ``location`` came from."""
        return next((self.origins[part] for part in _prefixes(location) if part in self.origins), self.path)

    def parse(self, model: type[Model]) -> Model:
        """Return the document as ``model``; raises ConfigError with every mistake pydantic found."""
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            raise ConfigError(self._worded(error)) from None

    def _worded(self, error: ValidationError) -> Iterable[Problem]:
        for item in error.errors(include_url=False):
            given, location = item["input"], item["loc"]
            if item["type"] == "missing":
                given = None
            elif item["type"] == MISPLACED:
                key = item["ctx"]["key"]
                given, location = given.get(key) if isinstance(given, Mapping) else None, (*location, key)
            if location and location[-1] == DICTIONARY_KEY:
                location = location[:-1]
            yield self.problem(location or ("file",), given, _remedy(item["type"], item["msg"], item.get("ctx", {})))


def misplaced(key: str, remedy: str) -> PydanticCustomError:
    """Return the error for a model validator to raise: ``key`` of this table does not go with the rest of it."""
    return PydanticCustomError(MISPLACED, "{remedy}", {"key": key, "remedy": remedy})


def _prefixes(location: Location) -> Iterable[Location]:
    return (location[:length] for length in range(len(location), 0, -1))


def shown(given: object) -> str:
    """Return a short literal of what was given; empty for nothing, or for a whole table."""
    if given is None or isinstance(given, Mapping):
        return ""
    text = repr(given).replace("'", '"') if not isinstance(given, bool) else str(given).lower()
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"


def _remedy(kind: str, message: str, context: Mapping[str, Any]) -> str:
    match kind:
        case "missing":
            return "required, and not given"
        case "extra_forbidden":
            return "unknown key; remove it or correct its name"
        case "literal_error" | "enum":
            return f"allowed: {context['expected']}"
        case "string_pattern_mismatch":
            return f"allowed: text matching {context['pattern']}"
        case "misplaced":
            return str(context["remedy"])
        case _:
            return message[0].lower() + message[1:]


def read_toml(path: Path) -> Document:
    """Return the document at ``path``.

    Raises:
        ConfigError: the file is missing, unreadable, too large or not TOML.
    """
    try:
        raw = path.read_bytes()
        if len(raw) > FILE_BYTES_MAX:
            raise ConfigError(
                [Problem(path.name, "", "file", f"{len(raw)} bytes", f"allowed: at most {FILE_BYTES_MAX}")]
            )
        data = tomllib.loads(raw.decode())
    except OSError as error:
        raise ConfigError([Problem(path.name, "", "file", str(path), f"can't be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(path.name, "", "file", "", f"not UTF-8 at byte {error.start}")]) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError([Problem(path.name, "", "file", "", f"not TOML: {error or 'nested too deeply'}")]) from None
    return Document(path, data, dict.fromkeys(_locations(data), path))


def overlaid(base: Document, overlay: Document) -> Document:
    """Return ``base`` with every key of ``overlay`` laid over it, table by table."""
    data = _merged(base.data, overlay.data)
    origins = {**base.origins, **dict.fromkeys(_locations(overlay.data), overlay.path)}
    return Document(overlay.path, data, origins)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both_tables else value
    return merged


def _locations(data: Mapping[str, Any], above: Location = ()) -> Iterable[Location]:
    """Return the location of every key that is not a table of its own, and of every empty table."""
    for key, value in data.items():
        here = (*above, key)
        if isinstance(value, dict) and value:
            yield from _locations(value, here)
        else:
            yield here
