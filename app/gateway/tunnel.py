"""WebSockets through the gateway as bytes: no frame is decoded, copied together or masked again.

What is read of the upstream's bytes is its answer to the handshake and where its frames end. Nothing of the
client passes before the answer is 101, else the tunnel would carry requests that nobody has checked. A close
frame can be put in between two frames when the upstream dies or this process ends.
"""

import asyncio
import random
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

from prometheus_client import Counter, Gauge

from app.gateway import routing
from app.kit import logs
from app.kit.problems import MEDIA_TYPE, Problem
from app.kit.runtime import Runtime

_CONNECT_SECONDS = 2.0
_HANDSHAKE_SECONDS = 10.0
"""Seconds that the upstream has to answer the handshake."""
_CLOSE_GRACE = 2.0
"""Seconds that the other side has to answer a close frame."""
_DRAIN_SPREAD = 2.0
"""Seconds over which clients are closed at the end of the process."""
_HIGH_WATER = 64 * 1024
_REFUSALS = frozenset(status.value for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST)
_WORDS: Mapping[int, tuple[str, str, dict[str, str]]] = {
    400: ("bad-request", "This is no handshake of a WebSocket.", {}),
    426: (
        "upgrade-required",
        "Version 13 of the protocol is spoken here.",
        {"sec-websocket-version": "13", "upgrade": "websocket"},
    ),
    429: (
        "too-many-connections",
        "No more connections are open for one client; close another one first.",
        {"retry-after": "10"},
    ),
    503: ("not-ready", "It starts or ends just now.", {"retry-after": "1"}),
}
"""Status of the upstream's refusal → code, text and headers of ours."""
SERVICE_RESTART = b"\x88\x11" + (1012).to_bytes(2) + b"service restart"
"""A close frame with code 1012: come back."""
_CLOSE_OPCODE = 0x8

_log = logs.get(__name__)
_open = Gauge("gateway_websockets_active", "Open WebSocket tunnels")
_ended = Counter("gateway_websockets_ended_total", "WebSocket tunnels that ended", ["by"])


