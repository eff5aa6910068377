"""Where a maker's device answers otherwise than the standard asks, by profile; from the notes of the profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hil.wire.pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a device differs.

    Attributes:
        hole_word: what a register that is not there reads; None: an exception.
        hole_code, value_code: the exceptions for an address that is not there and a value out of range.
        even_reads: a read of an odd number of registers is refused.
    """

    hole_word: int | None = None
    hole_code: int = ILLEGAL_ADDRESS
    value_code: int = ILLEGAL_VALUE
    even_reads: bool = False


STANDARD = Quirks()
QUIRKS: Mapping[str, Quirks] = {
    "apc_inrow_sc": Quirks(hole_word=0),
    "danfoss_fc102": Quirks(hole_code=64, value_code=2),  # MG.11.B4.22 p.152
    "delta_rpu_rdf040": Quirks(hole_word=0),
    "eastron_sdm630": Quirks(even_reads=True),
    "grundfos_cim": Quirks(hole_word=0xFFFF),
    "victron_gx": Quirks(hole_word=0),
}
