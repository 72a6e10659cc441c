"""The fan-out of prices: our price-service against servers on other libraries, and ten thousand clients."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.instruments import INSTRUMENTS
from infra.bench.fanout_clients import Clients, Seen
from infra.bench.fanout_servers import OURS, PEERS, Backing, Server, on_cores
from infra.bench.report import Report, versions
from infra.errors import TradestackError
from infra.loadtest.stream import allow_files
from infra.progress import Step, Steps
from infra.servers.process import die_with_parent

_WARM_CLIENTS, _WARM_SECONDS = 20, 1.0
SYMBOLS = list(INSTRUMENTS)
Result = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    clients: int = 500
    """Of a server on one core (seed 000: 500 connections a pod)."""
    rate: float = 2.0
    """Mean ticks a second of each symbol: what the simulated feed has by default."""
    symbols_each: int = 5
    """Symbols of a client, so that it gets ten messages a second."""
    seconds: float = 12.0
    rounds: int = 2
    """Every side is measured this often, in turns, and its best round counts: what else the machine does only
    ever makes a round worse."""
    idle: int = 2_000
    """Connections that memory is measured with."""
    tenk_clients: int = 10_000
    """Each follows one symbol."""
    tenk_rate: float = 1.5
    """As `rate`: each client shall get one a second, also where its symbol trades less than the others."""
    tenk_processes: int = 2
    tenk_seconds: float = 40.0
    connect_rate: float = 1_000.0
    """Connections opened a second."""
    lost: float = 0.03
    """Share of the frames asked for that may be missing, as the window may begin and end anywhere between two
    steps of the source; with fewer, a side was not loaded as the others were."""


FULL = Size()
SMALL = Size(
    clients=100,
    seconds=3.0,
    rounds=1,
    idle=200,
    tenk_clients=1_000,
    tenk_seconds=5.0,
    connect_rate=500.0,
    lost=0.2,
)
"""A trial."""


def measure(steps: Steps, size: Size = FULL) -> Report:
    """Each side alone on one core, everything else on the others; then many clients on several processes.

    `us_per_frame` is the server's processor time for each tick that a client received, `p99_ms` from the time
    in the tick to its receipt, `bytes_per_connection` resident memory with idle subscribed connections less
    that without any.

    Raises:
        TradestackError: the machine has one core or too few files, a server ended, or a side did not keep up,
            so that its figures say nothing.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise TradestackError("the benchmark needs two cores: one for the server, one for its clients")
    allow_files(max(size.tenk_clients, size.idle))
    with tempfile.TemporaryDirectory(prefix="tradestack-bench-") as directory, on_cores(cores[1:]):
        with steps.step("Start PostgreSQL, Redis and Kafka", estimate_s=12):
            backing = Backing(Path(directory))
        try:
            with steps.step("Start the matching engine", estimate_s=8):
                backing.prepare()
            bench = _Bench(backing, size, steps)
            # Kafka is compiled while it is used: whoever came first would have the slow one.
            bench.side(OURS, cores[0], with_idle=False)
            rounds: dict[str, list[Result]] = {side: [] for side in (OURS, *PEERS)}
            for number in range(size.rounds):
                for side, found in rounds.items():
                    found.append(bench.side(side, cores[0], with_idle=not number))
            tenk = bench.tenk(cores)
        finally:
            backing.stop()
    sides = {side: _best(found) for side, found in rounds.items()}
    ratios = {peer: round(sides[peer]["us_per_frame"] / sides[OURS]["us_per_frame"], 2) for peer in PEERS}
    return Report(
        name="fanout",
        ours={**sides[OURS], "ratios": ratios, "tenk": tenk},
        peers={peer: sides[peer] for peer in PEERS},
        ratio=min(ratios.values()),
        versions=dict(
            versions(["picows", "uvicorn", "starlette", "websockets", "uvloop", "confluent-kafka"])
        ),
    )


