"""Margin calls and forced closes: what happens to an owner, whenever the process ends in between."""

import pytest
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.events.envelope import Envelope
from app.kit.database import Database
from app.kit.outbox import OutboxRow
from app.orders.schemas import PlaceBody
from app.risk.controls import Controls, Switch
from app.risk.margin import margin
from app.risk.margin_repository import MarginRepository
from app.risk.margin_service import MarginService
from app.risk.models import MarginCallRow
from app.risk.repository import LimitsRepository
from app.risk.settings import RiskSettings
from tests.app.risk.venue import UNIT, Crash, Fuse, Venue, calls

SETTINGS = RiskSettings()


def falling() -> Venue:
    """Anna owes 50,000 dollars and has 2 bitcoin, of which open orders hold one, and some Apple shares."""
    venue = Venue(prices={"BTC-USD": 6_500_000, "AAPL": 20_000, "USD-JPY": 150_000})
    venue.move("anna", "BTC", UNIT, UNIT)
    venue.move("anna", "AAPL", 30 * UNIT)
    venue.open_holds["anna"] = "BTC"
    venue.owed["anna"] = {"USD": 50_000 * UNIT}
    return venue


async def events(database: Database) -> list[Envelope]:
    async with database.transaction(read_only=True) as session:
        rows = await session.scalars(select(OutboxRow).order_by(OutboxRow.id))
        return [Envelope.decode(row.value) for row in rows]


async def told(database: Database) -> list[str]:
    return [found.type for found in await events(database)]


async def call(database: Database) -> MarginCallRow:
    async with database.transaction(read_only=True) as session:
        return (await session.scalars(select(MarginCallRow).order_by(MarginCallRow.id.desc()))).first()


async def stopped(database: Database) -> frozenset[str]:
    async with database.transaction(read_only=True) as session:
        return (await LimitsRepository(database).load(session))[1].stopped_users


async def ratio(venue: Venue) -> int | None:
    service = MarginService(venue, venue.mark, SETTINGS)
    balances = {asset: holding.total for asset, holding in venue.funds["anna"].items()}
    return margin(balances, venue.owed["anna"], service.prices(), service.haircuts).ratio_ppm


async def test_an_owner_above_maintenance_is_left_alone(database: Database) -> None:
    venue = falling()
    await calls(venue, database).tick()
    assert await call(database) is None
    assert await told(database) == []


async def test_a_call_that_is_answered_ends(database: Database) -> None:
    venue = falling()
    worker = calls(venue, database)
    venue.prices["BTC-USD"] = 3_600_000
    await worker.tick()
    await worker.tick()
    found = await call(database)
    assert (found.state, found.deadline - venue.now) == ("called", 300_000)
    assert (found.equity, found.debt, found.required) == (9_100 * UNIT, 50_000 * UNIT, 12_500 * UNIT)
    assert await told(database) == ["MarginCall", "SendAlert"]
    venue.move("anna", "USD", 4_000 * UNIT)
    await worker.tick()
    assert (await call(database)).state == "met"
    assert (await told(database))[2:] == ["MarginCallEnded"]
    assert venue.orders == {}


async def test_much_too_little_leaves_less_time(database: Database) -> None:
    venue = falling()
    worker = calls(venue, database)
    venue.prices["BTC-USD"] = 3_600_000
    await worker.tick()
    venue.now += 1_000
    venue.prices["BTC-USD"] = 2_500_000
    await worker.tick()
    assert (await call(database)).deadline == venue.now + 30_000


async def closed(venue: Venue, database: Database, ticks: int = 40) -> None:
    """Let processes, each of which may die, work until nothing is left to do."""
    for _ in range(ticks):
        try:
            await calls(venue, database).tick()
        except Crash:
            continue
        found = await call(database)
        if found is not None and found.state == "closed":
            return


async def to_deadline(database: Database) -> Venue:
    venue = falling()
    venue.prices["BTC-USD"] = 3_600_000
    await calls(venue, database).tick()
    venue.now += 300_000
    return venue


async def test_the_ids_of_forced_orders_cannot_be_used_up_by_their_owner(database: Database) -> None:
    venue = await to_deadline(database)
    await closed(venue, database)
    assert venue.orders
    for id in venue.orders:
        with pytest.raises(ValidationError, match="client_order_id"):
            PlaceBody(client_order_id=id, symbol="AAPL", side="buy", order_type="market", quantity="1")


