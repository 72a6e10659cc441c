"""Pre-trade checks: each rule by itself, and all of them against the slow model."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.events.matching import (
    Change,
    CommandRejected,
    OrderAccepted,
    OrderCancelled,
    OrderReduced,
    OrderReplaced,
    TradeMade,
)
from app.risk.limits import DEFAULTS, Limits, Values, default_position
from app.risk.pretrade import MOST_OPEN_ORDERS, NewOrder, PreTradeRisk
from tests.app.risk.reference import DAY, Reference

OWNERS = ("anna", "ben")
SYMBOLS = ("AAPL", "TSLA", "USD-JPY")
T0 = 20_000 * DAY + DAY - 5_000
"""Five seconds before a midnight in UTC."""
TIGHT = Limits(
    defaults=Values(
        order_notional=900, open_notional=1500, collar_bps=1000, order_rate=1, order_burst=3, daily_loss=60
    ),
    overrides={
        ("", "AAPL"): Values(position=12),
        ("", "TSLA"): Values(position=20),
        ("", "USD-JPY"): Values(position=1, order_notional=5_000, collar_bps=500),
        ("ben", ""): Values(open_notional=2500, daily_loss=90),
        ("ben", "TSLA"): Values(position=9, order_notional=700),
    },
)


def order(id: int = 1, side: str = "buy", quantity: int = 1, price: int = 100, **more: Any) -> NewOrder:
    return NewOrder(
        **{"owner": "anna", "symbol": "AAPL", **more}, order_id=id, side=side, quantity=quantity, price=price
    )  # type: ignore[arg-type]


def wide(**values: int) -> Limits:
    return Limits(defaults=replace(DEFAULTS, **values))


def trade(
    id: int, price: int, quantity: int, maker: NewOrder, taker: NewOrder, left: tuple[int, int]
) -> TradeMade:
    return TradeMade(
        sequence=id,
        trade_id=id,
        price=price,
        quantity=quantity,
        taker_side=taker.side,
        maker_order_id=maker.order_id,
        taker_order_id=taker.order_id,
        maker_owner=maker.owner,
        taker_owner=taker.owner,
        maker_remaining=left[0],
        taker_remaining=left[1],
    )


def holding(lots: int, limits: Limits, price: int = 100) -> PreTradeRisk:
    """Anna has bought so many lots of AAPL from Ben, or sold them to him."""
    risk = PreTradeRisk(limits)
    maker = order(901, "sell" if lots > 0 else "buy", owner="ben")
    taker = order(902, "buy" if lots > 0 else "sell")
    risk.apply("AAPL", trade(1, price, abs(lots), maker, taker, (0, 0)), T0)
    return risk


def test_a_fresh_platform_lets_ordinary_orders_pass() -> None:
    risk = PreTradeRisk(Limits())
    assert risk.admit(order(quantity=1000, price=18_950), 18_950, T0) is None
    assert default_position("BTC-USD") == 100_000_000 * 10**5 // 64_250
    assert Limits().of("anna", "USD-JPY").position == 10**10 // 151_250


@pytest.mark.parametrize(
    ("side", "price", "reason"),
    [
        ("buy", 110, None),
        ("buy", 111, "price_outside_collar"),
        ("buy", 1, None),
        ("sell", 90, None),
        ("sell", 89, "price_outside_collar"),
        ("sell", 1000, None),
    ],
)
def test_the_collar_is_on_the_wrong_side_of_the_reference(side: str, price: int, reason: str | None) -> None:
    assert PreTradeRisk(Limits()).admit(order(side=side, price=price), 100, T0) == reason
    forced = order(side=side, price=price, origin="forced_close")
    assert PreTradeRisk(Limits()).admit(forced, 100, T0) == reason
    assert PreTradeRisk(Limits()).admit(order(side=side, price=price), None, T0) is None


def test_the_position_counts_every_open_order_of_its_side() -> None:
    risk = PreTradeRisk(Limits(overrides={("", "AAPL"): Values(position=10)}))
    assert risk.admit(order(1, quantity=6), None, T0) is None
    assert risk.admit(order(2, quantity=5), None, T0) == "position_limit_exceeded"
    assert risk.admit(order(3, quantity=4), None, T0) is None
    assert risk.admit(order(4, "sell", quantity=10), None, T0) is None
    risk.forget(1)
    assert risk.admit(order(5, quantity=6), None, T0) is None


def test_the_second_order_of_a_pair_has_a_worth_of_its_own_but_no_lots() -> None:
    limits = Limits(
        defaults=replace(DEFAULTS, order_notional=900, open_notional=1500),
        overrides={("", "AAPL"): Values(position=5)},
    )
    risk, cent = PreTradeRisk(limits), 100
    assert risk.admit(order(1, quantity=5, price=1), None, T0) is None
    dear = order(2, quantity=5, price=200 * cent, paired=True)
    assert risk.admit(dear, None, T0) == "order_notional_exceeded"
    assert risk.admit(order(2, quantity=5, price=170 * cent, paired=True), None, T0) is None
    another = order(3, quantity=5, price=170 * cent, paired=True)
    assert risk.admit(another, None, T0) == "open_notional_exceeded"


@pytest.mark.parametrize("lots", [8, -8])
def test_what_only_reduces_passes_limits_and_daily_loss(lots: int) -> None:
    limits = Limits(
        defaults=replace(DEFAULTS, order_notional=0, open_notional=0, daily_loss=0),
        overrides={("", "AAPL"): Values(position=3)},
    )
    risk = holding(lots, limits)
    closing, opening = ("sell", "buy") if lots > 0 else ("buy", "sell")
    assert risk.admit(order(1, closing, quantity=5), None, T0) is None
    assert risk.admit(order(2, closing, quantity=4), None, T0) is not None
    assert risk.admit(order(3, closing, quantity=3), None, T0) is None
    assert risk.admit(order(4, opening, quantity=1), None, T0) is not None


def test_a_loss_of_the_day_ends_at_midnight() -> None:
    risk = holding(10, wide(daily_loss=5))
    maker, taker = order(3, "buy", owner="carl"), order(4, "sell", owner="dora")
    risk.apply("AAPL", trade(2, 50, 1, maker, taker, (0, 0)), T0)
    assert risk.day_result("anna", T0) == {"USD": -500_000_000}
    assert risk.admit(order(5, quantity=1), None, T0) == "daily_loss_reached"
    assert risk.admit(order(6, "sell", quantity=1), None, T0) is None
    assert risk.day_result("anna", T0 + 5_000) == {"USD": 0}
    assert risk.admit(order(7, quantity=1), None, T0 + 5_000) is None


@pytest.mark.parametrize(
    ("limits", "user", "forced"),
    [
        (Limits(stopped=True), "kill_switch_all", "kill_switch_all"),
        (Limits(stopped_symbols=frozenset({"AAPL"})), "kill_switch_symbol", "kill_switch_symbol"),
        (Limits(stopped_users=frozenset({"anna"})), "kill_switch_user", None),
        (Limits(stopped_symbols=frozenset({"TSLA"}), stopped_users=frozenset({"ben"})), None, None),
    ],
)
def test_kill_switches(limits: Limits, user: str | None, forced: str | None) -> None:
    risk = PreTradeRisk(Limits())
    assert risk.admit(order(1, quantity=2), None, T0) is None
    risk.limits = limits
    assert risk.switched_off("anna", "AAPL") == user
    assert risk.admit(order(2), None, T0) == user
    assert risk.amend(1, 1, 100, None, T0) == user
    assert risk.admit(order(3, origin="forced_close"), None, T0) == forced


def test_a_forced_close_passes_the_limits() -> None:
    limits = Limits(defaults=Values(0, 0, 0, 0, 0, 0, 0), overrides={("", "AAPL"): Values(position=0)})
    risk = PreTradeRisk(limits)
    assert risk.admit(order(1, "sell"), 100, T0) == "order_rate_exceeded"
    assert risk.admit(order(1, "sell", origin="forced_close"), 100, T0) is None


def test_the_number_of_open_orders_is_bounded() -> None:
    risk = PreTradeRisk(wide(order_burst=20_000))
    for id in range(1, MOST_OPEN_ORDERS + 1):
        assert risk.admit(order(id), None, T0) is None
    assert risk.admit(order(20_000), None, T0) == "too_many_open_orders"
    assert risk.admit(order(20_001, owner="ben"), None, T0) is None
    assert risk.admit(order(20_002, origin="forced_close"), None, T0) is None
    risk.forget(20_002)
    risk.apply(
        "AAPL", OrderCancelled(sequence=1, order_id=1, owner="anna", quantity=1, reason="requested"), T0
    )
    assert risk.admit(order(20_003), None, T0) is None
    again = PreTradeRisk.load(risk.dump(), risk.limits)
    assert again.admit(order(20_004), None, T0) == "too_many_open_orders"


def test_the_rate_has_a_burst_and_refills() -> None:
    risk = PreTradeRisk(wide(order_rate=2, order_burst=3))
    answers = [risk.admit(order(id), None, T0) for id in range(1, 5)]
    assert answers == [None, None, None, "order_rate_exceeded"]
    assert risk.admit(order(5), None, T0 + 499) == "order_rate_exceeded"
    assert risk.admit(order(6), None, T0 + 500) is None
    assert risk.admit(order(7), None, T0 + 400) == "order_rate_exceeded"
    assert risk.admit(order(8, owner="ben"), None, T0) is None


def test_an_operator_raises_the_rate_of_a_user_in_all_symbols() -> None:
    risk = PreTradeRisk(
        replace(wide(order_rate=0, order_burst=1), overrides={("anna", ""): Values(order_burst=2)})
    )
    assert risk.admit(order(1), None, T0) is None
    assert risk.admit(order(2, symbol="TSLA"), None, T0) is None
    assert risk.admit(order(3), None, T0) == "order_rate_exceeded"


def test_a_change_counts_with_the_larger_terms_until_it_is_answered() -> None:
    risk = PreTradeRisk(Limits(overrides={("", "AAPL"): Values(position=10)}))
    assert risk.admit(order(1, quantity=4), None, T0) is None
    assert risk.amend(1, 11, 100, None, T0) == "position_limit_exceeded"
    assert risk.amend(1, 9, 100, None, T0) is None
    assert risk.amend(1, 2, 100, None, T0) is None
    assert risk.open_lots("anna", "AAPL", "buy") == 9
    risk.apply(
        "AAPL", CommandRejected(sequence=1, command="replace", order_id=1, owner="anna", reason=""), T0
    )
    assert risk.open_lots("anna", "AAPL", "buy") == 4
    risk.apply(
        "AAPL",
        OrderReplaced(
            sequence=2,
            order_id=1,
            owner="anna",
            side="buy",
            quantity=2,
            price=100,
            stop_price=0,
            remaining=2,
            kept_priority=True,
        ),
        T0,
    )
    assert risk.open_lots("anna", "AAPL", "buy") == 2
    assert risk.amend(1, 8, 100, None, T0) is None
    risk.forget_change(1)
    assert risk.open_lots("anna", "AAPL", "buy") == 2
    assert risk.amend(77, 5, 100, None, T0) is None


class Both:
    """The checks and the model, given the same; the next thing to happen is chosen by some numbers."""

    def __init__(self) -> None:
        self.risk, self.model = PreTradeRisk(TIGHT), Reference(TIGHT)
        self.changes: list[tuple[str, Change, int]] = []
        self.now, self.next = T0, 0
        self.orders: dict[int, NewOrder] = {}

    def happen(self, change: Change, symbol: str) -> None:
        self.changes.append((symbol, change, self.now))
        for state in (self.risk, self.model):
            state.apply(symbol, change, self.now)

    def id(self) -> int:
        self.next += 1
        return self.next

    def step(self, action: int, a: int, b: int, c: int) -> None:
        self.now += (a * b * c) % 900
        known = sorted(self.model.open)
        chosen = known[a % len(known)] if known else None
        if action < 4 or chosen is None:
            self.place(a, b, c)
            return
        taken = self.model.open[chosen]
        symbol, owner = taken.order.symbol, taken.order.owner
        match action:
            case 4 | 5 | 6:
                self.trade(chosen, b, c)
            case 7:
                change = OrderCancelled(
                    sequence=self.id(), order_id=chosen, owner=owner, quantity=taken.remaining, reason=""
                )
                self.happen(change, symbol)
            case 8 if taken.remaining > 1:
                self.happen(
                    OrderReduced(
                        sequence=self.id(),
                        order_id=chosen,
                        owner=owner,
                        quantity=1,
                        remaining=taken.remaining - 1,
                    ),
                    symbol,
                )
            case 9:
                quantity, price = taken.traded + 1 + b % 12, 1 + taken.price + c % 700 - 300
                reference = taken.price if b % 2 else None
                expected = self.model.amend(chosen, quantity, max(price, 1), reference, self.now)
                assert self.risk.amend(chosen, quantity, max(price, 1), reference, self.now) == expected
            case 10 if taken.asked:
                quantity, price = taken.asked[0]
                rest = quantity - taken.traded
                if rest <= 0 or b % 3 == 0:
                    change = CommandRejected(
                        sequence=self.id(), command="replace", order_id=chosen, owner=owner, reason=""
                    )
                else:
                    change = OrderReplaced(
                        sequence=self.id(),
                        order_id=chosen,
                        owner=owner,
                        side=taken.order.side,
                        quantity=quantity,
                        price=price,
                        stop_price=0,
                        remaining=rest,
                        kept_priority=False,
                    )
                self.happen(change, symbol)
            case _:
                self.now += DAY // 4

    def place(self, a: int, b: int, c: int) -> None:
        symbol = SYMBOLS[a % 3]
        base = {"AAPL": 10_000, "TSLA": 6_000, "USD-JPY": 1_500}[symbol]
        wanted = NewOrder(
            self.id(),
            OWNERS[b % 2],
            symbol,
            "buy" if c % 2 else "sell",
            1 + a % 7,
            base + b % (base // 4) - base // 8,
            paired=c % 19 == 0,
            origin="forced_close" if c % 13 == 0 else "user",
        )
        reference = base if c % 3 else None
        expected = self.model.admit(wanted, reference, self.now)
        assert self.risk.admit(wanted, reference, self.now) == expected
        if expected is None:
            if c % 11 == 0:
                self.risk.forget(wanted.order_id)
                del self.model.open[wanted.order_id]
                return
            self.happen(
                OrderAccepted(
                    sequence=self.id(),
                    order_id=wanted.order_id,
                    owner=wanted.owner,
                    side=wanted.side,
                    quantity=wanted.quantity,
                    price=wanted.price,
                ),
                symbol,
            )

    def trade(self, chosen: int, b: int, c: int) -> None:
        maker = self.model.open[chosen]
        others = [
            o
            for o in self.model.open.values()
            if o.order.symbol == maker.order.symbol and o.order.side != maker.order.side
        ]
        if not others:
            return
        taker = others[b % len(others)]
        lots = 1 + c % min(maker.remaining, taker.remaining)
        left = (maker.remaining - lots, taker.remaining - lots)
        price = max(1, maker.price + c % 2_000 - 1_000)
        self.happen(trade(self.id(), price, lots, maker.order, taker.order, left), maker.order.symbol)


Numbers = st.integers(0, 2**16)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), Numbers, Numbers, Numbers), min_size=20, max_size=80))
def test_the_checks_agree_with_the_model(steps: list[tuple[int, int, int, int]]) -> None:
    both = Both()
    for step in steps:
        both.step(*step)
        for owner in OWNERS:
            found = both.risk.day_result(owner, both.now)
            assert {k: v for k, v in found.items() if v} == {
                k: v * 10**8 for k, v in both.model.day_result(owner, both.now).items() if v
            }
    # What the changes alone lead to, and what was written and read again, is the same state.
    asked = [id for id, known in both.model.open.items() if known.asked]
    for id in asked:
        while both.model.open[id].asked:
            both.happen(
                CommandRejected(sequence=both.id(), command="replace", order_id=id, owner="", reason=""),
                both.model.open[id].order.symbol,
            )
    replayed = PreTradeRisk(TIGHT)
    for symbol, change, at in both.changes:
        replayed.apply(symbol, change, at)
    assert replayed.dump() == both.risk.dump()
    loaded = PreTradeRisk.load(both.risk.dump(), TIGHT)
    assert loaded.dump() == both.risk.dump()
    for owner in OWNERS:
        for symbol in SYMBOLS:
            for side in ("buy", "sell"):
                expected = sum(
                    o.remaining
                    for o in both.model.open.values()
                    if (o.order.owner, o.order.symbol, o.order.side) == (owner, symbol, side)
                )
                assert loaded.open_lots(owner, symbol, side) == expected
            assert loaded.position(owner, symbol) == both.model.position(owner, symbol)
