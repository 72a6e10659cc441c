"""WebSocket messages of the price stream, as JSON and as the bytes of unmasked frames."""

import struct
from typing import Any

import orjson

from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS

_TEXT = 0x81
"""FIN and the opcode of a text frame."""


def text_frame(payload: bytes) -> bytes:
    """One whole text frame, ready for any number of sockets: servers do not mask."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", _TEXT, 126, size) + payload
    return struct.pack("!BBQ", _TEXT, 127, size) + payload


def frame(message: dict[str, Any]) -> bytes:
    """A message as JSON in a text frame."""
    return text_frame(orjson.dumps(message))


def body(tick: PriceTick) -> dict[str, Any]:
    """A tick as clients see it: decimal strings, time in Unix milliseconds."""
    instrument = INSTRUMENTS[tick.symbol]
    price, quantity = instrument.price, instrument.quantity
    return {
        "symbol": tick.symbol,
        "epoch": tick.epoch,
        "seq": tick.seq,
        "time": tick.at,
        "price": str(price(tick.price)),
        "size": str(quantity(tick.size)),
        "bid": str(price(tick.bid)),
        "ask": str(price(tick.ask)),
        "reference": str(price(tick.reference)),
        "open": str(price(tick.open)),
        "high": str(price(tick.high)),
        "low": str(price(tick.low)),
        "volume": str(quantity(tick.volume)),
    }


def error_frame(code: str, message: str) -> bytes:
    """What was wrong with a client's message."""
    return frame({"type": "error", "code": code, "message": message})
