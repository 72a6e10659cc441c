"""Funds of orders: held when an order is placed, paid when it trades, free again when it ends."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import outbox
from app.kit.database import Database
from app.wallet import events, hold_rules
from app.wallet.fees import FeeSchedule
from app.wallet.hold_rules import Amend, OrderHold, Replaced
from app.wallet.ledger.service import Ledger, system_clock
from app.wallet.ledger.transfers import Code, Result, Transfer
from app.wallet.order_repository import Order, OrderRepository, Settled
from app.wallet.trades import (
    Side,
    Trade,
    is_of,
    mismatch,
    prefix,
    settled_of,
    transfers_of,
)

__all__ = ["Amend", "OrderFunds", "OrderHold", "Replaced", "SettlementRefused", "Side", "Trade"]
_settled = Counter("wallet_trades_settled_total", "Trades that the ledger holds both sides of", ["symbol"])


class SettlementRefused(Exception):
    """Trades that the ledger cannot take. Nothing of the batch may be kept: stop and let people look."""

    def __init__(self, refused: dict[str, str]) -> None:
        super().__init__("; ".join(f"trade {trade}: {reason}" for trade, reason in refused.items()))
        self.refused = refused
        """`symbol:trade_id` → reason."""


class OrderFunds:
    """Holds and settlements, in batches. One call for each transaction, which is the caller's."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        fees: FeeSchedule,
        clock: Callable[[], int] = system_clock,
    ) -> None:
        self._repository = OrderRepository(database)
        self._ledger = ledger
        self._fees = fees
        self._clock = clock

    async def place(self, session: AsyncSession, holds: Sequence[OrderHold]) -> list[Result]:
        """Hold funds for orders; an order that is placed again gets its first answer.

        Raises:
            ValueError: an amount, id or symbol cannot be that of any order, or orders that share a hold are
                not alike.
            Contended: to be tried again as a whole.
        """
        return (await self.reserve(session, holds, ()))[0]

    async def amend(self, session: AsyncSession, amends: Sequence[Amend]) -> list[Result]:
        """Grow the holds of orders that shall be replaced, each for itself; see `reserve`."""
        return (await self.reserve(session, (), amends))[1]

    async def reserve(
        self, session: AsyncSession, holds: Sequence[OrderHold], amends: Sequence[Amend]
    ) -> tuple[list[Result], list[Result]]:
        """`place` and `amend` in one call: what a transaction needs of both, it has to ask for at once.

        Each item stands for itself and has one result. Every replace that the matching engine may decide on
        has to be told of here, and one whose result is not `ok` must never come before it. `unknown_hold`:
        there is no such order. `exists_with_different_content`: the order was amended in this call already;
        what the second one needs depends on what becomes of the first.

        Raises:
            ValueError: as `place`; an amount is negative.
            Contended: to be tried again as a whole.
        """
        transfers = hold_rules.holds_of(holds)
        rates = self._fees.maker, self._fees.taker
        if holds:
            await self._repository.add(
                session,
                [
                    Order(h.order_id, h.owner, h.symbol, h.side, *rates, hold_group=h.hold_group)
                    for h in holds
                ],
            )
            await self._ledger.open(
                session, {account for hold in holds for account in hold_rules.accounts_of(hold)}
            )
        first = {one.order_id: one for one in reversed(amends)}
        orders = await self._lock(session, set(first))
        growing = {id: hold_rules.grow(order, first[id].extra) for id, order in orders.items()}
        wanted = [*transfers.values(), *(transfer for transfer in growing.values() if transfer)]
        results = {result.id: result for result in await self._ledger.apply(session, wanted)}
        amended: dict[str, Result] = {}
        for id, transfer in growing.items():
            amended[id] = results[transfer.id] if transfer else Result(id, Code.OK)
            orders[id] = hold_rules.requested(orders[id], amended[id])
        await self._repository.save(session, [*orders.values()])
        return [results[hold.hold_id] for hold in holds], [
            Result(one.order_id, Code.CONFLICT)
            if one is not first[one.order_id]
            else amended.get(one.order_id, Result(one.order_id, Code.UNKNOWN_HOLD))
            for one in amends
        ]

    async def release(self, session: AsyncSession, order_ids: Sequence[str]) -> list[Result]:
        """Give back what is left of the holds of orders that ended; `already_posted` when nothing is.

        The hold of several orders is given back with the last of them; before, the answer is `ok` and 0.

        Raises:
            ValueError: an id cannot be that of any order.
            Contended: to be tried again as a whole.
        """
        orders = await self._lock(session, set(order_ids))
        siblings = await self._siblings(session, orders, order_ids)
        ending = hold_rules.ending(orders, siblings, order_ids)
        transfers = {id: hold_rules.release(id, hold) for id, hold in ending.items() if hold is not None}
        results = {r.id: r for r in await self._ledger.apply(session, [*transfers.values()])}
        await self._repository.save(session, hold_rules.marked(orders, order_ids))
        return [
            results[transfers[id].id] if id in transfers else Result(f"release:{id}", Code.OK)
            for id in order_ids
        ]

    async def settle(self, session: AsyncSession, trades: Sequence[Trade]) -> list[Settled]:
        """Pay and deliver trades in their order, each whole; a trade that is settled already stays as it is.

        The buyer's hold pays the notional to the seller and the buyer's fee to the platform; the seller pays
        the seller's fee out of it; the seller's hold delivers the base. Fees: see `app.wallet.fees`.

        Raises:
            SettlementRefused: one of the trades cannot be settled; roll all of them back.
            Contended: to be tried again as a whole.
        """
        return await self.finish(session, trades, (), ())

    async def finish(
        self,
        session: AsyncSession,
        trades: Sequence[Trade],
        replaced: Sequence[Replaced],
        ended: Sequence[str],
        rejected: Sequence[str] = (),
    ) -> list[Settled]:
        """`settle` trades, shrink the holds of orders whose replaces are decided, `release` what ended.

        Orders that were `rejected` have ended, and with them those that share their hold.

        When no replace of an order is in flight, its hold becomes what the remaining lots need at its limit,
        with the fraction of a fee that it carries. Holds that several orders share only end. Told twice, the
        decisions on replaces count twice.

        Raises:
            SettlementRefused: one of the trades cannot be settled; roll everything back.
            Contended: to be tried again as a whole.
        """
        ids = {id for trade in trades for id in (trade.buy_order_id, trade.sell_order_id)}
        ended = [*ended, *rejected]
        orders = await self._lock(session, ids | {one.order_id for one in replaced} | set(ended))
        siblings = await self._siblings(session, orders, ended)
        ended += hold_rules.also_rejected(orders, siblings, rejected)
        orders = siblings | orders
        new, told, transfers = await self._trades(session, trades, orders)
        shrinking = await self._decide(session, orders, replaced, ended, transfers)
        ending = hold_rules.ending(orders, siblings, ended)
        transfers = hold_rules.close(transfers, {hold: id for id, hold in ending.items() if hold is not None})
        _check(await self._ledger.apply(session, [*shrinking, *transfers]))
        marked = {order.order_id: order for order in hold_rules.marked(orders, ended)}
        orders |= marked
        changed = {id for one in new for id in (one.buy_order_id, one.sell_order_id)}
        changed |= marked.keys() | {one.order_id for one in replaced}
        await self._repository.save_trades(session, new)
        await self._repository.save(session, [orders[id] for id in changed])
        await outbox.write(
            session, [events.trade_settled(s.symbol, s.trade_id, f"{prefix(s)}:pay") for s in new]
        )
        for settled in new:
            _settled.labels(settled.symbol).inc()
        return told

    async def _lock(self, session: AsyncSession, ids: set[str]) -> dict[str, Order]:
        return await self._repository.lock(session, ids) if ids else {}

    async def _siblings(
        self, session: AsyncSession, orders: Mapping[str, Order], ended: Iterable[str]
    ) -> dict[str, Order]:
        """The orders that share a hold with one that ended. Those of one market are settled one batch after
        the other, so they need no lock."""
        groups = {group for id in ended if id in orders and (group := orders[id].hold_group) is not None}
        return await self._repository.of_groups(session, groups) if groups else {}

    async def _trades(
        self, session: AsyncSession, trades: Sequence[Trade], orders: dict[str, Order]
    ) -> tuple[list[Settled], list[Settled], list[Transfer]]:
        """What is new, all that was asked for, the transfers; carries fractions of fees on in `orders`."""
        if not trades:
            return [], [], []
        known = await self._repository.settled(session, {(trade.symbol, trade.trade_id) for trade in trades})
        new: list[Settled] = []
        told: list[Settled] = []
        transfers: list[Transfer] = []
        refused: dict[str, str] = {}
        for trade in trades:
            settled = known.get((trade.symbol, trade.trade_id))
            if settled is None:
                reason = mismatch(trade, orders)
                if reason is None:
                    settled = settled_of(trade, orders, self._clock())
                    transfers += transfers_of(settled, orders)
                    known[trade.symbol, trade.trade_id] = settled
                    new.append(settled)
            else:
                reason = None if is_of(settled, trade) else "settled before with another content"
            if reason is not None:
                refused[f"{trade.symbol}:{trade.trade_id}"] = reason
            if settled is not None:
                told.append(settled)
        if refused:
            raise SettlementRefused(refused)
        return new, told, transfers

    async def _decide(
        self,
        session: AsyncSession,
        orders: dict[str, Order],
        replaced: Sequence[Replaced],
        ended: Iterable[str],
        transfers: Sequence[Transfer],
    ) -> list[Transfer]:
        """Count what was decided in `orders`; the transfers that take from holds what is not needed when the
        `transfers` of trades are done."""
        over, idle = set(ended), []
        for one in replaced:
            if one.order_id not in orders:
                raise SettlementRefused({one.order_id: "a replace of an order that nothing is held for"})
            order = orders[one.order_id] = hold_rules.decided(orders[one.order_id], one)
            if order.seen > order.requested:
                raise SettlementRefused({one.order_id: "a replace that funds were not asked for"})
            if one.seen and order.seen == order.requested and order.hold_group is None:
                idle += [one] if one.order_id not in over else []
        if not idle:
            return []
        holds = await self._ledger.holds(session, [orders[one.order_id].hold_id for one in idle])
        posted: dict[str | None, int] = {}
        for transfer in transfers:
            posted[transfer.hold_id] = posted.get(transfer.hold_id, 0) + (transfer.amount or 0)
        found = []
        for one in idle:
            order = orders[one.order_id]
            left = holds[order.hold_id].left - posted.get(order.hold_id, 0)
            excess = hold_rules.excess(order, one, left)
            if excess > 0:
                id = f"shrink:{order.order_id}:{order.seen}"
                found.append(
                    Transfer.shrink(id, order.hold_id, excess, reference=f"replace:{order.order_id}")
                )
            orders[order.order_id] = replace(order, extra=0)
        return found


def _check(results: Iterable[Result]) -> None:
    """Raise SettlementRefused for trades that are not done; a release may find nothing to give back."""
    refused = {
        result.id.removeprefix("trade:").rpartition(":")[0]: result.code.value
        for result in results
        if result.code not in (Code.OK, Code.LINKED_FAILED) and not result.id.startswith("release:")
    }
    if refused:
        raise SettlementRefused(refused)
