"""Function: at the end of a trading day, compares the exported trades with those in the analytics files.

Both are files of events in the archive bucket, one per line, gzipped or not:
`exports/trades/date=YYYY-MM-DD/…` and `analytics/date=YYYY-MM-DD/…`. A day without any is `empty`, not wrong.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from app.functions import aws
from app.functions.trades import Window, compare, read

EXPORTS, ANALYTICS = "exports/trades/", "analytics/"
"""Where the two books are in the archive bucket."""


def reconcile(window: Window, s3: aws.S3, topics: aws.Topics, **places: str) -> dict[str, object]:
    """Compare the two books of a trading day, write the report and raise a critical message when they differ.

    `places` are the names of the buckets `archive` and `reports` and the ARN of the topic `system`.
    """
    exported, analysed = (
        read(_lines(s3, places["archive"], prefix, window), window) for prefix in (EXPORTS, ANALYTICS)
    )
    found = compare(exported, analysed)
    report = {"begin": window.begin.isoformat(), "end": window.end.isoformat(), **found}
    key = f"reconciliation/date={window.end.date()}/trades.json"
    s3.put_object(
        Bucket=places["reports"],
        Key=key,
        Body=json.dumps(report, indent=2).encode(),
        ContentType="application/json",
    )
    if found["status"] == "unbalanced":
        topics.publish(
            TopicArn=places["system"],
            Subject=f"Trades of {window.end.date()} do not agree",
            Message=f"{found['differences']} differences; the report is s3://{places['reports']}/{key}",
            MessageAttributes={"severity": {"DataType": "String", "StringValue": "critical"}},
        )
    return report


def _lines(s3: aws.S3, bucket: str, prefix: str, window: Window) -> Iterator[bytes]:
    for date in window.dates:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}date={date}/")
        for page in pages:
            for item in page.get("Contents", []):
                body = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"]
                if item["Key"].endswith(".gz"):
                    with gzip.open(body) as unpacked:
                        yield from unpacked
                else:
                    yield from body.iter_lines()


def handler(event: Mapping[str, Any], _: object) -> dict[str, object]:
    """Entry of the Lambda function: `{"time": …}`, the moment of the schedule in ISO 8601."""
    report = reconcile(
        Window.closed_by(datetime.fromisoformat(event["time"])),
        aws.client("s3"),
        aws.client("sns"),
        archive=aws.setting("APP_ARCHIVE_BUCKET"),
        reports=aws.setting("APP_REPORTS_BUCKET"),
        system=aws.setting("APP_SYSTEM_TOPIC_ARN"),
    )
    trades = report["trades"]
    assert isinstance(trades, dict)  # noqa: S101 - made by compare
    aws.emit({"Differences": float(str(report["differences"])), "Trades": trades["exported"]})
    return report
