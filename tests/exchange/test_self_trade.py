"""An account does not trade with itself, in the way that the taker chose."""

import pytest

from app.exchange import SelfTradePrevention
from tests.exchange.market import Market

MODES = SelfTradePrevention


@pytest.mark.parametrize(
    ("mode", "taker", "expected"),
    [
        (MODES.NONE, 5, ["trade 5@100 1<-3"]),
        (MODES.CANCEL_TAKER, 5, ["cancelled 3 x5 self_trade"]),
        (MODES.CANCEL_MAKER, 5, ["cancelled 1 x5 self_trade", "trade 5@100 2<-3"]),
        (MODES.CANCEL_BOTH, 8, ["cancelled 1 x5 self_trade", "cancelled 3 x8 self_trade"]),
        (
            MODES.DECREMENT,
            8,
            ["cancelled 1 x5 self_trade", "reduced 3 by 5 to 3", "trade 3@100 2<-3"],
        ),
        (MODES.DECREMENT, 5, ["cancelled 1 x5 self_trade", "cancelled 3 x5 self_trade"]),
        (MODES.DECREMENT, 2, ["cancelled 3 x2 self_trade", "reduced 1 by 2 to 3"]),
    ],
)
def test_modes(market: Market, mode: SelfTradePrevention, taker: int, expected: list[str]) -> None:
    market.sell(5, 100, account=7)
    market.sell(5, 100, account=8)
    assert market.buy(taker, 100, account=7, self_trade_prevention=mode) == ["accepted 3", *expected]


def test_trades_with_others_come_first(market: Market) -> None:
    market.sell(5, 100, account=8)
    market.sell(5, 101, account=7)
    taken = market.buy(9, 101, account=7, self_trade_prevention=MODES.CANCEL_TAKER)
    assert taken == ["accepted 3", "trade 5@100 1<-3", "cancelled 3 x4 self_trade"]


def test_the_makers_choice_does_not_count(market: Market) -> None:
    market.sell(5, 100, account=7, self_trade_prevention=MODES.CANCEL_BOTH)
    assert market.buy(5, 100, account=7) == ["accepted 2", "trade 5@100 1<-2"]


def test_a_reduced_order_can_be_replaced_by_its_new_total(market: Market) -> None:
    market.sell(5, 100)
    market.buy(2, 100, account=101, self_trade_prevention=MODES.DECREMENT)
    assert market.replace(1, 3) == ["replaced 1 3@100 kept"]
