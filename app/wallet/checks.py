"""What is asked of others before funds are lent or leave: the risk role, and how far a user is known."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol
from zlib import crc32

import httpx
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.accounts import KYCApproved
from app.events.envelope import Envelope
from app.events.registry import name_of
from app.kit import inbox, internal
from app.kit.bus import Bus
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.runtime import Runtime
from app.kit.upstream import role_client
from app.wallet.models import IdentityRow

LOANS_PATH = "/internal/risk/loans/check"
WITHDRAWALS_PATH = "/internal/risk/withdrawals/check"
IDENTITY_CONSUMER = "wallet-identities"
_SECONDS = 2.0
_LOCK = 4_740_000
"""First of the advisory lock keys of owners."""
_LOCKS = 10_000
_AT_ONCE = 3
"""Checks of this process that may wait with a connection of the pool in hand."""


class Verdict(BaseModel):
    """What the risk role says."""

    allowed: bool
    reason: str = Field(default="", max_length=200)
    """Why not; a stable code."""


class RiskCheck(Protocol):
    """Tells whether what a user has left would be enough. Amounts are smallest units of the asset."""

    async def loan(self, owner: str, asset: str, amount: int) -> Verdict:
        """Whether so much may be lent. Raises Unavailable when that cannot be told."""

    async def withdrawal(self, owner: str, asset: str, amount: int) -> Verdict:
        """Whether so much may leave. Raises Unavailable when that cannot be told."""


class NoRiskCheck:
    """Allows all; for tests of the library."""

    async def loan(self, owner: str, asset: str, amount: int) -> Verdict:
        """See `RiskCheck`."""
        return Verdict(allowed=True)

    async def withdrawal(self, owner: str, asset: str, amount: int) -> Verdict:
        """See `RiskCheck`."""
        return Verdict(allowed=True)


class RiskRole:
    """The role `risk` over HTTP."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._client = role_client(_SECONDS)

    async def loan(self, owner: str, asset: str, amount: int) -> Verdict:
        """See `RiskCheck`."""
        return await self._ask(LOANS_PATH, owner, asset, amount)

    async def withdrawal(self, owner: str, asset: str, amount: int) -> Verdict:
        """See `RiskCheck`."""
        return await self._ask(WITHDRAWALS_PATH, owner, asset, amount)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, path: str, owner: str, asset: str, amount: int) -> Verdict:
        body = {"owner": owner, "asset": asset, "amount": amount}
        try:
            answer = await self._client.post(
                self._runtime.upstream("risk") + path,
                json=body,
                headers=internal.headers(self._runtime.settings),
            )
            if answer.status_code != 200:
                raise Unavailable("risk", f"status {answer.status_code}")
            return Verdict.model_validate_json(answer.content)
        except httpx.HTTPError as error:
            raise Unavailable("risk", type(error).__name__) from error
        except ValidationError as error:
            raise Unavailable("risk", "its answer is not understood") from error


class OneAtATime:
    """Lets one request of an owner at a time be checked and carried out: two that are each allowed alone
    may be too much together."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = asyncio.Lock()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[None]:
        """Wait for other requests of the owner, in any process; raises Unavailable."""
        if not self._database.is_postgresql:
            async with self._lock:
                yield
            return
        async with self._slots, self._database.transaction() as session:
            key = _LOCK + crc32(owner.encode()) % _LOCKS
            await session.execute(text(f"SELECT pg_advisory_xact_lock({key})"))
            yield


class Identities:
    """How far users are verified, as the event KYCApproved tells."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def level(self, session: AsyncSession, owner: str) -> int:
        """0 for users of whom nothing is known."""
        return await session.scalar(select(IdentityRow.level).where(IdentityRow.owner == owner)) or 0

    async def note(self, session: AsyncSession, event: Envelope) -> None:
        """Take the level of a KYCApproved; other events say nothing here."""
        if (event.type, event.version) != name_of(KYCApproved):
            return
        told = KYCApproved.model_validate(event.payload)
        insert = self._database.insert(IdentityRow).values(owner=told.user, level=told.level)
        await session.execute(
            insert.on_conflict_do_update(index_elements=["owner"], set_={"level": insert.excluded.level})
        )

    async def follow(self, bus: Bus) -> None:
        """Take the levels from the bus until cancelled; raises Unavailable."""
        await inbox.consume(bus, self._database, IDENTITY_CONSUMER, ("user-events",), self.note)
