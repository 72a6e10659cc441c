"""Two books of the same trades, compared."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

from pydantic import ValidationError

from app.events.envelope import Envelope
from app.events.registry import name_of
from app.events.trading import TradeExecuted

_CLOSE = time(22, tzinfo=UTC)
_SHOWN = 100
"""Trades that a report names of each kind; the counts are always whole."""


@dataclass(frozen=True)
class Window:
    """A trading day: from the close before it to its own close, 22:00 UTC."""

    begin: datetime
    end: datetime

    @classmethod
    def closed_by(cls, moment: datetime) -> "Window":
        """The last trading day that has ended at `moment`; Monday's begins on Friday."""
        end = datetime.combine(moment.astimezone(UTC).date(), _CLOSE)
        while end > moment or end.weekday() > 4:
            end -= timedelta(days=1)
        begin = end - timedelta(days=3 if end.weekday() == 0 else 1)
        return cls(begin, end)

    @property
    def dates(self) -> list[str]:
        """Calendar days that it touches, as files are named by."""
        days = (self.end.date() - self.begin.date()).days
        return [str(self.begin.date() + timedelta(days=number)) for number in range(days + 1)]


@dataclass
class Book:
    """The trades of a day as one side has them."""

    trades: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """Trade id → symbol, price in ticks, quantity in lots."""
    unreadable: int = 0
    """Lines that are no event."""

    @property
    def totals(self) -> dict[str, int]:
        """Symbol → lots traded."""
        found: Counter[str] = Counter()
        for symbol, _, quantity in self.trades.values():
            found[symbol] += quantity
        return dict(sorted(found.items()))


def read(lines: Iterable[bytes], window: Window) -> Book:
    """The trades of a window among the events in `lines`; a trade that is there twice counts once."""
    book = Book()
    for event in _events(lines, book):
        if (event.type, event.version) != name_of(TradeExecuted):
            continue
        if not window.begin < event.time <= window.end:
            continue
        try:
            trade = TradeExecuted.model_validate(event.payload)
        except ValidationError:
            book.unreadable += 1
            continue
        book.trades[trade.trade_id] = (trade.symbol, trade.price, trade.quantity)
    return book


def compare(exported: Book, analysed: Book) -> dict[str, object]:
    """What the two books differ in, as a report; `differences` is 0 when they agree."""
    missing = sorted(exported.trades.keys() - analysed.trades.keys())
    extra = sorted(analysed.trades.keys() - exported.trades.keys())
    common = exported.trades.keys() & analysed.trades.keys()
    changed = sorted(trade for trade in common if exported.trades[trade] != analysed.trades[trade])
    unreadable = exported.unreadable + analysed.unreadable
    differences = len(missing) + len(extra) + len(changed) + unreadable
    status = "unbalanced" if differences else "balanced" if common else "empty"
    return {
        "status": status,
        "differences": differences,
        "trades": {"exported": len(exported.trades), "analysed": len(analysed.trades)},
        "lots": {"exported": exported.totals, "analysed": analysed.totals},
        "missing": {"count": len(missing), "trades": missing[:_SHOWN]},
        "extra": {"count": len(extra), "trades": extra[:_SHOWN]},
        "changed": {"count": len(changed), "trades": changed[:_SHOWN]},
        "unreadable": unreadable,
    }


def _events(lines: Iterable[bytes], book: Book) -> Iterator[Envelope]:
    for line in lines:
        if not line.strip():
            continue
        try:
            yield Envelope.decode(line)
        except ValidationError:
            book.unreadable += 1
