"""Reads what the matching engine decided, for the channels `trades`, `orders` and `fills`."""

from collections.abc import Iterable

from app.events.stream import TOPIC
from app.executions import Output, each
from app.kit.broadcast import Broadcast
from app.kit.bus import Bus, Message
from app.price_service.executions import Executions
from app.price_service.hub import Hub
from app.price_service.streams import GATHER, Entry
from app.price_service.trades import Trades

_BATCH = 500


class MatchingFollower:
    """Every replica reads the whole stream, each message once."""

    def __init__(self, bus: Bus, hub: Hub, trades: Trades, executions: Executions) -> None:
        self._messages = Broadcast(bus, [TOPIC], _BATCH, GATHER)
        self._hub = hub
        self._trades = trades
        self._executions = executions
        self._entries: list[Entry] = []

    async def open(self) -> None:
        """Fix the place on the bus; raises Unavailable."""
        await self._messages.open()

    async def run(self) -> None:
        """Hand on until cancelled; raises Unavailable when the subscription breaks."""
        await self._messages.follow(self.take, self._reopen)

    async def _reopen(self) -> None:
        await self.open()
        self._executions.interrupted()
        for stream in self._trades.interrupted():
            self._hub.forget(stream)

    def take(self, messages: Iterable[Message]) -> None:
        """Hand on what is new in some messages."""
        each(messages, self._output)
        entries, self._entries = self._entries, []
        self._hub.publish(entries)

    def _output(self, message: Message, output: Output) -> None:
        self._entries += self._trades.entries(output)
        self._executions.take(message.value, output)
