"""Assertions about the network."""

from collections.abc import Iterator

from infra.plan.model import UNKNOWN
from infra.policy.model import Estate, Resource, dig
from infra.policy.registry import assertion
from infra.policy.rules import EVERYWHERE, SUBNET, is_set, many, number

_VPC = "aws:ec2/vpc:Vpc"
_FLOW_LOG = "aws:ec2/flowLog:FlowLog"
_DEFAULT_GROUP = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
_NAT = "aws:ec2/natGateway:NatGateway"
_ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
_GROUP = "aws:ec2/securityGroup:SecurityGroup"
_INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
_RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"

_SERVICES = ("s3", "ecr.api", "ecr.dkr", "sts", "logs", "ssm", "secretsmanager")
_HTTPS = 443


@assertion(10, "Every VPC keeps flow logs", "EC2.6", on=[_VPC], family="VPC", severity="medium")
def flow_logs(vpc: Resource, estate: Estate) -> Iterator[str]:
    """Of all traffic, accepted or not."""
    if not any(is_set(log, "trafficType", "ALL") for log in estate.users(vpc, "vpcId", _FLOW_LOG)):
        yield "the VPC has no flow log of all traffic"


@assertion(11, "The default security group lets nothing through", "EC2.2", on=[_VPC], family="VPC")
def default_group(vpc: Resource, estate: Estate) -> Iterator[str]:
    """It is taken over and emptied, since AWS makes it open."""
    groups = estate.users(vpc, "vpcId", _DEFAULT_GROUP)
    if not groups:
        yield "the VPC's default security group is left as AWS makes it, open within itself"
    if any(group.given(rules) for group in groups for rules in ("ingress", "egress")):
        yield "the default security group has rules"


@assertion(12, "No subnet gives out public addresses by itself", "EC2.15", on=[SUBNET], family="VPC")
def public_addresses(subnet: Resource, estate: Estate) -> Iterator[str]:
    """Not even a public one: load balancers and NAT gateways bring their own."""
    if subnet.get("mapPublicIpOnLaunch", False) not in (False, None):
        yield "instances get a public address by themselves"


@assertion(13, "Production has a NAT gateway in every zone", on=[_VPC], family="VPC", severity="medium")
def nat(vpc: Resource, estate: Estate) -> Iterator[str]:
    """So that the loss of one zone leaves the others with a way out."""
    if not estate.production:
        return
    wanted = {subnet.get("availabilityZone") for subnet in estate.users(vpc, "vpcId", SUBNET)}
    gateways = [
        subnet.get("availabilityZone")
        for gateway in estate.of(_NAT)
        for subnet in estate.targets(gateway, "subnetId", SUBNET)
    ]
    missing = {str(zone) for zone in wanted} - {zone for zone in gateways if isinstance(zone, str)}
    if missing:
        yield f"no NAT gateway in {', '.join(sorted(missing))}"


@assertion(
    14,
    "AWS services are reached through endpoints of the VPC",
    "EC2.10",
    on=[_VPC],
    family="VPC",
    severity="medium",
)
def endpoints(vpc: Resource, estate: Estate) -> Iterator[str]:
    """S3, ECR, STS, logs, SSM and Secrets Manager."""
    found = [str(item.get("serviceName")) for item in estate.users(vpc, "vpcId", _ENDPOINT)]
    missing = [service for service in _SERVICES if not any(name.endswith(f".{service}") for name in found)]
    if missing:
        yield f"no VPC endpoint for {', '.join(missing)}"


@assertion(
    15,
    "Nothing but port 443 is open to everybody",
    "EC2.18",
    on=[_GROUP, _INGRESS, _RULE],
    family="VPC",
    severity="critical",
)
def open_ingress(item: Resource, estate: Estate) -> Iterator[str]:
    """Rules inside a security group count as those of their own."""
    if item.type == _INGRESS:
        sources = [item.get("cidrIpv4"), item.get("cidrIpv6")]
        yield from _open(sources, number(item, "fromPort"), number(item, "toPort"))
    elif item.type == _RULE:
        if not is_set(item, "type", "egress"):
            sources = [*item.items("cidrBlocks"), *item.items("ipv6CidrBlocks")]
            yield from _open(sources, number(item, "fromPort"), number(item, "toPort"))
    else:
        for rule in item.items("ingress"):
            sources = [*many(dig(rule, "cidrBlocks")), *many(dig(rule, "ipv6CidrBlocks"))]
            yield from _open(sources, dig(rule, "fromPort"), dig(rule, "toPort"))


def _open(sources: list[object], first: object, last: object) -> Iterator[str]:
    if first == last == _HTTPS:
        return
    for source in sources:
        if source in EVERYWHERE:
            yield f"ports {first} to {last} are open to everybody ({source}); only {_HTTPS} may be"
        elif source is UNKNOWN:
            yield "who may connect is not known before a deployment"
