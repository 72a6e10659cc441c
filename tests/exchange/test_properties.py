"""What holds for every stream of commands; Hypothesis looks for the shortest one for which it does not."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.exchange import (
    AdvanceTime,
    Cancel,
    CancelAll,
    ChangePhase,
    Command,
    MatchingEngine,
    OrderType,
    Phase,
    Place,
    PlaceOco,
    Replace,
    SelfTradePrevention,
    SetPriceBand,
    Side,
    TimeInForce,
)
from tests.exchange.accounts import Accounts, check
from tests.exchange.market import altered
from tests.exchange.reference import ReferenceEngine

times = st.integers(0, 12)
ids = st.integers(1, 8)
accounts = st.integers(1, 3)
prices = st.integers(8, 14)
optional_prices = st.one_of(st.just(0), prices)
quantities = st.integers(1, 6)

places = st.builds(
    Place,
    times,
    ids,
    accounts,
    st.sampled_from(Side),
    st.sampled_from([OrderType.LIMIT] * 4 + list(OrderType)),
    quantities,
    optional_prices,
    optional_prices,
    st.sampled_from([TimeInForce.GTC] * 3 + list(TimeInForce)),
    st.one_of(st.just(0), times),
    st.sampled_from(SelfTradePrevention),
    st.booleans(),
)


def sensible(place: Place) -> Place:
    """The same order with its optional fields brought into agreement with its type."""
    limited = place.order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT)
    waits = place.order_type not in (OrderType.LIMIT, OrderType.MARKET)
    tif = place.time_in_force
    if place.order_type is OrderType.MARKET:
        tif = TimeInForce.IOC
    elif waits and not limited and tif in (TimeInForce.IOC, TimeInForce.FOK):
        tif = TimeInForce.GTC
    return altered(
        place,
        price=(place.price or 10) if limited else 0,
        stop_price=(place.stop_price or 11) if waits else 0,
        time_in_force=tif,
        expires_at=place.time + 3 if tif is TimeInForce.GTD else 0,
        post_only=place.post_only
        and place.order_type is OrderType.LIMIT
        and tif in (TimeInForce.GTC, TimeInForce.GTD),
    )


def as_pair(time: int, first: Place, second: Place) -> PlaceOco:
    alike = altered(second, account=first.account, side=first.side, quantity=first.quantity)
    return PlaceOco(time, first, alike)


orders = st.one_of(places.map(sensible), places.map(sensible), places)
commands: st.SearchStrategy[list[Command]] = st.lists(
    st.one_of(
        orders,
        orders,
        orders,
        st.builds(as_pair, times, orders, orders),
        st.builds(Cancel, times, ids, accounts),
        st.builds(Replace, times, ids, accounts, st.integers(0, 6), optional_prices, optional_prices),
        st.builds(CancelAll, times, st.integers(0, 3)),
        st.builds(SetPriceBand, times, optional_prices, optional_prices),
        st.builds(ChangePhase, times, st.sampled_from(Phase), optional_prices),
        st.builds(AdvanceTime, times),
    ),
    max_size=40,
)
thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(commands)
def test_every_lot_is_executed_open_or_cancelled_and_the_book_is_never_crossed(stream: list[Command]) -> None:
    engine, books = MatchingEngine("X"), Accounts()
    for command in stream:
        events = engine.apply(command)
        assert events
        assert {event.symbol for event in events} == {"X"}
        books.add(events)
        check(engine, books)


@thorough
@given(commands)
def test_the_reference_book_agrees(stream: list[Command]) -> None:
    engine, reference = MatchingEngine("X"), ReferenceEngine("X")
    for command in stream:
        assert engine.apply(command) == reference.apply(command)


@thorough
@given(commands, st.integers(0, 40))
def test_a_snapshot_loses_nothing(stream: list[Command], cut: int) -> None:
    engine, restored = MatchingEngine("X"), MatchingEngine("X")
    for command in stream[:cut]:
        engine.apply(command)
    restored.restore(engine.snapshot())
    for command in stream[cut:]:
        assert engine.apply(command) == restored.apply(command)
    assert engine.state_hash() == restored.state_hash()
