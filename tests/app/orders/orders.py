"""Orders for tests."""

from typing import Any

from app.orders.repository import OrderRecord

ANN, BOB = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"


def record(order_id: int, **more: Any) -> OrderRecord:
    """A limit order to buy 5 lots at 100 ticks."""
    given = {
        "order_id": order_id,
        "owner": ANN,
        "client_order_id": f"c-{order_id}",
        "symbol": "BTC-USD",
        "side": "buy",
        "order_type": "limit",
        "time_in_force": "gtc",
        "quantity": 5,
        "price": 100,
        "remaining": 5,
        "created_at": 1_000,
        "changed_at": 1_000,
    }
    return OrderRecord(**{**given, **more})
