"""Many WebSocket clients of the price stream in one process."""

import asyncio
import contextlib
import logging
import resource
import time
from collections.abc import Sequence
from typing import Any

import orjson
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from app.price_service.sequence import SequenceTracker, Verdict
from infra.errors import TradestackError
from infra.loadtest.arrival import Schedule, until
from infra.loadtest.latencies import Latencies

_SPARE_FILES = 64
_GOODBYE_SECONDS = 2.0


class _Client(WSListener):
    """One connection: reads the stream of its symbols."""

    def __init__(self, load: "StreamLoad", symbols: Sequence[str]) -> None:
        self._load = load
        self._request = orjson.dumps({"op": "subscribe", "symbols": symbols})
        self._tracker = SequenceTracker()
        self.transport: WSTransport | None = None
        self.gaps = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called once, after the handshake."""
        self.transport = transport
        self._load.clients.add(self)
        transport.send(WSMsgType.TEXT, self._request)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Called once, however the connection ended."""
        self.transport = None
        self._load.left(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called for each frame; pings are answered before they come here."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        if frame.msg_type != WSMsgType.TEXT:
            return
        now = time.time() * 1000
        self._load.received()
        try:
            message = orjson.loads(frame.get_payload_as_memoryview())
            self._take(message["type"], message, now)
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._load.fail("unreadable")

    def _take(self, kind: str, message: dict[str, Any], now: float) -> None:
        if kind == "tick":
            if (at := message.get("time")) is not None:
                self._load.delivered(now - at)
            self._observe(message, told=False)
        elif kind == "snapshot":
            for tick in message["ticks"]:
                self._observe(tick, told=True)
        elif kind == "error":
            self._load.fail(f"refused: {message['code']}")

    def _observe(self, tick: dict[str, Any], *, told: bool) -> None:
        verdict = self._tracker.observe(tick["symbol"], tick["epoch"], tick["seq"])
        if verdict in (Verdict.GAP, Verdict.NEW_EPOCH):
            self.gaps += 1
            if told:
                self._load.told_gaps += 1
            else:
                self._load.untold_gaps += 1
        elif verdict is Verdict.REPEATED and not told:
            self._load.repeated += 1


class StreamLoad:
    """Opens connections at the moments of a schedule, holds all of them for some seconds and listens.

    The delivery latency of a tick is the clock here less the time in the tick, so it is as good as the two
    clocks agree. Snapshots repeat what may be old and have none. A gap is told when a snapshot covers it, and
    untold when a tick simply leaves numbers out or begins another epoch.
    """

    def __init__(
        self,
        url: str,
        symbols: Sequence[str],
        *,
        each: int,
        schedule: Schedule,
        hold: float,
        max_messages: int,
        timeout: float,
    ) -> None:
        self._url = url
        self._symbols = symbols
        self._each = each
        self._schedule = schedule
        self._hold = hold
        self._max_messages = max_messages
        self._timeout = timeout
        self._full = asyncio.Event()
        self._ended = False
        self._begun = 0.0
        self._fewer = asyncio.Event()
        self.clients: set[_Client] = set()
        self._gaps_of_gone: list[int] = []
        self.connects = Latencies()
        """From when a connection was due to the end of its handshake."""
        self.latencies = Latencies()
        self.failures: dict[str, int] = {}
        self.due = 0
        self.messages = 0
        self.told_gaps = self.untold_gaps = self.repeated = self.clock_behind = 0
        self.complete = False
        self.seconds = 0.0
        self.held_seconds = 0.0
        """How long all connections had been opened."""
        self.held_messages = 0
        """Messages of that time."""

    @property
    def gaps_by_connection(self) -> list[int]:
        """Gaps of each connection that was ever open, ascending."""
        return sorted([*self._gaps_of_gone, *(client.gaps for client in self.clients)])

    def progress(self) -> str:
        """Where the run stands, in words."""
        failed = sum(self.failures.values())
        opened = f"{len(self.connects)} of {self._schedule.count} opened"
        return f"{opened} · {self.messages} messages · {self.latencies.recent()} · {failed} failed"

    async def run(self, stopping: asyncio.Event) -> None:
        """Run to the end, to the greatest number of messages, or until `stopping` is set.

        Raises:
            TradestackError: the system does not let a process have as many connections.
        """
        logging.getLogger("picows").setLevel(logging.CRITICAL)  # what goes wrong is counted
        work = asyncio.create_task(self._work())
        waits = [asyncio.create_task(event.wait()) for event in (stopping, self._full)]
        try:
            await asyncio.wait((work, *waits), return_when=asyncio.FIRST_COMPLETED)
            self.complete = not stopping.is_set()
            if work.done():
                work.result()
        finally:
            for task in (work, *waits):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            await self._end()

    async def _work(self) -> None:
        self._begun = time.monotonic()
        async with asyncio.TaskGroup() as opening:
            for number, offset in enumerate(self._schedule.offsets()):
                due = self._begun + offset
                await until(due)
                self.due += 1
                opening.create_task(self._connect(number, due))
        self._held_from, before = time.monotonic(), self.messages
        try:
            await asyncio.sleep(self._hold)
        finally:
            self.held_seconds = time.monotonic() - self._held_from
            self.held_messages = self.messages - before

    async def _connect(self, number: int, due: float) -> None:
        first = number * self._each
        symbols = [self._symbols[(first + step) % len(self._symbols)] for step in range(self._each)]
        try:
            async with asyncio.timeout(self._timeout):
                await ws_connect(
                    lambda: _Client(self, symbols),
                    self._url,
                    websocket_handshake_timeout=self._timeout,
                    # A redirect could lead to where the load may not go.
                    max_redirects=0,
                    read_buffer_init_size=2048,
                )
        except TimeoutError:
            self.fail("connect: timeout")
        except (OSError, WSError) as error:
            self.fail(f"connect: {type(error).__name__}")
        else:
            self.connects.add(due - self._begun, (time.monotonic() - due) * 1000)

    async def _end(self) -> None:
        self._ended = True
        self.seconds = time.monotonic() - self._begun
        self._gaps_of_gone = self.gaps_by_connection
        for client in self.clients:
            if client.transport is not None:
                client.transport.send_close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                while self.clients:
                    self._fewer.clear()
                    await self._fewer.wait()
        for client in tuple(self.clients):
            if client.transport is not None:
                client.transport.disconnect(graceful=False)
        self.clients.clear()

    def left(self, client: _Client) -> None:
        """A connection ended."""
        self.clients.discard(client)
        self._fewer.set()
        if not self._ended:
            self._gaps_of_gone.append(client.gaps)
            self.fail("lost")

    def received(self) -> None:
        """A message came."""
        self.messages += 1
        if self.messages >= self._max_messages:
            self._full.set()

    def delivered(self, ms: float) -> None:
        """A tick came `ms` after its time."""
        if self._ended:
            return
        if ms < 0:
            # Ticks have whole milliseconds, so only another clock can be ahead of ours.
            self.clock_behind += 1
            ms = 0.0
        self.latencies.add(time.monotonic() - self._begun, ms)

    def fail(self, what: str) -> None:
        """Count a failure."""
        if not self._ended:
            self.failures[what] = self.failures.get(what, 0) + 1


def allow_files(connections: int) -> None:
    """Raise the process's limit of open files as far as the connections need.

    Raises:
        TradestackError: the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise TradestackError(
            f"{connections} connections need {needed} open files; this process may have {hard}",
            hint=f"ulimit -Hn {needed}",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
