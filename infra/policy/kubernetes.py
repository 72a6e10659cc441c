"""Assertions about Kubernetes objects, beyond what Pod Security `restricted` asks for."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.policy.model import Estate, Resource, dig
from infra.policy.registry import assertion
from infra.policy.rules import is_set, many

_DEPLOYMENT = "kubernetes:apps/v1:Deployment"
_STATEFUL = "kubernetes:apps/v1:StatefulSet"
_DAEMON = "kubernetes:apps/v1:DaemonSet"
_JOB = "kubernetes:batch/v1:Job"
_CRON = "kubernetes:batch/v1:CronJob"
_POD = "kubernetes:core/v1:Pod"
_WORKLOADS = (_DEPLOYMENT, _STATEFUL, _DAEMON, _JOB, _CRON, _POD)
_REPLICATED = (_DEPLOYMENT, _STATEFUL)
_SERVERS = (_DEPLOYMENT, _STATEFUL, _DAEMON)
_NAMESPACE = "kubernetes:core/v1:Namespace"
_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
_BUDGET = "kubernetes:policy/v1:PodDisruptionBudget"
_HPA = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
_SCALED = "kubernetes:keda.sh/v1alpha1:ScaledObject"
_BINDINGS = (
    "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
    "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
)

_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
_LEAST_UID = 10_000
_DNS = 53
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_SPREAD = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
_AMOUNTS = ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory")


def template(workload: Resource) -> Mapping[str, Any]:
    """The pod template of a workload; empty where it is not known."""
    path = {_CRON: "spec.jobTemplate.spec.template", _POD: ""}.get(workload.type, "spec.template")
    found = workload.get(path) if path else workload.inputs
    return found if isinstance(found, Mapping) else {}


def _pod(workload: Resource) -> Mapping[str, Any]:
    found = dig(template(workload), "spec", {})
    return found if isinstance(found, Mapping) else {}


def containers(workload: Resource, *, initial: bool = True) -> list[Mapping[str, Any]]:
    """Containers of a workload's pods; those that run first too, unless `initial` is false."""
    first = many(dig(_pod(workload), "initContainers"))
    # One that restarts for ever is a sidecar.
    running = [item for item in first if initial or dig(item, "restartPolicy") == "Always"]
    found = [*many(dig(_pod(workload), "containers")), *running]
    return [item for item in found if isinstance(item, Mapping)]


def _namespace(item: Resource) -> str:
    return str(item.get("metadata.namespace", "default"))


def _name(item: Resource) -> str:
    return str(item.get("metadata.name"))


@assertion(52, "Probes and hooks go to the pod itself", on=_WORKLOADS, family="Kubernetes")
def own_probes(workload: Resource, estate: Estate) -> Iterator[str]:
    """A host in them makes the kubelet call whatever address it names."""
    for container in containers(workload):
        places = [*_PROBES, "lifecycle.postStart", "lifecycle.preStop"]
        for place in places:
            if any(dig(container, f"{place}.{kind}.host") for kind in ("httpGet", "tcpSocket")):
                yield f"{dig(container, 'name')}: {place} names a host"


@assertion(
    53,
    "Containers cannot write to their root, have no low UID, and in the cloud a fixed image",
    on=_WORKLOADS,
    family="Kubernetes",
)
def confined(workload: Resource, estate: Estate) -> Iterator[str]:
    """A UID above 10000 is nobody's on the node."""
    for container in containers(workload):
        name = dig(container, "name")
        if dig(container, "securityContext.readOnlyRootFilesystem") is not True:
            yield f"{name}: the root file system can be written to"
        shared = dig(_pod(workload), "securityContext.runAsUser")
        user = dig(container, "securityContext.runAsUser", shared)
        if isinstance(user, bool) or not isinstance(user, int) or user <= _LEAST_UID:
            yield f"{name}: the UID is {user}, not above {_LEAST_UID}"
        if estate.cloud and not _DIGEST.search(str(dig(container, "image"))):
            yield f"{name}: the image is not named by its digest"


@assertion(
    54,
    "Pods have a ServiceAccount of their own, a token only where used, and secrets as files",
    on=_WORKLOADS,
    family="Kubernetes",
)
def identity(workload: Resource, estate: Estate) -> Iterator[str]:
    """A token is used where the account has a role bound to it."""
    account = dig(_pod(workload), "serviceAccountName")
    if not isinstance(account, str) or account == "default":
        yield "the pods have no ServiceAccount of their own"
    shared = [
        _name(other)
        for other in estate.of(*_WORKLOADS)
        if other is not workload
        and _namespace(other) == _namespace(workload)
        and dig(_pod(other), "serviceAccountName") == account
    ]
    if shared:
        yield f"the ServiceAccount {account} is shared with {', '.join(sorted(shared))}"
    mounted = dig(_pod(workload), "automountServiceAccountToken")
    if mounted is not False and not _bound(account, _namespace(workload), estate):
        yield "the ServiceAccount's token is mounted but no role is bound to it"
    for container in containers(workload):
        secret = any(dig(item, "valueFrom.secretKeyRef") for item in many(dig(container, "env")))
        if secret or any(dig(item, "secretRef") for item in many(dig(container, "envFrom"))):
            yield f"{dig(container, 'name')}: a secret is in a variable instead of a file"


def _bound(account: Any, namespace: str, estate: Estate) -> bool:
    subjects = [item for binding in estate.of(*_BINDINGS) for item in binding.items("subjects")]
    return any(
        dig(item, "kind") == "ServiceAccount"
        and dig(item, "name") == account
        and dig(item, "namespace") == namespace
        for item in subjects
    )


