"""The portfolio with prices that the test chooses, and its web application."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from app.events.matching import MatchingOutput
from app.kit.auth import Method, Principal, current_user
from app.kit.bus.memory import MemoryBus
from app.kit.cache.memory import MemoryCache
from app.kit.database import Database
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.marks import Marks
from app.portfolio.endpoints import create_app
from app.portfolio.service import Portfolio
from app.prices import write_latest
from app.roles import ROLES
from app.wallet.deposits import Deposit, Deposits
from app.wallet.ledger.service import Ledger
from tests.app.patience import patience
from tests.app.ticks import tick

__all__ = ["patience"]


@dataclass
class Prices:
    """What the marks know."""

    marks: Marks
    cache: MemoryCache
    seq: int = 0

    async def set(self, symbol: str, price: int) -> None:
        self.seq += 1
        await write_latest(self.cache, [tick(symbol, self.seq, price=price)])
        await self.marks.load()


@dataclass
class Api:
    """Sends requests as one principal after another."""

    client: httpx.AsyncClient
    portfolio: Portfolio
    prices: Prices
    user: Principal = field(default_factory=lambda: sender("anna"))

    async def get(self, path: str = "", expected: int = 200, /, **params: Any) -> Any:
        response = await self.client.get(f"/api/portfolio{path}", params=params)
        assert response.status_code == expected, response.text
        if expected >= 400:
            assert response.headers["content-type"] == "application/problem+json"
        return response.json()


def sender(user: str, *scopes: str) -> Principal:
    return Principal(user, frozenset(scopes or ("read", "trade")), Method.TOKEN, "s")


@pytest.fixture
async def prices() -> Prices:
    cache = MemoryCache()
    return Prices(Marks(MemoryBus(), cache), cache)


@pytest.fixture
def portfolio(database: Database, prices: Prices) -> Portfolio:
    return Portfolio(database, prices.marks)


@pytest.fixture
async def api(portfolio: Portfolio, prices: Prices) -> AsyncIterator[Api]:
    shared = Settings.load()
    app = create_app(Runtime(ROLES["portfolio"], shared, Backends(shared)), portfolio)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://portfolio") as client:
        made = Api(client, portfolio, prices)
        app.dependency_overrides[current_user] = lambda: made.user
        yield made


async def apply(portfolio: Portfolio, outputs: Sequence[MatchingOutput]) -> None:
    async with portfolio.database.transaction() as session:
        await portfolio.apply(session, outputs)


async def deposit(database: Database, owner: str, asset: str, units: int) -> None:
    async with database.transaction() as session:
        booked = Deposit(f"{owner}-{asset}-{units}", owner, asset, units)
        assert (await Deposits(Ledger(database)).book(session, booked)).done
