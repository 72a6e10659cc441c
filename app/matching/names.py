"""The words of commands and events for the numbers of the order book."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final, TypeVar, get_args

from app.events.matching import OrderTypeName, SelfTradePreventionName, Side, TimeInForceName
from app.exchange import terms
from app.matching_client.commands import PhaseName

E = TypeVar("E", bound=IntEnum)


def _numbers(kind: type[E], words: Any) -> Mapping[str, E]:
    return {word: kind[word.upper()] for word in get_args(words)}


SIDES: Final = _numbers(terms.Side, Side)
ORDER_TYPES: Final = _numbers(terms.OrderType, OrderTypeName)
TIMES_IN_FORCE: Final = _numbers(terms.TimeInForce, TimeInForceName)
PREVENTIONS: Final = _numbers(terms.SelfTradePrevention, SelfTradePreventionName)
PHASES: Final = _numbers(terms.Phase, PhaseName)

SIDE_NAMES: Final[tuple[Side, ...]] = ("buy", "sell")
"""By number of `terms.Side`."""
ORDER_TYPE_NAMES: Final[tuple[OrderTypeName, ...]] = (
    "limit",
    "market",
    "stop",
    "stop_limit",
    "take_profit",
    "take_profit_limit",
)
"""By number of `terms.OrderType`."""
PHASE_NAMES: Final[tuple[PhaseName, ...]] = ("continuous", "auction", "cancel_only", "halted")
"""By number of `terms.Phase`."""
