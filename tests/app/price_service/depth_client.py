"""A client of the channel `depth`, written from docs/depth.md alone."""

import json
from binascii import crc32
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from app.instruments import INSTRUMENTS


def messages(data: bytes) -> Iterator[dict[str, Any]]:
    """The JSON texts of unmasked WebSocket frames."""
    while data:
        assert data[0] == 0x81
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        yield json.loads(data[start : start + size])
        data = data[start + size :]


class DepthClient:
    """One book; fails where messages do not follow each other or the checksum is another one."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}
        self.epoch = ""
        self.seq = 0
        self.reasons: list[str] = []
        """Of the snapshots so far."""
        self.changes = 0

    def take(self, message: dict[str, Any]) -> None:
        assert message["stream"] == f"depth:{self.symbol}"
        assert message["time"] > 0
        if message["type"] == "depthSnapshot":
            self.reasons.append(message["reason"])
            self.bids, self.asks = {}, {}
        else:
            assert message["type"] == "depth"
            assert (message["epoch"], message["seq"]) == (self.epoch, self.seq + 1)
            self.changes += 1
        for side, changes in ((self.bids, message["bids"]), (self.asks, message["asks"])):
            for price, quantity in changes:
                if Decimal(quantity):
                    side[Decimal(price)] = Decimal(quantity)
                else:
                    del side[Decimal(price)]
        self.epoch, self.seq = message["epoch"], message["seq"]
        assert self.checksum() == message["checksum"]

    def position(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "seq": self.seq}

    def checksum(self) -> int:
        instrument = INSTRUMENTS[self.symbol]
        best_asks = sorted(self.asks.items())[:10]
        best_bids = sorted(self.bids.items(), reverse=True)[:10]
        text = "".join(
            f"{price / instrument.tick_size:.0f}{quantity / instrument.lot_size:.0f}"
            for price, quantity in best_asks + best_bids
        )
        return crc32(text.encode())

    def levels(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Bids and asks in ticks and lots, best first."""
        instrument = INSTRUMENTS[self.symbol]
        bids, asks = (
            [
                (int(price / instrument.tick_size), int(quantity / instrument.lot_size))
                for price, quantity in side
            ]
            for side in (sorted(self.bids.items(), reverse=True), sorted(self.asks.items()))
        )
        return bids, asks
