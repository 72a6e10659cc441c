"""Who talks to whom: from security groups, from network policies, and from what refers to what."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from infra.plan.identity import physical_name
from infra.plan.model import PlannedResource, Secret

if TYPE_CHECKING:
    from infra.plan.diagram import Sketch

_INTERNET = "internet"
_EVERYWHERE = ("0.0.0.0/0", "::/0")
_GROUP = "aws:ec2/securityGroup:SecurityGroup"
_INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
_CLUSTER, _NODES = "aws:eks/cluster:Cluster", "aws:eks/nodeGroup:NodeGroup"
_BALANCER, _SUBNET = "aws:lb/loadBalancer:LoadBalancer", "aws:ec2/subnet:Subnet"
_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
_GROUPS_FROM = (
    *("vpcSecurityGroupIds", "securityGroupIds", "securityGroups", "vpcConfig"),
    *("brokerNodeGroupInfo", "networkConfiguration", "launchTemplate", "networkInterfaces"),
)

_LINKS = {
    "aws:sns/topicSubscription:TopicSubscription": ("topic", "endpoint", "messages"),
    "aws:lambda/eventSourceMapping:EventSourceMapping": ("eventSourceArn", "functionName", "events"),
    "aws:s3/bucketNotification:BucketNotification": ("bucket", "lambdaFunctions", "events"),
}
"""Resources that connect two others: properties of the source and of the target, and what flows."""

_SENDS = {
    "aws:sqs/queue:Queue": (("redrivePolicy", "dead letters"),),
    "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream": (("extendedS3Configuration", "records"),),
    "aws:lambda/function:Function": (("environment", "uses"), ("deadLetterConfig", "dead letters")),
    "aws:lb/loadBalancer:LoadBalancer": (("accessLogs", "access logs"),),
    "aws:cloudtrail/trail:Trail": (("s3BucketName", "audit log"),),
    "aws:ecs/service:Service": (("taskDefinition", "uses"),),
}
"""Properties by which a resource sends to another."""

_RECEIVES = {
    "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream": (("kinesisSourceConfiguration", "records"),),
}
"""Properties by which a resource reads from another."""


def of_security_groups(sketch: "Sketch") -> None:
    """Every ingress rule of a security group that something drawn has."""
    users = _group_users(sketch)
    networks = {str(item.inputs.get("cidrBlock")): item for item in sketch.of("aws:ec2/vpc:Vpc")}
    for rule in sketch.of(_INGRESS):
        targets = _members(sketch, users, rule, "securityGroupId")
        sources = _members(sketch, users, rule, "referencedSecurityGroupId")
        label, cidr = _ports(rule.inputs), rule.inputs.get("cidrIpv4") or rule.inputs.get("cidrIpv6")
        for target in targets:
            if cidr in _EVERYWHERE:
                sketch.flow(_INTERNET, target, label)
            elif isinstance(cidr, str):
                origin = "the network" if cidr in networks else cidr
                sketch.flows[sketch.stands_for[target], f"{label} from {origin}"] |= {}
            for source in sources:
                sketch.flow(source, target, label)


def of_services(sketch: "Sketch") -> None:
    """Subscriptions, event sources, dead letters and what functions are told of in their environment."""
    names = {name: item.urn for item in sketch.plan.resources if (name := _known_name(sketch, item))}
    for item in sketch.plan.resources:
        if item.type in _LINKS:
            source, target, label = _LINKS[item.type]
            for one in _ends(sketch, item, source, names):
                for other in _ends(sketch, item, target, names):
                    sketch.flow(one, other, label)
        for name, label in _SENDS.get(item.type, ()):
            for other in _ends(sketch, item, name, names):
                sketch.flow(item.urn, other, label)
        for name, label in _RECEIVES.get(item.type, ()):
            for one in _ends(sketch, item, name, names):
                sketch.flow(one, item.urn, label)


def of_network_policies(sketch: "Sketch") -> None:
    """Every flow that a network policy of one workload allows.

    A subnet as source stands for the load balancers in it, as target for what listens on the port there.
    """
    for policy in sketch.of(_POLICY):
        spec = policy.inputs.get("spec", {})
        namespace = physical_name(policy).partition("/")[0]
        own = sketch.workloads.get((namespace, _selected(spec.get("podSelector"))))
        if own is None:
            continue
        for label, peer in _peers(spec.get("ingress", []), "from"):
            cidr = peer.get("ipBlock", {}).get("cidr", "")
            sources = [_pods(sketch, peer, namespace), *_balancers(sketch, cidr)]
            for source in filter(None, sources):
                sketch.flow(source, own, label)
            if cidr in _EVERYWHERE:
                sketch.flow(_INTERNET, own, label)
            elif cidr and not any(sources):
                sketch.flows[own, f"{label} from {cidr}"] |= {}
        for label, peer in _peers(spec.get("egress", []), "to"):
            cidr = peer.get("ipBlock", {}).get("cidr", "")
            for target in filter(None, [_pods(sketch, peer, namespace), *_listening(sketch, cidr, label)]):
                sketch.flow(own, target, label)


def _group_users(sketch: "Sketch") -> dict[str, list[str]]:
    """URNs of what is drawn, by security group; nodes have those of their launch template."""
    users: dict[str, list[str]] = defaultdict(list)
    for urn in sketch.stands_for:
        for group in _groups(sketch, sketch.plan.by_urn[urn]):
            users[group].append(urn)
    return users


def _groups(sketch: "Sketch", resource: PlannedResource) -> Iterator[str]:
    for name in _GROUPS_FROM:
        for urn in resource.property_dependencies.get(name, ()):
            needed = sketch.plan.by_urn.get(urn)
            if needed is not None and needed.type == _GROUP:
                yield urn
            elif needed is not None and name == "launchTemplate":
                yield from _groups(sketch, needed)


def _members(sketch: "Sketch", users: Mapping[str, list[str]], rule: PlannedResource, name: str) -> list[str]:
    """What has the security groups of an input; the one that EKS makes for a cluster is its nodes'."""
    found: list[str] = []
    for urn in rule.property_dependencies.get(name, ()):
        needed = sketch.plan.by_urn.get(urn)
        if needed is not None and needed.type == _CLUSTER:
            nodes = [item.urn for item in sketch.of(_NODES) if item.parent == needed.parent]
            found += nodes or [urn]
        found += users.get(urn, ())
    return found


