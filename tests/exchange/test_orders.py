"""Priority, order types, time in force, cancel and replace."""

import pytest

from app.exchange import MAX_VALUE, MatchingEngine, OrderType, Place, SelfTradePrevention, Side, TimeInForce
from tests.exchange.market import Market, altered

IOC, FOK, GTD = TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTD
MARKET = {"time_in_force": IOC}


def test_a_better_price_trades_first_then_the_earlier_order(market: Market) -> None:
    market.sell(5, 101)
    market.sell(5, 100)
    market.sell(5, 100)
    assert market.buy(12, 101) == ["accepted 4", "trade 5@100 2<-4", "trade 5@100 3<-4", "trade 2@101 1<-4"]


def test_bids_have_the_same_priority(market: Market) -> None:
    market.buy(5, 99)
    market.buy(5, 100)
    market.buy(5, 100)
    assert market.sell(12, 99) == ["accepted 4", "trade 5@100 2<-4", "trade 5@100 3<-4", "trade 2@99 1<-4"]


def test_a_limit_order_trades_at_the_makers_price_and_rests_with_what_is_left(market: Market) -> None:
    market.sell(3, 100)
    assert market.buy(5, 105) == ["accepted 2", "trade 3@100 1<-2"]
    assert market.sell(2, 105) == ["accepted 3", "trade 2@105 2<-3"]


def test_a_limit_order_never_trades_beyond_its_price(market: Market) -> None:
    market.sell(3, 101)
    assert market.buy(5, 100) == ["accepted 2"]


def test_a_market_order_takes_every_price_and_never_rests(market: Market) -> None:
    market.sell(3, 100)
    market.sell(3, 900)
    assert market.buy(10, **MARKET) == [
        "accepted 3",
        "trade 3@100 1<-3",
        "trade 3@900 2<-3",
        "cancelled 3 x4 no_liquidity",
    ]
    assert market.sell(1, **MARKET) == ["accepted 4", "cancelled 4 x1 no_liquidity"]


@pytest.mark.parametrize(
    ("tif", "quantity", "expected"),
    [
        (IOC, 4, ["accepted 3", "trade 3@100 1<-3", "trade 1@101 2<-3"]),
        (
            IOC,
            9,
            ["accepted 3", "trade 3@100 1<-3", "trade 3@101 2<-3", "cancelled 3 x3 immediate_or_cancel"],
        ),
        (FOK, 6, ["accepted 3", "trade 3@100 1<-3", "trade 3@101 2<-3"]),
        (FOK, 7, ["accepted 3", "cancelled 3 x7 fill_or_kill"]),
    ],
)
def test_immediate_orders(market: Market, tif: TimeInForce, quantity: int, expected: list[str]) -> None:
    market.sell(3, 100)
    market.sell(3, 101)
    assert market.buy(quantity, 101, time_in_force=tif) == expected


def test_a_market_order_can_be_fill_or_kill(market: Market) -> None:
    market.sell(3, 100)
    assert market.buy(4, time_in_force=FOK) == ["accepted 2", "cancelled 2 x4 fill_or_kill"]
    assert market.buy(3, time_in_force=FOK) == ["accepted 3", "trade 3@100 1<-3"]


def test_fill_or_kill_knows_of_self_trade_prevention(market: Market) -> None:
    market.sell(3, 100, account=7)
    market.sell(3, 100, account=8)
    for mode in (
        SelfTradePrevention.CANCEL_TAKER,
        SelfTradePrevention.CANCEL_BOTH,
        SelfTradePrevention.DECREMENT,
    ):
        refused = market.buy(3, 100, account=7, time_in_force=FOK, self_trade_prevention=mode)
        assert refused[1:] == [f"cancelled {refused[0].split()[1]} x3 fill_or_kill"]
    done = market.buy(
        3, 100, account=7, time_in_force=FOK, self_trade_prevention=SelfTradePrevention.CANCEL_MAKER
    )
    assert done == ["accepted 6", "cancelled 1 x3 self_trade", "trade 3@100 2<-6"]


