"""Worth of funds, exact but for what is smaller than a smallest unit."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from app.instruments import INSTRUMENTS
from app.portfolio.position import Position
from app.portfolio.valuation import CURRENCIES, balances, totals
from app.wallet.ledger.accounts import Account, AccountKind, available
from app.wallet.ledger.assets import ASSETS, base_of


def test_every_asset_is_cash_or_has_a_market() -> None:
    accounts = {available("anna", code): 10**8 for code in ASSETS}
    found = totals(balances(accounts), {}, lambda _: 1)
    assert set(found) <= set(CURRENCIES)
    assert all(not sums.unpriced for sums in found.values())


@given(st.sampled_from(["BTC", "DOGE", "AAPL", "EUR"]), st.integers(0, 2**63 - 1), st.integers(1, 10**9))
def test_holdings_are_rounded_down(asset: str, units: int, mark: int) -> None:
    (sums,) = totals(balances({available("anna", asset): units}), {}, lambda _: mark).values()
    market = next(i for i in INSTRUMENTS.values() if base_of(i) == asset and i.currency == "USD")
    exact = Fraction(units, 10**8) * mark * Fraction(str(market.tick_size)) * 10**8
    assert sums.holdings == exact.__floor__() == sums.equity


def test_what_is_owed_counts_against() -> None:
    debt = Account("anna", "BTC", AccountKind.SUSPENSE)
    accounts = {
        available("anna", "USD"): 70,
        Account("anna", "USD", AccountKind.HELD): 30,
        Account("anna", "USD", AccountKind.SUSPENSE): -20,
        available("anna", "BTC"): 2 * 10**8,
        debt: -5 * 10**8,
    }
    dollars, coins = sorted(balances(accounts), key=lambda b: b.asset, reverse=True)
    assert (dollars.available, dollars.held, dollars.borrowed, dollars.net) == (70, 30, 20, 80)
    assert (coins.available, coins.borrowed, coins.net) == (2 * 10**8, 5 * 10**8, -3 * 10**8)
    sums = totals([dollars, coins], {"BTC-USD": Position(2, 30, 5)}, lambda _: 100)["USD"]
    assert (sums.cash, sums.borrowed, sums.holdings, sums.equity) == (100, 20, -3 * 10**8, 80 - 3 * 10**8)
    assert (sums.market_value, sums.unrealised, sums.realised) == (2000, 1700, 50)
