"""What one client may ask of the edge, and that the others do not notice when it asks for more."""

import asyncio
import re
import socket
import time

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from infra.loadtest.stream import allow_files
from tests.cluster.platform import edge
from tests.cluster.platform.conftest import Platform, pinned
from tests.traders import within

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LIMIT = 100
"""Requests of one address in a second (seed 000, section 7.2)."""
CONNECTIONS = 50
"""WebSockets of one address at one price-service (seed 000, section 7.2)."""
TOTAL = 9_000
"""Connections of everyone together (Pulumi.local.yaml)."""
QUIET = "/api/market/instruments"
"""What the other client asks for."""


async def _burst(address: str, connections: int, each: int) -> tuple[list[int], str, float]:
    """Statuses of many requests at once, the last refusal, and how long it all took."""
    request = f"GET {QUIET} HTTP/1.1\r\nhost: {address}\r\n\r\n".encode()
    final = f"GET {QUIET} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n".encode()
    begun = time.monotonic()

    async def one() -> bytes:
        reader, writer = await asyncio.open_connection(address, edge.HTTP)
        writer.write(request * (each - 1) + final)
        await writer.drain()
        answers = await reader.read(-1)
        writer.close()
        return answers

    async with asyncio.timeout(120):
        answers = b"".join(await asyncio.gather(*(one() for _ in range(connections)))).decode()
    statuses = [int(status) for status in re.findall(r"HTTP/1\.1 (\d{3}) ", answers)]
    at = answers.rfind("HTTP/1.1 429")
    return statuses, answers[at : at + 1500] if at >= 0 else "", time.monotonic() - begun


def test_beyond_its_limit_one_address_is_refused_and_another_served(platform: Platform) -> None:
    with edge.asking_inside(platform, QUIET, count=60, pause=0.1) as other:
        for _ in range(4):
            # So many at once that how fast they are answered does not count.
            statuses, refusal, seconds = asyncio.run(_burst(edge.host(platform), 2 * LIMIT, 3))
            assert set(statuses) == {200, 429}
            # A full bucket at the start, and what comes into it meanwhile.
            assert statuses.count(200) <= LIMIT * (seconds + 2)
    assert "content-type: application/problem+json" in refusal
    assert "retry-after: 1" in refusal
    assert '"code":"rate-limited"' in refusal
    assert other.statuses == {200}

    def served() -> bool:
        return httpx.get(f"{platform.url}{QUIET}", trust_env=False, timeout=30).status_code == 200

    within(60, "the bucket fills again", served)


def test_half_sent_headers_are_cut_off_while_others_are_served(platform: Platform) -> None:
    address = (edge.host(platform), edge.HTTP)
    slow = [socket.create_connection(address, timeout=30) for _ in range(300)]
    begun = time.monotonic()
    try:
        for each in slow:
            each.sendall(b"GET / HTTP/1.1\r\nhost: edge\r\nx-slow: ")
            each.setblocking(False)
        with edge.asking_inside(platform, QUIET, count=40, pause=0.2) as other:
            open_ones = set(slow)
            while open_ones:
                assert time.monotonic() - begun < 90, f"{len(open_ones)} are still open"
                for each in list(open_ones):
                    try:
                        each.send(b"x")
                        if each.recv(4096) == b"":
                            open_ones.discard(each)
                    except BlockingIOError:
                        pass
                    except OSError:
                        open_ones.discard(each)
                time.sleep(0.5)
        assert time.monotonic() - begun > 5, "cut off before they were slow"
        assert other.statuses == {200}
    finally:
        for each in slow:
            each.close()


def test_a_body_that_never_ends_is_given_up(platform: Platform) -> None:
    begun = time.monotonic()
    with socket.create_connection((edge.host(platform), edge.HTTP), timeout=60) as client:
        client.sendall(
            b"POST /api/auth/login HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\n"
            b'content-length: 1000\r\n\r\n{"email":'
        )
        answer = client.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 408 ")
    assert 20 < time.monotonic() - begun < 45


async def _attempts(address: str, count: int, at_once: int) -> int:
    """Connections that were made and closed again, by `count` attempts."""
    made = 0
    room = asyncio.Semaphore(at_once)

    async def one(port: int) -> None:
        nonlocal made
        async with room:
            try:
                async with asyncio.timeout(30):
                    _, writer = await asyncio.open_connection(address, port)
            except (OSError, TimeoutError):
                return
            made += 1
            writer.close()

    async with asyncio.timeout(300):
        await asyncio.gather(*(one((edge.HTTP, edge.HTTPS)[n % 2]) for n in range(count)))
    return made


def test_ten_thousand_connections_of_one_address_hold_nobody_else_up(platform: Platform) -> None:
    with edge.asking_inside(platform, QUIET, count=100, pause=0.1) as other:
        made = asyncio.run(_attempts(edge.host(platform), 10_000, 400))
    assert made > 9_000
    assert other.statuses == {200}
    assert all(count == 0 for pod, count in platform.restarts().items() if pod.startswith("edge-"))


async def test_one_address_has_so_many_websockets(platform: Platform) -> None:
    held: list[ClientConnection] = []
    refused: list[int] = []
    with pinned(platform, 1):
        try:
            while len(refused) < 20 and len(held) <= CONNECTIONS:
                try:
                    held.append(await connect(platform.stream, proxy=None, open_timeout=30))
                except InvalidStatus as answer:
                    refused.append(answer.response.status_code)
            assert set(refused) == {429}
            assert len(held) <= CONNECTIONS
            # Another address is another client.
            inside = await asyncio.to_thread(edge.ask_inside, platform, "/ws")
            assert 429 not in inside.statuses
        finally:
            await asyncio.gather(*(each.close() for each in held))


def _is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_connections_beyond_the_total_are_closed_and_the_others_served(platform: Platform) -> None:
    allow_files(TOTAL + 1_000)
    address = (edge.host(platform), edge.HTTP)
    request = f"GET {QUIET} HTTP/1.1\r\nhost: edge\r\n\r\n".encode()
    clients: list[socket.socket] = []
    try:
        clients.extend(socket.create_connection(address, timeout=30) for _ in range(TOTAL + 300))
        within(60, "some are closed", lambda: sum(map(_is_closed, clients)) >= 250)
        first = [each for each in clients if not _is_closed(each)][:20]
        assert len(first) == 20
        for each in first:
            each.settimeout(30)
            each.sendall(request)
            assert each.recv(64).startswith(b"HTTP/1.1 200 ")
    finally:
        for each in clients:
            each.close()

    def served() -> bool:
        try:
            return httpx.get(f"{platform.url}{QUIET}", trust_env=False, timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    within(60, "there is room again", served)
    assert all(count == 0 for pod, count in platform.restarts().items() if pod.startswith("edge-"))
