"""Markets open and close by the calendars of their instruments."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from app.events.matching import Change, MarketChanged, MatchingOutput
from app.exchange.terms import Phase
from app.instruments import INSTRUMENTS
from app.matching.names import PHASES
from app.matching.sessions import due, keep_hours, refusal, resumed, session_envelopes
from app.matching_client.commands import PhaseName, Place, SetPhase

OPEN = datetime(2026, 7, 1, 15, 0, tzinfo=UTC)
"""A Wednesday, 11:00 in New York."""
NIGHT = datetime(2026, 7, 1, 3, 0, tzinfo=UTC)
SATURDAY = datetime(2026, 7, 4, 15, 0, tzinfo=UTC)
NEW = dict.fromkeys(INSTRUMENTS, Phase.CONTINUOUS)
"""Books that nobody told anything."""


def done(phases: dict[str, Phase], at: datetime) -> dict[str, Phase]:
    return phases | {command.symbol: PHASES[command.phase] for command in due(phases, at)}


@pytest.mark.parametrize(
    ("at", "btc", "aapl", "eur"),
    [
        (OPEN, Phase.CONTINUOUS, Phase.CONTINUOUS, Phase.CONTINUOUS),
        (NIGHT, Phase.CONTINUOUS, Phase.AUCTION, Phase.CONTINUOUS),
        (SATURDAY, Phase.CONTINUOUS, Phase.AUCTION, Phase.AUCTION),
    ],
)
def test_markets_without_a_session_collect_orders(at: datetime, btc: Phase, aapl: Phase, eur: Phase) -> None:
    phases = done(NEW, at)
    assert (phases["BTC-USD"], phases["AAPL"], phases["EUR-USD"]) == (btc, aapl, eur)


def test_what_is_done_is_not_due_again_and_each_session_opens_and_closes_once() -> None:
    phases, at = dict(NEW), SATURDAY
    changes: list[tuple[str, str]] = []
    while at < SATURDAY + timedelta(days=7):
        changes += [(command.symbol, command.phase) for command in due(phases, at)]
        phases = done(phases, at)
        assert due(phases, at) == []
        at += timedelta(minutes=30)
    assert changes.count(("AAPL", "continuous")) == 5
    assert changes.count(("AAPL", "auction")) == 6
    assert changes.count(("EUR-USD", "continuous")) == 1
    assert changes.count(("EUR-USD", "auction")) == 2
    assert not [symbol for symbol, _ in changes if symbol.endswith("BTC-USD")]


@pytest.mark.parametrize("phase", [Phase.HALTED, Phase.CANCEL_ONLY])
@pytest.mark.parametrize("at", [OPEN, SATURDAY])
def test_only_an_operator_ends_a_halt(phase: Phase, at: datetime) -> None:
    assert due({"AAPL": phase, "BTC-USD": phase}, at) == []


def test_an_auction_of_an_operator_around_the_clock_stays() -> None:
    assert due({"BTC-USD": Phase.AUCTION}, OPEN) == []


@pytest.mark.parametrize(
    ("phase", "at", "becomes"),
    [
        ("continuous", OPEN, "continuous"),
        ("continuous", SATURDAY, "auction"),
        ("halted", SATURDAY, "halted"),
    ],
)
def test_to_resume_outside_of_the_session_is_to_collect(
    phase: PhaseName, at: datetime, becomes: PhaseName
) -> None:
    command = SetPhase(symbol="AAPL", phase=phase)
    assert resumed(command, at) == SetPhase(symbol="AAPL", phase=becomes)


@pytest.mark.parametrize(
    ("kind", "tif", "reason"),
    [
        ("limit", "gtc", None),
        ("limit", "gtd", None),
        ("limit", "ioc", "market_closed"),
        ("market", "gtc", "market_closed"),
        ("stop_limit", "gtc", "market_closed"),
    ],
)
def test_only_limit_orders_wait_for_the_session(kind: str, tif: str, reason: str | None) -> None:
    fields = {"owner": "u", "client_order_id": "a", "symbol": "AAPL", "side": "buy", "quantity": 1}
    order = Place.model_validate({**fields, "order_type": kind, "time_in_force": tif})
    assert refusal(order, SATURDAY) == reason
    assert refusal(order, OPEN) is None


def phase_output(*phases: PhaseName) -> MatchingOutput:
    changes: tuple[Change, ...] = tuple(
        MarketChanged(sequence=7 + i, what="phase", values={"phase": phase}) for i, phase in enumerate(phases)
    )
    return MatchingOutput(symbol="AAPL", first=7, last=6 + len(phases), at=1_782_000_000_000, changes=changes)


def test_the_stream_tells_when_a_market_opens_and_closes() -> None:
    output = phase_output("continuous", "halted", "auction")
    events = session_envelopes(output)
    assert [(e.type, e.id, e.key) for e in events] == [
        ("MarketOpen", "price-events:AAPL:7", "AAPL"),
        ("MarketClose", "price-events:AAPL:9", "AAPL"),
    ]
    assert [e.encode() for e in session_envelopes(output)] == [e.encode() for e in events]
    assert events[0].time.timestamp() * 1000 == output.at


async def test_the_worker_changes_what_is_due() -> None:
    phases = {"AAPL": Phase.CONTINUOUS, "BTC-USD": Phase.CONTINUOUS, "JPM": Phase.HALTED}
    told: list[SetPhase] = []
    closed = asyncio.Event()

    async def submit(command: SetPhase) -> None:
        phases[command.symbol] = PHASES[command.phase]
        told.append(command)
        closed.set()

    async with asyncio.timeout(30):
        worker = asyncio.create_task(keep_hours(lambda: phases, submit, lambda: SATURDAY))
        await closed.wait()
        worker.cancel()
    assert told == [SetPhase(symbol="AAPL", phase="auction")]
