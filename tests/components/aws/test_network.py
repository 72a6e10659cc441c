"""What the VPC lets in, lets out and records."""

import ipaddress
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.aws.network import Network, NetworkArgs
from components.aws.scope import Scope

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")
ARGS = NetworkArgs(
    scope=SCOPE,
    cidr="10.20.0.0/16",
    zones=("us-east-1a", "us-east-1b", "us-east-1c"),
    nat_per_zone=True,
    interface_endpoints=("ecr.api", "sts"),
    log_key_arn="arn:log-key",
    flow_log_days=30,
)

Record = Callable[[Callable[[], object]], Any]


def _of(recorded: Any, kind: str) -> dict[str, dict[str, Any]]:
    return {item.name: item.inputs for item in recorded.custom() if item.typ.endswith(f":{kind}")}


def _registered(record: Record, args: NetworkArgs = ARGS) -> Any:
    return record(lambda: Network("network", args))


def test_every_tier_has_a_subnet_in_every_zone_and_none_hands_out_public_addresses(record: Record) -> None:
    networks: list[Network] = []
    recorded = record(lambda: networks.append(Network("network", ARGS)))
    subnets = _of(recorded, "Subnet")
    assert len(subnets) == 9
    assert {item["mapPublicIpOnLaunch"] for item in subnets.values()} == {False}
    assert {item["availabilityZone"] for item in subnets.values()} == set(ARGS.zones)
    assert networks[0].data_cidrs == ["10.20.224.0/24", "10.20.225.0/24", "10.20.226.0/24"]
    assert [len(networks[0].public_subnet_ids), len(networks[0].private_subnet_ids)] == [3, 3]
    assert (recorded.one("Vpc")["enableDnsSupport"], recorded.one("Vpc")["enableDnsHostnames"]) == (
        True,
        True,
    )


def test_load_balancers_of_services_find_their_subnets_and_never_the_data(record: Record) -> None:
    subnets = _of(_registered(record), "Subnet")
    public = {name for name, item in subnets.items() if "kubernetes.io/role/elb" in item["tags"]}
    private = {name for name, item in subnets.items() if "kubernetes.io/role/internal-elb" in item["tags"]}
    assert public == {"network-public-a", "network-public-b", "network-public-c"}
    assert private == {"network-private-a", "network-private-b", "network-private-c"}


def test_nat_in_every_zone_serves_its_own_zone(record: Record) -> None:
    recorded = _registered(record)
    assert len(_of(recorded, "NatGateway")) == len(_of(recorded, "Eip")) == 3
    routes = _of(recorded, "Route")
    assert {routes[f"network-private-{zone}"]["natGatewayId"] for zone in "abc"} == {
        "network-nat-a-id",
        "network-nat-b-id",
        "network-nat-c-id",
    }


def test_one_nat_serves_all_zones_and_more_of_them_move_no_route_table(record: Record) -> None:
    one = _registered(record, replace(ARGS, nat_per_zone=False))
    routes = _of(one, "Route")
    assert {routes[f"network-private-{zone}"]["natGatewayId"] for zone in "abc"} == {"network-nat-a-id"}
    assert list(_of(one, "NatGateway")) == ["network-nat-a"]
    assert _of(one, "RouteTable") == _of(_registered(record), "RouteTable")


def test_data_subnets_have_no_route_out_and_see_only_the_private_ones(record: Record) -> None:
    recorded = _registered(record)
    routes = _of(recorded, "Route").values()
    assert "network-data-id" not in {item["routeTableId"] for item in routes}
    tables = _of(recorded, "RouteTableAssociation")
    assert {tables[f"network-data-{zone}"]["routeTableId"] for zone in "abc"} == {"network-data-id"}
    assert recorded.one("NetworkAcl")["subnetIds"] == [f"network-data-{zone}-id" for zone in "abc"]
    for egress in (False, True):
        rules = [item for item in _of(recorded, "NetworkAclRule").values() if item["egress"] is egress]
        assert _allowed(rules, "10.20.0.9", 5433)
        assert _allowed(rules, "10.20.225.9", 9098)
        assert not _allowed(rules, "10.20.192.9", 5433)
        assert not _allowed(rules, "8.8.8.8", 5433)
        assert not _allowed(rules, "10.20.0.9", 22)


def _allowed(rules: list[dict[str, Any]], address: str, port: int) -> bool:
    for rule in sorted(rules, key=lambda item: item["ruleNumber"]):
        inside = ipaddress.IPv4Address(address) in ipaddress.IPv4Network(rule["cidrBlock"])
        if inside and rule["fromPort"] <= port <= rule["toPort"]:
            return bool(rule["ruleAction"] == "allow")
    return False


def test_what_aws_makes_by_default_is_closed(record: Record) -> None:
    recorded = _registered(record)
    group = recorded.one("DefaultSecurityGroup")
    assert (group["ingress"], group["egress"]) == ([], [])
    assert recorded.one("DefaultRouteTable")["routes"] == []


