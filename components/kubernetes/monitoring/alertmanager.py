"""Where alerts go: the routing of Alertmanager, with credentials only by the name of their Secret."""

from dataclasses import dataclass
from typing import Any

from pulumi import Input

NOBODY = "nobody"
"""Receiver of a stack without one: alerts are seen in Alertmanager and on dashboards only."""

_SECURE_WEB, _MAIL = 443, 587


@dataclass(frozen=True)
class Webhook:
    """Alerts as JSON to an address, which is a credential in itself."""

    secret: str
    """Secret beside Alertmanager whose key `url` holds the address."""
    port: int = _SECURE_WEB
    """TCP port of the address."""


@dataclass(frozen=True)
class Email:
    """Alerts by mail."""

    to: str
    sender: str
    host: str
    """Mail server, which speaks TLS after STARTTLS."""
    port: int = _MAIL
    user: str | None = None
    """Name at the mail server; with `secret`."""
    secret: str | None = None
    """Secret beside Alertmanager whose key `password` holds the user's password."""


@dataclass(frozen=True)
class Topic:
    """Alerts to a topic of Amazon SNS, under the role of Alertmanager's pods."""

    arn: Input[str]
    region: str
    port: int = _SECURE_WEB


Receiver = Webhook | Email | Topic


def routing(receiver: Receiver | None) -> dict[str, Any]:
    """Spec of the AlertmanagerConfig.

    Waits and repetition are those that Alertmanager's documentation recommends; a critical alert holds back
    the warnings about the same job. Alerts about no job hold nothing back: a label that both lack is equal.
    """
    name = NOBODY if receiver is None else "people"
    return {
        "route": {
            "receiver": name,
            "groupBy": ["alertname", "job"],
            "groupWait": "30s",
            "groupInterval": "5m",
            "repeatInterval": "4h",
        },
        "inhibitRules": [
            {
                "sourceMatch": [
                    {"name": "severity", "value": "critical", "matchType": "="},
                    {"name": "job", "value": "", "matchType": "!="},
                ],
                "targetMatch": [{"name": "severity", "value": "warning", "matchType": "="}],
                "equal": ["job"],
            }
        ],
        "receivers": [{"name": name, **_receiver(receiver)}],
    }


def _receiver(receiver: Receiver | None) -> dict[str, Any]:
    match receiver:
        case None:
            return {}
        case Webhook():
            url = {"name": receiver.secret, "key": "url"}
            return {"webhookConfigs": [{"urlSecret": url, "sendResolved": True}]}
        case Email():
            return {"emailConfigs": [_email(receiver)]}
        case Topic():
            topic = {"topicARN": receiver.arn, "sigv4": {"region": receiver.region}, "sendResolved": True}
            return {"snsConfigs": [topic]}


def _email(receiver: Email) -> dict[str, Any]:
    found: dict[str, Any] = {
        "to": receiver.to,
        "from": receiver.sender,
        "smarthost": f"{receiver.host}:{receiver.port}",
        "requireTLS": True,
        "sendResolved": True,
    }
    if receiver.user is not None:
        found["authUsername"] = receiver.user
        found["authPassword"] = {"name": receiver.secret, "key": "password"}
    return found
