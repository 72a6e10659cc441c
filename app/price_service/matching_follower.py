"""Reads what the matching engine decided, for the channels `trades`, `orders` and `fills`."""

from collections.abc import Iterable

from app.events.stream import TOPIC
from app.executions import Output, each
from app.kit.bus import Bus, Message, Subscription
from app.price_service.executions import Executions
from app.price_service.hub import Hub
from app.price_service.streams import GATHER, Entry
from app.price_service.trades import Trades

_BATCH = 500


class MatchingFollower:
    """Every replica reads the whole stream, each message once."""

    def __init__(self, bus: Bus, hub: Hub, trades: Trades, executions: Executions) -> None:
        self._bus = bus
        self._hub = hub
        self._trades = trades
        self._executions = executions
        self._subscription: Subscription | None = None
        self._entries: list[Entry] = []

    async def open(self) -> None:
        """Fix the place on the bus; raises Unavailable."""
        await self.close()
        self._subscription = await self._bus.subscribe([TOPIC], None)

    async def run(self) -> None:
        """Hand on until cancelled; raises Unavailable when the subscription breaks."""
        try:
            if self._subscription is None:
                await self.open()
                self._executions.interrupted()
                for stream in self._trades.interrupted():
                    self._hub.forget(stream)
            assert self._subscription is not None  # noqa: S101 - opened above
            while True:
                self.take(await self._subscription.batch(_BATCH, seconds=1.0, gather=GATHER))
        finally:
            await self.close()

    def take(self, messages: Iterable[Message]) -> None:
        """Hand on what is new in some messages."""
        each(messages, self._output)
        entries, self._entries = self._entries, []
        self._hub.publish(entries)

    def _output(self, message: Message, output: Output) -> None:
        self._entries += self._trades.entries(output)
        self._executions.take(message.value, output)

    async def close(self) -> None:
        """Leave the bus."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.close()
