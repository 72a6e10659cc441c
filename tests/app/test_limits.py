"""What clients may cost before their request is known."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.kit.limits import HEAD_BYTES
from tests.app.platform import running

ENOUGH = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"


@asynccontextmanager
async def connected(directory: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with running(directory, "frontend") as platform:
        host, port = platform.url("frontend").removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            async with asyncio.timeout(30):
                yield reader, writer
        finally:
            writer.close()


async def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    async def write_for_ever(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"a" * 16384)
            await writer.drain()
            await asyncio.sleep(0)

    async with connected(tmp_path) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nx: ")
        with pytest.raises(ConnectionError):
            await write_for_ever(writer)


async def test_a_head_of_usual_size_is_taken_byte_by_byte(tmp_path: Path) -> None:
    async with connected(tmp_path) as (reader, writer):
        head = b"GET /livez HTTP/1.1\r\nhost: x\r\nx: " + b"a" * (HEAD_BYTES // 2) + b"\r\n\r\n"
        for at in range(0, len(head), 4096):
            writer.write(head[at : at + 4096])
            await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_a_slow_head_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.kit.limits.HEAD_SECONDS", 1.0)
    async with connected(tmp_path) as (reader, writer):
        assert await reader.read() == b""
    async with connected(tmp_path) as (reader, writer):
        writer.write(ENOUGH)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.write(ENOUGH[:20])
        assert await reader.read() == b""


async def test_many_requests_in_one_piece_are_no_large_head(tmp_path: Path) -> None:
    async with connected(tmp_path) as (reader, writer):
        count = 4 * HEAD_BYTES // len(ENOUGH)
        writer.write(ENOUGH * count)
        for _ in range(count):
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
