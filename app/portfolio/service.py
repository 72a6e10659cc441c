"""Trades into positions, and what an owner has now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncSession

from app.events import stream
from app.events.matching import MatchingOutput, Side, TradeMade
from app.kit import outbox
from app.kit.bus import Bus
from app.kit.database import Database
from app.marks import Marks
from app.portfolio import events, valuation
from app.portfolio.position import Position
from app.portfolio.repository import Entry, Held, Key, PortfolioRepository
from app.portfolio.valuation import Balance, Totals
from app.wallet.ledger.service import Ledger
from app.wallet.order_repository import OrderRepository

CONSUMER = "portfolio"
_PACE_SECONDS = 0.5
"""Positions may be that old; a busy owner then has one event for several trades."""
_entries = Counter("portfolio_entries_total", "Sides of trades taken into positions")


@dataclass(frozen=True)
class Overview:
    """Funds and positions of an owner, and their sums by currency."""

    positions: dict[str, Held]
    balances: list[Balance]
    totals: dict[str, Totals]


class Portfolio:
    """Positions of everybody, kept by the output of the matching engine."""

    def __init__(self, database: Database, marks: Marks) -> None:
        self.database = database
        self.marks = marks
        self.repository = PortfolioRepository(database)
        self._ledger = Ledger(database)
        self._settlements = OrderRepository(database)

    async def follow(self, bus: Bus, resync: stream.Resync) -> None:
        """Follow the matching engine until cancelled; raises as `app.events.stream.follow`."""
        await stream.follow(bus, self.database, CONSUMER, self.apply, resync, pace=_PACE_SECONDS)

    async def apply(self, session: AsyncSession, outputs: Sequence[MatchingOutput]) -> None:
        """Take the trades of new outputs into positions and tell of those that changed."""
        trades = [
            (output.symbol, output.at, change)
            for output in outputs
            for change in output.changes
            if isinstance(change, TradeMade)
        ]
        if not trades:
            return
        keys = {
            (owner, symbol) for symbol, _, trade in trades for owner in (trade.maker_owner, trade.taker_owner)
        }
        positions = {key: Held(Position()) for key in sorted(keys)}
        positions |= await self.repository.held(session, sorted(keys))
        entries = [
            _enter(positions, symbol, at, trade, side) for symbol, at, trade in trades for side in _SIDES
        ]
        await self.repository.save(session, positions, entries)
        newest = {(entry.owner, entry.symbol): entry for entry in entries}
        told = [
            event
            for entry in newest.values()
            for event in events.position_changed(entry, self.marks.price(entry.symbol) or entry.price)
        ]
        await outbox.write(session, told)
        _entries.inc(len(entries))

    async def overview(self, session: AsyncSession, owner: str) -> Overview:
        """What an owner has now, at the newest marks."""
        positions = await self.repository.positions(session, owner)
        funds = valuation.balances(await self._ledger.balances(session, owner))
        held = {symbol: found.position for symbol, found in positions.items()}
        return Overview(positions, funds, valuation.totals(funds, held, self.marks.price))

    async def fees(self, session: AsyncSession, entries: Sequence[Entry]) -> list[int | None]:
        """What the wallet charged for each entry, smallest units of the quote; None until it is settled."""
        wanted = [(entry.symbol, str(entry.trade_id)) for entry in entries]
        settled = await self._settlements.settled(session, wanted) if wanted else {}
        charged: list[int | None] = []
        for entry, key in zip(entries, wanted, strict=True):
            trade = settled.get(key)
            fee = None if trade is None else trade.buyer_fee if entry.side == "buy" else trade.seller_fee
            charged.append(fee)
        return charged


_SIDES: tuple[Side, Side] = ("buy", "sell")


def _enter(positions: dict[Key, Held], symbol: str, at: int, trade: TradeMade, side: Side) -> Entry:
    """Take one side of a trade into the position of its owner."""
    taking = trade.taker_side == side
    owner, order_id = (
        (trade.taker_owner, trade.taker_order_id) if taking else (trade.maker_owner, trade.maker_order_id)
    )
    liquidity: Literal["maker", "taker"] = "taker" if taking else "maker"
    before = positions[owner, symbol]
    after = before.position.traded(side, trade.price, trade.quantity)
    # Clocks of two engines may differ: history is ordered by time all the same.
    held = positions[owner, symbol] = Held(after, before.entries + 1, max(at, before.changed_at))
    return Entry(
        owner=owner,
        symbol=symbol,
        number=held.entries,
        sequence=trade.sequence,
        at=held.changed_at,
        trade_id=trade.trade_id,
        order_id=order_id,
        side=side,
        liquidity=liquidity,
        price=trade.price,
        quantity=trade.quantity,
        lots=after.lots,
        cost=after.cost,
        realised=after.realised,
        gained=after.realised - before.position.realised,
    )
