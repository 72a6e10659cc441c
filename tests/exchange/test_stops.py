"""Orders that wait for a price, and pairs of which one cancels the other."""

import pytest

from app.exchange import OrderType, Phase, SelfTradePrevention, Side, TimeInForce
from tests.exchange.market import Market, altered

STOP, STOP_LIMIT = OrderType.STOP, OrderType.STOP_LIMIT
TAKE_PROFIT, TAKE_PROFIT_LIMIT = OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT


def trade_at(market: Market, price: int) -> tuple[str, ...]:
    """A trade of one lot at a price, on a book that is empty around it; what else it caused."""
    market.sell(1, price)
    events = market.buy(1, price)
    assert events[1].startswith(f"trade 1@{price}")
    return tuple(events[2:])


@pytest.mark.parametrize(
    ("side", "kind", "silent", "price"),
    [
        (Side.BUY, STOP, 109, 110),
        (Side.BUY, STOP, 109, 115),
        (Side.SELL, STOP, 111, 110),
        (Side.SELL, STOP, 111, 90),
        (Side.BUY, TAKE_PROFIT, 111, 110),
        (Side.SELL, TAKE_PROFIT, 109, 110),
    ],
)
def test_which_price_triggers(market: Market, side: Side, kind: OrderType, silent: int, price: int) -> None:
    assert market.do(market.order(side, 2, order_type=kind, stop_price=110)) == ["accepted 1"]
    assert trade_at(market, silent) == ()
    assert trade_at(market, price) == (f"triggered 1 at {price}", "cancelled 1 x2 no_liquidity")


def test_an_order_whose_price_was_reached_is_active_at_once(market: Market) -> None:
    trade_at(market, 100)
    market.sell(1, 103)
    assert market.buy(1, order_type=STOP, stop_price=100) == [
        "accepted 4",
        "triggered 4 at 100",
        "trade 1@103 3<-4",
    ]


@pytest.mark.parametrize("kind", [STOP_LIMIT, TAKE_PROFIT_LIMIT])
def test_a_triggered_limit_order_rests(market: Market, kind: OrderType) -> None:
    market.buy(2, 105, order_type=kind, stop_price=110)
    assert trade_at(market, 110) == ("triggered 1 at 110",)
    assert market.sell(2, 105) == ["accepted 4", "trade 2@105 1<-4"]


def test_a_triggered_limit_order_keeps_its_time_in_force(market: Market) -> None:
    market.buy(2, 105, order_type=STOP_LIMIT, stop_price=110, time_in_force=TimeInForce.IOC)
    assert trade_at(market, 110) == ("triggered 1 at 110", "cancelled 1 x2 immediate_or_cancel")


def test_trades_of_triggered_orders_trigger_further_ones(market: Market) -> None:
    market.sell(1, 110)
    market.sell(1, 120)
    market.sell(1, 130)
    market.buy(1, order_type=STOP, stop_price=120)
    market.buy(1, order_type=STOP, stop_price=110)
    assert market.buy(1, 110) == [
        "accepted 6",
        "trade 1@110 1<-6",
        "triggered 5 at 110",
        "trade 1@120 2<-5",
        "triggered 4 at 120",
        "trade 1@130 3<-4",
    ]


def test_of_several_touched_orders_the_oldest_is_first(market: Market) -> None:
    market.buy(1, order_type=STOP, stop_price=105)
    market.sell(1, order_type=TAKE_PROFIT, stop_price=103)
    market.buy(1, order_type=STOP, stop_price=101)
    assert trade_at(market, 107) == (
        "triggered 1 at 107",
        "cancelled 1 x1 no_liquidity",
        "triggered 2 at 107",
        "cancelled 2 x1 no_liquidity",
        "triggered 3 at 107",
        "cancelled 3 x1 no_liquidity",
    )


def test_every_price_of_a_sweep_counts(market: Market) -> None:
    trade_at(market, 103)
    market.sell(1, order_type=STOP, stop_price=102)
    market.sell(1, 101)
    market.sell(1, 105)
    assert market.buy(2, 105)[3] == "triggered 3 at 105"


def test_waiting_orders_can_be_replaced_cancelled_and_expire(market: Market) -> None:
    market.buy(1, order_type=STOP, stop_price=110)
    market.buy(1, order_type=STOP, stop_price=110, time_in_force=TimeInForce.GTD, expires_at=5)
    assert market.replace(1, 2, 0, 120) == ["replaced 1 2@0 lost"]
    assert market.replace(1, 2, 50) == ["rejected 1 invalid_price"]
    assert market.at(5) == ["cancelled 2 x1 expired", "time 5"]
    assert trade_at(market, 110) == ()
    assert market.replace(1, 2, 0, 110) == [
        "replaced 1 2@0 lost",
        "triggered 1 at 110",
        "cancelled 1 x2 no_liquidity",
    ]


