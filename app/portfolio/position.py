"""Positions at average cost, exact: pure arithmetic on whole numbers.

Amounts are ticks times lots of the instrument; `app.wallet.ledger.assets.notional(instrument, 1, amount)`
gives them in smallest units of the quote, exactly. Fees are not part of them.

A trade in the direction of the position adds its amount to the cost. One against it takes the part of the
cost that belongs to the lots it closes, and the difference to what it paid or brought is realised; what is
left of it beyond zero opens a position at its own price. That part of the cost is rounded towards zero to
whole ticks times lots, and the fraction stays in the cost of what is left. So nothing is ever lost: at every
moment

    realised - cost == what sales brought - what purchases paid
    realised + unrealised == that cash flow + market value

hold exactly, and a closed position has a cost of 0. A long position and the short one with all sides swapped
have the same figures with the opposite sign of lots and cost.
"""

from dataclasses import dataclass
from fractions import Fraction

from app.events.matching import Side


@dataclass(frozen=True, slots=True)
class Position:
    """What somebody holds of an instrument through trades."""

    lots: int = 0
    """Negative when short."""
    cost: int = 0
    """What the open lots cost, in ticks times lots; negative when short: what their sale brought."""
    realised: int = 0
    """Profit of all lots that were closed, in ticks times lots; negative for a loss."""

    def traded(self, side: Side, price: int, quantity: int) -> "Position":
        """The position after a trade of `quantity` lots at `price` ticks, neither of them negative."""
        change = quantity if side == "buy" else -quantity
        if self.lots * change >= 0:
            return Position(self.lots + change, self.cost + change * price, self.realised)
        closed = min(quantity, abs(self.lots))
        closing = closed if change > 0 else -closed
        opened = change - closing
        released = abs(self.cost) * closed // abs(self.lots)
        if self.cost < 0:
            released = -released
        return Position(
            self.lots + change,
            self.cost - released + opened * price,
            self.realised - closing * price - released,
        )

    def value(self, mark: int) -> int:
        """Market value at `mark` ticks, in ticks times lots."""
        return self.lots * mark

    def unrealised(self, mark: int) -> int:
        """Profit that closing at `mark` ticks would realise, in ticks times lots."""
        return self.value(mark) - self.cost

    @property
    def average(self) -> Fraction | None:
        """Average price of the open lots in ticks; None when there are none."""
        return Fraction(self.cost, self.lots) if self.lots else None
