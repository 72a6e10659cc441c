"""Apply, wait, status and delete on the real node."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from infra import render
from infra.cluster.cluster import Cluster
from infra.errors import TradestackError
from infra.images import catalog
from infra.plan import Plan, PlannedResource, Secret
from infra.plan.monitor import reference
from infra.progress import Steps

pytestmark = pytest.mark.cluster

NAMESPACE = "render-test"
QUIET = Steps(quiet=True)
PlanOf = Callable[..., Plan]


def _versions(cluster: Cluster) -> dict[str, str]:
    found = json.loads(cluster.kubectl("get", "configmap,deployment,secret", "-n", NAMESPACE, "-o", "json"))
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in found["items"]
    }


def _actions(result: render.ApplyResult) -> dict[str, str]:
    return {change.object: change.action for change in result.changes}


def _exists(cluster: Cluster, *what: str) -> bool:
    return bool(cluster.kubectl("get", *what, "--ignore-not-found", "-o", "name").strip())


def test_apply_creates_then_changes_nothing_then_only_what_differs(
    cluster: Cluster, target: Any, objects: Any, plan_of: PlanOf
) -> None:
    plan = plan_of(
        [objects.namespace(), objects.config("a", x="1"), objects.config("b"), objects.deployment("d")]
    )
    assert render.apply(plan, target, QUIET).counts == {"created": 4}
    render.wait_ready(plan, target, QUIET, 180)
    before = _versions(cluster)
    again = render.apply(plan, target, QUIET)
    assert again.counts == {"unchanged": 4}
    assert again.changed == 0
    assert _versions(cluster) == before

    cluster.kubectl("create", "configmap", "foreign", "-n", NAMESPACE)
    changed = plan_of([objects.namespace(), objects.config("a", x="2"), objects.deployment("d")])
    assert _actions(render.apply(changed, target, QUIET)) == {
        f"Namespace {NAMESPACE}": "unchanged",
        f"ConfigMap a in {NAMESPACE}": "configured",
        f"Deployment d in {NAMESPACE}": "unchanged",
        f"ConfigMap b in {NAMESPACE}": "pruned",
    }
    assert not _exists(cluster, "configmap", "b", "-n", NAMESPACE)
    assert _exists(cluster, "configmap", "foreign", "-n", NAMESPACE)


def test_a_hand_made_change_is_put_right(
    cluster: Cluster, target: Any, objects: Any, plan_of: PlanOf
) -> None:
    plan = plan_of([objects.namespace(), objects.config("a", x="1")])
    render.apply(plan, target, QUIET)
    cluster.kubectl("patch", "configmap", "a", "-n", NAMESPACE, "-p", '{"data": {"x": "by hand"}}')
    assert _actions(render.apply(plan, target, QUIET))[f"ConfigMap a in {NAMESPACE}"] == "configured"
    value = cluster.kubectl("get", "configmap", "a", "-n", NAMESPACE, "-o", "jsonpath={.data.x}")
    assert value == "1"


def test_a_job_whose_template_changed_runs_again(
    cluster: Cluster, target: Any, objects: Any, plan_of: PlanOf
) -> None:
    for word in ("first", "second"):
        plan = plan_of([objects.namespace(), objects.job("task", f"echo {word}")])
        result = render.apply(plan, target, QUIET)
        assert _actions(result)[f"Job task in {NAMESPACE}"] == (
            "created" if word == "first" else "configured"
        )
        render.wait_ready(plan, target, QUIET, 180)
        assert cluster.kubectl("logs", "job/task", "-n", NAMESPACE).strip() == word


def test_a_stateful_set_that_must_be_made_anew_keeps_its_pod(
    cluster: Cluster, target: Any, objects: Any, plan_of: PlanOf
) -> None:
    def pod() -> str:
        return cluster.kubectl("get", "pod", "s-0", "-n", NAMESPACE, "-o", "jsonpath={.metadata.uid}")

    first = plan_of([objects.namespace(), objects.stateful_set("s", "1Mi")])
    render.apply(first, target, QUIET)
    render.wait_ready(first, target, QUIET, 180)
    before = pod()
    larger = plan_of([objects.namespace(), objects.stateful_set("s", "2Mi")])
    assert _actions(render.apply(larger, target, QUIET))[f"StatefulSet s in {NAMESPACE}"] == "configured"
    render.wait_ready(larger, target, QUIET, 180)
    assert pod() == before


def test_passwords_outlive_a_removal_that_keeps_volumes(
    cluster: Cluster, target: Any, objects: Any, plan_of: PlanOf, password: PlannedResource
) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": NAMESPACE},
        "stringData": Secret({"password": reference("word")}),
    }
    plan = plan_of([objects.namespace(), objects.config("a"), secret], [password])
    render.apply(plan, target, QUIET)
    # A claim as a StatefulSet makes it: not a member of the ApplySet.
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(objects.claim("data")))

    def stored() -> str:
        return cluster.kubectl("get", "secret", "s", "-n", NAMESPACE, "-o", "jsonpath={.data.password}")

    first = stored()
    assert len(base64.b64decode(first)) == 24
    assert render.apply(plan, target, QUIET).counts == {"unchanged": 3}
    assert render.holds_data(plan, target)

    removed = render.delete(plan, target, QUIET, volumes=False)
    assert _actions(removed) == {f"ConfigMap a in {NAMESPACE}": "pruned"}
    assert _exists(cluster, "persistentvolumeclaim", "data", "-n", NAMESPACE)
    assert render.apply(plan, target, QUIET).counts == {"created": 1, "unchanged": 2}
    assert stored() == first

    render.delete(plan, target, QUIET, volumes=True)
    assert not _exists(cluster, "namespace", NAMESPACE)
    assert not render.holds_data(plan, target)


def test_an_image_that_is_not_there_is_given_up_at_once(target: Any, objects: Any, plan_of: PlanOf) -> None:
    plan = plan_of([objects.namespace(), objects.deployment("d", image="localhost/tradestack/none:0")])
    render.apply(plan, target, QUIET)
    with pytest.raises(TradestackError, match="ErrImageNeverPull") as refused:
        render.wait_ready(plan, target, QUIET, 120)
    assert str(refused.value).startswith(f"Deployment d in {NAMESPACE}: cannot become ready")
    assert "localhost/tradestack/none:0" in str(refused.value)


def test_a_pod_that_fits_nowhere_is_explained_in_the_scheduler_s_words(
    cluster: Cluster, target: Any, objects: Any, plan_of: PlanOf, eventually: Callable[..., None]
) -> None:
    plan = plan_of([objects.namespace(), objects.deployment("d", resources={"requests": {"cpu": "1000"}})])
    render.apply(plan, target, QUIET)
    said = ("get", "pods", "-n", NAMESPACE, "-o=jsonpath={.items[*].status.conditions[*].message}")
    eventually(lambda: "Insufficient cpu" in cluster.kubectl(*said))
    with pytest.raises(TradestackError, match=r"not ready after 5 s:(?s:.*)Insufficient cpu"):
        render.wait_ready(plan, target, QUIET, 5)


def test_a_crash_loop_tells_its_last_words(
    cluster: Cluster, target: Any, objects: Any, plan_of: PlanOf, eventually: Callable[..., None]
) -> None:
    command = ["sh", "-c", "echo no such table: prices; exit 3"]
    probe = {"exec": {"command": ["false"]}}
    image = catalog.reference("base")
    crashing = objects.deployment("d", image=image, command=command, readinessProbe=probe)
    plan = plan_of([objects.namespace(), crashing])
    render.apply(plan, target, QUIET)
    restarts = "-o=jsonpath={.items[*].status.containerStatuses[*].restartCount}"
    eventually(lambda: cluster.kubectl("get", "pods", "-n", NAMESPACE, restarts) not in ("", "0"))
    with pytest.raises(TradestackError, match="no such table: prices"):
        render.wait_ready(plan, target, QUIET, 10)
    found = render.status(plan, target)
    assert found == {
        "stack": "rendertest",
        "ready": False,
        "urls": {"web": "http://node"},
        "workloads": [{"name": "d", "namespace": NAMESPACE, "kind": "Deployment", "ready": 0, "desired": 1}],
    }


def test_a_failed_job_is_given_up_with_its_last_words(target: Any, objects: Any, plan_of: PlanOf) -> None:
    plan = plan_of([objects.namespace(), objects.job("task", "echo disk is full; exit 1")])
    render.apply(plan, target, QUIET)
    with pytest.raises(TradestackError, match=f"Job task in {NAMESPACE}: failed(?s:.*)disk is full"):
        render.wait_ready(plan, target, QUIET, 120)


def test_what_the_cluster_refuses_is_told_in_its_words(target: Any, objects: Any, plan_of: PlanOf) -> None:
    plan = plan_of([objects.namespace(), objects.deployment("d", resources={"limits": {"cpu": "-1"}})])
    with pytest.raises(
        TradestackError, match=r"the cluster refused the plan(?s:.*)must be greater than or equal to 0"
    ):
        render.apply(plan, target, QUIET)


def test_removing_what_was_never_applied_removes_nothing(target: Any, plan_of: PlanOf) -> None:
    assert render.delete(plan_of([]), target, QUIET, volumes=True).changes == ()
