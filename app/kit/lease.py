"""A lease: at most one holder at a time, with a token that rises with every change of hands.

A holder that was cut off does not know that its time is over. So whatever only the holder may write is
written in a transaction that calls `check`: the lease's row is locked to its end, and a successor waits.
Times are those of the database's clock, so machines whose clocks differ do not matter; SQLite serves one
machine, whose clock counts.
"""

import time
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import BigInteger, Integer, String, cast, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.elements import ColumnElement

from app.kit.database import Base, Database


class LeaseLost(Exception):
    """Somebody else holds the lease, or did since."""


class LeaseRow(Base):
    """Who may do a thing now."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    holder: Mapped[str] = mapped_column(String(80))
    address: Mapped[str] = mapped_column(String(200))
    token: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"))
    expires_at: Mapped[int] = mapped_column(BigInteger)
    """Unix time in milliseconds; 0 when it was released."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease now."""

    address: str
    """Base URL."""
    token: int


class Lease:
    """One candidate for a lease; give every process, and every start of it, its own.

    `name` says what is leased, `address` is told to those who look for the holder (at most 200 characters),
    `ttl` is the time in seconds after which it is free unless it is renewed.
    """

    def __init__(self, database: Database, name: str, address: str, ttl: float) -> None:
        self._database = database
        self._name = name
        self.address = address
        self._ttl = int(ttl * 1000)
        self._holder = uuid4().hex

    async def acquire(self) -> int | None:
        """Take the lease when it is free or its time is over; returns the new token, None when it is taken.

        Raises:
            Unavailable: the database does not answer; whether it was taken is not known.
        """
        now = self._now()
        statement = self._database.insert(LeaseRow).values(
            name=self._name,
            holder=self._holder,
            address=self.address,
            token=1,
            expires_at=now + self._ttl,
        )
        taking = statement.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "holder": statement.excluded.holder,
                "address": statement.excluded.address,
                "token": LeaseRow.token + 1,
                "expires_at": now + self._ttl,
            },
            where=(LeaseRow.expires_at <= now) | (LeaseRow.holder == statement.excluded.holder),
        ).returning(LeaseRow.token)
        async with self._database.transaction() as session:
            return (await session.execute(taking)).scalar_one_or_none()

    async def renew(self, token: int) -> None:
        """Hold it for another `ttl`.

        Raises:
            LeaseLost: it has another token by now.
            Unavailable: the database does not answer.
        """
        await self._prolong(token, self._now() + self._ttl)

    async def release(self, token: int) -> None:
        """Let somebody else take it at once; nothing happens when it is lost already."""
        try:
            await self._prolong(token, literal(0))
        except LeaseLost:
            return

    async def check(self, session: AsyncSession, token: int) -> None:
        """Return when `token` is the newest, which then holds to the end of the transaction.

        Time is not asked for: as long as nobody took the lease, its last holder does no harm.

        Raises:
            LeaseLost: somebody took the lease since.
        """
        chosen = select(LeaseRow.token).where(LeaseRow.name == self._name)
        if self._database.is_postgresql:
            chosen = chosen.with_for_update(read=True)
        if await session.scalar(chosen) != token:
            raise LeaseLost(f"the lease {self._name!r} has another holder")

    async def holder(self) -> Holder | None:
        """Who holds the lease; None when it is free."""
        chosen = select(LeaseRow.address, LeaseRow.token).where(
            LeaseRow.name == self._name, LeaseRow.expires_at > self._now()
        )
        async with self._database.transaction(read_only=True) as session:
            found = (await session.execute(chosen)).one_or_none()
        return None if found is None else Holder(found.address, found.token)

    async def _prolong(self, token: int, until: ColumnElement[int]) -> None:
        mine = (LeaseRow.name == self._name, LeaseRow.holder == self._holder, LeaseRow.token == token)
        changing = update(LeaseRow).where(*mine).values(expires_at=until).returning(LeaseRow.token)
        async with self._database.transaction() as session:
            if (await session.execute(changing)).scalar_one_or_none() is None:
                raise LeaseLost(f"the lease {self._name!r} has another holder")

    def _now(self) -> ColumnElement[int]:
        if self._database.is_postgresql:
            return cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger)
        return literal(time.time_ns() // 1_000_000, BigInteger)
