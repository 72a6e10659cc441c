"""Fan-out of ticks: who is subscribed to what, and what each of them has to be told.

Clients with the same symbols form a group; the bytes of a batch are put together once for a group and written
to each of its clients with one call.
"""

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import Counter, Gauge

from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS
from app.price_service.frames import snapshot_frame, tick_frame
from app.price_service.sequence import SequenceTracker, Verdict

SERVICE = "price-service"
connections = Gauge("websocket_connections_active", "Open WebSocket connections", ["service"]).labels(SERVICE)
subscriptions = Gauge(
    "websocket_subscriptions_active", "Symbols subscribed, over all connections", ["service"]
).labels(SERVICE)
published = Counter("websocket_messages_published", "Messages written to clients", ["service"]).labels(
    SERVICE
)
resyncs = Counter("price_resyncs_total", "Snapshots sent because the stream had a gap", ["reason"])
conflated = Counter("websocket_ticks_conflated_total", "Ticks not written to a client that was slow")


class Sink(Protocol):
    """Where a client's bytes go."""

    def write(self, data: bytes) -> None:
        """Take bytes; never blocks."""


class Client:
    """State of one connection, bounded by the number of symbols."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.symbols: frozenset[str] = frozenset()
        self.slow = False
        """The socket takes no more now."""
        self.behind: set[str] = set()
        """Symbols of which ticks were left out; a snapshot tells when the socket takes bytes again."""


class Hub:
    """Latest ticks, subscriptions and the fan-out between them."""

    def __init__(self) -> None:
        self.latest: dict[str, PriceTick] = {}
        self._tracker = SequenceTracker()
        self._groups: dict[frozenset[str], set[Client]] = {}

    def join(self, client: Client) -> None:
        """Add a connection, with no subscription yet."""
        self._groups.setdefault(client.symbols, set()).add(client)
        connections.inc()

    def leave(self, client: Client) -> None:
        """Forget a connection."""
        self._leave_group(client)
        subscriptions.dec(len(client.symbols))
        connections.dec()

    def subscribe(self, client: Client, symbols: frozenset[str]) -> None:
        """Add symbols; each starts with a snapshot, also one that was subscribed before."""
        self._change(client, client.symbols | symbols)
        known = [self.latest[symbol] for symbol in sorted(symbols) if symbol in self.latest]
        if client.slow:
            client.behind |= symbols
        elif known:
            self._write(client, snapshot_frame(known, "subscribe"), 1)

    def unsubscribe(self, client: Client, symbols: frozenset[str]) -> None:
        """Remove symbols."""
        self._change(client, client.symbols - symbols)
        client.behind -= symbols

    def publish(self, ticks: Iterable[PriceTick]) -> None:
        """Take new ticks, oldest first, and write them to those who want them.

        Every tick holds the whole state of its symbol, so after a gap or new epoch it is itself the snapshot.
        """
        frames: list[tuple[str, bytes]] = []
        for tick in ticks:
            if tick.symbol not in INSTRUMENTS:
                continue  # a newer version of the app trades it
            verdict = self._tracker.observe(tick.symbol, tick.epoch, tick.seq)
            if verdict is Verdict.REPEATED:
                continue
            self.latest[tick.symbol] = tick
            if verdict is Verdict.NEXT:
                frames.append((tick.symbol, tick_frame(tick)))
            else:
                resyncs.labels(verdict.value).inc()
                frames.append((tick.symbol, snapshot_frame([tick], "resync")))
        if frames:
            for symbols, clients in list(self._groups.items()):
                self._publish_to(symbols, tuple(clients), frames)

    def _publish_to(
        self, symbols: frozenset[str], clients: tuple[Client, ...], frames: list[tuple[str, bytes]]
    ) -> None:
        wanted = [(symbol, data) for symbol, data in frames if symbol in symbols]
        if not wanted:
            return
        changed = {symbol for symbol, _ in wanted}
        data = b"".join(part for _, part in wanted)
        for client in clients:
            if client.slow:
                client.behind |= changed
                conflated.inc(len(wanted))
            else:
                self._write(client, data, len(wanted))

    def paused(self, client: Client) -> None:
        """The client's socket takes no more: from now on only the latest tick of a symbol counts."""
        client.slow = True

    def resumed(self, client: Client) -> None:
        """The socket takes bytes again: a snapshot covers what was left out."""
        client.slow = False
        behind = [self.latest[symbol] for symbol in sorted(client.behind) if symbol in self.latest]
        client.behind.clear()
        if behind:
            self._write(client, snapshot_frame(behind, "slow"), 1)

    @staticmethod
    def _write(client: Client, data: bytes, messages: int) -> None:
        client.sink.write(data)
        published.inc(messages)

    def _change(self, client: Client, symbols: frozenset[str]) -> None:
        self._leave_group(client)
        subscriptions.inc(len(symbols) - len(client.symbols))
        client.symbols = symbols
        self._groups.setdefault(symbols, set()).add(client)

    def _leave_group(self, client: Client) -> None:
        group = self._groups[client.symbols]
        group.discard(client)
        if not group:
            del self._groups[client.symbols]
