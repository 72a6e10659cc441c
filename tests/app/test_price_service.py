"""The price stream over real WebSockets."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.events.envelope import Envelope
from app.events.prices import PriceTick
from app.kit.bus import Bus, Record
from app.prices import write_latest
from tests.app.platform import Platform, receive, running, subscribe
from tests.app.ticks import tick


async def publish(bus: Bus, *ticks: PriceTick) -> None:
    await bus.publish(
        "price.updates",
        [Record(t.symbol, Envelope.of(t, key=t.symbol, producer="test").encode()) for t in ticks],
    )


async def metric(platform: Platform, name: str) -> float:
    answer = await platform.get("price-service", "/metrics")
    line = next(
        line for line in answer.text.splitlines() if line.startswith(f'{name}{{service="price-service"}}')
    )
    return float(line.split()[-1])


async def test_snapshot_then_contiguous_ticks(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as platform, platform.websocket("price-service") as client:
        bus = platform.backends.bus
        await publish(bus, tick(seq=1), tick("ETH-USD", 1))
        await subscribe(client, ["BTC-USD"])
        assert await receive(client) == {"type": "subscribed", "symbols": ["BTC-USD"]}
        first = await receive(client)
        assert [(t["symbol"], t["seq"], t["price"]) for t in first["ticks"]] == [("BTC-USD", 1, "1.00")]
        await publish(bus, tick("ETH-USD", 2), *(tick(seq=seq) for seq in range(2, 6)))
        assert [(await receive(client))["seq"] for _ in range(4)] == [2, 3, 4, 5]
        await client.send('{"op":"unsubscribe","symbols":["BTC-USD"]}')
        assert (await receive(client))["type"] == "unsubscribed"
        await publish(bus, tick(seq=6))
        await client.send('{"op":"ping"}')
        assert await receive(client) == {"type": "pong"}


async def test_starts_from_the_cache(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service", wait=False) as platform:
        await write_latest(platform.backends.cache, [tick(seq=41, epoch="kept")])
        await platform.runtimes["price-service"].became_ready.wait()
        async with platform.websocket("price-service") as client:
            await subscribe(client, "*")
            found = await receive(client, "snapshot")
            assert [(t["epoch"], t["seq"]) for t in found["ticks"]] == [("kept", 41)]
            await publish(platform.backends.bus, tick(seq=42, epoch="kept"))
            assert (await receive(client))["type"] == "tick"


async def test_what_a_newer_version_writes_stops_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service", wait=False) as platform:
        await platform.backends.cache.write_hash("prices:latest", {"ETH-USD": b'{"symbol":"ETH-USD"}'})
        await write_latest(platform.backends.cache, [tick(seq=1), tick("NEW-USD", 1)])
        await platform.runtimes["price-service"].became_ready.wait()
        async with platform.websocket("price-service") as client:
            await subscribe(client, "*")
            found = await receive(client, "snapshot")
            assert [t["symbol"] for t in found["ticks"]] == ["BTC-USD"]
            await publish(platform.backends.bus, tick("NEW-USD", 2), tick(seq=2))
            assert (await receive(client))["symbol"] == "BTC-USD"


@pytest.mark.parametrize(("epoch", "seq"), [("e1", 5), ("e2", 1)], ids=["gap", "new epoch"])
async def test_what_was_missed_is_told_by_a_snapshot(tmp_path: Path, epoch: str, seq: int) -> None:
    async with running(tmp_path, "price-service") as platform, platform.websocket("price-service") as client:
        await subscribe(client, ["BTC-USD"])
        await receive(client, "subscribed")
        await publish(platform.backends.bus, tick(seq=1), tick(seq=2))
        assert (await receive(client, "tick"))["seq"] == 2
        await publish(platform.backends.bus, tick(seq=seq, epoch=epoch), tick(seq=seq, epoch=epoch))
        told = await receive(client)
        assert (told["type"], told["reason"], told["ticks"][0]["seq"]) == ("snapshot", "resync", seq)
        await publish(platform.backends.bus, tick(seq=seq + 1, epoch=epoch))
        assert (await receive(client))["seq"] == seq + 1


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", "invalid-json"),
        ("[]", "unknown-op"),
        ('{"op":"buy"}', "unknown-op"),
        ('{"op":"subscribe"}', "invalid-symbols"),
        ('{"op":"subscribe","symbols":[1]}', "invalid-symbols"),
        ('{"op":"subscribe","symbols":["NOPE"]}', "unknown-symbol"),
    ],
)
async def test_a_wrong_request_is_answered_and_harms_nothing(tmp_path: Path, sent: str, code: str) -> None:
    async with running(tmp_path, "price-service") as platform, platform.websocket("price-service") as client:
        await client.send(sent)
        answer = await receive(client)
        assert (answer["type"], answer["code"]) == ("error", code)
        await client.send('{"op":"ping"}')
        assert (await receive(client))["type"] == "pong"


@pytest.mark.parametrize(
    ("sent", "code"), [(b"binary", 1003), ("x" * 20_000, 1009)], ids=["binary", "too large"]
)
async def test_what_is_no_request_closes_the_connection(tmp_path: Path, sent: Any, code: int) -> None:
    async with running(tmp_path, "price-service") as platform, platform.websocket("price-service") as client:
        await client.send(sent)
        with pytest.raises(ConnectionClosed) as closed:
            await receive(client)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code


async def test_a_message_may_come_in_fragments(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as platform, platform.websocket("price-service") as client:
        for _ in range(2):
            await client.send(['{"op":', "", '"ping"}'])
            assert await receive(client) == {"type": "pong"}


def client_frame(first: int, payload: bytes) -> bytes:
    return bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (client_frame(0x01, b"{") + client_frame(0x81, b"}"), 1002),
        (client_frame(0x80, b"}"), 1002),
        (client_frame(0xC1, b"{}"), 1002),
        (client_frame(0x01, b"x" * 125) + client_frame(0x00, b"x" * 125) * 140, 1008),
        (client_frame(0x81, b"\xff\xfe"), 1007),
        (client_frame(0x81, b'{"op":"ping"}') * 200, 1008),
        (client_frame(0x88, b""), 1000),
    ],
    ids=["two at once", "end of none", "extension", "many fragments", "no text", "flood", "empty close"],
)
async def test_what_breaks_the_rules_is_closed_with_a_code(tmp_path: Path, frames: bytes, code: int) -> None:
    async with running(tmp_path, "price-service") as platform:
        client = await platform.websocket("price-service")
        client.transport.write(frames)
        with pytest.raises(ConnectionClosed) as closed:
            await receive(client, "nothing of the kind")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code


async def test_fragments_together_have_the_bound_of_one_message(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as platform, platform.websocket("price-service") as client:
        await client.send(["x" * 10_000, "x" * 10_000])
        with pytest.raises(ConnectionClosed) as closed:
            await receive(client)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_who_asks_and_never_reads_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.price_service.endpoints._MAX_UNREAD", 64 * 1024)
    monkeypatch.setattr("app.price_service.endpoints._MAX_REQUESTS", 1_000_000)
    async with running(tmp_path, "price-service", client_buffer_bytes=4096) as platform:
        client = await platform.websocket("price-service", max_queue=1)
        client.transport.pause_reading()
        ask = client_frame(0x81, b'{"op":"subscribe","symbols":"*"}')
        async with asyncio.timeout(30):
            while await metric(platform, "websocket_connections_active"):
                client.transport.write(ask * 500)
        client.transport.abort()


async def test_probes_and_metrics_on_the_same_port(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as platform:
        async with httpx.AsyncClient(trust_env=False, base_url=platform.url("price-service")) as http:
            for path, status in (("/livez", 200), ("/readyz", 200), ("/nothing", 404), ("/ws", 426)):
                assert (await http.get(path)).status_code == status, path
        async with platform.websocket("price-service") as client:
            await subscribe(client, ["BTC-USD", "ETH-USD"])
            await receive(client)
            await publish(platform.backends.bus, tick(seq=1))
            await receive(client)
            assert await metric(platform, "websocket_connections_active") == 1
            assert await metric(platform, "websocket_subscriptions_active") == 2
            assert await metric(platform, "websocket_messages_published_total") >= 1
        async with asyncio.timeout(30):
            while await metric(platform, "websocket_connections_active"):
                await asyncio.sleep(0.02)


async def test_drain_tells_clients_and_closes_with_1012(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as platform:
        clients = [await platform.websocket("price-service") for _ in range(30)]
        statuses: list[int] = []

        async def probe() -> None:
            async with httpx.AsyncClient(trust_env=False, base_url=platform.url("price-service")) as http:
                while True:
                    statuses.append((await http.get("/readyz")).status_code)
                    statuses.append((await http.get("/livez")).status_code)

        async def last_words(client: Any) -> tuple[str, int | None]:
            kind = ""
            try:
                while True:
                    kind = json.loads(await client.recv())["type"]
            except ConnectionClosed as closed:
                return kind, closed.rcvd.code if closed.rcvd else None

        platform.stopping.set()
        probing = asyncio.create_task(probe())
        async with asyncio.timeout(30):
            assert {await last_words(client) for client in clients} == {("serverShutdown", 1012)}
        probing.cancel()
        assert set(statuses) <= {200, 503}


async def test_not_ready_means_no_websocket(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as platform:
        platform.runtimes["price-service"].ready = False
        with pytest.raises(InvalidStatus) as refused:
            await platform.websocket("price-service")
        assert refused.value.response.status_code == 503


async def test_a_client_that_does_not_read_is_conflated_and_others_are_not(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service", client_buffer_bytes=1024) as platform:
        fast = await platform.websocket("price-service", max_queue=None)
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", int(platform.url("price-service").rpartition(":")[2])))
        slow = await platform.websocket("price-service", max_queue=1, sock=narrow)
        for client in (fast, slow):
            await subscribe(client, ["BTC-USD"])
        total = 20_000
        await publish(platform.backends.bus, tick(seq=1))
        for begin in range(2, total, 500):
            await publish(
                platform.backends.bus, *(tick(seq=s) for s in range(begin, min(begin + 500, total + 1)))
            )
            await asyncio.sleep(0)
        await publish(platform.backends.bus, tick(seq=total))

        async def follow(client: Any) -> list[str]:
            last, reasons = 0, []
            async with asyncio.timeout(60):
                while last < total:
                    message = json.loads(await client.recv())
                    if message["type"] == "snapshot":
                        last = message["ticks"][0]["seq"]
                        reasons.append(message["reason"])
                    elif message["type"] == "tick":
                        assert message["seq"] == last + 1
                        last = message["seq"]
            return reasons

        reasons = await follow(fast)
        assert set(reasons) <= {"resync", "subscribe", "slow"}
        assert "slow" in await follow(slow)
        await fast.close()
        await slow.close()
