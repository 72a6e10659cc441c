"""Where alerts go, and which of them others hold back."""

from collections.abc import Iterator, Mapping

from components.kubernetes.monitoring import data
from components.kubernetes.monitoring.alertmanager import NOBODY, Email, Webhook, routing


def _holds(matcher: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Alertmanager's rule: a label that is missing has an empty value."""
    same = labels.get(matcher["name"], "") == matcher["value"]
    return same if matcher["matchType"] == "=" else not same


def _held_back(target: Mapping[str, str], source: Mapping[str, str]) -> bool:
    return any(
        all(_holds(matcher, source) for matcher in rule["sourceMatch"])
        and all(_holds(matcher, target) for matcher in rule["targetMatch"])
        and all(source.get(name, "") == target.get(name, "") for name in rule["equal"])
        for rule in routing(None)["inhibitRules"]
    )


def _severities() -> Iterator[tuple[str, str]]:
    for content in data.rules().values():
        for group in content["groups"]:
            yield from (
                (rule["alert"], rule["labels"]["severity"]) for rule in group["rules"] if "alert" in rule
            )


def test_a_critical_alert_holds_back_warnings_about_the_same_job_only() -> None:
    severities = dict(_severities())

    def alert(name: str, **labels: str) -> dict[str, str]:
        return {"alertname": name, "severity": severities[name], **labels}

    down = alert("RoleDown", job="order")
    restarting = alert("WorkerRestarting", job="order")
    assert _held_back(restarting, down)
    assert not _held_back(down, restarting), "a warning holds nothing back"
    assert not _held_back(alert("WorkerRestarting", job="wallet"), down)
    assert not _held_back(alert("OutboxOld", job="order"), down), "nor is what is critical held back"
    # Neither is about a job.
    assert not _held_back(alert("HighWebSocketConnections"), alert("LedgerImbalance", asset="BTC"))


def test_credentials_are_told_by_the_name_of_their_secret() -> None:
    (webhook,) = routing(Webhook("hook"))["receivers"][0]["webhookConfigs"]
    assert webhook["urlSecret"] == {"name": "hook", "key": "url"}
    told = Email(to="a@example.com", sender="b@example.com", host="smtp", user="alerts", secret="mail")
    (mail,) = routing(told)["receivers"][0]["emailConfigs"]
    assert (mail["authUsername"], mail["authPassword"]) == ("alerts", {"name": "mail", "key": "password"})
    assert (mail["smarthost"], mail["requireTLS"]) == ("smtp:587", True)


def test_without_a_receiver_nobody_is_told() -> None:
    spec = routing(None)
    assert spec["receivers"] == [{"name": NOBODY}]
    assert spec["route"]["receiver"] == NOBODY
