"""What orders need of the ledger's holds: how much, for how long, and who shares one; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from app.instruments import INSTRUMENTS
from app.wallet.fees import MILLION, FeeSchedule, needed_again
from app.wallet.ledger.accounts import Account, available
from app.wallet.ledger.assets import base_of
from app.wallet.ledger.transfers import Code, Kind, Result, Transfer
from app.wallet.order_repository import Order, hold_id
from app.wallet.trades import Side, fees_account


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
    hold_group: str | None = None
    """Orders of one batch with the same group share one hold of the largest of their amounts: of one owner,
    symbol and side, one of which cancels the other. Unique, at most 80 characters."""

    @property
    def asset(self) -> str:
        """What is held."""
        instrument = INSTRUMENTS[self.symbol]
        return instrument.currency if self.side == "buy" else base_of(instrument)

    @property
    def hold_id(self) -> str:
        """The ledger's hold."""
        return hold_id(self.order_id, self.hold_group)


@dataclass(frozen=True, slots=True)
class Amend:
    """An order that shall be replaced: told before the replace can take effect, also when `extra` is 0."""

    order_id: str
    extra: int
    """What it may need more than before without fees, see `app.wallet.fees.growth`; smallest units."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of an order's replaces."""

    order_id: str
    seen: int
    """Replaces that were decided on, also those that were rejected."""
    price: int | None = None
    """Limit in ticks after the last one that took effect; None when none of these did."""
    remaining: int | None = None
    """Lots at the end of the batch, where something in it told them."""


def holds_of(holds: Sequence[OrderHold]) -> dict[str, Transfer]:
    """The ledger's holds by their ids; raises ValueError when orders that share one are not alike."""
    wanted: dict[str, OrderHold] = {}
    for hold in holds:
        other = wanted.get(hold.hold_id)
        if other is None or other.amount < hold.amount:
            wanted[hold.hold_id] = hold
        if other is not None and (
            hold.hold_group is None
            or (hold.owner, hold.symbol, hold.side) != (other.owner, other.symbol, other.side)
        ):
            raise ValueError(f"{other.order_id} and {hold.order_id} cannot share a hold")
    return {
        id: Transfer.hold(
            id, available(hold.owner, hold.asset), hold.amount, reference=f"order:{hold.symbol}:{hold.side}"
        )
        for id, hold in wanted.items()
    }


def accounts_of(hold: OrderHold) -> Iterable[Account]:
    """What an order may need until it ends: settling opens none."""
    instrument = INSTRUMENTS[hold.symbol]
    for asset in (base_of(instrument), instrument.currency):
        yield available(hold.owner, asset)
        yield available(hold.owner, asset).held
    yield fees_account(instrument)


def grow(order: Order, extra: int) -> Transfer | None:
    """The transfer for a replace that needs `extra` more; with the fee on it rounded up, which is enough
    whatever fraction the order carries. None when nothing is needed."""
    if extra < 0:
        raise ValueError(f"{order.order_id}: an order cannot need {extra} more")
    if extra == 0:
        return None
    fee = 0 if order.side == "sell" else -(-extra * max(order.maker_ppm, order.taker_ppm) // MILLION)
    id = f"grow:{order.order_id}:{order.requested + 1}"
    return Transfer.grow(id, order.hold_id, extra + fee, reference=f"replace:{order.order_id}")


def requested(order: Order, result: Result) -> Order:
    """The order with one replace more in flight; one that gets no funds is decided on at once."""
    if result.code is not Code.OK:
        return replace(order, requested=order.requested + 1, seen=order.seen + 1)
    return replace(order, requested=order.requested + 1, extra=order.extra + result.amount)


def decided(order: Order, told: Replaced) -> Order:
    """The order after decisions on its replaces."""
    order = replace(order, seen=order.seen + told.seen)
    if told.price is not None:
        order = replace(order, price=told.price)
    return replace(order, remaining=told.remaining) if told.remaining is not None else order


def excess(order: Order, told: Replaced, left: int) -> int:
    """What of a hold is not needed when no replace is in flight; `left` is what the trades leave of it."""
    if order.price:
        rates = FeeSchedule(order.maker_ppm, order.taker_ppm)
        instrument = INSTRUMENTS[order.symbol]
        return left - needed_again(instrument, order.side, order.price, order.remaining, rates, order.carry)
    # None took effect: the terms are those of the beginning. Without a limit nobody knows what is needed.
    return min(order.extra, left) if told.price is None else 0


def ending(
    orders: Mapping[str, Order], siblings: Mapping[str, Order], ended: Sequence[str]
) -> dict[str, str | None]:
    """Order that ended → the hold that ends with it; None where another order still needs it."""
    found: dict[str, str | None] = {}
    over = {id for id, order in siblings.items() if order.ended} | set(ended)
    for id in ended:
        group = orders[id].hold_group if id in orders else None
        shared = {other.order_id for other in siblings.values() if group and other.hold_group == group}
        last = not shared or (shared <= over and not any(other in found for other in shared))
        found[id] = hold_id(id, group) if last else None
    return found


def also_rejected(
    orders: Mapping[str, Order], siblings: Mapping[str, Order], rejected: Iterable[str]
) -> list[str]:
    """The orders that share a hold with one that was rejected: they were never entered either."""
    groups = {orders[id].hold_group for id in rejected if id in orders} - {None}
    return [id for id, order in siblings.items() if order.hold_group in groups and id not in set(rejected)]


def marked(orders: Mapping[str, Order], ended: Iterable[str]) -> list[Order]:
    """The orders to be marked: those that share a hold."""
    return [
        replace(orders[id], ended=True)
        for id in ended
        if id in orders and orders[id].hold_group is not None and not orders[id].ended
    ]


def release(order_id: str, hold: str) -> Transfer:
    """The transfer that gives back what is left of an order's hold."""
    return Transfer.void(f"release:{order_id}", hold, reference="order ended")


def close(transfers: Sequence[Transfer], ending: Mapping[str, str]) -> list[Transfer]:
    """The transfers, which also end some holds (→ order): the last post of a hold gives back the rest of it,
    a hold that is not posted to is voided."""
    open_, found = dict(ending), []
    for transfer in reversed(transfers):
        last = transfer.kind is Kind.POST and open_.pop(transfer.hold_id or "", None) is not None
        found.append(replace(transfer, keep=False) if last else transfer)
    return [*reversed(found), *(release(order, hold) for hold, order in open_.items())]
