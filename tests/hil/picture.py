"""``python -m tests.hil.picture FILE.png``: the live page of a pod that has just lost a pump."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from hil.desk import Desk
from hil.monitor import Monitor
from hil.page.server import served
from hil.runner import Bench
from hil.wire.tcp import LOOPBACK
from tests.hil.browser import browser

NORMAL_MAX_S, SETTLE_S, SHOW_S = 120.0, 90.0, 8.0
SIZE = (1500, 1010)


async def photograph(path: Path) -> None:
    """Start a pod, let it settle under load, trip a pump, and keep what the page shows."""
    async with Bench(broker=True) as bench:
        desk, monitor = Desk(bench), Monitor(LOOPBACK, bench.mqtt_port, bench.root)
        monitor.start()
        async with served(bench, desk) as page:
            with browser() as driver:
                await asyncio.to_thread(driver.set_window_size, *SIZE)
                await asyncio.to_thread(driver.get, page.url)
                await bench.start_controller()
                async with asyncio.timeout(NORMAL_MAX_S):
                    while monitor.picture.mode != "NORMAL":  # noqa: ASYNC110  told by another process
                        await asyncio.sleep(0.5)
                await asyncio.sleep(SETTLE_S)
                await desk.inject("pump.trip", "pump_2", None)
                await asyncio.sleep(SHOW_S)
                await asyncio.to_thread(driver.save_screenshot, str(path))
        await monitor.stop()


if __name__ == "__main__":
    asyncio.run(photograph(Path(sys.argv[1])))
