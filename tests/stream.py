"""A client of the price stream that reconnects and checks that nothing is left out in silence."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

RECONNECT_SECONDS = 0.2


class StreamClient:
    """Follows every symbol's epoch and sequence; `run` fails at the first one missing or back again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.seen: dict[str, tuple[str, int]] = {}
        self.ticks = 0
        self.snapshots = 0
        self.close_codes: list[int | None] = []

    async def run(self) -> None:
        while True:
            try:
                async with connect(
                    self._url, proxy=None, open_timeout=3, ping_interval=5, ping_timeout=5
                ) as socket:
                    await socket.send('{"op":"subscribe","symbols":"*"}')
                    while True:
                        self._take(json.loads(await socket.recv()))
            except ConnectionClosed as closed:
                self.close_codes.append(closed.rcvd.code if closed.rcvd else None)
            except (OSError, TimeoutError, InvalidHandshake):
                pass
            await asyncio.sleep(RECONNECT_SECONDS)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "snapshot":
            self.snapshots += 1
            for each in message["ticks"]:
                epoch, seq = self.seen.get(each["symbol"], (each["epoch"], 0))
                assert epoch != each["epoch"] or each["seq"] >= seq, f"{each} after {seq}"
                self.seen[each["symbol"]] = each["epoch"], each["seq"]
        elif message["type"] == "tick":
            epoch, seq = self.seen[message["symbol"]]
            assert (message["epoch"], message["seq"]) == (epoch, seq + 1)
            self.seen[message["symbol"]] = epoch, seq + 1
            self.ticks += 1


@asynccontextmanager
async def following(url: str) -> AsyncIterator[StreamClient]:
    """A client of `url` that has received prices; what it found wrong is raised at the end."""
    made = StreamClient(url)
    task = asyncio.create_task(made.run())
    try:
        await until("prices come", lambda: made.ticks > 5 or task.done(), 30)
        yield made
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def until(what: str, condition: Callable[[], bool], seconds: float) -> None:
    """Wait for `condition`, at most `seconds`."""
    begun = time.monotonic()
    while not await asyncio.to_thread(condition):
        assert time.monotonic() - begun < seconds, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.05)


async def prices_resume(client: StreamClient, seconds: float) -> None:
    """Wait for new prices, at most `seconds`."""
    before = client.ticks
    await until("prices resume", lambda: client.ticks > before + 3, seconds)
