"""Requests over HTTP/1.1 at the moments of a schedule, whatever the answers do."""

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import cast
from urllib.parse import SplitResult

import httptools

from infra.errors import TradestackError
from infra.loadtest.arrival import Schedule, until
from infra.loadtest.latencies import Latencies

_OPENING = 50
"""Connections that are opened at the same time."""
_REOPEN_SECONDS = 0.2
_TURN = 64
"""Requests that are sent without a look at the answers when the schedule is behind."""

Answered = Callable[[str, bytes], None]


class _Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self, load: "HttpLoad") -> None:
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._begun = self._bounded = False
        self.due: float | None = None
        """When the request that waits for its answer was due; None when there is none."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, due: float) -> None:
        """Write a request that was due at `due` (seconds of the monotonic clock)."""
        self.due = due
        self._body = b""
        self._begun = self._bounded = False
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self.due is None:
            self.transport.abort()  # an answer that nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._bounded |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._begun = True

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body += body

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._parser.get_status_code() < 200 or self.due is None:
            return
        self._answer(reusable=self._parser.should_keep_alive())

    def _answer(self, *, reusable: bool) -> None:
        assert self.due is not None  # noqa: S101 - a request was sent
        due, self.due = self.due, None
        self._load.answered(self, due, str(self._parser.get_status_code()), self._body, reusable=reusable)

    def connection_lost(self, error: Exception | None) -> None:
        if self.due is not None and error is None and self._begun and not self._bounded:
            self._answer(reusable=False)  # an answer without a length ends with its connection
        self._load.lost(self)


class HttpLoad:
    """Sends what `request` makes of a number, in order, and times each from when it was due.

    Requests that find no free connection wait for one, and their latency includes the wait. A connection that
    breaks is opened again; what was on it is told as status "lost". What has no answer when the run ends is
    `unanswered`, and its age at that moment counts as its latency. `tls` is for https; None trusts what the
    system trusts.
    """

    def __init__(
        self,
        origin: SplitResult,
        request: Callable[[int], bytes],
        schedule: Schedule,
        *,
        connections: int,
        timeout: float = 60.0,
        answered: Answered | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._origin = origin
        self._tls = tls
        self._request = request
        self._schedule = schedule
        self._wanted = connections
        self._timeout = timeout
        self._answered = answered
        self._all: set[_Connection] = set()
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[tuple[int, float]] = deque()
        self._reopening: set[asyncio.Task[None]] = set()
        self._done = asyncio.Event()
        self._ended = False
        self._open = 0
        self._begun = 0.0
        self.latencies = Latencies()
        self.lag = Latencies()
        """How late the load itself was in looking at what was due."""
        self.statuses: dict[str, int] = {}
        self.due = 0
        self.late_starts = 0
        """Requests that waited for a free connection."""
        self.unanswered = 0
        self.complete = False
        self.seconds = 0.0

    def progress(self) -> str:
        """Where the run stands, in words."""
        answered = sum(self.statuses.values())
        failed = sum(self.failures().values())
        return f"{self.due} due · {answered} answered · {self.latencies.recent()} · {failed} failed"

    def failures(self) -> dict[str, int]:
        """Statuses other than 2xx and 3xx, with how often each came."""
        return {status: n for status, n in self.statuses.items() if not status.startswith(("2", "3"))}

    async def run(self, stopping: asyncio.Event) -> None:
        """Run the schedule to its end and wait for the last answers, or end at once when `stopping` is set.

        Raises:
            TradestackError: a connection could not be opened before the first request.
        """
        work = asyncio.create_task(self._work())
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
            self.complete = work.done()
            if self.complete:
                work.result()
        finally:
            for task in (work, stop, *self._reopening):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            self._end()

    async def _work(self) -> None:
        for _ in range(0, self._wanted, _OPENING):
            number = min(_OPENING, self._wanted - len(self._all))
            try:
                await asyncio.gather(*(self._connect() for _ in range(number)))
            except OSError as error:
                raise TradestackError(f"{self._origin.netloc} cannot be reached: {error}") from None
        self._begun = time.monotonic()
        for number, offset in enumerate(self._schedule.offsets()):
            due = self._begun + offset
            if number % _TURN == 0:
                await asyncio.sleep(0)
            self.lag.add(offset, await until(due) * 1000)
            self._send(number, due)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                while self._open:
                    self._done.clear()
                    await self._done.wait()

    def _end(self) -> None:
        self._ended = True
        now = time.monotonic()
        self.seconds = now - self._begun if self._begun else 0.0
        left = [connection.due for connection in self._all if connection.due is not None]
        left += [due for _, due in self._waiting]
        self.unanswered = len(left)
        for due in left:
            self.latencies.add(due - self._begun, (now - due) * 1000)
        for connection in tuple(self._all):
            connection.transport.abort()

    async def _connect(self) -> None:
        host, secure = self._origin.hostname or "", self._origin.scheme == "https"
        port = self._origin.port or (443 if secure else 80)
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self), host, port, ssl=(self._tls or True) if secure else None
        )
        self._all.add(connection)
        self._free(connection)

    async def _reopen(self) -> None:
        while not self._ended:
            try:
                await self._connect()
            except OSError:
                await asyncio.sleep(_REOPEN_SECONDS)
            else:
                return

    def _send(self, number: int, due: float) -> None:
        self.due += 1
        self._open += 1
        if self._idle:
            self._idle.popleft().send(self._request(number), due)
        else:
            self.late_starts += 1
            self._waiting.append((number, due))

    def _free(self, connection: _Connection) -> None:
        if self._waiting:
            number, due = self._waiting.popleft()
            connection.send(self._request(number), due)
        else:
            self._idle.append(connection)

    def answered(
        self, connection: _Connection, due: float, status: str, body: bytes, *, reusable: bool
    ) -> None:
        """Take an answer and give the connection its next request."""
        self.latencies.add(due - self._begun, (time.monotonic() - due) * 1000)
        self._count(status)
        if self._answered is not None:
            self._answered(status, body)
        if reusable:
            self._free(connection)
        else:
            connection.transport.close()

    def lost(self, connection: _Connection) -> None:
        """A connection ended: what was on it has no answer."""
        if self._ended:
            return
        self._all.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if connection.due is not None:
            self._count("lost")
        task = asyncio.get_running_loop().create_task(self._reopen())
        self._reopening.add(task)
        task.add_done_callback(self._reopening.discard)

    def _count(self, status: str) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self._open -= 1
        self._done.set()
