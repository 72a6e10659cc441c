"""The exchange of one symbol: order book and matching, pure and in whole numbers.

engine = MatchingEngine("BTC-USD")
events = engine.apply(Place(time=1, order_id=1, account=7, side=Side.BUY, order_type=OrderType.LIMIT,
                            quantity=5, price=6_425_000))
"""

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

__all__ = [
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
