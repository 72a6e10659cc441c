"""Names and labels that every Kubernetes object of the platform carries."""

from collections.abc import Mapping

from pulumi import Input
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

PLATFORM = "tradestack"
NAME_LABEL = "app.kubernetes.io/name"


def selector(name: str) -> dict[str, str]:
    """Labels that select the pods of the workload `name`; never change, because selectors are immutable."""
    return {NAME_LABEL: name}


def labels(name: str) -> dict[str, str]:
    """Labels of the objects that belong to the workload `name`."""
    return {**selector(name), "app.kubernetes.io/part-of": PLATFORM}


def metadata(name: str, namespace: str, *, owner: str | None = None) -> ObjectMetaArgs:
    """Metadata with an explicit name, so that engine, plan and render agree on every object.

    `owner` is the workload that the object belongs to; by default the one of the same name.
    """
    return ObjectMetaArgs(name=name, namespace=namespace, labels=labels(owner or name))


def host(service: str, namespace: str) -> str:
    """DNS name of a Service inside the cluster."""
    return f"{service}.{namespace}.svc.cluster.local"


Environment = Mapping[str, Input[str]]
"""Variables of a container; never secrets, which come as files."""
