"""The flows that one workload is allowed; everything else is closed by its namespace."""

from collections.abc import Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes.networking import v1 as networking

from components.kubernetes.meta import metadata, selector


@dataclass(frozen=True, order=True)
class Pods:
    """The pods of one workload."""

    namespace: str
    name: str


@dataclass(frozen=True, order=True)
class Space:
    """Every pod of a namespace."""

    namespace: str


@dataclass(frozen=True, order=True)
class Network:
    """Addresses outside the cluster."""

    cidr: str


@dataclass(frozen=True)
class Allow:
    """One allowed direction between the workload and a peer, on one TCP port."""

    peer: Pods | Space | Network
    port: int


@dataclass(frozen=True)
class NetworkPolicyArgs:
    """Allowed flows of one workload."""

    namespace: str
    """Namespace of the workload."""
    ingress: Sequence[Allow] = ()
    """Who may open connections to it; the port is the workload's."""
    egress: Sequence[Allow] = ()
    """Where it may open connections to; the port is the peer's."""


class NetworkPolicy(ComponentResource):
    """The network policy of a workload; the component's name is the workload's."""

    def __init__(self, name: str, args: NetworkPolicyArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:NetworkPolicy", name, None, opts)
        spec: networking.NetworkPolicySpecArgsDict = {
            "pod_selector": {"match_labels": selector(name)},
            "policy_types": ["Ingress", "Egress"],
        }
        if args.ingress:
            spec["ingress"] = [
                {"from_": [_peer(allow.peer)], "ports": [_port(allow)]} for allow in args.ingress
            ]
        if args.egress:
            spec["egress"] = [{"to": [_peer(allow.peer)], "ports": [_port(allow)]} for allow in args.egress]
        networking.NetworkPolicy(
            name, metadata=metadata(name, args.namespace), spec=spec, opts=ResourceOptions(parent=self)
        )
        self.register_outputs({})


def _peer(peer: Pods | Space | Network) -> networking.NetworkPolicyPeerArgsDict:
    if isinstance(peer, Network):
        return {"ip_block": {"cidr": peer.cidr}}
    found: networking.NetworkPolicyPeerArgsDict = {
        "namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": peer.namespace}}
    }
    if isinstance(peer, Pods):
        found["pod_selector"] = {"match_labels": selector(peer.name)}
    return found


def _port(allow: Allow) -> networking.NetworkPolicyPortArgsDict:
    return {"port": allow.port, "protocol": "TCP"}
