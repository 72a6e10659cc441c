"""One client of the price stream: what it asks for and what it is told."""

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import orjson
from picows import WSCloseCode, WSFrame, WSListener, WSTransport

from app.kit import logs
from app.kit.auth import Principal
from app.kit.errors import Unavailable
from app.kit.problems import Problem
from app.kit.websocket import MessageReader, Refused, close_code
from app.price_service.executions import FILLS, ORDERS
from app.price_service.frames import error_frame, frame
from app.price_service.hub import Client, dropped, published, subscriptions
from app.price_service.portfolio import PORTFOLIO
from app.price_service.requests import Change, Invalid, change

if TYPE_CHECKING:
    from app.price_service.server import PriceServer

_MAX_MESSAGE = 16 * 1024
"""Bytes of a client's message, in however many fragments."""
_MAX_REQUESTS = 100
"""Frames of a client in one second."""
_MAX_UNREAD = 1024 * 1024
"""Bytes that a client may leave unread while it goes on asking."""
_MAX_WAITING = 16
"""Requests that wait for the login before them."""
LOGIN_SECONDS = 900.0
"""How long a login holds, as long as an access token: who is locked out sees nothing more after that."""
_LEAVING_SECONDS = 5.0
"""From the notice that a connection has lasted long enough to its close, for the client to open another."""
_GOODBYE_SECONDS = 10.0
"""Time to read up to our close and to answer it; whatever a client goes on sending, it is gone then."""
_SILENT_ROUNDS = 3
"""Heartbeats without any sign of the client after which it is gone."""
NOT_AUTHENTICATED = 4401
TOO_SLOW = 4408
_PING = b"\x89\x00"
_PONG = frame({"type": "pong"})
_RECONNECT = frame({"type": "reconnect", "within_ms": int(_LEAVING_SECONDS * 1000)})
_log = logs.get(__name__)
_dropped_overflow = dropped.labels("overflow")


class Session:
    """The private side of a connection that is logged in; see `executions.Session`, `portfolio.Session`."""

    __slots__ = ("_connection", "ahead", "expires", "private", "resumed", "trusted_until", "user_id")

    def __init__(self, connection: "Connection", user_id: str) -> None:
        self._connection = connection
        self.user_id = user_id
        self.expires = 0.0
        """By the clock of the loop."""
        self.private: set[str] = set()
        self.ahead: dict[str, dict[str, int]] = {}
        self.trusted_until = 0.0
        """What is in `ahead`, by the clock of the loop: no replica is further by more than a heartbeat."""
        self.resumed = False

    @property
    def slow(self) -> bool:
        """See `portfolio.Session`."""
        return self._connection.client.slow

    def push(self, data: bytes) -> None:
        """Send a finished frame; when too much is unread, the connection ends: nothing is left out."""
        self._connection.push(data)


