"""Requests over kept connections, for roles that send hundreds in a second.

HTTP/1.1 without TLS, as roles speak it with each other. A request costs a tenth of what it costs with the
general client that the other callers use.
"""

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

IDLE_SECONDS: Final = 30.0
"""A connection that nobody used for so long is not used again; servers close theirs after 75 s."""
_LARGEST_ANSWER: Final = 16 * 1024 * 1024


class Broken(Exception):
    """There is no connection, or it ended before the answer; what was asked may have been done."""


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    body: bytes


class Connections:
    """Connections to any number of servers. One request at a time on each, as many as there are requests."""

    def __init__(self, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[tuple[str, int], list[_Connection]] = {}

    async def request(
        self, method: str, base: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        """Send a request to the server at `base` (`http://host:port`) and wait for the whole answer.

        Raises:
            Broken: there is no connection, or it ended before the answer.
        """
        server = _server(base)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {server[0]}:{server[1]}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body or method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        connection = self._kept(server) or await self._connect(server)
        try:
            answer = await connection.exchange("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        except BaseException:
            connection.close()
            raise
        if connection.reusable:
            self._idle.setdefault(server, []).append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        for kept in self._idle.values():
            for connection in kept:
                connection.close()
        self._idle.clear()

    def _kept(self, server: tuple[str, int]) -> "_Connection | None":
        kept = self._idle.get(server, [])
        oldest_allowed = asyncio.get_running_loop().time() - IDLE_SECONDS
        while kept:
            connection = kept.pop()
            if connection.reusable and connection.used_at >= oldest_allowed:
                return connection
            connection.close()
        return None

    async def _connect(self, server: tuple[str, int]) -> "_Connection":
        host, port = server
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(_Connection, host, port)
        except (OSError, TimeoutError, UnicodeError) as error:
            raise Broken(f"{host}:{port}: {error or 'no connection in time'}") from None
        return connection


class _Connection(asyncio.Protocol):
    """One connection; its methods without docstring are those of `asyncio.Protocol` and of the parser."""

    def __init__(self) -> None:
        self.used_at = asyncio.get_running_loop().time()
        """Loop time of the last answer."""
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._size = 0
        self._keep = True

    @property
    def reusable(self) -> bool:
        """Whether another request can be sent."""
        return self._keep and self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes) -> Answer:
        """Send one request and wait for its answer."""
        if self._transport is None or self._transport.is_closing():
            raise Broken("the connection was closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        self._keep = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the parent class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"no HTTP answer: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended before the answer: {exc or 'closed by the server'}")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > _LARGEST_ANSWER:
            self._fail(f"an answer has at most {_LARGEST_ANSWER} bytes")
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        loop = answer.get_loop()
        self.used_at = loop.time()
        self._keep = self._parser.should_keep_alive()
        answer.set_result(Answer(self._parser.get_status_code(), b"".join(self._body)))
        self._body.clear()
        self._size = 0
        self._parser = httptools.HttpResponseParser(self)

    def _fail(self, reason: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(Broken(reason))
        self.close()


@lru_cache(maxsize=64)
def _server(base: str) -> tuple[str, int]:
    try:
        parts = urlsplit(base)
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise Broken(f"{base!r} is no address: {error}") from None
    if parts.scheme != "http" or not host:
        raise Broken(f"{base!r} is no address: http://host:port is")
    return host, port
