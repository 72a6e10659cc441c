"""AWS as moto plays it: buckets, queues and topics in memory."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

BUCKET = "tradestack-test"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        yield


@pytest.fixture
def s3(cloud: None) -> Any:
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return client


class Topic:
    """A topic with one queue that hears everything."""

    def __init__(self) -> None:
        self.client = boto3.client("sns")
        self._queues = boto3.client("sqs")
        self.arn = self.client.create_topic(Name="topic")["TopicArn"]
        self._url = self._queues.create_queue(QueueName="listener")["QueueUrl"]
        attributes = self._queues.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        self.client.subscribe(
            TopicArn=self.arn,
            Protocol="sqs",
            Endpoint=attributes["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": "true"},
        )

    def heard(self) -> list[dict[str, Any]]:
        """Bodies and attributes of what was published since the last call."""
        found: list[dict[str, Any]] = []
        while answer := self._queues.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            found += answer
            for message in answer:
                self._queues.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return found


@pytest.fixture
def topic(cloud: None) -> Topic:
    return Topic()


def batch(*bodies: str) -> dict[str, Any]:
    """An event of SQS as Lambda hands it over; the messages are named m0, m1, …"""
    return {"Records": [{"messageId": f"m{number}", "body": body} for number, body in enumerate(bodies)]}


@pytest.fixture(autouse=True)
def fresh_clients() -> Iterator[None]:
    from app.functions import aws

    aws.client.cache_clear()
    yield
    aws.client.cache_clear()
