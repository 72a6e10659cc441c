"""What the engine takes from other roles, and what it refuses before it looks at any book."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.matching_client.commands import (
    COMMANDS,
    LARGEST_BATCH,
    RESULTS,
    Cancel,
    CancelAfter,
    CancelAll,
    Command,
    Oco,
    OrderState,
    Place,
    Replace,
    Result,
    SetPhase,
)

ORDER: dict[str, Any] = {
    "owner": "u-1",
    "client_order_id": "a",
    "symbol": "BTC-USD",
    "side": "buy",
    "order_type": "limit",
    "quantity": 5,
    "price": 6_425_000,
}


def test_a_batch_comes_back_from_json_as_it_was() -> None:
    place = Place(**ORDER)
    stop = Place(**{**ORDER, "client_order_id": "b", "order_type": "stop", "price": 0, "stop_price": 7})
    batch: list[Command] = [
        place,
        Oco(first=place, second=stop),
        Cancel(owner="u-1", symbol="AAPL", order_id=3),
        Replace(owner="u-1", symbol="AAPL", order_id=3, quantity=2),
        CancelAll(owner=""),
        SetPhase(symbol="AAPL", phase="auction"),
        CancelAfter(owner="u-1", seconds=0),
    ]
    assert COMMANDS.validate_json(COMMANDS.dump_json(batch)) == batch


def test_results_come_back_from_json_as_they_were() -> None:
    state = OrderState(
        order_id=1,
        client_order_id="a",
        symbol="AAPL",
        status="filled",
        filled=5,
        remaining=0,
        created_at=1_700_000_000_000,
    )
    results = [Result(kind="place", code="ok", orders=(state,)), None]
    assert RESULTS.validate_json(RESULTS.dump_json(results)) == results


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("owner", ""),
        ("owner", "x" * 81),
        ("owner", "a\x00"),
        ("client_order_id", ""),
        ("client_order_id", "x" * 65),
        ("client_order_id", "a\x00b"),
        ("client_order_id", "a\n"),
        ("client_order_id", "\ud800"),
        ("client_order_id", "ä"),
        ("symbol", "BTC-EUR"),
        ("symbol", "btc-usd"),
        ("side", "both"),
        ("order_type", "iceberg"),
        ("quantity", 0),
        ("quantity", -1),
        ("quantity", 2**53),
        ("quantity", "5"),
        ("quantity", 1.5),
        ("quantity", True),
        ("price", -1),
        ("price", 2**53),
        ("stop_price", 2**53),
        ("time_in_force", "day"),
        ("expires_at", 10_000_000_000_000),
        ("self_trade_prevention", "maybe"),
        ("origin", "else"),
        ("note", "unknown fields are mistakes"),
    ],
)
def test_what_no_order_can_be_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Place(**{**ORDER, field: value})
    assert refused.value.errors()[0]["loc"][0] == field


@pytest.mark.parametrize(
    "other",
    [
        {"owner": "u-2"},
        {"symbol": "ETH-USD"},
        {"side": "sell"},
        {"quantity": 6},
        {"client_order_id": "a"},
        {"origin": "forced_close"},
    ],
)
def test_both_orders_of_a_pair_are_alike(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Oco(first=Place(**ORDER), second=Place(**{**ORDER, "client_order_id": "b", **other}))


@pytest.mark.parametrize("size", [0, LARGEST_BATCH + 1])
def test_a_batch_has_some_commands_but_not_any_number(size: int) -> None:
    with pytest.raises(ValidationError):
        COMMANDS.validate_python([Place(**ORDER)] * size)
