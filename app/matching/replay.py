"""Batches whose output nobody needs any more: as many as the journal has, at the least cost."""

from itertools import repeat

from app.exchange import PlaceOco, Trade
from app.matching.books import Books, without_orders
from app.matching.journal import Entry, unpack_commands
from app.matching.names import SIDE_NAMES
from app.matching.translate import Owners, trade_made
from app.risk.exposure import OpenOrder
from app.risk.limits import Limits
from app.risk.pretrade import PreTradeRisk


class Replay:
    """Takes batches into books. Risk learns of trades only, and of orders from the books at the end.

    The state is the same as with `Books.apply`, but for the first answers, which are not kept.
    """

    def __init__(self, books: Books, owners: Owners, limits: Limits) -> None:
        self._books = books
        self._owners = owners
        self._limits = limits
        self._risk = self._without_orders(books)

    def apply(self, batch: int, at: int, records: bytes) -> None:
        """Take the next batch.

        Raises:
            ValueError: it is not the next one, or its records are damaged.
        """
        books = self._books
        books.begin(batch, at)
        for symbol, asked, commands in unpack_commands(records):
            engine_apply = books.engines[symbol].apply
            kinds = asked if any(asked) else repeat(0)
            for command, kind in zip(commands, kinds, strict=False):
                events = engine_apply(command)
                if kind:
                    books.asked[symbol] |= Entry(command, kind).types()
                if len(events) > 1 or isinstance(command, PlaceOco):
                    for event in events:
                        if isinstance(event, Trade):
                            self._risk.apply(symbol, trade_made(event, self._owners), at)

    def finish(self) -> PreTradeRisk:
        """The state of risk after the last batch, which the books have from now on."""
        risk = self._books.risk = self._risk
        for symbol, engine in self._books.engines.items():
            for order in engine.book.orders.values():
                terms, owner = order.terms, self._owners.owner(order.account)
                filled = terms.quantity - order.remaining
                side = SIDE_NAMES[terms.side]
                risk.count(
                    order.order_id, OpenOrder(owner, symbol, side, order.remaining, terms.price, filled)
                )
        return risk

    def _without_orders(self, books: Books) -> PreTradeRisk:
        return PreTradeRisk.load(without_orders(books.risk.dump()), self._limits)
