"""The role `wallet` as a web application, with a sender that the test chooses."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from app.kit import schema
from app.kit.auth import Method, Principal, current_user
from app.kit.database import Database
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.roles import Kind, Need, Resources, Role
from app.wallet.endpoints import create_app
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from infra.servers.backing import Postgresql
from tests.app.patience import patience
from tests.app.wallet.books import Clock

__all__ = ["patience"]

ROLE = Role(
    name="wallet",
    summary="Funds",
    kind=Kind.SERVICE,
    entry="app.wallet.endpoints:serve",
    resources=Resources("50m", "500m", "128Mi", "256Mi"),
    port=8087,
    needs=frozenset({Need.DATABASE, Need.BUS}),
)


@dataclass
class Api:
    """Sends requests as one principal after another."""

    wallet: Wallet
    client: httpx.AsyncClient
    clock: Clock
    user: Principal = field(default_factory=lambda: sender("nobody"))

    def by(self, user: Principal) -> "Api":
        self.user = user
        return self

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        return answer(await self.client.get(path, params=params), status)

    async def post(self, path: str, body: object = None, status: int = 200, **options: Any) -> Any:
        return answer(await self.client.post(path, json={} if body is None else body, **options), status)


def answer(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        found = response.json()
        assert found["type"] == f"urn:tradestack:problem:{found['code']}"
        assert found["status"] == status
    return response.json()


def sender(user: str, *scopes: str, proved_at: int | None = None, method: Method = Method.TOKEN) -> Principal:
    return Principal(user, frozenset(scopes or ("read", "trade", "withdraw")), method, "s", proved_at)


@pytest.fixture
async def postgresql_database(postgresql: Postgresql) -> AsyncIterator[Database]:
    """With a connection for each of many writers: who has to wait for one is refused after a few seconds."""
    made = Database(await postgresql.new_database(), pool_size=20)
    await schema.to(made)
    yield made
    await made.close()


@pytest.fixture
def settings() -> WalletSettings:
    return WalletSettings.load(unproved_limits={"USD": "100"})


@pytest.fixture
async def api(database: Database, settings: WalletSettings) -> AsyncIterator[Api]:
    clock = Clock()
    wallet = Wallet.of(database, settings, clock)
    await wallet.prepare()
    shared = Settings.load()
    app = create_app(Runtime(ROLE, shared, Backends(shared)), wallet)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://wallet") as client:
        made = Api(wallet, client, clock)
        app.dependency_overrides[current_user] = lambda: made.user
        yield made
