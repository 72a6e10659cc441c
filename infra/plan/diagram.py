"""What runs where in a stack and who talks to whom, read from its plan."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.plan import drawing, flows
from infra.plan.drawing import Box, Cell, Cells, Drawing, Flow, Group
from infra.plan.identity import physical_name
from infra.plan.model import Plan, PlannedResource

INTERNET = "internet"
"""Id of the box of whoever comes from outside."""

SUBNET = "aws:ec2/subnet:Subnet"
CLUSTER = "aws:eks/cluster:Cluster"
NODES = "aws:eks/nodeGroup:NodeGroup"
_ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
_FUNCTION = "aws:lambda/function:Function"
_DATABASE = "aws:rds/instance:Instance"
_CACHE = "aws:elasticache/replicationGroup:ReplicationGroup"
_KAFKA = "aws:msk/cluster:Cluster"
_BALANCER = "aws:lb/loadBalancer:LoadBalancer"

_TIERS = ("public", "private", "data")
_IN_ONE_SUBNET = {"aws:ec2/natGateway:NatGateway": "NAT gateway", "aws:ec2/instance:Instance": "Machine"}
_PLACED = {
    _BALANCER: "Load balancer",
    CLUSTER: "EKS control plane",
    NODES: "EKS nodes",
    "aws:ecs/service:Service": "ECS service",
    _FUNCTION: "Function",
    _ENDPOINT: "Endpoints",
    _DATABASE: "PostgreSQL",
    _CACHE: "Valkey",
    _KAFKA: "Kafka",
}
"""What has a place in the network, when it names subnets."""
_SHARED = {_ENDPOINT, _FUNCTION}
"""Types of which those of one component stand in one box."""

_SUBNETS_FROM = (
    *("subnetId", "subnetIds", "subnets", "vpcConfig", "dbSubnetGroupName", "subnetGroupName"),
    *("brokerNodeGroupInfo", "networkConfiguration", "replicateSourceDb"),
)

_REGIONAL = {
    "aws:route53/zone:Zone": "DNS zone",
    "aws:wafv2/webAcl:WebAcl": "Web firewall",
    "aws:sns/topic:Topic": "Topic",
    "aws:sqs/queue:Queue": "Queue",
    _FUNCTION: "Function",
    "aws:kinesis/stream:Stream": "Stream",
    "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream": "Delivery stream",
    "aws:s3/bucket:Bucket": "Bucket",
    "aws:ecr/repository:Repository": "Image repository",
    "aws:codepipeline/pipeline:Pipeline": "Pipeline",
    "aws:cloudtrail/trail:Trail": "Trail",
    "aws:backup/vault:Vault": "Backup vault",
}
"""Services beside the network, in the order in which they are drawn."""

_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


def svg(plan: Plan) -> str:
    """The diagram as an SVG document that needs nothing else."""
    return drawing.render(draw(plan))


def draw(plan: Plan) -> Drawing:
    """Networks with their subnets, services beside them, namespaces with their workloads, and all flows."""
    sketch = Sketch(plan)
    groups = [*_networks(sketch), *_regional(sketch), *_namespaces(sketch)]
    flows.of_security_groups(sketch)
    flows.of_services(sketch)
    flows.of_network_policies(sketch)
    outside = [Box(INTERNET, "Internet")] if sketch.uses_internet else []
    found = [Flow(target, label, tuple(sources)) for (target, label), sources in sketch.flows.items()]
    found.sort(key=lambda flow: list(sketch.boxes).index(flow.target))
    return Drawing(f"{plan.project}-{plan.stack}", (*outside, *groups), tuple(found))


@dataclass
class Sketch:
    """What has been drawn so far."""

    plan: Plan
    boxes: dict[str, Box] = field(default_factory=dict)
    """Boxes by id, which is the URN of the first resource they stand for, in the order of the drawing."""
    stands_for: dict[str, str] = field(default_factory=dict)
    """Id of the box of each resource that is drawn, by URN."""
    workloads: dict[tuple[str, str], str] = field(default_factory=dict)
    """Ids of boxes of workloads, by namespace and name."""
    flows: dict[tuple[str, str], dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    """Ids of the sources, in order, by id of the target and label."""
    uses_internet: bool = False

    def add(self, box: Box, resources: Sequence[PlannedResource]) -> Box:
        """Draw a box for one or more resources."""
        self.boxes[box.id] = box
        self.stands_for |= {item.urn: box.id for item in resources}
        return box

    def of(self, *types: str) -> list[PlannedResource]:
        """Resources of these types."""
        return [item for item in self.plan.resources if item.type in types]

    def flow(self, source: str, target: str, label: str) -> None:
        """Connect the boxes of two URNs; nothing happens when one of them is not drawn."""
        to = self.stands_for.get(target)
        start = source if source == INTERNET else self.stands_for.get(source)
        if to and start and to != start:
            self.flows[to, label][start] = None
            self.uses_internet |= start == INTERNET

    def subnets(self, resource: PlannedResource) -> set[str]:
        """URNs of the subnets a resource is in, through subnet groups too."""
        found: set[str] = set()
        for name in _SUBNETS_FROM:
            for urn in resource.property_dependencies.get(name, ()):
                needed = self.plan.by_urn.get(urn)
                if needed is not None and needed.type == SUBNET:
                    found.add(urn)
                elif needed is not None and (
                    needed.type.endswith(":SubnetGroup") or name == "replicateSourceDb"
                ):
                    found |= self.subnets(needed)
        return found


def _networks(sketch: Sketch) -> Iterator[Group]:
    for vpc in sketch.of("aws:ec2/vpc:Vpc"):
        own = [item for item in sketch.of(SUBNET) if vpc.urn in item.property_dependencies.get("vpcId", ())]
        tiers = sorted({_tier(item) for item in own}, key=lambda name: (*_TIERS, name).index(name))
        content: list[Box | Group | Cells] = [
            _tier_group(sketch, tier, [item for item in own if _tier(item) == tier]) for tier in tiers
        ]
        gateways = [item for item in sketch.of(_ENDPOINT) if item.inputs.get("vpcEndpointType") == "Gateway"]
        if gateways:
            names = ", ".join(_service(item) for item in gateways)
            content.append(sketch.add(Box(gateways[0].urn, "Gateway endpoints", names), gateways))
        yield Group(f"Network {vpc.name} {vpc.inputs.get('cidrBlock', '')}", tuple(content))


def _tier(subnet: PlannedResource) -> str:
    tags = subnet.inputs.get("tags") or {}
    named = next((tier for tier in _TIERS if tier in subnet.name.split("-")), "other")
    return str(tags.get("Tier", named)).lower()


def _tier_group(sketch: Sketch, tier: str, subnets: Sequence[PlannedResource]) -> Group:
    ordered = sorted(subnets, key=lambda item: (str(item.inputs.get("availabilityZone")), item.name))
    urns = [item.urn for item in ordered]
    inside: dict[str, list[str]] = defaultdict(list)
    for item in sketch.of(*_IN_ONE_SUBNET):
        for urn in sketch.subnets(item) & set(urns):
            inside[urn].append(_IN_ONE_SUBNET[item.type])
    cells = [
        Cell(
            str(item.inputs.get("availabilityZone")),
            str(item.inputs.get("cidrBlock")),
            tuple(inside[item.urn]),
        )
        for item in ordered
    ]
    boxes = []
    for items in _bars(sketch):
        places = [urns.index(urn) for urn in set().union(*map(sketch.subnets, items)) if urn in urns]
        if places and items[0].urn not in sketch.stands_for:
            box = Box(items[0].urn, _label(items), _detail(items), (min(places), max(places)))
            boxes.append(sketch.add(box, items))
    return Group(f"{tier} subnets", (Cells(tuple(cells)), *boxes))


def _bars(sketch: Sketch) -> list[list[PlannedResource]]:
    """Resources by the box they stand in, in the order of the table of what is placed."""
    groups: dict[tuple[str, ...], list[PlannedResource]] = {}
    for type_ in _PLACED:
        for item in sketch.of(type_):
            key = (type_, item.parent) if type_ in _SHARED else (type_, item.urn)
            if type_ not in _SHARED or sketch.subnets(item):
                groups.setdefault(key, []).append(item)
    return list(groups.values())


def _label(items: Sequence[PlannedResource]) -> str:
    first = items[0]
    if first.type == _ENDPOINT:
        return "Interface endpoints"
    if first.type in _SHARED and len(items) > 1:
        return f"{_PLACED[first.type]}s"
    return f"{_PLACED[first.type]} {first.name}"


def _detail(items: Sequence[PlannedResource]) -> str:
    """What tells a box apart from its like, from the inputs of its resources."""
    first, inputs = items[0], items[0].inputs
    if first.type == _ENDPOINT:
        return ", ".join(_service(item) for item in items)
    if len(items) > 1:
        return ", ".join(item.name for item in items)
    if first.type == NODES:
        scaling = inputs.get("scalingConfig", {})
        types = " or ".join(map(str, inputs.get("instanceTypes", [])))
        spot = ", spot" if inputs.get("capacityType") == "SPOT" else ""
        return f"{scaling.get('minSize')} to {scaling.get('maxSize')} of {types}{spot}"
    zones = "two zones" if inputs.get("multiAz") else ""
    facts: dict[str, Sequence[Any]] = {
        CLUSTER: (inputs.get("version"),),
        _DATABASE: (inputs.get("engineVersion"), inputs.get("instanceClass"), zones),
        _CACHE: (inputs.get("engine"), inputs.get("engineVersion"), inputs.get("nodeType"), _nodes(inputs)),
        _KAFKA: (inputs.get("kafkaVersion"), f"{inputs.get('numberOfBrokerNodes')} brokers"),
        _BALANCER: (inputs.get("loadBalancerType"), "internal" if inputs.get("internal") else "public"),
    }
    return ", ".join(str(fact) for fact in facts.get(first.type, ()) if fact and isinstance(fact, str | int))


def _nodes(inputs: Any) -> str:
    if groups := inputs.get("numNodeGroups"):
        return f"{groups} shards"
    count = inputs.get("numCacheClusters")
    return f"{count} nodes" if count else ""


def _service(endpoint: PlannedResource) -> str:
    """`ecr.api` of `com.amazonaws.us-east-1.ecr.api`."""
    return ".".join(str(endpoint.inputs.get("serviceName", "")).split(".")[3:])


def _regional(sketch: Sketch) -> Iterator[Group]:
    boxes = []
    for type_, label in _REGIONAL.items():
        for item in sketch.of(type_):
            if item.urn not in sketch.stands_for:
                box = Box(item.urn, f"{label} {item.name}", _outside_name(item))
                boxes.append(sketch.add(box, [item]))
    if boxes:
        region = next((str(item.inputs.get("region", "")) for item in sketch.of("pulumi:providers:aws")), "")
        yield Group(f"Services {region}".strip(), tuple(boxes))


def _outside_name(item: PlannedResource) -> str:
    name = physical_name(item)
    return "" if name == item.name else name


def _namespaces(sketch: Sketch) -> Iterator[Group]:
    scaled = {_scaled(item): item for item in sketch.plan.resources if item.type.endswith(_SCALERS)}
    found: dict[str, list[Box]] = defaultdict(list)
    for item in sketch.plan.resources:
        kind = item.type.rpartition(":")[2]
        if not item.type.startswith("kubernetes:") or kind not in _WORKLOADS:
            continue
        namespace, _, name = physical_name(item).partition("/")
        name = _pods(item.inputs.get("spec")) or name
        detail = kind
        if (namespace, name) in scaled:
            detail += f", {_range(scaled[namespace, name])} replicas"
        elif kind in ("Deployment", "StatefulSet") and isinstance(item.inputs.get("spec"), dict):
            replicas = item.inputs["spec"].get("replicas", 1)
            detail += f", {replicas} replica{'' if replicas == 1 else 's'}"
        box = sketch.add(Box(item.urn, name, detail), [item])
        sketch.workloads[namespace, name] = box.id
        found[namespace].append(box)
    for namespace, boxes in found.items():
        yield Group(f"Namespace {namespace}", tuple(boxes))


def _pods(spec: Any) -> str:
    """The name that a workload's pods carry; a Job's own has a revision in it."""
    while isinstance(spec, dict):
        labels = spec.get("metadata", {}).get("labels", {})
        if "app.kubernetes.io/name" in labels:
            return str(labels["app.kubernetes.io/name"])
        spec = spec.get("template") or spec.get("jobTemplate") or spec.get("spec")
    return ""


_SCALERS = (":HorizontalPodAutoscaler", ":ScaledObject")


def _scaled(scaler: PlannedResource) -> tuple[str, str]:
    namespace = physical_name(scaler).partition("/")[0]
    return namespace, str(scaler.inputs.get("spec", {}).get("scaleTargetRef", {}).get("name"))


def _range(scaler: PlannedResource) -> str:
    spec = scaler.inputs["spec"]
    low = spec.get("minReplicas", spec.get("minReplicaCount", 1))
    return f"{low} to {spec.get('maxReplicas', spec.get('maxReplicaCount'))}"
