"""Tables over every AWS resource of every cloud stack: names, tags, encryption, deletion, credentials."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pulumi_aws
import pytest

from infra.plan import UNKNOWN, Plan, PlannedResource, Secret, revealed, show, stackfile

# Longest physical name of each type, as its service's API reference says.
NAME_LIMITS = {
    "aws:appautoscaling/policy:Policy": ("name", 256),
    "aws:backup/plan:Plan": ("name", 50),
    "aws:backup/vault:Vault": ("name", 50),
    "aws:budgets/budget:Budget": ("name", 100),
    "aws:cloudtrail/trail:Trail": ("name", 128),
    "aws:cloudwatch/dashboard:Dashboard": ("dashboardName", 255),
    "aws:cloudwatch/logGroup:LogGroup": ("name", 512),
    "aws:cloudwatch/metricAlarm:MetricAlarm": ("name", 255),
    "aws:codebuild/project:Project": ("name", 150),
    "aws:codedeploy/application:Application": ("name", 100),
    "aws:codepipeline/pipeline:Pipeline": ("name", 100),
    "aws:ec2/launchTemplate:LaunchTemplate": ("name", 128),
    "aws:ec2/securityGroup:SecurityGroup": ("name", 255),
    "aws:ecr/repository:Repository": ("name", 256),
    "aws:ecs/cluster:Cluster": ("name", 255),
    "aws:ecs/service:Service": ("name", 255),
    "aws:eks/cluster:Cluster": ("name", 100),
    "aws:eks/nodeGroup:NodeGroup": ("nodeGroupName", 63),
    "aws:elasticache/parameterGroup:ParameterGroup": ("name", 255),
    "aws:elasticache/replicationGroup:ReplicationGroup": ("replicationGroupId", 40),
    "aws:elasticache/subnetGroup:SubnetGroup": ("name", 255),
    "aws:iam/role:Role": ("name", 64),
    "aws:iam/rolePolicy:RolePolicy": ("name", 128),
    "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream": ("name", 64),
    "aws:kinesis/stream:Stream": ("name", 128),
    "aws:kms/alias:Alias": ("name", 256),
    "aws:lambda/function:Function": ("name", 64),
    "aws:lb/loadBalancer:LoadBalancer": ("name", 32),
    "aws:lb/targetGroup:TargetGroup": ("name", 32),
    "aws:msk/cluster:Cluster": ("clusterName", 64),
    "aws:msk/configuration:Configuration": ("name", 64),
    "aws:rds/eventSubscription:EventSubscription": ("name", 255),
    "aws:rds/instance:Instance": ("identifier", 63),
    "aws:rds/parameterGroup:ParameterGroup": ("name", 255),
    "aws:rds/subnetGroup:SubnetGroup": ("name", 255),
    "aws:s3/bucket:Bucket": ("bucket", 63),
    "aws:scheduler/schedule:Schedule": ("name", 64),
    "aws:scheduler/scheduleGroup:ScheduleGroup": ("name", 64),
    "aws:secretsmanager/secret:Secret": ("name", 512),
    "aws:sns/topic:Topic": ("name", 256),
    "aws:sqs/queue:Queue": ("name", 80),
    "aws:wafv2/webAcl:WebAcl": ("name", 128),
}

# Types whose data is lost with the resource.
DATA = {
    "aws:backup/vault:Vault",
    "aws:ecr/repository:Repository",
    "aws:elasticache/replicationGroup:ReplicationGroup",
    "aws:kinesis/stream:Stream",
    "aws:kms/key:Key",
    "aws:msk/cluster:Cluster",
    "aws:rds/instance:Instance",
    "aws:s3/bucket:Bucket",
}

# Where each type says under which key of the account it encrypts.
KEYS = {
    "aws:backup/vault:Vault": "kmsKeyArn",
    "aws:cloudtrail/trail:Trail": "kmsKeyId",
    "aws:cloudwatch/logGroup:LogGroup": "kmsKeyId",
    "aws:codebuild/project:Project": "encryptionKey",
    "aws:ecr/repository:Repository": "encryptionConfigurations",
    "aws:eks/cluster:Cluster": "encryptionConfig",
    "aws:elasticache/replicationGroup:ReplicationGroup": "kmsKeyId",
    "aws:kinesis/stream:Stream": "kmsKeyId",
    "aws:msk/cluster:Cluster": "encryptionInfo",
    "aws:rds/instance:Instance": "kmsKeyId",
    "aws:scheduler/schedule:Schedule": "kmsKeyArn",
    "aws:secretsmanager/secret:Secret": "kmsKeyId",
    "aws:sns/topic:Topic": "kmsMasterKeyId",
    "aws:sqs/queue:Queue": "kmsMasterKeyId",
}

CREDENTIAL = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN|(?i:password|secret|token)\"?\s*[:=]\s*\"?[A-Za-z0-9/+]{20,}"
)


def _aws(plan: Plan) -> list[PlannedResource]:
    return [item for item in plan.resources if item.type.startswith("aws:")]


def _taggable(type_: str) -> bool:
    """Whether the installed provider's resource has tags."""
    module, kind = type_.split(":")[1].split("/")[0], type_.rsplit(":", 1)[-1]
    package = getattr(pulumi_aws, {"lambda": "lambda_"}.get(module, module))
    return hasattr(getattr(package, kind), "tags")


