"""The diagram: what is in it, where it stands, who talks to whom, and that it can be read."""

from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from infra.plan import Plan
from infra.plan.diagram import INTERNET, draw, svg
from infra.plan.drawing import Box, Cells, Drawing, Flow, Group, render
from infra.plan.model import UNKNOWN, PlannedResource
from tests.plan.synthetic import plan, resource, urn
from tests.plan.test_flows import ALLOWED

_NS = "{http://www.w3.org/2000/svg}"
VPC = urn("aws:ec2/vpc:Vpc", "network")
SUBNET, GROUP = "aws:ec2/subnet:Subnet", "aws:ec2/securityGroup:SecurityGroup"
RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"


def _subnet(tier: str, zone: str, cidr: str) -> PlannedResource:
    inputs = {"availabilityZone": f"us-east-1{zone}", "cidrBlock": cidr, "tags": {"Tier": tier}}
    return resource(SUBNET, f"{tier}-{zone}", {**inputs, "vpcId": UNKNOWN}, needs={"vpcId": [VPC]})


def _subnets(tier: str) -> list[str]:
    return [urn(SUBNET, f"{tier}-a"), urn(SUBNET, f"{tier}-b")]


def _rule(name: str, target: str, source: str = "", **inputs: Any) -> PlannedResource:
    needs = {"securityGroupId": [target], "referencedSecurityGroupId": [source] if source else []}
    return resource(RULE, name, {"ipProtocol": "tcp", **inputs}, needs=needs)


@pytest.fixture(scope="module")
def cloud() -> Plan:
    """Two zones, three tiers, a balancer, nodes, a database in a subnet group, dead letters."""
    nat, cluster = "aws:ec2/natGateway:NatGateway", "aws:eks/cluster:Cluster"
    balancer, group = urn(GROUP, "balancer"), urn(GROUP, "database")
    dead = urn("aws:sqs/queue:Queue", "dead")
    database = {"engineVersion": "17", "instanceClass": "db.r8g.large", "dbSubnetGroupName": "g"}
    needs = {
        "dbSubnetGroupName": [urn("aws:rds/subnetGroup:SubnetGroup", "g")],
        "vpcSecurityGroupIds": [group],
    }
    return plan(
        resource("aws:ec2/vpc:Vpc", "network", {"cidrBlock": "10.0.0.0/16"}),
        *(_subnet(tier, zone, f"10.0.{n}.0/24") for n, (tier, zone) in enumerate(_places())),
        resource(nat, "nat-a", needs={"subnetId": [urn(SUBNET, "public-a")]}),
        resource(GROUP, "balancer"),
        resource(GROUP, "database"),
        resource(
            "aws:lb/loadBalancer:LoadBalancer",
            "edge",
            {"loadBalancerType": "application"},
            needs={"subnets": _subnets("public"), "securityGroups": [balancer]},
        ),
        resource(cluster, "eks", {"version": "1.35"}, needs={"vpcConfig": _subnets("private")}),
        resource(
            "aws:eks/nodeGroup:NodeGroup",
            "general",
            {"scalingConfig": {"minSize": 1, "maxSize": 3}, "instanceTypes": ["m7g.large"]},
            needs={"subnetIds": _subnets("private")},
        ),
        resource("aws:eks/nodeGroup:NodeGroup", "spot", needs={"subnetIds": _subnets("private")}),
        resource("aws:rds/subnetGroup:SubnetGroup", "g", needs={"subnetIds": _subnets("data")}),
        resource("aws:rds/instance:Instance", "db", database, needs=needs),
        _rule("https", balancer, cidrIpv4="0.0.0.0/0", fromPort=443, toPort=443),
        _rule("sql", group, urn(cluster, "eks"), fromPort=5433, toPort=5433),
        _rule("pods", urn(cluster, "eks"), balancer, fromPort=8081, toPort=8081),
        _rule("inside", group, cidrIpv4="10.0.0.0/16", fromPort=9090, toPort=9090),
        resource("kubernetes:apps/v1:Deployment", "api", {"metadata": {"name": "api", "namespace": "n"}}),
        resource(
            "kubernetes:networking.k8s.io/v1:NetworkPolicy",
            "api",
            {"metadata": {"name": "api", "namespace": "n"}, "spec": _policy()},
        ),
        resource("aws:sqs/queue:Queue", "dead", {"name": "dead"}),
        resource("aws:sqs/queue:Queue", "orders", {"name": "orders"}, needs={"redrivePolicy": [dead]}),
    )


