"""Trades of the matching engine become positions, each once."""

import asyncio
import random
from collections import defaultdict

import pytest

from app.events.envelope import Envelope
from app.events.matching import MatchingOutput
from app.events.stream import fitting
from app.instruments import INSTRUMENTS
from app.kit import outbox
from app.kit.bus.memory import MemoryBus
from app.kit.database import Database
from app.portfolio.position import Position
from app.portfolio.repository import Entry
from app.portfolio.service import Portfolio
from app.wallet.ledger.assets import notional
from tests.app.outputs import accepted, output, records, trade
from tests.app.portfolio.conftest import Prices, apply

OWNERS = ("anna", "ben", "cleo", "dora")
SYMBOLS = ("BTC-USD", "EUR-GBP", "AAPL")


def streams(chance: random.Random, trades: int) -> list[MatchingOutput]:
    """Outputs of some symbols, mixed; each in order."""
    made, last = [], dict.fromkeys(SYMBOLS, 0)
    at = 1_000
    while trades > 0:
        symbol = chance.choice(SYMBOLS)
        at += chance.randrange(-20, 100)
        changes = []
        for _ in range(chance.randrange(1, 6)):
            last[symbol] += 1
            if chance.random() < 0.3:
                changes.append(accepted(last[symbol]))
                continue
            trades -= 1
            changes.append(
                trade(
                    last[symbol],
                    chance.choice(OWNERS),
                    chance.choice(OWNERS),
                    price=chance.randrange(1, 1000),
                    quantity=chance.randrange(1, 50),
                    taker_side=chance.choice(("buy", "sell")),
                )
            )
        made.append(output(changes, symbol, at=max(at, 0)))
    return made


async def entries(portfolio: Portfolio, owner: str, symbol: str) -> list[Entry]:
    async with portfolio.database.transaction(read_only=True) as session:
        found = await portfolio.repository.entries(session, owner, symbol, None, 10_000)
    return found[::-1]


