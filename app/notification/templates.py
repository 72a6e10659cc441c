"""The texts that users get."""

from collections.abc import Mapping
from string import Template

from app.notification.schemas import Undeliverable

_TEMPLATES: Mapping[str, tuple[str, str]] = {
    "price-alert": (
        "$symbol is $direction $level",
        "$symbol has reached your level of $level: the price is now $price.",
    ),
    "report-ready": (
        "Your account statement",
        "The statement of account $account up to $end is ready. You find it under Reports.",
    ),
    "kyc-document-in-review": (
        "We received your document",
        'Your document "$document" arrived and is now being looked at.',
    ),
    "kyc-document-rejected": (
        "Your document could not be used",
        'We could not use your document "$document": $reason. Please upload it again.',
    ),
    "order-filled": (
        "Your order to $side $symbol is filled",
        "Your order $order_id to $side $quantity $symbol is filled at $average_price on average.",
    ),
    "withdrawal-settled": (
        "Your withdrawal arrived",
        "$amount $asset went to $destination. The withdrawal is complete.",
    ),
    "margin-call": (
        "Margin call: add funds or reduce your positions",
        "Your equity is $equity USD, and $required USD are required. You have $seconds seconds to deposit, "
        "repay or sell; after that positions are sold for you.",
    ),
    "forced-close": (
        "Positions were sold to cover your loans",
        "The margin call was not answered. $orders orders were sent for you; you still owe $debt USD.",
    ),
    "position-limit": (
        "Your position in $symbol is over its limit",
        "Your position in $symbol is $position lots, and the limit is $limit: orders may only reduce it.",
    ),
    "daily-loss": (
        "You reached your loss limit for today",
        "You lost $loss $currency since 00:00 UTC. Until tomorrow orders may only reduce positions.",
    ),
}
"""Name → subject and text."""

_FOOTER = "\n\nYou get this mail because you have an account with us.\n"


def render(name: str, values: Mapping[str, str]) -> tuple[str, str]:
    """Subject and text of the template `name`.

    Raises:
        Undeliverable: there is no such template, or a value that it needs is missing.
    """
    if name not in _TEMPLATES:
        raise Undeliverable(f"no template '{name}'; known are {', '.join(sorted(_TEMPLATES))}")
    subject, text = _TEMPLATES[name]
    try:
        subject = Template(subject).substitute(values)
        text = Template(text).substitute(values)
    except KeyError as missing:
        raise Undeliverable(f"template '{name}' needs the value {missing}") from None
    return " ".join(subject.split()), text + _FOOTER
