"""Funds of orders: what is held pays for every trade, fees are exact, and nothing is left behind."""

import asyncio
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from app.events.envelope import Envelope
from app.events.trading import TradeExecuted
from app.instruments import INSTRUMENTS
from app.kit.database import Database
from app.kit.outbox import OutboxRow
from app.wallet.deposits import Deposit
from app.wallet.fees import MILLION, FeeSchedule, charge, needed
from app.wallet.ledger.accounts import AccountKind, available, platform
from app.wallet.ledger.assets import base_units, notional
from app.wallet.ledger.transfers import Code
from app.wallet.orders import OrderHold, SettlementRefused, Side, Trade
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from tests.app.wallet.books import Clock, balance

BTC = INSTRUMENTS["BTC-USD"]
FEES = platform(AccountKind.FEES, "USD", "BTC-USD")
RATES = FeeSchedule(maker=1000, taker=2000)
DOLLAR = 10**8


@pytest.fixture
async def wallet(database: Database) -> Wallet:
    made = Wallet.of(database, WalletSettings(), Clock())
    await made.prepare()
    for owner, asset, amount in (("buyer", "USD", 100_000 * DOLLAR), ("seller", "BTC", 10 * 10**8)):
        await deposit(made, owner, asset, amount)
    return made


async def deposit(wallet: Wallet, owner: str, asset: str, amount: int) -> None:
    booked = Deposit(f"{owner}-{asset}-{amount}", owner, asset, amount)
    await wallet.transact(lambda session: wallet.deposits.book(session, booked))


async def place(
    wallet: Wallet, order_id: str, owner: str, side: Side, amount: int, symbol: str = "BTC-USD"
) -> Code:
    hold = OrderHold(order_id, owner, symbol, side, amount)
    [result] = await wallet.transact(lambda session: wallet.orders.place(session, [hold]))
    return result.code


async def release(wallet: Wallet, *order_ids: str) -> list[Code]:
    results = await wallet.transact(lambda session: wallet.orders.release(session, order_ids))
    return [result.code for result in results]


async def settle(wallet: Wallet, *trades: Trade) -> Sequence[tuple[int, int, int]]:
    found = await wallet.transact(lambda session: wallet.orders.settle(session, trades))
    return [(one.notional, one.buyer_fee, one.seller_fee) for one in found]


async def funds(wallet: Wallet, owner: str, asset: str) -> tuple[int, int]:
    account = available(owner, asset)
    return (
        await balance(wallet.database, wallet.ledger, account),
        await balance(wallet.database, wallet.ledger, account.held),
    )


async def events(wallet: Wallet) -> list[Envelope]:
    async with wallet.database.transaction(read_only=True) as session:
        found = await session.scalars(select(OutboxRow.value).order_by(OutboxRow.id))
        return [Envelope.decode(value) for value in found]


def trade(number: int, price: int, quantity: int, taker_side: Side = "buy", **ids: str) -> Trade:
    maker, taker = ("s", "b") if taker_side == "buy" else ("b", "s")
    return Trade(
        "BTC-USD",
        str(number),
        price,
        quantity,
        ids.get("maker", maker),
        ids.get("taker", taker),
        taker_side,
    )


async def open_orders(wallet: Wallet, price: int, lots: int) -> None:
    assert await place(wallet, "b", "buyer", "buy", needed(BTC, "buy", price, lots, RATES)) is Code.OK
    assert await place(wallet, "s", "seller", "sell", needed(BTC, "sell", price, lots, RATES)) is Code.OK


async def test_a_trade_pays_delivers_and_charges(wallet: Wallet) -> None:
    await open_orders(wallet, 6_000_000, 100_000)  # 60,000.00 for one bitcoin
    assert await settle(wallet, trade(1, 5_900_000, 100_000)) == [
        (59_000 * DOLLAR, 118 * DOLLAR, 59 * DOLLAR)
    ]
    assert await funds(wallet, "buyer", "BTC") == (10**8, 0)
    assert await funds(wallet, "buyer", "USD") == (39_880 * DOLLAR, 1002 * DOLLAR)
    assert await funds(wallet, "seller", "USD") == (58_941 * DOLLAR, 0)
    assert await funds(wallet, "seller", "BTC") == (9 * 10**8, 0)
    assert await balance(wallet.database, wallet.ledger, FEES) == 177 * DOLLAR
    assert await release(wallet, "b", "s") == [Code.OK, Code.ALREADY_POSTED]
    assert await funds(wallet, "buyer", "USD") == (40_882 * DOLLAR, 0)
    assert (await wallet.reconciliation.check()).is_clean


async def test_deposits_and_trades_have_their_events(wallet: Wallet) -> None:
    """What is held for orders is told by the events of the orders."""
    await open_orders(wallet, 6_000_000, 2)
    await settle(wallet, trade(1, 6_000_000, 1))
    await release(wallet, "b", "s")
    told = await events(wallet)
    assert [event.type for event in told] == ["FundsDeposited", "FundsDeposited", "TradeSettled"]
    assert len({event.id for event in told}) == len(told)
    assert [event.key for event in told] == ["buyer", "seller", "BTC-USD"]
    for event in told:
        event.content()


