"""Queues, topics and event buses: paid by use only."""

from collections.abc import Iterator
from decimal import Decimal

from infra.cost.context import Charge, Context, use
from infra.cost.inputs import Inputs

QUEUE = "aws:sqs/queue:Queue"
SUBSCRIPTION = "aws:sns/topicSubscription:TopicSubscription"

_DEAD_LETTERS = (
    (QUEUE, "redrivePolicy"),
    (SUBSCRIPTION, "redrivePolicy"),
    ("aws:lambda/function:Function", "deadLetterConfig"),
    ("aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig", "destinationConfig"),
)
"""Where a queue is named as the one for what failed: type and input."""


def queue(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Requests of a queue; one for dead letters has none in a healthy month."""
    if any(True for token, key in _DEAD_LETTERS for _ in context.referring(inputs.resource, key, token)):
        return
    item = "fifo-requests" if inputs.flag("fifoQueue") else "requests"
    yield use(context, "sqs_millions", context.price("sqs", item), "requests")


def topic(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Publishes to a topic; deliveries to queues and functions are free."""
    yield use(context, "sns_millions", context.price("sns", "publishes"), "publishes")


def subscription(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """E-mails and text messages of a subscription."""
    protocol = inputs.text("protocol", "")
    if protocol in ("email", "email-json"):
        yield use(context, "sns_emails_thousands", context.price("sns", "emails"), "e-mails")
    elif protocol == "sms":
        yield use(context, "sms_messages", context.price("sns", "sms"), "text messages")


def sender(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """E-mails that the app sends to its users from an identity."""
    yield use(context, "ses_thousands", context.price("ses", "emails"), "e-mails to users")


def event_bus(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Events put on a custom bus; those of AWS services on the default bus are free."""
    yield use(context, "event_millions", context.price("events", "custom"), "custom events")


def schedule(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Calls of a schedule: at most one a minute."""
    yield Charge("calls, at most", Decimal("0.0438"), context.price("events", "scheduler"))
