"""The public entry in front of real upstreams."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.gateway.routing import is_hidden, is_plain, route
from app.gateway.tunnel import SERVICE_RESTART, FrameBoundary
from app.kit.errors import ConfigurationError
from app.kit.limits import BoundedHttpProtocol
from app.kit.settings import Settings
from app.price_service.frames import frame
from infra.servers.process import free_port
from tests.app.platform import Platform, receive, running, subscribe


@asynccontextmanager
async def upstream(handle: Callable[[bytes], bytes | None]) -> AsyncIterator[str]:
    """A bare server: gets the head of a request, answers with bytes or hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = handle(await reader.readuntil(b"\r\n\r\n"))
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def gateway(directory: Path, **addresses: str) -> AsyncIterator[Platform]:
    async with running(directory, "gateway") as platform:
        platform.addresses |= {name.replace("_", "-"): url for name, url in addresses.items()}
        yield platform


def answer(body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


def test_the_longest_prefix_wins() -> None:
    assert route("/api/market/tickers") == ("/api/market", "market-data")
    assert route("/api/marketing") == ("/", "frontend")
    assert route("/ws") == ("/ws", "price-service")
    assert route("/") == ("/", "frontend")


@pytest.mark.parametrize(
    "path", ["/internal", "/internal/x", "/api/market/metrics", "/api/market/internal/x", "/livez/x"]
)
def test_hidden_paths(path: str) -> None:
    assert is_hidden(path)


@pytest.mark.parametrize("path", ["/a/../metrics", "/./a", "\\a", "a", "/a\\..\\b"])
def test_paths_that_could_mean_something_else(path: str) -> None:
    assert not is_plain(path)


async def test_passes_requests_and_answers_on(tmp_path: Path) -> None:
    heads: list[bytes] = []
    body = gzip.compress(b"hello")

    def handle(head: bytes) -> bytes:
        heads.append(head)
        return answer(
            body,
            "content-encoding: gzip\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n"
            "connection: x-hop\r\nx-hop: 1\r\n",
        )

    async with upstream(handle) as url, gateway(tmp_path, market_data=url) as platform:
        found = await platform.get(
            "gateway",
            "/api/market/x%20y?q=1&q=%2F",
            headers={
                "connection": "x-secret",
                "x-secret": "1",
                "x-forwarded-for": "9.9.9.9",
                "x-request-id": "request-0001",
                "x-name": "J\xf6rg".encode("latin-1"),
            },
        )
        assert found.text == "hello"
        assert found.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert found.headers["x-request-id"] == "request-0001"
        assert len(found.headers.get_list("date")) == 1
        assert not {"connection", "x-hop"} & found.headers.keys()
    head = heads[0].decode("latin-1").lower()
    assert "x-name: j\xf6rg" in head
    assert head.startswith("get /api/market/x%20y?q=1&q=%2f http/1.1")
    assert "x-forwarded-for: 9.9.9.9, 127.0.0.1" in head
    assert "x-request-id: request-0001" in head
    assert "x-secret" not in head
    assert f"x-forwarded-host: {platform.url('gateway').removeprefix('http://')}" in head


async def test_a_broken_connection_is_tried_once_more_for_reading_only(tmp_path: Path) -> None:
    tries: list[str] = []

    def handle(head: bytes) -> bytes | None:
        method = head.split()[0].decode()
        tries.append(method)
        return None if tries.count(method) == 1 else answer(b"second")

    async with upstream(handle) as url, gateway(tmp_path, market_data=url) as platform:
        assert (await platform.get("gateway", "/api/market/x")).text == "second"
        async with httpx.AsyncClient(trust_env=False) as client:
            refused = await client.post(platform.url("gateway", "/api/market/x"), content=b"order")
    assert (refused.status_code, refused.json()["code"]) == (502, "bad-gateway")
    assert tries == ["GET", "GET", "POST"]


async def test_a_request_that_no_upstream_would_take_is_the_clients_fault(tmp_path: Path) -> None:
    async with upstream(lambda _: answer(b"")) as url, gateway(tmp_path, market_data=url) as platform:
        twice = "GET /api/market/x HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n"
        assert (await talk(platform, twice)).startswith(b"HTTP/1.1 400 ")


async def test_a_body_that_never_comes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.gateway.proxy._BODY_SECONDS", 0.05)
    async with upstream(lambda _: None) as url, gateway(tmp_path, market_data=url) as platform:
        stalled = (
            "POST /api/market/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 9\r\n\r\nabc"
        )
        assert (await talk(platform, stalled)).startswith(b"HTTP/1.1 408 ")


async def test_a_slow_answer_is_not_cut_off_by_the_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()
    too_slow = BoundedHttpProtocol._too_slow

    def noted(connection: BoundedHttpProtocol) -> None:
        too_slow(connection)
        over.set()

    monkeypatch.setattr("app.kit.limits.HEAD_SECONDS", 1.0)
    monkeypatch.setattr(BoundedHttpProtocol, "_too_slow", noted)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await over.wait()  # the time of the second head is
        writer.write(answer(b"late"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, gateway(tmp_path, market_data=url) as platform:
        both = "GET /api/market/x HTTP/1.1\r\nhost: x\r\n\r\nGET /api/ma"
        assert (await talk(platform, both)).endswith(b"late")


async def test_an_upstream_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    async with gateway(tmp_path, market_data=f"http://127.0.0.1:{free_port()}") as platform:
        found = await platform.get("gateway", "/api/market/tickers")
        assert (found.status_code, found.headers["content-type"]) == (502, "application/problem+json")
        assert found.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/%6detrics",
        "/metrics/",
        "/internal/x",
        "/api/market/%6detrics",
        "/api/market/openapi.json",
    ],
)
async def test_what_is_hidden_is_not_found(tmp_path: Path, path: str) -> None:
    async with (
        upstream(lambda _: answer(b"secret")) as url,
        gateway(tmp_path, market_data=url, frontend=url) as platform,
    ):
        assert (await platform.get("gateway", path)).status_code == 404


async def test_metrics_have_a_port_that_is_not_the_public_one(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, "gateway", metrics_port=port) as platform:
        await platform.get("gateway", "/nothing")
        async with httpx.AsyncClient(trust_env=False) as client:
            found = await client.get(f"http://127.0.0.1:{port}/metrics")
        assert 'http_requests_total{method="GET",role="gateway"' in found.text
        assert (await platform.get("gateway", "/livez")).status_code == 200


async def test_dot_segments_are_refused(tmp_path: Path) -> None:
    async with (
        upstream(lambda _: answer(b"secret")) as url,
        gateway(tmp_path, market_data=url, frontend=url) as platform,
    ):
        assert (await platform.get("gateway", "/api/market/%2e%2e/metrics")).status_code == 400


async def test_relays_prices(tmp_path: Path) -> None:
    async with running(tmp_path, "gateway", "price-service", "price-collector") as platform:
        async with platform.websocket("gateway") as client:
            await subscribe(client, "*")
            first = await receive(client, "snapshot")
            assert first["ticks"]
            assert (await receive(client, "tick"))["seq"] > 0
        with pytest.raises(InvalidStatus) as refused:
            await platform.websocket("gateway", additional_headers={}).__class__(
                platform.url("gateway", "/elsewhere").replace("http", "ws"), proxy=None
            )
        assert refused.value.response.status_code == 404


async def test_a_close_of_either_side_reaches_the_other(tmp_path: Path) -> None:
    async with running(tmp_path, "gateway", "price-service") as platform:
        async with platform.websocket("gateway") as client:
            await client.send(b"binary is refused with 1003")
            with pytest.raises(ConnectionClosed) as closed:
                await receive(client)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1003
        async with platform.websocket("gateway") as client:
            await client.send('{"op":"ping"}')
            await receive(client)
            await client.close(4001)
            assert client.close_code == 4001


async def test_a_dying_upstream_sends_the_client_to_reconnect(tmp_path: Path) -> None:
    died = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from websockets.utils import accept_key

        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(
            line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key")
        )
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode()
            + frame({"type": "hello"})
        )
        await writer.drain()
        await died.wait()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        gateway(tmp_path, price_service=url) as platform,
        platform.websocket("gateway") as client,
    ):
        assert await receive(client) == {"type": "hello"}
        died.set()
        with pytest.raises(ConnectionClosed) as closed:
            await receive(client)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_no_websocket_upstream_is_a_502(tmp_path: Path) -> None:
    async with gateway(tmp_path, price_service=f"http://127.0.0.1:{free_port()}") as platform:
        with pytest.raises(InvalidStatus) as refused:
            await platform.websocket("gateway")
        assert refused.value.response.status_code == 502


HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def talk(platform: Platform, *requests: str) -> bytes:
    """Write raw requests one after the other on one connection, without waiting; returns all answers."""
    host, port = platform.url("gateway").removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(30):
            writer.write(requests[0].encode())
            first = await reader.readuntil(b"\r\n\r\n")
            for request in requests[1:]:
                writer.write(request.encode())
            return first + await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("path", ["/api/market/x", "/ws"])
@pytest.mark.parametrize(("status", "told"), [(b"200 OK", 502), (b"404 Not Found", 404)])
async def test_a_refused_handshake_is_no_way_to_the_upstream(
    tmp_path: Path, path: str, status: bytes, told: int
) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 6\r\n\r\nsecret")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, gateway(tmp_path, market_data=url, price_service=url) as platform:
        answers = await talk(
            platform, HANDSHAKE.format(path=path), "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
        )
    assert answers.startswith(b"HTTP/1.1 %d " % told)
    assert b"secret" not in answers
    assert [head.split()[1].decode() for head in heads] == [path]


async def test_an_upstream_that_hangs_up_on_a_handshake_is_a_502(tmp_path: Path) -> None:
    async with upstream(lambda _: None) as url, gateway(tmp_path, price_service=url) as platform:
        assert (await talk(platform, HANDSHAKE.format(path="/ws"))).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("path", ["/ws/%6detrics", "/ws/%2e%2e/x"])
