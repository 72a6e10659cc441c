"""Orders over a WebSocket, as users see them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.kit.auth import LEEWAY_SECONDS
from app.kit.bus import Record
from app.matching.translate import output_envelope
from app.orders import sockets
from tests.app.orders.conftest import SECONDS, Orders, order
from tests.app.orders.orders import ANN, BOB


async def receive(client: ClientConnection, kind: str | None = None) -> dict[str, Any]:
    """The next message, of one kind if one is given."""
    async with asyncio.timeout(SECONDS):
        while True:
            message: dict[str, Any] = json.loads(await client.recv())
            if kind is None or message["type"] == kind:
                return message


async def ask(client: ClientConnection, op: str, **request: Any) -> dict[str, Any]:
    """The answer to a request; executions that come before are passed over."""
    await client.send(json.dumps({"op": op, "id": f"{op}-1", **request}))
    async with asyncio.timeout(SECONDS):
        while True:
            message = await receive(client)
            if message.get("id") == f"{op}-1":
                return message


async def events(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [await receive(client, "order") for _ in range(count)]


@asynccontextmanager
async def logged_in(
    orders: Orders, user: str = ANN, *, max_queue: int | None = None, **changes: Any
) -> AsyncIterator[ClientConnection]:
    headers = orders.issuer.headers(user, **changes)
    async with orders.websocket(additional_headers=headers, max_queue=max_queue) as client:
        hello = await receive(client)
        assert hello == {"seq": 1, "type": "login", "user_id": user}
        yield client


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Code and reason of the close, whatever comes before it."""
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                await client.recv()
    except ConnectionClosed as error:
        return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")


async def test_an_order_and_its_executions(orders: Orders) -> None:
    async with logged_in(orders) as ann, logged_in(orders, BOB) as bob:
        answer = await ask(ann, "place", **order(client_order_id="c-1"))
        assert (answer["type"], answer["replayed"]) == ("place", False)
        assert answer["order"]["status"] == "open"
        again = await ask(ann, "place", **order(client_order_id="c-1"))
        assert (again["order"], again["replayed"]) == (answer["order"], True)
        await orders.place(201, BOB, side="sell", quantity="0.2")
        mine = await events(bob, 2)
        assert [message["event"] for message in mine] == ["accepted", "fill"]
        fill = mine[1]
        assert (fill["status"], fill["liquidity"], fill["side"]) == ("filled", "taker", "sell")
        changed = await ask(ann, "replace", order_id="1", quantity="0.6", price="99")
        assert changed["order"]["remaining"] == "0.40000"
        assert (await ask(ann, "cancel", order_id="1"))["order"]["status"] == "cancelled"


async def test_executions_are_ones_own_and_numbered(orders: Orders) -> None:
    async with logged_in(orders) as ann:
        await orders.place()
        await orders.place(201, BOB, price="90")
        await orders.place(201, BOB, side="sell", quantity="0.2")
        await orders.call("PATCH", "/1", json={"quantity": "0.4"})
        await orders.call("DELETE", "/1")
        got = await events(ann, 4)
        assert [message["event"] for message in got] == ["accepted", "fill", "replaced", "cancelled"]
        assert [message["seq"] for message in got] == [2, 3, 4, 5]
        assert [message["remaining"] for message in got] == ["0.50000", "0.30000", "0.20000", "0.00000"]
        assert [message.get("status") for message in got] == [
            "open",
            "partially_filled",
            None,
            "cancelled",
        ]
        assert got[1]["price"] == "100.00"
        sequences = [message["sequence"] for message in got]
        assert sequences == sorted(set(sequences))


async def test_stops_wait_and_are_triggered(orders: Orders) -> None:
    await orders.place(201, BOB, side="sell", price="110", quantity="0.1")
    await orders.place(201, BOB, side="sell", price="120", quantity="1")
    async with logged_in(orders) as ann:
        stop = {"order_type": "stop", "price": None, "stop_price": "105", "quantity": "0.1"}
        assert (await orders.place(**stop))["status"] == "waiting"
        await orders.place(201, "carol", price="110", quantity="0.1")
        got = await events(ann, 3)
        assert [message["event"] for message in got] == ["accepted", "triggered", "fill"]
        assert [message["status"] for message in got] == ["waiting", "open", "filled"]
        found = await orders.order("3", "filled")
        assert (found["order_type"], found["price"], found["average_price"]) == ("stop", None, "120")


