"""With the real engine and wallet: controls that hold at once, and a margin loan that has to be closed."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from app.events import registry, stream
from app.events.envelope import Envelope
from app.kit.bus import Record, Subscription, Topic
from app.kit.bus.kafka import KafkaBus
from app.matching_client.client import MatchingClient
from app.matching_client.commands import Place, Result, Side
from app.orders.models import OrderRow
from app.prices import write_latest
from infra.servers.backing import Kafka, Postgresql, Redis
from tests.app.auth.issuer import Issuer, publishing
from tests.app.platform import Platform, running
from tests.app.ticks import tick

SECONDS = 60.0
ROLES = ("matching-engine", "wallet", "order", "risk")
START = 6_000_000


@dataclass
class World:
    platform: Platform
    issuer: Issuer
    engine: MatchingClient
    events: Subscription
    told: list[Envelope] = field(default_factory=list)
    count: int = 0

    async def request(self, role: str, method: str, path: str, user: str, *scopes: str, **body: Any) -> Any:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return await client.request(
                method,
                self.platform.url(role, path),
                json=body or None,
                headers=self.issuer.headers(user, *scopes),
            )

    async def deposit(self, owner: str, asset: str, amount: str) -> None:
        path, reference = "/api/wallet/operations/deposits", f"{owner}-{asset}"
        body = {"owner": owner, "asset": asset, "amount": amount, "reference": reference}
        answer = await self.request("wallet", "POST", path, "olga", "admin", **body)
        assert answer.status_code == 201, answer.text

    async def place(self, owner: str, side: Side, price: int, quantity: int) -> Result:
        self.count += 1
        return await self.engine.submit(
            Place(
                owner=owner,
                client_order_id=f"o{self.count}",
                symbol="BTC-USD",
                side=side,
                order_type="limit",
                quantity=quantity,
                price=price,
            )
        )

    async def trade(self, seller: str, buyer: str, price: int, quantity: int) -> None:
        for owner, side in ((seller, "sell"), (buyer, "buy")):
            result = await self.place(owner, side, price, quantity)  # type: ignore[arg-type]
            assert result.code == "ok", result

    async def mark(self, price: int) -> None:
        found = tick(seq=time.time_ns(), at=int(time.time() * 1000), price=price)
        event = Envelope.of(found, key=found.symbol, producer="test")
        await self.platform.backends.bus.publish("price.updates", [Record(found.symbol, event.encode())])

    async def me(self, user: str) -> Any:
        answer = await self.request("risk", "GET", "/api/risk/me", user)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until_told(self, type_: str, account: str, mark: int | None = None) -> Envelope:
        """An event, while the price is `mark`: a role that has only begun to follow prices hears it too."""
        async with asyncio.timeout(SECONDS):
            while True:
                for found in self.told:
                    if (found.type, found.payload.get("account")) == (type_, account):
                        return found
                if mark is not None:
                    await self.mark(mark)
                self.told += [Envelope.decode(m.value) for m in await self.events.batch(100, 1.0)]


@asynccontextmanager
async def world(tmp_path: Path, **overrides: Any) -> AsyncIterator[World]:
    async with running(tmp_path, *ROLES, wait=False, **overrides) as platform:
        await write_latest(platform.backends.cache, [tick(price=START)])
        for runtime in platform.runtimes.values():
            async with asyncio.timeout(SECONDS):
                await runtime.became_ready.wait()
        events = await platform.backends.bus.subscribe(["risk-events"], None)
        engine = MatchingClient(platform.runtimes["risk"])
        async with publishing(platform.addresses) as issuer:
            yield World(platform, issuer, engine, events)
        await engine.close()
        await events.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_RISK_MARGIN_CALL_SECONDS", "1")
    monkeypatch.setenv("APP_RISK_URGENT_CALL_SECONDS", "1")


async def is_closed_and_books_agree(world: World) -> None:
    await world.deposit("anna", "BTC", "1")
    await world.deposit("ben", "USD", "300000")
    await world.deposit("carl", "BTC", "3")
    await world.mark(START)
    loan = {"id": str(uuid4()), "asset": "USD", "amount": "60000"}
    answer = await world.request("wallet", "POST", "/api/wallet/loans", "anna", **loan)
    assert answer.status_code == 201, answer.text
    again = {**loan, "id": str(uuid4())}
    answer = await world.request("wallet", "POST", "/api/wallet/loans", "anna", **again)
    assert answer.status_code == 403, answer.text
    await world.trade("carl", "anna", START, 90_000)
    for price in (5_500_000, 5_000_000, 4_600_000, 4_200_000):
        await world.trade("carl", "ben", price, 100)
    assert (await world.place("ben", "buy", 4_150_000, 250_000)).code == "ok"
    assert (await world.place("anna", "sell", 9_000_000, 50_000)).code == "ok"
    assert (await world.me("anna"))["margin"]["call"] is None
    called = await world.until_told("MarginCall", "anna", mark=4_200_000)
    assert called.payload["available"] < called.payload["required"]
    closed = await world.until_told("ForcedClose", "anna")
    assert closed.payload["healthy"] is True
    found = await world.me("anna")
    assert found["margin"]["call"] is None
    assert found["kill_switch"] is None
    assert 500_000 <= found["margin"]["ratio_ppm"] < 600_000
    assert float(found["margin"]["debt"]) < 60_000
    async with world.platform.backends.database.transaction(read_only=True) as session:
        forced = (await session.scalars(select(OrderRow).where(OrderRow.origin == "forced_close"))).all()
    assert len(forced) == closed.payload["orders"] >= 1
    answer = await world.request("wallet", "POST", "/api/wallet/operations/reconciliation", "olga", "admin")
    assert answer.json()["clean"] is True, answer.text
    async with asyncio.timeout(SECONDS):
        # The engine is told that the switch is off just after everybody else.
        while (placed := await world.place("anna", "sell", 9_000_000, 1)).reason == "kill_switch_user":
            await asyncio.sleep(0.05)
    assert placed.code == "ok"


async def test_a_loan_that_is_not_covered_is_closed(tmp_path: Path) -> None:
    async with world(tmp_path) as found:
        await is_closed_and_books_agree(found)


async def test_the_same_on_real_servers(
    tmp_path: Path, postgresql: Postgresql, kafka: Kafka, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A topic of the test's own: the broker is shared, the names of the groups are not to be chosen.
    topic = Topic(f"matching.output.{uuid4().hex}", 3, 3600)
    monkeypatch.setattr(stream, "TOPIC", topic.name)
    monkeypatch.setitem(registry._topics, "MatchingOutput", topic.name)
    bus = KafkaBus(kafka.url.removeprefix("kafka://"), "tests")
    await bus.ensure([topic])
    await bus.close()
    servers = {
        "database_url": await postgresql.new_database(),
        "bus_url": kafka.url,
        "cache_url": redis.url,
        "cache_password": redis.password,
    }
    async with world(tmp_path, **servers) as found:
        await is_closed_and_books_agree(found)


async def test_limits_and_switches_hold_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as found:
        await found.deposit("anna", "USD", "100000")
        assert (await found.place("anna", "buy", START, 100)).code == "ok"

        async def control(path: str, **body: Any) -> None:
            answer = await found.request(
                "risk", "PUT", f"/api/risk/{path}", "olga", "admin", reason="test", **body
            )
            assert answer.status_code == 200, answer.text

        await control("kill-switches/user/anna", active=True)
        assert (await found.place("anna", "buy", START, 100)).reason == "kill_switch_user"
        await control("kill-switches/user/anna", active=False)
        assert (await found.place("anna", "buy", START, 100)).code == "ok"
        await control("limits/user/anna/symbol/BTC-USD", position=150)
        assert (await found.place("anna", "buy", START, 100)).reason == "position_limit_exceeded"
        assert (await found.place("anna", "buy", START * 2, 1)).reason == "price_outside_collar"
