"""The exchange of one symbol: order book and matching, pure and in whole numbers.

engine = MatchingEngine("BTC-USD")
events = engine.apply(Place(time=1, order_id=1, account=7, side=Side.BUY, order_type=OrderType.LIMIT,
                            quantity=5, price=6_425_000))
"""

from importlib.machinery import ExtensionFileLoader
from typing import Final

from app.exchange import build

# ruff: noqa: E402 - this decides which modules the imports below find
__path__[:0] = build.search_path()

from app.exchange import engine as _engine
from app.exchange.commands import (
    AdvanceTime,
    Cancel,
    CancelAll,
    ChangePhase,
    Command,
    Place,
    PlaceOco,
    Replace,
    SetPriceBand,
)
from app.exchange.engine import MatchingEngine
from app.exchange.events import (
    Accepted,
    Cancelled,
    Event,
    MassCancelled,
    PhaseChanged,
    PriceBandSet,
    Reduced,
    Rejected,
    Replaced,
    TimeAdvanced,
    Trade,
    Triggered,
    Uncrossed,
)
from app.exchange.snapshot import SnapshotError
from app.exchange.terms import (
    MAX_VALUE,
    CancelReason,
    OrderType,
    Phase,
    RejectReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

COMPILED: Final = isinstance(_engine.__loader__, ExtensionFileLoader)
"""Whether the compiled build runs; `app.exchange.build` says when it does."""

__all__ = [
    "COMPILED",
    "MAX_VALUE",
    "Accepted",
    "AdvanceTime",
    "Cancel",
    "CancelAll",
    "CancelReason",
    "Cancelled",
    "ChangePhase",
    "Command",
    "Event",
    "MassCancelled",
    "MatchingEngine",
    "OrderType",
    "Phase",
    "PhaseChanged",
    "Place",
    "PlaceOco",
    "PriceBandSet",
    "Reduced",
    "RejectReason",
    "Rejected",
    "Replace",
    "Replaced",
    "SelfTradePrevention",
    "SetPriceBand",
    "Side",
    "SnapshotError",
    "TimeAdvanced",
    "TimeInForce",
    "Trade",
    "Triggered",
    "Uncrossed",
]
