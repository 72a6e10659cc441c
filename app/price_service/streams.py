"""Streams by name, and what a channel gives to the hub: the interface between sources and clients.

A stream is named `channel:SYMBOL`, such as `ticker:BTC-USD` or `candles:1m:BTC-USD`. A channel module follows
its source, keeps the latest state of its streams, makes the bytes of every message once (`frames.frame`) and
hands them to `Hub.publish`. It knows no clients; the hub knows streams only by their names.

What a channel promises:

* `epoch` and `seq` come from the source, so that they are the same on every replica, and are in the message.
* Within an epoch `seq` rises by exactly 1 from entry to entry of a stream. Whatever else happens (first
  message, gap, new epoch) is an entry with `reset=True`, whose frame holds the whole state: clients need no
  message before it. Repeated messages are not published. `sequence.SequenceTracker` tells these cases apart.
* Before `Hub.publish` is called, the channel's own state includes the entries: the hub may ask for a snapshot
  at once, and what it gets then is at the place of the last entry published.
* All of it happens on the event loop, without awaiting between the change of state and `Hub.publish`.

To plug in: make the channel in `service.serve`, `hub.add(channel)`, and give its source's `open` (fixes the
place on the bus and loads the state; raises Unavailable) and `run` (follows until cancelled) to the runtime.
Channels made from price ticks need no subscription of their own: see `ticker.TickFollower`.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

GATHER = 0.005
"""Seconds that a source waits for more after a first message: a step of the feed then costs each client one
write, and prices are later by that much."""


class Position(NamedTuple):
    """A place in a stream."""

    epoch: str
    seq: int


class Entry(NamedTuple):
    """One message of a stream."""

    stream: str
    epoch: str
    seq: int
    at_ms: int
    """Unix time of what happened, in milliseconds; delivery is measured from here."""
    frame: bytes
    """The whole WebSocket frame, see `frames.frame`."""
    reset: bool = False
    """The frame holds the whole state and does not continue the entry before."""


class Channel(Protocol):
    """The streams of one kind of data."""

    @property
    def names(self) -> Collection[str]:
        """Names of the channel, as clients subscribe to it: `ticker`, or `candles:1m` and `candles:5m`."""

    def snapshot(self, streams: Sequence[str], reason: str) -> Sequence[bytes]:
        """Frames that tell where some of its streams stand; a stream of which nothing is known is left out.

        `reason` is in the message: `subscribe` for a new subscription, `resync` where what the client has
        seen is not continued, `slow` where messages were left out because the client did not read. The state
        is that of the last entry published. Called once for each client that needs it, so keep it cheap.
        """


class Source(Protocol):
    """What a channel is made of, on the bus."""

    async def open(self) -> None:
        """Fix the place on the bus and load the state; raises Unavailable."""

    async def run(self) -> None:
        """Follow until cancelled; raises Unavailable when it breaks, and then goes on when called again."""


def name(channel: str, symbol: str) -> str:
    """The stream of a symbol in a channel."""
    return f"{channel}:{symbol}"


def channel_of(stream: str) -> str:
    """The channel of a stream: `candles:1m` of `candles:1m:BTC-USD`."""
    return stream.rpartition(":")[0]


def symbol_of(stream: str) -> str:
    """The symbol of a stream."""
    return stream.rpartition(":")[2]
