"""Stands in for the controller's process in tests of the bench itself: publishes once and waits for SIGTERM.

Its first argument says how it behaves: "normal", "die" or "stubborn".
"""

from __future__ import annotations

import json
import signal
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion


def documents() -> dict[str, Any]:
    points = {"supply_temp": 29.94, "flow": 1010.0, "racks_energised": 8, "pumps_running": 3}
    pod = {name: {"v": value, "q": 0, "t": 1} for name, value in points.items()}
    scan = {name: {"v": value, "q": 0, "t": 1} for name, value in {"scans": 430, "overruns": 0}.items()}
    return {
        "status": {"state": "online"},
        "meta": {"devices": {"pump_1": {"profile": "p"}, "pump_2": {"profile": "p"}, "pod": {"class": "pod"}}},
        "meta/pump_1": {"pts": {"speed": {}, "running": {}}},
        "meta/pump_2": {"pts": {"speed": {}}},
        "meta/pod": {"pts": {"flow": {}}},
        "state": {"mode": "NORMAL", "cause": "all racks on"},
        "dev/pod": {"ts": 1, "pts": pod},
        "dev/controller": {"ts": 1, "pts": scan},
        "alarm/strainer": {"text": "dirty"},
    }


def publish(settings: dict[str, Any], root: str) -> Client:
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect(settings["host"], settings["port"])
    client.loop_start()
    for name, document in documents().items():
        client.publish(f"{root}/{name}", json.dumps(document), qos=1, retain=True).wait_for_publish(5)
    return client


def main() -> int:
    behaviour, _, site_file = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    site = tomllib.loads(site_file.read_text())
    base = tomllib.loads(Path(site["base"]).read_text())
    if behaviour == "die":
        print("first line\nbus cooling: no such port", file=sys.stderr)
        return 3
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    client = publish(site["links"]["native"], base["native"]["root"])
    print("ready", file=sys.stderr, flush=True)
    while not ended or behaviour == "stubborn":
        time.sleep(0.02)
    client.disconnect()
    client.loop_stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
