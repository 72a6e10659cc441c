"""What a trade means for the ledger: amounts, fees and the chain of transfers; pure."""

from dataclasses import dataclass, replace
from typing import Literal

from app.instruments import INSTRUMENTS, Instrument
from app.wallet.fees import charge
from app.wallet.ledger.accounts import Account, AccountKind, available, platform
from app.wallet.ledger.assets import LARGEST, base_of, base_units, notional
from app.wallet.ledger.transfers import Transfer
from app.wallet.order_repository import Order, Settled

Side = Literal["buy", "sell"]


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


def mismatch(trade: Trade, orders: dict[str, Order]) -> str | None:
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


def is_of(settled: Settled, trade: Trade) -> bool:
    """Whether a trade that was settled is this one."""
    return (
        settled.price,
        settled.quantity,
        settled.taker_side,
        settled.buy_order_id,
        settled.sell_order_id,
    ) == (trade.price, trade.quantity, trade.taker_side, trade.buy_order_id, trade.sell_order_id)


def settled_of(trade: Trade, orders: dict[str, Order], now: int) -> Settled:
    """The amounts of a trade; carries the fractions of the fees on in `orders`."""
    cost = notional(INSTRUMENTS[trade.symbol], trade.price, trade.quantity)
    paid: dict[str, int] = {}
    for id in (trade.buy_order_id, trade.sell_order_id):
        order = orders[id]
        rate = order.taker_ppm if id == trade.taker_order_id else order.maker_ppm
        paid[id], carry = charge(cost, rate, order.carry)
        remaining = max(0, order.remaining - trade.quantity)
        orders[id] = replace(order, carry=carry, remaining=remaining)
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
        settled_at=now,
    )


def transfers_of(settled: Settled, orders: dict[str, Order]) -> list[Transfer]:
    """The chain that settles a trade."""
    instrument = INSTRUMENTS[settled.symbol]
    quote, name = instrument.currency, prefix(settled)
    buy, sell = orders[settled.buy_order_id], orders[settled.sell_order_id]
    fees = fees_account(instrument)

    def post(part: str, order: Order, amount: int, target: Account, *, linked: bool) -> Transfer:
        return Transfer.post(
            f"{name}:{part}",
            order.hold_id,
            amount,
            target=target,
            keep=True,
            linked=linked,
            reference=name,
        )

    proceeds = available(sell.owner, quote)
    chain = [post("pay", buy, settled.notional, proceeds, linked=True)]
    if settled.buyer_fee:
        chain.append(post("buyer-fee", buy, settled.buyer_fee, fees, linked=True))
    if settled.seller_fee:
        id = f"{name}:seller-fee"
        chain.append(Transfer.move(id, proceeds, fees, settled.seller_fee, linked=True, reference=name))
    goods = available(buy.owner, base_of(instrument))
    return [*chain, post("deliver", sell, base_units(instrument, settled.quantity), goods, linked=False)]


def fees_account(instrument: Instrument) -> Account:
    """The fees of a market; each market has its own, so that markets do not wait for one another."""
    return platform(AccountKind.FEES, instrument.currency, instrument.symbol)


def prefix(settled: Settled) -> str:
    """What the ids of a trade's transfers begin with; its reference."""
    return f"trade:{settled.symbol}:{settled.trade_id}"
