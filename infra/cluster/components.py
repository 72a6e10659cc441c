"""The programs of the node: how each is started and how one knows that it works."""

import json
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import httpx

from infra.cluster import config
from infra.cluster.addresses import AddressPlan
from infra.cluster.instance import Instance
from infra.cluster.pki import Authority, Pair, signing_key
from infra.process import CommandFailed, run

_PROBE_SECONDS = 5.0
_HTTP_OK = 200
_KUBE_NAMES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
"""Names by which the multi-call binary is called."""


@dataclass(frozen=True)
class Component:
    """One supervised program."""

    name: str
    command: list[str]
    ready: Callable[[], bool]
    """Answers within a few seconds and never raises."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the supervisor's own."""


@dataclass(frozen=True)
class Programs:
    """What the components are started from."""

    kube: Path
    """The multi-call binary."""
    etcd: Path
    pause_image: str
    """Reference of the image that holds a pod's namespaces."""
    snapshotter: str
    """containerd's snapshotter: `overlayfs`, or `native` where overlays cannot be mounted."""

    @classmethod
    def load(cls, instance: Instance) -> "Programs":
        """What `save` wrote."""
        known = json.loads(_programs_file(instance).read_text())
        return cls(Path(known["kube"]), Path(known["etcd"]), known["pause_image"], known["snapshotter"])

    def save(self, instance: Instance) -> None:
        """Write them where the instance's supervisor reads them."""
        _programs_file(instance).write_text(json.dumps(asdict(self), default=str))

    @staticmethod
    def saved_at(instance: Instance) -> datetime:
        """When the instance was started, in whole seconds, as Kubernetes counts."""
        return datetime.fromtimestamp(int(_programs_file(instance).stat().st_mtime), UTC)

    def running(self, instance: Instance) -> bool:
        """Whether these are the ones with which the instance was started."""
        return _programs_file(instance).exists() and Programs.load(instance) == self


def _programs_file(instance: Instance) -> Path:
    return instance.run / "programs.json"


def prepare(instance: Instance, plan: AddressPlan, programs: Programs) -> list[Component]:
    """Write keys and configuration of `instance` and return its components in their order of start."""
    authority = Authority(instance.pki, "ca")
    _link_programs(instance, programs.kube)
    etcd, store_flags = _etcd(instance, programs.etcd)
    clients = _kubeconfigs(instance, plan, authority)
    return [
        _containerd(instance, plan, programs),
        etcd,
        _apiserver(instance, plan, authority, store_flags),
        _controller_manager(instance, plan, authority, clients["kube-controller-manager"]),
        _scheduler(instance, clients["kube-scheduler"]),
        _kubelet(instance, plan, authority, clients["kubelet"]),
        _kube_proxy(instance, plan, clients["kube-proxy"]),
    ]


def _link_programs(instance: Instance, kube: Path) -> None:
    instance.bin.mkdir(parents=True, exist_ok=True)
    names = (
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
    )
    for name in names:
        link = instance.bin / name
        partial_link = link.with_name(f".{name}.{os.getpid()}")
        partial_link.symlink_to(kube)
        partial_link.rename(link)


def _kubeconfigs(instance: Instance, plan: AddressPlan, authority: Authority) -> dict[str, Path]:
    server = f"https://{plan.node}:6443"
    users = {
        "kube-controller-manager": ("system:kube-controller-manager", ()),
        "kube-scheduler": ("system:kube-scheduler", ()),
        "kube-proxy": ("system:kube-proxy", ()),
        "kubelet": (f"system:node:{instance.name}", ("system:nodes",)),
        "admin": ("tradestack-admin", ("system:masters",)),
    }
    files = {}
    for name, (user, groups) in users.items():
        client = authority.issue(name, user, groups=groups)
        files[name] = instance.kubeconfig if name == "admin" else instance.config / f"{name}.kubeconfig"
        content = config.kubeconfig(instance.name, server, authority.pair.certificate, user, client)
        config.write({files[name]: content})
    return files


def _etcd(instance: Instance, binary: Path) -> tuple[Component, list[str]]:
    """etcd, and the flags with which the API server reaches it."""
    authority = Authority(instance.pki / "etcd", "ca")
    server = authority.issue("server", "etcd", hosts=["localhost", IPv4Address("127.0.0.1")])
    client = authority.issue("client", "kube-apiserver")
    url = "https://127.0.0.1:2379"
    certificate = authority.pair.certificate
    command = [
        str(binary),
        f"--name={instance.name}",
        f"--data-dir={instance.state}/etcd",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        f"--initial-cluster={instance.name}=http://127.0.0.1:2380",
        "--listen-metrics-urls=http://127.0.0.1:2381",
        f"--cert-file={server.certificate}",
        f"--key-file={server.key}",
        f"--trusted-ca-file={certificate}",
        "--client-cert-auth",
        "--snapshot-count=10000",
        "--quota-backend-bytes=2147483648",
        "--log-level=warn",
    ]
    flags = [
        f"--etcd-servers={url}",
        f"--etcd-cafile={certificate}",
        f"--etcd-certfile={client.certificate}",
        f"--etcd-keyfile={client.key}",
    ]
    ready = partial(_answers, "http://127.0.0.1:2381/readyz")
    return Component("etcd", command, ready, _go_memory(limit_mib=256, gc_percent=50)), flags


