"""Price alerts: told once when the level is crossed, and only then."""

import json
from typing import Any

import pytest

from app.events.envelope import Envelope
from app.functions import price_alert
from app.functions.price_alert import Batch, evaluate
from tests.app.functions.conftest import Topic, batch


def message(*alerts: tuple[str, str, str], before: str = "99.5", now: str = "100.5", at: int = 1) -> str:
    return json.dumps(
        {
            "at": at,
            "moves": {"AAPL": {"before": before, "now": now}},
            "alerts": [
                {"id": name, "user": "u-1", "symbol": "AAPL", "direction": direction, "level": level}
                for name, direction, level in alerts
            ],
        }
    )


@pytest.mark.parametrize(
    ("direction", "level", "before", "now", "fires"),
    [
        ("above", "100", "99", "101", True),
        ("above", "100", "99", "100", True),
        ("above", "100", "100", "101", False),
        ("above", "100", "101", "99", False),
        ("below", "100", "101", "99", True),
        ("below", "100", "101", "100", True),
        ("below", "100", "100", "99", False),
        ("above", "0.3", "0.29999999", "0.30000000", True),
    ],
)
def test_an_alert_fires_when_the_price_reaches_the_level(
    direction: str, level: str, before: str, now: str, fires: bool
) -> None:
    found = evaluate(Batch.model_validate_json(message(("a", direction, level), before=before, now=now)))
    assert bool(found) is fires


def test_the_same_batch_gives_the_same_messages_and_a_later_one_others() -> None:
    def ids(at: int) -> list[str]:
        return [
            event.id for event in evaluate(Batch.model_validate_json(message(("a", "above", "100"), at=at)))
        ]

    assert ids(1) == ids(1) == ["price-alert:a:1"]
    assert ids(2) != ids(1)


def test_symbols_without_a_price_fire_nothing() -> None:
    given = json.loads(message(("a", "above", "100")))
    given["moves"] = {}
    assert evaluate(Batch.model_validate(given)) == []


def test_more_alerts_than_a_request_takes_are_all_published(
    monkeypatch: pytest.MonkeyPatch, topic: Topic
) -> None:
    monkeypatch.setenv("APP_PRICE_ALERT_TOPIC_ARN", topic.arn)
    alerts = [(f"a{number}", "above", "100") for number in range(23)]
    answer = price_alert.handler(batch(message(*alerts), "{}", message(("b", "below", "100"))), None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    heard = [Envelope.decode(item["Body"].encode()) for item in topic.heard()]
    assert {event.id for event in heard} == {f"price-alert:a{number}:1" for number in range(23)}
    assert heard[0].payload["values"] == {
        "symbol": "AAPL",
        "direction": "above",
        "level": "100",
        "price": "100.5",
    }


def test_what_sns_refuses_fails_the_message(monkeypatch: pytest.MonkeyPatch, topic: Topic) -> None:
    class Refusing:
        def publish_batch(self, **request: Any) -> Any:
            return {"Failed": [{"Id": "0"}]}

    monkeypatch.setenv("APP_PRICE_ALERT_TOPIC_ARN", topic.arn)
    monkeypatch.setattr("app.functions.aws.client", lambda service: Refusing())
    answer = price_alert.handler(batch(message(("a", "above", "100"))), None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
