"""Checks of every order before it reaches a book: in memory, exact, the same for the same inputs.

What is counted are the open orders, the net position that trades made (deposits are no trades) and the
profit of the day. Rules:

* Kill switches. `all` and `symbol` refuse every new order and change, forced closes too: a market is stopped
  because its prices cannot be trusted. `user` refuses all that the user sends, reducing or not, but lets
  forced closes pass. Cancels always go through.
* Rate. A bucket of `order_burst` orders that fills by `order_rate` per second; an order that is refused by
  the checks after it has used its place. Forced closes do not count.
* Collar. The worst price of an order to buy is at most the reference and `collar_bps` more, of one to sell at
  least as much less; prices far on the other side only wait. It holds for every order. Without a reference
  (nothing has traded, no mark) there is no collar.
* Number of open orders, `MOST_OPEN_ORDERS`; forced closes do not count.
* Worth of the order, worth of all open orders in that quote currency, position as if every open order of that
  side were filled, loss of the day in any quote currency. Orders that can only reduce the position, together
  with all open orders of that side, pass all four; so do forced closes.

The loss of the day is that of `app.risk.day`, at the last trade of each symbol.
"""

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from app.events.matching import (
    Change,
    CommandRejected,
    OrderAccepted,
    OrderCancelled,
    OrderReduced,
    OrderReplaced,
    TradeMade,
)
from app.instruments import INSTRUMENTS
from app.risk.day import DAY_MS, DayPrice, day_result
from app.risk.exposure import UNITS, Exposure, OpenOrder, Side
from app.risk.limits import Effective, Limits, money_unit

MOST_OPEN_ORDERS = 10_000
"""Of one user. A small order far from the market holds next to no funds, but memory, and it costs time
whenever its book is looked at."""
_BPS = 10_000
_MARKETS = {symbol: (UNITS[symbol], instrument.currency) for symbol, instrument in INSTRUMENTS.items()}
_ORDER = 1000
"""What one order takes out of its bucket: the bucket gets `order_rate` of it with every millisecond."""


