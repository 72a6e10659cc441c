"""Each rule of the comparison: what is created, updated, replaced, deleted, and what is refused."""

from typing import Any

import pytest

from infra.plan.diff import Action, Change, Diff, compare
from infra.plan.model import UNKNOWN, Plan, PlannedResource, Secret, masked
from tests.plan.synthetic import plan as make
from tests.plan.synthetic import resource, urn

DATABASE = "aws:rds/instance:Instance"
BUCKET = "aws:s3/bucket:Bucket"
QUEUE = "aws:sqs/queue:Queue"
TOPIC = "aws:sns/topic:Topic"
SUBNET = "aws:ec2/subnet:Subnet"
VPC = "aws:ec2/vpc:Vpc"
PROVIDER = "pulumi:providers:aws"


def _only(diff: Diff) -> Change:
    assert len(diff.changes) == 1
    return diff.changes[0]


def _paths(change: Change) -> list[str]:
    return [item.difference.text for item in change.properties]


def _changed(type_: str, old: dict[str, Any], new: dict[str, Any], **options: Any) -> Diff:
    return compare(make(resource(type_, "x", old)), make(resource(type_, "x", new, **options)))


def test_two_equal_plans_have_no_change() -> None:
    plan = make(resource(QUEUE, "q", {"name": "q", "arn": UNKNOWN, "key": Secret("s")}))
    assert compare(plan, plan) == Diff((), 2)


def test_against_nothing_everything_is_created() -> None:
    diff = compare(None, make(resource(QUEUE, "q"), resource(TOPIC, "t")))
    assert {change.action for change in diff.changes} == {Action.CREATE}
    assert diff.count(Action.CREATE) == 3


def test_an_update_in_place_tells_each_property() -> None:
    change = _only(_changed(DATABASE, {"instanceClass": "db.t4g.micro"}, {"instanceClass": "db.r8g.large"}))
    assert change.action is Action.UPDATE
    assert not change.dangerous
    difference = change.properties[0].difference
    assert (difference.text, difference.old, difference.new) == (
        "instanceClass",
        "db.t4g.micro",
        "db.r8g.large",
    )


def test_a_property_the_provider_cannot_change_replaces_and_says_what_is_lost() -> None:
    old = {"engine": "postgres", "identifier": "a", "storageEncrypted": False}
    change = _only(_changed(DATABASE, old, {**old, "storageEncrypted": True, "port": 5433}))
    assert change.action is Action.REPLACE
    assert change.risk == "loses the database"
    assert [(item.difference.text, item.forces) for item in change.properties] == [
        ("storageEncrypted", True),
        ("port", False),
    ]


def test_a_replacement_with_a_fixed_name_deletes_first() -> None:
    kept = _only(_changed(VPC, {"cidrBlock": "10.0.0.0/16"}, {"cidrBlock": "10.1.0.0/16"}))
    named = {"name": "x", "engine": "postgres"}
    fixed = _only(
        _changed("aws:sns/topic:Topic", {**named, "fifoTopic": False}, {**named, "fifoTopic": True})
    )
    asked = _only(
        _changed(VPC, {"cidrBlock": "10.0.0.0/16"}, {"cidrBlock": "10.1.0.0/16"}, delete_before_replace=True)
    )
    assert (kept.delete_first, fixed.delete_first, asked.delete_first) == (False, True, True)


def test_only_the_block_itself_replaces_where_the_provider_says_so() -> None:
    """A broker's instance type changes in place; its subnets do not, nor does the block."""
    group = {"instanceType": "kafka.m7g.large", "clientSubnets": ["a", "b"]}
    cluster = "aws:msk/cluster:Cluster"
    bigger = _changed(
        cluster, {"brokerNodeGroupInfo": group}, {"brokerNodeGroupInfo": {**group, "instanceType": "x"}}
    )
    moved = _changed(
        cluster, {"brokerNodeGroupInfo": group}, {"brokerNodeGroupInfo": {**group, "clientSubnets": ["c"]}}
    )
    added = _changed(cluster, {}, {"brokerNodeGroupInfo": {"instanceType": "x"}})
    actions = [_only(diff).action for diff in (bigger, moved, added)]
    assert actions == [Action.UPDATE, Action.REPLACE, Action.REPLACE]


def test_a_block_that_comes_whole_replaces_for_what_is_in_it() -> None:
    change = _only(_changed("kubernetes:apps/v1:Deployment", {}, {"spec": {"selector": {"a": "b"}}}))
    assert change.action is Action.REPLACE


