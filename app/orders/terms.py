"""Exact conversion between decimal strings, as people send and get them, and ticks and lots."""

from datetime import UTC, datetime
from decimal import Decimal

from app.exchange.terms import MAX_VALUE
from app.instruments import INSTRUMENTS, Instrument
from app.kit.problems import Problem

LATEST = 10_000_000_000_000
"""Times are before this, in Unix milliseconds: the year 2286."""


def instrument_of(symbol: str) -> Instrument:
    """The instrument.

    Raises:
        Problem: 422 `unknown-symbol`.
    """
    found = INSTRUMENTS.get(symbol)
    if found is None:
        raise Problem(422, "unknown-symbol", f"There is no instrument {symbol}.")
    return found


def ticks(instrument: Instrument, price: str | None) -> int:
    """A decimal price as whole ticks; 0 for none.

    Raises:
        Problem: 422 `invalid-price` when it is zero, no multiple of the tick size, or beyond 2**53 - 1 ticks.
    """
    return 0 if price is None else _steps(price, instrument.tick_size, "price", "tick size")


def lots(instrument: Instrument, quantity: str) -> int:
    """A decimal quantity as whole lots.

    Raises:
        Problem: 422 `invalid-quantity` when it is zero, no multiple of the lot size, beyond 2**53 - 1 lots.
    """
    return _steps(quantity, instrument.lot_size, "quantity", "lot size")


def _steps(number: str, step: Decimal, what: str, name: str) -> int:
    steps, rest = divmod(Decimal(number), step)
    if rest or not 0 < steps <= MAX_VALUE:
        raise Problem(
            422,
            f"invalid-{what}",
            f"The {what} {number} is not a multiple of the {name} {step}, from {step} to {step * MAX_VALUE}.",
        )
    return int(steps)


def price_text(instrument: Instrument, price: int) -> str | None:
    """Ticks as a decimal string; None for 0."""
    return f"{instrument.price(price):f}" if price else None


def quantity_text(instrument: Instrument, quantity: int) -> str:
    """Lots as a decimal string."""
    return f"{instrument.quantity(quantity):f}"


def value_text(instrument: Instrument, cost: int) -> str:
    """Price times quantity, in ticks times lots, as an exact decimal string in the quote currency."""
    return f"{cost * (instrument.tick_size * instrument.lot_size):f}"


def average_text(instrument: Instrument, cost: int, filled: int) -> str | None:
    """Mean price of `filled` lots, rounded to 8 places; None before the first."""
    if not filled:
        return None
    return f"{round(Decimal(cost) / filled * instrument.tick_size, 8).normalize():f}"


def milliseconds(moment: datetime | None) -> int:
    """Unix milliseconds; 0 for none.

    Raises:
        Problem: 422 `invalid-time` before 1970 or after 2286.
    """
    if moment is None:
        return 0
    found = int(moment.timestamp() * 1000)
    if not 0 < found < LATEST:
        raise Problem(422, "invalid-time", "Times are from 1970 to 2286.")
    return found


def moment(at: int) -> datetime:
    """Unix milliseconds as a time in UTC."""
    return datetime.fromtimestamp(at / 1000, UTC)
