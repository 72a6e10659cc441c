"""Stream loads against WebSocket servers on loopback that behave in known ways."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from websockets.asyncio.server import ServerConnection, serve

from infra.cli import app
from infra.cluster.addresses import AddressPlan
from infra.errors import TradestackError
from infra.loadtest import result, target
from infra.loadtest.arrival import Schedule
from infra.loadtest.result import Limits
from infra.loadtest.stream import Listening, StreamLoad
from tests.infra.certificates import Authority
from tests.infra.test_loadtest import OK, tradestack

Serve = Callable[[ServerConnection, dict[str, Any]], Coroutine[Any, Any, None]]


@asynccontextmanager
async def server(serve_client: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Hands each connection and its subscription to `serve_client`, then waits for the client to go."""

    async def handle(connection: ServerConnection) -> None:
        await serve_client(connection, json.loads(await connection.recv()))
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0, ssl=tls) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/ws"


def tick(seq: int, epoch: str = "e") -> dict[str, Any]:
    return {"type": "tick", "symbol": "A", "epoch": epoch, "seq": seq, "time": 0}


async def send(connection: ServerConnection, *messages: dict[str, Any]) -> None:
    for message in messages:
        await connection.send(json.dumps(message))


def load_of(url: str, connections: int = 1, messages: int = 1000, **options: Any) -> StreamLoad:
    schedule = Schedule(1000, connections / 1000, connections)
    return StreamLoad(Listening([url], ["A"], **options), schedule=schedule, hold=60, max_messages=messages)


async def test_a_stream_that_is_resumed_has_no_gap() -> None:
    asked = []

    async def serve_client(connection: ServerConnection, request: dict[str, Any]) -> None:
        asked.append(request)
        if len(asked) == 1:
            await send(connection, {"type": "subscribed"}, tick(1), tick(2))
            await send(connection, {"type": "serverShutdown", "within_ms": 0})
            await connection.close(1012)
        else:
            answer = {"type": "subscribed", "recovered": {"ticker:A": True}}
            await send(connection, answer, tick(3), tick(4))

    async with server(serve_client) as url:
        load = load_of(url, messages=7, resume=True, channels=("ticker", "depth"))
        await load.run(asyncio.Event())
    assert asked == [
        {"op": "subscribe", "symbols": ["A"], "channels": ["ticker", "depth"]},
        {
            "op": "subscribe",
            "symbols": ["A"],
            "channels": ["ticker", "depth"],
            "resume": {"ticker:A": {"epoch": "e", "seq": 2}},
        },
    ]
    assert (load.reconnects, load.resumed_whole, load.resumed_anew) == (1, 1, 0)
    assert (load.told_gaps, load.untold_gaps, load.failures) == (0, 0, {})


@pytest.mark.parametrize(
    ("recovered", "after", "gaps"),
    [
        (False, {"type": "snapshot", "reason": "resync", "ticks": [tick(9)]}, (1, 0)),
        (True, tick(9), (0, 1)),
        (True, {"type": "snapshot", "reason": "resync", "ticks": [tick(9)]}, (0, 1)),
    ],
    ids=["told by a snapshot", "left out", "said to be whole, but is not"],
)
async def test_what_is_missed_while_away_is_a_gap(
    recovered: bool, after: dict[str, Any], gaps: tuple[int, int]
) -> None:
    times = 0

    async def serve_client(connection: ServerConnection, request: dict[str, Any]) -> None:
        nonlocal times
        times += 1
        if times == 1:
            await send(connection, {"type": "subscribed"}, tick(1))
            await connection.close(1012)
        else:
            await send(connection, {"type": "subscribed", "recovered": {"ticker:A": recovered}}, after)

    async with server(serve_client) as url:
        load = load_of(url, messages=4, resume=True)
        await load.run(asyncio.Event())
    assert (load.told_gaps, load.untold_gaps) == gaps
    found = result.of_stream(url, {"connections": 1}, load, Limits())
    assert found["figures"]["reconnects"] == 1
    assert (found["figures"]["streams_resumed_whole"], found["figures"]["streams_resumed_anew"]) == (
        recovered,
        not recovered,
    )


async def test_an_end_that_asks_for_nothing_is_a_failure() -> None:
    async def serve_client(connection: ServerConnection, request: dict[str, Any]) -> None:
        await send(connection, {"type": "subscribed"})
        await connection.close(1011)

    async with server(serve_client) as url:
        load = load_of(url, resume=True)
        run = asyncio.create_task(load.run(stopping := asyncio.Event()))
        async with asyncio.timeout(30):
            while load.failures != {"lost": 1}:
                await asyncio.sleep(0.01)
        stopping.set()
        await run
    assert load.reconnects == 0