@pytest.mark.parametrize(("version", "action"), [("3.9.0", Action.UPDATE), ("3.10.1", Action.UPDATE)])
def test_a_version_is_raised_in_place(version: str, action: Action) -> None:
    change = _only(_changed("aws:msk/cluster:Cluster", {"kafkaVersion": "3.8.x"}, {"kafkaVersion": version}))
    assert change.action is action


def test_a_version_that_is_lowered_replaces() -> None:
    change = _only(_changed("aws:msk/cluster:Cluster", {"kafkaVersion": "3.10.0"}, {"kafkaVersion": "3.9.0"}))
    assert change.action is Action.REPLACE


def test_a_condition_no_plan_can_tell_is_named() -> None:
    change = _only(_changed("aws:msk/cluster:Cluster", {"storageMode": "TIERED"}, {"storageMode": "LOCAL"}))
    assert change.action is Action.UPDATE
    assert change.properties[0].because == "may replace: when it becomes LOCAL"
    assert change.risk == "may be replaced, which loses the topics and their records"


def test_a_type_nobody_has_looked_up_is_said_to_be_unknown() -> None:
    change = _only(_changed("aws:quantum/thing:Thing", {"a": 1}, {"a": 2}))
    assert change.action is Action.UPDATE
    assert change.notes == ("replacement rules unknown: it may be replaced",)


def test_a_secret_in_kubernetes_is_replaced_unless_the_provider_may_change_it() -> None:
    def secret(value: str, setting: dict[str, Any]) -> Plan:
        provider = resource("pulumi:providers:kubernetes", "kubernetes", setting)
        inputs = {"metadata": {"name": "s", "namespace": "n"}, "stringData": Secret({"a": value})}
        return make(provider, resource("kubernetes:core/v1:Secret", "s", inputs, provider=provider.urn))

    strict = _only(compare(secret("1", {}), secret("2", {})))
    mutable = {"enableSecretMutable": "true"}
    loose = _only(compare(secret("1", mutable), secret("2", mutable)))
    assert (strict.action, strict.delete_first) == (Action.REPLACE, True)
    assert loose.action is Action.UPDATE


def test_deletion_is_told_with_what_is_lost() -> None:
    change = _only(compare(make(resource(BUCKET, "b", {"bucket": "b"})), make()))
    assert (change.action, change.risk, change.refused) == (Action.DELETE, "loses the objects", "")


def test_deletion_of_what_is_protected_is_refused() -> None:
    old = make(resource(DATABASE, "db", {"identifier": "db"}, protect=True))
    change = _only(compare(old, make()))
    assert (change.action, change.refused) == (Action.DELETE, "refused: protected")


def test_replacement_is_refused_while_both_plans_protect() -> None:
    """The engine lets one update unprotect and replace."""

    def plan(engine: str, protect: bool) -> Plan:
        return make(resource(DATABASE, "db", {"engine": engine}, protect=protect))

    refused = _only(compare(plan("postgres", True), plan("mysql", True)))
    allowed = _only(compare(plan("postgres", True), plan("mysql", False)))
    assert refused.refused == "refused: protected"
    assert allowed.refused == ""
    assert "protection is switched off" in allowed.notes


def test_deletion_protection_of_the_provider_is_told() -> None:
    old = make(resource(DATABASE, "db", {"identifier": "db", "deletionProtection": True}))
    assert _only(compare(old, make())).refused == "refused by the provider: deletionProtection"


def test_what_is_retained_is_not_lost() -> None:
    old = make(resource(BUCKET, "b", {"bucket": "b"}, retain_on_delete=True))
    change = _only(compare(old, make()))
    assert (change.risk, change.notes) == ("", ("kept at the provider: retain_on_delete",))


def test_protection_that_goes_is_a_danger_of_its_own() -> None:
    old = make(resource(DATABASE, "db", protect=True))
    change = _only(compare(old, make(resource(DATABASE, "db"))))
    assert (change.action, change.risk) == (Action.UPDATE, "no longer protected: the database")


@pytest.mark.parametrize("alias", ["name=old", urn(DATABASE, "old")])
def test_a_rename_with_an_alias_is_the_same_resource(alias: str) -> None:
    old = make(resource(DATABASE, "old", {"identifier": "trading"}, protect=True))
    new = make(resource(DATABASE, "new", {"identifier": "trading"}, protect=True, aliases=(alias,)))
    assert compare(old, new) == Diff((), 2)


def test_children_follow_their_parent_s_alias() -> None:
    def plan(name: str, *aliases: str) -> Plan:
        component = resource("tradestack:aws:Database", name, custom=False, aliases=aliases)
        return make(component, resource(DATABASE, f"{name}-primary", parent=component.urn))

    assert compare(plan("db"), plan("database", "name=db")) == Diff((), 3)


