"""Values over time: recorded once, at the end of each day and within it."""

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from app.kit.errors import ConfigurationError
from app.kit.lease import Lease, LeaseLost
from app.portfolio import values
from app.portfolio.repository import Value
from app.portfolio.service import Portfolio
from app.portfolio.settings import PortfolioSettings
from app.portfolio.values import ValueHistory
from tests.app.outputs import output, trade
from tests.app.portfolio.conftest import Api, Prices, apply, deposit

DAY = 86_400_000
MINUTE = 60_000
NOON = 20_000 * DAY + DAY // 2


class Clock:
    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON + MINUTE)


@pytest.fixture
def history(portfolio: Portfolio, clock: Clock) -> ValueHistory:
    return ValueHistory(portfolio, PortfolioSettings.load(), clock)


@pytest.fixture
async def token(portfolio: Portfolio) -> int:
    found = await Lease(portfolio.database, "portfolio-values", "", 3600).acquire()
    assert found is not None
    return found


async def stored(portfolio: Portfolio, owner: str, kind: str, currency: str = "USD") -> list[Value]:
    async with portfolio.database.transaction(read_only=True) as session:
        return await portfolio.repository.values(session, owner, currency, kind, 0)  # type: ignore[arg-type]


async def record(history: ValueHistory, portfolio: Portfolio) -> None:
    """As the worker does it while it has the lease."""
    token = await history._lease.acquire()
    assert token is not None
    await history.record(token)


async def test_the_first_value_of_a_day_is_the_end_of_the_one_before(
    portfolio: Portfolio, history: ValueHistory, prices: Prices, clock: Clock
) -> None:
    await deposit(portfolio.database, "anna", "USD", 1_000)
    await deposit(portfolio.database, "anna", "AAPL", 2 * 10**8)
    await apply(portfolio, [output([trade(1, "anna", "ben", price=100, quantity=3)], "AAPL")])
    for price, minutes in ((100, 0), (110, 5), (120, 15), (130, 12 * 60), (140, 13 * 60)):
        clock.now = NOON + MINUTE + minutes * MINUTE
        await prices.set("AAPL", price)
        await record(history, portfolio)
    points = await stored(portfolio, "anna", "point")
    assert [(v.at - NOON) // MINUTE for v in points] == [0, 15, 12 * 60, 13 * 60]
    assert {v.cash for v in points} == {1_000}
    assert [v.holdings for v in points] == [2 * price * 10**6 for price in (100, 120, 130, 140)]
    assert [v.unrealised for v in points] == [3 * gain * 10**6 for gain in (0, 20, 30, 40)]
    days = await stored(portfolio, "anna", "day")
    assert [(v.at - NOON) / DAY for v in days] == [-0.5, 0.5]
    assert [v.holdings for v in days] == [200 * 10**6, 260 * 10**6]
    assert [v.unrealised for v in await stored(portfolio, "ben", "day")] == [0, -90 * 10**6]


async def test_two_processes_record_a_moment_once(
    portfolio: Portfolio, prices: Prices, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(values, "_PAGE", 3)
    await prices.set("BTC-USD", 100)
    owners = [f"owner-{n}" for n in range(10)]
    await apply(portfolio, [output([trade(n + 1, owner, "ben") for n, owner in enumerate(owners)])])
    before = REGISTRY.get_sample_value("portfolio_values_total") or 0
    histories = [ValueHistory(portfolio, PortfolioSettings.load(), clock) for _ in range(2)]
    tasks = [asyncio.create_task(history.run()) for history in histories]
    # Longer than a lease: who is cancelled while it is renewed does not give it back.
    async with asyncio.timeout(150):
        for moment in (NOON, NOON + 15 * MINUTE):
            clock.now = moment
            for owner in (*owners, "ben"):
                while moment not in [v.at for v in await stored(portfolio, owner, "point")]:
                    assert not any(task.done() for task in tasks)
                    await asyncio.sleep(0.02)
        # Who takes over when one ends goes on.
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        clock.now = NOON + 30 * MINUTE
        while len(await stored(portfolio, "owner-9", "point")) < 3:
            await asyncio.sleep(0.02)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert (REGISTRY.get_sample_value("portfolio_values_total") or 0) - before <= 2 * 11 * 4
    assert len(await stored(portfolio, "ben", "day")) == 1


async def test_without_the_lease_nothing_is_recorded(
    portfolio: Portfolio, history: ValueHistory, prices: Prices, token: int
) -> None:
    await prices.set("BTC-USD", 100)
    await apply(portfolio, [output([trade(1)])])
    with pytest.raises(LeaseLost):
        await history.record(token + 1)
    assert await stored(portfolio, "anna", "point") == []


async def test_what_cannot_be_valued_is_left_out(
    portfolio: Portfolio, history: ValueHistory, prices: Prices, clock: Clock
) -> None:
    await deposit(portfolio.database, "anna", "USD", 1_000)
    await deposit(portfolio.database, "anna", "JPY", 1_000)
    await deposit(portfolio.database, "ben", "BTC", 2**63 - 1)
    await apply(portfolio, [output([trade(1, price=100)])])
    await record(history, portfolio)
    assert await stored(portfolio, "anna", "point") == []
    assert [v.cash for v in await stored(portfolio, "anna", "point", "JPY")] == [1_000]
    clock.now += 15 * MINUTE
    await prices.set("BTC-USD", 6_000_000)
    await record(history, portfolio)
    assert [v.cash for v in await stored(portfolio, "anna", "point")] == [1_000]
    assert await stored(portfolio, "ben", "point") == []


async def test_old_values_go_and_periods_choose(
    api: Api, portfolio: Portfolio, history: ValueHistory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.portfolio.endpoints.system_clock", clock)
    one = Value("anna", "USD", "day", 0, 500, -100, 7, -8)
    ages = (0, 5, 20, 60, 300, 1000, 2000)
    kept = [replace(one, at=clock.now - age * DAY) for age in ages]
    points = [replace(one, kind="point", at=clock.now - age * DAY // 2) for age in (1, 13, 15, 17)]
    async with portfolio.database.transaction() as session:
        await portfolio.repository.record(session, [*kept, *points])
        await portfolio.repository.record(session, [replace(each, cash=1) for each in kept])
    await record(history, portfolio)
    assert len(await stored(portfolio, "anna", "day")) == 6
    assert len(await stored(portfolio, "anna", "point")) == 3
    found = {
        period: (await api.get("/history", period=period))["values"]
        for period in ("1d", "1w", "1m", "3m", "1y", "all")
    }
    assert {period: len(values) for period, values in found.items()} == {
        "1d": 1,
        "1w": 2,
        "1m": 3,
        "3m": 4,
        "1y": 5,
        "all": 6,
    }
    assert found["all"][-1] == {
        "time": "2024-10-04T12:01:00Z",
        "cash": "0.000005",
        "holdings": "-0.000001",
        "equity": "0.000004",
        "realised": "0.00000007",
        "unrealised": "-0.00000008",
    }
    assert (await api.get("/history", currency="GBP"))["values"] == []


def test_the_settings_say_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORTFOLIO_VALUE_MINUTES", "0")
    monkeypatch.setenv("APP_PORTFOLIO_POINT_DAYS", "1")
    with pytest.raises(ConfigurationError, match=r"VALUE_MINUTES: .*\nAPP_PORTFOLIO_POINT_DAYS: "):
        PortfolioSettings.load()
