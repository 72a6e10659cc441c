"""The profit of the day against the portfolio's average cost."""

from hypothesis import given
from hypothesis import strategies as st

from app.portfolio.position import Position
from app.risk.day import DayPosition, DayPrice, day_result

Trades = st.lists(
    st.tuples(st.sampled_from(["buy", "sell"]), st.integers(1, 10**9), st.integers(1, 10**9)), max_size=12
)


@given(Trades, Trades, st.integers(1, 3))
def test_it_is_what_realised_and_unrealised_changed_by(
    before: list[tuple[str, int, int]], today: list[tuple[str, int, int]], pause: int
) -> None:
    held, price, position = DayPosition(), DayPrice(1, 0, 1), Position()

    def worth() -> int:
        return position.realised + position.unrealised(price.last)

    at_midnight = 0
    for day, trades in ((10, before), (10 + pause, today)):
        at_midnight = worth()
        for side, ticks, lots in trades:
            price.trade(ticks, day)
            held.trade(lots if side == "buy" else -lots, ticks, day)
            position = position.traded(side, ticks, lots)  # type: ignore[arg-type]
    assert held.lots == position.lots
    assert day_result(held, price, 10 + pause) == worth() - at_midnight
    assert day_result(held, price, 11 + pause) == 0
