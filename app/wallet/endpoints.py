"""REST API of the wallet for users and operators, and the entry of the role."""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import web
from app.kit.auth import Principal, require
from app.kit.outbox import Relay
from app.kit.problems import Problem
from app.kit.runtime import Runtime
from app.matching_client.client import MatchingClient
from app.wallet.checks import RiskRole
from app.wallet.deposits import Deposit
from app.wallet.ledger.accounts import Account, AccountKind, available
from app.wallet.ledger.assets import ASSETS
from app.wallet.ledger.transfers import Code
from app.wallet.schemas import (
    AssetView,
    BalanceView,
    DepositRequest,
    DifferenceView,
    EntryPage,
    EntryView,
    Given,
    LoanBody,
    LoanView,
    Owner,
    ReportView,
    StepBody,
    TransferView,
    WithdrawalBody,
    WithdrawalPage,
    WithdrawalView,
)
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from app.wallet.settlement import Settlement
from app.wallet.withdrawals import State, WithdrawalRequest

router = APIRouter(prefix="/api/wallet", tags=["wallet"])
operations = APIRouter(prefix="/api/wallet/operations", tags=["wallet operations"])

Reader = Annotated[Principal, Depends(require("read"))]
Withdrawer = Annotated[Principal, Depends(require("withdraw"))]
Trader = Annotated[Principal, Depends(require("trade"))]
Operator = Annotated[Principal, Depends(require("admin"))]
Limit = Annotated[int, Query(ge=1, le=500)]


def _wallet(request: Request) -> Wallet:
    wallet: Wallet = request.app.state.wallet
    return wallet


Services = Annotated[Wallet, Depends(_wallet)]


def _lendable(body: LoanBody) -> int:
    try:
        units = ASSETS[body.asset].units(body.amount)
    except ValueError as error:
        raise Problem(422, "invalid-amount", f"{error}.") from None
    return units


def _units(asset: str, amount: Given) -> int:
    try:
        return ASSETS[asset].external_units(amount)
    except ValueError as error:
        raise Problem(422, "invalid-amount", f"{error}.") from None


@router.get("/assets")
async def assets() -> list[AssetView]:
    """Every asset that the wallet keeps."""
    return [AssetView.of(asset) for asset in ASSETS.values()]


@router.get("/balances")
async def balances(wallet: Services, user: Reader) -> list[BalanceView]:
    """What the user has, by asset; assets that the user never had are left out."""
    async with wallet.database.transaction(read_only=True) as session:
        found = await wallet.ledger.balances(session, user.user_id)
    return [
        BalanceView(
            asset=code,
            available=asset.text(found[available(user.user_id, code)]),
            held=asset.text(found.get(available(user.user_id, code).held, 0)),
        )
        for code, asset in ASSETS.items()
        if available(user.user_id, code) in found
    ]


@router.get("/ledger")
async def ledger(
    wallet: Services,
    user: Reader,
    asset: Annotated[str, Query(max_length=12, examples=["USD"])],
    account: Annotated[
        AccountKind, Query(description="`available`, `held` or `loan`.")
    ] = AccountKind.AVAILABLE,
    before: Annotated[int | None, Query(gt=0, lt=2**63, description="Changes before this one.")] = None,
    limit: Limit = 100,
) -> EntryPage:
    """Every change of one of the user's accounts."""
    if asset not in ASSETS:
        raise Problem(404, "unknown-asset", f"There is no asset {asset}.")
    if not account.is_user:
        raise Problem(422, "invalid-request", "account: available, held or loan")
    wanted = Account(user.user_id, asset, account)
    async with wallet.database.transaction(read_only=True) as session:
        found = await wallet.ledger.entries(session, wanted, before, limit + 1)
    page = found[:limit]
    return EntryPage(
        entries=[EntryView.of(entry, ASSETS[asset]) for entry in page],
        next=page[-1].posting_id if len(found) > limit else None,
    )


@router.post("/withdrawals", status_code=201)
async def withdraw(wallet: Services, user: Withdrawer, body: WithdrawalBody) -> WithdrawalView:
    """Ask for a withdrawal: the funds are held at once."""
    wanted = WithdrawalRequest(str(body.id), body.asset, _units(body.asset, body.amount), body.destination)
    return WithdrawalView.of(await wallet.withdraw(user, wanted))


@router.get("/withdrawals")
async def withdrawals(
    wallet: Services,
    user: Reader,
    state: State | None = None,
    before: UUID | None = None,
    limit: Limit = 100,
) -> WithdrawalPage:
    """The user's withdrawals."""
    return await _page(wallet, user.user_id, state, before, limit)


@router.get("/withdrawals/{id}")
async def withdrawal(wallet: Services, user: Reader, id: UUID) -> WithdrawalView:
    """One withdrawal; operators see those of everybody."""
    async with wallet.database.transaction(read_only=True) as session:
        return WithdrawalView.of(await wallet.withdrawals.get(session, user, str(id)))


@router.post("/loans", status_code=201)
async def borrow(wallet: Services, user: Trader, body: LoanBody) -> TransferView:
    """Borrow against what the user has; interest is added at each full hour."""
    result = await wallet.lend(user.user_id, body.asset, _lendable(body), str(body.id))
    return TransferView(transfer_id=result.id, code=result.code)


