"""Which objects count as a stack's."""

from typing import Any

import pytest

from infra.plan import Plan
from infra.process import CommandFailed
from infra.render import applyset

PARENT = "stacks.tradestack.internal"


def item(kind: str, name: str, **metadata: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, **metadata}}


class Cluster:
    """Answers questions for kinds that it knows, as kubectl does."""

    def __init__(self, remembered: str, objects: dict[str, list[dict[str, Any]]], failure: str = "") -> None:
        annotations = {"applyset.kubernetes.io/contains-group-kinds": remembered}
        self._objects = {PARENT: [item("Stack", "x", annotations=annotations)], **objects}
        self._failure = failure

    def list(self, kinds: str, *words: str) -> list[dict[str, Any]]:
        asked = kinds.split(",")
        for kind in asked:
            if kind not in self._objects:
                unknown = f'error: the server doesn\'t have a resource type "{kind.partition(".")[0]}"'
                raise CommandFailed(["kubectl"], 1, self._failure or unknown)
        return [found for kind in asked for found in self._objects[kind]]


def names(cluster: Cluster, plan: Plan) -> list[str]:
    return [found["metadata"]["name"] for found in applyset.members(plan, cluster)]  # type: ignore[arg-type]


def test_what_a_controller_made_is_no_member(local_plan: Plan) -> None:
    made = item("StatefulSet", "made", ownerReferences=[{"kind": "Prometheus", "controller": True}])
    owned = item("StatefulSet", "owned", ownerReferences=[{"kind": "Thing"}])
    cluster = Cluster("StatefulSet.apps", {"StatefulSet.apps": [made, owned, item("StatefulSet", "ours")]})
    assert names(cluster, local_plan) == ["owned", "ours"]


def test_a_kind_that_is_gone_does_not_hide_the_others(local_plan: Plan) -> None:
    objects = {"Service": [item("Service", "a")], "Deployment.apps": [item("Deployment", "b")]}
    cluster = Cluster("Deployment.apps,ScaledObject.keda.sh,Service", objects)
    assert names(cluster, local_plan) == ["b", "a"]
    assert names(Cluster("ScaledObject.keda.sh", {}), local_plan) == []


def test_a_cluster_that_does_not_answer_is_an_error(local_plan: Plan) -> None:
    with pytest.raises(CommandFailed, match="refused"):
        names(Cluster("ScaledObject.keda.sh", {}, failure="connection refused"), local_plan)