def test_good_till_date_ends_at_its_moment(market: Market) -> None:
    market.buy(5, 100, time_in_force=GTD, expires_at=10)
    market.buy(5, 100, time_in_force=GTD, expires_at=5)
    assert market.at(4) == ["time 4"]
    assert market.at(5) == ["cancelled 2 x5 expired", "time 5"]
    market.now = 12
    assert market.sell(5, 100) == ["cancelled 1 x5 expired", "accepted 3"]


def test_an_id_that_is_used_again_has_its_own_expiry(market: Market) -> None:
    first = Place(0, 1, 101, Side.BUY, OrderType.LIMIT, 5, 100, 0, GTD, 5)
    market.do(first)
    market.cancel(1)
    assert market.do(altered(first, expires_at=9)) == ["accepted 1"]
    assert market.at(5) == ["time 5"]
    assert market.at(9) == ["cancelled 1 x5 expired", "time 9"]


def test_expiries_of_many_orders_that_are_gone(market: Market) -> None:
    market.buy(5, 100, time_in_force=GTD, expires_at=1_000)
    for order_id in range(2, 402):
        market.buy(1, 99, time_in_force=GTD, expires_at=order_id)
        market.cancel(order_id)
    if isinstance(market.engine, MatchingEngine):
        assert len(market.engine.book.expiries) < 100
    assert market.at(999) == ["time 999"]
    assert market.at(1_000) == ["cancelled 1 x5 expired", "time 1000"]


def test_time_does_not_go_back(market: Market) -> None:
    market.at(10)
    assert market.at(3) == ["time 10"]
    assert market.buy(1, 1, time_in_force=GTD, expires_at=7) == ["rejected 1 already_expired"]


def test_post_only_never_takes(market: Market) -> None:
    market.sell(5, 100)
    assert market.buy(5, 100, post_only=True) == ["rejected 2 post_only_would_take"]
    assert market.buy(5, 99, post_only=True) == ["accepted 3"]
    assert market.replace(3, 5, price=100) == ["rejected 3 post_only_would_take"]
    assert market.sell(5, 99) == ["accepted 4", "trade 5@99 3<-4"]


LIMIT = Place(0, 1, 1, Side.BUY, OrderType.LIMIT, 5, 100)
STOP = Place(0, 1, 1, Side.BUY, OrderType.STOP, 5, 0, 100)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (altered(LIMIT, order_id=0), "invalid_id"),
        (altered(LIMIT, account=-1), "invalid_id"),
        (altered(LIMIT, quantity=0), "invalid_quantity"),
        (altered(LIMIT, quantity=MAX_VALUE + 1), "invalid_quantity"),
        (altered(LIMIT, price=0), "invalid_price"),
        (altered(LIMIT, price=-5), "invalid_price"),
        (altered(LIMIT, price=MAX_VALUE + 1), "invalid_price"),
        (altered(LIMIT, stop_price=5), "invalid_stop_price"),
        (altered(LIMIT, time_in_force=GTD), "invalid_expiry"),
        (altered(LIMIT, expires_at=5), "invalid_expiry"),
        (altered(LIMIT, time_in_force=IOC, post_only=True), "post_only_not_allowed"),
        (altered(STOP, post_only=True), "post_only_not_allowed"),
        (altered(STOP, price=5), "invalid_price"),
        (altered(STOP, stop_price=0), "invalid_stop_price"),
        (altered(STOP, time_in_force=FOK), "invalid_time_in_force"),
        (altered(STOP, order_type=OrderType.STOP_LIMIT), "invalid_price"),
        (altered(STOP, order_type=OrderType.MARKET, stop_price=0), "invalid_time_in_force"),
        (altered(STOP, order_type=OrderType.MARKET, time_in_force=IOC), "invalid_stop_price"),
        (altered(LIMIT, order_type=OrderType.MARKET, time_in_force=IOC), "invalid_price"),
    ],
)
def test_orders_that_make_no_sense(market: Market, order: Place, reason: str) -> None:
    assert market.do(order) == [f"rejected {order.order_id} {reason}"]


