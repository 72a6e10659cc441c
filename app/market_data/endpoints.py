"""REST API of market data."""

import math
import socket
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime

from app.instruments import INSTRUMENTS
from app.kit import web
from app.kit.errors import Unavailable
from app.kit.lease import Lease
from app.kit.outbox import Relay
from app.kit.problems import Problem
from app.kit.runtime import Backends, Runtime
from app.market_data import history
from app.market_data.repository import MarketRepository
from app.market_data.retention import LEASE, LEASE_SECONDS, Retention
from app.market_data.schemas import (
    CandlePage,
    CandleView,
    Direction,
    Fill,
    InstrumentView,
    Interval,
    PlaceView,
    RunningCandles,
    TickerView,
)
from app.market_data.service import CandleWriter
from app.market_data.settings import MarketDataSettings
from app.prices import read_latest, read_latest_of

router = APIRouter(prefix="/api/market", tags=["market data"])

Symbol = Annotated[str, Path(max_length=20, examples=["BTC-USD"])]


def _backends(request: Request) -> Backends:
    runtime: Runtime = request.app.state.runtime
    return runtime.backends


def _known(symbol: str) -> str:
    if symbol not in INSTRUMENTS:
        raise Problem(404, "unknown-symbol", f"There is no instrument {symbol}.")
    return symbol


@router.get("/instruments")
async def instruments(request: Request) -> list[InstrumentView]:
    """Every instrument, the best known ones of each asset class first."""
    database = _backends(request).database
    async with database.transaction(read_only=True) as session:
        rows = {row.symbol: row for row in await MarketRepository(database).instruments(session)}
    if not rows:
        raise Unavailable("market-data", "its instruments are not stored yet")
    return [InstrumentView.of(rows[symbol]) for symbol in INSTRUMENTS if symbol in rows]


@router.get("/tickers")
async def tickers(request: Request) -> list[TickerView]:
    """The newest price of every instrument that has one."""
    latest = await read_latest(_backends(request).cache)
    return [TickerView.of(tick) for symbol, tick in sorted(latest.items()) if symbol in INSTRUMENTS]


@router.get("/tickers/{symbol}")
async def ticker(request: Request, symbol: Symbol) -> TickerView:
    """The newest price of one instrument."""
    tick = await read_latest_of(_backends(request).cache, _known(symbol))
    if tick is None:
        raise Problem(404, "no-price", f"{symbol} has not been traded yet.")
    return TickerView.of(tick)


@router.get("/candles/{symbol}")
async def candles(
    request: Request,
    symbol: Symbol,
    interval: Interval = Interval.MINUTE,
    start: Annotated[AwareDatetime | None, Query(description="Candles that begin then or later.")] = None,
    end: Annotated[AwareDatetime | None, Query(description="Candles that begin before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Number of candles.")] = 200,
    direction: Annotated[
        Direction, Query(description="The newest candles of the range, or with `forward` the oldest.")
    ] = Direction.BACKWARD,
    fill: Annotated[
        Fill, Query(description="`previous`: an interval without a trade is a candle at the last close.")
    ] = Fill.NONE,
) -> CandlePage:
    """OHLCV history, page by page in both directions."""
    _known(symbol)
    if start is not None and end is not None and start >= end:
        raise Problem(422, "invalid-request", "start: has to be before end")
    query = history.Query(
        symbol,
        interval.seconds,
        _seconds(start),
        _seconds(end),
        limit,
        forward=direction is Direction.FORWARD,
        fill=fill is Fill.PREVIOUS,
    )
    async with _backends(request).database.transaction(read_only=True) as session:
        await history.one_moment(session)
        page = await history.page(session, query)
        place = await history.place(session, symbol)
    found = page.candles
    before = found[0].start if found else query.start
    after = found[-1].start + interval.seconds if found else query.end
    return CandlePage(
        symbol=symbol,
        interval=interval,
        candles=[CandleView.of(candle) for candle in found],
        previous=_moment(before) if page.before else None,
        next=_moment(after) if page.after else None,
        as_of=PlaceView.of(place),
    )


@router.get("/candles/{symbol}/running")
async def running(request: Request, symbol: Symbol) -> RunningCandles:
    """The candle of every interval that takes trades now, and up to which tick it counts them."""
    lengths = {interval.seconds: interval for interval in Interval}
    async with _backends(request).database.transaction(read_only=True) as session:
        await history.one_moment(session)
        found = await history.running(session, _known(symbol), list(lengths))
        place = await history.place(session, symbol)
    if not found:
        raise Problem(404, "no-price", f"{symbol} has not been traded yet.")
    return RunningCandles(
        symbol=symbol,
        as_of=PlaceView.of(place),
        candles={lengths[seconds]: CandleView.of(candle) for seconds, candle in found.items()},
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else math.ceil(moment.timestamp())


def _moment(at: int | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


async def serve(runtime: Runtime) -> None:
    """Run the role."""
    database, bus = runtime.backends.database, runtime.backends.bus
    writer = CandleWriter(database, bus)
    lease = Lease(database, LEASE, f"http://{socket.gethostname()}"[:200], LEASE_SECONDS)
    retention = Retention(database, lease, MarketDataSettings.load())
    server = web.HttpServer(runtime, web.create_app(runtime, router))
    await runtime.serve(server, writer.run, Relay(database, bus).run, retention.run, prepare=writer.prepare)
