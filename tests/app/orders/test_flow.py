"""Orders of users through the gateway to the real engine and back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.wallet.deposits import Deposit
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from tests.app.auth.issuer import Issuer, publishing
from tests.app.orders.conftest import SECONDS, order
from tests.app.orders.orders import ANN, BOB
from tests.app.orders.test_stream import ask, receive
from tests.app.platform import Platform, running


@dataclass
class Exchange:
    """The roles and a client at the public entry."""

    platform: Platform
    client: httpx.AsyncClient
    issuer: Issuer

    async def call(self, method: str, path: str, user: str = ANN, **options: Any) -> httpx.Response:
        return await self.client.request(method, path, headers=self.issuer.headers(user), **options)

    async def status(self, id: str, wanted: str, user: str = ANN) -> Any:
        async with asyncio.timeout(SECONDS):
            while True:
                found = (await self.call("GET", f"/api/orders/{id}", user)).json()
                if found["status"] == wanted:
                    return found
                await asyncio.sleep(0.05)

    def websocket(self, user: str) -> connect:
        url = self.platform.url("gateway").replace("http", "ws") + "/api/orders/stream"
        return connect(url, proxy=None, additional_headers=self.issuer.headers(user))


@pytest.fixture(params=["memory", "servers"])
async def exchange(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Exchange]:
    overrides = {}
    if request.param == "servers":
        overrides = {
            "database_url": await request.getfixturevalue("postgresql").new_database(),
            "bus_url": request.getfixturevalue("kafka").url,
        }
    names = ("order", "matching-engine", "wallet", "gateway")
    async with running(tmp_path, *names, **overrides) as platform, publishing(platform.addresses) as issuer:
        wallet = Wallet.of(platform.backends.database, WalletSettings())
        for owner, asset, amount in ((ANN, "USD", 10**13), (BOB, "BTC", 10**10)):
            deposit = Deposit(f"{owner}-{asset}", owner, asset, amount)
            await wallet.transact(lambda s, deposit=deposit: wallet.deposits.book(s, deposit))  # type: ignore[misc]
        async with httpx.AsyncClient(base_url=platform.url("gateway"), trust_env=False, timeout=30) as client:
            yield Exchange(platform, client, issuer)


async def test_a_trade_from_request_to_history(exchange: Exchange) -> None:
    async with exchange.websocket(ANN) as ann:
        assert (await receive(ann))["type"] == "login"
        body = order(client_order_id="mine", price="64250")
        placed = await exchange.call("POST", "/api/orders", json=body)
        assert placed.status_code == 201, placed.text
        id = placed.json()["order_id"]
        sold = await exchange.call(
            "POST", "/api/orders", BOB, json=order(side="sell", price="64250", quantity="0.2")
        )
        assert sold.json()["status"] == "filled"
        told = [await receive(ann, "order") for _ in range(2)]
        assert [message["event"] for message in told] == ["accepted", "fill"]
        found = await exchange.status(id, "partially_filled")
        assert (found["filled"], found["average_price"]) == ("0.20000", "64250")
        again = await exchange.call("POST", "/api/orders", json=body)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.content == placed.content
        book = (await exchange.client.get("/api/book/BTC-USD")).json()
        assert book["bids"] == [{"price": "64250.00", "quantity": "0.30000"}]
        changed = await exchange.call(
            "PATCH", f"/api/orders/{id}", json={"quantity": "0.4", "price": "64251"}
        )
        assert (changed.status_code, changed.json()["remaining"]) == (200, "0.20000")
        cancelled = await ask(ann, "cancel", order_id=id)
        assert cancelled["order"]["status"] == "cancelled"
        assert (await exchange.status(id, "cancelled"))["reason"] == "requested"
        ended = await exchange.call("DELETE", f"/api/orders/{id}")
        assert (ended.status_code, ended.json()["code"]) == (422, "order-not-open")


async def test_what_the_engine_refuses(exchange: Exchange) -> None:
    poor = await exchange.call("POST", "/api/orders", BOB, json=order(price="64250"))
    assert (poor.status_code, poor.json()["code"]) == (422, "insufficient-funds")
    id = poor.json()["order_id"]
    found = await exchange.call("GET", f"/api/orders/{id}", BOB)
    assert (found.json()["status"], found.json()["reason"]) == ("rejected", "insufficient_funds")
    await exchange.call("POST", "/api/orders", BOB, json=order(side="sell", price="64250"))
    maker = order(price="64250", post_only=True, client_order_id="m")
    for replayed in (False, True):
        refused = await exchange.call("POST", "/api/orders", json=maker)
        assert (refused.status_code, refused.json()["code"]) == (422, "post-only-would-take")
        assert ("idempotent-replayed" in refused.headers) == replayed


async def test_a_pair_and_mass_cancel(exchange: Exchange) -> None:
    await exchange.call("POST", "/api/orders", json=order(price="64000"))
    pair = {
        "symbol": "BTC-USD",
        "side": "sell",
        "quantity": "0.1",
        "first": {"order_type": "limit", "price": "65000"},
        "second": {"order_type": "stop_limit", "price": "62900", "stop_price": "63000"},
    }
    answer = await exchange.call("POST", "/api/orders/oco", BOB, json=pair)
    assert answer.status_code == 201, answer.text
    ids = [each["order_id"] for each in answer.json()["orders"]]
    await exchange.status(ids[1], "waiting", BOB)
    assert (await exchange.call("DELETE", "/api/orders", BOB)).status_code == 204
    for id in ids:
        await exchange.status(id, "cancelled", BOB)
    active = await exchange.call("GET", "/api/orders?active=true")
    assert len(active.json()["orders"]) == 1


async def test_the_switch_of_the_engine(exchange: Exchange) -> None:
    placed = await exchange.call("POST", "/api/orders", json=order(price="64000"))
    async with exchange.websocket(ANN) as ann:
        assert (await ask(ann, "cancel_after", seconds=1))["seconds"] == 1
        found = await exchange.status(placed.json()["order_id"], "cancelled")
        assert found["reason"] == "mass_cancel"


async def test_the_gateway_passes_the_end_on(exchange: Exchange) -> None:
    async with exchange.websocket(ANN) as ann:
        await receive(ann)
        exchange.platform.stopping.set()
        with pytest.raises(ConnectionClosed) as ended:
            async with asyncio.timeout(SECONDS):
                await ann.recv()
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1012
