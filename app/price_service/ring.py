"""The latest messages of one stream, for clients that come back."""

from collections import deque

from app.price_service.streams import Entry, Position


class Ring:
    """A run of messages without a gap, bounded by their number."""

    __slots__ = ("_frames", "_last")

    def __init__(self, size: int) -> None:
        self._frames: deque[bytes] = deque(maxlen=size)
        self._last: Position | None = None

    @property
    def last(self) -> Position | None:
        """Where the stream stands; None while nothing is known of it."""
        return self._last

    def put(self, entry: Entry) -> None:
        """Append a message; one that is a reset begins a new run, behind itself.

        Raises:
            ValueError: the message is no reset and does not follow the one before.
        """
        if entry.reset:
            self._frames.clear()
        elif self._last is None or (entry.epoch, entry.seq) != (self._last.epoch, self._last.seq + 1):
            raise ValueError(
                f"{entry.stream}: {entry.epoch}/{entry.seq} does not follow {self._last} and is no reset"
            )
        else:
            self._frames.append(entry.frame)
        self._last = Position(entry.epoch, entry.seq)

    def after(self, position: Position) -> list[bytes] | None:
        """All messages behind a position, in order; None when not every one of them is here."""
        if self._last is None or position.epoch != self._last.epoch:
            return None
        missed = self._last.seq - position.seq
        if not 0 <= missed <= len(self._frames):
            return None
        frames = self._frames
        return [frames[index] for index in range(len(frames) - missed, len(frames))]
