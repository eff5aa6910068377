"""A plan without what nothing decides by: meters' harmonics and the like, which would take most of a run's time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from controller.config.plan import DevicePlan, Plan
from controller.config.profile import CLASS_POINTS, Profile
from controller.core.pod import alarm_rows, outputs
from controller.fieldbus.planner import plan_spans

SELDOM_S = 5.0  # what is read less often than this is no input of a loop or an interlock
TOLD = ("pdu", "meter", "battery")  # classes of which only what the enclosure file names is kept
READ_OVER = (*TOLD, "leak_detector")  # classes of which what is left out between two points is read over
READ_OVER_WORDS = 96  # so that few requests fetch a power unit
LEFT_OUT = ("points", "device_bus", "device_class")


def thinned(plan: Plan) -> Plan:
    """Return the plan with the points that roles, alarms, interlocks and outputs name, and what control may rely on of
    its class of machine, where that is read often.
    """
    pod = plan.pod
    fields = [getattr(pod, field.name) for field in dataclasses.fields(pod) if field.name not in LEFT_OUT]
    named = {text for field in fields for text in _texts(field)}
    named |= {row.point for row in alarm_rows(pod)} | {output.point for output in outputs(pod)}
    buses = []
    for bus in plan.buses:
        often = {
            point.point.id
            for device in bus.devices
            for span in plan_spans(device, bus.settings)
            if span.period_s is not None and span.period_s <= SELDOM_S and device.profile.device_class not in TOLD
            for point in span.points
            if point.point.name in CLASS_POINTS[device.profile.device_class]
        }
        devices = tuple(_thinner(device, named | often) for device in bus.devices)
        buses.append(replace(bus, devices=devices))
    thin = replace(plan, buses=tuple(buses))
    kept = {point.point.id for device in thin.devices for point in device.points}
    return replace(thin, pod=replace(pod, points={name: point for name, point in pod.points.items() if name in kept}))


def _thinner(device: DevicePlan, kept: set[str]) -> DevicePlan:
    points = tuple(p for p in device.points if p.point.id in kept or p.point.safety)
    profile = _without_holes(device.profile) if device.profile.device_class in READ_OVER else device.profile
    return replace(device, points=points or device.points, profile=profile)


@cache
def _without_holes(profile: Profile) -> Profile:
    """Return the profile of a device that bears reads over registers that the thinner plan does not name."""
    link = profile.link.model_copy(update={"max_hole_words": max(profile.link.max_hole_words, READ_OVER_WORDS)})
    return Profile(profile.name, profile.tables.model_copy(update={"link": link}))


def _texts(what: Any) -> Iterator[str]:
    if isinstance(what, str):
        yield what
    elif dataclasses.is_dataclass(what):
        for field in dataclasses.fields(what):
            yield from _texts(getattr(what, field.name))
    elif isinstance(what, tuple | list):
        for item in what:
            yield from _texts(item)
