"""A reader of published books, written from docs/depth.md alone, to check the engine against."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.events.books import BookUpdated

_POLYNOMIAL = 0xEDB88320


def crc32(data: bytes) -> int:
    """CRC-32 bit by bit, as in IEEE 802.3."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@dataclass
class Reader:
    """The copy of one book; fails when an update does not follow the last one or leads to another book."""

    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    epoch: str = ""
    seq: int = 0
    sequence: int = 0

    def take(self, update: BookUpdated) -> None:
        if update.kind == "snapshot":
            assert update.epoch != self.epoch or update.seq > self.seq
            self.bids, self.asks = dict(update.bids), dict(update.asks)
            assert list(update.bids) == self.best_bids()
            assert list(update.asks) == self.best_asks()
        else:
            assert (update.epoch, update.seq) == (self.epoch, self.seq + 1)
            assert update.bids or update.asks
            for side, changes in ((self.bids, update.bids), (self.asks, update.asks)):
                assert len({price for price, _ in changes}) == len(changes)
                for price, quantity in changes:
                    if quantity:
                        side[price] = quantity
                    else:
                        del side[price]
        assert update.sequence >= self.sequence
        self.epoch, self.seq, self.sequence = update.epoch, update.seq, update.sequence
        assert len(self.bids) <= 100
        assert len(self.asks) <= 100
        assert update.checksum == self.checksum()

    def best_bids(self) -> list[tuple[int, int]]:
        return sorted(self.bids.items(), reverse=True)

    def best_asks(self) -> list[tuple[int, int]]:
        return sorted(self.asks.items())

    def checksum(self) -> int:
        digits = ""
        for price, quantity in self.best_asks()[:10] + self.best_bids()[:10]:
            digits += str(price) + str(quantity)
        return crc32(digits.encode("ascii"))


def readers(updates: Iterable[BookUpdated]) -> dict[str, Reader]:
    """What readers of everything have in the end, by symbol."""
    found: dict[str, Reader] = {}
    for update in updates:
        found.setdefault(update.symbol, Reader()).take(update)
    return found
