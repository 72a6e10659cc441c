"""Margin arithmetic: exact, and a forced close that does what it promises."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.instruments import INSTRUMENTS
from app.risk.margin import DOLLAR, ROUTES, NoPrice, haircuts, margin, next_trade, prices
from app.risk.settings import RiskSettings
from app.wallet.ledger.assets import ASSETS, base_of, base_units, notional

SETTINGS = RiskSettings()
HAIRCUTS = haircuts(SETTINGS)
UNIT = 10**8
MARKS = {symbol: instrument.ticks(instrument.start_price) for symbol, instrument in INSTRUMENTS.items()}
PRICES = prices(MARKS)
COINS = ("BTC", "ETH", "AAPL", "EUR", "JPY", "CHF")
Amounts = st.dictionaries(st.sampled_from((*COINS, "USD")), st.integers(0, 10**15), max_size=5)
Debts = st.dictionaries(st.sampled_from(("USD", "EUR", "JPY", "BTC")), st.integers(0, 10**14), max_size=2)


def test_every_asset_has_a_price_in_dollars() -> None:
    assert PRICES.keys() == ASSETS.keys() == HAIRCUTS.keys()
    assert PRICES["BTC"] == 64_250
    assert PRICES["JPY"] == Fraction(1000, 151_250)


def test_what_margin_is() -> None:
    found = margin({"USD": 100 * UNIT, "BTC": UNIT // 100}, {"USD": 400 * UNIT}, PRICES, HAIRCUTS)
    assert found.assets == (100 * UNIT + 64_250 * UNIT // 100)
    assert found.collateral == 100 * UNIT + 64_250 * UNIT * 3 // 400
    assert found.equity == found.collateral - 400 * UNIT == 18_187_500_000
    assert found.ratio_ppm == 454_687
    assert found.meets(SETTINGS.maintenance_margin_ppm)
    assert not found.meets(SETTINGS.initial_margin_ppm)


def test_an_asset_without_price_counts_nothing_but_a_debt_needs_one() -> None:
    few = prices({"BTC-USD": 6_425_000})
    assert margin({"ETH": UNIT}, {}, few, HAIRCUTS).unpriced == ("ETH",)
    with pytest.raises(NoPrice):
        margin({}, {"ETH": 1}, few, HAIRCUTS)


@given(Amounts, Debts)
def test_worth_is_never_more_and_debt_never_less_than_exact(
    balances: dict[str, int], debts: dict[str, int]
) -> None:
    found = margin(balances, debts, PRICES, HAIRCUTS)
    worth = sum(n * PRICES[a] for a, n in balances.items())
    collateral = sum(n * PRICES[a] * (1_000_000 - HAIRCUTS[a]) / 1_000_000 for a, n in balances.items())
    owed = sum(n * PRICES[a] for a, n in debts.items())
    assert worth - len(balances) <= found.assets <= worth
    assert collateral - len(balances) <= found.collateral <= collateral
    assert owed <= found.debt <= owed + len(debts)
    assert found.meets(0) == (found.equity >= 0)
    if found.debt:
        assert found.ratio_ppm is not None
        assert found.meets(found.ratio_ppm)
        assert not found.meets(found.ratio_ppm + 1)
        assert found.equity >= found.required(500_000) or not found.meets(500_000)


@settings(max_examples=200, deadline=None)
@given(Amounts, Debts)
def test_a_close_ends_healthy_or_with_nothing_left_and_sells_no_more_than_there_is(
    balances: dict[str, int], debts: dict[str, int]
) -> None:
    free, owed = dict(balances), {asset: n for asset, n in debts.items() if n}
    target = SETTINGS.initial_margin_ppm
    for _ in range(200):
        for asset in list(owed):
            paid = min(owed[asset], free.get(asset, 0))
            owed[asset] -= paid
            free[asset] = free.get(asset, 0) - paid
            if not owed[asset]:
                del owed[asset]
        now = margin(free, owed, PRICES, HAIRCUTS)
        if now.meets(target):
            break
        trade = next_trade(now, target, free, owed, PRICES, HAIRCUTS, lambda _: 1000)
        if trade is None:
            break
        instrument = INSTRUMENTS[trade.symbol]
        base, quote = base_of(instrument), instrument.currency
        sign = 1 if trade.side == "buy" else -1
        free[base] = free.get(base, 0) + sign * base_units(instrument, trade.lots)
        cost = notional(instrument, MARKS[trade.symbol], trade.lots)
        free[quote] = free.get(quote, 0) - sign * cost
        if trade.side == "buy":
            assert free[quote] >= cost // 10, "room for collar and fees"
        assert min(free.values()) >= 0
    else:
        pytest.fail("it does not end")
    if not margin(free, owed, PRICES, HAIRCUTS).meets(target):
        # What is left is less than a lot, or than a lot costs with room for the collar.
        for asset, amount in free.items():
            if asset == DOLLAR or asset in owed:
                continue
            instrument = ROUTES[asset].instrument
            lot = base_units(instrument, 1) * (Fraction(1) if ROUTES[asset].inverse else PRICES[asset])
            assert amount * PRICES[asset] < lot * Fraction(12, 10)


@given(st.integers(1, 50), st.integers(0, 40))
def test_only_as_much_is_sold_as_is_missing(bitcoin: int, percent: int) -> None:
    balances = {"BTC": bitcoin * UNIT}
    worth = bitcoin * 64_250 * UNIT
    owed = {"USD": worth * (60 + percent) // 140}
    before = margin(balances, owed, PRICES, HAIRCUTS)
    trade = next_trade(before, 500_000, balances, owed, PRICES, HAIRCUTS, lambda _: 0)
    if before.meets(500_000):
        return
    assert trade is not None
    assert (trade.symbol, trade.side) == ("BTC-USD", "sell")
    proceeds = trade.lots * 64_250 * UNIT // 10**5
    left = {"BTC": bitcoin * UNIT - trade.lots * 1000}
    paid = min(proceeds, owed["USD"])
    after = margin(left | {"USD": proceeds - paid}, {"USD": owed["USD"] - paid}, PRICES, HAIRCUTS)
    assert after.meets(500_000)
    assert after.ratio_ppm is None or after.ratio_ppm < 600_000 or paid == owed["USD"]


def test_dearer_to_sell_comes_later_and_closed_markets_wait() -> None:
    free = {"BTC": UNIT, "AAPL": 1000 * UNIT, "EUR": 100_000 * UNIT}
    owed = {"USD": 400_000 * UNIT}
    now = margin(free, owed, PRICES, HAIRCUTS)
    shut: set[str] = set()
    order = []
    while trade := next_trade(now, 500_000, free, owed, PRICES, HAIRCUTS, lambda _: 1000, frozenset(shut)):
        order.append(trade.symbol)
        shut.add(trade.symbol)
    assert order == ["EUR-USD", "AAPL", "BTC-USD"]
