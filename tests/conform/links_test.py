"""The shipped enclosure file with every contract on: the controller's own process, a real broker, who hears what."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.config.plan import load_plan
from controller.service import Service
from hil.runner import Bench
from tests.conform.attack_test import listening
from tests.conform.brokers import mosquitto, needs_mosquitto, until
from tests.service_test import Running

ROOT = Path(__file__).parents[2]
ALL_LINKS = ROOT / "profiles" / "enclosures" / "reference-pod-all-links.toml"
ROOTS = {
    "native": "podkeeper/v1/factory/reference-pod/status",
    "DSX metadata": "BMS/v1/PUB/Metadata/CDU/LiquidTemperature/",
    "DSX values": "BMS/v1/PUB/Value/CDU/LiquidTemperature/",
    "Sparkplug birth": "spBv1.0/factory/NBIRTH/reference-pod",
    "Sparkplug devices": "spBv1.0/factory/DBIRTH/reference-pod/pump_1",
    "Home Assistant": "homeassistant/device/",
}
pytestmark = [pytest.mark.peer, needs_mosquitto]


async def test_every_contract_is_heard(tmp_path):
    broker = mosquitto(tmp_path)
    broker.start()
    mqtt = {"host": "127.0.0.1", "port": broker.port, "protocol": "auto"}
    overrides = {"links": dict.fromkeys(("native", "exchange", "discovery"), mqtt), "operation": {"autostart": False}}
    overrides["links"]["scada"] = {**mqtt, "protocol": "3.1.1"}
    try:
        with listening(broker.port) as ear:
            async with Bench(ALL_LINKS, overrides=overrides) as bench:
                await bench.start_controller()
                await until(
                    lambda: all(any(t.startswith(root) for t, _ in ear.heard) for root in ROOTS.values()), 60
                )  # fmt: skip
                assert await bench.stop_controller() == 0
            last = {topic: payload for topic, payload in ear.heard if payload}
            assert b'"offline"' in last[ROOTS["native"]]
            assert any(topic.startswith("spBv1.0/factory/NDEATH/") for topic in last)
    finally:
        broker.stop()


async def test_a_link_without_its_key_has_an_alarm_and_words_and_disturbs_no_other(tmp_path):
    broker = mosquitto(tmp_path)
    broker.start()
    mqtt = {"host": "127.0.0.1", "port": broker.port}
    links = {"native": mqtt, "exchange": {**mqtt, "tls": {"ca": "missing.crt"}}}
    try:
        async with Bench(ALL_LINKS, overrides={"links": links, "operation": {"autostart": False}}) as bench:
            running = Running(Service(load_plan(bench.site_file), {"CREDENTIALS_DIRECTORY": str(tmp_path)}))

            def alarms() -> set[str]:
                view = running.service.view()
                return {alarm.row.id for alarm in view.alarms} if view else set()

            await running.until(lambda: "link_exchange_credentials" in alarms(), 30)
            words = running.service.links()
            assert "missing.crt" in words["mqtt exchange"]
            assert words["mqtt native"].startswith("connected")
            assert not any(name.startswith("link_native") for name in alarms())
            await running.stop()
    finally:
        broker.stop()
