"""What an account is worth, for the channel `portfolio`: what the portfolio knows, at the latest prices."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from app.instruments import INSTRUMENTS
from app.kit import internal
from app.kit.errors import Unavailable
from app.kit.runtime import Runtime
from app.kit.upstream import role_client
from app.portfolio import valuation
from app.portfolio.position import Position
from app.portfolio.valuation import Balance, Price, Totals
from app.price_service.frames import frame
from app.wallet.ledger.assets import ASSETS, notional

_SECONDS = 2.0
_CONNECTIONS = 16
"""Requests at a time: many users come back at once, and the portfolio has others to serve."""


@dataclass(frozen=True, slots=True)
class Account:
    """An owner's funds and positions."""

    balances: list[Balance]
    positions: dict[str, Position]

    @property
    def symbols(self) -> frozenset[str]:
        """Whose prices change its worth."""
        markets = {market for balance in self.balances if (market := valuation.market_of(balance.asset))}
        return frozenset(markets | {symbol for symbol, held in self.positions.items() if held.lots})

    def frame(self, price: Price) -> bytes:
        """The message that tells its worth."""
        totals = valuation.totals(self.balances, self.positions, price)
        held = {symbol: position for symbol, position in self.positions.items() if position.lots}
        return frame(
            {
                "type": "portfolio",
                "stream": "portfolio",
                "time": int(time.time() * 1000),
                "totals": [_totals(sums) for sums in totals.values()],
                "positions": [_position(symbol, held[symbol], price) for symbol in sorted(held)],
            }
        )


def _totals(sums: Totals) -> dict[str, Any]:
    text = ASSETS[sums.currency].text
    return {
        "currency": sums.currency,
        "equity": text(sums.equity),
        "cash": text(sums.cash),
        "borrowed": text(sums.borrowed),
        "holdings": text(sums.holdings),
        "market_value": text(sums.market_value),
        "unrealised": text(sums.unrealised),
        "realised": text(sums.realised),
        "unpriced": sums.unpriced,
    }


def _position(symbol: str, position: Position, price: Price) -> dict[str, Any]:
    instrument, mark = INSTRUMENTS[symbol], price(symbol)

    def amount(value: int) -> str:
        return ASSETS[instrument.currency].text(notional(instrument, 1, value))

    return {
        "symbol": symbol,
        "currency": instrument.currency,
        "quantity": str(instrument.quantity(position.lots)),
        "cost": amount(position.cost),
        "mark": None if mark is None else str(instrument.price(mark)),
        "market_value": None if mark is None else amount(position.value(mark)),
        "unrealised": None if mark is None else amount(position.unrealised(mark)),
        "realised": amount(position.realised),
    }


class AccountClient:
    """Asks the role `portfolio`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._client = role_client(
            httpx.Timeout(_SECONDS, pool=None), httpx.Limits(max_connections=_CONNECTIONS)
        )

    async def account(self, owner: str) -> Account:
        """An owner's funds and positions; raises Unavailable."""
        url = f"{self._runtime.upstream('portfolio')}/internal/portfolio/accounts/{quote(owner, safe='')}"
        try:
            answer = await self._client.get(url, headers=internal.headers(self._runtime.settings))
        except httpx.HTTPError as error:
            raise Unavailable("portfolio", type(error).__name__) from error
        if answer.status_code != 200:
            raise Unavailable("portfolio", f"status {answer.status_code}")
        try:
            return _account(answer.json())
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable("portfolio", f"its answer cannot be read: {error!r}") from error

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()


def _account(told: Mapping[str, Any]) -> Account:
    """Without what only a newer version of the app trades."""
    return Account(
        [
            Balance(each["asset"], each["available"], each["held"], each["borrowed"])
            for each in told["balances"]
            if each["asset"] in ASSETS
        ],
        {
            each["symbol"]: Position(each["lots"], each["cost"], each["realised"])
            for each in told["positions"]
            if each["symbol"] in INSTRUMENTS
        },
    )
