"""The WebSocket server of the price stream, with the probes on the same port."""

import asyncio
import random
import time
from collections import Counter
from typing import Any, cast
from weakref import WeakSet

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSListener,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]
from prometheus_client import Gauge

from app.kit import logs, probes
from app.kit.addresses import client_address
from app.kit.auth import Authenticator
from app.kit.problems import MEDIA_TYPE, Problem
from app.kit.runtime import Runtime, Server
from app.kit.web import listen
from app.kit.websocket import LOGGER
from app.price_service.endpoints import _MAX_MESSAGE, Connection
from app.price_service.executions import Executions
from app.price_service.frames import frame
from app.price_service.hub import SERVICE, Hub
from app.price_service.portfolio import PortfolioValues
from app.price_service.settings import PriceServiceSettings

PATH = "/ws"
_VERSION = "13"
"""Of RFC 6455, which says how another one is answered (section 4.4)."""
_UPGRADE = {"Upgrade": "websocket", "Sec-WebSocket-Version": _VERSION}
_HANDSHAKE_SECONDS = 5.0
_READ_BUFFER = 1024
"""Bytes that each connection has for reading from the start; it grows for whoever sends more at once."""
_SLOTS = 60
"""Parts of a round: heartbeats of a quarter of a second's share of the clients go out together."""
_AGE_JITTER = 0.2
_CLOSES_PER_SECOND = 500.0
_GOODBYE_SECONDS = 2.0
"""Time that clients have to answer the close."""
_PAUSE = 0.1
"""Seconds between two batches of closes."""
_log = logs.get(__name__)
_servers: "WeakSet[PriceServer]" = WeakSet()
_queued = Gauge("websocket_queue_bytes", "Bytes that wait for clients to read", ["service"]).labels(SERVICE)
_queued.set_function(lambda: sum(server.queued_bytes for server in _servers))


