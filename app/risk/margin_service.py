"""The margin of owners as it is now, and what it allows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from sqlalchemy.ext.asyncio import AsyncSession

from app.instruments import INSTRUMENTS
from app.risk.funds import Funds, Holding
from app.risk.margin import Margin, NoPrice, haircuts, margin, prices
from app.risk.settings import RiskSettings

_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Account:
    """What somebody has and owes, with the prices of that moment."""

    holdings: Mapping[str, Holding]
    debts: Mapping[str, int]
    prices: Mapping[str, Fraction]
    margin: Margin

    @property
    def free(self) -> dict[str, int]:
        """Asset → what is available."""
        return {asset: holding.free for asset, holding in self.holdings.items()}


class MarginService:
    """Reads funds and marks; `mark` tells the price of a symbol in ticks, None when there is none."""

    def __init__(self, funds: Funds, mark: Callable[[str], int | None], settings: RiskSettings) -> None:
        self.funds = funds
        self.settings = settings
        self.haircuts = haircuts(settings)
        self._mark = mark

    async def account(
        self,
        session: AsyncSession,
        owner: str,
        *,
        debts: Mapping[str, int] | None = None,
        assets: Mapping[str, int] = _NOTHING,
        owed: Mapping[str, int] = _NOTHING,
    ) -> Account:
        """An owner's margin; `assets` and `owed` are added first, to see what would be.

        `debts` are read unless they are given.

        Raises:
            NoPrice: what is owed has no price.
        """
        holdings = await self.funds.holdings(session, owner)
        known = (await self.funds.debts(session, [owner])).get(owner, {}) if debts is None else debts
        now_owed = dict(known)
        balances = {asset: holding.total for asset, holding in holdings.items()}
        for added, to in ((assets, balances), (owed, now_owed)):
            for asset, amount in added.items():
                to[asset] = to.get(asset, 0) + amount
        now = self.prices()
        return Account(holdings, now_owed, now, margin(balances, now_owed, now, self.haircuts))

    def prices(self) -> dict[str, Fraction]:
        """Asset → dollars."""
        marks = {symbol: mark for symbol in INSTRUMENTS if (mark := self._mark(symbol)) is not None}
        return prices(marks)

    async def refuses_loan(self, session: AsyncSession, owner: str, asset: str, amount: int) -> str:
        """Why a new loan is not allowed; empty when it is."""
        try:
            found = await self.account(session, owner, assets={asset: amount}, owed={asset: amount})
        except NoPrice:
            return "no_price"
        return "" if found.margin.meets(self.settings.initial_margin_ppm) else "initial_margin"

    async def refuses_withdrawal(self, session: AsyncSession, owner: str, asset: str, amount: int) -> str:
        """Why an amount may not leave; empty when it may. Without debt margin never refuses."""
        try:
            found = await self.account(session, owner, assets={asset: -amount})
        except NoPrice:
            return "no_price"
        if not found.debts or found.margin.meets(self.settings.initial_margin_ppm):
            return ""
        return "initial_margin"
