"""The first part of running candles, from the role `market-data`."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx

from app.instruments import INSTRUMENTS, Instrument
from app.kit.errors import Unavailable
from app.kit.runtime import Runtime
from app.kit.upstream import role_client
from app.market_data.candles import Candle
from app.price_service.candles import INTERVALS, Base
from app.price_service.streams import Position

_SECONDS = 2.0
_CONNECTIONS = 4
"""Requests at a time: after a restart every symbol is asked for, and market-data has others to serve."""


class CandleBases:
    """Asks the role `market-data`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._client = role_client(
            httpx.Timeout(_SECONDS, pool=None), httpx.Limits(max_connections=_CONNECTIONS)
        )

    async def base(self, symbol: str) -> Base | None:
        """The candles of a symbol and the tick they count up to; None before its first trade.

        Raises:
            Unavailable: it does not answer, or not in a way that can be read.
        """
        url = f"{self._runtime.upstream('market-data')}/api/market/candles/{quote(symbol, safe='')}/running"
        try:
            answer = await self._client.get(url)
        except httpx.HTTPError as error:
            raise Unavailable("market-data", type(error).__name__) from error
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise Unavailable("market-data", f"status {answer.status_code}")
        try:
            return _base(symbol, answer.json())
        except (ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise Unavailable("market-data", f"its answer cannot be read: {error!r}") from error

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()


def _base(symbol: str, told: Mapping[str, Any]) -> Base | None:
    as_of = told["as_of"]
    if as_of is None:
        return None
    candles = {name: _candle(INSTRUMENTS[symbol], told["candles"][name]) for name in INTERVALS}
    return Base(Position(as_of["epoch"], as_of["seq"]), candles)


def _candle(instrument: Instrument, told: Mapping[str, Any]) -> Candle:
    def ticks(key: str) -> int:
        return instrument.ticks(Decimal(told[key]))

    return Candle(
        instrument.symbol,
        int(datetime.fromisoformat(told["start"]).timestamp()),
        ticks("open"),
        ticks("high"),
        ticks("low"),
        ticks("close"),
        int(Decimal(told["volume"]) / instrument.lot_size),
        told["trades"],
        told["closed"],
    )
