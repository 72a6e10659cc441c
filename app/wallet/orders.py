"""Funds of orders: held when an order is placed, paid when it trades, free again when it ends."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.accounts import FundsHeld
from app.instruments import INSTRUMENTS, Instrument
from app.kit import outbox
from app.kit.database import Database
from app.wallet import events
from app.wallet.fees import FeeSchedule, charge
from app.wallet.ledger.accounts import Account, AccountKind, available, platform
from app.wallet.ledger.assets import LARGEST, base_of, base_units, notional
from app.wallet.ledger.service import Ledger, system_clock
from app.wallet.ledger.transfers import Code, Result, Transfer
from app.wallet.order_repository import Order, OrderRepository, Settled

Side = Literal["buy", "sell"]
_settled = Counter("wallet_trades_settled_total", "Trades that the ledger holds both sides of", ["symbol"])


@dataclass(frozen=True, slots=True)
class OrderHold:
    """Funds that an order may need; `app.wallet.fees.needed` says how much that is."""

    order_id: str
    """At most 80 characters."""
    owner: str
    symbol: str
    side: Side
    amount: int
    """Smallest units of the quote for an order that buys, of the base for one that sells."""

    @property
    def asset(self) -> str:
        """What is held."""
        instrument = INSTRUMENTS[self.symbol]
        return instrument.currency if self.side == "buy" else base_of(instrument)


@dataclass(frozen=True, slots=True)
class Trade:
    """Two orders that met; as the event TradeExecuted."""

    symbol: str
    trade_id: str
    """Unique within the symbol, at most 60 characters."""
    price: int
    """Ticks."""
    quantity: int
    """Lots."""
    maker_order_id: str
    taker_order_id: str
    taker_side: Side

    @property
    def buy_order_id(self) -> str:
        """The order that gets the base."""
        return self.taker_order_id if self.taker_side == "buy" else self.maker_order_id

    @property
    def sell_order_id(self) -> str:
        """The order that gets the quote."""
        return self.maker_order_id if self.taker_side == "buy" else self.taker_order_id


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
            ValueError: an amount, id or symbol cannot be that of any order.
            Contended: to be tried again as a whole.
        """
        transfers = [
            Transfer.hold(
                _hold_id(hold.order_id),
                available(hold.owner, hold.asset),
                hold.amount,
                reference=f"order:{hold.symbol}:{hold.side}",
            )
            for hold in holds
        ]
        orders = [
            Order(
                hold.order_id, hold.owner, hold.symbol, hold.side, self._fees.maker, self._fees.taker, carry=0
            )
            for hold in holds
        ]
        await self._repository.add(session, orders)
        await self._ledger.open(session, {account for hold in holds for account in _accounts(hold)})
        results = await self._ledger.apply(session, transfers)
        await outbox.write(
            session,
            [
                events.funds(FundsHeld, hold.owner, hold.asset, hold.amount, result.id)
                for hold, result in zip(holds, results, strict=True)
                if result.code is Code.OK
            ],
        )
        return results

    async def release(self, session: AsyncSession, order_ids: Sequence[str]) -> list[Result]:
        """Give back what is left of the holds of orders that ended; `already_posted` when nothing is.

        Raises:
            ValueError: an id cannot be that of any order.
            Contended: to be tried again as a whole.
        """
        results = await self._ledger.apply(
            session,
            [Transfer.void(f"release:{id}", _hold_id(id), reference="order ended") for id in order_ids],
        )
        done = [_hold_id(id) for id, r in zip(order_ids, results, strict=True) if r.code is Code.OK]
        holds = await self._ledger.holds(session, done) if done else {}
        await outbox.write(
            session,
            [
                events.funds(
                    events.FundsReleased,
                    holds[_hold_id(id)].source.owner,
                    holds[_hold_id(id)].source.asset,
                    result.amount,
                    result.id,
                )
                for id, result in zip(order_ids, results, strict=True)
                if result.code is Code.OK
            ],
        )
        return results

    async def settle(self, session: AsyncSession, trades: Sequence[Trade]) -> list[Settled]:
        """Pay and deliver trades in their order, each whole; a trade that is settled already stays as it is.

        The buyer's hold pays the notional to the seller and the buyer's fee to the platform; the seller pays
        the seller's fee out of it; the seller's hold delivers the base. Fees: see `app.wallet.fees`.

        Raises:
            SettlementRefused: one of the trades cannot be settled; roll all of them back.
            Contended: to be tried again as a whole.
        """
        orders = await self._repository.lock(
            session, {id for trade in trades for id in (trade.buy_order_id, trade.sell_order_id)}
        )
        known = await self._repository.settled(session, {(trade.symbol, trade.trade_id) for trade in trades})
        new: list[Settled] = []
        told: list[Settled] = []
        refused: dict[str, str] = {}
        transfers: list[Transfer] = []
        for trade in trades:
            settled = known.get((trade.symbol, trade.trade_id))
            if settled is None:
                reason = _mismatch(trade, orders)
                if reason is None:
                    settled = self._settle(trade, orders)
                    transfers += _transfers(settled, orders)
                    known[trade.symbol, trade.trade_id] = settled
                    new.append(settled)
            else:
                reason = None if _is_of(settled, trade) else "settled before with another content"
            if reason is not None:
                refused[f"{trade.symbol}:{trade.trade_id}"] = reason
            if settled is not None:
                told.append(settled)
        if refused:
            raise SettlementRefused(refused)
        for result in await self._ledger.apply(session, transfers):
            if result.code not in (Code.OK, Code.LINKED_FAILED):
                refused[result.id.removeprefix("trade:").rpartition(":")[0]] = result.code
        if refused:
            raise SettlementRefused(refused)
        changed = {id for settled in new for id in (settled.buy_order_id, settled.sell_order_id)}
        await self._repository.save(session, new, [orders[id] for id in changed])
        await outbox.write(
            session, [events.trade_settled(s.symbol, s.trade_id, f"{_prefix(s)}:pay") for s in new]
        )
        for settled in new:
            _settled.labels(settled.symbol).inc()
        return told

    def _settle(self, trade: Trade, orders: dict[str, Order]) -> Settled:
        """The amounts of a trade; carries the fractions of the fees on in `orders`."""
        cost = notional(INSTRUMENTS[trade.symbol], trade.price, trade.quantity)
        paid: dict[str, int] = {}
        for id in (trade.buy_order_id, trade.sell_order_id):
            order = orders[id]
            rate = order.taker_ppm if id == trade.taker_order_id else order.maker_ppm
            paid[id], carry = charge(cost, rate, order.carry)
            orders[id] = replace(order, carry=carry)
        return Settled(
            symbol=trade.symbol,
            trade_id=trade.trade_id,
            buy_order_id=trade.buy_order_id,
            sell_order_id=trade.sell_order_id,
            taker_side=trade.taker_side,
            price=trade.price,
            quantity=trade.quantity,
            notional=cost,
            buyer_fee=paid[trade.buy_order_id],
            seller_fee=paid[trade.sell_order_id],
            settled_at=self._clock(),
        )


