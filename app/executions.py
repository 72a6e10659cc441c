"""What the output of the matching engine means to the owners of orders, for the streams that tell them.

Outputs are read as plain JSON: every replica reads the whole stream, and checking it against the schema is
the work of those who apply it.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import orjson

from app.instruments import INSTRUMENTS, Instrument
from app.kit import logs
from app.kit.bus import Message
from app.orders import terms

Output = dict[str, Any]
"""Payload of a `MatchingOutput`."""
_log = logs.get(__name__)


def each(messages: Iterable[Message], handle: Callable[[Message, Output], None]) -> None:
    """Call `handle` with every message and its output; one that cannot be read or handled is logged."""
    for message in messages:
        try:
            output: Output = orjson.loads(message.value)["payload"]
            if output["symbol"] not in INSTRUMENTS:
                raise KeyError(output["symbol"])
            handle(message, output)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            _log.error("unreadable", offset=message.offset, reason=repr(error))


def owners(output: Output) -> frozenset[str]:
    """Everybody whom some change of an output may concern."""
    found: set[str] = set()
    for change in output["changes"]:
        if change["kind"] == "trade":
            found.add(change["maker_owner"])
            found.add(change["taker_owner"])
        elif owner := change.get("owner"):
            found.add(owner)
    return frozenset(found)


def told(output: Output, behind: int, wanted: Container[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Owner and message of every change of the `wanted` owners with a sequence behind `behind`, in order."""
    symbol, at, answers = output["symbol"], output["at"], output["answers"]
    instrument = INSTRUMENTS[symbol]
    for change in output["changes"]:
        sequence = change["sequence"]
        if sequence <= behind:
            continue
        for owner, meaning in _meaning(change, answers, instrument, wanted):
            yield owner, {"type": "order", "symbol": symbol, "sequence": sequence, "time": at, **meaning}


def _meaning(
    change: dict[str, Any], answers: list[dict[str, Any]], instrument: Instrument, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a change means to whom. `status` is left out where it stays as it was."""
    kind = change["kind"]
    if kind == "trade":
        for role in ("maker", "taker"):
            if change[f"{role}_owner"] in wanted:
                yield _fill(change, role, instrument)
        return
    if change.get("owner") not in wanted:
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
