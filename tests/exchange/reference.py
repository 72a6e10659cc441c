"""A slow book that is meant to be obviously correct: one list of open orders, searched anew at every step."""

from dataclasses import dataclass

from app.exchange import (
    MAX_VALUE,
    Accepted,
    Cancel,
    CancelAll,
    Cancelled,
    CancelReason,
    ChangePhase,
    Command,
    Event,
    MassCancelled,
    OrderType,
    Phase,
    PhaseChanged,
    Place,
    PlaceOco,
    PriceBandSet,
    Reduced,
    Rejected,
    RejectReason,
    Replace,
    Replaced,
    SelfTradePrevention,
    SetPriceBand,
    Side,
    TimeAdvanced,
    TimeInForce,
    Trade,
    Triggered,
    Uncrossed,
)
from tests.exchange.market import altered

R = RejectReason
LIMITED = {OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT}
WAITING = {OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT}
TAKE_PROFITS = {OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT}
IMMEDIATE = {TimeInForce.IOC, TimeInForce.FOK}


@dataclass(eq=False)
class Open:
    """An order with its place in time."""

    terms: Place
    remaining: int
    entry: int = 0
    waiting: bool = False
    partner: "Open | None" = None

    @property
    def buys(self) -> bool:
        return self.terms.side is Side.BUY

    def is_touched_by(self, price: int) -> bool:
        rises = self.buys != (self.terms.order_type in TAKE_PROFITS)
        return price >= self.terms.stop_price if rises else price <= self.terms.stop_price


