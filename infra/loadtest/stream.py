"""Many WebSocket clients of the price stream in one process."""

import asyncio
import contextlib
import logging
import random
import resource
import ssl
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from picows import WSError, ws_connect

from infra.errors import TradestackError
from infra.loadtest.arrival import Schedule, until
from infra.loadtest.client import StreamClient
from infra.loadtest.latencies import Latencies
from infra.loadtest.messages import Reader

_SPARE_FILES = 64
_GOODBYE_SECONDS = 2.0
_FIRST_SOURCE = IPv4Address("127.1.0.1")
"""Source addresses begin here; the machine itself uses those below."""
_BACK_SECONDS = 0.5
"""Mean of the first wait before a client that was asked back connects again; it doubles with each attempt."""


@dataclass(frozen=True)
class Listening:
    """What the connections of a load listen to."""

    urls: Sequence[str]
    """Servers of one stream; connections take turns."""
    symbols: Sequence[str]
    each: int = 1
    """Symbols of a connection, taken in turn."""
    channels: Sequence[str] = ()
    """Such as `ticker` or `candles:1m`; without any the request names none, which means `ticker`."""
    resume: bool = False
    """Connect again when the server asks for it, and go on where the streams were left."""
    clients_per_address: int | None = None
    """Connections of one source address, 127.1.0.1 and the following; None leaves it to the system."""
    tls: ssl.SSLContext | None = None
    """Of `wss`; None trusts what the system trusts."""
    timeout: float = 10.0
    """Seconds for a handshake, and to come back."""

    def names_of(self, number: int) -> list[str]:
        """The symbols of a connection."""
        first = number * self.each
        return [self.symbols[(first + step) % len(self.symbols)] for step in range(self.each)]


class StreamLoad:
    """Opens connections at the moments of a schedule, holds all of them for some seconds and listens.

    The delivery latency of a message is the clock here less the time in the message, so it is as good as the
    two clocks agree. Snapshots repeat what may be old and have none. A gap is told when a snapshot covers it,
    and untold when a continuation simply leaves numbers out or begins another epoch. `around` is entered when
    all connections are open and left when they were held.
    """

    def __init__(
        self,
        listening: Listening,
        *,
        schedule: Schedule,
        hold: float,
        max_messages: int,
        settle: float = 0.0,
        around: AbstractContextManager[object] | None = None,
    ) -> None:
        """`settle` are seconds between the last subscription's answer and the beginning of the holding."""
        self._listening = listening
        self._schedule = schedule
        self._hold = hold
        self._max_messages = max_messages
        self._settle = settle
        self._around = around or nullcontext()
        self._full = asyncio.Event()
        self._ended = False
        self._begun = 0.0
        self._fewer = asyncio.Event()
        self._returning: set[asyncio.Task[None]] = set()
        self.reader = Reader()
        self.clients: set[StreamClient] = set()
        self._all: list[StreamClient] = []
        self.connects = Latencies()
        """From when a connection was due to the end of its handshake."""
        self.latencies = Latencies()
        self.failures: dict[str, int] = {}
        self.due = 0
        self.messages = 0
        self.told_gaps = self.untold_gaps = self.repeats = self.clock_behind = 0
        self.reconnects = self.resumed_whole = self.resumed_anew = 0
        self.complete = False
        self.seconds = 0.0
        self.held_from = 0.0
        """Seconds after the beginning when all connections had been opened."""
        self.held_seconds = 0.0
        self.held_messages = 0
        """Messages of that time."""

    @property
    def gaps_by_connection(self) -> list[int]:
        """Gaps of each connection that was ever open, ascending."""
        return sorted(client.gaps for client in self._all)

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
            for task in (work, *waits, *self._returning):
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
        if self._settle:
            await self._settled()
        self.held_from, before = time.monotonic() - self._begun, self.messages
        with self._around:
            try:
                await asyncio.sleep(self._hold)
            finally:
                self.held_seconds = time.monotonic() - self._begun - self.held_from
                self.held_messages = self.messages - before

    async def _settled(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._listening.timeout):
                while not all(client.subscribed for client in self.clients):  # noqa: ASYNC110 - rare
                    await asyncio.sleep(0.05)
        await asyncio.sleep(self._settle)

    async def _connect(self, number: int, due: float) -> None:
        given = self._listening
        client = StreamClient(self, number, given.names_of(number), given.channels)
        self._all.append(client)
        try:
            async with asyncio.timeout(given.timeout):
                await self._open(client)
        except TimeoutError:
            self.fail("connect: timeout")
        except (OSError, WSError) as error:
            self.fail(f"connect: {type(error).__name__}")
        else:
            self.connects.add(due - self._begun, (time.monotonic() - due) * 1000)

    async def _open(self, client: StreamClient) -> None:
        given, options = self._listening, dict[str, Any]()
        if given.clients_per_address is not None:
            source = _FIRST_SOURCE + client.number // given.clients_per_address
            options["local_addr"] = (str(source), 0)
        await ws_connect(
            lambda: client,
            given.urls[client.number % len(given.urls)],
            ssl_context=given.tls,
            websocket_handshake_timeout=given.timeout,
            # A redirect could lead to where the load may not go.
            max_redirects=0,
            read_buffer_init_size=2048,
            **options,
        )

    async def _return(self, client: StreamClient) -> None:
        pause = _BACK_SECONDS
        try:
            async with asyncio.timeout(self._listening.timeout):
                while True:
                    # Spread, as clients that return all at once would only bring the next server down.
                    await asyncio.sleep(random.uniform(0, 2 * pause))  # noqa: S311 - jitter
                    pause *= 2
                    with contextlib.suppress(OSError, WSError):
                        await self._open(client)
                        self.reconnects += 1
                        return
        except TimeoutError:
            self.fail("not back in time")

    async def _end(self) -> None:
        self._ended = True
        self.seconds = time.monotonic() - self._begun
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

    def joined(self, client: StreamClient) -> None:
        """See `client.Load`."""
        self.clients.add(client)

    def left(self, client: StreamClient) -> None:
        """See `client.Load`."""
        self.clients.discard(client)
        self._fewer.set()
        if self._ended:
            return
        if self._listening.resume and client.asked_back:
            task = asyncio.get_running_loop().create_task(self._return(client))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)
        else:
            self.fail("lost")

    def received(self) -> None:
        """See `client.Load`."""
        self.messages += 1
        if self.messages >= self._max_messages:
            self._full.set()

    def delivered(self, ms: float) -> None:
        """See `client.Load`."""
        if self._ended:
            return
        if ms < 0:
            # Messages have whole milliseconds, so only another clock can be ahead of ours.
            self.clock_behind += 1
            ms = 0.0
        self.latencies.add(time.monotonic() - self._begun, ms)

    def gap(self, *, told: bool) -> None:
        """See `client.Load`."""
        if told:
            self.told_gaps += 1
        else:
            self.untold_gaps += 1

    def repeated(self) -> None:
        """See `client.Load`."""
        self.repeats += 1

    def recovered(self, *, whole: bool) -> None:
        """See `client.Load`."""
        if whole:
            self.resumed_whole += 1
        else:
            self.resumed_anew += 1

    def fail(self, what: str) -> None:
        """See `client.Load`."""
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
