"""The time by which a bus worker chooses its next read: the timetable's, as long as the line keeps to it. Pure.

Chosen by the clock alone, some tenths of a millisecond that one exchange takes more or less would decide whether a span
is released just before or just after the line is free; another order follows, and values grow older than foreseen.
"""

from __future__ import annotations

from controller.config.enclosure import Bus

AHEAD_S = 0.01  # and the silence after an exchange, which the timetable counts to the exchange
BEHIND_S = 0.005


class Pace:
    """How far the timetable's time is ahead of the clock's, by no more than ``AHEAD_S`` and ``BEHIND_S``.

    A network has times of its own: there the timetable's time is the clock's.
    """

    def __init__(self, bus: Bus, silence_s: float) -> None:
        self._most, self._least = (0.0, 0.0) if bus.networked else (AHEAD_S + silence_s, -BEHIND_S)
        self._ahead_s = 0.0

    def at(self, now: float) -> float:
        """Return the timetable's time."""
        return now + self._ahead_s

    def kept(self, planned_s: float, took_s: float) -> None:
        """Note an exchange that went as foreseen: the timetable's time passes by what was planned for it."""
        self._ahead_s = min(max(self._ahead_s + planned_s - took_s, self._least), self._most)

    def set(self, at: float, now: float) -> None:
        """Have the timetable's time go on from ``at``: what was waited for is released now, however late we woke up."""
        self._ahead_s = min(max(at - now, self._least), self._most)

    def rest(self) -> None:
        """Note that nothing is released: what is released next finds the timetable behind, and sets it."""
        self._ahead_s = self._least
