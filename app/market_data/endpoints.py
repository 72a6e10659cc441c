"""REST API of market data."""

import math
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime

from app.instruments import INSTRUMENTS
from app.kit import web
from app.kit.errors import Unavailable
from app.kit.outbox import Relay
from app.kit.problems import Problem
from app.kit.runtime import Backends, Runtime
from app.market_data.repository import MarketRepository
from app.market_data.schemas import CandlePage, CandleView, InstrumentView, Interval, TickerView
from app.market_data.service import CandleWriter
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
    limit: Annotated[int, Query(ge=1, le=1000, description="Number of candles, the newest ones.")] = 200,
) -> CandlePage:
    """OHLCV history."""
    _known(symbol)
    if start is not None and end is not None and start >= end:
        raise Problem(422, "invalid-request", "start: has to be before end")
    database = _backends(request).database
    async with database.transaction(read_only=True) as session:
        found = await MarketRepository(database).candles(
            session, symbol, interval.seconds, _seconds(start), _seconds(end), limit + 1
        )
    page = found[-limit:]
    previous = datetime.fromtimestamp(page[0].start, UTC) if len(found) > limit else None
    return CandlePage(
        symbol=symbol,
        interval=interval,
        candles=[CandleView.of(candle) for candle in page],
        previous=previous,
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else math.ceil(moment.timestamp())


async def serve(runtime: Runtime) -> None:
    """Run the role."""
    database, bus = runtime.backends.database, runtime.backends.bus
    writer = CandleWriter(database, bus)
    server = web.HttpServer(runtime, web.create_app(runtime, router))
    await runtime.serve(server, writer.run, Relay(database, bus).run, prepare=writer.prepare)
