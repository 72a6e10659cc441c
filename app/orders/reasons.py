"""Why the engine refused something, as people are told."""

from app.kit.problems import Problem

_SENTENCES = {
    "already_expired": "expires_at has passed.",
    "cancel_only": "Orders can only be cancelled now.",
    "client_order_id_reused": "The client_order_id belongs to an order with other terms.",
    "halted": "Trading is halted.",
    "insufficient_funds": "The funds do not suffice.",
    "invalid_expiry": "expires_at is given with time_in_force gtd, and only with it.",
    "invalid_price": "The order type needs a price, or takes none.",
    "invalid_stop_price": "The order type needs a stop_price, or takes none.",
    "invalid_time_in_force": "The order type cannot have this time_in_force.",
    "market_closed": "The market is closed.",
    "no_reference_price": "There is no price yet that a market order could be protected by.",
    "not_in_auction": "During an auction only limit orders without immediate execution are taken.",
    "oco_mismatch": "The orders do not make a pair: at most one is a plain limit order.",
    "oco_not_replaceable": "Orders of a pair cannot be changed.",
    "oco_would_execute": "An order of the pair would trade or be triggered at once.",
    "order_rate_exceeded": "Orders come too fast; this one left no trace and can be sent again.",
    "post_only_not_allowed": "Only limit orders that can rest may be post-only.",
    "post_only_would_take": "The order would have taken liquidity.",
    "price_outside_band": "The price is outside the price band.",
    "quantity_not_above_executed": "The new quantity is not above what was executed already.",
}


def explained(reason: str, **members: str | list[str]) -> Problem:
    """The problem that tells a reason of the engine; its code is the reason in kebab-case.

    Status 422, or 429 where the same request may be taken a second later.
    """
    detail = _SENTENCES.get(reason, f"The engine refuses this: {reason.replace('_', ' ')}.")
    code = reason.replace("_", "-") or "rejected"
    if reason == "order_rate_exceeded":
        return Problem(429, code, detail, headers={"Retry-After": "1"}, **members)
    return Problem(422, code, detail, headers=None, **members)
