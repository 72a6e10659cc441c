"""Holds of pairs and of replaced orders: always enough, and in the end nothing too much."""

import asyncio
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.kit import schema
from app.kit.database import Database
from app.wallet.fees import FeeSchedule, growth, needed, needed_again
from app.wallet.ledger.assets import notional
from app.wallet.ledger.transfers import Code
from app.wallet.orders import Amend, OrderHold, Replaced, SettlementRefused, Side, Trade
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from tests.app.wallet.books import Clock
from tests.app.wallet.test_orders import BTC, DOLLAR, RATES, deposit, funds, place, release, trade


@pytest.fixture
async def wallet(database: Database) -> Wallet:
    made = Wallet.of(database, WalletSettings(), Clock())
    for owner in ("buyer", "seller"):
        await deposit(made, owner, "USD", 1000 * DOLLAR)
        await deposit(made, owner, "BTC", 10 * 10**8)
    return made


async def pair(wallet: Wallet, *amounts: int, side: Side = "sell", owner: str = "seller") -> list[Code]:
    holds = [OrderHold(f"leg{n}", owner, "BTC-USD", side, amount, "pair") for n, amount in enumerate(amounts)]
    results = await wallet.transact(lambda session: wallet.orders.place(session, holds))
    return [result.code for result in results]


async def amend(wallet: Wallet, order_id: str, extra: int) -> Code:
    [result] = await wallet.transact(lambda session: wallet.orders.amend(session, [Amend(order_id, extra)]))
    return result.code


async def finish(
    wallet: Wallet, *, trades: tuple[Trade, ...] = (), replaced: tuple[Replaced, ...] = (), ended: str = ""
) -> None:
    await wallet.transact(lambda s: wallet.orders.finish(s, trades, replaced, ended.split()))


async def test_a_pair_holds_once_and_until_its_last_order_ended(wallet: Wallet) -> None:
    assert await pair(wallet, 400, 700) == [Code.OK, Code.OK]
    assert await funds(wallet, "seller", "BTC") == (10**9 - 700, 700)
    assert await release(wallet, "leg0") == [Code.OK]
    assert await funds(wallet, "seller", "BTC") == (10**9 - 700, 700)
    assert await release(wallet, "leg1", "leg0") == [Code.OK, Code.OK]
    assert await funds(wallet, "seller", "BTC") == (10**9, 0)
    assert await release(wallet, "leg1") == [Code.EXISTS]


async def test_a_pair_ends_in_one_batch(wallet: Wallet) -> None:
    assert await pair(wallet, 700, 400) == [Code.OK, Code.OK]
    assert await release(wallet, "leg0", "leg1") == [Code.OK, Code.OK]
    assert await funds(wallet, "seller", "BTC") == (10**9, 0)


@pytest.mark.parametrize("leg", ["leg0", "leg1"])
async def test_either_order_of_a_pair_is_paid_by_the_hold(wallet: Wallet, leg: str) -> None:
    await pair(wallet, 3000, 3000)
    await place(wallet, "b", "buyer", "buy", needed(BTC, "buy", 1000, 3, RATES))
    other = {"leg0": "leg1", "leg1": "leg0"}[leg]
    await finish(wallet, trades=(trade(1, 1000, 1, maker=leg),), ended=other)
    assert await funds(wallet, "seller", "BTC") == (10**9 - 3000, 2000)
    await finish(wallet, trades=(trade(2, 1000, 1, maker=leg),), ended=f"{leg} b")
    assert await funds(wallet, "seller", "BTC") == (10**9 - 2000, 0)
    assert (await funds(wallet, "buyer", "USD"))[1] == 0
    assert (await wallet.reconciliation.check()).is_clean


async def test_a_pair_is_held_in_whole_or_not_at_all(wallet: Wallet) -> None:
    assert await pair(wallet, 700, 10**9 + 1) == [Code.INSUFFICIENT_FUNDS] * 2
    assert await funds(wallet, "seller", "BTC") == (10**9, 0)


async def test_only_orders_that_are_alike_share_a_hold(wallet: Wallet) -> None:
    for other in (("buyer", "sell", "g"), ("seller", "buy", "g"), ("seller", "sell", None)):
        owner, side, group = other
        first = OrderHold("1", "seller", "BTC-USD", "sell", 5, group)
        second = OrderHold("1", owner, "BTC-USD", "sell" if side == "sell" else "buy", 5, group)
        with pytest.raises(ValueError, match="cannot share a hold"):
            await wallet.transact(lambda s: wallet.orders.place(s, [first, second]))  # noqa: B023


