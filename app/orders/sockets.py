"""The WebSocket server of orders: on the port of the REST API, behind the same login."""

import asyncio
import contextlib
import random
import socket
import time
from typing import Any, cast

import jwt
from fastapi import Request
from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]
from prometheus_client import Gauge
from starlette.types import ASGIApp

from app.kit import logs
from app.kit.auth import LEEWAY_SECONDS, Authenticator, Method, Principal
from app.kit.problems import MEDIA_TYPE, Problem
from app.kit.runtime import Runtime
from app.kit.web import HttpServer
from app.kit.websocket import LOGGER, MessageReader, Refused, close_code
from app.orders.conversation import Conversation, encoded
from app.orders.service import Trading
from app.orders.stream import Executions

PATH = "/api/orders/stream"
MOST_BYTES = 16 * 1024
"""Of a client's message, in however many fragments."""
MOST_UNREAD = 256 * 1024
"""Bytes that wait for a client before it counts as too slow and is disconnected."""
MOST_MESSAGES = 500
"""Of a client in one second."""
LOGIN_SECONDS = 10.0
KEY_SECONDS = 900.0
"""How long the handshake of an API key is good, as an access token is: a revoked key trades no longer."""
NOT_AUTHENTICATED = 4401
TOO_SLOW = 4408
_PING_SECONDS = 20.0
_GOODBYE_SECONDS = 2.0
_CLOSES_PER_SECOND = 500.0
_log = logs.get(__name__)
_open = Gauge("order_websockets_active", "Open WebSocket connections of orders")


class Connection(WSListener):
    """One client: frames in, messages out; what they mean is left to its conversation."""

    def __init__(self, server: "OrderServer", upgrade: Request) -> None:
        self._server = server
        self._upgrade = upgrade
        self.transport: WSTransport | None = None
        self._conversation = Conversation(server.trading, self)
        self._sent = 0
        self._reader = MessageReader(MOST_BYTES, MOST_MESSAGES)
        self._user: Principal | None = None
        self._timer: asyncio.TimerHandle | None = None

    def push(self, message: dict[str, Any]) -> None:
        """Send a message with the connection's next number, unless the client reads too slowly."""
        transport = self.transport
        if transport is None or transport.is_close_frame_sent:
            return
        if transport.underlying_transport.get_write_buffer_size() > MOST_UNREAD:
            self.close(TOO_SLOW, f"more than {MOST_UNREAD} bytes are unread")
            return
        self._sent += 1
        transport.send(WSMsgType.TEXT, encoded({"seq": self._sent, **message}))

    def close(self, code: WSCloseCode | int, reason: str) -> None:
        """Say goodbye; whoever does not answer is disconnected a little later."""
        if self.transport is not None and not self.transport.is_close_frame_sent:
            self.transport.send_close(close_code(code), reason)
            asyncio.get_running_loop().call_later(_GOODBYE_SECONDS, self.hang_up)

    def hang_up(self) -> None:
        """End the connection, whatever the client does."""
        if self.transport is not None:
            self.transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called once, after the handshake."""
        self.transport = transport
        connected: socket.socket = transport.underlying_transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_UNREAD)
        self._server.connections.add(self)
        _open.inc()
        self._timer = asyncio.get_running_loop().call_later(
            LOGIN_SECONDS, self.close, NOT_AUTHENTICATED, f"log in within {LOGIN_SECONDS:.0f} seconds"
        )
        headers = self._upgrade.headers
        if "authorization" in headers or "x-api-key" in headers:
            self._conversation.logging_in = asyncio.create_task(self._log_in_by_headers())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Called once, however the connection ended."""
        if self.transport is None:
            return
        self.transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._user is not None:
            self._server.executions.leave(self._user.user_id, self)
        self._conversation.end()
        self._server.left(self)
        _open.dec()

    def pause_writing(self) -> None:
        """The write buffer is over the transport's mark; `push` bounds it."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called for each frame of the client; pings are answered before they come here."""
        try:
            message = self._reader.take(transport, frame)
        except Refused as refused:
            self.close(refused.code, refused.reason)
            transport.disconnect()
        else:
            if message is not None:
                self._conversation.take(message)

    async def log_in(self, token: str) -> Principal:
        """Who the token is of; from now on the connection is theirs.

        Raises:
            Problem: the token is not good, or of another user than the one that is logged in.
            Unavailable: that cannot be told now.
        """
        user = await self._server.authenticator.token(token)
        self._admit(user, token)
        return user

    async def _log_in_by_headers(self) -> None:
        try:
            user = await self._server.authenticator.request(self._upgrade)
            _, _, token = self._upgrade.headers.get("authorization", "").partition(" ")
            self._admit(user, token.strip() if user.method is Method.TOKEN else None)
        except Problem as problem:
            self.close(NOT_AUTHENTICATED, problem.code)
        except Exception as error:
            _log.warning("login is not checked", reason=repr(error))
            self.close(WSCloseCode.TRY_AGAIN_LATER, "login cannot be checked now")
        else:
            self._conversation.greet()

    def _admit(self, user: Principal, token: str | None) -> None:
        if "read" not in user.scopes:
            raise Problem(403, "insufficient-scope", "This needs the scope read.")
        if self._user is not None and self._user.user_id != user.user_id:
            raise Problem(403, "another-user", "The connection belongs to another user.")
        if self.transport is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        seconds, reason = KEY_SECONDS, "login-expired"
        if token is not None:
            # The signature was checked above; this reads when it ends.
            ends = jwt.decode(token, options={"verify_signature": False})["exp"]
            seconds, reason = max(0.0, ends + LEEWAY_SECONDS - time.time()), "token-expired"
        self._timer = asyncio.get_running_loop().call_later(seconds, self.close, NOT_AUTHENTICATED, reason)
        if self._user is None:
            self._server.executions.join(user.user_id, self)
        self._user = user
        self._conversation.user = user