def test_a_new_parent_with_an_alias_is_the_same_resource() -> None:
    component = resource("tradestack:aws:Database", "db", custom=False)
    old = make(component, resource(DATABASE, "x"))
    new = make(component, resource(DATABASE, "x", parent=component.urn, aliases=("noParent",)))
    assert compare(old, new).changes == ()


@pytest.mark.parametrize("identifier", ["trading", "other"])
def test_a_renamed_database_without_an_alias_is_replaced_and_refused(identifier: str) -> None:
    old = make(resource(DATABASE, "old", {"identifier": "trading"}, protect=True))
    new = make(resource(DATABASE, "new", {"identifier": identifier}, protect=True))
    change = _only(compare(old, new))
    assert (change.action, change.refused) == (Action.REPLACE, "refused: protected")
    assert change.risk == "loses the database"
    assert change.former_urn == urn(DATABASE, "old")
    assert "without an alias" in change.notes[0]


def test_what_only_shares_its_type_is_no_rename() -> None:
    old = make(resource(QUEUE, "a", {"name": "a"}), resource(QUEUE, "b", {"name": "b"}))
    new = make(resource(QUEUE, "c", {"name": "c"}))
    diff = compare(old, new)
    assert (diff.count(Action.CREATE), diff.count(Action.DELETE), diff.count(Action.REPLACE)) == (1, 2, 0)


@pytest.mark.parametrize("path", ["scalingConfig.desiredSize", "scalingConfig", "scalingConfig[*]", "*"])
def test_ignored_changes_are_no_change(path: str) -> None:
    old, new = {"scalingConfig": {"desiredSize": 1}}, {"scalingConfig": {"desiredSize": 5}}
    assert _changed("aws:eks/nodeGroup:NodeGroup", old, new, ignore_changes=(path,)).changes == ()


def test_ignoring_one_property_leaves_the_others() -> None:
    old, new = {"tags": {"a.b": "1", "c": "1"}}, {"tags": {"a.b": "2", "c": "2"}}
    assert _paths(_only(_changed(QUEUE, old, new, ignore_changes=('tags["a.b"]',)))) == ["tags.c"]


def test_ignoring_an_element_of_a_list_is_by_its_place() -> None:
    old = {"items": [{"name": "a", "size": 1}, {"name": "b", "size": 1}]}
    new = {"items": [{"name": "a", "size": 2}, {"name": "b", "size": 2}]}
    assert _paths(_only(_changed(QUEUE, old, new, ignore_changes=("items[0].size",)))) == ["items[b].size"]


def test_replace_on_changes_replaces() -> None:
    diff = _changed(QUEUE, {"tags": {"a": "1"}}, {"tags": {"a": "2"}}, replace_on_changes=("tags.a",))
    assert _only(diff).action is Action.REPLACE


def _chain(cidr: str) -> Plan:
    vpc = resource(VPC, "vpc", {"cidrBlock": cidr})
    inputs = {"vpcId": UNKNOWN, "cidrBlock": "10.0.1.0/24"}
    subnet = resource(SUBNET, "subnet", inputs, needs={"vpcId": [vpc.urn]})
    group = resource(
        "aws:rds/subnetGroup:SubnetGroup",
        "group",
        {"name": "g", "subnetIds": [UNKNOWN]},
        needs={"subnetIds": [subnet.urn]},
    )
    database = resource(DATABASE, "db", {"dbSubnetGroupName": "g"}, needs={"dbSubnetGroupName": [group.urn]})
    return make(vpc, subnet, group, database)


def test_a_replacement_reaches_whatever_uses_its_unknown_outputs() -> None:
    """The subnet is replaced with its network, its group is changed in place, the database is left alone."""
    diff = compare(_chain("10.0.0.0/16"), _chain("10.1.0.0/16"))
    found = {change.resource.name: change for change in diff.changes}
    assert {name: change.action for name, change in found.items()} == {
        "vpc": Action.REPLACE,
        "subnet": Action.REPLACE,
        "group": Action.UPDATE,
    }
    assert found["subnet"].properties[0].because == "Vpc vpc is replaced"
    assert found["group"].properties[0].because == "Subnet subnet is replaced"
    assert diff.same == 2