async def test_what_was_published_before_is_not_told_again(orders: Orders) -> None:
    async with logged_in(orders) as ann:
        await orders.place()
        await orders.place()
        await events(ann, 2)
        engine = orders.engine
        await engine.republish("BTC-USD", 0)
        both = engine.published["BTC-USD"]
        whole = both[0].model_copy(update={"last": 2, "changes": both[0].changes + both[1].changes})
        record = Record("BTC-USD", output_envelope(whole).encode())
        await orders.runtime.backends.bus.publish("matching.output", [record])
        await orders.place()
        told = (await events(ann, 1))[0]
        assert (told["order_id"], told["sequence"], told["seq"]) == ("3", 3, 4)


async def test_a_gap_is_told(orders: Orders) -> None:
    async with logged_in(orders) as ann:
        await orders.place()
        await events(ann, 1)
        lost = orders.engine.published["BTC-USD"][0].model_copy(update={"first": 5, "last": 5})
        lost = lost.model_copy(
            update={"changes": tuple(c.model_copy(update={"sequence": 5}) for c in lost.changes)}
        )
        record = Record("BTC-USD", output_envelope(lost).encode())
        await orders.runtime.backends.bus.publish("matching.output", [record])
        told = await receive(ann, "resync")
        assert (told["reason"], told["symbol"]) == ("gap", "BTC-USD")


async def test_login_by_message(orders: Orders) -> None:
    async with orders.websocket() as client:
        for op, more in (("place", order()), ("cancel_all", {})):
            assert (await ask(client, op, **more))["code"] == "authentication-required"
        assert (await ask(client, "login", token="no"))["code"] == "invalid-token"
        answer = await ask(client, "login", token=orders.issuer.token(ANN))
        assert (answer["type"], answer["user_id"]) == ("login", ANN)
        assert (await ask(client, "place", **order()))["order"]["order_id"] == "1"
        other = await ask(client, "login", token=orders.issuer.token(BOB))
        assert other["code"] == "another-user"
        assert (await ask(client, "login", token=orders.issuer.token(ANN, "read")))["type"] == "login"
        assert (await ask(client, "place", **order()))["code"] == "insufficient-scope"
        assert (await ask(client, "ping"))["type"] == "pong"


async def test_who_does_not_log_in_is_disconnected(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hurried:
        hurried.setattr(sockets, "LOGIN_SECONDS", 0.1)
        async with orders.websocket() as client:
            assert await closed(client) == (4401, "log in within 0 seconds")
    headers = {"authorization": "Bearer nonsense"}
    async with orders.websocket(additional_headers=headers) as client:
        assert await closed(client) == (4401, "invalid-token")
    headers = orders.issuer.headers(ANN, "withdraw")
    async with orders.websocket(additional_headers=headers) as client:
        assert await closed(client) == (4401, "insufficient-scope")


async def test_a_connection_ends_with_its_token(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        # Once the login is checked its token has a second left, however long the check took.
        ends = int(time.time()) + 900
        later.setattr(sockets, "time", SimpleNamespace(time=lambda: ends + LEEWAY_SECONDS - 1))
        async with logged_in(orders, exp=ends) as client:
            assert await closed(client) == (4401, "token-expired")
    async with logged_in(orders, exp=int(time.time())) as client:
        await ask(client, "login", token=orders.issuer.token(ANN))
        await asyncio.sleep(LEEWAY_SECONDS + 0.5)
        assert (await ask(client, "ping"))["type"] == "pong"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("invalid-json", "{"),
        ("unknown-op", "[]"),
        ("unknown-op", '{"op": ["place"]}'),
        ("unknown-op", '{"op": "buy"}'),
        ("invalid-id", '{"op": "ping", "id": {}}'),
        ("invalid-id", '{"op": "ping", "id": "' + "x" * 65 + '"}'),
        ("invalid-request", '{"op": "place"}'),
        ("invalid-request", '{"op": "ping", "x": 1}'),
        ("invalid-request", '{"op": "cancel", "order_id": 0}'),
        ("invalid-request", '{"op": "cancel", "order_id": "9999999999999999999"}'),
        ("invalid-request", '{"op": "cancel_after", "seconds": 86401}'),
        ("invalid-request", '{"op": "cancel_on_disconnect", "seconds": 1}'),
        ("unknown-order", '{"op": "cancel", "order_id": "7"}'),
        ("unknown-symbol", '{"op": "cancel_all", "symbol": "NONE"}'),
    ],
)
async def test_wrong_requests_are_answered(orders: Orders, code: str, message: str) -> None:
    async with logged_in(orders) as client:
        await client.send(message)
        told = await receive(client)
        assert (told["type"], told["code"]) == ("error", code)
        assert (await ask(client, "ping"))["type"] == "pong"


