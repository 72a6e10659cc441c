"""Executions for the users that are connected to this replica, from a subscription of its own."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Protocol

from prometheus_client import Counter

from app.events.stream import TOPIC
from app.executions import Output, each, told
from app.kit.broadcast import Broadcast
from app.kit.bus import Bus, Message

_BATCH = 500
_pushed = Counter("order_executions_pushed_total", "Changes of orders written to WebSocket clients")


class Sink(Protocol):
    """Where the executions of one connection go."""

    def push(self, message: dict[str, Any]) -> None:
        """Take a message; never blocks."""


class Executions:
    """Reads all that the engine decides and hands users what is theirs.

    Messages are read as plain JSON and only while somebody is connected: every replica reads the whole
    stream, and checking it against the schema is the projection's work.
    """

    def __init__(self, bus: Bus) -> None:
        self._messages = Broadcast(bus, [TOPIC], _BATCH)
        self._sinks: dict[str, set[Sink]] = defaultdict(set)
        self._last: dict[str, int] = {}
        """Symbol → sequence of the last change that was handed on."""

    def join(self, owner: str, sink: Sink) -> None:
        """Hand a user's executions to `sink` from now on."""
        self._sinks[owner].add(sink)

    def leave(self, owner: str, sink: Sink) -> None:
        """Hand nothing to `sink` any longer."""
        self._sinks[owner].discard(sink)
        if not self._sinks[owner]:
            del self._sinks[owner]

    async def open(self) -> None:
        """Fix the place on the bus; raises Unavailable."""
        await self._messages.open()

    async def run(self) -> None:
        """Hand executions on until cancelled; raises Unavailable when the subscription breaks."""
        await self._messages.follow(self.take, self._reopen)

    async def _reopen(self) -> None:
        await self.open()
        self._last.clear()
        self._tell_all("stream-interrupted")

    def take(self, messages: Iterable[Message]) -> None:
        """Hand on what is new in some messages."""
        if not self._sinks:
            self._last.clear()
            return
        each(messages, self._output)

    def _output(self, _: Message, output: Output) -> None:
        symbol = output["symbol"]
        last = self._last.get(symbol)
        if last is not None and output["last"] <= last:
            return
        if last is not None and output["first"] > last + 1:
            self._tell_all("gap", symbol=symbol)
        self._last[symbol] = output["last"]
        for owner, message in told(output, last or 0, self._sinks):
            if sinks := self._sinks.get(owner):
                for sink in tuple(sinks):
                    sink.push(message)
                _pushed.inc(len(sinks))

    def _tell_all(self, reason: str, **more: str) -> None:
        for sinks in tuple(self._sinks.values()):
            for sink in tuple(sinks):
                sink.push({"type": "resync", "reason": reason, **more})
