"""Auctions, halts, cancel-only and price bands."""

import pytest

from app.exchange import OrderType, Phase, SelfTradePrevention, Side, TimeInForce
from tests.exchange.market import Market

B, S = Side.BUY, Side.SELL


def auction(market: Market, orders: list[tuple[Side, int, int]], reference_price: int = 0) -> list[str]:
    market.phase(Phase.AUCTION)
    for side, quantity, price in orders:
        order = market.order(side, quantity, price)
        assert market.do(order) == [f"accepted {order.order_id}"]
    return market.phase(Phase.CONTINUOUS, reference_price)


@pytest.mark.parametrize(
    ("orders", "reference", "expected"),
    [
        pytest.param([], 100, [], id="nothing"),
        pytest.param([(B, 5, 100)], 100, [], id="one side only"),
        pytest.param([(B, 5, 99), (S, 5, 100)], 0, [], id="not crossed"),
        pytest.param(
            [(B, 5, 100), (S, 5, 100)], 0, ["uncrossed 5@100 surplus 0", "trade 5@100 1<-2"], id="equal"
        ),
        pytest.param(
            [(B, 5, 105), (B, 5, 103), (S, 4, 99), (S, 4, 102)],
            0,
            ["uncrossed 8@102 surplus 2", "trade 4@102 1<-3", "trade 1@102 1<-4", "trade 3@102 2<-4"],
            id="largest volume, lowest price of equals",
        ),
        pytest.param(
            [(B, 10, 105), (S, 4, 100), (S, 6, 104)],
            0,
            ["uncrossed 10@104 surplus 0", "trade 4@104 1<-2", "trade 6@104 1<-3"],
            id="volume before everything",
        ),
        pytest.param(
            [(B, 5, 105), (B, 3, 101), (S, 5, 100)],
            101,
            ["uncrossed 5@105 surplus 0", "trade 5@105 1<-3"],
            id="smallest surplus before the reference price",
        ),
        pytest.param(
            [(B, 5, 110), (S, 5, 100)],
            104,
            ["uncrossed 5@104 surplus 0", "trade 5@104 1<-2"],
            id="reference price between the limits",
        ),
        pytest.param(
            [(B, 5, 110), (S, 5, 100)],
            200,
            ["uncrossed 5@110 surplus 0", "trade 5@110 1<-2"],
            id="nearest to a reference price outside",
        ),
        pytest.param(
            [(S, 5, 100), (B, 2, 110), (B, 2, 110), (B, 2, 110)],
            0,
            [
                "uncrossed 5@100 surplus 1",
                "trade 2@100 1<-2",
                "trade 2@100 1<-3",
                "trade 1@100 1<-4",
            ],
            id="time priority at the margin",
        ),
    ],
)
def test_auction(
    market: Market, orders: list[tuple[Side, int, int]], reference: int, expected: list[str]
) -> None:
    assert auction(market, orders, reference) == [*expected, "phase continuous"]


def test_the_last_price_is_the_reference_when_none_is_given(market: Market) -> None:
    market.sell(1, 104)
    market.buy(1, 104)
    assert auction(market, [(B, 5, 110), (S, 5, 100)])[0] == "uncrossed 5@104 surplus 0"


def test_what_an_auction_leaves_trades_on(market: Market) -> None:
    auction(market, [(B, 8, 102), (S, 5, 100), (S, 5, 103)])
    assert market.sell(9, 100) == ["accepted 4", "trade 3@102 1<-4"]
    assert market.buy(9, 103) == ["accepted 5", "trade 6@100 4<-5", "trade 3@103 3<-5"]


def test_self_trade_prevention_has_no_part_in_an_auction(market: Market) -> None:
    market.phase(Phase.AUCTION)
    market.buy(5, 100, account=7)
    market.sell(5, 100, account=7, self_trade_prevention=SelfTradePrevention.CANCEL_BOTH)
    assert market.phase(Phase.CONTINUOUS)[1] == "trade 5@100 1<-2"


def test_an_auction_triggers_waiting_orders_afterwards(market: Market) -> None:
    market.sell(3, order_type=OrderType.STOP, stop_price=101)
    events = auction(market, [(B, 8, 100), (S, 5, 100)])
    assert events == [
        "uncrossed 5@100 surplus 3",
        "trade 5@100 2<-3",
        "phase continuous",
        "triggered 1 at 100",
        "trade 3@100 2<-1",
    ]