async def test_an_unanswered_call_closes_what_is_needed_and_not_more(database: Database) -> None:
    venue = await to_deadline(database)
    await calls(venue, database).tick()
    assert await stopped(database) == {"anna"}
    assert venue.open_holds == {}
    await closed(venue, database)
    assert (await call(database)).state == "closed"
    found = await ratio(venue)
    assert found is not None
    assert 500_000 <= found < 600_000
    # Shares cost less than coins to sell, so they go first; of the coins some are left.
    assert [order.symbol for order in venue.orders.values()] == ["AAPL", "BTC-USD"]
    assert all(order.origin == "forced_close" for order in venue.orders.values())
    assert venue.funds["anna"]["BTC"].free > 0
    assert venue.funds["anna"]["USD"].total == 0
    assert await stopped(database) == frozenset()
    assert (await told(database))[2:] == [
        "KillSwitchChanged",
        "KillSwitchChanged",
        "ForcedClose",
        "MarginCallEnded",
        "SendAlert",
    ]
    await calls(venue, database).tick()
    assert (await call(database)).state == "closed"


async def test_it_ends_the_same_wherever_the_process_dies(database: Database) -> None:
    venue = await to_deadline(database)
    await closed(venue, database)
    expected = (venue.funds, venue.owed, list(venue.orders.values()), venue.repaid)
    points = venue.fuse.passed
    assert points > 20
    kinds = (await told(database))[2:]
    for point in range(1, points + 1):
        before = len(await events(database))
        venue = falling()
        venue.prices["BTC-USD"] = 3_600_000
        await calls(venue, database).tick()
        venue.now += 300_000
        started = (await call(database)).id
        venue.fuse = Fuse(at=point)
        await closed(venue, database)
        found = await call(database)
        assert (found.id, found.state) == (started, "closed"), point
        orders = [order.model_copy(update={"client_order_id": ""}) for order in venue.orders.values()]
        assert orders == [order.model_copy(update={"client_order_id": ""}) for order in expected[2]], point
        assert (venue.funds, venue.owed) == expected[:2], point
        assert list(venue.repaid.values()) == list(expected[3].values()), point
        assert await stopped(database) == frozenset(), point
        assert (await told(database))[before + 2 :] == kinds, point


async def test_a_market_that_takes_no_order_is_tried_again_and_another_is_used(database: Database) -> None:
    venue = await to_deadline(database)
    venue.refusing = {"AAPL": "market_closed", "BTC-USD": "market_closed"}
    for _ in range(3):
        await calls(venue, database).tick()
    assert [order.symbol for order in venue.orders.values()] == ["AAPL", "BTC-USD"]
    assert (await call(database)).state == "selling"
    assert await stopped(database) == {"anna"}
    del venue.refusing["BTC-USD"]
    venue.now += 6_000
    await closed(venue, database)
    assert (await call(database)).state == "closed"
    assert venue.funds["anna"]["AAPL"].total == 30 * UNIT


async def test_debts_in_another_currency_are_bought_back(database: Database) -> None:
    venue = Venue(prices={"BTC-USD": 3_000_000, "USD-JPY": 150_000})
    venue.move("anna", "BTC", UNIT)
    venue.owed["anna"] = {"JPY": 2_900_000 * UNIT}
    await calls(venue, database).tick()
    venue.now += 300_000
    await closed(venue, database)
    assert (await call(database)).state == "closed"
    assert {order.symbol for order in venue.orders.values()} == {"BTC-USD", "USD-JPY"}
    found = await ratio(venue)
    assert found is None or found >= 500_000


async def test_when_nothing_is_left_the_debt_stays_and_nobody_is_called_again(database: Database) -> None:
    venue = falling()
    venue.prices = {"BTC-USD": 100_000, "AAPL": 100}
    worker = calls(venue, database)
    await worker.tick()
    venue.now += 30_000
    await closed(venue, database)
    found = await call(database)
    assert found.state == "closed"
    last = [one for one in await events(database) if one.type == "ForcedClose"][-1]
    assert last.payload["healthy"] is False
    assert last.payload["debt"] == venue.owed["anna"]["USD"] > 0
    venue.now += 1_000
    await calls(venue, database).tick()
    assert (await call(database)).id == found.id


async def test_what_operators_stopped_stays_stopped(database: Database) -> None:
    venue = await to_deadline(database)
    controls = Controls(database, LimitsRepository(database), venue.reload, lambda: venue.now)
    await controls.set_switch("olga", Switch("user", "anna"), True, "under review")
    await closed(venue, database)
    assert await stopped(database) == {"anna"}


async def test_without_the_price_of_a_debt_nothing_is_decided(database: Database) -> None:
    venue = await to_deadline(database)
    venue.owed["anna"]["JPY"] = UNIT
    del venue.prices["USD-JPY"]
    await calls(venue, database).tick()
    assert (await call(database)).state == "called"


async def test_only_one_call_of_an_owner_is_live(database: Database) -> None:
    await to_deadline(database)
    async with database.transaction() as session:
        assert [row.owner for row in await MarginRepository().live(session)] == ["anna"]
    second = MarginCallRow(
        owner="anna",
        state="called",
        step=0,
        deadline=0,
        equity=0,
        debt=0,
        required=0,
        opened_at=0,
        changed_at=0,
    )

    async def add() -> None:
        async with database.transaction() as session:
            await MarginRepository().add(session, second)

    with pytest.raises(IntegrityError):
        await add()
