"""The VPC of a stack: three tiers of subnets, what leads out of them, and what watches them."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.addresses import Layout, Subnet, layout
from components.aws.identity import Role, RoleArgs, Statement, policy, trust
from components.aws.scope import Scope
from components.skips import Skip

_ANYWHERE, _ANYWHERE_V6 = "0.0.0.0/0", "::/0"
# EKS puts load balancers of Services where it finds these tags.
_ROLE_TAGS = {"public": "kubernetes.io/role/elb", "private": "kubernetes.io/role/internal-elb"}
_ENDPOINT = re.compile(r"[a-z0-9][a-z0-9.-]*")
_INTERVALS = (60, 600)
_GATEWAY_SERVICES = ("s3", "dynamodb")
_UNPRIVILEGED_PORTS = (1024, 65535)


@dataclass(frozen=True)
class NetworkArgs:
    """Size and outlets of a VPC."""

    scope: Scope
    """Names and account."""
    cidr: str
    """Its addresses, from `/16` to `/19`; cannot be changed afterwards."""
    zones: Sequence[str]
    """Availability zones, one to six; subnets of one zone never move when others come or go."""
    nat_per_zone: bool
    """A NAT gateway in each zone, so that a zone's failure cuts off no other; else one in the first."""
    interface_endpoints: Sequence[str]
    """Services reached without leaving the VPC, by short name, such as `ecr.api`."""
    log_key_arn: Input[str]
    """Key of the flow logs; its policy must let CloudWatch Logs use it."""
    flow_log_days: int
    """Days the flow logs are kept; one of CloudWatch's retention periods."""
    more_cidrs: Sequence[str] = ()
    """Further ranges of private subnets for when pods run out of addresses; append only."""
    ipv6: bool = False
    """Gives the public subnets IPv6 addresses too, so that a load balancer can be reached over IPv6."""
    flow_log_interval_seconds: int = 600
    """Span that one flow record sums up: 60 or 600; 60 tells more and costs more."""


