"""Why a link is down: each reason has its own word, and a sentence that names what to look at."""

from __future__ import annotations

import socket
import ssl

import pytest

from controller.core.alarm_rows import LINK_CAUSES
from controller.core.engine import Engine
from controller.core.points import good
from controller.northbound.credentials import CredentialError
from controller.northbound.diagnosis import FLAPS, Attempt, Cause, diagnose


def attempt(error: BaseException, **more) -> Attempt:
    fields = {"code": None, "accepted": False, "tls": True, "flaps": 0, "heard": "", "client_id": "pod-7"}
    return Attempt(error=error, **{**fields, "local_time": "2026-01-02 03:04 UTC", **more})


def verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code, error.verify_message = code, f"message {code}"
    return error


def hidden(cause: BaseException) -> Exception:
    """Return an error as the MQTT library raises it: from None."""
    try:
        try:
            raise cause
        except BaseException as error:
            raise RuntimeError(str(error)) from None
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("given", "cause", "words"),
    [
        (attempt(CredentialError("no credential pod.key")), "credentials", "pod.key"),
        (attempt(hidden(verification(9))), "clock", "2026-01-02 03:04"),
        (attempt(hidden(verification(10))), "certificate", "expired"),
        (attempt(hidden(verification(62))), "certificate", "another host"),
        (attempt(hidden(verification(64))), "certificate", "another host"),
        (attempt(hidden(verification(20))), "certificate", "not from our authority"),
        (attempt(RuntimeError("timed out"), heard="tlsv13 alert certificate required"), "certificate", "wants one"),
        (attempt(hidden(ssl.SSLError(1, "wrong version number"))), "certificate", "no TLS"),
        (attempt(RuntimeError("x"), code=0x86), "refused", "password"),
        (attempt(RuntimeError("x"), code=0x87), "refused", "not authorised"),
        (attempt(RuntimeError("x"), code=0x8E, accepted=True), "taken_over", "pod-7"),
        (attempt(RuntimeError("x"), accepted=True, flaps=FLAPS), "taken_over", "most likely"),
        (attempt(RuntimeError("x"), accepted=True, flaps=FLAPS - 1), "unreachable", "connection lost"),
        (attempt(hidden(socket.gaierror(-2, "Name or service not known"))), "unreachable", "host name"),
        (attempt(hidden(ConnectionRefusedError())), "unreachable", "refused"),
        (attempt(hidden(TimeoutError())), "unreachable", "timed out"),
        (attempt(RuntimeError("x")), "unreachable", "did not accept"),
    ],
)
def test_each_reason_has_its_word(given: Attempt, cause: Cause, words: str) -> None:
    found = diagnose(given)
    assert found.cause == cause
    assert words in found.words


def test_every_cause_has_its_alarm() -> None:
    assert {cause.flag for cause in LINK_CAUSES} == set(Cause.__args__) - {""}


@pytest.mark.parametrize("cause", LINK_CAUSES, ids=lambda cause: cause.flag)
def test_every_cause_raises_its_alarm_and_no_other(plan, cause) -> None:
    engine = Engine(plan.pod, {}, 0.0)
    standing: set[str] = set()
    for second in range(int(cause.on_delay_s) + 3):
        flags = {f"link_native.{other.flag}": good(other is cause, float(second)) for other in LINK_CAUSES}
        view = engine.step(float(second), flags, []).view
        standing = {alarm.row.id for alarm in view.alarms if alarm.row.id.startswith("link_")}
    assert standing == {f"link_native_{cause.flag}"}
