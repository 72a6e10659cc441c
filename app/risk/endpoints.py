"""REST API of risk for operators and users, and the entry of the role."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request

from app.events import stream
from app.kit import web
from app.kit.auth import Principal, require, second_factor
from app.kit.outbox import Relay
from app.kit.problems import Problem
from app.kit.runtime import Runtime
from app.marks import Marks
from app.matching_client.client import MatchingClient
from app.risk import internal
from app.risk.funds import LedgerFunds
from app.risk.internal import Services
from app.risk.limits import Values
from app.risk.own import own_view
from app.risk.schemas import (
    AuditPage,
    AuditView,
    LimitsBody,
    LimitsPage,
    LimitsView,
    OwnView,
    Reason,
    SwitchBody,
    SwitchView,
)
from app.risk.scopes import LONGEST, check_values, limits_path, limits_scope, switch_scope
from app.risk.service import Risk
from app.risk.settings import RiskSettings
from app.risk.watch import CONSUMER
from app.wallet.ledger.service import Ledger
from app.wallet.loans import Loans
from app.wallet.settings import WalletSettings

router = APIRouter(prefix="/api/risk", tags=["risk"])
operations = APIRouter(prefix="/api/risk", tags=["risk operations"])

Reader = Annotated[Principal, Depends(require("read"))]
Operator = Annotated[Principal, Depends(require("admin"))]
Limit = Annotated[int, Query(ge=1, le=500)]
LimitsScope = Annotated[str, Path(max_length=LONGEST, examples=["default", "user/17/symbol/BTC-USD"])]
SwitchPath = Annotated[str, Path(max_length=LONGEST, examples=["all", "symbol/BTC-USD", "user/17"])]
_proved = second_factor("admin")
_PACE_SECONDS = 0.5
"""Alerts may be that late; checks before the trade are the engine's."""


@router.get("/me")
async def me(risk: Services, user: Reader) -> OwnView:
    """The user's own limits, how much of them is used, and their margin."""
    return await own_view(risk, user.user_id)


@operations.get("/limits")
async def all_limits(
    risk: Services,
    _: Operator,
    after: Annotated[str | None, Query(max_length=LONGEST, description="Scopes behind this one.")] = None,
    limit: Limit = 100,
) -> LimitsPage:
    """Everything that is set, and the defaults."""
    place = None if after is None else limits_scope(after)
    async with risk.database.transaction(read_only=True) as session:
        found = await risk.limits.all_limits(session, place, limit + 1)
    page = found[:limit]
    return LimitsPage(
        defaults=_limits_view("default", risk.settings.defaults),
        limits=[_limits_view(limits_path(owner, symbol), values) for owner, symbol, values in page],
        next=limits_path(*page[-1][:2]) if len(found) > limit else None,
    )


@operations.get("/limits/{scope:path}")
async def limits(risk: Services, _: Operator, scope: LimitsScope) -> LimitsView:
    """What is set for a scope."""
    owner, symbol = limits_scope(scope)
    async with risk.database.transaction(read_only=True) as session:
        found = await risk.limits.limits(session, owner, symbol)
    if found is None:
        raise Problem(404, "no-limits", "No limits are set for this scope.")
    return _limits_view(scope, found)


@operations.put("/limits/{scope:path}")
async def set_limits(risk: Services, operator: Operator, scope: LimitsScope, body: LimitsBody) -> LimitsView:
    """Set the limits of a scope, in place of those it had; they hold at once for orders that come."""
    owner, symbol = limits_scope(scope)
    check_values(owner, symbol, body.values())
    await risk.controls.set_limits(operator.user_id, owner, symbol, body.values(), body.reason)
    return _limits_view(scope, body.values())


@operations.delete("/limits/{scope:path}", status_code=204)
async def remove_limits(
    risk: Services, operator: Operator, scope: LimitsScope, reason: Annotated[Reason, Query()]
) -> None:
    """Leave a scope to the next wider one."""
    owner, symbol = limits_scope(scope)
    await risk.controls.set_limits(operator.user_id, owner, symbol, None, reason)


@operations.get("/kill-switches")
async def switches(risk: Services, _: Operator) -> list[SwitchView]:
    """The kill switches that are on; `margin/X` is a user whose positions are being closed."""
    async with risk.database.transaction(read_only=True) as session:
        rows = await risk.limits.switches(session)
    return [SwitchView.of(f"{row.scope}/{row.name}" if row.name else row.scope, row) for row in rows]


@operations.get("/kill-switches/{scope:path}")
async def switch(risk: Services, _: Operator, scope: SwitchPath) -> SwitchView:
    """One kill switch, on or off."""
    wanted = switch_scope(scope)
    async with risk.database.transaction(read_only=True) as session:
        return SwitchView.of(scope, await risk.limits.switch(session, wanted.scope, wanted.name))


@operations.put("/kill-switches/{scope:path}")
async def set_switch(
    request: Request, risk: Services, operator: Operator, scope: SwitchPath, body: SwitchBody
) -> SwitchView:
    """Refuse new orders or take them again; that of `all` needs a second factor proved just now."""
    wanted = switch_scope(scope)
    if wanted.scope == "all":
        await _proved(request, operator)
    await risk.controls.set_switch(operator.user_id, wanted, body.active, body.reason)
    async with risk.database.transaction(read_only=True) as session:
        return SwitchView.of(scope, await risk.limits.switch(session, wanted.scope, wanted.name))


@operations.get("/audit")
async def audit(
    risk: Services,
    _: Operator,
    subject: Annotated[
        str | None, Query(max_length=LONGEST, pattern=r"^[\x21-\x7e]*$", examples=["limits/user/17"])
    ] = None,
    before: Annotated[int | None, Query(gt=0, lt=2**63, description="Changes before this one.")] = None,
    limit: Limit = 100,
) -> AuditPage:
    """Every change of limits and kill switches: who, when, why, from what to what."""
    async with risk.database.transaction(read_only=True) as session:
        found = await risk.limits.audit(session, subject, before, limit + 1)
    page = found[:limit]
    return AuditPage(
        changes=[AuditView.of(row) for row in page], next=page[-1].id if len(found) > limit else None
    )


def _limits_view(scope: str, values: Values) -> LimitsView:
    return LimitsView(scope=scope, **asdict(values))


def create_app(runtime: Runtime, risk: Risk) -> FastAPI:
    """The web application of the role."""
    app = web.create_app(runtime, router, operations, internal.router)
    app.state.risk = risk
    return app


async def serve(runtime: Runtime) -> None:
    """Run the role; raises ConfigurationError before it listens when the environment is wrong."""
    settings = RiskSettings.load()
    database, bus = runtime.backends.database, runtime.backends.bus
    engine, marks = MatchingClient(runtime), Marks(bus, runtime.backends.cache)
    ledger = Ledger(database)
    # A repayment books the interest until now, at the rate of the wallet.
    rate = WalletSettings.load().loan_rate_bps
    risk = Risk.of(
        database,
        settings,
        funds=LedgerFunds(ledger, Loans(database, ledger, rate)),
        mark=marks.price,
        engine=engine,
    )

    async def follow() -> None:
        await stream.follow(bus, database, CONSUMER, risk.watch.apply, engine.republish, pace=_PACE_SECONDS)

    server = web.HttpServer(runtime, create_app(runtime, risk))
    try:
        await runtime.serve(
            server,
            follow,
            marks.follow,
            risk.run_margin,
            Relay(database, bus).run,
            prepare=marks.load,
        )
    finally:
        await engine.close()
