"""What a user sees of their own limits and margin."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.instruments import INSTRUMENTS
from app.risk.day import DAY_MS, DayPosition, day_result
from app.risk.exposure import UNITS
from app.risk.margin import NoPrice
from app.risk.models import MarginCallRow
from app.risk.schemas import (
    CurrencyUse,
    MarginAnswer,
    MarginCallView,
    OwnView,
    SymbolUse,
    text,
    time_of,
)
from app.risk.service import Risk
from app.wallet.ledger.assets import SCALE


async def own_view(risk: Risk, owner: str) -> OwnView:
    """A user's limits and how much of them is used, by what the database knows of open orders and trades."""
    async with risk.database.transaction(read_only=True) as session:
        limits = (await risk.limits.load(session))[1]
        positions = await risk.positions.positions_of(session, owner)
        prices = await risk.positions.prices(session)
        orders = await risk.positions.open_orders(session, owner)
        margin = await _margin(risk, session, owner)
    day = risk.clock() // DAY_MS
    symbols: list[SymbolUse] = []
    results: dict[str, int] = {}
    worth: dict[str, int] = {}
    for symbol, instrument in INSTRUMENTS.items():
        currency = instrument.currency
        held = positions.get((owner, symbol), DayPosition())
        sides = [orders.get((symbol, side), (0, 0)) for side in ("buy", "sell")]
        if symbol in prices:
            result = day_result(held, prices[symbol], day) * UNITS[symbol]
            results[currency] = results.get(currency, 0) + result
        worth[currency] = worth.get(currency, 0) + sum(value for _, value in sides) * UNITS[symbol]
        values = limits.of(owner, symbol)
        symbols.append(
            SymbolUse(
                symbol=symbol,
                position=held.lots,
                open_buy=sides[0][0],
                open_sell=sides[1][0],
                position_limit=values.position,
                order_notional=values.order_notional // 10**SCALE,
                collar_bps=values.collar_bps,
            )
        )
    currencies = []
    for currency in sorted(worth):
        symbol = next(symbol for symbol, found in INSTRUMENTS.items() if found.currency == currency)
        values = limits.of(owner, symbol)
        currencies.append(
            CurrencyUse(
                currency=currency,
                open_notional=text(currency, worth[currency]),
                open_notional_limit=text(currency, values.open_notional),
                day_result=text(currency, results.get(currency, 0)),
                daily_loss_limit=text(currency, values.daily_loss),
            )
        )
    return OwnView(
        order_rate=values.order_rate,
        order_burst=values.order_burst,
        kill_switch="all" if limits.stopped else "user" if owner in limits.stopped_users else None,
        symbols=symbols,
        currencies=currencies,
        margin=margin,
    )


async def _margin(risk: Risk, session: AsyncSession, owner: str) -> MarginAnswer | None:
    try:
        found = (await risk.margin.account(session, owner)).margin
    except NoPrice:
        return None
    calls = await risk.calls.live(session, owner)
    return MarginAnswer(
        assets=text("USD", found.assets),
        collateral=text("USD", found.collateral),
        debt=text("USD", found.debt),
        equity=text("USD", found.equity),
        ratio_ppm=found.ratio_ppm,
        initial_ppm=risk.settings.initial_margin_ppm,
        maintenance_ppm=risk.settings.maintenance_margin_ppm,
        unpriced=list(found.unpriced),
        call=_call(calls[0]) if calls else None,
    )


def _call(row: MarginCallRow) -> MarginCallView:
    return MarginCallView(
        id=row.id,
        state=row.state,
        deadline=time_of(row.deadline),
        equity=text("USD", row.equity),
        required=text("USD", row.required),
    )
