"""What users do with orders: their requests become commands of the engine, its results become answers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Protocol
from uuid import uuid4

import orjson
from prometheus_client import Counter, Histogram

from app.instruments import INSTRUMENTS
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.problems import Problem
from app.matching_client.commands import (
    Cancel,
    CancelAfter,
    CancelAll,
    Command,
    Depth,
    Oco,
    OrderState,
    Place,
    Replace,
    Result,
)
from app.orders import terms
from app.orders.history import OrderHistory
from app.orders.reasons import explained
from app.orders.repository import OrderRecord
from app.orders.schemas import (
    BookView,
    CancelAfterView,
    ItemView,
    LevelView,
    OcoBody,
    PlaceBody,
    PlacedView,
    ReplaceBody,
    StateView,
    Terms,
)

REPLAYED = "Idempotent-Replayed"
"""Header of an answer that was given before."""
_requests = Counter("order_requests_total", "Requests about orders, at the edge", ["operation", "outcome"])
_seconds = Histogram(
    "order_request_seconds",
    "Time that the engine took to answer, as seen from the edge",
    ["operation"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
_counter, _histogram = cache(_requests.labels), cache(_seconds.labels)
Operation = Literal["place", "oco", "cancel", "replace", "cancel_all", "cancel_after"]


class Engine(Protocol):
    """The matching engine; see `app.matching_client.client.MatchingClient`."""

    async def submit(self, command: Command) -> Result:
        """Carry a command out; raises Unavailable, Problem."""

    async def depth(self, symbol: str, levels: int) -> Depth:
        """The best levels of a book; raises Unavailable, Problem."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request to place orders."""

    orders: list[PlacedView]
    replayed: bool
    """Whether it was answered before."""


def wall_clock() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Trading:
    """Orders of users. Whoever calls has checked who the user is and that they may trade."""

    engine: Engine
    database: Database
    history: OrderHistory
    clock: Callable[[], int] = field(default=wall_clock)

    async def place(self, owner: str, body: PlaceBody) -> Answer:
        """Enter an order.

        Raises:
            Problem: 422 with the code of the reason when it is rejected, `invalid-price`, `invalid-quantity`,
                `invalid-time`, `unknown-symbol`; 503 `outcome-unknown` when the engine does not answer.
        """
        command = _place(owner, body.symbol, body.side, body.quantity, body, body.post_only)
        return await self._enter("place", command, (command,))

    async def oco(self, owner: str, body: OcoBody) -> Answer:
        """Enter two orders of which one cancels the other; raises as `place`."""
        legs = [
            _place(owner, body.symbol, body.side, body.quantity, leg, False)
            for leg in (body.first, body.second)
        ]
        if legs[0].client_order_id == legs[1].client_order_id:
            raise Problem(422, "invalid-request", "Each order of a pair has a client_order_id of its own.")
        return await self._enter("oco", Oco(first=legs[0], second=legs[1]), legs)

    async def item(self, owner: str, body: PlaceBody) -> ItemView:
        """Enter one order of a batch; what is wrong with it is part of the answer."""
        if body.client_order_id is None:
            body = body.model_copy(update={"client_order_id": str(uuid4())})
        assert body.client_order_id is not None  # noqa: S101 - given above
        try:
            answer = await self.place(owner, body)
        except Problem as problem:
            return ItemView(
                client_order_id=body.client_order_id,
                replayed=REPLAYED in problem.headers,
                problem=orjson.loads(problem.document()),
            )
        return ItemView(
            client_order_id=body.client_order_id, replayed=answer.replayed, order=answer.orders[0]
        )

    async def cancel(self, owner: str, order_id: int) -> StateView:
        """Take an open order out.

        Raises:
            Problem: 404 `unknown-order`; 422 `order-not-open`, `halted`.
            Unavailable: the engine does not answer; safe to ask again.
        """
        order = await self.order(owner, order_id)
        command = Cancel(owner=owner, symbol=order.symbol, order_id=order_id)
        return await self._change("cancel", order, command)

    async def replace(self, owner: str, order_id: int, body: ReplaceBody) -> StateView:
        """Change an open order; raises as `cancel` and `place`."""
        order = await self.order(owner, order_id)
        instrument = INSTRUMENTS[order.symbol]
        command = Replace(
            owner=owner,
            symbol=order.symbol,
            order_id=order_id,
            quantity=terms.lots(instrument, body.quantity),
            price=terms.ticks(instrument, body.price),
            stop_price=terms.ticks(instrument, body.stop_price),
        )
        return await self._change("replace", order, command)

    async def cancel_all(self, owner: str, symbol: str | None) -> None:
        """Take every open order of a user out, of one symbol if one is given; they are when this returns.

        Raises:
            Problem: 422 `unknown-symbol`, `halted`.
            Unavailable: the engine does not answer; safe to ask again.
        """
        if symbol is not None:
            terms.instrument_of(symbol)
        result = await self._submit("cancel_all", CancelAll(owner=owner, symbol=symbol))
        if result.code != "ok":
            raise explained(result.reason)

    async def cancel_after(self, owner: str, seconds: int) -> CancelAfterView:
        """Have all orders of a user cancelled in `seconds`, unless asked again before; 0 switches that off.

        Raises:
            Unavailable: the engine does not answer; safe to ask again.
        """
        result = await self._submit("cancel_after", CancelAfter(owner=owner, seconds=seconds))
        if result.code != "ok":
            raise explained(result.reason)
        at = terms.moment(self.clock() + seconds * 1000) if seconds else None
        return CancelAfterView(seconds=seconds, cancel_at=at)

    async def book(self, symbol: str, levels: int) -> BookView:
        """The best levels of a book.

        Raises:
            Problem: 404 `unknown-symbol`.
            Unavailable: the engine does not answer.
        """
        instrument = INSTRUMENTS.get(symbol)
        if instrument is None:
            raise Problem(404, "unknown-symbol", f"There is no instrument {symbol}.")
        depth = await self.engine.depth(symbol, levels)
        bids, asks = (
            [
                LevelView(
                    price=f"{instrument.price(level.price):f}",
                    quantity=terms.quantity_text(instrument, level.quantity),
                )
                for level in side
            ]
            for side in (depth.bids, depth.asks)
        )
        return BookView(
            symbol=symbol,
            sequence=depth.sequence,
            phase=depth.phase,
            last_price=terms.price_text(instrument, depth.last_price),
            bids=bids,
            asks=asks,
        )

    async def order(self, owner: str, order_id: int) -> OrderRecord:
        """One order of a user; raises Problem: 404 `unknown-order`."""
        async with self.database.transaction(read_only=True) as session:
            found = await self.history.get(session, owner, order_id)
        if found is None:
            raise Problem(404, "unknown-order", f"You have no order {order_id}.")
        return found

    async def _enter(self, operation: Operation, command: Place | Oco, placed: Sequence[Place]) -> Answer:
        ids = [place.client_order_id for place in placed]
        try:
            result = await self._submit(operation, command)
        except Unavailable:
            raise Problem(
                503,
                "outcome-unknown",
                "The engine did not answer in time. Send the same request with this client_order_id again "
                "to learn what became of it.",
                headers={"Retry-After": "1"},
                **_named("client_order_id", ids),
            ) from None
        if result.code != "ok":
            problem = explained(
                result.reason,
                **_named("client_order_id", ids),
                **_named("order_id", [str(order.order_id) for order in result.orders]),
            )
            if result.repeated:
                problem.headers[REPLAYED] = "true"
            raise problem
        views = [_placed(place, order) for place, order in zip(placed, result.orders, strict=True)]
        return Answer(views, result.repeated)

    async def _change(self, operation: Operation, order: OrderRecord, command: Cancel | Replace) -> StateView:
        result = await self._submit(operation, command)
        if result.code == "ok":
            return _state(order, result.orders[0])
        if result.reason == "unknown_order":
            # It is this user's, so it has ended, whether or not the history says so already.
            raise Problem(422, "order-not-open", "The order is no longer open.", order_id=str(order.order_id))
        raise explained(result.reason, order_id=str(order.order_id))

    async def _submit(self, operation: Operation, command: Command) -> Result:
        outcome = "unavailable"
        begun = time.perf_counter()
        try:
            result = await self.engine.submit(command)
            outcome = result.code
            return result
        except Problem:
            outcome = "invalid"
            raise
        finally:
            _counter(operation, outcome).inc()
            _histogram(operation).observe(time.perf_counter() - begun)


