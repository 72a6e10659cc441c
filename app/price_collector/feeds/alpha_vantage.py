"""Shares and currencies from Alpha Vantage: GLOBAL_QUOTE and CURRENCY_EXCHANGE_RATE over HTTP.

Documented at https://www.alphavantage.co/documentation/. It answers 200 whatever happened; what went wrong is
said by a field of the body, see `read_refusal`. Its texts may name the key, so none of them is logged.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import httpx
import orjson
from pydantic import BaseModel, Field, ValidationError

from app.instruments import AssetClass, Instrument
from app.kit import logs
from app.price_collector.feeds import Quote
from app.price_collector.feeds.common import LiveFeed, Rounding, connected, errors, whole

_NAME = "alpha-vantage"
_NEW_YORK = ZoneInfo("America/New_York")
_CLOSE = time(15, 59, 59)
"""The last second of a trading day: quotes of shares have a day, but no time."""
_TIMEOUT = 15.0
"""Seconds for a whole answer."""
_MAX_BODY = 65536
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0

_log = logs.get(__name__)
_Text = Annotated[str, Field(max_length=41)]


class Refused(Exception):
    """No price this time: a reason for logs and metrics, and whether it holds for every symbol."""

    def __init__(self, reason: str, *, everything: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.everything = everything


_PAUSES = {"bad_key": _HOUR, "no_key": _MINUTE, "quota_exhausted": _HOUR}
"""Seconds without a request, by reason; others wait a minute at first, then twice as long, up to an hour.

