"""How other roles reach the matching engine: at its leader, in batches, again after an outage."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import orjson
from pydantic import ValidationError

from app.kit import internal, logs
from app.kit.errors import Unavailable
from app.kit.problems import Problem
from app.kit.runtime import Runtime
from app.matching_client.commands import (
    BOOKS_PATH,
    COMMANDS,
    COMMANDS_PATH,
    DEPTH_PATH,
    LARGEST_BATCH,
    RELOAD_RISK_PATH,
    REPUBLISH_PATH,
    RESULTS,
    Command,
    Depth,
    PublishedBooks,
    Republish,
    Result,
)
from app.matching_client.transport import Answer, Broken, Connections

RETRY_SECONDS: Final = 5.0
"""After this a caller is told that the engine is unavailable; a new leader takes over well within it."""
MOST_REQUESTS: Final = 4
"""Requests with commands in flight at once."""
PATIENCE_SECONDS: Final = 0.005
"""How long a command waits for an answer to the request before it, so that it goes along with others."""
_SERVICE: Final = "matching-engine"
_CONNECT_SECONDS: Final = 1.0
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5
_HOPS: Final = 3
_MISDIRECTED: Final = 421
_CALLERS_FAULT: Final = frozenset({400, 409, 422})
_log = logs.get(__name__)
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Call:
    command: Command
    answer: asyncio.Future[Result]


class MatchingClient:
    """The matching engine as other roles see it.

    Every method raises Unavailable when there is no answer within 5 s. It is then not known whether the
    engine did what was asked; asking again is safe, because a `client_order_id` enters one order only and
    all else is the same when done twice.

    Commands that are submitted at the same time go in one request. Nothing is said about the order in which
    those arrive that do not wait for each other's answers.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._leader = _Leader(runtime)
        self._waiting: deque[_Call] = deque()
        self._requests: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None

    async def submit(self, command: Command) -> Result:
        """Let the engine carry a command out.

        Raises:
            Unavailable: no answer in time; safe to submit again.
            Problem: the engine does not take the command at all.
        """
        loop = asyncio.get_running_loop()
        call = _Call(command, loop.create_future())
        self._waiting.append(call)
        if len(self._waiting) >= LARGEST_BATCH:
            self._send()
        elif self._timer is None:
            if self._requests:
                self._timer = loop.call_later(PATIENCE_SECONDS, self._send)
            else:
                self._timer = loop.call_soon(self._send)
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                return await call.answer
        except TimeoutError:
            raise Unavailable(_SERVICE, self._leader.trouble) from None

    async def republish(self, symbol: str, after: int) -> None:
        """Have the changes of a symbol behind sequence `after` published again.

        Raises:
            Unavailable: no answer in time.
            Problem: the engine has no such place in its journal.
        """
        body = Republish(symbol=symbol, after=after).model_dump_json().encode()
        await _retried(lambda: self._leader.ask("POST", REPUBLISH_PATH, body))

    async def depth(self, symbol: str, levels: int) -> Depth:
        """The best levels of a book, at most `levels` (1 to LARGEST_DEPTH) of each side.

        Raises:
            Unavailable: no answer in time.
            Problem: there is no such symbol, or `levels` is out of bounds.
        """
        target = f"{DEPTH_PATH}?{urlencode({'symbol': symbol, 'levels': levels})}"
        body = await _retried(lambda: self._leader.ask("GET", target))
        return self._leader.read(Depth.model_validate_json, body)

    async def books(self) -> PublishedBooks:
        """Every book as it was published last, for those who begin to follow `book.updates` or lost it.

        Raises:
            Unavailable: no answer in time.
        """
        body = await _retried(lambda: self._leader.ask("GET", BOOKS_PATH))
        return self._leader.read(PublishedBooks.model_validate_json, body)

    async def reload_risk(self) -> None:
        """Let the engine take limits and switches as the database has them now; returns when they count.

        Raises:
            Unavailable: no answer in time.
        """
        await _retried(lambda: self._leader.ask("POST", RELOAD_RISK_PATH))

    async def close(self) -> None:
        """Give up what is under way; its callers are told that the engine is unavailable."""
        requests = tuple(self._requests)
        for task in requests:
            task.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        _give_up(self._waiting, "the client is closed")
        self._waiting.clear()
        self._leader.close()

    def _send(self) -> None:
        """Send what waits, in as many requests as may be in flight."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and len(self._requests) < MOST_REQUESTS:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_BATCH))]
            task = asyncio.create_task(self._carry(batch))
            self._requests.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        if not task.cancelled():
            self._send()

    async def _carry(self, calls: Sequence[_Call]) -> None:
        """Have every call answered for which somebody still waits."""
        try:
            pause = _FIRST_PAUSE
            while open_calls := [call for call in calls if not call.answer.done()]:
                if await self._attempt(open_calls):
                    continue
                if pause == _FIRST_PAUSE:
                    _log.warning("commands wait", reason=self._leader.trouble, commands=len(open_calls))
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
                pause = min(pause * 2, _LONGEST_PAUSE)
        except Exception as error:
            _log.exception("commands could not be sent")
            _give_up(calls, repr(error))
        finally:
            _give_up(calls, "the client is closed")

    async def _attempt(self, calls: Sequence[_Call]) -> bool:
        """Ask once for all calls; whether each got an answer."""
        try:
            body = await self._leader.ask(
                "POST", COMMANDS_PATH, COMMANDS.dump_json([call.command for call in calls])
            )
            results = self._leader.read(RESULTS.validate_json, body)
            if len(results) != len(calls):
                raise self._leader.unavailable(f"{len(results)} answers to {len(calls)} commands")
        except Unavailable:
            return False
        except Problem as problem:
            # A batch is refused as a whole, before anything of it is done: its parts tell whose fault it is.
            if len(calls) == 1:
                _tell(calls[0], problem)
                return True
            half = len(calls) // 2
            parts = [await self._attempt(part) for part in (calls[:half], calls[half:])]
            return all(parts)
        for call, result in zip(calls, results, strict=True):
            if result is not None:
                _tell(call, result)
        return None not in results


class _Leader:
    """Requests to the replica of the engine that leads, wherever it is now."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._address: str | None = None
        """Where a replica said the leader is."""
        self.trouble = "no answer in time"
        """Why the last request failed."""
        self._connections = Connections(_CONNECT_SECONDS)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    async def ask(self, method: str, target: str, body: bytes = b"") -> bytes:
        """The body of the leader's answer.

        Raises:
            Unavailable: there is no leader, it does not answer, or it cannot now.
            Problem: it refuses the request.
        """
        headers = internal.headers(self._runtime.settings)
        if body:
            headers["Content-Type"] = "application/json"
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                for _ in range(_HOPS):
                    address = self._address or self._runtime.upstream(_SERVICE)
                    answer = await self._connections.request(method, address, target, headers, body)
                    if answer.status != _MISDIRECTED:
                        return self._checked(answer)
                    self._address = _document(answer).get("leader")
                    if self._address is None:
                        break
        except Broken as error:
            raise self.unavailable(str(error)) from None
        except TimeoutError:
            raise self.unavailable("no answer in time") from None
        raise self.unavailable("it has no leader now")

    def read(self, parse: Callable[[bytes], T], body: bytes) -> T:
        """What `parse` makes of an answer.

        Raises:
            Unavailable: it is not what this version understands.
        """
        try:
            return parse(body)
        except ValidationError as error:
            raise self.unavailable(f"its answer is not understood: {error}") from None

    def _checked(self, answer: Answer) -> bytes:
        if 200 <= answer.status < 300:
            return answer.body
        document = _document(answer)
        code, detail = str(document.get("code", "refused")), str(document.get("detail", ""))
        if answer.status in _CALLERS_FAULT:
            raise Problem(answer.status, code, detail)
        raise self.unavailable(f"{answer.status} {code}: {detail}")

    def unavailable(self, trouble: str) -> Unavailable:
        """The error for a request that failed; the next one looks for the leader anew."""
        self._address = None
        self.trouble = trouble
        return Unavailable(_SERVICE, trouble)


async def _retried(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` gives, tried again while it raises Unavailable and there is time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + RETRY_SECONDS
    pause = _FIRST_PAUSE
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return await ask()
        except TimeoutError:
            raise Unavailable(_SERVICE, "no answer in time") from None
        except Unavailable:
            if loop.time() + pause > deadline:
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        pause = min(pause * 2, _LONGEST_PAUSE)


def _document(answer: Answer) -> dict[str, Any]:
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _tell(call: _Call, answer: Result | Problem) -> None:
    if call.answer.done():
        return
    if isinstance(answer, Problem):
        call.answer.set_exception(answer)
    else:
        call.answer.set_result(answer)


def _give_up(calls: Sequence[_Call] | deque[_Call], reason: str) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(Unavailable(_SERVICE, reason))