@router.post("/loans/repayments", status_code=201)
async def repay(wallet: Services, user: Trader, body: LoanBody) -> TransferView:
    """Pay a part of a loan back from available funds."""
    work = partial(
        wallet.loans.repay, owner=user.user_id, asset=body.asset, amount=_lendable(body), id=str(body.id)
    )
    result = await wallet.transact(work)
    return TransferView(transfer_id=result.id, code=result.code)


@router.get("/loans")
async def loans(wallet: Services, user: Reader) -> list[LoanView]:
    """What the user owes, by asset."""
    async with wallet.database.transaction(read_only=True) as session:
        found = await wallet.loans.outstanding(session, [user.user_id])
    rate = wallet.settings.loan_rate_bps
    return [
        LoanView(asset=one.asset, amount=ASSETS[one.asset].text(one.amount), rate_bps=rate) for one in found
    ]


@operations.post("/deposits", status_code=201)
async def deposit(wallet: Services, _: Operator, body: DepositRequest) -> TransferView:
    """Book funds that arrived, once for each reference."""
    booked = Deposit(body.reference, body.owner, body.asset, _units(body.asset, body.amount))
    result = await wallet.transact(partial(wallet.deposits.book, deposit=booked))
    if result.code is Code.CONFLICT:
        raise Problem(409, "reference-in-use", f"{body.reference} was booked with another content.")
    if not result.done:
        raise Problem(409, "deposit-refused", f"The ledger refuses the deposit: {result.code}.")
    return TransferView(transfer_id=result.id, code=result.code)


@operations.get("/withdrawals")
async def all_withdrawals(
    wallet: Services,
    _: Operator,
    state: State | None = None,
    owner: Annotated[Owner | None, Query()] = None,
    before: UUID | None = None,
    limit: Limit = 100,
) -> WithdrawalPage:
    """Withdrawals of everybody."""
    return await _page(wallet, owner, state, before, limit)


@operations.post("/withdrawals/{id}/approve")
async def approve(wallet: Services, operator: Operator, id: UUID, body: StepBody) -> WithdrawalView:
    """Agree to a withdrawal of somebody else."""
    return await _advance(wallet, operator, id, State.APPROVED, body)


@operations.post("/withdrawals/{id}/reject")
async def reject(wallet: Services, operator: Operator, id: UUID, body: StepBody) -> WithdrawalView:
    """Give the funds back, also after bank or network returned them."""
    return await _advance(wallet, operator, id, State.REJECTED, body)


@operations.post("/withdrawals/{id}/sent")
async def sent(wallet: Services, operator: Operator, id: UUID, body: StepBody) -> WithdrawalView:
    """Bank or network has the withdrawal."""
    return await _advance(wallet, operator, id, State.SENT, body)


@operations.post("/withdrawals/{id}/settled")
async def settled(wallet: Services, operator: Operator, id: UUID, body: StepBody) -> WithdrawalView:
    """Bank or network confirmed the withdrawal."""
    return await _advance(wallet, operator, id, State.SETTLED, body)


@operations.post("/reconciliation")
async def reconcile(wallet: Services, _: Operator) -> ReportView:
    """Recompute the whole ledger now; nothing is repaired."""
    report = await wallet.reconciliation.check()
    return ReportView(
        clean=report.is_clean,
        imbalances=report.imbalances,
        differences=[DifferenceView.model_validate(found._asdict()) for found in report.differences],
    )


async def _page(
    wallet: Wallet, owner: str | None, state: State | None, before: UUID | None, limit: int
) -> WithdrawalPage:
    place = str(before) if before else None
    async with wallet.database.transaction(read_only=True) as session:
        found = await wallet.withdrawals.page(
            session, owner=owner, state=state, before=place, limit=limit + 1
        )
    page = found[:limit]
    return WithdrawalPage(
        withdrawals=[WithdrawalView.of(row) for row in page],
        next=page[-1].id if len(found) > limit else None,
    )


async def _advance(
    wallet: Wallet, operator: Principal, id: UUID, to: State, body: StepBody
) -> WithdrawalView:
    async def work(session: AsyncSession) -> WithdrawalView:
        row = await wallet.withdrawals.advance(session, operator, str(id), to, body.note)
        return WithdrawalView.of(row)

    return await wallet.transact(work)


def create_app(runtime: Runtime, wallet: Wallet) -> FastAPI:
    """The web application of the role."""
    app = web.create_app(runtime, router, operations)
    app.state.wallet = wallet
    return app


async def serve(runtime: Runtime) -> None:
    """Run the role; raises ConfigurationError before it listens when the environment is wrong."""
    settings = WalletSettings.load()
    bus, engine, risk = runtime.backends.bus, MatchingClient(runtime), RiskRole(runtime)
    wallet = Wallet.of(runtime.backends.database, settings, risk=risk if settings.risk_check else None)
    relay = Relay(runtime.backends.database, bus)
    settlement = Settlement(bus, runtime.backends.database, wallet.orders, engine.republish)
    server = web.HttpServer(runtime, create_app(runtime, wallet))

    async def identities() -> None:
        await wallet.identities.follow(bus)

    try:
        await runtime.serve(
            server,
            relay.run,
            settlement.run,
            wallet.run_sweeps,
            wallet.run_interest,
            identities,
            wallet.reconciliation.run,
            prepare=wallet.prepare,
        )
    finally:
        await engine.close()
        await risk.close()