async def test_a_batch_again_changes_nothing(wallet: Wallet) -> None:
    await open_orders(wallet, 6_000_000, 100_000)
    trades = [trade(1, 6_000_000, 33_333), trade(2, 5_999_999, 1), trade(3, 6_000_000, 7, "sell")]
    first = await settle(wallet, *trades)
    told, before = await events(wallet), await funds(wallet, "buyer", "USD")
    assert await settle(wallet, *trades) == first
    assert await settle(wallet, trades[1], trades[1]) == [first[1], first[1]]
    assert await place(wallet, "b", "buyer", "buy", needed(BTC, "buy", 6_000_000, 100_000, RATES)) is (
        Code.EXISTS
    )
    assert await funds(wallet, "buyer", "USD") == before
    assert await events(wallet) == told


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (trade(2, 6_000_001, 100_000), "amount_exceeds_pending"),
        (trade(2, 5_000_000, 100_001), "amount_exceeds_pending"),
        (trade(2, 6_000_000, 1, maker="nobody"), "there is no order nobody"),
        (trade(2, 6_000_000, 1, maker="b", taker="s"), "order s is to sell BTC-USD"),
        (trade(1, 5_000_000, 2), "settled before with another content"),
        (trade(2, 2**62, 2**62), "beyond what is counted"),
    ],
)
async def test_a_batch_with_a_wrong_trade_leaves_nothing(wallet: Wallet, wrong: Trade, reason: str) -> None:
    await open_orders(wallet, 6_000_000, 100_000)
    await settle(wallet, trade(1, 5_000_000, 1))
    before = await funds(wallet, "buyer", "USD"), await funds(wallet, "seller", "USD"), await events(wallet)
    with pytest.raises(SettlementRefused, match=reason) as refused:
        await settle(wallet, trade(3, 6_000_000, 1), wrong)
    assert list(refused.value.refused) == [f"BTC-USD:{wrong.trade_id}"]
    after = await funds(wallet, "buyer", "USD"), await funds(wallet, "seller", "USD"), await events(wallet)
    assert after == before
    assert len(await settle(wallet, trade(3, 6_000_000, 1))) == 1


async def test_an_order_that_ended_trades_no_more(wallet: Wallet) -> None:
    await open_orders(wallet, 6_000_000, 10)
    assert await release(wallet, "b") == [Code.OK]
    assert await release(wallet, "b", "x") == [Code.EXISTS, Code.UNKNOWN_HOLD]
    with pytest.raises(SettlementRefused, match="already_voided"):
        await settle(wallet, trade(1, 6_000_000, 1))


async def test_an_order_needs_funds(wallet: Wallet) -> None:
    assert await place(wallet, "1", "buyer", "buy", 100_000 * DOLLAR + 1) is Code.INSUFFICIENT_FUNDS
    assert await place(wallet, "2", "newcomer", "sell", 1) is Code.INSUFFICIENT_FUNDS
    assert await place(wallet, "3", "buyer", "buy", 100_000 * DOLLAR) is Code.OK
    assert await place(wallet, "3", "buyer", "buy", 1) is Code.CONFLICT
    assert await place(wallet, "4", "buyer", "buy", 1) is Code.INSUFFICIENT_FUNDS


async def test_rates_are_those_of_the_moment_of_the_order(wallet: Wallet) -> None:
    await open_orders(wallet, 6_000_000, 100_000)
    dearer = Wallet.of(wallet.database, WalletSettings.load(maker_fee_bps="50", taker_fee_bps="100"), Clock())
    assert await settle(dearer, trade(1, 6_000_000, 100_000)) == [
        (60_000 * DOLLAR, 120 * DOLLAR, 60 * DOLLAR)
    ]


async def test_fractions_of_fees_are_carried_from_fill_to_fill(wallet: Wallet) -> None:
    """A fill of one tick and one lot costs 10 units: 0.01 for the maker, 0.02 for the taker."""
    await open_orders(wallet, 1, 250)
    one_batch = [trade(number, 1, 1) for number in range(120)]
    fees = list(await settle(wallet, *one_batch))
    for number in range(120, 250):
        fees += await settle(wallet, trade(number, 1, 1))
    assert [place for place, (_, buyer, _) in enumerate(fees) if buyer] == [49, 99, 149, 199, 249]
    assert [place for place, (_, _, seller) in enumerate(fees) if seller] == [99, 199]
    assert await balance(wallet.database, wallet.ledger, FEES) == 7
    assert await funds(wallet, "buyer", "USD") == (100_000 * DOLLAR - 2505, 0)
    assert await funds(wallet, "seller", "USD") == (2498, 0)


