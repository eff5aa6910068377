"""What the live page is served by: its files, the plan it is drawn from, and the bench's faults. GET changes nothing.

| Request | Answer |
|---|---|
| ``GET /`` and its files | the page |
| ``GET /plan.json`` | which machine is where, and the websocket of the broker |
| ``GET /faults`` | the catalogue, by kind what may be aimed at, and what acts now |
| ``GET /standing`` | what acts now |
| ``POST /faults/NAME`` ``{"target": ..., "value": ...}`` | causes a fault |
| ``DELETE /faults/NAME`` ``{"target": ...}``, ``DELETE /faults`` | heals it; all of a name without a target; all |
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from controller.config.plan import Plan
from hil.desk import FaultError, Faults
from hil.page.http import Answer, Request, RequestError, Server
from hil.runner import Bench
from hil.wire.tcp import LOOPBACK

FOLDER = Path(__file__).parent
FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/mqtt.js": ("mqtt.js", "text/javascript"),
    "/mimic.js": ("mimic.js", "text/javascript"),
    "/trends.js": ("trends.js", "text/javascript"),
    "/page.js": ("page.js", "text/javascript"),
}


class Page:
    """Serves the live page of one bench on loopback.

    Args:
        plan: the enclosure to draw.
        faults: what may be broken.
    """

    def __init__(self, plan: Plan, faults: Faults) -> None:
        self._plan, self._faults = plan, faults
        self.websocket_port = 0
        self._server = Server(self._handle)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.port}/"

    @property
    def origins(self) -> list[str]:
        """Return the origins from which a browser that shows this page asks."""
        return [f"http://{name}" for name in self._server.names]

    async def start(self, port: int = 0) -> None:
        await self._server.start(port)

    async def stop(self) -> None:
        await self._server.stop()

    async def _handle(self, request: Request) -> Answer:
        if request.path == "/faults" or request.path.startswith("/faults/"):
            return await self._fault(request, request.path.removeprefix("/faults").removeprefix("/"))
        if request.method not in ("GET", "HEAD"):
            raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.path}: allowed: GET")
        if request.path == "/standing":
            return Answer.of({"standing": self._standing()})
        if request.path == "/plan.json":
            return Answer.of(layout(self._plan) | {"websocket": f"ws://{LOOPBACK}:{self.websocket_port}/"})
        if request.path not in FILES:
            raise RequestError(HTTPStatus.NOT_FOUND, f"{request.path}: not here")
        name, kind = FILES[request.path]
        policy = (
            "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
            f"connect-src 'self' ws://{LOOPBACK}:{self.websocket_port}; frame-ancestors 'none'; base-uri 'none'"
        )
        return Answer((FOLDER / name).read_bytes(), kind, headers=(policy,))

    async def _fault(self, request: Request, name: str) -> Answer:
        try:
            if request.method == "POST":
                await self._faults.inject(name, *_aim(request))
            elif request.method == "DELETE":
                await self._faults.heal(name, _aim(request)[0])
        except FaultError as error:
            raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        if request.method not in ("GET", "HEAD"):
            return Answer.of({"standing": self._standing()})
        faults = self._faults.catalogue()
        targets = {fault.kind: self._faults.targets(fault.kind) for fault in faults}
        rows = [{**asdict(fault), "family": fault.family} for fault in faults]
        return Answer.of({"faults": rows, "targets": targets, "standing": self._standing()})

    def _standing(self) -> list[dict[str, Any]]:
        return [asdict(item) for item in self._faults.standing()]


@asynccontextmanager
async def served(bench: Bench, faults: Faults) -> AsyncIterator[Page]:
    """Serve the page of a bench that runs with its broker; the page's websocket is the broker's own."""
    assert bench.broker is not None
    page = Page(bench.plan, faults)
    await page.start()
    try:
        page.websocket_port = await bench.broker.open_websocket(page.origins)
        yield page
    finally:
        await page.stop()


def _aim(request: Request) -> tuple[str, float | str | None]:
    """Return target and value of a request to cause or heal a fault."""
    document = request.document()
    target, value = document.get("target", ""), document.get("value")
    if set(document) - {"target", "value"} or not isinstance(target, str):
        raise RequestError(HTTPStatus.BAD_REQUEST, 'body: allowed: {"target": text, "value": number, text or null}')
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        raise RequestError(HTTPStatus.BAD_REQUEST, "value: allowed: a number, text or null")
    try:
        return target, float(value) if isinstance(value, int) else value
    except OverflowError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, "value: too large") from error


def layout(plan: Plan) -> dict[str, Any]:
    """Return what the page draws: machines, sensors and racks by their roles."""
    pod = plan.pod
    classes = {name: pod.device_class.get(name, "") for name in pod.device_class}
    return {
        "name": plan.name,
        "site": plan.site,
        "root": plan.native.root,
        "pumps": pod.tcs.pumps,
        "valve": pod.tcs.valve,
        "fws_pumps": pod.fws.pumps,
        "chillers": pod.fws.chillers,
        "supply_temps": pod.tcs.supply_temps,
        "return_temps": pod.tcs.return_temps,
        "fws_supply_temps": pod.fws.supply_temps,
        "flow": pod.tcs.flow,
        "suction_pressure": pod.tcs.suction_pressure,
        "level_ok": pod.tcs.level_ok,
        "feeds": pod.power.feeds,
        "epo": pod.protection.epo,
        "levels": [point for point in pod.points if point.endswith("_level") and pod.points[point].unit == "%"],
        "fws_flows": [point for point in pod.points if point.endswith(".fws_flow")],
        "batteries": [name for name, kind in classes.items() if kind == "battery"],
        "racks": [
            {"name": rack.name, "outlets": rack.outlets, "power": rack.power, "valve": rack.valve, "leak": rack.leak}
            for rack in pod.racks
        ],
    }
