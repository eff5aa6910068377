"""Why a link is down, in one word for an alarm and one sentence for a person. Pure."""

from __future__ import annotations

import socket
import ssl
from typing import Final, Literal, NamedTuple

from controller.northbound.credentials import CredentialError

Cause = Literal["", "unreachable", "certificate", "clock", "credentials", "refused", "taken_over", "denied"]

# OpenSSL's X509_V_ERR_* numbers (x509_vfy.h).
NOT_YET_VALID: Final = 9
EXPIRED: Final = 10
OTHER_HOST: Final = (62, 64)
# Reason codes of MQTT 5, section 2.4; those of a 3.1.1 CONNACK come translated into them.
BAD_LOGIN: Final = 0x86
NOT_AUTHORISED: Final = 0x87
BAD_CLIENT_ID: Final = 0x85
BANNED: Final = 0x8A
TAKEN_OVER: Final = 0x8E
REFUSALS: Final = {
    BAD_LOGIN: "bad user name or password",
    NOT_AUTHORISED: "not authorised",
    BANNED: "banned",
    BAD_CLIENT_ID: "client id not valid",
}
FLAPS: Final = 3  # connections in a row that the broker closed soon after it had accepted them
ALERT_WORDS: Final = ("alert", "certificate required", "handshake failure")


class Trouble(NamedTuple):
    """Why a link is down."""

    cause: Cause
    words: str


class Attempt(NamedTuple):
    """What one connection came to.

    Attributes:
        code: MQTT reason code that ended it; None if there was none.
        accepted: whether the broker had accepted it.
        flaps: connections in a row, this one included, that ended soon after they had been accepted.
        heard: what the MQTT library said of its socket, as it hides the error itself.
        local_time: the controller's clock in words, for those who have to compare it.
    """

    error: BaseException
    code: int | None
    accepted: bool
    tls: bool
    flaps: int
    heard: str
    client_id: str
    local_time: str


def diagnose(attempt: Attempt) -> Trouble:
    """Return the cause that an operator can do something about."""
    error = attempt.error
    if isinstance(error, CredentialError):
        return Trouble("credentials", str(error))
    if attempt.code == TAKEN_OVER:
        return Trouble("taken_over", f"another client has connected with our client id {attempt.client_id}")
    if attempt.code in REFUSALS:
        return Trouble("refused", f"broker refuses us: {REFUSALS[attempt.code]}")
    chain = list(_chain(error))
    for found in chain:
        if isinstance(found, ssl.SSLCertVerificationError):
            return _verification(found, attempt)
    if attempt.tls and not attempt.accepted:
        said = next((str(found) for found in chain if isinstance(found, ssl.SSLError)), attempt.heard)
        if any(word in said.lower() for word in ALERT_WORDS):
            return Trouble("certificate", f"broker refuses our certificate, or wants one: {said}")
        if any(isinstance(found, ssl.SSLError) for found in chain):
            return Trouble("certificate", f"no TLS with this broker: {said}")
    if attempt.accepted and attempt.flaps >= FLAPS:
        words = f"broker closed {attempt.flaps} connections soon after it had accepted them: most likely another client"
        return Trouble("taken_over", f"{words} has our client id {attempt.client_id}")
    return Trouble("unreachable", _unreachable(chain, attempt))


def _verification(error: ssl.SSLCertVerificationError, attempt: Attempt) -> Trouble:
    if error.verify_code == NOT_YET_VALID:
        words = "broker's certificate is not valid yet: is this controller's clock right?"
        return Trouble("clock", f"{words} It says {attempt.local_time}")
    if error.verify_code == EXPIRED:
        words = f"broker's certificate has expired (this controller's clock says {attempt.local_time})"
        return Trouble("certificate", words)
    if error.verify_code in OTHER_HOST:
        return Trouble("certificate", f"broker's certificate is for another host: {error.verify_message}")
    return Trouble("certificate", f"broker's certificate is not from our authority: {error.verify_message}")


def _unreachable(chain: list[BaseException], attempt: Attempt) -> str:
    for found in chain:
        if isinstance(found, socket.gaierror):
            return f"host name not known: {found.strerror}"
        if isinstance(found, ConnectionRefusedError):
            return "nothing listens there: connection refused"
        if isinstance(found, ConnectionResetError) and attempt.tls and not attempt.accepted:
            return "connection reset during the TLS handshake: does the broker speak TLS at this port?"
        if isinstance(found, TimeoutError):
            return "no answer: connecting timed out"
    text = str(attempt.error) or type(attempt.error).__name__
    if attempt.accepted:
        return f"connection lost: {attempt.heard or text}"
    return f"broker did not accept the connection: {attempt.heard or text}"


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and what it came from; the MQTT library hides the latter by ``raise ... from None``."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found
