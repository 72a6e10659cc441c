"""Binance's public market data as quotes: trades and best prices over one WebSocket connection.

Documented at https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams: a connection lives
24 hours, takes 5 messages a second from its client (pings and pongs count) and 1024 streams, and an address
may connect 300 times in 5 minutes. The server pings every 20 seconds and wants its pong within a minute. The
streams are named in the address, so nothing but pongs is ever sent.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import orjson
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.instruments import Instrument
from app.kit import logs
from app.price_collector.feeds import Quote
from app.price_collector.feeds.common import (
    Backoff,
    LiveFeed,
    Rounding,
    connected,
    errors,
    reconnects,
    whole,
)

SYMBOLS = {
    "BTC-USD": "BTCUSDT",
    "ETH-USD": "ETHUSDT",
    "SOL-USD": "SOLUSDT",
    "XRP-USD": "XRPUSDT",
    "ADA-USD": "ADAUSDT",
    "DOGE-USD": "DOGEUSDT",
    "AVAX-USD": "AVAXUSDT",
    "LINK-USD": "LINKUSDT",
}
"""Our symbol → Binance's. Its dollar markets are in USDT, which is taken for a dollar."""

_NAME = "binance"
_LIFETIME = 23.5 * 3600
"""Seconds; leaves before the 24 hours after which the server ends a connection."""
_STREAMS = 1024
_SILENCE = 60.0
"""Seconds without a frame, pings included, after which the connection is asked for a sign of life."""
_REPLY = 10.0
_MAX_FRAME = 65536
_BUFFER = 5000
"""Trades that wait to be taken; when more come, the oldest are dropped."""

_log = logs.get(__name__)
_Id = Annotated[int, Field(ge=0, lt=2**63)]
_Text = Annotated[str, Field(max_length=41)]