class _Door:
    """Answers the handshake of one connection, whose other end it knows."""

    __slots__ = ("peer", "server")

    def __init__(self, server: "PriceServer") -> None:
        self.server = server
        self.peer = ""

    def __call__(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        return self.server.accept(request, self.peer)


class _Protocol(WSProtocol):  # type: ignore[misc]
    """picows' protocol, which tells its listener factory nothing of the connection."""

    __slots__ = ("_door",)

    def __init__(self, server: "PriceServer") -> None:
        self._door = _Door(server)
        super().__init__(
            None,
            None,
            False,
            self._door,
            LOGGER,
            True,
            _HANDSHAKE_SECONDS,
            # Its own pings would cost each connection a task; `Connection.visit` sends them.
            False,
            1.0,
            1.0,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            True,
            _MAX_MESSAGE,
            None,
            _READ_BUFFER,
        )

    def connection_made(self, transport: asyncio.Transport) -> None:
        """See `asyncio.BaseProtocol`."""
        peer = transport.get_extra_info("peername")
        self._door.peer = peer[0] if peer else ""
        super().connection_made(transport)


class PriceServer(Server):
    """Listens on the role's port."""

    def __init__(
        self,
        runtime: Runtime,
        settings: PriceServiceSettings,
        hub: Hub,
        executions: Executions,
        values: PortfolioValues,
        authenticator: Authenticator,
    ) -> None:
        self._runtime = runtime
        self.settings = settings
        self.hub = hub
        self.executions = executions
        self.values = values
        self.authenticator = authenticator
        self.buffer_bytes = runtime.settings.client_buffer_bytes
        self.connections: set[Connection] = set()
        self._slots: list[set[Connection]] = [set() for _ in range(_SLOTS)]
        self._next_slot = 0
        self._by_address: Counter[str] = Counter()
        self._draining = False
        self._fewer = asyncio.Event()
        self._server: asyncio.Server | None = None
        _servers.add(self)

    @property
    def queued_bytes(self) -> int:
        """What waits for clients to read."""
        transports = [connection.transport for connection in self.connections]
        return sum(t.underlying_transport.get_write_buffer_size() for t in transports if t is not None)

    async def start(self) -> str:
        """See `Server`."""
        listener = listen(self._runtime)
        loop = asyncio.get_running_loop()
        # Not picows' own function: its transports (aiofastnet) are no faster here and need 6 KiB more each.
        self._server = await loop.create_server(lambda: _Protocol(self), sock=listener, backlog=2048)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def accept(self, request: WSUpgradeRequest, peer: str) -> WSListener | WSUpgradeResponseWithListener:
        """Answer a handshake, or a probe."""
        path = request.path.decode("latin-1").partition("?")[0]
        if path != PATH:
            return _response(
                probes.answer(self._runtime, path)
                or (404, MEDIA_TYPE, Problem(404, "not-found", "Not Found").document())
            )
        if request.headers.get("sec-websocket-version") != _VERSION:
            problem = Problem(426, "upgrade-required", f"Version {_VERSION} of the protocol is spoken here.")
            return _response((426, MEDIA_TYPE, problem.document()), _UPGRADE)
        if not self._runtime.ready:
            problem = Problem(503, "not-ready", self._runtime.pending)
            return _response((503, MEDIA_TYPE, problem.document()))
        forwarded = ", ".join(request.headers.getall("x-forwarded-for", ()))
        address = client_address(forwarded, peer, self.settings.proxy_hops)
        most = self.settings.connections_per_client
        if most and self._by_address[address] >= most:
            told = f"At most {most} connections are open for one client; close another one first."
            problem = Problem(429, "too-many-connections", told)
            return _response((429, MEDIA_TYPE, problem.document()), {"Retry-After": "10"})
        return Connection(self, address)

    def joined(self, connection: Connection) -> None:
        """A connection is open."""
        self.connections.add(connection)
        self._by_address[connection.address] += 1
        self._next_slot = connection.slot = (self._next_slot + 1) % _SLOTS
        self._slots[connection.slot].add(connection)
        now = asyncio.get_running_loop().time()
        connection.quiet_until = now + self.settings.heartbeat_seconds
        if self.settings.connection_seconds:
            spread = random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)  # noqa: S311 - jitter
            connection.ends = now + self.settings.connection_seconds * spread

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        self._by_address[connection.address] -= 1
        if self._by_address[connection.address] <= 0:
            del self._by_address[connection.address]
        self.connections.discard(connection)
        self._slots[connection.slot].discard(connection)
        self._fewer.set()

    async def keep(self) -> None:
        """Send heartbeats and end old connections, until cancelled."""
        loop = asyncio.get_running_loop()
        pause = self.settings.heartbeat_seconds / _SLOTS
        due = loop.time()
        while True:
            for slot in self._slots:
                due += pause
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not slot or self._draining:
                    continue
                beat: dict[str, Any] = {"type": "heartbeat", "time": int(time.time() * 1000)}
                public = frame(beat)
                private = frame({**beat, "positions": self.executions.positions})
                now = loop.time()
                for connection in tuple(slot):
                    connection.visit(now, public, private)

    async def drain(self, seconds: float) -> None:
        """Announce the end, close everyone with 1012 a few at a time, stop listening.

        Probes are answered until the end. Clients come back at different moments, so that they spread over
        the other replicas.
        """
        self._draining = True
        deadline = asyncio.get_running_loop().time() + seconds
        spread = min(seconds * 0.7, len(self.connections) / _CLOSES_PER_SECOND)
        notice = frame({"type": "serverShutdown", "within_ms": int(spread * 1000)})
        for connection in tuple(self.connections):
            connection.write(notice)
        waiting = list(self.connections)
        random.shuffle(waiting)
        batches = max(1, round(spread / _PAUSE))
        for number in range(batches):
            for connection in waiting[number::batches]:
                connection.close(WSCloseCode.SERVICE_RESTART, "service restart")
            if number < batches - 1:
                await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        try:
            async with asyncio.timeout_at(min(deadline, deadline - seconds + spread + _GOODBYE_SECONDS)):
                while self.connections:
                    self._fewer.clear()
                    await self._fewer.wait()
        except TimeoutError:
            _log.warning("clients did not answer the close", connections=len(self.connections))
        for connection in tuple(self.connections):
            connection.hang_up()
        if self._server is not None:
            self._server.close()


def _response(
    answer: tuple[int, str, bytes], more: dict[str, str] | None = None
) -> WSUpgradeResponseWithListener:
    status, media_type, body = answer
    headers = {"Content-Type": media_type, **(more or {})}
    make = WSUpgradeResponse.create_ok_response
    response = (
        make(body, headers)
        if status == 200
        else WSUpgradeResponse.create_error_response(status, body, headers)
    )
    return WSUpgradeResponseWithListener(cast(WSUpgradeResponse, response), None)
