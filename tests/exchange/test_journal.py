"""Commands survive the way through bytes."""

import pytest

from app.exchange import AdvanceTime, Cancel, MatchingEngine
from app.exchange.journal import JournalError, decode, encode, pack_batch, read_batches
from tests.exchange.generate import Generator


def test_every_command_comes_back() -> None:
    engine, generator = MatchingEngine("X"), Generator(5)
    commands = []
    for _ in range(3_000):
        commands.append(generator.command())
        generator.learn(engine.apply(commands[-1]))
    records = b"".join(encode(command) for command in commands)
    decoded = list(decode(records))
    assert decoded == commands
    assert [type(command) for command in decoded] == [type(command) for command in commands]
    assert {type(field) for command in decoded for field in command.values()} == {
        type(field) for command in commands for field in command.values()
    }


def test_a_batch_that_was_cut_off_or_damaged_ends_the_journal() -> None:
    first = pack_batch([encode(Cancel(1, 2, 3)), encode(AdvanceTime(9))])
    second = pack_batch([encode(Cancel(4, 5, 6))])
    journal = first + second
    whole = [(end, list(decode(records))) for end, records in read_batches(journal)]
    assert whole == [
        (len(first), [Cancel(1, 2, 3), AdvanceTime(9)]),
        (len(journal), [Cancel(4, 5, 6)]),
    ]
    for length in range(len(first), len(journal)):
        assert [end for end, _ in read_batches(journal[:length])] == [len(first)]
    for position in range(len(first), len(journal)):
        damaged = bytearray(journal)
        damaged[position] ^= 0x40
        assert [end for end, _ in read_batches(bytes(damaged))] == [len(first)]


@pytest.mark.parametrize(
    "records", [b"\x63", b"\x03\x00", encode(AdvanceTime(1))[:-1], b"\x07" + b"\xff" * 17]
)
def test_bytes_that_are_no_command(records: bytes) -> None:
    with pytest.raises(JournalError, match="bad record at byte 0"):
        list(decode(records))


def test_a_number_that_does_not_fit() -> None:
    with pytest.raises(JournalError, match="order_id=9223372036854775808"):
        encode(Cancel(1, 2**63, 3))
