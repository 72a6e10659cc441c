"""What the history says after any flow of orders is what the books say."""

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.events.matching import MatchingOutput
from app.events.registry import FAMILIES
from app.exchange import (
    Cancel,
    CancelAll,
    Command,
    MatchingEngine,
    OrderType,
    Place,
    PlaceOco,
    Replace,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from app.kit import schema
from app.kit.bus.memory import MemoryBus
from app.kit.database import Database
from app.matching.names import ORDER_TYPE_NAMES, SIDE_NAMES
from app.matching.translate import translate
from app.orders.history import OrderFilter, OrderHistory
from app.orders.projection import Projection
from app.orders.repository import OrderRecord, OrderRepository
from tests.app.orders.engine import Owners

SYMBOL = "BTC-USD"


class Flow:
    """Random commands for one book, the orders they enter and what the engine publishes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.engine = MatchingEngine(SYMBOL)
        self.owners = Owners()
        self.orders: dict[int, tuple[Place, int | None]] = {}
        self.outputs: list[MatchingOutput] = []
        for name in ("a", "b", "c"):
            self.owners.number(name)

    def run(self, commands: int) -> None:
        for time in range(1, commands + 1):
            command = self.command(time)
            events = self.engine.apply(command)
            changes, answers = translate(command, events, self.owners)
            first, last = changes[0].sequence, changes[-1].sequence
            self.outputs.append(
                MatchingOutput(
                    symbol=SYMBOL, first=first, last=last, at=time, changes=changes, answers=answers
                )
            )

    def command(self, time: int) -> Command:
        kind = self.random.random()
        account = self.random.randint(1, 3)
        some = self.random.choice(list(self.orders)) if self.orders else 1
        if kind < 0.1:
            return Cancel(time, some, self.orders[some][0].account if self.orders else 1)
        if kind < 0.25 and self.orders:
            quantity, price = self.random.randint(1, 12), self.random.choice((0, 98, 100, 102))
            return Replace(time, some, self.orders[some][0].account, quantity, price)
        if kind < 0.27:
            return CancelAll(time, account)
        if kind < 0.35:
            side = self.random.choice((Side.BUY, Side.SELL))
            away = 1 if side is Side.SELL else -1
            first = self.place(time, account, side=side, price=100 + 3 * away)
            stop = 100 - 4 * away
            second = self.place(
                time,
                account,
                side=side,
                quantity=first.quantity,
                order_type=OrderType.STOP_LIMIT,
                price=stop,
                stop_price=stop,
                group=first.order_id,
            )
            self.orders[first.order_id] = (first, first.order_id)
            return PlaceOco(time, first, second)
        return self.place(time, account)

    def place(self, time: int, account: int, *, group: int | None = None, **terms: Any) -> Place:
        given: dict[str, Any] = {
            "side": self.random.choice((Side.BUY, Side.SELL)),
            "order_type": OrderType.LIMIT,
            "quantity": self.random.randint(1, 9),
            "price": self.random.randint(97, 103),
            "self_trade_prevention": self.random.choice(list(SelfTradePrevention)),
        }
        if not terms:
            given["order_type"] = self.random.choice((OrderType.LIMIT,) * 5 + (OrderType.STOP_LIMIT,))
            if given["order_type"] is OrderType.STOP_LIMIT:
                given["stop_price"] = self.random.randint(96, 104)
            else:
                given["time_in_force"] = self.random.choice(
                    (TimeInForce.GTC,) * 4 + (TimeInForce.IOC, TimeInForce.FOK)
                )
                given["post_only"] = given["time_in_force"] is TimeInForce.GTC and self.random.random() < 0.1
        order = Place(time, len(self.orders) + 1, account, **{**given, **terms})
        self.orders[order.order_id] = (order, group)
        return order

    def records(self) -> list[OrderRecord]:
        return [
            OrderRecord(
                order_id=id,
                owner=self.owners.owner(order.account),
                client_order_id=f"c-{id}",
                symbol=SYMBOL,
                side=SIDE_NAMES[order.side],
                order_type=ORDER_TYPE_NAMES[order.order_type],
                time_in_force="gtc",
                quantity=order.quantity,
                price=order.price,
                stop_price=order.stop_price,
                group=group,
                remaining=order.quantity,
                created_at=order.time,
                changed_at=order.time,
            )
            for id, (order, group) in self.orders.items()
        ]


async def applied(database: Database, flow: Flow, batches: Iterable[list[MatchingOutput]]) -> None:
    bus = MemoryBus()
    await bus.ensure([FAMILIES["notification-events"].topic])
    projection, repository = Projection(database, bus), OrderRepository(database)
    async with database.transaction() as session:
        await repository.add(session, flow.records())
    for batch in batches:
        async with database.transaction() as session:
            await projection.apply(session, batch)


async def history(database: Database) -> tuple[list[OrderRecord], list[Any]]:
    orders, fills = [], []
    async with database.transaction(read_only=True) as session:
        for owner in ("a", "b", "c"):
            orders += await OrderHistory().page(session, OrderFilter(owner), None, 10_000)
            fills += await OrderHistory().fills(session, owner, None, None, 10_000)
    return orders, fills


@pytest.mark.parametrize("seed", range(4))
async def test_the_history_is_what_the_books_say(database: Database, seed: int, tmp_path: Path) -> None:
    flow = Flow(seed)
    flow.run(400)
    cuts = sorted(flow.random.sample(range(1, len(flow.outputs)), 20))
    batches = [flow.outputs[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    await applied(database, flow, batches)
    orders, fills = await history(database)
    assert len(orders) == len(flow.orders)
    book = flow.engine.book
    kinds = {change.kind for output in flow.outputs for change in output.changes}
    assert {"accepted", "rejected", "trade", "cancelled", "reduced", "replaced", "triggered"} <= kinds
    for order in orders:
        resting = book.orders.get(order.order_id)
        assert (resting is not None) == (order.status in ("open", "waiting", "partially_filled")), order
        assert order.remaining == (resting.remaining if resting else 0)
        own = [fill for fill in fills if fill.order_id == order.order_id]
        assert order.filled == sum(fill.quantity for fill in own)
        assert order.cost == sum(fill.quantity * fill.price for fill in own)
        if resting is not None:
            terms = resting.terms
            assert (order.quantity, order.price) == (terms.quantity, terms.price)
            assert order.filled + order.remaining == order.quantity
            assert (order.status == "partially_filled") == (order.filled > 0)
        elif order.status == "filled":
            assert order.filled == order.quantity
        else:
            assert order.status in ("cancelled", "rejected")
            assert order.reason
    answers = {answer.order_id: answer for output in flow.outputs for answer in output.answers}
    for order in orders:
        answer = answers[order.order_id]
        assert (order.answer_status, order.answer_filled) == (answer.status, answer.filled)
        assert order.answer_reason == answer.reason
    # One output at a time gives the same.
    other = Database(f"sqlite+aiosqlite:///{tmp_path}/other.db")
    await schema.to(other)
    await applied(other, flow, [[output] for output in flow.outputs])
    again, fills_again = await history(other)
    await other.close()
    assert again == orders
    assert fills_again == fills


async def test_replaced_orders_are_still_recognised(database: Database) -> None:
    flow = Flow(0)
    flow.run(200)
    await applied(database, flow, [flow.outputs])
    placed = {(record.owner, record.client_order_id): record for record in flow.records()}
    async with database.transaction(read_only=True) as session:
        known = await OrderRepository(database).known(session, list(placed))
    assert len(known) == len(placed)
    for key, record in known.items():
        first = placed[key]
        assert (record.quantity, record.price, record.stop_price) == (
            first.quantity,
            first.price,
            first.stop_price,
        )


async def test_market_orders_keep_no_price(database: Database) -> None:
    flow = Flow(1)
    flow.run(30)
    records = flow.records()
    market = next(r for r in records if r.order_type == "stop_limit")
    others = [r for r in records if r.order_id != market.order_id]
    repository = OrderRepository(database)
    async with database.transaction() as session:
        await repository.add(session, [*others, replace(market, order_type="stop", price=0)])
        await repository.apply(session, flow.outputs)
        found = await OrderHistory().get(session, market.owner, market.order_id)
    assert found is not None
    assert found.price == 0
    assert found.status != "pending"
