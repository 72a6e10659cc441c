"""How the bus makes itself known to Amazon MSK. Signing needs no network."""

import base64
import subprocess
import sys
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from app.kit.bus import kafka
from app.kit.bus.kafka import KafkaBus, msk_iam
from app.kit.errors import Unavailable
from infra.servers.process import free_port


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the tests")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")


class _Recorded(Exception):
    """Carries the configuration of a client that was about to be made."""


def recorded_config(monkeypatch: pytest.MonkeyPatch, bus: KafkaBus) -> dict[str, Any]:
    def make(config: dict[str, Any], **_: Any) -> None:
        raise _Recorded(config)

    monkeypatch.setattr(kafka, "Producer", make)
    with pytest.raises(_Recorded) as caught:
        bus._connected_producer()
    return caught.value.args[0]


def test_plain_text_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    config = recorded_config(monkeypatch, KafkaBus("a:9092,b:9092", "tests"))
    assert config["bootstrap.servers"] == "a:9092,b:9092"
    assert not {"security.protocol", "sasl.mechanism", "oauth_cb"} & set(config)


def test_iam_is_oauthbearer_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    config = recorded_config(monkeypatch, KafkaBus("a:9098,b:9098", "tests", msk_iam("eu-west-1")))
    assert (config["security.protocol"], config["sasl.mechanism"]) == ("SASL_SSL", "OAUTHBEARER")
    assert config["bootstrap.servers"] == "a:9098,b:9098"


def test_the_token_is_a_signed_address_of_the_region_that_expires() -> None:
    token, expires = msk_iam("eu-west-1")["oauth_cb"]("")
    address = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    query = parse_qs(address.query)
    assert address.hostname == "kafka.eu-west-1.amazonaws.com"
    assert query["Action"] == ["kafka-cluster:Connect"]
    assert query["X-Amz-Credential"][0].startswith("AKIAEXAMPLE/")
    assert query["X-Amz-Security-Token"] == ["session"]
    assert 600 < expires - time.time() <= 900


async def test_every_client_asks_for_a_token_before_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_ANSWER_SECONDS", 0.5)
    asked: list[str] = []

    def token(_: str) -> tuple[str, float]:
        asked.append("token")
        return "token", time.time() + 900

    bus = KafkaBus(f"127.0.0.1:{free_port()}", "tests", {**msk_iam("eu-west-1"), "oauth_cb": token})
    with pytest.raises(Unavailable):
        await bus.ping()
    assert len(asked) == 1
    with pytest.raises(Unavailable):
        await bus.subscribe(["orders"], "readers")
    assert len(asked) == 2
    with pytest.raises(Unavailable):
        await bus.ensure([kafka.Topic("orders", 1, 60)])
    assert len(asked) == 3
    await bus.close()


def test_the_signer_is_loaded_only_when_it_is_used() -> None:
    code = "import sys, app.kit.bus.kafka; print({'boto3', 'aws_msk_iam_sasl_signer'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "set()"