def _place(owner: str, symbol: str, side: str, quantity: str, body: Terms, post_only: bool) -> Place:
    instrument = terms.instrument_of(symbol)
    return Place(
        owner=owner,
        client_order_id=body.client_order_id or str(uuid4()),
        symbol=symbol,
        side=side,
        order_type=body.order_type,
        quantity=terms.lots(instrument, quantity),
        price=terms.ticks(instrument, body.price),
        stop_price=terms.ticks(instrument, body.stop_price),
        time_in_force=body.time_in_force,
        expires_at=terms.milliseconds(body.expires_at),
        self_trade_prevention=body.self_trade_prevention,
        post_only=post_only,
    )


def _placed(place: Place, order: OrderState) -> PlacedView:
    instrument = INSTRUMENTS[place.symbol]
    return PlacedView.model_construct(
        order_id=str(order.order_id),
        client_order_id=place.client_order_id,
        symbol=place.symbol,
        side=place.side,
        order_type=place.order_type,
        time_in_force=place.time_in_force,
        quantity=terms.quantity_text(instrument, place.quantity),
        price=terms.price_text(instrument, place.price),
        stop_price=terms.price_text(instrument, place.stop_price),
        status=order.status,
        filled=terms.quantity_text(instrument, order.filled),
        reason=order.reason,
        created_at=terms.moment(order.created_at),
    )


def _state(order: OrderRecord, now: OrderState) -> StateView:
    instrument = INSTRUMENTS[order.symbol]
    return StateView(
        order_id=str(order.order_id),
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        status=now.status,
        filled=terms.quantity_text(instrument, now.filled),
        remaining=terms.quantity_text(instrument, now.remaining),
        reason=now.reason,
    )


def _named(name: str, values: Sequence[str]) -> dict[str, Any]:
    """A member of a problem document: one value by its name, several as a list under the plural."""
    return {name: values[0]} if len(values) == 1 else {f"{name}s": list(values)} if values else {}