def test_secrets_of_a_replaced_password_change_too() -> None:
    def plan(length: int) -> Plan:
        password = resource("random:index/randomPassword:RandomPassword", "p", {"length": length})
        inputs = {"password": Secret("reference")}
        return make(password, resource(DATABASE, "db", inputs, needs={"password": [password.urn]}))

    diff = compare(plan(20), plan(32))
    assert {change.resource.name: change.action for change in diff.changes} == {
        "p": Action.REPLACE,
        "db": Action.UPDATE,
    }


def test_unknown_values_from_other_resources_are_a_change() -> None:
    first, second = resource(TOPIC, "a"), resource(TOPIC, "b")

    def plan(source: PlannedResource) -> Plan:
        inputs = {"topic": UNKNOWN}
        return make(first, second, resource(QUEUE, "q", inputs, needs={"topic": [source.urn]}))

    change = _only(compare(plan(first), plan(second)))
    assert change.properties[0].because == "comes from other resources"
    assert compare(plan(first), plan(first)).changes == ()


def test_unknown_values_of_a_renamed_resource_with_an_alias_are_no_change() -> None:
    def plan(topic: PlannedResource) -> Plan:
        return make(topic, resource(QUEUE, "q", {"topic": UNKNOWN}, needs={"topic": [topic.urn]}))

    old, new = plan(resource(TOPIC, "a")), plan(resource(TOPIC, "b", aliases=("name=a",)))
    assert compare(old, new).changes == ()


def test_a_value_that_becomes_unknown_is_a_change() -> None:
    change = _only(_changed(QUEUE, {"kmsMasterKeyId": "alias/a"}, {"kmsMasterKeyId": UNKNOWN}))
    assert masked([change.properties[0].difference.old, change.properties[0].difference.new]) == [
        "alias/a",
        "[unknown]",
    ]


def test_secrets_are_compared_and_never_shown() -> None:
    change = _only(_changed(DATABASE, {"password": Secret("one")}, {"password": Secret("two")}))
    assert "one" not in repr(change)
    assert "two" not in repr(change)
    assert _changed(DATABASE, {"password": Secret("one")}, {"password": Secret("one")}).changes == ()


def test_a_masked_secret_equals_every_secret() -> None:
    assert _changed(DATABASE, {"password": Secret(UNKNOWN)}, {"password": Secret("two")}).changes == ()


def test_a_plain_value_that_becomes_secret_is_not_told_any_more() -> None:
    change = _only(_changed(DATABASE, {"password": "plain"}, {"password": Secret("plain")}))
    assert "plain" not in repr(change.properties)


def test_region_of_the_provider_replaces_all_it_manages() -> None:
    def plan(region: str) -> Plan:
        provider = resource(PROVIDER, "aws", {"region": region})
        return make(provider, resource(BUCKET, "b", {"bucket": "b"}, provider=provider.urn))

    diff = compare(plan("us-east-1"), plan("eu-west-1"))
    assert [(change.resource.name, change.action) for change in diff.changes] == [
        ("b", Action.REPLACE),
        ("aws", Action.REPLACE),
    ]


def test_text_that_is_json_is_compared_as_what_it_says() -> None:
    old = {"policy": '{"Statement": [{"Sid": "Read", "Action": ["s3:GetObject"]}]}'}
    same = {"policy": '{"Statement":[{"Action":["s3:GetObject"],"Sid":"Read"}]}'}
    wider = {"policy": '{"Statement": [{"Sid": "Read", "Action": ["s3:*"]}]}'}
    assert _changed(QUEUE, old, same).changes == ()
    assert _paths(_only(_changed(QUEUE, old, wider))) == ["policy.Statement[Read].Action"]


def test_lists_of_objects_are_matched_by_name() -> None:
    def pod(*containers: tuple[str, str]) -> dict[str, Any]:
        return {"containers": [{"name": name, "image": image} for name, image in containers]}

    change = _only(_changed(QUEUE, pod(("a", "1"), ("b", "1")), pod(("new", "1"), ("b", "2"), ("a", "1"))))
    assert sorted(_paths(change)) == ["containers[b].image", "containers[new]"]


def test_dangerous_changes_stand_first() -> None:
    database = resource(DATABASE, "db", {"engine": "postgres"})
    old = make(resource(QUEUE, "q", {"a": 1}), resource(VPC, "v", {"cidrBlock": "a"}), database)
    changed = resource(DATABASE, "db", {"engine": "mysql"})
    new = make(resource(QUEUE, "q", {"a": 2}), resource(VPC, "v", {"cidrBlock": "b"}), changed)
    assert [change.resource.name for change in compare(old, new).changes] == ["db", "v", "q"]


def test_true_is_not_one() -> None:
    assert len(_changed(QUEUE, {"a": 1}, {"a": True}).changes) == 1