When the day of a quota ends is not documented."""


def read_refusal(body: dict[str, Any]) -> Refused | None:
    """What an answer without a price says, None for one that may have a price.

    `Error Message` is a wrong request or key, `Note` a limit by the minute, `Information` a limit, a demo key
    or an endpoint of paid plans; texts as users reported them to libraries between 2018 and 2025.
    """
    if "Error Message" in body:
        is_key = "apikey" in str(body["Error Message"]).lower()
        return Refused("bad_key") if is_key else Refused("unknown_symbol", everything=False)
    if "Note" in body:
        return Refused("rate_limited")
    if "Information" not in body:
        return None
    text = str(body["Information"]).lower()
    if "demo" in text or "claim your free api key" in text:
        return Refused("bad_key")
    if "premium endpoint" in text:
        return Refused("premium_only", everything=False)
    if "sparingly" in text or "per second" in text or "per minute" in text:
        return Refused("rate_limited")
    return Refused("quota_exhausted" if "per day" in text else "refused")


class _Share(BaseModel):
    symbol: _Text = Field(alias="01. symbol")
    price: _Text = Field(alias="05. price")
    volume: _Text = Field(alias="06. volume", pattern=r"^\d{1,18}$")
    day: _Text = Field(alias="07. latest trading day")


class _Rate(BaseModel):
    base: _Text = Field(alias="1. From_Currency Code")
    currency: _Text = Field(alias="3. To_Currency Code")
    price: _Text = Field(alias="5. Exchange Rate")
    refreshed: _Text = Field(alias="6. Last Refreshed")
    zone: _Text = Field(alias="7. Time Zone", pattern="^UTC$")
    bid: _Text | None = Field(default=None, alias="8. Bid Price")
    ask: _Text | None = Field(default=None, alias="9. Ask Price")


@dataclass
class Budget:
    """When the next request may be sent: the first `burst` at the pace of a minute, later ones over the day.

    Counts from the start of the process; what was spent before, only the source knows and says.
    """

    per_minute: int
    per_day: int
    burst: int

    def __post_init__(self) -> None:
        self._times: deque[float] = deque(maxlen=self.per_day)
        self._sent = 0

    def wait(self, now: float) -> float:
        """Seconds until a request is allowed."""
        if not self._times:
            return 0.0
        pace = _MINUTE / self.per_minute
        if self._sent >= self.burst:
            pace = max(pace, _DAY / self.per_day)
        allowed = self._times[-1] + pace
        if len(self._times) == self.per_day:
            allowed = max(allowed, self._times[0] + _DAY)
        return max(0.0, allowed - now)

    def spend(self, now: float) -> None:
        """A request is sent."""
        self._times.append(now)
        self._sent += 1


class AlphaVantageFeed(LiveFeed):
    """Quotes of shares and currency pairs, one symbol after another while its market is open.

    Every symbol is asked for once, open or not, so that it has a price. Nothing is told twice. A share's size
    is how much its day's volume grew; currencies have none and get one lot.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        url: str,
        key: Callable[[], str | None],
        *,
        per_minute: int,
        per_day: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        timeout: float = _TIMEOUT,
    ) -> None:
        """`key` is asked before each request; limits are requests; `timeout` seconds for a whole answer."""
        self._instruments = [i for i in instruments if i.asset_class in (AssetClass.EQUITY, AssetClass.FX)]
        self._url = url
        self._key = key
        self._budget = Budget(per_minute, per_day, burst=len(self._instruments))
        self._clock = clock
        self._pause = pause
        self._timeout = timeout
        self._asked: set[str] = set()
        self._without: dict[str, float] = {}
        """Symbols that the source does not have, and the Unix time when they are asked for again."""
        self._told: dict[str, _Share | _Rate] = {}
        self._failures = 0

    async def stream(self) -> AsyncIterator[Sequence[Quote]]:
        """See `Feed`."""
        connected.labels(_NAME).set(0)
        async with httpx.AsyncClient(base_url=self._url, trust_env=False) as client:
            while True:
                idle = True
                for instrument in self._instruments:
                    if self._wanted(instrument):
                        idle = False
                        if quote := await self._try(client, instrument):
                            yield [quote]
                if idle:
                    await self._pause(_MINUTE)

    def _wanted(self, instrument: Instrument) -> bool:
        now = self._clock()
        if now.timestamp() < self._without.get(instrument.symbol, 0.0):
            return False
        return instrument.symbol not in self._asked or instrument.calendar.is_open(now)

    async def _try(self, client: httpx.AsyncClient, instrument: Instrument) -> Quote | None:
        """Ask once, in turn; after a refusal wait as long as it calls for."""
        try:
            key = self._key()
            if not key:
                raise Refused("no_key")
            if wait := self._budget.wait(self._clock().timestamp()):
                await self._pause(wait)
            self._budget.spend(self._clock().timestamp())
            quote = self._quote(instrument, await self._ask(client, instrument, key))
        except Refused as refused:
            await self._refused(instrument, refused)
            return None
        self._failures = 0
        self._asked.add(instrument.symbol)
        connected.labels(_NAME).set(1)
        return quote

    async def _refused(self, instrument: Instrument, refused: Refused) -> None:
        errors.labels(_NAME, refused.reason).inc()
        if not refused.everything:
            self._without[instrument.symbol] = self._clock().timestamp() + _DAY
            _log.warning(
                "feed has no such symbol", feed=_NAME, symbol=instrument.symbol, reason=refused.reason
            )
            return
        self._failures += 1
        connected.labels(_NAME).set(0)
        seconds = _PAUSES.get(refused.reason) or min(_HOUR, _MINUTE * 2.0 ** min(self._failures - 1, 10))
        _log.warning("feed waits", feed=_NAME, reason=refused.reason, seconds=seconds)
        await self._pause(seconds)

    async def _ask(self, client: httpx.AsyncClient, instrument: Instrument, key: str) -> dict[str, Any]:
        """The body of an answer that may have a price."""
        if instrument.asset_class is AssetClass.FX:
            base, currency = instrument.symbol.split("-")
            query = {
                "function": "CURRENCY_EXCHANGE_RATE",
                "from_currency": base,
                "to_currency": currency,
                "apikey": key,
            }
        else:
            query = {"function": "GLOBAL_QUOTE", "symbol": instrument.symbol, "apikey": key}
        # Causes are cut off: their texts may have the address, and with it the key.
        try:
            async with (
                asyncio.timeout(self._timeout),
                client.stream("GET", "/query", params=query, timeout=self._timeout) as answer,
            ):
                status, content = answer.status_code, b""
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > _MAX_BODY:
                        raise Refused("malformed")
        except (TimeoutError, httpx.TimeoutException):
            raise Refused("timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise Refused("unreachable") from None
        if status != 200:
            raise Refused("rate_limited" if status == 429 else "http_status")
        try:
            body = orjson.loads(content)
        except ValueError:
            raise Refused("malformed") from None
        if not isinstance(body, dict):
            raise Refused("malformed")
        if refusal := read_refusal(body):
            raise refusal
        return body

    def _quote(self, instrument: Instrument, body: dict[str, Any]) -> Quote | None:
        """The quote in an answer, None when nothing happened since the last one."""
        is_rate = instrument.asset_class is AssetClass.FX
        content = body.get("Realtime Currency Exchange Rate" if is_rate else "Global Quote")
        if content == {}:  # what it says of shares that it does not know
            raise Refused("unknown_symbol", everything=False)
        told: _Share | _Rate
        try:
            told = _Rate.model_validate(content) if is_rate else _Share.model_validate(content)
            if self._told.get(instrument.symbol) == told:
                return None
            quote = self._rate(instrument, told) if isinstance(told, _Rate) else self._share(instrument, told)
        except (ValidationError, ValueError):
            raise Refused("malformed") from None
        self._told[instrument.symbol] = told
        return quote

    def _rate(self, instrument: Instrument, rate: _Rate) -> Quote:
        if f"{rate.base}-{rate.currency}" != instrument.symbol:
            raise ValueError("another pair")
        tick = instrument.tick_size
        price = whole(rate.price, tick)
        at = datetime.fromisoformat(rate.refreshed).replace(tzinfo=UTC)
        sides = rate.bid not in (None, "-") and rate.ask not in (None, "-")
        bid = whole(str(rate.bid), tick, Rounding.DOWN) if sides else price
        ask = whole(str(rate.ask), tick, Rounding.UP) if sides else price
        return Quote(instrument.symbol, min(at, self._clock()), price, 1, bid, ask)

    def _share(self, instrument: Instrument, share: _Share) -> Quote:
        if share.symbol != instrument.symbol:
            raise ValueError("another symbol")
        price = whole(share.price, instrument.tick_size)
        closed = datetime.combine(datetime.fromisoformat(share.day).date(), _CLOSE, _NEW_YORK)
        before = self._told.get(instrument.symbol)
        grown = (
            int(share.volume) - int(before.volume)
            if isinstance(before, _Share) and before.day == share.day
            else 0
        )
        at = min(closed.astimezone(UTC), self._clock())
        return Quote(instrument.symbol, at, price, max(1, grown), price, price)
