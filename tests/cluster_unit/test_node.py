"""What the API remembers from before a restart does not count."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from infra.cluster import node
from infra.errors import TradestackError

SINCE = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
BEFORE, AFTER = "2030-01-01T11:59:59Z", "2030-01-01T12:00:00Z"


def api(*, heartbeat: str, ready: str = "True", started: str = AFTER) -> Callable[..., str]:
    """A kubectl that knows one node and one pod."""
    condition = {
        "type": "Ready",
        "status": ready,
        "reason": "R",
        "message": "m",
        "lastHeartbeatTime": heartbeat,
    }
    container = {"state": {"running": {"startedAt": started}}}
    documents: dict[str, Any] = {
        "nodes": {"metadata": {"name": "a"}, "status": {"conditions": [condition]}},
        "pods": {"metadata": {"namespace": "n", "name": "p"}, "status": {"containerStatuses": [container]}},
    }

    def kubectl(verb: str, kind: str, *_: str, stdin: str | None = None) -> str:
        return json.dumps({"items": [documents[kind]]})

    return kubectl


def test_ready_when_the_kubelet_spoke_and_every_container_is_new() -> None:
    assert node.pending(api(heartbeat=AFTER), "a", SINCE) == ""


def test_an_old_heartbeat_is_no_word() -> None:
    assert "no word from the kubelet" in node.pending(api(heartbeat=BEFORE), "a", SINCE)


def test_a_node_that_is_not_ready_says_why() -> None:
    assert node.pending(api(heartbeat=AFTER, ready="False"), "a", SINCE) == "node: R: m"


def test_a_container_from_before_the_start_is_not_running() -> None:
    assert "pod n/p" in node.pending(api(heartbeat=AFTER, started=BEFORE), "a", SINCE)


def test_another_name_is_not_registered() -> None:
    assert node.pending(api(heartbeat=AFTER), "b", SINCE) == "node: not registered"


def test_an_api_that_does_not_answer_is_a_reason() -> None:
    def silent(*_: str, stdin: str | None = None) -> str:
        raise TradestackError("connection refused")

    assert node.pending(silent, "a", SINCE) == "connection refused"
