"""What is a user's own: orders, fills and the worth of the account, behind a token of a minute."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from app.events.envelope import Envelope
from app.events.trading import PositionUpdated
from app.kit.auth import AUDIENCE, STREAM_AUDIENCE
from app.kit.bus import Record
from app.price_service import endpoints
from app.prices import write_latest
from tests.app.auth.issuer import Issuer, publishing
from tests.app.outputs import accepted, entries, output, trade
from tests.app.platform import Platform, running
from tests.app.portfolio.conftest import deposit
from tests.app.price_service.replicas import (
    another,
    answer,
    ask,
    client,
    closed,
    decided,
    hear,
    metric,
    prices,
)
from tests.app.ticks import tick

PRIVATE = ["orders", "fills"]


@asynccontextmanager
async def platform_of(
    directory: Path, *names: str, **settings: Any
) -> AsyncIterator[tuple[Platform, Issuer]]:
    async with (
        running(directory, "price-service", *names, **settings) as platform,
        publishing(platform.addresses) as issuer,
    ):
        yield platform, issuer


def stream_token(issuer: Issuer, user: str = "anna", **changes: Any) -> str:
    return issuer.token(user, "read", **{"aud": STREAM_AUDIENCE, "exp": int(time.time()) + 60, **changes})


async def log_in(connection: ClientConnection, issuer: Issuer, user: str = "anna") -> None:
    told = await answer(connection, "auth", token=stream_token(issuer, user))
    assert (told["type"], told["user_id"]) == ("authenticated", user)


async def test_users_get_their_own_orders_and_fills(tmp_path: Path) -> None:
    async with platform_of(tmp_path) as (platform, issuer), client(platform) as anna, client(platform) as eve:
        for connection, user in ((anna, "anna"), (eve, "eve")):
            await log_in(connection, issuer, user)
            told = await answer(connection, "subscribe", channels=PRIVATE)
            assert told == {"type": "subscribed", "channels": sorted(PRIVATE), "positions": {}}
        await decided(platform, entries(1, 1), output([trade(2, "anna", "ben"), accepted(3, owner="eve")]))
        opened, order, fill = [await hear(anna) for _ in range(3)]
        assert (opened["type"], opened["event"], opened["sequence"]) == ("order", "accepted", 1)
        assert (order["stream"], order["event"], order["symbol"]) == ("orders", "fill", "BTC-USD")
        assert (fill["type"], fill["stream"], fill["sequence"], fill["side"]) == ("fill", "fills", 2, "buy")
        assert (await hear(eve))["sequence"] == 3
        assert (await answer(anna, "unsubscribe", channels=["fills"]))["channels"] == ["fills"]
        await decided(platform, output([trade(4, "anna", "ben"), trade(5, "anna", "ben")]))
        assert [(m["stream"], m["sequence"]) for m in [await hear(anna) for _ in range(2)]] == [
            ("orders", 4),
            ("orders", 5),
        ]


async def test_nothing_private_without_a_login(tmp_path: Path) -> None:
    async with platform_of(tmp_path) as (platform, _), client(platform) as stranger:
        for channel in ("orders", "fills", "portfolio"):
            told = await answer(stranger, "subscribe", channels=[channel])
            assert (told["type"], told["code"]) == ("error", "authentication-required")
        await decided(platform, entries(1, 3))
        await ask(stranger, "ping")
        assert (await hear(stranger))["type"] == "pong"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exp": int(time.time()) - 30, "iat": 1, "nbf": 1}, "token-expired"),
        ({"aud": AUDIENCE}, "invalid-token"),
        ({"scope": "trade"}, "insufficient-scope"),
    ],
    ids=["expired", "an access token", "may not read"],
)
async def test_tokens_that_do_not_log_in(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    async with platform_of(tmp_path) as (platform, issuer), client(platform) as connection:
        told = await answer(connection, "auth", token=stream_token(issuer, **changes))
        assert (told["type"], told["code"]) == ("error", code)
        assert (await answer(connection, "subscribe", channels=["orders"]))[
            "code"
        ] == "authentication-required"
        await log_in(connection, issuer)


async def test_a_connection_belongs_to_one_user(tmp_path: Path) -> None:
    async with platform_of(tmp_path) as (platform, issuer), client(platform) as connection:
        await log_in(connection, issuer, "anna")
        assert (await answer(connection, "auth", token=stream_token(issuer, "ben")))["code"] == "another-user"
        assert (await answer(connection, "auth", token=7))["code"] == "invalid-token"


async def test_requests_behind_a_login_wait_for_it(tmp_path: Path) -> None:
    async with platform_of(tmp_path) as (platform, issuer), client(platform) as connection:
        await ask(connection, "auth", token=stream_token(issuer))
        await ask(connection, "subscribe", channels=["orders"])
        assert (await hear(connection))["type"] == "authenticated"
        assert (await hear(connection))["type"] == "subscribed"


async def test_a_login_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "LOGIN_SECONDS", 0.3)
    monkeypatch.setenv("APP_HEARTBEAT_SECONDS", "0.1")
    async with platform_of(tmp_path) as (platform, issuer), client(platform) as connection:
        await log_in(connection, issuer)
        code, reason, _ = await closed(connection)
        assert (code, reason) == (4401, "login-expired")


async def test_a_user_who_moves_gets_what_was_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_HEARTBEAT_SECONDS", "0.1")
    async with platform_of(tmp_path) as (first, issuer), another(first) as second:
        second.addresses["auth"] = issuer.url
        async with client(first) as before:
            await log_in(before, issuer)
            await answer(before, "subscribe", channels=PRIVATE)
            await decided(first, entries(1, 1), output([accepted(2, owner="ben")]))
            assert (await hear(before, "order"))["sequence"] == 1
            beat = await hear(before, "heartbeat")
            while beat["positions"] != {"BTC-USD": 2}:
                beat = await hear(before, "heartbeat")
        await decided(first, output([accepted(3), accepted(4, owner="ben")]), output([trade(5)]))
        async with client(second) as after:
            await log_in(after, issuer)
            while (await hear(after, "heartbeat"))["positions"] != {"BTC-USD": 5}:
                pass
            resume = {channel: {"positions": beat["positions"]} for channel in PRIVATE}
            told = await answer(after, "subscribe", channels=PRIVATE, resume=resume)
            assert told["recovered"] == {"orders": True, "fills": True}
            missed = [await hear(after) for _ in range(3)]
            assert sorted((m["stream"], m["sequence"]) for m in missed) == [
                ("fills", 5),
                ("orders", 3),
                ("orders", 5),
            ]
            await decided(first, output([accepted(6)]))
            assert (await hear(after))["sequence"] == 6


async def test_a_place_that_the_exchange_never_reached_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_HEARTBEAT_SECONDS", "0.1")
    async with platform_of(tmp_path) as (platform, issuer), client(platform) as back:
        await log_in(back, issuer)
        await decided(platform, entries(1, 1))
        while (await hear(back, "heartbeat"))["positions"] != {"BTC-USD": 1}:
            pass
        resume = {"orders": {"positions": {"BTC-USD": 1_000_000}}}
        told = await answer(back, "subscribe", channels=["orders"], resume=resume)
        assert told["recovered"] == {"orders": True}, "another replica may be further"
        assert await hear(back, "resync") == {"type": "resync", "reason": "gap", "symbol": "BTC-USD"}
        await decided(platform, output([accepted(2)]))
        assert (await hear(back, "order"))["sequence"] == 2


async def test_a_replica_that_has_just_begun_says_that_orders_are_to_be_read_anew(tmp_path: Path) -> None:
    async with platform_of(tmp_path) as (platform, issuer), client(platform) as back:
        await log_in(back, issuer)
        told = await answer(
            back, "subscribe", channels=["orders"], resume={"orders": {"positions": {"BTC-USD": 7}}}
        )
        assert told["recovered"] == {"orders": False}
        assert await hear(back) == {"type": "resync", "reason": "not-recovered", "stream": "orders"}


async def test_a_gap_of_the_engine_is_told(tmp_path: Path) -> None:
    async with platform_of(tmp_path) as (platform, issuer), client(platform) as connection:
        await log_in(connection, issuer)
        await answer(connection, "subscribe", channels=["orders"])
        await decided(platform, entries(1, 1), entries(5, 5))
        assert (await hear(connection))["sequence"] == 1
        assert await hear(connection) == {"type": "resync", "reason": "gap", "symbol": "BTC-USD"}
        assert (await hear(connection))["sequence"] == 5


async def test_what_is_private_is_never_conflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PRIVATE_BUFFER_BYTES", "4096")
    async with platform_of(tmp_path, client_buffer_bytes=1024) as (platform, issuer):
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", int(platform.url("price-service").rpartition(":")[2])))
        slow = await platform.websocket("price-service", max_queue=1, sock=narrow)
        await log_in(slow, issuer)
        await answer(slow, "subscribe", channels=["orders"])
        slow.transport.pause_reading()
        async with client(platform) as watcher:
            await log_in(watcher, issuer, "ben")
            await answer(watcher, "subscribe", channels=["orders"])
            await decided(platform, *(entries(n, n + 99) for n in range(1, 3001, 100)))
            await decided(platform, output([accepted(3001, owner="ben")]))
            await hear(watcher, "order")
        metrics = (await platform.get("price-service", "/metrics")).text
        assert 'websocket_messages_dropped_total{reason="overflow"}' in metrics
        slow.transport.resume_reading()
        code, reason, heard = await closed(slow)
        assert code == 4408
        assert "4096 bytes are unread" in reason
        sequences = [message["sequence"] for message in heard if message["type"] == "order"]
        assert sequences == list(range(1, len(sequences) + 1))
        assert len(sequences) < 3000


async def test_a_connection_that_ends_while_it_subscribes_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_PRIVATE_BUFFER_BYTES", "4096")
    subscribed = 'websocket_subscriptions_active{service="price-service"}'
    request: dict[str, Any] = {
        "symbols": ["BTC-USD"],
        "channels": ["trades"],
        "resume": {"trades:BTC-USD": {"epoch": "1", "seq": 1}},
    }
    async with platform_of(tmp_path, client_buffer_bytes=1024) as (platform, issuer):
        async with client(platform) as watcher:
            await answer(watcher, "subscribe", symbols=["BTC-USD"], channels=["trades"])
            await decided(platform, output([trade(number) for number in range(1, 501)]))
            while (await hear(watcher))["seq"] < 500:
                pass
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", int(platform.url("price-service").rpartition(":")[2])))
        slow = await platform.websocket("price-service", max_queue=1, sock=narrow)
        await log_in(slow, issuer)
        slow.transport.pause_reading()
        await ask(slow, "subscribe", **request)
        await ask(slow, "subscribe", channels=["orders"], resume={"orders": {"positions": {"ETH-USD": 9}}})
        slow.transport.resume_reading()
        code, _, _ = await closed(slow)
        assert code == 4408
        async with asyncio.timeout(30):
            while await metric(platform, subscribed):
                pass


async def test_the_worth_of_an_account_follows_prices_and_events(tmp_path: Path) -> None:
    async with platform_of(tmp_path, "portfolio") as (platform, issuer), client(platform) as connection:
        await deposit(platform.backends.database, "anna", "USD", 1_000_00000000)
        await deposit(platform.backends.database, "anna", "BTC", 2_00000000)
        await write_latest(platform.backends.cache, [tick(seq=1, price=100)])
        await log_in(connection, issuer)
        told = await answer(connection, "subscribe", channels=["portfolio"], resume={"portfolio": {}})
        assert told["recovered"] == {"portfolio": False}
        await prices(platform, tick(seq=2, price=10_000))

        async def equity(expected: str) -> None:
            found = ""
            while found != expected:
                message = await hear(connection, "portfolio")
                found = next(t["equity"] for t in message["totals"] if t["currency"] == "USD")

        await equity("1200")
        await prices(platform, tick(seq=3, price=20_000))
        await equity("1400")
        await deposit(platform.backends.database, "anna", "USD", 5_00000000)
        event = PositionUpdated(account="anna", symbol="BTC-USD", quantity=1, cost=1)
        envelope = Envelope.of(event, key="anna", producer="test")
        await platform.backends.bus.publish("portfolio-events", [Record("anna", envelope.encode())])
        await equity("1405")


async def test_only_roles_read_accounts(tmp_path: Path) -> None:
    async with running(tmp_path, "portfolio", internal_token="s" * 32) as platform:
        url = platform.url("portfolio", "/internal/portfolio/accounts/anna")
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(url)).status_code == 403
            found = await http.get(url, headers={"X-Internal-Token": "s" * 32})
        assert (found.status_code, json.loads(found.text)) == (200, {"balances": [], "positions": []})
