"""Whether the node and its pods are what the API says, and not what it still says from before a restart."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

from infra.errors import TradestackError

_QUICK = "--request-timeout=5s"


class Kubectl(Protocol):
    """Runs kubectl against the cluster."""

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Return standard output; raises TradestackError on failure."""


def pending(kubectl: Kubectl, name: str, since: datetime) -> str:
    """Why the node `name`, started at `since`, is not Ready or its pods are not seen again; nothing if it is.

    The API keeps the last word of a kubelet that was stopped; only what is newer than `since` counts.
    """
    try:
        nodes = _items(kubectl("get", "nodes", "-o=json", _QUICK))
        reason = _node(nodes, name, since)
        return reason or next(_stale_pods(_items(kubectl("get", "pods", "-A", "-o=json", _QUICK)), since), "")
    except TradestackError as error:
        return str(error)


def _node(nodes: list[dict[str, Any]], name: str, since: datetime) -> str:
    conditions = [
        condition
        for node in nodes
        if node["metadata"]["name"] == name
        for condition in node["status"].get("conditions", [])
        if condition["type"] == "Ready"
    ]
    if not conditions:
        return "node: not registered"
    ready = conditions[0]
    if _time(ready["lastHeartbeatTime"]) < since:
        return "node: no word from the kubelet yet"
    return "" if ready["status"] == "True" else f"node: {ready['reason']}: {ready['message']}"


def _stale_pods(pods: list[dict[str, Any]], since: datetime) -> Iterator[str]:
    """Pods with a container that is said to run since before the node was started."""
    for pod in pods:
        for container in pod["status"].get("containerStatuses", []):
            running = container["state"].get("running")
            if running and _time(running["startedAt"]) < since:
                yield f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}: not started again yet"


def _items(document: str) -> list[dict[str, Any]]:
    return list(json.loads(document)["items"])


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
