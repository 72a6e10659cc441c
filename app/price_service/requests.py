"""What a client asks for: a change of its subscriptions, read and checked."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from app.instruments import INSTRUMENTS
from app.price_service.executions import FILLS, ORDERS
from app.price_service.portfolio import PORTFOLIO
from app.price_service.streams import Position, name
from app.price_service.ticker import CHANNEL

PRIVATE = (ORDERS, FILLS, PORTFOLIO)
"""Channels of one user; they have no symbols and need a login."""
_LONGEST_EPOCH = 40
_ALL = frozenset(INSTRUMENTS)


class Invalid(Exception):
    """A request that is answered with an error of this code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Change:
    """Subscriptions to begin or to end."""

    symbols: list[str] | None
    """As they are answered; None when the request named none."""
    channels: list[str] | None
    streams: frozenset[str]
    private: frozenset[str]
    resume: dict[str, Position]
    """Where the client stood in public streams."""
    positions: dict[str, dict[str, int]]
    """Where it stood in private channels: channel → symbol → sequence."""
    resumes: bool
    """Whether it asked to go on from where it stood, even from nowhere."""


def change(message: Mapping[str, Any], served: Collection[str]) -> Change:
    """Read a `subscribe` or `unsubscribe`; `served` are the public channels.

    Raises:
        Invalid: `invalid-channels`, `unknown-channel`, `invalid-symbols`, `unknown-symbol`, `invalid-resume`.
    """
    channels = _channels(message, served)
    wanted = [CHANNEL] if channels is None else channels
    public = [channel for channel in wanted if channel not in PRIVATE]
    symbols = _symbols(message) if public or "symbols" in message else None
    streams = frozenset(name(channel, symbol) for channel in public for symbol in symbols or ())
    private = frozenset(wanted).intersection(PRIVATE)
    resume, positions = _resume(message.get("resume"), streams, private)
    return Change(
        symbols=None if symbols is None else sorted(symbols),
        channels=channels,
        streams=streams,
        private=private,
        resume=resume,
        positions=positions,
        resumes=message.get("resume") is not None,
    )


def _channels(message: Mapping[str, Any], served: Collection[str]) -> list[str] | None:
    asked = message.get("channels")
    if asked is None:
        return None
    known = [*served, *PRIVATE]
    if not isinstance(asked, list) or not asked or not all(isinstance(each, str) for each in asked):
        raise Invalid("invalid-channels", f"channels is a list of some of: {', '.join(known)}")
    unknown = sorted(set(asked).difference(known))
    if unknown:
        told = ", ".join(unknown)[:200]
        raise Invalid("unknown-channel", f"no such channel: {told}; there are {', '.join(known)}")
    return sorted(set(asked))


def _symbols(message: Mapping[str, Any]) -> frozenset[str]:
    asked = message.get("symbols")
    if asked == "*":
        return _ALL
    if not isinstance(asked, list) or not all(isinstance(symbol, str) for symbol in asked):
        raise Invalid("invalid-symbols", 'symbols is a list of symbols or "*"')
    symbols = frozenset(asked)
    unknown = sorted(symbols - INSTRUMENTS.keys())
    if unknown:
        raise Invalid("unknown-symbol", f"no such symbol: {', '.join(unknown)[:200]}")
    return symbols


def _resume(
    asked: object, streams: frozenset[str], private: frozenset[str]
) -> tuple[dict[str, Position], dict[str, dict[str, int]]]:
    public: dict[str, Position] = {}
    positions: dict[str, dict[str, int]] = {}
    if asked is None:
        return public, positions
    if not isinstance(asked, dict):
        raise Invalid("invalid-resume", "resume is an object: stream → where you stood")
    for stream, place in asked.items():
        if stream in streams:
            public[stream] = _position(stream, place)
        elif stream in private:
            positions[stream] = _positions(stream, place)
        else:
            raise Invalid("invalid-resume", f"{str(stream)[:80]} is not among the streams of the request")
    return public, positions


def _position(stream: str, place: object) -> Position:
    if isinstance(place, dict):
        epoch, seq = place.get("epoch"), place.get("seq")
        if isinstance(epoch, str) and len(epoch) <= _LONGEST_EPOCH and _is_sequence(seq):
            return Position(epoch, seq)
    raise Invalid("invalid-resume", f'{stream}: like {{"epoch": "a1", "seq": 41}}')


def _positions(channel: str, place: object) -> dict[str, int]:
    found = place.get("positions", {} if channel == PORTFOLIO else None) if isinstance(place, dict) else None
    if isinstance(found, dict) and all(_is_sequence(sequence) for sequence in found.values()):
        unknown = sorted(found.keys() - INSTRUMENTS.keys())
        if not unknown:
            return found
    raise Invalid("invalid-resume", f'{channel}: like {{"positions": {{"BTC-USD": 17}}}}')


def _is_sequence(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
