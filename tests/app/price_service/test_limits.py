"""Bounds of what one client costs, how long a connection lasts, and what the metrics say."""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.exceptions import InvalidStatus

from tests.app.outputs import output, trade
from tests.app.platform import running
from tests.app.price_service.replicas import answer, ask, client, closed, decided, hear, metric, prices
from tests.app.ticks import tick


async def test_heartbeats_come_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_HEARTBEAT_SECONDS", "0.1")
    async with running(tmp_path, "price-service") as platform, client(platform) as connection:
        beats = [await hear(connection, "heartbeat") for _ in range(3)]
        assert beats == [{"type": "heartbeat", "time": beat["time"]} for beat in beats]
        assert beats[0]["time"] < beats[2]["time"]


async def test_who_says_nothing_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_HEARTBEAT_SECONDS", "0.2")
    async with running(tmp_path, "price-service") as platform, client(platform) as alive:
        dead = await platform.websocket("price-service")
        dead.transport.pause_reading()
        async with asyncio.timeout(30):
            while True:
                text = (await platform.get("price-service", "/metrics")).text
                if 'websocket_connections_active{service="price-service"} 1.0' in text:
                    break
        await ask(alive, "ping")
        assert (await hear(alive, "pong"))["type"] == "pong"
        dead.transport.abort()


async def test_an_old_connection_is_told_and_then_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_HEARTBEAT_SECONDS", "0.1")
    monkeypatch.setenv("APP_CONNECTION_SECONDS", "0.2")
    monkeypatch.setattr("app.price_service.endpoints._LEAVING_SECONDS", 4.0)
    async with running(tmp_path, "price-service") as platform, client(platform) as connection:
        await ask(connection, "subscribe", symbols=["BTC-USD"])
        # The notice may come before the answer.
        told = [await hear(connection, "subscribed", "reconnect") for _ in range(2)]
        (notice,) = (message for message in told if message["type"] == "reconnect")
        assert notice["within_ms"] > 0
        await prices(platform, tick(seq=1))
        assert (await hear(connection))["type"] == "snapshot"
        code, _, _ = await closed(connection)
        assert code == 1012


async def test_who_does_not_go_when_told_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rounds that a pause has delayed are made up for at once: with short ones the client seems dead.
    monkeypatch.setenv("APP_HEARTBEAT_SECONDS", "1")
    monkeypatch.setenv("APP_CONNECTION_SECONDS", "0.1")
    monkeypatch.setattr("app.price_service.endpoints._LEAVING_SECONDS", 0.1)
    monkeypatch.setattr("app.price_service.endpoints._GOODBYE_SECONDS", 0.3)
    async with running(tmp_path, "price-service") as platform:
        url = platform.url("price-service")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        ping = b'{"op":"ping"}'
        heard = b""
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                while found := await reader.read(65536):
                    heard += found
                    # It answers whatever comes, but no close.
                    writer.write(bytes((0x81, 0x80 | len(ping), 0, 0, 0, 0)) + ping)
                    await asyncio.sleep(0.05)
        assert b"come back" in heard
        assert await metric(platform, 'websocket_connections_active{service="price-service"}') == 0
        writer.close()


async def test_connections_of_one_address_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_CONNECTIONS_PER_CLIENT", "2")
    here = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}
    there = {"X-Forwarded-For": "203.0.113.7, 203.0.113.8"}
    async with running(tmp_path, "price-service") as platform:
        first = await client(platform, additional_headers=here)
        async with client(platform, additional_headers=here), client(platform, additional_headers=there):
            with pytest.raises(InvalidStatus) as refused:
                await client(platform, additional_headers=here)
            response = refused.value.response
            assert (response.status_code, response.headers["retry-after"]) == (429, "10")
            assert response.headers["content-type"] == "application/problem+json"
            assert orjson.loads(response.body or b"")["code"] == "too-many-connections"
            await first.close()
            async with asyncio.timeout(30):
                while True:
                    try:
                        async with client(platform, additional_headers=here):
                            break
                    except InvalidStatus:
                        continue


