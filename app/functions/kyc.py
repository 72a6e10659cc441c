"""Function: checks identity documents as they are uploaded, before a person looks at them."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from app.events.accounts import SendAlert
from app.events.envelope import Envelope
from app.functions import aws

_MOST_BYTES = 10 * 2**20
_LEAST_BYTES = 1024
"""No photograph or scan of a document is smaller."""
_HEAD = 16
_KEY = re.compile(
    r"documents/(?P<user>[A-Za-z0-9-]{1,64})/(?P<name>[A-Za-z0-9_-]{1,64})\.(?P<type>[a-z]{3,4})"
)
_MAGIC = {
    "pdf": (b"%PDF-", "application/pdf"),
    "png": (b"\x89PNG\r\n\x1a\n", "image/png"),
    "jpg": (b"\xff\xd8\xff", "image/jpeg"),
    "jpeg": (b"\xff\xd8\xff", "image/jpeg"),
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upload:
    """One version of an uploaded document."""

    bucket: str
    key: str
    version: str
    size: int


@dataclass(frozen=True)
class Verdict:
    """What the checks found."""

    state: str
    """`in-review` when a person can decide now, else `rejected`."""
    reason: str


def uploads(event: Mapping[str, Any]) -> list[Upload]:
    """The uploads that an event of S3 tells of; its keys are quoted as in a URL."""
    return [
        Upload(
            bucket=record["s3"]["bucket"]["name"],
            key=unquote_plus(record["s3"]["object"]["key"]),
            version=record["s3"]["object"]["versionId"],
            size=record["s3"]["object"]["size"],
        )
        for record in event["Records"]
    ]


def check(upload: Upload, head: bytes, content_type: str) -> Verdict:
    """Name, size, declared type and first bytes must belong to one kind of document."""
    match = _KEY.fullmatch(upload.key)
    known = _MAGIC.get(match["type"]) if match else None
    if known is None:
        return Verdict("rejected", f"only {', '.join(sorted(_MAGIC))} documents are taken")
    if not _LEAST_BYTES <= upload.size <= _MOST_BYTES:
        return Verdict("rejected", "a document has 1 KiB to 10 MiB")
    magic, declared = known
    if content_type != declared:
        return Verdict("rejected", f"declared as {content_type}, which is not {declared}")
    if not head.startswith(magic):
        return Verdict("rejected", f"the content is not {declared}")
    return Verdict("in-review", "the file is sound")


def process(upload: Upload, s3: aws.S3, topics: aws.Topics, *, topic_arn: str) -> Verdict:
    """Check one upload; the verdict becomes a tag, a result beside it and a message to its user."""
    place = {"Bucket": upload.bucket, "Key": upload.key, "VersionId": upload.version}
    head, content_type = b"", ""
    if upload.size:
        answer = s3.get_object(**place, Range=f"bytes=0-{_HEAD - 1}")
        head, content_type = answer["Body"].read(), answer["ContentType"]
    verdict = check(upload, head, content_type)
    s3.put_object_tagging(**place, Tagging={"TagSet": [{"Key": "state", "Value": verdict.state}]})
    result = {"key": upload.key, "version": upload.version, "state": verdict.state, "reason": verdict.reason}
    s3.put_object(
        Bucket=upload.bucket,
        Key=f"results/{upload.key.removeprefix('documents/')}/{upload.version}.json",
        Body=json.dumps(result).encode(),
        ContentType="application/json",
    )
    match = _KEY.fullmatch(upload.key)
    if match is None:
        _log.warning("upload without a user: %s", upload.key[:200])
        return verdict
    values = {"document": match["name"], "reason": verdict.reason}
    told = SendAlert(
        user=match["user"], channel="email", template=f"kyc-document-{verdict.state}", values=values
    )
    event = Envelope.of(
        told, key=match["user"], producer="kyc", id=f"kyc:{upload.version}:{match['name']}"[:120]
    )
    aws.publish(topics, topic_arn, [event])
    return verdict


def handler(event: Mapping[str, Any], _: object) -> dict[str, int]:
    """Entry of the Lambda function: an event of S3, delivered again when an error is raised."""
    found = uploads(event)
    for upload in found:
        process(upload, aws.client("s3"), aws.client("sns"), topic_arn=aws.setting("APP_SYSTEM_TOPIC_ARN"))
    return {"checked": len(found)}