class _Payload(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    symbol: _Text = Field(alias="s")


class _Trade(_Payload):
    id: _Id = Field(alias="a")
    price: _Text = Field(alias="p")
    quantity: _Text = Field(alias="q")
    at: int = Field(alias="T", ge=0, lt=10_000_000_000_000)


class _Book(_Payload):
    id: _Id = Field(alias="u")
    bid: _Text = Field(alias="b")
    ask: _Text = Field(alias="a")


class _Connection(WSListener):
    """One connection: from frames to quotes that wait."""

    def __init__(self, instruments: dict[str, Instrument], trades: dict[str, int], lifetime: float) -> None:
        """`trades` are the ids of the last trades before, by Binance's symbol; they go on to be kept."""
        self._instruments = instruments
        self._trades = trades
        self._fresh = set(instruments)
        self._books: dict[str, tuple[int, int, int]] = {}
        self._quotes: deque[Quote] = deque()
        self._news = asyncio.Event()
        self._ended = False
        self._told = False
        self._until = asyncio.get_running_loop().time() + lifetime
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """See `WSListener`."""
        self._transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """See `WSListener`."""
        self._end("disconnected")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """See `WSListener`."""
        if frame.msg_type is WSMsgType.CLOSE:
            self._end("disconnected")
            transport.disconnect()
        elif frame.msg_type is WSMsgType.TEXT and not self._ended:
            try:
                self._receive(frame.get_payload_as_bytes())
            except (ValueError, KeyError) as error:
                self._malformed(error)

    async def batch(self) -> list[Quote]:
        """Quotes that came, oldest first; none when the connection is to be replaced."""
        loop = asyncio.get_running_loop()
        while not self._quotes and not self._ended:
            self._news.clear()
            try:
                async with asyncio.timeout_at(self._until):
                    await self._news.wait()
            except TimeoutError:
                self._end("lifetime")
        if loop.time() >= self._until:
            self._end("lifetime")
        quotes = list(self._quotes)
        self._quotes.clear()
        return quotes

    def close(self) -> None:
        """Disconnect."""
        self._ended = True
        if self._transport is not None:
            self._transport.disconnect()

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            _log.info("feed connection ends", feed=_NAME, reason=reason)
            if reason != "lifetime":
                errors.labels(_NAME, reason).inc()
        self._news.set()

    def _malformed(self, error: Exception) -> None:
        errors.labels(_NAME, "malformed").inc()
        if not self._told:  # one line for each connection: a source that speaks otherwise does so often
            self._told = True
            told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            _log.warning("unreadable message of a feed", feed=_NAME, reason=told[:200])

    def _receive(self, text: bytes) -> None:
        message = orjson.loads(text)
        if not isinstance(message, dict):
            raise ValueError("no object")
        data = message.get("data", message.get("event", message))
        if not isinstance(data, dict):
            raise ValueError("no payload")
        if data.get("e") == "serverShutdown":
            self._end("server_shutdown")
        elif data.get("e") == "aggTrade":
            self._trade(_Trade.model_validate(data))
        elif str(message.get("stream")).endswith("@bookTicker"):
            self._book(_Book.model_validate(data))
        else:
            raise ValueError("unknown event")

    def _book(self, book: _Book) -> None:
        tick = self._instruments[book.symbol].tick_size
        before = self._books.get(book.symbol)
        if before is None or book.id > before[0]:
            bid, ask = whole(book.bid, tick, Rounding.DOWN), whole(book.ask, tick, Rounding.UP)
            self._books[book.symbol] = (book.id, bid, ask)

    def _trade(self, trade: _Trade) -> None:
        instrument = self._instruments[trade.symbol]
        price = whole(trade.price, instrument.tick_size)
        size = whole(trade.quantity, instrument.lot_size)
        last = self._trades.get(trade.symbol)
        # Ids count within a connection; a first one may begin anew, but shows what was missed in between.
        if last is not None and trade.id <= last and trade.symbol not in self._fresh:
            errors.labels(_NAME, "repeated").inc()
            return
        if last is not None and trade.id > last + 1:
            errors.labels(_NAME, "gap").inc()
        self._fresh.discard(trade.symbol)
        self._trades[trade.symbol] = trade.id
        _, bid, ask = self._books.get(trade.symbol, (0, price, price))
        at = datetime.fromtimestamp(trade.at / 1000, UTC)
        if len(self._quotes) >= _BUFFER:
            self._quotes.popleft()
            errors.labels(_NAME, "overflow").inc()
        self._quotes.append(Quote(instrument.symbol, at, price, size, bid, ask))
        self._news.set()


class BinanceFeed(LiveFeed):
    """Quotes of the symbols in `SYMBOLS`: one for each trade, with the best prices told before it."""

    def __init__(
        self,
        instruments: Iterable[Instrument],
        url: str,
        *,
        lifetime: float = _LIFETIME,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`url` is scheme and host; `lifetime` (seconds) is how long a connection is used.

        Raises:
            ValueError: more symbols than one connection carries.
        """
        self._instruments = {SYMBOLS[i.symbol]: i for i in instruments if i.symbol in SYMBOLS}
        names = [
            f"{symbol.lower()}@{kind}" for symbol in self._instruments for kind in ("bookTicker", "aggTrade")
        ]
        if len(names) > _STREAMS:
            raise ValueError(f"{len(names)} streams, a connection carries {_STREAMS}")
        self._url = f"{url}/stream?streams={'/'.join(names)}"
        self._lifetime = lifetime
        self._pause = pause
        self._trades: dict[str, int] = {}

    async def stream(self) -> AsyncIterator[Sequence[Quote]]:
        """See `Feed`."""
        backoff = Backoff(60.0)
        first = True
        while True:
            connection = await self._connect()
            if connection is not None:
                connected.labels(_NAME).set(1)
                reconnects.labels(_NAME).inc(0 if first else 1)
                first = False
                try:
                    while quotes := await connection.batch():
                        backoff.reset()
                        yield quotes
                finally:
                    connected.labels(_NAME).set(0)
                    connection.close()
            await self._pause(backoff.next())

    async def _connect(self) -> _Connection | None:
        try:
            _, listener = await ws_connect(
                lambda: _Connection(self._instruments, self._trades, self._lifetime),
                self._url,
                enable_auto_ping=True,
                auto_ping_idle_timeout=_SILENCE,
                auto_ping_reply_timeout=_REPLY,
                max_frame_size=_MAX_FRAME,
                max_redirects=0,
            )
        except (OSError, WSError) as error:
            reason = "unreachable" if isinstance(error, OSError) else "refused"
            errors.labels(_NAME, reason).inc()
            _log.warning("feed waits", feed=_NAME, reason=reason, error=str(error)[:200])
            return None
        assert isinstance(listener, _Connection)  # noqa: S101 - the factory made it
        return listener