async def test_rejected_orders(orders: Orders) -> None:
    orders.engine.refused[ANN] = "insufficient_funds"
    async with logged_in(orders) as client:
        told = await ask(client, "place", **order(client_order_id="c"))
        assert (told["code"], told["order_id"], told["client_order_id"]) == ("insufficient-funds", "1", "c")
        orders.engine.away = True
        told = await ask(client, "place", **order())
        assert told["code"] == "outcome-unknown"
        assert (await ask(client, "cancel_after", seconds=5))["code"] == "unavailable"


async def test_too_large_and_binary_messages_end_the_connection(orders: Orders) -> None:
    async with logged_in(orders) as client:
        await client.send([" " * 10_000, " " * 10_000])
        assert (await closed(client))[0] == 1009
    async with logged_in(orders) as client:
        await client.send(b"{}")
        assert (await closed(client))[0] == 1003


async def test_who_asks_too_often_is_disconnected(orders: Orders) -> None:
    async with logged_in(orders) as client:

        async def ask_too_often() -> None:
            """Again and again: a pause of this process may make two good seconds of a bad one."""
            while True:
                for _ in range(600):
                    await client.send('{"op": "ping"}')
                await asyncio.sleep(0.2)

        asking = asyncio.create_task(ask_too_often())
        assert (await closed(client))[0] == 1008
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_who_does_not_read_is_disconnected(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "MOST_UNREAD", 4096)
    async with logged_in(orders, max_queue=1) as client:
        await orders.place()
        output = orders.engine.published["BTC-USD"][0]
        client.transport.pause_reading()
        records = []
        for first in range(2, 20_002, 500):
            changes = (output.changes[0].model_copy(update={"sequence": first + n}) for n in range(500))
            update = {"first": first, "last": first + 499, "changes": tuple(changes)}
            records.append(Record("BTC-USD", output_envelope(output.model_copy(update=update)).encode()))
        await orders.runtime.backends.bus.publish("matching.output", records)
        async with asyncio.timeout(SECONDS):
            while "order_websockets_active 1.0" in (await orders.client.get("/metrics")).text:
                await asyncio.sleep(0.05)
        client.transport.resume_reading()


async def test_the_switch_is_renewed_while_the_connection_lives(orders: Orders) -> None:
    async with logged_in(orders) as client:
        assert (await ask(client, "cancel_on_disconnect", seconds=6))["seconds"] == 6
        async with asyncio.timeout(SECONDS):
            while len(orders.engine.switches) < 3:
                await asyncio.sleep(0.1)
    async with logged_in(orders) as client:
        await ask(client, "cancel_after", seconds=0)
    # While the first connection was closed it may have been renewed once more, afterwards it was not.
    *renewed, last = orders.engine.switches
    assert (set(renewed), last) == ({(ANN, 6)}, (ANN, 0))


async def test_the_end_of_the_process_is_told(orders: Orders) -> None:
    async with logged_in(orders) as client, orders.websocket() as silent:
        orders.runtime.stopping.set()
        assert (await closed(client))[0] == 1012
        assert (await closed(silent))[0] == 1012
    async with asyncio.timeout(SECONDS):
        await asyncio.shield(orders.task)


@pytest.mark.parametrize("path", ["/api/orders", "/api/orders/stream/x", "/ws"])
async def test_other_paths_are_no_websockets(orders: Orders, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(orders.url.replace("http", "ws") + path, proxy=None):
            pass
    assert refused.value.response.status_code == 404
