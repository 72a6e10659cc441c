"""The WebSocket server of the price stream, with the probes on the same port."""

import asyncio
import random
import socket
from typing import Any, cast

import orjson
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from app.instruments import INSTRUMENTS
from app.kit import logs, probes
from app.kit.problems import MEDIA_TYPE, Problem
from app.kit.runtime import Runtime, Server
from app.kit.web import listen
from app.price_service.frames import error_frame, frame
from app.price_service.hub import Client, Hub
from app.price_service.streams import name

PATH = "/ws"
_MAX_MESSAGE = 16 * 1024
"""Bytes of a client's message, in however many fragments."""
_MAX_REQUESTS = 100
"""Frames of a client in one second."""
_MAX_UNREAD = 1024 * 1024
"""Bytes that a client may leave unread while it goes on asking."""
_PING_SECONDS = 20.0
_CLOSES_PER_SECOND = 500.0
_GOODBYE_SECONDS = 2.0
"""Time that clients have to answer the close."""
_PAUSE = 0.1
"""Seconds between two batches of closes."""
_DATA = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION})
_log = logs.get(__name__)


class Connection(WSListener):
    """One client: reads its requests, tells the hub when its socket is full."""

    def __init__(self, server: "PriceServer") -> None:
        self._server = server
        self._hub = server.hub
        self.transport: WSTransport | None = None
        self.client = Client(self)
        self._fragments: bytes | None = None
        """The message so far, of which more is to come."""
        self._second = 0.0
        self._requests = 0

    def write(self, data: bytes) -> None:
        """Send finished frames; see `hub.Sink`."""
        if self.transport is not None:
            self.transport.underlying_transport.write(data)

    def close(self, code: WSCloseCode, reason: str) -> None:
        """Say goodbye with a close code."""
        if self.transport is not None:
            self.transport.send_close(code, reason)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called once, after the handshake."""
        self.transport = transport
        limit = self._server.buffer_bytes
        # Without it the kernel would queue megabytes for a slow client, of prices long gone.
        connected: socket.socket = transport.underlying_transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limit)
        transport.underlying_transport.set_write_buffer_limits(high=limit, low=limit // 4)
        self._hub.join(self.client)
        self._server.connections.add(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Called once, however the connection ended."""
        if self.transport is not None:
            self.transport = None
            self._hub.leave(self.client)
            self._server.left(self)

    def pause_writing(self) -> None:
        """The write buffer is over its limit."""
        self._hub.paused(self.client)

    def resume_writing(self) -> None:
        """The write buffer is nearly empty again."""
        self._hub.resumed(self.client)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called for each frame of the client; pings are answered before they come here."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code() if frame.payload_size else WSCloseCode.OK)
            transport.disconnect()
        elif transport.is_close_frame_sent or frame.msg_type not in _DATA:
            return
        elif self._asks_too_much(transport):
            self._refuse(WSCloseCode.POLICY_VIOLATION, f"at most {_MAX_REQUESTS} messages in a second")
        elif frame.msg_type == WSMsgType.BINARY:
            self._refuse(WSCloseCode.UNSUPPORTED_DATA, "messages are text")
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._refuse(WSCloseCode.PROTOCOL_ERROR, "no extension was agreed on")
        elif (frame.msg_type == WSMsgType.CONTINUATION) != (self._fragments is not None):
            self._refuse(WSCloseCode.PROTOCOL_ERROR, "fragments of a message follow each other")
        else:
            self._take((self._fragments or b"") + frame.get_payload_as_bytes(), whole=frame.fin)

    def _asks_too_much(self, transport: WSTransport) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._second >= 1:
            self._second, self._requests = now, 0
        self._requests += 1
        unread = transport.underlying_transport.get_write_buffer_size()
        return self._requests > _MAX_REQUESTS or unread > _MAX_UNREAD

    def _refuse(self, code: WSCloseCode, reason: str) -> None:
        self.close(code, reason)
        if self.transport is not None:
            self.transport.disconnect(graceful=not self.client.slow)

    def _take(self, message: bytes, *, whole: bool) -> None:
        if len(message) > _MAX_MESSAGE:
            self._refuse(WSCloseCode.MESSAGE_TOO_BIG, f"a message has at most {_MAX_MESSAGE} bytes")
            return
        self._fragments = None if whole else message
        if not whole:
            return
        try:
            text = message.decode()
        except UnicodeDecodeError:
            self._refuse(WSCloseCode.INVALID_TEXT, "text is UTF-8")
            return
        self._request(text)

    def _request(self, text: str) -> None:
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            self.write(error_frame("invalid-json", str(error)))
            return
        op = message.get("op") if isinstance(message, dict) else None
        if op == "ping":
            self.write(frame({"type": "pong"}))
        elif op in ("subscribe", "unsubscribe"):
            self._change(op, message)
        else:
            self.write(error_frame("unknown-op", "op is one of subscribe, unsubscribe, ping"))

    def _change(self, op: str, message: dict[str, Any]) -> None:
        asked = message.get("symbols")
        if asked == "*":
            symbols = frozenset(INSTRUMENTS)
        elif isinstance(asked, list) and all(isinstance(symbol, str) for symbol in asked):
            symbols = frozenset(asked)
        else:
            self.write(error_frame("invalid-symbols", 'symbols is a list of symbols or "*"'))
            return
        unknown = sorted(symbols - INSTRUMENTS.keys())
        if unknown:
            self.write(error_frame("unknown-symbol", f"no such symbol: {', '.join(unknown)[:200]}"))
            return
        self.write(frame({"type": f"{op}d", "symbols": sorted(symbols)}))
        streams = [name("ticker", symbol) for symbol in symbols]
        (self._hub.subscribe if op == "subscribe" else self._hub.unsubscribe)(self.client, streams)


class PriceServer(Server):
    """Listens on the role's port."""

    def __init__(self, runtime: Runtime, hub: Hub) -> None:
        self._runtime = runtime
        self.hub = hub
        self.buffer_bytes = runtime.settings.client_buffer_bytes
        self.connections: set[Connection] = set()
        self._fewer = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """See `Server`."""
        listener = listen(self._runtime)
        self._server = await ws_create_server(
            self._accept,
            sock=listener,
            max_frame_size=_MAX_MESSAGE,
            read_buffer_init_size=1024,
            enable_auto_ping=True,
            auto_ping_idle_timeout=_PING_SECONDS,
            auto_ping_reply_timeout=_PING_SECONDS,
        )
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def _accept(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        path = request.path.decode("latin-1").partition("?")[0]
        if path == PATH and self._runtime.ready:
            return Connection(self)
        if path == PATH:
            answer = 503, MEDIA_TYPE, Problem(503, "not-ready", self._runtime.pending).document()
        else:
            answer = probes.answer(self._runtime, path) or (
                404,
                MEDIA_TYPE,
                Problem(404, "not-found", "Not Found").document(),
            )
        status, media_type, body = answer
        headers = {"Content-Type": media_type}
        make = WSUpgradeResponse.create_ok_response
        response = (
            make(body, headers)
            if status == 200
            else WSUpgradeResponse.create_error_response(status, body, headers)
        )
        return WSUpgradeResponseWithListener(cast(WSUpgradeResponse, response), None)

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self._fewer.set()

    async def drain(self, seconds: float) -> None:
        """Announce the end, close everyone with 1012 a few at a time, stop listening.

        Probes are answered until the end. Clients come back at different moments, so that they spread over
        the other replicas.
        """
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
            if connection.transport is not None:
                connection.transport.disconnect(graceful=False)
        if self._server is not None:
            self._server.close()