@pytest.mark.parametrize("role", ["price-service", "gateway"])
async def test_another_version_of_the_protocol_is_told_which_one_is_spoken(tmp_path: Path, role: str) -> None:
    async with running(tmp_path, "price-service", "gateway") as platform:
        handshake = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "8",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        async with httpx.AsyncClient(trust_env=False, base_url=platform.url(role)) as http:
            response = await http.get("/ws", headers=handshake)
        assert (response.status_code, response.headers["sec-websocket-version"]) == (426, "13")
        assert response.json()["code"] == "upgrade-required"


async def test_without_the_header_the_connection_tells_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_CONNECTIONS_PER_CLIENT", "1")
    async with running(tmp_path, "price-service") as platform, client(platform):
        with pytest.raises(InvalidStatus) as refused:
            await client(platform)
        assert refused.value.response.status_code == 429


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"channels": ["gossip"], "symbols": "*"}, "unknown-channel"),
        ({"channels": [], "symbols": "*"}, "invalid-channels"),
        ({"channels": "trades", "symbols": "*"}, "invalid-channels"),
        ({"channels": ["trades"]}, "invalid-symbols"),
        ({"symbols": ["BTC-USD"], "resume": []}, "invalid-resume"),
        ({"symbols": ["BTC-USD"], "resume": {"ticker:ETH-USD": {"epoch": "e", "seq": 1}}}, "invalid-resume"),
        (
            {"symbols": ["BTC-USD"], "resume": {"ticker:BTC-USD": {"epoch": "e", "seq": True}}},
            "invalid-resume",
        ),
        ({"symbols": ["BTC-USD"], "resume": {"ticker:BTC-USD": {"epoch": "e", "seq": -1}}}, "invalid-resume"),
    ],
)
async def test_wrong_subscriptions_are_answered(tmp_path: Path, request_: dict[str, Any], code: str) -> None:
    async with running(tmp_path, "price-service") as platform, client(platform) as connection:
        told = await answer(connection, "subscribe", **request_)
        assert (told["type"], told["code"]) == ("error", code)


async def test_a_slow_client_learns_that_trades_were_left_out(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service", client_buffer_bytes=1024) as platform:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", int(platform.url("price-service").rpartition(":")[2])))
        slow = await platform.websocket("price-service", max_queue=1, sock=narrow)
        await answer(slow, "subscribe", symbols=["BTC-USD"], channels=["trades"])
        dropped = await metric(platform, 'websocket_messages_dropped_total{reason="slow"}')
        total = 5000
        for first in range(1, total + 1, 100):
            await decided(platform, output([trade(number) for number in range(first, first + 100)]))
            await asyncio.sleep(0)
        last, slow_gaps = 0, 0
        async with asyncio.timeout(60):
            while last < total:
                message = await hear(slow)
                if message["type"] == "tradesSnapshot":
                    slow_gaps += message["reason"] == "slow" and message["gap"]
                    seqs = [each["seq"] for each in message["trades"]]
                    assert seqs == list(range(message["seq"] - len(seqs) + 1, message["seq"] + 1))
                else:
                    assert message["seq"] == last + 1
                last = message["seq"]
        assert slow_gaps
        assert await metric(platform, 'websocket_messages_dropped_total{reason="slow"}') > dropped
        await slow.close()


async def test_the_metrics_have_the_names_that_others_query(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as platform, client(platform) as connection:
        await answer(connection, "subscribe", symbols=["BTC-USD", "ETH-USD"], channels=["ticker", "trades"])
        await prices(platform, tick(seq=1))
        await hear(connection, "snapshot")
        metrics = (await platform.get("price-service", "/metrics")).text
        lines = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("websocket_"))
        own = '{service="price-service"}'
        assert float(lines[f"websocket_connections_active{own}"]) == 1
        assert float(lines[f"websocket_subscriptions_active{own}"]) == 4
        assert float(lines[f"websocket_messages_published_total{own}"]) >= 1
        assert float(lines[f"websocket_queue_bytes{own}"]) >= 0
        assert float(lines[f"websocket_delivery_seconds_count{own}"]) >= 1
