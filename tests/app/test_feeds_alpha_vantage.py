"""Alpha Vantage, played by a local server; time is a clock of the test that pauses move on."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from prometheus_client import REGISTRY

from app.instruments import INSTRUMENTS
from app.kit import logs
from app.kit.settings import Settings
from app.price_collector.feeds import Quote
from app.price_collector.feeds.alpha_vantage import AlphaVantageFeed, Budget

KEY = "TOPSECRETKEY42"
FRIDAY = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
SATURDAY = datetime(2026, 11, 21, 15, 0, tzinfo=UTC)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"feed": "alpha-vantage", **labels}) or 0.0


def share(symbol: str = "AAPL", price: str = "228.4250", volume: int = 1000, day: str = "2026-11-20") -> Any:
    return {
        "Global Quote": {
            "01. symbol": symbol, "02. open": "227.5000", "03. high": "229.1000", "04. low": "226.8000",
            "05. price": price, "06. volume": str(volume), "07. latest trading day": day,
            "08. previous close": "225.9000", "09. change": "2.5200", "10. change percent": "1.1156%",
        }
    }  # fmt: skip


def rate(price: str = "1.084567", at: str = "2026-11-20 14:59:30", **changes: str) -> Any:
    content = {
        "1. From_Currency Code": "EUR", "2. From_Currency Name": "Euro", "3. To_Currency Code": "USD",
        "4. To_Currency Name": "United States Dollar", "5. Exchange Rate": price, "6. Last Refreshed": at,
        "7. Time Zone": "UTC", "8. Bid Price": "1.084559", "9. Ask Price": "1.084571",
    }  # fmt: skip
    return {"Realtime Currency Exchange Rate": content | changes}


class Double:
    """Gives its answers in turn; after the last one it only notes that it was asked."""

    def __init__(self, *answers: Any, now: datetime = FRIDAY) -> None:
        self.answers = list(answers)
        self.now = now
        self.asked: list[dict[str, str]] = []
        self.times: list[float] = []
        self.pauses: list[float] = []
        self.done = asyncio.Event()

    def clock(self) -> datetime:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += timedelta(seconds=seconds)
        if not self.answers:
            self.done.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target = urlsplit((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
            assert target.path == "/query"
            self.asked.append({name: values[0] for name, values in parse_qs(target.query).items()})
            self.times.append(self.now.timestamp())
            if not self.answers:
                self.done.set()
                await reader.read()
                return
            answer = self.answers.pop(0)
            status, body = answer if isinstance(answer, tuple) else (200, answer)
            if status == 0:
                await reader.read()  # no answer until the client has enough of waiting
                return
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + content)
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def asking(double: Double, *symbols: str, **options: Any) -> AsyncIterator[AsyncIterator[Any]]:
    server = await asyncio.start_server(double.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    options = {"per_minute": 5, "per_day": 25, "key": lambda: KEY} | options
    feed = AlphaVantageFeed(
        [INSTRUMENTS[symbol] for symbol in symbols],
        f"http://127.0.0.1:{port}",
        clock=double.clock,
        pause=double.pause,
        **options,
    )
    try:
        async with asyncio.timeout(30), aclosing(feed.stream()) as batches:
            yield batches
    finally:
        server.close()


async def all_quotes(double: Double, *symbols: str, **options: Any) -> list[Quote]:
    """What the feed tells until the double has no answers any more."""
    found: list[Quote] = []

    async def collect(batches: AsyncIterator[Any]) -> None:
        async for batch in batches:
            found.extend(batch)

    async with asking(double, *symbols, **options) as batches:
        task = asyncio.ensure_future(collect(batches))
        await double.done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return found


async def test_a_share() -> None:
    double = Double(share())
    async with asking(double, "AAPL") as batches:
        assert await anext(batches) == [Quote("AAPL", FRIDAY, 22842, 1, 22842, 22842)]
    assert double.asked == [{"function": "GLOBAL_QUOTE", "symbol": "AAPL", "apikey": KEY}]
    assert metric("feed_connected") == 1


async def test_a_currency_pair() -> None:
    double = Double(rate())
    async with asking(double, "EUR-USD") as batches:
        at = datetime(2026, 11, 20, 14, 59, 30, tzinfo=UTC)
        assert await anext(batches) == [Quote("EUR-USD", at, 108457, 1, 108455, 108458)]
    query = {"function": "CURRENCY_EXCHANGE_RATE", "from_currency": "EUR", "to_currency": "USD"}
    assert double.asked == [query | {"apikey": KEY}]


@pytest.mark.parametrize("changes", [{"8. Bid Price": "-"}, {"9. Ask Price": "-"}])
async def test_a_pair_without_both_sides_has_its_rate_for_them(changes: dict[str, str]) -> None:
    (quote,) = await all_quotes(Double(rate(**changes)), "EUR-USD")
    assert (quote.bid, quote.ask) == (108457, 108457)


async def test_crypto_is_not_asked_for() -> None:
    double = Double(share())
    await all_quotes(double, "BTC-USD", "AAPL")
    assert {query.get("symbol") for query in double.asked} == {"AAPL"}


async def test_a_size_is_what_the_volume_grew_and_nothing_is_told_twice() -> None:
    answers = [share(), share(), share(volume=1250), share(volume=40, day="2026-11-21")]
    quotes = await all_quotes(Double(*answers), "AAPL", per_day=2000)
    assert [q.size for q in quotes] == [1, 250, 1]


async def test_a_closed_market_is_asked_once_and_told_with_its_last_day() -> None:
    double = Double(share(), now=SATURDAY)
    (quote,) = await all_quotes(double, "AAPL")
    assert quote.at == datetime(2026, 11, 20, 20, 59, 59, tzinfo=UTC)
    assert len(double.asked) == 1


async def test_requests_keep_both_limits() -> None:
    symbols = [i.symbol for i in INSTRUMENTS.values() if i.asset_class == "equity"]
    double = Double(*(share(s) for _ in range(5) for s in symbols))
    await all_quotes(double, *symbols, per_minute=5, per_day=12)
    times = double.times
    assert len(times) >= 40
    assert all(b - a >= 12 for a, b in zip(times, times[5:], strict=False))
    assert all(sum(t <= u < t + 60 for u in times) <= 5 for t in times)
    assert all(sum(t <= u < t + 86_400 for u in times) <= 12 for t in times)
    assert times[len(symbols) - 1] - times[0] < 120, "every symbol soon has a price"


def test_a_budget_spreads_the_day_after_its_first_round() -> None:
    budget, now, times = Budget(per_minute=5, per_day=25, burst=14), 0.0, []
    for _ in range(60):
        now += budget.wait(now)
        budget.spend(now)
        times.append(now)
    assert times[13] == 13 * 12
    assert times[14] - times[13] == 3456
    assert all(b - a >= 86_400 for a, b in zip(times, times[25:], strict=False))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Every log line of the process, as it would be written."""
    root, sink = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    logs.configure(Settings.load(log_level="DEBUG"))
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(sink)
    yield sink
    root.handlers[:] = handlers
    root.setLevel(level)