def test_an_auction_trade_ends_an_oco_pair(market: Market) -> None:
    market.oco(
        market.order(S, 2, 120, account=7),
        market.order(S, 2, order_type=OrderType.STOP, stop_price=90, account=7),
    )
    assert auction(market, [(B, 1, 120)])[1:3] == ["trade 1@120 1<-3", "cancelled 2 x2 oco"]


def test_an_auction_takes_plain_limit_orders_only(market: Market) -> None:
    market.buy(2, order_type=OrderType.STOP, stop_price=150)
    market.phase(Phase.AUCTION)
    assert market.buy(1, time_in_force=TimeInForce.IOC) == ["rejected 2 not_in_auction"]
    assert market.buy(1, 100, time_in_force=TimeInForce.FOK) == ["rejected 3 not_in_auction"]
    assert market.buy(1, order_type=OrderType.STOP, stop_price=9) == ["rejected 4 not_in_auction"]
    assert market.replace(1, 1) == ["rejected 1 not_in_auction"]
    assert market.buy(2, 100) == ["accepted 5"]
    assert market.replace(5, 3, 101) == ["replaced 5 3@101 lost"]
    assert market.cancel(5) == ["cancelled 5 x3 requested"]
    assert market.cancel(1) == ["cancelled 1 x2 requested"]


def test_a_halted_auction_uncrosses_when_trading_resumes(market: Market) -> None:
    market.phase(Phase.AUCTION)
    market.buy(5, 100)
    market.sell(5, 100)
    assert market.phase(Phase.HALTED) == ["phase halted"]
    assert market.phase(Phase.CONTINUOUS) == [
        "uncrossed 5@100 surplus 0",
        "trade 5@100 1<-2",
        "phase continuous",
    ]


def test_halted(market: Market) -> None:
    market.buy(5, 100, time_in_force=TimeInForce.GTD, expires_at=9)
    assert market.phase(Phase.HALTED) == ["phase halted"]
    assert market.phase(Phase.HALTED) == ["rejected 0 phase_unchanged"]
    assert market.sell(5, 100) == ["rejected 2 halted"]
    assert market.replace(1, 1) == ["rejected 1 halted"]
    assert market.cancel(1) == ["rejected 1 halted"]
    assert market.cancel_all() == ["rejected 0 halted"]
    assert market.at(9) == ["cancelled 1 x5 expired", "time 9"]


def test_cancel_only(market: Market) -> None:
    market.buy(5, 100)
    market.buy(5, 100)
    market.phase(Phase.CANCEL_ONLY)
    assert market.sell(5, 100) == ["rejected 3 cancel_only"]
    assert market.replace(1, 1) == ["rejected 1 cancel_only"]
    assert market.cancel(1) == ["cancelled 1 x5 requested"]
    assert market.cancel_all() == ["cancelled 2 x5 mass_cancel", "mass cancelled 1"]


def test_a_band_confines_limit_prices(market: Market) -> None:
    market.buy(5, 89)
    market.buy(5, 90)
    market.sell(5, 111)
    assert market.band(90, 110) == ["band 90-110", "cancelled 1 x5 price_band", "cancelled 3 x5 price_band"]
    assert market.buy(5, 111) == ["rejected 4 price_outside_band"]
    assert market.replace(2, 5, 89) == ["rejected 2 price_outside_band"]
    assert market.sell(6, time_in_force=TimeInForce.IOC) == [
        "accepted 5",
        "trade 5@90 2<-5",
        "cancelled 5 x1 no_liquidity",
    ]
    assert market.band(0, 0) == ["band 0-0"]
    assert market.buy(5, 111) == ["accepted 6"]


@pytest.mark.parametrize(("lower", "upper"), [(0, 5), (5, 4), (-5, 5), (5, 2**53)])
def test_bands_that_make_no_sense(market: Market, lower: int, upper: int) -> None:
    assert market.band(lower, upper) == ["rejected 0 invalid_price_band"]


def test_a_reference_price_outside_the_band_is_no_candidate(market: Market) -> None:
    market.band(100, 110)
    assert auction(market, [(B, 5, 110), (S, 5, 100)], 99)[0] == "uncrossed 5@100 surplus 0"
