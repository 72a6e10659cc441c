"""The wallet follows the matching engine: what its output says is what the ledger holds."""

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select

from app.events.matching import (
    Change,
    CommandRejected,
    MatchingOutput,
    OrderAccepted,
    OrderCancelled,
    OrderReduced,
    OrderReplaced,
    Side,
    TradeMade,
)
from app.events.models import StreamPositionRow
from app.kit.bus.memory import MemoryBus
from app.kit.database import Database
from app.wallet.fees import growth, needed
from app.wallet.orders import Amend, OrderHold, SettlementRefused
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from app.wallet.settlement import Settlement, work_of
from tests.app.outputs import output, records
from tests.app.wallet.books import Clock
from tests.app.wallet.test_orders import BTC, DOLLAR, FEES, RATES, balance, deposit, funds

SECONDS = 30.0


async def nothing(symbol: str, after: int) -> None:
    raise AssertionError((symbol, after))


@pytest.fixture
async def wallet(database: Database) -> Wallet:
    made = Wallet.of(database, WalletSettings(), Clock())
    for owner in ("anna", "ben"):
        await deposit(made, owner, "USD", 1000 * DOLLAR)
        await deposit(made, owner, "BTC", 10 * 10**8)
    return made


@pytest.fixture
def settlement(wallet: Wallet, memory_bus: MemoryBus) -> Settlement:
    return Settlement(memory_bus, wallet.database, wallet.orders, nothing)


async def hold(
    wallet: Wallet, id: int, owner: str, side: Side, price: int, lots: int, group: str = ""
) -> None:
    amount = needed(BTC, side, price, lots, RATES)
    holds = [OrderHold(str(id), owner, "BTC-USD", side, amount, group or None)]
    [result] = await wallet.transact(lambda session: wallet.orders.place(session, holds))
    assert result.done


async def apply(settlement: Settlement, wallet: Wallet, *changes: Change) -> None:
    outputs = [output([change]) for change in changes]
    await wallet.transact(lambda session: settlement.apply(session, outputs))


def trade(sequence: int, price: int, lots: int, *, buy: int, sell: int, left: tuple[int, int]) -> TradeMade:
    """The buyer is the taker; `left` are the remaining lots of buyer and seller."""
    return TradeMade(
        sequence=sequence,
        trade_id=sequence,
        price=price,
        quantity=lots,
        taker_side="buy",
        maker_order_id=sell,
        taker_order_id=buy,
        maker_owner="ben",
        taker_owner="anna",
        maker_remaining=left[1],
        taker_remaining=left[0],
    )


def replaced(sequence: int, order_id: int, price: int, remaining: int) -> OrderReplaced:
    return OrderReplaced(
        sequence=sequence,
        order_id=order_id,
        owner="anna",
        side="buy",
        quantity=remaining,
        price=price,
        stop_price=0,
        remaining=remaining,
        kept_priority=False,
    )


def rejected(sequence: int, command: str, order_id: int) -> CommandRejected:
    return CommandRejected.model_validate(
        {"sequence": sequence, "command": command, "order_id": order_id, "owner": "anna", "reason": "x"}
    )


def cancelled(sequence: int, order_id: int) -> OrderCancelled:
    return OrderCancelled(sequence=sequence, order_id=order_id, owner="anna", quantity=1, reason="user")


async def test_what_is_filled_is_paid_and_the_rest_is_free(wallet: Wallet, settlement: Settlement) -> None:
    await hold(wallet, 1, "ben", "sell", 1000, 10)
    await hold(wallet, 2, "anna", "buy", 2000, 4)
    changes = [
        OrderAccepted(sequence=1, order_id=1, owner="ben", side="sell", quantity=10, price=1000),
        OrderAccepted(sequence=2, order_id=2, owner="anna", side="buy", quantity=4, price=2000),
        trade(3, 1000, 4, buy=2, sell=1, left=(0, 6)),
        cancelled(4, 1),
    ]
    await wallet.transact(lambda session: settlement.apply(session, [output(changes)]))
    assert await funds(wallet, "anna", "BTC") == (10 * 10**8 + 4000, 0)
    assert await funds(wallet, "anna", "USD") == (1000 * DOLLAR - 40_000 - 80, 0)
    assert await funds(wallet, "ben", "BTC") == (10 * 10**8 - 4000, 0)
    assert await funds(wallet, "ben", "USD") == (1000 * DOLLAR + 40_000 - 40, 0)
    assert await balance(wallet.database, wallet.ledger, FEES) == 120
    assert (await wallet.reconciliation.check()).is_clean


async def test_orders_that_were_never_entered_hold_nothing(wallet: Wallet, settlement: Settlement) -> None:
    await hold(wallet, 1, "anna", "sell", 1, 5)
    holds = [OrderHold(id, "anna", "BTC-USD", "sell", 700, "2") for id in ("2", "3")]
    await wallet.transact(lambda session: wallet.orders.place(session, holds))
    await apply(settlement, wallet, rejected(1, "place", 1), rejected(2, "place", 2))
    assert await funds(wallet, "anna", "BTC") == (10 * 10**8, 0)


