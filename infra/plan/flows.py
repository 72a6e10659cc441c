"""Who talks to whom: from security groups, from network policies, and from what refers to what."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
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
        targets = _members(sketch, users, rule.property_dependencies.get("securityGroupId", ()))
        sources = _members(sketch, users, rule.property_dependencies.get("referencedSecurityGroupId", ()))
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
    """Every flow that a network policy of one workload allows."""
    for policy in sketch.of(_POLICY):
        spec = policy.inputs.get("spec", {})
        namespace = physical_name(policy).partition("/")[0]
        own = sketch.workloads.get((namespace, _selected(spec.get("podSelector"))))
        if own is None:
            continue
        for rule in spec.get("ingress", []):
            for label in _policy_ports(rule):
                for peer in rule.get("from", []):
                    cidr = peer.get("ipBlock", {}).get("cidr")
                    if cidr in _EVERYWHERE:
                        sketch.flow(_INTERNET, own, label)
                    elif cidr:
                        sketch.flows[own, f"{label} from {cidr}"] |= {}
                    for source in _peers(sketch, peer, namespace):
                        sketch.flow(source, own, label)
        for rule in spec.get("egress", []):
            for label in _policy_ports(rule):
                for peer in rule.get("to", []):
                    for target in _peers(sketch, peer, namespace):
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


def _members(sketch: "Sketch", users: Mapping[str, list[str]], urns: tuple[str, ...]) -> Iterator[str]:
    """What has the security groups; the group that EKS makes for a cluster is that of its nodes."""
    for urn in urns:
        needed = sketch.plan.by_urn.get(urn)
        if needed is not None and needed.type == _CLUSTER:
            nodes = [item.urn for item in sketch.of(_NODES) if item.parent == needed.parent]
            yield from nodes or [urn]
        yield from users.get(urn, ())


def _ports(rule: Mapping[str, Any]) -> str:
    protocol = str(rule.get("ipProtocol", "tcp")).upper()
    if protocol == "-1":
        return "all ports"
    first, last = rule.get("fromPort"), rule.get("toPort")
    return f"{protocol} {first}" if first == last else f"{protocol} {first} to {last}"


def _policy_ports(rule: Mapping[str, Any]) -> list[str]:
    return [f"{item.get('protocol', 'TCP')} {item.get('port')}" for item in rule.get("ports", [])] or [
        "all ports"
    ]


def _selected(selector: Any) -> str:
    labels = selector.get("matchLabels", {}) if isinstance(selector, Mapping) else {}
    return str(labels.get("app.kubernetes.io/name", ""))


def _peers(sketch: "Sketch", peer: Mapping[str, Any], namespace: str) -> Iterator[str]:
    if "podSelector" not in peer:
        return
    labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
    where = str(labels.get("kubernetes.io/metadata.name", namespace))
    found = sketch.workloads.get((where, _selected(peer["podSelector"])))
    if found is not None:
        yield found


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
