"""Identity documents: what is sound goes on to a person, everything else is turned down with a reason."""

import json
from typing import Any

import pytest

from app.events.envelope import Envelope
from app.functions import kyc
from app.functions.kyc import Upload, check
from tests.app.functions.conftest import BUCKET, Topic

PDF = b"%PDF-1.7\n" + b" " * 2048


def upload(s3: Any, key: str, body: bytes, content_type: str) -> dict[str, Any]:
    version = s3.put_object(Bucket=BUCKET, Key=key, Body=body, ContentType=content_type)["VersionId"]
    quoted = key.replace(" ", "+")
    item = {"key": quoted, "versionId": version, "size": len(body)}
    return {"Records": [{"s3": {"bucket": {"name": BUCKET}, "object": item}}]}


def state(s3: Any, key: str) -> str:
    (tag,) = s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
    assert tag["Key"] == "state"
    return str(tag["Value"])


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, topic: Topic) -> None:
    monkeypatch.setenv("APP_SYSTEM_TOPIC_ARN", topic.arn)


def test_a_sound_document_goes_on_to_a_person(s3: Any, topic: Topic) -> None:
    key = "documents/u-1/passport.pdf"
    event = upload(s3, key, PDF, "application/pdf")
    assert kyc.handler(event, None) == {"checked": 1}
    assert state(s3, key) == "in-review"
    version = event["Records"][0]["s3"]["object"]["versionId"]
    result = json.loads(
        s3.get_object(Bucket=BUCKET, Key=f"results/u-1/passport.pdf/{version}.json")["Body"].read()
    )
    assert (result["state"], result["version"]) == ("in-review", version)
    (message,) = topic.heard()
    told = Envelope.decode(message["Body"].encode())
    assert told.payload["user"] == "u-1"
    assert told.payload["template"] == "kyc-document-in-review"


@pytest.mark.parametrize(
    ("name", "body", "content_type", "reason"),
    [
        ("passport.exe", PDF, "application/pdf", "only jpeg, jpg, pdf, png documents"),
        ("passport.pdf", PDF[:100], "application/pdf", "1 KiB to 10 MiB"),
        ("passport.pdf", b"", "application/pdf", "1 KiB to 10 MiB"),
        ("passport.pdf", PDF, "image/png", "declared as image/png, which is not application/pdf"),
        ("passport.png", PDF, "image/png", "the content is not image/png"),
    ],
)
def test_anything_else_is_turned_down(
    s3: Any, topic: Topic, name: str, body: bytes, content_type: str, reason: str
) -> None:
    key = f"documents/u-1/{name}"
    kyc.handler(upload(s3, key, body, content_type), None)
    assert state(s3, key) == "rejected"
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="results/")["Contents"]
    result = json.loads(s3.get_object(Bucket=BUCKET, Key=listed[0]["Key"])["Body"].read())
    assert reason in result["reason"]


def test_the_user_hears_why(s3: Any, topic: Topic) -> None:
    kyc.handler(upload(s3, "documents/u-1/passport.png", PDF, "image/png"), None)
    (message,) = topic.heard()
    payload = Envelope.decode(message["Body"].encode()).payload
    assert payload["template"] == "kyc-document-rejected"
    assert payload["values"] == {"document": "passport", "reason": "the content is not image/png"}


def test_a_key_with_strange_characters_is_found_and_turned_down(s3: Any, topic: Topic) -> None:
    key = "documents/u 1/my passport.pdf"
    kyc.handler(upload(s3, key, PDF, "application/pdf"), None)
    assert state(s3, key) == "rejected"
    assert topic.heard() == []


def test_a_verdict_belongs_to_the_version_that_was_looked_at(s3: Any, topic: Topic) -> None:
    key = "documents/u-1/passport.pdf"
    first = upload(s3, key, PDF, "application/pdf")
    upload(s3, key, b"later" * 1000, "application/pdf")
    kyc.handler(first, None)
    assert s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"] == []
    version = first["Records"][0]["s3"]["object"]["versionId"]
    tags = s3.get_object_tagging(Bucket=BUCKET, Key=key, VersionId=version)["TagSet"]
    assert tags == [{"Key": "state", "Value": "in-review"}]


def test_a_document_may_be_as_large_as_the_limit() -> None:
    limit = 10 * 2**20
    for size, wanted in ((limit, "in-review"), (limit + 1, "rejected")):
        found = check(Upload(BUCKET, "documents/u/p.jpg", "v", size), b"\xff\xd8\xff\xe0", "image/jpeg")
        assert found.state == wanted
