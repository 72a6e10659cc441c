"""Messages of the price stream, each different one read once however many connections get it."""

from typing import Any, NamedTuple

import orjson

_KNOWN = 4096
"""Messages that are remembered: what a few seconds bring."""


class Place(NamedTuple):
    """Where a stream stands after a message."""

    stream: str
    """Such as `ticker:BTC-USD`."""
    epoch: str
    seq: int


class Message(NamedTuple):
    """What the load wants to know of a message."""

    kind: str
    """The protocol's `type`."""
    places: tuple[Place, ...]
    whole: bool
    """It tells where its streams stand, whatever came before: a snapshot."""
    at: float | None
    """Unix time in milliseconds of what a continuation tells."""
    body: dict[str, Any]


class Reader:
    """Reads messages; as a server sends the same bytes to everyone, it looks them up before it parses."""

    def __init__(self) -> None:
        self._known: dict[bytes, Message] = {}

    def read(self, payload: bytes) -> Message:
        """The message of a text frame.

        Raises:
            ValueError: it is no message of the price stream.
        """
        message = self._known.get(payload)
        if message is None:
            message = _message(payload)
            if message.places:
                if len(self._known) >= _KNOWN:
                    self._known.clear()
                self._known[payload] = message
        return message


def _message(payload: bytes) -> Message:
    body = orjson.loads(payload)
    try:
        kind = body["type"]
        parts = body["ticks"] if kind == "snapshot" else [body] if "seq" in body else []
        places = tuple(Place(_stream(part), part["epoch"], part["seq"]) for part in parts)
        whole = kind.lower().endswith("snapshot")
        return Message(kind, places, whole, None if whole else body.get("time"), body)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("no message of the price stream") from None


def _stream(part: dict[str, Any]) -> str:
    """Ticks of the channel `ticker` have a symbol alone."""
    return part["stream"] if "stream" in part else f"ticker:{part['symbol']}"