def _policy() -> dict[str, Any]:
    """From the public subnets, from an office, to the data subnets."""

    def rule(key: str, cidr: str, port: int) -> dict[str, Any]:
        return {key: [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": port, "protocol": "TCP"}]}

    return {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "api"}},
        "ingress": [rule("from", "10.0.0.0/24", 8081), rule("from", "192.0.2.0/24", 8081)],
        "egress": [rule("to", "10.0.4.0/24", 5433), rule("to", "10.0.4.0/24", 6379)],
    }


def _places() -> list[tuple[str, str]]:
    return [(tier, zone) for tier in ("public", "private", "data") for zone in ("a", "b")]


def _boxes(children: Iterable[Any]) -> Iterator[tuple[str, Box]]:
    for child in children:
        if isinstance(child, Group):
            yield from ((f"{child.title}/{where}", box) for where, box in _boxes(child.children))
        elif isinstance(child, Box):
            yield "", child


def _flows(drawing: Drawing) -> set[tuple[str, str, str]]:
    labels = {box.id: box.label for _, box in _boxes(drawing.children)}
    return {
        (labels[source] if source else "", labels[flow.target], flow.label)
        for flow in drawing.flows
        for source in (flow.sources or ("",))
    }


def test_everything_stands_in_its_tier(cloud: Plan) -> None:
    places = {box.label: where for where, box in _boxes(draw(cloud).children)}
    network = "Network network 10.0.0.0/16/"
    assert places == {
        "Internet": "",
        "Load balancer edge": f"{network}public subnets/",
        "EKS control plane eks": f"{network}private subnets/",
        "EKS nodes general": f"{network}private subnets/",
        "EKS nodes spot": f"{network}private subnets/",
        "PostgreSQL db": f"{network}data subnets/",
        "api": "Namespace n/",
        "Queue dead": "Services/",
        "Queue orders": "Services/",
    }


def test_subnets_stand_by_zone_with_what_is_only_in_them(cloud: Plan) -> None:
    network = next(child for child in draw(cloud).children if isinstance(child, Group))
    public = next(group for group in network.children if isinstance(group, Group))
    cells = next(child for child in public.children if isinstance(child, Cells)).cells
    assert [(cell.label, cell.detail, cell.lines) for cell in cells] == [
        ("us-east-1a", "10.0.0.0/24", ("NAT gateway",)),
        ("us-east-1b", "10.0.1.0/24", ()),
    ]


def test_flows_come_from_security_groups_and_references(cloud: Plan) -> None:
    assert _flows(draw(cloud)) == {
        ("Internet", "Load balancer edge", "TCP 443"),
        ("EKS nodes general", "PostgreSQL db", "TCP 5433"),
        ("EKS nodes spot", "PostgreSQL db", "TCP 5433"),
        ("Load balancer edge", "EKS nodes general", "TCP 8081"),
        ("Load balancer edge", "EKS nodes spot", "TCP 8081"),
        ("", "PostgreSQL db", "TCP 9090 from the network"),
        ("Queue orders", "Queue dead", "dead letters"),
        ("Load balancer edge", "api", "TCP 8081"),
        ("", "api", "TCP 8081 from 192.0.2.0/24"),
        ("api", "PostgreSQL db", "TCP 5433"),
    }


