"""The live page: what its server lets in, the faults it offers, and a browser in front of a running pod."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from selenium.webdriver import Chrome
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from hil.desk import STANDING_MAX, Desk, FaultError
from hil.page.http import BODY_BYTES_MAX, HEAD_BYTES_MAX
from hil.page.server import Page, served
from hil.runner import Bench
from hil.wire.faults import active as active_faults
from hil.wire.tcp import LOOPBACK
from tests.hil.browser import OVERFLOWING, browser, complaints, needs_browser


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Bench, Desk, Page]]:
    async with Bench(broker=True) as bench:
        desk = Desk(bench)
        async with desk.stage, served(bench, desk) as page:
            yield bench, desk, page


async def ask(
    page: Page, method: str, path: str, body: object = None, raw: bytes | None = None, **headers: str | None
) -> tuple[int, Any]:
    """Return status and JSON of one request; ``headers`` with underscores for dashes, None leaves one out."""
    port = int(page.url.rsplit(":", 1)[1].strip("/"))
    data = b"" if body is None else json.dumps(body).encode()
    given: dict[str, str | None] = {"host": f"{LOOPBACK}:{port}", "content-length": str(len(data))}
    given |= {"content-type": "application/json"} if body is not None else {}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value is not None)]
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(raw if raw is not None else "\r\n".join([*lines, "", ""]).encode() + data)
    async with asyncio.timeout(15):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, text = answer.partition(b"\r\n\r\n")
    try:
        return int(head.split(b" ")[1]), json.loads(text)
    except ValueError:
        return int(head.split(b" ")[1]), (head + text).decode()


def desk_standing(desk: Desk) -> list[dict[str, object]]:
    return [{"name": item.name, "target": item.target, "value": item.value} for item in desk.standing()]


async def test_faults_are_caused_and_healed_over_http() -> None:
    async with running() as (bench, desk, page):
        status, found = await ask(page, "GET", "/faults")
        assert status == 200
        assert {"pump.trip", "device.silent", "wire.unplugged", "load.step"} <= {row["name"] for row in found["faults"]}
        status, found = await ask(page, "POST", "/faults/pump.trip", {"target": "pump_2"})
        assert (status, found["standing"]) == (200, [{"name": "pump.trip", "target": "pump_2", "value": None}])
        assert [pump.tripped for pump in bench.plant.tcs_pumps] == [False, True, False]
        await ask(page, "POST", "/faults/load.step", {"target": "pod", "value": 0.35})
        assert bench.plant.racks[3].load == 0.35
        assert await ask(page, "GET", "/standing") == (200, {"standing": desk_standing(desk)})
        status, found = await ask(page, "DELETE", "/faults/pump.trip", {"target": "pump_2"})
        assert [item["name"] for item in found["standing"]] == ["load.step"]
        assert not bench.plant.tcs_pumps[1].tripped
        status, found = await ask(page, "DELETE", "/faults")
        assert (status, found) == (200, {"standing": []})
        assert bench.plant.racks[3].load == 0.6


@pytest.mark.parametrize(
    ("name", "body", "status", "told"),
    [
        ("pump.explode", {"target": "pump_1"}, 422, "there are: pump.trip"),
        ("pump.trip", {"target": "pump_9"}, 422, "allowed: pump_1"),
        ("pump.trip", {"target": "pump_1", "value": 3}, 422, "takes no value"),
        ("load.step", {"target": "pod", "value": 500}, 422, "allowed: 0 to 1.5 share"),
        ("load.step", {"target": "pod", "value": "much"}, 422, "allowed: 0 to 1.5 share"),
        ("load.step", {"target": "pod", "value": True}, 400, "a number, text or null"),
        ("load.step", {"target": "pod", "value": 10**400}, 400, "too large"),
        ("pump.trip", {"target": ["pump_1"]}, 400, "allowed:"),
        ("pump.trip", {"target": "pump_1", "other": 1}, 400, "allowed:"),
        ("pump.trip", ["pump_1"], 400, "JSON object"),
    ],
)
async def test_a_wrong_fault_is_refused_with_what_is_allowed(name: str, body: object, status: int, told: str) -> None:
    async with running() as (_, desk, page):
        got, answer = await ask(page, "POST", f"/faults/{name}", body)
        assert got == status
        assert told in answer["error"]
        assert not desk.standing()
        got, answer = await ask(page, "DELETE", "/faults/pump.trip", {"target": "pump_1"})
        assert got == 422
        assert "acting: none" in answer["error"]


async def test_no_other_site_and_no_other_name_gets_in() -> None:
    async with running() as (_, desk, page):
        body = {"target": "pump_1"}
        own = page.origins[0]
        for status, headers in (
            (421, {"host": "evil.example"}),
            (421, {"host": None}),
            (403, {"origin": "http://evil.example"}),
            (403, {"origin": "null"}),
            (403, {"origin": own, "sec_fetch_site": "cross-site"}),
            (415, {"content_type": "text/plain"}),
            (415, {"content_type": "application/x-www-form-urlencoded"}),
        ):
            assert (await ask(page, "POST", "/faults/pump.trip", body, **headers))[0] == status, headers  # type: ignore[arg-type]
        assert (await ask(page, "GET", "/faults", host="evil.example"))[0] == 421
        assert (await ask(page, "DELETE", "/faults", origin="http://evil.example"))[0] == 403
        assert not desk.standing()
        assert (await ask(page, "POST", "/faults/pump.trip", body, origin=own))[0] == 200
        for origin in ("http://evil.example", None):
            with pytest.raises(InvalidStatus):
                async with connect(f"ws://{LOOPBACK}:{page.websocket_port}/", origin=origin, subprotocols=["mqtt"]):  # type: ignore[arg-type,list-item]
                    raise AssertionError("a page of another site was let in")


async def test_requests_have_limits() -> None:
    async with running() as (_, _, page):
        assert (await ask(page, "POST", "/faults/x", {"target": "x" * BODY_BYTES_MAX}))[0] == 413
        assert (await ask(page, "GET", "/" + "x" * HEAD_BYTES_MAX))[0] == 431
        assert (await ask(page, "POST", "/faults/x", {}, content_length="-1"))[0] == 400
        assert (await ask(page, "POST", "/faults/x", {}, content_length="9" * 5000))[0] == 413
        assert (await ask(page, "PUT", "/faults/x"))[0] == 405
        assert (await ask(page, "POST", "/"))[0] in (405, 415)
        assert (await ask(page, "GET", "/../desk.py"))[0] == 404
        assert (await ask(page, "GET", "/", raw=b"rubbish\r\n\r\n"))[0] == 400
        assert (await ask(page, "GET", "/faults", raw=b"GET /faults HTTP/1.1\r\nhost"))[0] == 408
        status, text = await ask(page, "GET", "/")
        assert status == 200
        assert "Content-Security-Policy: default-src 'none'" in text


async def test_every_fault_of_the_catalogue_can_be_caused_and_healed() -> None:
    async with running() as (bench, desk, _):
        assert {fault.name for fault in desk.catalogue()} == {fault.name for fault in desk.stage.catalogue()}
        await desk.stage.start()
        for row in desk.catalogue():
            target = "io_1.supply_temp_1" if row.kind == "point" else desk.targets(row.kind)[-1]
            await desk.inject(row.name, target, row.default)  # type: ignore[arg-type]
            assert desk_standing(desk)[-1]["name"] == row.name
            await desk.heal(row.name)
        assert desk.standing() == ()
        assert not any(active_faults(bus.faults) for bus in bench.buses.values())
        with pytest.raises(FaultError, match=r"there are: pump\.trip"):
            await desk.heal("nothing")
        assert bench.controller is not None, "killed once, and started again"


async def test_faults_have_a_limit_that_is_named() -> None:
    async with running() as (_, desk, _page):
        for target in desk.targets("point")[:STANDING_MAX]:
            await desk.inject("point.forced", target, 1.0)
        with pytest.raises(FaultError, match="at most 64"):
            await desk.inject("pump.trip", "pump_1", None)
        await desk.heal()
        await desk.inject("pump.trip", "pump_1", None)


async def test_a_killed_controller_is_no_end_of_the_demo_and_one_that_ends_is() -> None:
    async with running() as (bench, desk, _):
        await desk.stage.start()
        died = asyncio.create_task(desk.stage.died())
        await desk.inject("controller.killed", "", None)
        assert bench.controller is None
        await desk.heal("controller.killed")
        assert not died.done()
        assert bench.controller is not None
        bench.controller.kill()
        async with asyncio.timeout(10):
            assert await died == -9


async def test_the_page_finds_the_broker_where_it_was() -> None:
    async with running() as (_, desk, page):
        await desk.inject("broker.down", "pod", None)
        with pytest.raises(OSError, match=r"refused|Connect"):
            async with connect(
                f"ws://{LOOPBACK}:{page.websocket_port}/", origin=page.origins[0], subprotocols=["mqtt"]
            ):  # type: ignore[arg-type,list-item]
                raise AssertionError("nobody should listen")
        await desk.heal("broker.down")
        async with connect(f"ws://{LOOPBACK}:{page.websocket_port}/", origin=page.origins[0], subprotocols=["mqtt"]):  # type: ignore[arg-type,list-item]
            pass


async def seen(driver: Chrome, what: Callable[[], bool], within_s: float) -> None:
    """Wait until the browser shows something; it is another process, so there is no event."""
    end = time.monotonic() + within_s
    while not await asyncio.to_thread(what):
        assert time.monotonic() < end, await asyncio.to_thread(lambda: driver.find_element("tag name", "main").text)
        await asyncio.sleep(0.2)


@needs_browser
@pytest.mark.peer
@pytest.mark.slow
async def test_a_browser_shows_the_pod_its_alarms_and_the_loss_of_the_broker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as (bench, desk, page):
        await bench.start_controller()
        with browser() as driver:

            def many(selector: str) -> list[str]:
                return list(driver.execute_script(TEXTS, selector))  # type: ignore[no-untyped-call]

            def one(selector: str) -> str:
                return many(selector)[0]

            await asyncio.to_thread(driver.get, page.url)
            await seen(driver, lambda: one("#link") == "connected", 20)
            await seen(driver, lambda: "STARTUP" in one("#mode"), 20)
            good = "[data-point='io_1.supply_temp_1'].good"
            await seen(driver, lambda: any("22" in text and "°C" in text for text in many(good)), 20)
            assert len(many("[data-rack]")) == 8
            assert len(many("[data-machine]")) == 7
            await asyncio.to_thread(driver.execute_script, CAUSE, "device.silent", "pump_2")  # type: ignore[no-untyped-call]
            await seen(driver, lambda: bool(desk.standing()), 5)
            await seen(driver, lambda: any("pump_2" in text for text in many("#alarm-rows tr")), 20)
            await seen(driver, lambda: bool(many("[data-point='pump_2.speed'].bad")), 20)
            for width in (1700, 1100, 420):
                await asyncio.to_thread(driver.set_window_size, width, 900)
                assert driver.execute_script(OVERFLOWING) == [], width  # type: ignore[no-untyped-call]
            assert complaints(driver) == []
            assert bench.broker is not None
            await bench.broker.stop()
            bench.broker = None
            await seen(driver, lambda: one("#link") == "not connected", 10)
            assert driver.find_element("tag name", "body").get_attribute("class") == "offline"
    assert not [record for record in caplog.records if record.name == "amqtt.broker"]


TEXTS = "return [...document.querySelectorAll(arguments[0])].map(item => item.textContent)"
CAUSE = """
const choose = (id, value) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event('change'));
};
choose('fault-name', arguments[0]);
choose('fault-target', arguments[1]);
document.querySelector('#fault-form button').click();
"""
