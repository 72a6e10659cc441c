"""One group of commands as bytes: a section per symbol, in the order in which they are carried out.

Section: length of the symbol (u8), the symbol, number of commands (u16), one byte for each that says what the
sender asked for, then the commands as a batch of `app.exchange.journal`.

What was asked for is kept beside the command, because a market order enters the book as a limit order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from app.exchange import Command, OrderType, Place, PlaceOco
from app.exchange.journal import JournalError, decode, encode, pack_batch, read_batches

AS_ENTERED: Final = 0
"""The sender asked for what the command says."""
_SECOND: Final = 16
_COUNT: Final = Struct("<H")


@dataclass(frozen=True, slots=True)
class Entry:
    """A command of the core and what its sender asked for."""

    command: Command
    asked: int = AS_ENTERED
    """1 + the OrderType of an order that was entered as another type; of a pair, that of the second order is
    16 times as much."""

    def types(self) -> dict[int, OrderType]:
        """Orders that the command enters, by id, with the type that was asked for."""
        command, asked = self.command, self.asked
        if isinstance(command, Place):
            return {command.order_id: OrderType(asked - 1) if asked else command.order_type}
        if isinstance(command, PlaceOco):
            first, second = command.first, command.second
            return Entry(first, asked % _SECOND).types() | Entry(second, asked // _SECOND).types()
        return {}

    @classmethod
    def pair(cls, command: PlaceOco, first: int, second: int) -> "Entry":
        """A pair whose orders were asked for as the types told."""
        return cls(command, first + _SECOND * second)


Sections = Mapping[str, Sequence[Entry]]


def pack(sections: Sections) -> bytes:
    """A group of commands as the journal keeps it.

    Raises:
        JournalError: a number does not fit into 64 bits.
    """
    parts: list[bytes] = []
    for symbol, entries in sections.items():
        name = symbol.encode()
        parts += (bytes([len(name)]), name, _COUNT.pack(len(entries)))
        parts.append(bytes([entry.asked for entry in entries]))
        parts.append(pack_batch(encode(entry.command) for entry in entries))
    return b"".join(parts)


def unpack(records: bytes) -> Iterator[tuple[str, list[Entry]]]:
    """Symbols and their commands in order.

    Raises:
        JournalError: the bytes are not what `pack` gave.
    """
    for symbol, asked, commands in unpack_commands(records):
        yield symbol, [Entry(command, kind) for command, kind in zip(commands, asked, strict=True)]


def unpack_commands(records: bytes) -> Iterator[tuple[str, bytes, Iterator[Command]]]:
    """As `unpack`, at less cost: symbols, what was asked for with each command, and the commands.

    Raises:
        JournalError: the bytes are not what `pack` gave.
    """
    view, offset = memoryview(records), 0
    while offset < len(view):
        start = offset + 1
        end = start + view[offset]
        symbol = bytes(view[start:end]).decode(errors="replace")
        if len(view) < end + _COUNT.size:
            raise JournalError("the group is cut off")
        (count,) = _COUNT.unpack_from(view, end)
        start = end + _COUNT.size
        found = next(read_batches(view[start + count :]), None)
        if found is None:
            raise JournalError(f"the commands of {symbol!r} are cut off or damaged")
        length, body = found
        yield symbol, bytes(view[start : start + count]), decode(body)
        offset = start + count + length
