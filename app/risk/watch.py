"""Follows trades, and tells when a position is beyond its limit or the loss of the day is reached."""

from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.events.envelope import Envelope
from app.events.matching import MatchingOutput, TradeMade
from app.events.trading import PositionLimitBreached
from app.instruments import INSTRUMENTS
from app.kit import outbox
from app.kit.database import Database
from app.risk import events
from app.risk.closing import Check
from app.risk.day import DAY_MS, DayPosition, DayPrice, day_result
from app.risk.exposure import UNITS
from app.risk.limits import Limits
from app.risk.position_repository import Key, PositionRepository
from app.risk.repository import LimitsRepository
from app.wallet.ledger.assets import ASSETS

CONSUMER = "risk"
_POSITION = "position-limit"
_LOSS = "daily-loss"


class Watch:
    """Positions as trades make them, held against the limits."""

    def __init__(
        self,
        database: Database,
        positions: PositionRepository,
        limits: LimitsRepository,
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._positions = positions
        self._limits = limits
        self._clock = clock

    async def apply(self, session: AsyncSession, outputs: Sequence[MatchingOutput]) -> None:
        """Take over the trades of outputs, for `app.events.stream.follow`."""
        trades = [
            (output.symbol, change, output.at // DAY_MS)
            for output in outputs
            for change in output.changes
            if isinstance(change, TradeMade)
        ]
        if not trades:
            return
        keys = {(owner, symbol) for symbol, t, _ in trades for owner in (t.maker_owner, t.taker_owner)}
        positions = await self._positions.positions(session, keys)
        prices = await self._positions.prices(session)
        for symbol, trade, day in trades:
            price = prices.setdefault(symbol, DayPrice(trade.price, day, trade.price))
            price.trade(trade.price, day)
            bought = trade.quantity if trade.taker_side == "buy" else -trade.quantity
            for owner, lots in ((trade.taker_owner, bought), (trade.maker_owner, -bought)):
                held = positions.setdefault((owner, symbol), DayPosition())
                held.trade(lots, trade.price, price.day)
        changed = {symbol: prices[symbol] for symbol, _, _ in trades}
        await self._positions.save(session, positions, changed)

    async def scan(self, check: Check) -> None:
        """Look at every position, tell what is new; `check` is called in the transaction before that.

        A breach is told once until the position is within its limit again, a loss once for each day.
        """
        now = self._clock()
        async with self._database.transaction(read_only=True) as session:
            limits = (await self._limits.load(session))[1]
            positions = await self._positions.active(session, now // DAY_MS)
            prices = await self._positions.prices(session)
            told = {kind: await self._positions.alerts(session, kind) for kind in (_POSITION, _LOSS)}
        breaches = _breaches(positions, limits)
        losses = _losses(positions, prices, limits, now // DAY_MS)
        found = {_POSITION: breaches, _LOSS: losses}
        new = {kind: sorted(found[kind].keys() - told[kind]) for kind in found}
        over = {kind: sorted(told[kind] - found[kind].keys()) for kind in found}
        if not any(new.values()) and not any(over.values()):
            return
        async with self._database.transaction() as session:
            await check(session)
            for kind in found:
                await self._positions.note(session, kind, new[kind], now)
                await self._positions.forget(session, kind, over[kind])
            await outbox.write(
                session, [event for kind in found for key in new[kind] for event in found[kind][key]]
            )


def _breaches(positions: dict[Key, DayPosition], limits: Limits) -> dict[Key, list[Envelope]]:
    found: dict[Key, list[Envelope]] = {}
    for (owner, symbol), held in positions.items():
        if symbol not in INSTRUMENTS:
            continue
        limit = limits.of(owner, symbol).position
        if abs(held.lots) > limit:
            told = PositionLimitBreached(account=owner, symbol=symbol, limit=limit, position=held.lots)
            values = {"symbol": symbol, "limit": str(limit), "position": str(held.lots)}
            found[owner, symbol] = [events.of_account(told), events.alert(owner, _POSITION, values)]
    return found


def _losses(
    positions: dict[Key, DayPosition], prices: dict[str, DayPrice], limits: Limits, day: int
) -> dict[Key, list[Envelope]]:
    results: dict[Key, int] = {}
    for (owner, symbol), held in positions.items():
        if symbol in prices and symbol in INSTRUMENTS:
            key = owner, INSTRUMENTS[symbol].currency
            results[key] = results.get(key, 0) + day_result(held, prices[symbol], day) * UNITS[symbol]
    found: dict[Key, list[Envelope]] = {}
    for (owner, currency), result in results.items():
        limit = limits.daily_loss(owner, currency)
        if result < 0 and -result >= limit:
            told = events.DailyLossReached(account=owner, currency=currency, limit=limit, loss=-result)
            values = {"currency": currency, "loss": ASSETS[currency].text(-result)}
            found[owner, f"{currency}:{day}"] = [events.of_account(told), events.alert(owner, _LOSS, values)]
    return found
