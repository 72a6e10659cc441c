"""The role as it runs: from the matching engine's stream to answers and events."""

import asyncio
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.events import stream
from app.events.envelope import Envelope
from app.events.prices import PriceTick
from app.kit.bus import Record, Topic
from infra.servers.backing import Kafka, Postgresql, Redis
from tests.app.auth.issuer import publishing
from tests.app.outputs import entries, output, records, trade
from tests.app.platform import Platform, running
from tests.app.ticks import tick

SECONDS = 30.0


async def publish_price(platform: Platform, *ticks: PriceTick) -> None:
    sent = [Record(t.symbol, Envelope.of(t, key=t.symbol, producer="test").encode()) for t in ticks]
    await platform.backends.bus.publish("price.updates", sent)


async def until(get: Any, wanted: Any) -> Any:
    async with asyncio.timeout(SECONDS):
        while not wanted(found := await get()):
            await asyncio.sleep(0.05)
    return found


async def follows_answers_and_tells(platform: Platform) -> None:
    bus, url = platform.backends.bus, platform.url("portfolio")
    events = await bus.subscribe(["portfolio-events"], None)

    async with (
        publishing(platform.addresses) as issuer,
        httpx.AsyncClient(
            base_url=url, trust_env=False, timeout=30, headers=issuer.headers("anna")
        ) as client,
    ):

        async def get(path: str = "") -> Any:
            response = await client.get(f"/api/portfolio{path}")
            assert response.status_code == 200, response.text
            return response.json()

        sent = [output([trade(n, price=100 + n, quantity=1)]) for n in range(1, 4)]
        await bus.publish(stream.TOPIC, records([*sent, *sent[1:], output([trade(4, price=110)])]))
        now = int(time.time() * 1000)

        async def mark() -> Any:
            await publish_price(platform, tick(seq=time.time_ns(), at=now, price=120))
            return await get("/positions")

        (position,) = await until(mark, lambda found: found and found[0]["mark"] and found[0]["trades"] == 4)
        assert (position["quantity"], position["mark"]) == ("0.00004", "1.20")
        assert (position["cost"], position["unrealised"]) == ("0.0000416", "0.0000064")
        assert len((await get("/positions/BTC-USD/history"))["entries"]) == 4
        told: list[str] = []
        async with asyncio.timeout(SECONDS):
            while not {"position:BTC-USD:4:buy", "pnl:BTC-USD:4:sell"} <= set(told):
                told += [Envelope.decode(m.value).id for m in await events.batch(100, 1.0)]
        assert len(told) == len(set(told))
        await events.close()
        assert (await client.get("/readyz")).status_code == 200
        metrics = (await client.get("/metrics")).text
        assert 'stream_changes_total{consumer="portfolio"}' in metrics
        without = await httpx.AsyncClient(base_url=url, trust_env=False, timeout=30).get("/api/portfolio")
        assert without.status_code == 401


async def test_in_one_process(tmp_path: Path) -> None:
    async with running(tmp_path, "portfolio") as platform:
        await follows_answers_and_tells(platform)


async def test_on_real_servers(
    tmp_path: Path, postgresql: Postgresql, kafka: Kafka, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = {
        "database_url": await postgresql.new_database(),
        "bus_url": kafka.url,
        "cache_url": redis.url,
        "cache_password": redis.password,
    }
    # A topic of the test's own: the broker is shared, the name of the group is not to be chosen.
    topic = Topic(f"matching.output.{uuid4().hex}", 3, 3600)
    monkeypatch.setattr(stream, "TOPIC", topic.name)
    async with running(tmp_path, "portfolio", **servers) as platform:
        await platform.backends.bus.ensure([topic])
        await follows_answers_and_tells(platform)


async def test_what_is_missing_is_asked_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    async def republish(_: object, symbol: str, after: int) -> None:
        await asked.put((symbol, after))

    monkeypatch.setattr("app.matching_client.client.MatchingClient.republish", republish)
    async with running(tmp_path, "portfolio") as platform:
        await platform.backends.bus.publish(stream.TOPIC, records([entries(1, 2), entries(4, 4)]))
        async with asyncio.timeout(SECONDS):
            assert await asked.get() == ("BTC-USD", 2)
