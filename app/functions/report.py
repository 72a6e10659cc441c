"""Function: account statements as PDF, from the queue `report` into the bucket for reports."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from app.events.accounts import SendConfirmation
from app.events.envelope import Envelope
from app.functions import aws
from app.functions.statement import Statement, render


def make_report(body: str, s3: aws.S3, topics: aws.Topics, *, bucket: str, topic_arn: str) -> str:
    """Render the statement that a message asks for and tell its user; returns the object's key.

    A message that comes again finds the PDF there and leaves it as it is.

    Raises:
        pydantic.ValidationError: the message asks for no statement.
    """
    statement = Statement.model_validate_json(body)
    try:
        s3.put_object(
            Bucket=bucket,
            Key=statement.path,
            Body=render(statement),
            ContentType="application/pdf",
            IfNoneMatch="*",
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "PreconditionFailed":
            raise
    told = SendConfirmation(
        user=statement.user,
        channel="email",
        template="report-ready",
        values={"account": statement.account, "end": str(statement.end), "path": statement.path},
    )
    event = Envelope.of(told, key=statement.user, producer="report", id=f"report:{statement.id}")
    aws.publish(topics, topic_arn, [event])
    return statement.path


def handler(event: Mapping[str, Any], _: object) -> dict[str, Any]:
    """Entry of the Lambda function: a batch of SQS messages."""
    s3, topics = aws.client("s3"), aws.client("sns")
    bucket, topic = aws.setting("APP_REPORTS_BUCKET"), aws.setting("APP_SYSTEM_TOPIC_ARN")

    def handle(body: str) -> None:
        make_report(body, s3, topics, bucket=bucket, topic_arn=topic)

    return aws.each_message(event, handle)
