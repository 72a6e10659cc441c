"""What funds and positions are worth: pure and exact, smallest units of each currency."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from app.instruments import INSTRUMENTS, Instrument
from app.portfolio.position import Position
from app.wallet.ledger.accounts import Account, AccountKind
from app.wallet.ledger.assets import SCALE, base_of, notional

CURRENCIES = tuple(sorted({instrument.currency for instrument in INSTRUMENTS.values()}))
"""Currencies that something is traded for; they count as cash."""
_MARKETS: dict[str, Instrument] = {
    base_of(instrument): instrument
    for instrument in reversed(INSTRUMENTS.values())
    if base_of(instrument) not in CURRENCIES
}
"""Every other asset → the market that it is valued in, the first one of the table."""

Price = Callable[[str], int | None]
"""Symbol → its mark in ticks; None when there is none."""


@dataclass(frozen=True, slots=True)
class Balance:
    """An owner's funds of one asset, in its smallest units."""

    asset: str
    available: int
    held: int
    borrowed: int
    """What is owed."""

    @property
    def net(self) -> int:
        """Without what is owed."""
        return self.available + self.held - self.borrowed

    @property
    def currency(self) -> str:
        """What it is valued in: cash in itself."""
        return self.asset if self.asset in CURRENCIES else _MARKETS[self.asset].currency

    def value(self, price: Price) -> int | None:
        """Worth of `net`, rounded down to smallest units of the currency; None without a mark."""
        if self.asset in CURRENCIES:
            return self.net
        market = _MARKETS[self.asset]
        mark = price(market.symbol)
        return None if mark is None else self.net * mark * int(market.tick_size.scaleb(SCALE)) // 10**SCALE


@dataclass
class Totals:
    """Sums over all that is counted in one currency."""

    currency: str
    cash: int = 0
    """Available and held."""
    borrowed: int = 0
    holdings: int = 0
    """Worth of assets that are no currency, without what is owed of them."""
    market_value: int = 0
    """Of positions."""
    unrealised: int = 0
    realised: int = 0
    unpriced: list[str] = field(default_factory=list)
    """Symbols without a mark: what they are worth is not in the sums."""

    @property
    def net_cash(self) -> int:
        """Cash without what is owed."""
        return self.cash - self.borrowed

    @property
    def equity(self) -> int:
        """All funds in this currency. Positions are no part of it: trades moved the funds."""
        return self.net_cash + self.holdings


def market_of(asset: str) -> str | None:
    """Symbol of the market that an asset is valued in; None for currencies, which count as themselves."""
    return None if asset in CURRENCIES else _MARKETS[asset].symbol


def balances(accounts: Mapping[Account, int]) -> list[Balance]:
    """An owner's accounts by asset; what is owed are the balances below zero."""
    by_asset: dict[str, dict[AccountKind, int]] = defaultdict(dict)
    for account, amount in sorted(accounts.items()):
        by_asset[account.asset][account.kind] = amount
    return [
        Balance(
            asset,
            kinds.get(AccountKind.AVAILABLE, 0),
            kinds.get(AccountKind.HELD, 0),
            -sum(min(amount, 0) for amount in kinds.values()),
        )
        for asset, kinds in by_asset.items()
    ]


def totals(funds: Iterable[Balance], positions: Mapping[str, Position], price: Price) -> dict[str, Totals]:
    """Currency → its sums, for every currency that something is counted in."""
    found: dict[str, Totals] = {}

    def of(currency: str) -> Totals:
        return found.setdefault(currency, Totals(currency))

    for balance in funds:
        sums = of(balance.currency)
        value = balance.value(price)
        if balance.asset in CURRENCIES:
            sums.cash += balance.available + balance.held
            sums.borrowed += balance.borrowed
        elif value is not None:
            sums.holdings += value
        elif balance.net:
            sums.unpriced.append(_MARKETS[balance.asset].symbol)
    for symbol, position in positions.items():
        instrument = INSTRUMENTS[symbol]
        sums = of(instrument.currency)
        sums.realised += notional(instrument, 1, position.realised)
        mark = price(symbol)
        if mark is not None:
            sums.market_value += notional(instrument, 1, position.value(mark))
            sums.unrealised += notional(instrument, 1, position.unrealised(mark))
        elif position.lots and symbol not in sums.unpriced:
            sums.unpriced.append(symbol)
    return dict(sorted(found.items()))
