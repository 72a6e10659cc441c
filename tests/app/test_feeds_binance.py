"""Binance's streams, played by a local server that speaks as documented and as it should not."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from app.events.prices import PriceTick
from app.events.reading import payloads
from app.instruments import INSTRUMENTS
from app.price_collector.feeds import Quote
from app.price_collector.feeds.binance import SYMBOLS, BinanceFeed
from app.prices import read_latest
from tests.app.platform import running

AT = 1672515782136


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"feed": "binance", **labels}) or 0.0


def combined(stream: str, data: dict[str, Any]) -> str:
    return json.dumps({"stream": stream, "data": data})


def trade(number: int, price: str = "64250.12", quantity: str = "0.00150", symbol: str = "BTCUSDT") -> str:
    data = {
        "e": "aggTrade", "E": AT, "s": symbol, "a": number, "p": price, "q": quantity, "f": 100, "l": 105,
        "T": AT, "m": True, "M": True,
    }  # fmt: skip
    return combined(f"{symbol.lower()}@aggTrade", data)


def book(update: int, bid: str, ask: str, symbol: str = "BTCUSDT") -> str:
    data = {"u": update, "s": symbol, "b": bid, "B": "31.21000000", "a": ask, "A": "40.66000000"}
    return combined(f"{symbol.lower()}@bookTicker", data)


class Double:
    """Serves one script after another, one for each connection and the last one to all later ones.

    A script has texts to send and calls to make.
    """

    def __init__(self, *scripts: list[str | Callable[[ServerConnection], Any]]) -> None:
        self.scripts = list(scripts)
        self.paths: list[str] = []
        self.refusals = 0
        self.received: list[str | bytes] = []
        self.pauses: list[float] = []

    def refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        if self.refusals:
            self.refusals -= 1
            return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "slow down\n")
        return None

    async def handle(self, connection: ServerConnection) -> None:
        for step in self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]:
            if isinstance(step, str):
                await connection.send(step)
            else:
                await step(connection)
        async for message in connection:
            self.received.append(message)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


async def drop(connection: ServerConnection) -> None:
    """End without a closing handshake."""
    connection.transport.abort()


async def close(connection: ServerConnection) -> None:
    await connection.close(1001)


@asynccontextmanager
async def listening(double: Double, **options: Any) -> AsyncIterator[AsyncIterator[Quote]]:
    """Quotes of a feed that is connected to the double."""

    async def quotes(feed: BinanceFeed) -> AsyncIterator[Quote]:
        async with aclosing(feed.stream()) as batches:
            async for batch in batches:
                for quote in batch:
                    yield quote

    async with serve(double.handle, "127.0.0.1", 0, process_request=double.refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        feed = BinanceFeed(INSTRUMENTS.values(), f"ws://127.0.0.1:{port}", pause=double.pause, **options)
        async with asyncio.timeout(30), aclosing(quotes(feed)) as found:
            yield found


async def take(found: AsyncIterator[Quote], count: int) -> list[Quote]:
    return [await anext(found) for _ in range(count)]


def test_every_crypto_instrument_has_its_symbol() -> None:
    assert set(SYMBOLS) == {i.symbol for i in INSTRUMENTS.values() if i.asset_class == "crypto"}


async def test_a_trade_is_a_quote_between_the_best_prices() -> None:
    double = Double(
        [trade(1), book(7, "64249.996", "64250.131"), trade(2, "64250.005"), trade(3, "64250.015")]
    )
    async with listening(double) as found:
        first, second, third = await take(found, 3)
        assert metric("feed_connected") == 1
    at = datetime.fromtimestamp(AT / 1000, UTC)
    assert first == Quote("BTC-USD", at, 6425012, 150, 6425012, 6425012), "no best prices are known yet"
    assert second == Quote("BTC-USD", at, 6425000, 150, 6424999, 6425014)
    assert third.price == 6425002
    assert metric("feed_connected") == 0


async def test_names_all_streams_in_the_address_and_sends_nothing() -> None:
    double = Double([trade(1)])
    async with listening(double) as found:
        await take(found, 1)
    prefix, _, streams = double.paths[0].partition("=")
    assert prefix == "/stream?streams"
    assert set(streams.split("/")) == {
        f"{s.lower()}@{kind}" for s in SYMBOLS.values() for kind in ("bookTicker", "aggTrade")
    }
    assert double.received == []


async def test_answers_pings_with_their_payload() -> None:
    async def ping(connection: ServerConnection) -> None:
        await (await connection.ping("1672515782136"))
        await connection.send(trade(1))

    async with listening(Double([ping])) as found:
        await take(found, 1)


@pytest.mark.parametrize("end", [drop, close])
async def test_connects_again_after_a_disconnect(end: Callable[[ServerConnection], Any]) -> None:
    reconnects, lost = metric("feed_reconnects_total"), metric("feed_errors_total", reason="disconnected")
    gaps = metric("feed_errors_total", reason="gap")
    double = Double([trade(1), end], [trade(9)])
    async with listening(double) as found:
        assert len(await take(found, 2)) == 2
    assert metric("feed_reconnects_total") == reconnects + 1
    assert metric("feed_errors_total", reason="disconnected") == lost + 1
    assert metric("feed_errors_total", reason="gap") == gaps + 1, "trades between the connections are missed"
    assert len(double.pauses) == 1
    assert 1 <= double.pauses[0] <= 2


async def test_refusals_are_met_with_growing_pauses() -> None:
    refused = metric("feed_errors_total", reason="refused")
    double = Double([trade(1), drop], [trade(2)])
    double.refusals = 5
    async with listening(double) as found:
        await take(found, 2)
    assert metric("feed_errors_total", reason="refused") == refused + 5
    assert all(1 <= pause <= 2.0 ** (n + 1) for n, pause in enumerate(double.pauses[:5]))
    assert double.pauses[5] <= 2, "a success begins anew"


async def test_a_server_that_does_not_listen_is_tried_again() -> None:
    before = metric("feed_errors_total", reason="unreachable")
    double = Double()
    tried = asyncio.Event()

    async def pause(seconds: float) -> None:
        await double.pause(seconds)
        if len(double.pauses) == 3:
            tried.set()

    async with serve(double.handle, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
    feed = BinanceFeed(INSTRUMENTS.values(), f"ws://127.0.0.1:{port}", pause=pause)
    task = asyncio.ensure_future(anext(feed.stream()))
    async with asyncio.timeout(30):
        await tried.wait()
    task.cancel()
    assert metric("feed_errors_total", reason="unreachable") >= before + 3


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        "{}",
        '{"stream":"btcusdt@aggTrade","data":5}',
        '{"result":null,"id":1}',
        '{"code":2,"msg":"Invalid request: too many parameters"}',
        combined("btcusdt@kline_1m", {"e": "kline", "s": "BTCUSDT"}),
        trade(5, price="NaN"),
        trade(5, price="0"),
        trade(5, price="-1"),
        trade(5, price="1e9"),
        trade(5, price="9" * 30),
        trade(5, quantity=""),
        trade(5, symbol="PEPEUSDT"),
        trade(-5),
        trade(1).replace(str(AT), str(10**15)),
        trade(1).replace('"a": 1', '"a": "1"'),
        book(5, "1", "x"),
        '{"stream":"btcusdt@bookTicker","data":{"s":"BTCUSDT"}}',
    ],
)
async def test_a_malformed_message_is_counted_and_passed_over(message: str) -> None:
    before = metric("feed_errors_total", reason="malformed")
    async with listening(Double([message, trade(8)])) as found:
        assert len(await take(found, 1)) == 1
    assert metric("feed_errors_total", reason="malformed") == before + 1


async def test_a_frame_that_is_too_large_ends_the_connection_alone() -> None:
    double = Double(["x" * 100_000], [trade(1)])
    async with listening(double) as found:
        await take(found, 1)
    assert len(double.paths) == 2


async def test_sequences_are_checked() -> None:
    gaps, repeated = (metric("feed_errors_total", reason=reason) for reason in ("gap", "repeated"))
    double = Double(
        [
            trade(1, "10.00"),
            trade(1, "10.00"),
            trade(2, "11.00"),
            book(9, "10.50", "11.50"),
            book(8, "1", "2"),
            trade(5, "12.00"),
            trade(4, "1.00"),
            trade(6, "13.00"),
        ]
    )
    async with listening(double) as found:
        quotes = await take(found, 4)
    assert [q.price for q in quotes] == [1000, 1100, 1200, 1300]
    assert (quotes[-1].bid, quotes[-1].ask) == (1050, 1150), "an older update of the book changes nothing"
    assert metric("feed_errors_total", reason="gap") == gaps + 1
    assert metric("feed_errors_total", reason="repeated") == repeated + 2


async def test_counting_anew_after_a_reconnect_does_not_silence_a_symbol() -> None:
    async with listening(Double([trade(1000), drop], [trade(1), trade(2)])) as found:
        assert len(await take(found, 3)) == 3


@pytest.mark.parametrize(
    "told",
    [
        {"e": "serverShutdown", "E": AT},
        {"event": {"e": "serverShutdown", "E": AT}},
        {"stream": "", "data": {"e": "serverShutdown", "E": AT}},
    ],
)
async def test_leaves_a_server_that_is_about_to_shut_down(told: dict[str, Any]) -> None:
    async with listening(Double([trade(1), json.dumps(told)], [trade(2)])) as found:
        assert len(await take(found, 2)) == 2


@pytest.mark.parametrize("script", [[trade(1)], []])
async def test_replaces_a_connection_before_the_server_ends_it(script: list[Any]) -> None:
    double = Double(script, [trade(2), trade(3)])
    lost = metric("feed_errors_total", reason="disconnected")
    async with listening(double, lifetime=0.2) as found:
        await take(found, len(script) + 2)
    assert len(double.paths) >= 2
    assert metric("feed_errors_total", reason="disconnected") == lost, "a planned end is no error"


async def test_replaces_a_connection_also_while_it_is_busy() -> None:
    async def without_end(connection: ServerConnection) -> None:
        number = 0
        while True:
            number += 1
            await connection.send(trade(number))

    double = Double([without_end])
    async with listening(double, lifetime=0.2) as found:
        async for _ in found:
            if len(double.paths) >= 2:
                break


async def test_a_reader_that_does_not_keep_up_loses_the_oldest_trades() -> None:
    before = metric("feed_errors_total", reason="overflow")
    taken, arrived = asyncio.Event(), asyncio.Event()

    async def burst(connection: ServerConnection) -> None:
        await taken.wait()
        for number in range(2, 5503):
            await connection.send(trade(number))
        await (await connection.ping())
        arrived.set()

    async with listening(Double([trade(1, "1.00"), burst, trade(6000, "3.00")])) as found:
        await take(found, 1)
        taken.set()
        await arrived.wait()
        count = 0
        while (await anext(found)).price != 300:
            count += 1
    lost = metric("feed_errors_total", reason="overflow") - before
    assert lost >= 501
    assert count == 5501 - lost


async def test_the_role_publishes_binance_beside_a_simulated_rest(tmp_path: Path) -> None:
    subscribed = asyncio.Event()

    async def after_the_subscription(connection: ServerConnection) -> None:
        await subscribed.wait()
        await connection.send(trade(1, "98765.43"))

    double = Double([after_the_subscription])
    async with serve(double.handle, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}"
        async with running(
            tmp_path, "price-collector", feed="binance,simulated", feed_binance_url=url
        ) as platform:
            subscription = await platform.backends.bus.subscribe(["price.updates"], None)
            subscribed.set()
            ticks: list[PriceTick] = []
            async with asyncio.timeout(30):
                while "BTC-USD" not in {tick.symbol for tick in ticks}:
                    ticks += payloads(await subscription.batch(100, 1.0), PriceTick)
            latest = await read_latest(platform.backends.cache)
    assert [tick.price for tick in ticks if tick.symbol == "BTC-USD"] == [9876543]
    classes = {INSTRUMENTS[symbol].asset_class for symbol in latest if symbol != "BTC-USD"}
    assert classes == {"equity", "fx"}, "what Binance has is told by nobody else"
