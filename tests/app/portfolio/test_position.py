"""Average cost, against fractions and by hand."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events.matching import Side
from app.portfolio.position import Position

Trade = tuple[Side, int, int]
SIDES: list[Side] = ["buy", "sell"]
trades = st.lists(
    st.tuples(
        st.sampled_from(SIDES),
        st.integers(1, 2**40) | st.integers(1, 30),
        st.integers(1, 2**30) | st.integers(1, 9),
    ),
    max_size=40,
)


class Oracle:
    """The text book: average price as a fraction, realised per closed lot."""

    def __init__(self) -> None:
        self.lots = 0
        self.average = Fraction(0)
        self.realised = Fraction(0)
        self.cash = 0

    def trade(self, side: Side, price: int, quantity: int) -> None:
        sign = 1 if side == "buy" else -1
        self.cash -= sign * price * quantity
        if self.lots * sign < 0:
            closed = min(quantity, abs(self.lots))
            self.realised += closed * (self.average - price) * sign
            self.lots += sign * closed
            quantity -= closed
        if quantity:
            total = abs(self.lots) * self.average + quantity * price
            self.lots += sign * quantity
            self.average = total / abs(self.lots)
        if not self.lots:
            self.average = Fraction(0)


@given(trades, st.integers(0, 2**40))
def test_the_identities_hold_exactly_and_rounding_stays_below_a_unit_per_trade(
    found: list[Trade], mark: int
) -> None:
    oracle, position, reductions = Oracle(), Position(), 0
    for side, price, quantity in found:
        reductions += position.lots * (1 if side == "buy" else -1) < 0
        oracle.trade(side, price, quantity)
        position = position.traded(side, price, quantity)
        assert position.lots == oracle.lots
        assert position.realised - position.cost == oracle.cash
        assert position.realised + position.unrealised(mark) == oracle.cash + position.value(mark)
        assert position.cost * position.lots >= 0
        assert (position.cost == 0) == (position.lots == 0)
        if not position.lots:
            assert position.realised == oracle.cash
        assert abs(position.cost - oracle.lots * oracle.average) <= reductions
        assert abs(position.realised - oracle.realised) <= reductions


@given(trades)
def test_long_and_short_mirror_each_other(found: list[Trade]) -> None:
    position, mirrored = Position(), Position()
    for side, price, quantity in found:
        position = position.traded(side, price, quantity)
        mirrored = mirrored.traded("sell" if side == "buy" else "buy", price, quantity)
        assert (mirrored.lots, mirrored.cost, mirrored.realised) == (
            -position.lots,
            -position.cost,
            -position.realised,
        )


@given(trades)
def test_all_parties_together_neither_win_nor_lose(found: list[Trade]) -> None:
    buyer, seller = Position(), Position()
    for side, price, quantity in found:
        buyer = buyer.traded(side, price, quantity)
        seller = seller.traded("sell" if side == "buy" else "buy", price, quantity)
        assert buyer.realised + seller.realised == buyer.cost + seller.cost


@pytest.mark.parametrize(
    ("sent", "lots", "cost", "realised"),
    [
        ([("buy", 100, 2), ("buy", 110, 2)], 4, 420, 0),
        ([("buy", 100, 2), ("buy", 110, 2), ("sell", 120, 1)], 3, 315, 15),
        ([("buy", 100, 2), ("sell", 90, 2)], 0, 0, -20),
        ([("sell", 100, 3), ("buy", 90, 1)], -2, -200, 10),
        ([("buy", 100, 2), ("sell", 120, 5)], -3, -360, 40),
        ([("sell", 100, 2), ("buy", 80, 5)], 3, 240, 40),
        ([("buy", 10, 1), ("buy", 11, 2), ("sell", 20, 1)], 2, 22, 10),
        ([("buy", 10, 1), ("buy", 11, 2), ("sell", 20, 1), ("sell", 20, 2)], 0, 0, 28),
    ],
    ids=["adds", "reduces", "loses", "short", "long to short", "short to long", "rounds", "conserves"],
)
def test_by_hand(sent: list[Trade], lots: int, cost: int, realised: int) -> None:
    position = Position()
    for trade in sent:
        position = position.traded(*trade)
    assert position == Position(lots, cost, realised)
    assert position.average == (Fraction(cost, lots) if lots else None)
