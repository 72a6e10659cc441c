"""Random but reproducible command streams that visit every corner of the engine."""

import random
from collections.abc import Iterable

from app.exchange import (
    Accepted,
    AdvanceTime,
    Cancel,
    CancelAll,
    Cancelled,
    ChangePhase,
    Command,
    Event,
    OrderType,
    Phase,
    PhaseChanged,
    Place,
    PlaceOco,
    Replace,
    SelfTradePrevention,
    SetPriceBand,
    Side,
    TimeInForce,
    Trade,
)
from tests.exchange.market import altered

ACCOUNTS = 6
CENTRE = 1_000
WIDTH = 15
"""Prices lie within this many ticks of the centre."""


class Generator:
    """Commands for one symbol. The same seed and the same answers give the same stream."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.order_id = 0
        self.open: dict[int, int] = {}
        """Account of each open order."""
        self.time = 0
        self.phase = Phase.CONTINUOUS

    def learn(self, events: Iterable[Event]) -> None:
        """Take note of what the last command did, so that commands about orders mostly meet an open one."""
        for event in events:
            match event:
                case Accepted(order=order):
                    self.open[order.order_id] = order.account
                case Cancelled(order_id=order_id):
                    del self.open[order_id]
                case Trade():
                    if not event.maker_remaining:
                        del self.open[event.maker_order_id]
                    if not event.taker_remaining:
                        del self.open[event.taker_order_id]
                case PhaseChanged(phase=phase):
                    self.phase = phase
                case _:
                    pass

    def command(self) -> Command:
        self.time += self.random.choice((0, 0, 1, 1, 2, -1))
        roll = self.random.random()
        if self.phase is not Phase.CONTINUOUS and roll < 0.04:
            return self.change_phase(Phase.CONTINUOUS)
        if roll < 0.68:
            return self.place()
        if roll < 0.73:
            return self.place_oco()
        if roll < 0.83:
            return Cancel(self.time, *self.known())
        if roll < 0.975:
            return self.replace()
        if roll < 0.977:
            return CancelAll(self.time, self.random.choice((0, *range(1, ACCOUNTS + 1))))
        if roll < 0.983:
            return self.band()
        if roll < 0.99:
            return self.change_phase(self.random.choices(list(Phase), (1, 4, 1, 1))[0])
        return AdvanceTime(self.time)

    def price(self) -> int:
        return CENTRE + self.random.randint(-WIDTH, WIDTH)

    def limit(self, side: Side) -> int:
        """A limit price that mostly rests and now and then takes."""
        passive = CENTRE - self.random.randint(-3, WIDTH) * (1 if side is Side.BUY else -1)
        return passive if self.phase is not Phase.AUCTION and self.random.random() < 0.8 else self.price()

    def known(self) -> tuple[int, int]:
        """(order id, its account), now and then of no order or of another's."""
        if not self.open or self.random.random() < 0.02:
            return self.random.randint(1, self.order_id + 1), 1
        order_id = self.random.choice(list(self.open))
        account = self.open[order_id]
        return order_id, account if self.random.random() < 0.98 else account % ACCOUNTS + 1

    def place(self) -> Place:
        pick = self.random
        if pick.random() < 0.97 or self.order_id == 0:
            self.order_id += 1
            order_id = self.order_id
            account = pick.randint(1, ACCOUNTS)
        else:
            order_id, account = self.known()
        kind = pick.choices(list(OrderType), (60, 8, 8, 8, 8, 8))[0]
        tif = pick.choices(list(TimeInForce), (65, 8, 7, 20))[0]
        side = pick.choice(list(Side))
        stop = self.price() if kind not in (OrderType.LIMIT, OrderType.MARKET) else 0
        limited = kind in (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT)
        if kind is OrderType.MARKET and pick.random() < 0.95:
            tif = pick.choice((TimeInForce.IOC, TimeInForce.FOK))
        if kind in (OrderType.STOP, OrderType.TAKE_PROFIT) and pick.random() < 0.95:
            tif = pick.choice((TimeInForce.GTC, TimeInForce.GTD))
        place = Place(
            self.time,
            order_id,
            account,
            side,
            kind,
            pick.randint(1, 20),
            self.limit(side) if limited else 0,
            stop,
            tif,
            self.time + pick.randint(0, 200) if tif is TimeInForce.GTD else 0,
            pick.choice(list(SelfTradePrevention)),
            kind is OrderType.LIMIT and pick.random() < 0.1,
        )
        return self.spoil(place) if pick.random() < 0.02 else place

    def spoil(self, place: Place) -> Place:
        field = self.random.choice(("quantity", "price", "stop_price", "expires_at", "account", "order_id"))
        return altered(place, **{field: self.random.choice((0, -1, 5, 2**53))})

    def place_oco(self) -> PlaceOco:
        pick = self.random
        first = self.place()
        self.order_id += 1
        buys = first.side is Side.BUY
        away = pick.randint(1, WIDTH)
        if pick.random() < 0.8:
            first = altered(
                first,
                order_type=OrderType.LIMIT,
                price=CENTRE - away if buys else CENTRE + away,
                stop_price=0,
                time_in_force=TimeInForce.GTC,
                expires_at=0,
            )
        kind = pick.choice((OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT))
        second = Place(
            self.time,
            self.order_id,
            first.account,
            first.side,
            kind,
            first.quantity,
            self.price() if kind is OrderType.STOP_LIMIT else 0,
            CENTRE + away if buys else CENTRE - away,
        )
        return PlaceOco(self.time, first, second)

    def replace(self) -> Replace:
        pick = self.random
        order_id, account = self.known()
        price = self.price() if pick.random() < 0.5 else 0
        stop_price = self.price() if pick.random() < 0.15 else 0
        return Replace(self.time, order_id, account, pick.randint(0, 20), price, stop_price)

    def band(self) -> SetPriceBand:
        if self.random.random() < 0.5:
            return SetPriceBand(self.time, 0, 0)
        half = self.random.choice((-1, WIDTH // 2, WIDTH - 2, WIDTH))
        return SetPriceBand(self.time, CENTRE - half, CENTRE + half)

    def change_phase(self, phase: Phase) -> ChangePhase:
        reference = self.price() if self.random.random() < 0.5 else 0
        return ChangePhase(self.time, phase, reference)