class RiskReason(StrEnum):
    """Why an order is refused."""

    KILL_SWITCH_ALL = "kill_switch_all"
    KILL_SWITCH_SYMBOL = "kill_switch_symbol"
    KILL_SWITCH_USER = "kill_switch_user"
    ORDER_RATE = "order_rate_exceeded"
    OPEN_ORDERS = "too_many_open_orders"
    PRICE_COLLAR = "price_outside_collar"
    ORDER_NOTIONAL = "order_notional_exceeded"
    OPEN_NOTIONAL = "open_notional_exceeded"
    POSITION_LIMIT = "position_limit_exceeded"
    DAILY_LOSS = "daily_loss_reached"


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order that wants to be entered."""

    order_id: int
    owner: str
    symbol: str
    side: Side
    quantity: int
    """Lots."""
    price: int
    """Worst price at which it can trade, in ticks."""
    paired: bool = False
    """The second of two orders of which one can trade: its lots are counted already, its worth is not."""
    origin: Literal["user", "forced_close"] = "user"


class PreTradeRisk:
    """The state of the checks. One order costs the same however many there are; see the module for the rules.

    `limits` may be replaced at any time: what is open stays, what comes is measured by the new ones.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._effective: dict[tuple[str, str], Effective] = {}
        self._exposure = Exposure()
        self._prices: dict[str, DayPrice] = {}
        self._buckets: dict[str, tuple[int, int]] = {}

    @property
    def limits(self) -> Limits:
        """What orders are measured by."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._effective.clear()

    def switched_off(self, owner: str, symbol: str) -> str | None:
        """The kill switch that refuses new orders of this user in this symbol; None when there is none."""
        return self._market_switch(symbol) or (
            RiskReason.KILL_SWITCH_USER.value if owner in self._limits.stopped_users else None
        )

    def admit(self, order: NewOrder, reference: int | None, now_ms: int) -> str | None:
        """Why the order is refused, a `RiskReason`; None when it is not: then it counts as open.

        `reference` is the price in ticks that the collar is laid around, `now_ms` Unix time.
        """
        forced = order.origin == "forced_close"
        limits = self._of(order.owner, order.symbol)
        refused = (
            self._market_switch(order.symbol)
            if forced
            else self.switched_off(order.owner, order.symbol) or self._rate(order.owner, limits, now_ms)
        )
        refused = refused or _collar(order.side, order.price, reference, limits)
        wanted = OpenOrder(order.owner, order.symbol, order.side, order.quantity, order.price)
        if refused is None and not forced and self._exposure.open_orders(order.owner) >= MOST_OPEN_ORDERS:
            refused = RiskReason.OPEN_ORDERS.value
        if refused is None and not forced:
            lots, worth = 0 if order.paired else order.quantity, order.quantity * order.price
            refused = self._exceeds(wanted, lots, worth, worth, limits, now_ms)
        if refused is None:
            self._exposure.add(order.order_id, wanted)
        return refused

    def amend(
        self, order_id: int, quantity: int, price: int, reference: int | None, now_ms: int
    ) -> str | None:
        """Why a change to a quantity (the total, with what was executed) and price is refused, or None.

        Until the book answers, the larger terms of both count. What only makes an order smaller passes the
        limits of worth, position and loss. An order that is not open is left to the book.
        """
        order = self._exposure.orders.get(order_id)
        if order is None:
            return None
        limits = self._of(order.owner, order.symbol)
        refused = self.switched_off(order.owner, order.symbol) or self._rate(order.owner, limits, now_ms)
        refused = refused or _collar(order.side, price, reference, limits)
        lots, worth = order.counted()
        asked = [*order.asked, (quantity, price)]
        new_lots, new_worth = replace(order, asked=asked).counted()
        if refused is None and (new_lots > lots or new_worth > worth):
            whole = new_worth if new_worth > worth else 0
            refused = self._exceeds(order, new_lots - lots, whole, new_worth - worth, limits, now_ms)
        if refused is None:
            self._exposure.change(order, asked=asked)
        return refused

    def count(self, order_id: int, order: OpenOrder) -> None:
        """An order is open in its book already, as after a restart."""
        self._exposure.add(order_id, order)

    def forget(self, order_id: int) -> None:
        """An order that was admitted was not entered after all."""
        self._exposure.forget(order_id)

    def forget_change(self, order_id: int) -> None:
        """The newest change that `amend` allowed was not asked of the book after all."""
        order = self._exposure.orders.get(order_id)
        if order is not None:
            self._exposure.change(order, asked=order.asked[:-1])

    def apply(self, symbol: str, change: Change, at: int) -> None:
        """Take over what the book did; `at` is Unix time in milliseconds. Every change once, in order.

        Orders need not have been admitted here: so the state is rebuilt from the changes alone.
        """
        exposure = self._exposure
        match change:
            case OrderAccepted():
                order = exposure.orders.get(change.order_id)
                if order is None:
                    new = OpenOrder(change.owner, symbol, change.side, change.quantity, change.price)
                    exposure.add(change.order_id, new)
                else:
                    exposure.change(order, lots=change.quantity, price=change.price)
            case TradeMade():
                self._trade(symbol, change, at // DAY_MS)
            case OrderCancelled() | CommandRejected(command="place"):
                exposure.forget(change.order_id)
            case OrderReduced():
                exposure.remains(change.order_id, change.remaining, 0)
            case OrderReplaced() if change.order_id in exposure.orders:
                order = exposure.orders[change.order_id]
                exposure.change(order, lots=change.remaining, price=change.price, asked=order.asked[1:])
            case CommandRejected(command="replace") if change.order_id in exposure.orders:
                order = exposure.orders[change.order_id]
                exposure.change(order, asked=order.asked[1:])
            case _:
                pass

    def position(self, owner: str, symbol: str) -> int:
        """Net lots that trades made, negative when more was sold than bought."""
        return self._exposure.position(owner, symbol).lots

    def open_lots(self, owner: str, symbol: str, side: Side) -> int:
        """Lots of open orders of one side, changes on their way included."""
        return self._exposure.position(owner, symbol).open_lots(side)

    def open_worth(self, owner: str, currency: str) -> int:
        """Worth of a user's open orders in a quote currency, in its smallest units."""
        return self._exposure.worth(owner, currency)

    def day_result(self, owner: str, now_ms: int) -> dict[str, int]:
        """Quote currency → profit (negative: loss) since 00:00 UTC in its smallest units."""
        found: dict[str, int] = {}
        day, prices = now_ms // DAY_MS, self._prices
        for symbol, position in self._exposure.positions(owner).items():
            # Most positions of somebody with many are closed, or were never more than open orders.
            if (position.lots or position.day >= day) and symbol in prices:
                unit, currency = _MARKETS[symbol]
                result = day_result(position, prices[symbol], day) * unit
                found[currency] = found.get(currency, 0) + result
        return found

    def dump(self) -> bytes:
        """The state without limits and rates; equal states give equal bytes.

        Buckets are left out: after a restart every user may send one burst, and the state stays one that
        follows from the changes alone.
        """
        state = {
            "orders": [
                [id, o.owner, o.symbol, o.side, o.lots, o.price, o.filled, o.asked]
                for id, o in sorted(self._exposure.orders.items())
            ],
            "positions": [
                [owner, symbol, p.lots, p.day, p.start, p.cash]
                for owner in self._exposure.owners()
                for symbol, p in sorted(self._exposure.positions(owner).items())
                if p.lots or p.start or p.cash
            ],
            "prices": [[symbol, p.last, p.day, p.open] for symbol, p in sorted(self._prices.items())],
        }
        return json.dumps(state, separators=(",", ":")).encode()

    @classmethod
    def load(cls, data: bytes, limits: Limits) -> "PreTradeRisk":
        """The state that `dump` wrote."""
        state = json.loads(data)
        made = cls(limits)
        for symbol, last, day, opening in state["prices"]:
            made._prices[symbol] = DayPrice(last, day, opening)
        for owner, symbol, lots, day, start, cash in state["positions"]:
            position = made._exposure.own_position(owner, symbol)
            position.lots, position.day, position.start, position.cash = lots, day, start, cash
        for id, owner, symbol, side, lots, price, filled, asked in state["orders"]:
            changes = [(quantity, ticks) for quantity, ticks in asked]
            made._exposure.add(id, OpenOrder(owner, symbol, side, lots, price, filled, changes))
        return made

    def _of(self, owner: str, symbol: str) -> Effective:
        found = self._effective.get((owner, symbol))
        if found is None:
            found = self._effective[owner, symbol] = self._limits.of(owner, symbol)
        return found

    def _market_switch(self, symbol: str) -> str | None:
        if self._limits.stopped:
            return RiskReason.KILL_SWITCH_ALL.value
        return RiskReason.KILL_SWITCH_SYMBOL.value if symbol in self._limits.stopped_symbols else None

    def _rate(self, owner: str, limits: Effective, now_ms: int) -> str | None:
        """Take one order out of the user's bucket."""
        full = limits.order_burst * _ORDER
        level, at = self._buckets.get(owner, (full, now_ms))
        level = min(full, level + max(now_ms - at, 0) * limits.order_rate)
        refused = level < _ORDER
        self._buckets[owner] = (level if refused else level - _ORDER, max(at, now_ms))
        return RiskReason.ORDER_RATE.value if refused else None

    def _exceeds(
        self, order: OpenOrder, lots: int, worth: int, more_worth: int, limits: Effective, now_ms: int
    ) -> str | None:
        """What refuses so many more lots, and so much more worth, of an order that is then worth `worth`.

        Worth is in ticks times lots.
        """
        position = self._exposure.position(order.owner, order.symbol)
        if position.is_reduced_by(order.side, lots):
            return None
        unit, currency = UNITS[order.symbol], INSTRUMENTS[order.symbol].currency
        if worth * unit > limits.order_notional:
            return RiskReason.ORDER_NOTIONAL.value
        if more_worth and self.open_worth(order.owner, currency) + more_worth * unit > limits.open_notional:
            return RiskReason.OPEN_NOTIONAL.value
        held = position.lots if order.side == "buy" else -position.lots
        if lots and held + position.open_lots(order.side) + lots > limits.position:
            return RiskReason.POSITION_LIMIT.value
        if self._has_lost(order.owner, order.symbol, limits, now_ms):
            return RiskReason.DAILY_LOSS.value
        return None

    def _has_lost(self, owner: str, symbol: str, limits: Effective, now_ms: int) -> bool:
        """Whether the loss of the day in any currency has reached its limit."""
        unit = money_unit(INSTRUMENTS[symbol].currency)
        return any(
            result < 0 and -result * unit >= limits.daily_loss * money_unit(currency)
            for currency, result in self.day_result(owner, now_ms).items()
        )

    def _trade(self, symbol: str, trade: TradeMade, day: int) -> None:
        price = self._prices.setdefault(symbol, DayPrice(trade.price, day, trade.price))
        price.trade(trade.price, day)
        self._exposure.remains(trade.maker_order_id, trade.maker_remaining, trade.quantity)
        self._exposure.remains(trade.taker_order_id, trade.taker_remaining, trade.quantity)
        bought = trade.quantity if trade.taker_side == "buy" else -trade.quantity
        for owner, lots in ((trade.taker_owner, bought), (trade.maker_owner, -bought)):
            self._exposure.own_position(owner, symbol).trade(lots, trade.price, price.day)


def _collar(side: Side, price: int, reference: int | None, limits: Effective) -> str | None:
    if reference is None:
        return None
    room = reference * limits.collar_bps
    outside = (price - reference) * _BPS > room if side == "buy" else (reference - price) * _BPS > room
    return RiskReason.PRICE_COLLAR.value if outside else None