async def test_streams_of_every_channel_are_followed() -> None:
    def part(kind: str, stream: str, seq: int) -> dict[str, Any]:
        return {"type": kind, "stream": stream, "epoch": "e", "seq": seq, "time": 0}

    async def serve_client(connection: ServerConnection, request: dict[str, Any]) -> None:
        await send(
            connection,
            part("depthSnapshot", "depth:A", 4),
            part("depth", "depth:A", 5),
            part("candle", "candles:1m:A", 7),
            part("depth", "depth:A", 7),
            part("depthSnapshot", "depth:A", 9),
            part("candle", "candles:1m:A", 8),
            {"type": "heartbeat", "time": 0},
        )

    async with server(serve_client) as url:
        load = load_of(url, messages=7)
        await load.run(asyncio.Event())
    assert (load.told_gaps, load.untold_gaps, load.repeats) == (1, 1, 0)
    assert len(load.latencies) == 4


async def test_clients_have_as_many_addresses_as_asked_for() -> None:
    sources: list[str] = []

    async def serve_client(connection: ServerConnection, request: dict[str, Any]) -> None:
        sources.append(connection.remote_address[0])
        await send(connection, {"type": "subscribed"})

    async with server(serve_client) as url:
        load = load_of(url, connections=5, messages=5, clients_per_address=2)
        await load.run(asyncio.Event())
        assert sorted(sources) == ["127.1.0.1"] * 2 + ["127.1.0.2"] * 2 + ["127.1.0.3"]
    refused = CliRunner().invoke(
        app, ["loadtest", "ws", "ws://gateway.app.svc/ws", "--allow-remote", "--clients-per-address", "2"]
    )
    assert isinstance(refused.exception, TradestackError)


async def test_a_certificate_authority_of_ones_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def serve_client(connection: ServerConnection, request: dict[str, Any]) -> None:
        await send(connection, {"type": "subscribed"}, tick(1))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(OK)
        writer.close()

    options = ("--connections", "1", "--seconds", "0.3", "--json")
    async with server(serve_client, authority.server()) as url:
        until_both = ("--connections", "1", "--seconds", "60", "--count", "2", "--json")
        code, out, err = await tradestack("ws", url, *until_both, "--ca", str(authority.certificate))
        assert (code, json.loads(out)["figures"]["messages"]) == (0, 2), err
        code, out, _ = await tradestack("ws", url, *options)
        assert (code, list(json.loads(out)["failures"])) == (1, ["connect: SSLCertVerificationError"])
    web = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=authority.server())
    try:
        url = f"https://127.0.0.1:{web.sockets[0].getsockname()[1]}/"
        code, out, err = await tradestack(
            "http", url, *options, "--rate", "10", "--ca", str(authority.certificate)
        )
        assert json.loads(out)["statuses"] == {"200": 3}, err
        code, _, err = await tradestack("http", url, *options, "--rate", "10")
        assert code == 1
        assert "certificate verify failed" in err
    finally:
        web.close()


def test_a_file_that_holds_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("nothing")
    with pytest.raises(TradestackError, match="holds no certificates"):
        target.trusted(["https://127.0.0.1/"], tmp_path / "ca")
    with pytest.raises(TradestackError, match="holds no certificates"):
        target.trusted(["wss://127.0.0.1/"], tmp_path / "none")
    with pytest.raises(TradestackError, match="is for https and wss"):
        target.trusted(["http://127.0.0.1/"], tmp_path / "ca")


def test_a_cluster_that_runs_is_near_and_one_that_rests_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(target, "reached_networks", lambda except_link: [IPv4Network("192.168.1.0/24")])
    kept = tmp_path / "tradestack" / "clusters" / "shop" / "addresses.json"
    kept.parent.mkdir(parents=True)
    kept.write_text('{"slot": 7}')
    plan = AddressPlan(7)
    near = [f"http://{plan.node}:30080/", f"http://{plan.pods[9]}:8083/"]
    for url in near:
        with pytest.raises(TradestackError, match="neither this machine nor inside a cluster"):
            target.check(url, ("http",), allow_remote=False)
    monkeypatch.setattr(target.socket, "if_nameindex", lambda: [(1, "lo"), (2, "ts-shop")])
    for url in near:
        target.check(url, ("http",), allow_remote=False)
    for other in (plan.services[1], AddressPlan(8).node):
        with pytest.raises(TradestackError, match="neither this machine nor inside a cluster"):
            target.check(f"http://{other}/", ("http",), allow_remote=False)
    monkeypatch.setattr(target, "reached_networks", lambda except_link: [plan.pods])
    with pytest.raises(TradestackError, match="neither this machine nor inside a cluster"):
        target.check(near[0], ("http",), allow_remote=False)
