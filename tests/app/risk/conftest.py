"""The role `risk` as a web application, with a sender that the test chooses."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from app.kit.auth import Method, Principal, current_user
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.matching_client.commands import Command, Result
from app.risk.endpoints import create_app
from app.risk.service import Risk
from app.risk.settings import RiskSettings
from app.roles import ROLES
from tests.app.patience import patience
from tests.app.risk.venue import Venue

__all__ = ["patience"]


@dataclass
class Engine:
    """The matching engine of the tests: the venue's, with limits to reload."""

    venue: Venue
    away: bool = False
    reloads: int = 0

    async def submit(self, command: Command) -> Result:
        return await self.venue.submit(command)

    async def reload_risk(self) -> None:
        if self.away:
            raise Unavailable("matching-engine", "away")
        self.reloads += 1


@dataclass
class Api:
    """Sends requests as one principal after another."""

    risk: Risk
    client: httpx.AsyncClient
    venue: Venue
    engine: Engine
    user: Principal = field(default_factory=lambda: sender("nobody"))

    def by(self, user: Principal) -> "Api":
        self.user = user
        return self

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        return answer(await self.client.get(path, params=params), status)

    async def put(self, path: str, body: object, status: int = 200) -> Any:
        return answer(await self.client.put(path, json=body), status)

    async def post(self, path: str, body: object, status: int = 200) -> Any:
        return answer(await self.client.post(path, json=body), status)

    async def delete(self, path: str, status: int = 204, **params: Any) -> Any:
        return answer(await self.client.delete(path, params=params), status)


def answer(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
    return response.json() if response.content else None


def sender(user: str, *scopes: str, proved_at: int | None = None) -> Principal:
    return Principal(user, frozenset(scopes or ("read", "trade")), Method.TOKEN, "s", proved_at)


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Api]:
    venue = Venue(prices={"BTC-USD": 6_500_000, "AAPL": 20_000, "USD-JPY": 150_000})
    engine = Engine(venue)
    settings = RiskSettings()
    risk = Risk.of(database, settings, funds=venue, mark=venue.mark, engine=engine, clock=lambda: venue.now)
    shared = Settings.load()
    app = create_app(Runtime(ROLES["risk"], shared, Backends(shared)), risk)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://risk") as client:
        made = Api(risk, client, venue, engine)
        app.dependency_overrides[current_user] = lambda: made.user
        yield made
