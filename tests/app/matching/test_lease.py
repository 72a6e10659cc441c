"""A lease has one holder at a time, and a holder that lost it cannot write."""

import asyncio
import random

import pytest
from sqlalchemy import text

from app.kit.database import Database
from app.kit.lease import Lease, LeaseLost


def candidate(database: Database, ttl: float = 60.0, address: str = "http://here:1") -> Lease:
    return Lease(database, "thing", address, ttl)


async def expire(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("UPDATE leases SET expires_at = 0"))


async def test_a_lease_is_taken_renewed_and_released(database: Database) -> None:
    first, second = candidate(database), candidate(database, address="http://there:2")
    assert await first.holder() is None
    token = await first.acquire()
    assert token == 1
    assert await second.acquire() is None
    await first.renew(token)
    found = await second.holder()
    assert found is not None
    assert (found.address, found.token) == ("http://here:1", 1)
    await first.release(token)
    assert await first.holder() is None
    assert await second.acquire() == 2
    with pytest.raises(LeaseLost):
        await first.renew(token)
    await first.release(token)
    found = await first.holder()
    assert found is not None
    assert found.address == "http://there:2"


async def test_a_lease_whose_time_is_over_is_free(database: Database) -> None:
    first, second = candidate(database), candidate(database)
    token = await first.acquire()
    assert token is not None
    await expire(database)
    # As long as nobody took it, its last holder may go on.
    async with database.transaction() as session:
        await first.check(session, token)
    await first.renew(token)
    assert await second.acquire() is None
    await expire(database)
    assert await second.acquire() == token + 1
    async with database.transaction() as session:
        with pytest.raises(LeaseLost):
            await first.check(session, token)


async def test_a_successor_waits_for_a_transaction_that_checked(postgresql_database: Database) -> None:
    database = postgresql_database
    first, second = candidate(database), candidate(database)
    token = await first.acquire()
    assert token is not None
    await expire(database)
    async with database.transaction() as session:
        await first.check(session, token)
        taking = asyncio.create_task(second.acquire())
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        async with asyncio.timeout(30):
            while not await scalar(database, waiting):
                await asyncio.sleep(0)
        assert not taking.done()
        await session.execute(text("UPDATE leases SET address = address"))
    assert await taking == token + 1


async def scalar(database: Database, query: str) -> int:
    async with database.transaction(read_only=True) as session:
        return int(await session.scalar(text(query)) or 0)


@pytest.mark.parametrize("seed", range(3))
async def test_many_candidates_never_hold_it_together(database: Database, seed: int) -> None:
    rng = random.Random(seed)
    tokens: list[int] = []
    written: list[int] = []

    async def compete(lease: Lease) -> None:
        mine: int | None = None
        for _ in range(12):
            if mine is None:
                mine = await lease.acquire()
                if mine is not None:
                    tokens.append(mine)
                continue
            try:
                async with database.transaction() as session:
                    await lease.check(session, mine)
                    written.append(mine)
            except LeaseLost:
                mine = None
                continue
            if rng.random() < 0.3:
                await lease.release(mine)
                mine = None
            elif rng.random() < 0.3:
                await expire(database)

    await asyncio.gather(*(compete(candidate(database)) for _ in range(4)))
    assert sorted(tokens) == list(range(1, len(tokens) + 1))
    assert written == sorted(written)