@assertion(
    55,
    "Namespaces let nothing in or out but DNS unless a policy says so",
    on=[_NAMESPACE],
    family="Kubernetes",
)
def closed(namespace: Resource, estate: Estate) -> Iterator[str]:
    """A default-deny policy for both ways, and one that lets DNS out."""
    whole = [
        policy
        for policy in estate.of(_POLICY)
        if _namespace(policy) == _name(namespace) and policy.get("spec.podSelector") == {}
    ]
    for direction in ("Ingress", "Egress"):
        denying = [
            policy
            for policy in whole
            if direction in policy.items("spec.policyTypes") and not policy.given(f"spec.{direction.lower()}")
        ]
        if not denying:
            yield f"{direction.lower()} is not denied by default"
    ports = [
        port for policy in whole for rule in policy.items("spec.egress") for port in many(dig(rule, "ports"))
    ]
    if _DNS not in [dig(port, "port") for port in ports]:
        yield "DNS is not let out"


@assertion(
    56,
    "Containers have requests and limits, namespaces a quota and bounds",
    on=[*_WORKLOADS, _NAMESPACE],
    family="Kubernetes",
    severity="medium",
)
def bounded(item: Resource, estate: Estate) -> Iterator[str]:
    """Processor and memory, both ways."""
    if item.type == _NAMESPACE:
        for kind in ("ResourceQuota", "LimitRange"):
            found = estate.of(f"kubernetes:core/v1:{kind}")
            if not any(_namespace(other) == _name(item) for other in found):
                yield f"the namespace has no {kind}"
        return
    for container in containers(item):
        missing = [amount for amount in _AMOUNTS if not dig(container, f"resources.{amount}")]
        if missing:
            yield f"{dig(container, 'name')}: {', '.join(missing)} not set"


@assertion(
    57,
    "A node can always be drained, one pod at a time",
    on=_REPLICATED,
    family="Kubernetes",
    severity="medium",
)
def drained(workload: Resource, estate: Estate) -> Iterator[str]:
    """A disruption budget that pods which are not healthy never block."""
    budgets = [budget for budget in estate.of(_BUDGET) if _selects(budget, workload)]
    if not budgets:
        yield "there is no disruption budget"
    if not all(is_set(budget, "spec.unhealthyPodEvictionPolicy", "AlwaysAllow") for budget in budgets):
        yield "pods that are not healthy block a drain: unhealthyPodEvictionPolicy is not AlwaysAllow"


def _selects(budget: Resource, workload: Resource) -> bool:
    wanted = budget.get("spec.selector.matchLabels")
    labels = dig(template(workload), "metadata.labels")
    if not isinstance(wanted, Mapping) or not isinstance(labels, Mapping):
        return False
    same = all(labels.get(key) == value for key, value in wanted.items())
    return bool(wanted) and same and _namespace(budget) == _namespace(workload)


@assertion(
    58,
    "Pods are spread over zones and hosts",
    on=_REPLICATED,
    family="Kubernetes",
    severity="medium",
)
def spread(workload: Resource, estate: Estate) -> Iterator[str]:
    """So that one failure does not take all of them."""
    given = [dig(item, "topologyKey") for item in many(dig(_pod(workload), "topologySpreadConstraints"))]
    missing = [key for key in _SPREAD if key not in given]
    if missing:
        yield f"pods are not spread over {' and '.join(missing)}"


@assertion(
    59,
    "Servers say when they have started, live and are ready, each in its own way",
    on=_SERVERS,
    family="Kubernetes",
    severity="medium",
)
def probed(workload: Resource, estate: Estate) -> Iterator[str]:
    """A liveness probe that asks what readiness asks restarts pods for the failures of others."""
    for container in containers(workload, initial=False):
        name = dig(container, "name")
        missing = [probe for probe in _PROBES if not dig(container, probe)]
        if missing:
            yield f"{name}: {', '.join(missing)} missing"
        elif _action(container, "livenessProbe") == _action(container, "readinessProbe"):
            yield f"{name}: the live and the ready probe are the same"


def _action(container: Mapping[str, Any], probe: str) -> list[Any]:
    return [dig(container, f"{probe}.{kind}") for kind in ("httpGet", "tcpSocket", "exec", "grpc")]


@assertion(
    60,
    "One autoscaler for each workload, and nobody else sets its replicas",
    on=[_HPA, _SCALED],
    family="Kubernetes",
    severity="medium",
)
def scaled(scaler: Resource, estate: Estate) -> Iterator[str]:
    """Two of them would undo each other's work; so would a deployment."""
    target = _target(scaler)
    others = [
        f"{other.type.rsplit(':', 1)[-1]} {_name(other)}"
        for other in estate.of(_HPA, _SCALED)
        if other is not scaler and _target(other) == target
    ]
    if others:
        yield f"{target[1]} {target[2]} is scaled by {', '.join(others)} too"
    for workload in estate.of(*_REPLICATED):
        kind = workload.type.rsplit(":", 1)[-1]
        if (_namespace(workload), kind, _name(workload)) == target and workload.given("spec.replicas"):
            yield f"{kind} {_name(workload)} sets replicas itself"


def _target(scaler: Resource) -> tuple[str, str, str]:
    kind = scaler.get("spec.scaleTargetRef.kind", "Deployment")
    return _namespace(scaler), str(kind), str(scaler.get("spec.scaleTargetRef.name"))