class Connection(WSListener):
    """Reads the requests of one client, tells the hub when its socket is full."""

    __slots__ = (
        "_later",
        "_login",
        "_reader",
        "_server",
        "_silent",
        "address",
        "client",
        "ends",
        "leaving",
        "quiet_until",
        "session",
        "slot",
        "transport",
    )

    def __init__(self, server: "PriceServer", address: str) -> None:
        self._server = server
        self.address = address
        self.transport: WSTransport | None = None
        self.client = Client(_nowhere)
        self.session: Session | None = None
        self.ends = 0.0
        """When it is told to leave, by the clock of the loop; 0 for never."""
        self.leaving = False
        self.quiet_until = 0.0
        """No heartbeat before this, by the clock of the loop."""
        self.slot = 0
        """Which part of a round visits it."""
        self._reader = MessageReader(_MAX_MESSAGE, _MAX_REQUESTS)
        self._silent = 0
        self._login: asyncio.Task[None] | None = None
        self._later: list[str] | None = None

    def write(self, data: bytes) -> None:
        """Send finished frames."""
        self.client.write(data)

    def push(self, data: bytes) -> None:
        """Send a finished frame of a private channel."""
        transport = self.transport
        if transport is None or transport.is_close_frame_sent:
            return
        limit = self._server.settings.private_buffer_bytes
        if transport.underlying_transport.get_write_buffer_size() > limit:
            _dropped_overflow.inc()
            # The close stands behind what is unread; whoever goes on reading learns the reason.
            self.close(TOO_SLOW, f"more than {limit} bytes are unread")
            return
        self.client.write(data)
        published.inc()

    def close(self, code: WSCloseCode | int, reason: str) -> None:
        """Say goodbye with a close code; nothing is sent after it."""
        transport = self.transport
        if transport is not None and not transport.is_close_frame_sent:
            self._quiet()
            transport.send_close(close_code(code), reason)
            asyncio.get_running_loop().call_later(_GOODBYE_SECONDS, self.hang_up)

    def _quiet(self) -> None:
        """Send nothing more by itself."""
        self._server.hub.quiet(self.client)
        self._log_out()

    def hang_up(self) -> None:
        """End the connection, whatever the client does."""
        if self.transport is not None:
            self.transport.disconnect(graceful=False)

    def visit(self, now: float, public: bytes, private: bytes) -> None:
        """Send a heartbeat, and end what has lasted long enough or is dead; once in a round."""
        transport = self.transport
        if transport is None or now < self.quiet_until:
            return
        self._silent += 1
        if self._silent > _SILENT_ROUNDS:
            self.close(WSCloseCode.GOING_AWAY, "nothing was heard for long")
            transport.disconnect(graceful=False)
        elif transport.is_close_frame_sent:
            return
        elif self.session is not None and now >= self.session.expires:
            self.close(NOT_AUTHENTICATED, "login-expired")
        elif self.leaving and now >= self.ends:
            self.close(WSCloseCode.SERVICE_RESTART, "connection is old: come back")
        else:
            beat = private if self.session is not None else public
            self.client.write(_PING if self.client.slow else beat + _PING)
            if self.session is not None and self.session.ahead and now >= self.session.trusted_until:
                self._server.executions.distrust(self.session)
            if self.ends and not self.leaving and now >= self.ends:
                self.leaving, self.ends = True, now + _LEAVING_SECONDS
                self.client.write(_RECONNECT)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called once, after the handshake."""
        self.transport = transport
        below = transport.underlying_transport
        self.client.write = below.write
        self._server.hub.join(self.client)
        self._server.joined(self)
        limit = self._server.buffer_bytes
        # Without it the kernel would queue megabytes for a slow client, of prices long gone.
        connected: socket.socket = below.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limit)
        below.set_write_buffer_limits(high=limit, low=limit // 4)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Called once, however the connection ended."""
        if self.transport is not None:
            self.transport = None
            self.client.write = _nowhere
            if self._login is not None:
                self._login.cancel()
            self._log_out()
            self._server.hub.leave(self.client)
            self._server.left(self)

    def pause_writing(self) -> None:
        """The write buffer is over its limit."""
        self._server.hub.paused(self.client)

    def resume_writing(self) -> None:
        """The write buffer is nearly empty again."""
        self._server.hub.resumed(self.client)
        if self.session is not None:
            self._server.values.due(self.session)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called for each frame of the client; pings are answered before they come here."""
        self._silent = 0
        try:
            message = self._reader.take(transport, frame)
            if message is None:
                if transport.is_close_frame_sent:
                    self._quiet()
                return
            if transport.underlying_transport.get_write_buffer_size() > _MAX_UNREAD:
                raise Refused(WSCloseCode.POLICY_VIOLATION, f"more than {_MAX_UNREAD} bytes are unread")
            if self._later is None:
                self._request(message)
            elif len(self._later) < _MAX_WAITING:
                self._later.append(message)
            else:
                raise Refused(WSCloseCode.POLICY_VIOLATION, "too many requests wait for the login")
        except Refused as refused:
            slow = self.client.slow
            self.close(refused.code, refused.reason)
            transport.disconnect(graceful=not slow)

    def _request(self, text: str) -> None:
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            self.write(error_frame("invalid-json", str(error)))
            return
        op = message.get("op") if isinstance(message, dict) else None
        if op == "ping":
            self.write(_PONG)
        elif op in ("subscribe", "unsubscribe"):
            try:
                asked = change(message, self._server.hub.channels)
                (self._subscribe if op == "subscribe" else self._unsubscribe)(asked)
            except Invalid as invalid:
                self.write(error_frame(invalid.code, str(invalid)))
        elif op == "auth":
            self._authenticate(message.get("token"))
        else:
            self.write(error_frame("unknown-op", "op is one of subscribe, unsubscribe, auth, ping"))

    def _subscribe(self, asked: Change) -> None:
        hub, executions, session = self._server.hub, self._server.executions, self.session
        if asked.private and session is None:
            raise Invalid("authentication-required", 'log in first: {"op": "auth", "token": …}')
        recovered = hub.recoverable(self.client, asked.resume)
        missed: dict[str, list[bytes]] = {}
        for channel, positions in asked.positions.items():
            assert session is not None  # noqa: S101 - checked above
            recovered[channel] = channel != PORTFOLIO and executions.is_recoverable(positions)
            if recovered[channel]:
                missed[channel] = found = [*executions.missed(session.user_id, channel, positions)]
                recovered[channel] = sum(map(len, found)) <= self._server.settings.private_buffer_bytes // 2
        answer = _answer("subscribed", asked)
        if asked.resumes:
            answer["recovered"] = recovered
        if not asked.private.isdisjoint((ORDERS, FILLS)):
            answer["positions"] = executions.positions
        self.write(frame(answer))
        if session is not None and asked.private:
            # At first, for what is private is not left out when the socket is full.
            self._join(session, asked, recovered, missed)
            if self.session is not session:
                return
        hub.subscribe(
            self.client,
            asked.streams,
            {stream: place if recovered[stream] else None for stream, place in asked.resume.items()},
        )

    def _join(
        self, session: Session, asked: Change, recovered: dict[str, bool], missed: dict[str, list[bytes]]
    ) -> None:
        for channel in asked.private:
            session.ahead.pop(channel, None)
        for channel, positions in asked.positions.items():
            if recovered[channel]:
                session.resumed = True
                heartbeat = self._server.settings.heartbeat_seconds
                session.trusted_until = asyncio.get_running_loop().time() + heartbeat
                for data in missed[channel]:
                    self.push(data)
                reached = self._server.executions.positions
                further = {symbol: at for symbol, at in positions.items() if at > reached.get(symbol, 0)}
                if further:
                    session.ahead[channel] = further
            elif channel != PORTFOLIO:
                self.push(frame({"type": "resync", "reason": "not-recovered", "stream": channel}))
        if self.session is not session:
            return  # what was missed was too much for its socket: it is closed and logged out
        subscriptions.inc(len(asked.private - session.private))
        session.private |= asked.private
        if not asked.private.isdisjoint((ORDERS, FILLS)):
            self._server.executions.join(session)
        if PORTFOLIO in asked.private:
            self._server.values.join(session)

    def _unsubscribe(self, asked: Change) -> None:
        self._server.hub.unsubscribe(self.client, asked.streams)
        session = self.session
        if session is not None and asked.private:
            subscriptions.dec(len(session.private & asked.private))
            session.private -= asked.private
            if session.private.isdisjoint((ORDERS, FILLS)):
                self._server.executions.leave(session)
            if PORTFOLIO not in session.private:
                self._server.values.leave(session)
        self.write(frame(_answer("unsubscribed", asked)))

    def _authenticate(self, token: object) -> None:
        if not isinstance(token, str):
            self.write(error_frame("invalid-token", "token is what POST /api/auth/stream-token answers"))
            return
        self._later = []
        self._login = asyncio.create_task(self._log_in(token))

    async def _log_in(self, token: str) -> None:
        try:
            self._admit(await self._server.authenticator.token(token))
        except Problem as problem:
            self.write(error_frame(problem.code, str(problem)))
        except Unavailable as error:
            self.write(error_frame("unavailable", f"The {error.service} does not answer now; try again."))
        finally:
            self._login, waiting, self._later = None, self._later or [], None
        if self.transport is None or self.transport.is_close_frame_sent:
            return
        for number, message in enumerate(waiting):
            if self._later is not None:  # one of them is a login, too
                self._later += waiting[number:]
                break
            self._request(message)

    def _admit(self, user: Principal) -> None:
        if "read" not in user.scopes:
            raise Problem(403, "insufficient-scope", "This needs the scope read.")
        if self.session is not None and self.session.user_id != user.user_id:
            raise Problem(403, "another-user", "The connection belongs to another user.")
        if self.transport is None or self.transport.is_close_frame_sent:
            return
        if self.session is None:
            self.session = Session(self, user.user_id)
        self.session.expires = asyncio.get_running_loop().time() + LOGIN_SECONDS
        told: dict[str, Any] = {"type": "authenticated", "user_id": user.user_id}
        self.write(frame({**told, "expires_in": int(LOGIN_SECONDS)}))

    def _log_out(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            self._server.executions.leave(session)
            self._server.values.leave(session)
            subscriptions.dec(len(session.private))


def _nowhere(_: bytes) -> None:
    """Takes what is written to a connection that is not open."""


def _answer(kind: str, asked: Change) -> dict[str, Any]:
    answer: dict[str, Any] = {"type": kind}
    if asked.symbols is not None:
        answer["symbols"] = asked.symbols
    if asked.channels is not None:
        answer["channels"] = asked.channels
    return answer