async def test_a_replace_grows_the_hold_and_its_decision_shrinks_it(wallet: Wallet) -> None:
    await place(wallet, "b", "buyer", "buy", needed(BTC, "buy", 1000, 10, RATES))
    extra = growth(BTC, "buy", (1000, 10), (2000, 10))
    assert await amend(wallet, "b", extra) is Code.OK
    assert (await funds(wallet, "buyer", "USD"))[1] == needed(BTC, "buy", 2000, 10, RATES)
    await finish(wallet, replaced=(Replaced("b", 1, 1500, 8),))
    assert (await funds(wallet, "buyer", "USD"))[1] == needed(BTC, "buy", 1500, 8, RATES)


async def test_a_rejected_replace_gives_back_what_was_held_for_it(wallet: Wallet) -> None:
    await place(wallet, "b", "buyer", "buy", needed(BTC, "buy", 1000, 10, RATES))
    await amend(wallet, "b", 12345)
    await finish(wallet, replaced=(Replaced("b", 1),))
    assert (await funds(wallet, "buyer", "USD"))[1] == needed(BTC, "buy", 1000, 10, RATES)
    await finish(wallet, ended="b")
    assert await funds(wallet, "buyer", "USD") == (1000 * DOLLAR, 0)


async def test_nothing_is_given_back_while_a_replace_is_in_flight(wallet: Wallet) -> None:
    await place(wallet, "b", "buyer", "buy", needed(BTC, "buy", 1000, 10, RATES))
    for price in (2000, 3000):
        assert await amend(wallet, "b", growth(BTC, "buy", (price - 1000, 10), (price, 10))) is Code.OK
    before = (await funds(wallet, "buyer", "USD"))[1]
    await finish(wallet, replaced=(Replaced("b", 1, 2000, 10),))
    assert (await funds(wallet, "buyer", "USD"))[1] == before
    await finish(wallet, replaced=(Replaced("b", 1),))
    assert (await funds(wallet, "buyer", "USD"))[1] == needed(BTC, "buy", 2000, 10, RATES)


async def test_an_amend_without_funds_stands_for_itself(wallet: Wallet) -> None:
    for id, owner in (("b", "buyer"), ("s", "seller")):
        await place(wallet, id, owner, "buy", 10_000)
    amends = [Amend("b", 2000 * DOLLAR), Amend("s", 1000), Amend("nobody", 5)]
    results = await wallet.transact(lambda session: wallet.orders.amend(session, amends))
    assert [r.code for r in results] == [Code.INSUFFICIENT_FUNDS, Code.OK, Code.UNKNOWN_HOLD]
    assert (await funds(wallet, "buyer", "USD"))[1] == 10_000
    await deposit(wallet, "buyer", "USD", 5000 * DOLLAR)
    assert await amend(wallet, "b", 2000 * DOLLAR) is Code.OK
    await finish(wallet, replaced=(Replaced("b", 1, 7, 3),))
    assert (await funds(wallet, "buyer", "USD"))[1] == needed(BTC, "buy", 7, 3, RATES)


async def test_a_decision_that_nobody_asked_for_stops_everything(wallet: Wallet) -> None:
    await place(wallet, "b", "buyer", "buy", 10_000)
    for order_id in ("b", "nobody"):
        with pytest.raises(SettlementRefused, match="replace"):
            await finish(wallet, replaced=(Replaced(order_id, 1, 5, 5),))


async def test_places_and_amends_go_in_one_call(wallet: Wallet) -> None:
    await place(wallet, "b", "buyer", "buy", 10_000)
    holds = [OrderHold("c", "buyer", "BTC-USD", "buy", 500)]
    placed, amended = await wallet.transact(
        lambda session: wallet.orders.reserve(session, holds, [Amend("b", 0)])
    )
    assert [r.code for r in placed + amended] == [Code.OK, Code.OK]
    assert (await funds(wallet, "buyer", "USD"))[1] == 10_500
    twice = [Amend("b", 7), Amend("b", 9)]
    results = await wallet.transact(lambda session: wallet.orders.amend(session, twice))
    assert [result.code for result in results] == [Code.OK, Code.CONFLICT]
    with pytest.raises(ValueError, match="cannot need -1 more"):
        await amend(wallet, "b", -1)


ticks, lots = st.integers(1, 400), st.integers(1, 40)