def test_the_id_of_an_open_order_cannot_be_used_again(market: Market) -> None:
    assert market.do(LIMIT) == ["accepted 1"]
    assert market.do(LIMIT) == ["rejected 1 duplicate_order_id"]


def test_cancel(market: Market) -> None:
    market.buy(5, 100)
    market.sell(2, 100)
    assert market.cancel(1, account=999) == ["rejected 1 unknown_order"]
    assert market.cancel(1) == ["cancelled 1 x3 requested"]
    assert market.cancel(1) == ["rejected 1 unknown_order"]
    assert market.sell(1, 100) == ["accepted 3"]


def test_cancel_from_the_middle_of_a_queue(market: Market) -> None:
    for _ in range(3):
        market.buy(1, 100)
    market.cancel(2)
    assert market.sell(2, 100) == ["accepted 4", "trade 1@100 1<-4", "trade 1@100 3<-4"]


def test_cancel_all_of_an_account_or_of_everyone(market: Market) -> None:
    market.buy(1, 100, account=7)
    market.buy(2, 101, account=8)
    market.buy(3, 0, account=7, order_type=OrderType.STOP, stop_price=200)
    assert market.cancel_all(7) == [
        "cancelled 1 x1 mass_cancel",
        "cancelled 3 x3 mass_cancel",
        "mass cancelled 2",
    ]
    assert market.cancel_all() == ["cancelled 2 x2 mass_cancel", "mass cancelled 1"]
    assert market.cancel_all() == ["mass cancelled 0"]


@pytest.mark.parametrize(
    ("quantity", "price", "answer", "first"),
    [
        (4, 0, "replaced 1 4@100 kept", 1),
        (4, 100, "replaced 1 4@100 kept", 1),
        (5, 100, "replaced 1 5@100 kept", 1),
        (6, 100, "replaced 1 6@100 lost", 2),
        (4, 99, "replaced 1 4@99 lost", 2),
        (9, 101, "replaced 1 9@101 lost", 1),
    ],
)
def test_replace_keeps_priority_only_when_shrinking(
    market: Market, quantity: int, price: int, answer: str, first: int
) -> None:
    market.buy(5, 100)
    market.buy(5, 100)
    assert market.replace(1, quantity, price) == [answer]
    assert market.sell(1, 99)[1].split()[2] == f"{first}<-3"


def test_replace_counts_what_was_executed(market: Market) -> None:
    market.buy(10, 100)
    market.sell(4, 100)
    assert market.replace(1, 4) == ["rejected 1 quantity_not_above_executed"]
    assert market.replace(1, 5) == ["replaced 1 1@100 kept"]
    assert market.replace(1, 12) == ["replaced 1 8@100 lost"]


def test_a_replaced_order_can_trade(market: Market) -> None:
    market.sell(5, 105)
    market.buy(5, 100)
    assert market.replace(2, 8, 105) == ["replaced 2 8@105 lost", "trade 5@105 1<-2"]
    assert market.sell(3, 105) == ["accepted 3", "trade 3@105 2<-3"]


def test_replace_that_is_refused_changes_nothing(market: Market) -> None:
    market.buy(5, 100)
    assert market.replace(2, 5) == ["rejected 2 unknown_order"]
    assert market.replace(1, 0) == ["rejected 1 invalid_quantity"]
    assert market.replace(1, 5, -1) == ["rejected 1 invalid_price"]
    assert market.replace(1, 5, 0, 90) == ["rejected 1 invalid_stop_price"]
    assert market.sell(5, 100) == ["accepted 2", "trade 5@100 1<-2"]
