"""Secrets of Secrets Manager, kept in step as Secrets of Kubernetes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pulumi import ComponentResource, Input, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from components.kubernetes.meta import labels

_API = "external-secrets.io/v1"
# Without it the engine goes on before the Secret is there, and pods that mount it hang.
_WAIT = {"pulumi.com/waitFor": "condition=Ready"}


@dataclass(frozen=True)
class RemoteKey:
    """One key of a Secret and where its value comes from."""

    key: str
    """Key in the Secret of Kubernetes."""
    arn: Input[str]
    """ARN of the secret in Secrets Manager."""
    field: str | None = None
    """Field of a secret that is a JSON object, such as `password`; None takes it whole."""


@dataclass(frozen=True)
class RemoteSecret:
    """One Secret of Kubernetes, made from secrets of Secrets Manager."""

    namespace: str
    """Its namespace, which exists."""
    name: str
    """Its name."""
    keys: Sequence[RemoteKey]
    """Its keys, at least one."""


@dataclass(frozen=True)
class ExternalSecretsArgs:
    """What is read from where."""

    region: str
    """Region of Secrets Manager."""
    secrets: Sequence[RemoteSecret]
    """Secrets to make; names are unique in a namespace."""
    refresh: str = "5m"
    """How often they are read again; after a rotation the old value is used for at most this long."""


class ExternalSecrets(ComponentResource):
    """A store in every namespace concerned and the Secrets that come from it.

    The operator reads with its own Pod Identity, so that a store holds no credentials.
    """

    def __init__(self, name: str, args: ExternalSecretsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:ExternalSecrets", name, None, opts)
        stores = {
            namespace: CustomResource(
                f"{name}-{namespace}",
                api_version=_API,
                kind="SecretStore",
                metadata=_metadata(name, namespace),
                spec={"provider": {"aws": {"service": "SecretsManager", "region": args.region}}},
                opts=ResourceOptions(parent=self),
            )
            for namespace in dict.fromkeys(secret.namespace for secret in args.secrets)
        }
        for secret in args.secrets:
            CustomResource(
                f"{secret.namespace}-{secret.name}",
                api_version=_API,
                kind="ExternalSecret",
                metadata=_metadata(secret.name, secret.namespace),
                spec={
                    "refreshInterval": args.refresh,
                    "secretStoreRef": {"kind": "SecretStore", "name": name},
                    "target": {
                        "name": secret.name,
                        "creationPolicy": "Owner",
                        "deletionPolicy": "Retain",
                        "template": {"type": "Opaque", "metadata": {"labels": labels(secret.name)}},
                    },
                    "data": [{"secretKey": item.key, "remoteRef": _remote(item)} for item in secret.keys],
                },
                opts=ResourceOptions(parent=self, depends_on=[stores[secret.namespace]]),
            )
        self.register_outputs({})


def _metadata(name: str, namespace: str) -> ObjectMetaArgs:
    return ObjectMetaArgs(name=name, namespace=namespace, labels=labels(name), annotations=_WAIT)


def _remote(item: RemoteKey) -> dict[str, Any]:
    return {"key": item.arn} | ({"property": item.field} if item.field else {})
