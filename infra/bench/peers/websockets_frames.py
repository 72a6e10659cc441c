"""A broadcaster on `websockets`: each frame is made once and written to every transport.

The library's own `broadcast` does the same without queues, but makes a frame for each client.

Run as `python -m infra.bench.peers.websockets_frames PORT BOOTSTRAP_SERVERS`.
"""

import asyncio
import contextlib
import signal
import sys
from collections import defaultdict

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from infra.bench.peers.ticks import subscribed, ticks

_UNSENT = 1024 * 1024
"""Bytes that a client may be behind before it is let go."""


class Broadcaster:
    """Clients by symbol."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._clients: dict[str, set[ServerConnection]] = defaultdict(set)

    async def run(self, ready: asyncio.Event) -> None:
        """Write ticks to the clients until cancelled; sets `ready` when none will be missed."""
        async for batch in ticks(self._servers):
            ready.set()
            for symbol, message in batch:
                frame = Frame(Opcode.TEXT, message).serialize(mask=False)
                for client in self._clients[symbol]:
                    if client.protocol.state is not State.OPEN:
                        continue
                    client.transport.write(frame)
                    if client.transport.get_write_buffer_size() > _UNSENT:
                        client.transport.abort()

    async def serve(self, client: ServerConnection) -> None:
        """One client, from its subscription to its end."""
        symbols: list[str] = []
        with contextlib.suppress(ConnectionClosed, ValueError):
            symbols, answer = subscribed(await client.recv())
            await client.send(answer)
            for symbol in symbols:
                self._clients[symbol].add(client)
            await client.wait_closed()
        for symbol in symbols:
            self._clients[symbol].discard(client)


async def main() -> None:
    """Serve until a signal."""
    port, servers = int(sys.argv[1]), sys.argv[2]
    broadcaster, ready, stopping = Broadcaster(servers), asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    work = asyncio.create_task(broadcaster.run(ready))
    work.add_done_callback(lambda _: stopping.set())
    opened, stop = asyncio.create_task(ready.wait()), asyncio.create_task(stopping.wait())
    await asyncio.wait((opened, stop), return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        async with serve(broadcaster.serve, "127.0.0.1", port, compression=None, backlog=4096):
            await stopping.wait()
    if work.done():
        work.result()
    work.cancel()


if __name__ == "__main__":
    uvloop.run(main())
