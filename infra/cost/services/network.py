"""NAT, addresses, endpoints, load balancers, data transfer, DNS."""

from collections.abc import Iterator
from decimal import Decimal

from infra.cost.context import Charge, Context, count, use
from infra.cost.inputs import Inputs
from infra.cost.model import HOURS

NAT = "aws:ec2/natGateway:NatGateway"
VPC = "aws:ec2/vpc:Vpc"
ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"


def vpc(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Data transfer of what runs in the network: to the internet, and between zones in both directions."""
    nodes = context.nodes / count(context.of_type(VPC))
    yield use(context, "egress_gb", context.price("transfer", "internet"), "data to the internet", nodes)
    # Billed to the sender and to the receiver: every GB counts twice.
    zones = context.usage.take("inter_az_gb", nodes) * 2
    price = context.price("transfer", "between-zones")
    yield Charge("data between zones, both directions", zones, price, assumption="inter_az_gb")


def nat_gateway(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Hours of a NAT gateway and its share of the data."""
    yield Charge("NAT gateway", HOURS, context.price("nat", "gateway"))
    share = context.nodes / count(context.of_type(NAT))
    yield use(context, "nat_gb", context.price("nat", "data"), "data processed", share)


def address(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """A public IPv4 address, in use or not."""
    yield Charge("public IPv4 address", HOURS, context.price("ipv4", "address"))


def endpoint(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """An interface endpoint in each of its zones; gateway endpoints are free."""
    if not _is_interface(inputs):
        return
    zones = Decimal(len(inputs.items("subnetIds", 3)))
    what = f"interface endpoint in {zones} zones"
    yield Charge(what, zones * HOURS, context.price("endpoint", "interface"))
    others = (context.inputs(other) for other in context.of_type(ENDPOINT))
    share = context.nodes / count(other for other in others if _is_interface(other))
    yield use(context, "endpoint_gb", context.price("endpoint", "data"), "data processed", share)


def _is_interface(inputs: Inputs) -> bool:
    return inputs.text("vpcEndpointType", "Gateway") == "Interface"


def load_balancer(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Hours and capacity units of a load balancer, and its public addresses."""
    kind = inputs.text("loadBalancerType", "application")
    units = {"application": "alb_lcu", "network": "nlb_lcu"}
    yield Charge(f"{kind} load balancer", HOURS, context.price("elb", kind))
    yield use(context, units[kind], context.price("elb", f"{kind}-lcu"), "capacity units", HOURS)
    subnets = inputs.items("subnets", 3) or inputs.items("subnetMappings", 3)
    # Elastic addresses of a network load balancer are resources of their own.
    own = [item for item in subnets if not (isinstance(item, dict) and "allocationId" in item)]
    if own and not inputs.flag("internal"):
        addresses = Decimal(len(own))
        price = context.price("ipv4", "address")
        yield Charge(f"{addresses} public IPv4 addresses", addresses * HOURS, price)


def zone(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """A hosted zone and its queries."""
    yield Charge("hosted zone", Decimal(1), context.price("route53", "zone"))
    yield use(context, "dns_millions", context.price("route53", "queries"), "queries")


def health_check(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """A health check of an endpoint outside AWS, the dearer kind; HTTPS is an option that costs."""
    yield Charge("health check", Decimal(1), context.price("route53", "health-check"))
    if inputs.text("type", "HTTP").startswith("HTTPS"):
        yield Charge("HTTPS option", Decimal(1), context.price("route53", "health-check-option"))
