"""What holds of the exchange after any history of deaths, repeats, delays and losses."""

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from app.events.envelope import Envelope
from app.events.matching import Change, MatchingOutput, OrderAccepted, OrderCancelled, TradeMade
from app.instruments import INSTRUMENTS
from app.wallet.ledger.accounts import AccountKind
from app.wallet.ledger.assets import base_of, base_units, notional
from tests.app.matching.machine import command, once
from tests.app.system.simulation import ASSETS, FUNDS, OWNERS, SYMBOLS, Simulation


def _changes(simulation: Simulation, symbol: str) -> list[Change]:
    outputs: list[MatchingOutput] = []
    for value in simulation.log.messages.get(symbol, []):
        content = Envelope.decode(value).content()
        assert isinstance(content, MatchingOutput)
        outputs.append(content)
    return once(outputs)


async def _run(directory: Path, seed: int, steps: int) -> None:
    simulation = Simulation(directory, seed)
    await simulation.begin()
    try:
        for _ in range(steps):
            await simulation.step()
        await simulation.settle()
        before = await simulation.state_hashes()
        await simulation.restart()
        assert await simulation.state_hashes() == before
        await _check(simulation)
        for owner in OWNERS:
            await simulation.send(
                [command({"kind": "cancel_all", "owner": owner, "symbol": None})], faults=False
            )
        await simulation.settle()
        await _check(simulation)
        await _check_nothing_is_held(simulation)
        assert simulation.deaths > 0
    finally:
        await simulation.end()


async def _check(simulation: Simulation) -> None:
    balances: Counter[tuple[str, str]] = Counter()
    expected: Counter[tuple[str, str]] = Counter(
        {(owner, asset): FUNDS for owner in OWNERS for asset in ASSETS}
    )
    async with simulation.database.transaction(read_only=True) as session:
        accounts = (
            await session.execute(text("SELECT owner, asset, kind, balance FROM ledger_accounts"))
        ).all()
        orders = (await session.execute(text("SELECT * FROM orders"))).mappings().all()
        fills = (await session.execute(text("SELECT * FROM fills"))).mappings().all()
        settled = (await session.execute(text("SELECT * FROM wallet_settlements"))).mappings().all()
        positions = (await session.execute(text("SELECT * FROM portfolio_positions"))).mappings().all()
    for asset in ASSETS:
        assert sum(row.balance for row in accounts if row.asset == asset) == 0
    for row in accounts:
        if row.kind in (AccountKind.AVAILABLE, AccountKind.HELD):
            balances[row.owner, row.asset] += row.balance

    executed: Counter[int] = Counter()
    gone: Counter[int] = Counter()
    lots: Counter[tuple[str, str]] = Counter()
    trades = 0
    for symbol in SYMBOLS:
        instrument = INSTRUMENTS[symbol]
        for change in _changes(simulation, symbol):
            if isinstance(change, TradeMade):
                trades += 1
                executed[change.maker_order_id] += change.quantity
                executed[change.taker_order_id] += change.quantity
                taker, maker = change.taker_owner, change.maker_owner
                buyer, seller = (taker, maker) if change.taker_side == "buy" else (maker, taker)
                paid = notional(instrument, change.price, change.quantity)
                goods = base_units(instrument, change.quantity)
                expected[buyer, "USD"] -= paid
                expected[seller, "USD"] += paid
                expected[buyer, base_of(instrument)] += goods
                expected[seller, base_of(instrument)] -= goods
                lots[buyer, symbol] += change.quantity
                lots[seller, symbol] -= change.quantity
            elif isinstance(change, OrderCancelled):
                gone[change.order_id] += change.quantity
    assert trades == len(settled)
    assert len(fills) == 2 * trades
    owner_of = {row["order_id"]: row["owner"] for row in orders}
    for row in settled:
        expected[owner_of[int(row["buy_order_id"])], "USD"] -= row["buyer_fee"]
        expected[owner_of[int(row["sell_order_id"])], "USD"] -= row["seller_fee"]
    assert {key: balances[key] for key in expected} == dict(expected)

    for row in orders:
        if row["status"] == "rejected":
            assert row["filled"] == 0
            continue
        assert row["filled"] == executed[row["order_id"]]
        assert row["filled"] + row["remaining"] + gone[row["order_id"]] == row["quantity"], dict(row)
    assert {(row["owner"], row["symbol"]): row["lots"] for row in positions if row["lots"]} == {
        key: value for key, value in lots.items() if value
    }
    accepted = {
        c.order_id for symbol in SYMBOLS for c in _changes(simulation, symbol) if isinstance(c, OrderAccepted)
    }
    told = {state.order_id for _, result in simulation.answers.values() for state in result.orders}
    assert accepted <= {row["order_id"] for row in orders}
    assert told <= {row["order_id"] for row in orders}


async def _check_nothing_is_held(simulation: Simulation) -> None:
    async with simulation.database.transaction(read_only=True) as session:
        held = (
            await session.execute(
                text("SELECT owner, asset, balance FROM ledger_accounts WHERE kind = 'held' AND balance <> 0")
            )
        ).all()
    assert held == []


@pytest.mark.parametrize("seed", range(4))
async def test_the_books_are_whole_after_deaths_and_a_faulty_bus(tmp_path: Path, seed: int) -> None:
    await _run(tmp_path, seed, steps=60)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_the_books_are_whole_after_hundreds_of_histories(tmp_path: Path) -> None:
    for seed in range(1000, 1200):
        directory = tmp_path / str(seed)
        directory.mkdir()
        print(f"seed {seed}", flush=True)
        await _run(directory, seed, steps=120)
