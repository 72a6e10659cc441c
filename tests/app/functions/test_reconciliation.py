"""Reconciliation: two books of a day's trades agree, or the report says in what they do not."""

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.events.envelope import Envelope
from app.events.trading import TradeExecuted
from app.functions import reconciliation
from app.functions.trades import Window
from tests.app.functions.conftest import BUCKET, Topic

RUN = {"time": "2026-01-14T22:05:00Z"}  # a Wednesday
REPORT = "reconciliation/date=2026-01-14/trades.json"


def trade(name: str, at: str = "2026-01-14T15:00:00+00:00", quantity: int = 5) -> Envelope:
    payload = TradeExecuted(
        trade_id=name,
        symbol="AAPL",
        sequence=1,
        price=18950,
        quantity=quantity,
        maker_order_id="m",
        taker_order_id="t",
        taker_side="buy",
    )
    event = Envelope.of(payload, key="AAPL", producer="test")
    return event.model_copy(update={"time": datetime.fromisoformat(at)})


def lines(*events: Envelope) -> bytes:
    return b"".join(event.encode() + b"\n" for event in events)


@pytest.fixture
def files(s3: Any, topic: Topic, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("APP_ARCHIVE_BUCKET", "APP_REPORTS_BUCKET"):
        monkeypatch.setenv(name, BUCKET)
    monkeypatch.setenv("APP_SYSTEM_TOPIC_ARN", topic.arn)

    def put(exported: bytes, analysed: bytes, date: str = "2026-01-14") -> None:
        s3.put_object(Bucket=BUCKET, Key=f"exports/trades/date={date}/1.ndjson", Body=exported)
        s3.put_object(Bucket=BUCKET, Key=f"analytics/date={date}/1.json.gz", Body=gzip.compress(analysed))

    return put


def test_equal_books_are_balanced(
    files: Any, s3: Any, topic: Topic, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [trade("t1"), trade("t2", quantity=7)]
    files(lines(*events), lines(*reversed(events), events[0]))
    report = reconciliation.handler(RUN, None)
    assert (report["status"], report["differences"]) == ("balanced", 0)
    assert report["lots"] == {"exported": {"AAPL": 12}, "analysed": {"AAPL": 12}}
    assert json.loads(s3.get_object(Bucket=BUCKET, Key=REPORT)["Body"].read()) == report
    assert topic.heard() == []
    metric = json.loads(capsys.readouterr().out)
    assert (metric["Differences"], metric["Trades"]) == (0, 2)
    assert metric["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Function"]]


def test_each_kind_of_difference_is_named_and_told(
    files: Any, topic: Topic, capsys: pytest.CaptureFixture[str]
) -> None:
    files(
        lines(trade("lost"), trade("same"), trade("changed")),
        lines(trade("same"), trade("changed", quantity=6), trade("extra")) + b"not an event\n",
    )
    report = reconciliation.handler(RUN, None)
    assert report["status"] == "unbalanced"
    for kind, name in (("missing", "lost"), ("extra", "extra"), ("changed", "changed")):
        assert report[kind] == {"count": 1, "trades": [name]}
    assert report["unreadable"] == 1
    (message,) = topic.heard()
    assert message["Body"] == f"4 differences; the report is s3://{BUCKET}/{REPORT}"
    assert message["MessageAttributes"]["severity"]["StringValue"] == "critical"
    assert json.loads(capsys.readouterr().out)["Differences"] == 4


def test_a_side_that_is_missing_is_a_difference_and_a_day_without_trades_is_not(
    files: Any, s3: Any, topic: Topic
) -> None:
    assert reconciliation.handler(RUN, None)["status"] == "empty"
    files(lines(trade("t1")), b"")
    assert reconciliation.handler(RUN, None)["status"] == "unbalanced"


def test_only_trades_of_the_day_count_whatever_file_they_are_in(files: Any, topic: Topic) -> None:
    late, early = trade("late", "2026-01-14T22:00:01+00:00"), trade("early", "2026-01-13T21:59:00+00:00")
    evening = trade("evening", "2026-01-13T22:30:00+00:00")
    files(lines(evening), lines(evening), date="2026-01-13")
    files(lines(trade("t1"), late), lines(trade("t1"), early))
    report = reconciliation.handler(RUN, None)
    assert (report["status"], report["trades"]) == ("balanced", {"exported": 2, "analysed": 2})


@pytest.mark.parametrize(
    ("moment", "begin", "end"),
    [
        ("2026-01-14T22:05:00", "2026-01-13", "2026-01-14"),
        ("2026-01-14T21:59:00", "2026-01-12", "2026-01-13"),
        ("2026-01-12T22:05:00", "2026-01-09", "2026-01-12"),  # Monday's day begins on Friday
        ("2026-01-18T12:00:00", "2026-01-15", "2026-01-16"),  # Sunday: Friday's
    ],
)
def test_a_trading_day_ends_at_22_on_a_weekday(moment: str, begin: str, end: str) -> None:
    window = Window.closed_by(datetime.fromisoformat(moment).replace(tzinfo=UTC))
    assert (window.begin, window.end) == tuple(
        datetime.fromisoformat(f"{date}T22:00:00+00:00") for date in (begin, end)
    )
