"""Order books from the matching engine to a WebSocket: the roles as they run."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from websockets.asyncio.client import ClientConnection

from app.kit.lease import LeaseRow
from app.matching_client.client import MatchingClient
from app.matching_client.commands import CancelAll, Place
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from tests.app.platform import SECONDS, Platform, receive, running
from tests.app.price_service.depth_client import DepthClient
from tests.app.wallet.books import open_books

SYMBOL, PRICE = "BTC-USD", 6_000_000


class Exchange:
    """The roles, and owners who have money."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.engine = MatchingClient(platform.runtimes["matching-engine"])
        self._rng = random.Random(3)
        self._orders = 0

    async def place(self, side: str, quantity: int, price: int) -> None:
        self._orders += 1
        owner = "anna" if side == "buy" else "ben"
        result = await self.engine.submit(
            Place(
                owner=owner,
                client_order_id=str(self._orders),
                symbol=SYMBOL,
                side=side,  # type: ignore[arg-type]
                order_type="limit",
                quantity=quantity,
                price=price,
            )
        )
        assert result.code == "ok"

    async def trade(self, orders: int) -> None:
        """Orders on both sides, some of which meet."""
        rng = self._rng
        for _ in range(orders):
            side = rng.choice(("buy", "sell"))
            away = rng.randint(-2, 40)
            await self.place(side, rng.randint(1, 9), PRICE - away if side == "buy" else PRICE + away)

    async def levels(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        depth = await self.engine.depth(SYMBOL, 100)
        bids, asks = ([(one.price, one.quantity) for one in side] for side in (depth.bids, depth.asks))
        return bids, asks

    async def until(self, client: ClientConnection, book: DepthClient) -> None:
        """Follow until the book is that of the engine."""
        wanted = await self.levels()
        while book.levels() != wanted:
            message = await receive(client)
            if message["type"] in ("depth", "depthSnapshot"):
                book.take(message)

    async def depose(self) -> None:
        """Take the lease away from the leader, as a successor does."""
        async with self.platform.backends.database.transaction() as session:
            await session.execute(
                update(LeaseRow).values(holder="successor", token=LeaseRow.token + 1, expires_at=0)
            )


async def subscribe(client: ClientConnection, **more: Any) -> dict[str, Any]:
    wanted = {"op": "subscribe", "symbols": [SYMBOL], "channels": ["depth"], **more}
    await client.send(json.dumps(wanted))
    return await receive(client, "subscribed")


@pytest.fixture(params=["memory", "servers"])
async def exchange(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Exchange]:
    overrides = {}
    if request.param == "servers":
        overrides = {
            "database_url": await request.getfixturevalue("postgresql").new_database(),
            "bus_url": request.getfixturevalue("kafka").url,
        }
    async with running(tmp_path, "matching-engine", "price-service", **overrides) as platform:
        ledger = Wallet.of(platform.backends.database, WalletSettings()).ledger
        await open_books(platform.backends.database, ledger, {"anna": 10**17, "ben": 10**17}, ("USD", "BTC"))
        made = Exchange(platform)
        yield made
        await made.engine.close()


async def test_a_client_has_the_engines_book(exchange: Exchange) -> None:
    async with exchange.platform.websocket("price-service") as client:
        assert (await subscribe(client))["channels"] == ["depth"]
        book = DepthClient(SYMBOL)
        for _ in range(4):
            await exchange.trade(20)
            await exchange.until(client, book)
        assert book.changes
        assert book.bids
        seen = book
    await exchange.trade(20)
    async with exchange.platform.websocket("price-service") as client:
        told = await subscribe(client, resume={f"depth:{SYMBOL}": seen.position()})
        assert told["recovered"] == {f"depth:{SYMBOL}": True}
        snapshots = len(seen.reasons)
        await exchange.until(client, seen)
        assert len(seen.reasons) == snapshots
        told = await subscribe(client, resume={f"depth:{SYMBOL}": {"epoch": "0", "seq": 1}})
        assert told["recovered"] == {f"depth:{SYMBOL}": False}
        fresh = DepthClient(SYMBOL)
        fresh.take(await receive(client, "depthSnapshot"))
        await exchange.until(client, fresh)
        assert fresh.reasons == ["resync"]


async def test_another_leader_goes_on_with_the_book(exchange: Exchange) -> None:
    await exchange.trade(30)
    async with exchange.platform.websocket("price-service") as client:
        await subscribe(client)
        book = DepthClient(SYMBOL)
        await exchange.until(client, book)
        first = book.epoch
        await exchange.depose()
        async with asyncio.timeout(SECONDS):
            while book.epoch == first:
                message = await receive(client)
                if message["type"].startswith("depth"):
                    book.take(message)
        assert int(book.epoch) > int(first)
        assert book.reasons[-1] == "resync"
        await exchange.trade(10)
        await exchange.until(client, book)
        assert (await exchange.engine.submit(CancelAll(owner=""))).code == "ok"
        await exchange.until(client, book)
        assert (book.bids, book.asks) == ({}, {})