def test_names_are_explicit_of_the_stack_and_within_the_services_limits(plan: Plan) -> None:
    seen: set[tuple[str, str]] = set()
    for item in _aws(plan):
        if item.type not in NAME_LIMITS:
            continue
        field, limit = NAME_LIMITS[item.type]
        name = item.inputs.get(field)
        assert isinstance(name, str), item.urn
        assert f"tradestack-{plan.stack}" in name, item.urn
        assert len(name) <= limit, item.urn
        region = str(item.inputs.get("region", ""))
        role = str(item.inputs.get("role", "")) if item.type.endswith(":RolePolicy") else ""
        assert (item.type + region + role, name) not in seen, f"two of {item.type} are called {name}"
        seen.add((item.type + region + role, name))


def test_every_type_with_a_name_of_its_own_is_in_the_table(plan: Plan) -> None:
    named = {item.type for item in _aws(plan) if f"tradestack-{plan.stack}" in str(item.inputs.get("name"))}
    beside = {
        "aws:backup/selection:Selection",
        "aws:cloudwatch/eventRule:EventRule",
        "aws:cloudwatch/logMetricFilter:LogMetricFilter",
        "aws:codestarnotifications/notificationRule:NotificationRule",
        "aws:costexplorer/anomalyMonitor:AnomalyMonitor",
        "aws:costexplorer/anomalySubscription:AnomalySubscription",
        "aws:kms/grant:Grant",
    }
    assert named - set(NAME_LIMITS) <= beside


def test_whatever_can_have_tags_has_a_name_and_the_tags_of_the_stack(plan: Plan) -> None:
    provider = next(item for item in plan.resources if item.type == "pulumi:providers:aws")
    defaults = json.loads(provider.inputs["defaultTags"])["tags"]
    assert set(defaults) == {
        "tradestack:stack",
        "tradestack:environment",
        "tradestack:owner",
        "tradestack:managed-by",
    }
    assert defaults["tradestack:stack"] == plan.stack
    tagged = [item for item in _aws(plan) if _taggable(item.type)]
    assert len(tagged) > 200
    assert [item.urn for item in tagged if "Name" not in (item.inputs.get("tags") or {})] == []


def test_machines_carry_the_tags_that_the_provider_does_not_hand_down(plan: Plan) -> None:
    templates = [item for item in _aws(plan) if item.type.endswith(":LaunchTemplate")]
    assert templates
    for template in templates:
        kinds = {item["resourceType"]: item["tags"] for item in template.inputs["tagSpecifications"]}
        assert {"instance", "volume"} <= set(kinds)
        assert all(tags["tradestack:stack"] == plan.stack for tags in kinds.values())


def test_whatever_can_be_encrypted_is_under_a_key_of_the_account(plan: Plan) -> None:
    keys = {item.urn for item in plan.resources if item.type == "aws:kms/key:Key"}
    checked = 0
    for item in _aws(plan):
        field = KEYS.get(item.type)
        if field is None or item.inputs.get("replicateSourceDb"):
            continue
        assert item.inputs.get(field), item.urn
        assert set(item.property_dependencies.get(field, ())) & keys, item.urn
        checked += 1
    assert checked > 50


def test_what_holds_data_survives_a_mistake_where_the_stack_protects(plan: Plan) -> None:
    protects = stackfile.configuration(plan.settings_file).get("tradestack:protect", "true") == "true"
    held = [item for item in _aws(plan) if item.type in DATA]
    assert {item.type for item in held} == DATA
    unprotected = [item.urn for item in held if item.options.protect is not protects]
    assert unprotected == []


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_aws_itself_refuses_to_delete_what_is_protected(plans: dict[str, Plan], stack: str) -> None:
    for item in _aws(plans[stack]):
        if item.type == "aws:rds/instance:Instance":
            assert item.inputs["deletionProtection"] is True
        if item.type == "aws:lb/loadBalancer:LoadBalancer":
            assert item.inputs["enableDeletionProtection"] is True
        if item.type == "aws:s3/bucket:Bucket":
            assert not item.inputs.get("forceDestroy")
        if item.type == "aws:elasticache/replicationGroup:ReplicationGroup":
            assert item.inputs["finalSnapshotIdentifier"]
        if item.type == "aws:eks/cluster:Cluster":
            assert item.inputs["deletionProtection"] is True


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def test_no_credential_is_in_plain_text_in_inputs_outputs_or_the_printed_plan(plan: Plan) -> None:
    generated = {
        text
        for item in plan.resources
        for value in item.inputs.values()
        if isinstance(value, Secret)
        for text in _texts(revealed(value))
        if "generated:" in text
    }
    assert generated, "a stack generates at least one secret"
    plain = [
        text
        for item in plan.resources
        for value in (*item.inputs.values(), *item.outputs.values())
        if not isinstance(value, Secret) and value is not UNKNOWN
        for text in _texts(value)
    ]
    assert not generated & set(plain)
    printed = json.dumps(show.document(plan))
    assert not any(text in printed for text in generated)
    assert CREDENTIAL.search("\n".join(plain)) is None