class FrameBoundary:
    """Follows a server's side of a WebSocket connection: where frames end, and whether one closed it."""

    def __init__(self) -> None:
        self._head = b""
        self._in_http = True
        self._left = 0
        self.status: int | None = None
        """Status of the answer to the handshake; None before it is whole, 0 when it is no HTTP."""
        self.closed = False
        """A close frame has passed."""

    @property
    def upgraded(self) -> bool:
        """Whether the handshake was accepted."""
        return self.status == HTTPStatus.SWITCHING_PROTOCOLS

    @property
    def between_frames(self) -> bool:
        """Whether the next byte begins a frame."""
        return self.upgraded and self._left == 0 and not self._head

    def feed(self, data: bytes) -> None:
        """Follow the next bytes."""
        if self._in_http:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            self._in_http = False
            status = self._head[9:12]
            self.status = int(status) if self._head.startswith(b"HTTP/1.1 ") and status.isdigit() else 0
            data, self._head = self._head[end + 4 :], b""
        if self.upgraded:
            self._frames(data)

    def _frames(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        at, size = self._left, len(data)
        while at < size:
            header = 2
            if size - at >= 2:
                length = data[at + 1] & 0x7F
                header = {126: 4, 127: 10}.get(length, 2)
            if size - at < header:
                self._head = data[at:]
                self._left = 0
                return
            if header > 2:
                length = int.from_bytes(data[at + 2 : at + header])
            if data[at] & 0x0F == _CLOSE_OPCODE:
                self.closed = True
            at += header + length
        self._left = at - size


class _Upstream(asyncio.Protocol):
    """The connection to the role behind."""

    def __init__(self, tunnel: "Tunnel") -> None:
        self._tunnel = tunnel
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self._tunnel.from_upstream(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tunnel.upstream_lost()

    def pause_writing(self) -> None:
        self._tunnel.pause_client(True)

    def resume_writing(self) -> None:
        self._tunnel.pause_client(False)


class Tunnel(asyncio.Protocol):
    """The client's side, plugged into uvicorn as its WebSocket protocol."""

    runtime: Runtime
    """Set by `tunnel_for`."""

    def __init__(self, config: Any, server_state: Any, app_state: Any) -> None:
        self._connections: set[Any] = server_state.connections
        self._loop = asyncio.get_running_loop()
        self._client: asyncio.Transport | None = None
        self._upstream: _Upstream | None = None
        self._boundary = FrameBoundary()
        self._early = b""
        """What the client sent before its handshake was answered."""
        self._answer = b""
        """What has come of the answer to the handshake."""
        self._answered = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None
        self._restarting = False
        """A close frame is to be put in as soon as the upstream's frames allow it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._client = cast(asyncio.Transport, transport)
        self._client.set_write_buffer_limits(high=_HIGH_WATER)
        self._connections.add(self)
        _open.inc()

    def data_received(self, data: bytes) -> None:
        """First the handshake, put together by uvicorn; then frames of the client."""
        if self._connecting is None:
            self._connecting = self._loop.create_task(self._connect(data))
        elif not self._boundary.upgraded:
            self._early += data
            if len(self._early) > _HIGH_WATER and self._client is not None:
                self._client.abort()
        elif self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._connections.discard(self)
        _open.dec()
        self._client = None
        if self._connecting is not None:
            self._connecting.cancel()
        if self._upstream is not None and self._upstream.transport is not None:
            _ended.labels("client").inc()
            self._upstream.transport.abort()

    def pause_writing(self) -> None:
        """The client reads slowly: so does this, and the upstream notices."""
        if self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        """See `pause_writing`."""
        if self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.resume_reading()

    def shutdown(self) -> None:
        """Called by uvicorn when the process ends: close with 1012 at a random moment soon."""
        self._loop.call_later(random.uniform(0, _DRAIN_SPREAD), self._restart)  # noqa: S311 - jitter

    async def _connect(self, handshake: bytes) -> None:
        request, _, rest = handshake.partition(b"\r\n")
        path = unquote(request.split(b" ")[1].partition(b"?")[0].decode("latin-1"))
        found = routing.route(path) if routing.is_plain(path) and not routing.is_hidden(path) else None
        if found is None or found[0] == "/":
            self._refuse(Problem(404, "not-found", f"No WebSocket is served at {path}."))
            return
        host, port = _address(self.runtime.upstream(found[1]))
        upstream = _Upstream(self)
        for last in (False, True):
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await self._loop.create_connection(lambda: upstream, host, port)
                break
            except (OSError, TimeoutError) as error:
                if last:
                    _log.warning("upstream failed", upstream=found[1], reason=repr(error))
                    problem = Problem(502, "bad-gateway", f"{found[1]} does not answer now.")
                    self._refuse(problem)
                    return
        self._upstream = upstream
        assert upstream.transport is not None  # noqa: S101 - connected above
        upstream.transport.write(request + b"\r\n" + rest.removesuffix(b"\r\n") + self._forwarded() + b"\r\n")
        try:
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                await self._answered.wait()
        except TimeoutError:
            self._refused(HTTPStatus.GATEWAY_TIMEOUT)

    def _forwarded(self) -> bytes:
        peer = self._client.get_extra_info("peername") if self._client is not None else None
        return b"x-forwarded-for: %s\r\n" % (peer[0].encode() if peer else b"unknown")

    def _refuse(self, problem: Problem) -> None:
        if self._client is None:
            return
        body = problem.document()
        headers = {
            **problem.headers,
            "content-type": MEDIA_TYPE,
            "content-length": len(body),
            "connection": "close",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._client.write(f"HTTP/1.1 {problem.status} \r\n{head}\r\n".encode() + body)
        self._client.close()

    def from_upstream(self, data: bytes) -> None:
        """Pass frames on."""
        if self._client is None or self._restarting:
            return
        self._boundary.feed(data)
        if self._answered.is_set():
            self._client.write(data)
            return
        self._answer += data
        if self._boundary.upgraded and self._upstream is not None and self._upstream.transport is not None:
            self._answered.set()
            self._client.write(self._answer)
            self._upstream.transport.write(self._early)
            self._answer = self._early = b""
        elif self._boundary.status is not None or len(self._answer) > _HIGH_WATER:
            self._refused(self._boundary.status or 0)

    def _refused(self, status: int) -> None:
        """Tell the client, in own words: the upstream's connection must not be used any further."""
        self._answered.set()
        told = status if status in _REFUSALS else HTTPStatus.BAD_GATEWAY
        code, text, headers = _WORDS.get(told, ("websocket-refused", "No WebSocket is served here now.", {}))
        self._refuse(Problem(told, code, text, headers=headers))
        if self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.abort()

    def upstream_lost(self) -> None:
        """The upstream ended: unless it said so by a close frame, the client is told to come back."""
        if self._client is None:
            return
        _ended.labels("upstream").inc()
        if not self._answered.is_set():
            self._refused(HTTPStatus.BAD_GATEWAY)
        elif self._boundary.upgraded and not self._boundary.closed:
            self._restart()
        else:
            self._client.close()

    def pause_client(self, pause: bool) -> None:
        """The upstream takes no more, or takes bytes again."""
        if self._client is not None:
            (self._client.pause_reading if pause else self._client.resume_reading)()

    def _restart(self) -> None:
        """Close with 1012; in the middle of a frame only the connection itself can be closed."""
        if self._client is None or self._restarting:
            return
        self._restarting = True
        if self._boundary.between_frames and not self._boundary.closed:
            self._client.write(SERVICE_RESTART)
            self._loop.call_later(_CLOSE_GRACE, self._hang_up)
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()


def tunnel_for(runtime: Runtime) -> type[Tunnel]:
    """The protocol class of one gateway."""
    return type("BoundTunnel", (Tunnel,), {"runtime": runtime})


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
    return host, int(port or 80)