async def test_fills_of_one_order_at_once_are_exact(postgresql_database: Database) -> None:
    wallet = Wallet.of(postgresql_database, WalletSettings(), Clock())
    for owner, asset in (("buyer", "USD"), ("seller", "BTC")):
        await deposit(wallet, owner, asset, 10**10)
    await open_orders(wallet, 1, 200)
    batches = [[trade(number, 1, 1) for number in range(first, first + 25)] for first in range(0, 200, 25)]
    found = await asyncio.gather(*(settle(wallet, *batch) for batch in [*batches, *batches]))
    assert found[:8] == found[8:]
    assert sum(buyer for batch in found[:8] for _, buyer, _ in batch) == 4
    assert await balance(wallet.database, wallet.ledger, FEES) == 6
    assert await funds(wallet, "buyer", "BTC") == (200 * 1000, 0)
    assert (await wallet.reconciliation.check()).is_clean


async def test_writers_of_many_markets_and_orders_do_not_deadlock(postgresql_database: Database) -> None:
    wallet = Wallet.of(postgresql_database, WalletSettings(), Clock())
    users, symbols = [f"u{n}" for n in range(6)], ["BTC-USD", "ETH-USD", "AAPL", "EUR-USD"]
    for user in users:
        for asset in ("USD", "BTC", "ETH", "AAPL", "EUR"):
            await deposit(wallet, user, asset, 10**15)

    async def write(symbol: str, seed: int) -> None:
        market = INSTRUMENTS[symbol]
        for round_ in range(4):
            holds, trades = [], []
            for number in range(8):
                buyer, seller = users[(seed + number) % 6], users[(seed + number * 5 + round_ + 1) % 6]
                ids = [f"{symbol}:{seed}:{round_}:{number}:{side}" for side in ("b", "s")]
                ticks, lots = 1000 + number, 1 + number
                for id, owner, side in zip(ids, (buyer, seller), ("buy", "sell"), strict=True):
                    amount = needed(market, side, ticks, lots, RATES)
                    holds.append(OrderHold(id, owner, symbol, "buy" if side == "buy" else "sell", amount))
                trades.append(Trade(symbol, f"{seed}:{round_}:{number}", ticks, lots, ids[0], ids[1], "sell"))
            placed = await wallet.transact(lambda session: wallet.orders.place(session, holds))  # noqa: B023
            assert {result.code for result in placed} == {Code.OK}
            await settle(wallet, *reversed(trades))
            await release(wallet, *(hold.order_id for hold in reversed(holds)))

    await asyncio.gather(*(write(symbol, seed) for symbol in symbols for seed in (1, 2)))
    assert (await wallet.reconciliation.check()).is_clean
    for user in users:
        assert (await funds(wallet, user, "USD"))[1] == 0


fills = st.lists(st.tuples(st.integers(1, 10**12), st.booleans()), min_size=1, max_size=30)


@given(fills, st.integers(0, 100_000), st.integers(0, 100_000))
def test_fees_of_fills_are_the_fee_of_the_order(
    parts: list[tuple[int, bool]], maker: int, taker: int
) -> None:
    """However an order is cut up: exact to the last whole unit, and never more than what is held."""
    carry, paid = 0, 0
    for amount, is_taker in parts:
        fee, carry = charge(amount, taker if is_taker else maker, carry)
        paid += fee
    exact = sum(Fraction(amount * (taker if is_taker else maker), MILLION) for amount, is_taker in parts)
    assert paid == exact.__floor__()
    assert paid + Fraction(carry, MILLION) == exact
    assert paid <= charge(sum(amount for amount, _ in parts), max(maker, taker), 0)[0]


@given(
    st.lists(st.tuples(st.integers(1, 6_000_000), st.integers(1, 5000)), min_size=1, max_size=12),
    st.integers(0, 5000),
    st.integers(0, 5000),
)
def test_what_is_held_is_enough(parts: list[tuple[int, int]], maker: int, taker: int) -> None:
    """Fills at or below the limit, as maker or taker, cost no more than what the order needed."""
    rates = FeeSchedule(maker, taker)
    lots, carry, cost = sum(lots for _, lots in parts), 0, 0
    for number, (ticks, amount) in enumerate(parts):
        paid = notional(BTC, ticks, amount)
        fee, carry = charge(paid, (maker, taker)[number % 2], carry)
        cost += paid + fee
    assert cost <= needed(BTC, "buy", 6_000_000, lots, rates)
    assert sum(base_units(BTC, amount) for _, amount in parts) == needed(BTC, "sell", 1, lots, rates)


def test_a_trade_is_what_the_event_says() -> None:
    executed = TradeExecuted(
        trade_id="7",
        symbol="BTC-USD",
        sequence=1,
        price=5,
        quantity=6,
        maker_order_id="m",
        taker_order_id="t",
        taker_side="sell",
    )
    made = Trade(**executed.model_dump(exclude={"sequence"}))
    assert (made.buy_order_id, made.sell_order_id) == ("m", "t")