class Network(ComponentResource):
    """A VPC in which only load balancers and NAT gateways face the internet.

    Private subnets reach out through NAT; data subnets reach the private ones and nothing else.
    """

    vpc_id: Output[str]
    """Id of the VPC."""
    public_subnet_ids: list[Output[str]]
    """For load balancers, in the order of the zones; known once their routes are there."""
    private_subnet_ids: list[Output[str]]
    """For nodes and functions, in the order of the zones, further ranges last; known once their routes are
    there."""
    data_subnet_ids: list[Output[str]]
    """For databases, caches and brokers, in the order of the zones."""
    public_cidrs: list[str]
    """Addresses of the public subnets."""
    private_cidrs: list[str]
    """Addresses of the private subnets."""
    data_cidrs: list[str]
    """Addresses of the data subnets."""
    cidr: str
    """First range of the VPC."""

    def __init__(self, name: str, args: NetworkArgs, opts: ResourceOptions | None = None) -> None:
        _check(args)
        # Refuses ranges that cannot be, before anything is registered.
        found = layout(args.cidr, args.zones, args.more_cidrs)
        super().__init__("tradestack:aws:Network", name, None, opts)
        self._name, self._args, self._scope = name, args, args.scope
        self._child = ResourceOptions(parent=self)
        self.cidr = args.cidr
        self.public_cidrs = [item.cidr for item in found.public]
        self.private_cidrs = [item.cidr for item in found.private]
        self.data_cidrs = [item.cidr for item in found.data]
        self._vpc = self._make_vpc()
        self.vpc_id = self._vpc.id
        self._ids = self._make_subnets(found)
        self._ways: dict[str, list[Output[str]]] = {}
        private_tables = self._make_routes(found)
        self.public_subnet_ids = [self._with_routes(item) for item in found.public]
        self.private_subnet_ids = [self._with_routes(item) for item in found.private]
        self.data_subnet_ids = [self._ids[item.name] for item in found.data]
        self._close_data_subnets(found)
        self._make_endpoints(found, private_tables)
        self._watch()
        self.register_outputs({"vpc_id": self.vpc_id})

    def _tags(self, *parts: str, **more: str) -> dict[str, str]:
        return self._scope.tags(self._scope.name(self._name, *parts), **more)

    def _make_vpc(self) -> aws.ec2.Vpc:
        vpc = aws.ec2.Vpc(
            self._name,
            cidr_block=self.cidr,
            enable_dns_support=True,
            enable_dns_hostnames=True,
            assign_generated_ipv6_cidr_block=self._args.ipv6,
            tags=self._tags(),
            opts=self._child,
        )
        # AWS makes these three with every VPC. Taken over and emptied, they let nothing through that was
        # put nowhere in particular.
        aws.ec2.DefaultSecurityGroup(
            self._name, vpc_id=vpc.id, ingress=[], egress=[], tags=self._tags("closed"), opts=self._child
        )
        aws.ec2.DefaultRouteTable(
            self._name,
            default_route_table_id=vpc.default_route_table_id,
            routes=[],
            tags=self._tags("closed"),
            opts=self._child,
        )
        return vpc

    def _make_subnets(self, found: Layout) -> dict[str, Output[str]]:
        joined = [
            aws.ec2.VpcIpv4CidrBlockAssociation(
                f"{self._name}-{number}", vpc_id=self._vpc.id, cidr_block=cidr, opts=self._child
            )
            for number, cidr in enumerate(self._args.more_cidrs, 2)
        ]
        ids: dict[str, Output[str]] = {}
        for subnet in found.subnets:
            role = _ROLE_TAGS.get(subnet.tier)
            with_v6 = self._args.ipv6 and subnet.tier == "public"
            made = aws.ec2.Subnet(
                f"{self._name}-{subnet.name}",
                vpc_id=self._vpc.id,
                cidr_block=subnet.cidr,
                availability_zone=subnet.zone,
                map_public_ip_on_launch=False,
                ipv6_cidr_block=self._v6(subnet) if with_v6 else None,
                tags=self._tags(subnet.name, Tier=subnet.tier, **({role: "1"} if role else {})),
                opts=ResourceOptions(parent=self, depends_on=joined),
            )
            ids[subnet.name] = made.id
        return ids

    def _make_routes(self, found: Layout) -> list[Output[str]]:
        """One table for the public subnets, one in each zone for the private ones, none leads to the data."""
        gateway = aws.ec2.InternetGateway(
            self._name, vpc_id=self._vpc.id, tags=self._tags(), opts=self._child
        )
        public = self._table("public", found.public)
        self._route("public", public, found.public, gateway_id=gateway.id)
        if self._args.ipv6:
            aws.ec2.Route(
                f"{self._name}-public-ipv6",
                route_table_id=public,
                destination_ipv6_cidr_block=_ANYWHERE_V6,
                gateway_id=gateway.id,
                opts=self._child,
            )
        outlets = found.public if self._args.nat_per_zone else found.public[:1]
        nats = {item.zone: self._nat(item, gateway) for item in outlets}
        tables = []
        for item in found.private[: len(found.public)]:
            members = [other for other in found.private if other.zone == item.zone]
            table = self._table(item.name, members)
            nat = nats.get(item.zone, nats[outlets[0].zone])
            self._route(item.name, table, members, nat_gateway_id=nat)
            tables.append(table)
        self._table("data", found.data)
        return tables

    def _table(self, label: str, subnets: Sequence[Subnet]) -> Output[str]:
        table = aws.ec2.RouteTable(
            f"{self._name}-{label}", vpc_id=self._vpc.id, tags=self._tags(label), opts=self._child
        )
        for subnet in subnets:
            made = aws.ec2.RouteTableAssociation(
                f"{self._name}-{subnet.name}",
                route_table_id=table.id,
                subnet_id=self._ids[subnet.name],
                opts=self._child,
            )
            self._ways[subnet.name] = [made.id]
        return table.id

    def _route(self, label: str, table: Output[str], subnets: Sequence[Subnet], **to: Output[str]) -> None:
        made = aws.ec2.Route(
            f"{self._name}-{label}",
            route_table_id=table,
            destination_cidr_block=_ANYWHERE,
            opts=self._child,
            **to,
        )
        for subnet in subnets:
            self._ways[subnet.name].append(made.id)

    def _with_routes(self, subnet: Subnet) -> Output[str]:
        """The id of a subnet, for what needs its way out from its making until its deletion is done."""
        return Output.all(self._ids[subnet.name], *self._ways[subnet.name]).apply(lambda ids: str(ids[0]))

    def _nat(self, subnet: Subnet, gateway: aws.ec2.InternetGateway) -> Output[str]:
        label = subnet.name.replace("public", "nat")
        # An address is of no use before the gateway that its packets pass.
        after = ResourceOptions(parent=self, depends_on=[gateway])
        address = aws.ec2.Eip(f"{self._name}-{label}", domain="vpc", tags=self._tags(label), opts=after)
        nat = aws.ec2.NatGateway(
            f"{self._name}-{label}",
            allocation_id=address.allocation_id,
            subnet_id=self._with_routes(subnet),
            tags=self._tags(label),
            opts=after,
        )
        return nat.id

    def _v6(self, subnet: Subnet) -> Output[str]:
        slot = ord(subnet.zone[-1]) - ord("a")
        return self._vpc.ipv6_cidr_block.apply(
            lambda block: str(list(ipaddress.IPv6Network(block).subnets(new_prefix=64))[slot])
        )

    def _close_data_subnets(self, found: Layout) -> None:
        """Network ACL of the data subnets: a slip in a route or a security group opens them to nobody.

        Only the VPC reaches their unprivileged ports, and not from the public subnets. The other tiers keep
        the VPC's own ACL: theirs would have to let in everything that security groups already judge better.
        """
        ranges = [self.cidr, *self._args.more_cidrs]
        rules = [("deny", found.public_part), *(("allow", item) for item in ranges)]
        low, high = _UNPRIVILEGED_PORTS
        acl = aws.ec2.NetworkAcl(
            f"{self._name}-data",
            vpc_id=self._vpc.id,
            subnet_ids=self.data_subnet_ids,
            tags=self._tags("data"),
            opts=self._child,
        )
        for egress in (False, True):
            for number, (action, cidr) in enumerate(rules, 1):
                aws.ec2.NetworkAclRule(
                    f"{self._name}-data-{'out' if egress else 'in'}-{number}",
                    network_acl_id=acl.id,
                    egress=egress,
                    rule_number=100 * number,
                    rule_action=action,
                    protocol="tcp",
                    cidr_block=cidr,
                    from_port=low,
                    to_port=high,
                    opts=self._child,
                )

    def _make_endpoints(self, found: Layout, private_tables: Sequence[Output[str]]) -> None:
        aws.ec2.VpcEndpoint(
            f"{self._name}-s3",
            vpc_id=self._vpc.id,
            service_name=self._service("s3"),
            vpc_endpoint_type="Gateway",
            route_table_ids=list(private_tables),
            policy=_bucket_policy(self._scope),
            tags=self._tags("s3"),
            opts=self._child,
        )
        if not self._args.interface_endpoints:
            return
        group_name = self._scope.name(self._name, "endpoints", limit=255)
        group = aws.ec2.SecurityGroup(
            f"{self._name}-endpoints",
            name=group_name,
            description="Interface endpoints of AWS services",
            vpc_id=self._vpc.id,
            tags=self._scope.tags(group_name),
            opts=self._child,
        )
        for number, cidr in enumerate([self.cidr, *self._args.more_cidrs], 1):
            aws.vpc.SecurityGroupIngressRule(
                f"{self._name}-endpoints-{number}",
                security_group_id=group.id,
                description="AWS services from the VPC",
                ip_protocol="tcp",
                from_port=443,
                to_port=443,
                cidr_ipv4=cidr,
                tags=self._tags("endpoints"),
                opts=self._child,
            )
        # An endpoint takes one subnet of each zone: those of the first range.
        subnets = [self._ids[item.name] for item in found.private[: len(self._args.zones)]]
        for short in self._args.interface_endpoints:
            label = short.replace(".", "-")
            aws.ec2.VpcEndpoint(
                f"{self._name}-{label}",
                vpc_id=self._vpc.id,
                service_name=self._service(short),
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=subnets,
                security_group_ids=[group.id],
                tags=self._tags(label),
                opts=self._child,
            )

    def _service(self, short: str) -> str:
        return f"com.amazonaws.{self._scope.region}.{short}"

    def _watch(self) -> None:
        """Flow logs of everything that passes or is refused."""
        scope, label = self._scope, f"{self._name}-flow-logs"
        log_name = f"/{scope.prefix}/vpc/{self._name}"
        log = aws.cloudwatch.LogGroup(
            label,
            name=log_name,
            kms_key_id=self._args.log_key_arn,
            retention_in_days=self._args.flow_log_days,
            tags=scope.tags(log_name),
            opts=self._child,
        )
        group_arn = scope.arn("logs", f"log-group:{log_name}")
        actions = (
            "logs:CreateLogStream",
            "logs:DescribeLogGroups",
            "logs:DescribeLogStreams",
            "logs:PutLogEvents",
        )
        role = Role(
            label,
            RoleArgs(
                scope,
                trust("vpc-flow-logs.amazonaws.com", scope, same_account=True),
                [Statement(actions, (group_arn, f"{group_arn}:*"))],
            ),
            self._child,
        )
        aws.ec2.FlowLog(
            self._name,
            vpc_id=self._vpc.id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_destination=log.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=self._args.flow_log_interval_seconds,
            tags=self._tags("flow-logs"),
            opts=self._child,
        )


