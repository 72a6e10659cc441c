"""What users may still trade: open orders, and their sums that every new order is measured by."""

from dataclasses import dataclass, field
from typing import Literal

from app.instruments import INSTRUMENTS
from app.risk.day import DayPosition
from app.wallet.ledger.assets import notional

Side = Literal["buy", "sell"]
UNITS = {symbol: notional(instrument, 1, 1) for symbol, instrument in INSTRUMENTS.items()}
"""Smallest units of the quote in one tick times one lot."""


@dataclass(slots=True)
class OpenOrder:
    """An order that counts as open."""

    owner: str
    symbol: str
    side: Side
    lots: int
    price: int
    filled: int = 0
    asked: list[tuple[int, int]] = field(default_factory=list)
    """Quantity and price of changes that are on their way to the book: until each is answered, the largest
    of all terms counts."""

    def counted(self) -> tuple[int, int]:
        """Lots, and lots times ticks, that it may trade at most."""
        lots, value = self.lots, self.lots * self.price
        for quantity, price in self.asked:
            rest = max(quantity - self.filled, 0)
            lots, value = max(lots, rest), max(value, rest * price)
        return lots, value


@dataclass(slots=True)
class OpenPosition(DayPosition):
    """What a user has in a symbol, and what is on its way."""

    buying: int = 0
    """Lots of open orders to buy."""
    selling: int = 0

    def open_lots(self, side: Side) -> int:
        """Lots of open orders of a side."""
        return self.buying if side == "buy" else self.selling

    def is_reduced_by(self, side: Side, lots: int) -> bool:
        """Whether these lots, after all open orders of their side, bring the position nearer to zero."""
        against = self.lots if side == "sell" else -self.lots
        return 0 < self.open_lots(side) + lots <= against


@dataclass(slots=True)
class _User:
    positions: dict[str, OpenPosition] = field(default_factory=dict)
    worth: dict[str, int] = field(default_factory=dict)
    """Quote currency → worth of open orders in its smallest units."""
    orders: int = 0
    """Number of open orders."""


class Exposure:
    """Open orders and positions of all users. Every method costs the same however many there are."""

    def __init__(self) -> None:
        self.orders: dict[int, OpenOrder] = {}
        self._users: dict[str, _User] = {}

    def add(self, order_id: int, order: OpenOrder) -> None:
        """Count an order, in place of one with this id."""
        self.forget(order_id)
        self.orders[order_id] = order
        self._count(order, 1)
        self._users[order.owner].orders += 1

    def forget(self, order_id: int) -> None:
        """Count an order no more."""
        order = self.orders.pop(order_id, None)
        if order is not None:
            self._count(order, -1)
            self._users[order.owner].orders -= 1

    def change(
        self,
        order: OpenOrder,
        *,
        lots: int | None = None,
        price: int | None = None,
        filled: int = 0,
        asked: list[tuple[int, int]] | None = None,
    ) -> None:
        """Give a counted order other terms; `filled` is what it traded now."""
        self._count(order, -1)
        order.lots = order.lots if lots is None else lots
        order.price = order.price if price is None else price
        order.asked = order.asked if asked is None else asked
        order.filled += filled
        self._count(order, 1)

    def remains(self, order_id: int, lots: int, filled: int) -> None:
        """So much of an order is still open; nothing is its end."""
        order = self.orders.get(order_id)
        if order is not None and lots:
            self.change(order, lots=lots, filled=filled)
        else:
            self.forget(order_id)

    def position(self, owner: str, symbol: str) -> OpenPosition:
        """To be read: that of somebody who never traded belongs to nobody."""
        user = self._users.get(owner)
        found = user.positions.get(symbol) if user else None
        return found or OpenPosition()

    def own_position(self, owner: str, symbol: str) -> OpenPosition:
        """To be changed."""
        return self._users.setdefault(owner, _User()).positions.setdefault(symbol, OpenPosition())

    def positions(self, owner: str) -> dict[str, OpenPosition]:
        """Symbol → position of a user."""
        user = self._users.get(owner)
        return user.positions if user else {}

    def owners(self) -> list[str]:
        """Everybody who has or had anything, in order."""
        return sorted(self._users)

    def open_orders(self, owner: str) -> int:
        """Number of a user's open orders."""
        user = self._users.get(owner)
        return user.orders if user else 0

    def worth(self, owner: str, currency: str) -> int:
        """Worth of a user's open orders in a quote currency, in its smallest units."""
        user = self._users.get(owner)
        return user.worth.get(currency, 0) if user else 0

    def _count(self, order: OpenOrder, sign: int) -> None:
        """Add what an order may trade to the sums of its user, or take it away."""
        lots, value = order.counted()
        position = self.own_position(order.owner, order.symbol)
        if order.side == "buy":
            position.buying += sign * lots
        else:
            position.selling += sign * lots
        worth, currency = self._users[order.owner].worth, INSTRUMENTS[order.symbol].currency
        worth[currency] = worth.get(currency, 0) + sign * value * UNITS[order.symbol]
