"""Function: tells users that a price has crossed the level that they asked for."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.events.accounts import SendAlert
from app.events.envelope import Envelope
from app.functions import aws


class Move(BaseModel):
    """A price and the one that was looked at before it."""

    model_config = ConfigDict(frozen=True)

    before: Decimal = Field(gt=0)
    now: Decimal = Field(gt=0)


class Alert(BaseModel):
    """What a user wants to be told."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1, max_length=60)
    user: str = Field(min_length=1, max_length=120)
    symbol: str = Field(min_length=1, max_length=20)
    direction: Literal["above", "below"]
    level: Decimal = Field(gt=0)

    def fires(self, move: Move) -> bool:
        """Whether the price reached the level in this move; while it stays there, it does not fire again."""
        if self.direction == "above":
            return move.before < self.level <= move.now
        return move.before > self.level >= move.now


class Batch(BaseModel):
    """One message of the queue: alerts with the moves of their symbols."""

    model_config = ConfigDict(frozen=True)

    at: int = Field(ge=0)
    """Unix time of the prices in milliseconds; with the alert's id it names the message to the user."""
    moves: dict[str, Move]
    alerts: list[Alert] = Field(max_length=1000)


def evaluate(batch: Batch) -> list[Envelope]:
    """A message to the user for each alert that fires; symbols without a move fire nothing."""
    events = []
    for alert in batch.alerts:
        move = batch.moves.get(alert.symbol)
        if move is None or not alert.fires(move):
            continue
        values = {
            "symbol": alert.symbol,
            "direction": alert.direction,
            "level": str(alert.level),
            "price": str(move.now),
        }
        told = SendAlert(user=alert.user, channel="email", template="price-alert", values=values)
        name = f"price-alert:{alert.id}:{batch.at}"
        events.append(Envelope.of(told, key=alert.user, producer="price-alert", id=name))
    return events


def handler(event: Mapping[str, Any], _: object) -> dict[str, Any]:
    """Entry of the Lambda function: a batch of SQS messages."""
    topics, topic = aws.client("sns"), aws.setting("APP_PRICE_ALERT_TOPIC_ARN")

    def handle(body: str) -> None:
        aws.publish(topics, topic, evaluate(Batch.model_validate_json(body)))

    return aws.each_message(event, handle)
