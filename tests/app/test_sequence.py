"""Nothing is skipped in silence: sequence tracking, fan-out and conflation."""

import json
import struct
from collections.abc import Iterable
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.events.prices import PriceTick
from app.kit.bus.memory import MemoryBus
from app.kit.cache.memory import MemoryCache
from app.price_service.frames import frame
from app.price_service.hub import Client, Hub
from app.price_service.sequence import SequenceTracker, Verdict
from app.price_service.streams import name, symbol_of
from app.price_service.ticker import Ticker, TickFollower
from tests.app.ticks import tick

SYMBOLS = ["BTC-USD", "ETH-USD", "AAPL"]
places = st.lists(st.tuples(st.sampled_from(["e1", "e2"]), st.integers(1, 8)), max_size=40)


@given(places)
def test_next_means_exactly_one_more(found: list[tuple[str, int]]) -> None:
    tracker = SequenceTracker()
    last: tuple[str, int] | None = None
    for epoch, seq in found:
        verdict = tracker.observe("BTC-USD", epoch, seq)
        if last is None:
            assert verdict is Verdict.FIRST
        elif epoch != last[0]:
            assert verdict is Verdict.NEW_EPOCH
        elif seq <= last[1]:
            assert verdict is Verdict.REPEATED
        else:
            assert verdict is (Verdict.NEXT if seq == last[1] + 1 else Verdict.GAP)
        if verdict is not Verdict.REPEATED:
            last = epoch, seq


@given(st.integers(0, 70_000))
def test_frames_are_read_back_whole(size: int) -> None:
    message = {"text": "x" * size}
    assert list(decode(frame(message))) == [message]


def decode(data: bytes) -> list[dict[str, Any]]:
    """Messages of a run of unmasked text frames."""
    found, at = [], 0
    while at < len(data):
        assert data[at] == 0x81
        length, at = data[at + 1], at + 2
        if length == 126:
            (length,), at = struct.unpack_from("!H", data, at), at + 2
        elif length == 127:
            (length,), at = struct.unpack_from("!Q", data, at), at + 8
        found.append(orjson.loads(data[at : at + length]))
        at += length
    return found


def pipeline() -> tuple[Hub, TickFollower]:
    """A hub with the channel `ticker`, and where its ticks go in."""
    hub = Hub()
    ticker = Ticker(hub)
    hub.add(ticker)
    return hub, TickFollower(MemoryBus(), MemoryCache(), ticker)


def tickers(symbols: Iterable[str]) -> frozenset[str]:
    return frozenset(name("ticker", symbol) for symbol in symbols)


class Reader:
    """A client that holds its server to the promise: contiguous, or told by a snapshot."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[str, int, str]] = {}

    def write(self, data: bytes) -> None:
        for message in decode(data):
            if message["type"] == "snapshot":
                for each in message["ticks"]:
                    self.seen[each["symbol"]] = each["epoch"], each["seq"], each["price"]
            else:
                epoch, seq, _ = self.seen[message["symbol"]]
                assert (message["epoch"], message["seq"]) == (epoch, seq + 1)
                self.seen[message["symbol"]] = message["epoch"], message["seq"], message["price"]


class FanOut(RuleBasedStateMachine):
    """Ticks with losses, repetitions and new epochs; clients that come, go, choose and are slow."""

    def __init__(self) -> None:
        super().__init__()
        self.hub, self.ticks = pipeline()
        self.clients: list[tuple[Client, Reader]] = []
        self.place = dict.fromkeys(SYMBOLS, ("e1", 0))

    @rule()
    def join(self) -> None:
        reader = Reader()
        client = Client(reader.write)
        self.hub.join(client)
        self.clients.append((client, reader))

    @rule(symbol=st.sampled_from(SYMBOLS), skipped=st.integers(0, 2), repeats=st.integers(1, 2))
    def trade(self, symbol: str, skipped: int, repeats: int) -> None:
        epoch, seq = self.place[symbol]
        self.place[symbol] = epoch, seq + 1 + skipped
        self.ticks.take([tick(symbol, seq + 1 + skipped, epoch=epoch, price=100 + seq)] * repeats)

    @rule(symbol=st.sampled_from(SYMBOLS))
    def restart(self, symbol: str) -> None:
        self.place[symbol] = f"e{int(self.place[symbol][0][1:]) + 1}", 0

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), symbols=st.sets(st.sampled_from(SYMBOLS)))
    def choose(self, data: st.DataObject, symbols: set[str]) -> None:
        client, reader = data.draw(st.sampled_from(self.clients))
        if data.draw(st.booleans()):
            self.hub.subscribe(client, tickers(symbols))
        else:
            self.hub.unsubscribe(client, tickers(symbols))
            for symbol in symbols:
                reader.seen.pop(symbol, None)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def clog(self, data: st.DataObject) -> None:
        client, _ = data.draw(st.sampled_from(self.clients))
        (self.hub.resumed if client.slow else self.hub.paused)(client)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.clients))
        self.clients.remove(gone)
        self.hub.leave(gone[0])

    @invariant()
    def whoever_is_not_slow_knows_the_latest(self) -> None:
        for client, reader in self.clients:
            assert len(client.behind or ()) <= len(SYMBOLS)
            for symbol in map(symbol_of, client.streams):
                latest = self.ticks.latest.get(symbol)
                if latest is not None and not client.slow:
                    assert reader.seen[symbol][:2] == (latest.epoch, latest.seq)

    def teardown(self) -> None:
        for client, _ in self.clients:
            self.hub.leave(client)


TestFanOut = FanOut.TestCase
TestFanOut.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_slow_client_gets_one_snapshot_of_the_latest_state() -> None:
    written: list[bytes] = []

    hub, ticks = pipeline()
    client = Client(written.append)
    hub.join(client)
    hub.subscribe(client, tickers(SYMBOLS))
    hub.paused(client)
    for seq in range(1, 500):
        ticks.take([tick("BTC-USD", seq, price=seq)])
    assert written == []
    hub.resumed(client)
    (message,) = decode(written[0])
    assert (message["reason"], message["ticks"][0]["seq"], message["ticks"][0]["price"]) == (
        "slow",
        499,
        "4.99",
    )
    ticks.take([tick("BTC-USD", 500, price=7)])
    assert decode(written[1])[0]["type"] == "tick"
    hub.leave(client)


def test_prices_leave_as_exact_decimals() -> None:
    written: list[bytes] = []

    hub, ticks = pipeline()
    client = Client(written.append)
    hub.join(client)
    ticks.take([PriceTick.model_validate(tick("EUR-USD", price=108451, size=3))])
    hub.subscribe(client, tickers(["EUR-USD"]))
    (message,) = decode(written[0])
    body = message["ticks"][0]
    assert (body["price"], body["bid"], body["size"]) == ("1.08451", "1.08450", "3000")
    assert json.loads(json.dumps(body)) == body
    hub.leave(client)
