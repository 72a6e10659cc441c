"""SQL of limits, kill switches and the audit of their changes."""

from collections.abc import Sequence
from dataclasses import asdict, fields

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database import Database
from app.risk.limits import Limits, Values
from app.risk.models import AuditRow, LimitRow, LimitsVersionRow, SwitchRow
from app.risk.settings import RiskSettings

_ONLY = 1
_VALUES = tuple(field.name for field in fields(Values))


class LimitsRepository:
    """Limits and switches in the database, over the defaults of the environment."""

    def __init__(self, database: Database, settings: RiskSettings | None = None) -> None:
        """Raises ConfigurationError when the environment is wrong and no settings are given."""
        self._database = database
        self._defaults = (settings or RiskSettings.load()).defaults

    async def version(self, session: AsyncSession) -> int:
        """Rises with every change; 0 before the first."""
        chosen = select(LimitsVersionRow.version).where(LimitsVersionRow.id == _ONLY)
        return int(await session.scalar(chosen) or 0)

    async def load(self, session: AsyncSession) -> tuple[int, Limits]:
        """Everything that holds now, and its version.

        Where the isolation of the transaction lets it see a change halfway, the version is that of before:
        whoever compares it loads again.
        """
        version = await self.version(session)
        rows = (await session.scalars(select(LimitRow))).all()
        switches = (await session.execute(select(SwitchRow.scope, SwitchRow.name))).all()
        return version, Limits(
            defaults=self._defaults,
            overrides={(row.owner, row.symbol): _values(row) for row in rows},
            stopped=any(scope == "all" for scope, _ in switches),
            stopped_symbols=frozenset(name for scope, name in switches if scope == "symbol"),
            stopped_users=frozenset(name for scope, name in switches if scope in ("user", "margin")),
        )

    async def next_version(self, session: AsyncSession) -> int:
        """Count a change; first in its transaction: changes wait for each other here."""
        adding = self._database.insert(LimitsVersionRow).values(id=_ONLY, version=1)
        counting = adding.on_conflict_do_update(
            index_elements=["id"], set_={"version": LimitsVersionRow.version + 1}
        )
        return int((await session.execute(counting.returning(LimitsVersionRow.version))).scalar_one())

    async def limits(self, session: AsyncSession, owner: str, symbol: str) -> Values | None:
        """What is set for a scope; None when nothing is."""
        row = await session.get(LimitRow, (owner, symbol), populate_existing=True)
        return None if row is None else _values(row)

    async def all_limits(
        self, session: AsyncSession, after: tuple[str, str] | None, limit: int
    ) -> list[tuple[str, str, Values]]:
        """Scopes (user, symbol) with what is set for them, in their order, behind `after`."""
        chosen = select(LimitRow).order_by(LimitRow.owner, LimitRow.symbol).limit(limit)
        if after is not None:
            owner, symbol = after
            chosen = chosen.where(
                (LimitRow.owner > owner) | ((LimitRow.owner == owner) & (LimitRow.symbol > symbol))
            )
        return [(row.owner, row.symbol, _values(row)) for row in await session.scalars(chosen)]

    async def set_limits(self, session: AsyncSession, owner: str, symbol: str, values: Values | None) -> None:
        """Set what holds for a scope; None removes it."""
        if values is None:
            await session.execute(delete(LimitRow).where(LimitRow.owner == owner, LimitRow.symbol == symbol))
            return
        adding = self._database.insert(LimitRow).values(owner=owner, symbol=symbol, **asdict(values))
        await session.execute(
            adding.on_conflict_do_update(index_elements=["owner", "symbol"], set_=asdict(values))
        )

    async def switches(self, session: AsyncSession) -> Sequence[SwitchRow]:
        """The kill switches that are on."""
        return (await session.scalars(select(SwitchRow).order_by(SwitchRow.scope, SwitchRow.name))).all()

    async def switch(self, session: AsyncSession, scope: str, name: str) -> SwitchRow | None:
        """A kill switch; None when it is off."""
        return await session.get(SwitchRow, (scope, name), populate_existing=True)

    async def switch_on(self, session: AsyncSession, row: SwitchRow) -> None:
        """Turn a kill switch on, or give it another reason."""
        values = {"reason": row.reason, "actor": row.actor, "since": row.since}
        adding = self._database.insert(SwitchRow).values(scope=row.scope, name=row.name, **values)
        await session.execute(adding.on_conflict_do_update(index_elements=["scope", "name"], set_=values))

    async def switch_off(self, session: AsyncSession, scope: str, name: str) -> None:
        """Turn a kill switch off."""
        await session.execute(delete(SwitchRow).where(SwitchRow.scope == scope, SwitchRow.name == name))

    async def record(self, session: AsyncSession, row: AuditRow) -> None:
        """Add to the audit."""
        session.add(row)
        await session.flush()

    async def audit(
        self, session: AsyncSession, subject: str | None, before: int | None, limit: int
    ) -> Sequence[AuditRow]:
        """The newest changes, of one subject or all, before the one with an id."""
        chosen = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
        if subject is not None:
            chosen = chosen.where(AuditRow.subject == subject)
        if before is not None:
            chosen = chosen.where(AuditRow.id < before)
        return (await session.scalars(chosen)).all()


def _values(row: LimitRow) -> Values:
    return Values(**{name: getattr(row, name) for name in _VALUES})