class _Bench:
    def __init__(self, backing: Backing, size: Size, steps: Steps) -> None:
        self._backing = backing
        self._size = size
        self._steps = steps

    def side(self, side: str, core: int, *, with_idle: bool) -> Result:
        """One round of a side, in a process of its own; with idle connections memory is measured, too."""
        size, rate = self._size, self._size.clients * self._size.symbols_each * self._size.rate
        name = f"{side}: {size.clients} clients, {rate:g} frames/s"
        connecting = (size.clients + (size.idle if with_idle else 0)) / size.connect_rate
        with self._steps.step(name, estimate_s=size.seconds + connecting + 10) as step:
            server = self._backing.start(side, core)
            with self._backing.source(SYMBOLS, size.rate):
                # What is loaded at the first connection and the first tick belongs to no connection.
                self._listen(step, [server], _WARM_CLIENTS, _WARM_SECONDS)
            idle = self._listen(step, [server], size.idle, 1.0) if with_idle else None
            with self._backing.source(SYMBOLS, size.rate):
                seen = self._listen(step, [server], size.clients, size.seconds)
            server.process.kill()
        expected = rate * seen.seconds
        if seen.frames < expected * (1 - size.lost):
            raise TradestackError(
                f"{side} delivered {seen.frames} of {expected:.0f} frames: it did not keep up, "
                "or the machine has other things to do"
            )
        result = {
            "us_per_frame": round(seen.servers_cpu_s / seen.frames * 1e6, 2),
            **_latencies(seen),
            "frames": seen.frames,
            "seconds": round(seen.seconds, 2),
            "gaps_untold": seen.gaps_untold,
            "clients_us_per_frame": round(seen.clients_cpu_s / seen.frames * 1e6, 2),
        }
        if idle is not None:
            result["bytes_per_connection"] = round((idle.rss_after - idle.rss_before) / size.idle)
        return result

    def tenk(self, cores: Sequence[int]) -> Result:
        """Many clients on several processes of ours, with all cores for everything."""
        size = self._size
        name = f"{size.tenk_clients} clients of {size.tenk_processes} processes"
        estimate = size.tenk_seconds + size.tenk_clients / size.connect_rate + 10
        with self._steps.step(name, estimate_s=estimate) as step, on_cores(cores):
            servers = [self._backing.start(OURS, None) for _ in range(size.tenk_processes)]
            with self._backing.source(SYMBOLS, size.tenk_rate):
                seen = self._listen(step, servers, size.tenk_clients, size.tenk_seconds, symbols_each=1)
            for server in servers:
                server.process.kill()
        return {
            "clients": seen.opened,
            "messages": seen.frames,
            **_latencies(seen),
            "gaps_untold": seen.gaps_untold,
            "gaps_told": seen.gaps_told,
            "seconds": round(seen.seconds, 2),
            "processes": len(servers),
            "least_messages_of_a_client": seen.least_frames,
            "server_cores": round(seen.servers_cpu_s / seen.seconds, 3),
            "bytes_per_connection": round((seen.rss_after - seen.rss_before) / seen.opened),
        }

    def _listen(
        self,
        step: Step,
        servers: list[Server],
        clients: int,
        seconds: float,
        symbols_each: int | None = None,
    ) -> Seen:
        given = Clients(
            urls=[server.url for server in servers],
            pids=[server.process.pid for server in servers],
            symbols=SYMBOLS,
            symbols_each=symbols_each or self._size.symbols_each,
            clients=clients,
            seconds=seconds,
            connect_rate=self._size.connect_rate,
        )
        seen = _run_clients(step, given)
        if seen.failures or seen.opened < clients:
            raise TradestackError(
                f"of {clients} connections {seen.opened} were opened, and of these failed: {seen.failures}"
            )
        return seen


def _run_clients(step: Step, given: Clients) -> Seen:
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.bench.fanout_clients"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )
    seen = None
    try:
        assert process.stdin is not None  # noqa: S101 - a pipe
        assert process.stdout is not None  # noqa: S101 - a pipe
        assert process.stderr is not None  # noqa: S101 - a pipe
        process.stdin.write(json.dumps(asdict(given)))
        process.stdin.close()
        for line in process.stdout:
            told = json.loads(line)
            if "seen" in told:
                seen = Seen(**told["seen"])
            else:
                step.detail(told["progress"])
        if seen is None:
            raise TradestackError(f"the clients ended with an error:\n{process.stderr.read()[-2000:]}")
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return seen


def _latencies(seen: Seen) -> Result:
    figures = {"p50_ms": seen.p50_ms, "p99_ms": seen.p99_ms, "max_ms": seen.max_ms}
    return {name: None if value is None else round(value, 2) for name, value in figures.items()}


def _best(rounds: list[Result]) -> Result:
    """The cheapest round, with the memory of the first; all of them are told."""
    best = min(rounds, key=lambda found: float(found["us_per_frame"]))
    told = [{name: found[name] for name in ("us_per_frame", "p99_ms")} for found in rounds]
    return {**best, "bytes_per_connection": rounds[0]["bytes_per_connection"], "rounds": told}
