"""A slow model of the checks: it keeps what happened and recomputes everything from it for every order."""

from dataclasses import dataclass, field, replace
from fractions import Fraction

from app.events.matching import Change, TradeMade
from app.instruments import INSTRUMENTS
from app.risk.limits import Limits
from app.risk.pretrade import NewOrder

DAY = 86_400_000


@dataclass
class Open:
    order: NewOrder
    quantity: int
    price: int
    traded: int = 0
    remaining: int = 0
    asked: list[tuple[int, int]] = field(default_factory=list)

    def terms(self) -> list[tuple[int, int]]:
        changes = [(max(quantity - self.traded, 0), price) for quantity, price in self.asked]
        return [(self.remaining, self.price), *changes]

    @property
    def lots(self) -> int:
        return max(lots for lots, _ in self.terms())

    @property
    def worth(self) -> Fraction:
        """In the quote currency."""
        instrument = INSTRUMENTS[self.order.symbol]
        unit = Fraction(instrument.tick_size) * Fraction(instrument.lot_size)
        return max(lots * price for lots, price in self.terms()) * unit


@dataclass
class Reference:
    limits: Limits
    open: dict[int, Open] = field(default_factory=dict)
    trades: list[tuple[str, TradeMade, int]] = field(default_factory=list)
    taken: list[tuple[str, int]] = field(default_factory=list)
    """Owner and time of every order that had a place in its bucket."""

    def admit(self, order: NewOrder, reference: int | None, now: int) -> str | None:
        candidate = Open(order, order.quantity, order.price, remaining=order.quantity)
        more = 0 if order.paired else order.quantity
        reason = self.refusal(order, more, order.price, candidate.worth, reference, now)
        if reason is None:
            self.open[order.order_id] = candidate
        return reason

    def amend(self, id: int, quantity: int, price: int, reference: int | None, now: int) -> str | None:
        known = self.open[id]
        known.asked.append((quantity, price))
        lots, worth = known.lots, known.worth
        known.asked.pop()
        more, more_worth = lots - known.lots, worth - known.worth
        plain = replace(known.order, origin="user")
        reason = self.refusal(plain, more, price, more_worth, reference, now, whole=worth)
        if reason is None:
            known.asked.append((quantity, price))
        return reason

    def refusal(
        self,
        order: NewOrder,
        more: int,
        price: int,
        more_worth: Fraction,
        reference: int | None,
        now: int,
        whole: Fraction | None = None,
    ) -> str | None:
        limits, symbol, owner = self.limits, order.symbol, order.owner
        forced = order.origin == "forced_close"
        if limits.stopped:
            return "kill_switch_all"
        if symbol in limits.stopped_symbols:
            return "kill_switch_symbol"
        if not forced:
            if owner in limits.stopped_users:
                return "kill_switch_user"
            if not self.take(owner, now):
                return "order_rate_exceeded"
        values = limits.of(owner, symbol)
        if reference is not None:
            away = Fraction(price - reference, reference) * (1 if order.side == "buy" else -1)
            if away > Fraction(values.collar_bps, 10_000):
                return "price_outside_collar"
        if forced or (more == 0 and more_worth == 0):
            return None
        sign = 1 if order.side == "buy" else -1
        position = sign * self.position(owner, symbol)
        opened = sum(
            o.lots
            for o in self.open.values()
            if (o.order.owner, o.order.symbol, o.order.side) == (owner, symbol, order.side)
        )
        if position < 0 and 0 < opened + more <= -position:
            return None
        money = 10**8
        currency = INSTRUMENTS[symbol].currency
        if more_worth and (more_worth if whole is None else whole) * money > values.order_notional:
            return "order_notional_exceeded"
        worth = sum(
            o.worth
            for o in self.open.values()
            if o.order.owner == owner and INSTRUMENTS[o.order.symbol].currency == currency
        )
        if more_worth and (worth + more_worth) * money > values.open_notional:
            return "open_notional_exceeded"
        if more and position + opened + more > values.position:
            return "position_limit_exceeded"
        for other, result in self.day_result(owner, now).items():
            factor = {"JPY": 100}
            limit = Fraction(values.daily_loss, factor.get(currency, 1)) * factor.get(other, 1)
            if result < 0 and -result * money >= limit:
                return "daily_loss_reached"
        return None

    def take(self, owner: str, now: int) -> bool:
        """The bucket from its beginning."""
        values = self.limits.of(owner, "BTC-USD")
        level, at = Fraction(values.order_burst), None
        for other, time in [*self.taken, (owner, now)]:
            if other == owner:
                if at is not None:
                    level = min(
                        Fraction(values.order_burst), level + Fraction((time - at) * values.order_rate, 1000)
                    )
                at = time
                if level < 1:
                    return False
                level -= 1
        self.taken.append((owner, now))
        return True

    def position(self, owner: str, symbol: str, before: int | None = None) -> int:
        return sum(
            lots
            for who, other, lots, _, at in self.sides()
            if (who, other) == (owner, symbol) and (before is None or at < before)
        )

    def day_result(self, owner: str, now: int) -> dict[str, Fraction]:
        midnight = now // DAY * DAY
        found: dict[str, Fraction] = {}
        for symbol in {symbol for symbol, _, _ in self.trades}:
            prices = [trade.price for other, trade, _ in self.trades if other == symbol]
            earlier = [trade.price for other, trade, at in self.trades if other == symbol and at < midnight]
            begin = self.position(owner, symbol, midnight) * (earlier[-1] if earlier else 0)
            brought = -sum(
                lots * price
                for who, other, lots, price, at in self.sides()
                if (who, other) == (owner, symbol) and at >= midnight
            )
            instrument = INSTRUMENTS[symbol]
            unit = Fraction(instrument.tick_size) * Fraction(instrument.lot_size)
            result = (self.position(owner, symbol) * prices[-1] + brought - begin) * unit
            found[instrument.currency] = found.get(instrument.currency, Fraction(0)) + result
        return found

    def sides(self) -> list[tuple[str, str, int, int, int]]:
        """Owner, symbol, signed lots, price and time of both sides of every trade."""
        found = []
        for symbol, trade, at in self.trades:
            bought = trade.quantity if trade.taker_side == "buy" else -trade.quantity
            found.append((trade.taker_owner, symbol, bought, trade.price, at))
            found.append((trade.maker_owner, symbol, -bought, trade.price, at))
        return found

    def apply(self, symbol: str, change: Change, at: int) -> None:
        match change.kind:
            case "trade":
                self.trades.append((symbol, change, at))
                for id, rest in (
                    (change.maker_order_id, change.maker_remaining),
                    (change.taker_order_id, change.taker_remaining),
                ):
                    self.open[id].traded += change.quantity
                    self.rest(id, rest)
            case "reduced":
                self.rest(change.order_id, change.remaining)
            case "replaced":
                known = self.open[change.order_id]
                known.quantity, known.price, known.remaining = change.quantity, change.price, change.remaining
                known.asked.pop(0)
            case "cancelled":
                self.rest(change.order_id, 0)
            case "rejected" if change.command == "place":
                self.rest(change.order_id, 0)
            case "rejected":
                self.open[change.order_id].asked.pop(0)

    def rest(self, id: int, lots: int) -> None:
        self.open[id].remaining = lots
        if lots == 0:
            del self.open[id]