def _bucket_policy(scope: Scope) -> Output[str]:
    """Any bucket may be read (image layers lie in buckets of AWS), only the account's own written."""
    anyone = {"AWS": "*"}
    buckets = (f"arn:{scope.partition}:s3:::*",)
    read = ("s3:GetObject", "s3:GetObjectVersion", "s3:GetBucketLocation", "s3:ListBucket")
    own = {"StringEquals": {"aws:ResourceAccount": scope.account}}
    return policy(
        [
            Statement(read, buckets, principals=anyone, sid="Read"),
            Statement(("s3:*",), buckets, own, principals=anyone, sid="OwnBuckets"),
        ]
    )


def _check(args: NetworkArgs) -> None:
    seen: set[str] = set()
    for short in args.interface_endpoints:
        if not _ENDPOINT.fullmatch(short) or short in seen:
            raise ValueError(
                f"interface endpoint '{short}': a service's short name, given once, such as ecr.api"
            )
        if short in _GATEWAY_SERVICES:
            raise ValueError(
                f"interface endpoint '{short}': reached through a gateway endpoint, which is free"
            )
        seen.add(short)
    if args.flow_log_interval_seconds not in _INTERVALS:
        raise ValueError(f"flow log interval {args.flow_log_interval_seconds} s: 60 or 600")


SKIPS: tuple[Skip, ...] = (
    Skip(
        "CKV_AWS_338",
        "aws:cloudwatch/logGroup:LogGroup",
        "How long flow logs are kept is a setting: thirty days are asked for, and a year costs too much.",
        "*-flow-logs",
    ),
)
