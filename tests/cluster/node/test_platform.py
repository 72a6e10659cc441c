"""The add-ons of local stacks on the real node: they come up, do their work, and stay as they are."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra import kubeconfig
from infra.cluster.addons import platform
from infra.cluster.addons.platform import certificate
from infra.cluster.cluster import Cluster
from infra.errors import TradestackError
from infra.images import build, catalog
from infra.progress import Steps
from infra.render.kubectl import Kubectl
from infra.target import EmbeddedTarget

pytestmark = pytest.mark.cluster

Eventually = Callable[..., None]
QUIET = Steps(quiet=True)
NAMESPACE = "trading-monitoring"
WEB = "trading-system"
_USER = {
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "fsGroup": 65534,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def prepare(target: EmbeddedTarget) -> None:
    names = [*platform.IMAGES, "prometheus", "alertmanager", "base"]
    archives = build.ensure(names, QUIET)
    target.load({catalog.reference(name): archives[name] for name in names}, QUIET)
    platform.ensure(Kubectl(target), QUIET)
    certificate.ensure(Kubectl(target), target.state, [target.cluster.node_ip], QUIET)


@pytest.fixture(scope="module")
def target(cluster: Cluster) -> Iterator[EmbeddedTarget]:
    """The tests' cluster with the add-ons, and with the namespaces that they serve."""
    target = EmbeddedTarget(cluster.name)
    prepare(target)
    for name in (NAMESPACE, WEB):
        cluster.kubectl("create", "namespace", name)
    yield target
    cluster.kubectl("delete", "namespace", NAMESPACE, WEB)


def apply(cluster: Cluster, *manifests: dict[str, Any]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=text)


def instance(kind: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": kind,
        "metadata": {"name": "main", "namespace": NAMESPACE},
        "spec": {"replicas": 1, "securityContext": _USER, **spec},
    }


def conditions(cluster: Cluster, kind: str, name: str, namespace: str) -> dict[str, str]:
    found = json.loads(cluster.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
    return {item["type"]: item["status"] for item in found.get("status", {}).get("conditions", ())}


def test_the_external_metrics_api_answers(
    target: EmbeddedTarget, cluster: Cluster, eventually: Eventually
) -> None:
    def answers() -> bool:
        try:
            answer = json.loads(cluster.kubectl("get", "--raw", "/apis/external.metrics.k8s.io/v1beta1"))
        except TradestackError:
            return False
        return bool(answer["groupVersion"] == "external.metrics.k8s.io/v1beta1")

    eventually(answers)


def test_a_second_time_changes_nothing(target: EmbeddedTarget, cluster: Cluster) -> None:
    path = "{range .items[*]}{.kind}/{.metadata.name}={.metadata.generation}{.metadata.uid} {end}"

    def versions() -> str:
        kinds = "deployments,services,configmaps,serviceaccounts,roles"
        texts = [
            cluster.kubectl("get", kinds, "-n", addon.namespace, f"-o=jsonpath={path}")
            for addon in platform.ADDONS
        ]
        return "\n".join(texts)

    before = versions()
    prepare(target)
    assert versions() == before


def test_prometheus_is_made_from_its_resource_and_scales_a_workload(
    target: EmbeddedTarget, cluster: Cluster, eventually: Eventually
) -> None:
    """A rule's result reaches KEDA over Prometheus, and KEDA scales by it."""
    rule = {"record": "wanted_replicas", "expr": "vector(2)"}
    apply(
        cluster,
        instance(
            "Prometheus",
            image=catalog.reference("prometheus"),
            version="v3.14.0",
            ruleSelector={},
            # Without a selector of targets the operator leaves the configuration to others.
            serviceMonitorSelector={},
        ),
        instance("Alertmanager", image=catalog.reference("alertmanager"), version="v0.25.0"),
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "wanted", "namespace": NAMESPACE},
            "spec": {"groups": [{"name": "wanted", "interval": "5s", "rules": [rule]}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "scaled", "namespace": WEB},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "scaled"}},
                "template": {
                    "metadata": {"labels": {"app": "scaled"}},
                    "spec": {"containers": [{"name": "pause", "image": catalog.reference("pause")}]},
                },
            },
        },
    )
    for kind in ("prometheus", "alertmanager"):

        def available(kind: str = kind) -> bool:
            return conditions(cluster, kind, "main", NAMESPACE).get("Available") == "True"

        eventually(available, 240)
    apply(
        cluster,
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "scaled", "namespace": WEB},
            "spec": {
                "scaleTargetRef": {"name": "scaled"},
                "minReplicaCount": 1,
                "maxReplicaCount": 3,
                "pollingInterval": 5,
                "triggers": [
                    {
                        "type": "prometheus",
                        "metricType": "AverageValue",
                        "metadata": {
                            "serverAddress": f"http://prometheus-operated.{NAMESPACE}.svc.cluster.local:9090",
                            "query": "sum(wanted_replicas)",
                            "threshold": "1",
                            "ignoreNullValues": "false",
                        },
                    }
                ],
            },
        },
    )

    def replicas() -> bool:
        path = "-o=jsonpath={.status.readyReplicas}"
        return cluster.kubectl("get", "deployment", "scaled", "-n", WEB, path) == "2"

    eventually(replicas, 240)
    cluster.kubectl("delete", "scaledobject", "scaled", "-n", WEB)
    cluster.kubectl("delete", "prometheus,alertmanager", "main", "-n", NAMESPACE)


