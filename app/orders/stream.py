"""Executions for the users that are connected to this replica, from a subscription of its own."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import orjson
from prometheus_client import Counter

from app.events.stream import TOPIC
from app.instruments import INSTRUMENTS, Instrument
from app.kit import logs
from app.kit.bus import Bus, Message, Subscription
from app.orders import terms

_BATCH = 500
_log = logs.get(__name__)
_pushed = Counter("order_executions_pushed_total", "Changes of orders written to WebSocket clients")


class Sink(Protocol):
    """Where the executions of one connection go."""

    def push(self, message: dict[str, Any]) -> None:
        """Take a message; never blocks."""


class Executions:
    """Reads all that the engine decides and hands users what is theirs.

    Messages are read as plain JSON and only while somebody is connected: every replica reads the whole
    stream, and checking it against the schema is the projection's work.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._sinks: dict[str, set[Sink]] = defaultdict(set)
        self._subscription: Subscription | None = None
        self._last: dict[str, int] = {}
        """Symbol → sequence of the last change that was handed on."""

    def join(self, owner: str, sink: Sink) -> None:
        """Hand a user's executions to `sink` from now on."""
        self._sinks[owner].add(sink)

    def leave(self, owner: str, sink: Sink) -> None:
        """Hand nothing to `sink` any longer."""
        self._sinks[owner].discard(sink)
        if not self._sinks[owner]:
            del self._sinks[owner]

    async def open(self) -> None:
        """Fix the place on the bus; raises Unavailable."""
        await self.close()
        self._subscription = await self._bus.subscribe([TOPIC], None)

    async def run(self) -> None:
        """Hand executions on until cancelled; raises Unavailable when the subscription breaks."""
        try:
            if self._subscription is None:
                await self.open()
                self._last.clear()
                self._tell_all("stream-interrupted")
            assert self._subscription is not None  # noqa: S101 - opened above
            while True:
                self.take(await self._subscription.batch(_BATCH, seconds=1.0))
        finally:
            await self.close()

    async def close(self) -> None:
        """Leave the bus."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.close()

    def take(self, messages: Iterable[Message]) -> None:
        """Hand on what is new in some messages."""
        if not self._sinks:
            self._last.clear()
            return
        for message in messages:
            try:
                output = orjson.loads(message.value)["payload"]
                self._output(output, INSTRUMENTS[output["symbol"]])
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                _log.error("unreadable", offset=message.offset, reason=repr(error))

    def _output(self, output: dict[str, Any], instrument: Instrument) -> None:
        symbol = output["symbol"]
        last = self._last.get(symbol)
        if last is not None and output["last"] <= last:
            return
        if last is not None and output["first"] > last + 1:
            self._tell_all("gap", symbol=symbol)
        self._last[symbol] = output["last"]
        for change in output["changes"]:
            if last is not None and change["sequence"] <= last:
                continue
            for owner, told in _told(change, output["answers"], instrument):
                sinks = self._sinks.get(owner)
                if not sinks:
                    continue
                message = {
                    "type": "order",
                    "symbol": symbol,
                    "sequence": change["sequence"],
                    "time": output["at"],
                    **told,
                }
                for sink in tuple(sinks):
                    sink.push(message)
                _pushed.inc(len(sinks))

    def _tell_all(self, reason: str, **more: str) -> None:
        for sinks in tuple(self._sinks.values()):
            for sink in tuple(sinks):
                sink.push({"type": "resync", "reason": reason, **more})


def _told(
    change: dict[str, Any], answers: list[dict[str, Any]], instrument: Instrument
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a change means to whom. `status` is left out where it stays as it was."""
    kind = change["kind"]
    if kind == "trade":
        yield _fill(change, "maker", instrument)
        yield _fill(change, "taker", instrument)
        return
    if kind == "market" or (kind == "rejected" and change["command"] != "place"):
        return
    told: dict[str, Any] = {"event": kind, "order_id": str(change["order_id"])}
    if kind == "accepted":
        waits = any(a["order_id"] == change["order_id"] and a["status"] == "waiting" for a in answers)
        told["status"] = "waiting" if waits else "open"
        told["remaining"] = terms.quantity_text(instrument, change["quantity"])
    elif kind in ("rejected", "cancelled"):
        told["status"], told["reason"] = kind, change["reason"]
        told["remaining"] = terms.quantity_text(instrument, 0)
    elif kind == "triggered":
        told["status"] = "open"
        told["last_price"] = terms.price_text(instrument, change["last_price"])
    else:
        told["remaining"] = terms.quantity_text(instrument, change["remaining"])
        if kind == "replaced":
            told["quantity"] = terms.quantity_text(instrument, change["quantity"])
            told["price"] = terms.price_text(instrument, change["price"])
            told["stop_price"] = terms.price_text(instrument, change["stop_price"])
    yield change["owner"], told


def _fill(trade: dict[str, Any], role: str, instrument: Instrument) -> tuple[str, dict[str, Any]]:
    sides = {"buy": "sell", "sell": "buy"}
    taken = trade["taker_side"]
    return trade[f"{role}_owner"], {
        "event": "fill",
        "order_id": str(trade[f"{role}_order_id"]),
        "status": "partially_filled" if trade[f"{role}_remaining"] else "filled",
        "remaining": terms.quantity_text(instrument, trade[f"{role}_remaining"]),
        "trade_id": str(trade["trade_id"]),
        "side": taken if role == "taker" else sides[taken],
        "price": terms.price_text(instrument, trade["price"]),
        "quantity": terms.quantity_text(instrument, trade["quantity"]),
        "liquidity": role,
    }
