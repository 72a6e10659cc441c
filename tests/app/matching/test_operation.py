"""Outages, overload, publishing again, changes of the leader, and what the leader does by itself."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.events.matching import MatchingOutput, OrderCancelled
from app.exchange.terms import CancelReason
from app.kit.problems import Problem
from app.matching.models import SnapshotRow
from app.matching.settings import MatchingSettings
from app.matching.term import Term
from app.orders.models import OrderRow
from app.risk.limits import DEFAULTS, Limits
from tests.app.matching.machine import (
    PRICE,
    SECONDS,
    SYMBOL,
    Machine,
    StrikingBus,
    command,
    once,
    told,
    until_leading,
)


async def until_on_the_bus(machine: Machine, sequence: int, copies: int = 1) -> list[MatchingOutput]:
    async with asyncio.timeout(SECONDS):
        while True:
            outputs = await machine.outputs()
            if sum(output.first <= sequence <= output.last for output in outputs) >= copies:
                return outputs
            await asyncio.sleep(0.01)


def strike(machine: Machine, *, away: bool) -> None:
    assert isinstance(machine.bus, StrikingBus)
    machine.bus.away = away


async def test_an_outage_of_the_bus_is_not_noticed_until_too_much_waits(machine: Machine) -> None:
    machine.settings = MatchingSettings.load(most_unpublished=3)
    async with machine.leading() as engine:
        strike(machine, away=True)
        for _ in range(3):
            (result,) = await told(engine, machine.place("anna", "sell", 1))
            assert result.code == "ok"
        with pytest.raises(Problem) as refused:
            await engine.submit([machine.place("anna", "sell", 1)])
        assert (refused.value.status, refused.value.code) == (503, "overloaded")
        assert refused.value.headers["Retry-After"] == "1"
        assert await machine.outputs() == []
        strike(machine, away=False)
        assert len(once(await until_on_the_bus(machine, 3))) == 3
        (result,) = await told(engine, machine.place("anna", "sell", 1))
        assert result.code == "ok"


async def test_more_than_may_wait_is_refused_or_left_unanswered(machine: Machine) -> None:
    machine.settings = MatchingSettings.load(most_waiting=2)
    async with machine.leading() as engine:
        orders = [machine.place("anna", "sell", 1) for _ in range(5)]
        results = await engine.submit(orders)
        assert [result is not None for result in results] == [True, True, False, False, False]
        again = [result for order in orders for result in await told(engine, order)]
        assert [result.repeated for result in again] == [True, True, False, False, False]


async def test_what_is_published_again_is_the_same(machine: Machine) -> None:
    machine.settings = MatchingSettings.load(snapshot_commands=7, snapshot_seconds=1)
    async with machine.leading() as engine:
        for number in range(12):
            await told(engine, machine.place("anna", "sell", 2, PRICE + number % 3))
            await told(engine, machine.place("ben", "buy", 3, PRICE + 1))
        newest = int(engine.state()[SYMBOL]["sequence"])
        hashes = {symbol: state["state_hash"] for symbol, state in engine.state().items()}
        before = await until_on_the_bus(machine, newest)
        for after in (newest, newest - 1, newest // 2, 0):
            copies = sum(output.last >= newest for output in await machine.outputs())
            await engine.republish(SYMBOL, after)
            if after < newest:
                await until_on_the_bus(machine, newest, copies + 1)
        everything = await machine.outputs()
        assert once(everything) == once(before)
        assert [output.answers for output in everything[len(before) :] if output.first == 1] == [
            before[0].answers
        ]
        assert {symbol: state["state_hash"] for symbol, state in engine.state().items()} == hashes
        with pytest.raises(Problem) as refused:
            await engine.republish(SYMBOL, newest + 1)
        assert refused.value.code == "sequence-ahead"


async def test_a_damaged_snapshot_does_not_end_the_leader(machine: Machine) -> None:
    async with machine.leading() as engine:
        await told(engine, machine.place("anna", "sell", 1))
        term = engine._term
        assert isinstance(term, Term)
        await term.snapshot()
        async with machine.database.transaction() as session:
            await session.execute(update(SnapshotRow).values(state=b"damaged"))
        await engine.republish("ETH-USD", 0)
        await engine.republish(SYMBOL, 0)
        await until_on_the_bus(machine, 1, copies=2)
        assert engine._term is term


async def test_old_journal_is_removed_and_then_told_to_be_gone(machine: Machine) -> None:
    machine.settings = MatchingSettings.load(keep_days=0)
    for _ in range(2):
        async with machine.leading() as engine:
            await told(engine, machine.place("anna", "sell", 1))
        machine.clock.advance(1)
    async with machine.leading() as engine:
        term = engine._term
        assert isinstance(term, Term)
        await term.keep_progress()
        await term.prune()
        assert await machine.batches() == []
        with pytest.raises(Problem) as refused:
            await engine.republish(SYMBOL, 0)
        assert refused.value.code == "journal-too-short"
        (result,) = await told(engine, machine.place("anna", "sell", 1))
        assert result.orders[0].order_id == 3
        assert engine.depth(SYMBOL, 1).asks[0].quantity == 3


async def test_another_replica_takes_over(machine: Machine) -> None:
    standby, stopping = machine.engine(), asyncio.Event()
    async with machine.leading() as engine:
        task = asyncio.create_task(standby.run(stopping))
        async with asyncio.timeout(SECONDS):
            await standby.settled.wait()
        with pytest.raises(Problem) as refused:
            standby.depth(SYMBOL, 1)
        assert (refused.value.status, refused.value.code) == (421, "not-leader")
        assert refused.value.members == {"leader": "http://here:1"}
        order = machine.place("anna", "sell", 7)
        await told(engine, order)
    await until_leading(standby, task)
    assert standby.depth(SYMBOL, 1).asks[0].quantity == 7
    with pytest.raises(Problem):
        await engine.submit([order])
    stopping.set()
    await task


async def cancelled(machine: Machine, reason: CancelReason) -> OrderCancelled:
    """The first order that ends like that."""
    async with asyncio.timeout(SECONDS):
        while True:
            changes = once(await machine.outputs())
            for change in changes:
                if isinstance(change, OrderCancelled):
                    assert change.reason == reason
                    return change
            await asyncio.sleep(0.01)


async def test_orders_expire_while_nothing_happens(machine: Machine) -> None:
    async with machine.leading() as engine:
        until = machine.clock.now + 5000
        order = machine.place("anna", "sell", 7, time_in_force="gtd", expires_at=until)
        await told(engine, order)
        machine.clock.advance(5)
        assert (await cancelled(machine, CancelReason.EXPIRED)).quantity == 7


async def test_a_dead_mans_switch_survives_the_leader(machine: Machine) -> None:
    async with machine.leading() as engine:
        await told(engine, machine.place("anna", "sell", 7), machine.place("ben", "buy", 1, PRICE - 9))
        (result,) = await told(engine, command({"kind": "cancel_after", "owner": "anna", "seconds": 30}))
        assert result.code == "ok"
    machine.clock.advance(29)
    async with machine.leading() as engine:
        assert engine.depth(SYMBOL, 1).asks[0].quantity == 7
        machine.clock.advance(1)
        assert (await cancelled(machine, CancelReason.MASS_CANCEL)).owner == "anna"
        assert engine.depth(SYMBOL, 1).asks == ()
        assert engine.depth(SYMBOL, 1).bids[0].quantity == 1
        await told(engine, machine.place("anna", "sell", 7))
        machine.clock.advance(60)
        await told(engine, machine.place("anna", "sell", 1))
        assert engine.depth(SYMBOL, 1).asks[0].quantity == 8


async def test_a_kill_switch_cancels_what_is_open(machine: Machine) -> None:
    class Switched:
        version_ = 0
        limits = Limits()

        async def load(self, _: object) -> tuple[int, Limits]:
            return self.version_, self.limits

        async def version(self, _: object) -> int:
            return self.version_

    switches = Switched()
    async with machine.leading(limits=switches) as engine:
        await told(engine, machine.place("anna", "sell", 7), machine.place("ben", "buy", 1, PRICE - 9))
        switches.version_, switches.limits = 1, Limits(stopped_users=frozenset({"anna"}))
        await engine.reload_risk()
        assert (await cancelled(machine, CancelReason.MASS_CANCEL)).owner == "anna"
        (result,) = await told(engine, machine.place("anna", "sell", 7))
        assert (result.code, result.reason) == ("rejected", "kill_switch_user")
        assert engine.depth(SYMBOL, 1).bids[0].quantity == 1


async def test_orders_that_come_too_fast_leave_no_trace(machine: Machine) -> None:
    class Slow:
        async def load(self, _: object) -> tuple[int, Limits]:
            return 0, Limits(defaults=replace(DEFAULTS, order_rate=1, order_burst=2))

        async def version(self, _: object) -> int:
            return 0

    async with machine.leading(limits=Slow()) as engine:
        orders = [machine.place("anna", "sell", 1) for _ in range(3)]
        *taken, refused = await told(engine, *orders)
        assert [result.code for result in taken] == ["ok", "ok"]
        assert (refused.code, refused.reason, refused.orders) == ("rejected", "order_rate_exceeded", ())
        machine.clock.advance(1)
        (again,) = await told(engine, orders[2])
        assert (again.code, again.repeated) == ("ok", False)
    async with machine.database.transaction(read_only=True) as session:
        assert await session.scalar(select(func.count()).select_from(OrderRow)) == 3


async def test_a_market_closes_and_opens_by_its_calendar(machine: Machine) -> None:
    async with machine.leading() as engine:
        assert engine.depth("AAPL", 1).phase == "continuous"
        machine.clock.advance(6 * 3600)  # 2026-09-21 is a Monday, the clock begins at 10:13 in New York
        async with asyncio.timeout(SECONDS):
            while engine.depth("AAPL", 1).phase != "auction":
                await asyncio.sleep(0.01)
        market = machine.place(
            "ben", "buy", 1, price=0, order_type="market", time_in_force="ioc", symbol="AAPL"
        )
        (result,) = await told(engine, market)
        assert (result.code, result.reason) == ("rejected", "market_closed")


async def test_a_dead_mans_switch_waits_for_the_end_of_a_halt(machine: Machine) -> None:
    def phase(name: str) -> Any:
        return command({"kind": "set_phase", "symbol": SYMBOL, "phase": name})

    async with machine.leading() as engine:
        await told(engine, machine.place("anna", "sell", 7), phase("halted"))
        await told(engine, command({"kind": "cancel_after", "owner": "anna", "seconds": 1}))
        (refused,) = await told(engine, machine.place("anna", "sell", 1))
        assert (refused.code, refused.reason) == ("rejected", "halted")
        machine.clock.advance(2)
        term = engine._term
        assert isinstance(term, Term)
        async with asyncio.timeout(SECONDS):
            while term.writer.deadlines["anna"] <= machine.clock.now:
                await asyncio.sleep(0.01)
        await told(engine, phase("continuous"))
        machine.clock.advance(2)
        assert (await cancelled(machine, CancelReason.MASS_CANCEL)).owner == "anna"
        assert term.writer.deadlines == {}


async def test_the_leader_answers_all_that_it_took_before_it_ends(machine: Machine) -> None:
    async with machine.leading() as engine:
        orders = [machine.place("anna", "sell", 1) for _ in range(30)]
        asked = asyncio.create_task(engine.submit(orders))
        await asyncio.sleep(0)
    results = await asked
    assert [result is not None and result.code for result in results] == ["ok"] * 30
    assert len(once(await machine.outputs())) == 30
    async with machine.database.transaction(read_only=True) as session:
        snapshot = await machine.parts().store.journal.snapshot(session, 100)
    assert snapshot is not None
    assert snapshot[0] == len(await machine.batches())
