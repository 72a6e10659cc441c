"""What the feeds share: exact conversion, their choice and combination, the exchange's own trades."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from app.events.envelope import Envelope
from app.events.matching import MatchingOutput, OrderCancelled, Side, TradeMade
from app.events.prices import PriceTick
from app.events.registry import FAMILIES
from app.instruments import INSTRUMENTS
from app.kit.bus import Bus, Message, Record, Subscription
from app.kit.bus.memory import MemoryBus
from app.kit.errors import ConfigurationError, Unavailable
from app.kit.settings import Settings
from app.price_collector.feeds import Quote
from app.price_collector.feeds.choice import choose, shares
from app.price_collector.feeds.combined import CombinedFeed
from app.price_collector.feeds.common import Backoff, LiveFeed, Rounding, whole
from app.price_collector.feeds.exchange import TOPIC, ExchangeFeed
from app.price_collector.feeds.simulated import SimulatedFeed

NOW = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
SYMBOL = "BTC-USD"


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


@given(st.integers(1, 10**12), st.integers(0, 8), st.sampled_from(["0.01", "0.00001", "1", "1000"]))
def test_conversion_is_exact_but_for_one_rounding(digits: int, places: int, unit: str) -> None:
    text = f"{Decimal(digits).scaleb(-places):f}"
    exact = Fraction(text) / Fraction(unit)
    down, up, nearest = (
        whole(text, Decimal(unit), r) for r in (Rounding.DOWN, Rounding.UP, Rounding.NEAREST)
    )
    assert down == max(1, exact.__floor__())
    assert up == max(1, exact.__ceil__())
    assert nearest in (down, up)
    assert exact < 1 or abs(nearest - exact) <= Fraction(1, 2)


def test_a_half_goes_to_the_even_neighbour() -> None:
    assert whole("0.125", Decimal("0.01")) == 12
    assert whole("0.135", Decimal("0.01")) == 14


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NaN",
        "Infinity",
        "-1",
        "0",
        "0.000",
        "1e5",
        "1,5",
        " 1",
        "1.",
        ".5",
        "\u0661",
        "9" * 20,
        "1" * 5000,
    ],
)
def test_what_is_no_positive_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|positive"):
        whole(text, Decimal("0.01"))


def test_pauses_grow_and_never_fall_below_a_second() -> None:
    backoff = Backoff(60.0, seed=1)
    pauses = [backoff.next() for _ in range(2000)]
    assert all(1 <= pause <= min(60.0, 2.0 ** min(n + 1, 9)) for n, pause in enumerate(pauses))
    assert max(pauses) > 50
    backoff.reset()
    assert backoff.next() <= 2


def test_the_default_is_the_simulated_feed() -> None:
    assert Settings.load().feed == "simulated"
    assert type(choose(Settings.load(), MemoryBus(), {})) is SimulatedFeed


def test_a_symbol_belongs_to_the_first_feed_that_has_it() -> None:
    parts = shares("binance,alpha-vantage,simulated")
    assert {i.asset_class for i in parts["binance"]} == {"crypto"}
    assert {i.asset_class for i in parts["alpha-vantage"]} == {"equity", "fx"}
    assert "simulated" not in parts, "nothing is left for it"
    parts = shares("binance,simulated")
    assert {i.asset_class for i in parts["simulated"]} == {"equity", "fx"}
    assert set(shares("exchange,binance")) == {"exchange"}


@pytest.mark.parametrize("value", ["binance,", "coinbase", "binance simulated", ""])
def test_unknown_feeds_are_refused_at_the_start(value: str) -> None:
    with pytest.raises(ConfigurationError, match="APP_FEED="):
        Settings.load(feed=value)


def test_the_key_is_a_secret_file_that_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app_alpha_vantage_key").write_text("SECRET1\n")
    monkeypatch.setenv("APP_SECRETS_DIR", str(tmp_path))
    settings = Settings.load()
    key = settings.password("alpha_vantage_key")
    assert key() == "SECRET1"
    assert "SECRET1" not in repr(settings)
    (tmp_path / "app_alpha_vantage_key").write_text("SECRET2\n")
    assert key() == "SECRET2"


def quote(symbol: str, at: datetime = NOW) -> Quote:
    return Quote(symbol, at, 100, 1, 99, 101)


class Told(LiveFeed):
    """Tells what it was given; then waits, or fails once and begins anew."""

    def __init__(self, *batches: Sequence[Quote], fails: bool = False) -> None:
        self.batches = batches
        self.fails = fails

    async def stream(self) -> AsyncIterator[Sequence[Quote]]:
        for batch in self.batches:
            yield batch
        if self.fails:
            self.fails = False
            raise RuntimeError("broken")
        await asyncio.Event().wait()


async def test_a_feed_that_fails_starts_again_and_others_go_on() -> None:
    before = metric("feed_errors_total", feed="a", reason="failed")
    feed = CombinedFeed(
        {"a": Told([quote("AAPL")], fails=True), "b": Told([quote(SYMBOL)])}, {}, pause=no_pause
    )
    found: list[str] = []
    async with asyncio.timeout(30), aclosing(feed.stream()) as batches:
        async for batch in batches:
            found += [q.symbol for q in batch]
            if len(found) == 3:
                break
    assert sorted(found) == ["AAPL", "AAPL", SYMBOL]
    assert metric("feed_errors_total", feed="a", reason="failed") == before + 1


async def test_time_goes_forward_where_one_feed_follows_another() -> None:
    late = NOW + timedelta(seconds=5)
    feed = CombinedFeed({"a": Told([quote(SYMBOL), quote("AAPL")])}, {SYMBOL: late})
    async with asyncio.timeout(30), aclosing(feed.stream()) as batches:
        assert [(q.symbol, q.at) for q in await anext(batches)] == [(SYMBOL, late), ("AAPL", NOW)]


async def test_a_mixture_has_the_past_of_its_simulated_part() -> None:
    tick = PriceTick(
        symbol="AAPL", epoch="e", seq=1, at=1, price=20_000, size=1, bid=1, ask=1, reference=1, open=1,
        high=1, low=1, volume=0,
    )  # fmt: skip
    settings = Settings.load(feed="binance,simulated", feed_history_minutes=1)
    feed = choose(settings, MemoryBus(), {"AAPL": tick})
    found = [q async for batch in feed.history() for q in batch]
    assert {INSTRUMENTS[q.symbol].asset_class for q in found} == {"equity", "fx"}
    assert abs(next(q.price for q in found if q.symbol == "AAPL") - 20_000) < 500


def trade(sequence: int, price: int, side: Side = "buy", quantity: int = 3) -> TradeMade:
    return TradeMade(
        sequence=sequence, trade_id=sequence, price=price, quantity=quantity, taker_side=side,
        maker_order_id=1, taker_order_id=2, maker_owner="a", taker_owner="b",
        maker_remaining=0, taker_remaining=0,
    )  # fmt: skip


def output(*changes: TradeMade | OrderCancelled, symbol: str = SYMBOL, at: int = NOW_MS) -> MatchingOutput:
    return MatchingOutput(
        symbol=symbol, first=changes[0].sequence, last=changes[-1].sequence, at=at, changes=changes
    )


def exchange(bus: Bus | None = None) -> ExchangeFeed:
    return ExchangeFeed(INSTRUMENTS.values(), bus or MemoryBus(), clock=lambda: NOW, pause=no_pause)


def test_trades_become_quotes_with_the_sides_that_trades_have_shown() -> None:
    cancelled = OrderCancelled(sequence=2, order_id=9, owner="a", quantity=1, reason="user")
    found = exchange().quotes(
        [
            output(trade(1, 100), cancelled, trade(3, 98, "sell", 7)),
            output(trade(4, 97)),
            output(trade(5, 101)),
        ]
    )
    assert found[1] == Quote(SYMBOL, NOW, 98, 7, 98, 100)
    assert [(q.price, q.bid, q.ask) for q in found] == [
        (100, 100, 100),
        (98, 98, 100),
        (97, 97, 97),
        (101, 97, 101),
    ]


def test_output_that_comes_again_is_told_once() -> None:
    feed = exchange()
    first, second = output(trade(1, 100), trade(2, 101)), output(trade(2, 101), trade(3, 102))
    assert [q.price for q in feed.quotes([first, first, second, first])] == [100, 101, 102]


def test_old_output_that_another_follower_asked_for_is_no_news() -> None:
    feed = exchange()
    assert feed.quotes([output(trade(1, 100), at=NOW_MS - 3_600_000)]) == []
    assert [q.price for q in feed.quotes([output(trade(50, 200))])] == [200]


def test_missing_output_is_counted_and_unknown_symbols_are_passed_over() -> None:
    before = metric("feed_errors_total", feed="exchange", reason="gap")
    feed = exchange()
    assert len(feed.quotes([output(trade(1, 100)), output(trade(5, 101))])) == 2
    assert feed.quotes([output(trade(1, 100), symbol="NO-SUCH")]) == []
    assert metric("feed_errors_total", feed="exchange", reason="gap") == before + 1


class BreakingBus(MemoryBus):
    """The first subscription breaks at once; tells when the second one stands."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions = 0
        self.second = asyncio.Event()

    async def subscribe(self, topics: Sequence[str], group: str | None) -> Subscription:
        assert group is None, "every collector has to see all trades"
        self.subscriptions += 1
        if self.subscriptions == 1:
            return Broken()
        made = await super().subscribe(topics, group)
        self.second.set()
        return made


class Broken:
    async def batch(self, limit: int, seconds: float, gather: float = 0.0) -> list[Message]:
        raise Unavailable("bus", "broken")

    async def commit(self, messages: Sequence[Message]) -> None: ...

    async def close(self) -> None: ...


async def test_trades_come_over_the_bus_also_after_an_outage() -> None:
    bus = BreakingBus()
    await bus.ensure([family.topic for family in FAMILIES.values()])
    reconnected = metric("feed_reconnects_total", feed="exchange")
    async with asyncio.timeout(30), aclosing(exchange(bus).stream()) as batches:
        waiting = asyncio.ensure_future(anext(batches))
        await bus.second.wait()
        event = Envelope.of(output(trade(1, 123)), key=SYMBOL, producer="matching-engine")
        await bus.publish(TOPIC, [Record(SYMBOL, b"nonsense"), Record(SYMBOL, event.encode())])
        assert [q.price for q in await waiting] == [123]
        assert metric("feed_connected", feed="exchange") == 1
    assert metric("feed_connected", feed="exchange") == 0
    assert metric("feed_reconnects_total", feed="exchange") == reconnected + 1