def test_a_band_stops_a_triggered_order(market: Market) -> None:
    market.buy(1, 150, order_type=STOP_LIMIT, stop_price=110)
    assert market.band(90, 120) == ["band 90-120"]
    assert trade_at(market, 110) == ("triggered 1 at 110", "cancelled 1 x1 price_band")


def pair(market: Market) -> list[str]:
    """Sell 2 at 120, or stop at 90."""
    return market.oco(
        market.order(Side.SELL, 2, 120, account=7),
        market.order(Side.SELL, 2, order_type=STOP, stop_price=90, account=7),
    )


def test_oco_the_limit_order_trades(market: Market) -> None:
    assert pair(market) == ["accepted 1", "accepted 2"]
    assert market.buy(1, 120) == ["accepted 3", "trade 1@120 1<-3", "cancelled 2 x2 oco"]
    assert market.buy(1, 120) == ["accepted 4", "trade 1@120 1<-4"]


def test_oco_the_stop_is_triggered(market: Market) -> None:
    pair(market)
    market.buy(5, 80)
    assert trade_at(market, 90) == ("triggered 2 at 90", "cancelled 1 x2 oco", "trade 2@80 3<-2")


@pytest.mark.parametrize(("gone", "other"), [(1, 2), (2, 1)])
def test_oco_cancel_takes_both(market: Market, gone: int, other: int) -> None:
    pair(market)
    assert market.cancel(gone, account=7) == [f"cancelled {gone} x2 requested", f"cancelled {other} x2 oco"]


def test_oco_of_two_waiting_orders(market: Market) -> None:
    market.oco(
        market.order(Side.SELL, 2, order_type=TAKE_PROFIT, stop_price=110, account=7),
        market.order(Side.SELL, 2, order_type=STOP, stop_price=90, account=7),
    )
    assert trade_at(market, 115) == (
        "triggered 1 at 115",
        "cancelled 2 x2 oco",
        "cancelled 1 x2 no_liquidity",
    )


def test_oco_both_touched_by_one_command(market: Market) -> None:
    market.oco(
        market.order(Side.SELL, 2, order_type=TAKE_PROFIT, stop_price=110, account=7),
        market.order(Side.SELL, 2, order_type=STOP, stop_price=90, account=7),
    )
    market.sell(1, 85)
    market.sell(1, 115)
    events = market.buy(2, 115)
    assert events[3:] == ["triggered 1 at 115", "cancelled 2 x2 oco", "cancelled 1 x2 no_liquidity"]


def test_oco_is_over_when_self_trade_prevention_reduces_it(market: Market) -> None:
    pair(market)
    reduced = market.buy(1, 120, account=7, self_trade_prevention=SelfTradePrevention.DECREMENT)
    assert reduced == [
        "accepted 3",
        "cancelled 3 x1 self_trade",
        "reduced 1 by 1 to 1",
        "cancelled 2 x2 oco",
    ]


def test_oco_is_refused_as_a_whole(market: Market) -> None:
    limit = market.order(Side.SELL, 2, 120, account=7)
    stop = market.order(Side.SELL, 2, order_type=STOP, stop_price=90, account=7)
    assert market.oco(limit, altered(stop, quantity=3)) == ["rejected 1 oco_mismatch"]
    assert market.oco(limit, altered(stop, account=8)) == ["rejected 1 oco_mismatch"]
    assert market.oco(limit, altered(limit, order_id=2)) == ["rejected 1 oco_mismatch"]
    assert market.oco(limit, altered(stop, order_id=1)) == ["rejected 1 oco_mismatch"]
    assert market.oco(altered(limit, time_in_force=TimeInForce.IOC), stop) == [
        "rejected 1 invalid_time_in_force"
    ]
    assert market.oco(limit, altered(stop, stop_price=0)) == ["rejected 1 invalid_stop_price"]
    market.buy(1, 120)
    assert market.oco(limit, stop) == ["rejected 1 oco_would_execute"]
    market.cancel_all()
    trade_at(market, 90)
    assert market.oco(limit, stop) == ["rejected 1 oco_would_execute"]
    market.phase(Phase.AUCTION)
    assert market.oco(limit, stop) == ["rejected 1 not_in_auction"]
    assert market.cancel_all() == ["mass cancelled 0"]


def test_an_oco_order_cannot_be_replaced(market: Market) -> None:
    market.oco(
        market.order(Side.SELL, 2, 120, account=101),
        market.order(Side.SELL, 2, order_type=STOP, stop_price=90, account=101),
    )
    assert market.replace(1, 1) == ["rejected 1 oco_not_replaceable"]
