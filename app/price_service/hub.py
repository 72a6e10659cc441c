"""Fan-out of finished frames: who is subscribed to what, and what each of them has to be told.

Clients with the same subscription form a group; the bytes of a batch are put together once for a group and
written to each of its clients with one call. Streams are known only by their names, see `streams`.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from prometheus_client import Counter, Gauge, Histogram

from app.price_service.ring import Ring
from app.price_service.streams import Channel, Entry, Position, channel_of

SERVICE = "price-service"
RING = 500
"""Messages of each stream that are kept for clients that come back: 50 s of a symbol that trades ten times a
second."""
_MOST_REPLAYED = 1024 * 1024
"""Bytes of missed messages that one request brings; streams beyond begin with a snapshot."""
connections = Gauge("websocket_connections_active", "Open WebSocket connections", ["service"]).labels(SERVICE)
subscriptions = Gauge(
    "websocket_subscriptions_active", "Streams subscribed, over all connections", ["service"]
).labels(SERVICE)
published = Counter("websocket_messages_published", "Messages written to clients", ["service"]).labels(
    SERVICE
)
dropped = Counter("websocket_messages_dropped_total", "Messages that a client was not given", ["reason"])
_dropped_slow = dropped.labels("slow")
delivery = Histogram(
    "websocket_delivery_seconds",
    "From the time in a message to its write to the last client, the oldest message of each batch",
    ["service"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
).labels(SERVICE)


class _Group:
    """Clients with the same subscription."""

    __slots__ = ("clients", "streams")

    def __init__(self, streams: frozenset[str]) -> None:
        self.streams = streams
        self.clients: set[Client] = set()


class Client:
    """State of one connection, bounded by the number of streams."""

    __slots__ = ("behind", "group", "slow", "write")

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.write = write
        """Takes bytes for the socket; never blocks."""
        self.group: _Group | None = None
        self.slow = False
        """The socket takes no more now."""
        self.behind: set[str] | None = None
        """Streams of which messages were left out; a snapshot tells when the socket takes bytes again."""

    @property
    def streams(self) -> frozenset[str]:
        """What it is subscribed to."""
        return self.group.streams if self.group is not None else frozenset()


class Hub:
    """Rings, subscriptions and the fan-out between them."""

    def __init__(self, ring: int = RING) -> None:
        self._size = ring
        self._channels: dict[str, Channel] = {}
        self._rings: dict[str, Ring] = {}
        self._groups: dict[frozenset[str], _Group] = {}
        self._by_stream: dict[str, set[_Group]] = {}

    def add(self, channel: Channel) -> None:
        """Serve the streams of a channel."""
        for name in channel.names:
            self._channels[name] = channel

    @property
    def channels(self) -> Collection[str]:
        """Names of the channels that are served."""
        return self._channels.keys()

    def wanted(self, stream: str) -> bool:
        """Whether a client is subscribed to a stream."""
        return bool(self._by_stream.get(stream))

    def forget(self, stream: str) -> None:
        """Keep nothing of a stream that is not followed any more or may have a gap: a reset comes next."""
        self._rings.pop(stream, None)

    def publish(self, entries: Iterable[Entry]) -> None:
        """Take new messages, oldest first, and write them to those who want them; see `streams`.

        Raises:
            ValueError: an entry neither continues its stream nor is a reset.
        """
        wanted: dict[_Group, list[Entry]] = {}
        oldest = 0
        for entry in entries:
            ring = self._rings.get(entry.stream)
            if ring is None:
                ring = self._rings[entry.stream] = Ring(self._size)
            ring.put(entry)
            for group in self._by_stream.get(entry.stream, ()):
                wanted.setdefault(group, []).append(entry)
                oldest = min(oldest or entry.at_ms, entry.at_ms)
        if not wanted:
            return
        written = left_out = 0
        for group, found in wanted.items():
            data = b"".join([entry.frame for entry in found])
            count = len(found)
            # A write can end a connection, which leaves its group.
            for client in tuple(group.clients):
                if client.slow:
                    if client.behind is None:
                        client.behind = set()
                    client.behind.update([entry.stream for entry in found])
                    left_out += count
                else:
                    client.write(data)
                    written += count
        published.inc(written)
        if left_out:
            _dropped_slow.inc(left_out)
        delivery.observe(max(0.0, time.time() - oldest / 1000))

    def join(self, client: Client) -> None:
        """Add a connection, with no subscription yet."""
        connections.inc()

    def leave(self, client: Client) -> None:
        """Forget a connection."""
        self.quiet(client)
        connections.dec()

    def quiet(self, client: Client) -> None:
        """End every subscription of a client."""
        self._change(client, frozenset())
        client.behind = None

    def recoverable(self, client: Client, positions: Mapping[str, Position]) -> dict[str, bool]:
        """For each stream, whether all that came behind the position can be given to the client now."""
        room = _MOST_REPLAYED
        found = {}
        for stream, position in positions.items():
            ring = self._rings.get(stream)
            frames = ring.after(position) if ring is not None and not client.slow else None
            size = sum(map(len, frames)) if frames is not None else 0
            found[stream] = frames is not None and size <= room
            room -= size if found[stream] else 0
        return found

    def subscribe(
        self, client: Client, streams: Collection[str], resume: Mapping[str, Position | None] | None = None
    ) -> None:
        """Add streams; each starts with a snapshot, also one that was subscribed before.

        `resume` has those that the client saw before, with the position from which all is still known (as
        `recoverable` told just now): they start with what was missed. None there means that the client's
        position cannot be continued, and the snapshot says so.
        """
        self._change(client, client.streams | frozenset(streams))
        if client.slow:
            client.behind = (client.behind or set()).union(streams)
            return
        resume = resume or {}
        frames: list[bytes] = []
        fresh: list[str] = []
        lost: list[str] = []
        for stream in sorted(streams):
            position = resume.get(stream)
            if position is not None:
                frames += self._rings[stream].after(position) or ()
            else:
                (lost if stream in resume else fresh).append(stream)
        frames += self._snapshots(fresh, "subscribe")
        frames += self._snapshots(lost, "resync")
        self._write(client, frames)

    def unsubscribe(self, client: Client, streams: Collection[str]) -> None:
        """Remove streams."""
        self._change(client, client.streams - frozenset(streams))
        if client.behind is not None:
            client.behind.difference_update(streams)

    def paused(self, client: Client) -> None:
        """The client's socket takes no more: from now on only the latest state of a stream counts."""
        client.slow = True

    def resumed(self, client: Client) -> None:
        """The socket takes bytes again: a snapshot covers what was left out."""
        client.slow = False
        behind, client.behind = client.behind, None
        if behind:
            self._write(client, self._snapshots(sorted(behind), "slow"))

    def _snapshots(self, streams: Sequence[str], reason: str) -> list[bytes]:
        by_channel: dict[str, list[str]] = {}
        for stream in streams:
            by_channel.setdefault(channel_of(stream), []).append(stream)
        return [
            frame
            for name, names in by_channel.items()
            if name in self._channels
            for frame in self._channels[name].snapshot(names, reason)
        ]

    @staticmethod
    def _write(client: Client, frames: Sequence[bytes]) -> None:
        if frames:
            client.write(b"".join(frames))
            published.inc(len(frames))

    def _change(self, client: Client, streams: frozenset[str]) -> None:
        """Move a client to the group of some streams; equal sets are kept once."""
        before = client.group
        if before is not None:
            before.clients.discard(client)
            if not before.clients:
                del self._groups[before.streams]
                for stream in before.streams:
                    self._by_stream[stream].discard(before)
        subscriptions.inc(len(streams) - (len(before.streams) if before is not None else 0))
        client.group = None
        if not streams:
            return
        group = self._groups.get(streams)
        if group is None:
            group = self._groups[streams] = _Group(streams)
            for stream in streams:
                self._by_stream.setdefault(stream, set()).add(group)
        group.clients.add(client)
        client.group = group
