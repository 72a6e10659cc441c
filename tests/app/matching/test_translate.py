"""The changes alone tell everything that happened to every order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest

from app.events import matching as told
from app.events.envelope import Envelope
from app.events.matching import Answer, Change, MatchingOutput, ended
from app.exchange import (
    Cancel,
    CancelAll,
    ChangePhase,
    Command,
    MatchingEngine,
    OrderType,
    Phase,
    Place,
    PlaceOco,
    Replace,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from app.matching.translate import family_envelopes, output_envelope, parts, translate
from tests.exchange.generate import Generator

SYMBOL = "BTC-USD"
COMMANDS = 3_000
ACCOUNTS = range(1, 1_000)
IDS = range(1, 2**53)


class Owners:
    """Account 3 is user u3."""

    def owner(self, number: int) -> str:
        return f"u{number}" if number else ""


OWNERS = Owners()


@dataclass
class Line:
    """What became of one order."""

    submitted: int
    executed: int = 0
    cancelled: int = 0
    reduced: int = 0

    @property
    def resting(self) -> int:
        return self.submitted - self.executed - self.cancelled - self.reduced


@dataclass
class Reader:
    """A follower that has nothing but the changes."""

    lines: dict[int, Line] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    sequence: int = 0

    def read(self, changes: Iterable[Change]) -> None:
        for change in changes:
            assert change.sequence == self.sequence + 1
            self.sequence = change.sequence
            self._add(change)
            for order_id in ended(change):
                assert order_id not in self.ended
                self.ended.add(order_id)
                assert order_id not in self.lines or self.lines[order_id].resting == 0

    def _add(self, change: Change) -> None:
        match change:
            case told.OrderAccepted():
                self.lines[change.order_id] = Line(change.quantity)
            case told.TradeMade():
                for order_id, remaining in (
                    (change.maker_order_id, change.maker_remaining),
                    (change.taker_order_id, change.taker_remaining),
                ):
                    self.lines[order_id].executed += change.quantity
                    assert self.lines[order_id].resting == remaining
            case told.OrderCancelled():
                assert self.lines[change.order_id].resting == change.quantity
                self.lines[change.order_id].cancelled += change.quantity
            case told.OrderReduced():
                self.lines[change.order_id].reduced += change.quantity
                assert self.lines[change.order_id].resting == change.remaining
            case told.OrderReplaced():
                line = self.lines[change.order_id]
                line.submitted = change.quantity + line.reduced
                assert line.resting == change.remaining
            case _:
                pass

    @property
    def open(self) -> dict[int, int]:
        return {id: line.resting for id, line in self.lines.items() if id not in self.ended}


def orders(command: Command) -> tuple[Place, ...]:
    match command:
        case Place():
            return (command,)
        case PlaceOco():
            return command.first, command.second
        case _:
            return ()


def stream(
    seed: int, commands: int = COMMANDS
) -> Iterator[tuple[MatchingEngine, Command, list[Change], tuple[Answer, ...]]]:
    """Commands as the engine sends them, with ids that are never used twice; their changes and answers."""
    engine, generator, used = MatchingEngine(SYMBOL), Generator(seed), set[int]()
    for _ in range(commands):
        command = generator.command()
        given = orders(command)
        ids = {order.order_id for order in given}
        if (
            len(ids) < len(given)
            or ids & used
            or not all(o.account in ACCOUNTS and o.order_id in IDS for o in given)
        ):
            continue
        used |= ids
        events = engine.apply(command)
        generator.learn(events)
        changes, answers = translate(command, events, OWNERS)
        assert [change.sequence for change in changes] == [event.sequence for event in events]
        assert [answer.order_id for answer in answers] == [order.order_id for order in given]
        yield engine, command, list(changes), answers


@pytest.mark.parametrize("seed", range(8))
def test_books_of_followers_are_those_of_the_engine(seed: int) -> None:
    reader, placed, pairs = Reader(), set[int](), dict[int, int]()
    books = set[MatchingEngine]()
    for engine, command, changes, _ in stream(seed):
        books.add(engine)
        placed |= {order.order_id for order in orders(command)}
        reader.read(changes)
        if isinstance(command, PlaceOco) and isinstance(changes[-1], told.CommandRejected):
            pairs[changes[-1].order_id] = command.second.order_id
    (engine,) = books
    assert reader.open == {id: order.remaining for id, order in engine.book.orders.items()}
    of_rejected_pairs = set(pairs.values())
    assert not of_rejected_pairs & reader.ended
    assert reader.ended | of_rejected_pairs | reader.open.keys() == placed
    assert len(reader.ended) > 1000


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_the_state_that_the_changes_tell(seed: int) -> None:
    reader, seen = Reader(), set[str]()
    for engine, _, changes, answers in stream(seed):
        reader.read(changes)
        for answer in answers:
            seen.add(answer.status)
            _check(answer, reader, engine)
    assert seen == {"open", "waiting", "partially_filled", "filled", "cancelled", "rejected"}


def _check(answer: Answer, reader: Reader, engine: MatchingEngine) -> None:
    order = engine.book.orders.get(answer.order_id)
    if answer.status == "rejected":
        assert (order, answer.filled) == (None, 0)
        assert answer.reason
        return
    assert answer.filled == reader.lines[answer.order_id].executed
    assert (order is not None) == (answer.status in ("open", "waiting", "partially_filled"))
    assert bool(answer.reason) == (answer.status == "cancelled")
    if order is not None:
        assert engine.book.is_waiting(order) == (answer.status == "waiting")


def test_changes_survive_the_bus() -> None:
    for _, _, changes, _ in stream(1, 500):
        output = MatchingOutput(
            symbol=SYMBOL, first=changes[0].sequence, last=changes[-1].sequence, at=1, changes=tuple(changes)
        )
        envelope = output_envelope(output)
        assert envelope.id == f"matching:{SYMBOL}:{output.first}-{output.last}"
        assert Envelope.decode(envelope.encode()).content() == output
        assert output_envelope(output).encode() == envelope.encode()


ids = count(1)


def place(account: int, side: Side, quantity: int, price: int, **more: object) -> Place:
    return Place(
        1,
        next(ids),
        account,
        side,
        more.get("kind", OrderType.LIMIT),  # type: ignore[arg-type]
        quantity,
        price,
        time_in_force=more.get("tif", TimeInForce.GTC),  # type: ignore[arg-type]
        stop_price=more.get("stop", 0),  # type: ignore[arg-type]
        self_trade_prevention=more.get("prevention", SelfTradePrevention.NONE),  # type: ignore[arg-type]
    )


def played(*commands: Command) -> tuple[list[Change], list[Answer]]:
    engine = MatchingEngine(SYMBOL)
    changes: list[Change] = []
    answers: list[Answer] = []
    for command in commands:
        found, answered = translate(command, engine.apply(command), OWNERS)
        changes += found
        answers += answered
    return changes, answers


def test_a_rejected_pair_answers_both_orders() -> None:
    first, second = place(1, Side.BUY, 5, 10), place(1, Side.BUY, 5, 20)
    changes, answers = played(PlaceOco(1, first, second))
    assert [(c.kind, ended(c)) for c in changes] == [("rejected", (first.order_id,))]
    assert [(a.order_id, a.status, a.reason) for a in answers] == [
        (first.order_id, "rejected", "oco_mismatch"),
        (second.order_id, "rejected", "oco_mismatch"),
    ]


def test_other_rejected_commands_end_nothing() -> None:
    rest = place(1, Side.BUY, 5, 10)
    changes, _ = played(
        rest,
        Replace(1, rest.order_id, 2, 4),
        Cancel(1, rest.order_id, 2),
        ChangePhase(1, Phase.CONTINUOUS),
        ChangePhase(1, Phase.HALTED),
        CancelAll(1, 1),
    )
    rejected = [c for c in changes if isinstance(c, told.CommandRejected)]
    assert [(c.command, c.order_id, c.owner, c.reason) for c in rejected] == [
        ("replace", rest.order_id, "u2", "unknown_order"),
        ("cancel", rest.order_id, "u2", "unknown_order"),
        ("other", 0, "", "phase_unchanged"),
        ("other", 0, "u1", "halted"),
    ]
    assert [id for change in changes for id in ended(change)] == []


def test_the_taker_knows_what_it_got_before_the_rest_was_cancelled() -> None:
    _, answers = played(place(1, Side.SELL, 3, 10), place(2, Side.BUY, 5, 10, tif=TimeInForce.IOC))
    taker = answers[1]
    assert (taker.status, taker.filled, taker.reason) == ("cancelled", 3, "immediate_or_cancel")


def test_market_changes_are_told_in_words() -> None:
    changes, _ = played(
        ChangePhase(1, Phase.AUCTION),
        place(1, Side.SELL, 3, 10),
        place(2, Side.BUY, 5, 12),
        ChangePhase(2, Phase.CONTINUOUS),
        CancelAll(3, 2),
    )
    assert [(c.what, c.values) for c in changes if isinstance(c, told.MarketChanged)] == [
        ("phase", {"phase": "auction"}),
        ("uncrossed", {"price": 10, "volume": 3, "surplus": 2}),
        ("phase", {"phase": "continuous"}),
        ("mass_cancelled", {"owner": "u2", "orders": 1}),
    ]


def test_the_public_families_tell_the_life_of_orders_as_they_were_asked_for() -> None:
    sell = place(1, Side.SELL, 3, 10)
    market = place(2, Side.BUY, 5, 12, tif=TimeInForce.IOC)
    stop = place(3, Side.SELL, 1, 8, kind=OrderType.STOP_LIMIT, stop=9)
    changes, answers = played(sell, market, stop, Replace(1, stop.order_id, 3, 2))
    asked = {sell.order_id: OrderType.LIMIT, market.order_id: OrderType.MARKET, stop.order_id: OrderType.STOP}
    output = MatchingOutput(
        symbol=SYMBOL, first=1, last=len(changes), at=1_782_000_000_000, changes=tuple(changes),
        answers=tuple(answers),
    )  # fmt: skip
    events = family_envelopes(output, asked)
    assert [(e.type, e.id) for e in events] == [
        ("OrderCreated", f"order-events:{SYMBOL}:1"),
        ("OrderCreated", f"order-events:{SYMBOL}:2"),
        ("TradeExecuted", f"trade-events:{SYMBOL}:3"),
        ("OrderCancelled", f"order-events:{SYMBOL}:4"),
        ("OrderCreated", f"order-events:{SYMBOL}:5"),
        ("OrderModified", f"order-events:{SYMBOL}:6"),
    ]
    created = [e.payload for e in events if e.type == "OrderCreated"]
    assert [(p["order_type"], p["price"], p["account"]) for p in created] == [
        ("limit", 10, "u1"),
        ("market", None, "u2"),
        ("stop", None, "u3"),
    ]
    assert events[2].payload["trade_id"] == f"{SYMBOL}:1"
    assert events[5].payload["price"] is None
    assert [e.encode() for e in family_envelopes(output, asked)] == [e.encode() for e in events]


def test_an_output_of_any_size_is_told_in_messages_that_a_broker_takes() -> None:
    engine, changes, answers = MatchingEngine(SYMBOL), list[Change](), list[Answer]()
    owner = "0191c1f0-6a0e-7cc3-98c4-dc0c0c07398f"

    class Long:
        def owner(self, number: int) -> str:
            return owner if number else ""

    commands: list[Command] = [
        Place(1, id, 1, Side.BUY, OrderType.LIMIT, 1, 100 + id, time_in_force=TimeInForce.GTC)
        for id in range(1, 9_001)
    ]
    for command in (*commands, CancelAll(2, 1), Place(2, 9_001, 1, Side.BUY, OrderType.LIMIT, 1, 0)):
        told_, answered = translate(command, engine.apply(command), Long())
        changes += told_
        answers += answered
    whole = MatchingOutput(
        symbol=SYMBOL, first=1, last=len(changes), at=2, changes=tuple(changes), answers=tuple(answers)
    )
    assert len(output_envelope(whole).encode()) > 1_000_000

    found = parts(whole)

    assert max(len(output_envelope(part).encode()) for part in found) < 500_000
    assert [change for part in found for change in part.changes] == changes
    assert [answer for part in found for answer in part.answers] == answers
    assert [part.first for part in found] == [1, *(part.last + 1 for part in found[:-1])]
    entered_in = {answer.order_id: number for number, part in enumerate(found) for answer in part.answers}
    for number, part in enumerate(found):
        for change in part.changes:
            if isinstance(change, told.OrderAccepted | told.CommandRejected):
                assert entered_in[change.order_id] == number
    small = whole.model_copy(update={"last": 10, "changes": tuple(changes[:10])})
    assert parts(small) == [small]
