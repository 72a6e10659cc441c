"""What a client asks for over its WebSocket, and what it is answered.

A request is a JSON object with `op` and, if wanted, `id`, which comes back in the answer. Answers come when
they are there, which need not be in the order of the requests.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.kit import logs
from app.kit.auth import Principal
from app.kit.errors import Unavailable
from app.kit.problems import Problem
from app.orders.schemas import LONGEST_CANCEL_AFTER, OrderId, PlaceBody, ReplaceBody, Seconds, SymbolText
from app.orders.service import Trading

MOST_IN_FLIGHT = 128
"""Requests of one client that wait for an answer."""
SHORTEST_SWITCH = 5
"""Seconds of `cancel_on_disconnect`, so that its renewal costs the engine little."""
_RENEWALS = 3
"""How often the switch is renewed in the time it is set to."""
_LONGEST_ID = 64
_log = logs.get(__name__)
Content = dict[str, Any]


class Peer(Protocol):
    """The connection of a conversation."""

    def push(self, message: Content) -> None:
        """Send a message; never blocks."""

    async def log_in(self, token: str) -> Principal:
        """Who a token is of; raises Problem, Unavailable."""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Nothing(_Request):
    pass


class _Login(_Request):
    token: str = Field(max_length=4096)


class _Cancel(_Request):
    order_id: OrderId


class _Replace(ReplaceBody):
    order_id: OrderId


class _CancelAll(_Request):
    symbol: SymbolText | None = None


class _CancelAfter(_Request):
    seconds: Seconds


class Conversation:
    """One client's requests and its dead-man switch."""

    def __init__(self, trading: Trading, peer: Peer) -> None:
        self._trading = trading
        self._peer = peer
        self.user: Principal | None = None
        self.logging_in: asyncio.Task[None] | None = None
        """The login by the headers of the handshake, which requests wait for."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._switch: asyncio.Task[None] | None = None

    def take(self, message: str) -> None:
        """Deal with a request, beside those before it."""
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError as error:
            self._error(None, "invalid-json", str(error))
            return
        id = request.pop("id", None) if isinstance(request, dict) else None
        if not isinstance(id, str | int | None) or len(str(id)) > _LONGEST_ID:
            self._error(None, "invalid-id", f"id is a text or a number of at most {_LONGEST_ID} letters")
            return
        op = request.pop("op", None) if isinstance(request, dict) else None
        if not isinstance(op, str) or op not in _OPERATIONS:
            self._error(id, "unknown-op", f"op is one of {', '.join(_OPERATIONS)}")
        elif len(self._tasks) >= MOST_IN_FLIGHT:
            self._error(id, "too-many-requests", f"at most {MOST_IN_FLIGHT} requests wait for an answer")
        else:
            task = asyncio.create_task(self._answer(op, id, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def greet(self) -> None:
        """Tell the client that it is logged in by the headers of its handshake."""
        assert self.user is not None  # noqa: S101 - just logged in
        self._peer.push({"type": "login", "user_id": self.user.user_id})

    def end(self) -> None:
        """The client has gone: its switch is no longer renewed. What it asked for is still carried out."""
        if self._switch is not None:
            self._switch.cancel()

    async def _answer(self, op: str, id: str | int | None, request: Content) -> None:
        schema, handle, scope = _OPERATIONS[op]
        named: Content = {} if id is None else {"id": id}
        try:
            if self.logging_in is not None:
                await asyncio.wait((self.logging_in,))
            if scope is not None:
                self._check(scope)
            answer = await handle(self, schema.model_validate(request))
            self._peer.push({"type": op if op != "ping" else "pong", **named, **answer})
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            self._error(id, "invalid-request", told)
        except Problem as problem:
            self._error(id, problem.code, str(problem), **problem.members)
        except Unavailable as error:
            self._error(id, "unavailable", f"The {error.service} does not answer now; try again.")
        except Exception:
            _log.exception("a request failed", op=op)
            self._error(id, "internal-error", "Something went wrong on our side.")

    def _check(self, scope: str) -> None:
        if self.user is None:
            raise Problem(401, "authentication-required", "Log in first.")
        if scope not in self.user.scopes:
            raise Problem(403, "insufficient-scope", f"This needs the scope {scope}.")

    def _error(self, id: str | int | None, code: str, detail: str, **members: object) -> None:
        named = {} if id is None else {"id": id}
        self._peer.push({"type": "error", **named, "code": code, "detail": detail, **members})

    @property
    def _owner(self) -> str:
        assert self.user is not None  # noqa: S101 - checked before the operation
        return self.user.user_id

    async def _login(self, request: _Login) -> Content:
        user = await self._peer.log_in(request.token)
        return {"user_id": user.user_id}

    async def _ping(self, _: _Nothing) -> Content:
        return {}

    async def _place(self, request: PlaceBody) -> Content:
        answer = await self._trading.place(self._owner, request)
        return {"order": answer.orders[0], "replayed": answer.replayed}

    async def _cancel(self, request: _Cancel) -> Content:
        return {"order": await self._trading.cancel(self._owner, request.order_id)}

    async def _replace(self, request: _Replace) -> Content:
        return {"order": await self._trading.replace(self._owner, request.order_id, request)}

    async def _cancel_all(self, request: _CancelAll) -> Content:
        await self._trading.cancel_all(self._owner, request.symbol)
        return {}

    async def _cancel_after(self, request: _CancelAfter) -> Content:
        return dict(await self._trading.cancel_after(self._owner, request.seconds))

    async def _cancel_on_disconnect(self, request: _CancelAfter) -> Content:
        """The engine's own switch is renewed for as long as the connection lives: it works, too, when this
        process dies."""
        seconds = request.seconds
        if 0 < seconds < SHORTEST_SWITCH:
            raise Problem(
                422, "invalid-request", f"seconds: 0 or {SHORTEST_SWITCH} to {LONGEST_CANCEL_AFTER}"
            )
        if self._switch is not None:
            self._switch.cancel()
            self._switch = None
        await self._trading.cancel_after(self._owner, seconds)
        if seconds:
            self._switch = asyncio.create_task(self._renew(self._owner, seconds))
        return {"seconds": seconds}

    async def _renew(self, owner: str, seconds: int) -> None:
        while True:
            await asyncio.sleep(seconds / _RENEWALS)
            try:
                await self._trading.cancel_after(owner, seconds)
            except (Unavailable, Problem) as error:
                _log.warning("a switch is not renewed", reason=str(error))


_OPERATIONS: dict[
    str, tuple[type[BaseModel], Callable[[Conversation, Any], Awaitable[Content]], str | None]
] = {
    "login": (_Login, Conversation._login, None),
    "ping": (_Nothing, Conversation._ping, None),
    "place": (PlaceBody, Conversation._place, "trade"),
    "cancel": (_Cancel, Conversation._cancel, "trade"),
    "replace": (_Replace, Conversation._replace, "trade"),
    "cancel_all": (_CancelAll, Conversation._cancel_all, "trade"),
    "cancel_after": (_CancelAfter, Conversation._cancel_after, "trade"),
    "cancel_on_disconnect": (_CancelAfter, Conversation._cancel_on_disconnect, "trade"),
}


def encoded(message: Content) -> bytes:
    """A message as JSON."""
    return orjson.dumps(message, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError
