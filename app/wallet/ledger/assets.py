"""What the ledger counts: the base and the quote of every instrument, in whole smallest units."""

from dataclasses import dataclass
from decimal import Decimal, localcontext

from app.instruments import INSTRUMENTS, AssetClass, Instrument

SCALE = 8
"""Decimal places of every asset. Fine enough for every tick times every lot, so no trade is ever rounded;
with BIGINT an account holds up to 92,233,720,368 whole units."""
LARGEST = 2**63 - 1
"""Largest amount of a transfer and largest balance, either side of zero: what BIGINT holds."""
_WHOLE_UNITS = frozenset({"JPY"})
"""Currencies without a minor unit (ISO 4217)."""


@dataclass(frozen=True)
class Asset:
    """A currency, a coin or a share."""

    code: str
    scale: int
    """Decimal places that the ledger keeps."""
    external_scale: int
    """Decimal places that banks and networks take: deposits and withdrawals are multiples of this unit."""

    def units(self, amount: Decimal) -> int:
        """A decimal amount as whole smallest units.

        Raises:
            ValueError: not finite, finer than the scale, or beyond `LARGEST`.
        """
        if not amount.is_finite():
            raise ValueError(f"{amount} is no amount")
        with localcontext(prec=len(amount.as_tuple().digits) + 40):  # nothing is rounded
            if amount.adjusted() > 20 or abs(amount).scaleb(self.scale) > LARGEST:
                raise ValueError(f"{self.code}: at most {self.decimal(LARGEST)}")
            units, rest = divmod(amount.scaleb(self.scale), 1)
        if rest:
            raise ValueError(f"{self.code} has {self.scale} decimal places")
        return int(units)

    def external_units(self, amount: Decimal) -> int:
        """`units` of an amount that crosses the border of the platform.

        Raises:
            ValueError: as `units`, not positive, or finer than `external_scale`.
        """
        units = self.units(amount)
        if units <= 0:
            raise ValueError("more than zero is needed")
        if units % 10 ** (self.scale - self.external_scale):
            raise ValueError(f"{self.code} moves in and out with {self.external_scale} decimal places")
        return units

    def decimal(self, units: int) -> Decimal:
        """Whole smallest units as a decimal, exact and without an exponent."""
        return Decimal(units).scaleb(-self.scale)

    def text(self, units: int) -> str:
        """`decimal` as people write it: no exponent, no needless zeros."""
        number = f"{self.decimal(units):f}"
        return number.rstrip("0").rstrip(".") if "." in number else number


def base_of(instrument: Instrument) -> str:
    """Code of the asset that is bought or sold."""
    return instrument.symbol.split("-")[0]


def base_units(instrument: Instrument, lots: int) -> int:
    """Lots in smallest units of the base."""
    return lots * int(instrument.lot_size.scaleb(SCALE))


def notional(instrument: Instrument, ticks: int, lots: int) -> int:
    """Price times quantity in smallest units of the quote currency; exact."""
    return ticks * lots * int((instrument.tick_size * instrument.lot_size).scaleb(SCALE))


def _external_scale(instrument: Instrument) -> int:
    return {AssetClass.CRYPTO: SCALE, AssetClass.EQUITY: 0, AssetClass.FX: 2}[instrument.asset_class]


def _assets() -> dict[str, Asset]:
    found: dict[str, Asset] = {}
    for instrument in INSTRUMENTS.values():
        for step in (instrument.lot_size, instrument.tick_size * instrument.lot_size):
            if step.scaleb(SCALE) % 1:
                raise ValueError(f"{instrument.symbol}: a step of {step} needs more than {SCALE} places")
        base, quote = base_of(instrument), instrument.currency
        for code, places in ((base, _external_scale(instrument)), (quote, 2)):
            found[code] = Asset(code, SCALE, 0 if code in _WHOLE_UNITS else places)
    return dict(sorted(found.items()))


ASSETS: dict[str, Asset] = _assets()
"""Every asset by its code."""
