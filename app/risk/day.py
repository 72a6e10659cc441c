"""Net positions and the profit of the day, exact in ticks times lots.

The profit of the day is what its trades brought, plus the position at the last price, less the position of
00:00 UTC at the last price before: realised and unrealised together, whichever way cost is counted, without
fees.
"""

from dataclasses import dataclass

DAY_MS = 86_400_000


@dataclass(slots=True)
class DayPosition:
    """Net lots of a user in a symbol; negative when more was sold than bought. Deposits are no trades."""

    lots: int = 0
    day: int = 0
    """Days since 1970 that the next two are about."""
    start: int = 0
    """Lots at the beginning of the day."""
    cash: int = 0
    """What the trades of the day brought."""

    def trade(self, lots: int, price: int, day: int) -> None:
        """Take over a trade; `lots` are negative when they were sold."""
        if day > self.day:
            self.day, self.start, self.cash = day, self.lots, 0
        self.lots += lots
        self.cash -= lots * price


@dataclass(slots=True)
class DayPrice:
    """Prices of a symbol in ticks."""

    last: int
    day: int
    open: int
    """Last price before the day; the first one ever where there was none."""

    def trade(self, price: int, day: int) -> None:
        """Take over a trade."""
        if day > self.day:
            self.day, self.open = day, self.last
        self.last = price


def day_result(position: DayPosition, price: DayPrice, day: int) -> int:
    """Profit of a day, negative for a loss; what happened on a day that is over does not count."""
    if position.day >= day:
        start, cash = position.start, position.cash
    else:
        start, cash = position.lots, 0
    opening = price.open if price.day >= day else price.last
    return cash + position.lots * price.last - start * opening
