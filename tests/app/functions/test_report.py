"""Statements: real PDFs, one for each request however often it comes."""

import json
from typing import Any

import pytest

from app.events.envelope import Envelope
from app.functions import report
from app.functions.statement import Statement, render
from tests.app.functions.conftest import BUCKET, Topic, batch

REQUEST: dict[str, Any] = {
    "id": "r-1",
    "user": "u-1",
    "account": "A-100",
    "currency": "USD",
    "begin": "2026-01-01",
    "end": "2026-01-31",
    "opening": 100_000,
    "entries": [
        {"at": "2026-01-05T10:00:00Z", "text": "Deposit", "amount": 250_050},
        {"at": "2026-01-06T11:30:00Z", "text": "Bought 2 AAPL — Zürich ✓", "amount": -37_900},
    ],
}
KEY = "statements/A-100/2026-01-31-r-1.pdf"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, topic: Topic) -> None:
    monkeypatch.setenv("APP_REPORTS_BUCKET", BUCKET)
    monkeypatch.setenv("APP_SYSTEM_TOPIC_ARN", topic.arn)


def test_a_statement_is_a_pdf_and_the_same_one_each_time() -> None:
    statement = Statement.model_validate(REQUEST)
    pdf = render(statement)
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert render(statement) == pdf
    assert statement.money(statement.closing) == "3,121.50"


def test_a_long_statement_has_many_pages() -> None:
    many = {**REQUEST, "entries": REQUEST["entries"] * 200}
    assert render(Statement.model_validate(many)).count(b"/Type /Page\n") > 5


def test_a_message_becomes_a_report_and_a_word_to_the_user(s3: Any, topic: Topic, environment: None) -> None:
    answer = report.handler(batch(json.dumps(REQUEST)), None)
    assert answer == {"batchItemFailures": []}
    found = s3.get_object(Bucket=BUCKET, Key=KEY)
    assert found["ContentType"] == "application/pdf"
    assert found["Body"].read().startswith(b"%PDF-")
    (message,) = topic.heard()
    event = Envelope.decode(message["Body"].encode())
    assert (event.type, event.id) == ("SendConfirmation", "report:r-1")
    assert event.payload["values"]["path"] == KEY
    assert message["MessageAttributes"]["type"]["StringValue"] == "SendConfirmation"


def test_a_message_that_comes_again_changes_nothing(s3: Any, topic: Topic, environment: None) -> None:
    changed = {**REQUEST, "opening": 1}
    report.handler(batch(json.dumps(REQUEST)), None)
    version = s3.head_object(Bucket=BUCKET, Key=KEY)["VersionId"]
    assert report.handler(batch(json.dumps(changed)), None) == {"batchItemFailures": []}
    assert s3.head_object(Bucket=BUCKET, Key=KEY)["VersionId"] == version
    assert {Envelope.decode(message["Body"].encode()).id for message in topic.heard()} == {"report:r-1"}


def test_only_what_failed_comes_again(s3: Any, topic: Topic, environment: None) -> None:
    bad_account = json.dumps({**REQUEST, "account": "../other"})
    answer = report.handler(batch("no json", json.dumps(REQUEST), bad_account), None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}, {"itemIdentifier": "m2"}]}
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [KEY]


def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="end 2025-12-31 is before begin 2026-01-01"):
        Statement.model_validate({**REQUEST, "end": "2025-12-31"})
