"""Orders over REST, as users see them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.events.envelope import Envelope
from tests.app.orders.conftest import Orders, order
from tests.app.orders.orders import ANN, BOB


async def test_an_order_is_entered_and_told(orders: Orders) -> None:
    headers = orders.issuer.headers(ANN)
    answer = await orders.client.post("/api/orders", json=order(client_order_id="c-1"), headers=headers)
    assert answer.status_code == 201
    placed = answer.json()
    assert answer.headers["location"] == f"/api/orders/{placed['order_id']}"
    assert "idempotent-replayed" not in answer.headers
    assert {**placed, "created_at": ""} == {
        "order_id": "1",
        "client_order_id": "c-1",
        "symbol": "BTC-USD",
        "side": "buy",
        "order_type": "limit",
        "time_in_force": "gtc",
        "quantity": "0.50000",
        "price": "100.00",
        "stop_price": None,
        "status": "open",
        "filled": "0.00000",
        "reason": "",
        "created_at": "",
    }
    found = await orders.order("1", "open")
    assert (found["remaining"], found["average_price"]) == ("0.50000", None)
    assert found["created_at"] == placed["created_at"]
    assert await orders.call("GET", "/by-client-id/c-1") == found
    assert (await orders.call("GET", "/by-client-id/c-2", 404))["code"] == "unknown-order"
    assert (await orders.call("GET", "/1", 404, BOB))["code"] == "unknown-order"


async def test_a_repeated_request_gets_the_first_answer(orders: Orders) -> None:
    headers = orders.issuer.headers(ANN)
    body = order(client_order_id="c-1")
    first = await orders.client.post("/api/orders", json=body, headers=headers)
    await orders.place(201, BOB, side="sell")
    await orders.order("1", "filled")
    again = await orders.client.post("/api/orders", json=body, headers=headers)
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    other = await orders.place(422, client_order_id="c-1", price="101")
    assert (other["code"], other["client_order_id"]) == ("client-order-id-reused", "c-1")
    orders.engine.refused[BOB] = "insufficient_funds"
    body = order(client_order_id="c-1")
    answers = [
        await orders.client.post("/api/orders", json=body, headers=orders.issuer.headers(BOB))
        for _ in range(2)
    ]
    assert answers[0].content == answers[1].content
    assert [answer.status_code for answer in answers] == [422, 422]
    assert ["idempotent-replayed" in answer.headers for answer in answers] == [False, True]


async def test_rejected_orders_tell_why_and_are_in_the_history(orders: Orders) -> None:
    orders.engine.refused[BOB] = "insufficient_funds"
    told = await orders.place(422, BOB)
    assert (told["code"], told["order_id"]) == ("insufficient-funds", "1")
    assert (await orders.call("GET", "/1", 200, BOB))["reason"] == "insufficient_funds"
    await orders.place(side="sell")
    told = await orders.place(422, post_only=True)
    assert (told["code"], told["order_id"]) == ("post-only-would-take", "3")
    found = await orders.order("3", "rejected")
    assert (found["reason"], found["remaining"]) == ("post_only_would_take", "0.00000")
    told = await orders.place(422, order_type="market")
    assert told["code"] == "invalid-price"


async def test_fills_are_exact_and_seen_by_both(orders: Orders) -> None:
    subscription = await orders.runtime.backends.bus.subscribe(["notification-events"], None)
    await orders.place(201, BOB, side="sell", quantity="0.2", price="99.99")
    await orders.place(201, BOB, side="sell", quantity="0.2", price="100")
    taken = await orders.place(client_order_id="mine")
    assert (taken["status"], taken["filled"]) == ("partially_filled", "0.40000")
    mine = await orders.order(taken["order_id"], "partially_filled")
    assert (mine["filled"], mine["remaining"]) == ("0.40000", "0.10000")
    assert (mine["filled_value"], mine["average_price"]) == ("39.9980000", "99.995")
    fills = (await orders.call("GET", f"/{taken['order_id']}/fills"))["fills"]
    assert [(f["trade_id"], f["price"], f["quantity"], f["liquidity"]) for f in fills] == [
        ("2", "100.00", "0.20000", "taker"),
        ("1", "99.99", "0.20000", "taker"),
    ]
    theirs = (await orders.call("GET", "/fills", 200, BOB))["fills"]
    assert [(f["order_id"], f["side"], f["liquidity"]) for f in theirs] == [
        ("2", "sell", "maker"),
        ("1", "sell", "maker"),
    ]
    assert (await orders.call("GET", "/1/fills", 404))["code"] == "unknown-order"
    async with asyncio.timeout(30):
        told: list[Any] = []
        while len(told) < 2:
            messages = await subscription.batch(10, seconds=1.0)
            told += [Envelope.decode(message.value) for message in messages]
    await subscription.close()
    assert {(event.id, event.payload["user"]) for event in told} == {
        ("order-filled:1", BOB),
        ("order-filled:2", BOB),
    }
    assert told[0].payload["values"]["quantity"] == "0.20000"


async def test_cancel_and_replace(orders: Orders) -> None:
    placed = await orders.place()
    path = f"/{placed['order_id']}"
    changed = await orders.call("PATCH", path, json={"quantity": "0.7", "price": "101"})
    assert (changed["remaining"], changed["client_order_id"]) == ("0.70000", placed["client_order_id"])
    await orders.until(path, lambda found: found["price"] == "101.00" and found["quantity"] == "0.70000")
    assert (await orders.call("DELETE", path, 404, BOB))["code"] == "unknown-order"
    assert (await orders.call("DELETE", path))["status"] == "cancelled"
    assert (await orders.order("1", "cancelled"))["reason"] == "requested"
    for method, options in (("DELETE", {}), ("PATCH", {"json": {"quantity": "1"}})):
        told = await orders.call(method, path, 422, **options)
        assert (told["code"], told["order_id"]) == ("order-not-open", "1")
    assert (await orders.call("DELETE", "/77", 404))["code"] == "unknown-order"


async def test_cancel_all_and_the_switch(orders: Orders) -> None:
    for symbol, price in (("BTC-USD", "100"), ("ETH-USD", "100")):
        await orders.place(symbol=symbol, price=price)
    # Nothing is said about the order in which the history hears of two markets.
    await orders.order("1", "open")
    await orders.call("DELETE", "", 204, params={"symbol": "ETH-USD"})
    await orders.order("2", "cancelled")
    assert (await orders.call("GET", "/1"))["status"] == "open"
    await orders.call("DELETE", "", 204)
    assert (await orders.order("1", "cancelled"))["reason"] == "mass_cancel"
    assert (await orders.call("DELETE", "", 422, params={"symbol": "NONE"}))["code"] == "unknown-symbol"
    on = await orders.call("POST", "/cancel-after", json={"seconds": 60})
    assert timedelta(seconds=50) < datetime.fromisoformat(on["cancel_at"]) - datetime.now(UTC)
    off = await orders.call("POST", "/cancel-after", json={"seconds": 0})
    assert off == {"seconds": 0, "cancel_at": None}
    assert orders.engine.switches == [(ANN, 60), (ANN, 0)]


async def test_a_pair_is_entered_and_ends_together(orders: Orders) -> None:
    await orders.place(201, BOB, quantity="0.1", price="90")
    limit = {"order_type": "limit", "price": "110", "client_order_id": "up"}
    stop = {"order_type": "stop_limit", "price": "79", "stop_price": "80", "client_order_id": "down"}
    body = {"symbol": "BTC-USD", "side": "sell", "quantity": "0.3", "first": limit, "second": stop}
    pair = (await orders.call("POST", "/oco", 201, json=body))["orders"]
    assert [(o["client_order_id"], o["status"]) for o in pair] == [("up", "open"), ("down", "waiting")]
    first = await orders.order("2", "open")
    assert first["group"] == "2"
    assert (await orders.order("3", "waiting"))["group"] == "2"
    await orders.place(201, BOB, quantity="0.3", price="110")
    await orders.order("2", "filled")
    assert (await orders.order("3", "cancelled"))["reason"] == "oco"
    crossing = {**body, "first": {**limit, "price": "85", "client_order_id": "a"}}
    crossing["second"] = {**stop, "client_order_id": "b"}
    told = await orders.call("POST", "/oco", 422, json=crossing)
    assert (told["code"], told["order_ids"]) == ("oco-would-execute", ["5", "6"])
    for id in told["order_ids"]:
        assert (await orders.order(id, "rejected"))["reason"] == "oco_would_execute"
    same = {**body, "second": {**stop, "client_order_id": "up"}}
    assert (await orders.call("POST", "/oco", 422, json=same))["code"] == "invalid-request"


async def test_a_batch_is_answered_item_by_item(orders: Orders) -> None:
    items = [
        order(client_order_id="a"),
        order(price="0.001"),
        order(side="sell", post_only=True, price="99"),
        order(quantity="0.1"),
    ]
    results = (await orders.call("POST", "/batch", json={"orders": items}))["results"]
    assert [result["order"] and result["order"]["status"] for result in results] == [
        "open",
        None,
        None,
        "open",
    ]
    assert [result["problem"] and result["problem"]["code"] for result in results] == [
        None,
        "invalid-price",
        "post-only-would-take",
        None,
    ]
    assert results[0]["client_order_id"] == "a"
    again = (await orders.call("POST", "/batch", json={"orders": items[:1]}))["results"]
    assert again[0]["replayed"]
    assert again[0]["order"] == results[0]["order"]
    twice = {"orders": [order(client_order_id="x")] * 2}
    assert (await orders.call("POST", "/batch", 422, json=twice))["code"] == "invalid-request"
    assert (await orders.call("POST", "/batch", 422, json={"orders": [order()] * 101}))["errors"]


async def test_the_history_is_filtered_and_paged(orders: Orders) -> None:
    for number in range(5):
        await orders.place(symbol="ETH-USD" if number % 2 else "BTC-USD", quantity="0.1")
    await orders.place(201, BOB)
    await orders.call("DELETE", "/1")
    await orders.order("1", "cancelled")
    for newest in ("4", "5"):
        await orders.order(newest, "open")

    async def ids(**params: Any) -> list[str]:
        found: list[str] = []
        while True:
            page = await orders.call("GET", "", params={"limit": 2, **params})
            found += [o["order_id"] for o in page["orders"]]
            if page["next"] is None:
                return found
            params["before"] = page["next"]

    assert await ids() == ["5", "4", "3", "2", "1"]
    assert await ids(symbol="ETH-USD") == ["4", "2"]
    assert await ids(active=True) == ["5", "4", "3", "2"]
    assert await ids(status="cancelled") == ["1"]
    assert await ids(status=["cancelled", "open"]) == ["5", "4", "3", "2", "1"]
    second = (await orders.call("GET", "/3"))["created_at"]
    assert await ids(until=second) == ["2", "1"]
    assert await ids(since=second) == ["5", "4", "3"]
    page = await orders.call("GET", "", 422, params={"since": "2020-01-01T00:00:00"})
    assert page["errors"][0]["field"] == "query.since"


async def test_pages_of_fills(orders: Orders) -> None:
    for _ in range(5):
        await orders.place(201, BOB, side="sell", quantity="0.1")
    await orders.place()
    await orders.order("6", "filled")
    for path in ("/fills", "/6/fills"):
        found: list[str] = []
        params: dict[str, Any] = {"limit": 2}
        while True:
            page = await orders.call("GET", path, params=params)
            found += [fill["trade_id"] for fill in page["fills"]]
            if page["next"] is None:
                break
            params["before"] = page["next"]
        assert found == ["5", "4", "3", "2", "1"]
    assert (await orders.call("GET", "/fills", params={"symbol": "ETH-USD"}))["fills"] == []


async def test_the_book_is_public(orders: Orders) -> None:
    await orders.place()
    await orders.place(price="99", quantity="0.25")
    await orders.place(201, BOB, side="sell", price="101")
    answer = await orders.client.get("/api/book/BTC-USD?levels=1")
    assert answer.json() == {
        "symbol": "BTC-USD",
        "sequence": 3,
        "phase": "continuous",
        "last_price": None,
        "bids": [{"price": "100.00", "quantity": "0.50000"}],
        "asks": [{"price": "101.00", "quantity": "0.50000"}],
    }
    assert (await orders.client.get("/api/book/NONE")).json()["code"] == "unknown-symbol"


async def test_an_outage_of_the_engine_names_the_order(orders: Orders) -> None:
    orders.engine.away = True
    told = await orders.place(503)
    assert told["code"] == "outcome-unknown"
    orders.engine.away = False
    assert (await orders.place(client_order_id=told["client_order_id"]))["order_id"] == "1"


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("invalid-price", {"price": "100.001"}),
        ("invalid-price", {"price": "0"}),
        ("invalid-price", {"price": "9" * 20}),
        ("invalid-quantity", {"quantity": "0.000001"}),
        ("unknown-symbol", {"symbol": "BTC-EUR"}),
        ("invalid-request", {"price": 100}),
        ("invalid-request", {"price": "1e2"}),
        ("invalid-request", {"quantity": "-1"}),
        ("invalid-request", {"quantity": "\u0661"}),
        ("invalid-request", {"client_order_id": "a b"}),
        ("invalid-request", {"client_order_id": "x" * 65}),
        ("invalid-request", {"client_order_id": "a\0"}),
        ("invalid-request", {"side": "short"}),
        ("invalid-request", {"owner": "u-2"}),
        ("invalid-request", {"expires_at": "2026-01-01T00:00:00"}),
        ("invalid-time", {"expires_at": "0001-01-01T00:00:00Z"}),
    ],
)
async def test_wrong_orders_are_refused_at_the_edge(orders: Orders, code: str, body: dict[str, Any]) -> None:
    assert (await orders.place(422, **body))["code"] == code
    assert orders.engine.last_id == 0


async def test_what_is_no_order_at_all(orders: Orders) -> None:
    for content in (b"", b"[]", b"null", b"{", b"\xff", b'{"symbol": "\\ud800"}'):
        assert (await orders.call("POST", "", 422, content=content))["code"] == "invalid-request"
    assert (await orders.call("POST", "", 413, content=b"x" * 20_000))["code"] == "body-too-large"


async def test_who_may_do_what(orders: Orders) -> None:
    assert (await orders.client.post("/api/orders", json=order())).status_code == 401
    reader = orders.issuer.headers(ANN, "read")
    answer = await orders.client.post("/api/orders", json=order(), headers=reader)
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient-scope")
    assert (await orders.client.get("/api/orders", headers=reader)).status_code == 200
    trader = orders.issuer.headers(ANN, "trade")
    assert (await orders.client.get("/api/orders", headers=trader)).status_code == 403


async def test_the_lean_route_is_documented(orders: Orders) -> None:
    document = (await orders.client.get("/openapi.json")).json()
    place = document["paths"]["/api/orders"]["post"]
    assert place["security"] == [{"HTTPBearer": []}, {"APIKeyHeader": []}]
    assert place["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("PlaceBody")
    assert place["responses"]["201"]["content"]["application/json"]["schema"]["$ref"].endswith("PlacedView")


async def test_the_metrics_of_the_edge(orders: Orders) -> None:
    await orders.place()
    metrics = (await orders.client.get("/metrics")).text
    assert 'order_requests_total{operation="place",outcome="ok"}' in metrics
    assert 'order_request_seconds_count{operation="place"}' in metrics
