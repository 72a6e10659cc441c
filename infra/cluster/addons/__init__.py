"""What every cluster has beside the node itself: DNS, resource metrics and a default storage class."""

import base64
from pathlib import Path
from string import Template

from infra.cluster import config
from infra.cluster.instance import Instance
from infra.cluster.node import Kubectl
from infra.cluster.pki import Authority
from infra.errors import TradestackError
from infra.images import catalog
from infra.progress import Step

IMAGES = ("coredns", "metrics-server", "local-path-provisioner", "base")
"""Images that the add-ons run; `base` is the shell in which storage folders are made and removed."""
_MANIFESTS = Path(__file__).resolve().parent
_DEPLOYMENTS = (
    ("kube-system", "coredns"),
    ("kube-system", "metrics-server"),
    ("local-path-storage", "local-path-provisioner"),
)
_WAIT_SECONDS = 120
_METRICS_HOST = "metrics-server.kube-system.svc"


def render(instance: Instance) -> str:
    """All add-on objects as YAML.

    Raises:
        TradestackError: the instance has no addresses yet.
    """
    plan = instance.kept_addresses()
    if plan is None:
        raise TradestackError(f"cluster {instance.name!r} has no addresses yet")
    authority = Authority(instance.pki, "ca")
    metrics = authority.kept("metrics-server", _METRICS_HOST, hosts=[_METRICS_HOST])
    values = {
        "dns": str(plan.dns),
        "domain": config.CLUSTER_DOMAIN,
        "forward": "forward . /etc/resolv.conf" if config.upstream_resolvers() else "",
        "volumes": str(instance.volumes),
        "authority": _base64(authority.pair.certificate),
        "metrics_certificate": _base64(metrics.certificate),
        "metrics_key": _base64(metrics.key),
        **{f"image_{name.replace('-', '_')}": catalog.reference(name) for name in IMAGES},
    }
    manifests = (Template(file.read_text()).substitute(values) for file in sorted(_MANIFESTS.glob("*.yaml")))
    return "---\n".join(manifests)


def apply(kubectl: Kubectl, instance: Instance) -> None:
    """Bring the add-ons to what the manifests say; changes nothing that is so already."""
    flags = ("--server-side", "--force-conflicts", "--field-manager=tradestack-cluster")
    kubectl("apply", *flags, "-f", "-", stdin=render(instance))


def wait(kubectl: Kubectl, step: Step) -> None:
    """Wait until the add-ons work.

    Raises:
        TradestackError: one does not within two minutes.
    """
    for namespace, name in _DEPLOYMENTS:
        step.detail(name)
        kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", f"--timeout={_WAIT_SECONDS}s")
    step.detail("metrics API")
    condition = "--for=condition=Available"
    kubectl("wait", condition, "apiservice/v1beta1.metrics.k8s.io", f"--timeout={_WAIT_SECONDS}s")


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
