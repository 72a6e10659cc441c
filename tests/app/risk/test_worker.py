"""The worker that looks after margins: one at a time, and another one when it is gone."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.lease import Lease, LeaseLost
from app.risk.closing import MarginCalls
from app.risk.controls import Controls
from app.risk.margin_repository import MarginRepository
from app.risk.margin_service import MarginService
from app.risk.repository import LimitsRepository
from app.risk.service import Risk
from app.risk.settings import RiskSettings
from tests.app.risk.conftest import Engine
from tests.app.risk.test_closing import call, falling
from tests.app.risk.venue import Venue

SECONDS = 30.0


def process(database: Database, venue: Venue) -> Risk:
    return Risk.of(
        database, RiskSettings(), funds=venue, mark=venue.mark, engine=Engine(venue), clock=lambda: venue.now
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_another_process_goes_on(database: Database) -> None:
    venue = falling()
    venue.prices["BTC-USD"] = 3_600_000

    async def state(wanted: str) -> bool:
        found = await call(database)
        return found is not None and found.state == wanted

    first = asyncio.create_task(process(database, venue).run_margin())
    await until(lambda: state("called"))
    second = asyncio.create_task(process(database, venue).run_margin())
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    venue.now += 300_000
    await until(lambda: state("closed"))
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert len(venue.orders) == 2


async def test_a_process_that_lost_its_lease_changes_nothing(database: Database) -> None:
    venue = falling()
    old, new = (Lease(database, "risk-margin", "", 0.001) for _ in range(2))
    token = await old.acquire()
    assert token is not None

    async def taken() -> bool:
        return await new.acquire() is not None

    await until(taken)
    settings = RiskSettings()
    controls = Controls(database, LimitsRepository(database), venue.reload, lambda: venue.now)
    service = MarginService(venue, venue.mark, settings)
    calls = MarginCalls(
        database,
        MarginRepository(),
        service,
        controls,
        venue,
        lambda: venue.now,
        lambda session: old.check(session, token),
    )
    venue.prices["BTC-USD"] = 3_600_000
    with pytest.raises(LeaseLost):
        await calls.tick()
    assert await call(database) is None


async def test_one_owner_whose_order_is_not_answered_does_not_stop_the_others(database: Database) -> None:
    venue = falling()
    venue.prices["BTC-USD"] = 3_600_000
    for asset, holding in venue.funds["anna"].items():
        venue.move("zoe", asset, holding.free, holding.held)
    venue.owed["zoe"] = dict(venue.owed["anna"])
    risk = process(database, venue)
    engine = Engine(venue)

    async def submit(command: object) -> object:
        if getattr(command, "owner", "") == "anna":
            raise Unavailable("matching-engine", "away")
        return await venue.submit(command)  # type: ignore[arg-type]

    engine.submit = submit  # type: ignore[method-assign,assignment]

    async def check(_: object) -> None:
        return

    calls = MarginCalls(database, risk.calls, risk.margin, risk.controls, engine, lambda: venue.now, check)
    await calls.tick()
    venue.now += 300_000
    with pytest.raises(Unavailable):
        await calls.tick()
    async with database.transaction(read_only=True) as session:
        states = {row.owner: row.state for row in await risk.calls.live(session)}
    assert states == {"anna": "cancelling", "zoe": "selling"}
