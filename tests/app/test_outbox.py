"""Events leave exactly with their transaction and arrive in order."""

import asyncio
import time

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.accounts import UserCreated
from app.events.envelope import Envelope
from app.kit import inbox, outbox
from app.kit.bus import Record
from app.kit.bus.memory import MemoryBus
from app.kit.database import Database
from app.kit.errors import Unavailable


def created(user: str, number: int = 0) -> Envelope:
    return Envelope.of(UserCreated(user=f"{user}:{number}"), key=user, producer="test")


async def published(bus: MemoryBus) -> list[str]:
    subscription = await bus.subscribe(["user-events"], f"reader-{id(object())}")
    messages = await subscription.batch(limit=1000, seconds=0.05)
    await subscription.close()
    return [Envelope.decode(message.value).payload["user"] for message in messages]


async def test_a_rolled_back_transaction_leaves_no_event(database: Database, memory_bus: MemoryBus) -> None:
    async def change_of_mind() -> None:
        async with database.transaction() as session:
            await outbox.write(session, [created("a")])
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        await change_of_mind()
    assert await outbox.Relay(database, memory_bus).relay() == 0
    assert await published(memory_bus) == []


async def test_events_of_a_key_keep_their_order(database: Database, memory_bus: MemoryBus) -> None:
    for number in range(10):
        async with database.transaction() as session:
            await outbox.write(session, [created(user, number) for user in ("a", "b", "c")])
    assert await outbox.Relay(database, memory_bus).relay() == 30
    found = await published(memory_bus)
    for user in ("a", "b", "c"):
        assert [name for name in found if name.startswith(user)] == [f"{user}:{n}" for n in range(10)]
    async with database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(outbox.OutboxRow)) == 0


async def test_the_age_of_the_oldest_event_is_told(database: Database, memory_bus: MemoryBus) -> None:
    relay = outbox.Relay(database, memory_bus)
    async with database.transaction() as session:
        await outbox.write(session, [created("a"), created("b")])
        await session.execute(update(outbox.OutboxRow).values(created_at=time.time() - 100))
    assert await relay.relay() == 2
    assert 100 <= (REGISTRY.get_sample_value("outbox_oldest_age_seconds") or 0) < 200
    assert await relay.relay() == 0
    assert REGISTRY.get_sample_value("outbox_oldest_age_seconds") == 0


async def test_nothing_is_lost_while_the_bus_is_gone(database: Database, memory_bus: MemoryBus) -> None:
    async with database.transaction() as session:
        await outbox.write(session, [created("a")])

    class Gone(MemoryBus):
        async def publish(self, topic: str, records: object) -> None:
            raise Unavailable("bus", "gone")

    with pytest.raises(Unavailable):
        await outbox.Relay(database, Gone()).relay()
    assert await outbox.Relay(database, memory_bus).relay() == 1
    assert await published(memory_bus) == ["a:0"]


async def test_two_relays_do_not_publish_twice(postgresql_database: Database, memory_bus: MemoryBus) -> None:
    database = postgresql_database
    async with database.transaction() as session:
        await outbox.write(session, [created(f"user-{n}") for n in range(40)])
    relays = [outbox.Relay(database, memory_bus) for _ in range(3)]
    await asyncio.gather(*(relay.relay() for relay in relays))
    await relays[0].relay()
    assert sorted(await published(memory_bus)) == sorted(f"user-{n}:0" for n in range(40))


async def test_an_event_that_comes_twice_has_one_effect(database: Database, memory_bus: MemoryBus) -> None:
    event = created("a")
    effects: list[str] = []
    attempts = 0
    done = asyncio.Event()

    async def handler(_: AsyncSession, received: Envelope) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise Unavailable("database", "the first attempt fails")
        effects.append(received.id)
        if received.payload["user"] == "last:0":
            done.set()

    async def consume() -> None:
        while not done.is_set():
            try:
                await inbox.consume(memory_bus, database, "tests", ("user-events",), handler)
            except Unavailable:
                continue

    await memory_bus.publish("user-events", [Record("a", event.encode())] * 3)
    task = asyncio.create_task(consume())
    last = created("last")
    await memory_bus.publish("user-events", [Record("last", last.encode())])
    async with asyncio.timeout(30):
        await done.wait()
        while attempts < 3:
            await asyncio.sleep(0.01)
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=0.5)
    assert sorted(effects) == sorted([event.id, last.id])
