"""WebSockets through the edge: quiet ones live on, broken ones end alone, a restart leaves no gap untold."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.cluster.platform import edge
from tests.cluster.platform.conftest import Platform, pinned
from tests.stream import following

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ORDINARY_SECONDS = 60
"""Quiet seconds after which the edge ends any other request."""
STREAM = "ticker:BTC-USD"


@pytest.fixture(scope="module", autouse=True)
def _one_replica(platform: Platform) -> Iterator[None]:
    """An autoscaler that takes a replica away ends its connections, too."""
    with pinned(platform, 1):
        yield


@asynccontextmanager
async def _stream(platform: Platform, **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(platform.stream, proxy=None, open_timeout=30, **options) as client:
        yield client


async def _receive(client: ClientConnection, kind: str, seconds: float = 30) -> dict[str, Any]:
    async with asyncio.timeout(seconds):
        while True:
            message: dict[str, Any] = json.loads(await client.recv())
            if message["type"] == kind:
                return message


async def test_a_client_that_says_nothing_stays_connected(platform: Platform) -> None:
    secure = f"wss://{edge.host(platform)}:{edge.HTTPS}/ws"
    context = edge.trusting(edge.authority(platform))
    async with (
        _stream(platform, ping_interval=None) as plain,
        connect(secure, ssl=context, proxy=None, open_timeout=30, ping_interval=None) as encrypted,
    ):
        quiet_until = time.monotonic() + ORDINARY_SECONDS + 15
        clients = (plain, encrypted)
        while (left := quiet_until - time.monotonic()) > 0:
            for client in clients:
                # What the server says is read, so that a close would be noticed.
                try:
                    async with asyncio.timeout(min(left, 1)):
                        await client.recv()
                except TimeoutError:
                    continue
        for client in clients:
            await client.send('{"op":"ping"}')
            assert await _receive(client, "pong")


@pytest.mark.parametrize(
    ("message", "code"), [("x" * 70_000, 1009), (b"\xff\xfe\xfd", 1007)], ids=["oversized", "no UTF-8"]
)
async def test_a_bad_message_ends_that_client_alone(
    platform: Platform, message: str | bytes, code: int
) -> None:
    async with following(platform.stream) as neighbour:
        before = neighbour.ticks
        async with _stream(platform) as client:
            await client.send(message, text=True)
            async with asyncio.timeout(30):
                # Ends with the connection, however it was closed.
                with suppress(ConnectionClosed):
                    async for _ in client:
                        pass
            assert client.close_code == code
        async with asyncio.timeout(30):
            while neighbour.ticks < before + 20:
                await asyncio.sleep(0.1)
        assert neighbour.close_codes == []


class _Resuming:
    """A client of one symbol that goes on where it was, and knows of every message that it missed."""

    def __init__(self) -> None:
        self.epoch, self.seq = "", 0
        self.notices: list[int] = []
        self.codes: list[int | None] = []
        self.recovered: list[bool] = []
        self.ticks = 0
        self._told = False
        """Whether a snapshot may come that leaves messages out, because it was said."""

    async def run(self, url: str) -> None:
        while True:
            try:
                async with connect(url, proxy=None, open_timeout=30) as client:
                    await client.send(json.dumps(self._subscribe()))
                    async for message in client:
                        self._take(json.loads(message))
            except ConnectionClosed:
                pass
            except (OSError, TimeoutError, InvalidHandshake):
                await asyncio.sleep(0.2)
                continue
            self.codes.append(client.close_code)
            await asyncio.sleep(0.2)

    def _subscribe(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {"op": "subscribe", "symbols": ["BTC-USD"], "channels": ["ticker"]}
        if self.epoch:
            wanted["resume"] = {STREAM: {"epoch": self.epoch, "seq": self.seq}}
        return wanted

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribed" if "recovered" in message:
                self.recovered.append(message["recovered"][STREAM])
                self._told = not self.recovered[-1]
            case "subscribed":
                self._told = True
            case "snapshot":
                assert self._told, "a snapshot although everything was to follow"
                for tick in message["ticks"]:
                    self.epoch, self.seq = tick["epoch"], tick["seq"]
                self._told = False
            case "tick":
                assert (message["epoch"], message["seq"]) == (self.epoch, self.seq + 1)
                self.seq = message["seq"]
                self.ticks += 1
            case "serverShutdown":
                self.notices.append(message["within_ms"])


async def test_a_restart_is_told_and_no_price_is_left_out_in_silence(platform: Platform) -> None:
    client = _Resuming()
    running = asyncio.create_task(client.run(platform.stream))

    async def ticks(more: int, seconds: float) -> None:
        wanted = client.ticks + more
        async with asyncio.timeout(seconds):
            while client.ticks < wanted:
                if running.done():
                    running.result()
                await asyncio.sleep(0.1)

    kubectl = platform.cluster.kubectl
    place = ("deployment/price-service", "-n", "trading-system")
    try:
        await ticks(5, 60)
        await asyncio.to_thread(kubectl, "rollout", "restart", *place)
        await asyncio.to_thread(kubectl, "rollout", "status", *place, "--timeout=240s")
        async with asyncio.timeout(120):
            while not client.codes:
                await asyncio.sleep(0.2)
        await ticks(10, 60)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert client.notices
    assert client.notices[0] > 0
    assert set(client.codes) == {1012}
    assert client.recovered, "the client came back with its position"
