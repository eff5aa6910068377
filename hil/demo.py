"""``python -m hil demo``: the whole pod on the bench, and a live table of what it publishes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from controller.config.problems import ConfigError
from hil import screen
from hil.desk import Desk
from hil.keyboard import Menu, keys
from hil.monitor import Monitor, Picture
from hil.page.server import Page, served
from hil.procedures.run import add_commands as add_procedure_commands
from hil.real import BenchStage
from hil.report import add_commands as add_report_commands
from hil.runner import REFERENCE_POD, STOP_MAX_S, Bench
from hil.runs import add_commands as add_run_commands
from hil.serve import add_commands as add_serve_commands
from hil.wire.tcp import LOOPBACK

TABLE_PERIOD_S = 1.0
LINE_PERIOD_S = 5.0
GOOD, BAD, INTERRUPTED = 0, 1, 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class Outcome:
    """How the demo ended. ``interrupted``: by a signal; ``died``: the controller's exit code when it went by itself."""

    picture: Picture
    interrupted: bool = False
    died: int | None = None
    stopped_with: int | None = 0
    stderr: tuple[str, ...] = ()

    def exit_code(self, *, timed: bool) -> int:
        if self.died is not None or self.stopped_with != 0:
            return BAD
        if not timed:
            return GOOD
        if self.interrupted:
            return INTERRUPTED
        sound = self.picture.mode == "NORMAL" and self.picture.number("controller", "overruns") == 0
        return GOOD if sound else BAD


@dataclass(frozen=True, slots=True)
class Controls:
    """How a person reaches into the running demo."""

    page: Page
    menu: Menu


def command_line() -> argparse.ArgumentParser:
    """Return the command line of the bench."""
    parser = argparse.ArgumentParser(prog="python -m hil", description="The bench of Podkeeper.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="run a whole emulated pod with its controller")
    demo.add_argument("--seconds", type=_seconds, help="end after so long, with one closing line; default: Ctrl-C")
    demo.add_argument("--full", action="store_true", help="keep the start-up times of a real pod")
    demo.add_argument("--enclosure", type=Path, default=REFERENCE_POD, help="enclosure file; default: %(default)s")
    demo.set_defaults(run=_demo)
    add_report_commands(commands)
    add_run_commands(commands)
    add_procedure_commands(commands)
    add_serve_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of the bench and return its exit code."""
    options = command_line().parse_args(arguments)
    code: int = options.run(options)
    return code


def _demo(options: argparse.Namespace) -> int:
    try:
        bench = Bench(options.enclosure, short=not options.full, broker=True)
        outcome = asyncio.run(run(bench, options.seconds))
    except ConfigError as error:
        print(f"demo: the enclosure can't be used:\n{error}", file=sys.stderr)
        return BAD
    except FileNotFoundError as error:
        print(f"demo: can't be started: {error.filename} is missing; run `make venv` first", file=sys.stderr)
        return BAD
    report(outcome)
    return outcome.exit_code(timed=options.seconds is not None)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; allowed: 1 to 86400 seconds")
    return seconds


async def run(bench: Bench, seconds: float | None) -> Outcome:
    """Run bench and controller until a signal, the end of ``seconds``, or the controller's own end."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, ended.set)
    try:
        async with bench:
            faults = Desk(bench)
            faults.stage.set_clock_up()
            monitor = Monitor(LOOPBACK, bench.mqtt_port, bench.root)
            monitor.start()
            try:
                async with faults.stage as stage, served(bench, faults) as page:
                    return await _with_controller(stage, monitor.picture, ended, seconds, Controls(page, Menu(faults)))
            finally:
                await monitor.stop()
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def _with_controller(
    stage: BenchStage, picture: Picture, ended: asyncio.Event, seconds: float | None, controls: Controls
) -> Outcome:
    bench = stage.bench
    await stage.start()
    gone = asyncio.create_task(stage.died(), name="controller")
    told = asyncio.create_task(ended.wait(), name="signal")
    display = asyncio.create_task(_display(bench, picture, controls), name="display")
    try:
        await asyncio.wait((gone, told, display), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if display.done():
            display.result()
    finally:
        display.cancel()
        await asyncio.gather(display, return_exceptions=True)
        told.cancel()
    last = Picture(picture.root, picture.messages, dict(picture.documents))
    outcome = Outcome(last, interrupted=ended.is_set())
    if gone.done():
        outcome.died = gone.result()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    try:
        code = await bench.stop_controller()
        outcome.stopped_with = code if stage.alive else 0  # a fault keeps it down: nothing is left to stop
    except TimeoutError:
        outcome.stopped_with = None
    outcome.stderr = tuple(bench.stderr_tail)
    return outcome


async def _display(bench: Bench, picture: Picture, controls: Controls) -> None:
    started = time.monotonic()
    print("\n".join(screen.introduction(bench, controls.page.url)), flush=True)
    if not sys.stdout.isatty():
        while True:
            await asyncio.sleep(LINE_PERIOD_S)
            print(screen.line(picture, time.monotonic() - started), flush=True)
    menu = controls.menu if sys.stdin.isatty() else None
    with Live(console=Console(), auto_refresh=False) as live:
        async with contextlib.AsyncExitStack() as stack:
            queue = await stack.enter_async_context(keys()) if menu else asyncio.Queue[str]()
            while True:
                live.update(screen.view(picture, started, menu.lines if menu else ()), refresh=True)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TABLE_PERIOD_S):
                        key = await queue.get()
                    if menu:
                        await menu.key(key)


def report(outcome: Outcome) -> None:
    """Print how it ended; the summary is the last line on stdout."""
    lines = []
    if outcome.died is not None:
        lines = [f"demo: the controller ended by itself with exit code {outcome.died}"]
    elif outcome.stopped_with is None:
        lines = [f"demo: the controller did not stop within {STOP_MAX_S:g} s of SIGTERM and was killed"]
    elif outcome.stopped_with != 0:
        lines = [f"demo: the controller stopped with exit code {outcome.stopped_with} instead of 0"]
    if lines:
        lines += [f"  {line}" for line in outcome.stderr] or ["  (it said nothing on stderr)"]
        print("\n".join(lines), file=sys.stderr)
    with contextlib.suppress(BrokenPipeError):
        print(screen.summary(outcome.picture), flush=True)