async def test_one_order_of_a_pair_ends_the_other(wallet: Wallet, settlement: Settlement) -> None:
    await hold(wallet, 9, "anna", "buy", 1000, 5)
    holds = [OrderHold(id, "ben", "BTC-USD", "sell", 5000, "1") for id in ("1", "2")]
    await wallet.transact(lambda session: wallet.orders.place(session, holds))
    await apply(settlement, wallet, trade(1, 1000, 1, buy=9, sell=2, left=(4, 4)), cancelled(2, 1))
    assert await funds(wallet, "ben", "BTC") == (10 * 10**8 - 5000, 4000)
    await apply(settlement, wallet, cancelled(3, 2), cancelled(4, 9))
    assert await funds(wallet, "ben", "BTC") == (10 * 10**8 - 1000, 0)
    assert (await funds(wallet, "anna", "USD"))[1] == 0


async def test_a_replaced_order_holds_what_it_needs(wallet: Wallet, settlement: Settlement) -> None:
    """Also when it trades, is reduced and is replaced again in the same batch."""
    await hold(wallet, 1, "anna", "buy", 1000, 10)
    await hold(wallet, 2, "ben", "sell", 1000, 10)
    for before, after in (((1000, 10), (3000, 10)), ((3000, 10), (2000, 12)), ((2000, 12), (9000, 12))):
        amends = [Amend("1", growth(BTC, "buy", before, after))]
        await wallet.transact(lambda session: wallet.orders.amend(session, amends))  # noqa: B023
    await apply(
        settlement,
        wallet,
        trade(1, 1000, 1, buy=1, sell=2, left=(9, 9)),
        replaced(2, 1, 3000, 9),
        trade(3, 3000, 2, buy=1, sell=2, left=(7, 7)),
        replaced(4, 1, 2000, 9),
        OrderReduced(sequence=5, order_id=1, owner="anna", quantity=1, remaining=8),
        trade(6, 2000, 3, buy=1, sell=2, left=(5, 4)),
        rejected(7, "replace", 1),
    )
    assert (await funds(wallet, "anna", "USD"))[1] == needed(BTC, "buy", 2000, 5, RATES)
    await apply(settlement, wallet, trade(8, 2000, 4, buy=1, sell=2, left=(1, 0)), cancelled(9, 1))
    assert (await funds(wallet, "anna", "USD"))[1] == 0
    assert (await funds(wallet, "ben", "BTC"))[1] == 0
    assert (await wallet.reconciliation.check()).is_clean


async def test_a_trade_that_nobody_holds_funds_for_stops_everything(
    wallet: Wallet, settlement: Settlement
) -> None:
    await hold(wallet, 1, "ben", "sell", 1000, 10)
    await hold(wallet, 2, "anna", "buy", 1000, 10)
    before = await funds(wallet, "anna", "USD")
    good = trade(1, 1000, 1, buy=2, sell=1, left=(9, 9))
    for wrong, reason in (
        (trade(2, 1000, 1, buy=3, sell=1, left=(0, 8)), "there is no order 3"),
        (trade(2, 1000, 12, buy=2, sell=1, left=(0, 1)), "amount_exceeds_pending"),
    ):
        with pytest.raises(SettlementRefused, match=reason):
            await apply(settlement, wallet, good, wrong, cancelled(3, 1))
        assert await funds(wallet, "anna", "USD") == before
        assert REGISTRY.get_sample_value("wallet_settlement_refused") == 1
    await apply(settlement, wallet, good)
    assert REGISTRY.get_sample_value("wallet_settlement_refused") == 0


@pytest.mark.parametrize(
    "after", [trade(2, 1, 1, buy=1, sell=2, left=(0, 1)), replaced(2, 1, 5, 5), cancelled(2, 1)]
)
def test_an_order_does_nothing_after_its_end(after: Change) -> None:
    changes: Sequence[Change] = [cancelled(1, 1), after]
    with pytest.raises(SettlementRefused, match="order 1 has ended"):
        work_of([output(changes)])
    work_of([output([cancelled(1, 1), rejected(2, "replace", 1), rejected(3, "cancel", 1)])])


async def test_the_stream_is_followed_once_however_often_it_comes(
    wallet: Wallet, settlement: Settlement, memory_bus: MemoryBus
) -> None:
    await hold(wallet, 1, "ben", "sell", 1000, 10)
    await hold(wallet, 2, "anna", "buy", 1000, 10)
    outputs: list[MatchingOutput] = [
        output([trade(n, 1000, 1, buy=2, sell=1, left=(10 - n, 10 - n))]) for n in range(1, 11)
    ]
    await memory_bus.publish("matching.output", records([*outputs[:6], *outputs[2:], *outputs[8:]]))
    task = asyncio.create_task(settlement.run())
    async with asyncio.timeout(SECONDS):
        while await place_of(wallet) < 10:
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await funds(wallet, "anna", "BTC") == (10 * 10**8 + 10_000, 0)
    assert await funds(wallet, "ben", "BTC") == (10 * 10**8 - 10_000, 0)
    assert (await funds(wallet, "anna", "USD"))[1] == 0


async def place_of(wallet: Wallet) -> int:
    async with wallet.database.transaction(read_only=True) as session:
        return await session.scalar(select(StreamPositionRow.sequence)) or 0
