"""The wallet follows the matching engine: trades are settled, what orders no longer need is given back.

A batch of outputs is one question to the ledger. Trades come first in it and what is given back last: an
order that ended trades no more, so the order of the stream is kept for each order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from app.events import stream
from app.events.matching import (
    Change,
    CommandRejected,
    MatchingOutput,
    OrderReduced,
    OrderReplaced,
    TradeMade,
    ended,
)
from app.kit import logs
from app.kit.bus import Bus
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.wallet.ledger.repository import Contended
from app.wallet.orders import OrderFunds, Replaced, SettlementRefused, Trade

CONSUMER = "wallet"
_PACE_SECONDS = 0.1
"""Settlement may be that far behind the engine; the ledger's cost is mostly one for each transaction."""
refused_trades = Gauge(
    "wallet_settlement_refused", "Trades that the ledger does not take; settling stands still"
)
_log = logs.get(__name__)


@dataclass
class Work:
    """What some outputs mean for the funds of orders."""

    trades: list[Trade] = field(default_factory=list)
    replaced: dict[str, Replaced] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)


def work_of(outputs: Iterable[MatchingOutput]) -> Work:
    """All that has to be done, each kind in the order of the stream.

    Raises:
        SettlementRefused: an order does something after its end.
    """
    work, over = Work(), set[str]()
    for output in outputs:
        for change in output.changes:
            for id in _named(change):
                if id in over:
                    raise SettlementRefused({f"{output.symbol}:{change.sequence}": f"order {id} has ended"})
            _take(work, output.symbol, change)
            over.update(str(id) for id in ended(change))
    return work


def _take(work: Work, symbol: str, change: Change) -> None:
    match change:
        case TradeMade():
            work.trades.append(
                Trade(
                    symbol,
                    str(change.trade_id),
                    change.price,
                    change.quantity,
                    str(change.maker_order_id),
                    str(change.taker_order_id),
                    change.taker_side,
                )
            )
            _leave(work, change.maker_order_id, change.maker_remaining)
            _leave(work, change.taker_order_id, change.taker_remaining)
        case OrderReplaced():
            known = _replaced(work, change.order_id)
            work.replaced[known.order_id] = replace(
                known, seen=known.seen + 1, price=change.price, remaining=change.remaining
            )
        case CommandRejected(command="replace"):
            known = _replaced(work, change.order_id)
            work.replaced[known.order_id] = replace(known, seen=known.seen + 1)
        case OrderReduced():
            work.replaced[str(change.order_id)] = replace(
                _replaced(work, change.order_id), remaining=change.remaining
            )
    if isinstance(change, CommandRejected) and change.command == "place":
        work.rejected.append(str(change.order_id))
    else:
        work.ended += [str(id) for id in ended(change)]


def _replaced(work: Work, order_id: int) -> Replaced:
    return work.replaced.get(str(order_id), Replaced(str(order_id), 0))


def _leave(work: Work, order_id: int, remaining: int) -> None:
    """Fills change what a replaced order has left."""
    known = work.replaced.get(str(order_id))
    if known is not None and known.remaining is not None:
        work.replaced[known.order_id] = replace(known, remaining=remaining)


def _named(change: Change) -> tuple[str, ...]:
    """The orders that a change does something to."""
    match change:
        case TradeMade():
            return str(change.maker_order_id), str(change.taker_order_id)
        case CommandRejected() if change.command != "place":
            return ()
        case _:
            id = getattr(change, "order_id", 0)
            return (str(id),) if id else ()


class Settlement:
    """Applies what the matching engine decided."""

    def __init__(self, bus: Bus, database: Database, orders: OrderFunds, resync: stream.Resync) -> None:
        self._bus = bus
        self._database = database
        self._orders = orders
        self._resync = resync

    async def run(self) -> None:
        """Follow the stream until cancelled.

        Raises:
            Unavailable: bus or database are gone.
            SettlementRefused: the ledger does not take a trade. Nothing of its batch is kept, and nothing
                after it is settled before people have looked; the gauge `wallet_settlement_refused` tells.
        """
        await stream.follow(self._bus, self._database, CONSUMER, self.apply, self._resync, pace=_PACE_SECONDS)

    async def apply(self, session: AsyncSession, outputs: Sequence[MatchingOutput]) -> None:
        """Do what some outputs say, all of it in the transaction of the session.

        Raises:
            SettlementRefused: as `run`.
            Unavailable: another transaction was in the way; it comes again.
        """
        try:
            work = work_of(outputs)
            await self._orders.finish(
                session, work.trades, [*work.replaced.values()], work.ended, work.rejected
            )
        except SettlementRefused as error:
            refused_trades.set(len(error.refused))
            _log.error("settlement refused", refused=error.refused)
            raise
        except Contended as error:
            raise Unavailable("ledger", error) from error
        refused_trades.set(0)
