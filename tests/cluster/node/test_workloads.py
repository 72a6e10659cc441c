"""What pods can rely on, seen on the real node."""

import json
from collections.abc import Callable

import httpx
import pytest

from infra.cluster.cluster import Cluster
from infra.errors import TradestackError
from infra.images import catalog

pytestmark = pytest.mark.cluster

Eventually = Callable[..., None]
IMAGE = catalog.reference("base")
SECURE = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(name: str, command: list[str], *, memory: str = "64Mi", claim: str | None = None) -> str:
    """A pod as JSON; with a claim its volume is at /data."""
    container: dict[str, object] = {
        "name": "main",
        "image": IMAGE,
        "command": command,
        "resources": {"limits": {"memory": memory, "cpu": "500m"}},
        "securityContext": SECURE,
    }
    spec: dict[str, object] = {
        "containers": [container],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
    }
    if claim is not None:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec,
    }
    return json.dumps(document)


def phase(cluster: Cluster, namespace: str, name: str) -> str:
    return cluster.kubectl("-n", namespace, "get", "pod", name, "-o=jsonpath={.status.phase}")


def test_the_node_is_ready_and_tells_its_version(cluster: Cluster, eventually: Eventually) -> None:
    eventually(lambda: cluster.status().ready)
    node = json.loads(cluster.kubectl("get", "node", cluster.name, "-o=json"))
    ready = {item["type"]: item["status"] for item in node["status"]["conditions"]}
    assert ready["Ready"] == "True"
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3"


def test_restricted_pods_run_and_can_be_read_and_entered(
    cluster: Cluster, namespace: str, eventually: Eventually
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    shell = ["sh", "-c", "echo hello from the pod; exec sleep 600"]
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=pod("talker", shell))
    eventually(lambda: phase(cluster, namespace, "talker") == "Running")
    eventually(lambda: "hello from the pod" in cluster.kubectl("-n", namespace, "logs", "talker"))
    assert cluster.kubectl("-n", namespace, "exec", "talker", "--", "id", "-u").strip() == "10001"


def test_pod_security_refuses_what_the_namespace_forbids(
    cluster: Cluster, namespace: str, eventually: Eventually
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")

    def run(*options: str) -> str:
        try:
            return cluster.kubectl("-n", namespace, "run", "lax", f"--image={IMAGE}", *options, "--", "true")
        except TradestackError as error:
            return str(error)

    # The API server learns of a label a moment after it has taken it.
    eventually(lambda: "violates PodSecurity" in run("--dry-run=server"))
    assert "violates PodSecurity" in run()


def test_a_pod_over_its_memory_limit_is_killed(
    cluster: Cluster, namespace: str, eventually: Eventually
) -> None:
    hog = pod("hog", ["python3", "-c", "b = bytearray(512 * 2**20); print(len(b))"], memory="48Mi")
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=hog)
    reason = "-o=jsonpath={.status.containerStatuses[0].state.terminated.reason}"
    eventually(lambda: cluster.kubectl("-n", namespace, "get", "pod", "hog", reason) == "OOMKilled")


def test_services_answer_by_name_in_pods_and_by_node_port_here(
    cluster: Cluster, namespace: str, eventually: Eventually
) -> None:
    server = pod("server", ["python3", "-m", "http.server", "8080", "--directory", "/etc"])
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=server)
    cluster.kubectl(
        "-n",
        namespace,
        "expose",
        "pod",
        "server",
        "--name=web",
        "--port=80",
        "--target-port=8080",
        "--type=NodePort",
    )
    port = cluster.kubectl("-n", namespace, "get", "service", "web", "-o=jsonpath={.spec.ports[0].nodePort}")
    eventually(lambda: phase(cluster, namespace, "server") == "Running")

    def from_here() -> bool:
        try:
            return (
                httpx.get(f"http://{cluster.node_ip}:{port}/hostname", trust_env=False).text.strip()
                == "server"
            )
        except httpx.HTTPError:
            return False

    eventually(from_here)
    fetch = (
        "import urllib.request as u; print(u.urlopen('http://{host}/hostname', timeout=5).read().decode())"
    )
    for host in ("web", f"web.{namespace}.svc.cluster.local"):
        # From the pod behind the Service, so that the way back to itself is tried as well.
        command = ("python3", "-c", fetch.format(host=host))

        def answers(command: tuple[str, ...] = command) -> bool:
            try:
                told = cluster.kubectl("-n", namespace, "exec", "server", "--", *command)
            except TradestackError:
                return False  # the name is not known yet
            return told.strip() == "server"

        eventually(answers)


def test_pods_reach_the_api_with_their_service_account(
    cluster: Cluster, namespace: str, eventually: Eventually
) -> None:
    script = (
        "import ssl, urllib.request as u; d = '/var/run/secrets/kubernetes.io/serviceaccount/';"
        "c = ssl.create_default_context(cafile=d + 'ca.crt');"
        "r = u.Request('https://kubernetes.default.svc/version',"
        " headers={'Authorization': 'Bearer ' + open(d + 'token').read()});"
        "print(u.urlopen(r, context=c, timeout=10).read().decode())"
    )
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=pod("caller", ["python3", "-c", script]))
    eventually(lambda: phase(cluster, namespace, "caller") == "Succeeded")
    assert "v1.36.3" in cluster.kubectl("-n", namespace, "logs", "caller")


def test_a_volume_outlives_its_pod_and_goes_with_its_claim(
    cluster: Cluster, namespace: str, eventually: Eventually
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "store"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
    }
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(claim))
    write = pod("writer", ["sh", "-c", "echo kept > /data/file"], claim="store")
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=write)
    eventually(lambda: phase(cluster, namespace, "writer") == "Succeeded", seconds=120)
    cluster.kubectl("-n", namespace, "delete", "pod", "writer")
    read = pod("reader", ["cat", "/data/file"], claim="store")
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=read)
    eventually(lambda: phase(cluster, namespace, "reader") == "Succeeded")
    assert cluster.kubectl("-n", namespace, "logs", "reader").strip() == "kept"
    folders = list(cluster.instance.volumes.glob(f"*_{namespace}_store"))
    assert len(folders) == 1
    cluster.kubectl("-n", namespace, "delete", "pod", "reader")
    cluster.kubectl("-n", namespace, "delete", "pvc", "store")
    eventually(lambda: not folders[0].exists())


def test_usage_of_node_and_pods_is_measured(cluster: Cluster, eventually: Eventually) -> None:
    def measured() -> bool:
        try:
            pods = cluster.kubectl("-n", "kube-system", "top", "pod")
            return cluster.name in cluster.kubectl("top", "node") and "coredns" in pods
        except TradestackError:
            return False

    eventually(measured)
