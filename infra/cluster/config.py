"""Configuration files of the node's components."""

import base64
import json
import resource
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from infra.cluster.addresses import AddressPlan
from infra.cluster.instance import Instance
from infra.cluster.pki import Pair, write_private

CLUSTER_DOMAIN = "cluster.local"
CNI_PLUGINS = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins puts them."""
MAX_PODS = 110
_RESOLVERS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))


def kubeconfig(cluster: str, server: str, authority: Path, user: str, client: Pair) -> str:
    """A kubeconfig with everything inline, so that it works from any folder."""

    def inline(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    return _yaml(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": cluster,
                    "cluster": {"server": server, "certificate-authority-data": inline(authority)},
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": inline(client.certificate),
                        "client-key-data": inline(client.key),
                    },
                }
            ],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
            "current-context": cluster,
        }
    )


def kubelet(instance: Instance, plan: AddressPlan, *, authority: Path, serving: Pair) -> str:
    """KubeletConfiguration."""
    return _yaml(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
            "containerRuntimeEndpoint": f"unix://{instance.containerd_socket}",
            "clusterDomain": CLUSTER_DOMAIN,
            "clusterDNS": [str(plan.dns)],
            "resolvConf": str(instance.config / "resolv.conf"),
            "podLogsDir": str(instance.logs / "pods"),
            "volumePluginDir": str(instance.state / "kubelet" / "plugins" / "exec"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{instance.cgroup}",
            # Version 1 is deprecated, yet still what many machines and sandboxes mount.
            "failCgroupV1": False,
            "failSwapOn": False,
            "maxPods": MAX_PODS,
            # More than this process may have itself would need CAP_SYS_RESOURCE.
            "maxOpenFiles": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            # Lowering the score needs CAP_SYS_RESOURCE, which root may lack.
            "oomScoreAdj": 0,
            "makeIPTablesUtilChains": False,
            # There is no registry to fetch a collected image from again.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "imageMinimumGCAge": "87600h",
            # Absolute, because a well-filled large disk is no reason to evict.
            "evictionHard": {
                "memory.available": "200Mi",
                "nodefs.available": "512Mi",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "512Mi",
            },
            "containerLogMaxSize": "10Mi",
            "containerLogMaxFiles": 3,
            "serializeImagePulls": False,
        }
    )


def kube_proxy(kubeconfig_file: Path, plan: AddressPlan, node: str) -> str:
    """KubeProxyConfiguration."""
    return _yaml(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": node,
            "clientConnection": {"kubeconfig": str(kubeconfig_file)},
            "clusterCIDR": str(plan.pods),
            "detectLocalMode": "ClusterCIDR",
            "bindAddress": str(plan.node),
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "oomScoreAdj": 0,
            # These settings belong to the whole machine and are left as they are.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
                "udpTimeout": "0s",
                "udpStreamTimeout": "0s",
            },
        }
    )


def containerd(instance: Instance, *, pause_image: str, snapshotter: str) -> str:
    """Configuration of containerd, with everything below the instance's folders."""
    return f"""\
version = 2
root = "{instance.state}/containerd"
state = "{instance.run}/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{instance.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  # Lowering the score needs CAP_SYS_RESOURCE, which root may lack.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{snapshotter}"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{CNI_PLUGINS}"
  conf_dir = "{instance.config}/cni"
"""


def cni(instance: Instance, plan: AddressPlan) -> str:
    """Pod network: one routed link for each pod, so that the kernel's firewall sees all traffic between pods.

    A bridge would need br_netfilter for that.
    """
    plugins: list[dict[str, Any]] = [
        {
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "dataDir": str(instance.run / "addresses"),
                "ranges": [[{"subnet": str(plan.pods)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
    ]
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}, indent=2) + "\n"


def upstream_resolvers() -> list[str]:
    """The machine's name servers that can be reached from another network namespace."""
    for file in _RESOLVERS:
        if file.exists():
            lines = (line.split() for line in file.read_text().splitlines())
            servers = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
            usable = [server for server in servers if not ip_address(server.partition("%")[0]).is_loopback]
            if usable:
                return usable[:3]
    return []


def resolv_conf(servers: list[str]) -> str:
    """The file that pods with the machine's DNS policy see, the cluster's DNS server among them."""
    return "".join(f"nameserver {server}\n" for server in servers)


def write(files: Mapping[Path, str]) -> None:
    """Write the files, readable by their owner only."""
    for file, content in files.items():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(file, content.encode())


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False)
