"""What other roles ask of the portfolio: funds and positions to value. No public route leads here."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, Field

from app.kit.internal import only_roles
from app.portfolio.service import Portfolio

router = APIRouter(prefix="/internal/portfolio", tags=["internal"], dependencies=[Depends(only_roles)])


class Funds(BaseModel):
    """Funds of one asset, in its smallest units."""

    asset: str
    available: int
    held: int
    borrowed: int


class Holding(BaseModel):
    """A position in lots, and ticks times lots; see `app.portfolio.position`."""

    symbol: str
    lots: int
    cost: int
    realised: int


class Account(BaseModel):
    """All that an owner's worth is made of."""

    balances: list[Funds] = Field(description="Of every asset the owner ever had.")
    positions: list[Holding] = Field(description="Those that are closed, too: they have realised profit.")


@router.get("/accounts/{owner}")
async def account(request: Request, owner: Annotated[str, Path(max_length=80)]) -> Account:
    """An owner's funds and positions; both empty for one who is not known."""
    portfolio: Portfolio = request.app.state.portfolio
    async with portfolio.database.transaction(read_only=True) as session:
        found = await portfolio.overview(session, owner)
    return Account(
        balances=[
            Funds(asset=each.asset, available=each.available, held=each.held, borrowed=each.borrowed)
            for each in found.balances
        ],
        positions=[
            Holding(
                symbol=symbol,
                lots=held.position.lots,
                cost=held.position.cost,
                realised=held.position.realised,
            )
            for symbol, held in found.positions.items()
        ],
    )
