"""Which price and time in force orders enter the book with."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.exchange.terms import MAX_VALUE, OrderType, Side, TimeInForce
from app.matching.protection import Terms, protected, replaced, terms
from app.matching_client.commands import Place, Replace

COLLAR = 500


def order(**given: Any) -> Place:
    defaults = {"owner": "u", "client_order_id": "a", "symbol": "AAPL", "side": "buy", "quantity": 1}
    return Place.model_validate({**defaults, **given})


def entered(reference: int | None = 1000, *, pair: bool = False, **given: Any) -> Terms | str:
    return terms(order(**given), reference, COLLAR, pair=pair)


@pytest.mark.parametrize("tif", ["gtc", "ioc", "fok", "gtd"])
@pytest.mark.parametrize(("kind", "stop"), [("limit", 0), ("stop_limit", 1100), ("take_profit_limit", 900)])
def test_orders_with_a_limit_enter_as_they_are(kind: str, stop: int, tif: str) -> None:
    found = entered(order_type=kind, price=990, stop_price=stop, time_in_force=tif)
    assert found == Terms(OrderType[kind.upper()], 990, TimeInForce[tif.upper()], stop or 1000)


def test_a_limit_order_needs_no_reference() -> None:
    assert entered(None, order_type="limit", price=990) == Terms(OrderType.LIMIT, 990, TimeInForce.GTC, None)


@pytest.mark.parametrize(("side", "price"), [("buy", 1050), ("sell", 950)])
@pytest.mark.parametrize(("tif", "enters"), [("gtc", "IOC"), ("ioc", "IOC"), ("fok", "FOK")])
def test_a_market_order_is_protected_around_the_reference(
    side: str, price: int, tif: str, enters: str
) -> None:
    found = entered(order_type="market", side=side, time_in_force=tif)
    assert found == Terms(OrderType.LIMIT, price, TimeInForce[enters], 1000)


@pytest.mark.parametrize("reference", [None, 0])
def test_a_market_order_without_a_reference_is_refused(reference: int | None) -> None:
    assert entered(reference, order_type="market") == "no_reference_price"


@pytest.mark.parametrize(
    ("kind", "enters"),
    [("stop", OrderType.STOP_LIMIT), ("take_profit", OrderType.TAKE_PROFIT_LIMIT)],
)
@pytest.mark.parametrize(("side", "price"), [("buy", 2100), ("sell", 1900)])
@pytest.mark.parametrize("reference", [None, 1000])
def test_a_stop_is_protected_around_its_stop_price(
    kind: str, enters: OrderType, side: str, price: int, reference: int | None
) -> None:
    market = None if reference is None else reference if (kind == "stop") == (side == "buy") else 3000
    found = entered(market, order_type=kind, side=side, stop_price=2000)
    assert found == Terms(enters, price, TimeInForce.IOC, 2000)


@pytest.mark.parametrize(("side", "stop", "price"), [("buy", 9000, 1050), ("sell", 10, 950)])
def test_a_take_profit_that_is_active_at_once_is_measured_by_the_market(
    side: str, stop: int, price: int
) -> None:
    given: dict[str, Any] = {"side": side, "stop_price": stop}
    found = entered(order_type="take_profit", **given)
    assert found == Terms(OrderType.TAKE_PROFIT_LIMIT, price, TimeInForce.IOC, 1000)
    limited = entered(order_type="take_profit_limit", price=stop, **given)
    assert limited == Terms(OrderType.TAKE_PROFIT_LIMIT, stop, TimeInForce.GTC, 1000)
    change = Replace(owner="u", symbol="AAPL", order_id=1, quantity=3, stop_price=stop)
    moved = replaced(change, OrderType.TAKE_PROFIT, Side[side.upper()], COLLAR, 1000)
    assert moved == change.model_copy(update={"price": price})


def test_a_stop_with_an_expiry_keeps_it() -> None:
    found = entered(order_type="stop", stop_price=2000, time_in_force="gtd", expires_at=9)
    assert found == Terms(OrderType.STOP_LIMIT, 2100, TimeInForce.GTD, 2000)


def test_a_stop_of_a_pair_rests_as_pairs_have_to() -> None:
    found = entered(pair=True, order_type="stop", stop_price=2000)
    assert found == Terms(OrderType.STOP_LIMIT, 2100, TimeInForce.GTC, 2000)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"order_type": "market", "price": 5}, "invalid_price"),
        ({"order_type": "stop", "stop_price": 5, "price": 5}, "invalid_price"),
        ({"order_type": "market", "stop_price": 5}, "invalid_stop_price"),
        ({"order_type": "stop"}, "invalid_stop_price"),
        ({"order_type": "take_profit"}, "invalid_stop_price"),
        ({"order_type": "market", "time_in_force": "gtd", "expires_at": 9}, "invalid_time_in_force"),
    ],
)
def test_terms_that_contradict_each_other_are_refused(asked: dict[str, Any], reason: str) -> None:
    assert entered(**asked) == reason


@given(st.sampled_from(list(Side)), st.integers(1, MAX_VALUE), st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_protection_price_is_the_last_tick_within_the_collar(
    side: Side, reference: int, collar: int, other: int
) -> None:
    price = protected(side, reference, collar)
    sign = 1 if side is Side.BUY else -1
    worst = reference * (1 + sign * Fraction(collar, 10_000))
    assert 1 <= price <= MAX_VALUE
    assert (price - worst) * sign <= 0 or price == 1
    assert (price + sign - worst) * sign > 0 or price in (1, MAX_VALUE)
    assert (protected(side, reference, other) - price) * sign * (1 if other >= collar else -1) >= 0


@pytest.mark.parametrize("kind", [OrderType.STOP, OrderType.TAKE_PROFIT])
def test_another_stop_price_brings_another_protection_price(kind: OrderType) -> None:
    change = Replace(owner="u", symbol="AAPL", order_id=1, quantity=3, stop_price=4000)
    assert replaced(change, kind, Side.SELL, COLLAR, 3000) == change.model_copy(update={"price": 3800})


def test_other_changes_go_to_the_book_as_they_are() -> None:
    smaller = Replace(owner="u", symbol="AAPL", order_id=1, quantity=3)
    dearer = Replace(owner="u", symbol="AAPL", order_id=1, quantity=3, price=7, stop_price=6)
    assert replaced(smaller, OrderType.STOP, Side.BUY, COLLAR, 5000) == smaller
    assert replaced(dearer, OrderType.STOP_LIMIT, Side.BUY, COLLAR, 5000) == dearer


def test_an_order_without_limit_gets_none_by_a_change() -> None:
    change = Replace(owner="u", symbol="AAPL", order_id=1, quantity=3, price=7)
    assert replaced(change, OrderType.STOP, Side.BUY, COLLAR, 5000) == "invalid_price"