def test_a_gateway_serves_with_the_certificate_of_the_authority(
    target: EmbeddedTarget, cluster: Cluster, eventually: Eventually
) -> None:
    reference = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "test"}
    container = {"image": catalog.reference("envoy")}
    kubernetes = {
        "envoyDeployment": {"container": container},
        "envoyService": {"type": "NodePort", "name": "test"},
    }
    secret = {"name": certificate.SECRET, "namespace": certificate.NAMESPACE}
    listener = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [secret]}}
    apply(
        cluster,
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "test"},
            "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
        },
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyProxy",
            "metadata": {"name": "test", "namespace": WEB},
            "spec": {"provider": {"type": "Kubernetes", "kubernetes": kubernetes}},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "test", "namespace": WEB},
            "spec": {
                "gatewayClassName": "test",
                "infrastructure": {"parametersRef": reference},
                "listeners": [listener],
            },
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "test", "namespace": WEB},
            "spec": {
                "parentRefs": [{"name": "test"}],
                "rules": [
                    {
                        "filters": [
                            {"type": "RequestRedirect", "requestRedirect": {"hostname": "elsewhere.example"}}
                        ]
                    }
                ],
            },
        },
    )
    eventually(lambda: conditions(cluster, "gateway", "test", WEB).get("Programmed") == "True", 120)
    port = cluster.kubectl(
        "get", "service", "test", "-n", certificate.NAMESPACE, "-o=jsonpath={.spec.ports[0].nodePort}"
    )
    trust = ssl.create_default_context(cafile=str(certificate.authority_path(target.state)))

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trust), Stay)

    def redirected() -> bool:
        try:
            opener.open(f"https://{kubeconfig.address(target.kubeconfig)}:{port}/", timeout=30)
        except urllib.error.HTTPError as answer:
            return answer.headers["Location"].startswith("https://elsewhere.example")
        except OSError:
            return False  # the node port leads nowhere yet
        return False

    eventually(redirected, 60)
    cluster.kubectl("delete", "gateway", "test", "-n", WEB)
    cluster.kubectl("delete", "gatewayclass", "test")
    label = f"gateway.envoyproxy.io/owning-gateway-namespace={WEB}"
    # The proxy says when it has drained, instead of being waited for until its grace period is over.
    eventually(
        lambda: (
            not cluster.kubectl("get", "pods", "-n", certificate.NAMESPACE, "-l", label, "-o=name").strip()
        ),
        90,
    )