def _containerd(instance: Instance, plan: AddressPlan, programs: Programs) -> Component:
    main = instance.config / "containerd.toml"
    content = config.containerd(instance, pause_image=programs.pause_image, snapshotter=programs.snapshotter)
    config.write({main: content, instance.config / "cni" / "10-pods.conflist": config.cni(instance, plan)})

    def ready() -> bool:
        try:
            run(["ctr", "--address", instance.containerd_socket, "version"], timeout=_PROBE_SECONDS)
        except CommandFailed:
            return False
        return True

    return Component("containerd", ["containerd", "--config", str(main)], ready)


def _apiserver(
    instance: Instance, plan: AddressPlan, authority: Authority, store_flags: list[str]
) -> Component:
    front = Authority(instance.pki / "front-proxy", "front-proxy-ca")
    front_client = front.issue("client", "front-proxy-client")
    kubelet_client = authority.issue("kubelet-client", "kube-apiserver", groups=["system:masters"])
    service = f"kubernetes.default.svc.{config.CLUSTER_DOMAIN}"
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", service]
    addresses = [plan.node, plan.api, IPv4Address("127.0.0.1")]
    serving = authority.issue("kube-apiserver", "kube-apiserver", hosts=[*names, *addresses])
    tokens = signing_key(instance.pki, "service-accounts")
    command = [
        str(instance.bin / "kube-apiserver"),
        *store_flags,
        f"--advertise-address={plan.node}",
        "--secure-port=6443",
        f"--service-cluster-ip-range={plan.services}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--client-ca-file={authority.pair.certificate}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--kubelet-certificate-authority={authority.pair.certificate}",
        f"--kubelet-client-certificate={kubelet_client.certificate}",
        f"--kubelet-client-key={kubelet_client.key}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer=https://{service}",
        f"--service-account-key-file={tokens.certificate}",
        f"--service-account-signing-key-file={tokens.key}",
        f"--requestheader-client-ca-file={front.pair.certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={front_client.certificate}",
        f"--proxy-client-key-file={front_client.key}",
        "--profiling=false",
    ]
    probe = authority.issue("probe", "tradestack-probe", groups=["system:masters"])
    ready = partial(_answers, f"https://{plan.node}:6443/readyz", authority.pair.certificate, probe)
    return Component("kube-apiserver", command, ready, _go_memory(limit_mib=768, gc_percent=40))


def _controller_manager(
    instance: Instance, plan: AddressPlan, authority: Authority, kubeconfig: Path
) -> Component:
    command = [
        str(instance.bin / "kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={authority.pair.certificate}",
        f"--service-account-private-key-file={signing_key(instance.pki, 'service-accounts').key}",
        f"--cluster-signing-cert-file={authority.pair.certificate}",
        f"--cluster-signing-key-file={authority.pair.key}",
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={plan.pods}",
        f"--node-cidr-mask-size={plan.pods.prefixlen}",
        f"--service-cluster-ip-range={plan.services}",
        "--profiling=false",
    ]
    ready = partial(_answers, "https://127.0.0.1:10257/healthz")
    return Component("kube-controller-manager", command, ready, _go_memory(limit_mib=256, gc_percent=40))


def _scheduler(instance: Instance, kubeconfig: Path) -> Component:
    command = [
        str(instance.bin / "kube-scheduler"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
    ]
    ready = partial(_answers, "https://127.0.0.1:10259/healthz")
    return Component("kube-scheduler", command, ready, _go_memory(limit_mib=128, gc_percent=40))


def _kubelet(instance: Instance, plan: AddressPlan, authority: Authority, kubeconfig: Path) -> Component:
    serving = authority.issue(
        "kubelet-serving", f"system:node:{instance.name}", hosts=[instance.name, plan.node]
    )
    main = instance.config / "kubelet.yaml"
    config.write(
        {
            main: config.kubelet(instance, plan, authority=authority.pair.certificate, serving=serving),
            instance.config / "resolv.conf": config.resolv_conf(config.upstream_resolvers()),
        }
    )
    command = [
        str(instance.bin / "kubelet"),
        f"--config={main}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={instance.state}/kubelet",
        f"--cert-dir={instance.pki}",
        f"--hostname-override={instance.name}",
        f"--node-ip={plan.node}",
        # Without it cAdvisor asks the machine's own containerd, and containers have no names in its metrics.
        f"--containerd={instance.containerd_socket}",
    ]
    ready = partial(_answers, "http://127.0.0.1:10248/healthz")
    return Component("kubelet", command, ready, _go_memory(limit_mib=192, gc_percent=50))


def _kube_proxy(instance: Instance, plan: AddressPlan, kubeconfig: Path) -> Component:
    main = instance.config / "kube-proxy.yaml"
    config.write({main: config.kube_proxy(kubeconfig, plan, instance.name)})
    ready = partial(_answers, "http://127.0.0.1:10256/healthz")
    command = [str(instance.bin / "kube-proxy"), f"--config={main}"]
    return Component("kube-proxy", command, ready, _go_memory(limit_mib=96, gc_percent=50))


def _go_memory(*, limit_mib: int, gc_percent: int) -> dict[str, str]:
    """Collect earlier than Go would by itself; the limit is a soft one."""
    return {"GOMEMLIMIT": f"{limit_mib}MiB", "GOGC": str(gc_percent)}


def _answers(url: str, authority: Path | None = None, client: Pair | None = None) -> bool:
    """Whether `url` answers 200; without an authority the certificate is not checked (loopback probes)."""
    context = None
    if url.startswith("https:"):
        context = ssl.create_default_context(cafile=authority)
        if authority is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
    try:
        return (
            httpx.get(url, verify=context or True, timeout=_PROBE_SECONDS, trust_env=False).status_code
            == _HTTP_OK
        )
    except (httpx.HTTPError, OSError):
        return False