class _Upgraded(asyncio.BufferedProtocol):
    """Takes a connection over from uvicorn, which hands over what it has read of the handshake."""

    def __init__(self, server: "OrderServer") -> None:
        self._inner = WSProtocol(
            None,
            None,
            False,
            server.accept,
            LOGGER,
            True,
            5.0,
            True,
            _PING_SECONDS,
            _PING_SECONDS,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            True,
            MOST_BYTES,
            None,
            4096,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """The handshake."""
        while data:
            room = self._inner.get_buffer(len(data))
            size = min(len(room), len(data))
            room[:size], data = data[:size], data[size:]
            self._inner.buffer_updated(size)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        return cast(memoryview, self._inner.get_buffer(sizehint))

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self._inner.buffer_updated(nbytes)

    def eof_received(self) -> bool:
        """See `asyncio.BufferedProtocol`."""
        return bool(self._inner.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._inner.resume_writing()


class OrderServer(HttpServer):
    """Serves the REST API and, at `PATH`, WebSockets."""

    def __init__(
        self,
        runtime: Runtime,
        app: ASGIApp,
        trading: Trading,
        executions: Executions,
        authenticator: Authenticator,
    ) -> None:
        def upgraded(**_: object) -> _Upgraded:
            return _Upgraded(self)

        super().__init__(runtime, app, websocket=cast(type[asyncio.Protocol], upgraded))
        self._role = runtime
        self.trading = trading
        self.executions = executions
        self.authenticator = authenticator
        self.connections: set[Connection] = set()
        self._fewer = asyncio.Event()

    def accept(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        """Answer a handshake."""
        path, _, query = request.path.decode("latin-1").partition("?")
        if path == PATH and self._role.ready:
            headers = [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in request.headers.items()
            ]
            scope = {
                "type": "http",
                "method": "GET",
                "path": path,
                "raw_path": path.encode("latin-1"),
                "query_string": query.encode("latin-1"),
                "headers": headers,
                "client": None,
            }
            return Connection(self, Request(scope, _no_body))
        if path == PATH:
            problem = Problem(503, "not-ready", self._role.pending)
        else:
            problem = Problem(404, "not-found", f"No WebSocket is served at {path[:256]}.")
        response = WSUpgradeResponse.create_error_response(
            problem.status, problem.document(), {"Content-Type": MEDIA_TYPE}
        )
        return WSUpgradeResponseWithListener(response, None)

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self._fewer.set()

    async def drain(self, seconds: float) -> None:
        """Close every WebSocket with 1012, a few at a time, then end as `HttpServer` does."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        leaving = list(self.connections)
        random.shuffle(leaving)
        spread = min(seconds * 0.5, len(leaving) / _CLOSES_PER_SECOND)
        for number, connection in enumerate(leaving, 1):
            connection.close(WSCloseCode.SERVICE_RESTART, "service restart")
            ahead = begun + spread * number / len(leaving) - loop.time()
            if ahead > 0.05:
                await asyncio.sleep(ahead)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                while self.connections:
                    self._fewer.clear()
                    await self._fewer.wait()
        for connection in tuple(self.connections):
            connection.hang_up()
        await super().drain(max(1.0, seconds - (loop.time() - begun)))


async def _no_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}
