"""REST API of orders, and the entry of the role."""

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response

from app.events.stream import follow
from app.exchange.terms import MAX_VALUE
from app.kit import web
from app.kit.auth import Authenticator, Principal, require
from app.kit.problems import Problem
from app.kit.runtime import Runtime
from app.matching_client.client import MatchingClient
from app.matching_client.commands import LARGEST_DEPTH
from app.orders import terms
from app.orders.history import OrderFilter, OrderHistory
from app.orders.lean import before_all
from app.orders.projection import Projection
from app.orders.schemas import (
    BatchBody,
    BatchView,
    BookView,
    CancelAfterBody,
    CancelAfterView,
    ClientOrderId,
    FillPage,
    FillView,
    OcoBody,
    OrderId,
    OrderPage,
    OrderStatus,
    OrderView,
    PairView,
    PlaceBody,
    PlacedView,
    ReplaceBody,
    StateView,
    SymbolText,
)
from app.orders.service import REPLAYED, Answer, Trading
from app.orders.sockets import OrderServer
from app.orders.stream import Executions

_PACE_SECONDS = 0.1
"""History may be that far behind the engine."""

router = APIRouter(prefix="/api/orders", tags=["orders"])
books = APIRouter(prefix="/api/book", tags=["book"])

Reader = Annotated[Principal, Depends(require("read"))]
Trader = Annotated[Principal, Depends(require("trade"))]
Limit = Annotated[int, Query(ge=1, le=500)]
Before = Annotated[int | None, Query(ge=1, le=MAX_VALUE, description="`next` of the page before.")]
Id = Annotated[OrderId, Path()]


def _trading(request: Request) -> Trading:
    trading: Trading = request.app.state.trading
    return trading


Services = Annotated[Trading, Depends(_trading)]


@router.post("", status_code=201, response_model=PlacedView)
async def place(request: Request, user: Trader, body: PlaceBody) -> Response:
    """Enter an order. A request with the client_order_id of a former one gets its answer again, marked
    `Idempotent-Replayed: true`. A rejected order is a problem (422) with the reason as its code."""
    answer = await _trading(request).place(user.user_id, body)
    view = answer.orders[0]
    headers = {"Location": f"/api/orders/{view.order_id}", **_replayed(answer)}
    return Response(view.__pydantic_serializer__.to_json(view), 201, headers, "application/json")


@router.post("/oco", status_code=201)
async def place_pair(trading: Services, user: Trader, body: OcoBody, response: Response) -> PairView:
    """Enter two orders of which one cancels the other."""
    answer = await trading.oco(user.user_id, body)
    response.headers.update(_replayed(answer))
    return PairView.model_construct(orders=answer.orders)


@router.post("/batch")
async def place_batch(trading: Services, user: Trader, body: BatchBody) -> BatchView:
    """Enter orders that are independent of each other, each with its own answer."""
    ids = [order.client_order_id for order in body.orders if order.client_order_id is not None]
    if len(set(ids)) < len(ids):
        raise Problem(422, "invalid-request", "Each order of a batch has a client_order_id of its own.")
    results = await asyncio.gather(*(trading.item(user.user_id, order) for order in body.orders))
    return BatchView(results=results)


@router.post("/cancel-after")
async def cancel_after(trading: Services, user: Trader, body: CancelAfterBody) -> CancelAfterView:
    """Have all orders cancelled in some seconds, unless this is asked for again before: a dead-man switch."""
    return await trading.cancel_after(user.user_id, body.seconds)


@router.get("")
async def orders(
    trading: Services,
    user: Reader,
    symbol: SymbolText | None = None,
    status: Annotated[list[OrderStatus] | None, Query(max_length=7, description="Any of these.")] = None,
    active: Annotated[bool, Query(description="Only orders that may still trade.")] = False,
    since: Annotated[AwareDatetime | None, Query(description="Entered at this time or later.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Entered before this time.")] = None,
    before: Before = None,
    limit: Limit = 100,
) -> OrderPage:
    """The user's orders."""
    wanted = OrderFilter(
        user.user_id,
        symbol,
        tuple(status or ()),
        active,
        terms.milliseconds(since),
        terms.milliseconds(until),
    )
    async with trading.database.transaction(read_only=True) as session:
        found = await trading.history.page(session, wanted, before, limit + 1)
    page = found[:limit]
    return OrderPage.model_construct(
        orders=[OrderView.of(order) for order in page],
        next=str(page[-1].order_id) if len(found) > limit else None,
    )


