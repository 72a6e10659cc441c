"""The engine against the reference book: same commands, same events."""

import pytest

from app.exchange import MatchingEngine
from tests.exchange.accounts import Accounts, check
from tests.exchange.generate import Generator
from tests.exchange.reference import ReferenceEngine

CHECK_EVERY = 50
COMPARED = 50_000
COMPARED_IN_SOAK = 1_000_000
STREAM = 2_500


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
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1_000, 1_000 + COMPARED_IN_SOAK // 25_000))
def test_the_same_events_as_the_reference_book_for_long(seed: int) -> None:
    compare(seed, 25_000)