class ReferenceEngine:
    """Same commands, same events as the matching engine; nothing shared but the vocabulary."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.phase = Phase.CONTINUOUS
        self.now = 0
        self.band = (0, 0)
        self.last_price = 0
        self.trades = 0
        self.entries = 0
        self.sequence = 0
        self.open: list[Open] = []
        self.events: list[Event] = []
        self.prices: list[int] = []

    def apply(self, command: Command) -> list[Event]:
        self.events, self.prices = [], []
        self.now = max(self.now, command.time)
        due = [o for o in self.open if o.terms.expires_at and o.terms.expires_at <= self.now]
        for order in sorted(due, key=lambda o: (o.terms.expires_at, o.terms.order_id)):
            if order in self.open:
                self.cancel(order, CancelReason.EXPIRED)
        match command:
            case Place():
                self.place(command)
            case PlaceOco():
                self.place_oco(command)
            case Cancel():
                self.cancel_one(command)
            case Replace():
                self.replace(command)
            case CancelAll():
                self.cancel_all(command)
            case SetPriceBand():
                self.set_band(command)
            case ChangePhase():
                self.change_phase(command)
            case _:
                self.emit(TimeAdvanced, self.now)
        self.trigger_touched()
        return self.events

    def emit(self, kind: type, *values: object) -> None:
        self.sequence += 1
        self.events.append(kind(self.symbol, self.sequence, *values))

    def find(self, order_id: int) -> Open | None:
        return next((o for o in self.open if o.terms.order_id == order_id), None)

    # Orders in

    def place(self, terms: Place) -> None:
        reason = self.refusal(terms)
        if reason:
            self.emit(Rejected, terms.order_id, reason)
            return
        self.emit(Accepted, terms)
        order = Open(terms, terms.quantity)
        if terms.order_type not in WAITING:
            self.enter(order)
        elif self.last_price and order.is_touched_by(self.last_price):
            self.activate(order)
        else:
            self.keep(order, waiting=True)

    def place_oco(self, command: PlaceOco) -> None:
        pair = (command.first, command.second)
        reason = None
        if any(leg.time_in_force in IMMEDIATE for leg in pair):
            reason = R.INVALID_TIME_IN_FORCE
        elif (
            len({(leg.account, leg.side, leg.quantity) for leg in pair}) > 1
            or pair[0].order_id == pair[1].order_id
            or all(leg.order_type not in WAITING for leg in pair)
        ):
            reason = R.OCO_MISMATCH
        reason = reason or self.refusal(pair[0]) or self.refusal(pair[1])
        if not reason and self.phase is not Phase.CONTINUOUS:
            reason = R.NOT_IN_AUCTION
        orders = [Open(leg, leg.quantity) for leg in pair]
        if not reason and any(self.acts_at_once(order) for order in orders):
            reason = R.OCO_WOULD_EXECUTE
        if reason:
            self.emit(Rejected, pair[0].order_id, reason)
            return
        for leg in pair:
            self.emit(Accepted, leg)
        orders[0].partner, orders[1].partner = orders[1], orders[0]
        for order in orders:
            self.keep(order, waiting=order.terms.order_type in WAITING)

    def acts_at_once(self, order: Open) -> bool:
        if order.terms.order_type in WAITING:
            return bool(self.last_price) and order.is_touched_by(self.last_price)
        return self.would_take(order.terms, order.terms.price)

    def would_take(self, terms: Place, price: int) -> bool:
        return self.phase is Phase.CONTINUOUS and bool(self.makers(terms.side, price))

    def outside_band(self, price: int) -> bool:
        lower, upper = self.band
        return upper > 0 and not lower <= price <= upper

    def refusal(self, terms: Place) -> RejectReason | None:
        reason = self.malformed(terms)
        if reason:
            return reason
        if self.find(terms.order_id):
            return R.DUPLICATE_ORDER_ID
        if self.phase is Phase.HALTED:
            return R.HALTED
        if self.phase is Phase.CANCEL_ONLY:
            return R.CANCEL_ONLY
        plain = terms.order_type is OrderType.LIMIT and terms.time_in_force not in IMMEDIATE
        if self.phase is Phase.AUCTION and not plain:
            return R.NOT_IN_AUCTION
        if terms.order_type in LIMITED and self.outside_band(terms.price):
            return R.PRICE_OUTSIDE_BAND
        if terms.post_only and self.would_take(terms, terms.price):
            return R.POST_ONLY_WOULD_TAKE
        return None

    def malformed(self, terms: Place) -> RejectReason | None:
        kind, tif = terms.order_type, terms.time_in_force
        tifs_allowed = set(TimeInForce)
        if kind is OrderType.MARKET:
            tifs_allowed = IMMEDIATE
        elif kind in {OrderType.STOP, OrderType.TAKE_PROFIT}:
            tifs_allowed = {TimeInForce.GTC, TimeInForce.GTD}
        price_ok = 0 < terms.price <= MAX_VALUE if kind in LIMITED else terms.price == 0
        stop_ok = 0 < terms.stop_price <= MAX_VALUE if kind in WAITING else terms.stop_price == 0
        post_only_ok = not terms.post_only or (kind is OrderType.LIMIT and tif not in IMMEDIATE)
        rules = [
            (terms.order_id > 0 and terms.account > 0, R.INVALID_ID),
            (0 < terms.quantity <= MAX_VALUE, R.INVALID_QUANTITY),
            (post_only_ok or kind is OrderType.LIMIT, R.POST_ONLY_NOT_ALLOWED),
            (price_ok, R.INVALID_PRICE),
            (stop_ok, R.INVALID_STOP_PRICE),
            (post_only_ok, R.POST_ONLY_NOT_ALLOWED),
            (tif in tifs_allowed, R.INVALID_TIME_IN_FORCE),
            ((terms.expires_at > 0) if tif is TimeInForce.GTD else terms.expires_at == 0, R.INVALID_EXPIRY),
            (tif is not TimeInForce.GTD or terms.expires_at > self.now, R.ALREADY_EXPIRED),
        ]
        return next((reason for holds, reason in rules if not holds), None)

    # Trading

    def makers(self, taker_side: Side, price: int) -> list[Open]:
        """Orders that a taker may trade with down to a price (0: any), best first."""
        buys = taker_side is Side.BUY
        found = [
            o
            for o in self.open
            if not o.waiting
            and o.buys != buys
            and (price == 0 or (o.terms.price <= price if buys else o.terms.price >= price))
        ]
        return sorted(found, key=lambda o: (o.terms.price if buys else -o.terms.price, o.entry))

    def keep(self, order: Open, *, waiting: bool) -> None:
        self.entries += 1
        order.entry, order.waiting = self.entries, waiting
        self.open.append(order)

    def enter(self, order: Open) -> None:
        if self.phase is not Phase.CONTINUOUS:
            self.keep(order, waiting=False)
            return
        terms = order.terms
        if terms.time_in_force is TimeInForce.FOK and not self.fillable(order):
            self.close(order, CancelReason.FILL_OR_KILL)
            return
        while order.remaining and (makers := self.makers(terms.side, terms.price)):
            self.meet(order, makers[0])
        if not order.remaining:
            return
        if terms.price == 0:
            self.close(order, CancelReason.NO_LIQUIDITY)
        elif terms.time_in_force is TimeInForce.IOC:
            self.close(order, CancelReason.IMMEDIATE_OR_CANCEL)
        else:
            self.keep(order, waiting=False)

    def fillable(self, order: Open) -> bool:
        mode = order.terms.self_trade_prevention
        left = order.remaining
        for maker in self.makers(order.terms.side, order.terms.price):
            own = maker.terms.account == order.terms.account and mode is not SelfTradePrevention.NONE
            if own and mode is not SelfTradePrevention.CANCEL_MAKER:
                break
            if not own:
                left -= maker.remaining
            if left <= 0:
                return True
        return False

    def meet(self, taker: Open, maker: Open) -> None:
        mode = taker.terms.self_trade_prevention
        if maker.terms.account == taker.terms.account and mode is not SelfTradePrevention.NONE:
            self.prevent(taker, maker, mode)
        else:
            self.trade(taker, maker, maker.terms.price, min(taker.remaining, maker.remaining))

    def prevent(self, taker: Open, maker: Open, mode: SelfTradePrevention) -> None:
        difference = taker.remaining - maker.remaining
        decrement = mode is SelfTradePrevention.DECREMENT
        smaller = min(taker.remaining, maker.remaining)
        if mode in {SelfTradePrevention.CANCEL_MAKER, SelfTradePrevention.CANCEL_BOTH} or (
            decrement and difference >= 0
        ):
            self.cancel(maker, CancelReason.SELF_TRADE)
        if mode in {SelfTradePrevention.CANCEL_TAKER, SelfTradePrevention.CANCEL_BOTH} or (
            decrement and difference <= 0
        ):
            self.close(taker, CancelReason.SELF_TRADE)
        if decrement and difference:
            larger = taker if difference > 0 else maker
            larger.remaining -= smaller
            larger.terms = altered(larger.terms, quantity=larger.terms.quantity - smaller)
            self.emit(Reduced, larger.terms.order_id, larger.terms.account, smaller, larger.remaining)
            self.cancel_partner(larger)

    def trade(self, taker: Open, maker: Open, price: int, quantity: int) -> None:
        self.trades += 1
        for order in (taker, maker):
            order.remaining -= quantity
            if order in self.open and not order.remaining:
                self.open.remove(order)
        self.emit(
            Trade,
            self.trades,
            price,
            quantity,
            taker.terms.side,
            maker.terms.order_id,
            taker.terms.order_id,
            maker.terms.account,
            taker.terms.account,
            maker.remaining,
            taker.remaining,
        )
        self.last_price = price
        self.prices.append(price)
        self.cancel_partner(maker)
        self.cancel_partner(taker)

    def activate(self, order: Open) -> None:
        self.emit(Triggered, order.terms.order_id, order.terms.account, self.last_price)
        self.cancel_partner(order)
        if order.terms.order_type in LIMITED and self.outside_band(order.terms.price):
            self.close(order, CancelReason.PRICE_BAND)
        else:
            self.enter(order)

    def trigger_touched(self) -> None:
        while touched := [
            o for o in self.open if o.waiting and any(o.is_touched_by(price) for price in self.prices)
        ]:
            order = min(touched, key=lambda o: o.entry)
            self.open.remove(order)
            order.waiting = False
            self.activate(order)

    # Orders out

    def close(self, order: Open, reason: CancelReason) -> None:
        self.emit(Cancelled, order.terms.order_id, order.terms.account, order.remaining, reason)
        order.remaining = 0

    def cancel(self, order: Open, reason: CancelReason) -> None:
        self.open.remove(order)
        self.close(order, reason)
        self.cancel_partner(order)

    def cancel_partner(self, order: Open) -> None:
        partner, order.partner = order.partner, None
        if partner:
            partner.partner = None
            self.cancel(partner, CancelReason.OCO)

    def cancel_one(self, command: Cancel) -> None:
        order = self.find(command.order_id)
        if self.phase is Phase.HALTED:
            self.emit(Rejected, command.order_id, R.HALTED)
        elif not order or order.terms.account != command.account:
            self.emit(Rejected, command.order_id, R.UNKNOWN_ORDER)
        else:
            self.cancel(order, CancelReason.REQUESTED)

    def cancel_all(self, command: CancelAll) -> None:
        if self.phase is Phase.HALTED:
            self.emit(Rejected, 0, R.HALTED)
            return
        before = len(self.open)
        while mine := [o for o in self.open if command.account in (0, o.terms.account)]:
            self.cancel(min(mine, key=lambda o: o.entry), CancelReason.MASS_CANCEL)
        self.emit(MassCancelled, command.account, before - len(self.open))

    def replace(self, command: Replace) -> None:
        order = self.find(command.order_id)
        if not order or order.terms.account != command.account:
            self.emit(Rejected, command.order_id, R.UNKNOWN_ORDER)
            return
        reason = self.replace_refusal(command, order)
        if reason:
            self.emit(Rejected, command.order_id, reason)
            return
        old = order.terms
        new = altered(
            old,
            quantity=command.quantity,
            price=command.price or old.price,
            stop_price=command.stop_price or old.stop_price,
        )
        same_prices = (new.price, new.stop_price) == (old.price, old.stop_price)
        keeps = same_prices and new.quantity <= old.quantity
        order.terms = new
        order.remaining += new.quantity - old.quantity
        self.emit(Replaced, new, order.remaining, keeps)
        if keeps:
            return
        self.open.remove(order)
        if not order.waiting:
            self.enter(order)
        elif self.last_price and order.is_touched_by(self.last_price):
            order.waiting = False
            self.activate(order)
        else:
            self.keep(order, waiting=True)

    def replace_refusal(self, command: Replace, order: Open) -> RejectReason | None:
        terms = order.terms
        limited = terms.order_type in LIMITED
        price = command.price or terms.price
        stop_ok = command.stop_price == 0 or (order.waiting and 0 < command.stop_price <= MAX_VALUE)
        rules = [
            (self.phase is not Phase.HALTED, R.HALTED),
            (self.phase is not Phase.CANCEL_ONLY, R.CANCEL_ONLY),
            (self.phase is not Phase.AUCTION or not order.waiting, R.NOT_IN_AUCTION),
            (order.partner is None, R.OCO_NOT_REPLACEABLE),
            (0 < command.quantity <= MAX_VALUE, R.INVALID_QUANTITY),
            (command.quantity > terms.quantity - order.remaining, R.QUANTITY_NOT_ABOVE_EXECUTED),
            (command.price == 0 or (limited and 0 < command.price <= MAX_VALUE), R.INVALID_PRICE),
            (command.price == 0 or not self.outside_band(command.price), R.PRICE_OUTSIDE_BAND),
            (stop_ok, R.INVALID_STOP_PRICE),
            (not (terms.post_only and self.would_take(terms, price)), R.POST_ONLY_WOULD_TAKE),
        ]
        return next((reason for holds, reason in rules if not holds), None)

    # The market

    def set_band(self, command: SetPriceBand) -> None:
        band = (command.lower, command.upper)
        if band != (0, 0) and not 0 < command.lower <= command.upper <= MAX_VALUE:
            self.emit(Rejected, 0, R.INVALID_PRICE_BAND)
            return
        self.band = band
        self.emit(PriceBandSet, *band)
        while outside := [o for o in self.open if not o.waiting and self.outside_band(o.terms.price)]:
            self.cancel(min(outside, key=lambda o: o.entry), CancelReason.PRICE_BAND)

    def change_phase(self, command: ChangePhase) -> None:
        if command.phase is self.phase:
            self.emit(Rejected, 0, R.PHASE_UNCHANGED)
            return
        if not 0 <= command.reference_price <= MAX_VALUE:
            self.emit(Rejected, 0, R.INVALID_PRICE)
            return
        if command.phase is Phase.CONTINUOUS:
            self.uncross(command.reference_price or self.last_price)
        self.phase = command.phase
        self.emit(PhaseChanged, command.phase)

    def uncross(self, reference: int) -> None:
        resting = [o for o in self.open if not o.waiting]
        prices = {o.terms.price for o in resting}
        if reference and not self.outside_band(reference):
            prices.add(reference)

        def lots(price: int) -> tuple[int, int]:
            wanted = sum(o.remaining for o in resting if o.buys and o.terms.price >= price)
            offered = sum(o.remaining for o in resting if not o.buys and o.terms.price <= price)
            return wanted, offered

        def rank(price: int) -> tuple[int, int, int, int]:
            wanted, offered = lots(price)
            distance = abs(price - reference) if reference else 0
            return -min(wanted, offered), abs(wanted - offered), distance, price

        if not prices or not min(lots(price := min(prices, key=rank))):
            return
        wanted, offered = lots(price)
        self.emit(Uncrossed, price, min(wanted, offered), wanted - offered)
        left = min(wanted, offered)
        while left:
            buy = self.makers(Side.SELL, price)[0]
            sell = self.makers(Side.BUY, price)[0]
            quantity = min(left, buy.remaining, sell.remaining)
            maker, taker = sorted((buy, sell), key=lambda o: o.entry)
            self.trade(taker, maker, price, quantity)
            left -= quantity
