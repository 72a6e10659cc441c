"""The servers that the benchmark of the fan-out compares, on one Kafka."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import httpx

from infra.bench.fanout_source import Source
from infra.errors import TradestackError
from infra.servers.exchange import Exchange
from infra.servers.process import ServerProcess, answers, die_with_parent, free_port

OURS = "ours"
PEERS = {"uvicorn": "starlette_queues", "websockets": "websockets_frames"}
"""Name of the side → module of `infra.bench.peers`."""
_READY_SECONDS = 60.0


@contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """Keep this process, and what it starts meanwhile, to some cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server:
    """One running price server."""

    def __init__(self, process: ServerProcess, port: int) -> None:
        self.process = process
        self.url = f"ws://127.0.0.1:{port}/ws"


class Backing:
    """Whatever the price-service asks, below one directory; call `stop` whatever happens."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Every client of the benchmark has one of a few addresses.
        self._exchange = Exchange(
            directory, ["matching-engine"], settings={"APP_CONNECTIONS_PER_CLIENT": "0"}
        )
        self._started: list[ServerProcess] = []

    @property
    def brokers(self) -> str:
        """Bootstrap servers of Kafka."""
        return self._exchange.kafka.url.removeprefix("kafka://")

    def prepare(self) -> None:
        """Create tables and topics, start the matching engine: the price-service asks it for its books."""
        self._exchange.prepare()
        self._exchange.start()

    def start(self, side: str, core: int | None) -> Server:
        """Start a server of a side, on one core or on any, and wait until it takes connections.

        Raises:
            TradestackError: it ended, or is not ready in a minute.
        """
        port = free_port()
        words = ["-m", "app", "run", "price-service"]
        if side != OURS:
            words = ["-m", f"infra.bench.peers.{PEERS[side]}", str(port), self.brokers]
        pinned = [] if core is None else [_taskset(), "-c", str(core)]
        process = ServerProcess(
            [*pinned, sys.executable, *words],
            self._directory / f"{side}-{port}.log",
            env={
                **self._exchange.environment(),
                "APP_PORT": str(port),
                "APP_ADVERTISED_ADDRESS": f"http://127.0.0.1:{port}",
            },
        )
        self._started.append(process)
        try:
            process.start(lambda: _is_ready(side, port), _READY_SECONDS)
        except AssertionError as error:
            raise TradestackError(f"{side}: {error}") from None
        return Server(process, port)

    @contextmanager
    def source(self, symbols: list[str], rate: float) -> Iterator[None]:
        """Publish so many ticks a second of each symbol, for as long as the body takes.

        Raises:
            TradestackError: it ended before.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.bench.fanout_source"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        assert process.stdin is not None  # noqa: S101 - a pipe
        assert process.stderr is not None  # noqa: S101 - a pipe
        try:
            process.stdin.write(json.dumps(asdict(Source(self.brokers, symbols, rate))))
            process.stdin.close()
            yield
            if process.poll() is not None:
                raise TradestackError(f"the source of ticks ended:\n{process.stderr.read()[-2000:]}")
        finally:
            process.kill()
            process.wait()
            process.stderr.close()

    def stop(self) -> None:
        """End everything at once."""
        for process in self._started:
            process.kill()
        self._exchange.stop()


def _taskset() -> str:
    found = shutil.which("taskset")
    if found is None:
        raise TradestackError("taskset is not on PATH: install util-linux")
    return found


def _is_ready(side: str, port: int) -> bool:
    if side != OURS:
        return answers(port)
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