def _mismatch(trade: Trade, orders: dict[str, Order]) -> str | None:
    """Why these orders cannot have met in this trade; None when they can."""
    for id, side in ((trade.buy_order_id, "buy"), (trade.sell_order_id, "sell")):
        order = orders.get(id)
        if order is None:
            return f"there is no order {id}"
        if (order.symbol, order.side) != (trade.symbol, side):
            return f"order {id} is to {order.side} {order.symbol}"
    instrument = INSTRUMENTS[trade.symbol]
    cost = notional(instrument, trade.price, trade.quantity)
    if not 0 < cost <= LARGEST or base_units(instrument, trade.quantity) > LARGEST:
        return "its amounts are beyond what is counted"
    return None


def _is_of(settled: Settled, trade: Trade) -> bool:
    return (
        settled.price,
        settled.quantity,
        settled.taker_side,
        settled.buy_order_id,
        settled.sell_order_id,
    ) == (trade.price, trade.quantity, trade.taker_side, trade.buy_order_id, trade.sell_order_id)


def _transfers(settled: Settled, orders: dict[str, Order]) -> list[Transfer]:
    """The chain that settles a trade."""
    instrument = INSTRUMENTS[settled.symbol]
    quote, prefix = instrument.currency, _prefix(settled)
    buyer, seller = orders[settled.buy_order_id].owner, orders[settled.sell_order_id].owner
    fees = _fees(instrument)

    def post(part: str, order_id: str, amount: int, target: Account, *, linked: bool) -> Transfer:
        return Transfer.post(
            f"{prefix}:{part}",
            _hold_id(order_id),
            amount,
            target=target,
            keep=True,
            linked=linked,
            reference=prefix,
        )

    proceeds = available(seller, quote)
    chain = [post("pay", settled.buy_order_id, settled.notional, proceeds, linked=True)]
    if settled.buyer_fee:
        chain.append(post("buyer-fee", settled.buy_order_id, settled.buyer_fee, fees, linked=True))
    if settled.seller_fee:
        id = f"{prefix}:seller-fee"
        chain.append(Transfer.move(id, proceeds, fees, settled.seller_fee, linked=True, reference=prefix))
    goods = available(buyer, base_of(instrument))
    amount = base_units(instrument, settled.quantity)
    return [*chain, post("deliver", settled.sell_order_id, amount, goods, linked=False)]


def _accounts(hold: OrderHold) -> Iterable[Account]:
    """What an order may need until it ends: settling opens none."""
    instrument = INSTRUMENTS[hold.symbol]
    for asset in (base_of(instrument), instrument.currency):
        yield available(hold.owner, asset)
        yield available(hold.owner, asset).held
    yield _fees(instrument)


def _fees(instrument: Instrument) -> Account:
    """The fees of a market; each market has its own, so that markets do not wait for one another."""
    return platform(AccountKind.FEES, instrument.currency, instrument.symbol)


def _hold_id(order_id: str) -> str:
    return f"hold:{order_id}"


def _prefix(settled: Settled) -> str:
    return f"trade:{settled.symbol}:{settled.trade_id}"