def _ports(rule: Mapping[str, Any]) -> str:
    protocol = str(rule.get("ipProtocol", "tcp")).upper()
    if protocol == "-1":
        return "all ports"
    first, last = rule.get("fromPort"), rule.get("toPort")
    return f"{protocol} {first}" if first == last else f"{protocol} {first} to {last}"


def _peers(rules: Iterable[Mapping[str, Any]], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each port of the rules with each peer."""
    for rule in rules:
        ports = [f"{item.get('protocol', 'TCP')} {item.get('port')}" for item in rule.get("ports", [])]
        for label in ports or ["all ports"]:
            for peer in rule.get(key, []):
                yield label, peer


def _selected(selector: Any) -> str:
    labels = selector.get("matchLabels", {}) if isinstance(selector, Mapping) else {}
    return str(labels.get("app.kubernetes.io/name", ""))


def _pods(sketch: "Sketch", peer: Mapping[str, Any], namespace: str) -> str:
    """The workload that a peer selects; empty when it selects none that is drawn."""
    if "podSelector" not in peer:
        return ""
    labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
    where = str(labels.get("kubernetes.io/metadata.name", namespace))
    return sketch.workloads.get((where, _selected(peer["podSelector"])), "")


def _balancers(sketch: "Sketch", cidr: str) -> list[str]:
    inside = _subnets(sketch, cidr)
    return [item.urn for item in sketch.of(_BALANCER) if sketch.subnets(item) & inside]


def _listening(sketch: "Sketch", cidr: str, label: str) -> list[str]:
    """What has a place in the subnet and is reached on the port, as its security group says."""
    inside = _subnets(sketch, cidr)
    reached = [target for target, port in sketch.flows if port == label and target in sketch.plan.by_urn]
    return [target for target in reached if sketch.subnets(sketch.plan.by_urn[target]) & inside]


def _subnets(sketch: "Sketch", cidr: str) -> set[str]:
    return {item.urn for item in sketch.of(_SUBNET) if cidr and item.inputs.get("cidrBlock") == cidr}


def _known_name(sketch: "Sketch", item: PlannedResource) -> str:
    return physical_name(item) if item.urn in sketch.stands_for and item.type.startswith("aws:") else ""


def _ends(sketch: "Sketch", item: PlannedResource, name: str, names: Mapping[str, str]) -> Iterator[str]:
    """What is drawn and named by an input: by reference, or by a physical name within its text."""
    found = dict.fromkeys(_reached(sketch, item, name))
    for text in _texts(item.inputs.get(name)):
        found |= dict.fromkeys(names[part] for part in re.split(r"[:/.]", text) if part in names)
    return (urn for urn in found if urn in sketch.stands_for and urn != item.urn)


def _reached(sketch: "Sketch", item: PlannedResource, name: str) -> Iterator[str]:
    for urn in item.property_dependencies.get(name, ()):
        yield urn
        needed = sketch.plan.by_urn.get(urn)
        if needed is not None and needed.type == "aws:ecs/taskDefinition:TaskDefinition":
            yield from needed.property_dependencies.get("containerDefinitions", ())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Secret):
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
