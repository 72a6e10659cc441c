"""Questions of other roles: may this loan be given, may this amount leave. No public route leads here."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from app.kit.internal import only_roles
from app.risk.schemas import CheckAnswer, CheckBody
from app.risk.service import Risk

router = APIRouter(prefix="/internal/risk", tags=["internal"], dependencies=[Depends(only_roles)])


def of_request(request: Request) -> Risk:
    """The services of this process."""
    risk: Risk = request.app.state.risk
    return risk


Services = Annotated[Risk, Depends(of_request)]


@router.post("/loans/check")
async def check_loan(risk: Services, body: CheckBody) -> CheckAnswer:
    """Whether an owner's equity would be enough for a new loan."""
    async with risk.database.transaction(read_only=True) as session:
        reason = await risk.margin.refuses_loan(session, body.owner, body.asset, body.amount)
    return CheckAnswer(allowed=not reason, reason=reason)


@router.post("/withdrawals/check")
async def check_withdrawal(risk: Services, body: CheckBody) -> CheckAnswer:
    """Whether an owner's equity would be enough after a withdrawal; always without debt."""
    async with risk.database.transaction(read_only=True) as session:
        reason = await risk.margin.refuses_withdrawal(session, body.owner, body.asset, body.amount)
    return CheckAnswer(allowed=not reason, reason=reason)
