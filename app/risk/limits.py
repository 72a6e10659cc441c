"""Limits and kill switches as they hold at one moment: defaults, and what operators set beside them.

The most specific setting counts: that of a user in a symbol, then of the user, of the symbol, the default.
Limits of money are whole units of the quote currency; of a currency that trades at about a hundredth of the
others (`UNITS_PER_DOLLAR`) a hundred units count as one, so that one number serves every market.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from app.instruments import INSTRUMENTS
from app.wallet.ledger.assets import SCALE, notional

UNITS_PER_DOLLAR: Final[Mapping[str, int]] = {"JPY": 100}
"""Order of magnitude of a US dollar in currencies where that is not 1."""
DEFAULT_POSITION_WORTH: Final = 100_000_000
"""Unless a limit is set, a position may have so many lots as this buys at the symbol's start price."""
LARGEST_LOTS: Final = 2**53 - 1
LARGEST_MONEY: Final = 10**12
LARGEST_BPS: Final = 10_000
LARGEST_RATE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Values:
    """Limits that one scope sets; None leaves one to the next wider scope."""

    position: int | None = None
    """Largest position in lots, long or short, all open orders of that side counted as filled."""
    order_notional: int | None = None
    """Largest worth of one order at its worst price, in units of the quote currency."""
    open_notional: int | None = None
    """Largest worth of all open orders of a user in one quote currency."""
    collar_bps: int | None = None
    """How far the worst price may be on the wrong side of the reference, in basis points."""
    order_rate: int | None = None
    """Orders and changes of orders per second that a user may go on sending."""
    order_burst: int | None = None
    """Orders that may come at once."""
    daily_loss: int | None = None
    """Loss since 00:00 UTC, realised and not, in one quote currency, from which a user only reduces."""


DEFAULTS: Final = Values(
    position=None,
    order_notional=10_000_000,
    open_notional=50_000_000,
    collar_bps=1_000,
    order_rate=50,
    order_burst=100,
    daily_loss=5_000_000,
)
"""What holds when neither the environment (APP_RISK_…) nor an operator says anything: no regulator's numbers,
but such that ordinary trading never meets them and a slip of some digits does."""
OF_USERS: Final = frozenset({"open_notional", "order_rate", "order_burst", "daily_loss"})
"""Limits that count all of a user's markets together: no symbol can set them."""
OF_SYMBOLS: Final = frozenset({"position"})
"""Limits in lots, which mean something else in each symbol: only a symbol, or a user in one, can set them."""


@dataclass(frozen=True, slots=True)
class Effective:
    """The limits of one user in one symbol; money in smallest units of the quote currency."""

    position: int
    order_notional: int
    open_notional: int
    collar_bps: int
    order_rate: int
    order_burst: int
    daily_loss: int


@dataclass(frozen=True)
class Limits:
    """All limits and switches. Never changed: another state is another object."""

    defaults: Values = DEFAULTS
    overrides: Mapping[tuple[str, str], Values] = field(default_factory=dict)
    """(user, symbol) → limits; an empty user or symbol stands for all of them."""
    stopped: bool = False
    """Kill switch of the whole exchange."""
    stopped_symbols: frozenset[str] = frozenset()
    stopped_users: frozenset[str] = frozenset()

    def of(self, owner: str, symbol: str) -> Effective:
        """What holds for a user in a symbol.

        Raises:
            KeyError: there is no such instrument.
        """
        scopes = ((owner, symbol), (owner, ""), ("", symbol), ("", ""))
        settings = [self.overrides[scope] for scope in scopes if scope in self.overrides]
        found: dict[str, int | None] = {}
        for name in _NAMES:
            said = (getattr(values, name) for values in (*settings, self.defaults, DEFAULTS))
            found[name] = next((value for value in said if value is not None), None)
        position = found["position"]
        money = money_unit(INSTRUMENTS[symbol].currency)
        return Effective(
            position=default_position(symbol) if position is None else position,
            order_notional=(found["order_notional"] or 0) * money,
            open_notional=(found["open_notional"] or 0) * money,
            collar_bps=found["collar_bps"] or 0,
            order_rate=found["order_rate"] or 0,
            order_burst=found["order_burst"] or 0,
            daily_loss=(found["daily_loss"] or 0) * money,
        )

    def daily_loss(self, owner: str, currency: str) -> int:
        """What a user may lose in a day in a quote currency, in its smallest units."""
        scopes = (self.overrides.get((owner, "")), self.overrides.get(("", "")), self.defaults, DEFAULTS)
        said = (values.daily_loss for values in scopes if values is not None)
        return next((value for value in said if value is not None), 0) * money_unit(currency)


_NAMES = tuple(item.name for item in fields(Values))


def money_unit(currency: str) -> int:
    """Smallest units of a currency in one unit of a limit of money."""
    return UNITS_PER_DOLLAR.get(currency, 1) * int(10**SCALE)


def default_position(symbol: str) -> int:
    """Lots that `DEFAULT_POSITION_WORTH` buys at the start price of the symbol."""
    instrument = INSTRUMENTS[symbol]
    lot = notional(instrument, instrument.ticks(instrument.start_price), 1)
    return DEFAULT_POSITION_WORTH * money_unit(instrument.currency) // lot
