"""Changes of limits and kill switches: audited, told as events, in force at once."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession

from app.events.envelope import Envelope
from app.kit import logs, outbox
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.problems import Problem
from app.risk import events
from app.risk.limits import Limits, Values
from app.risk.models import AuditRow, SwitchRow
from app.risk.repository import LimitsRepository

SwitchScope = Literal["all", "symbol", "user", "margin"]
_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Switch:
    """Names a kill switch."""

    scope: SwitchScope
    name: str = ""

    @property
    def subject(self) -> str:
        """As in the audit."""
        return f"kill-switches/{self.scope}" + (f"/{self.name}" if self.name else "")


class Controls:
    """What operators, and forced closes, change at run time.

    `reload` tells the matching engine to read limits and switches again. When it cannot be reached the change
    stands all the same: the engine looks for a new version within a second.
    """

    def __init__(
        self,
        database: Database,
        repository: LimitsRepository,
        reload: Callable[[], Awaitable[None]],
        clock: Callable[[], int],
    ) -> None:
        self.database = database
        self.repository = repository
        self._reload = reload
        self._clock = clock

    async def limits(self) -> Limits:
        """Everything that holds now."""
        async with self.database.transaction(read_only=True) as session:
            return (await self.repository.load(session))[1]

    async def set_limits(
        self, actor: str, owner: str, symbol: str, values: Values | None, reason: str
    ) -> None:
        """Set or remove (None) the limits of a scope; setting what holds already changes nothing.

        Raises:
            Problem: 404 `no-limits`: there is nothing to remove.
        """
        async with self.database.transaction() as session:
            await self.repository.next_version(session)
            known = await self.repository.limits(session, owner, symbol)
            if known is None and values is None:
                raise Problem(404, "no-limits", "No limits are set for this scope.")
            if known == values:
                return
            await self.repository.set_limits(session, owner, symbol, values)
            before, after = _members(known), _members(values)
            audit = await self._record(session, actor, subject_of(owner, symbol), before, after, reason)
            changed = events.LimitChanged(
                account=owner, symbol=symbol, before=before or {}, after=after or {}, actor=actor
            )
            await outbox.write(session, [events.limit_changed(changed, audit)])
        await self.reload()

    async def set_switch(self, actor: str, switch: Switch, active: bool, reason: str) -> None:
        """Turn a kill switch on or off; what holds already, with this reason, changes nothing."""
        async with self.database.transaction() as session:
            await self.repository.next_version(session)
            changed = await self.change_switch(session, actor, switch, active, reason)
            if not changed:
                return
            await outbox.write(session, changed)
        await self.reload()

    async def change_switch(
        self, session: AsyncSession, actor: str, switch: Switch, active: bool, reason: str
    ) -> list[Envelope]:
        """The same in the caller's transaction, behind `next_version`; returns the events of the change.

        The caller writes them to the outbox and reloads after the commit.
        """
        known = await self.repository.switch(session, switch.scope, switch.name)
        if (known is not None) == active and (known is None or known.reason == reason):
            return []
        before = None if known is None else {"active": True, "reason": known.reason, "actor": known.actor}
        if active:
            row = SwitchRow(
                scope=switch.scope, name=switch.name, reason=reason, actor=actor, since=self._clock()
            )
            await self.repository.switch_on(session, row)
        else:
            await self.repository.switch_off(session, switch.scope, switch.name)
        after = {"active": True, "reason": reason, "actor": actor} if active else None
        audit = await self._record(session, actor, switch.subject, before, after, reason)
        changed = events.KillSwitchChanged(
            scope=switch.scope, name=switch.name, active=active, reason=reason, actor=actor
        )
        return [events.switch_changed(changed, audit)]

    async def reload(self) -> None:
        """Have the engine read limits and switches now, if it can be reached."""
        try:
            await self._reload()
        except (Unavailable, Problem) as error:
            _log.warning("the engine reads the change later", reason=str(error))

    async def _record(
        self,
        session: AsyncSession,
        actor: str,
        subject: str,
        before: dict[str, int] | dict[str, object] | None,
        after: dict[str, int] | dict[str, object] | None,
        reason: str,
    ) -> int:
        row = AuditRow(
            at=self._clock(),
            actor=actor,
            subject=subject,
            before=None if before is None else json.dumps(before, sort_keys=True),
            after=None if after is None else json.dumps(after, sort_keys=True),
            reason=reason,
        )
        await self.repository.record(session, row)
        return row.id


def subject_of(owner: str, symbol: str) -> str:
    """A scope of limits as in the audit and in the path of its endpoint."""
    parts = (("user", owner), ("symbol", symbol))
    named = [f"{kind}/{name}" for kind, name in parts if name]
    return "limits/" + ("/".join(named) or "default")


def _members(values: Values | None) -> dict[str, int] | None:
    if values is None:
        return None
    return {name: value for name, value in asdict(values).items() if value is not None}
