"""A link and its troubles against a real mosquitto: each trouble has its own cause, words and one line in the log."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from controller.config.enclosure import LinkSettings
from controller.northbound.link import Link
from controller.northbound.native import Native
from tests.conform.authority import dated, documented
from tests.conform.brokers import Broker, Said, free_port, needs_mosquitto, until

TOPICS = "podkeeper/v1/factory/reference-pod"
TRUSTED = {"ca": "ca.crt", "certificate": "reference-pod.crt", "key": "reference-pod.key"}
pytestmark = [pytest.mark.peer, needs_mosquitto]


class Listeners:
    """One mosquitto with a port for each sort of certificate, and one with a password."""

    def __init__(self, folder: Path) -> None:
        self.keys = documented(folder / "keys")
        strangers = documented(folder / "strangers")
        elsewhere = documented(folder / "elsewhere", "elsewhere.example")
        dated(self.keys, "200101000000Z", "210101000000Z", "expired")
        dated(self.keys, "400101000000Z", "410101000000Z", "early")
        for name in ("ca.crt", "reference-pod.crt", "reference-pod.key"):
            shutil.copy(strangers / name, self.keys / f"stranger-{name}")
        self.ports: dict[str, int] = {}
        text = f"user {getpass.getuser()}\nper_listener_settings true\nlog_type all\n"
        for name, certificate, key in (
            ("good", self.keys / "broker.crt", self.keys / "broker.key"),
            ("stranger", strangers / "broker.crt", strangers / "broker.key"),
            ("expired", self.keys / "expired.crt", self.keys / "broker.key"),
            ("early", self.keys / "early.crt", self.keys / "broker.key"),
            ("elsewhere", elsewhere / "broker.crt", elsewhere / "broker.key"),
        ):
            authority = certificate.parent / "ca.crt" if name == "elsewhere" else self.keys / "ca.crt"
            text += self._listener(name) + f"cafile {authority}\ncertfile {certificate}\nkeyfile {key}\n"
            text += "require_certificate true\nuse_identity_as_username true\ntls_version tlsv1.2\n"
        passwords = folder / "passwords"
        subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "pod", "right"], check=True, timeout=20)
        text += self._listener("password") + f"allow_anonymous false\npassword_file {passwords}\n"
        (self.keys / "right").write_text("right\n")
        (self.keys / "wrong").write_text("wrong\n")
        (folder / "acl").write_text("topic read #\n")
        text += self._listener("deaf") + f"allow_anonymous true\nacl_file {folder}/acl\n"
        text += self._listener("open") + "allow_anonymous true\n"
        (folder / "mosquitto.conf").write_text(text)
        command = ["mosquitto", "-c", str(folder / "mosquitto.conf")]
        self.broker = Broker(command, self.ports["open"], folder / "mosquitto.log")

    def _listener(self, name: str) -> str:
        self.ports[name] = free_port()
        return f"listener {self.ports[name]} 127.0.0.1\n"


@pytest.fixture(scope="module")
def listeners(tmp_path_factory):
    made = Listeners(tmp_path_factory.mktemp("tls"))
    made.broker.start()
    yield made
    made.broker.stop()


class Linked:
    """One link in the loop, scanned as the service does."""

    def __init__(self, plan, picture, listeners, port: int | str, said: Said | None = None, **more) -> None:
        fields = {"publisher": "native", "host": "localhost", "keepalive_s": 5, "client_id": "reference-pod", **more}
        fields["port"] = listeners.ports[port] if isinstance(port, str) else port
        self.said = said or Said()
        self.link = Link(
            LinkSettings(**fields), Native(plan, "0", TOPICS, 1), credentials=listeners.keys, logger=self.said,
            delay=lambda ceiling: 0.05,
        )  # fmt: skip
        self.picture = picture

    async def scan(self) -> None:
        while True:
            self.link.scan(self.picture(time.monotonic()), time.monotonic())
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def linked(*given, **more):
    made = Linked(*given, **more)
    tasks = [asyncio.create_task(made.link.run()), asyncio.create_task(made.scan())]
    try:
        yield made.link
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_documented_certificates_lead_in(plan, picture, listeners):
    said = Said()
    async with linked(plan, picture, listeners, "good", said, tls=TRUSTED) as link:
        await until(lambda: link.connected and link.published > 10)
        assert (link.cause, link.protocol) == ("", "5")
    assert said.lines == ["MQTT link up"]


@pytest.mark.parametrize(
    ("port", "tls", "cause", "words"),
    [
        ("stranger", TRUSTED, "certificate", "not from our authority"),
        ("expired", TRUSTED, "certificate", "expired"),
        ("early", TRUSTED, "clock", "not valid yet"),
        ("elsewhere", {**TRUSTED, "ca": "elsewhere-ca.crt"}, "certificate", "another host"),
        ("good", {"ca": "ca.crt"}, "certificate", "wants one"),
        (
            "good",
            {**TRUSTED, "certificate": "stranger-reference-pod.crt", "key": "stranger-reference-pod.key"},
            "certificate",
            "refuses our certificate",
        ),
        ("good", {**TRUSTED, "key": "stranger-reference-pod.key"}, "credentials", "stranger-reference-pod.key"),
        ("good", {**TRUSTED, "ca": "missing.crt"}, "credentials", "missing.crt"),
        ("open", TRUSTED, "unreachable", "speak TLS"),
    ],
    ids=["stranger", "expired", "early", "other host", "none", "stranger's", "other key", "missing", "no tls there"],
)
async def test_what_is_wrong_with_certificates(plan, picture, listeners, port, tls, cause, words):
    shutil.copy(listeners.keys.parent / "elsewhere" / "ca.crt", listeners.keys / "elsewhere-ca.crt")
    said = Said()
    async with linked(plan, picture, listeners, port, said, tls=tls, protocol="5") as link:
        await until(lambda: link.cause != "", 15)
        assert (link.cause, link.connected) == (cause, False), link.last_error
        assert words in link.last_error
        assert words in link.in_words()
        await asyncio.sleep(0.3)  # several attempts later
        assert said.lines == ["MQTT link lost"]
        assert link.readings(0.0)[cause] is True


@pytest.mark.parametrize(
    ("more", "cause", "words"),
    [
        ({"username": "pod", "password": "right"}, "", ""),
        ({"username": "pod", "password": "wrong"}, "refused", "not authorised"),
        ({}, "refused", "not authorised"),
    ],
)
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_passwords(plan, picture, listeners, more, cause, words, protocol):
    async with linked(plan, picture, listeners, "password", protocol=protocol, **more) as link:
        await until(lambda: link.connected if not cause else link.cause != "")
        assert link.cause == cause, link.last_error
        assert words in link.last_error


async def test_nobody_there(plan, picture, listeners):
    async with linked(plan, picture, listeners, free_port()) as link:
        await until(lambda: link.cause != "")
        assert (link.cause, "nothing listens" in link.last_error) == ("unreachable", True)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_second_client_with_our_id_is_told_apart_from_a_lost_broker(plan, picture, listeners, protocol):
    async with (
        linked(plan, picture, listeners, "open", protocol=protocol) as one,
        linked(plan, picture, listeners, "open", protocol=protocol) as other,
    ):
        await until(lambda: "taken_over" in (one.cause, other.cause), 20)
        victim = one if one.cause == "taken_over" else other
        assert "reference-pod" in victim.last_error


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_broker_that_drops_what_we_publish(plan, picture, listeners, protocol):
    said = Said()
    async with linked(plan, picture, listeners, "deaf", said, protocol=protocol) as link:
        await until(lambda: link.cause == "denied", 10)
        assert link.connected
        assert (link.denied > 0) == (protocol == "5")
        assert "but broker" in link.in_words()
    assert said.lines == ["MQTT link up", "MQTT publish denied"]
