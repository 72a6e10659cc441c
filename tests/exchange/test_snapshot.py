"""Snapshots go back in completely or not at all."""

from hashlib import blake2b

import pytest

from app.exchange import AdvanceTime, Command, MatchingEngine, OrderType, Phase, Place, Side, SnapshotError
from app.exchange.journal import decode, encode, pack_batch, read_batches
from app.exchange.snapshot import dump
from tests.exchange.generate import Generator
from tests.exchange.market import altered


def recorded(seed: int, count: int) -> tuple[MatchingEngine, list[Command]]:
    engine, generator, commands = MatchingEngine("X"), Generator(seed), []
    for _ in range(count):
        commands.append(generator.command())
        generator.learn(engine.apply(commands[-1]))
    return engine, commands


@pytest.mark.parametrize("seed", range(100, 110))
def test_replay_and_snapshot_with_tail_reach_the_same_state(seed: int) -> None:
    engine, commands = recorded(seed, 400)
    journal = b"".join(
        pack_batch(encode(command) for command in commands[start : start + 7]) for start in range(0, 400, 7)
    )
    replayed = MatchingEngine("X")
    answers = [replayed.apply(command) for _, records in read_batches(journal) for command in decode(records)]
    assert replayed.state_hash() == engine.state_hash()
    assert replayed.snapshot() == engine.snapshot()
    for cut in range(0, 400, 13):
        prefix, resumed = MatchingEngine("X"), MatchingEngine("X")
        for command in commands[:cut]:
            prefix.apply(command)
        resumed.restore(prefix.snapshot())
        assert resumed.state_hash() == prefix.state_hash()
        assert [resumed.apply(command) for command in commands[cut:]] == answers[cut:]
        assert resumed.state_hash() == engine.state_hash()


def test_the_hash_tells_states_apart() -> None:
    engine, _ = recorded(1, 300)
    before = engine.state_hash()
    engine.apply(AdvanceTime(engine.book.time))
    assert engine.state_hash() != before


def refused(snapshot: bytes, reason: str) -> None:
    engine, _ = recorded(2, 200)
    before = engine.snapshot()
    with pytest.raises(SnapshotError, match=reason):
        engine.restore(snapshot)
    assert engine.snapshot() == before


def test_a_damaged_snapshot_changes_nothing() -> None:
    engine, _ = recorded(3, 200)
    snapshot = engine.snapshot()
    for length in range(0, len(snapshot), 37):
        refused(snapshot[:length], "digest")
    for position in range(0, len(snapshot), 41):
        refused(snapshot[:position] + bytes([snapshot[position] ^ 1]) + snapshot[position + 1 :], "digest")


def test_a_snapshot_of_another_symbol_or_format() -> None:
    refused(MatchingEngine("Y").snapshot(), "'Y', not of 'X'")
    body = b"something else entirely"
    refused(body + blake2b(body, digest_size=32).digest(), "unknown format")


def two_orders() -> MatchingEngine:
    engine = MatchingEngine("X")
    for order_id, side, price in ((1, Side.BUY, 100), (2, Side.SELL, 101)):
        engine.apply(Place(0, order_id, 7, side, OrderType.LIMIT, 5, price))
    return engine


def test_a_snapshot_that_contradicts_itself() -> None:
    engine = two_orders()
    engine.book.orders[2].terms = altered(engine.book.orders[2].terms, price=100)
    refused(dump(engine.book), "crossed")
    engine.book.phase = Phase.AUCTION
    MatchingEngine("X").restore(dump(engine.book))

    engine = two_orders()
    engine.book.orders[2].remaining = 6
    refused(dump(engine.book), "6 of 5 lots open")

    engine = two_orders()
    engine.book.orders[2].entry = 1
    refused(dump(engine.book), "out of time priority")

    engine = two_orders()
    engine.book.entries = 1
    refused(dump(engine.book), "of the future")

    engine = two_orders()
    engine.book.band_lower = engine.book.band_upper = 100
    refused(dump(engine.book), "outside the price band")

    engine = two_orders()
    engine.book.orders[1].partner = engine.book.orders[2]
    refused(dump(engine.book), "no partner")

    engine = two_orders()
    engine.book.orders[1].terms = altered(engine.book.orders[1].terms, quantity=0)
    refused(dump(engine.book), "invalid_quantity")

    engine = two_orders()
    engine.book.trades = -1
    refused(dump(engine.book), "negative")


def test_a_restored_book_shows_the_same_orders_and_depth() -> None:
    for seed in range(20):
        engine, _ = recorded(seed, 150)
        restored = MatchingEngine("X")
        restored.restore(engine.snapshot())
        assert list(restored.book.orders) == list(engine.book.orders)
        assert restored.book.bids.depth(100) == engine.book.bids.depth(100)
        assert restored.book.asks.depth(100) == engine.book.asks.depth(100)
