"""The private channels `orders` and `fills`: what became of a user's orders; never conflated."""

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any, NamedTuple, Protocol

import orjson
from prometheus_client import Counter

from app.executions import Output, owners, told
from app.price_service.frames import frame

ORDERS = "orders"
FILLS = "fills"
_pushed = Counter("websocket_executions_pushed_total", "Messages of orders and fills written to clients")


class Session(Protocol):
    """A connection that is logged in."""

    user_id: str
    private: set[str]
    """Private channels that it is subscribed to."""
    ahead: dict[str, dict[str, int]]
    """Channel → symbol → sequence up to which it knows everything, from a replica that was further."""
    resumed: bool
    """It was told that nothing is missing behind the positions it gave."""

    def push(self, data: bytes) -> None:
        """Take a finished frame, or end the connection when too much is unread."""


class _Kept(NamedTuple):
    """An output that is kept as it came."""

    last: int
    owners: frozenset[str]
    value: bytes


class _Ring:
    """The latest outputs of a symbol, without a gap."""

    __slots__ = ("base", "kept", "last", "size")

    def __init__(self, base: int) -> None:
        self.base = base
        """Everything behind this sequence is here."""
        self.last = base
        self.kept: deque[_Kept] = deque()
        self.size = 0

    def put(self, kept: _Kept, most_bytes: int) -> None:
        self.last = kept.last
        self.kept.append(kept)
        self.size += len(kept.value)
        while self.size > most_bytes:
            gone = self.kept.popleft()
            self.base, self.size = gone.last, self.size - len(gone.value)

    def behind(self, position: int) -> list[_Kept]:
        """What came behind a sequence, oldest first; costs no more than that, however much is kept."""
        found = list(takewhile(lambda kept: kept.last > position, reversed(self.kept)))
        found.reverse()
        return found


class Executions:
    """Hands users what is theirs, and what they missed when they come back."""

    def __init__(self, ring_bytes: int) -> None:
        self._ring_bytes = ring_bytes
        self._rings: dict[str, _Ring] = {}
        self._sessions: dict[str, set[Session]] = {}

    @property
    def positions(self) -> dict[str, int]:
        """Symbol → sequence of the last change that was handed on, whoever's it was."""
        return {symbol: ring.last for symbol, ring in self._rings.items()}

    def join(self, session: Session) -> None:
        """Hand a session what it is subscribed to, from now on."""
        self._sessions.setdefault(session.user_id, set()).add(session)

    def leave(self, session: Session) -> None:
        """Hand nothing to a session any longer."""
        found = self._sessions.get(session.user_id, set())
        found.discard(session)
        if not found:
            self._sessions.pop(session.user_id, None)

    def take(self, value: bytes, output: Output) -> None:
        """Hand on what is new in an output, and keep it."""
        symbol, first, last = output["symbol"], output["first"], output["last"]
        ring = self._rings.get(symbol)
        behind = 0
        if ring is None:
            ring = self._rings[symbol] = _Ring(first - 1)
            if first > 1:
                # Whoever resumed at a replica that knew nothing of the symbol yet may lack something.
                self._tell("gap", symbol, resumed=True)
        elif last <= ring.last:
            return
        elif first > ring.last + 1:
            ring = self._rings[symbol] = _Ring(first - 1)
            self._tell("gap", symbol)
        else:
            behind = ring.last
        ring.put(_Kept(last, owners(output), value), self._ring_bytes)
        for owner, message in told(output, behind, self._sessions):
            self._hand_on(tuple(self._sessions.get(owner, ())), message)

    def _hand_on(self, sessions: tuple[Session, ...], message: dict[str, Any]) -> None:
        """A frame is made once for all sessions of the user."""
        frames: dict[str, bytes] = {}
        for session in sessions:
            for channel in _channels_of(message):
                ahead = session.ahead.get(channel)
                if ahead and message["sequence"] <= ahead.get(message["symbol"], 0):
                    continue
                if channel in session.private:
                    if channel not in frames:
                        frames[channel] = _frame(channel, message)
                    session.push(frames[channel])
                    _pushed.inc()

    def interrupted(self) -> None:
        """The place on the bus was lost: what came meanwhile is not known."""
        self._rings.clear()
        self._tell("stream-interrupted")

    def distrust(self, session: Session) -> None:
        """Tell a session of every place of its that nothing has come up to: the exchange was never there."""
        claimed = [place for ahead in session.ahead.values() for place in ahead.items()]
        session.ahead.clear()
        reached = self.positions
        for symbol in sorted({symbol for symbol, place in claimed if place > reached.get(symbol, 0)}):
            session.push(_resync("gap", symbol))

    def _tell(self, reason: str, symbol: str | None = None, *, resumed: bool = False) -> None:
        data = _resync(reason, symbol)
        for sessions in tuple(self._sessions.values()):
            for session in tuple(sessions):
                if not session.private.isdisjoint((ORDERS, FILLS)) and (session.resumed or not resumed):
                    session.push(data)

    def is_recoverable(self, positions: Mapping[str, int]) -> bool:
        """Whether all that came behind some positions is here; a symbol that is not named stands at 0."""
        for symbol in positions.keys() | self._rings.keys():
            ring, position = self._rings.get(symbol), positions.get(symbol, 0)
            if (ring is None and position) or (ring is not None and position < ring.base):
                return False
        return True

    def missed(self, owner: str, channel: str, positions: Mapping[str, int]) -> Iterator[bytes]:
        """Frames of all that a user missed behind some positions, in order for each symbol."""
        for symbol, ring in self._rings.items():
            position = positions.get(symbol, 0)
            for kept in ring.behind(position):
                if owner not in kept.owners:
                    continue
                output = orjson.loads(kept.value)["payload"]
                for _, message in told(output, position, (owner,)):
                    if channel in _channels_of(message):
                        yield _frame(channel, message)


def _resync(reason: str, symbol: str | None) -> bytes:
    return frame({"type": "resync", "reason": reason} | ({} if symbol is None else {"symbol": symbol}))


def _channels_of(message: Mapping[str, Any]) -> tuple[str, ...]:
    return (ORDERS, FILLS) if message["event"] == "fill" else (ORDERS,)


def _frame(channel: str, message: Mapping[str, Any]) -> bytes:
    if channel == FILLS:
        rest = {key: value for key, value in message.items() if key not in ("type", "event")}
        return frame({"type": "fill", "stream": FILLS, **rest})
    return frame({"type": "order", "stream": ORDERS, **{k: v for k, v in message.items() if k != "type"}})