REFUSALS = [
    ({"Note": f"Thank you! 5 calls per minute and 500 calls per day. {KEY}"}, "rate_limited", 60),
    ({"Information": "Please consider spreading out your free API requests more sparingly (1 request per "
      "second) ... (25 requests per day)"}, "rate_limited", 60),
    ({"Information": f"We have detected your API key as {KEY} and our standard API rate limit is 25 requests "
      "per day. Please subscribe to any of the premium plans"}, "quota_exhausted", 3600),
    ({"Information": "The **demo** API key is for demo purposes only. Please claim your free API key"},
     "bad_key", 3600),
    ({"Error Message": "the parameter apikey is invalid or missing."}, "bad_key", 3600),
    ({"Information": "Something new"}, "refused", 60),
    ((429, b""), "rate_limited", 60),
    ((503, b"<html>"), "http_status", 60),
    ((302, b""), "http_status", 60),
    (b"<html>", "malformed", 60),
    (b"[]", "malformed", 60),
    ({}, "malformed", 60),
    ({"Global Quote": []}, "malformed", 60),
    (share(price="None"), "malformed", 60),
    (share(price="0.0000"), "malformed", 60),
    (share(symbol="MSFT"), "malformed", 60),
    (share(day="yesterday"), "malformed", 60),
    (json.dumps(share()).encode() + b" " * 100_000, "malformed", 60),
    ((0, b""), "timeout", 60),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "reason", "seconds"), REFUSALS)
async def test_a_refusal_has_a_state_a_pause_and_no_key_in_the_log(
    answer: Any, reason: str, seconds: float, log: io.StringIO
) -> None:
    before = metric("feed_errors_total", reason=reason)
    double = Double(answer)
    assert await all_quotes(double, "AAPL", timeout=3 if reason == "timeout" else 30) == []
    assert metric("feed_errors_total", reason=reason) == before + 1
    assert metric("feed_connected") == 0
    assert double.pauses[0] == seconds
    assert double.asked[0]["apikey"] == KEY
    assert f'"reason":"{reason}"' in log.getvalue()
    assert KEY not in log.getvalue()


async def test_pauses_grow_while_the_limit_is_told_and_end_with_an_answer() -> None:
    note = {"Note": "5 calls per minute"}
    double = Double(*[note] * 8, share(), note)
    quotes = await all_quotes(double, "AAPL", per_minute=1200, per_day=2_000_000)
    assert [pause for pause in double.pauses if pause >= 60] == [60, 120, 240, 480, 960, 1920, 3600, 3600, 60]
    assert len(quotes) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"Global Quote": {}},
        {"Error Message": "Invalid API call. Please retry or visit the documentation for GLOBAL_QUOTE."},
        {"Information": "Thank you for using Alpha Vantage! This is a premium endpoint."},
    ],
)
async def test_a_symbol_that_the_source_does_not_have_costs_one_request_a_day(answer: Any) -> None:
    double = Double(answer, *(share("MSFT", volume=n) for n in range(4)))
    quotes = await all_quotes(double, "AAPL", "MSFT", per_day=2000)
    assert {q.symbol for q in quotes} == {"MSFT"}
    assert [query["symbol"] for query in double.asked].count("AAPL") == 1


async def test_without_a_key_nothing_is_sent() -> None:
    keys: list[str | None] = [None, "", KEY]
    key: Callable[[], str | None] = lambda: keys.pop(0) if len(keys) > 1 else keys[0]  # noqa: E731
    double = Double(share())
    assert len(await all_quotes(double, "AAPL", key=key)) == 1
    assert double.pauses[:2] == [60, 60]
    assert double.asked[0]["apikey"] == KEY


async def test_a_source_that_does_not_listen() -> None:
    before = metric("feed_errors_total", reason="unreachable")
    server = await asyncio.start_server(Double().handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    double = Double()
    feed = AlphaVantageFeed(
        [INSTRUMENTS["AAPL"]], f"http://127.0.0.1:{port}", lambda: KEY, per_minute=5, per_day=25,
        clock=double.clock, pause=double.pause,
    )  # fmt: skip
    task = asyncio.ensure_future(anext(feed.stream()))
    async with asyncio.timeout(30):
        await double.done.wait()
    task.cancel()
    assert metric("feed_errors_total", reason="unreachable") == before + 1
