"""Mail that others can tell from forgeries."""

from collections.abc import Callable
from typing import Any

import pulumi_aws as aws

from components.aws import mail
from components.aws.mail import Mail, MailArgs
from components.aws.scope import Scope

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")


def test_mail_is_signed_sent_over_tls_and_bounces_are_remembered(record: Callable[..., Any]) -> None:
    made: list[Mail] = []
    args = MailArgs(SCOPE, "trading.example.com", "Z0123456789ABCDEFGHI")
    recorded = record(lambda: made.append(Mail("mail", args)))
    assert recorded.kinds() == ["ConfigurationSet", "EmailIdentity", "Record", "Record", "Record"]
    options = recorded.one("ConfigurationSet")
    assert options["deliveryOptions"] == {"tlsPolicy": "REQUIRE"}
    assert options["suppressionOptions"] == {"suppressedReasons": ["BOUNCE", "COMPLAINT"]}
    assert recorded.one("EmailIdentity")["configurationSetName"] == "tradestack-test-mail"
    names = [item.inputs["name"] for item in recorded.custom() if item.typ.endswith(":Record")]
    assert names == 3 * ["._domainkey.trading.example.com"]
    assert made[0].arns == (
        "arn:aws:ses:us-east-1:123456789012:identity/trading.example.com",
        "arn:aws:ses:us-east-1:123456789012:configuration-set/tradestack-test-mail",
    )
    assert made[0].url == "ses://us-east-1"
    assert made[0].sender.endswith("<no-reply@trading.example.com>")


def test_each_record_has_a_key_of_its_own() -> None:
    keys = aws.sesv2.outputs.EmailIdentityDkimSigningAttributes(tokens=["one", "two", "three"])
    assert [mail._token(number, keys) for number in range(3)] == ["one", "two", "three"]