def test_all_traffic_is_recorded_under_the_customer_key_by_a_role_for_that_alone(record: Record) -> None:
    recorded = _registered(record)
    log = recorded.one("LogGroup")
    assert (log["kmsKeyId"], log["retentionInDays"]) == ("arn:log-key", 30)
    assert recorded.one("FlowLog")["trafficType"] == "ALL"
    statement = json.loads(recorded.one("RolePolicy")["policy"])["Statement"]
    arn = f"arn:aws:logs:us-east-1:123456789012:log-group:{log['name']}"
    assert [item["Resource"] for item in statement] == [[arn, f"{arn}:*"]]
    trusted = json.loads(recorded.one("Role")["assumeRolePolicy"])["Statement"][0]
    assert trusted["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_services_are_reached_inside_from_the_vpc_on_443_only(record: Record) -> None:
    recorded = _registered(record)
    endpoints = _of(recorded, "VpcEndpoint")
    assert {item["serviceName"] for item in endpoints.values()} == {
        "com.amazonaws.us-east-1.s3",
        "com.amazonaws.us-east-1.ecr.api",
        "com.amazonaws.us-east-1.sts",
    }
    assert endpoints["network-ecr-api"]["privateDnsEnabled"] is True
    assert endpoints["network-ecr-api"]["securityGroupIds"] == ["network-endpoints-id"]
    rule = recorded.one("SecurityGroupIngressRule")
    assert (rule["cidrIpv4"], rule["fromPort"], rule["toPort"]) == ("10.20.0.0/16", 443, 443)
    assert "SecurityGroupEgressRule" not in recorded.kinds()
    assert not {"ingress", "egress"} & recorded.one("SecurityGroup").keys()


def test_through_the_bucket_endpoint_only_the_accounts_own_buckets_are_written(record: Record) -> None:
    endpoint = _of(_registered(record), "VpcEndpoint")["network-s3"]
    assert len(endpoint["routeTableIds"]) == 3
    for statement in json.loads(endpoint["policy"])["Statement"]:
        reads = all(action.startswith(("s3:Get", "s3:List")) for action in statement["Action"])
        own = statement.get("Condition") == {"StringEquals": {"aws:ResourceAccount": "123456789012"}}
        assert reads or own


def test_a_further_range_brings_private_subnets_to_the_same_routes_and_endpoints(record: Record) -> None:
    before = _registered(record)
    after = _registered(record, replace(ARGS, more_cidrs=("100.64.0.0/16",)))
    assert after.one("VpcIpv4CidrBlockAssociation")["cidrBlock"] == "100.64.0.0/16"
    assert _of(before, "Subnet").items() <= _of(after, "Subnet").items()
    assert len(_of(after, "Subnet")) == 12
    tables = _of(after, "RouteTableAssociation")
    assert tables["network-private-b-2"] == {
        "routeTableId": "network-private-b-id",
        "subnetId": "network-private-b-2-id",
    }
    assert len(_of(after, "VpcEndpoint")["network-sts"]["subnetIds"]) == 3
    assert {item["cidrIpv4"] for item in _of(after, "SecurityGroupIngressRule").values()} == {
        "10.20.0.0/16",
        "100.64.0.0/16",
    }


def test_ipv6_reaches_the_public_subnets_and_no_other(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record.__globals__["Recorder"]
    answer = recorder.new_resource

    def with_block(self: Any, args: Any) -> tuple[str, dict[str, Any]]:
        name, state = answer(self, args)
        return name, state | {"ipv6CidrBlock": "2600:1f18::/56"} if args.typ.endswith(":Vpc") else state

    monkeypatch.setattr(recorder, "new_resource", with_block)
    recorded = _registered(record, replace(ARGS, ipv6=True))
    blocks = {name: item.get("ipv6CidrBlock") for name, item in _of(recorded, "Subnet").items()}
    assert {name for name, block in blocks.items() if block} == {f"network-public-{zone}" for zone in "abc"}
    assert blocks["network-public-c"] == "2600:1f18:0:2::/64"
    assert _of(recorded, "Route")["network-public-ipv6"]["destinationIpv6CidrBlock"] == "::/0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interface_endpoints": ("sts", "sts")}, "interface endpoint 'sts': .* given once"),
        ({"interface_endpoints": ("com/x",)}, "interface endpoint 'com/x': a service's short name"),
        ({"interface_endpoints": ("s3",)}, "interface endpoint 's3': reached through a gateway"),
        ({"flow_log_interval_seconds": 61}, "flow log interval 61 s: 60 or 600"),
        ({"cidr": "8.8.0.0/16"}, "range 8.8.0.0/16: not private"),
    ],
)
def test_bad_arguments_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network("network", replace(ARGS, **change))
