"""What every workload of the local stack must have, one table over all of them."""

import inspect
from typing import Any

import pytest

from app.kit.database import Database
from app.roles import ROLES, cluster_roles
from infra.plan import Plan
from infra.settings.quantities import Cpu, Memory
from infra.settings.workloads import POOL_CONNECTIONS

LONG_RUNNING = ("Deployment", "StatefulSet")
OPERATED = ("prometheus", "alertmanager")
"""Servers whose pods an operator makes."""


def _workloads(plan: Plan) -> list[Any]:
    kinds = (*LONG_RUNNING, "Job", "CronJob")
    found = [item for item in plan.resources if item.custom and item.type.rsplit(":", 1)[-1] in kinds]
    assert {item.name for item in found} == {*cluster_roles(cloud=False), "postgresql", "redis", "kafka"}
    return found


def _pod(resource: Any) -> dict[str, Any]:
    spec = resource.inputs["spec"]
    template: dict[str, Any] = (spec["jobTemplate"]["spec"] if _kind(resource) == "CronJob" else spec)[
        "template"
    ]
    return template


def _containers(resource: Any) -> list[dict[str, Any]]:
    spec = _pod(resource)["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def _kind(resource: Any) -> str:
    return str(resource.type.rsplit(":", 1)[-1])


def test_accounts_and_their_rights_are_there_before_the_pods(local_plan: Plan) -> None:
    rights = {"ServiceAccount", "Role", "RoleBinding"}
    for resource in _workloads(local_plan):
        own = {
            item.urn
            for item in local_plan.resources
            if item.parent == resource.parent and _kind(item) in rights
        }
        assert own
        assert own <= set(resource.dependencies), resource.urn


def test_pods_are_not_privileged(local_plan: Plan) -> None:
    for resource in _workloads(local_plan):
        security = _pod(resource)["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 10000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in _containers(resource):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["runAsNonRoot"] is True


def test_pods_may_write_only_to_a_bounded_tmp_and_their_volume(local_plan: Plan) -> None:
    for resource in _workloads(local_plan):
        volumes = {volume["name"]: volume for volume in _pod(resource)["spec"]["volumes"]}
        assert volumes["tmp"] == {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}
        assert set(volumes) <= {"tmp", "secrets"}
        for container in _containers(resource):
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_requests_and_limits_are_given_in_canonical_form(local_plan: Plan) -> None:
    for resource in _workloads(local_plan):
        for container in _containers(resource):
            for bound in ("requests", "limits"):
                given = container["resources"][bound]
                assert str(Cpu.parse(given["cpu"])) == given["cpu"]
                assert str(Memory.parse(given["memory"])) == given["memory"]


def test_three_distinct_probes(local_plan: Plan) -> None:
    for resource in _workloads(local_plan):
        for container in _pod(resource)["spec"]["containers"]:
            if _kind(resource) not in LONG_RUNNING:
                assert not {"livenessProbe", "readinessProbe", "startupProbe"} & container.keys()
                continue
            probes = [container[name] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
            assert len({str(sorted(probe.items())) for probe in probes}) == 3
            assert all("host" not in probe.get("httpGet", {}) for probe in probes)
            if _kind(resource) == "Deployment":
                paths = [probe["httpGet"]["path"] for probe in probes]
                assert paths == ["/livez", "/livez", "/readyz"]


def test_drain(local_plan: Plan) -> None:
    for resource in _workloads(local_plan):
        if _kind(resource) not in LONG_RUNNING:
            continue
        spec = _pod(resource)["spec"]
        pre_stop = spec["containers"][0]["lifecycle"]["preStop"]
        assert list(pre_stop) == ["sleep"]
        role = ROLES.get(resource.name)
        drain = role.drain_seconds if role else 30
        assert spec["terminationGracePeriodSeconds"] > pre_stop["sleep"]["seconds"] + drain


def test_each_workload_has_an_identity_of_its_own_without_token(local_plan: Plan) -> None:
    accounts = {
        (item.inputs["metadata"]["namespace"], item.inputs["metadata"]["name"]): item
        for item in local_plan.resources
        if item.type.endswith(":ServiceAccount") and item.name not in OPERATED
    }
    used = set()
    for resource in _workloads(local_plan):
        spec = _pod(resource)["spec"]
        key = (resource.inputs["metadata"]["namespace"], spec["serviceAccountName"])
        assert spec["automountServiceAccountToken"] is False
        assert accounts[key].inputs["automountServiceAccountToken"] is False
        used.add(key)
    assert used == set(accounts)


def test_each_server_has_a_disruption_budget_that_never_blocks_a_drain(local_plan: Plan) -> None:
    budgets = {
        item.inputs["metadata"]["name"]: item.inputs["spec"]
        for item in local_plan.resources
        if item.type.endswith(":PodDisruptionBudget") and item.name not in OPERATED
    }
    servers = [resource for resource in _workloads(local_plan) if _kind(resource) in LONG_RUNNING]
    assert budgets.keys() == {resource.name for resource in servers}
    for resource in servers:
        budget = budgets[resource.name]
        assert budget["maxUnavailable"] == 1
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert budget["selector"]["matchLabels"].items() <= _pod(resource)["metadata"]["labels"].items()


def test_replicas_spread_over_zones_and_hosts(local_plan: Plan) -> None:
    for resource in _workloads(local_plan):
        spread = _pod(resource)["spec"]["topologySpreadConstraints"]
        keys = [constraint["topologyKey"] for constraint in spread]
        assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


def test_roles_wait_for_what_they_need(local_plan: Plan) -> None:
    for resource in _workloads(local_plan):
        role = ROLES.get(resource.name)
        waits = _pod(resource)["spec"].get("initContainers", [])
        if role is None or not role.needs:
            assert waits == []
            continue
        assert waits[0]["args"][0] == "wait"
        assert len(waits[0]["args"]) == 1 + len(role.needs)


def test_secrets_come_as_files_and_only_those_that_a_role_reads(local_plan: Plan) -> None:
    for resource in _workloads(local_plan):
        for container in _containers(resource):
            sources = [variable.get("valueFrom", {}) for variable in container.get("env", [])]
            assert all(set(source) <= {"fieldRef"} for source in sources)
        role = ROLES.get(resource.name)
        mounted = [
            item["key"]
            for volume in _pod(resource)["spec"]["volumes"]
            for item in volume.get("secret", {}).get("items", [])
        ]
        if role is not None:
            assert mounted == sorted(role.secrets)


def test_a_role_that_leads_is_told_the_address_of_its_pod(local_plan: Plan) -> None:
    told = {
        resource.name: variable["value"]
        for resource in _workloads(local_plan)
        for variable in _pod(resource)["spec"]["containers"][0].get("env", [])
        if variable["name"] == "APP_ADVERTISED_ADDRESS"
    }
    assert told == {"matching-engine": "http://$(POD_IP):8089"}
    engine = next(item for item in _workloads(local_plan) if item.name == "matching-engine")
    assert engine.inputs["spec"]["replicas"] == 2


def test_the_database_takes_the_pools_of_all_replicas(local_plan: Plan) -> None:
    pool = inspect.signature(Database).parameters["pool_size"].default
    assert 2 * pool == POOL_CONNECTIONS  # as many again overflow
    server = next(item for item in _workloads(local_plan) if item.name == "postgresql")
    arguments = _pod(server)["spec"]["containers"][0]["args"]
    assert arguments == ["-c", "max_connections=240"]


def test_metrics_are_announced(local_plan: Plan) -> None:
    for resource in _workloads(local_plan):
        if _kind(resource) == "Deployment":
            pod, role = _pod(resource), ROLES[resource.name]
            port = role.metrics_port or role.port
            assert pod["metadata"]["annotations"]["prometheus.io/scrape"] == "true"
            assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(port)
            assert port in [item["containerPort"] for item in pod["spec"]["containers"][0]["ports"]]


def test_no_role_is_reached_from_outside_but_through_envoy(local_plan: Plan) -> None:
    services = [item for item in local_plan.resources if item.type == "kubernetes:core/v1:Service"]
    assert {item.inputs["spec"]["type"] for item in services} == {"ClusterIP"}
    assert ROLES["gateway"].metrics_port not in (None, ROLES["gateway"].port)


def test_updates_lose_no_capacity(local_plan: Plan) -> None:
    for resource in _workloads(local_plan):
        if _kind(resource) != "Deployment":
            continue
        strategy = resource.inputs["spec"]["strategy"]
        assert strategy["rollingUpdate"]["maxUnavailable"] == 0


def _scalers(plan: Plan) -> list[Any]:
    kinds = ("HorizontalPodAutoscaler", "ScaledObject")
    return [item for item in plan.resources if item.custom and _kind(item) in kinds]


def test_no_replicas_where_an_autoscaler_owns_them(local_plan: Plan) -> None:
    by_use = {item.name for item in _scalers(local_plan) if _kind(item) == "HorizontalPodAutoscaler"}
    by_events = {item.name for item in _scalers(local_plan) if _kind(item) == "ScaledObject"}
    assert by_use == {"gateway", "auth", "frontend"}
    assert by_events == {"price-service", "order"}
    scaled = by_use | by_events
    for resource in _workloads(local_plan):
        if _kind(resource) == "Deployment":
            assert ("replicas" not in resource.inputs["spec"]) == (resource.name in scaled)


def test_everything_fits_two_cores_at_full_scale(local_plan: Plan) -> None:
    most = {
        item.name: item.inputs["spec"].get("maxReplicas") or item.inputs["spec"]["maxReplicaCount"]
        for item in _scalers(local_plan)
    }
    requested = sum(
        Cpu.parse(_pod(item)["spec"]["containers"][0]["resources"]["requests"]["cpu"])
        * most.get(item.name, item.inputs["spec"].get("replicas", 1))
        for item in _workloads(local_plan)
        if _kind(item) in LONG_RUNNING
    )
    assert requested <= Cpu.parse("1500m")


@pytest.mark.parametrize("name", ["migrate", "topics"])
def test_tasks_run_again_with_every_image(local_plan: Plan, name: str) -> None:
    job = next(item for item in _workloads(local_plan) if item.name == name)
    image = _pod(job)["spec"]["containers"][0]["image"]
    assert job.inputs["metadata"]["name"] == f"{name}-{image.rsplit(':', 1)[1]}"
    assert job.options.delete_before_replace


def test_jobs_run_when_the_role_table_says(local_plan: Plan) -> None:
    schedules = {
        item.name: item.inputs["spec"]["schedule"]
        for item in _workloads(local_plan)
        if _kind(item) == "CronJob"
    }
    assert schedules == {"housekeeping": "17 3 * * *"}


def test_what_needs_a_queue_of_the_cloud_is_not_on_one_machine(local_plan: Plan) -> None:
    assert ROLES["notification"].queue
    assert not [item.urn for item in local_plan.resources if item.urn.endswith("::notification")]
