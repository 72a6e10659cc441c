"""Margin: what somebody has against what they owe, in US dollars, exact.

Equity is the worth of all assets, available and held, after haircuts, less all debts. A ratio is equity to
debt. Worth is rounded down, debts are rounded up. Amounts are smallest units; all assets have the same scale.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final, Literal

from app.instruments import INSTRUMENTS, AssetClass, Instrument
from app.risk.settings import RiskSettings
from app.wallet.ledger.assets import ASSETS, base_of, base_units

MILLION: Final = 1_000_000
DOLLAR: Final = "USD"
Side = Literal["buy", "sell"]


class NoPrice(Exception):
    """What is owed has no price, so nothing can be said."""


@dataclass(frozen=True, slots=True)
class Route:
    """The market in which an asset is exchanged for dollars."""

    instrument: Instrument
    inverse: bool
    """The dollar is the base: the asset is sold by buying dollars."""

    @property
    def selling(self) -> Side:
        """Side of an order that turns the asset into dollars."""
        return "buy" if self.inverse else "sell"

    @property
    def buying(self) -> Side:
        """Side of an order that turns dollars into the asset."""
        return "sell" if self.inverse else "buy"

    def dollars(self, ticks: int) -> Fraction:
        """Dollars for one unit of the asset."""
        price = Fraction(self.instrument.tick_size) * ticks
        return 1 / price if self.inverse else price


def _routes() -> dict[str, Route]:
    found: dict[str, Route] = {}
    for instrument in INSTRUMENTS.values():
        base = base_of(instrument)
        if instrument.currency == DOLLAR:
            found[base] = Route(instrument, inverse=False)
        elif base == DOLLAR:
            found[instrument.currency] = Route(instrument, inverse=True)
    lost = ASSETS.keys() - found.keys() - {DOLLAR}
    if lost:
        raise ValueError(f"{', '.join(sorted(lost))}: no market against {DOLLAR}")
    return found


ROUTES: Final[Mapping[str, Route]] = _routes()
"""Asset → its market against the dollar; every asset but the dollar has one."""


def prices(marks: Mapping[str, int]) -> dict[str, Fraction]:
    """Asset → dollars, from symbol → ticks; assets without a price are left out."""
    found = {
        asset: route.dollars(marks[route.instrument.symbol])
        for asset, route in ROUTES.items()
        if route.instrument.symbol in marks
    }
    return {DOLLAR: Fraction(1), **found}


def haircuts(settings: RiskSettings) -> dict[str, int]:
    """Asset → what is taken off its worth, in millionths."""
    by_class = {
        AssetClass.FX: settings.haircut_fx_ppm,
        AssetClass.EQUITY: settings.haircut_equity_ppm,
        AssetClass.CRYPTO: settings.haircut_crypto_ppm,
    }
    return {DOLLAR: 0} | {asset: by_class[route.instrument.asset_class] for asset, route in ROUTES.items()}


@dataclass(frozen=True, slots=True)
class Margin:
    """Smallest units of dollars."""

    assets: int
    collateral: int
    debt: int
    unpriced: tuple[str, ...] = ()

    @property
    def equity(self) -> int:
        """Negative when more is owed than the collateral is worth."""
        return self.collateral - self.debt

    @property
    def ratio_ppm(self) -> int | None:
        """Equity in millionths of the debt, rounded down; None without debt."""
        return self.equity * MILLION // self.debt if self.debt else None

    def meets(self, ppm: int) -> bool:
        """Whether equity is at least so many millionths of the debt."""
        return self.equity * MILLION >= self.debt * ppm

    def required(self, ppm: int) -> int:
        """Equity that so many millionths of the debt are."""
        return ceil(Fraction(self.debt * ppm, MILLION))


def margin(
    balances: Mapping[str, int],
    debts: Mapping[str, int],
    prices: Mapping[str, Fraction],
    haircuts: Mapping[str, int],
) -> Margin:
    """The margin of one owner.

    Raises:
        NoPrice: what is owed has no price. Assets without one count nothing.
    """
    assets = collateral = debt = 0
    for asset, amount in balances.items():
        if amount and asset in prices:
            worth = amount * prices[asset]
            assets += int(worth)
            collateral += int(worth * (MILLION - haircuts[asset]) / MILLION)
    for asset, amount in debts.items():
        if amount and asset not in prices:
            raise NoPrice(f"{asset} has no price")
        debt += ceil(amount * prices[asset]) if amount else 0
    unpriced = tuple(sorted(asset for asset, amount in balances.items() if amount and asset not in prices))
    return Margin(assets, collateral, debt, unpriced)


@dataclass(frozen=True, slots=True)
class Trade:
    """An order of a forced close."""

    symbol: str
    side: Side
    lots: int


def next_trade(
    found: Margin,
    target_ppm: int,
    free: Mapping[str, int],
    debts: Mapping[str, int],
    prices: Mapping[str, Fraction],
    haircuts: Mapping[str, int],
    collar_bps: Callable[[str], int],
    closed: frozenset[str] = frozenset(),
) -> Trade | None:
    """What brings the margin to its target with the least loss; None when nothing can be traded.

    Dollars buy what is owed in another currency first. Then assets are sold in the order of their haircuts,
    which stand for what selling them may cost, the largest worth first, and only as much as is missing.
    `free` are available amounts; symbols in `closed` do not trade now. An order to buy leaves room for
    the collar around the price and for fees, because so much is held for it.
    """

    def budget(route: Route, side: Side, dollars: Fraction) -> Fraction:
        room = Fraction(10_000, 10_000 + collar_bps(route.instrument.symbol) + 100)
        return dollars * (room if side == "buy" else 1)

    for asset in sorted(debts):
        if asset != DOLLAR and debts[asset] > 0:
            route = ROUTES[asset]
            wanted = min(missing_dollars(found, target_ppm, haircut=0), debts[asset] * prices[asset])
            most = budget(route, route.buying, Fraction(free.get(DOLLAR, 0)))
            trade = _trade(route, route.buying, wanted, most, prices[asset], closed)
            if trade is not None:
                return trade
    candidates = [
        (haircuts[asset], -amount * prices[asset], asset)
        for asset, amount in free.items()
        if asset != DOLLAR and amount > 0 and asset in prices and not debts.get(asset)
    ]
    for haircut, negative_worth, asset in sorted(candidates):
        route = ROUTES[asset]
        wanted = missing_dollars(found, target_ppm, haircut)
        most = budget(route, route.selling, -negative_worth)
        trade = _trade(route, route.selling, wanted, most, prices[asset], closed)
        if trade is not None:
            return trade
    return None


def missing_dollars(found: Margin, target_ppm: int, haircut: int) -> Fraction:
    """Proceeds that bring the margin to its target once they repaid debt, with 1 % for fees and slippage.

    Selling worth v of an asset with haircut h gives v·h of equity and repays v of the debt:
    (equity + v·h) / (debt - v) is the target.
    """
    target, h = Fraction(target_ppm, MILLION), Fraction(haircut, MILLION)
    lacking = max(target * found.debt - found.equity, Fraction(0))
    whole = Fraction(found.debt)
    return min(lacking / (target + h) if target + h else whole, whole) * Fraction(101, 100)


def _trade(
    route: Route, side: Side, wanted: Fraction, budget: Fraction, price: Fraction, closed: frozenset[str]
) -> Trade | None:
    """An order over so many dollars, rounded up to lots as far as the budget in dollars goes."""
    instrument = route.instrument
    lot = base_units(instrument, 1) * (Fraction(1) if route.inverse else price)
    lots = min(ceil(wanted / lot), int(budget / lot))
    if instrument.symbol in closed or lots <= 0:
        return None
    return Trade(instrument.symbol, side, lots)
