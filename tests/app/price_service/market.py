"""One order book that a test changes, and its publications."""

import random

from app.events.books import TOPIC, BookUpdated
from app.events.envelope import Envelope
from app.events.registry import FAMILIES
from app.exchange import Cancel, OrderType, Place, Side
from app.kit.bus.memory import MemoryBus
from app.matching.books import Books
from app.matching.depth import BookPublisher
from app.matching_client.commands import PublishedBooks


class NoRisk:
    """Risk has no part here."""

    def apply(self, symbol: str, change: object, at: int) -> None:
        pass

    def forget(self, order_id: int) -> None:
        pass

    def dump(self) -> bytes:
        return b""


class Market:
    """The book of a symbol, changed at random around a price, and what the engine publishes of it."""

    def __init__(self, symbol: str = "BTC-USD", seed: int = 1, price: int = 10_000) -> None:
        self.symbol = symbol
        self.rng = random.Random(seed)
        self.price = price
        self.books = Books([symbol], NoRisk())
        self._bus = MemoryBus()
        self._taken = 0
        self._open: list[int] = []
        self._orders = 0
        self.lead(1)

    def lead(self, epoch: int) -> None:
        """Begin a new term."""
        self._publisher = BookPublisher(self._bus, epoch, self.books, 0.05, lambda: 1_790_000_000_000)

    def change(self, commands: int = 20) -> None:
        """Orders come and go; at least one level of the best is another then."""
        for _ in range(commands):
            self._change()
        side = self.books.engines[self.symbol].book.bids
        self.place(Side.BUY, side.best_price() or self.price - 1)

    def place(self, side: Side, price: int, quantity: int = 1) -> None:
        self._orders += 1
        self._open.append(self._orders)
        self.books.engines[self.symbol].apply(
            Place(
                time=1,
                order_id=self._orders,
                account=1 + (side is Side.SELL),
                side=side,
                order_type=OrderType.LIMIT,
                quantity=quantity,
                price=price,
            )
        )

    async def publish(self) -> list[BookUpdated]:
        """What the engine publishes now."""
        await self._bus.ensure([FAMILIES[TOPIC].topic])
        assert await self._publisher.turn()
        found = [m for p in self._bus.partitions(TOPIC) for m in p.messages]
        new, self._taken = found[self._taken :], len(found)
        return [BookUpdated.model_validate(Envelope.decode(one.value).payload) for one in new]

    async def changed(self, commands: int = 20) -> BookUpdated:
        """The one update that some changes give."""
        self.change(commands)
        (update,) = await self.publish()
        return update

    async def ask(self) -> PublishedBooks:
        """What the leader answers."""
        return PublishedBooks(books=tuple(self._publisher.published()))

    def levels(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The best 100 bids and asks of the book itself."""
        book = self.books.engines[self.symbol].book
        return book.bids.depth(100), book.asks.depth(100)

    def _change(self) -> None:
        rng = self.rng
        if self._open and rng.random() < 0.45:
            gone = self._open.pop(rng.randrange(len(self._open)))
            for account in (1, 2):
                self.books.engines[self.symbol].apply(Cancel(time=1, order_id=gone, account=account))
            return
        side, away = rng.choice((Side.BUY, Side.SELL)), rng.randint(-3, 160)
        self.place(side, self.price - away if side is Side.BUY else self.price + away, rng.randint(1, 9))