def test_flows_of_the_local_stack_are_those_of_its_network_policies(local_plan: Plan) -> None:
    found = {(source, target, int(label.split()[1])) for source, target, label in _flows(draw(local_plan))}
    drawn = {box.label for _, box in _boxes(draw(local_plan).children)}
    expected = {
        ("Internet" if source == "0.0.0.0/0" else source, target, port) for source, target, port in ALLOWED
    }
    assert found == {flow for flow in expected if {flow[0], flow[1]} <= drawn}
    assert len(found) >= 10


def _crowd() -> Drawing:
    boxes = [Box(f"b{n}", f"workload-{n}", "Deployment, 3 replicas") for n in range(30)]
    flows = [
        Flow(f"b{n}", f"TCP {8000 + n}", tuple(f"b{m}" for m in range(30) if m != n and m % 7 == n % 7))
        for n in range(30)
    ]
    inner = Group("Namespace a", tuple(boxes[:20]))
    return Drawing("crowd", (Box(INTERNET, "Internet"), Group("Outer", (inner, *boxes[20:]))), tuple(flows))


def _rects(root: ElementTree.Element, kind: str) -> list[tuple[float, float, float, float]]:
    found = []
    for item in root.iter(f"{_NS}rect"):
        if item.get("class") == kind:
            x, y, width, height = (float(item.attrib[name]) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


DRAWINGS = ["cloud", "local", "crowd"]


@pytest.fixture
def picture(request: pytest.FixtureRequest, cloud: Plan, local_plan: Plan) -> tuple[Drawing, str]:
    made = {"cloud": draw(cloud), "local": draw(local_plan), "crowd": _crowd()}[request.param]
    return made, render(made)


@pytest.mark.parametrize("picture", DRAWINGS, indirect=True)
def test_every_label_is_there_and_no_box_meets_another(picture: tuple[Drawing, str]) -> None:
    drawing, text = picture
    root = ElementTree.fromstring(text)
    texts = ["".join(item.itertext()) for item in root.iter(f"{_NS}text")]
    for _, box in _boxes(drawing.children):
        assert any(label.startswith(box.label) for label in texts), box.label
    for flow in drawing.flows:
        assert flow.label in texts
    for one, other in combinations(_rects(root, "box"), 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)


@pytest.mark.parametrize("picture", DRAWINGS, indirect=True)
def test_everything_is_on_the_paper(picture: tuple[Drawing, str]) -> None:
    root = ElementTree.fromstring(picture[1])
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for x0, y0, x1, y1 in [*_rects(root, "box"), *_rects(root, "group")]:
        assert 0 < x0 < x1 < width
        assert 0 < y0 < y1 < height


@pytest.mark.parametrize("picture", DRAWINGS, indirect=True)
def test_labels_of_ports_do_not_meet(picture: tuple[Drawing, str]) -> None:
    root = ElementTree.fromstring(picture[1])
    heights = sorted(float(item.attrib["y"]) for item in root.iter(f"{_NS}text") if item.get("class") == "p")
    assert all(below - above >= 12 for above, below in pairwise(heights))


def test_flows_that_share_a_vertical_do_not_touch() -> None:
    root = ElementTree.fromstring(render(_crowd()))
    runs: dict[float, list[tuple[float, float]]] = {}
    for item in root.iter(f"{_NS}path"):
        for piece in item.attrib["d"].split("M")[1:]:
            if "V" in piece:
                start, end = piece.split("V")
                x, low = (float(number) for number in start.split())
                runs.setdefault(x, []).append((low, float(end)))
    assert len(runs) > 5
    for spans in runs.values():
        for (_, end), (start, _) in pairwise(sorted(spans)):
            assert end < start


def test_names_are_escaped() -> None:
    text = svg(plan(resource("aws:s3/bucket:Bucket", "<script>&", {"bucket": "<b>"})))
    assert "<script>" not in text
    assert ElementTree.fromstring(text) is not None


def test_a_plan_with_nothing_to_draw_is_an_empty_page() -> None:
    assert ElementTree.fromstring(svg(plan(resource("aws:kms/key:Key", "k")))) is not None
