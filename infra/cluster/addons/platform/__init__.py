"""Third-party controllers that a local stack's custom resources need, the same on every kind of cluster.

KEDA in the namespace `keda`, Envoy Gateway in `envoy-gateway-system`, prometheus-operator in
`monitoring-operator`.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

from infra.cluster import config
from infra.cluster.addons.platform import definitions
from infra.errors import TradestackError
from infra.images import catalog
from infra.process import CommandFailed
from infra.progress import Step, Steps
from infra.render.kubectl import Kubectl, as_list
from infra.settings.model import NAMESPACES

_MANIFESTS = Path(__file__).resolve().parent
_LABEL = "tradestack.internal/addon"
_CONTENT = "tradestack.internal/content"
_MANAGER = "tradestack-addons"
_WAIT_SECONDS = 300
_APPLY_SECONDS = 300
_ESTIMATE_S = 60


@dataclass(frozen=True)
class Addon:
    """One controller and what makes it usable."""

    name: str
    """Name of its manifest and of its definitions."""
    namespace: str
    deployments: tuple[str, ...]
    images: tuple[str, ...]
    """Images of the catalogue."""
    api: str | None = None
    """Name of the APIService that it answers for."""


ADDONS: tuple[Addon, ...] = (
    Addon(
        "keda",
        "keda",
        deployments=("keda-operator", "keda-metrics-apiserver"),
        images=("keda-operator", "keda-adapter"),
        api="v1beta1.external.metrics.k8s.io",
    ),
    Addon(
        "envoy-gateway",
        "envoy-gateway-system",
        deployments=("envoy-gateway",),
        images=("envoy-gateway", "envoy"),
    ),
    Addon(
        "prometheus-operator",
        "monitoring-operator",
        deployments=("prometheus-operator",),
        images=("prometheus-operator", "prometheus-config-reloader"),
    ),
)
"""Every add-on."""

IMAGES: tuple[str, ...] = tuple(name for addon in ADDONS for name in addon.images)
"""Images of the catalogue that the add-ons and what they make run."""

_WATCHED = (*NAMESPACES, "kube-system", *(addon.namespace for addon in ADDONS))
"""Namespaces whose monitors and rules count."""


def render(addon: Addon, steps: Steps) -> list[dict[str, Any]]:
    """All objects of `addon`, definitions first; its Deployments carry a hash of all of them.

    Raises:
        TradestackError: its module cannot be fetched.
    """
    values = {
        "domain": config.CLUSTER_DOMAIN,
        "namespaces": ",".join(_WATCHED),
        **{f"image_{name.replace('-', '_')}": catalog.reference(name) for name in addon.images},
    }
    text = Template((_MANIFESTS / f"{addon.name}.yaml").read_text()).substitute(values)
    content = hashlib.sha256(f"{definitions.content_hash(addon.name)}\0{text}".encode()).hexdigest()[:16]
    own = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    # The namespace comes before the roles that are in it.
    first, rest = own[:1], own[1:]
    found = [*definitions.objects(addon.name, steps), *rest]
    definition = [item for item in found if item["kind"] == "CustomResourceDefinition"]
    others = [item for item in found if item["kind"] != "CustomResourceDefinition"]
    for item in (*definition, *first, *others):
        labels = item["metadata"].setdefault("labels", {})
        labels[_LABEL] = addon.name
        if item["kind"] == "Deployment":
            item["metadata"].setdefault("annotations", {})[_CONTENT] = content
    return [*definition, *first, *others]


def ensure(kubectl: Kubectl, steps: Steps) -> None:
    """Bring the add-ons to what the manifests say and wait until they work; does nothing where they do.

    Raises:
        TradestackError: the cluster has a controller of that name that is not ours, refused something, or an
            add-on does not work within five minutes.
    """
    rendered = {addon.name: render(addon, steps) for addon in ADDONS}
    live = _live(kubectl)
    stale = [addon for addon in ADDONS if not _same(addon, rendered[addon.name], live)]
    if not stale and all(_works(addon, live) for addon in ADDONS):
        return
    with steps.step("KEDA, Envoy Gateway and prometheus-operator ready", estimate_s=_ESTIMATE_S) as step:
        for addon in stale:
            step.detail(f"applying {addon.name}")
            _apply(kubectl, addon, rendered[addon.name])
        for addon in ADDONS:
            _wait(kubectl, addon, step)


_Live = Mapping[tuple[str, str, str], Mapping[str, Any]]
"""Deployments and API services by kind, namespace and name."""


def _live(kubectl: Kubectl) -> _Live:
    namespaces = {addon.namespace for addon in ADDONS}
    found = kubectl.list("deployments,apiservices", "--all-namespaces")
    return {
        (item["kind"], namespace, item["metadata"]["name"]): item
        for item in found
        if (namespace := item["metadata"].get("namespace", "")) in namespaces or item["kind"] == "APIService"
    }


def _same(addon: Addon, rendered: Iterable[Mapping[str, Any]], live: _Live) -> bool:
    """Whether what the cluster has was applied from `rendered`.

    Raises:
        TradestackError: the cluster has a controller of that name, or its API, and it is not ours.
    """
    wanted = {
        item["metadata"]["name"]: item["metadata"]["annotations"][_CONTENT]
        for item in rendered
        if item["kind"] == "Deployment"
    }
    served = None if addon.api is None else live.get(("APIService", "", addon.api))
    if served is not None and _LABEL not in served["metadata"].get("labels", {}):
        raise TradestackError(
            f"the cluster has an APIService {addon.api} that Tradestack did not make",
            hint=f"remove the installation that answers it, such as another {addon.name}, or choose another "
            "cluster",
        )
    for name in addon.deployments:
        found = live.get(("Deployment", addon.namespace, name))
        if found is None:
            return False
        if _LABEL not in found["metadata"].get("labels", {}):
            raise TradestackError(
                f"the cluster has a Deployment {name} in {addon.namespace} that Tradestack did not make",
                hint=f"remove that installation of {addon.name}, or choose another cluster",
            )
        if found["metadata"].get("annotations", {}).get(_CONTENT) != wanted[name]:
            return False
    return addon.api is None or served is not None


def _works(addon: Addon, live: _Live) -> bool:
    deployments = [live["Deployment", addon.namespace, name] for name in addon.deployments]
    apis = [] if addon.api is None else [live["APIService", "", addon.api]]
    return all(_current(item) for item in deployments) and all(
        any(
            condition["type"] == "Available" and condition["status"] == "True"
            for condition in item.get("status", {}).get("conditions", ())
        )
        for item in (*deployments, *apis)
    )


def _current(deployment: Mapping[str, Any]) -> bool:
    status = deployment.get("status", {})
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    return bool(seen and status.get("updatedReplicas", 0) == deployment["spec"]["replicas"])


def _apply(kubectl: Kubectl, addon: Addon, rendered: Sequence[Mapping[str, Any]]) -> None:
    kinds = [item for item in rendered if item["kind"] == "CustomResourceDefinition"]
    rest = [item for item in rendered if item["kind"] != "CustomResourceDefinition"]
    names = [f"crd/{item['metadata']['name']}" for item in kinds]
    flags = ("--server-side", "--force-conflicts", f"--field-manager={_MANAGER}")
    kubectl("apply", *flags, "-f", "-", stdin=as_list(kinds), timeout=_APPLY_SECONDS)
    kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    for item in rest:
        if item["kind"] == "Job":
            # A Job cannot be changed; this one may run again at any time.
            place = f"--namespace={item['metadata']['namespace']}"
            kubectl("delete", "job", item["metadata"]["name"], place, "--ignore-not-found")
    kubectl("apply", *flags, "-f", "-", stdin=as_list(rest), timeout=_APPLY_SECONDS)


def _wait(kubectl: Kubectl, addon: Addon, step: Step) -> None:
    try:
        for name in addon.deployments:
            step.detail(name)
            rollout = ("rollout", "status", f"deployment/{name}", f"--timeout={_WAIT_SECONDS}s")
            kubectl("--namespace", addon.namespace, *rollout, timeout=_WAIT_SECONDS + 30)
        if addon.api is not None:
            step.detail(addon.api)
            available = ("--for=condition=Available", f"apiservice/{addon.api}")
            kubectl("wait", *available, f"--timeout={_WAIT_SECONDS}s", timeout=_WAIT_SECONDS + 30)
    except CommandFailed as error:
        raise TradestackError(
            f"the add-on {addon.name} does not work: {error}\n{_told(kubectl, addon)}",
            hint=f"kubectl -n {addon.namespace} get pods,events",
        ) from error


def _told(kubectl: Kubectl, addon: Addon) -> str:
    """The newest warnings about the add-on's pods."""
    events = kubectl.list("events", "--namespace", addon.namespace, "--sort-by=.lastTimestamp")
    told = [
        f"  {event['involvedObject']['kind']} {event['involvedObject']['name']}: {event.get('message', '')}"
        for event in events
        if event.get("type") == "Warning"
    ]
    return "\n".join(list(dict.fromkeys(told))[-3:])
