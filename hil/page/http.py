"""A little HTTP/1.1 for one page on loopback: requests with limits, and answers that no other site's page can ask for.

Every request must name this server in Host, which defeats DNS rebinding. One that changes something must come from a
page of this server, or from a program (no Origin), and be JSON, which no form of another site can send.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from hil.wire.tcp import LOOPBACK

HEAD_BYTES_MAX = 8_192
BODY_BYTES_MAX = 4_096
REQUEST_MAX_S = 5.0
CONNECTIONS_MAX = 32
SAFE = ("GET", "HEAD")
METHODS = (*SAFE, "POST", "DELETE")
HEADERS = (
    "Connection: close", "Cache-Control: no-store", "X-Content-Type-Options: nosniff", "Referrer-Policy: no-referrer",
    "Cross-Origin-Resource-Policy: same-origin",
)  # fmt: skip


class RequestError(Exception):
    """A request that gets no more than a status and a sentence."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""

    def document(self) -> dict[str, Any]:
        """Return the body as a JSON object; empty if there is none."""
        if not self.body:
            return {}
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise RequestError(HTTPStatus.BAD_REQUEST, "body: not JSON") from error
        if not isinstance(found, dict):
            raise RequestError(HTTPStatus.BAD_REQUEST, "body: allowed: a JSON object")
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    kind: str = "application/json"
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
        return cls(json.dumps(document, ensure_ascii=False, allow_nan=False).encode(), status=status)


Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(slots=True)
class Server:
    """Listens on a loopback port and hands each lawful request to ``handler``."""

    handler: Handler
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.Task[Any]] = field(default_factory=set)

    async def start(self, port: int = 0) -> int:
        """Listen on ``port``, or on a free one, and return it."""
        self._server = await asyncio.start_server(self._connected, LOOPBACK, port, limit=HEAD_BYTES_MAX)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    @property
    def names(self) -> tuple[str, ...]:
        return (f"{LOOPBACK}:{self.port}", f"localhost:{self.port}")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(2 * REQUEST_MAX_S):
                    writer.write(await self._answered(reader))
                    await writer.drain()
        finally:
            self._open.discard(task)
            writer.close()

    async def _answered(self, reader: asyncio.StreamReader) -> bytes:
        method = "GET"
        try:
            if len(self._open) > CONNECTIONS_MAX:
                raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, f"allowed: {CONNECTIONS_MAX} connections at a time")
            async with asyncio.timeout(REQUEST_MAX_S):
                request = await read_request(reader, self.names)
            method = request.method
            answer = await self.handler(request)
        except RequestError as refused:
            answer = Answer.of({"error": str(refused)}, refused.status)
        except TimeoutError:
            answer = Answer.of({"error": f"no whole request in {REQUEST_MAX_S:g} s"}, HTTPStatus.REQUEST_TIMEOUT)
        status = f"HTTP/1.1 {answer.status.value} {answer.status.phrase}"
        kind, size = f"Content-Type: {answer.kind}; charset=utf-8", f"Content-Length: {len(answer.body)}"
        head = "\r\n".join((status, kind, size, *HEADERS, *answer.headers, "", ""))
        return head.encode() + (b"" if method == "HEAD" else answer.body)


async def read_request(reader: asyncio.StreamReader, names: tuple[str, ...]) -> Request:
    """Return the next request, read within all limits and checked for where it comes from.

    Raises:
        RequestError: it is malformed, too large, or not for this server.
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError as error:
        told = f"head: allowed: {HEAD_BYTES_MAX} bytes"
        raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, told) from error
    except asyncio.IncompleteReadError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, "not a whole request") from error
    first, *lines = head.rstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        raise RequestError(HTTPStatus.BAD_REQUEST, "not an HTTP/1.1 request")
    if words[0] not in METHODS:
        raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, f"method {words[0]!r}; allowed: {', '.join(METHODS)}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or name != name.strip() or key in headers:
            raise RequestError(HTTPStatus.BAD_REQUEST, "a header is malformed or given twice")
        headers[key] = value.strip()
    request = Request(words[0], unquote(urlsplit(words[1]).path), headers)
    check_origin(request, names)
    return Request(request.method, request.path, headers, await _body(reader, headers))


def check_origin(request: Request, names: tuple[str, ...]) -> None:
    """Raise RequestError unless the request is meant for this server and comes from its own page or from a program."""
    headers = request.headers
    if headers.get("host", "").lower() not in names:
        told = f"host {headers.get('host', '')!r}; allowed: {', '.join(names)}"
        raise RequestError(HTTPStatus.MISDIRECTED_REQUEST, told)
    origins = tuple(f"http://{name}" for name in names)
    origin = headers.get("origin")
    if origin is not None and origin not in origins:
        raise RequestError(HTTPStatus.FORBIDDEN, f"origin {origin!r}; allowed: {', '.join(origins)}")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and request.method not in SAFE:
        raise RequestError(HTTPStatus.FORBIDDEN, "asked by a page of another site")
    if request.method == "POST" and headers.get("content-type", "").partition(";")[0] != "application/json":
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content-type; allowed: application/json")


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        raise RequestError(HTTPStatus.LENGTH_REQUIRED, "a body needs a Content-Length")
    size = headers.get("content-length", "0")
    if not (size.isascii() and size.isdigit()):
        raise RequestError(HTTPStatus.BAD_REQUEST, "content-length: not a number")
    if len(size) > 9 or int(size) > BODY_BYTES_MAX:
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"body: allowed: {BODY_BYTES_MAX} bytes")
    try:
        return await reader.readexactly(int(size))
    except asyncio.IncompleteReadError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, "the body is not whole") from error
