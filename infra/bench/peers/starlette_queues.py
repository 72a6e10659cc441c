"""A broadcaster on Starlette and uvicorn: a queue for each client, a task that sends what is in it.

Run as `python -m infra.bench.peers.starlette_queues PORT BOOTSTRAP_SERVERS`.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from infra.bench.peers.ticks import subscribed, ticks

_UNSENT = 1000
"""Messages that a client may be behind before it is let go."""
Queue = asyncio.Queue[str | None]


class Broadcaster:
    """Queues of the clients, by symbol."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._queues: dict[str, set[Queue]] = defaultdict(set)

    async def run(self, ready: asyncio.Event) -> None:
        """Hand ticks to the queues until cancelled; sets `ready` when none will be missed."""
        async for batch in ticks(self._servers):
            ready.set()
            for symbol, message in batch:
                text = message.decode()
                for queue in tuple(self._queues[symbol]):
                    self._put(queue, text)

    def _put(self, queue: Queue, text: str) -> None:
        if queue.qsize() < _UNSENT:
            queue.put_nowait(text)
        elif queue.qsize() == _UNSENT:
            queue.put_nowait(None)

    async def serve(self, socket: WebSocket) -> None:
        """One client, from its subscription to its end."""
        await socket.accept()
        queue: Queue = asyncio.Queue()
        symbols: list[str] = []
        sending = None
        try:
            symbols, answer = subscribed(await socket.receive_text())
            await socket.send_text(answer)
            for symbol in symbols:
                self._queues[symbol].add(queue)
            sending = asyncio.create_task(self._send(socket, queue))
            while True:
                await socket.receive_text()
        except (WebSocketDisconnect, ValueError):
            pass
        finally:
            for symbol in symbols:
                self._queues[symbol].discard(queue)
            if sending is not None:
                sending.cancel()

    @staticmethod
    async def _send(socket: WebSocket, queue: Queue) -> None:
        while (text := await queue.get()) is not None:
            await socket.send_text(text)
        await socket.close(1013)


def main() -> None:
    """Serve until a signal."""
    port, servers = int(sys.argv[1]), sys.argv[2]
    broadcaster = Broadcaster(servers)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ready = asyncio.Event()
        work = asyncio.create_task(broadcaster.run(ready))
        opened = asyncio.create_task(ready.wait())
        await asyncio.wait((work, opened), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        yield
        work.cancel()

    uvicorn.run(
        Starlette(routes=[WebSocketRoute("/ws", broadcaster.serve)], lifespan=lifespan),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_level="warning",
        backlog=4096,
    )


if __name__ == "__main__":
    main()
