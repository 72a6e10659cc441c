"""The registry of events."""

import pytest
from pydantic import ValidationError

from app.events import accounts, books, matching, prices, trading
from app.events.envelope import Envelope
from app.events.registry import FAMILIES, Payload, event, schema_of, topic_of

MODULES = (accounts, books, matching, prices, trading)
SEEDED = {
    "order-events": {"OrderCreated", "OrderModified", "OrderCancelled"},
    "trade-events": {"TradeExecuted", "TradeSettled"},
    "price-events": {"CandleClosed", "MarketOpen", "MarketClose"},
    "portfolio-events": {"PositionUpdated", "PnLCalculated"},
    "wallet-events": {"FundsDeposited", "FundsWithdrawn", "FundsHeld"},
    "risk-events": {"MarginCall", "PositionLimitBreached"},
    "notification-events": {"SendAlert", "SendConfirmation"},
    "user-events": {"UserCreated", "KYCApproved"},
    "price.updates": {"PriceTick"},
    "matching.output": {"MatchingOutput"},
    "book.updates": {"BookUpdated"},
}


def test_every_family_has_its_events() -> None:
    found = {name: {type_ for type_, _ in family.schemas} for name, family in FAMILIES.items()}
    assert set(found) == set(SEEDED)
    # Domains add events of their own to their family.
    assert [name for name, types in SEEDED.items() if not types <= found[name]] == []


def test_an_envelope_survives_the_bus() -> None:
    sent = Envelope.of(trading.MarginCall(account="a", required=5, available=3), key="a", producer="risk")
    received = Envelope.decode(sent.encode())
    assert received == sent
    assert received.content() == trading.MarginCall(account="a", required=5, available=3)
    assert (received.type, received.version, topic_of(received.type)) == ("MarginCall", 1, "risk-events")


def test_a_payload_that_does_not_fit_is_refused() -> None:
    sent = Envelope.of(trading.MarginCall(account="a", required=5, available=3), key="a", producer="risk")
    broken = sent.model_copy(update={"payload": {"account": "a"}})
    with pytest.raises(ValidationError, match="required"):
        broken.content()


def test_registering_a_version_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="UserCreated version 1 is registered twice"):

        @event("user-events")
        class UserCreated(Payload):
            pass


def test_an_unknown_version_is_told() -> None:
    with pytest.raises(KeyError):
        schema_of("UserCreated", 2)
