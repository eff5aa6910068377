"""One Modbus link: the only importer of pymodbus.

What pymodbus leaves open is closed here: every reply is checked against its request (function, count, echo), a lost
link fails the pending request at once, a timeout belongs to one request, and pymodbus never retries or reconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from typing import Any

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ExceptionResponse, ModbusPDU

from controller.config.enclosure import Bus

CONNECT_S = 3.0
NEVER = 10**9
PARITIES = {"none": "N", "even": "E", "odd": "O"}
READ_FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
EXCEPTIONS = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure", 5: "acknowledge",
    6: "device busy", 8: "memory parity error", 10: "gateway path unavailable", 11: "gateway target silent",
}  # fmt: skip


class LinkError(Exception):
    """The link itself is gone or can't be made."""


class NoReply(Exception):  # noqa: N818  the field's own word, and not an error of the link
    """The unit did not answer in time."""


class WrongReply(Exception):  # noqa: N818  likewise
    """Something answered, but not what was asked."""


class Refused(Exception):  # noqa: N818  likewise
    """The unit answered with a Modbus exception; ``code`` is its number."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code} ({EXCEPTIONS.get(code, 'unknown')})")
        self.code = code


class ModbusLink:
    """One serial line or TCP connection. Not for two tasks at once: its bus worker is its only user."""

    def __init__(self, settings: Bus) -> None:
        self._settings = settings
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None
        self._lost: asyncio.Future[None] | None = None

    @property
    def connected(self) -> bool:
        return self._client is not None and self._lost is not None and not self._lost.done()

    async def open(self) -> None:
        """Connect.

        Raises:
            LinkError: the port does not exist, is taken, or nobody listens there.
        """
        self.close()
        self._lost = asyncio.get_running_loop().create_future()
        self._client = self._made()
        self._client.set_max_no_responses(NEVER)
        try:
            made = await asyncio.wait_for(self._client.connect(), CONNECT_S)
        except (TimeoutError, ModbusException, OSError, ValueError) as error:
            self.close()
            raise LinkError(str(error) or "no connection in time") from None
        if not made:
            self.close()
            raise LinkError(self._why_not())

    def close(self) -> None:
        """Drop the connection; what is pending fails with LinkError."""
        client, self._client = self._client, None
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        if client is not None:
            with contextlib.suppress(Exception):  # closing what has failed already must not fail the worker
                client.close()

    async def read(self, unit: int, table: str, address: int, count: int, timeout_s: float) -> list[int]:
        """Return ``count`` registers, or bits as 0 and 1, from ``address`` (0-based) of ``unit``.

        Raises:
            LinkError, NoReply, WrongReply, Refused.
        """
        client = self._open_client()
        calls = {
            "coil": client.read_coils,
            "discrete": client.read_discrete_inputs,
            "holding": client.read_holding_registers,
            "input": client.read_input_registers,
        }
        reply = await self._transact(calls[table](address, count=count, device_id=unit), timeout_s)
        self._check(reply, READ_FUNCTIONS[table], unit)
        if table in ("coil", "discrete"):
            if len(reply.bits) != (count + 7) // 8 * 8:
                raise WrongReply(f"{len(reply.bits)} bits for {count}")
            return [int(bit) for bit in reply.bits[:count]]
        if len(reply.registers) != count:
            raise WrongReply(f"{len(reply.registers)} registers for {count}")
        return list(reply.registers)

    async def write(
        self, unit: int, table: str, address: int, words: Sequence[int], timeout_s: float, *, multiple: bool
    ) -> None:
        """Write ``words`` (or one bit) and check the echo: function 5 or 6, or 16 for several or by ``multiple``.

        Raises:
            LinkError, NoReply, WrongReply, Refused.
        """
        client = self._open_client()
        if table == "coil":
            reply = await self._transact(client.write_coil(address, bool(words[0]), device_id=unit), timeout_s)
            self._check(reply, 5, unit)
            echoed = reply.address == address and bool(reply.bits[0]) == bool(words[0])
        elif len(words) == 1 and not multiple:
            reply = await self._transact(client.write_register(address, words[0], device_id=unit), timeout_s)
            self._check(reply, 6, unit)
            echoed = reply.address == address and list(reply.registers) == list(words)
        else:
            reply = await self._transact(client.write_registers(address, list(words), device_id=unit), timeout_s)
            self._check(reply, 16, unit)
            echoed = reply.address == address and reply.count == len(words)
        if not echoed:
            raise WrongReply("the echo is not what was written")

    def _made(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        settings = self._settings
        if settings.kind == "tcp":
            return AsyncModbusTcpClient(
                settings.host or "",
                port=int(settings.port),
                timeout=CONNECT_S,
                retries=0,
                reconnect_delay=0,
                trace_connect=self._connection,
            )
        return AsyncModbusSerialClient(
            str(settings.port),
            framer=FramerType.RTU,
            baudrate=settings.baud or 0,
            parity=PARITIES[settings.parity or "none"],
            stopbits=settings.stop_bits or 1,
            timeout=CONNECT_S,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._connection,
        )

    def _why_not(self) -> str:
        settings = self._settings
        place = settings.port if settings.kind == "rtu" else f"{settings.host}:{settings.port}"
        return f"can't open {place}"

    def _connection(self, made: bool) -> None:
        if not made and self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def _open_client(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        if self._client is None or not self.connected:
            raise LinkError("not connected")
        return self._client

    async def _transact(self, call: Awaitable[Any], timeout_s: float) -> Any:
        """Run one request; the first of its reply, its timeout and the loss of the link ends it."""
        client, lost = self._open_client(), self._lost
        assert lost is not None
        client.ctx.comm_params.timeout_connect = timeout_s  # pymodbus times a request by this setting alone
        request = asyncio.ensure_future(call)
        try:
            await asyncio.wait({request, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                raise LinkError("the link was lost")
            return request.result()
        except ConnectionException:
            raise LinkError("the link was lost") from None
        except ModbusException:
            raise NoReply("no reply in time") from None
        finally:
            if not request.done():
                request.cancel()
                with contextlib.suppress(asyncio.CancelledError, ModbusException):
                    await request

    @staticmethod
    def _check(reply: ModbusPDU, function: int, unit: int) -> None:
        if isinstance(reply, ExceptionResponse):
            raise Refused(reply.exception_code)
        if reply.function_code != function:
            raise WrongReply(f"function {reply.function_code} for {function}")
        if reply.dev_id != unit:
            raise WrongReply(f"unit {reply.dev_id} for {unit}")