@router.delete("", status_code=204)
async def cancel_all(
    trading: Services,
    user: Trader,
    symbol: Annotated[SymbolText | None, Query(description="Only those of this instrument.")] = None,
) -> None:
    """Cancel every open order: all are when this is answered."""
    await trading.cancel_all(user.user_id, symbol)


@router.get("/fills")
async def fills(
    trading: Services,
    user: Reader,
    symbol: SymbolText | None = None,
    before: Annotated[
        str | None,
        Query(pattern=r"^[0-9]{1,13}\.[0-9]{1,16}\.[0-9]{1,16}$", description="`next` of the page before."),
    ] = None,
    limit: Limit = 100,
) -> FillPage:
    """What the user's orders had of trades."""
    at, order, trade = (int(part) for part in before.split(".")) if before else (0, 0, 0)
    place = (at, order, trade) if before else None
    async with trading.database.transaction(read_only=True) as session:
        found = await trading.history.fills(session, user.user_id, symbol, place, limit + 1)
    page = found[:limit]
    last = page[-1] if len(found) > limit else None
    return FillPage.model_construct(
        fills=[FillView.of(fill) for fill in page],
        next=f"{last.at}.{last.order_id}.{last.trade_id}" if last else None,
    )


@router.get("/by-client-id/{id}")
async def order_by_client_id(
    trading: Services, user: Reader, id: Annotated[ClientOrderId, Path()]
) -> OrderView:
    """One of the user's orders, by what the user called it."""
    async with trading.database.transaction(read_only=True) as session:
        found = await trading.history.by_client_id(session, user.user_id, id)
    if found is None:
        raise Problem(404, "unknown-order", f"You have no order with the client_order_id {id}.")
    return OrderView.of(found)


@router.get("/{id}")
async def order(trading: Services, user: Reader, id: Id) -> OrderView:
    """One of the user's orders."""
    return OrderView.of(await trading.order(user.user_id, id))


@router.patch("/{id}")
async def replace(trading: Services, user: Trader, id: Id, body: ReplaceBody) -> StateView:
    """Change an open order. It keeps its priority only when it shrinks at the same prices."""
    return await trading.replace(user.user_id, id, body)


@router.delete("/{id}")
async def cancel(trading: Services, user: Trader, id: Id) -> StateView:
    """Cancel an open order."""
    return await trading.cancel(user.user_id, id)


@router.get("/{id}/fills")
async def fills_of_order(
    trading: Services, user: Reader, id: Id, before: Before = None, limit: Limit = 100
) -> FillPage:
    """What one order had of trades."""
    await trading.order(user.user_id, id)
    async with trading.database.transaction(read_only=True) as session:
        found = await trading.history.fills_of(session, id, before, limit + 1)
    page = found[:limit]
    return FillPage.model_construct(
        fills=[FillView.of(fill) for fill in page],
        next=str(page[-1].trade_id) if len(found) > limit else None,
    )


@books.get("/{symbol}")
async def book(
    trading: Services,
    symbol: Annotated[SymbolText, Path()],
    levels: Annotated[int, Query(ge=1, le=LARGEST_DEPTH, description="Of each side.")] = 20,
) -> BookView:
    """The best levels of an instrument's book."""
    return await trading.book(symbol, levels)


def _replayed(answer: Answer) -> dict[str, str]:
    return {REPLAYED: "true"} if answer.replayed else {}


def create_app(runtime: Runtime, trading: Trading) -> FastAPI:
    """The web application of the role."""
    app = web.create_app(runtime, router, books)
    app.state.trading = trading
    return app


async def serve(runtime: Runtime, connect: Callable[[Runtime], MatchingClient] = MatchingClient) -> None:
    """Run the role; `connect` makes the client of the matching engine."""
    client = connect(runtime)
    database, bus = runtime.backends.database, runtime.backends.bus
    trading = Trading(client, database, OrderHistory())
    app = create_app(runtime, trading)
    executions = Executions(bus)
    projection = Projection(database, bus)
    quick = before_all(app, runtime, "/api/orders", place)
    server = OrderServer(runtime, quick, trading, executions, Authenticator.of(app))

    async def project() -> None:
        await follow(bus, database, "order", projection.apply, client.republish, pace=_PACE_SECONDS)

    try:
        await runtime.serve(server, project, executions.run, prepare=executions.open)
    finally:
        await client.close()