@given(ticks, lots, ticks, lots, st.integers(0, 40), st.integers(0, 5000), st.integers(0, 999_999))
def test_growth_is_enough_whatever_is_filled_before(
    old_ticks: int, old_lots: int, new_ticks: int, new_lots: int, filled: int, rate: int, carry: int
) -> None:
    """Filled at the old price before the replace takes effect; with any carried fraction of a fee."""
    filled = min(filled, old_lots, new_lots)
    rates = FeeSchedule(rate, rate)
    extra = growth(BTC, "buy", (old_ticks, old_lots), (new_ticks, new_lots))
    held = needed_again(BTC, "buy", old_ticks, old_lots, rates, carry)
    held += extra - (-extra * rate // 1_000_000)
    paid = notional(BTC, old_ticks, filled)
    fee, carry = divmod(paid * rate + carry, 1_000_000)
    assert held - paid - fee >= needed_again(BTC, "buy", new_ticks, new_lots - filled, rates, carry)


async def live(wallet: Wallet, random: Random, side: Side) -> None:
    """One order through fills, replaces in flight and decisions; the follower lags behind the engine."""
    prices, quantities = (1, 2, 37, 1000), (1, 2, 5, 9)
    price, remaining = random.choice(prices), random.choice(quantities)
    owner, id, number = "buyer" if side == "buy" else "seller", "o", 0
    await place(wallet, id, owner, side, needed(BTC, side, price, remaining, RATES))
    await place(
        wallet, "x", "seller" if side == "buy" else "buyer", "sell" if side == "buy" else "buy", 10**8
    )
    waiting: list[tuple[str, int, int]] = []
    asset = "USD" if side == "buy" else "BTC"
    for _ in range(random.randint(1, 25)):
        match random.randrange(4):
            case 0 if remaining > 1:
                filled, at = random.randint(1, remaining - 1), price
                if side == "buy" and random.random() < 0.5:
                    at = random.randint(1, price)
                remaining -= filled
                waiting.append(("trade", at, filled))
            case 1:
                wanted = random.choice(prices), random.choice(quantities)
                extra = growth(BTC, side, (price, remaining), wanted)
                if await amend(wallet, id, extra) is Code.OK:
                    taken = random.random() < 0.7
                    if taken:
                        price, remaining = wanted
                    waiting.append(("taken" if taken else "rejected", price, remaining))
            case _:
                count = random.randint(0, len(waiting))
                batch, waiting = waiting[:count], waiting[count:]
                number = await follow(wallet, batch, number, id, side)
                if not waiting and number:
                    held = (await funds(wallet, owner, asset))[1]
                    assert held >= needed(BTC, side, price, remaining, RATES)
    number = await follow(wallet, waiting, number, id, side)
    await finish(wallet, trades=(made(number, price, remaining, id, side),), ended=f"{id} x")
    assert (await funds(wallet, owner, asset))[1] == 0
    assert (await wallet.reconciliation.check()).is_clean


def made(number: int, price: int, quantity: int, id: str, side: Side) -> Trade:
    return trade(
        number,
        price,
        quantity,
        "buy",
        **{"taker": id, "maker": "x"} if side == "buy" else {"taker": "x", "maker": id},
    )


async def follow(wallet: Wallet, batch: list[tuple[str, int, int]], number: int, id: str, side: Side) -> int:
    trades: list[Trade] = []
    seen, price, remaining = 0, None, None
    for what, at, lots_ in batch:
        if what == "trade":
            trades.append(made(number := number + 1, at, lots_, id, side))
            remaining = None if remaining is None else remaining - lots_
        else:
            seen += 1
            if what == "taken":
                price, remaining = at, lots_
    replaced = (Replaced(id, seen, price, remaining),) if seen else ()
    await finish(wallet, trades=tuple(trades), replaced=replaced)
    return number + 1


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), side=st.sampled_from(["buy", "sell"]))
def test_a_hold_is_never_below_what_the_order_needs(
    tmp_path_factory: pytest.TempPathFactory, seed: int, side: Side
) -> None:
    async def work(path: Path) -> None:
        database = Database(f"sqlite+aiosqlite:///{path}/orders.db")
        await schema.to(database)
        try:
            made_ = Wallet.of(database, WalletSettings(), Clock())
            for owner in ("buyer", "seller"):
                await deposit(made_, owner, "USD", 1000 * DOLLAR)
                await deposit(made_, owner, "BTC", 10 * 10**8)
            await live(made_, Random(seed), side)
        finally:
            await database.close()

    asyncio.run(work(tmp_path_factory.mktemp("orders")))
