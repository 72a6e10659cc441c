"""Counts and marks: the same in one process, on a Redis server and on a cluster of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.counters import Counters, Limit, MemoryCounters
from app.auth.redis_counters import RedisCounters
from app.kit.errors import Unavailable
from infra.servers.backing import Redis, RedisCluster

LIMIT = Limit("test", free=3, first_pause=10, longest_pause=60, forgotten_after=3600)


@pytest.fixture(params=["memory", "redis", "redis_cluster"])
async def counters(request: pytest.FixtureRequest) -> AsyncIterator[Counters]:
    made: Counters
    if request.param == "memory":
        made = MemoryCounters()
    else:
        server: Redis | RedisCluster = request.getfixturevalue(request.param)
        made = RedisCounters(server.url, server.password)
    await made.ping()
    yield made
    await made.close()


@pytest.fixture
def subject() -> str:
    return uuid4().hex


async def test_pauses_double_up_to_the_longest(counters: Counters, subject: str) -> None:
    now = time.time()
    for _ in range(3):
        assert await counters.attempt(LIMIT, subject, now) == 0
    for pause in (10, 20, 40, 60, 60):
        assert await counters.attempt(LIMIT, subject, now) == pytest.approx(pause, abs=0.01)
        assert await counters.attempt(LIMIT, subject, now + pause - 1) == pytest.approx(1, abs=0.01)
        now += pause
        assert await counters.attempt(LIMIT, subject, now) == 0
    assert await counters.attempt(LIMIT, "another " + subject, now) == 0


async def test_forgetting_begins_anew(counters: Counters, subject: str) -> None:
    now = time.time()
    for _ in range(2):
        for _ in range(3):
            assert await counters.attempt(LIMIT, subject, now) == 0
        assert await counters.attempt(LIMIT, subject, now) > 0
        await counters.forget(LIMIT, subject)


async def test_an_attempt_can_be_taken_back(counters: Counters, subject: str) -> None:
    now = time.time()
    await counters.take_back(LIMIT, subject)
    for _ in range(10):
        assert await counters.attempt(LIMIT, subject, now) == 0
        await counters.take_back(LIMIT, subject)
    for _ in range(3):
        assert await counters.attempt(LIMIT, subject, now) == 0
    await counters.take_back(LIMIT, subject)
    assert await counters.attempt(LIMIT, subject, now) == 0
    assert await counters.attempt(LIMIT, subject, now) > 0


async def test_attempts_at_once_all_count(counters: Counters, subject: str) -> None:
    now = time.time()
    waits = await asyncio.gather(*(counters.attempt(LIMIT, subject, now) for _ in range(20)))
    assert sorted(wait > 0 for wait in waits) == [False] * 3 + [True] * 17


async def test_a_mark_is_set_once(counters: Counters, subject: str) -> None:
    now = time.time()
    done = await asyncio.gather(*(counters.first(subject, now, 60) for _ in range(10)))
    assert sorted(done) == [False] * 9 + [True]
    assert await counters.first("another " + subject, now, 60)


async def test_counts_and_marks_expire_on_the_server(redis: Redis, subject: str) -> None:
    counters = RedisCounters(redis.url, redis.password)
    await counters.attempt(LIMIT, subject, time.time())
    await counters.first(subject, time.time(), 60)
    left = [await counters._redis.pttl(name) for name in (f"auth:test:{subject}", f"auth:mark:{subject}")]
    assert 3_590_000 < left[0] <= 3_600_000
    assert 50_000 < left[1] <= 60_000
    await counters.close()


async def test_counts_and_marks_in_memory_do_not_grow_for_ever() -> None:
    counters, now = MemoryCounters(), 1000.0
    for n in range(25_000):
        now += 1
        await counters.attempt(LIMIT, str(n), now)
        assert await counters.first(str(n), now, 60)
    assert len(counters._counts) <= 10_001
    assert len(counters._marks) <= 10_001
    assert await counters.first("24990", now + 61, 60)


async def test_without_the_store_nothing_is_counted_in_silence() -> None:
    counters = RedisCounters("redis://127.0.0.1:1/0", None)
    for asked in (
        counters.attempt(LIMIT, "x", 0),
        counters.first("x", 0, 1),
        counters.forget(LIMIT, "x"),
        counters.ping(),
    ):
        with pytest.raises(Unavailable):
            await asked
    await counters.close()


@given(st.integers(0, 10_000))
def test_pauses_never_shrink_and_have_a_bound(attempts: int) -> None:
    assert LIMIT.pause(attempts) <= LIMIT.pause(attempts + 1) <= LIMIT.longest_pause
    assert (LIMIT.pause(attempts) > 0) == (attempts >= LIMIT.free)
