"""One WebSocket client of the price stream: subscribes, resumes, checks that nothing is left out."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import orjson
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from infra.loadtest.messages import Message, Place, Reader

_NOTICES = frozenset({"serverShutdown", "reconnect"})
"""Messages by which a server asks its clients to come back, to another replica perhaps."""


class Load(Protocol):
    """Whom a client tells."""

    reader: Reader

    def joined(self, client: "StreamClient") -> None:
        """The connection is open."""

    def left(self, client: "StreamClient") -> None:
        """The connection ended."""

    def received(self) -> None:
        """A message came."""

    def delivered(self, ms: float) -> None:
        """A continuation came `ms` after its time."""

    def gap(self, *, told: bool) -> None:
        """Numbers were left out, or an epoch began; `told` when a snapshot says so."""

    def repeated(self) -> None:
        """A continuation came that was there before."""

    def recovered(self, *, whole: bool) -> None:
        """A stream was resumed: with every message since (`whole`), or anew."""

    def fail(self, what: str) -> None:
        """Count a failure."""


class StreamClient(WSListener):
    """Reads the stream of some symbols; its places outlive its connection, so that it can resume."""

    def __init__(self, load: Load, number: int, symbols: Sequence[str], channels: Sequence[str]) -> None:
        self._load = load
        self.number = number
        self._request: dict[str, Any] = {"op": "subscribe", "symbols": list(symbols)}
        if channels:
            self._request["channels"] = list(channels)
        self._places: dict[str, Place] = {}
        self._continues: set[str] = set()
        """Streams of which the server said that what comes next continues what was there before."""
        self.transport: WSTransport | None = None
        self.asked_back = False
        """The server has asked its clients to connect again."""
        self.subscribed = False
        self.messages = 0
        self.gaps = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called once for each connection, after the handshake."""
        self.transport = transport
        self.asked_back = self.subscribed = False
        self._load.joined(self)
        request = self._request
        if self._places:
            kept = {place.stream: {"epoch": place.epoch, "seq": place.seq} for place in self._places.values()}
            request = {**request, "resume": kept}
        transport.send(WSMsgType.TEXT, orjson.dumps(request))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Called once for each connection, however it ended."""
        self.transport = None
        self._load.left(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called for each frame; pings are answered before they come here."""
        if frame.msg_type == WSMsgType.TEXT:
            self.take(frame.get_payload_as_bytes(), time.time() * 1000)
        elif frame.msg_type == WSMsgType.CLOSE:
            self.asked_back |= (
                frame.payload_size > 0 and frame.get_close_code() == WSCloseCode.SERVICE_RESTART
            )
            transport.disconnect()

    def take(self, payload: bytes, now: float) -> None:
        """Take a message that came at `now`, Unix time in milliseconds."""
        self.messages += 1
        self._load.received()
        try:
            message = self._load.reader.read(payload)
        except ValueError:
            self._load.fail("unreadable")
            return
        if message.places:
            if message.at is not None:
                self._load.delivered(now - message.at)
            for place in message.places:
                self._observe(place, whole=message.whole)
        else:
            self._control(message)

    def _observe(self, place: Place, *, whole: bool) -> None:
        before = self._places.get(place.stream)
        if before is not None and before.epoch == place.epoch and place.seq <= before.seq:
            if not whole:
                self._load.repeated()
            return
        self._places[place.stream] = place
        if before is not None and (before.epoch != place.epoch or place.seq != before.seq + 1):
            self.gaps += 1
            self._load.gap(told=whole and place.stream not in self._continues)
        self._continues.discard(place.stream)

    def _control(self, message: Message) -> None:
        if message.kind == "subscribed":
            self.subscribed = True
            for stream, whole in message.body.get("recovered", {}).items():
                self._load.recovered(whole=whole)
                if whole:
                    self._continues.add(stream)
        elif message.kind in _NOTICES:
            self.asked_back = True
        elif message.kind == "error":
            self._load.fail(f"refused: {message.body.get('code')}")
