"""What the notification service works with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Received:
    """A message of the queue as it was delivered."""

    body: str
    receipt: str
    """Names this delivery; deletes the message or postpones its next delivery."""
    attempts: int
    """Deliveries so far, this one included."""


@dataclass(frozen=True)
class Mail:
    """A mail that is ready to be sent."""

    id: str
    """Of the event that asked for it."""
    to: str
    subject: str
    text: str


class Undeliverable(Exception):
    """A message that no further attempt can deliver; the queue moves it to its dead letters."""
