"""The state of all markets: books, risk, and how far the journal is in them. A function of the journal."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, Protocol

import orjson

from app.events.matching import Answer, Change, MatchingOutput
from app.exchange import (
    Cancel,
    Event,
    MatchingEngine,
    OrderType,
    Place,
    PlaceOco,
    Rejected,
    Replace,
    SnapshotError,
)
from app.matching.journal import AS_ENTERED, Entry
from app.matching.translate import Owners, translate

_MAGIC: Final = b"TSMATCH1"
_LENGTH: Final = Struct("<I")
_ANSWERS_KEPT: Final = 100_000


class Risk(Protocol):
    """What the books need of `app.risk.pretrade.PreTradeRisk`."""

    def apply(self, symbol: str, change: Change, at: int) -> None:
        """Take over what a book did."""

    def forget(self, order_id: int) -> None:
        """An order was not entered after all."""

    def dump(self) -> bytes:
        """The state; equal states give equal bytes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command did."""

    events: Sequence[Event]
    answers: Sequence[Answer]
    before: tuple[Place, int] | None = None
    """Terms and open lots of the order that a cancel or replace named, if it was open."""
    after: tuple[Place, int, bool] | None = None
    """Its terms, open lots and whether it waits for its stop price, if it still is open."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What the commands of one symbol did."""

    output: MatchingOutput
    outcomes: Sequence[Outcome]
    asked: Mapping[int, OrderType]
    """Types that were asked for, of the orders that were entered or changed."""


class Books:
    """All order books and the risk state, changed by whole batches."""

    def __init__(self, symbols: Iterable[str], risk: Risk) -> None:
        self.engines = {symbol: MatchingEngine(symbol) for symbol in symbols}
        self.risk = risk
        self.batch = 0
        """Number of the last batch that was applied."""
        self.at = 0
        """Its time."""
        self.asked: dict[str, dict[int, OrderType]] = {symbol: {} for symbol in self.engines}
        """Symbol → open orders that were entered as another type than was asked for."""
        self.answers: dict[int, Answer] = {}
        """First answers of the newest orders by id."""
        self._answered: deque[int] = deque()

    def apply(
        self, batch: int, at: int, sections: Iterable[tuple[str, Sequence[Entry]]], owners: Owners
    ) -> list[Applied]:
        """Carry a batch out; what it did, by symbol in the order of the sections.

        Raises:
            ValueError: it is not the next batch.
        """
        self.begin(batch, at)
        return [self._apply(symbol, entries, owners) for symbol, entries in sections]

    def state_hash(self, symbol: str) -> str:
        """Digest of one book."""
        return self.engines[symbol].state_hash()

    def dump(self) -> list[bytes]:
        """The whole state in parts, copied at once; `load` takes them joined.

        Risk may count orders that are only on their way to the books: after a restart the books tell.
        """
        self.asked = self._open_as_asked()
        books = {symbol: engine.snapshot() for symbol, engine in self.engines.items()}
        risk = self.risk.dump()
        head = {
            "batch": self.batch,
            "at": self.at,
            "asked": {symbol: sorted(asked.items()) for symbol, asked in self.asked.items() if asked},
            "books": [[symbol, len(book)] for symbol, book in books.items()],
        }
        meta = orjson.dumps(head)
        return [_MAGIC, _LENGTH.pack(len(meta)), meta, *books.values(), risk]

    def sequences(self) -> dict[str, int]:
        """Sequence of the last change of each symbol."""
        return {symbol: engine.book.sequence for symbol, engine in self.engines.items()}

    def load(self, state: bytes) -> bytes:
        """Go on from what `dump` gave; returns the state of risk, which is left to the caller.

        Raises:
            SnapshotError: the state is damaged.
        """
        if state[: len(_MAGIC)] != _MAGIC:
            raise SnapshotError("the snapshot has an unknown format")
        offset = len(_MAGIC) + _LENGTH.size
        (length,) = _LENGTH.unpack_from(state, len(_MAGIC))
        head = orjson.loads(state[offset : offset + length])
        offset += length
        for symbol, size in head["books"]:
            if symbol in self.engines:
                self.engines[symbol].restore(state[offset : offset + size])
            offset += size
        self.batch, self.at = head["batch"], head["at"]
        for symbol, asked in head["asked"].items():
            self.asked[symbol] = {id: OrderType(kind) for id, kind in asked}
        return state[offset:]

    def begin(self, batch: int, at: int) -> None:
        """Count the next batch; raises ValueError when it is not."""
        if batch != self.batch + 1:
            raise ValueError(f"batch {batch} does not follow batch {self.batch}")
        self.batch, self.at = batch, at

    def _apply(self, symbol: str, entries: Sequence[Entry], owners: Owners) -> Applied:
        engine, risk, at = self.engines[symbol], self.risk, self.at
        first = engine.book.sequence + 1
        changes: list[Change] = []
        answers: list[Answer] = []
        outcomes: list[Outcome] = []
        asked: dict[int, OrderType] = {}
        for entry in entries:
            command = entry.command
            named = command.order_id if isinstance(command, Cancel | Replace) else 0
            before = engine.book.orders.get(named)
            terms = (before.terms, before.remaining) if before else None
            events = engine.apply(command)
            told, answered = translate(command, events, owners)
            for change in told:
                risk.apply(symbol, change, at)
            if isinstance(command, PlaceOco) and isinstance(events[-1], Rejected):
                risk.forget(command.second.order_id)
            outcomes.append(Outcome(events, answered, terms, _standing(engine, named)))
            changes += told
            answers += answered
            if isinstance(command, Place):
                asked[command.order_id] = self._keep_type(symbol, entry, command)
            elif isinstance(command, PlaceOco):
                asked |= entry.types()
                self.asked[symbol] |= entry.types()
            elif named in self.asked[symbol]:
                asked[named] = self.asked[symbol][named]
        self._remember(answers)
        output = MatchingOutput(
            symbol=symbol,
            first=first,
            last=engine.book.sequence,
            at=at,
            changes=tuple(changes),
            answers=tuple(answers),
        )
        return Applied(output, outcomes, asked)

    def _keep_type(self, symbol: str, entry: Entry, command: Place) -> OrderType:
        if entry.asked == AS_ENTERED:
            return command.order_type
        kind = self.asked[symbol][command.order_id] = OrderType(entry.asked - 1)
        return kind

    def _remember(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self.answers[answer.order_id] = answer
            self._answered.append(answer.order_id)
        while len(self._answered) > _ANSWERS_KEPT:
            self.answers.pop(self._answered.popleft(), None)

    def _open_as_asked(self) -> dict[str, dict[int, OrderType]]:
        """`asked` without orders that ended."""
        return {
            symbol: {id: kind for id, kind in asked.items() if id in self.engines[symbol].book.orders}
            for symbol, asked in self.asked.items()
        }


def without_orders(risk: bytes) -> bytes:
    """What `PreTradeRisk.dump` gave, as if no order were open."""
    return orjson.dumps({**orjson.loads(risk), "orders": []})


def _standing(engine: MatchingEngine, order_id: int) -> tuple[Place, int, bool] | None:
    order = engine.book.orders.get(order_id)
    return None if order is None else (order.terms, order.remaining, engine.book.is_waiting(order))
