"""Secrets of Secrets Manager as Secrets of Kubernetes."""

from collections.abc import Callable
from typing import Any

from components.kubernetes.external_secrets import (
    ExternalSecrets,
    ExternalSecretsArgs,
    RemoteKey,
    RemoteSecret,
)

APP = RemoteSecret(
    "trading-system",
    "app-secrets",
    (
        RemoteKey("app_database_password", "arn:database", "password"),
        RemoteKey("app_cache_password", "arn:cache"),
    ),
)
GRAFANA = RemoteSecret("trading-monitoring", "grafana", (RemoteKey("admin", "arn:grafana"),))
Record = Callable[[Callable[[], object]], Any]


def _made(record: Record, *secrets: RemoteSecret, refresh: str = "5m") -> dict[str, dict[str, Any]]:
    args = ExternalSecretsArgs("eu-west-1", secrets, refresh)
    made = record(lambda: ExternalSecrets("secrets-manager", args))
    return {item.name: item.inputs for item in made.custom()}


def test_a_field_of_a_secret_and_a_whole_one_become_keys_of_one_secret(record: Record) -> None:
    made = _made(record, APP)["trading-system-app-secrets"]
    assert (made["apiVersion"], made["kind"]) == ("external-secrets.io/v1", "ExternalSecret")
    assert made["metadata"]["namespace"] == "trading-system"
    assert made["spec"]["target"]["name"] == "app-secrets"
    assert made["spec"]["refreshInterval"] == "5m"
    assert made["spec"]["data"] == [
        {"secretKey": "app_database_password", "remoteRef": {"key": "arn:database", "property": "password"}},
        {"secretKey": "app_cache_password", "remoteRef": {"key": "arn:cache"}},
    ]


def test_every_namespace_has_one_store_without_credentials(record: Record) -> None:
    made = _made(record, APP, GRAFANA, RemoteSecret("trading-system", "other", GRAFANA.keys))
    stores = {name: item for name, item in made.items() if item["kind"] == "SecretStore"}
    assert set(stores) == {"secrets-manager-trading-system", "secrets-manager-trading-monitoring"}
    for store in stores.values():
        assert store["spec"] == {"provider": {"aws": {"service": "SecretsManager", "region": "eu-west-1"}}}
    for item in made.values():
        if item["kind"] == "ExternalSecret":
            assert item["spec"]["secretStoreRef"] == {"kind": "SecretStore", "name": "secrets-manager"}


def test_an_update_waits_until_the_secret_is_there(record: Record) -> None:
    made = _made(record, APP, refresh="1m")
    for item in made.values():
        assert item["metadata"]["annotations"]["pulumi.com/waitFor"] == "condition=Ready"
    assert made["trading-system-app-secrets"]["spec"]["refreshInterval"] == "1m"
