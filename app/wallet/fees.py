"""Trading fees, exact over the life of an order.

The rule: an order's fee accrues exactly, in millionths of the smallest unit of the quote currency, at the
rates of the moment the order was placed. Whole units are charged with the fill that completes them; the
fraction is carried to the order's next fill. So however an order is cut into fills, it pays the same, never
more than the rate says, and the platform forgoes less than one smallest unit per order: nobody is rounded
against. What is held for an order is always enough, because the whole parts of its fills' fees never exceed
that of its total.
"""

from dataclasses import dataclass

from app.instruments import Instrument
from app.wallet.ledger.assets import base_units, notional

MILLION = 1_000_000


@dataclass(frozen=True)
class FeeSchedule:
    """Rates in millionths of the notional: a basis point is 100."""

    maker: int
    taker: int


def charge(amount: int, rate: int, carry: int) -> tuple[int, int]:
    """Fee of a fill of `amount` and what is carried to the next one; `carry` is in millionths of a unit."""
    return divmod(amount * rate + carry, MILLION)


def needed(instrument: Instrument, side: str, ticks: int, lots: int, fees: FeeSchedule) -> int:
    """What has to be held for an order: `lots` of the base, or their price and the higher of both fees.

    For a market order to buy, `ticks` is the worst price that it may meet.
    """
    return needed_again(instrument, side, ticks, lots, fees, 0)


def needed_again(
    instrument: Instrument, side: str, ticks: int, lots: int, fees: FeeSchedule, carry: int
) -> int:
    """As `needed`, for the remaining lots of an order that carries a fraction of its fee from its fills."""
    if side == "sell":
        return base_units(instrument, lots)
    cost = notional(instrument, ticks, lots)
    return cost + charge(cost, max(fees.maker, fees.taker), carry)[0]


def growth(instrument: Instrument, side: str, before: tuple[int, int], after: tuple[int, int]) -> int:
    """What a replaced order may need more than before, without fees: the `extra` of an `Amend`.

    `before` and `after` are limit price in ticks and remaining lots, of the order as it stands and as it
    shall be with the same fills. More lots may be filled before the replace takes effect, at the old price:
    what is told is enough however many.
    """
    (old_ticks, old_lots), (ticks, lots) = before, after
    if side == "sell":
        return max(0, base_units(instrument, lots - old_lots))
    more = notional(instrument, ticks, lots) - notional(instrument, old_ticks, old_lots)
    return max(0, more, notional(instrument, ticks, lots - old_lots))