async def test_tunnels_see_through_encoded_paths(tmp_path: Path, path: str) -> None:
    heads: list[bytes] = []
    async with upstream(heads.append) as url, gateway(tmp_path, price_service=url) as platform:
        assert (await talk(platform, HANDSHAKE.format(path=path))).startswith(b"HTTP/1.1 404 ")
    assert heads == []


async def test_the_client_address_comes_after_what_the_client_claims(tmp_path: Path) -> None:
    heads: list[bytes] = []
    async with upstream(heads.append) as url, gateway(tmp_path, price_service=url) as platform:
        claimed = HANDSHAKE.format(path="/ws").replace("host: x", "host: x\r\nx-forwarded-for: 9.9.9.9")
        await talk(platform, claimed)
    assert heads[0].index(b"x-forwarded-for: 9.9.9.9") < heads[0].index(b"x-forwarded-for: 127.0.0.1")


async def test_drain_closes_tunnels_with_1012(tmp_path: Path) -> None:
    async with (
        running(tmp_path, "price-service") as behind,
        gateway(tmp_path, price_service=behind.url("price-service")) as platform,
    ):
        client = await platform.websocket("gateway")
        await client.send('{"op":"ping"}')
        await receive(client)
        platform.stopping.set()
        with pytest.raises(ConnectionClosed) as closed:
            await receive(client)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


@given(st.lists(st.integers(0, 70_000), max_size=6), st.lists(st.integers(0, 80_000), max_size=12))
def test_frame_ends_are_found_however_the_bytes_are_cut(sizes: list[int], cuts: list[int]) -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"
    frames = [frame({"x": "y" * size}) for size in sizes]
    stream = head + b"".join(frames)
    ends = {len(head)}
    for each in frames:
        ends.add(max(ends) + len(each))
    boundary, at = FrameBoundary(), 0
    for cut in sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)}):
        boundary.feed(stream[at:cut])
        at = cut
        assert boundary.between_frames == (at in ends)
        assert not boundary.closed
    boundary.feed(SERVICE_RESTART)
    assert boundary.closed


def test_a_password_in_an_address_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_DATABASE_URL", "postgres://trading:hunter2@db/trading")
    with pytest.raises(ConfigurationError, match=r"'postgres://trading:\*\*\*@db/trading'") as refused:
        Settings.load()
    assert "hunter2" not in str(refused.value)


def test_addresses_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_UPSTREAM_MARKET_DATA", "http://elsewhere:1")
    settings = Settings.load()
    assert settings.upstream("market-data") == "http://elsewhere:1"
    assert settings.upstream("frontend") == "http://frontend:3000"
