"""Clients of price servers in one process, and what the servers need meanwhile.

Run as `python -m infra.bench.fanout_clients`: `Clients` as JSON on standard input; on standard output lines
of JSON, `{"progress": …}` and at the end `{"seen": …}` with a `Seen`. It reads the processor time of the
servers itself, so that it is taken at the very moments between which frames are counted.
"""

import asyncio
import json
import sys
from array import array
from dataclasses import asdict, dataclass, field

import psutil
import uvloop

from app.process import stop_on_signal
from infra.loadtest.arrival import Schedule
from infra.loadtest.latencies import percentile
from infra.loadtest.stream import Listening, StreamLoad, allow_files

_REFRESH_SECONDS = 1.0
_CONNECT_SECONDS = 30.0


@dataclass(frozen=True)
class Clients:
    """What to connect."""

    urls: list[str]
    pids: list[int]
    """Processes of the servers."""
    symbols: list[str]
    symbols_each: int
    """Symbols of a client, taken in turn."""
    clients: int
    seconds: float
    """How long frames are counted, once all are subscribed."""
    settle: float = 1.0
    """Seconds before that."""
    connect_rate: float = 1000.0
    """Connections opened a second."""
    clients_per_address: int = 2500
    """Connections of one source address."""


@dataclass
class Seen:
    """What came."""

    opened: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    frames: int = 0
    """Ticks that came to clients, as continuations, in these seconds."""
    least_frames: int = 0
    """Messages of the client that got the fewest."""
    p50_ms: float | None = None
    """Delivery latencies of these seconds."""
    p99_ms: float | None = None
    max_ms: float | None = None
    gaps_told: int = 0
    gaps_untold: int = 0
    repeated: int = 0
    servers_cpu_s: float = 0.0
    """User and system time of the servers in these seconds."""
    clients_cpu_s: float = 0.0
    rss_before: int = 0
    """Resident bytes of the servers before the first connection."""
    rss_after: int = 0
    """The same at the end of these seconds, with all connections open."""


class _Window:
    """Figures of the servers and the clients from its beginning to its end."""

    def __init__(self, servers: list[psutil.Process], seen: Seen) -> None:
        self._servers = servers
        self._self = psutil.Process()
        self._seen = seen
        self.load: StreamLoad | None = None

    def __enter__(self) -> None:
        assert self.load is not None  # noqa: S101 - set before the run
        self._from = len(self.load.latencies)
        self._counts = {client: client.messages for client in self.load.clients}
        self._seen.servers_cpu_s = -_cpu_seconds(self._servers)
        self._seen.clients_cpu_s = -_cpu_seconds([self._self])

    def __exit__(self, *_: object) -> None:
        seen, load = self._seen, self.load
        assert load is not None  # noqa: S101 - set before the run
        seen.servers_cpu_s += _cpu_seconds(self._servers)
        seen.clients_cpu_s += _cpu_seconds([self._self])
        seen.rss_after = _resident(self._servers)
        delivered: array[float] = load.latencies.ms[self._from :]
        seen.frames = len(delivered)
        seen.least_frames = min((c.messages - n for c, n in self._counts.items()), default=0)
        if delivered:
            ordered = sorted(delivered)
            seen.p50_ms, seen.p99_ms = percentile(ordered, 0.5), percentile(ordered, 0.99)
            seen.max_ms = ordered[-1]


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def _resident(processes: list[psutil.Process]) -> int:
    return sum(process.memory_info().rss for process in processes)


async def listen(given: Clients) -> Seen:
    """Connect, listen, say goodbye.

    Raises:
        TradestackError: the system does not let a process have as many connections.
    """
    allow_files(given.clients)
    servers, seen = [psutil.Process(pid) for pid in given.pids], Seen()
    window = _Window(servers, seen)
    load = window.load = StreamLoad(
        Listening(
            given.urls,
            given.symbols,
            given.symbols_each,
            clients_per_address=given.clients_per_address,
            timeout=_CONNECT_SECONDS,
        ),
        schedule=Schedule(given.connect_rate, given.clients / given.connect_rate, given.clients),
        hold=given.seconds,
        max_messages=sys.maxsize,
        settle=given.settle,
        around=window,
    )
    seen.rss_before = _resident(servers)
    run = asyncio.create_task(load.run(stop_on_signal()))
    while not run.done():
        await asyncio.wait((run,), timeout=_REFRESH_SECONDS)
        print(json.dumps({"progress": load.progress()}), flush=True)
    await run
    seen.opened, seen.failures, seen.seconds = len(load.connects), load.failures, load.held_seconds
    seen.gaps_told, seen.gaps_untold, seen.repeated = load.told_gaps, load.untold_gaps, load.repeats
    return seen


def main() -> None:
    """Run the clients of standard input."""
    seen = uvloop.run(listen(Clients(**json.load(sys.stdin))))
    print(json.dumps({"seen": asdict(seen)}), flush=True)


if __name__ == "__main__":
    main()