@pytest.mark.parametrize("seed", range(3))
async def test_positions_are_those_of_the_trades_whatever_comes_again(
    portfolio: Portfolio, memory_bus: MemoryBus, seed: int
) -> None:
    chance = random.Random(seed)
    made = streams(chance, 400)
    delivered: list[MatchingOutput] = []
    for number, one in enumerate(made):
        delivered.append(one)
        if chance.random() < 0.2:
            delivered += made[max(0, number - chance.randrange(20)) : number + 1]
    await memory_bus.publish("matching.output", records(delivered))

    async def no_gap(symbol: str, after: int) -> None:
        raise AssertionError(f"nothing is missing of {symbol} behind {after}")

    wanted: dict[tuple[str, str], list[tuple[str, int, int, int]]] = defaultdict(list)
    for one in made:
        for change in one.changes:
            if change.kind == "trade":
                buyer, seller = (
                    (change.taker_owner, change.maker_owner)
                    if change.taker_side == "buy"
                    else (change.maker_owner, change.taker_owner)
                )
                deal = (change.sequence, change.price, change.quantity)
                wanted[buyer, one.symbol].append(("buy", *deal))
                wanted[seller, one.symbol].append(("sell", *deal))
    total = sum(len(found) for found in wanted.values())
    task = asyncio.create_task(portfolio.follow(memory_bus, no_gap))
    async with asyncio.timeout(60):
        while sum([len(await entries(portfolio, *key)) for key in wanted]) < total:
            assert not task.done(), task.exception()
            await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait((task,))
    for (owner, symbol), deals in wanted.items():
        found = await entries(portfolio, owner, symbol)
        assert [(e.side, e.sequence, e.price, e.quantity) for e in found] == deals
        assert [e.number for e in found] == list(range(1, len(deals) + 1))
        assert [e.at for e in found] == sorted(e.at for e in found)
        lots = cash = 0
        for entry in found:
            sign = 1 if entry.side == "buy" else -1
            lots += sign * entry.quantity
            cash -= sign * entry.quantity * entry.price
            assert (entry.lots, entry.realised - entry.cost) == (lots, cash)
        assert sum(e.gained for e in found) == found[-1].realised
        async with portfolio.database.transaction(read_only=True) as session:
            (held,) = (await portfolio.repository.held(session, [(owner, symbol)])).values()
        assert (held.position, held.entries) == (found[-1].position, len(deals))
        moments = sorted({e.at for e in found})
        for start, end in ((None, None), (moments[0], moments[-1]), (moments[len(moments) // 2], None)):
            async with portfolio.database.transaction(read_only=True) as session:
                realised = await portfolio.repository.realised(session, owner, start, end)
            inside = [e for e in found if (start or 0) <= e.at and (end is None or e.at < end)]
            assert realised[symbol] == sum(e.gained for e in inside)
    async with portfolio.database.transaction(read_only=True) as session:
        found_all = [await portfolio.repository.positions(session, owner) for owner in OWNERS]
    for symbol in SYMBOLS:
        # What one gets another gives.
        assert sum(one[symbol].position.lots for one in found_all) == 0
        assert sum(one[symbol].position.realised - one[symbol].position.cost for one in found_all) == 0


async def test_how_the_stream_is_cut_makes_no_difference(portfolio: Portfolio) -> None:
    made = [one for one in streams(random.Random(7), 60) if one.symbol == "BTC-USD"]
    places: dict[str, int] = {}
    for begin in range(0, len(made), 3):
        for part in (made[begin : begin + 2], made[begin : begin + 3]):
            found = fitting(part, places)
            places |= found.places
            await apply(portfolio, found.outputs)
    expected = Position()
    for one in made:
        for change in one.changes:
            if change.kind == "trade":
                for owner, side in (
                    (change.taker_owner, change.taker_side),
                    (change.maker_owner, "sell" if change.taker_side == "buy" else "buy"),
                ):
                    if owner == "anna" and change.maker_owner != change.taker_owner:
                        expected = expected.traded(side, change.price, change.quantity)
                if change.maker_owner == change.taker_owner == "anna":
                    expected = expected.traded("buy", change.price, change.quantity)
                    expected = expected.traded("sell", change.price, change.quantity)
    async with portfolio.database.transaction(read_only=True) as session:
        assert (await portfolio.repository.positions(session, "anna"))["BTC-USD"].position == expected


async def test_changes_are_told_once_for_each_position(
    portfolio: Portfolio, database: Database, memory_bus: MemoryBus, prices: Prices
) -> None:
    await prices.set("BTC-USD", 130)
    await apply(
        portfolio,
        [
            output([trade(1, "anna", "ben", price=100, quantity=3), accepted(2)]),
            output([trade(3, "ben", "anna", price=120, quantity=1)]),
            output([trade(1, "anna", "ben", price=7, quantity=1)], "AAPL"),
        ],
    )
    await outbox.Relay(database, memory_bus).relay()
    subscription = await memory_bus.subscribe(["portfolio-events"], "test")
    told = {
        (event.id, event.key, event.type): event.payload
        for event in [Envelope.decode(m.value) for m in await subscription.batch(100, 0.1)]
    }
    assert len(told) == 8

    def units(amount: int) -> int:
        return notional(INSTRUMENTS["BTC-USD"], 1, amount)

    assert told["position:BTC-USD:3:sell", "anna", "PositionUpdated"] == {
        "account": "anna",
        "symbol": "BTC-USD",
        "quantity": 2,
        "cost": units(200),
    }
    assert told["pnl:BTC-USD:3:buy", "ben", "PnLCalculated"] == {
        "account": "ben",
        "symbol": "BTC-USD",
        "realised": units(-20),
        "unrealised": units(-2 * 130 + 200),
    }
    # Without a mark, the price of the trade counts.
    assert told["pnl:AAPL:1:buy", "anna", "PnLCalculated"]["unrealised"] == 0


async def test_a_trade_with_oneself_is_two_entries(portfolio: Portfolio) -> None:
    await apply(portfolio, [output([trade(1, "anna", "anna", price=100, quantity=3)])])
    found = await entries(portfolio, "anna", "BTC-USD")
    assert [(e.side, e.liquidity, e.lots, e.cost, e.realised) for e in found] == [
        ("buy", "taker", 3, 300, 0),
        ("sell", "maker", 0, 0, 0),
    ]
    assert [e.order_id for e in found] == [3, 2]
