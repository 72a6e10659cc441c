"""What every bus adapter promises."""

import asyncio
from contextlib import suppress
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from app.kit.bus import Bus, Message, Record, Subscription, Topic, kafka
from app.kit.bus.kafka import KafkaBus
from app.kit.errors import Unavailable

SECONDS = 30.0


@pytest.fixture
async def topic(bus: Bus) -> str:
    name = f"test-{uuid4().hex[:8]}"
    await bus.ensure([Topic(name, partitions=3, retention_seconds=3600)])
    return name


def records(count: int, key: str = "k") -> list[Record]:
    return [Record(key, str(number).encode()) for number in range(count)]


async def receive(subscription: Subscription, count: int) -> list[Message]:
    found: list[Message] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            found += await subscription.batch(limit=100, seconds=0.5)
    return found


async def test_keeps_the_order_of_each_key(bus: Bus, topic: str) -> None:
    subscription = await bus.subscribe([topic], "readers")
    keys = [f"key-{number}" for number in range(5)]
    await bus.publish(topic, [Record(key, f"{key}:{n}".encode()) for n in range(20) for key in keys])
    found = await receive(subscription, 100)
    for key in keys:
        assert [m.value.decode() for m in found if m.key == key] == [f"{key}:{n}" for n in range(20)]
        assert len({m.partition for m in found if m.key == key}) == 1
    await subscription.close()


async def test_a_group_shares_the_messages(bus: Bus, topic: str) -> None:
    first = await bus.subscribe([topic], "team")
    second = await bus.subscribe([topic], "team")
    published = [Record(f"key-{number}", b"x") for number in range(60)]
    await bus.publish(topic, published)
    done: set[str] = set()
    taken: dict[Subscription, list[Message]] = {first: [], second: []}
    async with asyncio.timeout(SECONDS):
        while len(done) < 60:
            for member, waiting in taken.items():
                waiting += await member.batch(limit=100, seconds=0.2)
                # Refused while the group shares its partitions out anew.
                with suppress(Unavailable):
                    await member.commit(waiting)
                    done |= {message.key for message in waiting}
                    waiting.clear()
    await first.close()
    await second.close()
    third = await bus.subscribe([topic], "team")
    await bus.publish(topic, [Record("after", b"")])
    assert {m.key for m in await receive(third, 1)} == {"after"}
    await third.close()


async def test_every_reader_without_group_sees_all_from_now_on(bus: Bus, topic: str) -> None:
    await bus.publish(topic, records(5))
    readers = [await bus.subscribe([topic], None) for _ in range(2)]
    await bus.publish(topic, [Record("k", b"new")])
    for reader in readers:
        assert [m.value for m in await receive(reader, 1)] == [b"new"]
        await reader.close()


async def test_a_new_group_begins_with_the_oldest_message(bus: Bus, topic: str) -> None:
    await bus.publish(topic, records(5))
    subscription = await bus.subscribe([topic], "late")
    assert [m.value for m in await receive(subscription, 5)] == [r.value for r in records(5)]
    await subscription.close()


async def test_what_was_not_committed_comes_again(bus: Bus, topic: str) -> None:
    await bus.publish(topic, records(10))
    first = await bus.subscribe([topic], "careful")
    found = await receive(first, 10)
    await first.commit(found[:4])
    await first.close()
    second = await bus.subscribe([topic], "careful")
    assert [m.value for m in await receive(second, 6)] == [m.value for m in found[4:]]
    await second.close()


async def test_nothing_new_is_an_empty_batch(bus: Bus, topic: str) -> None:
    subscription = await bus.subscribe([topic], "patient")
    assert await subscription.batch(limit=10, seconds=0.1) == []
    await subscription.close()


async def test_limit_holds(bus: Bus, topic: str) -> None:
    await bus.publish(topic, records(10))
    subscription = await bus.subscribe([topic], "small-steps")
    sizes = []
    async with asyncio.timeout(SECONDS):
        while sum(sizes) < 10:
            sizes.append(len(await subscription.batch(limit=3, seconds=0.5)))
    assert max(sizes) <= 3
    await subscription.close()


async def test_what_comes_a_little_later_is_waited_for(bus: Bus, topic: str) -> None:
    subscription = await bus.subscribe([topic], "patient")
    await bus.publish(topic, records(1))
    reading = asyncio.create_task(subscription.batch(limit=2, seconds=SECONDS, gather=SECONDS))
    await bus.publish(topic, records(1))
    async with asyncio.timeout(SECONDS):
        assert len(await reading) == 2, "the limit ends the wait"
    await subscription.close()


async def test_a_missing_topic_is_unavailable(bus: Bus) -> None:
    with pytest.raises(Unavailable, match="no-such-topic"):
        await bus.subscribe(["no-such-topic"], "readers")


async def test_ensuring_twice_adds_partitions_and_keeps_messages(bus: Bus, topic: str) -> None:
    await bus.publish(topic, records(3))
    await bus.ensure([Topic(topic, partitions=5, retention_seconds=7200)])
    subscription = await bus.subscribe([topic], "again")
    assert len(await receive(subscription, 3)) == 3
    await bus.publish(topic, [Record(f"key-{n}", b"") for n in range(50)])
    assert len({m.partition for m in await receive(subscription, 50)}) > 3
    await subscription.close()


async def test_tells_how_far_a_consumer_is_behind(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    if not isinstance(bus, KafkaBus):
        pytest.skip("only the bus between processes tells its lag")
    monkeypatch.setattr(kafka, "_LAG_SECONDS", 0.05)
    topic, group = f"test-{uuid4().hex[:8]}", f"team-{uuid4().hex[:8]}"
    await bus.ensure([Topic(topic, partitions=1, retention_seconds=3600)])
    await bus.publish(topic, records(10))
    subscription = await bus.subscribe([topic], group)

    def lag() -> float | None:
        return REGISTRY.get_sample_value("bus_consumer_lag", {"topic": topic, "group": group})

    async def until(expected: float | None) -> None:
        async with asyncio.timeout(SECONDS):
            while lag() != expected:
                await asyncio.sleep(0.02)

    taken: list[Message] = []
    async with asyncio.timeout(SECONDS):
        while len(taken) < 3:
            taken += await subscription.batch(limit=1, seconds=0.5)
    await until(7)
    await receive(subscription, 7)
    await until(0)
    await bus.close()
    assert lag() is None, "what is still subscribed is closed with it"
