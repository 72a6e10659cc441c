"""Load tests against the roles themselves, in this process."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.events.envelope import Envelope
from app.kit.bus import Record
from app.wallet.deposits import Deposit
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from infra.errors import TradestackError
from infra.loadtest import orders, result, target
from infra.loadtest.arrival import Schedule
from infra.loadtest.client import StreamClient
from infra.loadtest.result import Limits
from infra.loadtest.stream import Listening, StreamLoad
from infra.loadtest.users import Users, read_tokens
from infra.servers.process import free_port
from tests.app.auth.issuer import publishing
from tests.app.orders.orders import ANN, BOB
from tests.app.patience import patience
from tests.app.platform import Platform, running
from tests.app.ticks import tick
from tests.infra.test_loadtest import tradestack

__all__ = ["patience"]

PASSWORD = "correct horse battery staple 9"


async def publish(platform: Platform, *seqs: int, symbol: str = "BTC-USD") -> None:
    ticks = [tick(symbol, seq, at=int(time.time() * 1000)) for seq in seqs]
    await platform.backends.bus.publish(
        "price.updates",
        [Record(t.symbol, Envelope.of(t, key=t.symbol, producer="test").encode()) for t in ticks],
    )


def load_of(platform: Platform, connections: int = 4, **changes: Any) -> StreamLoad:
    given = {
        "schedule": Schedule(1000, connections / 1000, connections),
        "hold": 60.0,
        "max_messages": 1000,
        **changes,
    }
    url = platform.url("price-service", "/ws").replace("http", "ws")
    return StreamLoad(Listening([url], ["BTC-USD", "ETH-USD"]), **given)


async def until(load: StreamLoad, messages: int) -> None:
    async with asyncio.timeout(30):
        while load.messages < messages:
            await asyncio.sleep(0.01)


async def test_delivery_and_told_gaps_of_the_price_stream(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as platform:
        # 4 times `subscribed`, then 5 messages to each of the 2 connections with BTC-USD.
        load = load_of(platform, max_messages=14)
        run = asyncio.create_task(load.run(asyncio.Event()))
        await until(load, 4)
        await publish(platform, 1, 2, 3)
        await until(load, 10)
        await publish(platform, 7, 8)
        await run
    found = result.of_stream("ws://test", {"connections": 4}, load, Limits(p99_ms=10_000))
    assert (found["broken"], result.exit_code(found)) == ([], 0)
    figures = found["figures"]
    assert (figures["opened"], figures["messages"]) == (4, 14)
    assert (figures["gaps_told"], figures["gaps_untold"], figures["connections_with_gaps"]) == (2, 0, 2)
    # The first tick of a symbol and what follows a gap come as snapshots.
    assert found["latency_ms"]["count"] == 6
    assert found["connect_ms"]["count"] == 4


async def test_untold_gaps_fail() -> None:
    load = StreamLoad(Listening(["ws://x"], ["A"]), schedule=Schedule(1, 1), hold=1, max_messages=9)
    client = StreamClient(load, 0, ["A"], ())
    for seq in (1, 2, 2, 5):
        body = {"type": "tick", "symbol": "A", "epoch": "e", "seq": seq, "time": 0}
        client.take(json.dumps(body).encode(), 5.0)
    load.complete = True
    found = result.of_stream("ws://x", {"connections": 0}, load, Limits())
    assert found["figures"]["gaps_untold"] == 1
    assert found["figures"]["messages_repeated"] == 1
    assert result.exit_code(found) == 1


async def test_a_server_that_goes_away_and_one_that_refuses_are_failures(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as platform:
        load = load_of(platform)
        run = asyncio.create_task(load.run(stopping := asyncio.Event()))
        await until(load, 4)
    async with asyncio.timeout(30):
        while load.failures != {"lost": 4}:
            await asyncio.sleep(0.01)
    stopping.set()
    await run
    assert not load.complete
    again = load_of(platform, hold=0.1)
    await again.run(asyncio.Event())
    assert sum(again.failures.values()) == 4
    found = result.of_stream("ws://test", {"connections": 4}, again, Limits())
    assert result.exit_code(found) == 1


async def test_clients_come_back_when_the_price_service_restarts(tmp_path: Path) -> None:
    port = free_port()
    listening = Listening(
        [f"ws://127.0.0.1:{port}/ws"], ["BTC-USD"], channels=["ticker"], resume=True, timeout=120
    )
    load = StreamLoad(listening, schedule=Schedule(1000, 0.004, 4), hold=300, max_messages=10_000)
    async with running(tmp_path, "price-service", port=port) as platform:
        run = asyncio.create_task(load.run(stopping := asyncio.Event()))
        await until(load, 4)
        await publish(platform, 1, 2, 3)
        await until(load, 16)
    async with running(tmp_path, "price-service", port=port) as platform:
        # The longer the service was away, the longer are the pauses between attempts.
        async with asyncio.timeout(120):
            while load.reconnects < 4 or load.resumed_anew < 4:
                await asyncio.sleep(0.01)
        await publish(platform, 9, 10)
        async with asyncio.timeout(30):
            while load.told_gaps < 4:
                await asyncio.sleep(0.01)
        stopping.set()
        await run
    assert (load.resumed_whole, load.untold_gaps, load.failures) == (0, 0, {})


async def test_the_command_over_a_feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_COLLECTOR_LEASE_SECONDS", "60")  # another epoch would be a gap
    async with running(tmp_path, "price-collector", "price-service") as platform:
        url = platform.url("price-service", "/ws").replace("http", "ws")
        options = ("--connections", "50", "--seconds", "3", "--each", "2", "--json", "--out", str(tmp_path))
        code, out, err = await tradestack("ws", url, *options)
        assert code == 0, err + out
        document = json.loads(out)
        assert document["figures"]["opened"] == 50
        assert document["latency_ms"]["count"] > 100
        assert document["figures"]["gaps_told"] == document["figures"]["gaps_untold"] == 0
        until_one = ("--connections", "1", "--seconds", "60", "--count", "1", "--json")
        code, out, _ = await tradestack("ws", url, "--symbols", "NO-SUCH", *until_one)
        assert code == 1
        assert json.loads(out)["failures"] == {"refused: unknown-symbol": 1}


async def test_orders_are_placed_and_refusals_are_failures(tmp_path: Path) -> None:
    names = ("order", "matching-engine", "wallet", "gateway")
    async with running(tmp_path, *names) as platform, publishing(platform.addresses) as issuer:
        wallet = Wallet.of(platform.backends.database, WalletSettings())
        for owner in (ANN, BOB):
            for asset, amount in (("USD", 10**13), ("BTC", 10**10)):
                deposit = Deposit(f"{owner}-{asset}", owner, asset, amount)
                await wallet.transact(lambda s, deposit=deposit: wallet.deposits.book(s, deposit))  # type: ignore[misc]
        tokens = tmp_path / "tokens"
        tokens.write_text("\n".join(issuer.token(user) for user in (ANN, BOB)))
        url = platform.url("gateway")
        options = ("--rate", "20", "--seconds", "1", "--tokens", str(tokens), "--json")
        code, out, err = await tradestack("orders", url, *options, "--symbols", "BTC-USD")
        assert code == 0, err + out
        document = json.loads(out)
        assert document["statuses"] == {"201": 20}
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
            async with asyncio.timeout(30):
                placed: set[str] = set()
                while len(placed) < 20:
                    for user in (ANN, BOB):
                        kept = (await client.get("/api/orders", headers=issuer.headers(user))).json()
                        placed |= {item["client_order_id"] for item in kept["orders"]}
        run = document["settings"]["client_order_ids"].removesuffix("*")
        assert placed == {f"{run}{number}" for number in range(20)}
        tokens.write_text("not-a-token")
        code, out, _ = await tradestack("orders", url, *options)
        assert (code, json.loads(out)["failures"]) == (1, {"401": 20})


async def test_a_user_logs_in(tmp_path: Path) -> None:
    async with running(tmp_path, "auth") as platform:
        account = {"email": "ann@example.com", "password": PASSWORD}
        async with httpx.AsyncClient(base_url=platform.url("auth"), trust_env=False, timeout=30) as client:
            (await client.post("/api/auth/register", json=account)).raise_for_status()
        origin = target.check(platform.url("auth"), ("http",), allow_remote=False)
        accounts = [(account["email"], PASSWORD)]
        users = await asyncio.to_thread(Users.logged_in, origin, accounts, None)
        assert users.tokens[0].count(".") == 2
        wrong = [(account["email"], "something else 123")]
        with pytest.raises(TradestackError, match="401"):
            await asyncio.to_thread(Users.logged_in, origin, wrong, None)


def test_markets_and_tokens_are_checked(tmp_path: Path) -> None:
    with pytest.raises(TradestackError, match="NO-SUCH"):
        orders.markets(["BTC-USD", "NO-SUCH"], {})
    with pytest.raises(TradestackError, match="cannot be read"):
        read_tokens(tmp_path / "none")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(TradestackError, match="no access tokens"):
        read_tokens(tmp_path / "empty")
