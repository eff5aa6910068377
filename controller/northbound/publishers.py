"""Every contract by the name that a link's settings give it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from controller.config.plan import Plan
from controller.northbound.dsx import Dsx
from controller.northbound.homeassistant import HomeAssistant
from controller.northbound.native import Native
from controller.northbound.publisher import Publisher
from controller.northbound.sparkplug import Sparkplug
from controller.store import Answers


@dataclass(frozen=True, slots=True)
class Context:
    """What publishers are made of.

    Attributes:
        boot: number of this start of the controller.
        bd_seq: number of the last Sparkplug connection of an earlier run; -1 if there was none.
        keep: called with each new one before it is used.
        root: of the native tree; the configured one if empty.
        answers: keeps the answers to commands over a restart.
    """

    plan: Plan
    version: str
    boot: int = 0
    bd_seq: int = -1
    keep: Callable[[int], None] = lambda _: None
    root: str = ""
    answers: Answers | None = None


def _homeassistant(given: Context) -> Publisher:
    return HomeAssistant(given.plan, given.version, given.root or given.plan.native.root)


PUBLISHERS: Final[Mapping[str, Callable[[Context], Publisher]]] = {
    "native": lambda given: Native(given.plan, given.version, given.root, given.boot, given.answers),
    "dsx": lambda given: Dsx(given.plan),
    "sparkplug": lambda given: Sparkplug(given.plan, given.version, given.bd_seq, given.keep),
    "homeassistant": _homeassistant,
}
