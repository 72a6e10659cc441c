"""The AsyncAPI document: valid, up to date, true, and never in the way of readers of the last one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from asyncapi3.models import AsyncAPI3
from jsonschema import Draft7Validator

from app.events.accounts import UserCreated
from app.events.asyncapi import import_all
from app.events.compatibility import breaks
from app.events.envelope import Envelope
from app.events.matching import Answer, MatchingOutput, OrderAccepted, TradeMade
from app.events.registry import FAMILIES, Payload
from infra.paths import REPOSITORY

DOCUMENT, REFERENCE = Path("docs/asyncapi.json"), Path("docs/events.md")
COMMANDS = {DOCUMENT: [], REFERENCE: ["--markdown"]}


@cache
def printed(path: Path) -> str:
    """What the command prints. A process of its own: tests register events, too."""
    command = [sys.executable, "-m", "app", "events", *COMMANDS[path]]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def current() -> dict[str, Any]:
    return json.loads(printed(DOCUMENT))


def git(*arguments: str) -> str | None:
    # In a container the checkout may belong to another user.
    command = ["git", "-c", "safe.directory=*", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


@pytest.mark.parametrize("path", [DOCUMENT, REFERENCE], ids=str)
def test_the_committed_documents_are_what_the_registry_says(path: Path) -> None:
    """TRADESTACK_WRITE_SNAPSHOTS=1 writes them anew."""
    file = REPOSITORY / path
    if os.environ.get("TRADESTACK_WRITE_SNAPSHOTS"):
        file.write_text(printed(path))
    assert printed(path) == file.read_text(), "run this test with TRADESTACK_WRITE_SNAPSHOTS=1"


def test_the_document_is_valid_asyncapi() -> None:
    made = current()
    AsyncAPI3.model_validate(made)
    for schema in made["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    made = current()
    found: set[str] = set()

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            found.update([part["$ref"]] if "$ref" in part else [])
            for value in part.values():
                collect(value)
        elif isinstance(part, list):
            for value in part:
                collect(value)

    collect(made)
    known = {
        f"#/components/{kind}/{name}" for kind, entries in made["components"].items() for name in entries
    }
    assert found == known


def test_it_has_every_topic_and_every_version_of_every_event() -> None:
    made = current()
    import_all()
    topics = {channel["address"]: channel for channel in made["channels"].values()}
    assert set(topics) == set(FAMILIES)
    for name, family in FAMILIES.items():
        settings = topics[name]["bindings"]["kafka"]
        assert settings["partitions"] == family.topic.partitions
        assert settings["topicConfiguration"]["retention.ms"] == 1000 * family.topic.retention_seconds
        messages = [made["components"]["messages"][message] for message in topics[name]["messages"]]
        assert {message["name"] for message in messages} == {type_ for type_, _ in family.schemas}
        assert {family.key in message["bindings"]["kafka"]["key"]["description"] for message in messages} == {
            True
        }


def test_events_of_domains_are_found_without_being_named() -> None:
    messages = current()["components"]["messages"]
    assert {"FundsReleasedV1", "ApiKeyCreatedV1"} <= set(messages)


@pytest.mark.parametrize(
    "payload",
    [
        UserCreated(user="u"),
        MatchingOutput(
            symbol="BTC-USD",
            first=1,
            last=2,
            at=5,
            changes=(
                OrderAccepted(sequence=1, order_id=1, owner="u", side="buy", quantity=2, price=3),
                TradeMade(
                    sequence=2,
                    trade_id=1,
                    price=3,
                    quantity=2,
                    taker_side="buy",
                    maker_order_id=2,
                    taker_order_id=1,
                    maker_owner="v",
                    taker_owner="u",
                    maker_remaining=0,
                    taker_remaining=0,
                ),
            ),
            answers=(Answer(order_id=1, status="filled", filled=2),),
        ),
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_what_is_published_fits_the_document(payload: Payload) -> None:
    made = current()
    schema = made["components"]["messages"][f"{type(payload).__name__}V1"]["payload"]
    validator = Draft7Validator({**schema, "components": made["components"]})
    sent = json.loads(Envelope.of(payload, key="k", producer="p").encode())
    assert list(validator.iter_errors(sent)) == []
    for broken in (sent | {"version": 2}, sent | {"type": "Other"}, sent | {"payload": {}}):
        assert not validator.is_valid(broken)


def test_fields_are_explained_as_in_the_code() -> None:
    fields = current()["components"]["schemas"]["Envelope"]["properties"]
    assert fields["key"]["description"] == "Events of one key are in order."
    assert "| `key` | text | Events of one key are in order. |" in printed(REFERENCE)


def bases() -> list[str]:
    """Commits whose readers must understand what is published now: the last one, and what it starts from."""
    found = [git("rev-parse", "HEAD"), git("merge-base", "HEAD", "origin/main")]
    return list(dict.fromkeys(commit for commit in found if commit))


def test_nothing_changed_in_a_way_that_needs_a_new_version() -> None:
    for commit in bases():
        before = git("show", f"{commit}:{DOCUMENT}")
        if before is not None:
            found = breaks(json.loads(before), current())
            assert found == [], f"add a version instead; compared with {commit}"


Schemas = dict[str, Any]


def rename(schemas: Schemas) -> None:
    fields = schemas["MarginCall"]["properties"]
    fields["needed"] = fields.pop("required")


def retype(schemas: Schemas) -> None:
    schemas["Answer"]["properties"]["filled"]["type"] = "string"


def another_value(schemas: Schemas) -> None:
    schemas["TradeMade"]["properties"]["taker_side"]["enum"].append("none")


def another_kind(schemas: Schemas) -> None:
    schemas["MatchingOutput"]["properties"]["changes"]["items"]["oneOf"].append({"type": "object"})


def nullable(schemas: Schemas) -> None:
    schemas["KYCApproved"]["properties"]["level"] = {"anyOf": [{"type": "integer"}, {"type": "null"}]}


def require(schemas: Schemas) -> None:
    schemas["UserCreated"]["properties"]["since"] = {"type": "integer"}
    schemas["UserCreated"]["required"].append("since")


def other_values(schemas: Schemas) -> None:
    schemas["SendAlert"]["properties"]["values"]["additionalProperties"] = {"type": "integer"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (rename, "MarginCallV1.required: the field is gone"),
        (retype, "MatchingOutputV1.answers[].filled: type is string, was integer"),
        (another_value, "MatchingOutputV1.changes[](2).taker_side: values are"),
        (another_kind, "MatchingOutputV1.changes[]: 9 kinds, were 8"),
        (nullable, "KYCApprovedV1.level: type is None, was integer"),
        (require, "UserCreatedV1.since: now required"),
        (other_values, "SendAlertV1.values{}: type is integer, was string"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_needs_a_new_version(change: Callable[[Schemas], None], told: str) -> None:
    before, after = current(), current()
    change(after["components"]["schemas"])
    assert any(line.removeprefix(told) != line for line in breaks(before, after))


def test_events_topics_and_keys_stay() -> None:
    before, after = current(), current()
    del after["components"]["messages"]["MarginCallV1"]
    del after["channels"]["price-updates"]
    after["components"]["messages"]["UserCreatedV1"]["bindings"]["kafka"]["key"]["description"] = "Other"
    assert breaks(before, after) == [
        "price.updates: the topic is gone",
        "MarginCallV1: the event is gone",
        "UserCreatedV1: ordered by another key",
    ]


def test_what_old_readers_can_take() -> None:
    before, after = current(), current()
    schemas = after["components"]["schemas"]
    schemas["UserCreated"]["properties"]["since"] = {"type": "integer"}
    schemas["UserCreated"]["description"] = "Other words."
    schemas["Answer"]["properties"]["filled"]["maximum"] = 5
    schemas["Answer2"] = schemas.pop("Answer")
    schemas["MatchingOutput"]["properties"]["answers"]["items"]["$ref"] = "#/components/schemas/Answer2"
    messages = after["components"]["messages"]
    messages["UserCreatedV2"] = messages["UserCreatedV1"]
    assert breaks(before, after) == []
