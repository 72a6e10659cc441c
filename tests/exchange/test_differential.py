"""The engine against the reference book: same commands, same events.

Every night has streams of its own. A test's name has its seed: TRADESTACK_SEED goes on from there.
"""

import os
from datetime import UTC, datetime

import pytest

from app.exchange import MatchingEngine
from tests.exchange.accounts import Accounts, check
from tests.exchange.generate import Generator
from tests.exchange.reference import ReferenceEngine

CHECK_EVERY = 50
COMPARED = 50_000
COMPARED_NIGHTLY = 1_000_000
STREAM = 2_500
NIGHTLY_STREAM = 25_000
NIGHTLY_SEED = int(os.environ.get("TRADESTACK_SEED") or f"{datetime.now(UTC):%Y%m%d}000")
NIGHTLY_SEEDS = range(NIGHTLY_SEED, NIGHTLY_SEED + COMPARED_NIGHTLY // NIGHTLY_STREAM)


def compare(seed: int, count: int) -> None:
    engine, reference, accounts = MatchingEngine("X"), ReferenceEngine("X"), Accounts()
    generator = Generator(seed)
    for number in range(count):
        command = generator.command()
        expected = reference.apply(command)
        events = engine.apply(command)
        assert events == expected, f"seed {seed}, command {number}: {command}"
        assert events
        generator.learn(events)
        accounts.add(events)
        if number % CHECK_EVERY == 0:
            check(engine, accounts)
    check(engine, accounts)


@pytest.mark.parametrize("seed", range(COMPARED // STREAM))
def test_the_same_events_as_the_reference_book(seed: int) -> None:
    compare(seed, STREAM)


@pytest.mark.soak
@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", NIGHTLY_SEEDS)
def test_the_same_events_as_the_reference_book_for_a_million_commands(seed: int) -> None:
    compare(seed, NIGHTLY_STREAM)
