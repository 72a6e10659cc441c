"""Sends orders over HTTP at a fixed rate, whatever the answers do, and times each from when it was due.

Run as `python -m infra.bench.order_load`: a `Load` as JSON on standard input, the `Outcome` on standard
output. It is a process of its own so that its processor time can be told from that of what it measures.
"""

import asyncio
import json
import random
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop


@dataclass(frozen=True)
class Load:
    """What to send."""

    url: str
    """Base URL of the role `order`."""
    tokens: list[str]
    """Access tokens of the users, who take turns."""
    markets: dict[str, tuple[str, str, str]]
    """Symbol → middle price, tick size and lot size."""
    rate: float
    """Orders a second."""
    seconds: float
    connections: int = 500
    seed: int = 1
    run: str = "run"
    """Part of the client order ids: unique among runs."""


@dataclass
class Outcome:
    """What came back."""

    latencies_ms: list[float]
    """From the moment an order was due to the end of its answer."""
    statuses: dict[str, int]
    acknowledged: list[int]
    """Order ids."""
    late_starts: int
    """Orders that waited for a free connection."""
    seconds: float


class _Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self, load: "_Run") -> None:
        self._load = load
        self._buffer = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, due: float) -> None:
        """Write a request that was due at `due` (seconds of the monotonic clock)."""
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = b""
        self._load.answered(self, self._due, head[9:12].decode(), body)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(self)


class _Run:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._random = random.Random(load.seed)  # noqa: S311 - a repeatable load
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._open = 0
        self._done = asyncio.Event()
        self.outcome = Outcome([], {}, [], 0, 0.0)
        self._host = urlsplit(load.url).netloc

    async def run(self) -> Outcome:
        loop = asyncio.get_running_loop()
        host, _, port = self._host.partition(":")
        for _ in range(self._load.connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), host, int(port))
            self._idle.append(connection)
        total = round(self._load.rate * self._load.seconds)
        requests = (self._request(number) for number in range(total))
        begun = loop.time()
        for number, request in enumerate(requests):
            due = begun + number / self._load.rate
            if (pause := due - loop.time()) > 0:
                await asyncio.sleep(pause)
            self._send(request, due)
        while self._open:
            self._done.clear()
            async with asyncio.timeout(60):
                await self._done.wait()
        self.outcome.seconds = loop.time() - begun
        return self.outcome

    def _send(self, request: bytes, due: float) -> None:
        self._open += 1
        if self._idle:
            self._idle.popleft().send(request, due)
        else:
            self.outcome.late_starts += 1
            self._waiting.append((request, due))

    def answered(self, connection: _Connection, due: float, status: str, body: bytes) -> None:
        """Take an answer and give the connection its next request."""
        outcome = self.outcome
        outcome.latencies_ms.append((time.monotonic() - due) * 1000)
        outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
        if status == "201":
            outcome.acknowledged.append(int(json.loads(body)["order_id"]))
        self._open -= 1
        self._done.set()
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        """A connection broke: what was on it has no answer."""
        if connection in self._idle:
            self._idle.remove(connection)
        elif self._open:
            self._open -= 1
            self.outcome.statuses["lost"] = self.outcome.statuses.get("lost", 0) + 1
            self._done.set()

    def _request(self, number: int) -> bytes:
        load, pick = self._load, self._random
        symbol = pick.choice(list(load.markets))
        middle, tick, lot = (float(value) for value in load.markets[symbol])
        ticks = round(middle / tick) + pick.randint(-20, 20)
        body = json.dumps(
            {
                "client_order_id": f"{load.run}-{number}",
                "symbol": symbol,
                "side": pick.choice(("buy", "sell")),
                "order_type": "limit",
                "quantity": f"{pick.randint(1, 20) * lot:.8f}",
                "price": f"{ticks * tick:.8f}",
            }
        ).encode()
        head = (
            f"POST /api/orders HTTP/1.1\r\nhost: {self._host}\r\n"
            f"authorization: Bearer {load.tokens[number % len(load.tokens)]}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def main() -> None:
    """Run the load of standard input."""
    given: dict[str, Any] = json.load(sys.stdin)
    outcome = uvloop.run(_Run(Load(**given)).run())
    json.dump(asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
