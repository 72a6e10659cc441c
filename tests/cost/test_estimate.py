"""What an estimate adds up, and what it says about what it cannot know."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.cost import Estimate, View, compare, document, estimate
from infra.errors import TradestackError
from infra.plan import UNKNOWN, Secret
from tests.cost.plans import STACK, lines_of, node_group, plan_of, resource, usd_of

KEY = "aws:kms/key:Key"


def test_components_are_those_directly_under_the_stack() -> None:
    network = resource("tradestack:aws:Network", "network", custom=False)
    zone = resource("tradestack:aws:Zone", "zone", parent=network.urn, custom=False)
    nat = resource("aws:ec2/natGateway:NatGateway", "nat-a", parent=zone.urn)
    key = resource(KEY, "lone-key")
    found = estimate(plan_of(network, zone, nat, key))
    # NAT: 730 x 0.045 + 20 GB x 0.045; key: 1.00 + 10 x 0.03.
    assert dict(found.components) == {"network": Decimal("33.75"), "lone-key": Decimal("1.30")}
    assert list(found.components) == ["network", "lone-key"]
    assert found.monthly_usd == Decimal("35.05")


def test_every_dollar_is_in_exactly_one_component() -> None:
    found = estimate(plan_of(node_group(), resource(KEY, "a"), resource(KEY, "b")))
    assert sum(found.components.values()) == found.monthly_usd == sum(x.monthly_usd for x in found.lines)


def test_the_same_plan_costs_the_same_twice() -> None:
    plan = plan_of(node_group(nodes=3), resource("aws:ec2/vpc:Vpc", "vpc"), resource(KEY, "key"))
    assert estimate(plan) == estimate(plan)


def test_a_type_in_no_table_is_reported() -> None:
    found = estimate(plan_of(resource(KEY, "key"), resource("aws:braket/job:Job", "job")))
    assert found.unpriced == {"aws:braket/job:Job": 1}
    assert found.monthly_usd == Decimal("1.30")


def test_free_types_and_those_paid_by_use_are_listed() -> None:
    found = estimate(
        plan_of(
            resource("aws:iam/role:Role", "role"),
            resource("aws:iam/rolePolicy:RolePolicy", "policy"),
            resource("kubernetes:apps/v1:Deployment", "gateway"),
            resource("aws:ec2/flowLog:FlowLog", "flow"),
        )
    )
    assert found.free == {
        "aws:iam/role:Role": 1,
        "aws:iam/rolePolicy:RolePolicy": 1,
        "kubernetes:apps/v1:Deployment": 1,
    }
    assert found.by_usage == {"aws:ec2/flowLog:FlowLog": 1}
    assert not found.unpriced
    assert found.monthly_usd == 0


def test_a_plan_without_aws_costs_nothing() -> None:
    storage = {"spec": {"resources": {"requests": {"storage": "10Gi"}}}}
    claim = resource("kubernetes:core/v1:PersistentVolumeClaim", "data", storage)
    found = estimate(plan_of(claim))
    assert found.monthly_usd == 0
    assert found.free == {claim.type: 1}


def test_an_unknown_class_is_named_with_the_known_ones() -> None:
    with pytest.raises(TradestackError, match=r"general .*no ec2 price for 'x9\.huge'.*m7g\.large"):
        lines_of(node_group(kind="x9.huge"))


def test_an_unknown_number_is_counted_as_the_default_and_noted() -> None:
    endpoint = resource(
        "aws:ec2/vpcEndpoint:VpcEndpoint", "ecr", {"vpcEndpointType": "Interface", "subnetIds": UNKNOWN}
    )
    found = estimate(plan_of(endpoint))
    assert found.lines[0].quantity == 3 * 730
    assert any("ecr" in note and "subnetIds" in note and "3 elements" in note for note in found.notes)


def test_a_list_of_unknown_values_still_has_a_length() -> None:
    inputs = {"vpcEndpointType": "Interface", "subnetIds": [UNKNOWN, UNKNOWN]}
    found = estimate(plan_of(resource("aws:ec2/vpcEndpoint:VpcEndpoint", "ecr", inputs)))
    assert found.lines[0].quantity == 2 * 730
    assert not found.notes


def test_what_cannot_be_priced_before_deployment_is_left_out_and_noted() -> None:
    database = resource("aws:rds/instance:Instance", "db", {"instanceClass": UNKNOWN})
    found = estimate(plan_of(database, resource(KEY, "key")))
    assert [line.resource for line in found.lines] == ["key", "key"]
    assert any("db" in note and "instanceClass" in note for note in found.notes)
    assert not found.unpriced


def test_secret_inputs_are_read() -> None:
    inputs = {"instanceClass": Secret("db.t4g.micro"), "allocatedStorage": Secret(20)}
    usd = usd_of(resource("aws:rds/instance:Instance", "db", inputs))
    assert usd["db.t4g.micro, Single-AZ"] == Decimal("0.016") * 730


def test_usage_scales_with_the_nodes_of_the_plan() -> None:
    vpc = resource("aws:ec2/vpc:Vpc", "vpc")
    small, large = estimate(plan_of(vpc, node_group(nodes=1))), estimate(plan_of(vpc, node_group(nodes=4)))
    assert _total(large, "egress_gb") == 4 * _total(small, "egress_gb") == 200


def test_usage_is_shared_not_multiplied() -> None:
    nats = [resource("aws:ec2/natGateway:NatGateway", name) for name in "abc"]
    found = estimate(plan_of(*nats, node_group(nodes=3)))
    assert _total(found, "nat_gb") == 60


def test_usage_can_be_overridden_and_says_so() -> None:
    found = estimate(plan_of(resource("aws:ec2/vpc:Vpc", "vpc")), usage={"egress_gb": 1000})
    assumption = next(item for item in found.assumptions if item.name == "egress_gb")
    assert assumption.total == 1000
    assert assumption.why == "given; the default is 50"
    assert any(line.monthly_usd == 90 for line in found.lines)


@pytest.mark.parametrize(("name", "value"), [("nonsense", 1), ("nat_gb", -1), ("nat_gb", "many")])
def test_wrong_usage_is_refused(name: str, value: float | str) -> None:
    with pytest.raises(TradestackError, match=name):
        estimate(plan_of(), usage={name: value})


def test_another_region_is_noted() -> None:
    provider = resource("pulumi:providers:aws", "aws", {"region": "eu-west-1"})
    found = estimate(plan_of(provider, resource(KEY, "key", provider=provider.urn)))
    assert any("eu-west-1" in note and "us-east-1" in note for note in found.notes)


def test_compare_names_what_changed_by_component() -> None:
    network = resource("tradestack:aws:Network", "network", custom=False)
    nats = [resource("aws:ec2/natGateway:NatGateway", name, parent=network.urn) for name in "ab"]
    key = resource(KEY, "key")
    old, new = estimate(plan_of(network, nats[0], key)), estimate(plan_of(network, *nats))
    found = compare(old, new)
    # The data through NAT is shared, so that a second gateway costs its hours only.
    assert [(item.component, item.delta_usd) for item in found.components] == [
        ("network", Decimal("32.85")),
        ("key", Decimal("-1.30")),
    ]
    assert found.delta_usd == Decimal("31.55")
    assert compare(old, old).components == ()


def test_document_adds_up_to_the_cent() -> None:
    keys = [replace(resource(KEY, name), parent=STACK) for name in "abcdefg"]
    found = document(estimate(plan_of(*keys), usage={"kms_ten_thousands": "0.1668"}), lines=True)
    # Seven times $1.005004 is $7.04 rounded, not seven times $1.01.
    assert found["components"] == {**dict.fromkeys("abcd", 1.01), **dict.fromkeys("efg", 1.0)}
    assert found["monthly_usd"] == found["views"]["on-demand"] == 7.04
    assert found["assumptions"]["kms_ten_thousands"]["total"] == pytest.approx(1.1676)
    assert len(found["lines"]) == 14
    json.dumps(found)


def test_the_command_prints_one_object() -> None:
    result = CliRunner().invoke(app, ["cost", "local", "--json", "--view", "spot"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["stack"] == "local"
    assert found["monthly_usd"] == 0
    assert found["view"] == "spot"


def test_lines_of_a_view_add_up_to_its_total() -> None:
    plan = plan_of(node_group(nodes=3), node_group("spot", capacityType="SPOT"), resource(KEY, "key"))
    on_demand = estimate(plan)
    for view in View:
        found = estimate(plan, view=view)
        assert found.monthly_usd == on_demand.alternatives.get(view, on_demand.baseline_usd)
        assert found.baseline_usd == on_demand.monthly_usd


def test_a_view_of_nothing_saves_nothing() -> None:
    assert all(estimate(plan_of()).saving_usd(view) == 0 for view in View)


def _total(found: Estimate, name: str) -> Decimal:
    return next(item.total for item in found.assumptions if item.name == name)
