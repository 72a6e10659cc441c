"""REST API of the portfolio, and the entry of the role."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from pydantic import AwareDatetime

from app.instruments import INSTRUMENTS
from app.kit import web
from app.kit.auth import Principal, require
from app.kit.outbox import Relay
from app.kit.problems import Problem
from app.kit.runtime import Runtime
from app.marks import Marks
from app.matching_client.client import MatchingClient
from app.portfolio import internal
from app.portfolio.repository import Held
from app.portfolio.schemas import (
    BalanceView,
    Period,
    PortfolioView,
    PositionEntryView,
    PositionHistory,
    PositionView,
    ProfitReport,
    TotalsView,
    ValueHistoryView,
    ValuePoint,
)
from app.portfolio.service import Portfolio
from app.portfolio.settings import PortfolioSettings
from app.portfolio.valuation import CURRENCIES
from app.portfolio.values import ValueHistory
from app.wallet.ledger.service import system_clock

_DAY = 86_400_000
_EPOCH = datetime.fromtimestamp(0, UTC)
router = APIRouter(prefix="/api/portfolio", tags=["portfolio"])


def _portfolio(request: Request) -> Portfolio:
    portfolio: Portfolio = request.app.state.portfolio
    return portfolio


def _known(symbol: Annotated[str, Path(max_length=20, examples=["BTC-USD"])]) -> str:
    if symbol not in INSTRUMENTS:
        raise Problem(404, "unknown-symbol", f"There is no instrument {symbol}.")
    return symbol


Services = Annotated[Portfolio, Depends(_portfolio)]
Reader = Annotated[Principal, Depends(require("read"))]
Symbol = Annotated[str, Depends(_known)]


def _view(portfolio: Portfolio, symbol: str, held: Held) -> PositionView:
    marks = portfolio.marks
    return PositionView.of(symbol, held, marks.price(symbol), marks.age(symbol))


@router.get("")
async def overview(portfolio: Services, user: Reader) -> PortfolioView:
    """Funds, open positions and their sums by currency, at the last prices."""
    async with portfolio.database.transaction(read_only=True) as session:
        found = await portfolio.overview(session, user.user_id)
    return PortfolioView(
        time=datetime.now(UTC),
        totals=[TotalsView.of(sums) for sums in found.totals.values()],
        positions=[
            _view(portfolio, symbol, held) for symbol, held in found.positions.items() if held.position.lots
        ],
        balances=[BalanceView.of(balance, portfolio.marks.price) for balance in found.balances],
    )


@router.get("/positions")
async def positions(
    portfolio: Services,
    user: Reader,
    status: Annotated[
        Literal["open", "all"], Query(description="`all` has those that were closed, too.")
    ] = "open",
) -> list[PositionView]:
    """The user's positions, by symbol."""
    async with portfolio.database.transaction(read_only=True) as session:
        found = await portfolio.repository.positions(session, user.user_id)
    return [
        _view(portfolio, symbol, held)
        for symbol, held in found.items()
        if status == "all" or held.position.lots
    ]


@router.get("/positions/{symbol}")
async def position(portfolio: Services, user: Reader, symbol: Symbol) -> PositionView:
    """One position, also when it is closed."""
    key = user.user_id, symbol
    async with portfolio.database.transaction(read_only=True) as session:
        found = await portfolio.repository.held(session, [key])
    if key not in found:
        raise Problem(404, "no-position", f"The user never traded {symbol}.")
    return _view(portfolio, symbol, found[key])


@router.get("/positions/{symbol}/history")
async def position_history(
    portfolio: Services,
    user: Reader,
    symbol: Symbol,
    before: Annotated[int | None, Query(gt=0, lt=2**63, description="Entries before this number.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> PositionHistory:
    """The trades that made a position, with what each realised before its fee, and that fee."""
    async with portfolio.database.transaction(read_only=True) as session:
        found = await portfolio.repository.entries(session, user.user_id, symbol, before, limit + 1)
        page = found[:limit]
        fees = await portfolio.fees(session, page)
    return PositionHistory(
        symbol=symbol,
        entries=[PositionEntryView.of(entry, fee) for entry, fee in zip(page, fees, strict=True)],
        next=page[-1].number if len(found) > limit else None,
    )


@router.get("/history")
async def value_history(
    portfolio: Services,
    user: Reader,
    period: Period = Period.MONTH,
    currency: Annotated[str, Query(max_length=12, examples=["USD"])] = "USD",
) -> ValueHistoryView:
    """What the user's funds in one currency were worth: each day's end, or every few minutes up to a week.

    It begins with the user's first trade.
    """
    if currency not in CURRENCIES:
        raise Problem(404, "unknown-currency", f"currency: one of {', '.join(CURRENCIES)}")
    start = 0 if period.days is None else system_clock() - period.days * _DAY
    async with portfolio.database.transaction(read_only=True) as session:
        found = await portfolio.repository.values(session, user.user_id, currency, period.kind, start)
    return ValueHistoryView(
        period=period, currency=currency, values=[ValuePoint.of(value) for value in found]
    )


@router.get("/pnl")
async def profit(
    portfolio: Services,
    user: Reader,
    start: Annotated[AwareDatetime | None, Query(alias="from", description="The first moment.")] = None,
    end: Annotated[AwareDatetime | None, Query(alias="to", description="The moment behind the last.")] = None,
) -> ProfitReport:
    """What was realised in a time, at average cost and before fees; without bounds by all trades."""
    if start is not None and end is not None and start >= end:
        raise Problem(422, "invalid-request", "from: has to be before to")
    async with portfolio.database.transaction(read_only=True) as session:
        found = await portfolio.repository.realised(
            session, user.user_id, _milliseconds(start), _milliseconds(end)
        )
    return ProfitReport.of(start, end, found)


def _milliseconds(moment: datetime | None) -> int | None:
    """Rounded up, exactly: entries have whole milliseconds."""
    return None if moment is None else -((_EPOCH - moment) // timedelta(milliseconds=1))


def create_app(runtime: Runtime, portfolio: Portfolio) -> FastAPI:
    """The web application of the role."""
    app = web.create_app(runtime, router, internal.router)
    app.state.portfolio = portfolio
    return app


async def serve(runtime: Runtime) -> None:
    """Run the role; raises ConfigurationError before it listens when the environment is wrong."""
    settings = PortfolioSettings.load()
    database, bus = runtime.backends.database, runtime.backends.bus
    marks = Marks(bus, runtime.backends.cache)
    portfolio = Portfolio(database, marks)
    engine = MatchingClient(runtime)

    async def follow() -> None:
        await portfolio.follow(bus, engine.republish)

    server = web.HttpServer(runtime, create_app(runtime, portfolio))
    try:
        await runtime.serve(
            server,
            follow,
            marks.follow,
            ValueHistory(portfolio, settings).run,
            Relay(database, bus).run,
            prepare=marks.load,
        )
    finally:
        await engine.close()
