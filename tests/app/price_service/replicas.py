"""Replicas of the price service on one bus, and what their clients say and hear."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.events.envelope import Envelope
from app.events.matching import MatchingOutput
from app.events.prices import PriceTick
from app.kit.bus import Record
from app.kit.runtime import Runtime
from app.price_service.service import serve
from app.roles import ROLES
from tests.app.outputs import records
from tests.app.platform import SECONDS, Platform

ROLE = "price-service"


@asynccontextmanager
async def another(platform: Platform) -> AsyncIterator[Platform]:
    """One more replica on the bus and the cache of a platform."""
    addresses, stopping = dict(platform.addresses), asyncio.Event()
    runtime = Runtime(ROLES[ROLE], platform.runtimes[ROLE].settings, platform.backends, addresses, stopping)
    task = asyncio.create_task(serve(runtime))
    try:
        async with asyncio.timeout(SECONDS):
            await runtime.became_ready.wait()
        yield Platform({ROLE: runtime}, platform.backends, addresses, stopping)
    finally:
        stopping.set()
        async with asyncio.timeout(SECONDS):
            await task


def client(platform: Platform, **options: Any) -> connect:
    return platform.websocket(ROLE, max_queue=None, **options)


async def prices(platform: Platform, *ticks: PriceTick) -> None:
    await platform.backends.bus.publish(
        "price.updates",
        [Record(t.symbol, Envelope.of(t, key=t.symbol, producer="test").encode()) for t in ticks],
    )


async def decided(platform: Platform, *outputs: MatchingOutput) -> None:
    await platform.backends.bus.publish("matching.output", records(outputs))


async def ask(client: ClientConnection, op: str, **request: Any) -> None:
    await client.send(json.dumps({"op": op, **request}))


async def hear(client: ClientConnection, *kinds: str) -> dict[str, Any]:
    """The next message but heartbeats, or the next one of some kinds."""
    async with asyncio.timeout(SECONDS):
        while True:
            message: dict[str, Any] = json.loads(await client.recv())
            if message["type"] in kinds if kinds else message["type"] != "heartbeat":
                return message


async def answer(client: ClientConnection, op: str, **request: Any) -> dict[str, Any]:
    """What a request is answered with."""
    await ask(client, op, **request)
    return await hear(client, f"{op}d", "authenticated", "error")


async def closed(client: ClientConnection) -> tuple[int, str, list[dict[str, Any]]]:
    """Code and reason of the close, and all that came before it."""
    heard: list[dict[str, Any]] = []
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(SECONDS):
            while True:
                heard.append(json.loads(await client.recv()))
    assert client.close_code is not None
    return client.close_code, client.close_reason or "", heard


async def metric(platform: Platform, name: str) -> float:
    """The value of the first sample whose name and labels begin so."""
    lines = (await platform.get(ROLE, "/metrics")).text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def numbers(messages: Sequence[dict[str, Any]]) -> list[int]:
    return [message["seq"] for message in messages]
