"""Trading sessions: in which phase a book has to be at a moment, by the calendar of its instrument.

Outside the session limit orders are collected (AUCTION), in the session they trade (CONTINUOUS), with one
uncrossing in between. Only these two phases follow the calendar: a halt or a cancel-only phase ends when an
operator ends it. Instruments that trade round the clock have no sessions and keep any phase they are given.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from app.events.envelope import Envelope
from app.events.matching import Change, MarketChanged, MatchingOutput
from app.events.prices import MarketClose, MarketOpen
from app.exchange.terms import Phase
from app.instruments import INSTRUMENTS, Calendar
from app.matching.names import PHASE_NAMES
from app.matching.translate import PRODUCER
from app.matching_client.commands import Place, SetPhase

MARKET_CLOSED: Final = "market_closed"
CHECK_SECONDS: Final = 1.0
"""How often the calendar is looked at, and so how late a session begins at most."""
_FOLLOWS: Final = (Phase.CONTINUOUS, Phase.AUCTION)
_COLLECTED: Final = ("gtc", "gtd")


def phase_of(symbol: str, at: datetime) -> Phase:
    """The phase that the calendar of a symbol wants at a moment (with time zone)."""
    return Phase.CONTINUOUS if INSTRUMENTS[symbol].calendar.is_open(at) else Phase.AUCTION


def due(phases: Mapping[str, Phase], at: datetime) -> list[SetPhase]:
    """What has to be changed at a moment, given the phases that the books are in; nothing once it is done."""
    return [
        SetPhase(symbol=symbol, phase=PHASE_NAMES[wanted])
        for symbol, phase in phases.items()
        if _has_sessions(symbol) and phase in _FOLLOWS and (wanted := phase_of(symbol, at)) is not phase
    ]


def resumed(command: SetPhase, at: datetime) -> SetPhase:
    """What an operator's command means at a moment: to resume outside of the session is to collect orders."""
    if command.phase != "continuous" or phase_of(command.symbol, at) is Phase.CONTINUOUS:
        return command
    return SetPhase(symbol=command.symbol, phase="auction")


def refusal(order: Place, at: datetime) -> str | None:
    """`market_closed` for an order that cannot wait for the next session: only plain limit orders can."""
    if phase_of(order.symbol, at) is Phase.CONTINUOUS:
        return None
    collected = order.order_type == "limit" and order.time_in_force in _COLLECTED
    return None if collected else MARKET_CLOSED


def session_envelopes(output: MatchingOutput) -> list[Envelope]:
    """The events MarketOpen and MarketClose that an output gives: a function of its changes alone.

    A market opens when its book begins to trade and closes when it begins to collect; a halt is neither.
    """
    found: list[Envelope] = []
    for change in output.changes:
        kind = _event_of(change)
        if kind is None:
            continue
        envelope = Envelope.of(
            kind(symbol=output.symbol),
            key=output.symbol,
            producer=PRODUCER,
            id=f"price-events:{output.symbol}:{change.sequence}",
        )
        moment = datetime.fromtimestamp(output.at / 1000, UTC)
        found.append(envelope.model_copy(update={"time": moment}))
    return found


async def keep_hours(
    phases: Callable[[], Mapping[str, Phase]],
    submit: Callable[[SetPhase], Awaitable[object]],
    now: Callable[[], datetime],
) -> None:
    """Open and close markets for as long as this runs; a worker of the leader.

    `phases` tells the phases of the books that this replica leads, `now` the time with its zone.
    """
    while True:
        await asyncio.gather(*(submit(command) for command in due(phases(), now())))
        await asyncio.sleep(CHECK_SECONDS)


def _has_sessions(symbol: str) -> bool:
    return INSTRUMENTS[symbol].calendar is not Calendar.ALWAYS


def _event_of(change: Change) -> type[MarketOpen | MarketClose] | None:
    if not isinstance(change, MarketChanged) or change.what != "phase":
        return None
    if change.values["phase"] == "continuous":
        return MarketOpen
    return MarketClose if change.values["phase"] == "auction" else None
