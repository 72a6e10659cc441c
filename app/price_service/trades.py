"""The channel `trades`: every trade of the own matching engine, without its owners."""

from collections import deque
from collections.abc import Iterable, Sequence

import orjson

from app.executions import Output
from app.instruments import INSTRUMENTS
from app.price_service.frames import text_frame
from app.price_service.sequence import SequenceTracker, Verdict
from app.price_service.streams import Entry, symbol_of

CHANNEL = "trades"
EPOCH = "1"
"""There is one for ever: the engine numbers the trades of a symbol 1, 2, 3, … and never begins anew."""
RECENT = 50
"""Trades in a snapshot, if as many are known without a gap."""


class Trades:
    """The latest trades of each symbol, contiguous."""

    names = (CHANNEL,)

    def __init__(self) -> None:
        self._tracker = SequenceTracker()
        self._recent: dict[str, deque[bytes]] = {}
        """Symbol → the newest trades as JSON, oldest first."""
        self._last: dict[str, int] = {}
        self._doubtful: set[str] = set()
        """Symbols of which trades may have been missed; their next message is a snapshot."""

    def interrupted(self) -> list[str]:
        """The place on the bus was lost: streams of which nobody knows whether they continue."""
        self._doubtful |= self._last.keys()
        return [f"{CHANNEL}:{symbol}" for symbol in self._last]

    def entries(self, output: Output) -> list[Entry]:
        """What is new in an output; to be published."""
        trades = [change for change in output["changes"] if change["kind"] == "trade"]
        if not trades:
            return []
        symbol, at = output["symbol"], output["at"]
        instrument = INSTRUMENTS[symbol]
        recent = self._recent.setdefault(symbol, deque(maxlen=RECENT))
        stream = f"{CHANNEL}:{symbol}"
        found = []
        for trade in trades:
            number = trade["trade_id"]
            verdict = self._tracker.observe(symbol, EPOCH, number)
            if verdict is Verdict.REPEATED:
                continue
            text = orjson.dumps(
                {
                    "seq": number,
                    "time": at,
                    "price": str(instrument.price(trade["price"])),
                    "quantity": str(instrument.quantity(trade["quantity"])),
                    "side": trade["taker_side"],
                }
            )
            self._last[symbol] = number
            if verdict is not Verdict.NEXT:
                recent.clear()
            recent.append(text)
            if verdict is Verdict.NEXT and symbol not in self._doubtful:
                head = b'{"type":"trade","stream":"%b","epoch":"%b",' % (stream.encode(), EPOCH.encode())
                found.append(Entry(stream, EPOCH, number, at, text_frame(head + text[1:])))
            else:
                self._doubtful.discard(symbol)
                data = self._snapshot(stream, "resync")
                found.append(Entry(stream, EPOCH, number, at, data, reset=True))
        return found

    def snapshot(self, streams: Sequence[str], reason: str) -> list[bytes]:
        """See `Channel`: one message for each symbol that has traded."""
        return [self._snapshot(stream, reason) for stream in streams if symbol_of(stream) in self._last]

    def _snapshot(self, stream: str, reason: str) -> bytes:
        symbol = symbol_of(stream)
        return _snapshot_frame(stream, self._last[symbol], reason, self._recent[symbol])


def _snapshot_frame(stream: str, seq: int, reason: str, trades: Iterable[bytes]) -> bytes:
    head = {
        "type": "tradesSnapshot",
        "stream": stream,
        "epoch": EPOCH,
        "seq": seq,
        "reason": reason,
        "gap": reason != "subscribe",
    }
    return text_frame(orjson.dumps(head)[:-1] + b',"trades":[' + b",".join(trades) + b"]}")
