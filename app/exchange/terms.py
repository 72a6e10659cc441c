"""The vocabulary of the exchange: what an order can be, and the stable codes of what happens to it."""

from enum import IntEnum, StrEnum
from typing import Final

MAX_VALUE: Final = 2**53 - 1
"""Largest price (ticks) and quantity (lots); exact in JSON and in floating point too."""


class Side(IntEnum):
    """Which way an order trades."""

    BUY = 0
    SELL = 1


class OrderType(IntEnum):
    """How an order is priced and when it becomes active."""

    LIMIT = 0
    MARKET = 1
    STOP = 2
    """A market order once the last price is at its stop price or beyond (buy: above, sell: below)."""
    STOP_LIMIT = 3
    TAKE_PROFIT = 4
    """As a stop with the direction reversed (buy: at or below, sell: at or above)."""
    TAKE_PROFIT_LIMIT = 5


class TimeInForce(IntEnum):
    """How long an order lives."""

    GTC = 0
    """Good till cancelled."""
    IOC = 1
    """Immediate or cancel: what cannot be filled at once is cancelled."""
    FOK = 2
    """Fill or kill: filled completely at once, or not at all."""
    GTD = 3
    """Good till date: until the order's `expires_at`."""


class SelfTradePrevention(IntEnum):
    """What happens instead of a trade of an account with itself; the taker's choice decides."""

    NONE = 0
    CANCEL_TAKER = 1
    CANCEL_MAKER = 2
    CANCEL_BOTH = 3
    DECREMENT = 4
    """The smaller order is cancelled and the larger one reduced by as much."""


class Phase(IntEnum):
    """What the book does with orders."""

    CONTINUOUS = 0
    AUCTION = 1
    """Limit orders are collected without trading; they uncross at one price when trading begins."""
    CANCEL_ONLY = 2
    HALTED = 3
    """Neither orders nor cancels; orders still expire."""


class RejectReason(StrEnum):
    """Why a command changed nothing."""

    INVALID_ID = "invalid_id"
    """Order ids and accounts are above 0."""
    DUPLICATE_ORDER_ID = "duplicate_order_id"
    INVALID_QUANTITY = "invalid_quantity"
    INVALID_PRICE = "invalid_price"
    INVALID_STOP_PRICE = "invalid_stop_price"
    INVALID_TIME_IN_FORCE = "invalid_time_in_force"
    INVALID_EXPIRY = "invalid_expiry"
    ALREADY_EXPIRED = "already_expired"
    POST_ONLY_NOT_ALLOWED = "post_only_not_allowed"
    POST_ONLY_WOULD_TAKE = "post_only_would_take"
    PRICE_OUTSIDE_BAND = "price_outside_band"
    HALTED = "halted"
    CANCEL_ONLY = "cancel_only"
    NOT_IN_AUCTION = "not_in_auction"
    UNKNOWN_ORDER = "unknown_order"
    """No open order with that id, or not of that account."""
    QUANTITY_NOT_ABOVE_EXECUTED = "quantity_not_above_executed"
    OCO_MISMATCH = "oco_mismatch"
    OCO_WOULD_EXECUTE = "oco_would_execute"
    OCO_NOT_REPLACEABLE = "oco_not_replaceable"
    INVALID_PRICE_BAND = "invalid_price_band"
    PHASE_UNCHANGED = "phase_unchanged"


class CancelReason(StrEnum):
    """Why an order left the book, in whole or in part, without a trade."""

    REQUESTED = "requested"
    MASS_CANCEL = "mass_cancel"
    EXPIRED = "expired"
    IMMEDIATE_OR_CANCEL = "immediate_or_cancel"
    FILL_OR_KILL = "fill_or_kill"
    NO_LIQUIDITY = "no_liquidity"
    """The rest of a market order."""
    SELF_TRADE = "self_trade"
    OCO = "oco"
    """The other order of the pair traded, was triggered or was cancelled."""
    PRICE_BAND = "price_band"
